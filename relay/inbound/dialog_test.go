package inbound_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

func TestMessage(t *testing.T) {
	w := start(t)
	p := w.hello()
	p.ask("MAIL FROM:<s@example.org> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=a+2Bb", "250 2.1.0")
	p.ask(`RCPT TO:<"odd \"one"@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb@example.net`, "250 2.1.5")
	p.ask("RCPT TO:<@one.example,@two.example:r@example.net>", "250 2.1.5")
	p.ask("DATA", "354")
	p.send("Subject: hi\r\n\r\n..dot\r\n.\r\n")
	reply := p.expect("250 2.0.0 queued as ")
	if _, err := queue.ParseID(strings.TrimSpace(reply[len("250 2.0.0 queued as "):])); err != nil {
		t.Errorf("reply %q names no queue ID", reply)
	}
	p.ask("QUIT", "221 2.0.0")
	p.expectEnd()
	m := w.relay.taken()[0]
	if m.content != "Subject: hi\r\n\r\n.dot\r\n" || m.with != "ESMTP" {
		t.Errorf("content %q with %q", m.content, m.with)
	}
	e := m.envelope
	if e.Sender != "s@example.org" || e.Body != queue.Body8BitMIME || e.Return != queue.ReturnHeaders || e.EnvID != "a+b" {
		t.Errorf("envelope is %+v", e)
	}
	want := []queue.Recipient{
		{Path: `"odd \"one"@example.net`, Notify: queue.NotifySuccess | queue.NotifyDelay, ORcpt: "rfc822;a+b@example.net"},
		{Path: "r@example.net"},
	}
	if !slices.EqualFunc(e.Recipients, want, func(a, b queue.Recipient) bool {
		return a.Path == b.Path && a.Notify == b.Notify && a.ORcpt == b.ORcpt
	}) {
		t.Errorf("recipients are %+v", e.Recipients)
	}
	o := e.Origin
	if !o.Submission || o.User != "" || o.Client.String() != "192.0.2.1" || o.TLS.None != queue.NoTLSNotOffered {
		t.Errorf("origin is %+v", o)
	}
}

func TestOriginOfMX(t *testing.T) {
	w := start(t, withListener(inbound.Listener{Kind: inbound.MX, TLS: inbound.StartTLS}))
	p := w.ready()
	p.ask("DATA", "354")
	p.send("x\r\n.\r\n")
	p.expect("250")
	o := w.relay.taken()[0].envelope.Origin
	if o.Submission || o.Client.IsValid() || o.TLS.None != queue.NoTLSNotUsed {
		t.Errorf("origin is %+v", o)
	}
	p.ask("AUTH PLAIN AGEAYg==", "502 5.5.1")
}

