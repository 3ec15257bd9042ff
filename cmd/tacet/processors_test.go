package main

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestProcessors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set []bool
		loaded := make(chan struct{})
		p := governProcessors(loaded, func(all bool) { set = append(set, all) })
		want := func(when string, expected ...bool) {
			t.Helper()
			synctest.Wait()
			if !slices.Equal(set, expected) {
				t.Fatalf("%s: all processors were set to %v, not %v", when, set, expected)
			}
		}
		want("while the queue is being read")
		close(loaded)
		want("after the start", false)

		p.begin(&p.accepting, fewAccepts)
		for range fewDeliveries {
			p.begin(&p.delivering, fewDeliveries)
		}
		want("with one client and what is behind it", false)

		p.begin(&p.accepting, fewAccepts)
		want("with a second client", false, true)
		p.accepting.Add(-1)
		time.Sleep(calmTime)
		want("at the first look: there was a second client", false, true)

		p.begin(&p.delivering, fewDeliveries)
		time.Sleep(calmTime)
		want("with more deliveries", false, true)
		p.delivering.Add(-1)
		time.Sleep(calmTime)
		want("after a calm time", false, true, false)
		time.Sleep(time.Hour)
		want("after an idle hour", false, true, false)

		p.begin(&p.delivering, fewDeliveries)
		want("busy again", false, true, false, true)
		p.stop()
		time.Sleep(2 * calmTime)
		want("when stopped", false, true, false, true)
	})
}

func TestProcessorsChosen(t *testing.T) {
	t.Setenv("GOMAXPROCS", "2")
	if newProcessors(nil) != nil {
		t.Error("a number of processors that was chosen is changed")
	}
	var none *processors
	none.stop()
	if got := none.paced(nil); got != nil {
		t.Errorf("without a choice of ours the transport is %v", got)
	}
}
