package edge

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tacet/queue"
)

// listsWithin is how long the lists may take together. Who does not answer lists nobody.
const listsWithin = 5 * time.Second

// listed asks all lists at the same time.
func (g *Guard) listed(ctx context.Context, client netip.Addr, sender queue.Domain) bool {
	if g.config.Lists == nil || len(g.config.AddressLists)+len(g.config.DomainLists) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, listsWithin)
	defer cancel()
	var hit atomic.Bool
	var wg sync.WaitGroup
	ask := func(list func() (bool, error)) {
		wg.Go(func() {
			if found, err := list(); err == nil && found {
				hit.Store(true)
				cancel() // one is enough
			}
		})
	}
	if client.IsValid() && !client.IsLoopback() && !client.IsPrivate() {
		for _, zone := range g.config.AddressLists {
			ask(func() (bool, error) { return g.config.Lists.Client(ctx, zone, client) })
		}
	}
	if sender != "" {
		for _, zone := range g.config.DomainLists {
			ask(func() (bool, error) { return g.config.Lists.Sender(ctx, zone, sender) })
		}
	}
	wg.Wait()
	return hit.Load()
}
