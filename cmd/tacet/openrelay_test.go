package main

import (
	"fmt"
	"net"
	"net/textproto"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacet/queue"
)

// fallbackText is a fallback MX whose primary is nobody.
const fallbackText = `hostname = "mx2.example.org"
data_dir = "data"
postmaster = "postmaster@example.org"
[[listener]]
address = "127.0.0.1:0"
kind = "mx"
[relay]
domains = ["example.org", "bücher.example"]
trusted_networks = ["127.0.0.0/8"]
[primary]
hosts = ["[127.0.0.1]:1"]
`

// startFallback runs a daemon until the test ends.
func startFallback(t *testing.T, text string, with ...deps) *daemon {
	t.Helper()
	config, err := ParseConfig(filepath.Join(t.TempDir(), "tacet.toml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return runDaemon(t, config, append(with, deps{})[0])
}

// dialogue is a session, a command and the reply's first digit and more by turns.
type dialogue []string

// hold says it and compares each reply.
func (d dialogue) hold(t *testing.T, address string) {
	t.Helper()
	d.holdFrom(t, "127.0.0.1", address)
}

// holdFrom does so as the client of an address.
func (d dialogue) holdFrom(t *testing.T, client, address string) {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	raw, err := from.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(scriptPatience))
	c := textproto.NewConn(raw)
	if _, _, err := c.ReadResponse(220); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(d); i += 2 {
		if err := c.PrintfLine("%s", d[i]); err != nil {
			t.Fatal(err)
		}
		code, text, err := c.ReadResponse(0)
		if err != nil && code == 0 {
			t.Fatalf("%q: %v", d[i], err)
		}
		if got := fmt.Sprintf("%d %s", code, text); !strings.HasPrefix(got, d[i+1]) {
			t.Errorf("%q: %s, want %s", d[i], got, d[i+1])
		}
	}
}

// hello begins a session, from a client of a network that may relay elsewhere.
func hello(rest ...string) dialogue {
	return append(dialogue{"EHLO client.example", "250", "MAIL FROM:<a@far.example>", "250"}, rest...)
}

// tricks by which mail for others has been sent through relays for decades, and
// what is honest beside them.
func tricks() map[string]dialogue {
	message := []string{"DATA", "354", "Subject: x\r\n\r\nx\r\n.", "250"}
	refused := func(to string, code string) dialogue { return hello("RCPT TO:"+to, code) }
	all := map[string]dialogue{
		"taken":               hello(append([]string{"RCPT TO:<b@example.org>", "250"}, message...)...),
		"taken in capitals":   hello(append([]string{"RCPT TO:<b@EXAMPLE.ORG>", "250"}, message...)...),
		"taken as A-label":    hello(append([]string{"RCPT TO:<b@xn--bcher-kva.example>", "250"}, message...)...),
		"taken as postmaster": hello(append([]string{"RCPT TO:<Postmaster>", "250"}, message...)...),
		"taken of no one":     append(dialogue{"EHLO c.example", "250", "MAIL FROM:<>", "250", "RCPT TO:<b@example.org>", "250"}, message...),
		"taken by a route":    hello(append([]string{"RCPT TO:<@far.example:b@example.org>", "250"}, message...)...),
		"login": {"EHLO c.example", "250", "AUTH PLAIN AGEAYg==", "502", "AUTH LOGIN", "502",
			"MAIL FROM:<a@example.org> AUTH=<a@example.org>", "250", "RCPT TO:<b@far.example>", "550 5.7.1"},
		"after a refusal": hello("RCPT TO:<b@example.org>", "250", "RCPT TO:<b@far.example>", "550 5.7.1", "RSET", "250",
			"RCPT TO:<b@far.example>", "503", "MAIL FROM:<a@example.org>", "250", "RCPT TO:<b@far.example>", "550 5.7.1", "DATA", "554"),
		"after a message": hello(append(append([]string{"RCPT TO:<b@example.org>", "250"}, message...), "RCPT TO:<b@far.example>", "503",
			"DATA", "503", "MAIL FROM:<b@example.org>", "250", "RCPT TO:<b@far.example>", "550 5.7.1", "BDAT 0 LAST", "554")...),
		"after EHLO":    hello("RCPT TO:<b@example.org>", "250", "EHLO c.example", "250", "RCPT TO:<b@far.example>", "503"),
		"nested MAIL":   hello("RCPT TO:<b@example.org>", "250", "MAIL FROM:<b@example.org>", "503", "RCPT TO:<b@far.example>", "550 5.7.1"),
		"as our domain": {"HELO example.org", "250", "MAIL FROM:<postmaster@mx2.example.org>", "250", "RCPT TO:<b@far.example>", "550 5.7.1"},
		"our hostname":  refused("<b@mx2.example.org>", "550 5.7.1"),
	}
	for _, to := range []string{
		"<b@far.example>", "<b%far.example@example.org>", "<far.example!b@example.org>", `<"b@far.example"@example.org>`,
		`<"b%far.example"@example.org>`, `<"far.example!b"@example.org>`, "<b%far.example%example.org@example.org>",
		"<@example.org:b@far.example>", "<@example.org,@far.example:b@far.example>", "<b@[127.0.0.1]>", "<b@[IPv6:::1]>",
		"<b@sub.example.org>", "<b@example.organic>", "<b@far.example.>", "<b%far.example>", "<far.example!b>", "<b>",
		"<b@example.org@far.example>", "<b@far.example@example.org>", "<b@example.org.>", "<b@example。org>", "<b@exаmple.org>",
		"<b@[example.org]>", "<b@127.0.0.1>", "<b@example.org\t@far.example>", "b@far.example", "<b@far.example> <b@example.org>",
		`<"b"@far.example>`, "<postmaster@far.example>", "<@far.example>", "<>", "<b@example.org,far.example>", "<b@example.org;far.example>",
		"<b@xn--bcher-kva.example.>", "<b@EXAMPLE.ORG.>", "<b@example.org..>", "<b@.example.org>", "<b@xn--far-.example>", "<b@far.example%00@example.org>",
		`<"b\@far.example"@example.org>`, "<b@[IPv6:::ffff:127.0.0.1]>", "<b@2130706433>", "<@[127.0.0.1]:b@far.example>", "<b@example.org>@far.example>",
	} {
		all[to] = refused(to, "5")
	}
	return all
}

// An mx listener takes mail for its relay domains and for no one else, whoever asks how, and
// also from networks that may relay by submission; it offers no login and holds no password.
func TestNoOpenRelay(t *testing.T) {
	d := startFallback(t, fallbackText)
	if d.users != nil {
		t.Error("passwords are held")
	}
	taken := 0
	for name, dialogue := range tricks() {
		t.Run(name, func(t *testing.T) { dialogue.hold(t, d.address(0).String()) })
		for _, line := range dialogue {
			if line == "DATA" && !strings.HasPrefix(name, "after a r") {
				taken++
			}
		}
	}
	taken-- // the DATA behind a message fails
	found := 0
	for e, err := range d.store.List(t.Context(), queue.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		found++
		for _, r := range e.Recipients {
			if to := d.routes.Destination(r.Path); to != "[127.0.0.1]:1" {
				t.Errorf("%s waits for %s", r.Path, to)
			}
		}
	}
	if found != taken {
		t.Errorf("%d messages are queued, want %d", found, taken)
	}
}
