package tlsrpt

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"tacet/relay"
	"tacet/relay/aggregate"
)

// The limits of what is counted. Beyond them sessions are not counted at all,
// or without their host.
const (
	maxPolicies = 10  // of a domain on one day
	maxDetails  = 50  // results of a policy
	maxStrings  = 40  // lines of a policy
	maxString   = 512 // octets of a line; a longer one is left out
)

// Collector counts sessions by day, and reports each day once it is over
// ([aggregate.Days.Run]). It fills [relay.TLSObserver], which may be called at any time.
type Collector struct {
	*aggregate.Days[*policyCounts]
	config Config
}

var _ relay.TLSObserver = (*Collector)(nil)

// domainCounts are a domain's sessions by the policy that was in force. The
// key is its type and a digest of it.
type domainCounts map[string]*policyCounts

// policyCounts are the sessions under one policy.
type policyCounts struct {
	Type    string           `json:"type"`
	Strings []string         `json:"strings,omitempty"`
	Hosts   []string         `json:"hosts,omitempty"`
	Good    int64            `json:"good,omitempty"`
	Bad     map[string]int64 `json:"bad,omitempty"` // by result and host, with a blank between them
}

// Observe implements [relay.TLSObserver].
func (c *Collector) Observe(s relay.TLSSession) {
	c.Count(s.Domain, func(counts map[string]*policyCounts, room bool) int {
		return domainCounts(counts).count(s, room)
	})
}

// cost estimates the memory of p, in octets.
func (p *policyCounts) cost() int {
	n := 256
	for _, list := range [][]string{p.Strings, p.Hosts} {
		for _, s := range list {
			n += 16 + len(s)
		}
	}
	for what := range p.Bad {
		n += 32 + len(what)
	}
	return n
}

// short is what is kept of the lines of a policy.
func short(lines []string) []string {
	var kept []string
	for _, line := range lines {
		if len(line) <= maxString && len(kept) < maxStrings {
			kept = append(kept, line)
		}
	}
	return kept
}

// count adds one session, and what is new about it only if there is room. It
// returns how much more memory that takes.
func (d domainCounts) count(s relay.TLSSession, room bool) (grown int) {
	kind := typeOf(s.Hold)
	key := kind
	if s.Hold != nil {
		sum := sha256.Sum256([]byte(strings.Join(s.Hold.Policy, "\n")))
		key += " " + hex.EncodeToString(sum[:8])
	}
	p := d[key]
	if p == nil {
		if len(d) >= maxPolicies || !room {
			return 0
		}
		p = &policyCounts{Type: kind}
		if s.Hold != nil {
			p.Strings, p.Hosts = short(s.Hold.Policy), short(s.Hold.Hosts)
		}
		d[key] = p
		grown = p.cost()
	}
	if s.Failure == relay.TLSFailureNone {
		p.Good++
		return grown
	}
	if p.Bad == nil {
		p.Bad = make(map[string]int64)
	}
	result := s.Failure.String() + " " + s.Host
	if _, ok := p.Bad[result]; !ok && (len(p.Bad) >= maxDetails || !room) {
		result = s.Failure.String() + " " // there are few of these
	}
	if p.Bad[result] == 0 {
		grown += 32 + len(result)
	}
	p.Bad[result]++
	return grown
}

// typeOf is the policy-type of RFC 8460 §4.4.
func typeOf(h *relay.Hold) string {
	switch {
	case h == nil:
		return "no-policy-found"
	case h.By == relay.HeldByDANE, h.Require, h.Failure == relay.FailedDNSSEC:
		return "tlsa"
	case h.By == relay.HeldBySTS, h.By == relay.HeldBySTSTesting, h.Failure >= relay.FailedSTSFetch:
		return "sts"
	}
	return "no-policy-found"
}
