package outbound

import (
	"context"
	"net"
	"net/netip"
	"time"

	"tacet/relay"
)

// rivalAfter is how long the first address of a host has for itself before the
// one of the other family is dialled too (RFC 8305 §5).
const rivalAfter = 250 * time.Millisecond

// withRival is hop with the address of the host's other family beside it, if
// next is that.
func withRival(hop, next relay.Hop) relay.Hop {
	if hop.Name == next.Name && hop.Addr.Addr().Unmap().Is4() != next.Addr.Addr().Unmap().Is4() {
		hop.Rival = next.Addr
	}
	return hop
}

// connected is what dialling one address came to.
type connected struct {
	conn net.Conn
	addr netip.AddrPort
	err  error
}

// reach opens a connection to hop: to its address, or to the rival if that is
// faster. The connection that comes second is ended before reach returns.
func (c *Client) reach(ctx context.Context, hop relay.Hop) connected {
	if !hop.Rival.IsValid() {
		conn, err := c.config.Dial(ctx, hop.Addr)
		return connected{conn, hop.Addr, err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan connected, 2)
	under := 0
	start := func(addr netip.AddrPort) {
		under++
		go func() {
			conn, err := c.config.Dial(ctx, addr)
			results <- connected{conn, addr, err}
		}()
	}
	start(hop.Addr)
	timer := time.NewTimer(rivalAfter)
	defer timer.Stop()
	both := false
	for {
		select {
		case <-timer.C:
			if !both {
				both = true
				start(hop.Rival)
			}
		case got := <-results:
			under--
			switch {
			case got.err == nil:
				cancel()
				for range under {
					if late := <-results; late.err == nil {
						late.conn.Close()
					}
				}
				return got
			case !both && ctx.Err() == nil:
				both = true
				start(hop.Rival)
			case under == 0:
				return got
			}
		}
	}
}