// TestReplies sends lines after EHLO, in one write, and compares the replies
// with want; "end" is the end of the connection.
func TestReplies(t *testing.T) {
	const mail = "MAIL FROM:<s@example.org>\r\n"
	const rcpt = "RCPT TO:<r@example.net>\r\n"
	for _, test := range []struct{ name, send, want string }{
		{"pipelined", mail + rcpt + "DATA\r\n", "250 250 354"},
		{"second MAIL", mail + mail + rcpt, "250 503 250"},
		{"second MAIL after recipients", mail + rcpt + mail + "RSET\r\n" + mail + "DATA\r\n", "250 250 503 250 250 554"},
		{"RCPT without MAIL", rcpt, "503"},
		{"DATA without MAIL", "DATA\r\n", "503"},
		{"DATA without RCPT", mail + "DATA\r\n", "250 554"},
		{"DATA with argument", mail + rcpt + "DATA now\r\n", "250 250 501"},
		{"what follows a refused DATA is no command", "DATA\r\nMAIL FROM:<evil@example.org>\r\n", "503 421 end"},
		{"EHLO ends a transaction", mail + rcpt + "EHLO again\r\n" + "DATA\r\n", "250 250 250 503"},
		{"HELO ends a transaction", mail + rcpt + "HELO again\r\n" + rcpt, "250 250 250 503"},
		{"RSET forgets recipients", mail + rcpt + "RSET\r\n" + mail + "DATA\r\n", "250 250 250 250 554"},
		{"bare postmaster", mail + "RCPT TO:<Postmaster>\r\nRCPT TO:<postMASTER>\r\nRCPT TO:<other>\r\n", "250 250 250 501"},
		{"null sender", "MAIL FROM:<>\r\nRCPT TO:<>\r\n", "250 501"},
		{"space after the colon", "MAIL FROM: <s@example.org>\r\nRCPT TO: <r@example.net>\r\n", "250 250"},
		{"lower case", "mail from:<s@example.org>\r\nrcpt to:<r@example.net>\r\ndata\r\n", "250 250 354"},
		{"path without brackets", "MAIL FROM:s@example.org\r\n", "501"},
		{"unknown parameter", "MAIL FROM:<s@example.org> X=1\r\n" + mail + "RCPT TO:<r@example.net> X\r\n", "555 250 555"},
		{"parameters not offered", "MAIL FROM:<> REQUIRETLS\r\nMAIL FROM:<> BY=1;R\r\nMAIL FROM:<> MT-PRIORITY=1\r\nMAIL FROM:<> BODY=BINARYMIME\r\n", "555 555 555 504"},
		{"parameter given twice", "MAIL FROM:<> SIZE=1 SIZE=1\r\n", "501"},
		{"SIZE of 20 digits", "MAIL FROM:<> SIZE=18446744073709551616\r\nMAIL FROM:<> SIZE=1x\r\nMAIL FROM:<> SIZE=-1\r\n", "552 501 501"},
		{"SIZE at the limit", "MAIL FROM:<> SIZE=1000\r\nRSET\r\nMAIL FROM:<> SIZE=1001\r\n", "250 250 552"},
		{"AUTH parameter", "MAIL FROM:<> AUTH=<>\r\nRSET\r\nMAIL FROM:<> AUTH=a+2Bb@example.org\r\n", "250 250 250"},
		{"8-bit without SMTPUTF8", "MAIL FROM:<ü@example.org>\r\n" + mail + "RCPT TO:<ü@example.net>\r\n", "553 250 553"},
		{"SMTPUTF8", "MAIL FROM:<ü@bücher.example> SMTPUTF8\r\nRCPT TO:<ü@bücher.example>\r\n", "250 250"},
		{"constants", "NOOP\r\nNOOP x\r\nVRFY root\r\nVRFY nobody\r\nEXPN all\r\nHELP\r\nHELP me\r\nETRN example.org\r\n", "250 250 252 252 502 214 214 502"},
		{"unknown commands", "BURL\r\nSTARTTLSX\r\nMAILFROM:<>\r\nM\r\n", "500 500 500 500"},
		{"control characters", "NOOP\tx\r\nMAIL FROM:<a\x1b@example.org>\r\nEHLO \x7f\r\n", "501 501 501"},
		{"bare LF", "NOOP\nNOOP\r\n", "500 end"},
		{"bare CR", "NOOP\rMAIL FROM:<>\r\n", "500 end"},
		{"CR CR LF", "NOOP\r\r\n", "500 end"},
		{"NUL", "NOOP \x00\r\nNOOP\r\n", "500 end"},
		{"long line", "NOOP " + strings.Repeat("x", 2041) + "\r\nNOOP " + strings.Repeat("x", 2042) + "\r\nNOOP\r\n", "250 500 end"},
		{"endless line", strings.Repeat("x", 100000), "500 end"},
		{"HTTP later", "GET / HTTP/1.1\r\nMAIL FROM:<>\r\n", "421 end"},
		{"STARTTLS that is not offered", "STARTTLS\r\n", "502"},
		{"AUTH in the clear", "AUTH PLAIN !!!not-base64!!!\r\nAUTH LOGIN\r\n", "538 538"},
		{"EHLO without name", "EHLO\r\nEHLO \r\nHELO\r\nEHLO \xff\r\n", "501 501 501 501"},
		{"QUIT with more behind", "QUIT\r\nMAIL FROM:<>\r\n", "221 end"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, withLimits(inbound.Limits{MaxMessageSize: 1000}))
			p := w.hello()
			go p.send(test.send)
			compare(t, p, test.want)
			if n := len(w.relay.taken()); n != 0 {
				t.Errorf("%d messages were taken", n)
			}
		})
	}
}

// compare reads as many replies as want names codes.
func compare(t *testing.T, p *peer, want string) {
	t.Helper()
	var got []string
	for word := range strings.FieldsSeq(want) {
		reply := p.read()
		if reply == "" {
			reply = "end"
		}
		got = append(got, reply[:3])
		if reply[:3] != word {
			break
		}
	}
	if g := strings.Join(got, " "); g != want {
		t.Fatalf("replies are %s, want %s", g, want)
	}
}

