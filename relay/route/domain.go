package route

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// The limits of RFC 1035 §2.3.4, as text.
const (
	maxName  = 253
	maxLabel = 63
)

// lookupProfile maps a U-label domain to its A-labels as for a look-up
// (RFC 5891 §5, UTS 46 non-transitional). Which US-ASCII characters a label
// may hold is checked by isPlainDomain, which unlike it takes "_".
var lookupProfile = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

// normalDomain returns a mail domain or host name in lower case, as A-labels
// and without a final dot; ok is false for what is no domain name.
func normalDomain(domain string) (string, bool) {
	domain = strings.TrimSuffix(domain, ".")
	if isPlainDomain(domain) {
		return domain, true
	}
	if len(domain) > 4*maxName || !utf8.ValidString(domain) {
		return "", false
	}
	name, err := lookupProfile.ToASCII(domain)
	if err != nil {
		return "", false
	}
	return name, isDomain(name)
}

// isPlainDomain tells whether domain is normal already and needs no look into
// its A-labels.
func isPlainDomain(domain string) bool {
	return isDomain(domain) && !strings.Contains(domain, "xn--")
}

// isDomain tells whether name is a domain name in lower case: labels of
// letters, digits, hyphens within and underscores, of which the last is not all digits.
func isDomain(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	start, digits := 0, true
	for i := 0; ; i++ {
		if i == len(name) || name[i] == '.' {
			if i == start || i-start > maxLabel || name[start] == '-' || name[i-1] == '-' {
				return false
			}
			if i == len(name) {
				return !digits
			}
			start, digits = i+1, true
			continue
		}
		switch c := name[i]; {
		case '0' <= c && c <= '9':
		case 'a' <= c && c <= 'z', c == '-', c == '_':
			digits = false
		default:
			return false
		}
	}
}

// parseLiteral reads an address literal of RFC 5321 §4.1.3: "[192.0.2.1]" or
// "[IPv6:2001:db8::1]", with its brackets.
func parseLiteral(s string) (netip.Addr, bool) {
	if len(s) < 3 || s[0] != '[' || s[len(s)-1] != ']' {
		return netip.Addr{}, false
	}
	s = s[1 : len(s)-1]
	const tag = "IPv6:"
	if len(s) > len(tag) && strings.EqualFold(s[:len(tag)], tag) {
		a, err := netip.ParseAddr(s[len(tag):])
		return a.Unmap(), err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil && a.Is4()
}

// literal is a as an address literal.
func literal(a netip.Addr) string {
	if a.Is6() {
		return "[IPv6:" + a.String() + "]"
	}
	return "[" + a.String() + "]"
}

// Pattern selects recipient domains.
type Pattern struct {
	name       string // normal domain or literal; empty selects all
	subdomains bool
}

var errPattern = errors.New(`a domain pattern is "example.net" for the domain alone, ".example.net" or "*.example.net" for all its subdomains, "[192.0.2.1]" for an address literal, or "*" for everything`)

// ParsePattern reads "example.net", ".example.net", "*.example.net",
// "[192.0.2.1]" or "*".
func ParsePattern(s string) (Pattern, error) {
	if s == "*" {
		return Pattern{}, nil
	}
	if a, ok := parseLiteral(s); ok {
		return Pattern{name: literal(a)}, nil
	}
	name, subdomains := strings.CutPrefix(strings.TrimPrefix(s, "*"), ".")
	if !subdomains && name != s {
		return Pattern{}, errPattern
	}
	name, ok := normalDomain(name)
	if !ok {
		return Pattern{}, errPattern
	}
	return Pattern{name: name, subdomains: subdomains}, nil
}
