// Package relay is the core: it accepts a message, finds out where it goes,
// tries to hand it on, and settles what became of it.
//
// Its one invariant: a client reads 250 only for a message that is on stable
// storage, and each accepted recipient ends in exactly one settlement.
//
// The way of a message:
//
//  1. relay/inbound takes the connection, asks relay/edge about strangers on an mx listener, and
//     relay/inbound/wire checks every byte of it.
//  2. AUTH asks relay/auth, unless the client is in a trusted network.
//  3. MAIL and RCPT fill a [queue.Envelope]; [Relay.Admit] refuses what may not be relayed,
//     relay/recipients whom the primary does not know, relay/auth senders that are not the user's,
//     relay/quota what is more than the user may send. Milters follow the session (attend.go).
//  4. DATA or BDAT: [Relay.Accept] (accept.go) counts hops, adds the trace and missing fields, takes Bcc out, and
//     asks the content checks of relay/content, if there are any (check.go), which ask relay/reputation about
//     digests; large content is spooled for them (spool.go). relay/aggregate/dmarcrpt counts what DMARC said.
//  5. [queue.Store] Put makes it durable; only now the client reads 250, with the queue ID.
//  6. [Relay.Run] (run.go) has one lane for each destination (lane.go), that claims what is due there, at the
//     pace that is set for it (pace.go); while nothing there can be reached, a primary gets connections
//     and no message (primary.go).
//  7. relay/outbound takes a kept connection, or asks for the next hops and opens one:
//     relay/route finds them, relay/tlspolicy adds what their domain holds them to.
//  8. Each recipient gets a [queue.Reply] from the next hop (attempt.go).
//  9. [queue.Store] Settle records the outcomes, and with them the DSN that is owed (dsn.go), or
//     that one is owed where several are made one (gather.go).
//  10. Each recipient's outcome is one record of package logging (record.go); how sessions went with
//     TLS, relay/aggregate/tlsrpt counts for the domains that ask.
//  11. After the last recipient nothing is left: the store destroys the message's key.
//
// Before that way begins anew, [Relay.Recover] (recover.go) makes the log agree with what a crash left in the queue.
package relay
