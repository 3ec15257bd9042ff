package outbound

import (
	"context"
	"crypto/x509"
	"net"
	"net/netip"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// Resolver finds the next hops of a destination. relay/route fills it. The
// error, if any, is a [*relay.RouteError]; any other is taken as a fault of our own.
type Resolver interface {
	Route(ctx context.Context, d queue.Destination) (*relay.Route, error)
}

// Dialer opens a connection to one address. It ends when ctx does.
type Dialer func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

// Config is how a [Client] behaves. A zero field takes the default that is named.
type Config struct {
	Hostname string // what EHLO says: a domain name or an address literal

	Timeouts Timeouts

	KeepAlive          time.Duration // how long a connection is kept without work: 5 s; negative: not at all
	MaxConnectionAge   time.Duration // how long a connection is used at most: 5 min
	MaxMessages        int           // messages over one connection: 100; what LIMITS MAILMAX says if that is less (RFC 9422)
	MaxRecipients      int           // recipients of one transaction: 100 (RFC 5321 §4.5.3.1.8); what LIMITS RCPTMAX says if that is less
	MaxIdleConnections int           // connections kept without work, over all destinations: 1,000
	MaxHops            int           // addresses tried in one attempt: 5

	Tracer relay.Tracer // of dialogues; nil: none

	Observer relay.TLSObserver // of sessions with the hosts of domains; nil: none

	Names Namer // of clients, for next hops that are told of them; nil: they have none

	Roots *x509.CertPool // against which certificates are verified; nil: those of the system

	// Dial opens connections. Nil: TCP.
	Dial Dialer
	// Forbidden tells whether an address must not be contacted for the
	// destination. It is asked just before each dial, of the very address that is
	// dialled: no name is resolved in between. Nil: none is.
	Forbidden func(d queue.Destination, a netip.AddrPort) bool
}

// Timeouts are the waits of RFC 5321 §4.5.3.2, each with the section's
// minimum as its default.
type Timeouts struct {
	Connect   time.Duration // TCP connection: 30 s
	Greeting  time.Duration // 5 min
	Command   time.Duration // answer to a command, and the TLS handshake: 5 min
	DataStart time.Duration // answer to DATA: 2 min
	DataBlock time.Duration // writing one block of at most 64 KiB: 3 min
	DataEnd   time.Duration // answer to the final dot or chunk: 10 min
	SetUp     time.Duration // once it is over no other hop is tried in this attempt: 10 min
}

func (c Config) withDefaults() Config {
	if c.Hostname == "" {
		c.Hostname = "localhost"
	}
	c.Timeouts = c.Timeouts.withDefaults()
	orDefault(&c.KeepAlive, 5*time.Second)
	orDefault(&c.MaxConnectionAge, 5*time.Minute)
	orDefault(&c.MaxMessages, 100)
	orDefault(&c.MaxRecipients, 100)
	orDefault(&c.MaxIdleConnections, 1000)
	orDefault(&c.MaxHops, 5)
	if c.Dial == nil {
		c.Dial = dialTCP
	}
	if c.Forbidden == nil {
		c.Forbidden = func(queue.Destination, netip.AddrPort) bool { return false }
	}
	return c
}

func (t Timeouts) withDefaults() Timeouts {
	orDefault(&t.Connect, 30*time.Second)
	orDefault(&t.Greeting, 5*time.Minute)
	orDefault(&t.Command, 5*time.Minute)
	orDefault(&t.DataStart, 2*time.Minute)
	orDefault(&t.DataBlock, 3*time.Minute)
	orDefault(&t.DataEnd, 10*time.Minute)
	orDefault(&t.SetUp, 10*time.Minute)
	return t
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// dialTCP leaves TCP's own keep-alive off: each of our waits has a deadline,
// and its socket options are four system calls a connection.
func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	return d.DialContext(ctx, "tcp", addr.String())
}
