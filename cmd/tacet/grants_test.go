package main

import (
	"slices"
	"testing"

	"tacet/logging"
)

// Who may read the log is on record whenever it is others than before.
func TestGrantsAreOnRecord(t *testing.T) {
	d, _ := lonely(t)
	grants := func() (all []logging.Action) {
		for act, err := range logging.ReadAudit(d.config.Log.Dir) {
			if err != nil {
				t.Fatal(err)
			}
			if act.What == logging.VerbGrant {
				all = append(all, act)
			}
		}
		return all
	}
	for _, c := range []struct {
		full, status []string
		want         int
	}{
		{nil, nil, 0},
		{[]string{"anna"}, []string{"@staff"}, 1},
		{[]string{"anna"}, []string{"@staff"}, 1},
		{[]string{"anna"}, []string{"bob"}, 2},
		{nil, nil, 3},
		{nil, nil, 3},
	} {
		d.config.Log.FullReaders, d.config.Log.StatusReaders = slices.Clone(c.full), slices.Clone(c.status)
		if err := d.recordGrants(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := grants()
		if len(got) != c.want || c.want > 0 && got[c.want-1].Matched != len(c.full)+len(c.status) {
			t.Errorf("%v, %v: %+v, want %d records", c.full, c.status, got, c.want)
		}
	}
}
