package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
	"tacet/relay/outbound"
	"tacet/relay/route"
)

// The config in the words of each part.

// routes is the router in use. A reload replaces it under those who ask it.
type routes struct {
	current atomic.Pointer[route.Router]
	dns     atomic.Pointer[lookups]
	detour  atomic.Pointer[detour] // of a self-test; nil: none
}

func (r *routes) use(router *route.Router, dns *lookups) {
	r.dns.Store(dns)
	r.current.Store(router)
}

// Destination implements relay.Router.
func (r *routes) Destination(to queue.ForwardPath) queue.Destination {
	if r.detour.Load().takes(to) {
		return selftestDomain
	}
	return r.current.Load().Destination(to)
}

// Route implements outbound.Resolver.
func (r *routes) Route(ctx context.Context, d queue.Destination) (*relay.Route, error) {
	if way := r.detour.Load(); way != nil && d == selftestDomain {
		return way.route(), nil
	}
	return r.current.Load().Route(ctx, d)
}

// forbidden tells outbound what must not be dialled: the last look, at the
// address that is really connected to.
func (r *routes) forbidden(d queue.Destination, a netip.AddrPort) bool {
	if way := r.detour.Load(); way != nil && d == selftestDomain {
		return a != way.to
	}
	return r.current.Load().Forbidden(d, a)
}

// Limits implements relay.Router.
func (r *routes) Limits(d queue.Destination) relay.Limits {
	if d == selftestDomain {
		return relay.Limits{}
	}
	return r.current.Load().Limits(d)
}

func (c *Config) router(dns *lookups) (*route.Router, error) {
	hop, login, err := c.Delivery.Smarthost.route()
	if err != nil {
		return nil, err
	}
	fallback, err := route.ParseNextHop(c.Delivery.Fallback)
	if err != nil {
		return nil, fmt.Errorf("delivery.fallback: %w", err)
	}
	config := route.Config{
		Fallback: fallback,
		Hostname: c.Hostname, Postmaster: queue.ForwardPath(c.Postmaster).Domain(),
		NextHop: hop, Auth: login, TLS: c.Delivery.TLS, Holds: c.Delivery.Load.holds(),
		DenySpecial: c.Delivery.DenySpecialAddresses, Resolver: dns,
		RelayDomains: c.Relay.Domains, PrimaryTLS: &c.Primary.TLS, Introduction: c.Primary.Introduce,
	}
	for _, host := range c.Primary.Hosts {
		primary, err := route.ParseHost(host)
		if err != nil {
			return nil, fmt.Errorf("primary.hosts: %w", err)
		}
		config.Primary = append(config.Primary, primary)
	}
	for _, l := range c.Listeners {
		host, number, _ := cutPort(l.Address)
		addr, err := netip.ParseAddr(host)
		if err != nil {
			addr = netip.IPv6Unspecified()
		}
		config.Listeners = append(config.Listeners, netip.AddrPortFrom(addr, number))
	}
	for _, r := range c.Delivery.Routes {
		domains, err := route.ParsePattern(r.Domain)
		if err != nil {
			return nil, fmt.Errorf("the route of %s: %w", r.Domain, err)
		}
		hop, login, err := r.Smarthost.route()
		if err != nil {
			return nil, err
		}
		config.Rules = append(config.Rules, route.Rule{Domains: domains, NextHop: hop, TLS: new(r.TLS), Auth: login, Holds: r.Load.holds()})
	}
	return route.New(config), nil
}

// holds is what a next hop is held to.
func (l Load) holds() route.Holds {
	return route.Holds{
		Limits:      relay.Limits{Concurrency: l.Concurrency, Every: l.Rate.every()},
		MaxMessages: l.MessagesPerConnection,
	}
}

// route is the next hop and the login there, if there are any.
func (s Smarthost) route() (route.NextHop, *relay.Login, error) {
	hop, err := route.ParseNextHop(s.NextHop)
	if err != nil || s.AuthUser == "" {
		return hop, nil, err
	}
	password, err := readPassword(s.AuthPasswordFile)
	if err != nil {
		return hop, nil, err
	}
	return hop, &relay.Login{User: s.AuthUser, Password: password}, nil
}

func (c *Config) outbound(r *routes) outbound.Config {
	t := c.Delivery.Timeouts
	return outbound.Config{
		Hostname: c.Hostname, Forbidden: r.forbidden, Names: clientNames{r},
		Timeouts: outbound.Timeouts{
			Connect: t.Connect, Greeting: t.Greeting, Command: t.Command,
			DataStart: t.DataStart, DataBlock: t.DataBlock, DataEnd: t.DataEnd,
		},
	}
}