// TestErrors shows that only a rejection's own words reach the client.
func TestErrors(t *testing.T) {
	secret := errors.New("open /var/lib/tacet/queue: no such file")
	rejection := &relay.Rejection{Code: 452, Enhanced: queue.Enhanced{4, 3, 1}, Text: "No room", Class: relay.ClassResource, Err: secret}
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"plain", secret, "451 4.3.0 Local error, try again later\r\n"},
		{"rejection", rejection, "452 4.3.1 No room\r\n"},
		{"wrapped", errors.Join(secret, rejection), "452 4.3.1 No room\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			at := ""
			answer := func(here string) error {
				if at == here {
					return test.err
				}
				return nil
			}
			w := start(t, withRelay(func(r *fakeRelay) {
				r.admitSender = func(bool, *queue.Origin, queue.ReversePath) error { return answer("MAIL") }
				r.ready = func() error { return answer("READY") }
				r.admit = func(bool, *queue.Origin, queue.ReversePath, queue.ForwardPath) error { return answer("RCPT") }
				r.accept = func(_ context.Context, _ *queue.Envelope, content io.Reader) error {
					_, _ = io.Copy(io.Discard, content)
					return answer("DATA")
				}
			}))
			p := w.hello()
			for _, at = range []string{"MAIL", "READY"} {
				p.ask("MAIL FROM:<s@example.org>", test.want)
			}
			at = "RCPT"
			p.ask("MAIL FROM:<s@example.org>", "250")
			p.ask("RCPT TO:<r@example.net>", test.want)
			at = "DATA"
			p.ask("RCPT TO:<r@example.net>", "250")
			p.ask("DATA", "354")
			p.ask(".", test.want)
			refused := w.relay.refused()
			if len(refused) != 3 {
				t.Fatalf("%d refusals on record, want MAIL, READY and RCPT", len(refused))
			}
			last := refused[2]
			if last.Stage != queue.StageRcpt || len(last.Recipients) != 1 || last.Recipients[0] != "r@example.net" ||
				!last.HasSender || last.Sender != "s@example.org" || !errors.Is(last.Rejection, secret) {
				t.Errorf("refusal of RCPT is %+v", last)
			}
		})
	}
}

func TestRejectionCloses(t *testing.T) {
	w := start(t, withRelay(func(r *fakeRelay) {
		r.admitSender = func(bool, *queue.Origin, queue.ReversePath) error {
			return &relay.Rejection{Code: 550, Text: "Go away", Class: relay.ClassPolicy, Close: true}
		}
	}))
	p := w.hello()
	p.send("MAIL FROM:<>\r\nNOOP\r\n")
	p.expect("550 5.0.0 Go away")
	p.expectEnd()
	if got := w.relay.refused(); len(got) != 1 || got[0].Rejection.Code != 550 {
		t.Errorf("on record are %+v, want the one refusal", got)
	}
}

func TestRecipientLimit(t *testing.T) {
	w := start(t, withLimits(inbound.Limits{MaxRecipients: 2}))
	p := w.ready()
	p.ask("RCPT TO:<two@example.net>", "250")
	for range 300 { // honest clients send the rest later: no budget is used up
		p.ask("RCPT TO:<three@example.net>", "452 4.5.3")
	}
	p.ask("DATA", "354")
	p.ask(".", "250")
	if e := w.relay.taken()[0].envelope; len(e.Recipients) != 2 {
		t.Errorf("%d recipients", len(e.Recipients))
	}
	if n := len(w.relay.refused()); n != 1 {
		t.Errorf("%d refusals on record, want one for the transaction", n)
	}
}

func TestBudgets(t *testing.T) {
	none := withRelay(func(r *fakeRelay) {
		r.admit = func(bool, *queue.Origin, queue.ReversePath, queue.ForwardPath) error {
			return &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Text: "No", Class: relay.ClassPolicy}
		}
	})
	for _, test := range []struct {
		line, reply string
		times       int
	}{
		{"WHAT", "500", 20}, {"RCPT TO:<x@example.net>", "503", 20}, {"MAIL FROM:x", "501", 20}, {"AUTH PLAIN x", "538", 20},
		{"NOOP", "250", 99}, {"RSET", "250", 99}, {"VRFY x", "252", 99}, {"EHLO x", "250", 99}, {"HELP", "214", 99}, {"ETRN x", "502", 99},
	} {
		t.Run(test.line, func(t *testing.T) {
			p := start(t).hello()
			for range test.times {
				p.ask(test.line, test.reply)
			}
			p.expect("421 4.7.0")
			p.expectEnd()
		})
	}
	t.Run("refused recipients", func(t *testing.T) {
		p := start(t, none).hello()
		p.ask("MAIL FROM:<s@example.org>", "250")
		for range 100 {
			p.ask("RCPT TO:<x@example.net>", "550")
		}
		p.expect("421 4.7.0")
		p.expectEnd()
	})
	t.Run("recipients over the limit", func(t *testing.T) {
		p := start(t, withLimits(inbound.Limits{MaxRecipients: 1})).ready()
		go p.send(strings.Repeat("RCPT TO:<r@example.net>\r\n", 20000))
		n := 0
		for reply := p.read(); !strings.HasPrefix(reply, "421"); reply = p.read() {
			if n++; !strings.HasPrefix(reply, "452") {
				t.Fatalf("reply is %q", reply)
			}
		}
		if n != 10000 {
			t.Errorf("%d replies", n)
		}
		p.expectEnd()
	})
	t.Run("a message pays for what is useless", func(t *testing.T) {
		p := start(t).hello()
		for range 5 {
			for range 90 {
				p.ask("RSET", "250")
			}
			p.send("MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\nDATA\r\n")
			p.expect("250")
			p.expect("250")
			p.expect("354")
			p.ask(".", "250")
		}
	})
}

