package outbound

import (
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"

	"tacet/queue"
	"tacet/relay"
)

// introduction is in whose name a session is held. The client is invalid for
// mail that came from no client outside: of a user the next hop learns nothing.
type introduction struct {
	by     relay.Introduction
	client netip.Addr
}

// clientOf is the client that a message came from, if a next hop may know it.
func clientOf(e *queue.Envelope) netip.Addr {
	if e.Origin.Submission || e.Origin.Local {
		return netip.Addr{}
	}
	return e.Origin.Client
}

func (c *Client) introductionOf(route *relay.Route, e *queue.Envelope) introduction {
	if route.Introduction == relay.IntroduceNone {
		return introduction{}
	}
	c.introduces.Store(true)
	return introduction{route.Introduction, clientOf(e)}
}

// speaksFor tells whether the session may carry a message: one that is held in a
// client's name carries the mail of that client alone.
func (c *conn) speaksFor(e *queue.Envelope) bool {
	switch c.as.by {
	case relay.IntroduceNone, relay.IntroduceXFORWARD:
		return true
	}
	return c.as.client == clientOf(e)
}

// proxy sends the header of the PROXY protocol, before all else. A session in nobody's name
// is the relay's own.
func (c *conn) proxy() *fault {
	version := byte(1)
	switch c.as.by {
	case relay.IntroducePROXYv1:
	case relay.IntroducePROXYv2:
		version = 2
	default:
		return nil
	}
	h := &proxyproto.Header{Version: version, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	if to := c.hop.Addr; c.as.client.IsValid() {
		from, at := c.as.client.Unmap(), to.Addr().Unmap()
		if from.Is4() != at.Is4() { // both have to be of one family
			from, at = netip.AddrFrom16(from.As16()), netip.AddrFrom16(at.As16())
		}
		h.Command, h.TransportProtocol = proxyproto.PROXY, proxyproto.TCPv4
		if from.Is6() {
			h.TransportProtocol = proxyproto.TCPv6
		}
		// The client's port is not kept; 0 is not a valid one to some servers.
		h.SourceAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 1))
		h.DestinationAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, to.Port()))
	}
	header, err := h.Format()
	if err != nil {
		return broken(queue.StageConnect, queue.CauseLocal, err)
	}
	return c.write(queue.StageConnect, header, c.client.config.Timeouts.Command)
}

// xclient has the server take the session for the client's, and greets anew.
// A server that does not offer it does not trust this relay: it gets the mail all the same.
func (c *conn) xclient() *fault {
	if c.as.by != relay.IntroduceXCLIENT || !c.as.client.IsValid() || !c.peer.xclient {
		return nil
	}
	r, f := c.ask(queue.StageEhlo, []byte("XCLIENT NAME=[UNAVAILABLE] ADDR="+xaddr(c.as.client)+"\r\n"), nil)
	switch {
	case f != nil:
		return f
	case r.code == 421:
		return c.unwelcome(r, queue.StageEhlo)
	case r.class() != 2:
		return nil
	}
	c.peer = peer{}
	return c.hello(false)
}

// xforward tells of the client of the transaction that follows.
func (c *conn) xforward(e *queue.Envelope) *fault {
	client := clientOf(e)
	if c.as.by != relay.IntroduceXFORWARD || !client.IsValid() || !c.peer.xforward {
		return nil
	}
	r, f := c.ask(queue.StageMail, []byte("XFORWARD NAME=[UNAVAILABLE] ADDR="+xaddr(client)+"\r\n"), nil)
	switch {
	case f != nil:
		f.stale = c.kept // nothing of the message was sent
		return f
	case r.code == 421:
		f = c.unwelcome(r, queue.StageMail)
		f.stale = c.kept
		return f
	}
	return nil // refused: it goes without
}

// xaddr is an address as XCLIENT and XFORWARD write it.
func xaddr(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		return "IPV6:" + a.WithZone("").String()
	}
	return a.String()
}
