package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openLog(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !t.Failed() {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

func write(t testing.TB, l *Log, id int) {
	t.Helper()
	if err := l.Write(&Record{Event: Delivered, ID: "ID" + strconv.Itoa(id), HasSender: true, Recipient: "bob@example.net"}); err != nil {
		t.Fatal(err)
	}
}

func flush(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ids gives the queue IDs of a day's file, and wants each line to be whole.
func ids(t testing.TB, dir string, d day) (list []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, d.file()))
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) > 0 && raw[len(raw)-1] != '\n' {
		t.Errorf("%s ends within a line", d.file())
	}
	for line := range bytes.Lines(raw) {
		parsed, err := ParseLine(bytes.TrimSuffix(line, newline))
		if err != nil {
			t.Fatalf("%s: %v: %q", d.file(), err, line)
		}
		list = append(list, parsed.ID)
	}
	return list
}

func numbered(from, to int) (list []string) {
	for i := from; i < to; i++ {
		list = append(list, "ID"+strconv.Itoa(i))
	}
	return list
}

func today() day { return dayOf(time.Now()) }

func TestLogWritesWhatIsFlushed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "log")
	l := openLog(t, Options{Dir: dir})
	for i := range 100 {
		write(t, l, i)
	}
	flush(t, l)
	if got := ids(t, dir, today()); !slices.Equal(got, numbered(0, 100)) {
		t.Errorf("got %v", got)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o750, filepath.Join(dir, today().file()): 0o640} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if s := l.Stats(); s.Buffered != 0 || s.Written == 0 {
		t.Errorf("%+v", s)
	}
}

// TestLogOfManyWriters wants no line lost, split or doubled.
func TestLogOfManyWriters(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Options{Dir: dir, Buffer: minBuffer})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 500 {
				write(t, l, w*500+i)
			}
		})
	}
	writers.Wait()
	flush(t, l)
	got := ids(t, dir, today())
	slices.Sort(got)
	if want := numbered(0, 4000); len(slices.Compact(got)) != len(want) {
		t.Errorf("%d different lines, want %d", len(got), len(want))
	}
}

func TestLineAppearsWithinMilliseconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := openLog(t, Options{Dir: dir})
		defer l.Close()
		for i := range 10 {
			write(t, l, i)
			time.Sleep(gatherFor)
			synctest.Wait()
			if got := ids(t, dir, today()); len(got) != i+1 {
				t.Fatalf("%d lines after %v, want %d", len(got), gatherFor, i+1)
			}
		}
	})
}

func TestRotationAtMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := openLog(t, Options{Dir: dir})
		defer l.Close()
		first := today()
		time.Sleep(24*time.Hour - 10*time.Second)
		for i := range 20 {
			write(t, l, i)
			time.Sleep(time.Second)
		}
		// A record that was made yesterday and comes late stands in yesterday's file.
		if err := l.Write(&Record{Event: Delivered, ID: "late", Time: time.Now().Add(-time.Hour)}); err != nil {
			t.Fatal(err)
		}
		write(t, l, 20)
		flush(t, l)
		if got, want := ids(t, dir, first), append(numbered(0, 10), "late"); !slices.Equal(got, want) {
			t.Errorf("first day: %v", got)
		}
		if got := ids(t, dir, first+1); !slices.Equal(got, numbered(10, 21)) {
			t.Errorf("second day: %v", got)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if got := ids(t, dir, first+2); len(got) != 0 {
			t.Errorf("third day: %v", got)
		}
	})
}

// TestFullDisk lets the file grow to a limit in the midst of a line.
func TestFullDisk(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
	}
	defer restore()

	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var events lockedBuffer
		l := openLog(t, Options{Dir: dir, Operations: NewOperations(OperationsOptions{To: &events, Format: FormatJSON})})
		defer l.Close()
		write(t, l, 0)
		flush(t, l)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1000, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < 50; i++ {
			write(t, l, i)
		}
		if err := l.Flush(t.Context()); !errors.Is(err, syscall.EFBIG) {
			t.Fatalf("flush: %v, want %v", err, syscall.EFBIG)
		}
		if l.Healthy() || !errors.Is(l.Err(), syscall.EFBIG) {
			t.Errorf("a log that cannot be written calls itself healthy: %v", l.Err())
		}
		write(t, l, 50) // is kept in memory
		restore()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := l.Err(); err != nil {
			t.Errorf("recovered, and yet: %v", err)
		}
		if got := ids(t, dir, today()); !slices.Equal(got, numbered(0, 51)) {
			t.Errorf("got %v", got)
		}
		if got := events.events(t); !slices.Equal(got, []string{"log_failed", "log_recovered"}) {
			t.Errorf("events %v", got)
		}
	})
}

