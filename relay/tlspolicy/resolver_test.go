package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/tlspolicy/mtasts"
)

// world answers every question from tables, and counts them.
type world struct {
	route   relay.Route
	tlsa    map[string][]relay.TLSA
	bogus   map[string]bool // these names have no answer
	bare    map[string]bool // DNSSEC does not vouch for these
	policy  *mtasts.Policy
	failure relay.TLSFailure

	mu    sync.Mutex
	asked []string
}

func (w *world) Route(context.Context, queue.Destination) (*relay.Route, error) {
	route := w.route
	route.Hops = append([]relay.Hop(nil), route.Hops...)
	return &route, nil
}

func (w *world) ask(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, what)
}

func (w *world) TLSA(_ context.Context, name string) ([]relay.TLSA, bool, error) {
	w.ask(name)
	if w.bogus[name] {
		return nil, false, errors.New("bogus")
	}
	return w.tlsa[name], !w.bare[name], nil
}

func (w *world) Alias(_ context.Context, name string) (bool, error) {
	w.ask("alias " + name)
	if w.bogus[name] {
		return false, errors.New("bogus")
	}
	return !w.bare[name], nil
}

func (w *world) Policy(_ context.Context, domain string) (*mtasts.Policy, relay.TLSFailure) {
	w.ask("sts " + domain)
	return w.policy, w.failure
}

// hostAt is a hop by its name, the name behind its CNAME and what DNSSEC says.
func hostAt(name, canonical string, authentic bool) relay.Hop {
	return relay.Hop{Name: name, Canonical: canonical, Authentic: authentic, Addr: netip.MustParseAddrPort("192.0.2.1:25")}
}

// describe is a hold in a few words.
func describe(h *relay.Hold) string {
	if h == nil {
		return "nothing"
	}
	words := []string{[]string{"open", "testing", "sts", "dane"}[h.By]}
	if h.Require {
		words = append(words, "require")
	}
	if h.Base != "" && h.By == relay.HeldByDANE {
		words = append(words, h.Base, fmt.Sprint(len(h.TLSA)), strings.Join(h.Names, ","))
	}
	if h.Refused != queue.CauseNone {
		words = append(words, fmt.Sprint("refused:", h.Refused))
	}
	if h.Failure != 0 {
		words = append(words, fmt.Sprint("failure:", uint8(h.Failure)))
	}
	return strings.Join(words, " ")
}

func record(usage, selector, matching uint8) relay.TLSA {
	return relay.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: make([]byte, []int{40, 32, 64}[matching%3])}
}

