package outbound

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxMailbox is 64 octets of local part, the "@" and 255 of domain
// (RFC 5321 §4.5.3.1.1 and 2): more than a path may have, for what lenient servers took.
const maxMailbox = 64 + 1 + 255

// mailbox is what a path is, as far as a command needs to know.
type mailbox struct {
	local, domain string // what the local part stands for, without quotes; domain without "@", empty for a bare "Postmaster"
	utf8Local     bool   // the local part is not ASCII
	utf8Domain    bool
}

// parseMailbox takes a path apart if it can stand between angle brackets and
// be nothing but one mailbox there, to the strict and to the lenient: no
// control characters or line ends, no space or bracket outside a quoted
// string, nothing behind the domain. It does not judge whether the domain exists.
func parseMailbox(path string) (m mailbox, ok bool) {
	if path == "" || len(path) > maxMailbox {
		return m, false
	}
	var end int
	if path[0] == '"' {
		end = quotedEnd(path)
	} else {
		end = dotStringEnd(path)
	}
	if end <= 0 {
		return m, false
	}
	m.local = path[:end]
	if path[0] == '"' {
		m.local = unquoted(path[1 : end-1])
	}
	if end == len(path) {
		return m, strings.EqualFold(path, "postmaster") // RFC 5321 §4.5.1
	}
	if path[end] != '@' {
		return m, false
	}
	m.domain = path[end+1:]
	if !domainOK(m.domain) {
		return m, false
	}
	m.utf8Local, m.utf8Domain = !isASCII(m.local), !isASCII(m.domain)
	return m, !m.utf8Local && !m.utf8Domain || printable(path)
}

// quotedEnd is where the quoted string that s starts with ends, or -1.
func quotedEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i++; i == len(s) || s[i] < ' ' || s[i] >= 0x7f { // RFC 5321 §4.1.2 quoted-pairSMTP
				return -1
			}
		case c < ' ', c == 0x7f:
			return -1
		}
	}
	return -1
}

// unquoted is what a quoted string's inside stands for (RFC 5321 §4.1.2).
func unquoted(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isDotString tells whether a local part can stand without quotes: atoms with
// single dots between them (RFC 5321 §4.1.2, RFC 6531 §3.3).
func isDotString(s string) bool {
	return s != "" && dotStringEnd(s) == len(s) && s[0] != '.' && s[len(s)-1] != '.' && !strings.Contains(s, "..")
}

// atomSpecials are the characters beside letters and digits that an atom takes
// (RFC 5322 §3.2.3), and the dot: some hosts have mailboxes with dots where RFC 5321 allows none.
const atomSpecials = "!#$%&'*+-/=?^_`{|}~."

// dotStringEnd is where the unquoted local part that s starts with ends.
func dotStringEnd(s string) int {
	for i := range len(s) {
		if c := s[i]; !isLetterDigit(c) && c < utf8.RuneSelf && strings.IndexByte(atomSpecials, c) < 0 {
			return i
		}
	}
	return len(s)
}

func domainOK(d string) bool {
	if d == "" || len(d) > 255 {
		return false
	}
	if inner, ok := strings.CutPrefix(d, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && only(inner, ".:-") && isASCII(inner)
	}
	return only(d, ".-_")
}

// only tells whether s has letters, digits, what is not ASCII and the given characters alone.
func only(s, also string) bool {
	for i := range len(s) {
		if c := s[i]; !isLetterDigit(c) && c < utf8.RuneSelf && strings.IndexByte(also, c) < 0 {
			return false
		}
	}
	return true
}

func isLetterDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// printable tells whether s is UTF-8 without controls, and without spaces and
// line separators beyond ASCII, which a peer may take for ends of something.
func printable(s string) bool {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false
			}
		}
		if r >= utf8.RuneSelf && (unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Z, r)) {
			return false
		}
	}
	return true
}

// aLabels is the domain as DNS and a server without SMTPUTF8 have it (RFC 5891 §4.4).
func aLabels(domain string) (string, bool) {
	profile := idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))
	a, err := profile.ToASCII(domain)
	return a, err == nil && domainOK(a) && isASCII(a)
}
