package logging

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// place is a log with a folder of keys beside it.
type place struct{ dir, keys string }

// file gives the name of the day's file.
func (d day) file() string { return d.begin().Format("relay-2006-01-02.jsonl") }

func newPlace(t *testing.T) place {
	t.Helper()
	base := t.TempDir()
	p := place{filepath.Join(base, "log"), filepath.Join(base, "keys", "log")}
	if err := os.Mkdir(p.dir, 0o750); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p place) options() Options { return Options{Dir: p.dir, KeyDir: p.keys} }

func (p place) read(t *testing.T, f Filter) []string {
	t.Helper()
	return collect(t, ReadOptions{Dir: p.dir, KeyDir: p.keys, Filter: f})
}

// files lists what is in the log's folder, by what follows the day.
func (p place) files(t *testing.T, d day) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if rest, ok := strings.CutPrefix(entry.Name(), d.stem()); ok {
			list = append(list, rest)
		}
	}
	return list
}

func (p place) keyFiles(t *testing.T) []keyFile {
	t.Helper()
	keys, err := (&keyring{dir: p.keys}).list()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// keeper is one without a log, that works when it is told to.
func (p place) keeper(step func(string) error, fields ...fieldPeriod) *keeper {
	return &keeper{dir: p.dir, keys: &keyring{dir: p.keys}, keep: 365, fields: fields, step: step}
}

// set writes a part of records from one number up to another.
func (p place) set(t *testing.T, name string, d day, from, to int) {
	t.Helper()
	var lines []byte
	enc := newEncoder()
	for i := from; i < to; i++ {
		r := full(Delivered)
		r.ID = numbered(i, i+1)[0]
		buf := enc.encode(r, d.begin().Add(time.Duration(i)*time.Second))
		lines = append(lines, buf.bytes()...)
		buf.free()
	}
	if err := os.WriteFile(filepath.Join(p.dir, name), lines, 0o640); err != nil {
		t.Fatal(err)
	}
}

// settle runs the log's clock for a while.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestSealAfterMidnight(t *testing.T) {
	for _, live := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlace(t)
			o := p.options()
			o.LiveSealed = live
			l := openLog(t, o)
			defer l.Close()
			settle(24*time.Hour - time.Minute)
			first := today()
			for i := range 50 {
				write(t, l, i)
			}
			flush(t, l)
			running := []string{first.live(live)[len(first.stem()):]}
			settle(10 * time.Minute) // nine past midnight
			if got := p.files(t, first); !slices.Equal(got, running) {
				t.Fatalf("sealed too early: %v", got)
			}
			settle(3 * time.Minute)
			if got := p.files(t, first); !slices.Equal(got, []string{".sealed"}) {
				t.Fatalf("not sealed: %v", got)
			}
			write(t, l, 50)
			flush(t, l)
			if got := p.read(t, Filter{}); !slices.Equal(got, numbered(0, 51)) {
				t.Errorf("got %v", got)
			}
			// A record that comes late opens the day again.
			late := &Record{Time: first.begin().Add(time.Hour), Event: Delivered, ID: "late"}
			if err := l.Write(late); err != nil {
				t.Fatal(err)
			}
			flush(t, l)
			if got := p.read(t, Filter{}); !slices.Contains(got, "late") || len(got) != 52 {
				t.Errorf("the late one is missing: %v", got)
			}
			settle(2 * time.Minute)
			if got := p.files(t, first); !slices.Equal(got, []string{".sealed"}) {
				t.Errorf("not sealed again: %v", got)
			}
			if got := p.read(t, Filter{}); len(got) != 52 {
				t.Errorf("got %v", got)
			}
			keys := 1
			if live {
				keys = 2
			}
			if got := p.keyFiles(t); len(got) != keys {
				t.Errorf("keys: %v", got)
			}
		})
	}
}

func TestSealedFileHasNothingPlain(t *testing.T) {
	p := newPlace(t)
	p.set(t, "relay-2026-05-04.part-1", dayOf(full(Delivered).Time), 0, 2000)
	k := p.keeper(nil)
	if err := k.reseal(t.Context(), dayOf(full(Delivered).Time), 0, nil); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(p.dir, "relay-2026-05-04.sealed"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"anna", "bob", "Angebot", "203.0.113.9", "event"} {
		if bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%s is readable", secret)
		}
	}
	if len(raw) > 100<<10 {
		t.Errorf("%d octets for 2000 records: not compressed", len(raw))
	}
	if info, err := os.Stat(filepath.Join(p.dir, "relay-2026-05-04.sealed")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	for path, mode := range map[string]os.FileMode{p.keys: 0o700, filepath.Join(p.keys, p.keyFiles(t)[0].name()): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, info.Mode(), err)
		}
	}
	if tag, err := os.ReadFile(filepath.Join(p.keys, "CACHEDIR.TAG")); err != nil || !bytes.HasPrefix(tag, []byte("Signature: 8a477f597d28d172789f06886806bc55")) {
		t.Errorf("%q %v", tag, err)
	}
}

func TestSealsWhatIsLeftAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		settle(12 * time.Hour)
		now := today()
		p.set(t, (now - 3).file(), now-3, 0, 10)
		p.set(t, (now - 1).aside(4), now-1, 10, 20)
		p.set(t, now.file(), now, 20, 30)
		l := openLog(t, p.options())
		defer l.Close()
		synctest.Wait()
		for d, want := range map[day]string{now - 3: ".sealed", now - 1: ".sealed", now: ".jsonl"} {
			if got := p.files(t, d); !slices.Equal(got, []string{want}) {
				t.Errorf("%v: %v", d.begin(), got)
			}
		}
		if got := p.read(t, Filter{}); !slices.Equal(got, numbered(0, 30)) {
			t.Errorf("got %v", got)
		}
		for _, last := range []int{5, 15, 25, 100} {
			got := collect(t, ReadOptions{Dir: p.dir, KeyDir: p.keys, Last: last})
			if want := numbered(max(0, 30-last), 30); !slices.Equal(got, want) {
				t.Errorf("last %d: %v", last, got)
			}
		}
	})
}

// TestCrashWhileSealing ends the work before every single step, and wants the
// next start to find each record exactly once and to leave nothing behind.
func TestCrashWhileSealing(t *testing.T) {
	d := dayOf(full(Delivered).Time)
	for steps := 0; ; steps++ {
		p := newPlace(t)
		p.set(t, d.aside(1), d, 0, 100)
		if err := p.keeper(nil).reseal(t.Context(), d, 0, nil); err != nil {
			t.Fatal(err)
		}
		p.set(t, d.aside(2), d, 100, 150)
		p.set(t, d.aside(3), d, 150, 200)
		left := steps
		crashed := ""
		k := p.keeper(func(step string) error {
			if left--; left < 0 {
				crashed = step
				return errCrash
			}
			return nil
		})
		err := k.reseal(t.Context(), d, 0, nil)
		if crashed == "" {
			if err != nil || steps < 8 {
				t.Fatalf("%d steps, %v", steps, err)
			}
			return
		}
		if got := p.read(t, Filter{}); !slices.Equal(got, numbered(0, 200)) {
			t.Errorf("after the crash before %s there are %d records", crashed, len(got))
		}
		again := p.keeper(nil)
		if err := errors.Join(again.recover(), again.reseal(t.Context(), d, 0, nil), again.recover()); err != nil {
			t.Errorf("recovery from the crash before %s: %v", crashed, err)
		}
		if got := p.read(t, Filter{}); !slices.Equal(got, numbered(0, 200)) {
			t.Errorf("after recovery from the crash before %s there are %d records", crashed, len(got))
		}
		if got := p.files(t, d); !slices.Equal(got, []string{".sealed"}) || len(p.keyFiles(t)) != 1 {
			t.Errorf("after the crash before %s there stay %v and keys %v", crashed, got, p.keyFiles(t))
		}
	}
}

// TestFailureWhileSealing has the disk fail, and wants all to be as it was.
func TestFailureWhileSealing(t *testing.T) {
	d := dayOf(full(Delivered).Time)
	for _, failing := range []string{"key", "write", "file sync", "rename"} {
		p := newPlace(t)
		p.set(t, d.aside(1), d, 0, 100)
		errDisk := errors.New("disk")
		k := p.keeper(func(step string) error {
			if step == failing {
				return errDisk
			}
			return nil
		})
		if err := k.reseal(t.Context(), d, 0, nil); !errors.Is(err, errDisk) {
			t.Errorf("%s: %v", failing, err)
		}
		if got := p.files(t, d); !slices.Equal(got, []string{".part-1"}) || len(p.keyFiles(t)) != 0 {
			t.Errorf("%s: %v, %v", failing, got, p.keyFiles(t))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := newPlace(t)
	p.set(t, d.aside(1), d, 0, 100)
	if err := p.keeper(nil).reseal(ctx, d, 0, nil); !errors.Is(err, context.Canceled) || len(p.keyFiles(t)) != 0 {
		t.Errorf("%v", err)
	}
}

func TestFieldsGoBeforeTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		settle(12 * time.Hour)
		o := p.options()
		o.RetentionSubject, o.RetentionClient, o.RetentionUser = 3*24*time.Hour, 2*24*time.Hour, 4*24*time.Hour
		l := openLog(t, o)
		defer l.Close()
		r := full(ContentRejected)
		r.Time = time.Time{}
		if err := l.Write(r); err != nil {
			t.Fatal(err)
		}
		flush(t, l)
		first, key := today(), ""
		for _, want := range []struct{ subject, client, user bool }{
			{true, true, true}, {true, true, true}, {true, false, true}, {false, false, true}, {false, false, false},
		} {
			days := int(today() - first)
			n := 0
			for line, err := range Read(t.Context(), ReadOptions{Dir: p.dir, KeyDir: p.keys}) {
				if err != nil {
					t.Fatal(err)
				}
				n++
				if line.Client.IsValid() != want.client || (line.User != "") != want.user ||
					(line.Subject != "") != want.subject || (len(line.Headers) > 0) != want.subject || line.Recipient == "" {
					t.Errorf("after %d days: %s", days, line.Raw)
				}
			}
			if n != 1 {
				t.Errorf("after %d days: %d records", days, n)
			}
			if keys := p.keyFiles(t); days > 1 && len(keys) > 0 {
				if i := slices.IndexFunc(keys, func(k keyFile) bool { return k.day == first }); i < 0 || keys[i].name() == key {
					t.Errorf("after %d days the key is the old one", days)
				} else {
					key = keys[i].name()
				}
			}
			settle(24 * time.Hour)
		}
	})
}

