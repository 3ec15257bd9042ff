package wire

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"tacet/queue"
)

// Mail is a MAIL command: the reverse-path and its parameters.
type Mail struct {
	From   queue.ReversePath
	Size   int64 // SIZE; -1: not given. One beyond what an int64 holds is the largest int64
	Body   queue.BodyType
	UTF8   bool
	Return queue.Return
	EnvID  string // decoded from xtext

	RequireTLS bool // REQUIRETLS (RFC 8689)
}

// Rcpt is a RCPT command: the forward-path and its parameters.
type Rcpt struct {
	To     queue.ForwardPath
	Notify queue.Notify
	ORcpt  string // "type;address", decoded from xtext
}

const (
	maxEnvID = 100 // RFC 3461 §5.4, in octets as given
	maxORcpt = 500
)

// parseMail reads what follows "MAIL ". underTLS allows what is offered only
// there. The reply is empty if all is well.
func parseMail(args []byte, underTLS bool) (m Mail, reply string) {
	m.Size = -1
	args, ok := cutPrefixFold(args, "FROM:")
	if !ok {
		return m, replyMailSyntax
	}
	p, rest, f := parsePath(bytes.TrimLeft(args, " "), true, false)
	switch f {
	case faultSyntax:
		return m, replySenderBad
	case faultLength:
		return m, replySenderLong
	}
	m.From = queue.ReversePath(p.mailbox)
	var given uint
	for {
		var key, value []byte
		var more, hasValue bool
		key, value, hasValue, rest, more, ok = nextParam(rest)
		if !ok {
			return m, replyParam
		}
		if !more {
			break
		}
		bit, reply := m.set(key, value, hasValue)
		if reply != "" {
			return m, reply
		}
		if given&bit != 0 {
			return m, replyParam
		}
		given |= bit
	}
	switch {
	case m.RequireTLS && !underTLS: // RFC 8689 §4.1
		return m, replyParamNew
	case p.utf8 && !m.UTF8:
		return m, replyUTF8
	}
	return m, ""
}

// set takes one parameter of MAIL and returns a bit of its own for it.
func (m *Mail) set(key, value []byte, hasValue bool) (bit uint, reply string) {
	var buf [12]byte
	name := upper(&buf, key)
	if alone := string(name) == "SMTPUTF8" || string(name) == "REQUIRETLS"; hasValue == alone {
		// Of those known only these two stand alone; whether others are known comes first.
		switch string(name) {
		case "SIZE", "BODY", "SMTPUTF8", "REQUIRETLS", "RET", "ENVID", "AUTH":
			return 0, replyParam
		}
		return 0, replyParamNew
	}
	switch string(name) {
	case "SIZE": // RFC 1870
		return 1, m.setSize(value)
	case "BODY": // RFC 6152
		return 2, m.setBody(value)
	case "SMTPUTF8": // RFC 6531
		m.UTF8 = true
		return 4, ""
	case "RET": // RFC 3461 §4.3
		switch {
		case bytes.EqualFold(value, []byte("FULL")):
			m.Return = queue.ReturnFull
		case bytes.EqualFold(value, []byte("HDRS")):
			m.Return = queue.ReturnHeaders
		default:
			return 0, replyParam
		}
		return 8, ""
	case "ENVID": // RFC 3461 §4.4
		id, ok := decodeXtext(value)
		if !ok || id == "" || len(value) > maxEnvID {
			return 0, replyParam
		}
		m.EnvID = id
		return 16, ""
	case "AUTH": // RFC 4954 §5: the relay trusts no one's word for it, so it is dropped
		if len(value) == 0 || !ascii(value) {
			return 0, replyParam
		}
		return 32, ""
	case "REQUIRETLS": // RFC 8689 §3
		m.RequireTLS = true
		return 64, ""
	}
	return 0, replyParamNew
}

func (m *Mail) setSize(value []byte) (reply string) {
	if len(value) == 0 || len(value) > 20 { // RFC 1870 §3
		return replyParam
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return replyParam
		}
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	m.Size = n
	return ""
}

func (m *Mail) setBody(value []byte) (reply string) {
	switch {
	case bytes.EqualFold(value, []byte("7BIT")):
		m.Body = queue.Body7Bit
	case bytes.EqualFold(value, []byte("8BITMIME")):
		m.Body = queue.Body8BitMIME
	case bytes.EqualFold(value, []byte("BINARYMIME")):
		return replyBinary
	default:
		return replyParam
	}
	return ""
}

// parseRcpt reads what follows "RCPT ". allowUTF8 tells that MAIL had SMTPUTF8.
func parseRcpt(args []byte, allowUTF8 bool) (r Rcpt, reply string) {
	args, ok := cutPrefixFold(args, "TO:")
	if !ok {
		return r, replyRcptSyntax
	}
	p, rest, f := parsePath(bytes.TrimLeft(args, " "), false, true)
	switch f {
	case faultSyntax:
		return r, replyRcptBad
	case faultLength:
		return r, replyRcptLong
	}
	if p.utf8 && !allowUTF8 {
		return r, replyUTF8
	}
	r.To = queue.ForwardPath(p.mailbox)
	for {
		var key, value []byte
		var more, hasValue bool
		key, value, hasValue, rest, more, ok = nextParam(rest)
		if !ok {
			return r, replyParam
		}
		if !more {
			return r, ""
		}
		var buf [12]byte
		switch string(upper(&buf, key)) {
		case "NOTIFY": // RFC 3461 §4.1
			n, ok := parseNotify(value)
			if !hasValue || !ok || r.Notify != 0 {
				return r, replyParam
			}
			r.Notify = n
		case "ORCPT": // RFC 3461 §4.2
			o, ok := parseORcpt(value)
			if !hasValue || !ok || r.ORcpt != "" {
				return r, replyParam
			}
			r.ORcpt = o
		default:
			return r, replyParamNew
		}
	}
}

