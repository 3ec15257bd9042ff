package inbound_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound"
)

// message is what the relay was given.
type message struct {
	envelope queue.Envelope
	content  string
	with     string
}

// fakeRelay takes everything, but for what its functions say otherwise.
type fakeRelay struct {
	admitSender func(mx bool, o *queue.Origin, from queue.ReversePath) error
	admit       func(mx bool, o *queue.Origin, from queue.ReversePath, to queue.ForwardPath) error
	ready       func() error
	accept      func(ctx context.Context, e *queue.Envelope, content io.Reader) error

	mu       sync.Mutex
	messages []message
	errors   []error // of contents that were not read to their end
	refusals []relay.Refusal
}

func (f *fakeRelay) AdmitSender(mx bool, o *queue.Origin, from queue.ReversePath) error {
	if f.admitSender != nil {
		return f.admitSender(mx, o, from)
	}
	return nil
}

func (f *fakeRelay) Admit(mx bool, o *queue.Origin, from queue.ReversePath, to queue.ForwardPath) error {
	if f.admit != nil {
		return f.admit(mx, o, from, to)
	}
	return nil
}

func (f *fakeRelay) Ready() error {
	if f.ready != nil {
		return f.ready()
	}
	return nil
}

func (f *fakeRelay) Accept(ctx context.Context, e *queue.Envelope, content io.Reader, s relay.Session) (queue.ID, error) {
	if f.accept != nil {
		if err := f.accept(ctx, e, content); err != nil {
			return queue.ID{}, err
		}
	}
	b, err := io.ReadAll(content)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.errors = append(f.errors, err)
		return queue.ID{}, errors.Join(errors.New("store the content"), err)
	}
	f.messages = append(f.messages, message{*e, string(b), s.Protocol})
	return queue.NewID(time.Now()), nil
}

func (f *fakeRelay) Refuse(r relay.Refusal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusals = append(f.refusals, r)
}

func (f *fakeRelay) taken() []message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.messages
}

func (f *fakeRelay) refused() []relay.Refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refusals
}

// users is an Authenticator: name to password.
type users map[string]string

func (u users) Authenticate(_ context.Context, user, password string) (bool, error) {
	p, known := u[user]
	if !known || p != password {
		return known, errors.New("wrong")
	}
	return true, nil
}

func (u users) Exists(user string) bool { _, ok := u[user]; return ok }

// troubles counts what the operator hears.
type troubles struct {
	mu   sync.Mutex
	seen []inbound.Trouble
}

func (t *troubles) Trouble(kind inbound.Trouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = append(t.seen, kind)
}

// pipes is a listener whose connections are net.Pipe.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// addressed is a pipe end with a client's address.
type addressed struct {
	net.Conn
	addr string
}

func (a addressed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(mustAddrPort(a.addr))
}

// world is a server with one listener and what it calls.
type world struct {
	t      testing.TB
	server *inbound.Server
	ln     *pipes
	relay  *fakeRelay
	events *troubles
	served chan error
}

// option changes what a world is made of.
type option func(*inbound.Config, *inbound.Listener, *fakeRelay)

func withLimits(l inbound.Limits) option {
	return func(c *inbound.Config, _ *inbound.Listener, _ *fakeRelay) { c.Limits = l }
}

func withListener(l inbound.Listener) option {
	return func(_ *inbound.Config, own *inbound.Listener, _ *fakeRelay) { *own = l }
}

func withTLS(_ *inbound.Config, l *inbound.Listener, _ *fakeRelay) { l.TLS = inbound.StartTLS }

func withRelay(change func(*fakeRelay)) option {
	return func(_ *inbound.Config, _ *inbound.Listener, r *fakeRelay) { change(r) }
}

// start makes a world: a submission listener without TLS unless told otherwise.
func start(t testing.TB, options ...option) *world {
	t.Helper()
	w := &world{t: t, ln: newPipes(), relay: &fakeRelay{}, events: &troubles{}, served: make(chan error, 1)}
	config := inbound.Config{
		Hostname: "relay.example", TLS: serverTLS(t), Relay: w.relay, Events: w.events,
		Auth: users{"alice": "secret", "bob": "hunter2"},
	}
	l := inbound.Listener{Kind: inbound.Submission, TLS: inbound.NoTLS}
	for _, o := range options {
		o(&config, &l, w.relay)
	}
	w.server = inbound.New(config)
	go func() { w.served <- w.server.Serve(w.ln, l) }()
	t.Cleanup(w.stop)
	return w
}

