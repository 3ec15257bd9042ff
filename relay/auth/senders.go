package auth

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"tacet/relay"
)

// Senders are the addresses that a user may send as. The zero value is none.
type Senders struct {
	texts []string            // as they were given
	keys  map[string]struct{} // of single addresses and of patterns
	any   bool
}

// MaxSenders is how many addresses and patterns a user may have.
const MaxSenders = 1000

// The faults of an element of a list of senders.
var (
	errSender = errors.New("is neither an address, nor \"@example.org\" for all of a domain, \"@.example.org\" for its subdomains, " +
		"\"anna+*@example.org\" for all with an extension, or \"*\" for any address")
	errManySenders = fmt.Errorf("more than %d senders", MaxSenders)
)

// ParseSenders reads a list of addresses and patterns, separated by commas:
//
//	anna@example.org     this address
//	anna+*@example.org   it with any extension behind the "+" (RFC 5233)
//	@example.org         every address of the domain
//	@.example.org        every address of its subdomains
//	*                    any address
//
// A local part with other characters stands in quotes, as in an address. The empty
// list is no address at all. The error names an element by its place alone.
func ParseSenders(list string) (*Senders, error) {
	s := &Senders{keys: make(map[string]struct{})}
	if strings.TrimSpace(list) == "" {
		return s, nil
	}
	for i, text := range splitList(list) {
		text = strings.TrimSpace(text)
		key, ok := senderKey(text)
		switch {
		case !ok:
			return nil, fmt.Errorf("sender %d %w", i+1, errSender)
		case i == MaxSenders:
			return nil, errManySenders
		}
		if _, twice := s.keys[key]; twice {
			continue
		}
		s.any = s.any || key == "*"
		s.keys[key] = struct{}{}
		s.texts = append(s.texts, text)
	}
	return s, nil
}

// senderKey is what an element of the list is kept as.
func senderKey(text string) (key string, ok bool) {
	if text == "*" {
		return text, true
	}
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }) {
		return "", false
	}
	if domain, whole := strings.CutPrefix(text, "@"); whole {
		name, below := strings.CutPrefix(domain, ".")
		if domain = relay.CanonicalDomain(name); domain == "" || below && domain[0] == '[' {
			return "", false
		}
		if below {
			return "@." + domain, true
		}
		return "@" + domain, true
	}
	local, domain, ok := relay.CanonicalMailbox(text)
	return local + "@" + domain, ok
}

// splitList cuts at the commas outside of quotes.
func splitList(list string) (parts []string) {
	start := 0
	for i := range outsideQuotes(list) {
		if list[i] == ',' {
			parts = append(parts, list[start:i])
			start = i + 1
		}
	}
	return append(parts, list[start:])
}

// outsideQuotes goes over the octets of s that are in no quoted string.
func outsideQuotes(s string) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		quoted := false
		for i := 0; i < len(s); i++ {
			switch {
			case quoted && s[i] == '\\':
				i++
			case s[i] == '"':
				quoted = !quoted
			case !quoted && !yield(i):
				return
			}
		}
	}
}

// String gives the list back.
func (s *Senders) String() string { return strings.Join(s.texts, ",") }

// List gives the elements of the list as they were given.
func (s *Senders) List() []string { return s.texts }

// Any tells whether the user may send as any address.
func (s *Senders) Any() bool { return s.any }

// Has tells whether an address belongs to the list. Upper and lower case, the forms of
// an IDN and needless quotes make no difference (RFC 5321 §2.4 leaves the case of local
// parts to the host that has them; no one gives two people names that differ in it alone).
func (s *Senders) Has(address string) bool {
	if s.any {
		return true
	}
	if len(s.keys) == 0 {
		return false
	}
	local, domain, ok := relay.CanonicalMailbox(address)
	return ok && s.hasCanonical(local, domain)
}

func (s *Senders) hasCanonical(local, domain string) bool {
	has := func(key string) bool { _, found := s.keys[key]; return found }
	if has(local+"@"+domain) || has("@"+domain) {
		return true
	}
	if plain, _, extended := strings.Cut(local, "+"); extended && plain != "" && has(plain+"+*@"+domain) {
		return true
	}
	if domain[0] == '[' {
		return false
	}
	for {
		_, above, found := strings.Cut(domain, ".")
		if !found {
			return false
		}
		if domain = above; has("@." + domain) {
			return true
		}
	}
}