// TestCloseCountsWhatIsLost puts a file where the directory was.
func TestCloseCountsWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "log")
		l, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		breakDir(t, dir)
		time.Sleep(2 * time.Second)
		for i := range 3 {
			write(t, l, i)
		}
		if err := l.Flush(t.Context()); err == nil {
			t.Error("flushed to nowhere")
		}
		write(t, l, 3)
		if err := l.Close(); err == nil || !strings.Contains(err.Error(), "4 records") {
			t.Errorf("close: %v", err)
		}
		if err := l.Write(&Record{Event: Held}); err != ErrClosed {
			t.Errorf("write after close: %v", err)
		}
	})
}

func breakDir(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFullBufferHoldsWriters wants a writer to wait, not to lose its record.
func TestFullBufferHoldsWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "log")
		l := openLog(t, Options{Dir: dir, Buffer: minBuffer})
		defer l.Close()
		breakDir(t, dir)
		time.Sleep(2 * time.Second)
		const records = 2000
		done := 0
		go func() {
			for i := range records {
				write(t, l, i)
				done++
			}
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if done == 0 || done == records {
			t.Fatalf("%d records were taken", done)
		}
		if s := l.Stats(); s.Buffered > minBuffer {
			t.Errorf("%d octets in memory, want at most %d", s.Buffered, minBuffer)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		flush(t, l)
		if got := ids(t, dir, today()); !slices.Equal(got, numbered(0, records)) {
			t.Errorf("%d records", len(got))
		}
	})
}

// TestMovedFile wants the log to begin a new file when its own was moved away.
func TestMovedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := openLog(t, Options{Dir: dir})
		defer l.Close()
		write(t, l, 0)
		flush(t, l)
		path := filepath.Join(dir, today().file())
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		write(t, l, 1)
		flush(t, l)
		if got := ids(t, dir, today()); !slices.Equal(got, numbered(1, 2)) {
			t.Errorf("got %v", got)
		}
	})
}

func TestOpenRepairsTheLastLine(t *testing.T) {
	line := func(id string) string {
		return `{"time":"2026-05-04T03:02:01.000007Z","status":{"event":"held","id":"` + id + `"}}`
	}
	for _, c := range []struct {
		name, before string
		want         []string
	}{
		{"whole", line("a") + "\n" + line("b") + "\n", []string{"a", "b"}},
		{"piece", line("a") + "\n" + line("b")[:30], []string{"a"}},
		{"newline missing", line("a") + "\n" + line("b"), []string{"a", "b"}},
		{"zeros after a power cut", line("a") + "\n" + strings.Repeat("\x00", 5000), []string{"a"}},
		{"zeros and a newline", line("a") + "\n" + strings.Repeat("\x00", 50) + "\n", []string{"a"}},
		{"piece alone", line("a")[:10], nil},
		{"empty", "", nil},
		{"long", strings.Repeat(line("a")+"\n", 20000) + "{", slices.Repeat([]string{"a"}, 20000)},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, today().file()), []byte(c.before), 0o640); err != nil {
			t.Fatal(err)
		}
		l, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		write(t, l, 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := ids(t, dir, today()); !slices.Equal(got, append(c.want, "ID1")) {
			t.Errorf("%s: got %d lines", c.name, len(got))
		}
	}
}

