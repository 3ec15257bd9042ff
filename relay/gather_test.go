package relay

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/queue"
)

// sentReport is one report as the sender gets it.
type sentReport struct {
	after   time.Duration // since the message was sent
	action  string
	to      []queue.ForwardPath // Final-Recipient fields
	content string
}

var (
	finalRecipient = regexp.MustCompile(`(?m)^Final-Recipient: rfc822; (.*)\r$`)
	actionField    = regexp.MustCompile(`(?m)^Action: (.*)\r$`)
)

// reporting has a world collect the reports to a@example.org, and answer all else by answer.
func reporting(w *world, answer func(*queue.Claim) Result) *[]sentReport {
	var got []sentReport
	start := time.Now()
	w.hop.answer = func(c *queue.Claim) Result {
		if c.Destination != "example.org" {
			return answer(c)
		}
		text := string(c.Content.Head)
		r := sentReport{after: time.Since(start), content: text, action: actionField.FindStringSubmatch(text)[1]}
		for _, m := range finalRecipient.FindAllStringSubmatch(text, -1) {
			r.to = append(r.to, queue.ForwardPath(m[1]))
		}
		w.hop.mu.Lock()
		defer w.hop.mu.Unlock()
		got = append(got, r)
		return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
	}
	return &got
}

func refuse(c *queue.Claim) Result {
	return answered(c, queue.Reply{Code: 550, Enhanced: queue.Enhanced{5, 1, 1}, Text: "no such user", Stage: queue.StageRcpt})
}

func putOff(c *queue.Claim) Result {
	return answered(c, queue.Reply{Code: 451, Stage: queue.StageRcpt})
}

func scattered(n int) (to []queue.ForwardPath) {
	for i := range n {
		to = append(to, queue.ForwardPath(fmt.Sprintf("b@d%d.example", i)))
	}
	return to
}

func submit(t *testing.T, w *world, e *queue.Envelope, header string) {
	t.Helper()
	if _, err := w.Accept(t.Context(), e, strings.NewReader(header+"\r\nbody\r\n"), Session{Protocol: "ESMTPSA"}); err != nil {
		t.Fatal(err)
	}
}

// onceEach checks that each recipient is in one report, and only one.
func onceEach(t *testing.T, reports []sentReport, want int) {
	t.Helper()
	seen := make(map[queue.ForwardPath]int)
	for _, r := range reports {
		for _, to := range r.to {
			seen[to]++
		}
	}
	if twice := slices.ContainsFunc(slices.Collect(maps.Values(seen)), func(n int) bool { return n > 1 }); twice || len(seen) != want {
		t.Errorf("%d recipients are reported, one of them twice: %v; want %d, each once", len(seen), twice, want)
	}
}

// A thousand domains refuse a message: its sender hears of it once, or twice where
// that would be more than may stand in one report.
func TestManyDomainsOneReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := reporting(w, refuse)
		submit(t, w, envelope(scattered(1000)...), "From: a@example.org\r\nTo: undisclosed-recipients:;\r\n")
		w.deliver(t, 2*time.Minute)
		if len(*got) > 2 || w.store.count() != 0 {
			t.Errorf("%d reports, %d messages left", len(*got), w.store.count())
		}
		onceEach(t, *got, 1000)
		if last := (*got)[len(*got)-1].after; last > shortestGathering+time.Second {
			t.Errorf("the last report came after %v", last)
		}
	})
}

