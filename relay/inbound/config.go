package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"

	"tacet/relay"
	"tacet/relay/inbound/wire"
)

// Config is what a [Server] is made of.
type Config struct {
	Hostname string      // in the greeting
	TLS      *tls.Config // each listener uses a copy of its own; nil: no TLS anywhere
	Relay    Relay
	Auth     Authenticator // nil: no AUTH
	Events   Events        // nil: no one hears
	Client   bool          // the client's address goes into the envelope on MX listeners too; see [Server.Keep]
	Helo     bool          // what the client called itself goes into the envelope on MX listeners; likewise
	Users    Submitters    // judges what users submit; nil: nobody does
	Edge     Edge          // judges clients of MX listeners; nil: nobody does
	Filters  Filters       // see sessions from MAIL on; nil: none
	Turn     Turner        // of ETRN on MX listeners; nil: it is not offered
	Limits   Limits
	Tracer   relay.Tracer // of dialogues; nil: none
}

// Limits bound what one client, and all together, may use. A zero field means its default.
type Limits struct {
	MaxMessageSize       int64         // octets; 0: none
	MaxRecipients        int           // of a message; 0: 1,000
	Connections          int           // 0: 10,000
	ConnectionsPerClient int           // of one IPv4 address or IPv6 /64; 0: no limit
	CommandTimeout       time.Duration // 0: 5 minutes
	HandshakeTimeout     time.Duration // 0: 1 minute
	MinContentRate       int64         // octets per second; 0: 500
	ContentWindow        time.Duration // over which the rate is measured; 0: 1 minute
	MaxErrors            int           // wrong commands of a session; 0: 20
	MaxJunk              int           // useless commands between messages, and refusals of a session; 0: 100
	MaxAuthFailures      int           // of a session; 0: 3
	Pause                time.Duration // before the greeting of MX listeners: who talks during it is no mail server (RFC 5321 §4.3.1); 0: none
}

func (l Limits) withDefaults() *Limits {
	if l.MaxRecipients == 0 {
		l.MaxRecipients = 1000
	}
	if l.Connections == 0 {
		l.Connections = 10000
	}
	if l.MaxAuthFailures == 0 {
		l.MaxAuthFailures = 3
	}
	return &l
}

// Kind is what a listener is for.
type Kind uint8

// The kinds of listeners.
const (
	Submission Kind = iota // clients log in, or are in a trusted network
	MX                     // takes mail for the relay's own domains; no AUTH
)

// TLSMode is how TLS begins on a listener.
type TLSMode uint8

// The TLS modes. Without [Config].TLS all are NoTLS.
const (
	StartTLS TLSMode = iota
	ImplicitTLS
	NoTLS
)

// Listener is what one listening socket is for.
type Listener struct {
	Kind      Kind
	TLS       TLSMode
	ProxyFrom []netip.Prefix // proxies, which say who the client is (PROXY protocol v1 or v2); none: clients connect themselves
}

// Listen opens a TCP socket to serve on. Keep-alive is off: the deadlines
// end dead connections, and its four system calls a connection are saved.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	return lc.Listen(ctx, "tcp", address)
}

// tlsConfig makes the listener's own copy, so that a session ticket of one
// listener is worth nothing at another.
func (l Listener) tlsConfig(base *tls.Config) *tls.Config {
	if base == nil || l.TLS == NoTLS {
		return nil
	}
	c := base.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	if c.NextProtos == nil {
		// A client that names other protocols only is lost, or a tool of an attack (ALPACA).
		c.NextProtos = []string{"smtp", "esmtp"}
	}
	return c
}

// settings makes what the connections of a listener share.
func (s *Server) settings(l Listener, c *tls.Config, limits *Limits) *wire.Settings {
	set := &wire.Settings{
		Hostname:         s.config.Hostname,
		TLS:              c,
		Implicit:         c != nil && l.TLS == ImplicitTLS,
		KeepHelo:         l.Kind == MX,
		Auth:             l.Kind == Submission && s.config.Auth != nil,
		MaxMessageSize:   limits.MaxMessageSize,
		CommandTimeout:   limits.CommandTimeout,
		HandshakeTimeout: limits.HandshakeTimeout,
		MinContentRate:   limits.MinContentRate,
		ContentWindow:    limits.ContentWindow,
		MaxErrors:        limits.MaxErrors,
		MaxJunk:          limits.MaxJunk,
		Tracer:           s.config.Tracer,
		Counters:         &s.stats.Counters,
		TLSFailed:        func(c *wire.Conn) { s.tlsFailed(l, c) },
		Panicked:         func() { s.trouble(TroublePanic) },
	}
	if l.Kind == MX && s.config.Turn != nil {
		set.Etrn = s.turn
	}
	if l.Kind == MX && !set.Implicit {
		set.Pause = limits.Pause
		set.Early = func() { s.early(l) }
	}
	return set.Prepare()
}

// Keep changes what of clients goes into envelopes on MX listeners, from the next
// transaction on: [Config].Client and Helo.
func (s *Server) Keep(client, helo bool) {
	s.keepClient.Store(client)
	s.keepHelo.Store(helo)
}

// SetLimits changes the limits. Connections that are open keep theirs.
func (s *Server) SetLimits(l Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = l.withDefaults()
	for _, p := range s.ports {
		p.settings.Store(s.settings(p.Listener, p.tls, s.limits))
	}
}

// turnWithin is how long a client waits for its ETRN at most.
const turnWithin = 20 * time.Second

func (s *Server) turn(client netip.Addr, name string) wire.EtrnResult {
	ctx, cancel := context.WithTimeout(s.ctx, turnWithin)
	defer cancel()
	n, err := s.config.Turn.Turn(ctx, client, name)
	switch {
	case errors.Is(err, ErrNotAllowed):
		return wire.EtrnDenied
	case err != nil:
		return wire.EtrnFailed
	case n == 0:
		return wire.EtrnNothing
	}
	return wire.EtrnStarted
}