func TestRetentionIsLimited(t *testing.T) {
	for days, ok := range map[time.Duration]bool{0: true, 1: true, 7: true, 365: true, 366: false, -1: false} {
		l, err := Open(Options{Dir: t.TempDir(), Retention: days * 24 * time.Hour})
		if (err == nil) != ok {
			t.Errorf("%d days: %v", days, err)
		}
		if err == nil {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := Open(Options{Dir: t.TempDir(), Retention: 366 * 24 * time.Hour}); err == nil || !strings.Contains(err.Error(), "366 days is longer than the 365") {
		t.Errorf("%v", err)
	}
	if _, err := Open(Options{Dir: t.TempDir(), Retention: time.Hour}); err == nil {
		t.Error("an hour was taken")
	}
}

// daysOf lists the days in a directory, relative to today.
func daysOf(t *testing.T, dir string, today day) (list []int) {
	t.Helper()
	parts, err := partsIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range daysAmong(parts) {
		list = append(list, int(d-today))
	}
	return list
}

func TestRetention(t *testing.T) {
	for _, c := range []struct {
		name         string
		before, want []int // days from today
		keep         int
	}{
		{"nothing is due", []int{-364, -1}, []int{-364, -1, 0}, 365},
		{"the 366th day", []int{-365, -364, -1}, []int{-364, -1, 0}, 365},
		{"a week", []int{-30, -8, -7, -6, -1}, []int{-6, -1, 0}, 7},
		{"one day", []int{-2, -1}, []int{0}, 1},
		{"after a rest of six days", []int{-400, -6}, []int{-6, 0}, 365},
		{"the clock jumped ahead", []int{-402, -401, -400}, []int{-402, -401, -400, 0}, 365},
		{"the second day after the jump", []int{-402, -401, -1}, []int{-1, 0}, 365},
		{"the clock fell back", []int{-400, 500, 501}, []int{-400, 0, 500, 501}, 365},
		{"a stray file of the future", []int{-400, -2, -1, 900}, []int{-2, -1, 0, 900}, 365},
	} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			now := today()
			for _, d := range c.before {
				if err := os.WriteFile(filepath.Join(dir, (now+day(d)).file()), nil, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			for _, other := range []string{"relay-2020-01-01.jsonl.bak", "relay-2020-13-01.jsonl", "notes"} {
				if err := os.WriteFile(filepath.Join(dir, other), nil, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			l := openLog(t, Options{Dir: dir, Retention: time.Duration(c.keep) * 24 * time.Hour})
			defer l.Close()
			if got := daysOf(t, dir, now); !slices.Equal(got, c.want) {
				t.Errorf("%s: got %v want %v", c.name, got, c.want)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != len(c.want)+3 {
				t.Errorf("%s: a file that is none of ours was deleted", c.name)
			}
		})
	}
}

// TestRetentionWhileRunning wants a day to go within an hour of being due.
func TestRetentionWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		now := today()
		l := openLog(t, Options{Dir: dir, Retention: 3 * 24 * time.Hour})
		defer l.Close()
		time.Sleep(5*24*time.Hour + time.Hour + time.Minute)
		synctest.Wait()
		if got := daysOf(t, dir, now); !slices.Equal(got, []int{3, 4, 5}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestLogRefusesSymlinks(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, filepath.Join(dir, today().file())); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(Options{Dir: dir}); err == nil {
		l.Close()
		t.Error("followed a link out of its directory")
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("wrote outside of its directory")
	}
}

func TestFlushEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		l := openLog(t, Options{Dir: dir})
		defer l.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l.mu.Lock()
		l.taken++ // an octet that never comes
		l.mu.Unlock()
		if err := l.Flush(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		l.mu.Lock()
		l.taken--
		l.mu.Unlock()
	})
}

// lockedBuffer takes lines from several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// events gives the names of the operational events written as JSON.
func (b *lockedBuffer) events(t *testing.T) (names []string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(b.String()))
	for {
		var e struct{ Event string }
		switch err := dec.Decode(&e); {
		case err == io.EOF:
			return names
		case err != nil:
			t.Fatal(err)
		}
		names = append(names, e.Event)
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, c := range []struct{ name, subject string }{{"ascii", "Angebot 4711 vom letzten Dienstag"}, {"german", "Grüße aus Köln: Übergabe am Öltank"}, {"fullest", strings.Repeat("Übergabe, ", 20)}} {
		b.Run(c.name, func(b *testing.B) {
			e, r := newEncoder(), full(Delivered)
			r.Subject = c.subject
			if c.name == "fullest" { // as long as addresses usually get
				r.Sender, r.Recipient, r.User = strings.Repeat("a", 64)+"@example.org", strings.Repeat("b", 64)+"@example.net", strings.Repeat("u", 64)
			}
			b.ReportAllocs()
			for b.Loop() {
				line := e.encode(r, r.Time)
				b.SetBytes(int64(len(line.bytes())))
				line.free()
			}
		})
	}
}

// BenchmarkWrite is a line on its whole way to the file, at the pace of the disk.
func BenchmarkWrite(b *testing.B) {
	l := openLog(b, Options{Dir: b.TempDir()})
	r := full(Delivered)
	r.Time = time.Time{}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := l.Write(r); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 999 {
			flush(b, l)
		}
	}
}

func BenchmarkSubject(b *testing.B) {
	for _, c := range []struct{ name, subject string }{{"ascii", " Angebot 4711 vom letzten Dienstag\r\n"}, {"encoded", " =?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?=\r\n"}} {
		b.Run(c.name, func(b *testing.B) {
			raw := []byte(c.subject)
			b.ReportAllocs()
			for b.Loop() {
				Subject(raw)
			}
		})
	}
}

func BenchmarkClassify(b *testing.B) {
	replies := loadReplies(b, "*.txt")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := &replies[i%len(replies)]
		Classify(r.stage, r.code, r.enhanced, r.text)
	}
}
