package relay

import "net/netip"

// Tracer is asked for a Trace by every connection, inbound and outbound, while
// somebody wants to follow a dialogue; at all other times its one answer costs
// one atomic load.
type Tracer interface {
	// Active tells whether anything is traced now.
	Active() bool
	// Trace begins the trace of a connection to peer, or returns nil if
	// nothing of it can be wanted. host is the next hop's name, empty for a client.
	Trace(inbound bool, peer netip.Addr, host string) Trace
}

// Trace takes the dialogue of one connection line by line and keeps what is
// wanted of it. It is used by one goroutine at a time and keeps none of the
// memory it is given.
type Trace interface {
	// Line is one line, without its CR LF. by is TraceReceived, TraceSent or TraceAside.
	// No line ever holds credentials: who calls sees to that.
	Line(by byte, text []byte)
	// User is who the client has logged in as.
	User(name string)
	// Begin begins a transaction; the lines that follow belong to it. What is
	// not known (id, and user and client of a client's own session) is zero.
	Begin(id, user string, client netip.Addr, sender string)
	// Recipient says that the lines that follow are about one recipient, or,
	// if empty, about all of them.
	Recipient(address string)
	// Content is content of the transaction, as it went over the wire.
	Content(octets []byte)
	// End ends the transaction.
	End()
	// Close ends the trace.
	Close()
}

// Who said a line of a [Trace].
const (
	TraceReceived byte = '<' // the other side
	TraceSent     byte = '>' // the relay
	TraceAside    byte = '*' // nobody: a remark of the relay
)
