package route

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// self knows the addresses that lead back to this relay.
type self struct {
	listeners []netip.AddrPort
	addresses map[netip.Addr]bool

	own *interfaces
}

// interfaces keeps the machine's addresses for a while.
type interfaces struct {
	mu    sync.Mutex
	read  time.Time
	addrs map[netip.Addr]bool
}

const interfacesEvery = time.Minute

func newSelf(c Config) self {
	s := self{addresses: make(map[netip.Addr]bool), own: &interfaces{}}
	for _, a := range c.Addresses {
		s.addresses[a.Unmap().WithZone("")] = true
	}
	for _, l := range c.Listeners {
		s.listeners = append(s.listeners, netip.AddrPortFrom(l.Addr().Unmap().WithZone(""), l.Port()))
	}
	return s
}

// is tells whether a connection to ap would reach this relay.
func (s *self) is(ap netip.AddrPort) bool {
	a := ap.Addr().Unmap().WithZone("")
	if s.addresses[a] {
		return true
	}
	for _, l := range s.listeners {
		if l.Port() != ap.Port() {
			continue
		}
		if l.Addr() == a || l.Addr().IsUnspecified() && (a.IsLoopback() || a.IsUnspecified() || s.own.has(a)) {
			return true
		}
	}
	return false
}

func (i *interfaces) has(a netip.Addr) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if now := time.Now(); i.addrs == nil || now.Sub(i.read) >= interfacesEvery {
		i.read = now
		if addrs, err := net.InterfaceAddrs(); err == nil {
			i.addrs = make(map[netip.Addr]bool, len(addrs))
			for _, n := range addrs {
				if p, err := netip.ParsePrefix(n.String()); err == nil {
					i.addrs[p.Addr().Unmap().WithZone("")] = true
				}
			}
		}
	}
	return i.addrs[a]
}
