package inbound_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"strings"
	"testing"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestAuth(t *testing.T) {
	const ok, wrong, bad = "235 2.7.0", "535 5.7.8", "501 5.5.2"
	for _, test := range []struct{ name, say, want string }{
		{"PLAIN", "AUTH PLAIN " + encode("\x00alice\x00secret"), ok},
		{"PLAIN, lower case", "auth plain " + encode("\x00alice\x00secret"), ok},
		{"PLAIN for oneself", "AUTH PLAIN " + encode("alice\x00alice\x00secret"), ok},
		{"PLAIN in two steps", "AUTH PLAIN\n" + encode("\x00alice\x00secret"), "334 \n" + ok},
		{"LOGIN", "AUTH LOGIN\n" + encode("alice") + "\n" + encode("secret"), "334 VXNlcm5hbWU6\n334 UGFzc3dvcmQ6\n" + ok},
		{"LOGIN with name", "AUTH LOGIN " + encode("alice") + "\n" + encode("secret"), "334 UGFzc3dvcmQ6\n" + ok},
		{"PLAIN for another", "AUTH PLAIN " + encode("bob\x00alice\x00secret"), wrong},
		{"wrong password", "AUTH PLAIN " + encode("\x00alice\x00guess"), wrong},
		{"unknown user", "AUTH PLAIN " + encode("\x00nobody\x00guess"), wrong},
		{"no user", "AUTH PLAIN " + encode("\x00\x00secret"), wrong},
		{"LOGIN, wrong", "AUTH LOGIN " + encode("alice") + "\n" + encode("guess"), "334\n" + wrong},
		{"LOGIN, empty", "AUTH LOGIN\n\n", "334\n334\n" + wrong},
		{"no NUL", "AUTH PLAIN " + encode("alice"), bad},
		{"three NULs", "AUTH PLAIN " + encode("\x00alice\x00secret\x00"), bad},
		{"empty response", "AUTH PLAIN =", bad},
		{"not base64", "AUTH PLAIN !!!!", bad},
		{"base64 cut", "AUTH PLAIN " + encode("\x00alice\x00secret")[:7], bad},
		{"base64 with more behind", "AUTH PLAIN AGEAYg==AAAA", bad},
		{"step is not base64", "AUTH PLAIN\n????", "334\n" + bad},
		{"cancelled", "AUTH LOGIN\n*", "334\n501 5.7.0"},
		{"unknown mechanism", "AUTH CRAM-MD5", "504 5.5.4"},
		{"no mechanism", "AUTH", "501 5.5.4"},
		{"long response", "AUTH PLAIN " + encode("\x00alice\x00"+strings.Repeat("x", 9000)), wrong},
		{"long step", "AUTH LOGIN\n" + encode("alice") + "\n" + encode(strings.Repeat("x", 9000)), "334\n334\n" + wrong},
		{"too long", "AUTH PLAIN " + encode(strings.Repeat("x", 9300)), "500 5.5.2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, withTLS)
			p, _ := w.secure(false)
			wants := strings.Split(test.want, "\n")
			for i, line := range strings.Split(test.say, "\n") {
				if i < len(wants) {
					p.ask(line, wants[i])
				}
			}
			if strings.HasSuffix(test.want, "500 5.5.2") {
				p.expectEnd()
				return
			}
			if wants[len(wants)-1] != ok {
				p.ask("NOOP", "250")
				return
			}
			p.ask("AUTH PLAIN", "503 5.5.1")
			p.ask("RSET", "250")
			p.ask("EHLO again", "250")
			p.ask("MAIL FROM:<s@example.org>", "250")
			p.ask("AUTH PLAIN", "503 5.5.1")
			p.ask("RCPT TO:<r@example.net>", "250")
			p.ask("DATA", "354")
			p.ask(".", "250")
			m := w.relay.taken()[0]
			if o := m.envelope.Origin; o.User != "alice" || o.TLS.Version != tls.VersionTLS13 || o.TLS.Cipher == 0 || o.TLS.None != 0 {
				t.Errorf("origin is %+v", o)
			}
			if m.with != "ESMTPSA" {
				t.Errorf("with is %s", m.with)
			}
		})
	}
}

func TestAuthWithinTransaction(t *testing.T) {
	w := start(t, withTLS)
	p, _ := w.secure(false)
	p.ask("MAIL FROM:<s@example.org>", "250")
	p.ask("AUTH PLAIN "+encode("\x00alice\x00secret"), "503 5.5.1")
	p.ask("RCPT TO:<r@example.net>", "250")
	p.ask("DATA", "354")
	p.ask(".", "250")
	if taken := w.relay.taken(); len(taken) != 1 || taken[0].envelope.Origin.User != "" {
		t.Errorf("%+v were taken, want the one message, of nobody's", taken)
	}
}

