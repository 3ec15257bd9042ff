package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"tacet/relay/route"
)

// domainNames is the relay's resolver in the words of the standard library, for checks.
type domainNames struct{ *route.Stub }

// lookupError is an error of the resolver as a *net.DNSError, without the name in it.
func lookupError(err error) error {
	if err == nil {
		return nil
	}
	gone := errors.Is(err, route.ErrNoSuchName)
	return &net.DNSError{Err: "look-up failed", UnwrapErr: err, IsNotFound: gone, IsTemporary: !gone}
}

func lookupName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// LookupTXT implements content.Resolver.
func (l domainNames) LookupTXT(ctx context.Context, name string) ([]string, error) {
	texts, err := l.TXT(ctx, lookupName(name))
	return texts, lookupError(err)
}

// LookupMX implements content.Resolver.
func (l domainNames) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	answer, err := l.MX(ctx, lookupName(name))
	if err != nil {
		return nil, lookupError(err)
	}
	var found []*net.MX
	for _, mx := range answer.Hosts {
		found = append(found, &net.MX{Host: mx.Host, Pref: mx.Preference})
	}
	return found, nil
}

// LookupIPAddr implements content.Resolver.
func (l domainNames) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	answer, err := l.Addrs(ctx, lookupName(host))
	if err != nil {
		return nil, lookupError(err)
	}
	var found []net.IPAddr
	for _, a := range append(answer.V4[:len(answer.V4):len(answer.V4)], answer.V6...) {
		found = append(found, net.IPAddr{IP: a.AsSlice()})
	}
	return found, nil
}

// clientNames are the names of clients that a primary is told of, by the resolvers in use.
type clientNames struct{ routes *routes }

// ClientName implements outbound.Namer.
func (c clientNames) ClientName(ctx context.Context, client netip.Addr) (name string, verified bool, err error) {
	return c.routes.dns.Load().ClientName(ctx, client)
}

// LookupAddr implements content.Resolver. Names of addresses are not looked up: the one mechanism
// of SPF that wants them should not be used (RFC 7208 §5.5), and then matches nothing.
func (l domainNames) LookupAddr(context.Context, string) ([]string, error) {
	return nil, &net.DNSError{Err: "names of addresses are not looked up", IsNotFound: true}
}
