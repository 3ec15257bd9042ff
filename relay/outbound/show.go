package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"

	"tacet/queue"
	"tacet/relay"
)

// Look is what a host shows of itself before it is given any mail.
type Look struct {
	TLS         queue.TLS
	Reply       queue.Reply       // why mail could not follow; zero: it could
	Failure     relay.TLSFailure  // of the certificate, whether or not it decides
	Certificate *x509.Certificate // nil: none was seen
	RequireTLS  bool              // REQUIRETLS is offered
	Size        int64             // the largest message that is taken; 0: not said
}

// Look opens a connection to hop as for mail of d, goes up to the point where mail
// would follow, and leaves. It neither logs in nor names a sender or a recipient.
func (c *Client) Look(ctx context.Context, d queue.Destination, route *relay.Route, hop relay.Hop) Look {
	sec := c.securityFor(route, &hop, &queue.Envelope{})
	sec.domain = "" // nothing was to be delivered, so nothing is reported
	look := Look{TLS: queue.TLS{None: queue.NoTLSNotConnected, Wanted: sec.wanted}}
	switch {
	case sec.refused != queue.CauseNone:
		look.Reply = queue.Reply{Stage: queue.StageRoute, Cause: sec.refused}
		return look
	case c.config.Forbidden(d, hop.Addr):
		look.Reply = queue.Reply{Stage: queue.StageConnect, Cause: queue.CauseAddressForbidden}
		return look
	}
	judge := sec.verifier
	sec.verifier = func(cs *tls.ConnectionState, name string) (queue.Verified, error) {
		if len(cs.PeerCertificates) > 0 {
			look.Certificate = cs.PeerCertificates[0]
		}
		verified, err := judge(cs, name)
		if why, ok := err.(unverified); ok {
			look.Failure = relay.TLSFailure(why)
		}
		return verified, err
	}
	s, f := c.connect(ctx, d, hop, nil, sec, nil)
	if f != nil {
		look.Reply = f.reply
		if f.reply.Stage > queue.StageConnect {
			look.TLS = f.tls
		}
		return look
	}
	look.TLS, look.RequireTLS, look.Size = s.tls, s.peer.requireTLS, s.peer.maxSize
	s.close()
	return look
}

// Held tells what hop is held to for mail of the route, and whether policy
// forbids to contact it at all.
func (c *Client) Held(route *relay.Route, hop relay.Hop) (queue.Wanted, queue.Cause) {
	sec := c.securityFor(route, &hop, &queue.Envelope{})
	return sec.wanted, sec.refused
}
