package logging

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// collect gives the queue IDs that reading yields.
func collect(t *testing.T, o ReadOptions) (list []string) {
	t.Helper()
	for line, err := range Read(t.Context(), o) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, line.ID)
	}
	return list
}

// threeDays writes ten records on each of three days.
func threeDays(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	l := openLog(t, Options{Dir: dir})
	base := today()
	for i := range 30 {
		r := &Record{
			Time: (base - 2 + day(i/10)).begin().Add(time.Duration(i) * time.Minute), Event: Delivered, ID: numbered(i, i+1)[0],
			Sender: "Anna@Example.org", HasSender: true, Recipient: "bob@example.net", User: "anna",
			NextHost: netip.MustParseAddr("192.0.2.1"), Client: netip.MustParseAddr("203.0.113.9"),
		}
		if i%10 == 7 {
			r.Event, r.Reason, r.Recipient, r.Sender, r.NextHost = Deferred, ReasonGreylisted, "eve@example.com", "", netip.MustParseAddr("2001:db8::1")
		}
		if err := l.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, l)
	return dir
}

func TestRead(t *testing.T) {
	dir := threeDays(t)
	base := today()
	deferred := []string{"ID7", "ID17", "ID27"}
	for _, c := range []struct {
		name   string
		last   int
		filter Filter
		want   []string
	}{
		{"all", 0, Filter{}, numbered(0, 30)},
		{"negative is all", -1, Filter{}, numbered(0, 30)},
		{"last five", 5, Filter{}, numbered(25, 30)},
		{"last over a midnight", 12, Filter{}, numbered(18, 30)},
		{"more than there are", 100, Filter{}, numbered(0, 30)},
		{"event", 0, Filter{Events: []Event{Deferred}}, deferred},
		{"last two of an event", 2, Filter{Events: []Event{Deferred, Failed}}, deferred[1:]},
		{"reason", 0, Filter{Reasons: []Reason{ReasonGreylisted}}, deferred},
		{"other reason", 0, Filter{Reasons: []Reason{ReasonOther}}, nil},
		{"id", 0, Filter{ID: "id9"}, numbered(9, 10)},
		{"recipient", 0, Filter{Recipient: "EVE@example.com"}, deferred},
		{"recipient's domain", 0, Filter{Recipient: "@example.com"}, deferred},
		{"part of a recipient", 0, Filter{Recipient: "eve"}, deferred},
		{"no part of a mailbox", 0, Filter{Recipient: "ve@example.com"}, nil},
		{"null sender", 0, Filter{Sender: "<>"}, deferred},
		{"sender", 1, Filter{Sender: "anna@example.org"}, numbered(29, 30)},
		{"address on either side", 1, Filter{Address: "@example.org"}, numbered(29, 30)},
		{"user", 1, Filter{User: "ANN"}, numbered(29, 30)},
		{"next host", 0, Filter{NextHost: netip.MustParsePrefix("2001:db8::/32")}, deferred},
		{"client", 1, Filter{Client: netip.MustParsePrefix("203.0.113.0/24")}, numbered(29, 30)},
		{"other client", 0, Filter{Client: netip.MustParsePrefix("203.0.112.0/24")}, nil},
		{"since", 0, Filter{Since: base.begin()}, numbered(20, 30)},
		{"until", 0, Filter{Until: (base - 1).begin()}, numbered(0, 10)},
		{"between", 0, Filter{Since: (base - 1).begin().Add(15 * time.Minute), Until: base.begin()}, numbered(15, 20)},
	} {
		if got := collect(t, ReadOptions{Dir: dir, Last: c.last, Filter: c.filter}); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v want %v", c.name, got, c.want)
		}
	}
}

func TestReadStops(t *testing.T) {
	dir := threeDays(t)
	for _, last := range []int{-1, 20} {
		n := 0
		for range Read(t.Context(), ReadOptions{Dir: dir, Last: last}) {
			if n++; n == 3 {
				break
			}
		}
		if n != 3 {
			t.Errorf("%d lines", n)
		}
	}
}

