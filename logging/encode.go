package logging

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// timeLayout is RFC 3339 with microseconds, for times in UTC.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// encoder turns records into lines by zap's JSON encoder. It is safe for
// concurrent use, and the only way into the relay log.
type encoder struct {
	json  zapcore.Encoder
	lines sync.Pool // of *line

	cut     atomic.Uint64 // values that were too long
	dropped atomic.Uint64 // values that had no right to be there
}

func newEncoder() *encoder {
	return &encoder{json: zapcore.NewJSONEncoder(zapcore.EncoderConfig{})}
}

// line is a record while it is encoded, with what this needs reused.
type line struct {
	*Record
	enc     *encoder
	at      time.Time
	fields  [1]zapcore.Field
	scratch []byte
	headers headers
	out     bool // tls.out may stand here
}

// The parts of a line that are objects of their own, in one allocation with it.
type (
	tlsPart    line
	tlsIn      line
	tlsOut     line
	statusPart line
)

// encode gives the line of r, newline included. The caller frees it.
func (e *encoder) encode(r *Record, at time.Time) (*buffer.Buffer, error) {
	l, _ := e.lines.Get().(*line)
	if l == nil {
		l = &line{enc: e}
		l.fields[0] = zap.Inline(l)
	}
	l.Record, l.at = r, at
	buf, err := e.json.EncodeEntry(zapcore.Entry{}, l.fields[:])
	l.Record = nil
	l.headers = headers{}
	e.lines.Put(l)
	return buf, err
}

// MarshalLogObject writes the keys of the schema, in its order.
func (l *line) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	l.time(enc, "time", l.at)
	if l.NextHost.IsValid() && l.permit(attemptEvents) {
		l.ip(enc, "next_host", l.NextHost)
	}
	if l.User != "" {
		l.text(enc, "user", l.User, limitUser)
	}
	if l.Client.IsValid() {
		l.ip(enc, "client", l.Client)
	}
	l.out = !l.Out.isZero() && l.permit(attemptEvents)
	if l.out || !l.In.isZero() {
		if err := enc.AddObject("tls", (*tlsPart)(l)); err != nil {
			return err
		}
	}
	if (l.HasSender || l.Sender != "") && l.permit(messageEvents) {
		if l.Sender == "" {
			enc.AddString("sender", "<>")
		} else {
			l.text(enc, "sender", l.Sender, limitAddress)
		}
	}
	if l.Recipient != "" && l.permit(messageEvents) {
		l.text(enc, "recipient", l.Recipient, limitAddress)
	}
	if l.Subject != "" && l.permit(messageEvents) {
		l.text(enc, "subject", l.Subject, limitSubject)
	}
	if len(l.Headers) > 0 && l.permit(events(ContentRejected)) {
		l.headers.prepare(l.Record.Headers)
	}
	if err := enc.AddObject("status", (*statusPart)(l)); err != nil {
		return err
	}
	if len(l.headers.fields) > 0 {
		return enc.AddArray("headers", &l.headers)
	}
	return nil
}

func (p *tlsPart) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	l := (*line)(p)
	if !l.In.isZero() {
		if err := enc.AddObject("in", (*tlsIn)(p)); err != nil {
			return err
		}
	}
	if l.out {
		return enc.AddObject("out", (*tlsOut)(p))
	}
	return nil
}

func (p *tlsIn) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	(*line)(p).tls(enc, p.In)
	return nil
}

func (p *tlsOut) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	(*line)(p).tls(enc, p.Out)
	return nil
}

func (l *line) tls(enc zapcore.ObjectEncoder, t TLS) {
	if t.Version == 0 {
		l.enum(enc, "none", t.None.String())
		return
	}
	l.enum(enc, "version", versionName(t.Version))
	if t.Cipher != 0 {
		enc.AddString("cipher", cipherName(t.Cipher))
	}
	l.enum(enc, "verified", t.Verified.String())
}

func (p *statusPart) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	l := (*line)(p)
	l.enum(enc, "event", l.Event.String())
	if l.ID != "" && l.permit(messageEvents) {
		l.token(enc, "id", l.ID)
	}
	if l.Code != 0 && l.check(l.Code >= 200 && l.Code <= 599) {
		enc.AddInt("code", l.Code)
	}
	if l.Enhanced != ([3]uint16{}) {
		l.enhanced(enc)
	}
	if l.Reason != ReasonNone {
		l.enum(enc, "reason", l.Reason.String())
	}
	if l.Stage != StageNone {
		l.enum(enc, "stage", l.Stage.String())
	}
	if l.Attempt != 0 && l.permit(messageEvents) && l.check(l.Attempt > 0 && l.Attempt <= limitAttempt) {
		enc.AddInt("attempt", l.Attempt)
	}
	if !l.NextAttempt.IsZero() && l.permit(1<<Deferred|1<<Released) {
		l.time(enc, "next_attempt", l.NextAttempt)
	}
	if l.RemoteID != "" && l.permit(1<<Delivered) {
		l.token(enc, "remote_id", l.RemoteID)
	}
	if (l.HeadersCut || l.headers.cut) && l.permit(1<<ContentRejected) {
		enc.AddBool("headers_cut", true)
	}
	return nil
}

