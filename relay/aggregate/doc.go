// Package aggregate keeps what is counted for other domains, and has each of them told
// once a day is over: the aggregate reports of TLS (package tlsrpt) and of DMARC (package dmarcrpt).
//
// Its one invariant: counts are dropped when their domain's report was handed over or is not
// wanted, and at the latest two days after their day began; until then they outlive a
// restart, and their memory has a limit.
//
// [Days] holds the counts and goes the daily round (round.go), a [Keeper] has them over restarts
// (keep.go), a [Letter] brings a report by mail (letter.go). What is counted, and what
// a report says, is the business of the packages below.
package aggregate