// Failed logins and TLS handshakes go before the rest of their day, and leave it as it was.
func TestLoginsGoBeforeTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		settle(12 * time.Hour)
		o := p.options()
		o.RetentionLogins = 2 * 24 * time.Hour
		l := openLog(t, o)
		defer l.Close()
		for _, event := range []Event{Accepted, AuthFailed, Delivered, TLSFailed} {
			r := full(event)
			r.Time = time.Time{}
			r.Subject = `"event":"auth_failed"`
			if err := l.Write(r); err != nil {
				t.Fatal(err)
			}
		}
		flush(t, l)
		var whole []string
		for days, want := range []int{4, 4, 2, 2} {
			var got []string
			for line, err := range Read(t.Context(), ReadOptions{Dir: p.dir, KeyDir: p.keys}) {
				if err != nil {
					t.Fatal(err)
				}
				if want == 4 || line.Event != AuthFailed && line.Event != TLSFailed {
					got = append(got, string(line.Raw))
				}
			}
			if days == 0 {
				whole = []string{got[0], got[2]}
			}
			if len(got) != want || want == 2 && !slices.Equal(got, whole) {
				t.Errorf("after %d days: %q", days, got)
			}
			v, err := Verify(t.Context(), o)
			if err != nil || len(v.Faults) != 0 || v.Records != want {
				t.Errorf("after %d days: %+v, %v", days, v, err)
			}
			settle(24 * time.Hour)
		}
		o.RetentionLogins = 24 * time.Hour
		l.keeper.fields = nil
		r := full(AuthFailed)
		r.Time = time.Time{}
		if err := l.Write(r); err != nil {
			t.Fatal(err)
		}
		settle(3 * 24 * time.Hour)
		if v, err := Verify(t.Context(), o); err != nil || len(v.Faults) != 1 || v.Faults[0].Problem != ProblemField {
			t.Errorf("one that was forgotten: %+v, %v", v, err)
		}
	})
}

// TestSealedRetention wants the 365th day to be readable and the 366th not, in
// a copy of the log either.
func TestSealedRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		settle(12 * time.Hour)
		now := today()
		p.set(t, (now - 364).file(), now-364, 0, 1)
		p.set(t, (now - 1).file(), now-1, 1, 2)
		l := openLog(t, p.options())
		defer l.Close()
		synctest.Wait()
		if got := p.read(t, Filter{}); !slices.Equal(got, numbered(0, 2)) {
			t.Fatalf("on the 365th day: %v", got)
		}
		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(p.dir)); err != nil {
			t.Fatal(err)
		}
		settle(24 * time.Hour)
		if got := p.read(t, Filter{}); !slices.Equal(got, numbered(1, 2)) {
			t.Errorf("on the 366th day: %v", got)
		}
		old := openPartOf(t, copied, (now - 364).sealed())
		if _, err := (&keyring{dir: p.keys}).box(old); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("its key is there: %v", err)
		}
	})
}

