// Package mtasts finds and keeps the MTA-STS policies of domains (RFC 8461).
//
// Its one invariant: a policy that was once fetched holds until its max_age is
// over, whatever the DNS or the policy's web server say or fail to say in the
// meantime; only another policy, fetched over a verified connection, replaces it.
//
// [Cache] is asked by domain. What it keeps goes, as a whole and seldom, to a [Keeper].
package mtasts
