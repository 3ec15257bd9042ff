package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tacet/queue"
	"tacet/relay"
)

// zone is a Resolver from tables. A name that stands in none does not exist;
// "!" instead of records is a temporary failure.
type zone struct {
	mx    map[string][]MX
	addrs map[string]string // space-separated

	mu    sync.Mutex
	asked []string
}

var errZone = errors.New("temporary failure")

func (z *zone) ask(name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked = append(z.asked, name)
}

func (z *zone) MX(_ context.Context, domain string) (MXAnswer, error) {
	z.ask("MX " + domain)
	hosts, hasMX := z.mx[domain]
	_, hasAddrs := z.addrs[domain]
	switch {
	case slices.Contains(hosts, MX{Host: "!"}):
		return MXAnswer{}, errZone
	case !hasMX && !hasAddrs:
		return MXAnswer{}, ErrNoSuchName
	}
	return MXAnswer{Hosts: hosts}, nil
}

func (z *zone) Addrs(_ context.Context, host string) (AddrAnswer, error) {
	z.ask("A " + host)
	text, ok := z.addrs[host]
	switch {
	case !ok:
		return AddrAnswer{}, ErrNoSuchName
	case text == "!":
		return AddrAnswer{}, errZone
	}
	var a AddrAnswer
	for f := range strings.FieldsSeq(text) {
		if addr := netip.MustParseAddr(f); addr.Is4() {
			a.V4 = append(a.V4, addr)
		} else {
			a.V6 = append(a.V6, addr)
		}
	}
	return a, nil
}

func testZone() *zone {
	return &zone{
		mx: map[string][]MX{
			"one.example":      {{"mx.one.example", 10}},
			"order.example":    {{"b.order.example", 20}, {"a.order.example", 10}, {"c.order.example", 30}},
			"null.example":     {{".", 0}},
			"null2.example":    {{".", 0}, {"mx.one.example", 10}},
			"invalid.example":  {{"192.0.2.1", 0}, {"bad name.example", 5}, {"-x.example", 6}, {"mx.one.example", 10}},
			"allbad.example":   {{"192.0.2.1", 0}, {"bad\\046name.example", 5}},
			"fail.example":     {{Host: "!"}},
			"gone.example":     {{"no.such.example", 10}},
			"halfgone.example": {{"no.such.example", 10}, {"mx.one.example", 20}},
			"hostfail.example": {{"fail.one.example", 10}, {"no.such.example", 20}},
			"empty.example":    {},
			"special.example":  {{"loop.one.example", 10}},
			"mixed.example":    {{"loop.one.example", 10}, {"mx.one.example", 20}},
			"partly.example":   {{"partly.one.example", 10}},
			"us.example":       {{"relay.example.org", 10}, {"mx.one.example", 20}},
			"usequal.example":  {{"relay.example.org", 10}, {"mx.one.example", 10}, {"a.order.example", 5}},
			"usaddr.example":   {{"a.order.example", 5}, {"alias.example.org", 10}, {"mx.one.example", 10}, {"c.order.example", 20}},
			"usonly.example":   {{"alias.example.org", 10}},
			"usbackup.example": {{"no.such.example", 5}, {"relay.example.org", 10}},
			"smarthost":        {},
		},
		addrs: map[string]string{
			"mx.one.example":      "192.0.2.1 2001:db8::1",
			"many.example":        "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 192.0.2.5 2001:db8::1 2001:db8::2 2001:db8::3",
			"a.order.example":     "192.0.2.11",
			"b.order.example":     "192.0.2.12",
			"c.order.example":     "192.0.2.13",
			"implicit.example":    "192.0.2.20",
			"empty.example":       "",
			"fail.one.example":    "!",
			"loop.one.example":    "127.0.0.1 ::1 10.1.2.3 64:ff9b::7f00:1",
			"partly.one.example":  "10.0.0.1 192.0.2.30 ::ffff:192.168.0.1",
			"alias.example.org":   "198.51.100.1",
			"self.example":        "198.51.100.1",
			"relay.example.org":   "198.51.100.1",
			"inside.example":      "10.0.0.7",
			"nowhere.example":     "",
			"smarthost.example":   "!",
			"implicitbad.example": "!",
		},
	}
}