func TestAuthFailures(t *testing.T) {
	w := start(t, withTLS)
	p, _ := w.secure(false)
	p.ask("AUTH PLAIN "+encode("\x00alice\x00one"), "535 5.7.8")
	p.ask("AUTH LOGIN "+encode("nobody"), "334")
	p.ask(encode("two"), "535 5.7.8")
	p.send("AUTH PLAIN " + encode("\x00alice\x00three") + "\r\nAUTH PLAIN " + encode("\x00alice\x00secret") + "\r\n")
	p.expect("535 5.7.8")
	p.expectEnd()
	var names []string
	for _, r := range w.relay.refused() {
		if r.Kind != relay.RefusedAuth || r.Stage != queue.StageAuth || !r.Origin.Client.IsValid() || r.Origin.TLS.Version == 0 {
			t.Errorf("refusal is %+v", r)
		}
		names = append(names, r.Origin.User)
	}
	if got := strings.Join(names, ","); got != "alice,,alice" {
		t.Errorf("users on record are %q: only those that exist may be", got)
	}
}

// busyUsers cannot look at passwords now.
type busyUsers struct{ users }

func (busyUsers) Authenticate(context.Context, string, string) (bool, error) {
	return true, &relay.Rejection{Code: 454, Enhanced: queue.Enhanced{4, 7, 0}, Text: "Busy", Class: relay.ClassAuth}
}

func TestAuthBusy(t *testing.T) {
	w := start(t, withTLS, func(c *inbound.Config, _ *inbound.Listener, _ *fakeRelay) { c.Auth = busyUsers{} })
	p, _ := w.secure(false)
	p.ask("AUTH PLAIN "+encode("\x00alice\x00secret"), "454 4.7.0 Busy")
	if n := len(w.relay.refused()); n != 0 {
		t.Errorf("%d failed logins on record", n)
	}
}

func TestUserIsRemoved(t *testing.T) {
	accounts := users{"alice": "secret"}
	w := start(t, withTLS, func(c *inbound.Config, _ *inbound.Listener, _ *fakeRelay) { c.Auth = accounts })
	p, _ := w.secure(false)
	p.ask("AUTH PLAIN "+encode("\x00alice\x00secret"), "235")
	delete(accounts, "alice")
	p.ask("MAIL FROM:<s@example.org>", "421 4.7.0")
	p.expectEnd()
	if n := len(w.relay.taken()); n != 0 {
		t.Errorf("%d messages of a removed user were taken", n)
	}
}

func TestStartTLSForgets(t *testing.T) {
	// A transaction opened in the clear does not live on under TLS, in go-smtp neither.
	w := start(t, withTLS)
	mine, theirs := net.Pipe()
	w.ln.conns <- addressed{theirs, "192.0.2.1:1"}
	defer mine.Close()
	say := func(s, want string) {
		t.Helper()
		if s != "" {
			if _, err := io.WriteString(mine, s); err != nil {
				t.Fatal(err)
			}
		}
		for got := ""; strings.Count(got, "\r\n") < strings.Count(want, "/")+1; {
			b := make([]byte, 1000)
			n, err := mine.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if got += string(b[:n]); strings.Contains(got, "ENHANCED") {
				break
			}
		}
	}
	say("", "220")
	say("EHLO x\r\n", "250")
	say("MAIL FROM:<clear@example.org>\r\n", "250")
	say("RCPT TO:<clear@example.net>\r\n", "250")
	say("STARTTLS\r\n", "220")
	conn := tls.Client(mine, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, conn)
	p.ask("DATA", "503 5.5.1")
	p.ask("MAIL FROM:<s@example.org>", "503 5.5.1") // EHLO first
	p.ask("EHLO x", "250")
	p.ask("STARTTLS", "503 5.5.1")
	p.ask("DATA", "503 5.5.1")
	p.ask("MAIL FROM:<s@example.org>", "250")
	p.ask("DATA", "554 5.5.1")
	p.ask("RCPT TO:<r@example.net>", "250")
	p.ask("DATA", "354")
	p.ask(".", "250")
	e := w.relay.taken()[0].envelope
	if e.Sender != "s@example.org" || len(e.Recipients) != 1 || e.Recipients[0].Path != "r@example.net" {
		t.Errorf("envelope is %+v", e)
	}
}

func TestStartTLSInjection(t *testing.T) {
	w := start(t, withTLS)
	p := w.hello()
	p.send("STARTTLS\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<r@example.net>\r\nDATA\r\n")
	p.expect("503 5.5.1")
	p.expectEnd()
	if n := len(w.relay.taken()); n != 0 {
		t.Errorf("%d injected messages were taken", n)
	}
}

