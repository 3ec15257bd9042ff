package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/textproto"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacet/relay/reputation"
)

// everyPlaceMail has a canary in each place of a message that something outside might be told of.
func everyPlaceMail(c *canarySet) string {
	attachment := base64.StdEncoding.EncodeToString([]byte("PK\x03\x04 content " + c.new("attachment", "PK\x03\x04 content %s")))
	return strings.ReplaceAll(fmt.Sprintf(`From: "%s" <%s@far.example>
To: %s@example.org
Subject: subject %s
Message-ID: <%s@far.example>
Date: Thu, 01 Jan 2026 00:00:00 +0000
X-Field: %s
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=utf-8

The text has %s in it and more of such words,
http://user-%s@host-%s.example/path/%s?query=%s#%s
https://www.example.net/x/%s.html
http://bare-%s.example/
http://www.example.net/unsubscribe/%s@far.example
--b
Content-Type: text/html; charset=utf-8

<html><body>html %s <a href="https://html.example/%s">a link in html</a></body></html>
--b
Content-Type: application/zip; name="%s.zip"
Content-Transfer-Encoding: base64

%s
--b--
`, c.new("display"), c.new("from", "%s@far.example"), c.new("to", "%s@example.org"), c.new("subject"), c.new("message-id"), c.new("field"),
		c.new("text"), c.new("userinfo"), c.new("host", "host-%s.example"), c.new("path"), c.new("query"), c.new("fragment"),
		c.new("second path"), c.new("bare host", "bare-%s.example", "http://bare-%s.example/", "bare-%s.example/"), c.new("address in link", "%s@far.example"),
		c.new("html"), c.new("html path"), c.new("file name", "%s.zip"), attachment), "\n", "\r\n")
}

// bring gives a message to an mx listener behind a proxy, as a client at 198.51.100.7, and
// returns how the session ended.
func bring(t *testing.T, address string, c *canarySet, text string) (code int, reply string) {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(scriptPatience))
	conn := textproto.NewConn(raw)
	for _, step := range []string{
		"PROXY TCP4 198.51.100.7 192.0.2.1 40000 25", "EHLO " + c.new("helo") + ".example",
		"MAIL FROM:<" + c.new("sender", "%s@far.example") + "@far.example>", "RCPT TO:<" + c.new("recipient", "%s@example.org") + "@example.org>",
		"DATA", text + ".",
	} {
		if err := conn.PrintfLine("%s", step); err != nil {
			t.Fatal(err)
		}
		if code, reply, err = conn.ReadResponse(0); code == 0 {
			t.Fatalf("%q: %v", step[:min(len(step), 40)], err)
		}
		if code >= 400 {
			break
		}
	}
	return code, reply
}

// serveProgram runs the real program with a config until the test ends, and returns once
// its listeners take connections.
func serveProgram(t *testing.T, file, address string) {
	t.Helper()
	cmd := exec.Command("tacet", "serve", "--config", file)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = t.Output(), t.Output(), time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	})
	deadline := time.Now().Add(scriptPatience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the relay does not listen")
		}
		<-tick.C
	}
}

// asked is what `tacet privacy report` says was asked in the last 30 days.
func asked(t *testing.T, file string) map[string]reputation.Counts {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "tacet", "privacy", "report", "--json", "--config", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	var report policy
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]reputation.Counts)
	for _, s := range report.Asked {
		found[s.Service+", "+s.Kind] = s.Month
	}
	return found
}

