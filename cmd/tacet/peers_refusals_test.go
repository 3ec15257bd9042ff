package main_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// refusal is a next hop that fails somewhere, and what the log must say then.
type refusal struct {
	name     string
	args     []string // of smtp-sink
	event    string   // empty: deferred or failed
	reason   string   // empty: any
	stage    string   // empty: any
	code     int
	bodySize int
}

// refusals are the ways in which smtp-sink can fail.
func refusals() []refusal {
	list := []refusal{
		// It recovers from what is only a lack of extensions.
		{name: "no-ehlo", args: []string{"-f", "EHLO"}, event: "delivered", code: 250},
		{name: "no-esmtp", args: []string{"-e"}, event: "delivered", code: 250},
		{name: "pix", args: []string{"-P"}, event: "delivered", code: 250},
		{name: "no-pipelining", args: []string{"-p"}, event: "delivered", code: 250},
		{name: "no-dsn", args: []string{"-N"}, event: "delivered", code: 250},
		{name: "quit-refused", args: []string{"-f", "QUIT"}, event: "delivered", code: 250},
		{name: "quit-cut", args: []string{"-q", "QUIT"}, event: "delivered", code: 250},
		// Time-outs.
		{name: "read-late", args: []string{"-H", "30"}, event: "deferred", reason: "ambiguous", stage: "end"},
		{name: "read-late-big", args: []string{"-H", "30", "-T", "4096"}, event: "deferred", reason: "timeout", stage: "content", bodySize: 8_000_000},
		// A 550 that comes together with the 354 may be out of step, or the last word.
		{name: "abort-at-once", args: []string{"-A", "0"}},
		{name: "abort", args: []string{"-A", "1", "-T", "4096"}, event: "failed", stage: "content", code: 550, bodySize: 8_000_000},
	}
	stages := []struct{ verb, name, stage string }{
		{"CONNECT", "connect", "greeting"}, {"EHLO HELO", "ehlo", "ehlo"}, {"MAIL", "mail", "mail"}, {"RCPT", "rcpt", "rcpt"}, {"DATA", "data", "data"}, {".", "dot", "end"},
	}
	for _, s := range stages {
		refused := "failed"
		if s.name == "connect" || s.name == "ehlo" {
			refused = ""
		}
		cut, late := "connection_closed", "timeout"
		if s.name == "dot" {
			cut, late = "ambiguous", "ambiguous"
		}
		list = append(list,
			refusal{name: "soft-" + s.name, args: []string{"-r", s.verb}, event: "deferred", stage: s.stage, code: 450},
			refusal{name: "hard-" + s.name, args: []string{"-f", s.verb}, event: refused, stage: s.stage, code: 500},
			refusal{name: "cut-" + s.name, args: []string{"-q", s.verb}, event: "deferred", stage: s.stage, reason: cut},
			refusal{name: "late-" + s.name, args: []string{"-p", "-W", strings.Fields(s.verb)[0] + ":60"}, event: "deferred", stage: s.stage, reason: late},
			refusal{name: "bye-" + s.name, args: []string{"-Q", s.verb}, event: "deferred", stage: s.stage, code: 421},
		)
	}
	return list
}