func (c *Config) core() relay.Config {
	config := relay.Config{
		Hostname: c.Hostname, Postmaster: queue.ForwardPath(c.Postmaster),
		TrustedNetworks: c.Relay.TrustedNetworks,
		Schedule:        queue.Schedule{Retry: c.Queue.Retry, Lifetime: c.Queue.Lifetime, DelayWarning: c.Queue.DelayWarning},
		ReportLanguage:  c.Queue.ReportLanguage,
		Concurrency:     c.Delivery.Concurrency,
	}
	config.LogIncoming, config.Sites = c.Log.IncomingClient, c.Site.Addresses
	if len(c.Relay.Domains) > 0 {
		config.Relays = route.NewDomains(c.Relay.Domains).Has
	}
	return config
}

func (c *Config) inbound(d *daemon) inbound.Config {
	config := inbound.Config{
		Hostname: c.Hostname, Relay: d.relay, Filters: d.relay,
		Events: troubles{d.ops}, Limits: c.limits(), Tracer: tracer{d.incidents},
	}
	if len(c.Relay.Domains) > 0 {
		config.Turn = turner{d}
		config.Edge = d.openEdge()
		config.Client, config.Helo = c.keepsClient()
	}
	if d.users != nil {
		who := logins{d.users, &d.selftest}
		config.Relay, config.Auth, config.Users = gate{d.relay, who}, who, submitters{who, d.quota, &d.strangers}
	}
	config.Relay = d.processors.admitted(config.Relay)
	if c.needsCertificate() {
		config.TLS = d.certs.config()
	}
	return config
}

// keepsClient tells what of a client that brings mail for relay domains is kept with the mail.
func (c *Config) keepsClient() (address, helo bool) {
	helo = c.Primary.Introduce != relay.IntroduceNone
	return helo || c.Log.IncomingClient, helo
}

func (c *Config) limits() inbound.Limits {
	return inbound.Limits{
		MaxMessageSize: int64(c.Relay.MaxMessageSize), MaxRecipients: c.Relay.MaxRecipients,
		Connections: c.Limits.Connections, ConnectionsPerClient: c.Limits.ConnectionsPerClient,
		CommandTimeout: c.Limits.CommandTimeout, MinContentRate: int64(c.Limits.MinContentRate),
		Pause: c.Edge.Pause,
	}
}

func (l Listener) inbound() inbound.Listener {
	to := inbound.Listener{ProxyFrom: l.ProxyFrom}
	switch l.Kind {
	case KindSubmission:
		to.Kind = inbound.Submission
	case KindMX:
		to.Kind = inbound.MX
	}
	switch l.TLS {
	case ListenerSTARTTLS:
		to.TLS = inbound.StartTLS
	case ListenerImplicit:
		to.TLS = inbound.ImplicitTLS
	case ListenerNoTLS:
		to.TLS = inbound.NoTLS
	}
	return to
}

// gate is the relay as a session meets it: a user who was removed since the
// login starts no further message.
type gate struct {
	*relay.Relay
	users interface{ Exists(user string) bool }
}

// AdmitSender implements inbound.Relay.
func (g gate) AdmitSender(mx bool, o *queue.Origin, from queue.ReversePath) error {
	if o.User != "" && !g.users.Exists(o.User) {
		return &relay.Rejection{Code: 530, Enhanced: queue.Enhanced{5, 7, 0}, Class: relay.ClassAuth, Close: true,
			Text: "Authentication required: this login is no longer valid"}
	}
	return g.Relay.AdmitSender(mx, o, from)
}

// troubles tells the operator of the listeners' trouble.
type troubles struct{ ops *logging.Operations }

// Trouble implements inbound.Events.
func (t troubles) Trouble(what inbound.Trouble) {
	switch what {
	case inbound.TroubleAccept:
		t.ops.Log(logging.OpConnectionsFull)
	case inbound.TroublePanic:
		t.ops.Log(logging.OpPanicContained)
	default:
		t.ops.Log(logging.OpLibraryMessage)
	}
}

// tracer is the incidents in the words of the core.
type tracer struct{ *logging.Incidents }

// Trace implements relay.Tracer.
func (t tracer) Trace(inbound bool, peer netip.Addr, host string) relay.Trace {
	if d := t.Dialogue(inbound, peer, host); d != nil {
		return d
	}
	return nil
}
