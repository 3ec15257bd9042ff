package aggregate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errDown = errors.New("down")

// world keeps counts and takes reports, unless it is down.
type world struct {
	days    *Days[int]
	kept    string
	saves   int
	saveErr error
	err     error
	told    []string // day, domain and counts of each report
	failed  []error
}

func (w *world) Load() ([]byte, error) { return []byte(w.kept), nil }
func (w *world) Save(b []byte) error {
	w.saves++
	if w.saveErr == nil {
		w.kept = string(b)
	}
	return w.saveErr
}

// open starts with what is kept, as a relay does.
func (w *world) open() (err error) {
	w.days, err = New(Config[int]{
		What: "test", Keeper: w, Failed: func(err error) { w.failed = append(w.failed, err) },
		Cost: func(key string, _ int) int { return len(key) },
		Report: func(_ context.Context, begin time.Time, domain string) error {
			if w.err == nil {
				w.days.View(begin, domain, func(counts map[string]int) {
					w.told = append(w.told, fmt.Sprint(begin.Format(time.DateOnly), " ", domain, " ", counts))
				})
			}
			return w.err
		},
	})
	return err
}

// count counts one of a key, if there is room for it.
func (w *world) count(domain, key string) {
	w.days.Count(domain, func(counts map[string]int, room bool) int {
		if _, known := counts[key]; !known && !room {
			return 0
		}
		counts[key]++
		if counts[key] > 1 {
			return 0
		}
		return len(key)
	})
}

// during starts anew and runs for as long.
func (w *world) during(t *testing.T, d time.Duration) {
	t.Helper()
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.run(t, d)
}

func (w *world) run(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	w.days.Run(ctx)
}

// TestRound follows a day's counts over a restart: each domain is told once, not before the
// day is over, and nothing is kept of what it was told.
func TestRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w world
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.count("a.example", "x")
		w.count("a.example", "x")
		w.count("b.example", "y")
		w.run(t, 20*time.Hour)
		if len(w.told) != 0 || !strings.Contains(w.kept, "a.example") {
			t.Errorf("%v was told before the day was over; kept %q", w.told, w.kept)
		}
		w.during(t, 9*time.Hour)
		if got := strings.Join(w.told, ", "); got != "2000-01-01 a.example map[x:2], 2000-01-01 b.example map[y:1]" {
			t.Errorf("told: %s", got)
		}
		if w.kept != "{}" {
			t.Errorf("what was reported is still kept: %s", w.kept)
		}
		w.during(t, 48*time.Hour)
		if len(w.told) != 2 {
			t.Errorf("told twice: %v", w.told)
		}
	})
}

// TestRetries checks that what cannot be told is tried again, and at last given up.
func TestRetries(t *testing.T) {
	for _, mended := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := world{err: errDown}
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
			w.count("a.example", "x")
			w.run(t, 30*time.Hour)
			if !strings.Contains(w.kept, "a.example") {
				t.Errorf("given up at once: %q", w.kept)
			}
			if mended {
				w.err = nil
			}
			w.during(t, 30*time.Hour)
			if w.kept != "{}" || (len(w.told) == 1) != mended {
				t.Errorf("mended %v: %v was told, %s is kept", mended, w.told, w.kept)
			}
		})
	}
}

// TestSaves checks that the Keeper gets only what is new, and that its failure is told.
func TestSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world{saveErr: errDown}
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		w.count("a.example", "x")
		w.run(t, 2*saveEvery+time.Second)
		if w.saves != 1 || len(w.failed) != 1 || !errors.Is(w.failed[0], errDown) {
			t.Errorf("saved %d times, told of %v", w.saves, w.failed)
		}
	})
}

// TestBounds checks that no flood of domains or keys grows beyond its limits.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w world
		if err := w.open(); err != nil {
			t.Fatal(err)
		}
		for i := range maxDomains + 10 {
			w.count(fmt.Sprint("d", i), "x")
		}
		if n := len(w.days.days["2000-01-01"]); n != maxDomains {
			t.Errorf("%d domains", n)
		}
		for i := range 2 * maxOctets >> 20 {
			w.count("d1", strings.Repeat("y", 1<<20)+fmt.Sprint(i))
		}
		counted := w.days.octets
		if counted < maxOctets || counted > maxOctets+2<<20 {
			t.Errorf("%d octets are kept", counted)
		}
		if w.days.recount(); w.days.octets != counted {
			t.Errorf("%d octets are counted, %d are there", counted, w.days.octets)
		}
		time.Sleep(24 * time.Hour)
		if w.count("new", "x"); len(w.days.days) != 1 {
			t.Error("a domain was added to a full memory")
		}
	})
}

// TestKept checks what is taken over of a file that has damage, or days of no use.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for kept, days := range map[string]int{
			"": 0, "null": 0, "{}": 0, `{"1999`: -1, `{"1999-12-31":{"x":7}}`: -1,
			`{"2099-01-01":{},"1999-01-01":{},"nonsense":{},"1999-12-31":{"x":{"y":1}}}`: 1,
			`{"1999-12-31":{"x":null}}`: 1,
		} {
			w := world{kept: kept}
			err := w.open()
			if (err != nil) != (days < 0) || len(w.days.days) != max(days, 0) {
				t.Errorf("%s: %v, %v", kept, w.days.days, err)
			}
			w.count("x", "y")
			if w.days.days["2000-01-01"]["x"]["y"] != 1 {
				t.Errorf("%s: nothing is counted after it", kept)
			}
		}
	})
}
