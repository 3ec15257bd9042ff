package main_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rotten is one way in which a file is damaged.
type rotten struct {
	name   string
	damage func(content []byte) []byte
}

// mayRefuse are the files with whose damage the relay does not start, and says
// so: those without which nothing can be read.
var mayRefuse = []string{"keys/master", "keys/slots"}

func rots() []rotten {
	flipAt := func(at float64) func([]byte) []byte {
		return func(b []byte) []byte {
			if len(b) > 0 {
				b[int(at*float64(len(b)-1))] ^= 0x10
			}
			return b
		}
	}
	return []rotten{
		{"first octet", flipAt(0)},
		{"early", flipAt(0.1)},
		{"middle", flipAt(0.5)},
		{"late", flipAt(0.9)},
		{"last octet", flipAt(1)},
		{"cut in half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"empty", func(b []byte) []byte { return b[:0] }},
	}
}

var digits = regexp.MustCompile(`[0-9A-Fa-f]{6,}|\b[0-9A-HJKMNP-TV-Z]{16}\b`)

// kindOf is a file's name without what is different in each.
func kindOf(name string) string {
	if filepath.Base(filepath.Dir(name)) == "content" {
		return "content/*"
	}
	return digits.ReplaceAllString(name, "*")
}

// bitRot: each kind of file under data_dir is damaged in each way while the
// relay is stopped. Whatever it is, nothing altered is delivered, and every
// acknowledged message is delivered or set aside and counted, while the
// others flow; or the relay says that it cannot start.
func (p *peers) bitRot(t *testing.T) {
	b := newBooks(t)
	d := p.newDaemon(t, b.config())
	b.next.answer(putOff)
	// Three lives, so that there are messages in tables, in the log, in the
	// slots and in epochs, with and without states.
	for life := range 3 {
		d.launch()
		d.up()
		stop := make(chan struct{})
		acked := len(b.changed.all())
		wait := b.load(d.starttls, 4, stop)
		b.changed.until(t, "some load", func(all []int) bool { return len(all) >= acked+40 })
		close(stop)
		wait()
		if life == 2 {
			d.crash()
		} else {
			d.proc.cmd.Process.Signal(os.Interrupt)
			d.proc.wait()
		}
	}
	total := len(b.changed.all())
	pristine := d.path("pristine")
	shell(t, "cp", "-a", d.path("data"), pristine)
	kinds := map[string][]string{}
	err := filepath.WalkDir(pristine, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			name, _ := filepath.Rel(pristine, path)
			kinds[kindOf(name)] = append(kinds[kindOf(name)], name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.next.answer(b.verdict)
	b.recovered.Store(true)
	var names []string
	for kind := range kinds {
		names = append(names, kind)
	}
	slices.Sort(names)
	all := os.Getenv("TACET_ROT") == "all"
	for i, kind := range names {
		slices.Sort(kinds[kind])
		file := kinds[kind][len(kinds[kind])-1]
		for j, rot := range rots() {
			if !all && (i+j)%3 != 0 {
				continue // each kind in some ways
			}
			t.Run(kind+"/"+rot.name, func(t *testing.T) { p.oneRot(t, b, d, pristine, file, rot, total) })
		}
	}
}

// trouble is what the daemon says beside that it runs, each once, or how it panicked.
func (d *daemon) trouble() string {
	said := map[string]bool{}
	all := d.proc.output.all()
	for i, line := range all {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			return strings.Join(all[i:min(i+24, len(all))], "\n")
		}
		if _, rest, ok := strings.Cut(line, `,"event":`); ok {
			if strings.Contains(line, `"level":"info"`) {
				continue
			}
			line = rest
		}
		said["  "+line] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(said)), "\n")
}

func (p *peers) oneRot(t *testing.T, b *books, base *daemon, pristine, file string, rot rotten, total int) {
	d := *base
	d.t = t
	d.proc = nil
	shell(t, "rm", "-rf", d.path("data"))
	shell(t, "cp", "-a", pristine, d.path("data"))
	path := d.path(filepath.Join("data", file))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, rot.damage(content), 0); err != nil {
		t.Fatal(err)
	}
	from := len(b.next.mail.all())
	_, errs, status := runProgram(t, d.command("check"))
	if found := strings.Contains(errs, "is damaged"); status != 0 || strings.HasSuffix(file, ".sst") && !found {
		t.Errorf("%s: of the damage tacet check says, with status %d: %s", file, status, errs)
	}
	d.launch()
	if d.greets() != nil {
		d.refusesCleanly()
		if !slices.Contains(mayRefuse, kindOf(file)) {
			t.Errorf("%s: it does not start, and no message flows: %s", file, d.trouble())
		}
		return
	}
	if status, answer, err := d.ask("/v1/queue?older=720h"); err != nil || status != http.StatusOK {
		t.Errorf("%s: the queue cannot be listed: %d %s %v\n%s", file, status, answer, err, lastOf(d.proc.output.all()))
	}
	d.run("queue", "retry", "--all")
	damaged := d.drained()
	health, report, err := d.ask("/v1/health")
	if err != nil {
		t.Fatal(err)
	}
	if damaged > 0 && health == http.StatusOK {
		t.Errorf("%s: %d messages are damaged and health says %s", file, damaged, report)
	}
	list, errs, status := runProgram(t, d.command("queue", "list", "--json"))
	if n := strings.Count(list, "\n"); status != 0 || n != damaged {
		t.Errorf("%s: of %d damaged messages queue list shows %d, status %d: %s", file, damaged, n, status, errs)
	}
	whole := b.wholeSince(t, from)
	t.Logf("%s: %d messages, %d arrived, %d set aside; it says:\n%s", file, total, whole, damaged, d.trouble())
	// Of what is missing at the end of a log no more is known than how many
	// operations it was.
	if whole+damaged < total || whole+damaged > total && !strings.HasSuffix(file, ".log") {
		t.Errorf("%s: %d acknowledged messages are neither delivered nor set aside", file, total-whole-damaged)
	}
	// After a restart what stood beside the damage has come too, and no one else is set aside.
	d.crash()
	d.launch()
	if err := d.greets(); err != nil {
		t.Fatalf("%s: it does not start again: %v\n%s", file, err, d.trouble())
	}
	d.run("queue", "retry", "--all")
	again := d.drained()
	if whole = b.wholeSince(t, from); again > damaged || whole+again < total {
		t.Errorf("%s: %d messages set aside, after a restart %d, and %d of %d have arrived", file, damaged, again, whole, total)
	}
	if again > 40 && strings.HasSuffix(file, ".sst") && (rot.name == "early" || rot.name == "middle" || rot.name == "late") {
		t.Errorf("%s: one bit cost %d messages", file, again)
	}
}

// wholeSince counts the acknowledged messages that have arrived since the sink
// had taken so many, each as it was sent.
func (b *books) wholeSince(t *testing.T, from int) (whole int) {
	t.Helper()
	arrived := map[string]bool{}
	for _, m := range b.next.mail.all()[from:] {
		arrived[m.ledger] = true
		if !b.intact(m) {
			t.Errorf("message %q arrived altered", m.ledger)
		}
	}
	for _, n := range b.changed.all() {
		if arrived[fmt.Sprint(n)] {
			whole++
		}
	}
	return whole
}
