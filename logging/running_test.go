package logging

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRunningDaySealed ends in the middle of a frame, as a crash does, and goes on.
func TestRunningDaySealed(t *testing.T) {
	p := newPlace(t)
	o := p.options()
	o.LiveSealed = true
	path := filepath.Join(p.dir, today().live(true))
	for begin := 0; begin < 40; begin += 10 {
		l := openLog(t, o)
		for i := range 10 {
			write(t, l, begin+i)
			if i%3 == 0 {
				flush(t, l)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := p.read(t, Filter{}); !slices.Equal(got, numbered(0, begin+10)) {
			t.Errorf("got %v", got)
		}
		if got := collect(t, ReadOptions{Dir: p.dir, KeyDir: p.keys, Last: 5}); !slices.Equal(got, numbered(begin+5, begin+10)) {
			t.Errorf("the last five: %v", got)
		}
		edit(t, path, func(b []byte) []byte { return append(b, b[headerSize:headerSize+30]...) })
		if got := p.read(t, Filter{}); !slices.Equal(got, numbered(0, begin+10)) {
			t.Errorf("behind a piece of a frame: %v", got)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "example") || strings.Contains(string(raw), "ID1") {
		t.Error("it is readable")
	}
	if keys := p.keyFiles(t); len(keys) != 1 {
		t.Errorf("%v", keys)
	}
}

// TestRunningDayFromItsBeginning wants a file to be made anew that a crash has left
// without its header, and one to be kept and replaced whose key is gone.
func TestRunningDayFromItsBeginning(t *testing.T) {
	p := newPlace(t)
	o := p.options()
	o.LiveSealed = true
	path := filepath.Join(p.dir, today().live(true))
	if err := os.WriteFile(path, []byte("tacet-l"), 0o640); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, o)
	write(t, l, 0)
	flush(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := p.read(t, Filter{}); !slices.Equal(got, numbered(0, 1)) {
		t.Fatalf("%v", got)
	}
	if err := os.RemoveAll(p.keys); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, o)
	write(t, l, 1)
	flush(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := Verify(t.Context(), o)
	if err != nil || !slices.Contains(found.Faults, Fault{today().aside(1), ProblemNoKey}) {
		t.Errorf("%+v %v", found, err)
	}
}

// TestSwitchingToSealed changes the setting within a day.
func TestSwitchingToSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		settle(12 * time.Hour)
		for i, live := range []bool{false, true, false, true} {
			o := p.options()
			o.LiveSealed = live
			l := openLog(t, o)
			write(t, l, i)
			flush(t, l)
			synctest.Wait()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if got := p.read(t, Filter{}); len(got) != i+1 {
				t.Errorf("%v", got)
			}
		}
	})
}

// TestFollowSealed reads along over midnight, the sealing of the day before, and an erasure.
func TestFollowSealed(t *testing.T) {
	for _, live := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlace(t)
			o := p.options()
			o.LiveSealed = live
			l := openLog(t, o)
			defer l.Close()
			settle(24*time.Hour - 10*time.Second)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var got []string
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for line, err := range Read(ctx, ReadOptions{Dir: p.dir, KeyDir: p.keys, Last: 1, Follow: true}) {
					if err != nil {
						t.Error(err)
						return
					}
					got = append(got, line.ID)
				}
			}()
			synctest.Wait() // it has found where to begin
			next := 0
			more := func() {
				t.Helper()
				for range 3 {
					write(t, l, next)
					next++
				}
				settle(midnightRest + 3*pollEvery)
				if !slices.Equal(got, numbered(0, next)) {
					t.Fatalf("got %v, want up to %d", got, next)
				}
			}
			more()
			settle(10 * time.Second) // midnight
			more()
			settle(sealAfter + time.Minute)
			more()
			if _, err := l.Erase(t.Context(), Person{Address: "eve@example.net"}); err != nil {
				t.Fatal(err)
			}
			more()
			more()
			cancel()
			<-ended
		})
	}
}

