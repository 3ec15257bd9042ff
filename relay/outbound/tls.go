package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// security is what the connection to one hop is held to. Where it comes from
// is all that a policy is: whoever knows of DANE or MTA-STS for a hop makes
// another security with another verifier.
type security struct {
	off      bool     // STARTTLS is not used
	required bool     // never in the clear
	verified bool     // the verifier's verdict decides
	verifier verifier // judges the certificate, also where the verdict doesn't decide
}

// verifier judges what a handshake came to: how the peer was verified, or an
// error if it was not. name is the hop's.
type verifier func(cs *tls.ConnectionState, name string) (queue.Verified, error)

// errUnverified is a certificate that is not the required one.
var errUnverified = errors.New("the peer's certificate is not valid for its name")

// securityFor is what policy, our login and the message ask for together.
func (c *Client) securityFor(route *relay.Route, requireTLS bool) security {
	s := security{verifier: c.verifyPKIX}
	switch route.TLS {
	case relay.TLSNone:
		s.off = true
	case relay.TLSRequire:
		s.required = true
	case relay.TLSVerify:
		s.required, s.verified = true, true
	}
	if route.Auth != nil { // a password never goes in the clear (RFC 4954 §4)
		s.required = true
	}
	if requireTLS { // RFC 8689 §4.2.1
		s.required, s.verified = true, true
	}
	return s
}

// verifyPKIX checks the chain up to a known root and the name (RFC 6125).
func (c *Client) verifyPKIX(cs *tls.ConnectionState, name string) (queue.Verified, error) {
	if len(cs.PeerCertificates) == 0 {
		return queue.VerifiedNo, errUnverified
	}
	leaf := cs.PeerCertificates[0]
	if err := leaf.VerifyHostname(name); err != nil { // first, for it costs nothing
		return queue.VerifiedNo, errUnverified
	}
	opts := x509.VerifyOptions{Roots: c.config.Roots, Intermediates: x509.NewCertPool()}
	for _, cert := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return queue.VerifiedNo, errUnverified
	}
	return queue.VerifiedPKIX, nil
}

// startTLS asks for TLS and shakes hands. The faults after which the hop may
// be tried in the clear carry the reason.
func (c *conn) startTLS(sec security) *fault {
	r, f := c.ask(queue.StageTLS, []byte("STARTTLS\r\n"), nil)
	if f != nil {
		return f
	}
	if r.code != 220 {
		f := &fault{reply: r.toQueue(queue.StageTLS), inClear: queue.NoTLSRefused}
		f.reply.Cause = queue.CauseTLSHandshake // 5yz to STARTTLS refuses no recipient
		return f
	}
	if !c.inStep() { // what came in the clear must not count as said under TLS
		c.dead = true
		return broken(queue.StageTLS, queue.CauseProtocol, errInjected)
	}
	return c.handshake(sec)
}

func (c *conn) handshake(sec security) *fault {
	c.raw.SetDeadline(time.Now().Add(c.client.config.Timeouts.Command))
	t := tls.Client(c.raw, c.tlsConfig(sec))
	if err := t.Handshake(); err != nil {
		f := c.failed(queue.StageTLS, err)
		switch {
		case f.reply.Cause == queue.CauseShutdown:
		case errors.Is(err, errUnverified):
			f.reply.Cause = queue.CauseTLSUnverified
		case f.reply.Cause == queue.CauseTimeout:
			f.inClear = queue.NoTLSHandshakeFailed
		default:
			f.reply.Cause, f.inClear = queue.CauseTLSHandshake, queue.NoTLSHandshakeFailed
		}
		return f
	}
	c.raw.SetDeadline(time.Time{})
	state := t.ConnectionState()
	c.tls.Version, c.tls.Cipher = state.Version, state.CipherSuite
	c.secured(&state)
	c.net = t
	c.in.Reset(t)
	return nil
}

// tlsConfig has TLS 1.2 as its minimum for every policy: what only speaks an
// older version gets the message in the clear where that is allowed, and the log
// then says so, instead of calling a broken version protection (RFC 8996).
func (c *conn) tlsConfig(sec security) *tls.Config {
	return &tls.Config{
		ServerName:         c.hop.Name,
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does it, for resumed sessions too
		VerifyConnection: func(cs tls.ConnectionState) error {
			verified, err := sec.verifier(&cs, c.hop.Name)
			if err != nil && sec.verified {
				return errUnverified
			}
			c.tls.Verified = verified
			return nil
		},
		ClientSessionCache: sessionsOf{c.client.sessions, sessionKey(c.dest, c.hop.Addr, sec)},
		// One record of 16 KiB is one system call; small ones at the start are for browsers.
		DynamicRecordSizingDisabled: true,
	}
}

// sessionsOf is the part of the session cache that one destination, address
// and policy share, so that no session is resumed under another.
type sessionsOf struct {
	all tls.ClientSessionCache
	key string
}

func (s sessionsOf) Get(string) (*tls.ClientSessionState, bool)  { return s.all.Get(s.key) }
func (s sessionsOf) Put(_ string, state *tls.ClientSessionState) { s.all.Put(s.key, state) }

func sessionKey(d queue.Destination, a netip.AddrPort, sec security) string {
	policy := "o"
	switch {
	case sec.verified:
		policy = "v"
	case sec.required:
		policy = "r"
	}
	return policy + " " + a.String() + " " + string(d)
}
