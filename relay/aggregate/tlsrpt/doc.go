// Package tlsrpt tells domains how TLS came out with their hosts (RFC 8460).
//
// Its one invariant: what is counted, kept and told names no one: per day and
// recipients' domain the policy, the result and the host's name, with a count, and
// neither an address nor a user, a message or an IP.
//
// [Collector] counts what the transport observes (collect.go), and once a day is over asks which
// of its domains want reports (record.go), writes them (report.go) and sends them (send.go).
package tlsrpt
