package inbound_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

// tape is a socket whose client has said all it will say.
type tape struct {
	said   *bytes.Reader
	heard  bytes.Buffer
	closed chan struct{}
	once   sync.Once
}

func newTape(said []byte) *tape {
	return &tape{said: bytes.NewReader(said), closed: make(chan struct{})}
}

func (t *tape) Read(p []byte) (int, error)       { return t.said.Read(p) }
func (t *tape) Write(p []byte) (int, error)      { return t.heard.Write(p) }
func (t *tape) Close() error                     { t.once.Do(func() { close(t.closed) }); return nil }
func (t *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (t *tape) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// model is what a session is to the specification.
type model struct {
	hello, open, chunks bool
	rcpts               int
	content             string
	messages            []string // recipients and content of each
	replies             []string // codes
	errors, junk        int
	ended               bool
}

func (m *model) reply(code string) { m.replies = append(m.replies, code) }

func (m *model) wrong(code string) {
	m.reply(code)
	if m.errors++; m.errors == 20 {
		m.end("421")
	}
}

func (m *model) useless(code string) {
	m.reply(code)
	if m.junk++; m.junk == 100 {
		m.end("421")
	}
}

func (m *model) end(code string) {
	m.reply(code)
	m.ended = true
}

func (m *model) reset() { m.open, m.chunks, m.rcpts, m.content = false, false, 0, "" }

func (m *model) accept() {
	m.messages = append(m.messages, fmt.Sprintf("%d %q", m.rcpts, m.content))
	m.junk = 0
	m.reply("250")
	m.reset()
}

// do takes one step of the client; what it sends is returned. last tells that nothing follows.
func (m *model) do(step string, last bool) (send string) {
	switch step {
	case "EHLO", "HELO":
		m.reset()
		m.hello = true
		m.useless("250")
		return step + " x\r\n"
	case "RSET":
		m.reset()
		m.useless("250")
	case "NOOP":
		m.useless("250")
	case "VRFY":
		m.useless("252")
	case "WHAT":
		m.wrong("500")
	case "QUIT":
		m.end("221")
	case "MAIL":
		switch {
		case m.chunks || m.hello && m.open, !m.hello:
			m.wrong("503")
		default:
			m.open = true
			m.reply("250")
		}
		return "MAIL FROM:<s@example.org>\r\n"
	case "RCPT", "REFUSED":
		switch {
		case m.chunks || !m.open:
			m.wrong("503")
		case step == "REFUSED":
			m.reply("550")
		default:
			m.rcpts++
			m.reply("250")
		}
		return map[string]string{"RCPT": "RCPT TO:<r@example.net>\r\n", "REFUSED": "RCPT TO:<no@example.net>\r\n"}[step]
	case "DATA", "BARE":
		return m.data(step, last)
	case "CHUNK", "LAST", "BADCHUNK":
		return m.chunk(step)
	}
	return step + "\r\n"
}

func (m *model) data(step string, last bool) string {
	body := map[string]string{"DATA": "..dot\r\nQUIT\r\n.\r\n", "BARE": "a\nQUIT\r\n.\r\n"}[step]
	switch {
	case m.chunks:
		m.wrong("503")
		return "DATA\r\n"
	case !m.open || m.rcpts == 0:
		if m.wrong(map[bool]string{true: "554", false: "503"}[m.open]); !last && !m.ended {
			m.end("421") // it might be content that follows
		}
		return "DATA\r\n"
	}
	m.reply("354")
	if m.content = ".dot\r\nQUIT\r\n"; step == "DATA" {
		m.accept()
	} else {
		m.reply("554")
		m.reset()
	}
	return "DATA\r\n" + body
}

func (m *model) chunk(step string) string {
	text := map[string]string{"CHUNK": strings.Repeat("QUIT\r\n", 15), "LAST": "QUIT\r\n", "BADCHUNK": strings.Repeat("QUIT\n", 20)}[step]
	word := map[string]string{"LAST": " LAST"}[step]
	switch {
	case !m.open:
		m.wrong("503")
	case m.rcpts == 0:
		m.wrong("554")
	case step == "BADCHUNK":
		m.reply("554")
		m.reset()
	default:
		m.content += text
		if m.chunks = true; step == "LAST" {
			m.accept()
		} else {
			m.reply("250")
		}
	}
	return fmt.Sprintf("BDAT %d%s\r\n%s", len(text), word, text)
}

var codes = regexp.MustCompile(`(?m)^(\d{3}) `)

// TestModel sends random sequences of commands, all at once, and compares the
// replies and the messages with the model's.
func TestModel(t *testing.T) {
	steps := []string{"EHLO", "HELO", "RSET", "NOOP", "VRFY", "WHAT", "QUIT", "MAIL", "MAIL", "RCPT", "RCPT", "REFUSED",
		"DATA", "DATA", "BARE", "CHUNK", "CHUNK", "LAST", "BADCHUNK"}
	f := &fakeRelay{admit: func(_ bool, _ *queue.Origin, _ queue.ReversePath, to queue.ForwardPath) error {
		if strings.HasPrefix(string(to), "no@") {
			return &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Text: "No", Class: relay.ClassPolicy}
		}
		return nil
	}}
	s := inbound.New(inbound.Config{Hostname: "relay.example", Relay: f})
	ln := newPipes()
	served := make(chan error)
	go func() { served <- s.Serve(ln, inbound.Listener{}) }()
	rapid.Check(t, func(t *rapid.T) {
		f.mu.Lock()
		f.messages = nil
		f.mu.Unlock()
		m := &model{}
		m.reply("220")
		var send []byte
		// Most sequences begin well: what goes wrong later is more telling.
		sequence := append(rapid.SampledFrom([][]string{nil, {"EHLO"}, {"EHLO", "MAIL", "RCPT"}}).Draw(t, "begin"),
			rapid.SliceOfN(rapid.SampledFrom(steps), 0, 60).Draw(t, "steps")...)
		for i, step := range sequence {
			said := m.do(step, i == len(sequence)-1)
			send = append(send, said...)
			if m.ended {
				send = append(send, "MAIL FROM:<late@example.org>\r\n"...)
				break
			}
		}
		socket := newTape(send)
		ln.conns <- socket
		<-socket.closed
		var got []string
		for _, match := range codes.FindAllStringSubmatch(socket.heard.String(), -1) {
			got = append(got, match[1])
		}
		if fmt.Sprint(got) != fmt.Sprint(m.replies) {
			t.Fatalf("steps %v:\nreplies %v\n   want %v", sequence, got, m.replies)
		}
		var messages []string
		for _, taken := range f.taken() {
			messages = append(messages, fmt.Sprintf("%d %q", len(taken.envelope.Recipients), taken.content))
		}
		if fmt.Sprint(messages) != fmt.Sprint(m.messages) {
			t.Fatalf("steps %v:\nmessages %v\n    want %v", sequence, messages, m.messages)
		}
	})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

var replyLine = regexp.MustCompile(`^[2345]\d\d[ -][ -~]*\r\n$`)

// FuzzSession lets a client say anything to a whole server.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n",
		"EHLO x\r\nMAIL FROM:<a@b> SIZE=3 SMTPUTF8\r\nRCPT TO:<ü@d> NOTIFY=NEVER\r\nBDAT 3\r\na\r\nBDAT 0 LAST\r\nRSET\r\n",
		"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<\"a>\"@[IPv6:::1]>\r\nBDAT 3\r\na\r\nRSET\r\nSTARTTLS\r\nAUTH PLAIN AGEAYg==\r\n",
		"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\na\n.\r\n\r\r\n.\r\nNOOP\nQUIT\r\n",
	} {
		f.Add([]byte(s))
	}
	taken := &fakeRelay{}
	s := inbound.New(inbound.Config{Hostname: "relay.example", Relay: taken, Auth: users{}, TLS: serverTLS(f),
		Limits: inbound.Limits{MaxMessageSize: 500, MaxRecipients: 3}})
	ln := newPipes()
	served := make(chan error)
	go func() { served <- s.Serve(ln, inbound.Listener{}) }()
	f.Cleanup(func() {
		_ = s.Shutdown(context.Background())
		<-served
	})
	f.Fuzz(func(t *testing.T, said []byte) {
		taken.mu.Lock()
		taken.messages = nil
		taken.mu.Unlock()
		socket := newTape(said)
		ln.conns <- socket
		<-socket.closed
		if n := s.Stats().Panics.Load(); n != 0 {
			t.Fatalf("%d panics", n)
		}
		heard := socket.heard.String()
		for line := range strings.SplitAfterSeq(heard, "\n") {
			// After STARTTLS the answer is TLS.
			if strings.HasPrefix(line, "220 2.0.0") {
				break
			}
			if line != "" && !replyLine.MatchString(line) {
				t.Fatalf("reply %q", line)
			}
		}
		messages := taken.taken()
		if n := strings.Count(heard, "queued as"); n != len(messages) {
			t.Fatalf("%d messages were answered, %d taken", n, len(messages))
		}
		for _, m := range messages {
			if n := len(m.envelope.Recipients); n == 0 || n > 3 || len(m.content) > 502 {
				t.Fatalf("%d recipients, %d octets", n, len(m.content))
			}
			if m.content != "" && !strings.HasSuffix(m.content, "\r\n") || strings.Contains(strings.ReplaceAll(m.content, "\r\n", ""), "\n") {
				t.Fatalf("content %q", m.content)
			}
		}
	})
}
