package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay"
	"tacet/relay/content"
	"tacet/relay/inbound"
	"tacet/relay/outbound"
)

// canaryHook is a place where the parts of a relay meet, and where a part that leaks
// could be put.
type canaryHook int

const (
	atRecord  canaryHook = iota // a record is on its way to the relay log
	atLogin                     // a user and a password are checked
	atRefuse                    // a client is refused
	atAccept                    // a message is taken
	atStore                     // it is stored
	atDeliver                   // it is about to be delivered
	atResult                    // a next hop has answered
	atRoute                     // a next hop was found, or not
	atSent                      // octets came from a next hop
	atClient                    // octets came from a client
	atList                      // an operator looks at a message
	atScrape                    // metrics are asked for
	atHealth                    // health is asked for
	atAudit                     // an action is on its way to the audit log
	atTrace                     // a transaction begins that an incident may want
	atAnswer                    // the control socket is about to answer
	atPrint                     // a command has printed what it prints
	atCount                     // a session or a message is counted for a report
	atPost                      // a report goes to a web server
)

// canarySight is what a hook shows; what is not of its place is zero.
type canarySight struct {
	record   *logging.Record
	envelope *queue.Envelope
	claim    *queue.Claim
	result   *relay.Result
	refusal  *relay.Refusal
	route    *relay.Route
	action   *logging.Action
	err      error
	head     []byte
	octets   []byte
	user     string
	password string
	answer   io.Writer
	trace    relay.Trace
	session  *relay.TLSSession
	outcome  *relay.DMARCOutcome
	path     string
	body     *bytes.Buffer
}

// canaryRelay is a relay in this process, its parts put together by way of hooks.
type canaryRelay struct {
	*daemon
	w          *canaryWorld
	operations lockedBuffer
	fire       func(canaryHook, *canarySight) // nil: nothing leaks
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) all() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

func (s *canaryRelay) at(h canaryHook, what *canarySight) {
	if s.fire != nil {
		s.fire(h, what)
	}
}

// startCanaryRelay starts a relay as startDaemon does it.
func startCanaryRelay(t *testing.T, w *canaryWorld, fire func(*canaryRelay, canaryHook, *canarySight)) *canaryRelay {
	t.Helper()
	w.pull()
	w.note([]string{"serve"}) // put together by hand; TestCanariesOfTheBinary runs the command
	config, err := LoadConfig(w.config)
	if err != nil {
		t.Fatal(err)
	}
	s := &canaryRelay{w: w}
	if fire != nil {
		s.fire = func(h canaryHook, what *canarySight) { fire(s, h, what) }
	}
	ops := logging.NewOperations(logging.OperationsOptions{To: &s.operations, Format: logging.FormatJSON})
	t.Cleanup(logging.CaptureStd(ops))
	s.daemon = &daemon{config: config, ops: ops, failed: make(chan error, 1)}
	s.certs.ops = ops
	for _, step := range []func(context.Context) error{
		s.openStore, s.openJournal, s.recordGrants, s.openIncidents, s.openPolicies, s.openReports, s.openLedger, s.assembleHooked, s.openUsers, s.loadCertificate,
		s.listenHooked, s.openControlHooked, s.openMetrics,
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.daemon.run()
	return s
}

func (s *canaryRelay) assembleHooked(context.Context) error {
	config := s.config.outbound(&s.routes)
	config.Observer = hookedTLS{s.reports, s}
	config.Tracer = hookedTracer{tracer{s.incidents}, s}
	config.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
		to := addr.String()
		for _, hop := range []string{"a", "e"} {
			if host, _, _ := net.SplitHostPort(s.w.hops[hop].address); addr.Port() == 25 && host == addr.Addr().String() { // the DNS names it
				to = s.w.hops[hop].address
			}
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", to)
		if err != nil {
			return nil, err
		}
		return &hookedConn{conn, func(octets []byte) { s.at(atSent, &canarySight{octets: octets}) }}, nil
	}
	s.client = outbound.New(config, hookedResolver{s})
	s.made(func() error { s.client.Close(); return nil })
	core, err := s.checked()
	if err != nil {
		return err
	}
	s.relay = relay.New(core, hookedStore{s.store, s}, s.store, &s.routes, hookedTransport{s.client, s}, hookedJournal{journal{s.journal}, s})
	s.kick.Store(s.relay)
	return nil
}

// cli runs a command.
func (s *canaryRelay) cli(args ...string) (int, []byte) {
	code, out := s.w.cli(args...)
	printed := bytes.NewBuffer(out)
	s.at(atPrint, &canarySight{path: strings.Join(args, " "), answer: printed})
	return code, printed.Bytes()
}

// checked is the config in the words of the core, with all that judges mail.
func (s *canaryRelay) checked() (relay.Config, error) {
	core, err := s.core(s.config)
	for i := range core.Checks {
		if v, ok := core.Checks[i].Check.(*content.Verifier); ok {
			v.Observer = hookedDMARC{v.Observer, s}
		}
	}
	return s.withPrimary(core, s.config), err
}

func (s *canaryRelay) listenHooked(ctx context.Context) error {
	config := s.config.inbound(s.daemon)
	config.Relay = hookedGate{config.Relay, s}
	config.Auth = hookedUsers{config.Auth, s}
	config.Tracer = hookedTracer{config.Tracer, s}
	s.server = inbound.New(config)
	for _, l := range s.config.Listeners {
		listener, err := inbound.Listen(ctx, l.Address)
		if err != nil {
			return err
		}
		s.made(func() error { return ignoreClosed(listener.Close()) })
		s.ports = append(s.ports, port{hookedListener{listener, s}, l.inbound()})
	}
	return nil
}

func (s *canaryRelay) openControlHooked(context.Context) error {
	c, err := s.newControl()
	if err != nil {
		return err
	}
	c.queue = hookedAdmin{s.store, s}
	c.health = func() health {
		h := s.health()
		fault := new(bytes.Buffer)
		if s.at(atHealth, &canarySight{answer: fault}); fault.Len() > 0 {
			h.Faults = append(h.Faults, fault.String())
		}
		return h
	}
	c.metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.metricsHandler().ServeHTTP(w, r)
		s.at(atScrape, &canarySight{answer: w})
	})
	c.audit = func(a logging.Action) error {
		s.at(atAudit, &canarySight{action: &a})
		return s.audit(a)
	}
	l, err := listenControl(s.config.controlSocket())
	if err != nil {
		return err
	}
	server := c.server()
	if s.fire != nil {
		server.Handler = hookedAnswers{server.Handler, s}
	}
	s.serveHTTP(server, l, logging.OpControlFailed)
	return nil
}