// TestHolds is every state of the DNS and of the policy that a host may be in.
func TestHolds(t *testing.T) {
	good := []relay.TLSA{record(3, 1, 1)}
	const at, atEnd = "_25._tcp.mx.example.com", "_25._tcp.host.example.net"
	enforce := &mtasts.Policy{Mode: mtasts.ModeEnforce, MX: []string{"mx.example.com"}, MaxAge: time.Hour}
	trial := &mtasts.Policy{Mode: mtasts.ModeTesting, MX: []string{"other.example.com"}, MaxAge: time.Hour}
	foreign := &mtasts.Policy{Mode: mtasts.ModeEnforce, MX: []string{"other.example.com"}, MaxAge: time.Hour}
	set := func(names ...string) map[string]bool {
		m := make(map[string]bool)
		for _, name := range names {
			m[name] = true
		}
		return m
	}
	refusedDNS, refusedSTS := fmt.Sprint("refused:", queue.CauseDNSTemporary), fmt.Sprint("refused:", queue.CauseTLSUnverified)
	mx, alias, halfAlias := hostAt("mx.example.com", "mx.example.com", true), hostAt("mx.example.com", "host.example.net", true), hostAt("mx.example.com", "host.example.net", false)
	for _, test := range []struct {
		name    string
		hop     relay.Hop
		insec   bool // the MX records are not authentic
		tlsa    map[string][]relay.TLSA
		bogus   map[string]bool
		bare    map[string]bool
		policy  *mtasts.Policy
		failure relay.TLSFailure
		want    string
		asked   string
	}{
		{"nothing published", mx, false, nil, nil, nil, nil, 0, "nothing", at + " sts example.com"},
		{"dane", mx, false, map[string][]relay.TLSA{at: good}, nil, nil, enforce, 0, "dane mx.example.com 1 mx.example.com,example.com", at},
		{"dane, MX insecure", mx, true, map[string][]relay.TLSA{at: good}, nil, nil, nil, 0, "nothing", "sts example.com"},
		{"dane, address insecure", hostAt("mx.example.com", "mx.example.com", false), false, map[string][]relay.TLSA{at: good}, nil, nil, nil, 0, "nothing", "sts example.com"},
		{"dane, records insecure", mx, false, map[string][]relay.TLSA{at: good}, nil, set(at), enforce, 0, "sts", at + " sts example.com"},
		{"dane, bogus", mx, false, nil, set(at), nil, enforce, 0, "open " + refusedDNS + " failure:7", at},
		{"dane, unusable", mx, false, map[string][]relay.TLSA{at: {record(1, 1, 1), record(3, 2, 1)}}, nil, nil, nil, 0, "open require failure:6", at + " sts example.com"},
		{"dane, unusable, sts", mx, false, map[string][]relay.TLSA{at: {record(0, 0, 1)}}, nil, nil, enforce, 0, "sts require", at + " sts example.com"},
		{"dane, stronger digest", mx, false, map[string][]relay.TLSA{at: {record(3, 1, 1), record(3, 1, 2), record(2, 1, 1)}}, nil, nil, nil, 0, "dane mx.example.com 2 mx.example.com,example.com", at},
		{"CNAME, at its end", alias, false, map[string][]relay.TLSA{atEnd: good, at: good}, nil, nil, nil, 0, "dane host.example.net 1 host.example.net,mx.example.com,example.com", atEnd},
		{"CNAME, at its start", alias, false, map[string][]relay.TLSA{at: good}, nil, nil, nil, 0, "dane mx.example.com 1 mx.example.com,example.com", atEnd + " " + at},
		{"CNAME, bogus at its end", alias, false, map[string][]relay.TLSA{at: good}, set(atEnd), nil, nil, 0, "open " + refusedDNS + " failure:7", atEnd},
		{"CNAME into the insecure", halfAlias, false, map[string][]relay.TLSA{at: good}, nil, nil, nil, 0, "dane mx.example.com 1 mx.example.com,example.com", "alias mx.example.com " + at},
		{"CNAME all insecure", halfAlias, false, map[string][]relay.TLSA{at: good}, nil, set("mx.example.com"), nil, 0, "nothing", "alias mx.example.com sts example.com"},
		{"CNAME bogus", halfAlias, false, nil, set("mx.example.com"), nil, enforce, 0, "open " + refusedDNS + " failure:7", "alias mx.example.com"},
		{"sts", mx, true, nil, nil, nil, enforce, 0, "sts", "sts example.com"},
		{"sts, foreign host", mx, true, nil, nil, nil, foreign, 0, "sts " + refusedSTS + " failure:2", "sts example.com"},
		{"sts testing, foreign host", mx, true, nil, nil, nil, trial, 0, "testing failure:2", "sts example.com"},
		{"sts none", mx, true, nil, nil, nil, &mtasts.Policy{}, 0, "nothing", "sts example.com"},
		{"sts not fetched", mx, true, nil, nil, nil, nil, relay.FailedSTSFetch, "open failure:8", "sts example.com"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &world{
				route: relay.Route{Hops: []relay.Hop{test.hop, test.hop}, Domain: "example.com", Authentic: !test.insec},
				tlsa:  test.tlsa, bogus: test.bogus, bare: test.bare, policy: test.policy, failure: test.failure,
			}
			route, err := New(w, w, w).Route(t.Context(), "example.com")
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(route.Hops[0].Hold); got != test.want || describe(route.Hops[1].Hold) != got {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if got := strings.Join(w.asked, " "); got != test.asked {
				t.Errorf("asked %s\nwant  %s", got, test.asked)
			}
		})
	}
}

// TestCostsNothing checks that nothing is asked for next hops that are addresses,
// or that use no TLS.
func TestCostsNothing(t *testing.T) {
	for _, route := range []relay.Route{
		{Hops: []relay.Hop{{Name: "127.0.0.1", Addr: netip.MustParseAddrPort("127.0.0.1:25")}}, Authentic: true},
		{Hops: []relay.Hop{hostAt("mx.example.com", "mx.example.com", true)}, Domain: "example.com", Authentic: true, TLS: relay.TLSNone},
	} {
		w := &world{route: route}
		if got, err := New(w, w, w).Route(t.Context(), "x"); err != nil || got.Hops[0].Hold != nil || len(w.asked) != 0 {
			t.Errorf("%+v: %+v, %v; asked %q", route, got, err, w.asked)
		}
	}
	w := &world{route: relay.Route{Hops: []relay.Hop{hostAt("smart.example", "smart.example", true)}, Authentic: true}}
	if _, err := New(w, w, w).Route(t.Context(), "[smart.example]:25"); err != nil || strings.Join(w.asked, " ") != "_25._tcp.smart.example" {
		t.Errorf("%v: a smarthost's name is asked for DANE alone, not %q", err, w.asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New(w, w, w).Route(ctx, "[smart.example]:25")
	if fault, ok := errors.AsType[*relay.RouteError](err); !ok || fault.Cause != queue.CauseShutdown {
		t.Errorf("after the end: %v", err)
	}
}