// smtpSink: a next hop that fails in every way that smtp-sink knows gets the
// event that is due, never delays another destination, and what was deferred
// arrives when it is well again.
func (p *peers) smtpSink(t *testing.T) {
	well := newSink(t)
	cases := refusals()
	ports := map[string]string{}
	var config strings.Builder
	fmt.Fprintf(&config, trustLoopback+"[delivery]\nnext_hop = %q\n", hop(well.addr))
	config.WriteString("[delivery.timeouts]\nconnect = \"3s\"\ngreeting = \"3s\"\ncommand = \"3s\"\ndata_start = \"3s\"\ndata_block = \"3s\"\ndata_end = \"3s\"\n")
	var sinks []*process
	for _, c := range cases {
		addr := freePort(t)
		ports[c.name] = addr
		fmt.Fprintf(&config, "[[delivery.route]]\ndomain = \"%s.example\"\nnext_hop = %q\n", c.name, hop(addr))
		sinks = append(sinks, start(t, exec.Command("smtp-sink", append(c.args, "-u", "postfix", addr, "100")...)))
	}
	for i, c := range cases {
		sinks[i].listens(ports[c.name])
	}
	d := p.daemon(t, config.String())
	s, err := dial(d.starttls, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for n, c := range cases {
		if err := s.submit(numbered(n, c.bodySize), "anna@example.org", "bob@"+c.name+".example", c.name+"@well.example"); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	var deferred []string
	failed := 0
	for _, c := range cases {
		r := d.attempted("bob@"+c.name+".example", c.stage)
		if r.Status.Event != c.event && c.event != "" || c.event == "" && r.Status.Event == "delivered" ||
			c.reason != "" && r.Status.Reason != c.reason || c.stage != "" && r.Status.Stage != c.stage || c.code != 0 && r.Status.Code != c.code {
			t.Errorf("%s: want %s, reason %q, stage %q, code %d; the log says\n%s", c.name, c.event, c.reason, c.stage, c.code, r.line)
		}
		if r.NextHost != "127.0.0.1" || r.Status.Attempt < 1 || r.Status.Event != "delivered" && r.Status.Reason == "" {
			t.Errorf("%s: the log misses something: %s", c.name, r.line)
		}
		switch r.Status.Event {
		case "deferred":
			deferred = append(deferred, c.name)
			if !r.Status.NextAttempt.After(r.Time) {
				t.Errorf("%s: no next attempt: %s", c.name, r.line)
			}
		case "failed":
			failed++
		}
		if other := d.attempted(c.name+"@well.example", "end"); other.Status.Event != "delivered" {
			t.Errorf("%s: the other recipient: %s", c.name, other.line)
		}
	}
	d.idle()
	if n := len(d.queued()); n != len(deferred) {
		t.Errorf("%d messages in the queue, %d deferred", n, len(deferred))
	}
	// Each failure was reported to the sender.
	reports := func(items []message) (n int) {
		for _, m := range items {
			if strings.HasPrefix(m.from, "<>") && slices.ContainsFunc(m.to, func(to string) bool { return strings.HasPrefix(to, "<anna@example.org>") }) {
				n++
			}
		}
		return n
	}
	well.mail.until(t, fmt.Sprintf("%d reports", failed), func(items []message) bool { return reports(items) >= failed })

	for _, s := range sinks {
		s.kill()
	}
	healed := map[string]*sink{}
	for _, name := range deferred {
		healed[name] = newSink(t, func(s *sink) { s.addr = ports[name] })
	}
	d.retryAll()
	for _, name := range deferred {
		healed[name].mail.find(t, "the deferred message of "+name, func(message) bool { return true })
		d.outcome("delivered", "bob@"+name+".example")
	}
	d.empties()
	if n := reports(well.mail.all()); n != failed {
		t.Errorf("%d reports for %d failures", n, failed)
	}
}

// hang: a next hop that falls silent, ends the connection or talks without end
// at any step is given up in time, with the step on record; nothing is lost.
func (p *peers) hang(t *testing.T) {
	well := newSink(t)
	type failure struct {
		name, stage, verb, reply string
		sink                     *sink
	}
	var cases []failure
	var config strings.Builder
	fmt.Fprintf(&config, trustLoopback+"[delivery]\nnext_hop = %q\n", hop(well.addr))
	config.WriteString("[delivery.timeouts]\nconnect = \"2s\"\ngreeting = \"2s\"\ncommand = \"2s\"\ndata_start = \"2s\"\ndata_block = \"2s\"\ndata_end = \"2s\"\n")
	for _, how := range []struct{ name, reply string }{{"hang", replyHang}, {"drop", replyDrop}, {"flood", replyFlood}, {"garbage", "hello?"}} {
		for _, s := range []struct{ verb, name, stage string }{
			{"CONNECT", "connect", "greeting"}, {"EHLO", "ehlo", "ehlo"}, {"STARTTLS", "starttls", "starttls"}, {"MAIL", "mail", "mail"}, {"RCPT", "rcpt", "rcpt"},
			{"DATA", "data", "data"}, {".", "dot", "end"}, {".", "chunk", "end"},
		} {
			c := failure{name: how.name + "-" + s.name, stage: s.stage, verb: s.verb, reply: how.reply}
			c.sink = newSink(t, withTLS(p.cert), func(sink *sink) {
				if s.name != "chunk" {
					sink.offer = []string{"PIPELINING", "8BITMIME"}
				}
			})
			c.sink.answer(always(s.verb, how.reply))
			cases = append(cases, c)
			fmt.Fprintf(&config, "[[delivery.route]]\ndomain = \"%s.example\"\nnext_hop = %q\n", c.name, hop(c.sink.addr))
		}
	}
	d := p.daemon(t, config.String())
	for n, c := range cases {
		if err := submitOne(d.starttls, numbered(n, 3000), "anna@example.org", "bob@"+c.name+".example", c.name+"@well.example"); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	for _, c := range cases {
		r := d.attempted("bob@"+c.name+".example", c.stage)
		if r.Status.Event != "deferred" || r.Status.Stage != c.stage || r.Status.Reason == "" {
			t.Errorf("%s: the log says\n%s", c.name, r.line)
		}
		if other := d.attempted(c.name+"@well.example", "end"); other.Status.Event != "delivered" {
			t.Errorf("%s: the other recipient: %s", c.name, other.line)
		}
		c.sink.verdict.Store(nil)
	}
	d.retryAll()
	for _, c := range cases {
		d.outcome("delivered", "bob@"+c.name+".example")
	}
	d.empties()
}
