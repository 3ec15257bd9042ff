package wire

import (
	"bytes"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// The limits of RFC 5321 §4.5.3.1, in octets.
const (
	maxLocal  = 64
	maxDomain = 255
	maxPath   = 256 // with the angle brackets
	maxLabel  = 63
)

// fault tells what is wrong with a path.
type fault uint8

const (
	faultNone fault = iota
	faultSyntax
	faultLength
)

// path is a parsed Reverse-path or Forward-path (RFC 5321 §4.1.2, RFC 6531 §3.3).
type path struct {
	mailbox string // as it stood, quoting kept; empty for "<>"
	utf8    bool   // it holds other characters than ASCII
}

// parsePath reads a path in angle brackets at the start of b and returns what
// follows. A source route is dropped, as RFC 5321 appendix C asks for. empty allows "<>",
// bare a "Postmaster" without domain.
func parsePath(b []byte, empty, bare bool) (p path, rest []byte, f fault) {
	if len(b) == 0 || b[0] != '<' {
		return p, nil, faultSyntax
	}
	b = b[1:]
	if len(b) > 0 && b[0] == '>' {
		if !empty {
			return p, nil, faultSyntax
		}
		return p, b[1:], faultNone
	}
	if len(b) > 0 && b[0] == '@' {
		if b, f = skipRoute(b); f != faultNone {
			return p, nil, f
		}
	}
	local := localPart(b)
	if local == 0 {
		return p, nil, faultSyntax
	}
	end := local
	switch {
	case end < len(b) && b[end] == '@':
		n := bytes.IndexByte(b[end+1:], '>')
		if n < 0 {
			return p, nil, faultSyntax
		}
		if n > maxDomain {
			return p, nil, faultLength
		}
		if !validDomain(b[end+1 : end+1+n]) {
			return p, nil, faultSyntax
		}
		end += 1 + n
	case bare && end < len(b) && b[end] == '>' && strings.EqualFold(string(b[:end]), "postmaster"):
		// RFC 5321 §4.1.1.3
	default:
		return p, nil, faultSyntax
	}
	if local > maxLocal || end+2 > maxPath {
		return p, nil, faultLength
	}
	p.mailbox = string(b[:end])
	p.utf8 = !ascii(b[:end])
	return p, b[end+1:], faultNone
}

// skipRoute goes over "@one.example,@two.example:".
func skipRoute(b []byte) ([]byte, fault) {
	for {
		if len(b) == 0 || b[0] != '@' {
			return nil, faultSyntax
		}
		n := bytes.IndexAny(b, ",:>")
		if n < 0 || b[n] == '>' || !validDomain(b[1:n]) {
			return nil, faultSyntax
		}
		sep := b[n]
		b = b[n+1:]
		if sep == ':' {
			return b, faultNone
		}
	}
}

// localPart returns the length of the Local-part at the start of b, 0 if there is none.
func localPart(b []byte) int {
	if len(b) > 0 && b[0] == '"' {
		return quotedString(b)
	}
	dot := true // an atom must follow
	for i := 0; i < len(b); {
		c := b[i]
		switch {
		case c == '.':
			if dot {
				return 0
			}
			dot = true
			i++
		case c < utf8.RuneSelf:
			if !isAtext[c] {
				if dot {
					return 0
				}
				return i
			}
			dot = false
			i++
		default:
			n := mailRune(b[i:])
			if n == 0 {
				return 0
			}
			dot = false
			i += n
		}
	}
	return 0
}

// quotedString returns the length of the Quoted-string at the start of b.
func quotedString(b []byte) int {
	for i := 1; i < len(b); {
		c := b[i]
		switch {
		case c == '"':
			return i + 1
		case c == '\\':
			if i+1 >= len(b) || b[i+1] < ' ' || b[i+1] > '~' {
				return 0
			}
			i += 2
		case c < ' ' || c == 0x7f:
			return 0
		case c < utf8.RuneSelf:
			i++
		default:
			n := mailRune(b[i:])
			if n == 0 {
				return 0
			}
			i += n
		}
	}
	return 0
}

// mailRune returns the length of the character at the start of b if it may
// stand in a local part. Left out are controls, and what a terminal or a log
// viewer takes for a line end or a change of direction.
func mailRune(b []byte) int {
	r, n := utf8.DecodeRune(b)
	if r == utf8.RuneError && n <= 1 {
		return 0
	}
	if unicode.Is(unicode.Bidi_Control, r) || unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) || r == 0xfeff {
		return 0
	}
	return n
}

// validDomain tells whether d is a Domain or an address-literal. A name whose
// last label is all digits is refused: it would be taken for an address.
func validDomain(d []byte) bool {
	if len(d) == 0 || len(d) > maxDomain {
		return false
	}
	if d[0] == '[' {
		return validLiteral(d)
	}
	wide := false
	label, longest, digits := 0, 0, true
	for i, c := range d {
		switch {
		case c == '.':
			if label == 0 || d[i-1] == '-' {
				return false
			}
			label, digits = 0, true
			continue
		case '0' <= c && c <= '9':
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '_':
			digits = false
		case c == '-':
			if label == 0 {
				return false
			}
			digits = false
		case c >= utf8.RuneSelf:
			wide, digits = true, false
		default:
			return false
		}
		label++
		longest = max(longest, label)
	}
	if label == 0 || digits || d[len(d)-1] == '-' {
		return false
	}
	if wide {
		return validIDN(string(d))
	}
	return longest <= maxLabel
}

// validIDN tells whether a name with U-labels is one that IDNA can look up,
// and that no step of compatibility mapping turns into a name of other letters or other dots.
func validIDN(d string) bool {
	if !utf8.ValidString(d) || !norm.NFKC.IsNormalString(d) {
		return false
	}
	for _, r := range d {
		if r < utf8.RuneSelf {
			continue
		}
		if !unicode.In(r, unicode.L, unicode.M, unicode.Nd) && r != 0x200c && r != 0x200d && r != 0xb7 {
			return false
		}
		if unicode.ToLower(r) < utf8.RuneSelf || unicode.ToUpper(r) < utf8.RuneSelf {
			return false
		}
	}
	a, err := idna.Lookup.ToASCII(d)
	if err != nil || len(a) > maxDomain {
		return false
	}
	for label := range strings.SplitSeq(a, ".") {
		if len(label) > maxLabel {
			return false
		}
	}
	return true
}

// validLiteral tells whether d is an IPv4 or IPv6 address literal (RFC 5321 §4.1.3).
func validLiteral(d []byte) bool {
	if len(d) < 3 || d[len(d)-1] != ']' {
		return false
	}
	s := string(d[1 : len(d)-1])
	if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
		a, err := netip.ParseAddr(s[5:])
		return err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isAtext are the ASCII characters of an Atom (RFC 5322 §3.2.3).
var isAtext = func() (t [utf8.RuneSelf]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~" {
		t[c] = true
	}
	return t
}()
