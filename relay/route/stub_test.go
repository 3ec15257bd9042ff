package route

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var _ Resolver = (*Stub)(nil)

func addrText(a AddrAnswer) string {
	var s []string
	for _, ip := range slices.Concat(a.V4, a.V6) {
		s = append(s, ip.String())
	}
	slices.Sort(s)
	return strings.Join(s, " ")
}

func TestStubAddrs(t *testing.T) {
	server := newDNSServer(t,
		"both.example. 60 IN A 192.0.2.1", "both.example. 60 IN A 192.0.2.2", "both.example. 60 IN AAAA 2001:db8::1",
		"four.example. 60 IN A 192.0.2.1",
		"text.example. 60 IN TXT x",
		"alias.example. 30 IN CNAME Second.Example.", "second.example. 60 IN CNAME both.example.",
		"dangling.example. 60 IN CNAME no.such.example.",
		"loop.example. 60 IN CNAME loop2.example.", "loop2.example. 60 IN CNAME loop.example.",
		"open.example. 60 IN CNAME elsewhere.example.", "elsewhere.example. 60 IN A 192.0.2.9",
		"truncated.example. 60 IN A 192.0.2.3",
		"strayid.example. 60 IN A 192.0.2.4",
		"strayname.example. 60 IN A 192.0.2.5",
		"flood.example. 60 IN A 192.0.2.6",
		"noedns.example. 60 IN A 192.0.2.7",
	)
	tests := []struct {
		host, want, name string
		err              error
	}{
		{"both.example", "192.0.2.1 192.0.2.2 2001:db8::1", "both.example", nil},
		{"four.example", "192.0.2.1", "four.example", nil},
		{"text.example", "", "text.example", nil},
		{"alias.example", "192.0.2.1 192.0.2.2 2001:db8::1", "both.example", nil},
		{"open.example", "192.0.2.9", "elsewhere.example", nil},
		{"truncated.example", "192.0.2.3", "truncated.example", nil},
		{"strayid.example", "192.0.2.4", "strayid.example", nil},
		{"strayname.example", "192.0.2.5", "strayname.example", nil},
		{"flood.example", "192.0.2.6", "flood.example", nil},
		{"noedns.example", "192.0.2.7", "noedns.example", nil},
		{"no.such.example", "", "", ErrNoSuchName},
		{"dangling.example", "", "", ErrNoSuchName},
		{"loop.example", "", "", errChain},
		{"servfail.example", "", "", errServFail},
		{"refused.example", "", "", errServFail},
		{"silent.example", "", "", errServers},
		{"garbage.example", "", "", errServers},
	}
	for _, tc := range tests {
		t.Run(tc.host, func(t *testing.T) {
			s := stubFor(server.addr)
			if tc.err == errServers { // no answer comes
				s.conf.fixed.timeout = 200 * time.Millisecond
			}
			got, err := s.Addrs(t.Context(), tc.host)
			if !errors.Is(err, tc.err) || addrText(got) != tc.want || got.Name != tc.name {
				t.Errorf("got %q of %q, %v; want %q of %q, %v", addrText(got), got.Name, err, tc.want, tc.name, tc.err)
			}
		})
	}
}

func TestStubMX(t *testing.T) {
	records := []string{
		"domain.example. 60 IN MX 20 B.domain.example.", "domain.example. 60 IN MX 10 a.domain.example.",
		"null.example. 60 IN MX 0 .",
		"none.example. 60 IN A 192.0.2.1",
		"alias.example. 60 IN CNAME domain.example.",
		"odd.example. 60 IN MX 0 bad\\046name.example.",
	}
	for i := range 200 {
		records = append(records, fmt.Sprintf("truncated.example. 60 IN MX %d mx%d.example.", 1000-i, i))
	}
	server := newDNSServer(t, records...)
	s := stubFor(server.addr)
	tests := []struct {
		domain string
		want   []MX
	}{
		{"domain.example", []MX{{"a.domain.example", 10}, {"b.domain.example", 20}}},
		{"alias.example", []MX{{"a.domain.example", 10}, {"b.domain.example", 20}}},
		{"null.example", []MX{{".", 0}}},
		{"none.example", nil},
		{"odd.example", []MX{{"bad\\.name.example", 0}}},
	}
	for _, tc := range tests {
		got, err := s.MX(t.Context(), tc.domain)
		if err != nil || !slices.Equal(got.Hosts, tc.want) {
			t.Errorf("%s: %v, %v; want %v", tc.domain, got.Hosts, err, tc.want)
		}
	}
	got, err := s.MX(t.Context(), "truncated.example")
	if err != nil || len(got.Hosts) != keepMX || got.Hosts[0] != (MX{"mx199.example", 801}) {
		t.Errorf("of many: %v, %v", got.Hosts, err)
	}
	if isDomain("bad\\.name.example") {
		t.Error("a label with a dot in it is taken for a host name")
	}
}

