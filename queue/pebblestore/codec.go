package pebblestore

import (
	"encoding/binary"
	"net/netip"
	"time"

	"tacet/queue"
)

// The format of the sealed records. An unknown version is read as damage, so
// that a message of a newer release is set aside and not lost.
const (
	envelopeVersion = 1
	stateVersion    = 1
)

// Flags of an envelope record.
const (
	flagSubmission = 1 << iota
	flagLocal
	flagUTF8
	flagRequireTLS
	flagStreamed // the content is in a file of its own, whose key follows
	flagTLSOptional
	flagOrigin // what came with the client from outside follows its address
)

// record is what an envelope record says beside the envelope.
type record struct {
	retries uint64 // retry generation in which it was written: see Store.RetryAll
	fileKey []byte // of a streamed message's content; nil for a small one
	env     *queue.Envelope
	from    []byte // who sent it, as senders.of wants it; only what was just read has it
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// appendTime writes nanoseconds since 1970, and 0 for the zero time.
func appendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(nanos(t)))
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func flag(set bool, f byte) byte {
	if set {
		return f
	}
	return 0
}

// fromOutside tells whether more is known of the client than its address.
func fromOutside(o *queue.Origin) bool { return o.Helo != "" || o.ID != "" }

// appendAddr writes an address, and nothing but its length for an invalid one.
func appendAddr(b []byte, a netip.Addr) []byte {
	at := len(b)
	b, _ = a.AppendBinary(append(b, 0))
	b[at] = byte(len(b) - at - 1)
	return b
}

// appendEnvelope writes r as the plaintext of an envelope record.
func appendEnvelope(b []byte, r record) []byte {
	e := r.env
	b = append(b, envelopeVersion,
		flag(e.Origin.Submission, flagSubmission)|flag(e.Origin.Local, flagLocal)|
			flag(e.UTF8, flagUTF8)|flag(e.RequireTLS, flagRequireTLS)|flag(r.fileKey != nil, flagStreamed)|flag(e.TLSOptional, flagTLSOptional)|
			flag(fromOutside(&e.Origin), flagOrigin))
	b = append(b, r.fileKey...)
	b = binary.AppendUvarint(b, r.retries)
	b = appendTime(b, e.Arrived)
	b = binary.AppendUvarint(b, uint64(e.Size))
	b = append(b, byte(e.Body), byte(e.Return))
	b = appendString(b, string(e.Sender))
	b = appendString(b, e.EnvID)
	b = appendString(b, e.Subject)
	b = appendString(b, e.Origin.User)
	b = appendAddr(b, e.Origin.Client)
	if fromOutside(&e.Origin) {
		b = appendString(b, e.Origin.Helo)
		b = appendString(b, e.Origin.ID)
	}
	b = binary.BigEndian.AppendUint16(b, e.Origin.TLS.Version)
	b = binary.BigEndian.AppendUint16(b, e.Origin.TLS.Cipher)
	b = append(b, byte(e.Origin.TLS.Verified), byte(e.Origin.TLS.None))
	b = binary.AppendUvarint(b, uint64(len(e.Recipients)))
	for i := range e.Recipients {
		rc := &e.Recipients[i]
		b = appendString(b, string(rc.Path))
		b = append(b, byte(rc.Notify))
		b = appendString(b, rc.ORcpt)
		b = appendProgress(b, rc)
	}
	return b
}

// appendState writes the plaintext of a recipient's state record.
func appendState(b []byte, retries uint64, rc *queue.Recipient) []byte {
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, retries)
	return appendProgress(b, rc)
}

func appendProgress(b []byte, rc *queue.Recipient) []byte {
	b = append(b, byte(rc.State), flag(rc.Warned, 1)|flag(rc.Last != queue.Reply{}, 2)|flag(rc.Owed != nil, 4))
	b = binary.AppendUvarint(b, uint64(rc.Attempts))
	b = appendTime(b, rc.Next)
	if rc.Owed != nil {
		b = appendOwed(b, rc.Owed)
	}
	if rc.Last == (queue.Reply{}) {
		return b
	}
	l := &rc.Last
	b = binary.AppendUvarint(b, uint64(l.Code))
	for _, n := range l.Enhanced {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = append(b, byte(l.Stage), byte(l.Cause))
	b = appendString(b, l.Text)
	return appendString(b, l.RemoteID)
}

// decoder reads what the append functions wrote. The bytes are authentic, yet
// may be of another release: reading beyond them makes bad true and never panics.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	part := d.b[:n]
	d.b = d.b[n:]
	return part
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if p := d.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) nanos() int64 {
	if p := d.take(8); p != nil {
		return int64(binary.BigEndian.Uint64(p))
	}
	return 0
}

