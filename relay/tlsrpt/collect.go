package tlsrpt

import (
	"strings"
	"sync"
	"time"

	"tacet/relay"
)

// The limits of what is counted. Beyond them sessions are not counted at all,
// or without their host.
const (
	maxDomains  = 10_000 // of one day
	maxPolicies = 10     // of a domain on one day
	maxDetails  = 50     // results of a policy
	maxStrings  = 40     // lines of a policy
)

// Collector counts sessions by day. It fills [relay.TLSObserver]. All methods
// may be called at the same time.
type Collector struct {
	config Config

	mu    sync.Mutex
	days  map[string]map[string]domainCounts // by UTC date and domain
	dirty bool
}

var _ relay.TLSObserver = (*Collector)(nil)

// domainCounts are a domain's sessions by the policy that was in force. The
// key is the policy as one text.
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
	today := time.Now().UTC().Format(time.DateOnly)
	c.mu.Lock()
	defer c.mu.Unlock()
	day := c.days[today]
	if day == nil {
		day = make(map[string]domainCounts)
		c.days[today] = day
	}
	domain := day[s.Domain]
	if domain == nil {
		if len(day) >= maxDomains {
			return
		}
		domain = make(domainCounts)
		day[s.Domain] = domain
	}
	c.dirty = true
	domain.count(s)
}

func (d domainCounts) count(s relay.TLSSession) {
	kind := typeOf(s.Hold)
	key := kind
	if s.Hold != nil {
		key += "\n" + strings.Join(s.Hold.Policy, "\n")
	}
	p := d[key]
	if p == nil {
		if len(d) >= maxPolicies {
			return
		}
		p = &policyCounts{Type: kind}
		if s.Hold != nil {
			p.Strings = s.Hold.Policy[:min(len(s.Hold.Policy), maxStrings)]
			p.Hosts = s.Hold.Hosts[:min(len(s.Hold.Hosts), maxStrings)]
		}
		d[key] = p
	}
	if s.Failure == relay.TLSFailureNone {
		p.Good++
		return
	}
	if p.Bad == nil {
		p.Bad = make(map[string]int64)
	}
	result := s.Failure.String() + " " + s.Host
	if _, ok := p.Bad[result]; !ok && len(p.Bad) >= maxDetails {
		result = s.Failure.String() + " "
	}
	p.Bad[result]++
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
