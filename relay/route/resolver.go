package route

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Resolver is what the router asks the DNS. [Stub] fills it. Names are in
// lower case, A-labels, without a final dot, both ways. Answers may be shared
// and are never changed.
//
// An error is ErrNoSuchName, or else temporary. A name that is there without
// records of the type asked for gives an answer without records.
type Resolver interface {
	// MX returns the mail exchangers of the domain.
	MX(ctx context.Context, domain string) (MXAnswer, error)
	// Addrs returns the IPv4 and IPv6 addresses of a host. If one of the two
	// cannot be had for now, the other is returned alone.
	Addrs(ctx context.Context, host string) (AddrAnswer, error)
}

// Answer is what is known of every answer.
type Answer struct {
	Name      string        // the name that owns the records: another than that asked for behind a CNAME
	Authentic bool          // every record, and every CNAME on the way, was validated by DNSSEC (the AD bit of a resolver that is trusted)
	TTL       time.Duration // for how long the answer may be kept
}

// MXAnswer is the answer of a look-up of MX records.
type MXAnswer struct {
	Answer
	Hosts []MX // best preference first; those of equal preference in no order
}

// MX is one MX record.
type MX struct {
	Host       string // "." is the null MX of RFC 7505; names are not checked
	Preference uint16
}

// AddrAnswer is the answer of a look-up of A and AAAA records.
type AddrAnswer struct {
	Answer
	V4, V6 []netip.Addr
}

// The errors of a look-up. Servers' texts and names are not part of them.
var (
	ErrNoSuchName = errors.New("the name does not exist")
	errServers    = errors.New("no DNS server gave an answer")
	errServFail   = errors.New("the DNS servers failed to resolve the name")
	errChain      = errors.New("the name's CNAME chain does not end")
)

// The limits of what is kept of an answer.
const (
	keepMX    = 20 // MX records, of the best preference
	keepAddrs = 64 // addresses of one family: SPF has to see all of them
	maxChain  = 10 // CNAME records followed
)