func TestReadGoesOnAfterAFaultyLine(t *testing.T) {
	good := `{"time":"2026-05-04T03:02:01.000007Z","status":{"event":"held","id":"a"}}` + "\n"
	for name, faulty := range map[string]string{"rubbish": "secret@example.org\n", "unknown key": `{"time":"2026-05-04T03:02:01Z","password":"secret"}` + "\n", "huge": strings.Repeat("x", 3<<20) + "\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, today().file()), []byte(good+faulty+"\n"+good), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, last := range []int{-1, 1000} {
			lines, faults := 0, 0
			for _, err := range Read(t.Context(), ReadOptions{Dir: dir, Last: last}) {
				switch {
				case err == nil:
					lines++
				case errors.Is(err, ErrLine) && !strings.Contains(err.Error(), "secret"):
					faults++
				default:
					t.Errorf("%s: %v", name, err)
				}
			}
			if lines != 2 || faults == 0 {
				t.Errorf("%s, last %d: %d lines, %d faults", name, last, lines, faults)
			}
		}
	}
}

func TestReadOfNothing(t *testing.T) {
	for line, err := range Read(t.Context(), ReadOptions{Dir: filepath.Join(t.TempDir(), "none")}) {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v, %v", line, err)
		}
	}
	if got := collect(t, ReadOptions{Dir: t.TempDir(), Last: 5}); got != nil {
		t.Errorf("%v", got)
	}
}

// TestFollow reads along over midnight, a moved file and a piece of a
// line, and wants each record once and in order.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := openLog(t, Options{Dir: dir})
		defer l.Close()
		time.Sleep(24*time.Hour - 10*time.Second) // polling through a day takes its time even here
		for i := range 5 {
			write(t, l, i)
		}
		flush(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []string
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for line, err := range Read(ctx, ReadOptions{Dir: dir, Last: 2, Follow: true}) {
				if err != nil {
					t.Error(err)
					return
				}
				got = append(got, line.ID)
			}
		}()
		synctest.Wait() // it has found where to begin
		next := 5
		more := func(want int) {
			t.Helper()
			for range 3 {
				write(t, l, next)
				next++
			}
			time.Sleep(midnightRest + 3*pollEvery)
			synctest.Wait()
			if !slices.Equal(got, numbered(3, want)) {
				t.Fatalf("got %v, want up to %d", got, want)
			}
		}
		more(8)
		more(11)
		time.Sleep(10 * time.Second) // midnight
		more(14)
		path := filepath.Join(dir, today().file())
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		more(17)
		more(20)

		f, err := os.OpenFile(filepath.Join(dir, today().file()), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		line := `{"time":"2026-05-04T03:02:01.000007Z","status":{"event":"held","id":"ID20"}}` + "\n"
		for _, piece := range []string{line[:20], line[20:]} {
			if _, err := f.WriteString(piece); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * pollEvery)
		}
		f.Close()
		synctest.Wait()
		if !slices.Equal(got, numbered(3, 21)) {
			t.Errorf("got %v", got)
		}
		cancel()
		<-ended
	})
}

func TestFollowWithoutHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []string
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for line, err := range Read(ctx, ReadOptions{Dir: dir, Follow: true, Filter: Filter{Events: []Event{Delivered}}}) {
				if err != nil {
					t.Error(err)
					return
				}
				got = append(got, line.ID)
			}
		}()
		time.Sleep(time.Second)
		l := openLog(t, Options{Dir: dir})
		defer l.Close()
		if err := l.Write(&Record{Event: Held, ID: "other"}); err != nil {
			t.Fatal(err)
		}
		write(t, l, 0)
		time.Sleep(time.Second)
		synctest.Wait()
		cancel()
		<-ended
		if !slices.Equal(got, numbered(0, 1)) {
			t.Errorf("got %v", got)
		}
	})
}

