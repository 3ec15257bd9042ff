package route

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tacet/queue"
	"tacet/relay"
)

var _ relay.Router = (*Router)(nil)

func nextHop(t testing.TB, s string) NextHop {
	t.Helper()
	h, err := ParseNextHop(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func rule(t testing.TB, pattern, hop string) Rule {
	t.Helper()
	p, err := ParsePattern(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return Rule{Domains: p, NextHop: nextHop(t, hop)}
}

func TestDestination(t *testing.T) {
	direct := Config{Hostname: "Relay.Example.org"}
	smarthost := Config{Hostname: "relay.example.org", NextHop: nextHop(t, "smarthost.example:587")}
	routed := Config{
		Hostname: "relay.example.org",
		NextHop:  nextHop(t, "[192.0.2.9]:25"),
		Rules: []Rule{
			rule(t, "example.net", "[127.0.0.1]:2627"),
			rule(t, "Sub.Example.NET", ""),
			rule(t, "*.example.net", "[127.0.0.1]:2628"),
			rule(t, ".deep.example.net", "[127.0.0.1]:1"), // never reached: the rule before it selects more
			rule(t, "b\u00fccher.example", "[127.0.0.1]:2629"),
			rule(t, "[192.0.2.1]", "[127.0.0.1]:2630"),
			rule(t, "org", "[127.0.0.1]:2631"),
		},
	}
	all := Config{Hostname: "relay.example.org", Rules: []Rule{
		rule(t, "example.net", ""), rule(t, "*", "[127.0.0.1]:2626"), rule(t, "example.com", "[127.0.0.1]:1"),
	}}
	tests := []struct {
		conf     Config
		to, want string
	}{
		{direct, "a@example.net", "example.net"},
		{direct, "a@Example.NET", "example.net"},
		{direct, "a@example.net.", "example.net"},
		{direct, "\"x@y\"@example.net", "example.net"},
		{direct, "a@b\u00fccher.example", "xn--bcher-kva.example"},
		{direct, "a@B\u00dcCHER.example", "xn--bcher-kva.example"},
		{direct, "a@xn--bcher-kva.example", "xn--bcher-kva.example"},
		{direct, "a@XN--BCHER-KVA.EXAMPLE", "xn--bcher-kva.example"},
		{direct, "a@fa\u00df.example", "xn--fa-hia.example"},
		{direct, "a@_dmarc.Example", "_dmarc.example"},
		{direct, "a@[192.0.2.1]", "[192.0.2.1]"},
		{direct, "a@[ipv6:2001:DB8::0:1]", "[IPv6:2001:db8::1]"},
		{direct, "a@[IPv6:::ffff:192.0.2.1]", "[192.0.2.1]"},
		{direct, "Postmaster", "relay.example.org"},
		{Config{Hostname: "relay.example.org", Postmaster: "Example.Org"}, "postmaster", "example.org"},
		// No domain may stand for a next hop, nor reach the DNS.
		{direct, "a@internal.example:25", "!"},
		{direct, "a@[127.0.0.1]:2626", "!"},
		{direct, "a@[10.0.0.1]:25/2", "!"},
		{direct, "a@[::1]", "!"},
		{direct, "a@[IPv6:192.0.2.1]", "!"},
		{direct, "a@[IPv6:fe80::1%eth0]", "!"},
		{direct, "a@[fred:x]", "!"},
		{direct, "a@", "relay.example.org"},
		{direct, "a@.", "!"},
		{direct, "a@..", "!"},
		{direct, "a@exa mple.net", "!"},
		{direct, "a@exa\x00mple.net", "!"},
		{direct, "a@192.0.2.1", "!"},
		{direct, "a@-example.net", "!"},
		{direct, "a@xn--a.example", "!"},
		{direct, "a@\xff.example", "!"},
		{direct, "a@" + strings.Repeat("a", 64) + ".example", "!"},
		{direct, "a@" + strings.Repeat("\u00fc", 2000) + ".example", "!"},
		{smarthost, "a@example.net", "smarthost.example:587"},
		{smarthost, "a@exa mple.net", "smarthost.example:587"},
		{smarthost, "Postmaster", "smarthost.example:587"},
		{routed, "a@example.net", "[127.0.0.1]:2627"},
		{routed, "a@EXAMPLE.net", "[127.0.0.1]:2627"},
		{routed, "a@sub.example.net", "sub.example.net"},
		{routed, "a@other.example.net", "[127.0.0.1]:2628"},
		{routed, "a@x.deep.example.net", "[127.0.0.1]:2628"},
		{routed, "a@notexample.net", "[192.0.2.9]:25"},
		{routed, "a@B\u00dccher.example", "[127.0.0.1]:2629"},
		{routed, "a@xn--bcher-kva.example", "[127.0.0.1]:2629"},
		{routed, "a@[192.0.2.1]", "[127.0.0.1]:2630"},
		{routed, "a@[192.0.2.2]", "[192.0.2.9]:25"},
		{routed, "a@example.org", "[192.0.2.9]:25"},
		{routed, "a@bad domain", "[192.0.2.9]:25"},
		{routed, "Postmaster", "[192.0.2.9]:25"},
		{all, "a@example.net", "example.net"},
		{all, "a@example.com", "[127.0.0.1]:2626"},
		{all, "a@bad domain", "[127.0.0.1]:2626"},
	}
	for _, tc := range tests {
		r := New(tc.conf)
		for range 2 { // the second answer may be a kept one
			if got := r.Destination(queue.ForwardPath(tc.to)); string(got) != tc.want {
				t.Errorf("%q: got %q, want %q", tc.to, got, tc.want)
			}
		}
	}
}

// TestDestinationApart checks that mail for one next hop is kept apart where
// the login or the TLS policy differs, and only there.
func TestDestinationApart(t *testing.T) {
	login := func(user string) *relay.Login { return &relay.Login{User: user, Password: "p"} }
	with := func(pattern string, auth *relay.Login, tls *relay.TLSPolicy) Rule {
		r := rule(t, pattern, "smarthost.example:587")
		r.Auth, r.TLS = auth, tls
		return r
	}
	r := New(Config{Hostname: "relay.example.org", NextHop: nextHop(t, "smarthost.example:587"), Auth: login("a"), Rules: []Rule{
		with("one.example", login("a"), nil),
		with("two.example", login("b"), nil),
		with("three.example", login("a"), new(relay.TLSVerify)),
		with("four.example", login("b"), new(relay.TLSOpportunistic)),
		held(with("five.example", login("a"), nil), Holds{relay.Limits{Concurrency: 2}, 7}),
	}})
	want := map[string]string{
		"a@one.example":   "smarthost.example:587",
		"a@two.example":   "smarthost.example:587/2",
		"a@three.example": "smarthost.example:587/3",
		"a@four.example":  "smarthost.example:587/2",
		"a@five.example":  "smarthost.example:587/4",
		"a@else.example":  "smarthost.example:587",
	}
	for to, d := range want {
		if got := r.Destination(queue.ForwardPath(to)); string(got) != d {
			t.Errorf("%s: got %q, want %q", to, got, d)
		}
	}
	if four, three := r.Limits("smarthost.example:587/4"), r.Limits("smarthost.example:587/3"); four.Concurrency != 2 || three != (relay.Limits{}) {
		t.Errorf("limits: %+v, %+v", four, three)
	}
	if ch := r.choiceFor("smarthost.example:587/3"); ch.tls != relay.TLSVerify || ch.auth.User != "a" {
		t.Errorf("the third choice is %+v", ch)
	}
	if ch := r.choiceFor("other.example:25/7"); ch.hop.String() != "other.example:25" || ch.auth != nil {
		t.Errorf("a next hop of an earlier configuration is read as %+v", ch)
	}
}

func held(r Rule, h Holds) Rule {
	r.Holds = h
	return r
}

// A rule without a next hop holds each domain that it selects, by itself.
func TestLimitsOfDomains(t *testing.T) {
	c := Config{Hostname: "relay.example.org", Rules: []Rule{held(rule(t, ".slow.example", ""), Holds{relay.Limits{Every: time.Minute}, 7})}}
	c.Holds.Concurrency = 20
	r := New(c)
	for d, want := range map[queue.Destination]relay.Limits{
		"a.slow.example": {Every: time.Minute}, "slow.example": {Concurrency: 20}, "[192.0.2.1]": {Concurrency: 20}, badDomain: {Concurrency: 20},
	} {
		if got := r.Limits(d); got != want {
			t.Errorf("%s: %+v, want %+v", d, got, want)
		}
	}
}

func TestDestinationBounded(t *testing.T) {
	r := New(Config{Hostname: "relay.example.org"})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3 * cachedDomains {
				to := fmt.Sprintf("a@%d-%d.EXAMPLE", g, i)
				if got := r.Destination(queue.ForwardPath(to)); string(got) != strings.ToLower(to[2:]) {
					t.Errorf("%s: got %q", to, got)
				}
			}
		})
	}
	wg.Wait()
	if len(r.cache) > cachedDomains {
		t.Errorf("%d domains are kept, want at most %d", len(r.cache), cachedDomains)
	}
}

