package main_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// readReport prints what Python's mail package makes of a report: a line for
// the subject, one for each part, one for each recipient.
const readReport = `
import sys, email, email.policy
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
print(m.get_content_type(), m.get_param("report-type"), m["Auto-Submitted"])
print(m["Subject"])
parts = list(m.iter_parts())
print(*[p.get_content_type() for p in parts])
fields = parts[1].get_payload()
print(fields[0]["Original-Envelope-Id"])
for f in fields[1:]:
    print(f["Action"], f["Final-Recipient"], f["Original-Recipient"], f["Status"])
print(parts[0].get_content())
`

// reports: what a sender asks to be told goes on to a next hop that will tell
// it, and is told by the relay where that will not: in one report for each
// outcome, in the language configured, as another program reads it.
func (p *peers) reports(t *testing.T) {
	telling, back := newSink(t), newSink(t)
	mute := newSink(t, func(s *sink) { s.offer = []string{"PIPELINING", "8BITMIME"} })
	refusing := newSink(t)
	refusing.answer(always("RCPT", "550 5.1.1 no such person"))
	var config strings.Builder
	config.WriteString(trustLoopback + "[queue]\nreport_language = \"de\"\n")
	for domain, s := range map[string]*sink{"telling.example": telling, "mute.example": mute, "refusing.example": refusing, "example.org": back} {
		fmt.Fprintf(&config, "[[delivery.route]]\ndomain = %q\nnext_hop = %q\n", domain, hop(s.addr))
	}
	d := p.daemon(t, config.String())
	client, err := dial(d.starttls, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, command := range []string{
		"MAIL FROM:<anna@example.org> RET=FULL ENVID=order+2B1",
		"RCPT TO:<a@telling.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+2Bone@telling.example",
		"RCPT TO:<b@mute.example> NOTIFY=SUCCESS ORCPT=rfc822;second@mute.example",
		"RCPT TO:<c@mute.example>",
		"RCPT TO:<d@refusing.example> NOTIFY=FAILURE",
		"RCPT TO:<e@refusing.example>",
		"RCPT TO:<f@refusing.example> NOTIFY=NEVER",
	} {
		if err := client.say(250, "%s", command); err != nil {
			t.Fatal(command, err)
		}
	}
	if err := client.say(354, "DATA"); err != nil {
		t.Fatal(err)
	}
	if err := client.end([]byte("From: anna@example.org\r\nTo: d@refusing.example, e@refusing.example\r\nBcc: secret@refusing.example\r\nSubject: order\r\n\r\nThe order.\r\n")); err != nil {
		t.Fatal(err)
	}
	passed := telling.mail.find(t, "the message", func(message) bool { return true })
	if !strings.HasSuffix(passed.from, " RET=FULL ENVID=order+2B1") || passed.to[0] != "<a@telling.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+2Bone@telling.example" {
		t.Errorf("passed on: %s %q", passed.from, passed.to)
	}
	for _, want := range []struct {
		subject, parts, says string
		recipients           []string
	}{
		{"Ihre Nachricht wurde weitergegeben", "text/plain message/delivery-status text/rfc822-headers", "Sie müssen nichts tun.",
			[]string{"relayed rfc822; b@mute.example rfc822;second@mute.example 2.0.0"}},
		{"Ihre Nachricht ist nicht angekommen", "text/plain message/delivery-status message/rfc822", "kennt dieses Postfach nicht",
			[]string{"failed rfc822; d@refusing.example None 5.1.1", "failed rfc822; e@refusing.example None 5.1.1"}},
	} {
		got := back.mail.find(t, "the report "+want.subject, func(m message) bool { return bytes.Contains(m.content, []byte("Subject: "+want.subject)) })
		checkReport(t, got, want.subject, want.parts, want.says, want.recipients)
	}
	d.outcome("delivered", "a@telling.example")
	if n := len(back.mail.all()); n != 2 {
		t.Errorf("%d reports, want one for what was handed on and one for what failed", n)
	}
}

// checkReport has another program read a report.
func checkReport(t *testing.T, got message, subject, parts, says string, recipients []string) {
	t.Helper()
	python := exec.Command("python3", "-c", readReport)
	python.Stdin = bytes.NewReader(got.content)
	out, err := python.CombinedOutput()
	if err != nil {
		t.Fatalf("python3: %v\n%s", err, out)
	}
	lines := strings.Split(string(out), "\n")
	if len(lines) < 4+len(recipients) || lines[0] != "multipart/report delivery-status auto-replied" || lines[1] != subject || lines[2] != parts ||
		lines[3] != "order+1" || !slices.Equal(lines[4:4+len(recipients)], recipients) {
		t.Errorf("the report reads\n%s", out)
	}
	if !strings.Contains(string(out), says) || strings.Contains(string(out), "Your message") {
		t.Errorf("a person reads\n%s", out)
	}
	if !strings.HasPrefix(got.from, "<>") || bytes.Contains(got.content, []byte("secret@")) || bytes.Contains(got.content, []byte("f@refusing")) {
		t.Errorf("from %s:\n%s", got.from, got.content)
	}
}
