// Package reputation asks outside services what they know: lists of hashes and a Pyzor
// server about a message, block lists about a client or a sender's domain.
//
// Its one invariant: what a question holds beside the configured names is a
// [relay.Digest], a [relay.TextDigest], an IP address or a domain name, each by its type,
// and every question is counted in the [Ledger] before it is sent.
package reputation
