package route

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tacet/queue"
)

func TestStubPolicyRecords(t *testing.T) {
	server := newDNSServer(t,
		"_25._tcp.mx.example. 60 IN TLSA 3 1 1 "+strings.Repeat("ab", 32),
		"_25._tcp.mx.example. 60 IN TLSA 2 0 0 3082",
		"_26._tcp.mx.example. 60 IN CNAME _25._tcp.mx.example.",
		"_mta-sts.example. 60 IN TXT \"v=STSv1; \" \"id=1;\"",
		"_mta-sts.example. 60 IN TXT unrelated",
		"alias.example. 60 IN CNAME elsewhere.example.",
		"mx.example. 60 IN A 192.0.2.1",
	)
	s := stubFor(server.addr)
	for _, name := range []string{"_25._tcp.mx.example", "_26._tcp.mx.example"} {
		records, authentic, err := s.TLSA(t.Context(), name)
		if err != nil || !authentic || len(records) != 2 || records[0].Usable() == records[1].Usable() && len(records[0].Data) != 32 {
			t.Errorf("%s: %+v, %v, %v", name, records, authentic, err)
		}
	}
	server.authentic(false)
	for _, name := range []string{"_25._tcp.none.example", "mx.example", strings.Repeat("a.", 130) + "example"} {
		if records, authentic, err := s.TLSA(t.Context(), name); err != nil || authentic || len(records) != 0 {
			t.Errorf("%s: %+v, %v, %v", name, records, authentic, err)
		}
	}
	if _, _, err := s.TLSA(t.Context(), "servfail.example"); err == nil {
		t.Error("SERVFAIL is no error")
	}
	if txt, err := s.TXT(t.Context(), "_mta-sts.example"); err != nil || fmt.Sprint(txt) != "[v=STSv1; id=1; unrelated]" {
		t.Errorf("%q, %v", txt, err)
	}
	if txt, err := s.TXT(t.Context(), "_mta-sts.none.example"); err != nil || len(txt) != 0 {
		t.Errorf("%q, %v", txt, err)
	}
	server.authentic(true)
	if authentic, err := s.Alias(t.Context(), "alias.example"); err != nil || !authentic {
		t.Errorf("%v, %v", authentic, err)
	}
}

// A client has the name that leads back to it; one that does not is known as such.
func TestClientName(t *testing.T) {
	server := newDNSServer(t,
		"7.113.0.203.in-addr.arpa. 60 IN PTR Client.Example.", "client.example. 60 IN A 203.0.113.7",
		"8.113.0.203.in-addr.arpa. 60 IN CNAME 8.net.example.", "8.net.example. 60 IN PTR client.example.",
		"9.113.0.203.in-addr.arpa. 60 IN PTR none.example.",
		"7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR six.example.", "six.example. 60 IN AAAA 2001:db8::7",
		"1.2.0.192.in-addr.arpa. 60 IN PTR servfail.example.",
	)
	s := stubFor(server.addr)
	for _, test := range []struct {
		client, name string
		verified     bool
		fails        bool
	}{
		{"203.0.113.7", "client.example", true, false}, {"::ffff:203.0.113.7", "client.example", true, false}, {"203.0.113.8", "client.example", false, false},
		{"203.0.113.9", "none.example", false, false}, {"203.0.113.10", "", false, false}, {"2001:db8::7", "six.example", true, false}, {"192.0.2.1", "", false, true},
	} {
		name, verified, err := s.ClientName(t.Context(), netip.MustParseAddr(test.client))
		if name != test.name || verified != test.verified || (err != nil) != test.fails {
			t.Errorf("%s: %q, %v, %v", test.client, name, verified, err)
		}
	}
}

// TestRouteNames checks what a route says of its hosts' names.
func TestRouteNames(t *testing.T) {
	server := newDNSServer(t,
		"example. 60 IN MX 10 mx.example.", "mx.example. 60 IN CNAME host.example.", "host.example. 60 IN A 192.0.2.1",
		"host.example. 60 IN AAAA 2001:db8::1")
	config := testConfig(nil)
	config.Resolver = stubFor(server.addr)
	for _, test := range []struct {
		dest            queue.Destination
		ad              bool
		domain          string
		authentic, hop  bool
		name, canonical string
	}{
		{"example", true, "example", true, true, "mx.example", "host.example"},
		{"host.example", true, "host.example", true, true, "host.example", "host.example"},
		{"[host.example]:25", true, "", true, true, "host.example", "host.example"},
		{"[192.0.2.1]:25", true, "", true, false, "192.0.2.1", ""},
		{"[192.0.2.1]", true, "", true, false, "192.0.2.1", ""},
		{"example", false, "example", false, false, "mx.example", "host.example"},
		{"[host.example]:25", false, "", true, false, "host.example", "host.example"},
		{"example:587", false, "", false, false, "mx.example", "host.example"},
	} {
		server.authentic(test.ad)
		config.Resolver = stubFor(server.addr)
		route, err := New(config).Route(t.Context(), test.dest)
		if err != nil {
			t.Errorf("%s: %v", test.dest, err)
			continue
		}
		hop := route.Hops[0]
		if route.Domain != test.domain || route.Authentic != test.authentic || hop.Authentic != test.hop || hop.Name != test.name || hop.Canonical != test.canonical {
			t.Errorf("%s: %+v", test.dest, route)
		}
	}
}
