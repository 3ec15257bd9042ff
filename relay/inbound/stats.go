package inbound

import (
	"sync/atomic"

	"tacet/relay"
	"tacet/relay/inbound/wire"
)

// Stats counts what the server did since it was made. It holds neither names nor
// addresses. All of it may be read at any time.
type Stats struct {
	wire.Counters

	Open         atomic.Int64 // connections open now
	Connections  atomic.Int64 // connections accepted
	TurnedAway   atomic.Int64 // connections refused for a limit
	AcceptFailed atomic.Int64
	AuthOK       atomic.Int64
	AuthFailed   atomic.Int64
	Messages     atomic.Int64                          // messages accepted
	Refused      [relay.ClassShutdown + 1]atomic.Int64 // replies that refuse something, by class
}
