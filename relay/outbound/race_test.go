package outbound

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
	"tacet/relay"
)

var (
	six  = netip.MustParseAddrPort("[2001:db8::1]:25")
	four = netip.MustParseAddrPort("192.0.2.1:25")
)

// twoFamilies is a route to one host with an address of each family.
func twoFamilies() *routeTo {
	return &routeTo{route: &relay.Route{Hops: []relay.Hop{{Name: "mx.example", Addr: six}, {Name: "mx.example", Addr: four}}}}
}

// network answers a dial to each address after a while, or with an error.
type network struct {
	*hop
	after map[netip.AddrPort]time.Duration
	fail  map[netip.AddrPort]error
}

func (n *network) dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	select {
	case <-time.After(n.after[addr]):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := n.fail[addr]; err != nil {
		return nil, &net.OpError{Op: "dial", Err: err}
	}
	return n.hop.dial(ctx, addr)
}

// Of the two families of a host the one that answers first is used, IPv6 with
// a start; the other is tried only if that one is of no use.
func TestHappyEyeballs(t *testing.T) {
	good := server(pipelines, nil, nil)
	bad := func(s *side) { s.say("421 4.3.2 not now") }
	tests := []struct {
		name    string
		after   map[netip.AddrPort]time.Duration
		fail    map[netip.AddrPort]error
		scripts []script
		want    netip.Addr
		took    time.Duration
		dials   int // that reached the host
		code    int
	}{
		{"both", nil, nil, []script{good}, six.Addr(), 0, 1, 250},
		{"a slow six", map[netip.AddrPort]time.Duration{six: 200 * time.Millisecond}, nil, []script{good}, six.Addr(), 200 * time.Millisecond, 1, 250},
		{"a black hole", map[netip.AddrPort]time.Duration{six: time.Hour}, nil, []script{good}, four.Addr(), rivalAfter, 1, 250},
		{"no IPv6", nil, map[netip.AddrPort]error{six: syscall.ENETUNREACH}, []script{good}, four.Addr(), 0, 1, 250},
		{"a tie", map[netip.AddrPort]time.Duration{six: time.Second, four: 750 * time.Millisecond}, nil, []script{good}, netip.Addr{}, time.Second, 2, 250},
		{"nobody", map[netip.AddrPort]time.Duration{six: time.Hour, four: time.Hour}, nil, []script{good}, netip.Addr{}, 30 * time.Second, 0, 0},
		{"both refuse", nil, map[netip.AddrPort]error{six: syscall.ECONNREFUSED, four: syscall.ECONNREFUSED}, []script{good}, netip.Addr{}, 0, 0, 0},
		{"four, unwilling, then six", map[netip.AddrPort]time.Duration{six: time.Second}, nil, []script{bad, good}, six.Addr(), rivalAfter + time.Second, 2, 250},
		{"six, unwilling, then four", nil, nil, []script{bad, good}, four.Addr(), 0, 2, 250},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &network{newHop(t, test.scripts...), test.after, test.fail}
				c := New(Config{Dial: n.dial}, twoFamilies())
				begun := time.Now()
				r := c.Deliver(t.Context(), claim(letter, "a@example.com"))
				took := time.Since(begun)
				if live := len(c.pool.live); live > 1 {
					t.Errorf("%d connections are open", live)
				}
				c.Close()
				n.wg.Wait()
				if r.Replies[0].Code != test.code || test.want.IsValid() && r.Host != test.want || took != test.took {
					t.Errorf("after %v at %v: %+v", took, r.Host, r.Replies[0])
				}
				if test.name != "a tie" && n.dials() != test.dials || n.dials() > test.dials {
					t.Errorf("%d connections, want %d", n.dials(), test.dials)
				}
			})
		})
	}
}

// The second try in the clear goes to the address where TLS failed.
func TestInTheClearAtTheSameAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusing := server(pipelines+" STARTTLS", nil, func(_ *side, at, _ string) string {
			if at == "starttls" {
				return "454 4.7.0 no TLS now"
			}
			return ""
		})
		n := &network{newHop(t, refusing), map[netip.AddrPort]time.Duration{six: time.Second}, nil}
		c := New(Config{Dial: n.dial}, twoFamilies())
		r := c.Deliver(t.Context(), claim(letter, "a@example.com"))
		c.Close()
		n.wg.Wait()
		if !r.Replies[0].Delivered() || r.Host != four.Addr() || r.TLS.None != queue.NoTLSRefused || n.dials() != 2 {
			t.Errorf("%+v, %d connections", r, n.dials())
		}
	})
}

// byDestination is a Resolver with a route, or an error, for each destination.
type byDestination map[queue.Destination]any

func (b byDestination) Route(_ context.Context, d queue.Destination) (*relay.Route, error) {
	switch r := b[d].(type) {
	case *relay.Route:
		return r, nil
	case error:
		return nil, r
	}
	return nil, errors.New("no such destination")
}

const smarthost = queue.Destination("[192.0.2.9]:587")

// What no MX takes for now goes to the fallback; what is refused for good does not.
func TestFallback(t *testing.T) {
	refuse := func(state, answer string) script {
		return server(pipelines, nil, func(_ *side, at, _ string) string {
			if at == state || state == "ehlo" && at == "helo" {
				return answer
			}
			return ""
		})
	}
	good := server(pipelines, nil, nil)
	mx := hops(2).route
	mx.Fallback = smarthost
	last := &relay.Route{Hops: []relay.Hop{{Name: "192.0.2.9", Addr: netip.MustParseAddrPort("192.0.2.9:587")}}}
	tests := []struct {
		name    string
		first   any // the domain's route
		scripts []script
		code    int
		dials   int
	}{
		{"it is not needed", mx, []script{good}, 250, 1},
		{"421 at all", mx, []script{refuse("greeting", "421 no"), refuse("ehlo", "421 no"), good}, 250, 3},
		{"4yz to MAIL", mx, []script{refuse("mail", "451 no"), refuse("mail", "451 no"), good}, 250, 3},
		{"5yz to MAIL", mx, []script{refuse("mail", "550 no"), good}, 550, 1},
		{"4yz to RCPT", mx, []script{refuse("rcpt", "450 greylisted"), good}, 450, 1},
		{"521 at all", mx, []script{refuse("greeting", "521 no"), refuse("greeting", "521 no"), good}, 521, 2},
		{"no answer to the dot", mx, []script{refuse("end", "-"), good}, 0, 1},
		{"the DNS is silent", &relay.RouteError{Cause: queue.CauseDNSTemporary, Fallback: smarthost}, []script{good}, 250, 1},
		{"no such domain", &relay.RouteError{Cause: queue.CauseNoSuchDomain}, []script{good}, 0, 0},
		{"no fallback", hops(2).route, []script{refuse("greeting", "421 no")}, 421, 2},
		{"neither", mx, []script{refuse("greeting", "421 no")}, 421, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHop(t, test.scripts...)
				c := New(Config{Dial: h.dial}, byDestination{dest: test.first, smarthost: last})
				r := c.Deliver(t.Context(), claim(letter, "a@example.com"))
				if r.Replies[0].Code != test.code || h.dials() != test.dials {
					t.Errorf("%d connections: %+v", h.dials(), r.Replies[0])
				}
				for _, kept := range c.pool.idle[dest] {
					if kept.hop.Name == last.Hops[0].Name {
						t.Error("a connection to the fallback is kept as one to the domain")
					}
				}
				c.Close()
				h.wg.Wait()
			})
		})
	}
}
