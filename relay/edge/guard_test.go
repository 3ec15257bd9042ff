package edge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// zones answers for lists: by zone, the clients and domains that are on it.
type zones map[string]string

func (z zones) ask(ctx context.Context, zone, what string) (bool, error) {
	if z[zone] == "never" {
		<-ctx.Done()
		return false, ctx.Err()
	}
	return slices.Contains(strings.Fields(z[zone]), what), nil
}

func (z zones) Client(ctx context.Context, zone string, client netip.Addr) (bool, error) {
	return z.ask(ctx, zone, client.Unmap().String())
}

func (z zones) Sender(ctx context.Context, zone string, domain queue.Domain) (bool, error) {
	return z.ask(ctx, zone, string(domain))
}

func verdict(err error) string {
	if r, ok := errors.AsType[*relay.Rejection](err); ok {
		return fmt.Sprintf("%d/%d", r.Code, r.Ground)
	}
	return ""
}

var (
	client = netip.MustParseAddr("203.0.113.7")
	listed = fmt.Sprintf("554/%d", relay.GroundListed)
)

func TestLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{AddressLists: []string{"ip.test", "slow.test"}, DomainLists: []string{"dom.test"}, Lists: zones{
			"ip.test": "203.0.113.7 2001:db8::7", "slow.test": "never", "dom.test": "bad.example",
		}})
		for _, c := range []struct {
			client, from, want string
		}{
			{"203.0.113.7", "a@good.example", listed}, {"::ffff:203.0.113.7", "a@good.example", listed}, {"2001:db8::7", "", listed},
			{"203.0.113.8", "a@good.example", ""},
			{"203.0.113.8", "a@bad.example", listed}, {"203.0.113.8", "", ""}, {"127.0.0.1", "a@good.example", ""},
		} {
			began := time.Now()
			if got := verdict(g.Sender(t.Context(), netip.MustParseAddr(c.client), "c.example", queue.ReversePath(c.from))); got != c.want {
				t.Errorf("%s, %s: %q, want %q", c.client, c.from, got, c.want)
			}
			if took := time.Since(began); took > listsWithin {
				t.Errorf("%s: it took %s", c.client, took)
			}
		}
	})
}

func TestHelo(t *testing.T) {
	g := New(Config{Helo: true, Own: []string{"mx2.example.org", "example.org"}})
	for name, good := range map[string]bool{
		"mail.example.net": true, "Mail.Example.NET.": true, "[203.0.113.7]": true, "b\u00fccher.example": true, "my_host.example": true,
		"": false, "localhost": false, "mx2.example.org": false, "EXAMPLE.ORG": false, "203.0.113.7": false, "[203.0.113.8]": false,
		"[203.0.113.7": false, ".": false, "a b.example": false, "x!y.example": false, ".example": false,
	} {
		if got := verdict(g.Sender(t.Context(), client, name, "")) == ""; got != good {
			t.Errorf("%q: %v, want %v", name, got, good)
		}
	}
	if verdict(New(Config{}).Sender(t.Context(), client, "localhost", "")) != "" {
		t.Error("without the check a name is refused")
	}
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Connections: 6, Messages: 3})
		count := func(n int, try func() error) (taken int) {
			for range n {
				if try() == nil {
					taken++
				}
			}
			return taken
		}
		connect := func(a string) func() error { return func() error { return g.Connect(netip.MustParseAddr(a)) } }
		if n := count(20, connect("203.0.113.7")); n != 6 {
			t.Errorf("%d connections at once, want 6", n)
		}
		if n := count(4, connect("2001:db8::1")) + count(4, connect("2001:db8::2")) + count(4, connect("2001:db8:0:1::1")); n != 6+4 {
			t.Errorf("%d connections of two networks, want 10", n)
		}
		time.Sleep(30 * time.Second)
		if n := count(20, connect("203.0.113.7")); n != 3 {
			t.Errorf("%d connections half a minute later, want 3", n)
		}
		if n := count(20, func() error { return g.Sender(t.Context(), client, "x", "") }); n != 3 {
			t.Errorf("%d messages at once, want 3", n)
		}
	})
}

func TestGreylist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Greylist: 5 * time.Minute})
		try := func(from queue.ReversePath, to queue.ForwardPath, want bool) {
			t.Helper()
			if got := g.Recipient(client, from, to) == nil; got != want {
				t.Errorf("%s to %s: %v, want %v", from, to, got, want)
			}
		}
		try("a@far.example", "b@example.org", false)
		time.Sleep(time.Minute)
		try("a@far.example", "b@example.org", false)
		time.Sleep(4 * time.Minute)
		try("A@far.example", "b@example.org", true)
		try("a@far.example", "c@example.org", false)
		time.Sleep(34 * 24 * time.Hour)
		try("a@far.example", "b@example.org", true)
		try("a@far.example", "c@example.org", false) // it waited too long to come again
		time.Sleep(36 * 24 * time.Hour)
		try("a@far.example", "b@example.org", false)
	})
}

// Floods do not grow what is remembered, and cost the others little.
func TestMemoryIsBounded(t *testing.T) {
	g := New(Config{Greylist: time.Minute, Connections: 1})
	now := time.Now()
	for i := range maxTriplets + 5000 {
		g.grey.allow(client, "a", fmt.Sprint(i), now)
	}
	for i := range maxNetworks + 5000 {
		g.connections.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if len(g.grey.seen) > maxTriplets || len(g.connections.seen) > maxNetworks {
		t.Errorf("%d triplets, %d networks", len(g.grey.seen), len(g.connections.seen))
	}
}
