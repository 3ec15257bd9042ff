package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// headBuffer is what is read of a message before a larger buffer is taken:
// most mail fits.
const headBuffer = 24 << 10

// Accept takes responsibility for a message. The caller has filled what the
// client said of it: Sender, Recipients, Origin and the parameters of MAIL.
// content yields CRLF lines without dot-stuffing, to io.EOF; an error of it
// that is a *Rejection is what the client is told. Checks, if there are any,
// see the whole message first. Accept returns once the message is on stable
// storage; every other outcome is a *Rejection or the content's own error, and
// then nothing of the message is kept.
func (r *Relay) Accept(ctx context.Context, e *queue.Envelope, content io.Reader, s Session) (queue.ID, error) {
	e.Arrived = time.Now().UTC()
	if e.ID.IsZero() { // it was not needed before
		e.ID = queue.NewID(e.Arrived)
	}
	small := r.heads.Get().(*[]byte)
	defer r.heads.Put(small)
	got, err := readUpTo(content, *small)
	if err == nil { // more is to come
		large := r.bodies.Get().(*[]byte)
		defer r.bodies.Put(large)
		n := copy((*large)[:queue.InMemory-maxAdded], got)
		var more []byte
		more, err = readUpTo(content, (*large)[n:queue.InMemory-maxAdded])
		got = (*large)[:n+len(more)]
	}
	if err != nil && err != io.EOF {
		info := ScanHeader(got)
		e.Subject = logging.Subject(info.Subject)
		return queue.ID{}, r.contentRefused(e, err)
	}
	head, trace, rejection := r.dress(e, got, &s, err == io.EOF)
	if rejection != nil {
		r.refuseContent(e, rejection, nil)
		return queue.ID{}, rejection
	}
	var rest io.Reader
	if err == nil {
		rest = content
	}
	if cfg := r.config.Load(); len(cfg.Checks) > 0 {
		if err := r.putChecked(ctx, cfg, e, &s, head, trace, rest); err != nil {
			return queue.ID{}, err
		}
	} else if err := r.put(ctx, e, head, rest); err != nil {
		return queue.ID{}, err
	}
	return e.ID, nil
}

// putChecked lets the checks see the message and stores what they make of it.
func (r *Relay) putChecked(ctx context.Context, cfg *Config, e *queue.Envelope, s *Session, head []byte, trace int, rest io.Reader) error {
	var kept *spool
	if rest != nil {
		var from, disk error
		kept, from, disk = newSpool(cfg.SpoolDir, rest)
		defer kept.close()
		if from != nil {
			return r.contentRefused(e, from)
		}
		if disk != nil {
			rejection := storeRejection(disk)
			r.refuseContent(e, rejection, nil)
			return rejection
		}
	}
	m := newMessage(e, s, head, trace, kept)
	if rejection := r.inspect(ctx, cfg.Checks, m); rejection != nil {
		r.refuseContent(e, rejection, m.Header)
		return rejection
	}
	if len(e.Recipients) == 0 {
		rejection := &Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Class: ClassPolicy, Text: "No recipient is left"}
		r.refuseContent(e, rejection, nil)
		return rejection
	}
	if m.hold {
		for i := range e.Recipients {
			e.Recipients[i].State = queue.Held
		}
	}
	head, rest = m.relayed()
	if err := r.put(ctx, e, head, rest); err != nil {
		return err
	}
	if m.hold {
		r.logAction(e, logging.Held)
	}
	return nil
}

// maxAdded bounds what dress puts in front of a message.
const maxAdded = 2 << 10

// readUpTo fills buf from r. The error is nil only if buf is full: there may be more.
func readUpTo(r io.Reader, buf []byte) ([]byte, error) {
	n := 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err != nil {
			return buf[:n], err
		}
	}
	return buf, nil
}

// dress makes the relayed form of a message's beginning, in memory of its
// own: the trace field, of trace octets, what a submitted message lacks, and the rest byte for
// byte without its Bcc fields. whole tells that got is all of the message.
func (r *Relay) dress(e *queue.Envelope, got []byte, s *Session, whole bool) (out []byte, trace int, _ *Rejection) {
	cfg := r.config.Load()
	info := ScanHeader(got)
	e.Subject = logging.Subject(info.Subject)
	e.TLSOptional = info.TLSOptional && !e.RequireTLS // RFC 8689 §5
	if info.Over || !whole && !info.Blank && info.End > 0 {
		return nil, 0, &Rejection{Code: 552, Enhanced: queue.Enhanced{5, 3, 4}, Class: ClassSize,
			Text: "The message's header is too large"}
	}
	if info.Received > cfg.MaxHops || !e.Origin.Submission && rounds(got[:info.End], cfg.Hostname) > maxRounds {
		// RFC 5321 §6.3
		return nil, 0, &Rejection{Code: 554, Enhanced: queue.Enhanced{5, 4, 6}, Class: ClassLoop,
			Text: "Too many hops: the message seems to run in a loop"}
	}
	if cfg.fromSite(e, s) {
		e.Origin.ID = receivedID(got[:info.End])
	}
	for i := range e.Recipients {
		if e.Recipients[i].Path.Domain() == "" { // RFC 5321 §4.5.1: <Postmaster>
			e.Recipients[i].Path = cfg.Postmaster
		}
	}
	var room [maxAdded]byte
	added := appendReceived(room[:0], cfg.Hostname, s.Protocol, e)
	trace = len(added)
	if e.Origin.Submission {
		added = appendMissing(added, cfg.Hostname, e, &info) // RFC 6409 §8
	}
	if !info.Blank && info.End == 0 {
		added = append(added, "\r\n"...) // no header at all: what looks like a body stays one
	}
	out = make([]byte, 0, len(added)+len(got))
	out = append(out, added...)
	from := 0
	if e.Origin.Submission {
		for _, cut := range info.Bcc { // RFC 5322 §3.6.3
			out = append(out, got[from:cut.Start]...)
			from = cut.End
		}
	}
	return append(out, got[from:]...), trace, nil
}

