package outbound

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// hop is a next hop for tests: it serves each connection by a script, and
// remembers what it was told and what it took.
type hop struct {
	t testing.TB

	mu       sync.Mutex
	scripts  []script // of the connections in their order; the last serves all further ones
	dialed   []netip.AddrPort
	commands []string
	messages []message
	wg       sync.WaitGroup
}

// script serves one connection.
type script func(*side)

// message is one that a hop took.
type message struct {
	from    string
	to      []string
	content string
}

// side is the hop's side of one connection.
type side struct {
	*hop
	conn  net.Conn
	in    *bufio.Reader
	mails int // for hooks to count with
	tls   bool
}

func newHop(t testing.TB, scripts ...script) *hop {
	h := &hop{t: t, scripts: scripts}
	return h
}

// dial is a Dialer over net.Pipe.
func (h *hop) dial(_ context.Context, addr netip.AddrPort) (net.Conn, error) {
	ours, theirs := net.Pipe()
	h.serve(addr, theirs)
	return ours, nil
}

// dialTCP is a Dialer over loopback, for what a pipe cannot show.
func (h *hop) dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ours, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	theirs, err := l.Accept()
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	h.serve(addr, theirs)
	return ours, nil
}

func (h *hop) serve(addr netip.AddrPort, c net.Conn) {
	h.mu.Lock()
	n := min(len(h.dialed), len(h.scripts)-1)
	h.dialed = append(h.dialed, addr)
	h.mu.Unlock()
	h.wg.Go(func() {
		defer c.Close()
		h.scripts[n](&side{hop: h, conn: c, in: bufio.NewReaderSize(c, 256<<10)})
	})
}

func (h *hop) taken() []message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.messages
}

func (h *hop) dials() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.dialed)
}

func (h *hop) told() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.commands
}

// say writes lines. A peer that is gone shows at the next line.
func (s *side) say(lines ...string) {
	io.WriteString(s.conn, strings.Join(lines, "\r\n")+"\r\n")
}

// line reads one command; strict about its end.
func (s *side) line() (string, bool) {
	line, err := s.in.ReadString('\n')
	if err != nil {
		return "", false
	}
	if !strings.HasSuffix(line, "\r\n") {
		s.t.Errorf("command %q does not end in CRLF", line)
	}
	line = strings.TrimRight(line, "\r\n")
	s.mu.Lock()
	s.commands = append(s.commands, line)
	s.mu.Unlock()
	return line, true
}

// stall says nothing more until the client hangs up.
func (s *side) stall() { io.Copy(io.Discard, s.in) }

// reset hangs up by RST where the connection knows of it.
func (s *side) reset() {
	if c, ok := s.conn.(*net.TCPConn); ok {
		c.SetLinger(0)
	}
	s.conn.Close()
}

// repeat says line until nobody listens.
func (s *side) repeat(line string) {
	for {
		if _, err := io.WriteString(s.conn, line); err != nil {
			return
		}
	}
}

// handshake goes on under TLS.
func (s *side) handshake(config *tls.Config) bool {
	c := tls.Server(s.conn, config)
	if c.Handshake() != nil {
		return false
	}
	s.conn, s.tls = c, true
	s.in.Reset(c)
	return true
}

// hook is called at each state of the session before the hop answers: it
// returns the answer, or "" for the usual one. "-" ends the session, and "." goes on
// with it: the hook has seen to the answer.
type hook func(s *side, state, line string) string

// server is a well-behaved server with the given EHLO keywords, but for what the hook does.
func server(keywords string, config *tls.Config, h hook) script {
	return func(s *side) {
		v := serverSession{side: s, keywords: strings.Fields(strings.ReplaceAll(keywords, " ", "\n")), config: config, hook: h}
		for i, k := range v.keywords {
			v.keywords[i] = strings.ReplaceAll(k, "_", " ")
		}
		v.run()
	}
}

type serverSession struct {
	*side
	keywords []string
	config   *tls.Config
	hook     hook
	message  message
	last     string
}

// answer says the hook's answer or the usual one, and tells which.
func (v *serverSession) answer(state, line, usual string) bool {
	said := ""
	if v.hook != nil {
		said = v.hook(v.side, state, line)
	}
	if said == "-" {
		return false
	}
	if said == "" {
		said = usual
	}
	if v.last = said; said == "." { // the hook has said the usual
		v.last = usual
		return true
	}
	v.say(said)
	return true
}

func (v *serverSession) ok() bool { return v.last[0] == '2' || v.last[0] == '3' }

func (v *serverSession) run() {
	if !v.answer("greeting", "", "220 hop.example ESMTP") {
		return
	}
	for {
		line, ok := v.line()
		if !ok || !v.command(line) {
			return
		}
	}
}

