package relay

import (
	"context"
	"net/netip"

	"tacet/queue"
)

// Transport hands messages to next hops. relay/outbound fills it.
type Transport interface {
	// Deliver tries to hand the claimed message to the next hops of its
	// destination, in their order, and returns one reply for each of
	// c.Recipients. It ends in bounded time and early when ctx ends, but
	// not between the final dot and its answer, for which it waits as long
	// as ctx's parent of grace allows.
	Deliver(ctx context.Context, c *queue.Claim) Result
}

// Result is what one attempt came to.
type Result struct {
	Replies []queue.Reply // one for each of the claim's recipients, in their order
	Host    netip.Addr    // of the host really connected to; invalid if none was
	TLS     queue.TLS     // of that connection
	Reports bool          // every hop that took the message offers DSN, and with it the duty to report success (RFC 3461 §6.2)
}

// Router names destinations. relay/route fills it.
type Router interface {
	// Destination is where a recipient's mail queues. It asks no one and is cheap.
	Destination(queue.ForwardPath) queue.Destination
	// Limits is what the destination is held to. It asks no one.
	Limits(queue.Destination) Limits
}

// Directory knows who exists in the relay domains. relay/recipients fills it.
type Directory interface {
	// Check returns nil, or a *Rejection for a recipient who does not exist or
	// of whom nothing is known now. It ends in bounded time.
	Check(ctx context.Context, to queue.ForwardPath) error
}

// Route is the next hops of a destination, in the order to try them.
// relay/route makes it for relay/outbound.
type Route struct {
	Hops []Hop     // at least one
	TLS  TLSPolicy // towards these hops
	Auth *Login    // at a smarthost; nil: none

	MaxMessages int    // over one connection; 0: as many as the transport sees fit
	Domain      string // whose published policies hold for these hops; empty: the hops are configured
	Authentic   bool   // the hops' names are certain: configured, or validated by DNSSEC from the domain on

	Introduction Introduction // how the hops learn whose mail it is

	Fallback queue.Destination // where to turn if no hop takes the mail for now; empty: nowhere
	Primary  bool              // the hops get mail as it came for them, also with lines that are too long: refusing it here would answer strangers
}

// Introduction is how a next hop that trusts this relay is told the address of
// the client that mail from outside came from.
type Introduction uint8

// The introductions. The first is none at all.
const (
	IntroduceNone     Introduction = iota
	IntroduceXCLIENT               // Postfix, newer Exim: the session is as if the client held it
	IntroduceXFORWARD              // Postfix: for its log and content filter
	IntroducePROXYv1               // the PROXY protocol, in text
	IntroducePROXYv2               // and in binary
)

// Hop is one address of one next hop.
type Hop struct {
	Name string // host name for EHLO checks, SNI and certificates: lower case, no final dot; an IP literal's text otherwise
	Addr netip.AddrPort

	Canonical string // the name that has the address: another than Name behind a CNAME; empty: not from the DNS
	Authentic bool   // the address, and the CNAMEs on the way to it, were validated by DNSSEC
	Hold      *Hold  // what the host is held to by a published policy; nil: nothing

	// Rival is an address of the same host in the other family. The one that
	// answers first is used (RFC 8305). The transport sets it.
	Rival netip.AddrPort
}

// Login is how the relay authenticates at a smarthost.
type Login struct{ User, Password string }

// TLSPolicy is how much TLS a next hop is held to.
type TLSPolicy uint8

// The TLS policies, named as in the config.
const (
	TLSOpportunistic TLSPolicy = iota // when offered; in the clear otherwise
	TLSRequire                        // never in the clear, any certificate
	TLSVerify                         // a certificate valid for the host's name
	TLSNone                           // never
)

// RouteError says why a destination has no next hop. Whether that may change
// is told by Cause.Permanent.
type RouteError struct {
	Cause queue.Cause
	Err   error // for incidents only, never for the log; may be nil

	Fallback queue.Destination // as in [Route], where Cause may change
}

func (e *RouteError) Error() string { return "no route to the next hop" }
func (e *RouteError) Unwrap() error { return e.Err }
