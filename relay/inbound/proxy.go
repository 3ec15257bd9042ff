package inbound

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// proxyWithin is how long a proxy may take for its header: it is sent with the connection.
const proxyWithin = 5 * time.Second

// The parts of a header of the PROXY protocol, by which its end is found without
// reading on into what the client says.
const (
	v1Most    = 107 // octets of a header in text
	v2Fixed   = 16  // octets of a binary one before its addresses
	v2MostLen = 2048
)

var (
	v2Signature = []byte("\r\n\r\n\x00\r\nQUIT\n")
	errProxy    = errors.New("no sound header of the PROXY protocol")
)

// behindProxy tells whether a connection comes from a proxy, whose header says
// who the client is.
func (l Listener) behindProxy(nc net.Conn) bool {
	if len(l.ProxyFrom) == 0 {
		return false
	}
	from := peerOf(nc)
	return from.IsValid() && slices.ContainsFunc(l.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(from) })
}

// peerOf is the address at the other end of a socket, invalid if it has none.
func peerOf(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// proxied is a connection of a client that the proxy has named.
type proxied struct {
	net.Conn
	client net.Addr
	proxy  netip.Addr
}

func (p proxied) RemoteAddr() net.Addr { return p.client }

// CloseWrite lets the wire hang up on a client that still talks.
func (p proxied) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// admitProxied reads the header and begins a session. A connection without one is
// closed: who the client is must not be guessed. One of the proxy's own, such as
// a health check, is the proxy's.
func (s *Server) admitProxied(nc net.Conn, p *port) {
	_ = nc.SetReadDeadline(time.Now().Add(proxyWithin))
	client, err := proxyHeader(nc)
	if err != nil {
		s.stats.TurnedAway.Add(1)
		_ = nc.Close()
		return
	}
	if client.IsValid() {
		nc = proxied{nc, net.TCPAddrFromAddrPort(client), peerOf(nc)}
	}
	s.admit(nc, p)
}

// proxyHeader reads one header and not an octet more. The address is invalid
// for a connection of the proxy's own.
func proxyHeader(r io.Reader) (client netip.AddrPort, err error) {
	raw := make([]byte, v2Fixed, v1Most)
	if _, err := io.ReadFull(r, raw[:len(v2Signature)]); err != nil {
		return client, err
	}
	if bytes.Equal(raw[:len(v2Signature)], v2Signature) {
		if _, err := io.ReadFull(r, raw[len(v2Signature):]); err != nil {
			return client, err
		}
		n := int(raw[14])<<8 | int(raw[15])
		if n > v2MostLen {
			return client, errProxy
		}
		raw = append(raw, make([]byte, n)...)
		if _, err := io.ReadFull(r, raw[v2Fixed:]); err != nil {
			return client, err
		}
	} else {
		raw = raw[:len(v2Signature)]
		if !bytes.HasPrefix(raw, []byte("PROXY ")) {
			return client, errProxy
		}
		for !bytes.HasSuffix(raw, []byte("\r\n")) {
			if len(raw) == v1Most {
				return client, errProxy
			}
			raw = raw[:len(raw)+1]
			if _, err := io.ReadFull(r, raw[len(raw)-1:]); err != nil {
				return client, err
			}
		}
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return client, errProxy
	}
	from, _, ok := h.TCPAddrs()
	if h.Command.IsLocal() || !ok {
		return client, nil
	}
	a := from.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}
