package relay

import "bytes"

// The limits of a header block. Beyond one of them [ScanHeader] stops and
// says so in HeaderInfo.Over.
const (
	MaxHeader  = 1 << 20 // octets of a header block
	MaxFields  = 10_000  // fields of a header block
	MaxSubject = 2048    // octets that HeaderInfo.Subject keeps
)

// HeaderInfo is what the relay needs to know of a message's header block to
// add to it and to cut from it without writing it anew.
type HeaderInfo struct {
	// End is where the header block ends: behind the line end of its last
	// field. What the relay appends to the block goes here.
	End int
	// Body is where the body starts: behind the empty line, or at End where
	// there is none.
	Body int
	// Blank tells whether the empty line is there. Where it is not, all that
	// was scanned is header (End is its length), or nothing is (End is 0: the
	// first line is no field); with fields put before a message of the
	// second kind, an empty line must follow them.
	Blank bool
	// Over tells that a limit was exceeded; the other fields then stand for
	// what was scanned before.
	Over bool

	HasDate, HasFrom, HasMessageID bool
	TLSOptional                    bool // the one TLS-Required field says No (RFC 8689 §5)

	Received    int    // count of Received fields
	Fields      int    // count of all fields
	Malformed   int    // lines within the block that are neither a field nor the continuation of one
	Subject     []byte // first Subject's value: unfolded, not decoded, trimmed, at most MaxSubject octets; may share memory with what was scanned
	tlsRequired bool   // a TLS-Required field was there
	Bcc         []Span // Bcc and Resent-Bcc fields whole, in order, with their folded lines and line ends
}

// Span is a range of octets, End excluded.
type Span struct{ Start, End int }

// fieldKind is a field that the scanner looks at.
type fieldKind uint8

const (
	fieldOther fieldKind = iota
	fieldBcc
	fieldDate
	fieldFrom
	fieldMessageID
	fieldReceived
	fieldSubject
	fieldTLSRequired
)

// ScanHeader reads the header block at the start of a message whose lines end
// in CRLF; a bare LF ends a line as well. It takes head as it is: 8-bit octets
// are part of values, blanks before a field's colon are allowed (RFC 5322 §4.5),
// and a line within the block that is no field is counted and passed over, so
// that a Bcc field behind it does not escape. It allocates nothing unless there is a
// Bcc field or a folded Subject.
func ScanHeader(head []byte) HeaderInfo {
	var h HeaderInfo
	for pos := 0; pos < len(head); {
		end := lineEnd(head, pos)
		if isBlank(head[pos:end]) {
			h.End, h.Body, h.Blank = pos, end, true
			return h
		}
		kind, colon, ok := fieldName(head[pos:end])
		if !ok && h.Fields == 0 && h.Malformed == 0 && !isMailboxLine(head[pos:end]) {
			return h // the first line is no field: there is no header block
		}
		for end < len(head) && isWSP(head[end]) {
			end = lineEnd(head, end)
		}
		if end > MaxHeader || h.Fields == MaxFields {
			h.Over = true
			return h
		}
		if ok {
			h.take(kind, head, pos, pos+colon+1, end)
		} else {
			h.Malformed++
		}
		pos = end
		h.End, h.Body = end, end
	}
	return h
}

// take notes the field at head[start:end] with its value from value on.
func (h *HeaderInfo) take(kind fieldKind, head []byte, start, value, end int) {
	h.Fields++
	switch kind {
	case fieldBcc:
		h.Bcc = append(h.Bcc, Span{start, end})
	case fieldDate:
		h.HasDate = true
	case fieldFrom:
		h.HasFrom = true
	case fieldMessageID:
		h.HasMessageID = true
	case fieldReceived:
		h.Received++
	case fieldTLSRequired:
		h.TLSOptional = !h.tlsRequired && bytes.EqualFold(bytes.TrimSpace(head[value:end]), []byte("no"))
		h.tlsRequired = true
	case fieldSubject:
		if h.Subject == nil {
			h.Subject = unfold(head[value:end])
		}
	}
}

// AppendHeader appends the header block of head, which was scanned into h, to
// dst: byte for byte, without its Bcc fields and without the empty line.
func (h *HeaderInfo) AppendHeader(dst, head []byte) []byte {
	pos := 0
	for _, s := range h.Bcc {
		dst = append(dst, head[pos:s.Start]...)
		pos = s.End
	}
	return append(dst, head[pos:h.End]...)
}

// lineEnd is the position behind the line that starts at pos.
func lineEnd(b []byte, pos int) int {
	if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
		return pos + i + 1
	}
	return len(b)
}

func isBlank(line []byte) bool {
	return line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n'
}

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

// isMailboxLine knows the line that separates the messages of a mailbox file
// and that old programs leave before the header block.
func isMailboxLine(line []byte) bool {
	return bytes.HasPrefix(line, []byte("From ")) || bytes.HasPrefix(line, []byte(">From "))
}

// fieldName reads the name of the field that line starts with: printable
// US-ASCII, then the colon (RFC 5322 §3.6.8), before which the obsolete syntax
// allows blanks. colon is the colon's place in line.
func fieldName(line []byte) (kind fieldKind, colon int, ok bool) {
	n := 0
	for n < len(line) && '!' <= line[n] && line[n] <= '~' && line[n] != ':' {
		n++
	}
	colon = n
	for colon < len(line) && isWSP(line[colon]) {
		colon++
	}
	if n == 0 || colon == len(line) || line[colon] != ':' {
		return fieldOther, 0, false
	}
	return kindOf(line[:n]), colon, true
}

func kindOf(name []byte) fieldKind {
	switch len(name) {
	case 3:
		if foldEqual(name, "bcc") {
			return fieldBcc
		}
	case 4:
		if foldEqual(name, "date") {
			return fieldDate
		}
		if foldEqual(name, "from") {
			return fieldFrom
		}
	case 7:
		if foldEqual(name, "subject") {
			return fieldSubject
		}
	case 8:
		if foldEqual(name, "received") {
			return fieldReceived
		}
	case 12:
		if foldEqual(name, "tls-required") {
			return fieldTLSRequired
		}
	case 10:
		if foldEqual(name, "message-id") {
			return fieldMessageID
		}
		if foldEqual(name, "resent-bcc") {
			return fieldBcc
		}
	}
	return fieldOther
}

// foldEqual compares name with lower, which has its length and is lower case
// US-ASCII. Unlike bytes.EqualFold it knows no letters beyond US-ASCII.
func foldEqual(name []byte, lower string) bool {
	for i := range len(lower) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// unfold takes the line ends out of a field's value (RFC 5322 §2.2.3), trims
// it and cuts it to MaxSubject octets. The result is never nil.
func unfold(value []byte) []byte {
	value = bytes.Trim(value, " \t\r\n")
	if value == nil {
		return []byte{}
	}
	if bytes.IndexByte(value, '\n') < 0 {
		cut := min(len(value), MaxSubject)
		return value[:cut:cut]
	}
	out := make([]byte, 0, min(len(value), MaxSubject))
	for _, c := range value {
		if len(out) == MaxSubject {
			break
		}
		if c != '\r' && c != '\n' {
			out = append(out, c)
		}
	}
	return out
}
