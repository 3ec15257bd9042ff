package wire

import (
	"crypto/tls"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tacet/relay"
)

// Settings is what the connections of one listener share. Nothing of it
// changes once [Settings.Prepare] has returned; a change of configuration makes new Settings.
type Settings struct {
	Hostname string      // in the greeting and the EHLO reply
	TLS      *tls.Config // nil: no TLS
	Implicit bool        // TLS before the greeting, no STARTTLS
	Auth     bool        // AUTH PLAIN LOGIN is offered, under TLS
	KeepHelo bool        // the name in EHLO is kept for SPF

	MaxMessageSize   int64         // octets; 0: no limit
	CommandTimeout   time.Duration // for one command line, and for writing replies; 0: 5 minutes
	HandshakeTimeout time.Duration // for a TLS handshake; 0: 1 minute
	MinContentRate   int64         // octets per second of content; 0: 500
	ContentWindow    time.Duration // the time over which the rate is measured, and so the longest stall; 0: 1 minute
	MaxErrors        int           // wrong commands before 421; 0: 20
	MaxJunk          int           // commands without use (NOOP, RSET, EHLO …) between two messages, and refused senders and recipients, before 421; 0: 100

	Pause time.Duration // before the greeting; who speaks during it is turned away
	Early func()        // somebody did; may be nil

	Etrn func(client netip.Addr, name string) EtrnResult // starts a queue for the client (RFC 1985); nil: not offered

	Tracer    relay.Tracer // of dialogues; nil: none
	Counters  *Counters    // nil: own
	TLSFailed func(*Conn)  // a handshake failed; may be nil
	Panicked  func()       // a panic was contained; may be nil

	greeting, helo, ehlo, ehloTLS string
	quota                         int64     // octets of content that a window needs
	drain                         int64     // octets of refused content that are read before giving up
	buffers                       sync.Pool // of *[bigBuffer]byte
}

// buffer is a big input buffer, to be put back into buffers.
func (s *Settings) buffer() *[bigBuffer]byte {
	if b, ok := s.buffers.Get().(*[bigBuffer]byte); ok {
		return b
	}
	return new([bigBuffer]byte)
}

// Counters count what happened on the wire. All may be read at any time.
type Counters struct {
	HandshakesOK     atomic.Int64
	HandshakesFailed atomic.Int64
	BadCommands      atomic.Int64 // syntax and sequence
	BadContent       atomic.Int64 // bare CR, bare LF, NUL
	TooLarge         atomic.Int64
	ErrorBudget      atomic.Int64 // sessions ended for too many errors or junk
	Early            atomic.Int64 // clients that spoke before the greeting
	Foreign          atomic.Int64 // sessions that spoke another protocol
	TimedOut         atomic.Int64 // sessions ended idle
	Stalled          atomic.Int64 // contents cut off below the minimum rate
	Truncated        atomic.Int64 // contents that ended with the connection
	Panics           atomic.Int64
}

// Prepare fills in the defaults and what is the same in each session.
func (s *Settings) Prepare() *Settings {
	orDefault(&s.CommandTimeout, 5*time.Minute) // RFC 5321 §4.5.3.2.7
	orDefault(&s.HandshakeTimeout, time.Minute)
	orDefault(&s.MinContentRate, 500)
	orDefault(&s.ContentWindow, time.Minute)
	orDefault(&s.MaxErrors, 20)
	orDefault(&s.MaxJunk, 100)
	if s.Counters == nil {
		s.Counters = new(Counters)
	}
	// A sixteenth less, because a deadline may come a little early.
	s.quota = int64(float64(s.MinContentRate) * s.ContentWindow.Seconds() * 15 / 16)
	s.drain = 64 << 20
	if s.MaxMessageSize > 0 {
		s.drain = s.MaxMessageSize + 1<<20
	}
	s.greeting = "220 " + s.Hostname + " ESMTP\r\n"
	s.helo = "250 " + s.Hostname + "\r\n"
	s.ehlo = s.extensions(false)
	s.ehloTLS = s.extensions(true)
	return s
}

func orDefault[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}

// extensions makes the reply to EHLO.
func (s *Settings) extensions(underTLS bool) string {
	b := []byte("250-" + s.Hostname + "\r\n250-PIPELINING\r\n250-SIZE")
	if s.MaxMessageSize > 0 {
		b = strconv.AppendInt(append(b, ' '), s.MaxMessageSize, 10)
	}
	b = append(b, "\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250-DSN\r\n"...)
	if underTLS {
		b = append(b, "250-REQUIRETLS\r\n"...)
	}
	if s.Etrn != nil {
		b = append(b, "250-ETRN\r\n"...)
	}
	switch {
	case underTLS && s.Auth:
		b = append(b, "250-AUTH PLAIN LOGIN\r\n"...)
	case !underTLS && s.TLS != nil && !s.Implicit:
		b = append(b, "250-STARTTLS\r\n"...)
	}
	return string(append(b, "250 ENHANCEDSTATUSCODES\r\n"...))
}
