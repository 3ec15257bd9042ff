package route

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tacet/queue"
	"tacet/relay"
)

// fixedDNS answers from its maps; what is not in them does not exist.
type fixedDNS struct {
	mx    map[string][]MX
	addrs map[string]string
}

func (d fixedDNS) MX(_ context.Context, domain string) (MXAnswer, error) {
	hosts, ok := d.mx[domain]
	if !ok {
		return MXAnswer{}, ErrNoSuchName
	}
	return MXAnswer{Hosts: hosts}, nil
}

func (d fixedDNS) Addrs(_ context.Context, host string) (AddrAnswer, error) {
	text, ok := d.addrs[host]
	if !ok {
		return AddrAnswer{}, ErrNoSuchName
	}
	return AddrAnswer{V4: []netip.Addr{netip.MustParseAddr(text)}}, nil
}

func host(t testing.TB, s string) NextHop {
	t.Helper()
	h, err := ParseHost(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// The mail for a relay domain goes to its primary whatever DNS says, and when
// there is no way to it, it waits.
func TestRoutePrimary(t *testing.T) {
	dns := fixedDNS{
		mx: map[string][]MX{
			"good.example":     {{"mail.example", 10}, {"mail2.example", 10}, {"mx2.example", 20}, {"third.example", 30}},
			"renamed.example":  {{"mail.example", 10}, {"alias.example", 20}},
			"strange.example":  {{"third.example", 10}},
			"first.example":    {{"mx2.example", 10}, {"third.example", 20}},
			"null.example":     {{".", 0}},
			"implicit.example": {},
			"elsewhere.test":   {{"third.example", 10}},
		},
		addrs: map[string]string{
			"mail.example": "192.0.2.1", "mail2.example": "192.0.2.2", "mx2.example": "203.0.113.9", "alias.example": "203.0.113.9",
			"third.example": "198.51.100.66", "implicit.example": "198.51.100.67", "inside.example": "10.0.0.1",
		},
	}
	domains := []string{"good.example", "renamed.example", "strange.example", "first.example", "null.example", "implicit.example", "gone.example"}
	base := Config{Hostname: "mx2.example", Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.9")}, RelayDomains: domains, Resolver: dns,
		HostsFile: "/dev/null", DenySpecial: true, NextHop: nextHop(t, "[198.51.100.66]:25"), Rules: []Rule{rule(t, "*", "[198.51.100.66]:26")}}
	static := base
	static.Primary = []NextHop{host(t, "inside.example"), host(t, "mail2.example:2525"), host(t, "mx2.example")}
	only := base
	only.Primary = []NextHop{host(t, "mx2.example")}
	ruled := static
	ruled.Rules = append([]Rule{rule(t, "good.example", "[192.0.2.77]:24")}, base.Rules...)
	for _, c := range []struct {
		name   string
		config Config
		domain string
		hops   string
		cause  queue.Cause
	}{
		{"better MX only", base, "good.example", "192.0.2.1:25 192.0.2.2:25", 0},
		{"own MX by address", base, "renamed.example", "192.0.2.1:25", 0},
		{"MX without this relay", base, "strange.example", "", queue.CauseMXUnresolved},
		{"this relay is the best", base, "first.example", "", queue.CauseLocal},
		{"null MX", base, "null.example", "", queue.CauseMXUnresolved},
		{"no MX", base, "implicit.example", "", queue.CauseMXUnresolved},
		{"no domain", base, "gone.example", "", queue.CauseMXUnresolved},
		{"hosts, not MX", static, "strange.example", "10.0.0.1:25 192.0.2.2:2525", 0},
		{"hosts that are this relay", only, "good.example", "", queue.CauseLocal},
		{"a rule of the domain's own", ruled, "good.example", "192.0.2.77:24", 0},
		{"other mail is not the primary's", static, "elsewhere.test", "198.51.100.66:26", 0},
	} {
		r := New(c.config)
		got, err := r.route(t.Context(), r.Destination(queue.ForwardPath("a@"+strings.ToUpper(c.domain))))
		var hops []string
		if err == nil {
			for _, hop := range got.Hops {
				hops = append(hops, hop.Addr.String())
			}
			slices.Sort(hops)
			if got.Primary != (c.domain != "elsewhere.test") || got.Fallback != "" {
				t.Errorf("%s: primary %v, fallback %q", c.name, got.Primary, got.Fallback)
			}
		} else if err.Cause != c.cause || err.Cause.Permanent() {
			t.Errorf("%s: cause %v, want %v", c.name, err.Cause, c.cause)
		}
		if strings.Join(hops, " ") != c.hops {
			t.Errorf("%s: %v, want %s", c.name, hops, c.hops)
		}
	}
}

// All relay domains of one primary wait in one queue, which no other mail shares.
func TestPrimaryDestination(t *testing.T) {
	tls := relay.TLSRequire
	r := New(Config{Hostname: "mx2.example", RelayDomains: []string{"one.example", "b\u00fccher.example"}, PrimaryTLS: &tls,
		Primary: []NextHop{host(t, "mail.example"), host(t, "[2001:db8::1]:26")}, NextHop: nextHop(t, "[mail.example]"), TLS: tls})
	const primary queue.Destination = "[mail.example]:25,[2001:db8::1]:26"
	for to, want := range map[queue.ForwardPath]queue.Destination{
		"a@one.example": primary, "a@ONE.example.": primary, "a@B\u00dcCHER.example": primary, "a@xn--bcher-kva.example": primary,
		"a@sub.one.example": "[mail.example]:25", "a@else.example": "[mail.example]:25",
	} {
		if got := r.Destination(to); got != want {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
	if got := r.Primaries(); !slices.Equal(got, []queue.Destination{primary}) {
		t.Errorf("primaries %v", got)
	}
	single := New(Config{Hostname: "mx2.example", RelayDomains: []string{"one.example"}, Primary: []NextHop{host(t, "mail.example")}, NextHop: nextHop(t, "[mail.example]")})
	if a, b := single.Destination("a@one.example"), single.Destination("a@two.example"); a == b {
		t.Errorf("the primary shares %s with other mail", a)
	}
}

func TestParseHost(t *testing.T) {
	for text, want := range map[string]string{
		"mail.example": "[mail.example]:25", "Mail.Example.:2525": "[mail.example]:2525", "192.0.2.1": "[192.0.2.1]:25",
		"192.0.2.1:26": "[192.0.2.1]:26", "2001:db8::1": "[2001:db8::1]:25", "[2001:db8::1]:26": "[2001:db8::1]:26", "[mail.example]": "[mail.example]:25",
	} {
		if h, err := ParseHost(text); err != nil || h.String() != want {
			t.Errorf("%q: %s, %v; want %s", text, h, err, want)
		}
	}
	for _, text := range []string{"", "mail.example:", "mail.example:x", "mail.example:70000", "ma il", "[", "a@b.example", "mail.example:25:25"} {
		if h, err := ParseHost(text); err == nil {
			t.Errorf("%q was taken as %s", text, h)
		}
	}
}

// A domain is in the set in each of its forms, and no other is.
func TestDomains(t *testing.T) {
	set := NewDomains([]string{"Example.net", "b\u00fccher.example", "my_site.example", "fa\u00df.example"})
	for domain, want := range map[queue.Domain]bool{
		"example.net": true, "EXAMPLE.NET": true, "example.net.": true, "xn--bcher-kva.example": true, "B\u00dcCHER.example": true,
		"My_Site.example": true, "xn--fa-hia.example": true, "fass.example": false, "bucher.example": false, "sub.example.net": false,
		"net": false, "": false, ".": false, "[192.0.2.1]": false, "example.net..": false, "example\u3002net": true, "example.net@x": false,
	} {
		if got := set.Has(domain); got != want {
			t.Errorf("%q: %v, want %v", domain, got, want)
		}
	}
}
