// Package tlspolicy adds to a route what the recipients' domain and its hosts
// publish of TLS: DANE (RFC 7672, dane.go) and MTA-STS (RFC 8461, package mtasts).
//
// Its one invariant: where DNSSEC vouches for a host and its TLSA records, or
// a policy of the domain that enforces is known, the host comes out held to it; an
// answer that cannot be had, or is bogus, never loosens that.
//
// [Resolver] asks only for mail that goes where the DNS says. A next hop that
// is an address costs nothing, and what is asked for others is kept for as long as it may be.
package tlspolicy
