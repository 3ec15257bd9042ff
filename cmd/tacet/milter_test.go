package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/d--j/go-milter"
)

// script is a mail filter that writes down what it is shown, and answers as it is told.
type script struct {
	milter.NoOpMilter
	mu     sync.Mutex
	seen   []string
	answer map[string]func(milter.Modifier) (*milter.Response, error) // by the stage, with its argument
}

// note writes a stage down, with the macros that a filter usually asks for then.
func (s *script) note(m milter.Modifier, stage string, macros ...string) (*milter.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var text strings.Builder
	text.WriteString(stage)
	for _, name := range macros {
		value, ok := m.GetEx(name)
		if name == "i" && len(value) == 16 {
			value = "ID"
		}
		if ok {
			text.WriteString(" " + name + "=" + value)
		}
	}
	s.seen = append(s.seen, text.String())
	if answer := s.answer[stage]; answer != nil {
		return answer(m)
	}
	return milter.RespContinue, nil
}

func (s *script) Connect(host, family string, _ uint16, addr string, m milter.Modifier) (*milter.Response, error) {
	return s.note(m, "connect "+host+" "+family+" "+addr, "j", "{daemon_addr}", "_")
}
func (s *script) Helo(name string, m milter.Modifier) (*milter.Response, error) {
	return s.note(m, "helo "+name, "{tls_version}")
}
func (s *script) MailFrom(from, args string, m milter.Modifier) (*milter.Response, error) {
	return s.note(m, "mail "+from+args, "i", "{mail_addr}", "{mail_host}", "{mail_mailer}", "{rcpt_addr}")
}
func (s *script) RcptTo(to, args string, m milter.Modifier) (*milter.Response, error) {
	return s.note(m, "rcpt "+to+args, "i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}")
}
func (s *script) Data(m milter.Modifier) (*milter.Response, error) { return s.note(m, "data", "i") }
func (s *script) Headers(m milter.Modifier) (*milter.Response, error) {
	return s.note(m, "headers", "i")
}
func (s *script) EndOfMessage(m milter.Modifier) (*milter.Response, error) {
	return s.note(m, "end", "i")
}

// startFilter starts the filter, and a relay that asks it.
func startFilter(t *testing.T, s milter.Milter, more string) *checkedRelay {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "filter")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := milter.NewServer(milter.WithMilter(func() milter.Milter { return s }), milter.WithActions(milter.AllClientSupportedActionMasks&^milter.OptSetMacros),
		milter.WithProtocols(milter.OptSkip))
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return startChecked(t, dir, "[[milter]]\naddress = \"unix:"+socket+"\"\n"+more)
}

