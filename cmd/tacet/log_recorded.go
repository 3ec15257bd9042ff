package main

import (
	"iter"

	"tacet/logging"
)

// heldBack is how many octets of lines wait for the record of their reading.
const heldBack = 1 << 20

// recorded gives the lines of a reading that is on record. The record comes before
// the first line is shown, and tells how many there are: of a reading that finds more than is held
// back, and of one that follows the log, how many were found by then.
func recorded(lines iter.Seq2[logging.Line, error], follow bool, record func(found int, failed bool) error) iter.Seq2[logging.Line, error] {
	type one struct {
		line logging.Line
		err  error
	}
	return func(yield func(logging.Line, error) bool) {
		var held []one
		found, octets, failed, told := 0, 0, false, false
		release := func() bool {
			if err := record(found, failed); err != nil {
				return yield(logging.Line{}, err) && false
			}
			told = true
			for _, o := range held {
				if !yield(o.line, o.err) {
					return false
				}
			}
			held = nil
			return true
		}
		if follow && !release() {
			return
		}
		for line, err := range lines {
			if told {
				if !yield(line, err) {
					return
				}
				continue
			}
			held = append(held, one{line, err})
			octets += len(line.Raw)
			switch {
			case err == nil:
				found++
			case !logging.GoesOn(err):
				failed = true
			}
			if octets > heldBack && !release() {
				return
			}
		}
		if !told {
			release()
		}
	}
}