// stop shuts the server down; a second time nothing happens.
func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.server.Shutdown(ctx); errors.Is(err, net.ErrClosed) {
		return
	} else if err != nil {
		w.t.Errorf("Shutdown: %v", err)
	}
	if err := <-w.served; err != nil {
		w.t.Errorf("Serve: %v", err)
	}
}

// dial connects a client and reads the greeting.
func (w *world) dial() *peer {
	w.t.Helper()
	p := w.dialFrom("192.0.2.1:40000")
	p.expect("220 relay.example ESMTP")
	return p
}

func (w *world) dialFrom(addr string) *peer {
	w.t.Helper()
	mine, theirs := net.Pipe()
	w.ln.conns <- addressed{theirs, addr}
	return newPeer(w.t, mine)
}

// hello connects a client that has said EHLO.
func (w *world) hello() *peer {
	w.t.Helper()
	p := w.dial()
	p.send("EHLO client.example\r\n")
	p.expect("250")
	return p
}

// ready connects a client with an open transaction.
func (w *world) ready() *peer {
	w.t.Helper()
	p := w.hello()
	p.send("MAIL FROM:<s@example.org>\r\nRCPT TO:<r@example.net>\r\n")
	p.expect("250 2.1.0")
	p.expect("250 2.1.5")
	return p
}

// peer is the client's end. It reads all the time, so that neither side waits for the other to write.
type peer struct {
	t     testing.TB
	conn  net.Conn
	lines chan string // closed at the end of the connection
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	p := &peer{t: t, conn: conn, lines: make(chan string, 10000)}
	go func() {
		defer close(p.lines)
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if line != "" {
				p.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close() })
	return p
}

// send writes and does not mind a server that has closed.
func (p *peer) send(s string) { _, _ = io.WriteString(p.conn, s) }

// read returns the next reply, its lines joined, empty at the end of the connection.
func (p *peer) read() string {
	var reply strings.Builder
	for line := range p.lines {
		reply.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	return reply.String()
}

// expect reads a reply that begins with want.
func (p *peer) expect(want string) string {
	p.t.Helper()
	got := p.read()
	if !strings.HasPrefix(got, want) {
		p.t.Fatalf("reply is %q, want %q", got, want)
	}
	if !strings.HasSuffix(got, "\r\n") {
		p.t.Fatalf("reply %q does not end in CR LF", got)
	}
	return got
}

// expectEnd reads the end of the connection.
func (p *peer) expectEnd() {
	p.t.Helper()
	if got := p.read(); got != "" {
		p.t.Fatalf("reply is %q, want the connection to end", got)
	}
}

// ask sends a line and expects its reply.
func (p *peer) ask(line, want string) string {
	p.t.Helper()
	p.send(line + "\r\n")
	return p.expect(want)
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.example"}, DNSNames: []string{"relay.example"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS(testing.TB) *tls.Config {
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := certificate()
		return &c, nil
	}}
}

// raw connects without a peer and, on a listener with STARTTLS, goes as far as the reply to it.
func (w *world) raw(implicit bool) net.Conn {
	w.t.Helper()
	mine, theirs := net.Pipe()
	w.ln.conns <- addressed{theirs, "192.0.2.1:40000"}
	w.t.Cleanup(func() { _ = mine.Close() })
	if implicit {
		return mine
	}
	r := textproto.NewReader(bufio.NewReader(mine))
	for _, step := range []struct {
		say  string
		code int
	}{{"", 220}, {"EHLO client.example\r\n", 250}, {"STARTTLS\r\n", 220}} {
		if step.say != "" {
			if _, err := io.WriteString(mine, step.say); err != nil {
				w.t.Fatal(err)
			}
		}
		if _, _, err := r.ReadResponse(step.code); err != nil {
			w.t.Fatal(err)
		}
	}
	return mine
}

// tcp connects over a real socket, where neither side waits for the other to read.
func (w *world) tcp() net.Conn {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer ln.Close()
	mine, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	theirs, err := ln.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	w.ln.conns <- theirs
	w.t.Cleanup(func() { _ = mine.Close() })
	return mine
}

// secure connects a client over TLS that has said EHLO since, and returns the reply to it.
func (w *world) secure(implicit bool) (*peer, string) {
	w.t.Helper()
	conn := tls.Client(w.raw(implicit), &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	p := newPeer(w.t, conn)
	if implicit {
		p.expect("220")
	}
	return p, p.ask("EHLO client.example", "250")
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