func (v *serverSession) command(line string) bool {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "EHLO":
		return v.answer("ehlo", line, v.offers())
	case "HELO":
		return v.answer("helo", line, "250 hop.example")
	case "STARTTLS":
		return v.answer("starttls", line, "220 2.0.0 go ahead") && (!v.ok() || v.handshake(v.config))
	case "XCLIENT", "XFORWARD":
		return v.answer("introduction", line, "500 5.5.1 what?")
	case "AUTH":
		return v.answer("auth", line, "235 2.7.0 welcome")
	case "RSET":
		v.message = message{}
		return v.answer("rset", line, "250 2.0.0 flushed")
	case "MAIL":
		if !v.answer("mail", line, "250 2.1.0 sender ok") {
			return false
		}
		if v.ok() {
			v.message = message{from: rest}
		}
		return true
	case "RCPT":
		if v.message.from == "" {
			v.say("503 5.5.1 need MAIL")
			return true
		}
		if !v.answer("rcpt", line, "250 2.1.5 recipient ok") {
			return false
		}
		if v.ok() {
			v.message.to = append(v.message.to, rest)
		}
		return true
	case "DATA":
		return v.data(line)
	case "BDAT":
		return v.bdat(line)
	case "QUIT":
		v.say("221 2.0.0 bye")
		return false
	}
	return v.answer("other", line, "500 5.5.2 what")
}

func (v *serverSession) offers() string {
	lines := []string{"250-hop.example greets you"}
	for _, k := range v.keywords {
		if k == "STARTTLS" && v.tls {
			continue
		}
		lines = append(lines, "250-"+k)
	}
	return strings.Join(append(lines, "250 HELP"), "\r\n")
}

func (v *serverSession) data(line string) bool {
	if len(v.message.to) == 0 {
		return v.answer("nobody", line, "554 5.5.1 no valid recipients") && (!v.ok() || v.receive())
	}
	if !v.answer("data", line, "354 go ahead") {
		return false
	}
	return !v.ok() || v.receive()
}

func (v *serverSession) receive() bool {
	content, err := readDots(v.in)
	if err != nil {
		return false
	}
	return v.end(content)
}

func (v *serverSession) bdat(line string) bool {
	words := strings.Fields(line)
	if len(words) != 3 || words[2] != "LAST" {
		v.t.Errorf("unexpected %q", line)
		return false
	}
	n, err := strconv.Atoi(words[1])
	if err != nil {
		v.t.Errorf("unexpected %q", line)
		return false
	}
	content := make([]byte, n)
	if _, err := io.ReadFull(v.in, content); err != nil {
		return false
	}
	if len(v.message.to) == 0 {
		return v.answer("nobody", line, "554 5.5.1 no valid recipients")
	}
	return v.end(string(content))
}

func (v *serverSession) end(content string) bool {
	v.message.content = content
	taken := v.message
	v.message = message{}
	// What is taken is taken before the answer: that is what makes a lost one ambiguous.
	v.mu.Lock()
	v.messages = append(v.messages, taken)
	n := len(v.messages)
	v.mu.Unlock()
	if !v.answer("end", "", fmt.Sprintf("250 2.0.0 Ok: queued as 4XyZ%04d", n)) {
		return false
	}
	if !v.ok() {
		v.mu.Lock()
		v.messages = v.messages[:n-1]
		v.mu.Unlock()
	}
	return true
}

// readDots is a strict reader of DATA (RFC 5321 §4.5.2): only CRLF ends a
// line, and a bare CR, a bare LF or a NUL is an error.
func readDots(in *bufio.Reader) (string, error) {
	var content bytes.Buffer
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return "", err
		}
		if !bytes.HasSuffix(line, []byte("\r\n")) || bytes.IndexByte(line, '\r') != len(line)-2 || bytes.IndexByte(line, 0) >= 0 {
			return "", fmt.Errorf("line %q is not one", line)
		}
		if line[0] == '.' {
			if len(line) == 3 {
				return content.String(), nil
			}
			line = line[1:]
		}
		content.Write(line)
	}
}

// routeTo is a Resolver with one route.
type routeTo struct {
	route *relay.Route
	err   error
	asked int
}

func (r *routeTo) Route(context.Context, queue.Destination) (*relay.Route, error) {
	r.asked++
	return r.route, r.err
}

// hops are n next hops, named a.example, b.example …
func hops(n int) *routeTo {
	r := &relay.Route{}
	for i := range n {
		r.Hops = append(r.Hops, relay.Hop{
			Name: string(rune('a'+i)) + ".example",
			Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i)}), 25),
		})
	}
	return &routeTo{route: r}
}

const dest = queue.Destination("example.com")

const letter = "From: a@example.org\r\nSubject: hello\r\n\r\nHello,\r\n.dot\r\n..two\r\n.\r\nbye\r\n"

// claim is a message to the recipients.
func claim(content string, to ...queue.ForwardPath) *queue.Claim {
	e := &queue.Envelope{ID: queue.NewID(time.Now()), Sender: "sender@example.org", Size: int64(len(content))}
	c := &queue.Claim{Envelope: e, Destination: dest, Content: queue.Content{Head: []byte(content), Size: int64(len(content))}}
	for i, r := range to {
		e.Recipients = append(e.Recipients, queue.Recipient{Path: r})
		c.Recipients = append(c.Recipients, i)
	}
	return c
}

// streamed is c with its content given out by a reader.
func streamed(c *queue.Claim) *queue.Claim {
	content := c.Content.Head
	c.Content.Head = nil
	c.Content.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	return c
}

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(100, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// config is that of a TLS server of the given name.
func (a *authority) config(t testing.TB, name string) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(100, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
