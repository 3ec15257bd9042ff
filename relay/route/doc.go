// Package route says where a recipient's mail goes: [Router.Destination] names
// the queue it waits in, without asking anyone, and [Router.Route] turns that
// name into next hops in the order to try them (MX, smarthost, address literal), and
// says where to turn when none of them takes the mail for now. [Router.Limits] is how
// much a destination may get at a time.
//
// Its one invariant: no [tacet/relay.Hop] stands for an address in a range that
// must not be contacted, nor for this relay itself, unless the operator
// configured that very next hop.
//
// The DNS is asked through [Resolver], which [Stub] fills; its questions hold
// domains and host names, never a local part.
package route
