// Package content looks into messages before they are accepted, and signs them:
// DKIM, SPF and DMARC, local rules, milters, a virus scanner, and block lists that are
// asked by digest. Each is a [relay.Check], one file or a few.
//
// Its one invariant: what a check did not see whole is an error, never a pass; but
// of digests that others are asked about, the number is limited.
package content
