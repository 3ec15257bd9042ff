package inbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emersion/go-smtp"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound/wire"
)

// Server serves SMTP clients on any number of listeners.
type Server struct {
	config               Config
	stats                Stats
	smtp                 *smtp.Server
	attach               *handover
	keepClient, keepHelo atomic.Bool // of clients of MX listeners, in envelopes

	begin  sync.Once       // go-smtp's own loop
	ctx    context.Context // of all work for messages; ended with what Shutdown cuts off
	cancel context.CancelFunc

	mu        sync.Mutex
	limits    *Limits // replaced, never changed
	ports     []*port
	listeners []net.Listener
	conns     map[*client]struct{}
	clients   map[netip.Addr]int // connections by client, or by its /64
	stopping  bool
	stopped   chan struct{} // closed when stopping
	empty     chan struct{} // closed when stopping and no connection is left
}

// port is a listener as it is served.
type port struct {
	Listener
	tls      *tls.Config
	settings atomic.Pointer[wire.Settings]
}

// client is a connection as the server knows it, and what go-smtp takes for the socket.
type client struct {
	*wire.Conn
	port   *port
	limits *Limits
	key    netip.Addr
	peer   netip.Addr // at the other end of the socket: the client, or the proxy that named it
}

// New makes a server. It serves nothing yet.
func New(c Config) *Server {
	s := &Server{
		config:  c,
		limits:  c.Limits.withDefaults(),
		attach:  &handover{conns: make(chan net.Conn), done: make(chan struct{})},
		conns:   make(map[*client]struct{}),
		clients: make(map[netip.Addr]int),
		stopped: make(chan struct{}),
		empty:   make(chan struct{}),
	}
	s.Keep(c.Client, c.Helo)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	// go-smtp sees neither TLS nor limits nor time: the wire has them.
	s.smtp = smtp.NewServer(s)
	s.smtp.Domain = c.Hostname
	s.smtp.AllowInsecureAuth = true
	s.smtp.MaxLineLength = 0
	s.smtp.ErrorLog = errorLog{s}
	return s
}

// Stats are the server's counters.
func (s *Server) Stats() *Stats { return &s.stats }

// Serve accepts clients on ln, which may be any listener, until Shutdown, and
// then returns nil. It closes ln. Any other return is an error of ln that does not pass.
func (s *Server) Serve(ln net.Listener, l Listener) error {
	p := &port{Listener: l, tls: l.tlsConfig(s.config.TLS)}
	if !s.open(p, ln) {
		return ln.Close()
	}
	s.begin.Do(func() { go s.smtp.Serve(s.attach) })
	for pause := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			if p.behindProxy(nc) {
				go s.admitProxied(nc, p)
			} else {
				s.admit(nc, p)
			}
		case s.isStopping():
			return nil
		case passes(err):
			// Connections that end give descriptors and memory back.
			s.stats.AcceptFailed.Add(1)
			s.trouble(TroubleAccept)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-s.stopped:
				return nil
			}
		default:
			_ = ln.Close()
			return fmt.Errorf("accept connections: %w", err)
		}
	}
}

// open adds a listener, unless the server is going down.
func (s *Server) open(p *port, ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	p.settings.Store(s.settings(p.Listener, p.tls, s.limits))
	s.ports = append(s.ports, p)
	s.listeners = append(s.listeners, ln)
	return true
}

func (s *Server) isStopping() bool {
	select {
	case <-s.stopped:
		return true
	default:
		return false
	}
}

// passes tells whether accept may succeed later: errors of one connection, or
// of resources. All others are the listener's.
func passes(err error) bool {
	for _, errno := range [...]syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EPERM, syscall.EPROTO,
		syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ETIMEDOUT} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// admit begins a session, or turns the client away.
func (s *Server) admit(nc net.Conn, p *port) {
	set := p.settings.Load()
	c := &client{Conn: wire.New(nc, set), port: p}
	c.key, c.peer = clientKey(c.Client()), c.Client()
	if behind, ok := nc.(proxied); ok {
		c.peer = behind.proxy
	}
	reply := s.judge(c.Client(), p)
	if reply == "" {
		reply = s.add(c)
	}
	if reply != "" {
		s.stats.TurnedAway.Add(1)
		if !set.Implicit { // it fits into the socket's buffer: this does not wait
			_ = nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = nc.Write([]byte(reply))
		}
		_ = nc.Close()
		return
	}
	s.stats.Connections.Add(1)
	s.stats.Open.Add(1)
	c.OnClose = func() { s.remove(c) }
	if _, ok := nc.(*net.TCPConn); ok && set.Pause == 0 {
		c.Greet() // one change of goroutines earlier
	}
	go s.converse(c)
}

// judge asks the edge about a connection, and returns what the client reads if
// it is turned away.
func (s *Server) judge(client netip.Addr, p *port) (reply string) {
	if p.Kind != MX || s.config.Edge == nil {
		return ""
	}
	r, ok := errors.AsType[*relay.Rejection](s.config.Edge.Connect(client))
	if !ok {
		return ""
	}
	s.config.Relay.Refuse(relay.Refusal{Kind: relay.RefusedMail, Rejection: r, Stage: queue.StageConnect})
	return fmt.Sprintf("%d %d.%d.%d %s\r\n", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2], r.Text)
}

// early puts a client on record that spoke before it was greeted.
func (s *Server) early(l Listener) {
	s.config.Relay.Refuse(relay.Refusal{Kind: relay.RefusedMail, Rejection: errEarly, Stage: queue.StageGreeting})
}

// eagerMax is how many connections are handed to go-smtp before it is needed.
const eagerMax = 256

// converse runs the session until go-smtp is needed, which then goes on with it
// in a goroutine of its own. Most of an idle connection's memory is saved so.
func (s *Server) converse(c *client) {
	if c.Converse() {
		select {
		case s.attach.conns <- c:
			return
		case <-s.attach.done:
		}
	}
	_ = c.Close()
}

// add counts a connection, and returns what the client reads if there is no
// room for it.
func (s *Server) add(c *client) (reply string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limits := s.limits
	switch {
	case s.stopping:
		return replyShutdown
	case len(s.conns) >= limits.Connections:
		return replyFull
	case c.key.IsValid() && limits.ConnectionsPerClient > 0 && s.clients[c.key] >= limits.ConnectionsPerClient:
		return replyFullForClient
	}
	c.limits = limits
	c.Eager = len(s.conns) < eagerMax
	s.conns[c] = struct{}{}
	if c.key.IsValid() {
		s.clients[c.key]++
	}
	return ""
}

func (s *Server) remove(c *client) {
	s.stats.Open.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.key.IsValid() {
		if s.clients[c.key]--; s.clients[c.key] == 0 {
			delete(s.clients, c.key)
		}
	}
	if s.stopping && len(s.conns) == 0 {
		close(s.empty)
	}
}

// clientKey is what connections are counted by: an IPv4 address, or the /64 that one IPv6
// client has to itself.
func clientKey(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

func (s *Server) trouble(t Trouble) {
	if s.config.Events != nil {
		s.config.Events.Trouble(t)
	}
}

// tlsFailed puts a failed handshake on record.
func (s *Server) tlsFailed(l Listener, c *wire.Conn) {
	o := queue.Origin{Submission: l.Kind == Submission, TLS: queue.TLS{None: queue.NoTLSHandshakeFailed}}
	if o.Submission {
		o.Client = c.Client()
	}
	s.config.Relay.Refuse(relay.Refusal{Kind: relay.RefusedTLS, Rejection: errHandshake, Origin: o, Stage: queue.StageTLS})
}