func TestTrace(t *testing.T) {
	p := newPlace(t)
	l := openLog(t, p.options())
	now := today().begin()
	for i, r := range []Record{
		{Event: Accepted, ID: "A", Recipient: "bob@example.net"},
		{Event: Accepted, ID: "B", Recipient: "eve@example.net"},
		{Event: Rejected, Recipient: "bob@example.net"},
		{Event: Accepted, ID: "A", Recipient: "carl@example.com"},
		{Event: Deferred, ID: "B", Recipient: "eve@example.net"},
		{Event: Delivered, ID: "A", Recipient: "carl@example.com"},
	} {
		r.Time = now.Add(time.Duration(i) * time.Second)
		if i < 2 {
			r.Time = r.Time.Add(-48 * time.Hour)
		}
		if err := l.Write(&r); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, l)
	for name, c := range map[string]struct {
		filter Filter
		want   string
	}{
		"an address":           {Filter{Address: "bob@example.net"}, "A:accepted,accepted,delivered :rejected"},
		"in a later record":    {Filter{Recipient: "carl@example.com", Since: now}, "A:accepted,accepted,delivered"},
		"an ID":                {Filter{ID: "b"}, "B:accepted,deferred"},
		"an event":             {Filter{Events: []Event{Deferred, Delivered}}, "A:accepted,accepted,delivered B:accepted,deferred"},
		"nobody":               {Filter{Address: "x@example.org"}, ""},
		"an ID that is a part": {Filter{ID: ""}, "A:accepted,accepted,delivered B:accepted,deferred :rejected"},
	} {
		var got []string
		for m, err := range Trace(t.Context(), ReadOptions{Dir: p.dir, KeyDir: p.keys, Filter: c.filter}) {
			if err != nil {
				t.Fatal(err)
			}
			var events []string
			for _, line := range m.Lines {
				events = append(events, line.Event.String())
			}
			got = append(got, m.ID+":"+strings.Join(events, ","))
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestSummary(t *testing.T) {
	var s Summary
	tls := TLS{Version: 0x0304, Verified: VerifiedDANE}
	for range 3 {
		s.Add(&Record{Time: full(Delivered).Time, Event: Accepted, In: TLS{Version: 0x0303}, Sender: "a@Example.org", HasSender: true, Recipient: "b@example.net"})
		s.Add(&Record{Time: full(Delivered).Time.Add(time.Hour), Event: Delivered, Out: tls, Recipient: "b@example.net"})
	}
	s.Add(&Record{Event: Deferred, Out: TLS{None: NoTLSNotOffered}, Reason: ReasonGreylisted, Recipient: "b@slow.example"})
	s.Add(&Record{Event: Deferred, Out: TLS{None: NoTLSNotConnected}, Reason: ReasonGreylisted, Recipient: "b@example.net"})
	s.Add(&Record{Event: Failed, Reason: ReasonUserUnknown, Recipient: "b@slow.example"})
	if s.Records != 9 || s.Events[Delivered] != 3 || s.Reasons[ReasonGreylisted] != 2 || s.Senders["example.org"] != 3 {
		t.Errorf("%+v", s)
	}
	if got := s.Domains["example.net"]; got != (Destination{3, 1, 0}) || got.Attempts() != 4 {
		t.Errorf("%+v", got)
	}
	if in, out := Encrypted(s.In), Encrypted(s.Out); in != 1 || out != 0.75 || Encrypted(nil) != 0 {
		t.Errorf("%v %v", in, out)
	}
	if got := Slowest(s.Domains, 5); !slices.Equal(got, []string{"slow.example", "example.net"}) {
		t.Errorf("%v", got)
	}
}

func TestStatusOnly(t *testing.T) {
	show := StatusOnly()
	for e := Accepted; e < eventEnd; e++ {
		line := show(Line{Record: *full(e)})
		got, err := ParseLine(line.Raw)
		if err != nil || got.Event != e {
			t.Errorf("%s: %v", line.Raw, err)
		}
		var keys []string
		for _, f := range Schema() {
			if f.Class == ClassIdentity || f.Class == ClassSensitive {
				keys = append(keys, f.Key)
			}
		}
		for _, key := range keys {
			if strings.Contains(string(line.Raw), `"`+key+`":`) {
				t.Errorf("%s stands in %s", key, line.Raw)
			}
		}
		if len(keys) < 6 || strings.Contains(string(line.Raw), "example") {
			t.Errorf("%v %s", keys, line.Raw)
		}
	}
}
