package relay

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"tacet/queue"
)

// foldAt is how long a line gets before it is folded.
const foldAt = 76

// fields collects header-like fields.
type fields struct{ bytes.Buffer }

// add writes one field, folded where it holds a space. value is clean.
func (b *fields) add(name, value string) {
	b.WriteString(name + ":")
	column := len(name) + 1
	for word := range strings.FieldsSeq(value) {
		for word != "" {
			piece := word[:pieceLength(word, maxLine-foldAt)]
			word = word[len(piece):]
			if column+1+len(piece) > foldAt && column > len(name)+1 {
				b.WriteString("\r\n")
				column = 0
			}
			b.WriteString(" " + piece)
			column += 1 + len(piece)
		}
	}
	b.WriteString("\r\n")
}

// addWhole writes one field on one line, with value as it is: an address, in
// which a blank counts. value is clean and at most 900 octets long.
func (b *fields) addWhole(name, value string) {
	b.WriteString(name + ": " + value + "\r\n")
}

// pieceLength is how much of s, at most limit octets, makes whole characters.
func pieceLength(s string, limit int) int {
	if len(s) <= limit {
		return len(s)
	}
	for limit > 1 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return limit
}

// cleanText makes s one line of what prints, at most limit octets: every run of
// blanks and line ends is one space, and for each other control, format (bidi) or invalid character, and for each beyond
// US-ASCII unless utf8 is allowed, there is a question mark.
func cleanText(s string, allowUTF8 bool, limit int) string {
	var b strings.Builder
	blank := false
	for _, c := range s {
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			blank = b.Len() > 0
			continue
		case c == utf8.RuneError, !unicode.IsPrint(c), c >= utf8.RuneSelf && !allowUTF8:
			c = '?'
		}
		if b.Len()+1+utf8.RuneLen(c) > limit {
			break
		}
		if blank {
			b.WriteByte(' ')
			blank = false
		}
		b.WriteRune(c)
	}
	return b.String()
}

// address makes a mailbox fit for a field: without blanks to fold at, and
// outside an SMTPUTF8 report with each character beyond US-ASCII as
// \x{HEX} (RFC 6533 §3, utf-8-addr-xtext).
func (r *report) address(mailbox string) string {
	var b strings.Builder
	for _, c := range mailbox {
		switch {
		case b.Len() > 900:
			return b.String()
		case c == utf8.RuneError, c != ' ' && !unicode.IsPrint(c):
			b.WriteByte('?')
		case c >= utf8.RuneSelf && !r.asUTF8:
			fmt.Fprintf(&b, `\x{%X}`, c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isToken tells whether s is an address type of an ORCPT.
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return s != "" && len(s) <= 40
}

// addressLiteral is a as in RFC 5321 §4.1.3.
func addressLiteral(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}

// replyText is the next hop's answer as one line: code, enhanced code, text.
func replyText(reply queue.Reply, allowUTF8 bool) string {
	s := strconv.Itoa(reply.Code)
	text := cleanText(reply.Text, allowUTF8, 1000)
	if !reply.Enhanced.IsZero() && !strings.HasPrefix(text, dotted(reply.Enhanced)) {
		s += " " + dotted(reply.Enhanced)
	}
	return strings.TrimSpace(s + " " + text)
}

func dotted(e queue.Enhanced) string {
	return fmt.Sprintf("%d.%d.%d", e[0], e[1], e[2])
}
