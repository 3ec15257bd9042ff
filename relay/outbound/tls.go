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

// security is what the connection to one hop is held to.
type security struct {
	off      bool     // STARTTLS is not used
	required bool     // never in the clear
	verified bool     // the verifier's verdict decides
	verifier verifier // judges the certificate, also where the verdict doesn't decide
	sni      string
	wanted   queue.Wanted // by policy and configuration
	strict   bool         // the message was given with REQUIRETLS
	waived   bool         // the policy of the domain is not in force
	certain  bool         // the hop's name is the domain's own word
	refused  queue.Cause  // the hop must not be contacted; CauseNone: it may

	domain string      // to which sessions are reported; empty: to none
	hold   *relay.Hold // in force; may be nil

	as introduction // beside all that: in whose name the session is held
}

// verifier judges what a handshake came to: how the peer was verified, or an
// error if it was not: an [unverified]. name is the hop's.
type verifier func(cs *tls.ConnectionState, name string) (queue.Verified, error)

// unverified is a certificate that is not the required one, and why.
type unverified relay.TLSFailure

func (unverified) Error() string { return "the peer's certificate is not the required one" }

// securityFor is what the configuration, the policies that the domain or the
// host publishes, our login and the message ask for together.
func (c *Client) securityFor(route *relay.Route, hop *relay.Hop, e *queue.Envelope) security {
	s := security{verifier: c.verifyPKIX, sni: hop.Name, certain: route.Authentic, domain: route.Domain, as: c.introductionOf(route, e)}
	switch route.TLS {
	case relay.TLSNone:
		s.off, s.domain = true, ""
	case relay.TLSRequire:
		s.required, s.wanted = true, queue.WantedRequire
	case relay.TLSVerify:
		s.required, s.verified, s.wanted = true, true, queue.WantedVerify
	}
	switch waived := e.TLSOptional && !e.RequireTLS; {
	case hop.Hold == nil || s.off:
	case waived: // RFC 8689 §5
		s.waived, s.domain = true, ""
		if s.wanted == queue.WantedNothing {
			s.wanted = queue.WantedWaived
		}
	default:
		c.obey(&s, hop.Hold)
	}
	if route.Auth != nil { // a password never goes in the clear (RFC 4954 §4)
		s.required, s.wanted = true, max(s.wanted, queue.WantedRequire)
	}
	if e.RequireTLS { // RFC 8689 §4.2.1
		s.required, s.verified, s.strict = true, true, true
		if !s.certain && s.refused == queue.CauseNone {
			s.refused = queue.CauseNoRequireTLS
		}
	}
	return s
}

// obey holds s to a published policy. DANE outweighs MTA-STS (RFC 8461 §2),
// and both what is configured.
func (c *Client) obey(s *security, h *relay.Hold) {
	s.hold, s.refused = h, h.Refused
	if h.Require {
		s.required, s.wanted = true, max(s.wanted, queue.WantedRequire)
	}
	switch h.By {
	case relay.HeldByDANE:
		s.required, s.verified, s.wanted = true, true, queue.WantedDANE
		s.verifier, s.sni = verifyTLSA(h), h.Base
	case relay.HeldBySTS:
		s.required, s.verified, s.wanted = true, true, queue.WantedSTS
		s.verifier, s.certain = c.verifySTS, true
	case relay.HeldBySTSTesting:
		s.wanted = max(s.wanted, queue.WantedSTSTesting)
		s.certain = s.certain || h.Failure == relay.TLSFailureNone
	}
}

// verifyPKIX checks the chain up to a known root and the name (RFC 6125).
func (c *Client) verifyPKIX(cs *tls.ConnectionState, name string) (queue.Verified, error) {
	if len(cs.PeerCertificates) == 0 {
		return queue.VerifiedNo, unverified(relay.FailedUntrusted)
	}
	leaf := cs.PeerCertificates[0]
	if err := leaf.VerifyHostname(name); err != nil { // first, for it costs nothing
		return queue.VerifiedNo, unverified(relay.FailedMismatch)
	}
	opts := x509.VerifyOptions{Roots: c.config.Roots, Intermediates: x509.NewCertPool()}
	for _, cert := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := leaf.Verify(opts); err != nil {
		return queue.VerifiedNo, chainFault(err)
	}
	return queue.VerifiedPKIX, nil
}