func openPartOf(t *testing.T, dir, name string) frameHeader {
	t.Helper()
	h, err := (&keeper{dir: dir}).header(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestErase(t *testing.T) {
	for _, live := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlace(t)
			o := p.options()
			o.LiveSealed = live
			settle(12 * time.Hour)
			l := openLog(t, o)
			defer l.Close()
			client := netip.MustParseAddr("203.0.113.9")
			records := []Record{
				{Event: Delivered, ID: "sent", User: "anna", Client: client, Sender: "Anna@example.org", Recipient: "bob@example.net", Subject: "one"},
				{Event: Delivered, ID: "got", User: "bob", Client: client, Sender: "bob@example.net", Recipient: "anna@EXAMPLE.org", Subject: "two"},
				{Event: AuthFailed, User: "anna@example.org", Client: client},
				{Event: Accepted, ID: "about", User: "bob", Client: client, Sender: "bob@example.net", Recipient: "eve@example.net", Subject: "on anna@example.org"},
				{Event: ContentRejected, ID: "head", Sender: "bob@example.net", Recipient: "eve@example.net", Headers: []HeaderField{{"Cc", "<anna@example.org>"}}},
				{Event: Delivered, ID: "other", User: "bob", Client: client, Sender: "joanna@example.org", Recipient: "bob@example.net", Subject: "three"},
			}
			for range 2 {
				for _, r := range records {
					if err := l.Write(&r); err != nil {
						t.Fatal(err)
					}
				}
				flush(t, l)
				if len(p.read(t, Filter{})) == len(records) {
					settle(24 * time.Hour)
				}
			}
			backup := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(backup, os.DirFS(p.dir)); err != nil {
				t.Fatal(err)
			}
			anna := Person{Address: "anna@example.org"}
			want := Traces{Records: 10, AsSender: 2, AsRecipient: 2, AsUser: 2, Mentioned: 4, Days: 2}
			for range 2 { // finding changes nothing
				if got, err := anna.Find(t.Context(), p.dir, p.keys); err != nil || got != want {
					t.Fatalf("%+v %v", got, err)
				}
			}
			if got, err := l.Erase(t.Context(), anna); err != nil || got != want {
				t.Fatalf("%+v %v", got, err)
			}
			if got, err := anna.Find(t.Context(), p.dir, p.keys); err != nil || got != (Traces{}) {
				t.Errorf("%+v %v", got, err)
			}
			n := 0
			for line, err := range Read(t.Context(), ReadOptions{Dir: p.dir, KeyDir: p.keys}) {
				if err != nil {
					t.Fatal(err)
				}
				n++
				switch line.ID {
				case "sent":
					if line.HasSender || line.User != "" || line.Client.IsValid() || line.Subject != "" || line.Recipient != "bob@example.net" {
						t.Errorf("%s", line.Raw)
					}
				case "got":
					if line.Recipient != "" || line.Subject != "" || line.Sender != "bob@example.net" || line.User != "bob" {
						t.Errorf("%s", line.Raw)
					}
				case "other":
					if line.Subject != "three" || line.Sender != "joanna@example.org" {
						t.Errorf("%s", line.Raw)
					}
				}
			}
			if n != 2*len(records) {
				t.Errorf("%d records are left", n)
			}
			// The copy of before, with the keys of now, opens nothing but what was plain.
			parts, err := partsIn(backup)
			if err != nil || len(parts) != 2 {
				t.Fatalf("%v %v", parts, err)
			}
			for _, part := range parts {
				o, err := part.open(backup, &keyring{dir: p.keys})
				if err == nil {
					o.close()
				}
				if plain := strings.HasSuffix(part.name, plainSuffix); plain != (err == nil) || plain && live {
					t.Errorf("%s of the copy: %v", part.name, err)
				}
			}
			write(t, l, 7)
			flush(t, l)
			if got := p.read(t, Filter{ID: "ID7"}); len(got) != 1 {
				t.Error("the log does not go on")
			}
		})
	}
}

// TestDamageKeepsKeys: a key that no file names is destroyed, and not where a
// file of its day does not tell which is its own: mended, it opens again.
func TestDamageKeepsKeys(t *testing.T) {
	d := dayOf(full(Delivered).Time)
	for what, at := range map[string]int64{"mark": 3, "day": 19, "key": 24} {
		p := newPlace(t)
		p.set(t, d.aside(1), d, 0, 100)
		if err := p.keeper(nil).reseal(t.Context(), d, 0, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := (&keyring{dir: p.keys}).create(&frameHeader{day: d - 1}); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(p.dir, d.sealed())
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := slices.Clone(whole)
		damaged[at] ^= 1
		if err := os.WriteFile(path, damaged, 0o640); err != nil {
			t.Fatal(err)
		}
		_ = p.keeper(nil).recover()
		if err := os.WriteFile(path, whole, 0o640); err != nil {
			t.Fatal(err)
		}
		if got := p.read(t, Filter{}); !slices.Equal(got, numbered(0, 100)) {
			t.Errorf("damage of the %s: mended, the file has %d records", what, len(got))
		}
		if keys := p.keyFiles(t); len(keys) != 1 || keys[0].day != d {
			t.Errorf("damage of the %s: there stay keys %v", what, keys)
		}
	}
}