func TestForeignProtocols(t *testing.T) {
	for _, first := range []string{
		"GET / HTTP/1.1\r\n", "POST /x HTTP/1.0\r\n", "CONNECT x:25 HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n",
		"SSH-2.0-OpenSSH_9.6\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x80\x2e\x01",
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", "\r\n\r\n\x00\r\nQUIT\n", "XCLIENT ADDR=127.0.0.1\r\n",
	} {
		t.Run(fmt.Sprintf("%.12q", first), func(t *testing.T) {
			w := start(t)
			p := w.dial()
			p.send(first + "MAIL FROM:<evil@example.org>\r\n")
			if got := p.read(); got != "" && !strings.HasPrefix(got, "421") {
				t.Fatalf("reply is %q", got)
			}
			for reply := p.read(); reply != ""; reply = p.read() {
				t.Fatalf("then %q", reply)
			}
			w.stop()
			if n := w.server.Stats().Foreign.Load(); n != 1 {
				t.Errorf("%d foreign sessions counted", n)
			}
		})
	}
}

func TestBeforeEHLO(t *testing.T) {
	w := start(t)
	p := w.dial()
	p.ask("MAIL FROM:<s@example.org>", "503 5.5.1")
	p.ask("NOOP", "250")
	p.ask("HELO x", "250 relay.example")
	p.ask("MAIL FROM:<s@example.org>", "250")
	p.ask("RCPT TO:<r@example.net>", "250")
	p.ask("DATA", "354")
	p.ask(".", "250")
	if n := len(w.relay.taken()); n != 1 {
		t.Errorf("%d messages were taken, want the one after HELO", n)
	}
}

func TestEHLO(t *testing.T) {
	const plain = "250-relay.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-DSN\r\n"
	const end = "250 ENHANCEDSTATUSCODES\r\n"
	limits := withLimits(inbound.Limits{MaxMessageSize: 1000})
	for _, test := range []struct {
		name string
		l    inbound.Listener
		want string
	}{
		{"none", inbound.Listener{TLS: inbound.NoTLS}, plain + end},
		{"starttls", inbound.Listener{}, plain + "250-STARTTLS\r\n" + end},
		{"mx", inbound.Listener{Kind: inbound.MX}, plain + "250-STARTTLS\r\n" + end},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, limits, withListener(test.l)).dial()
			if got := p.ask("EHLO x", "250"); got != test.want {
				t.Errorf("EHLO: %q, want %q", got, test.want)
			}
		})
	}
	for _, test := range []struct {
		name string
		l    inbound.Listener
		want string
	}{
		{"submission", inbound.Listener{}, plain + "250-REQUIRETLS\r\n250-AUTH PLAIN LOGIN\r\n" + end},
		{"implicit", inbound.Listener{TLS: inbound.ImplicitTLS}, plain + "250-REQUIRETLS\r\n250-AUTH PLAIN LOGIN\r\n" + end},
		{"mx", inbound.Listener{Kind: inbound.MX}, plain + "250-REQUIRETLS\r\n" + end},
	} {
		t.Run(test.name+" under TLS", func(t *testing.T) {
			_, got := start(t, limits, withListener(test.l)).secure(test.l.TLS == inbound.ImplicitTLS)
			if got != test.want {
				t.Errorf("EHLO: %q, want %q", got, test.want)
			}
		})
	}
}

func TestPanicIsContained(t *testing.T) {
	for _, at := range []string{"MAIL", "RCPT", "DATA"} {
		t.Run(at, func(t *testing.T) {
			blow := func(here string) error {
				if here == at {
					panic("canary")
				}
				return nil
			}
			w := start(t, withRelay(func(r *fakeRelay) {
				r.admitSender = func(bool, *queue.Origin, queue.ReversePath) error { return blow("MAIL") }
				r.admit = func(bool, *queue.Origin, queue.ReversePath, queue.ForwardPath) error { return blow("RCPT") }
				r.accept = func(context.Context, *queue.Envelope, io.Reader) error { return blow("DATA") }
			}))
			p := w.hello()
			p.send("MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\nDATA\r\n")
			for reply := p.read(); !strings.HasPrefix(reply, "421"); reply = p.read() {
				if reply == "" || strings.Contains(reply, "canary") {
					t.Fatalf("reply is %q", reply)
				}
			}
			p.expectEnd()
			w.stop()
			if !slices.Equal(w.events.seen, []inbound.Trouble{inbound.TroublePanic}) || w.server.Stats().Panics.Load() != 1 {
				t.Errorf("trouble is %v", w.events.seen)
			}
		})
	}
}
