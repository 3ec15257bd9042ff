package main_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// logins: who may not submit is told so, gets no password taken in the clear,
// and learns nothing of which users there are.
func (p *peers) logins(t *testing.T) {
	next := newSink(t)
	d := p.daemon(t, fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(next.addr)))
	swaks := func(args ...string) (transcript string, status int) {
		out, errs, status := runProgram(t, exec.Command("swaks", append([]string{"--server", "localhost:" + portOf(t, d.starttls),
			"--from", "anna@example.org", "--to", "bob@example.net", "--suppress-data"}, args...)...))
		return out + errs, status
	}
	t.Run("in the clear", func(t *testing.T) {
		transcript, status := swaks("--auth", "PLAIN", "--auth-user", testUser, "--auth-password", testPassword)
		if status == 0 || strings.Contains(transcript, "AUTH") && regexp.MustCompile(`(?m)^<-.*AUTH`).MatchString(transcript) {
			t.Errorf("AUTH without TLS: status %d\n%s", status, transcript)
		}
	})
	t.Run("without", func(t *testing.T) {
		transcript, status := swaks("--tls")
		if status == 0 || !strings.Contains(transcript, "530 5.7.0 ") {
			t.Errorf("no AUTH: status %d\n%s", status, transcript)
		}
	})
	reply := regexp.MustCompile(`(?m)^<~\* +(535 .*)$`)
	var replies [2]string
	for i, user := range []string{testUser, "nobody@example.org"} {
		t.Run("wrong password of "+user, func(t *testing.T) {
			before := len(d.log.all())
			transcript, status := swaks("--tls", "--auth", "LOGIN", "--auth-user", user, "--auth-password", "wrong")
			found := reply.FindStringSubmatch(transcript)
			if status == 0 || found == nil {
				t.Fatalf("status %d\n%s", status, transcript)
			}
			replies[i] = found[1]
			var r record
			d.log.until(t, "auth_failed", func(all []record) bool {
				at := slices.IndexFunc(all[before:], func(r record) bool { return r.Status.Event == "auth_failed" })
				if at >= 0 {
					r = all[before+at]
				}
				return at >= 0
			})
			if known := user == testUser; r.Client != "127.0.0.1" || (r.User == testUser) != known || !known && r.User != "" {
				t.Errorf("the log says %s", r.line)
			}
		})
	}
	if replies[0] != replies[1] {
		t.Errorf("a wrong password is answered %q, an unknown user %q", replies[0], replies[1])
	}
	if n := len(next.mail.all()); n != 0 {
		t.Errorf("%d messages passed", n)
	}
}

// completed: what a submitted message lacks is added, its Bcc is taken out,
// and nothing else changes. `tacet log tail -f` shows it as it happens.
func (p *peers) completed(t *testing.T) {
	next := newSink(t)
	d := p.daemon(t, fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(next.addr)))
	tail := start(t, d.command("log", "tail", "-f", "--json"))
	dir := workDir(t)
	head, rest := "From: <anna@example.org>\r\n", "Subject: short\r\n\r\nHello.\r\n"
	m := mail{from: "anna@example.org", to: "bob@example.net", content: []byte(head + "Bcc: <bob@example.net>,\r\n\t<secret@example.net>\r\n" + rest)}
	m.file = writeFile(t, dir+"/short.eml", string(m.content))
	if out, errs, status := runProgram(t, curlCommand(p, submission{addr: d.implicit, implicit: true, auth: "PLAIN"}, m)); status != 0 {
		t.Fatalf("curl: status %d\n%s%s", status, out, errs)
	}
	got := next.mail.find(t, "the message", func(message) bool { return true }).content
	got = got[len(receivedField.Find(got)):]
	added := regexp.MustCompile(`^Date: [A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} [\d:]{8} \+0000\r\nMessage-ID: <[A-Z0-9]+@relay\.example\.org>\r\n`).Find(got)
	if added == nil || !bytes.Equal(got[len(added):], []byte(head+rest)) {
		t.Errorf("arrived as\n%s", got)
	}
	tail.output.find(t, "the delivery", func(line string) bool {
		r := parseRecord(t, line)
		return r.Status.Event == "delivered" && r.Recipient == m.to
	})
}
