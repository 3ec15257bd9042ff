package logging

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// encoder turns records into lines. It is safe for concurrent use, and the only
// way into the relay log. A line is written where it is counted in nanoseconds,
// so it is put together by hand; the tests hold each key and its place to the schema.
type encoder struct {
	lines sync.Pool // of *line

	cut     atomic.Uint64 // values that were too long
	dropped atomic.Uint64 // values that had no right to be there
}

func newEncoder() *encoder { return new(encoder) }

// line is a record as it is encoded, with what this needs reused.
type line struct {
	*Record
	enc     *encoder
	text    []byte // the line so far
	scratch []byte // of a text that has to be made visible
	headers headers
}

// usualLine is more than most lines take.
const usualLine = 1 << 10

// encode gives the line of r, newline included. The caller frees it.
func (e *encoder) encode(r *Record, at time.Time) *line {
	l, _ := e.lines.Get().(*line)
	if l == nil {
		l = &line{enc: e, text: make([]byte, 0, usualLine)}
	}
	l.Record, l.text = r, l.text[:0]
	l.record(at)
	l.Record = nil
	return l
}

// line gives the record as it is read back.
func (e *encoder) line(r *Record) Line {
	l := e.encode(r, r.Time)
	defer l.free()
	return Line{*r, bytes.TrimSuffix(bytes.Clone(l.bytes()), newline)}
}

// bytes is the line, until it is freed.
func (l *line) bytes() []byte { return l.text }

// free lets the line's memory be used for the next one.
func (l *line) free() {
	if cap(l.text) > limitHeaders { // of header fields: rare, and not to be kept
		l.text = nil
	}
	l.headers = headers{}
	l.enc.lines.Put(l)
}

// record writes the keys of the schema, in its order.
func (l *line) record(at time.Time) {
	l.text = append(l.text, '{')
	l.time("time", at)
	if l.NextHost.IsValid() && l.permit(attemptEvents) {
		l.ip("next_host", l.NextHost)
	}
	if l.User != "" {
		l.visible("user", l.User, limitUser)
	}
	if l.Client.IsValid() {
		l.ip("client", l.Client)
	}
	l.legs()
	if (l.HasSender || l.Sender != "") && l.permit(messageEvents) {
		if l.Sender == "" {
			l.plain("sender", "<>")
		} else {
			l.visible("sender", l.Sender, limitAddress)
		}
	}
	if l.Recipient != "" && l.permit(messageEvents) {
		l.visible("recipient", l.Recipient, limitAddress)
	}
	if l.Subject != "" && l.permit(messageEvents) {
		l.visible("subject", l.Subject, limitSubject)
	}
	if len(l.Headers) > 0 && l.permit(1<<ContentRejected) {
		l.headers.prepare(l.Headers)
	}
	l.open("status")
	l.status()
	l.text = append(l.text, '}')
	if len(l.headers.fields) > 0 {
		l.headerFields()
	}
	l.text = append(l.text, '}', '\n')
}

// legs writes how both connections were protected.
func (l *line) legs() {
	out := !l.Out.isZero() && l.permit(attemptEvents)
	if !out && l.In.isZero() {
		return
	}
	l.open("tls")
	if !l.In.isZero() {
		l.leg("in", l.In, 0)
	}
	if out {
		l.leg("out", l.Out, l.Out.Wanted)
	}
	l.text = append(l.text, '}')
}

func (l *line) leg(key string, t TLS, wanted Wanted) {
	l.open(key)
	if t.Version == 0 {
		l.enum("none", t.None.String())
	} else {
		l.enum("version", versionName(t.Version))
		if t.Cipher != 0 {
			l.plain("cipher", cipherName(t.Cipher))
		}
		l.enum("verified", t.Verified.String())
	}
	if wanted != 0 {
		l.enum("wanted", wanted.String())
	}
	l.text = append(l.text, '}')
}

func (l *line) status() {
	l.enum("event", l.Event.String())
	if l.ID != "" && l.permit(messageEvents) {
		l.token("id", l.ID)
	}
	if l.Code != 0 && l.check(l.Code >= 200 && l.Code <= 599) {
		l.number("code", l.Code)
	}
	if l.Enhanced != ([3]uint16{}) {
		l.enhanced()
	}
	if l.Reason != ReasonNone {
		l.enum("reason", l.Reason.String())
	}
	if l.Stage != StageNone {
		l.enum("stage", l.Stage.String())
	}
	if l.Attempt != 0 && l.permit(messageEvents) && l.check(l.Attempt > 0 && l.Attempt <= limitAttempt) {
		l.number("attempt", l.Attempt)
	}
	if l.Repeated && l.permit(repeatEvents) {
		l.mark("repeated")
	}
	if !l.NextAttempt.IsZero() && l.permit(1<<Deferred|1<<Released) {
		l.time("next_attempt", l.NextAttempt)
	}
	if l.RemoteID != "" && l.permit(remoteEvents) {
		l.token("remote_id", l.RemoteID)
	}
	if (l.HeadersCut || l.headers.cut) && l.permit(1<<ContentRejected) {
		l.mark("headers_cut")
	}
}

