package main

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"tacet/queue"
	"tacet/relay/edge"
	"tacet/relay/inbound"
	"tacet/relay/reputation"
)

// gatekeeper lets the guard be replaced while clients come. It implements inbound.Edge.
type gatekeeper struct{ guard atomic.Pointer[edge.Guard] }

// Connect implements inbound.Edge.
func (k *gatekeeper) Connect(client netip.Addr) error {
	if g := k.guard.Load(); g != nil {
		return g.Connect(client)
	}
	return nil
}

// Sender implements inbound.Edge.
func (k *gatekeeper) Sender(ctx context.Context, client netip.Addr, helo string, from queue.ReversePath) error {
	if g := k.guard.Load(); g != nil {
		return g.Sender(ctx, client, helo, from)
	}
	return nil
}

// Recipient implements inbound.Edge.
func (k *gatekeeper) Recipient(client netip.Addr, from queue.ReversePath, to queue.ForwardPath) error {
	if g := k.guard.Load(); g != nil {
		return g.Recipient(client, from, to)
	}
	return nil
}

// edgeMemory is where a greylist stands between two processes.
const edgeMemory = "greylist"

// openEdge makes the guard, which remembers what the process before this one knew.
func (d *daemon) openEdge() inbound.Edge {
	guard := d.config.guard(reputation.NewLists(&d.routes, d.ledger))
	if guard == nil {
		return &d.edge
	}
	kept, err := d.config.sealed(edgeMemory).Load()
	if err == nil {
		err = guard.Recall(kept, time.Now())
	}
	d.taskFailed(err) // everybody waits once more
	d.edge.guard.Store(guard)
	return &d.edge
}

// reloadEdge puts the guard of a new config in.
func (d *daemon) reloadEdge(next *Config) {
	guard := next.guard(reputation.NewLists(&d.routes, d.ledger))
	if before := d.edge.guard.Load(); guard != nil && before != nil {
		guard.Succeed(before)
	}
	d.edge.guard.Store(guard)
}

// edgeEvery is how much of a greylist a crash costs at most.
const edgeEvery = 5 * time.Minute

// keepEdge keeps what the guard knows, now and then and at the end.
func (d *daemon) keepEdge(ctx context.Context) {
	every(ctx, edgeEvery, d.saveEdge)
	d.saveEdge()
}

func (d *daemon) saveEdge() {
	guard := d.edge.guard.Load()
	if guard == nil {
		return
	}
	kept, changed := guard.Memory(time.Now())
	if !changed {
		return
	}
	d.taskFailed(d.settings().sealed(edgeMemory).Save(kept))
}
