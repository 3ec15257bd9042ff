package logging

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// Person is somebody whose records are looked for: by mail address, by the
// name of the user, or by both. Case is of no account.
type Person struct{ Address, User string }

// Traces counts the records that are about a person.
type Traces struct {
	Records     int // all of them; the others are a part of it each
	AsSender    int
	AsRecipient int
	AsUser      int
	Mentioned   int // in the subject or in header fields alone
	Days        int
}

func (p *Person) isAddress(s string) bool { return p.Address != "" && strings.EqualFold(p.Address, s) }

func (p *Person) isUser(s string) bool {
	return s != "" && (p.User != "" && strings.EqualFold(p.User, s) || p.isAddress(s))
}

// mentioned tells whether a text has the person's address in it.
func (p *Person) mentioned(s string) bool {
	return p.Address != "" && s != "" && containsFold(s, p.Address)
}

func (p *Person) inHeaders(r *Record) bool {
	return slices.ContainsFunc(r.Headers, func(h HeaderField) bool { return p.mentioned(h.Value) })
}

// concerns tells whether the record is about the person.
func (p *Person) concerns(r *Record) bool {
	return p.isAddress(r.Sender) || p.isAddress(r.Recipient) || p.isUser(r.User) || p.mentioned(r.Subject) || p.inHeaders(r)
}

// count adds a record that is about the person.
func (t *Traces) count(p *Person, r *Record) {
	t.Records++
	named := false
	for _, as := range []struct {
		is bool
		n  *int
	}{{p.isAddress(r.Sender), &t.AsSender}, {p.isAddress(r.Recipient), &t.AsRecipient}, {p.isUser(r.User), &t.AsUser}} {
		if as.is {
			*as.n++
			named = true
		}
	}
	if !named {
		t.Mentioned++
	}
}

// forget takes the person out of a record and tells whether there was
// anything to take. What stays is how a mail went, and the other side's
// address, who has a right of access to it: a sender who is erased leaves the
// recipient's half, and the other way round. The subject goes with either, as
// do the user and the client with a sender.
func (p *Person) forget(r *Record) bool {
	if !p.concerns(r) {
		return false
	}
	sender, user := p.isAddress(r.Sender), p.isUser(r.User)
	if sender {
		r.Sender, r.HasSender = "", false
	}
	if p.isAddress(r.Recipient) {
		r.Recipient = ""
	}
	if sender || user {
		removeUser.apply(r)
		removeClient.apply(r)
	}
	removeSubject.apply(r)
	return true
}

// sieve lets the lines through that may be about the person.
func (p *Person) sieve(s *sieve) {
	var any [][]byte
	for _, name := range []string{p.Address, p.User} {
		if name == "" {
			continue
		}
		needle := needleOf(name)
		if needle == nil {
			return // every line may
		}
		any = append(any, needle)
	}
	s.add(true, any...)
}

// Find counts what the log has about a person.
func (p Person) Find(ctx context.Context, dir, keyDir string) (t Traces, err error) {
	days, t, err := p.find(ctx, dir, keyDir)
	t.Days = len(days)
	return t, err
}

// errNobody is of an erasure that names nobody.
var errNobody = errors.New("relay log: neither an address nor a user to look for")

func (p Person) find(ctx context.Context, dir, keyDir string) (days []day, t Traces, err error) {
	if p == (Person{}) {
		return nil, t, errNobody
	}
	seen := make(map[day]bool)
	for line, err := range Read(ctx, ReadOptions{Dir: dir, KeyDir: keyDir, Filter: Filter{person: &p}}) {
		if GoesOn(err) {
			continue // it goes as a whole when its day is sealed again
		}
		if err != nil {
			return nil, t, err
		}
		t.count(&p, &line.Record)
		if d := dayOf(line.Time); !seen[d] {
			seen[d] = true
			days = append(days, d)
		}
	}
	return days, t, ctx.Err()
}

// Erase takes a person out of the log: every day that has records about them is
// sealed again without, under a fresh key, and the key of the old file is
// destroyed, so that a copy of it, in a backup for instance, opens nothing any
// more. The running day is sealed up to now. It needs a KeyDir.
//
// What had been plain, the running day unless it is LiveSealed, may still be
// read in a copy made before.
func (l *Log) Erase(ctx context.Context, p Person) (Traces, error) {
	if !l.keeper.sealing() {
		return Traces{}, errNoKeys
	}
	if p == (Person{}) {
		return Traces{}, errNobody
	}
	// What is live now is set aside first, to be found in it.
	request := asideRequest{func(part) bool { return true }, make(chan error, 1)}
	select {
	case l.aside <- request:
	case <-l.stopped:
		return Traces{}, ErrClosed
	case <-ctx.Done():
		return Traces{}, ctx.Err()
	}
	if err := <-request.done; err != nil {
		return Traces{}, err
	}
	defer notify(l.upkeep)
	return l.keeper.erase(ctx, p)
}

func (k *keeper) erase(ctx context.Context, p Person) (Traces, error) {
	k.work.Lock()
	defer k.work.Unlock()
	days, t, err := p.find(ctx, k.dir, k.keys.dir)
	if err != nil {
		return t, err
	}
	parts, err := partsIn(k.dir)
	if err != nil {
		return t, err
	}
	today := dayOf(time.Now())
	begun := time.Now()
	for _, d := range days {
		if err := k.reseal(ctx, d, k.removals(d, today, daysAmong(parts)), p.forget); err != nil {
			return t, err
		}
		t.Days++
	}
	for _, err := range Read(ctx, ReadOptions{Dir: k.dir, KeyDir: k.keys.dir, Filter: Filter{Until: begun, person: &p}}) {
		if GoesOn(err) {
			continue
		}
		if err == nil {
			err = errNotErased
		}
		return t, err
	}
	return t, nil
}

// errNotErased is of a file that was changed by another hand meanwhile.
var errNotErased = errors.New("relay log: there are still records of the person: erase once more")
