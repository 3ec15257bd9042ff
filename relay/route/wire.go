package route

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// wire speaks DNS with one server: over UDP, and over TCP where the answer
// does not fit or someone else seems to answer. Each query has a socket, hence a random
// source port, and a random ID of its own.
type wire struct{}

// maxStrays is how many datagrams that do not belong to the query are passed
// over before it is asked over TCP, where answers cannot be forged blindly.
const maxStrays = 8

var (
	errMismatch = errors.New("the answer does not belong to the query")
	errStrays   = errors.New("too many answers that belong to no query")
)

func (wire) exchange(ctx context.Context, server netip.AddrPort, q *dns.Msg) (*dns.Msg, error) {
	packed, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("packing a DNS query: %w", err)
	}
	msg, err := overUDP(ctx, server, q, packed)
	if errors.Is(err, errStrays) || err == nil && msg.Truncated {
		return overTCP(ctx, server, q, packed)
	}
	return msg, err
}

// dial connects and bounds all that follows by ctx. The caller calls stop
// and closes the connection.
func dial(ctx context.Context, network string, server netip.AddrPort) (c net.Conn, stop func() bool, err error) {
	var d net.Dialer
	c, err = d.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, nil, fmt.Errorf("connecting to a DNS server: %w", err)
	}
	stop = context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	return c, stop, nil
}

func overUDP(ctx context.Context, server netip.AddrPort, q *dns.Msg, packed []byte) (*dns.Msg, error) {
	c, stop, err := dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer stop()
	if _, err := c.Write(packed); err != nil {
		return nil, fmt.Errorf("sending a DNS query: %w", err)
	}
	buf := make([]byte, 4096) // some servers answer more than was asked for
	for range maxStrays {
		n, err := c.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("waiting for a DNS answer: %w", err)
		}
		if msg, err := unpack(buf[:n], q); err == nil {
			return msg, nil
		}
	}
	return nil, errStrays
}

func overTCP(ctx context.Context, server netip.AddrPort, q *dns.Msg, packed []byte) (*dns.Msg, error) {
	c, stop, err := dial(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer stop()
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(packed)), uint16(len(packed)))
	if _, err := c.Write(append(framed, packed...)); err != nil {
		return nil, fmt.Errorf("sending a DNS query: %w", err)
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, fmt.Errorf("waiting for a DNS answer: %w", err)
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, buf); err != nil {
		return nil, fmt.Errorf("reading a DNS answer: %w", err)
	}
	return unpack(buf, q)
}

// unpack reads the answer to q. The ID is compared before anything else is read.
// A server that does not understand q need not repeat the question.
func unpack(b []byte, q *dns.Msg) (*dns.Msg, error) {
	if len(b) < 12 || binary.BigEndian.Uint16(b) != q.Id {
		return nil, errMismatch
	}
	msg := &dns.Msg{}
	if err := msg.Unpack(b); err != nil && !msg.Truncated {
		return nil, fmt.Errorf("reading a DNS answer: %w", err)
	}
	if !msg.Response || msg.Opcode != dns.OpcodeQuery {
		return nil, errMismatch
	}
	if len(msg.Question) == 0 && msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError {
		return msg, nil
	}
	want := q.Question[0]
	if len(msg.Question) != 1 || msg.Question[0].Qtype != want.Qtype || msg.Question[0].Qclass != want.Qclass ||
		!strings.EqualFold(msg.Question[0].Name, want.Name) {
		return nil, errMismatch
	}
	return msg, nil
}
