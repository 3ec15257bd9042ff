package main

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"tacet/relay"
	"tacet/relay/route"
	"tacet/relay/tlspolicy"
	"tacet/relay/tlspolicy/mtasts"
)

// lookups is the DNS as the parts ask it, and what they may connect to.
type lookups struct {
	*route.Stub
	denySpecial bool
}

func (c *Config) lookups() *lookups {
	return &lookups{
		route.NewStub(route.StubConfig{Servers: c.DNS.Resolvers, Trusted: c.DNS.Trusted}),
		c.Delivery.DenySpecialAddresses,
	}
}

// TLSA implements tlspolicy.DNS.
func (r *routes) TLSA(ctx context.Context, name string) ([]relay.TLSA, bool, error) {
	return r.dns.Load().TLSA(ctx, name)
}

// Alias implements tlspolicy.DNS.
func (r *routes) Alias(ctx context.Context, name string) (bool, error) {
	return r.dns.Load().Alias(ctx, name)
}

// TXT implements mtasts.Source.
func (r *routes) TXT(ctx context.Context, name string) ([]string, error) {
	return r.dns.Load().TXT(ctx, name)
}

var errNoWebServer = errors.New("the web server has no address that may be contacted")

// Dial implements mtasts.Source: it connects to the host's port for HTTPS, by its
// addresses in turn, but to none that must not be contacted.
func (r *routes) Dial(ctx context.Context, host string) (net.Conn, error) {
	dns := r.dns.Load()
	found, err := dns.Addrs(ctx, host)
	if err != nil {
		return nil, err
	}
	err = errNoWebServer
	for _, addr := range append(found.V4, found.V6...) {
		if dns.denySpecial && route.Forbidden(addr) {
			continue
		}
		var conn net.Conn
		if conn, err = new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(addr, 443).String()); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// openPolicies opens the cache of domains' TLS policies.
func (d *daemon) openPolicies(context.Context) error {
	policies, err := mtasts.New(mtasts.Config{Source: &d.routes, Keeper: d.config.sealed("policies"), Failed: d.taskFailed})
	d.taskFailed(err) // what can't be read is found anew
	d.policies = policies
	d.made(policies.Close)
	return nil
}

// held is the routes with what each next hop is held to.
func (d *daemon) held() *tlspolicy.Resolver { return tlspolicy.New(&d.routes, &d.routes, d.policies) }