// dialogue says lines to a listener and returns the last line of each reply.
func (r *checkedRelay) dialogue(t *testing.T, i int, lines ...string) (replies []string) {
	t.Helper()
	c, err := smtp.Dial(r.address(i).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, line := range append([]string{"EHLO client.example"}, lines...) {
		if err := c.Text.PrintfLine("%s", line); err != nil {
			t.Fatal(err)
		}
		code, text, err := c.Text.ReadResponse(0)
		if code == 0 {
			t.Fatal(err)
		}
		replies = append(replies, fmt.Sprint(code, " ", text[strings.LastIndexByte(text, '\n')+1:]))
	}
	return replies[1:]
}

// A filter sees each step of a session as it comes, with the macros that Postfix has for it, and what
// it refuses is refused then.
func TestMilterStages(t *testing.T) {
	refuse := func(milter.Modifier) (*milter.Response, error) {
		return milter.RejectWithCodeAndReason(554, "5.7.1 Not this one")
	}
	later := func(milter.Modifier) (*milter.Response, error) { return milter.RespTempFail, nil }
	s := &script{answer: map[string]func(milter.Modifier) (*milter.Response, error){
		"rcpt no@example.org": refuse, "rcpt later@example.org": later, "mail spammer@example.net": refuse}}
	r := startFilter(t, s, "")
	content := strings.TrimSuffix(plainMail, "\r\n") + "\r\n."
	replies := r.dialogue(t, 1, "MAIL FROM:<spammer@example.net>", "MAIL FROM:<a@example.net> BODY=8BITMIME", "RCPT TO:<no@example.org>", "RCPT TO:<later@example.org>",
		"RCPT TO:<b@example.org> NOTIFY=NEVER", "DATA", content, "MAIL FROM:<>", "RCPT TO:<b@example.org>", "RSET", "QUIT")
	want := []string{"554", "250", "554", "451", "250", "354", "250", "250", "250", "250", "221"}
	for i, reply := range replies {
		if !strings.HasPrefix(reply, want[i]) {
			t.Errorf("reply %d is %q, want %s", i, reply, want[i])
		}
	}
	if !strings.Contains(replies[2], "5.7.1 Not this one") {
		t.Errorf("the refusal is %q", replies[2])
	}
	if got := r.delivered(t); !strings.HasSuffix(got, plainMail) {
		t.Errorf("got %q", got)
	}
	server := r.address(1).Addr().String()
	wanted := []string{
		"connect unknown tcp4 127.0.0.1 j=relay.example.org {daemon_addr}=" + server + " _=unknown [127.0.0.1]", "helo client.example",
		"mail spammer@example.net {mail_addr}=spammer@example.net {mail_host}=example.net {mail_mailer}=smtp",
		"mail a@example.netBODY=8BITMIME {mail_addr}=a@example.net {mail_host}=example.net {mail_mailer}=smtp",
		"rcpt no@example.org i=ID {rcpt_addr}=no@example.org {rcpt_host}=example.org {rcpt_mailer}=smtp",
		"rcpt later@example.org i=ID {rcpt_addr}=later@example.org {rcpt_host}=example.org {rcpt_mailer}=smtp",
		"rcpt b@example.orgNOTIFY=NEVER i=ID {rcpt_addr}=b@example.org {rcpt_host}=example.org {rcpt_mailer}=smtp",
		"data i=ID", "headers i=ID", "end i=ID",
		"mail  {mail_mailer}=smtp", "rcpt b@example.org i=ID {rcpt_addr}=b@example.org {rcpt_host}=example.org {rcpt_mailer}=smtp",
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.seen, wanted) {
		t.Errorf("the filter saw\n%s\nwant\n%s", strings.Join(s.seen, "\n"), strings.Join(wanted, "\n"))
	}
	refused := r.lines(t, "rejected")
	if len(refused) != 3 || len(r.lines(t, "content_rejected")) != 0 || strings.Contains(fmt.Sprint(refused), "Not this one") || strings.Contains(fmt.Sprint(refused), "headers") {
		t.Errorf("log %v", refused)
	}
}

// What a filter changes is changed: sender, recipients, fields and body; a message that it discards is
// refused, with its header fields in the log, and one in quarantine waits.
func TestMilterChangesMail(t *testing.T) {
	change := func(m milter.Modifier) (*milter.Response, error) {
		for _, err := range []error{m.Progress(), m.ChangeFrom("<new@example.org>", ""), m.AddRecipient("<more@example.org>", ""), m.DeleteRecipient("<b@example.org>"),
			m.AddHeader("X-End", "1"), m.InsertHeader(0, "X-Begin", "2"), m.ChangeHeader(1, "Subject", "changed"), m.ReplaceBody(strings.NewReader("another\r\n"))} {
			if err != nil {
				return nil, err
			}
		}
		return milter.RespContinue, nil
	}
	s := &script{answer: map[string]func(milter.Modifier) (*milter.Response, error){"end": change}}
	r := startFilter(t, s, "")
	for _, text := range []string{plainMail, plainMail + strings.Repeat("a long message, which is spooled\r\n", 20000)} {
		if err := r.send(0, text); err != nil {
			t.Fatal(err)
		}
		got := r.delivered(t)
		if !strings.HasPrefix(got, "X-Begin: 2\r\nReceived: ") || !strings.HasSuffix(got, "\r\nX-End: 1\r\n\r\nanother\r\n") ||
			!strings.Contains(got, "\r\nSubject: changed\r\n") || strings.Contains(got, "hello") {
			t.Errorf("got %q", got)
		}
	}
	if got := r.lines(t, "accepted"); len(got) != 2 || got[1]["sender"] != "new@example.org" || got[1]["recipient"] != "more@example.org" {
		t.Errorf("log %v", got)
	}
	for event, answer := range map[string]func(milter.Modifier) (*milter.Response, error){
		"content_rejected": func(milter.Modifier) (*milter.Response, error) { return milter.RespDiscard, nil },
		"held":             func(m milter.Modifier) (*milter.Response, error) { return milter.RespContinue, m.Quarantine("later") },
	} {
		s.mu.Lock()
		s.answer = map[string]func(milter.Modifier) (*milter.Response, error){"end": answer}
		s.mu.Unlock()
		err := r.send(0, plainMail)
		if lines := r.lines(t, event); (err == nil) != (event == "held") || len(lines) != 1 || (lines[0]["headers"] == nil) != (event == "held") {
			t.Errorf("%s: %v, log %v", event, err, lines)
		}
	}
	if n := r.store.Stats().Held; n != 1 {
		t.Errorf("%d are held", n)
	}
}

// A filter that is away, or fails on the way, makes the client come back, unless it may be missed.
func TestMilterFailurePolicy(t *testing.T) {
	for _, policy := range []string{"defer", "accept"} {
		fails := func(milter.Modifier) (*milter.Response, error) { return nil, io.ErrUnexpectedEOF }
		s := &script{answer: map[string]func(milter.Modifier) (*milter.Response, error){"rcpt b@example.org": fails}}
		r := startFilter(t, s, "on_failure = \""+policy+"\"\n")
		err := r.send(1, plainMail)
		if policy == "accept" {
			if got := r.delivered(t); err != nil || !strings.HasSuffix(got, plainMail) {
				t.Errorf("accept: %v, %q", err, got)
			}
		} else if err == nil || !strings.Contains(err.Error(), "4.7.1 The message cannot be checked") {
			t.Errorf("defer: the client read %v", err)
		}
		if n := r.relay.Stats.Unchecked.Load(); n != 1 {
			t.Errorf("%s: %d failures are counted", policy, n)
		}
		var buf bytes.Buffer
		for _, line := range r.lines(t, "rejected") {
			fmt.Fprint(&buf, line)
		}
		if strings.Contains(buf.String(), "headers") || (buf.Len() > 0) != (policy == "defer") {
			t.Errorf("%s: log %s", policy, &buf)
		}
	}
}

// skipper has seen enough of each kind of thing after the first of it.
type skipper struct {
	script
	refuses bool // at the end
}

func (s *skipper) RcptTo(to, _ string, m milter.Modifier) (*milter.Response, error) {
	_, err := s.note(m, "rcpt "+to)
	return milter.RespSkip, err
}
func (s *skipper) Header(name, _ string, m milter.Modifier) (*milter.Response, error) {
	_, err := s.note(m, "field "+name)
	return milter.RespSkip, err
}
func (s *skipper) BodyChunk(chunk []byte, m milter.Modifier) (*milter.Response, error) {
	_, err := s.note(m, fmt.Sprint("chunk ", len(chunk) > 0))
	return milter.RespSkip, err
}
func (s *skipper) EndOfMessage(m milter.Modifier) (*milter.Response, error) {
	if s.refuses {
		return milter.RespReject, nil
	}
	if err := m.AddHeader("X-Seen", "the beginning"); err != nil {
		return nil, err
	}
	return s.note(m, "end")
}

// A filter that skips the rest of recipients, fields or body (SMFIR_SKIP) sees no more of these, all that
// comes behind them, and the mail stays whole; it may still change or refuse it at the end.
func TestMilterSkips(t *testing.T) {
	text := strings.TrimSuffix(plainMail, "\r\n") + strings.Repeat("\r\na long message in many chunks", 20000)
	for _, refuses := range []bool{false, true} {
		s := &skipper{refuses: refuses}
		r := startFilter(t, s, "")
		for range 2 { // sessions
			replies := r.dialogue(t, 1, "MAIL FROM:<a@example.net>", "RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>", "DATA", text+"\r\n.", "QUIT")
			if last := replies[4]; strings.HasPrefix(last, "250") == refuses || refuses && !strings.HasPrefix(last, "550 5.7.1 The message is refused by a filter") {
				t.Fatalf("the last reply is %q", last)
			}
			if refuses {
				continue
			}
			if got := r.delivered(t); !strings.Contains(got, "\r\nX-Seen: the beginning\r\n\r\n") || !strings.HasSuffix(got, text[strings.Index(text, "\r\n\r\n")+4:]+"\r\n") {
				t.Errorf("%.400q was delivered, %d octets", got, len(got))
			}
		}
		s.mu.Lock()
		seen := strings.Join(s.seen, ", ")
		s.mu.Unlock()
		for _, once := range []string{"rcpt b@example.org", "field ", "chunk true"} {
			if n := strings.Count(seen, once); n != 2 {
				t.Errorf("%q was seen %d times: %s", once, n, seen)
			}
		}
		if strings.Contains(seen, "rcpt c@") {
			t.Errorf("the filter saw %s", seen)
		}
	}
}

// What a filter says of a client or its name is the reply to each of its MAIL commands, and
// no header field is on record.
func TestMilterRefusesClient(t *testing.T) {
	for _, stage := range []string{"connect unknown tcp4 127.0.0.1", "helo client.example"} {
		s := &script{answer: map[string]func(milter.Modifier) (*milter.Response, error){
			stage: func(milter.Modifier) (*milter.Response, error) {
				return milter.RejectWithCodeAndReason(554, "5.7.1 Not you")
			}}}
		r := startFilter(t, s, "")
		for i, reply := range r.dialogue(t, 1, "MAIL FROM:<a@example.net>", "MAIL FROM:<>", "RSET", "MAIL FROM:<a@example.net>") {
			if i != 2 && !strings.HasPrefix(reply, "554 5.7.1 Not you") {
				t.Errorf("%s: reply %d is %q", stage, i, reply)
			}
		}
		s.mu.Lock()
		seen := strings.Join(s.seen, ", ")
		s.mu.Unlock()
		if strings.Contains(seen, "mail ") || strings.Count(seen, "connect ") != 1 {
			t.Errorf("%s: the filter saw %s", stage, seen)
		}
		if refused := r.lines(t, "rejected"); len(refused) != 3 || len(r.lines(t, "content_rejected")) != 0 {
			t.Errorf("%s: log %v", stage, refused)
		}
	}
}