// verifySTS is verifyPKIX for a host of an MTA-STS policy (RFC 8461 §4.2).
func (c *Client) verifySTS(cs *tls.ConnectionState, name string) (queue.Verified, error) {
	if _, err := c.verifyPKIX(cs, name); err != nil {
		return queue.VerifiedNo, err
	}
	return queue.VerifiedSTS, nil
}

// chainFault says in a word why a chain does not hold.
func chainFault(err error) error {
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		return unverified(relay.FailedExpired)
	}
	return unverified(relay.FailedUntrusted)
}

// protection is t as it counts for this message: a connection may carry mail
// that asked for more than it was opened for.
func (a *attempt) protection(t queue.TLS) queue.TLS {
	if a.env.RequireTLS {
		t.Wanted = queue.WantedRequireTLS
	}
	return t
}

// held tells whether a kept connection may carry mail whose sender waived nothing.
func (c *conn) held() bool { return !c.waived }

// heldStrictly tells whether it may carry mail that was given with REQUIRETLS
// (RFC 8689 §4.2.1).
func (c *conn) heldStrictly() bool {
	return c.held() && c.certain && c.tls.Verified != queue.VerifiedNo
}

// observe counts what became of a new session, for reports to the domain
// (RFC 8460). Connections that TLS has no part in are not counted.
func (c *Client) observe(hop relay.Hop, sec *security, s *conn, f *fault) {
	if c.config.Observer == nil || sec.domain == "" {
		return
	}
	session := relay.TLSSession{Domain: sec.domain, Host: hop.Name, Hold: sec.hold}
	switch {
	case f == nil && s.tls.None == queue.NoTLSUnset:
		if sec.hold != nil && sec.hold.By == relay.HeldBySTSTesting { // otherwise the certificate decided, or need not be valid
			session.Failure = s.failure
		}
	case sec.refused == queue.CauseNoRequireTLS:
		return // nobody spoke to the host
	case f == nil, f.reply.Cause == queue.CauseTLSRequired, f.reply.Cause == queue.CauseNoRequireTLS:
		session.Failure = relay.FailedStartTLS
	case sec.refused != queue.CauseNone && sec.hold != nil:
		session.Failure = sec.hold.Failure
	case f.failure != relay.TLSFailureNone:
		session.Failure = f.failure
	case f.reply.Stage == queue.StageTLS && f.reply.Cause != queue.CauseShutdown:
		session.Failure = relay.FailedValidation
	default:
		return
	}
	if session.Failure == relay.TLSFailureNone && sec.hold != nil {
		session.Failure = sec.hold.Failure
	}
	c.config.Observer.Observe(session)
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
		c.tls.None = queue.NoTLSHandshakeFailed
		return broken(queue.StageTLS, queue.CauseProtocol, errInjected)
	}
	return c.handshake(sec)
}

func (c *conn) handshake(sec security) *fault {
	c.raw.SetDeadline(time.Now().Add(c.client.config.Timeouts.Command))
	t := tls.Client(c.raw, c.tlsConfig(sec))
	if err := t.Handshake(); err != nil {
		f := c.failed(queue.StageTLS, err)
		why, _ := errors.AsType[unverified](err)
		switch why := relay.TLSFailure(why); {
		case f.reply.Cause == queue.CauseShutdown:
		case why != relay.TLSFailureNone:
			f.reply.Cause, f.failure, c.tls.None = queue.CauseTLSUnverified, why, queue.NoTLSUnverified
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
		ServerName:         sec.sni,
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // VerifyConnection does it, for resumed sessions too
		VerifyConnection: func(cs tls.ConnectionState) error {
			verified, err := sec.verifier(&cs, c.hop.Name)
			if err != nil && sec.verified {
				return err
			}
			why, _ := errors.AsType[unverified](err)
			c.tls.Verified, c.failure = verified, relay.TLSFailure(why)
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
	case sec.hold != nil && sec.hold.By == relay.HeldByDANE:
		policy = "d"
	case sec.verified:
		policy = "v"
	case sec.required:
		policy = "r"
	}
	return policy + " " + a.String() + " " + string(d)
}
