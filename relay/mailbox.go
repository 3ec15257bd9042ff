package relay

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// CanonicalMailbox makes all spellings of an address one: the local part without quotes
// and in lower case, the domain as DNS has it. ok is false for what is no address. The
// result is for comparing, never for the wire.
func CanonicalMailbox(address string) (local, domain string, ok bool) {
	at := strings.LastIndexByte(address, '@')
	if at < 1 || !utf8.ValidString(address) {
		return "", "", false
	}
	if local, ok = unquote(address[:at]); !ok {
		return "", "", false
	}
	domain = CanonicalDomain(address[at+1:])
	return fold(local), domain, domain != ""
}

// unquote takes the quotes out of a local part (RFC 5321 §4.1.2), in which whole words
// may be quoted (RFC 5322 §4.4).
func unquote(local string) (string, bool) {
	if !strings.ContainsAny(local, "\"\\ \t@,;:<>()[]") {
		return local, local != ""
	}
	var out strings.Builder
	quoted := false
	for i := 0; i < len(local); i++ {
		switch c := local[i]; {
		case c == '"':
			quoted = !quoted
		case c < ' ' || c == 0x7f:
			return "", false
		case quoted && c == '\\':
			if i++; i == len(local) || local[i] < ' ' || local[i] == 0x7f {
				return "", false
			}
			out.WriteByte(local[i])
		case !quoted && strings.IndexByte("\\ \t@,;:<>()[]", c) >= 0:
			return "", false
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), !quoted && out.Len() > 0
}

// fold is s composed (NFC) and in lower case. Lower case makes nothing US-ASCII that was
// not: the Turkish capital I with a dot is no "i".
func fold(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return norm.NFC.String(strings.Map(func(r rune) rune {
				if low := unicode.ToLower(r); r < utf8.RuneSelf || low >= utf8.RuneSelf {
					return low
				}
				return r
			}, norm.NFC.String(s)))
		}
	}
	return strings.ToLower(s)
}

// CanonicalDomain is a domain as DNS has it, lower case and A-labels, or an address
// literal; empty if it is neither.
func CanonicalDomain(name string) string {
	if strings.HasPrefix(name, "[") {
		if !strings.HasSuffix(name, "]") || strings.ContainsAny(name[1:], " \t[@,\"\\<>") {
			return ""
		}
		return strings.ToLower(name)
	}
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 || name[0] == '.' || strings.Contains(name, "..") {
		return ""
	}
	plain := true
	for i := range len(name) {
		c := name[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '.' && c != '_' {
			if c < utf8.RuneSelf {
				return ""
			}
			plain = false
		}
	}
	name = strings.ToLower(name)
	if plain {
		return name
	}
	ascii, err := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false)).ToASCII(name)
	if err != nil || len(ascii) > 253 || ascii == "" || ascii[0] == '.' || strings.Contains(ascii, "..") {
		return ""
	}
	return strings.TrimSuffix(ascii, ".")
}