// permit tells whether a field of these events may stand here, and counts it if not.
func (l *line) permit(set eventSet) bool { return l.check(set.has(l.Event)) }

func (l *line) check(ok bool) bool {
	if !ok {
		l.enc.dropped.Add(1)
	}
	return ok
}

func (l *line) enum(enc zapcore.ObjectEncoder, key, name string) {
	if l.check(name != "") {
		enc.AddString(key, name)
	}
}

func (l *line) text(enc zapcore.ObjectEncoder, key, value string, limit int) {
	if plain(value, limit) {
		enc.AddString(key, value)
		return
	}
	var cut bool
	if l.scratch, cut = appendVisible(l.scratch[:0], value, limit); cut {
		l.enc.cut.Add(1)
	}
	enc.AddByteString(key, l.scratch)
}

func (l *line) token(enc zapcore.ObjectEncoder, key, value string) {
	if l.check(token(value)) {
		enc.AddString(key, value)
	}
}

func (l *line) ip(enc zapcore.ObjectEncoder, key string, ip netip.Addr) {
	l.scratch = ip.Unmap().WithZone("").AppendTo(l.scratch[:0])
	enc.AddByteString(key, l.scratch)
}

func (l *line) time(enc zapcore.ObjectEncoder, key string, t time.Time) {
	t = t.UTC()
	if year := t.Year(); !l.check(year >= 1970 && year <= 9999) {
		t = time.Unix(0, 0).UTC()
	}
	l.scratch = t.AppendFormat(l.scratch[:0], timeLayout)
	enc.AddByteString(key, l.scratch)
}

func (l *line) enhanced(enc zapcore.ObjectEncoder) {
	e := l.Enhanced
	if !l.check((e[0] == 2 || e[0] == 4 || e[0] == 5) && e[1] <= limitEnhanced && e[2] <= limitEnhanced) {
		return
	}
	l.scratch = appendEnhanced(l.scratch[:0], e)
	enc.AddByteString("enhanced", l.scratch)
}

// token tells whether s is of the strict form of identifiers: letters,
// digits, "-", "." and "_", at most limitID of them.
func token(s string) bool {
	if s == "" || len(s) > limitID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_':
		default:
			return false
		}
	}
	return true
}

// headers is the array of header fields, made visible and cut before the
// status object, which tells of the cut, is written.
type headers struct {
	fields []headerPair
	cut    bool
}

type headerPair struct{ name, value string }

func (h *headers) prepare(fields []HeaderField) {
	room := limitHeaders - 2
	for _, f := range fields {
		name, nameCut := appendVisible(nil, f.Name, limitHeaderName)
		value, valueCut := appendVisible(nil, unfold(f.Value), limitHeaderValue)
		pair := headerPair{string(name), string(value)}
		room -= jsonLen(pair.name) + jsonLen(pair.value) + len(`["",""],`)
		if room < 0 {
			h.cut = true
			return
		}
		h.cut = h.cut || nameCut || valueCut
		h.fields = append(h.fields, pair)
	}
}

// unfold takes the line breaks out of a folded header field (RFC 5322 §2.2.3).
func unfold(value string) string {
	if !strings.ContainsAny(value, "\r\n") {
		return value
	}
	return strings.NewReplacer("\r\n ", " ", "\r\n\t", " ", "\n ", " ", "\n\t", " ").Replace(strings.TrimRight(value, "\r\n"))
}

// jsonLen is the length of a visible text between its quotes.
func jsonLen(s string) int { return len(s) + strings.Count(s, `"`) + strings.Count(s, `\`) }

func (h *headers) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for i := range h.fields {
		if err := enc.AppendArray(&h.fields[i]); err != nil {
			return err
		}
	}
	return nil
}

func (p *headerPair) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	enc.AppendString(p.name)
	enc.AppendString(p.value)
	return nil
}

func appendEnhanced(dst []byte, e [3]uint16) []byte {
	dst = strconv.AppendUint(dst, uint64(e[0]), 10)
	dst = strconv.AppendUint(append(dst, '.'), uint64(e[1]), 10)
	return strconv.AppendUint(append(dst, '.'), uint64(e[2]), 10)
}
