package route

import (
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"tacet/relay"
)

// The limits of what is kept of an answer with records of a policy.
const (
	keepTLSA   = 32
	keepTXT    = 64
	maxTLSA    = 8 << 10 // octets of a record's data: more than a certificate has
	maxTXT     = 4 << 10 // octets of a record
	policyName = 253     // RFC 1035 §2.3.4, as text
)

// TLSA returns the TLSA records of name, and whether DNSSEC vouches for the
// answer. A name that does not exist has none. A record that is too large for what
// it may hold is there as an unusable one.
func (s *Stub) TLSA(ctx context.Context, name string) (records []relay.TLSA, authentic bool, err error) {
	e, err := s.policy(ctx, name, dns.TypeTLSA)
	if err != nil {
		return nil, false, err
	}
	return e.tlsa, e.Authentic, nil
}

// TXT returns the TXT records of name, the strings of each put together. A
// name that does not exist has none.
func (s *Stub) TXT(ctx context.Context, name string) ([]string, error) {
	e, err := s.policy(ctx, name, dns.TypeTXT)
	if err != nil {
		return nil, err
	}
	return e.txt, nil
}

// Alias tells whether DNSSEC vouches for the CNAME record of name itself,
// wherever it leads to.
func (s *Stub) Alias(ctx context.Context, name string) (authentic bool, err error) {
	e, err := s.policy(ctx, name, dns.TypeCNAME)
	if err != nil {
		return false, err
	}
	return e.Authentic, nil
}

// ClientName returns the first name that the DNS has for an address, empty if there
// is none, and whether that name has the address (RFC 1912 §2.1).
func (s *Stub) ClientName(ctx context.Context, client netip.Addr) (name string, verified bool, err error) {
	client = client.Unmap().WithZone("")
	reverse, err := dns.ReverseAddr(client.String())
	if err != nil {
		return "", false, nil // no address: nothing has a name for it
	}
	e, err := s.policy(ctx, plainName(reverse), dns.TypePTR)
	if err != nil || len(e.txt) == 0 {
		return "", false, err
	}
	found, err := s.Addrs(ctx, e.txt[0])
	if errors.Is(err, ErrNoSuchName) {
		return e.txt[0], false, nil
	}
	if err != nil {
		return "", false, err
	}
	return e.txt[0], slices.Contains(found.V4, client) || slices.Contains(found.V6, client), nil
}

func (s *Stub) policy(ctx context.Context, name string, qtype uint16) (*entry, error) {
	if len(name) > policyName {
		return &entry{}, nil // too long to exist
	}
	e, err := s.cache.get(ctx, question{name, qtype}, s.lookup)
	if err == nil {
		err = e.err
	}
	if err == ErrNoSuchName {
		return &entry{}, nil
	}
	return e, err
}

// takePolicy reads a record of a policy into e.
func (e *entry) takePolicy(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.TLSA:
		if len(e.tlsa) == keepTLSA {
			return
		}
		data, err := hex.DecodeString(rr.Certificate)
		if err != nil || len(data) > maxTLSA {
			data = nil
		}
		e.tlsa = append(e.tlsa, relay.TLSA{Usage: rr.Usage, Selector: rr.Selector, Matching: rr.MatchingType, Data: data})
	case *dns.PTR:
		if name := plainName(rr.Ptr); len(e.txt) == 0 && name != "." && len(name) <= policyName {
			e.txt = append(e.txt, name)
		}
	case *dns.TXT:
		if txt := plainText(rr.Txt); len(e.txt) < keepTXT && len(txt) <= maxTXT {
			e.txt = append(e.txt, txt)
		}
	}
}

// plainText joins the strings of a TXT record. The library gives them as a zone
// file has them, with \" for a quote and \ddd for an octet.
func plainText(parts []string) string {
	text := strings.Join(parts, "")
	if strings.IndexByte(text, '\\') < 0 {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			i++
			c = text[i]
			if n, err := strconv.ParseUint(text[i:min(i+3, len(text))], 10, 8); err == nil && i+3 <= len(text) {
				c, i = byte(n), i+2
			}
		}
		out = append(out, c)
	}
	return string(out)
}
