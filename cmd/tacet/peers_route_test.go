package main_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// newDNS serves a zone on loopback; what is not in it does not exist, and
// names below servfail. get SERVFAIL.
func newDNS(t *testing.T, zone string) (addr string) {
	t.Helper()
	return newDNSAt(t, "127.0.0.1", zone)
}

func newDNSAt(t *testing.T, ip, zone string) (addr string) {
	t.Helper()
	records := map[dns.Question][]dns.RR{}
	names := map[string]bool{}
	parser := dns.NewZoneParser(strings.NewReader(zone), "", "")
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		h := rr.Header()
		q := dns.Question{Name: h.Name, Qtype: h.Rrtype, Qclass: h.Class}
		records[q] = append(records[q], rr)
		names[h.Name] = true
	}
	if err := parser.Err(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(ready) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetReply(query)
		q := query.Question[0]
		q.Name = strings.ToLower(q.Name)
		reply.Answer = records[q]
		switch {
		case strings.HasSuffix(q.Name, ".servfail."):
			reply.Rcode = dns.RcodeServerFailure
		case !names[q.Name]:
			reply.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(reply)
	})}
	go server.ActivateAndServe()
	<-ready
	t.Cleanup(func() { server.Shutdown() })
	return conn.LocalAddr().String()
}

