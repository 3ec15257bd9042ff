package main_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// canaries stand in body, header and envelope of the messages to be forgotten.
const (
	canaryBody     = "Kanarienvogel-im-Körper=7f3a9c51d2"
	canaryHeader   = "canary-header-3b9e02aa41"
	canarySender   = "canary-sender-c0d5571e88"
	canaryTo       = "canary-recipient-19af6604be"
	canaryEnvID    = "canary-envid-50a2b7f9e3"
	canaryRefusal  = "canary-reply-88d1c3f06a"
	controlPattern = "control-4c1f77e0b9-is-found"
)

// forms is how a text may stand on a disk.
func forms(text string) [][]byte {
	all := [][]byte{[]byte(text), []byte(strings.ToLower(text))}
	for shift := range 3 {
		b := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
		all = append(all, []byte(b[4:len(b)-4]))
	}
	var qp bytes.Buffer
	w := quotedprintable.NewWriter(&qp)
	io.WriteString(w, text)
	w.Close()
	return append(all, qp.Bytes())
}

// scanDisk looks for needles in a raw disk and returns the names of those found.
func scanDisk(t *testing.T, image string, needles map[string][][]byte) (found map[string]bool) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const overlap = 4 << 10
	found = map[string]bool{}
	b := make([]byte, 4<<20)
	blank := make([]byte, len(b))
	for kept := 0; ; {
		n, err := io.ReadFull(f, b[kept:])
		part := b[:kept+n]
		if !bytes.Equal(part, blank[:len(part)]) {
			for name, forms := range needles {
				for _, form := range forms {
					if bytes.Contains(part, form) {
						found[name] = true
					}
				}
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		kept = copy(b, part[max(0, len(part)-overlap):])
	}
}

func canaryNeedles() map[string][][]byte {
	needles := map[string][][]byte{}
	for _, c := range []string{canaryBody, canaryHeader, canarySender, canaryTo, canaryEnvID, canaryRefusal} {
		needles[c] = forms(c)
	}
	return needles
}

// forgets: once a message is delivered, nothing on the disk tells of it: not
// in plain, and not with any key that is left, not even to who has a copy of
// the data directory from before, without its keys. How the relay ends in
// between does not matter. TACET_FORGET_MINUTES makes a run of its own, in
// which the relay lives on for so long.
func (p *peers) forgets(t *testing.T) {
	for _, end := range []string{"terminated", "killed", "killed at the delivery"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel() // mostly they wait
			p.forget(t, end, 0)
		})
	}
	if minutes := dose(t, "TACET_FORGET_MINUTES", 0); minutes > 0 {
		t.Run("running", func(t *testing.T) { p.forget(t, "running", time.Duration(minutes)*time.Minute) })
	}
}

// forgetting is a daemon whose mail is to be forgotten.
type forgetting struct {
	t    *testing.T
	d    *daemon
	next *sink
	keys map[string][][]byte // each key as it stands on the disk
	sent [][]byte
}

func (p *peers) forget(t *testing.T, end string, wait time.Duration) {
	next := newSink(t)
	d := p.newDaemon(t, routedTo(next, nil))
	f := &forgetting{t: t, d: d, next: next, keys: map[string][][]byte{}}
	k := newDisk(t, d.path("disk.img"), d.path("data"), 256<<20)
	if err := os.WriteFile(d.path("data/control"), []byte(controlPattern), 0o600); err != nil {
		t.Fatal(err)
	}
	next.answer(func(verb, line string) string {
		if verb == "MAIL" {
			return "451 4.3.0 later, " + canaryRefusal
		}
		return putOff(verb, line)
	})
	d.launch()
	d.up()
	f.submit(10)
	eventually(t, "first attempts", func() bool { return d.stats().Active == 0 })
	f.noteKeys()
	// Of these the keys move to slots.
	d.proc.cmd.Process.Signal(syscall.SIGTERM)
	d.proc.wait()
	f.noteKeys()
	d.launch()
	d.up()
	f.submit(10)
	f.noteKeys()
	before := d.path("before")
	d.freeze() // else files come and go under it
	shell(t, "cp", "-a", d.path("data"), before)
	syscall.Kill(-d.proc.cmd.Process.Pid, syscall.SIGCONT)
	if err := os.RemoveAll(filepath.Join(before, "keys")); err != nil {
		t.Fatal(err)
	}
	next.answer(func(string, string) string { return "" })
	d.retryAll()
	if end == "killed at the delivery" {
		next.mail.until(t, "half of them", func(all []message) bool { return len(all) >= len(f.sent)/2 })
		d.crash()
		d.launch()
		d.up()
	}
	if damaged := d.drained(); damaged > 0 {
		t.Fatalf("%d messages are damaged", damaged)
	}
	next.mail.until(t, "all messages", func(all []message) bool { return len(all) >= len(f.sent) })
	f.noteKeys()
	f.end(end, wait)
	left := d.path("left")
	shell(t, "cp", "-a", d.path("data"), left)
	k.unmount()

	f.onDisk()
	f.inCopies(before, left)
}