func TestDestinationAllocatesNothing(t *testing.T) {
	for name, conf := range benchConfigs(t) {
		r := New(conf)
		for _, to := range []queue.ForwardPath{"someone@example.net", "someone@Example.NET", "someone@sub.example.com"} {
			if n := testing.AllocsPerRun(100, func() { r.Destination(to) }); n != 0 {
				t.Errorf("%s, %s: %v allocations", name, to, n)
			}
		}
	}
}

func benchConfigs(t testing.TB) map[string]Config {
	many := Config{Hostname: "relay.example.org"}
	for i := range 1000 {
		many.Rules = append(many.Rules, rule(t, fmt.Sprintf("*.example%d.net", i), "[127.0.0.1]:2626"))
	}
	return map[string]Config{
		"direct":    {Hostname: "relay.example.org"},
		"smarthost": {Hostname: "relay.example.org", NextHop: nextHop(t, "smarthost.example:587")},
		"rules":     many,
	}
}

func BenchmarkDestination(b *testing.B) {
	for name, conf := range benchConfigs(b) {
		r := New(conf)
		for _, to := range []queue.ForwardPath{"someone@mail.example.net", "someone@Mail.Example.NET", "someone@b\u00fccher.example"} {
			b.Run(name+"/"+string(to.Domain()), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r.Destination(to)
				}
			})
		}
	}
}

func FuzzDestination(f *testing.F) {
	for _, s := range []string{"a@example.net", "a@B\u00fccher.example", "a@[192.0.2.1]", "a@[IPv6:::1]", "a@x:25", "a@[::1]:25", "Postmaster", "a@xn--bcher-kva.example", "a@!"} {
		f.Add(s)
	}
	r := New(Config{Hostname: "relay.example.org"})
	f.Fuzz(func(t *testing.T, s string) {
		d := r.Destination(queue.ForwardPath(s))
		if d != r.Destination(queue.ForwardPath(s)) {
			t.Fatalf("%q has two destinations", s)
		}
		if isNextHop(d) {
			t.Fatalf("%q goes to the next hop %q", s, d)
		}
		if d == badDomain {
			return
		}
		if again := r.Destination(queue.ForwardPath("a@" + d)); again != d {
			t.Fatalf("%q goes to %q, which goes to %q", s, d, again)
		}
		if _, ok := parseLiteral(string(d)); !ok && !isDomain(string(d)) {
			t.Fatalf("%q goes to %q", s, d)
		}
	})
}
