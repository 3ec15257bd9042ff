package edge

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/idna"

	"tacet/queue"
)

// listsWithin is how long the lists may take together. Who does not answer lists nobody.
const listsWithin = 5 * time.Second

// listed asks all lists at the same time.
func (g *Guard) listed(ctx context.Context, client netip.Addr, sender queue.Domain) bool {
	if g.config.Resolver == nil || len(g.config.AddressLists)+len(g.config.DomainLists) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, listsWithin)
	defer cancel()
	var hit atomic.Bool
	var wg sync.WaitGroup
	ask := func(name string) {
		wg.Go(func() {
			answer, err := g.config.Resolver.Addresses(ctx, name)
			if err == nil && listing(answer) {
				hit.Store(true)
				cancel() // one is enough
			}
		})
	}
	if client.IsValid() && !client.IsLoopback() && !client.IsPrivate() {
		for _, zone := range g.config.AddressLists {
			ask(reversed(client) + "." + zone)
		}
	}
	if name, err := idna.Lookup.ToASCII(string(sender)); err == nil && name != "" && name[0] != '[' {
		for _, zone := range g.config.DomainLists {
			ask(name + "." + zone)
		}
	}
	wg.Wait()
	return hit.Load()
}

// listing tells whether an answer means that the name is listed: an address in
// 127.0.0.0/8 (RFC 5782 §2.1), but for those by which lists refuse to answer.
func listing(answer []netip.Addr) bool {
	for _, a := range answer {
		b := a.Unmap()
		if b.Is4() && b.As4()[0] == 127 && !(b.As4()[1] == 255 && b.As4()[2] == 255) {
			return true
		}
	}
	return false
}

// reversed is an address as lists have it (RFC 5782 §2.1, §2.4).
func reversed(a netip.Addr) string {
	var b strings.Builder
	if a = a.Unmap(); a.Is4() {
		octets := a.As4()
		for i := 3; i >= 0; i-- {
			if i < 3 {
				b.WriteByte('.')
			}
			b.WriteString(strconv.Itoa(int(octets[i])))
		}
		return b.String()
	}
	const digits = "0123456789abcdef"
	octets := a.As16()
	for i := 15; i >= 0; i-- {
		if i < 15 {
			b.WriteByte('.')
		}
		b.Write([]byte{digits[octets[i]&15], '.', digits[octets[i]>>4]})
	}
	return b.String()
}
