// Package outbound is the SMTP client side: it hands a claimed message to the
// next hops of its destination and brings back one reply for each recipient.
//
// Its one invariant: a recipient is reported as delivered only for a 2yz that
// answers the end of content that was sent for it, and in one attempt the end
// of content is sent at most once for each recipient.
//
// The way of an attempt ([Client.Deliver], attempt.go):
//
//  1. checkClaim refuses what cannot be said in a command (mailbox.go, command.go).
//  2. A kept connection is taken from the pool (pool.go), or the [Resolver] is
//     asked and its hops are tried in order (hops.go), a host's two families
//     at the same time (race.go): connect, greeting, EHLO, STARTTLS, AUTH
//     (session.go, ehlo.go, tls.go, auth.go). The certificate is judged by what holds
//     for the hop: a TLSA record (dane.go), or its name (tls.go).
//  3. One transaction or more go over it (transaction.go), the content through
//     a writer that lets no bare CR, bare LF, NUL or overlong line out (content.go).
//  4. Whatever fails before the end of content leads to the next hop; an
//     answer to RCPT, DATA or the content is the last word (fault.go). After
//     the last hop comes the fallback, if there is one.
//
// Every read and write has a deadline (conn.go), every reply a limit (reply.go).
package outbound