// mx: next hops come from the DNS. Hosts are tried in the order of their
// preference, and each way in which a domain takes no mail has its reason.
func (p *peers) mx(t *testing.T) {
	next := newSink(t, func(s *sink) { s.addr = own(7) + ":25" })
	resolver := newDNS(t, `
two.example. 60 IN MX 20 good.example.
two.example. 60 IN MX 10 down.example.
good.example. 60 IN A `+own(7)+`
down.example. 60 IN A `+own(8)+`
implicit.example. 60 IN A `+own(7)+`
null.example. 60 IN MX 0 .
nothing.example. 60 IN TXT "no host"
dangling.example. 60 IN MX 10 gone.example.
self.example. 60 IN MX 10 relay.example.org.
relay.example.org. 60 IN A 127.0.0.1
xn--mller-kva.example. 60 IN MX 10 good.example.
`)
	for _, deny := range []bool{false, true} {
		t.Run(fmt.Sprintf("deny_special_addresses=%v", deny), func(t *testing.T) {
			d := p.daemon(t, trustLoopback+fmt.Sprintf("[delivery]\ndeny_special_addresses = %v\n[dns]\nresolvers = [%q]\n", deny, resolver))
			cases := []struct{ domain, event, reason string }{
				{"null.example", "failed", "null_mx"},
				{"nothing.example", "failed", "no_mx"},
				{"unknown.example", "failed", "no_such_domain"},
				{"broken.servfail", "deferred", "dns_temporary"},
				{"self.example", "failed", "loops_back"},
				{"dangling.example", "deferred", "mx_unresolved"},
			}
			if deny {
				cases = append(cases, []struct{ domain, event, reason string }{{"two.example", "failed", "address_forbidden"}, {"implicit.example", "failed", "address_forbidden"}, {"[" + own(7) + "]", "failed", "address_forbidden"}}...)
			} else {
				cases = append(cases, []struct{ domain, event, reason string }{{"two.example", "delivered", ""}, {"TWO.example", "delivered", ""}, {"implicit.example", "delivered", ""}, {"xn--mller-kva.example", "delivered", ""}, {"[" + own(7) + "]", "delivered", ""}}...)
			}
			for _, c := range cases {
				if err := submitOne(d.starttls, numbered(1, 3000), "anna@null.example", "bob@"+c.domain); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range cases {
				r := d.settled("bob@" + c.domain)
				if r.Status.Event != c.event || r.Status.Reason != c.reason {
					t.Errorf("want %s, reason %q; the log says\n%s", c.event, c.reason, r.line)
				}
				if c.event == "delivered" && r.NextHost != own(7) || c.event == "failed" && r.NextHost != "" {
					t.Errorf("the log says %s", r.line)
				}
			}
		})
	}
	if n := len(next.mail.all()); n != 5 {
		t.Errorf("%d messages arrived, want 5", n)
	}
}

// fallback: what no MX takes for now goes to the fallback, and nothing else does.
func (p *peers) fallback(t *testing.T) {
	second := newSink(t)
	greylisting := newSink(t, func(s *sink) { s.addr = own(11) + ":25" })
	greylisting.answer(always("RCPT", "450 4.7.1 greylisted"))
	busy := newSink(t, func(s *sink) { s.addr = own(12) + ":25" })
	busy.answer(always("CONNECT", "421 4.3.2 not now"))
	resolver := newDNS(t, `
down.example. 60 IN MX 10 host.down.example.
host.down.example. 60 IN A `+own(13)+`
busy.example. 60 IN A `+own(12)+`
grey.example. 60 IN A `+own(11)+`
null.example. 60 IN MX 0 .
`)
	d := p.daemon(t, trustLoopback+fmt.Sprintf("[delivery]\ndeny_special_addresses = false\nfallback = %q\n[dns]\nresolvers = [%q]\n", hop(second.addr), resolver))
	cases := []struct{ domain, event, reason string }{
		{"down.example", "delivered", ""}, {"busy.example", "delivered", ""}, {"slow.servfail", "delivered", ""},
		{"grey.example", "deferred", "greylisted"}, {"null.example", "failed", "null_mx"}, {"gone.example", "failed", "no_such_domain"},
	}
	for n, c := range cases {
		if err := submitOne(d.starttls, numbered(n, 3000), "anna@null.example", "bob@"+c.domain); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range cases {
		r := d.settled("bob@" + c.domain)
		if r.Status.Event != c.event || r.Status.Reason != c.reason || c.event == "delivered" && r.NextHost != "127.0.0.1" {
			t.Errorf("want %s, reason %q; the log says\n%s", c.event, c.reason, r.line)
		}
	}
	if n := len(second.mail.all()); n != 3 {
		t.Errorf("the fallback got %d messages, want 3", n)
	}
}

// limits: a next hop gets no more at a time than its route says.
func (p *peers) limits(t *testing.T) {
	const messages = 16
	slow := newSink(t)
	var mu sync.Mutex
	sessions, now, most := 0, 0, 0
	slow.answer(func(verb, _ string) string {
		mu.Lock()
		defer mu.Unlock()
		switch verb {
		case "CONNECT":
			sessions++
		case "MAIL":
			now++
			most = max(most, now)
		case ".": // asked before the message is taken, and again before that is said
			now = 0
		}
		return ""
	})
	d := p.daemon(t, trustLoopback+fmt.Sprintf("[[delivery.route]]\ndomain = \"slow.example\"\nnext_hop = %q\nrate = \"5/s\"\nmessages_per_connection = 2\nconcurrency = 1\n", hop(slow.addr)))
	begun := time.Now()
	for n := range messages {
		if err := submitOne(d.starttls, numbered(n, 3000), "anna@example.org", "bob@slow.example"); err != nil {
			t.Fatal(err)
		}
	}
	all := slow.mail.until(t, "the messages", func(got []message) bool { return len(got) == messages })
	// Whatever is late makes it longer; without the limit it is all over in some milliseconds.
	if took := all[messages-1].taken.Sub(begun); took < (messages-1)*200*time.Millisecond*19/20 {
		t.Errorf("%d messages within %v at 5 a second", messages, took)
	}
	mu.Lock()
	defer mu.Unlock()
	if sessions != messages/2 || most > 1 {
		t.Errorf("%d connections, %d messages at a time", sessions, most)
	}
}

// tlsPolicy: every policy towards next hops with every kind of TLS.
func (p *peers) tlsPolicy(t *testing.T) {
	stranger := newIdentity(t, workDir(t))
	plain := newSink(t)
	trusted := newSink(t, withTLS(p.cert))
	untrusted := newSink(t, withTLS(stranger))
	broken := newSink(t, func(s *sink) {
		s.tls = &tls.Config{Certificates: []tls.Certificate{stranger.pair}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
	})
	refuses := newSink(t, withTLS(p.cert))
	refuses.answer(always("STARTTLS", "454 4.7.0 not now"))
	cases := []struct {
		name, policy            string
		sink                    *sink
		event, reason           string
		version, verified, none string
	}{
		{"may-plain", "opportunistic", plain, "delivered", "", "", "", "not_offered"},
		{"may-trusted", "opportunistic", trusted, "delivered", "", "1.3", "pkix", ""},
		{"may-untrusted", "opportunistic", untrusted, "delivered", "", "1.3", "no", ""},
		{"may-broken", "opportunistic", broken, "delivered", "", "", "", "handshake_failed"},
		{"may-refuses", "opportunistic", refuses, "delivered", "", "", "", "refused"},
		{"must-plain", "require", plain, "deferred", "tls_required", "", "", ""},
		{"must-untrusted", "require", untrusted, "delivered", "", "1.3", "no", ""},
		{"must-broken", "require", broken, "deferred", "tls_handshake", "", "", ""},
		{"must-refuses", "require", refuses, "deferred", "", "", "", ""},
		{"verify-plain", "verify", plain, "deferred", "tls_required", "", "", ""},
		{"verify-trusted", "verify", trusted, "delivered", "", "1.3", "pkix", ""},
		{"verify-untrusted", "verify", untrusted, "deferred", "tls_unverified", "", "", ""},
		{"never-trusted", "none", trusted, "delivered", "", "", "", "off"},
	}
	var config strings.Builder
	config.WriteString(trustLoopback)
	for _, c := range cases {
		fmt.Fprintf(&config, "[[delivery.route]]\ndomain = \"%s.example\"\nnext_hop = \"localhost:%s\"\ntls = %q\n", c.name, portOf(t, c.sink.addr), c.policy)
	}
	d := p.newDaemon(t, config.String())
	d.env = []string{"SSL_CERT_FILE=" + p.cert.cert}
	d.start()
	for n, c := range cases {
		if err := submitOne(d.starttls, numbered(n, 3000), "anna@example.org", "bob@"+c.name+".example"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range cases {
		r := d.settled("bob@" + c.name + ".example")
		if r.Status.Event == "deferred" && c.event == "delivered" { // the handshake failed before
			d.retryAll()
			r = d.outcome("delivered", "bob@"+c.name+".example")
		}
		var got tlsState
		if r.TLS.Out != nil {
			got = *r.TLS.Out
		}
		if r.Status.Event != c.event || c.reason != "" && r.Status.Reason != c.reason ||
			c.event == "delivered" && (got.Version != c.version || got.Verified != c.verified || got.None != c.none) {
			t.Errorf("%s: want %s, reason %q, TLS %q %q %q; the log says\n%s", c.name, c.event, c.reason, c.version, c.verified, c.none, r.line)
		}
	}
}