func (l *line) headerFields() {
	l.key("headers")
	l.text = append(l.text, '[')
	for i, h := range l.headers.fields {
		if i > 0 {
			l.text = append(l.text, ',')
		}
		l.text = appendQuoted(append(l.text, '['), h.name)
		l.text = appendQuoted(append(l.text, ','), h.value)
		l.text = append(l.text, ']')
	}
	l.text = append(l.text, ']')
}

// permit tells whether a field of these events may stand here, and counts it if not.
func (l *line) permit(set eventSet) bool { return l.check(set.has(l.Event)) }

func (l *line) check(ok bool) bool {
	if !ok {
		l.enc.dropped.Add(1)
	}
	return ok
}

// key begins a key of the object that is open. Keys are names of the schema.
func (l *line) key(name string) {
	if l.text[len(l.text)-1] != '{' {
		l.text = append(l.text, ',')
	}
	l.text = append(l.text, '"')
	l.text = append(l.text, name...)
	l.text = append(l.text, '"', ':')
}

// open begins an object.
func (l *line) open(key string) {
	l.key(key)
	l.text = append(l.text, '{')
}

// plain writes a text that needs no escape: a name of ours, or one that was looked at.
func (l *line) plain(key, value string) {
	l.key(key)
	l.text = append(l.text, '"')
	l.text = append(l.text, value...)
	l.text = append(l.text, '"')
}

func (l *line) enum(key, name string) {
	if l.check(name != "") {
		l.plain(key, name)
	}
}

func (l *line) token(key, value string) {
	if l.check(token(value)) {
		l.plain(key, value)
	}
}

func (l *line) visible(key, value string, limit int) {
	l.key(key)
	if plain(value, limit) {
		l.text = appendQuoted(l.text, value)
		return
	}
	var cut bool
	if l.scratch, cut = appendVisible(l.scratch[:0], value, limit); cut {
		l.enc.cut.Add(1)
	}
	l.text = appendQuoted(l.text, l.scratch)
}

func (l *line) number(key string, n int) {
	l.key(key)
	l.text = strconv.AppendInt(l.text, int64(n), 10)
}

func (l *line) mark(key string) {
	l.key(key)
	l.text = append(l.text, "true"...)
}

func (l *line) ip(key string, ip netip.Addr) {
	l.key(key)
	l.text = ip.Unmap().WithZone("").AppendTo(append(l.text, '"'))
	l.text = append(l.text, '"')
}

func (l *line) time(key string, t time.Time) {
	l.key(key)
	t = t.UTC()
	if year := t.Year(); !l.check(year >= 1970 && year <= 9999) {
		t = time.Unix(0, 0).UTC()
	}
	l.text = appendTime(append(l.text, '"'), t)
	l.text = append(l.text, '"')
}

func (l *line) enhanced() {
	e := l.Enhanced
	if !l.check((e[0] == 2 || e[0] == 4 || e[0] == 5) && e[1] <= limitEnhanced && e[2] <= limitEnhanced) {
		return
	}
	l.key("enhanced")
	l.text = appendEnhanced(append(l.text, '"'), e)
	l.text = append(l.text, '"')
}

// appendQuoted appends a visible text as a JSON string (RFC 8259 §7): of what
// must be escaped there it can hold quotes and backslashes alone.
func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	for i := range len(s) {
		if c := s[i]; c == '"' || c == '\\' {
			dst = append(dst, s[from:i]...)
			dst = append(dst, '\\')
			from = i
		}
	}
	return append(append(dst, s[from:]...), '"')
}

// timeLayout is RFC 3339 with microseconds, for times in UTC.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// appendTime appends t, in UTC and of a year with four digits, in timeLayout:
// what Time.AppendFormat does, in a quarter of the time.
func appendTime(dst []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	micro := t.Nanosecond() / 1000
	dst = appendPair(appendPair(dst, year/100), year%100)
	dst = appendPair(append(dst, '-'), int(month))
	dst = appendPair(append(dst, '-'), day)
	dst = appendPair(append(dst, 'T'), hour)
	dst = appendPair(append(dst, ':'), minute)
	dst = appendPair(append(dst, ':'), second)
	dst = appendPair(append(dst, '.'), micro/10000)
	dst = appendPair(appendPair(dst, micro/100%100), micro%100)
	return append(dst, 'Z')
}

// appendPair appends a number below 100 in two digits.
func appendPair(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

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

func appendEnhanced(dst []byte, e [3]uint16) []byte {
	dst = strconv.AppendUint(dst, uint64(e[0]), 10)
	dst = strconv.AppendUint(append(dst, '.'), uint64(e[1]), 10)
	return strconv.AppendUint(append(dst, '.'), uint64(e[2]), 10)
}