func TestHandshakeFails(t *testing.T) {
	for _, implicit := range []bool{false, true} {
		for name, config := range map[string]*tls.Config{
			"old version":    {InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
			"other protocol": {InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}},
			"untrusted":      {ServerName: "relay.example"},
			"not TLS":        nil,
		} {
			t.Run(name, func(t *testing.T) {
				l := inbound.Listener{Kind: inbound.Submission}
				if implicit {
					l.TLS = inbound.ImplicitTLS
				}
				w := start(t, withListener(l))
				raw := w.raw(implicit)
				if config == nil {
					go io.WriteString(raw, "EHLO x\r\nMAIL FROM:<evil@example.org>\r\n")
				} else if tls.Client(raw, config).Handshake() == nil {
					// TLS 1.3: the client is done before the server hears of its refusal.
					t.Fatal("the handshake went through")
				}
				answer, _ := io.ReadAll(raw)
				if strings.Contains(string(answer), "50") || strings.Contains(string(answer), "22") {
					t.Errorf("the server goes on in the clear: %q", answer)
				}
				w.stop()
				if n := w.server.Stats().HandshakesFailed.Load(); n != 1 {
					t.Errorf("%d failed handshakes counted", n)
				}
				refused := w.relay.refused()
				if len(refused) != 1 || refused[0].Kind != relay.RefusedTLS || refused[0].Origin.TLS.None != queue.NoTLSHandshakeFailed {
					t.Errorf("refusals are %+v", refused)
				}
			})
		}
	}
}

func TestPortCheckIsNotOnRecord(t *testing.T) {
	w := start(t, withListener(inbound.Listener{TLS: inbound.ImplicitTLS}))
	_ = w.raw(true).Close()
	w.stop()
	if refused := w.relay.refused(); len(refused) != 0 {
		t.Errorf("refusals are %+v", refused)
	}
}

func TestProtocol(t *testing.T) {
	for _, test := range []struct {
		secure bool
		say    []string
		want   string
	}{
		{false, []string{"HELO x", "MAIL FROM:<>"}, "SMTP"},
		{false, []string{"EHLO x", "MAIL FROM:<>"}, "ESMTP"},
		{false, []string{"EHLO x", "MAIL FROM:<> SMTPUTF8"}, "UTF8SMTP"},
		{true, []string{"EHLO x", "MAIL FROM:<>"}, "ESMTPS"},
		{true, []string{"EHLO x", "MAIL FROM:<> SMTPUTF8"}, "UTF8SMTPS"},
		{true, []string{"AUTH PLAIN " + encode("\x00alice\x00secret"), "MAIL FROM:<>"}, "ESMTPSA"},
		{true, []string{"AUTH PLAIN " + encode("\x00alice\x00secret"), "MAIL FROM:<> SMTPUTF8"}, "UTF8SMTPSA"},
	} {
		t.Run(test.want, func(t *testing.T) {
			w := start(t, withTLS)
			var p *peer
			if test.secure {
				p, _ = w.secure(false)
			} else {
				p = w.dial()
			}
			for _, line := range append(test.say, "RCPT TO:<r@example.net>") {
				p.ask(line, "2")
			}
			p.ask("DATA", "354")
			p.ask(".", "250")
			if m := w.relay.taken()[0]; m.with != test.want {
				t.Errorf("with is %s, want %s", m.with, test.want)
			}
		})
	}
}

// TestRequireTLS shows that REQUIRETLS is taken under TLS and comes with the envelope.
func TestRequireTLS(t *testing.T) {
	w := start(t, withTLS)
	p, _ := w.secure(false)
	p.ask("MAIL FROM:<s@example.org> REQUIRETLS", "250")
	p.ask("RCPT TO:<r@example.net>", "250")
	p.ask("DATA", "354")
	p.ask(".", "250")
	p.ask("MAIL FROM:<s@example.org>", "250")
	p.ask("RCPT TO:<r@example.net>", "250")
	p.ask("DATA", "354")
	p.ask(".", "250")
	if m := w.relay.taken(); len(m) != 2 || !m[0].envelope.RequireTLS || m[1].envelope.RequireTLS {
		t.Errorf("%+v", m)
	}
}

// TestTickets shows that a session ticket of one listener is not taken by another.
func TestTickets(t *testing.T) {
	shared := serverTLS(t)
	same := func(c *inbound.Config, l *inbound.Listener, _ *fakeRelay) { c.TLS, l.TLS = shared, inbound.ImplicitTLS }
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "relay.example", ClientSessionCache: tls.NewLRUClientSessionCache(10)}
	connect := func(w *world) bool {
		conn := tls.Client(w.tcp(), client)
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, conn)
		p.expect("220") // the ticket comes along
		p.ask("QUIT", "221")
		return conn.ConnectionState().DidResume
	}
	one, other := start(t, same), start(t, same)
	if connect(one) || !connect(one) {
		t.Error("a ticket is of no use at its own listener")
	}
	if connect(other) {
		t.Error("a ticket is taken by another listener")
	}
}