// Domains that give up on a message one after the other over hours do not
// have the sender told of each.
func TestSlowFailuresGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) {
			c.Schedule = queue.Schedule{Retry: []time.Duration{7 * time.Minute}, Lifetime: 24 * time.Hour, DelayWarning: 2 * time.Hour}
		})
		start := time.Now()
		got := reporting(w, func(c *queue.Claim) Result {
			var n int
			fmt.Sscanf(string(c.Destination), "d%d.example", &n)
			if time.Since(start) > time.Duration(n)*4*time.Minute {
				return refuse(c)
			}
			return putOff(c)
		})
		submit(t, w, envelope(scattered(200)...), "From: a@example.org\r\nTo: undisclosed-recipients:;\r\n")
		w.deliver(t, 26*time.Hour)
		failed := slices.Collect(func(yield func(sentReport) bool) {
			for _, r := range *got {
				if r.action == "failed" && !yield(r) {
					return
				}
			}
		})
		onceEach(t, failed, 200)
		if len(failed) > 60 || len(*got)-len(failed) > 9 {
			t.Errorf("%d reports of failure and %d of delay", len(failed), len(*got)-len(failed))
		}
		if w.store.count() != 0 {
			t.Errorf("%d messages left", w.store.count())
		}
	})
}

// What is delivered before a gathered warning of delay is made leaves nothing, in memory either.
func TestGatheringLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) {
			c.Schedule = queue.Schedule{Retry: []time.Duration{7 * time.Minute}, Lifetime: 24 * time.Hour, DelayWarning: 2 * time.Hour}
		})
		start, gathered := time.Now(), false
		got := reporting(w, func(c *queue.Claim) Result {
			var n int
			fmt.Sscanf(string(c.Destination), "d%d.example", &n)
			if time.Since(start) < 2*time.Hour+time.Duration(10+10*n)*time.Minute {
				return putOff(c)
			}
			_, now := w.owing.Load(c.Envelope.ID)
			gathered = gathered || now
			return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
		})
		submit(t, w, envelope(scattered(3)...), "From: a@example.org\r\nTo: undisclosed-recipients:;\r\n")
		w.deliver(t, 4*time.Hour)
		if !gathered || len(*got) != 0 || w.store.count() != 0 {
			t.Fatalf("gathered %v, %d reports, %d messages left", gathered, len(*got), w.store.count())
		}
		for id := range w.owing.Range {
			t.Errorf("%v is remembered", id)
		}
	})
}

// TestReportsKeepBcc has all recipients of a message refused, some of them in
// no address field, once each in a domain of its own and once in the same.
func TestReportsKeepBcc(t *testing.T) {
	const header = "From: a@example.org\r\nTo: One <ONE@%[1]s>,\r\n\t\"two@%[2]s\" <two@%[2]s>\r\nCC : x:three@%[3]s;\r\nBcc: four@%[4]s\r\nSubject: four@%[4]s\r\n"
	tests := map[string][]any{
		"apart":    {"d1.example", "d2.example", "d3.example", "d4.example", "d5.example"},
		"together": {"d.example", "d.example", "d.example", "d.example", "d.example"},
	}
	for name, domains := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				got := reporting(w, refuse)
				var to []queue.ForwardPath
				for i, local := range []string{"one", "two", "three", "four", "five"} {
					to = append(to, queue.ForwardPath(local+"@"+domains[i].(string)))
				}
				submit(t, w, envelope(to...), strings.Replace(fmt.Sprintf(header, domains[:4]...), "Subject: four@", "Subject: x", 1))
				w.deliver(t, time.Minute)
				onceEach(t, *got, 5)
				if len(*got) != 3 {
					t.Errorf("%d reports, want one of those in the fields, and one of each other", len(*got))
				}
				for _, r := range *got {
					for _, blind := range to[3:] {
						if strings.Contains(r.content, string(blind)) && len(r.to) > 1 {
							t.Errorf("a report on %v names %v", r.to, blind)
						}
					}
				}
			})
		})
	}
}

// What comes from outside is reported in one, whatever its fields name.
func TestReportOfListMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		got := reporting(w, refuse)
		e := envelope(scattered(5)...)
		e.Origin = queue.Origin{}
		submit(t, w, e, "From: a@example.org\r\nTo: list@example.net\r\n")
		w.deliver(t, time.Minute)
		onceEach(t, *got, 5)
		if len(*got) != 1 {
			t.Errorf("%d reports", len(*got))
		}
	})
}

