// Package recipients knows who exists in the relay domains while their primary
// is down: from a list that the primary has made ([Build], [Open]), and by asking the
// primary while it answers ([Directory]).
//
// Its one invariant: no address is kept, on the disk or in memory, but as a
// hash under a key, and no list counts that the primary has not signed.
package recipients