func TestFormat(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Record)
		style  Style
		want   string
	}{
		"delivered": {nil, Style{},
			`03:02:01  delivered    anna@example.org         → bob@example.net           "Angebot 4711"                  from 203.0.113.9  as anna  via 192.0.2.1 TLS1.3 dane  250 2.1.5 4XyzAB  K3V9` + "\n"},
		"deferred": {func(r *Record) {
			r.Event, r.Code, r.Enhanced, r.Reason, r.Stage, r.Attempt = Deferred, 451, [3]uint16{4, 7, 1}, ReasonGreylisted, StageRcpt, 2
			r.Sender, r.RemoteID, r.User, r.Client, r.Repeated = "", "", "", netip.Addr{}, true
			r.Subject, r.Out, r.NextAttempt = "東京", TLS{None: NoTLSNotOffered}, r.Time.Add(10*time.Minute)
		}, Style{Date: true},
			`2026-05-04 03:02:01  deferred     <>                       → bob@example.net           "東京"                          greylisted: try again later at rcpt  try 2  again after a crash  again in 10m  via 192.0.2.1 no TLS (not offered)  451 4.7.1  K3V9` + "\n"},
		"failed, in colour and German": {func(r *Record) {
			r.Event, r.Code, r.Enhanced, r.Reason, r.Stage, r.Attempt, r.RemoteID = Failed, 550, [3]uint16{5, 1, 1}, ReasonUserUnknown, StageRcpt, 1, ""
			r.User, r.Client, r.Subject = "", netip.Addr{}, ""
		}, Style{Colour: true, Language: "de"},
			"\x1b[2m03:02:01\x1b[0m  \x1b[31mfailed\x1b[0m       anna@example.org        \x1b[2m → \x1b[0m\x1b[1mbob@example.net\x1b[0m           \x1b[31mdas Postfach gibt es nicht at rcpt\x1b[0m  via 192.0.2.1 \x1b[32mTLS1.3 dane\x1b[0m  550 5.1.1  \x1b[2mK3V9\x1b[0m\n"},
		"auth failed": {func(r *Record) {
			*r = Record{Time: r.Time, Event: AuthFailed, Client: r.Client, In: TLS{Version: 0x0303}, Reason: ReasonBadCredentials, Stage: StageAuth, Code: 535}
		}, Style{}, "03:02:01  auth_failed  wrong user or password at auth  from 203.0.113.9 TLS1.2  535\n"},
		"content rejected": {func(r *Record) {
			*r = Record{Time: r.Time, Event: ContentRejected, Sender: "a@example.org", HasSender: true, Recipient: "b@example.net", Reason: ReasonContent, Code: 550, Headers: []HeaderField{{"From", "a\x1b[1m"}, {"To", "b"}}}
		}, Style{Headers: true}, "03:02:01  content_rejected  a@example.org            → b@example.net             a content check of ours refused it  550\n" +
			"          From: a\\x1b[1m\n          To: b\n"},
	} {
		r := full(Delivered)
		r.Reason, r.Stage, r.Attempt, r.NextAttempt, r.Headers, r.NextHost, r.ID, r.RemoteID = 0, 0, 1, time.Time{}, nil, netip.MustParseAddr("192.0.2.1"), "K3V9", "4XyzAB"
		r.Repeated = false
		if c.change != nil {
			c.change(r)
		}
		c.style.Location = time.UTC
		var got strings.Builder
		if err := Format(&got, Line{Record: *r}, c.style); err != nil {
			t.Fatal(err)
		}
		if got.String() != c.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got.String(), c.want)
		}
	}
}

// TestReadGoesOnWithoutAKey wants a day whose key is lost, or that was put back from a
// backup made before an erasure, to hide no other day, and a person to be taken out of the rest.
func TestReadGoesOnWithoutAKey(t *testing.T) {
	p := newPlace(t)
	last := today() - 1
	k := p.keeper(nil)
	for d := last - 2; d <= last; d++ {
		p.set(t, d.aside(1), d, int(d-last)*10+20, int(d-last)*10+23)
		if err := k.reseal(t.Context(), d, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	backup, err := os.ReadFile(filepath.Join(p.dir, (last - 1).sealed()))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.reseal(t.Context(), last-1, removeUser, nil); err != nil { // under a fresh key
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, (last-1).sealed()), backup, 0o640); err != nil {
		t.Fatal(err)
	}
	want := append(numbered(0, 3), numbered(20, 23)...)
	for _, most := range []int{-1, 100} {
		var got []string
		missing := 0
		for line, err := range Read(t.Context(), ReadOptions{Dir: p.dir, KeyDir: p.keys, Last: most}) {
			switch {
			case errors.Is(err, ErrNoKey) && strings.Contains(err.Error(), (last-1).sealed()):
				missing++
			case err != nil:
				t.Fatal(err)
			default:
				got = append(got, line.ID)
			}
		}
		if !slices.Equal(got, want) || missing != 1 {
			t.Errorf("last %d: %v, want %v; told %d times", most, got, want, missing)
		}
	}
	found, err := k.erase(t.Context(), Person{Address: "anna@example.org"})
	if err != nil || found.Days != 2 {
		t.Errorf("erased from %d days, want 2: %v", found.Days, err)
	}
	v, err := Verify(t.Context(), Options{Dir: p.dir, KeyDir: p.keys})
	if err != nil || !slices.ContainsFunc(v.Faults, func(f Fault) bool { return f.File == (last-1).sealed() && f.Problem == ProblemNoKey }) {
		t.Errorf("%+v %v", v.Faults, err)
	}
}
