// Package edge judges clients from outside before they bring anything: how
// often they come, what they call themselves, whether a block list has them, and
// whether they come again (greylisting).
//
// Its one invariant: what it remembers is bounded and lives in memory alone, under a
// key of the process where it is of a person.
package edge
