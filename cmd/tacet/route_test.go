package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// serveDNS answers from a zone on loopback, as a resolver that validates; names
// below servfail. get SERVFAIL.
func serveDNS(t *testing.T, zone string) (addr string) {
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
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(ready) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetReply(query)
		q := query.Question[0]
		reply.Answer, reply.AuthenticatedData = records[q], true
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

// TestRoute is what `tacet route` says of every kind of way.
func TestRoute(t *testing.T) {
	resolver := serveDNS(t, `
dane.example. 60 IN MX 10 mx.dane.example.
mx.dane.example. 60 IN A 127.83.21.9
_25._tcp.mx.dane.example. 60 IN TLSA 3 1 1 `+strings.Repeat("AB", 32)+`
plain.example. 60 IN MX 10 mx.plain.example.
mx.plain.example. 60 IN A 127.83.21.9
bogus.example. 60 IN MX 10 mx.servfail.
sts.example. 60 IN MX 10 mx.plain.example.
_mta-sts.sts.example. 60 IN TXT "v=STSv1; id=1;"
`)
	config := filepath.Join(t.TempDir(), "tacet.toml")
	text := fmt.Sprintf("hostname = \"relay.example.org\"\ndata_dir = %q\n[delivery]\ndeny_special_addresses = false\n[dns]\nresolvers = [%q]\n"+
		"[[delivery.route]]\ndomain = \"smart.example\"\nnext_hop = \"[127.83.21.9]:2525\"\ntls = \"verify\"\n"+
		"[[delivery.route]]\ndomain = \"clear.example\"\nnext_hop = \"[127.83.21.9]:2525\"\ntls = \"none\"\n", filepath.Dir(config), resolver)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   string
		status int
		says   []string
	}{
		{"bob@dane.example", 0, []string{"validated by DNSSEC", "10 mx.dane.example", "MTA-STS     no policy", "IN TLSA 3 1 1 ABAB", "held to     dane: "}},
		{"plain.example", 0, []string{"held to     opportunistic: ", "127.83.21.9:25"}},
		{"bob@sts.example", 0, []string{"there should be a policy, and it cannot be had: sts-policy-fetch-error", "held to     opportunistic"}},
		{"bob@bogus.example", 1, []string{"dns_temporary", "mail waits"}},
		{"bob@none.example", 1, []string{"no_such_domain", "mail fails at once"}},
		{"bob@smart.example", 0, []string{"by the config", "held to     verify"}},
		{"bob@clear.example", 0, []string{"held to     none: TLS is switched off"}},
		{"bob@smart.example --connect", 1, []string{"not connected", "connection_refused"}},
		{"", 2, nil},
	} {
		var out, errs bytes.Buffer
		status := run(t.Context(), append([]string{"route", "--config", config}, strings.Fields(test.args)...), strings.NewReader(""), &out, &errs)
		if status != test.status {
			t.Errorf("%s: status %d, want %d\n%s", test.args, status, test.status, errs.String())
		}
		for _, words := range test.says {
			if !strings.Contains(out.String(), words) {
				t.Errorf("%s: %q is missing in\n%s", test.args, words, out.String())
			}
		}
	}
	var out bytes.Buffer
	if status := run(t.Context(), []string{"route", "--json", "--config", config, "bob@dane.example"}, strings.NewReader(""), &out, &out); status != 0 {
		t.Fatal(out.String())
	}
	var way way
	if err := json.Unmarshal(out.Bytes(), &way); err != nil || len(way.Hosts) != 1 || way.Hosts[0].Wanted != "dane" || !way.DNSSEC || !way.Hosts[0].DNSSEC || len(way.Hosts[0].DANE) != 1 {
		t.Errorf("%v: %s", err, out.String())
	}
	if files, err := os.ReadDir(filepath.Dir(config)); err != nil || len(files) != 1 {
		t.Errorf("it left files behind: %v, %v", files, err)
	}
}