// TestGatheredAsAsked mixes outcomes and what the sender wants to hear of each.
func TestGatheredAsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Schedule.DelayWarning = 10 * time.Minute })
		got := reporting(w, func(c *queue.Claim) Result {
			switch c.Destination {
			case "d0.example", "d1.example", "d2.example":
				return refuse(c)
			case "d3.example", "d4.example":
				return answered(c, queue.Reply{Code: 250, Stage: queue.StageEnd})
			}
			return putOff(c)
		})
		e := envelope(scattered(8)...)
		for i, n := range []queue.Notify{0, queue.NotifyNever, queue.NotifyFailure | queue.NotifySuccess, queue.NotifySuccess, queue.NotifyFailure, 0, queue.NotifyNever, queue.NotifyDelay} {
			e.Recipients[i].Notify = n
		}
		e.Origin = queue.Origin{}
		submit(t, w, e, "From: a@example.org\r\nTo: list@example.net\r\n")
		w.deliver(t, 3*time.Hour)
		var reports []string
		for _, r := range *got {
			reports = append(reports, fmt.Sprint(r.action, " ", r.to))
		}
		want := []string{
			"failed [b@d0.example b@d2.example]",  // at once, when both had failed
			"relayed [b@d3.example]",              // with them
			"delayed [b@d5.example b@d7.example]", // after ten minutes, and a quarter of that
			"failed [b@d5.example]",               // when its hour was over
		}
		slices.Sort(want)
		slices.Sort(reports)
		if !slices.Equal(reports, want) {
			t.Errorf("reports %q, want %q", reports, want)
		}
		if w.store.count() != 0 {
			t.Errorf("%d messages left", w.store.count())
		}
	})
}

// A relay that ends while reports are gathered leaves none of them out, and
// makes none twice.
func TestGatheringSurvivesRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ended := false
		got := reporting(w, func(c *queue.Claim) Result {
			switch {
			case c.Destination < "d5":
				return refuse(c)
			case ended:
				return putOff(c)
			}
			time.Sleep(10 * time.Second)
			return answered(c, queue.Reply{Cause: queue.CauseShutdown})
		})
		submit(t, w, envelope(scattered(9)...), "From: a@example.org\r\nTo: undisclosed-recipients:;\r\n")
		w.deliver(t, 5*time.Second)
		if len(*got) != 0 {
			t.Fatalf("%d reports were not gathered", len(*got))
		}
		ended = true
		next := newWorld(t)
		next.store, next.hop = w.store, w.hop
		next.Relay = New(*w.config.Load(), w.store, nil, domains(w.limits.Load), w.hop, next.journal)
		next.deliver(t, 4*time.Minute)
		onceEach(t, *got, 5)
		if first := (*got)[0].after; first > 11*time.Second {
			t.Errorf("the first report came after %v, long after all were tried", first)
		}
	})
}

// A failure among recipients that wait is told at once.
func TestLoneFailureAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		start := time.Now()
		var failed time.Duration
		got := reporting(w, func(c *queue.Claim) Result {
			if c.Destination == "d1.example" && time.Since(start) > 20*time.Minute {
				failed = time.Since(start)
				return refuse(c)
			}
			return putOff(c)
		})
		submit(t, w, envelope(scattered(2)...), "From: a@example.org\r\nTo: list@example.net\r\n")
		w.deliver(t, 40*time.Minute)
		if len(*got) != 1 || (*got)[0].after > failed+time.Second {
			t.Errorf("%d reports, the first after %v; the failure was after %v", len(*got), (*got)[0].after, failed)
		}
	})
}

func FuzzAddressed(f *testing.F) {
	f.Add("To: a@b.example, \"c@d\" <e@f.example>\r\nCc:x@y;\r\n\tz@z\r\n")
	f.Add("to\t:\n@\r\n\xff: @\r\nTo:")
	f.Fuzz(func(t *testing.T, header string) {
		for a := range addressed([]byte(header)) {
			if !strings.Contains(a, "@") || strings.ContainsAny(a, "<> ,;:\r\n") || !strings.Contains(strings.ToLower(header), a) {
				t.Errorf("%q is no address of the header", a)
			}
		}
	})
}