// maxRounds is how often a message that comes from outside may have been here
// before: a mailbox may forward to another. Two relays that each take the other for the primary
// pass a message back and forth until one of them says so.
const maxRounds = 3

// rounds counts the trace fields of this relay in a header block.
func rounds(head []byte, hostname string) int {
	return bytes.Count(head, []byte("Received: by "+hostname+" with "))
}

// appendReceived adds the trace field (RFC 5321 §4.4). It names neither the
// client nor the user, and a recipient only where there is no other to learn
// of it.
func appendReceived(b []byte, hostname, with string, e *queue.Envelope) []byte {
	b = append(b, "Received: by "...)
	b = append(b, hostname...)
	b = append(b, " with "...)
	b = append(b, with...)
	b = append(b, " id "...)
	b = e.ID.Append(b)
	if len(e.Recipients) == 1 && len(e.Recipients[0].Path) <= 320 {
		b = append(b, "\r\n\tfor <"...)
		b = append(b, e.Recipients[0].Path...)
		b = append(b, '>')
	}
	b = append(b, ";\r\n\t"...)
	b = appendDate(b, e.Arrived)
	return append(b, "\r\n"...)
}

// appendMissing adds the fields that a submitted message must have and lacks.
func appendMissing(b []byte, hostname string, e *queue.Envelope, info *HeaderInfo) []byte {
	if !info.HasDate {
		b = append(b, "Date: "...)
		b = appendDate(b, e.Arrived)
		b = append(b, "\r\n"...)
	}
	if !info.HasMessageID {
		b = append(b, "Message-ID: <"...)
		b = e.ID.Append(b)
		b = append(b, '@')
		b = append(b, hostname...)
		b = append(b, ">\r\n"...)
	}
	return b
}

// appendDate writes a date-time as RFC 5322 §3.3 has it, in UTC: the relay's
// time zone is nobody's business.
func appendDate(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 +0000")
}

// put counts the message, stores it, records that it was accepted, and wakes its destinations.
func (r *Relay) put(ctx context.Context, e *queue.Envelope, head []byte, rest io.Reader) error {
	var refund func()
	var err error
	if charger := r.config.Load().Charger; charger != nil && e.Origin.User != "" {
		if refund, err = charger.Charge(e); err != nil {
			return r.contentRefused(e, err)
		}
	}
	guard := &contentReader{r: rest}
	if rest == nil {
		err = r.store.Put(ctx, e, head, nil)
	} else {
		err = r.store.Put(ctx, e, head, guard)
	}
	if err != nil && refund != nil {
		refund()
	}
	switch {
	case err == nil:
	case guard.err != nil:
		return r.contentRefused(e, guard.err)
	default:
		rejection := storeRejection(err)
		r.refuseContent(e, rejection, nil)
		return rejection
	}
	r.Stats.Accepted.Add(1)
	r.Stats.Octets.Add(e.Size)
	r.logAccepted(e)
	r.journal.Secure() // the client reads 250 after this
	if late := r.wakeAll(e) - freshMax; late > 0 {
		// Delivery lags: what is taken faster than it is handed on has to be
		// written, and read again. Waiting costs less, and only those who send there.
		wait(ctx, min(time.Duration(late)*lagStep, longestLag))
	}
	return nil
}

// How many new messages may wait at one destination before those who send
// there get their reply later, and how much later at most.
const (
	freshMax   = 200
	lagStep    = 200 * time.Microsecond
	longestLag = 400 * time.Millisecond
)

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// contentReader remembers how reading the content failed, so that a fault of
// the client is told from one of the store.
type contentReader struct {
	r   io.Reader
	err error
}

func (c *contentReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

func (r *Relay) contentRefused(e *queue.Envelope, err error) error {
	if rejection, ok := errors.AsType[*Rejection](err); ok {
		r.refuseContent(e, rejection, nil)
		return rejection
	}
	return fmt.Errorf("read the content: %w", err)
}

// refuseContent records that the whole message was refused. header is its
// header block where checks have seen it.
func (r *Relay) refuseContent(e *queue.Envelope, rejection *Rejection, header []byte) {
	refusal := Refusal{Kind: RefusedMail, Rejection: rejection, Origin: e.Origin, Sender: e.Sender, HasSender: true, Stage: queue.StageContent}
	for i := range e.Recipients {
		refusal.Recipients = append(refusal.Recipients, e.Recipients[i].Path)
	}
	r.refuse(refusal, e.Subject, header)
}

func storeRejection(err error) *Rejection {
	if errors.Is(err, queue.ErrFull) {
		return &Rejection{Code: 452, Enhanced: queue.Enhanced{4, 3, 1}, Class: ClassResource,
			Text: "The relay has no room for mail now; try again later", Err: err}
	}
	return &Rejection{Code: 451, Enhanced: queue.Enhanced{4, 3, 0}, Class: ClassResource,
		Text: "The relay cannot store mail now; try again later", Err: err}
}
