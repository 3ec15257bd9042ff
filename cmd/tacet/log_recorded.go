package main

import (
	"iter"

	"tacet/logging"
)

// heldBack is how many octets of lines wait for the record of their reading.
const heldBack = 1 << 20

// reading is what becomes of the lines that are read.
type reading uint8

const (
	showing   reading = iota // each is shown
	following                // and the reading goes on with what is written from then on
	summing                  // they are counted up, and what is shown of them comes after the last
)

// recorded gives the lines of a reading that is on record. The record comes before anything
// is shown, and tells how many lines there are: what is more than is held back is read twice, first to
// be counted, and no more is given than was counted. Of a reading that follows the log nobody knows
// how many there will be.
func recorded(lines iter.Seq2[logging.Line, error], how reading, record func(found int, failed bool) error) iter.Seq2[logging.Line, error] {
	return func(yield func(logging.Line, error) bool) {
		switch how {
		case following:
			if err := record(0, false); err != nil {
				yield(logging.Line{}, err)
				return
			}
			lines(yield)
		case summing:
			found, failed, all := 0, false, true
			for line, err := range lines {
				found, failed = tally(found, failed, err)
				if all = yield(line, err); !all {
					break
				}
			}
			if err := record(found, failed); err != nil && all {
				yield(logging.Line{}, err)
			}
		default:
			show(lines, record, yield)
		}
	}
}

// tally counts a line, or notes that the reading failed.
func tally(found int, failed bool, err error) (int, bool) {
	if err == nil {
		return found + 1, failed
	}
	return found, failed || !logging.GoesOn(err)
}

// show counts the lines, has that recorded, and yields them.
func show(lines iter.Seq2[logging.Line, error], record func(found int, failed bool) error, yield func(logging.Line, error) bool) {
	type one struct {
		line logging.Line
		err  error
	}
	var held []one
	all, found, octets, failed := 0, 0, 0, false
	for line, err := range lines {
		if found, failed = tally(found, failed, err); octets <= heldBack {
			held = append(held, one{line, err})
			octets += len(line.Raw)
		}
		all++
	}
	if err := record(found, failed); err != nil {
		yield(logging.Line{}, err)
		return
	}
	for _, o := range held {
		if !yield(o.line, o.err) {
			return
		}
	}
	if all == len(held) {
		return
	}
	at := 0
	for line, err := range lines {
		if at++; at > all {
			return // written since it was counted
		}
		if at > len(held) && !yield(line, err) {
			return
		}
	}
}
