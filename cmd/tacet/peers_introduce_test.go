package main_test

import (
	"fmt"
	"net"
	"net/smtp"
	"os/exec"
	"strings"
	"testing"
)

// strangerAt hands in a message from an address of loopback, under a name of its own.
func strangerAt(t *testing.T, from, helo, addr string, content []byte, sender, to string) {
	t.Helper()
	if err := strangerTries(t, from, helo, addr, content, sender, to); err != nil {
		t.Fatal(err)
	}
}

// strangerTries is strangerAt where the message may be refused.
func strangerTries(t *testing.T, from, helo, addr string, content []byte, sender, to string) error {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	conn, err := dialer.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return err
	}
	c, err := smtp.NewClient(conn, "fallback")
	if err != nil {
		return err
	}
	defer c.Close()
	for _, step := range []func() error{
		func() error { return c.Hello(helo) },
		func() error { return c.Mail(sender) },
		func() error { return c.Rcpt(to) },
		func() error {
			w, err := c.Data()
			if err != nil {
				return err
			}
			if _, err := w.Write(content); err != nil {
				return err
			}
			return w.Close()
		},
		c.Quit,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// introductions: a primary that trusts the fallback learns of the client what it needs to
// judge it, by each way that Postfix and Exim know; the fallback has none of it on record.
func (p *peers) introductions(t *testing.T) {
	out, err := exec.Command("../../.ci/mtas").Output()
	if err != nil {
		t.Fatalf(".ci/mtas: %v", err)
	}
	folder := strings.TrimSpace(string(out))
	postfix := func(settings ...string) func(*testing.T, string) (string, *process) {
		return func(t *testing.T, next string) (string, *process) {
			server := p.newPostfix(t, "mail.example.org", hop(next), settings...)
			return server.addr, server.process
		}
	}
	exim := func(t *testing.T, next string) (string, *process) {
		m := mailServers()[0]
		m.binary = strings.Replace(m.binary, "light", "heavy", 1) // the light one knows no PROXY
		plain := m.config
		m.config = func(dir, addr, next string) string { return "hosts_proxy = 127.0.0.1\n" + plain(dir, addr, next) }
		return p.newMailServer(t, m, folder, next)
	}
	const named, unnamed = "client.example[127.0.0.77]", "unknown[127.0.0.77]"
	for _, c := range []struct {
		name, by string
		primary  func(t *testing.T, next string) (string, *process)
		logged   []string // in one line of the primary's log; (ID) is the fallback's queue ID
		received string   // how the primary's trace field begins
	}{
		{"postfix-xclient", "xclient", postfix("smtpd_authorized_xclient_hosts = 127.0.0.1"),
			[]string{"client=" + named}, "from client.example (client.example [127.0.0.77])"},
		{"postfix-xforward", "xforward", postfix("smtpd_authorized_xforward_hosts = 127.0.0.1"),
			[]string{"orig_queue_id=(ID)", "orig_client=" + named}, "from relay.example.org (localhost [127.0.0.1])"},
		{"postfix-proxy-v1", "proxy-v1", postfix("smtpd_upstream_proxy_protocol = haproxy"),
			[]string{"client=" + unnamed}, "from client.example (unknown [127.0.0.77])"},
		{"postfix-proxy-v2", "proxy-v2", postfix("smtpd_upstream_proxy_protocol = haproxy"),
			[]string{"client=" + unnamed}, "from client.example (unknown [127.0.0.77])"},
		{"exim-proxy-v1", "proxy-v1", exim, []string{"H=(client.example) [127.0.0.77]"}, "from [127.0.0.77] (helo=client.example)"},
		{"exim-proxy-v2", "proxy-v2", exim, []string{"H=(client.example) [127.0.0.77]"}, "from [127.0.0.77] (helo=client.example)"},
		{"postfix-untrusting", "xclient", postfix(), []string{"client=localhost[127.0.0.1]"}, "from relay.example.org (localhost [127.0.0.1])"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p.introduced(t, c.by, c.primary, c.logged, c.received)
		})
	}
}

// introduced sends one message through a fallback and one primary.
func (p *peers) introduced(t *testing.T, by string, primary func(*testing.T, string) (string, *process), logged []string, received string) {
	last := newSink(t)
	addr, server := primary(t, last.addr)
	resolver := newDNS(t, "77.0.0.127.in-addr.arpa. 60 IN PTR client.example.\nclient.example. 60 IN A 127.0.0.77\n")
	at := freePort(t)
	d := p.newDaemon(t, fmt.Sprintf("[[listener]]\naddress = %q\nkind = \"mx\"\n[relay]\ndomains = [\"example.org\"]\n[primary]\nhosts = [%q]\nintroduce = %q\n[dns]\nresolvers = [%q]\n",
		at, addr, by, resolver))
	d.start()
	strangerAt(t, "127.0.0.77", "client.example", at, numbered(1, 3000), "someone@far.example", "b@example.org")
	sent := d.outcome("delivered", "b@example.org")
	if sent.Client != "" || strings.Contains(sent.line, "127.0.0.77") || strings.Contains(sent.line, "client.example") {
		t.Errorf("the fallback has it on record: %s", sent.line)
	}
	words := make([]string, len(logged))
	for i, word := range logged {
		words[i] = strings.ReplaceAll(word, "(ID)", sent.Status.ID)
	}
	server.output.find(t, fmt.Sprintf("the primary to say %q", words), func(line string) bool {
		for _, word := range words {
			if !strings.Contains(line, word) {
				return false
			}
		}
		return true
	})
	got := last.mail.find(t, "the message behind the primary", func(m message) bool { return len(m.to) == 1 && strings.HasPrefix(m.to[0], "<b@example.org>") })
	if !strings.HasPrefix(string(got.content), "Received: "+received) {
		t.Errorf("the primary took it %q, want %q", got.content[:min(len(got.content), 200)], received)
	}
}