func parseNotify(value []byte) (queue.Notify, bool) {
	var n queue.Notify
	for word := range bytes.SplitSeq(value, []byte(",")) {
		var bit queue.Notify
		switch {
		case bytes.EqualFold(word, []byte("NEVER")):
			bit = queue.NotifyNever
		case bytes.EqualFold(word, []byte("SUCCESS")):
			bit = queue.NotifySuccess
		case bytes.EqualFold(word, []byte("FAILURE")):
			bit = queue.NotifyFailure
		case bytes.EqualFold(word, []byte("DELAY")):
			bit = queue.NotifyDelay
		}
		if bit == 0 || n&bit != 0 {
			return 0, false
		}
		n |= bit
	}
	if n&queue.NotifyNever != 0 && n != queue.NotifyNever {
		return 0, false
	}
	return n, true
}

// parseORcpt decodes "rfc822;xtext", or "utf-8;…" by RFC 6533 §3. Other types
// are kept as they are named (RFC 3461 §4.2 leaves the list open).
func parseORcpt(value []byte) (string, bool) {
	kind, addr, found := bytes.Cut(value, []byte(";"))
	if !found || len(kind) == 0 || len(addr) == 0 || len(value) > maxORcpt {
		return "", false
	}
	for _, c := range kind {
		if c >= utf8.RuneSelf || !isAtext[c] {
			return "", false
		}
	}
	var text string
	var ok bool
	if bytes.EqualFold(kind, []byte("utf-8")) {
		text, ok = decodeUTF8Xtext(addr)
	} else {
		text, ok = decodeXtext(addr)
	}
	if !ok {
		return "", false
	}
	return string(kind) + ";" + text, true
}

// nextParam cuts one " KEY[=VALUE]" from b. more is false at the end.
func nextParam(b []byte) (key, value []byte, hasValue bool, rest []byte, more, ok bool) {
	trimmed := bytes.TrimLeft(b, " ")
	if len(trimmed) == 0 {
		return nil, nil, false, nil, false, true
	}
	if len(trimmed) == len(b) { // no space before it
		return nil, nil, false, nil, false, false
	}
	word := trimmed
	if i := bytes.IndexByte(trimmed, ' '); i >= 0 {
		word, rest = trimmed[:i], trimmed[i:]
	}
	key, value, hasValue = bytes.Cut(word, []byte("="))
	// RFC 5321 §4.1.2: a value holds neither "=" nor controls, and is not empty.
	if len(key) == 0 || hasValue && (len(value) == 0 || bytes.IndexByte(value, '=') >= 0) {
		return nil, nil, false, nil, false, false
	}
	return key, value, hasValue, rest, true, true
}

// decodeXtext decodes xtext (RFC 3461 §4) to printable ASCII.
func decodeXtext(b []byte) (string, bool) {
	var sb strings.Builder
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '+' {
			if i+2 >= len(b) {
				return "", false
			}
			hi, lo := hexDigit(b[i+1]), hexDigit(b[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			c = byte(hi<<4 | lo)
			i += 2
		} else if c == '=' || c == ' ' {
			return "", false
		}
		if c < ' ' || c > '~' {
			return "", false
		}
		sb.WriteByte(c)
	}
	return sb.String(), true
}

// decodeUTF8Xtext decodes utf-8-addr-xtext and utf-8-addr-unitext (RFC 6533 §3):
// a character may stand as \x{20AC}. The rules of a local part hold for what comes out.
func decodeUTF8Xtext(b []byte) (string, bool) {
	var sb strings.Builder
	for len(b) > 0 {
		if b[0] == '\\' {
			end := bytes.IndexByte(b, '}')
			if end < 5 || end > 9 || b[1] != 'x' || b[2] != '{' {
				return "", false
			}
			n, err := strconv.ParseUint(string(b[3:end]), 16, 21)
			r := rune(n)
			if err != nil || !utf8.ValidRune(r) || r < ' ' || r == 0x7f ||
				r >= utf8.RuneSelf && mailRune(utf8.AppendRune(nil, r)) == 0 {
				return "", false
			}
			sb.WriteRune(r)
			b = b[end+1:]
			continue
		}
		n := 1
		switch {
		case b[0] >= utf8.RuneSelf:
			n = mailRune(b)
		case b[0] <= ' ' || b[0] == 0x7f || b[0] == '+' || b[0] == '=':
			n = 0
		}
		if n == 0 {
			return "", false
		}
		sb.Write(b[:n])
		b = b[n:]
	}
	return sb.String(), true
}

// hexDigit is the value of an upper-case hexadecimal digit, or -1.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func cutPrefixFold(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || !strings.EqualFold(string(b[:len(prefix)]), prefix) {
		return nil, false
	}
	return b[len(prefix):], true
}

// upper writes b in upper case into buf; what does not fit is no keyword of
// ours and comes out empty.
func upper(buf *[12]byte, b []byte) []byte {
	if len(b) > len(buf) {
		return nil
	}
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		buf[i] = c
	}
	return buf[:len(b)]
}