type hookedTracer struct {
	relay.Tracer
	s *canaryRelay
}

func (h hookedTracer) Trace(inbound bool, peer netip.Addr, host string) relay.Trace {
	trace := h.Tracer.Trace(inbound, peer, host)
	if trace == nil || h.s.fire == nil {
		return trace
	}
	return hookedTrace{trace, h.s}
}

type hookedTrace struct {
	relay.Trace
	s *canaryRelay
}

func (h hookedTrace) Recipient(address string) {
	h.Trace.Recipient(address)
	h.s.at(atTrace, &canarySight{trace: h.Trace})
}

// hookedAnswers are those of the control socket that end by themselves.
type hookedAnswers struct {
	http.Handler
	s *canaryRelay
}

func (h hookedAnswers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v1/backup") || r.URL.Path == "/v1/log" {
		h.Handler.ServeHTTP(w, r)
		return
	}
	kept := httptest.NewRecorder()
	h.Handler.ServeHTTP(kept, r)
	h.s.at(atAnswer, &canarySight{path: r.URL.Path, body: kept.Body})
	w.WriteHeader(kept.Code)
	w.Write(kept.Body.Bytes())
}

type hookedJournal struct {
	relay.Journal
	s *canaryRelay
}

func (j hookedJournal) Write(r *logging.Record) error {
	own := *r
	j.s.at(atRecord, &canarySight{record: &own})
	return j.Journal.Write(&own)
}

type hookedStore struct {
	queue.Store
	s *canaryRelay
}

func (h hookedStore) Put(ctx context.Context, e *queue.Envelope, head []byte, rest io.Reader) error {
	h.s.at(atStore, &canarySight{envelope: e, head: head})
	return h.Store.Put(ctx, e, head, rest)
}

type hookedAdmin struct {
	queue.Admin
	s *canaryRelay
}

func (a hookedAdmin) Get(ctx context.Context, id queue.ID) (*queue.Envelope, error) {
	e, err := a.Admin.Get(ctx, id)
	if err == nil {
		own := *e
		e = &own
		a.s.at(atList, &canarySight{envelope: e})
	}
	return e, err
}

type hookedTransport struct {
	relay.Transport
	s *canaryRelay
}

func (h hookedTransport) Deliver(ctx context.Context, c *queue.Claim) relay.Result {
	own := *c
	h.s.at(atDeliver, &canarySight{claim: &own, envelope: c.Envelope})
	if own.Content.Head != nil {
		own.Content.Size = int64(len(own.Content.Head))
	}
	res := h.Transport.Deliver(ctx, &own)
	h.s.at(atResult, &canarySight{claim: &own, envelope: c.Envelope, result: &res})
	return res
}

type hookedResolver struct{ s *canaryRelay }

func (h hookedResolver) Route(ctx context.Context, d queue.Destination) (*relay.Route, error) {
	r, err := h.s.held().Route(ctx, d)
	h.s.at(atRoute, &canarySight{route: r, err: err})
	return r, err
}

type hookedGate struct {
	inbound.Relay
	s *canaryRelay
}

func (g hookedGate) Refuse(f relay.Refusal) {
	g.s.at(atRefuse, &canarySight{refusal: &f})
	g.Relay.Refuse(f)
}

// Admit panics over one recipient, with what must not be printed.
func (g hookedGate) Admit(mx bool, o *queue.Origin, from queue.ReversePath, to queue.ForwardPath) error {
	if text := string(to); text == g.s.w.of("panic")+"@own.example" {
		panic(fmt.Errorf("no place for %s", to))
	}
	return g.Relay.Admit(mx, o, from, to)
}

func (g hookedGate) Accept(ctx context.Context, e *queue.Envelope, content io.Reader, s relay.Session) (queue.ID, error) {
	id, err := g.Relay.Accept(ctx, e, content, s)
	g.s.at(atAccept, &canarySight{envelope: e, err: err})
	return id, err
}

type hookedUsers struct {
	inbound.Authenticator
	s *canaryRelay
}

func (u hookedUsers) Authenticate(ctx context.Context, user, password string) (bool, error) {
	known, err := u.Authenticator.Authenticate(ctx, user, password)
	u.s.at(atLogin, &canarySight{user: user, password: password, err: err})
	return known, err
}

type hookedListener struct {
	net.Listener
	s *canaryRelay
}

func (l hookedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hookedConn{conn, func(octets []byte) { l.s.at(atClient, &canarySight{octets: octets}) }}, nil
}

type hookedConn struct {
	net.Conn
	read func([]byte)
}

func (c *hookedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read(p[:n])
	return n, err
}
