package recipients

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// Verifier asks the primary for one recipient. relay/outbound does so by RCPT
// without content.
type Verifier interface {
	// Verify returns the answer to RCPT. It has a Cause where there was none.
	Verify(ctx context.Context, to queue.ForwardPath) queue.Reply
}

// Policy is what becomes of a recipient of whom nothing is known.
type Policy uint8

// The policies.
const (
	Accept Policy = iota
	Defer         // 450: the sender keeps the mail
)

// Config is what a [Directory] goes by.
type Config struct {
	MaxAge   time.Duration // after it a list says nothing of those it does not have
	Unknown  Policy
	Verifier Verifier // nil: the primary is not asked
}

// Directory decides who exists. It fills [relay.Directory]. All methods may be
// called at the same time.
type Directory struct {
	config atomic.Pointer[Config]
	list   atomic.Pointer[List]

	key   HashKey // of what is remembered, for the life of the process
	asks  chan struct{}
	mu    sync.Mutex
	known map[[hashSize]byte]verdict
}

// verdict is what the primary has said of a recipient.
type verdict struct {
	exists bool
	until  time.Time
}

// The bounds of what is asked and remembered.
const (
	maxKnown    = 100_000 // some 8 MB
	maxAsks     = 20      // at a time
	askWithin   = 15 * time.Second
	existsFor   = 7 * 24 * time.Hour // so that it outlasts the primary's absence
	notThereFor = time.Hour
)

var _ relay.Directory = (*Directory)(nil)

// New makes a directory without a list.
func New(c Config) *Directory {
	d := &Directory{asks: make(chan struct{}, maxAsks), known: make(map[[hashSize]byte]verdict)}
	rand.Read(d.key[:])
	d.Reload(c)
	return d
}

// Reload replaces the config.
func (d *Directory) Reload(c Config) { d.config.Store(&c) }

// Use replaces the list, nil for none.
func (d *Directory) Use(l *List) { d.list.Store(l) }

// List is the list in use, nil if there is none.
func (d *Directory) List() *List { return d.list.Load() }

// Check implements [relay.Directory].
func (d *Directory) Check(ctx context.Context, to queue.ForwardPath) error {
	local, _, _ := parts(string(to), Options{})
	if strings.EqualFold(local, "postmaster") {
		return nil // RFC 5321 §4.5.1
	}
	c, l := d.config.Load(), d.list.Load()
	if l != nil && l.Covers(to) {
		switch {
		case l.Has(to):
			return nil // also of an old list: mailboxes seldom go
		case time.Since(l.Date) < c.MaxAge:
			return errNobody()
		}
	}
	if c.Verifier != nil {
		if exists, known := d.ask(ctx, c.Verifier, to); known {
			if exists {
				return nil
			}
			return errNobody()
		}
	}
	if c.Unknown == Accept {
		return nil
	}
	return &relay.Rejection{Code: 450, Enhanced: queue.Enhanced{4, 4, 3}, Class: relay.ClassResource,
		Text: "The recipient cannot be verified now; try again later"}
}

func errNobody() error {
	return &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 1, 1}, Class: relay.ClassPolicy, Ground: relay.GroundRecipient,
		Text: "No such mailbox here"}
}

// ask looks up what the primary has said of a recipient, or asks it.
func (d *Directory) ask(ctx context.Context, v Verifier, to queue.ForwardPath) (exists, known bool) {
	local, domain, ok := parts(string(to), Options{KeepCase: true})
	if !ok {
		return false, false
	}
	hash := d.key.of(local, domain)
	d.mu.Lock()
	was, found := d.known[hash]
	d.mu.Unlock()
	if found && time.Now().Before(was.until) {
		return was.exists, true
	}
	select {
	case d.asks <- struct{}{}:
		defer func() { <-d.asks }()
	default:
		return false, false // a flood of names must not become a flood of connections
	}
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	reply := v.Verify(ctx, to)
	switch {
	case reply.Cause != queue.CauseNone || reply.Code/100 == 4:
		return false, false
	case reply.Code/100 == 2:
		d.remember(hash, verdict{true, time.Now().Add(existsFor)})
		return true, true
	}
	d.remember(hash, verdict{false, time.Now().Add(notThereFor)})
	return false, true
}

// remember keeps a verdict, in the place of some other one if there are too many.
func (d *Directory) remember(hash [hashSize]byte, v verdict) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, there := d.known[hash]; !there && len(d.known) >= maxKnown {
		for other := range d.known {
			delete(d.known, other)
			break
		}
	}
	d.known[hash] = v
}