// The real program asks outside services for digests, addresses and domains, in packets
// that hold nothing else, and its ledger has the number of each.
func TestEveryPacketIsADigest(t *testing.T) {
	o, dir, mx := newOutside(t), t.TempDir(), unused(t)
	file, mail := checkedConfig(t, dir, o.config("reject")+fmt.Sprintf("[[listener]]\naddress = %q\nkind = \"mx\"\ntls = \"none\"\nproxy_from = [\"127.0.0.0/8\"]\n", mx))
	c := newCanarySet()
	text := everyPlaceMail(c)
	t.Run("serve", func(t *testing.T) {
		serveProgram(t, file, mx)
		if code, reply := bring(t, mx, c, text); code != 250 {
			t.Fatalf("the client reads %d %s", code, reply)
		}
		if got := <-mail; !strings.Contains(got, c.of("text")) || strings.Contains(got, "X-Listed-By") {
			t.Errorf("the next hop got %q", got)
		}
		o.set(func() { o.reports = 5 })
		if code, reply := bring(t, mx, c, text); code != 550 || !strings.HasPrefix(reply, "5.7.1 The message, or something in it, is on a block list") {
			t.Errorf("the client reads %d %s", code, reply)
		}
	})
	digests, clients, senders, texts := o.shapes(t)
	// One attachment and three links, which are then known; the text is asked about each time.
	if digests != 4 || clients != 1 || senders != 1 || texts != 2 {
		t.Errorf("%d digests, %d clients, %d senders and %d texts were asked about", digests, clients, senders, texts)
	}
	asking := 0
	for _, packet := range append(o.dnsAsked, o.texts...) {
		for input, form := range c.search(packet) {
			if input == "attachment" && form == "sha256 base32" { // which is the question
				asking++
				continue
			}
			t.Errorf("a packet shows %s as %s: %q", input, form, packet)
		}
	}
	if asking != 1 {
		t.Errorf("%d packets have the digest of the attachment", asking)
	}
	want := map[string]reputation.Counts{
		"Hash List, attachment digest": {Asked: 1}, "Hash List, link digest": {Asked: 3},
		"Pyzor " + o.pyzor + ", text digest": {Asked: 2, Listed: 1}, "ip.test, client address": {Asked: 1}, "dom.test, sender domain": {Asked: 1},
	}
	if got := asked(t, file); fmt.Sprint(got) != fmt.Sprint(want) { // of the file: the relay has ended
		t.Errorf("the ledger has %v, want %v", got, want)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "data", ledgerFile))
	if err != nil || len(kept) != 1 {
		t.Errorf("the ledger is kept in %v, %v", kept, err)
	}
}

// What is listed is refused with its header fields on record, held, or marked.
func TestListedMail(t *testing.T) {
	const attachment = "From: a@far.example\r\nSubject: an attachment\r\nContent-Type: application/zip\r\n\r\nPK listed\r\n"
	const link = "From: a@far.example\r\nSubject: a link\r\n\r\nsee http://bad.example/Phish?victim=1 now\r\n"
	for action, text := range map[string]string{"reject": attachment, "hold": link, "mark": link} {
		t.Run(action, func(t *testing.T) {
			o := newOutside(t)
			// SHA-256 of "PK listed" and of "bad.example/Phish", in base32.
			o.set(func() {
				o.listed["brluewmclvpe6d4uzfvav6s7a5xfq2wbtql6fimvhp7vhi6zoqnq._file.key.hash.test"] = "127.0.3.10"
				o.listed["c7u23ci6rjhmoxava7h3t33fqbbsu46mnbjybt2z5e7s36erefmq._url.key.hash.test"] = "127.0.3.10"
			})
			r := startChecked(t, t.TempDir(), o.config(action))
			err := r.send(1, text)
			switch action {
			case "reject":
				lines := r.lines(t, "content_rejected")
				if err == nil || len(lines) != 1 || lines[0]["headers"] == nil || !strings.Contains(fmt.Sprint(lines[0]["status"]), "link_blocked") {
					t.Errorf("%v, %v", err, lines)
				}
			case "hold":
				if held := r.lines(t, "held"); err != nil || len(held) != 1 {
					t.Errorf("%v, %v", err, held)
				}
			case "mark":
				if got := r.delivered(t); err != nil || !strings.HasPrefix(got, "X-Listed-By: Hash List\r\n") && !strings.Contains(got, "\r\nX-Listed-By: Hash List\r\n") {
					t.Errorf("%v, %q", err, got)
				}
			}
		})
	}
}

// A service that is away holds up no mail for longer than its time, and is counted; where
// the config says so, the client comes back.
func TestOutsideAway(t *testing.T) {
	o := newOutside(t)
	o.set(func() { o.silent = true })
	config := strings.ReplaceAll(o.config("reject"), `"30s"`, `"1s"`)
	r := startChecked(t, t.TempDir(), config)
	if err := r.send(0, plainMail+"a line that is long enough\r\n"); err != nil {
		t.Fatal(err)
	}
	r.delivered(t)
	if n := r.relay.Stats.Unchecked.Load(); n != 1 {
		t.Errorf("%d checks failed, want that of the text", n)
	}
	if got := r.ledger.Totals(reputation.Text); got != (reputation.Counts{Asked: 1, Failed: 1}) {
		t.Errorf("the ledger has %+v", got)
	}
	metrics, err := prometheusText(t, r.daemon)
	if want := `tacet_outside_questions_total{kind="text digest",outcome="failed"} 1`; err != nil || !strings.Contains(metrics, want) {
		t.Errorf("the metrics lack %s, %v", want, err)
	}
	strict := startChecked(t, t.TempDir(), strings.ReplaceAll(config, "action", "on_failure = \"defer\"\naction"))
	if err := strict.send(0, plainMail+"a line that is long enough\r\n"); err == nil || !strings.HasPrefix(err.Error(), "451") {
		t.Errorf("the client reads %v", err)
	}
}