func testConfig(z *zone) Config {
	return Config{
		Hostname:    "relay.example.org",
		Addresses:   []netip.Addr{netip.MustParseAddr("198.51.100.1")},
		Listeners:   []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:2587")},
		DenySpecial: true,
		Resolver:    z,
		HostsFile:   os.DevNull,
	}
}

func TestRoute(t *testing.T) {
	tests := []struct {
		dest  string
		want  string // the hops in order; within {} in any order
		cause queue.Cause
	}{
		{"one.example", "mx.one.example=[2001:db8::1]:25 mx.one.example=192.0.2.1:25", 0},
		{"order.example", "a.order.example=192.0.2.11:25 b.order.example=192.0.2.12:25 c.order.example=192.0.2.13:25", 0},
		{"implicit.example", "implicit.example=192.0.2.20:25", 0},
		{"null.example", "", queue.CauseNullMX},
		{"null2.example", "mx.one.example=[2001:db8::1]:25 mx.one.example=192.0.2.1:25", 0},
		{"invalid.example", "mx.one.example=[2001:db8::1]:25 mx.one.example=192.0.2.1:25", 0},
		{"allbad.example", "", queue.CauseMXUnresolved},
		{"fail.example", "", queue.CauseDNSTemporary},
		{"gone.example", "", queue.CauseMXUnresolved},
		{"halfgone.example", "mx.one.example=[2001:db8::1]:25 mx.one.example=192.0.2.1:25", 0},
		{"hostfail.example", "", queue.CauseDNSTemporary},
		{"empty.example", "", queue.CauseNoMX},
		{"implicitbad.example", "", queue.CauseDNSTemporary},
		{"no.such.example", "", queue.CauseNoSuchDomain},
		{"special.example", "", queue.CauseAddressForbidden},
		{"mixed.example", "mx.one.example=[2001:db8::1]:25 mx.one.example=192.0.2.1:25", 0},
		{"partly.example", "partly.one.example=192.0.2.30:25", 0},
		{"us.example", "", queue.CauseLoopsBack},
		{"usequal.example", "a.order.example=192.0.2.11:25", 0},
		{"usaddr.example", "a.order.example=192.0.2.11:25", 0},
		{"usonly.example", "", queue.CauseLoopsBack},
		{"usbackup.example", "", queue.CauseMXUnresolved},
		{"self.example", "", queue.CauseLoopsBack},
		{"[192.0.2.77]", "192.0.2.77=192.0.2.77:25", 0},
		{"[IPv6:2001:db8::77]", "2001:db8::77=[2001:db8::77]:25", 0},
		{"[127.0.0.1]", "", queue.CauseAddressForbidden},
		{"[IPv6:64:ff9b::a00:1]", "", queue.CauseAddressForbidden},
		{"[198.51.100.1]", "", queue.CauseLoopsBack},
		{string(badDomain), "", queue.CauseBadDomain},
		{"bad domain", "", queue.CauseBadDomain},
		{"hidden.onion", "", queue.CauseNoSuchDomain},
		{"", "", queue.CauseBadDomain},

		// Configured next hops: special addresses are fine, and nothing is permanent.
		{"[127.0.0.1]:2626", "127.0.0.1=127.0.0.1:2626", 0},
		{"[::1]:25", "::1=[::1]:25", 0},
		{"[127.0.0.1]:2587", "", queue.CauseLocal},
		{"[inside.example]:587", "inside.example=10.0.0.7:587", 0},
		{"inside.example:587", "inside.example=10.0.0.7:587", 0},
		{"one.example:587", "mx.one.example=[2001:db8::1]:587 mx.one.example=192.0.2.1:587", 0},
		{"[mx.one.example]:26", "mx.one.example=[2001:db8::1]:26 mx.one.example=192.0.2.1:26", 0},
		{"no.such.example:587", "", queue.CauseMXUnresolved},
		{"[no.such.example]:587", "", queue.CauseMXUnresolved},
		{"nowhere.example:587", "", queue.CauseMXUnresolved},
		{"null.example:25", "", queue.CauseMXUnresolved},
		{"fail.example:25", "", queue.CauseDNSTemporary},
		{"us.example:25", "", queue.CauseLocal},
		{"not a hop:25", "", queue.CauseBadDomain},
	}
	for _, tc := range tests {
		t.Run(tc.dest, func(t *testing.T) {
			r := New(testConfig(testZone()))
			route, err := r.Route(t.Context(), queue.Destination(tc.dest))
			if tc.cause != 0 {
				fault, ok := errors.AsType[*relay.RouteError](err)
				if !ok || fault.Cause != tc.cause {
					t.Fatalf("got %v, %v; want cause %d", route, fault, tc.cause)
				}
				return
			}
			if err != nil {
				t.Fatal(err, errors.Unwrap(err))
			}
			if got := hopText(route.Hops); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func hopText(hops []relay.Hop) string {
	var s []string
	for _, h := range hops {
		s = append(s, h.Name+"="+h.Addr.String())
	}
	return strings.Join(s, " ")
}

func TestRouteAllowsSpecial(t *testing.T) {
	c := testConfig(testZone())
	c.DenySpecial = false
	route, err := New(c).Route(t.Context(), "special.example")
	if err != nil || len(route.Hops) != maxPerHost {
		t.Fatalf("%v, %v", route, err)
	}
}

// TestRouteFamilies checks that the two families take turns, and that no host
// takes all the places.
func TestRouteFamilies(t *testing.T) {
	r := New(testConfig(testZone()))
	first := make(map[netip.Addr]int)
	for range 200 {
		route, err := r.Route(t.Context(), "many.example")
		if err != nil {
			t.Fatal(err)
		}
		if len(route.Hops) != maxPerHost {
			t.Fatalf("%d hops, want %d", len(route.Hops), maxPerHost)
		}
		for i, h := range route.Hops {
			if h.Addr.Addr().Is6() != (i%2 == 0) {
				t.Fatalf("the families do not take turns: %s", hopText(route.Hops))
			}
		}
		first[route.Hops[1].Addr.Addr()]++
	}
	if len(first) != 5 {
		t.Errorf("of 5 IPv4 addresses %d come first in 200 routes", len(first))
	}
}

// TestRouteEquals checks the random order among hosts of equal preference.
func TestRouteEquals(t *testing.T) {
	z := testZone()
	z.mx["equal.example"] = []MX{{"a.order.example", 10}, {"b.order.example", 10}, {"c.order.example", 10}, {"mx.one.example", 20}}
	r := New(testConfig(z))
	orders := make(map[string]int)
	for range 300 {
		route, err := r.Route(t.Context(), "equal.example")
		if err != nil {
			t.Fatal(err)
		}
		if route.Hops[3].Name != "mx.one.example" {
			t.Fatalf("the worse host is not last: %s", hopText(route.Hops))
		}
		orders[hopText(route.Hops[:3])]++
	}
	if len(orders) != 6 {
		t.Errorf("of 6 orders %d turn up in 300 routes: %v", len(orders), orders)
	}
}

// TestRouteFlood checks that thousands of hosts with many addresses each cost
// few look-ups and give few hops.
func TestRouteFlood(t *testing.T) {
	for name, pref := range map[string]func(int) uint16{
		"equal":     func(int) uint16 { return 10 },
		"ascending": func(i int) uint16 { return uint16(i) },
	} {
		t.Run(name, func(t *testing.T) {
			z := testZone()
			for i := range 5000 {
				host := fmt.Sprintf("mx%d.flood.example", i)
				z.mx["flood.example"] = append(z.mx["flood.example"], MX{host, pref(i)})
				for a := range 20 {
					z.addrs[host] += fmt.Sprintf(" 192.0.2.%d", a+100)
				}
			}
			route, err := New(testConfig(z)).Route(t.Context(), "flood.example")
			if err != nil {
				t.Fatal(err)
			}
			if len(route.Hops) != maxHops || len(z.asked) > 1+maxTried {
				t.Errorf("%d hops from %d look-ups", len(route.Hops), len(z.asked))
			}
		})
	}
}

// TestRouteUnresolvedFlood checks the same where no host has an address.
func TestRouteUnresolvedFlood(t *testing.T) {
	z := testZone()
	for i := range 5000 {
		z.mx["flood.example"] = append(z.mx["flood.example"], MX{fmt.Sprintf("mx%d.flood.example", i), uint16(i)})
	}
	_, err := New(testConfig(z)).Route(t.Context(), "flood.example")
	fault, ok := errors.AsType[*relay.RouteError](err)
	if !ok || fault.Cause != queue.CauseMXUnresolved || len(z.asked) != 1+maxTried {
		t.Errorf("%v after %d look-ups", fault, len(z.asked))
	}
}

func TestRoutePolicies(t *testing.T) {
	c := testConfig(testZone())
	login := &relay.Login{User: "u", Password: "p"}
	c.TLS = relay.TLSRequire
	r := rule(t, "one.example", "")
	r.TLS = new(relay.TLSVerify)
	s := rule(t, "inside.example", "[mx.one.example]:587")
	s.Auth = login
	c.Rules = []Rule{r, s}
	router := New(c)
	tests := []struct {
		to   queue.ForwardPath
		tls  relay.TLSPolicy
		auth *relay.Login
		port uint16
	}{
		{"a@one.example", relay.TLSVerify, nil, 25},
		{"a@inside.example", relay.TLSRequire, login, 587},
		{"a@order.example", relay.TLSRequire, nil, 25},
	}
	for _, tc := range tests {
		route, err := router.Route(t.Context(), router.Destination(tc.to))
		if err != nil {
			t.Fatal(err)
		}
		if route.TLS != tc.tls || route.Auth != tc.auth || route.Hops[0].Addr.Port() != tc.port {
			t.Errorf("%s: %+v", tc.to, route)
		}
	}
}

// The fallback is for what goes to the MX of its domain, as long as that may change.
func TestRouteFallback(t *testing.T) {
	c := testConfig(testZone())
	c.Fallback = nextHop(t, "[192.0.2.99]:587")
	c.Rules = []Rule{rule(t, "inside.example", "[mx.one.example]:587")}
	router := New(c)
	for to, want := range map[queue.ForwardPath]queue.Destination{
		"a@one.example": "[192.0.2.99]:587", "a@inside.example": "",
	} {
		route, err := router.Route(t.Context(), router.Destination(to))
		if err != nil || route.Fallback != want {
			t.Errorf("%s: %+v, %v", to, route, err)
		}
	}
	route, err := router.Route(t.Context(), "[192.0.2.99]:587")
	if err != nil || route.Fallback != "" || route.Hops[0].Addr.String() != "192.0.2.99:587" {
		t.Errorf("the fallback itself: %+v, %v", route, err)
	}
	for domain, want := range map[queue.Destination]queue.Destination{"fail.example": "[192.0.2.99]:587", "nonesuch.example": ""} {
		_, err := router.Route(t.Context(), domain)
		if fault, ok := errors.AsType[*relay.RouteError](err); !ok || fault.Fallback != want {
			t.Errorf("%s: %+v, want the fallback %q", domain, fault, want)
		}
	}
}

func TestRouteForbids(t *testing.T) {
	loopback, public := netip.MustParseAddrPort("127.0.0.1:25"), netip.MustParseAddrPort("192.0.2.1:25")
	c := testConfig(testZone())
	c.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.77")}
	r := New(c)
	c.DenySpecial = false
	open := New(c)
	if !r.Forbidden("one.example", loopback) || r.Forbidden("one.example", public) || !r.Forbidden("[127.0.0.1]", loopback) {
		t.Error("a recipient's domain must not lead to special addresses, and to no others forbidden")
	}
	if r.Forbidden("[127.0.0.1]:2626", loopback) || r.Forbidden("smarthost.example:587/2", loopback) || open.Forbidden("one.example", loopback) {
		t.Error("what is configured is forbidden")
	}
	if self := netip.MustParseAddrPort("192.0.2.77:25"); !r.Forbidden("one.example", self) || !open.Forbidden("one.example", self) {
		t.Error("this relay itself is not forbidden")
	}
}

// TestRouteReconfigured checks destinations of an earlier configuration: no
// login reaches a host that it is not configured for.
func TestRouteReconfigured(t *testing.T) {
	c := testConfig(testZone())
	s := rule(t, "one.example", "[inside.example]:587")
	s.Auth = &relay.Login{User: "u", Password: "p"}
	c.Rules = []Rule{s}
	r := New(c)
	tests := []struct {
		dest, want string
		auth       bool
	}{
		{"one.example", "inside.example=10.0.0.7:587", true},
		{"[inside.example]:587/2", "inside.example=10.0.0.7:587", false},
		{"order.example:25", "a.order.example=192.0.2.11:25 b.order.example=192.0.2.12:25 c.order.example=192.0.2.13:25", false},
	}
	for _, tc := range tests {
		route, err := r.Route(t.Context(), queue.Destination(tc.dest))
		if err != nil {
			t.Fatal(err)
		}
		if got := hopText(route.Hops); got != tc.want || (route.Auth != nil) != tc.auth {
			t.Errorf("%s: %s with login %v", tc.dest, got, route.Auth)
		}
		if r.Forbidden(queue.Destination(tc.dest), netip.MustParseAddrPort("10.0.0.7:25")) {
			t.Errorf("%s: the configured address is forbidden", tc.dest)
		}
	}
}

// TestRouteStopped checks that the end of ctx is told from a fault of the DNS.
func TestRouteStopped(t *testing.T) {
	server := newDNSServer(t)
	c := testConfig(nil)
	c.Resolver = stubFor(server.addr)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, d := range []queue.Destination{"one.example", "one.example:25", "[one.example]:25"} {
		_, err := New(c).Route(ctx, d)
		if fault, ok := errors.AsType[*relay.RouteError](err); !ok || fault.Cause != queue.CauseShutdown {
			t.Errorf("%s: %+v", d, fault)
		}
	}
}

// TestRouteOnion checks that a name of the Tor network is not asked for.
func TestRouteOnion(t *testing.T) {
	z := testZone()
	if _, err := New(testConfig(z)).Route(t.Context(), "hidden.onion"); err == nil || len(z.asked) > 0 {
		t.Errorf("%v; asked %v", err, z.asked)
	}
}

func TestRouteHostsFile(t *testing.T) {
	z := testZone()
	c := testConfig(z)
	c.HostsFile = filepath.Join(t.TempDir(), "hosts")
	hosts := "127.0.0.1 localhost LocalHost.localdomain # one.example\n::1\tlocalhost\n\nbad line\n10.0.0.9 mx.one.example one.example smarthost\n"
	if err := os.WriteFile(c.HostsFile, []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	r := New(c)
	tests := []struct{ dest, want string }{
		{"[localhost]:2525", "localhost=[::1]:2525 localhost=127.0.0.1:2525"},
		{"localhost:2525", "localhost=[::1]:2525 localhost=127.0.0.1:2525"},
		{"[localhost.localdomain]:25", "localhost.localdomain=127.0.0.1:25"},
		{"smarthost:587", "smarthost=10.0.0.9:587"},
		{"[mx.one.example]:25", "mx.one.example=10.0.0.9:25"},
		// Names from the DNS are looked up in the DNS.
		{"one.example:25", "mx.one.example=[2001:db8::1]:25 mx.one.example=192.0.2.1:25"},
		{"one.example", "mx.one.example=[2001:db8::1]:25 mx.one.example=192.0.2.1:25"},
	}
	for _, tc := range tests {
		route, err := r.Route(t.Context(), queue.Destination(tc.dest))
		if err != nil {
			t.Errorf("%s: %v", tc.dest, errors.Unwrap(err))
			continue
		}
		if got := hopText(route.Hops); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.dest, got, tc.want)
		}
	}
}

// TestSelf checks which addresses lead back to this relay.
func TestSelf(t *testing.T) {
	s := newSelf(Config{
		Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1")},
		Listeners: []netip.AddrPort{netip.MustParseAddrPort("[::]:25"), netip.MustParseAddrPort("127.0.0.1:2587")},
	})
	for ap, want := range map[string]bool{
		"198.51.100.1:25": true, "198.51.100.1:99": true, "198.51.100.2:25": false,
		"127.0.0.1:25": true, "127.9.9.9:25": true, "[::1]:25": true, "[::ffff:127.0.0.1]:25": true, "0.0.0.0:25": true,
		"127.0.0.1:2587": true, "127.0.0.2:2587": false, "[::1]:2587": false, "127.0.0.1:26": false,
		"192.0.2.1:25": false,
	} {
		if got := s.is(netip.MustParseAddrPort(ap)); got != want {
			t.Errorf("%s: %v", ap, got)
		}
	}
}
