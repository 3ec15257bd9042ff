package logging

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// keeper seals what is over, takes fields out when their time has come, and
// destroys what is past its retention. It never touches a file that is live.
//
// Every step leaves the old or the new. A day is sealed as follows: a fresh
// key is made durable; the new file is written beside the old ones, synced,
// and read back; it gets its name, which is the moment that counts, and says in
// its header which parts are in it; those parts, and the old file's key, are
// destroyed. What a crash leaves behind, [keeper.recover] clears away.
type keeper struct {
	dir    string
	keys   *keyring
	keep   int // days
	fields []fieldPeriod
	ops    *Operations
	step   func(string) error // nil, or told before each step; its error ends the work as a crash would

	work sync.Mutex // one at a time
}

// fieldPeriod is for how many days fields are kept.
type fieldPeriod struct {
	what removal
	keep int
}

// removal is a set of fields, or of records, that a sealed day no longer has.
type removal uint32

const (
	removeSubject removal = 1 << iota // and the header fields of content rejections, which repeat it
	removeClient
	removeUser
	removeLogins // whole records: of failed logins and TLS handshakes, which tell of no mail
)

// apply takes the fields out of a record.
func (m removal) apply(r *Record) {
	if m&removeSubject != 0 {
		r.Subject, r.Headers, r.HeadersCut = "", nil, false
	}
	if m&removeClient != 0 {
		r.Client = netip.Addr{}
	}
	if m&removeUser != 0 {
		r.User = ""
	}
}

// drops tells whether the record goes as a whole.
func (m removal) drops(r *Record) bool {
	return m&removeLogins != 0 && loginEvents.has(r.Event)
}

// errCrash is of a test's step.
var errCrash = errors.New("crash")

func (k *keeper) before(step string) error {
	if k.step == nil {
		return nil
	}
	return k.step(step)
}

// sealing tells whether days are sealed at all.
func (k *keeper) sealing() bool { return k.keys.dir != "" }

// maintain does all that is due. It reports to the operator and goes on at
// the next file when one fails.
func (k *keeper) maintain(ctx context.Context, now time.Time) {
	k.work.Lock()
	defer k.work.Unlock()
	k.report(OpSealFailed, k.recover())
	k.sweep(now)
	k.sealDue(ctx, now)
}

// seal does what is due of sealing alone.
func (k *keeper) seal(ctx context.Context, now time.Time) {
	k.work.Lock()
	defer k.work.Unlock()
	k.sealDue(ctx, now)
}

func (k *keeper) report(op Op, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		k.ops.Log(op, Err(err))
	}
}

// sealDue seals the parts that were set aside, and the sealed days again that have fields too long.
func (k *keeper) sealDue(ctx context.Context, now time.Time) {
	if !k.sealing() {
		return
	}
	parts, err := partsIn(k.dir)
	if err != nil {
		k.report(OpSealFailed, err)
		return
	}
	today, days := dayOf(now), daysAmong(parts)
	sealed := 0
	for _, d := range days {
		if ctx.Err() != nil {
			return
		}
		want := k.removals(d, today, days)
		if !k.wants(parts, d, want) {
			continue
		}
		if err := k.reseal(ctx, d, want, nil); err != nil {
			k.report(OpSealFailed, err)
			continue
		}
		sealed++
	}
	if sealed > 0 {
		k.ops.Log(OpSealed, Count(sealed))
	}
}

// removals tells which fields the day no longer may have.
func (k *keeper) removals(d, today day, days []day) (want removal) {
	for _, f := range k.fields {
		if due(d, today, f.keep) && believable(today, days) {
			want |= f.what
		}
	}
	return want
}

// wants tells whether there is something to do for the day.
func (k *keeper) wants(parts []part, d day, want removal) bool {
	for _, p := range parts {
		if p.day != d {
			continue
		}
		switch p.kind {
		case partAside:
			return true
		case partSealed:
			h, err := k.header(p.name)
			if err == nil && want&^h.removed != 0 {
				return true
			}
		}
	}
	return false
}

func (k *keeper) header(name string) (frameHeader, error) {
	f, err := os.Open(filepath.Join(k.dir, name))
	if err != nil {
		return frameHeader{}, err
	}
	defer f.Close()
	return readHeader(f)
}

