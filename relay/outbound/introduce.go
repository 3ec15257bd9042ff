package outbound

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"

	"tacet/queue"
	"tacet/relay"
)

// Namer finds the host names of clients, for next hops that are told of them.
type Namer interface {
	// ClientName returns the name that the DNS has for an address, empty if there is none, and whether
	// that name has the address. An error passes.
	ClientName(ctx context.Context, client netip.Addr) (name string, verified bool, err error)
}

// namesWithin is how long a client's name is looked for.
const namesWithin = 5 * time.Second

// introduction is in whose name a session is held. The client is invalid for
// mail that came from no client outside: of a user the next hop learns nothing.
type introduction struct {
	by     relay.Introduction
	client netip.Addr
	helo   string // what the client called itself
}

func introducer(by relay.Introduction, e *queue.Envelope) introduction {
	if e.Origin.Submission || e.Origin.Local || !e.Origin.Client.IsValid() {
		return introduction{by: by}
	}
	return introduction{by, e.Origin.Client, e.Origin.Helo}
}

func (c *Client) introductionOf(route *relay.Route, e *queue.Envelope) introduction {
	if route.Introduction == relay.IntroduceNone {
		return introduction{}
	}
	c.introduces.Store(true)
	return introducer(route.Introduction, e)
}

// speaksFor tells whether the session may carry a message: one that is held in a
// client's name carries the mail of that client alone.
func (c *conn) speaksFor(e *queue.Envelope) bool {
	return !c.inName() || c.as == introducer(c.as.by, e)
}

// inName tells whether the session is held in a client's name, or in nobody's where
// it might be.
func (c *conn) inName() bool {
	return c.as.by != relay.IntroduceNone && c.as.by != relay.IntroduceXFORWARD
}

// ehloName is what EHLO says: in a client's name what the client called itself, so that
// it is judged by its own name and not by ours. What could be misread is replaced by its address.
func (c *conn) ehloName() string {
	if !c.inName() || !c.as.client.IsValid() || !c.named {
		return c.client.config.Hostname
	}
	if isHostWord(c.as.helo) {
		return c.as.helo
	}
	if a := c.as.client.Unmap(); a.Is4() {
		return "[" + a.String() + "]"
	}
	return "[" + xaddr(c.as.client) + "]"
}

// isHostWord tells whether a name is no more than a host name or an address literal may have.
func isHostWord(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._:[]", r)
	})
}

// isHostName tells whether a name that the DNS gave is one of a host (RFC 1123 §2.1).
func isHostName(s string) bool {
	if !isHostWord(s) || strings.ContainsAny(s, ":[]") || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
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
		c.named = true
	}
	header, err := h.Format()
	if err != nil {
		return broken(queue.StageConnect, queue.CauseLocal, err)
	}
	return c.write(queue.StageConnect, header, c.client.config.Timeouts.Command)
}

// xclient has the server take the session for the client's, and greets anew.
// A server that does not offer it does not trust this relay: it gets the mail all the same.
func (c *conn) xclient(ctx context.Context) *fault {
	if c.as.by != relay.IntroduceXCLIENT || !c.as.client.IsValid() || !c.peer.xclient.has(attrAddr) {
		return nil
	}
	r, f := c.ask(queue.StageEhlo, c.attributes(ctx, "XCLIENT", c.peer.xclient, c.as, ""), nil)
	switch {
	case f != nil:
		return f
	case r.code == 421:
		return c.unwelcome(r, queue.StageEhlo)
	case r.class() != 2:
		return nil
	}
	c.peer, c.named = peer{}, true
	return c.hello(false)
}

// xforward tells of the client of the transaction that follows, and our queue ID.
func (c *conn) xforward(ctx context.Context, e *queue.Envelope) *fault {
	if c.as.by != relay.IntroduceXFORWARD || !c.peer.xforward.has(attrAddr) {
		return nil
	}
	of := introducer(relay.IntroduceXFORWARD, e)
	if !of.client.IsValid() {
		return nil
	}
	r, f := c.ask(queue.StageMail, c.attributes(ctx, "XFORWARD", c.peer.xforward, of, e.ID.String()), nil)
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

// attributes is the command that tells of a client, in one line: its attributes as far as the
// server knows them. What is not known is said so, for otherwise we would be taken for it.
func (c *conn) attributes(ctx context.Context, verb string, known attributes, of introduction, id string) []byte {
	line := append([]byte(verb+" ADDR="), xaddr(of.client)...)
	if known.has(attrName) || known.has(attrReverse) {
		name, reverse := c.client.namesOf(ctx, of.client)
		if known.has(attrName) {
			line = append(append(line, " NAME="...), name...)
		}
		if known.has(attrReverse) {
			line = append(append(line, " REVERSE_NAME="...), reverse...)
		}
	}
	if known.has(attrHelo) {
		helo := unavailable
		if isHostWord(of.helo) {
			helo = of.helo
		}
		line = append(append(line, " HELO="...), helo...)
	}
	if known.has(attrIdent) && id != "" {
		line = append(append(line, " IDENT="...), id...)
	}
	return append(line, "\r\n"...)
}

// What stands for a value that is not known, for good or for now.
const (
	unavailable     = "[UNAVAILABLE]"
	tempUnavailable = "[TEMPUNAVAIL]"
)

// namesOf are a client's names in the words of XCLIENT: the one that leads back to
// its address, and the one that it has anyway.
func (c *Client) namesOf(ctx context.Context, client netip.Addr) (name, reverse string) {
	if c.config.Names == nil {
		return unavailable, unavailable
	}
	ctx, cancel := context.WithTimeout(ctx, namesWithin)
	defer cancel()
	found, verified, err := c.config.Names.ClientName(ctx, client)
	switch {
	case err != nil:
		return tempUnavailable, tempUnavailable
	case !isHostName(found):
		return unavailable, unavailable
	case !verified:
		return unavailable, found
	}
	return found, found
}

// attributes are those of a client that a server wants to hear of.
type attributes uint8

const (
	attrAddr attributes = 1 << iota
	attrName
	attrReverse
	attrHelo
	attrIdent
)

func (a attributes) has(one attributes) bool { return a&one != 0 }

// parseAttributes reads what follows XCLIENT or XFORWARD in the answer to EHLO.
func parseAttributes(words [][]byte) (a attributes) {
	for _, word := range words {
		switch strings.ToUpper(string(word)) {
		case "ADDR":
			a |= attrAddr
		case "NAME":
			a |= attrName
		case "REVERSE_NAME":
			a |= attrReverse
		case "HELO":
			a |= attrHelo
		case "IDENT":
			a |= attrIdent
		}
	}
	return a
}

// xaddr is an address as XCLIENT and XFORWARD write it.
func xaddr(a netip.Addr) string {
	if a = a.Unmap(); a.Is6() {
		return "IPV6:" + a.WithZone("").String()
	}
	return a.String()
}