func (d *decoder) time() time.Time { return fromNanos(d.nanos()) }
func (d *decoder) bytes() []byte   { return d.take(d.uvarint()) }
func (d *decoder) string() string  { return string(d.bytes()) }

// envelope reads an envelope record's plaintext. With brief set it reads what
// the index needs and leaves the other texts empty, which spares most of the cost.
func (d *decoder) envelope(id queue.ID, brief bool) (record, bool) {
	keep := func(b []byte) string {
		if brief {
			return ""
		}
		return string(b)
	}
	text := func() string { return keep(d.bytes()) }
	if d.byte() != envelopeVersion {
		return record{}, false
	}
	e := &queue.Envelope{ID: id}
	r := record{env: e}
	f := d.byte()
	e.Origin.Submission, e.Origin.Local = f&flagSubmission != 0, f&flagLocal != 0
	e.UTF8, e.RequireTLS, e.TLSOptional = f&flagUTF8 != 0, f&flagRequireTLS != 0, f&flagTLSOptional != 0
	if f&flagStreamed != 0 {
		r.fileKey = append([]byte(nil), d.take(keySize)...)
	}
	r.retries = d.uvarint()
	e.Arrived = d.time()
	e.Size = int64(d.uvarint())
	e.Body, e.Return = queue.BodyType(d.byte()), queue.Return(d.byte())
	sender := d.bytes()
	e.Sender = queue.ReversePath(keep(sender))
	e.EnvID, e.Subject = text(), text()
	user := d.bytes()
	e.Origin.User = keep(user)
	client := d.take(uint64(d.byte()))
	r.from = firstOf(user, client, sender)
	if len(client) > 0 && !brief {
		var a netip.Addr
		if a.UnmarshalBinary(client) == nil {
			e.Origin.Client = a
		}
	}
	if f&flagOrigin != 0 {
		e.Origin.Helo, e.Origin.ID = text(), text()
	}
	e.Origin.TLS = queue.TLS{
		Version: d.uint16(), Cipher: d.uint16(),
		Verified: queue.Verified(d.byte()), None: queue.NoTLS(d.byte()),
	}
	n := d.uvarint()
	if d.bad || n == 0 || n > maxRecipients {
		return record{}, false
	}
	e.Recipients = make([]queue.Recipient, n)
	for i := range e.Recipients {
		rc := &e.Recipients[i]
		rc.Path = queue.ForwardPath(d.string())
		rc.Notify = queue.Notify(d.byte())
		rc.ORcpt = text()
		d.progress(rc, brief)
	}
	return r, !d.bad && len(d.b) == 0
}

// state reads a state record's plaintext into rc and returns its retry generation.
func (d *decoder) state(rc *queue.Recipient, brief bool) (uint64, bool) {
	if d.byte() != stateVersion {
		return 0, false
	}
	retries := d.uvarint()
	d.progress(rc, brief)
	return retries, !d.bad && len(d.b) == 0
}

func (d *decoder) progress(rc *queue.Recipient, brief bool) {
	rc.State = queue.State(d.byte())
	f := d.byte()
	rc.Warned = f&1 != 0
	rc.Attempts = int(d.uvarint())
	rc.Next = d.time()
	rc.Last, rc.Owed = queue.Reply{}, nil
	if f&4 != 0 {
		rc.Owed = d.owed()
	}
	if f&2 == 0 {
		return
	}
	l := &rc.Last
	l.Code = int(d.uvarint())
	for i := range l.Enhanced {
		l.Enhanced[i] = uint16(d.uvarint())
	}
	l.Stage, l.Cause = queue.Stage(d.byte()), queue.Cause(d.byte())
	text, remote := d.bytes(), d.bytes()
	if !brief {
		l.Text, l.RemoteID = string(text), string(remote)
	}
}