// reseal makes one sealed file, under a fresh key, of the day's sealed one and
// of the parts that were set aside. want are fields to be taken out of every
// record; edit, if there is one, changes a record further or says that it has not.
func (k *keeper) reseal(ctx context.Context, d day, want removal, edit func(*Record) bool) (err error) {
	open, err := openDay(k.dir, k.keys, d)
	if err != nil {
		return err
	}
	defer closeAll(open)
	header := frameHeader{sealed: true, day: d, removed: want}
	var old []*openPart
	for _, o := range open {
		if o.kind == partLive {
			continue
		}
		old = append(old, o)
		header.merged = max(header.merged, o.seq, o.header.merged)
		header.removed |= o.header.removed
	}
	if len(old) == 0 {
		return nil
	}
	box, err := k.createKey(&header)
	if err != nil {
		return err
	}
	temp := filepath.Join(k.dir, d.temp())
	defer func() {
		if err != nil && !errors.Is(err, errCrash) { // before the moment that counts
			err = errors.Join(err, removeIfThere(temp), k.keys.destroy(keyFile{d, header.key}))
		}
	}()
	write := func() error { return k.write(ctx, temp, box, header, old, edit) }
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"write", write},
		{"rename", func() error { return os.Rename(temp, filepath.Join(k.dir, d.sealed())) }},
	} {
		if err := k.before(step.name); err != nil {
			return err
		}
		if err := step.do(); err != nil {
			return err
		}
	}
	k.report(OpSealFailed, k.retire(old))
	return nil
}

func (k *keeper) createKey(h *frameHeader) (*box, error) {
	if err := k.before("key"); err != nil {
		return nil, err
	}
	return k.keys.create(h)
}

// retire destroys what is in the new sealed file by now. Should it fail,
// recover does it later.
func (k *keeper) retire(old []*openPart) error {
	if err := errors.Join(k.before("sync"), syncDir(k.dir)); err != nil {
		return err
	}
	for _, o := range old {
		if err := k.before("retire " + o.name); err != nil {
			return err
		}
		if o.kind == partAside {
			if err := k.destroyPart(o.part, o.header); err != nil {
				return err
			}
			continue
		}
		if err := k.keys.destroy(keyFile{o.day, o.header.key}); err != nil {
			return err
		}
	}
	return nil
}

// destroyPart makes a file unreadable, and then removes it: its key is
// destroyed, or what is plain in it overwritten.
func (k *keeper) destroyPart(p part, h frameHeader) error {
	path := filepath.Join(k.dir, p.name)
	if h.key != (keyID{}) {
		if err := k.keys.destroy(keyFile{p.day, h.key}); err != nil {
			return err
		}
	} else if err := overwrite(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := k.before("unlink " + p.name); err != nil {
		return err
	}
	return removeIfThere(path)
}

// overwrite makes a file zeros.
func overwrite(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = io.CopyN(f, zeros{}, info.Size())
	}
	return errors.Join(err, f.Sync(), f.Close())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write makes the new file, durable and verified.
func (k *keeper) write(ctx context.Context, temp string, b *box, h frameHeader, old []*openPart, edit func(*Record) bool) error {
	f, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(0o640); err != nil { // whatever the umask
		return err
	}
	buffered := bufio.NewWriterSize(f, 256<<10)
	w, err := newFrameWriter(buffered, b)
	if err != nil {
		return err
	}
	e := editor{enc: newEncoder(), want: h.removed, edit: edit, out: w, sum: sha256.New()}
	for _, o := range old {
		if err := e.copy(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
	if err := errors.Join(w.end(), buffered.Flush(), k.before("file sync"), f.Sync()); err != nil {
		return err
	}
	p := &openPart{part: part{day: h.day, kind: partSealed, name: filepath.Base(temp)}, file: f, header: h, box: b}
	sum := sha256.New()
	for lines, err := range p.pieces() {
		if err != nil {
			return err
		}
		sum.Write(lines)
	}
	if string(sum.Sum(nil)) != string(e.sum.Sum(nil)) {
		return errDamaged
	}
	return nil
}

// pieces gives the lines of a file one piece after the other.
func (p *openPart) pieces() func(func([]byte, error) bool) {
	return func(yield func([]byte, error) bool) {
		source := p.source()
		for {
			open, _, err := source.next()
			if err == io.EOF {
				return
			}
			var lines []byte
			if err == nil {
				lines, err = open()
			}
			if !yield(lines, err) || err != nil {
				return
			}
		}
	}
}
