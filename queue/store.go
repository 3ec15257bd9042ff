package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Store is the role of a storage engine towards the relay: it takes accepted
// messages and gives each pending recipient out for delivery, once at a time,
// until it is settled. All methods may be called at the same time.
type Store interface {
	// Put makes the message durable; once it returns nil, the message
	// survives a power cut. The content is head followed by rest: head is all
	// of it if rest is nil, and is at most InMemory octets long. rest is read
	// to its end in bounded memory; an error of rest aborts the Put, nothing
	// is kept, and the error is returned wrapped. Put sets e.Size, keeps e and
	// head, and the caller changes neither afterwards. Recipients whose State
	// is Waiting are due at once or at their Next.
	//
	// ErrFull says that there is no room for now, ErrUnavailable that the
	// store cannot take anything: both are answered with 452 or 451.
	Put(ctx context.Context, e *Envelope, head []byte, rest io.Reader) error

	// Due returns the destinations that have something to deliver now, and
	// when the next thing falls due (zero: nothing waits).
	Due(now time.Time) (ready []Destination, next time.Time)

	// Claim gives out one message with its recipients at d that are due, or
	// nil if there is none. The senders of what is due there take turns, each
	// with the message due longest: the authenticated user is the sender, else
	// the client, else the reverse-path. An engine may let some share a turn
	// where there are very many. What is claimed is given out to no one else
	// until it is settled or the claim is released.
	//
	// At Reports it gives out a message for which reports are owed, with all
	// recipients that owe one, whether they are claimed elsewhere or not. It is due
	// at the earliest By of them, or at once if none of its recipients is to be tried until then.
	Claim(ctx context.Context, d Destination, now time.Time) (*Claim, error)

	// Settle records what became of a claim's recipients, and the DSN that
	// is owed for them in the same step. Once it returns nil the outcome is
	// durable within a few milliseconds (at once if there is a report).
	// After the last recipient nothing of the message can be read again, unless a report is owed.
	// What is owed lasts until a claim at Reports is settled, or the recipient is delivered to: of the
	// outcomes of such a claim nothing but the recipient counts, which owes no more what it
	// owed when it was claimed. ErrNotFound says that the message is over, for another claim's
	// settlement ended it: then nothing is recorded, and a report is not put.
	Settle(ctx context.Context, c *Claim, s Settlement) error

	// Release gives a claim back unsettled: it is due again at once, behind
	// what its sender has due at the destination.
	Release(c *Claim)

	// Ready tells whether a Put can succeed now: nil, ErrFull or
	// ErrUnavailable. It is cheap: each MAIL command asks it.
	Ready() error
}

// Admin is the role of a storage engine towards the operator.
type Admin interface {
	// List goes over the queued messages that f selects, oldest first.
	List(ctx context.Context, f Filter) iter.Seq2[*Envelope, error]
	// Get returns one envelope, or ErrNotFound.
	Get(ctx context.Context, id ID) (*Envelope, error)
	// Retry makes every waiting recipient of the message due now.
	Retry(ctx context.Context, id ID) error
	// RetryAll makes everything that waits due now, and returns how many messages.
	RetryAll(ctx context.Context) (int, error)
	// RetryAt makes everything that waits at the destination due, the oldest
	// message first, and returns how many were not.
	RetryAt(ctx context.Context, d Destination) (int, error)
	// Hold keeps the message from delivery until Unhold. One under delivery
	// is held after that attempt.
	Hold(ctx context.Context, id ID) error
	// Unhold makes a held message due now.
	Unhold(ctx context.Context, id ID) error
	// Delete removes the message for good and returns what it was.
	// ErrBusy says that it is under delivery at this moment. told, if it is not nil,
	// is called with what is known of the message while it is still there and
	// nothing but its removal can come: others get ErrBusy, and no claim of it is given out.
	// It is not called for a message that cannot be read.
	Delete(ctx context.Context, id ID, told func(*Envelope)) (*Envelope, error)
	// Stats counts what is queued.
	Stats() Stats
}

// The errors a store gives. They are wrapped with what was tried.
var (
	ErrNotFound    = errors.New("no such message in the queue")
	ErrBusy        = errors.New("the message is under delivery at this moment; try again shortly")
	ErrFull        = errors.New("the queue's disk has no room for another message")
	ErrUnavailable = errors.New("the queue's disk does not take writes")
	ErrDamaged     = errors.New("the stored message does not match its checksum")
	ErrLocked      = errors.New("another process has the queue open")
)

// InMemory is the largest head of a Put, and of the content that a store may
// keep in memory whole: 256 KiB and room for the fields that the relay adds.
const InMemory = 256<<10 + 4<<10

// Claim is one message given out for delivery to those of its recipients that
// share a destination and are due.
type Claim struct {
	Envelope    *Envelope // shared: never changed
	Destination Destination
	Recipients  []int // indexes into Envelope.Recipients
	Content     Content
}

// Content is a message's octets as they are relayed: CRLF line ends, not dot-stuffed.
type Content struct {
	Head []byte                        // all of a small message; nil for one that is streamed
	Open func() (io.ReadCloser, error) // a streamed message from its start; nil for a small one
	Size int64
}

// Reader reads the content from its start.
func (c Content) Reader() (io.ReadCloser, error) {
	if c.Open != nil {
		return c.Open()
	}
	return io.NopCloser(bytes.NewReader(c.Head)), nil
}

// Settlement is what became of the recipients of a claim, and what follows from it.
type Settlement struct {
	Outcomes []Outcome
	Report   *Report // a DSN that is owed, put in the same step; nil: none
}

// Outcome is what became of one recipient.
type Outcome struct {
	Recipient int       // index into Envelope.Recipients
	State     State     // Delivered or Failed end it; Waiting defers it to Next
	Next      time.Time // State Waiting
	Warned    bool      // a delay warning went out with this settlement, or before
	Reply     Reply
	Owed      *Owed // a report that is to be made later; nil: none, and what was owed before stays so
}

// Report is a message of the relay's own, small enough to stand in memory.
type Report struct {
	Envelope *Envelope
	Content  []byte
}

// Filter selects queued messages; a zero field selects all.
type Filter struct {
	Sender string        // reverse-path, without regard to case; "<>" is the null one
	Domain Domain        // of a recipient, without regard to case
	State  *State        // of a recipient
	Older  time.Duration // at least so old
	Since  time.Time     // arrived then or later
}

// Stats counts what is queued.
type Stats struct {
	Messages     int   // queued messages
	Waiting      int   // recipient groups that wait for their next attempt or are due
	Active       int   // claims given out
	Held         int   // messages held
	Damaged      int   // messages set aside because they do not match their checksum
	Destinations int   // destinations with something waiting
	Bytes        int64 // content queued, octets
}