// TestStubQuery checks what is asked: flags, size, and a random ID.
func TestStubQuery(t *testing.T) {
	server := newDNSServer(t, "both.example. 60 IN A 192.0.2.1")
	ids := make(map[uint16]bool)
	for range 20 {
		if _, err := stubFor(server.addr).Addrs(t.Context(), "both.example"); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range server.queries() {
		ids[q.Id] = true
		opt := q.IsEdns0()
		if !q.RecursionDesired || !q.AuthenticatedData || opt == nil || opt.UDPSize() != udpSize || !opt.Do() {
			t.Fatalf("query %v", q)
		}
	}
	if len(ids) < 35 {
		t.Errorf("40 queries have %d IDs", len(ids))
	}
}

// TestStubAuthentic checks whose AD bit counts.
func TestStubAuthentic(t *testing.T) {
	server := newDNSServer(t, "both.example. 60 IN A 192.0.2.1", "both.example. 60 IN AAAA 2001:db8::1", "domain.example. 60 IN MX 0 both.example.")
	remote := netip.MustParseAddrPort("192.0.2.53:53")
	for _, test := range []struct {
		conf    StubConfig
		text    string
		server  netip.AddrPort
		trusted bool
	}{
		{StubConfig{}, "nameserver 127.0.0.1", server.addr, true},
		{StubConfig{}, "nameserver 192.0.2.53", remote, false},
		{StubConfig{}, "nameserver 192.0.2.53\noptions trust-ad", remote, true},
		{StubConfig{Servers: []netip.AddrPort{remote}}, "", remote, false},
		{StubConfig{Servers: []netip.AddrPort{remote}, Trusted: []netip.AddrPort{remote}}, "", remote, true},
		{StubConfig{Trusted: []netip.AddrPort{remote}}, "nameserver 192.0.2.53", remote, true},
	} {
		conf := newResolvConf(test.conf)
		use := conf.fixed
		if use == nil {
			use = parseResolvConf(test.text)
		}
		conf.fixed = use
		if stub := (&Stub{conf: conf}); conf.trusts(use, test.server) != test.trusted || stub.Trusted() != test.trusted {
			t.Errorf("%+v: want %v", test, test.trusted)
		}
	}
	for _, ad := range []bool{true, false} {
		server.authentic(ad)
		s := stubFor(server.addr)
		addrs, err := s.Addrs(t.Context(), "both.example")
		if err != nil || addrs.Authentic != ad {
			t.Errorf("AD %v: addresses %v, %v", ad, addrs.Authentic, err)
		}
		mx, err := s.MX(t.Context(), "domain.example")
		if err != nil || mx.Authentic != ad {
			t.Errorf("AD %v: MX %v, %v", ad, mx.Authentic, err)
		}
	}
}

// TestStubServers checks that a server that is silent or fails is stepped over,
// and that a silent one is not asked first for a while.
func TestStubServers(t *testing.T) {
	good := newDNSServer(t, "a.example. 60 IN MX 0 mx.example.", "b.example. 60 IN MX 0 mx.example.", "servfail.example. 60 IN MX 0 mx.example.")
	silent, asked := newSilentServer(t)
	s := stubFor(silent, good.addr)
	s.conf.fixed.timeout = time.Second
	if got, err := s.MX(t.Context(), "a.example"); err != nil || len(got.Hosts) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	before := asked()
	if got, err := s.MX(t.Context(), "b.example"); err != nil || len(got.Hosts) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if again := asked(); before == 0 || again != 0 {
		t.Errorf("the silent server was asked %d times, and %d times more after that", before, again)
	}
	// SERVFAIL of one server is not the last word.
	other := newDNSServer(t)
	if _, err := stubFor(other.addr, good.addr).MX(t.Context(), "servfail.example"); !errors.Is(err, errServFail) {
		t.Errorf("both fail: %v", err)
	}
	if udp, _ := other.counts(); udp != 2 {
		t.Errorf("the first server was asked %d times, want once a round", udp)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a port where nothing listens for UDP
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	closed := netip.MustParseAddrPort(ln.Addr().String())
	start := time.Now()
	if _, err := stubFor(closed).MX(t.Context(), "a.example"); !errors.Is(err, errServers) {
		t.Errorf("no server: %v", err)
	}
	if took := time.Since(start); took >= time.Minute {
		t.Errorf("a closed port was noticed after %v", took)
	}
}

// newSilentServer takes queries and never answers. The returned function tells how many came.
func newSilentServer(t *testing.T) (addr netip.AddrPort, asked func() int) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc.LocalAddr().(*net.UDPAddr).AddrPort(), func() int {
		t.Helper()
		// A last packet comes behind those that came before.
		if _, err := pc.WriteTo([]byte("last"), pc.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		for n := 0; ; n++ {
			size, _, err := pc.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			if string(buf[:size]) == "last" {
				return n
			}
		}
	}
}

func TestStubCancelled(t *testing.T) {
	server := newDNSServer(t)
	s := stubFor(server.addr)
	s.conf.fixed.timeout = time.Minute
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	done := make(chan error, 1)
	go func() {
		_, err := s.MX(ctx, "silent.example")
		done <- err
	}()
	<-server.arrived
	cancel(stop)
	if err := <-done; !errors.Is(err, stop) {
		t.Errorf("got %v, want %v", err, stop)
	}
	if len(s.cache.entries) != 0 {
		t.Error("what the caller gave up on is kept as an answer")
	}
}

// TestRouteOverDNS goes the whole way from a domain to its hops.
func TestRouteOverDNS(t *testing.T) {
	server := newDNSServer(t, "domain.example. 60 IN MX 10 mx.example.", "mx.example. 60 IN A 192.0.2.1", "mx.example. 60 IN AAAA 2001:db8::1")
	c := testConfig(nil)
	c.Resolver = stubFor(server.addr)
	r := New(c)
	for range 3 {
		route, err := r.Route(t.Context(), r.Destination("secret.person@Domain.Example"))
		if err != nil {
			t.Fatal(err)
		}
		if got := hopText(route.Hops); got != "mx.example=[2001:db8::1]:25 mx.example=192.0.2.1:25" {
			t.Fatal(got)
		}
	}
	if udp, _ := server.counts(); udp != 3 {
		t.Errorf("3 routes took %d queries, want 3", udp)
	}
	for _, q := range server.queries() {
		if strings.Contains(q.String(), "secret") {
			t.Errorf("a local part reached the DNS: %v", q)
		}
	}
}

// FuzzUnpack holds the reader of answers against any octets from the network.
func FuzzUnpack(f *testing.F) {
	q := query(question{"domain.example", dns.TypeMX})
	q.Id = 1
	m := (&dns.Msg{}).SetReply(q)
	for _, r := range []string{"domain.example. 60 IN CNAME other.example.", "other.example. 60 IN MX 10 mx.example.", "other.example. 60 IN A 192.0.2.1"} {
		rr, err := dns.NewRR(r)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	packed, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed, dns.TypeMX)
	f.Add(packed[:20], dns.TypeA)
	f.Fuzz(func(t *testing.T, b []byte, qtype uint16) {
		msg, err := unpack(b, q)
		if err != nil {
			return
		}
		e := &entry{Answer: Answer{Name: "domain.example", TTL: maxTTL}}
		e.take(msg, qtype)
		if len(e.mx) > keepMX || len(e.addrs) > keepAddrs || e.TTL > maxTTL || e.TTL < 0 {
			t.Fatalf("%+v", e)
		}
	})
}
