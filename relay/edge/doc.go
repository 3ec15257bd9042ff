// Package edge judges clients from outside before they bring anything: how
// often they come, what they call themselves, whether a block list has them, and
// whether they come again (greylisting).
//
// Its one invariant: what it remembers is bounded, and where it is of a
// person it is no more than hashes under a key.
package edge