// noteKeys notes each key as it stands on the disk.
func (f *forgetting) noteKeys() {
	paths, err := filepath.Glob(f.d.path("data/keys/epoch-*"))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, path := range paths {
		if b, err := os.ReadFile(path); err == nil && !bytes.Equal(b, make([]byte, len(b))) {
			f.keys[filepath.Base(path)] = [][]byte{b}
		}
	}
	slots, err := os.ReadFile(f.d.path("data/keys/slots"))
	if err != nil {
		f.t.Fatal(err)
	}
	for at := 64; at+64 <= len(slots); at += 64 {
		if slot := slots[at : at+64]; slot[0] == 'k' {
			f.keys[fmt.Sprintf("slot %d", at/64)] = [][]byte{slot[16:64]}
		}
	}
}

// submit sends n messages full of canaries.
func (f *forgetting) submit(n int) {
	for i := range n {
		size := 20
		if i%5 == 0 {
			size = 20_000 // streamed
		}
		s, err := dial(f.d.starttls, nil)
		if err != nil {
			f.t.Fatal(err)
		}
		m := fmt.Appendf(nil, "Subject: %s\r\nMessage-ID: <%d.%s>\r\nX-C: %s\r\n\r\n", canaryHeader, len(f.sent), canaryHeader, canaryHeader)
		for _, form := range forms(canaryBody) {
			m = append(append(m, form...), "\r\n"...)
		}
		m = append(m, bytes.Repeat([]byte(canaryBody+"\r\n"), size)...)
		if err := s.say(250, "MAIL FROM:<%s@example.org> ENVID=%s", canarySender, canaryEnvID); err != nil {
			f.t.Fatal(err)
		}
		if err := s.say(250, "RCPT TO:<%s@example.net> ORCPT=rfc822;%s@example.com", canaryTo, canaryTo); err != nil {
			f.t.Fatal(err)
		}
		if err := errors.Join(s.say(354, "DATA"), s.end(m), s.Close()); err != nil {
			f.t.Fatal(err)
		}
		f.sent = append(f.sent, m)
	}
}

// end ends the daemon, one way or the other, once all is delivered.
func (f *forgetting) end(end string, wait time.Duration) {
	t, d := f.t, f.d
	switch end {
	case "terminated":
		d.proc.cmd.Process.Signal(syscall.SIGTERM)
		d.proc.wait()
	case "running":
		<-time.After(wait)
		d.crash()
	default:
		// A kill, and what the next life does at its start. Then it is killed too.
		d.crash()
		d.launch()
		d.up()
		d.loaded()
		eventually(t, "the keys to be destroyed", func() bool {
			left, err := filepath.Glob(d.path("data/keys/epoch-*"))
			slots, err2 := os.ReadFile(d.path("data/keys/slots"))
			return err == nil && err2 == nil && len(left) == 1 && !bytes.Contains(slots[64:], []byte("k\x01"))
		})
		d.crash()
	}
}

// onDisk looks for canaries and keys in the disk's image.
func (f *forgetting) onDisk() {
	t := f.t
	needles := canaryNeedles()
	needles["control"] = forms(controlPattern)
	maps.Copy(needles, f.keys)
	slots, epochs := 0, 0
	for name := range f.keys {
		if strings.HasPrefix(name, "slot") {
			slots++
		} else {
			epochs++
		}
	}
	if slots < 10 || epochs < 2 {
		t.Errorf("%d slots and %d epochs were seen, too few for a proof", slots, epochs)
	}
	found := scanDisk(t, f.d.path("disk.img"), needles)
	if !found["control"] {
		t.Error("the scan does not find what is on the disk")
	}
	delete(found, "control")
	for name := range found {
		t.Errorf("%q is on the disk", name)
	}
}

// inCopies opens a copy of the data taken before the deliveries and one taken
// after, with the keys that are left.
func (f *forgetting) inCopies(before, left string) {
	t, d, next := f.t, f.d, f.next
	shell(t, "cp", "-a", filepath.Join(left, "keys"), before)
	for _, dir := range []string{before, left} {
		taken := len(next.mail.all())
		shell(t, "rm", "-rf", d.path("data"))
		shell(t, "mv", dir, d.path("data"))
		d.launch()
		d.up()
		d.run("queue", "retry", "--all")
		damaged := d.drained()
		list, _, _ := runProgram(t, d.command("queue", "list", "--json"))
		for _, c := range []string{canarySender, canaryTo, canaryHeader, canaryRefusal} {
			if strings.Contains(list, c) {
				t.Errorf("the queue of an old copy shows %s", c)
			}
		}
		d.crash()
		if n := len(next.mail.all()) - taken; n != 0 {
			t.Errorf("%d of %d messages were delivered again from the copy %s", n, len(f.sent), filepath.Base(dir))
		}
		if dir == before && damaged != len(f.sent) {
			t.Errorf("of the old copy %d messages are counted as damaged, want %d", damaged, len(f.sent))
		}
	}
}
