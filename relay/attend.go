package relay

import (
	"context"
	"net/netip"
	"time"

	"tacet/queue"
)

// Follower is a [Check] that also sees what comes before the content, as it comes: who
// connects, the sender, each recipient. Milters are made so.
type Follower interface {
	Check
	// Follow begins to follow a session. It asks no one yet.
	Follow(s *Session) Following
}

// Following is a follower's view of one session, one transaction after the other. Its methods
// are called one at a time, and end soon after ctx does. After an error it hears nothing more of the transaction.
type Following interface {
	// Sender sees a MAIL command that everyone else has let through. It returns nil if the transaction may go on.
	Sender(ctx context.Context, e *queue.Envelope) (*Rejection, error)
	// Recipient sees a RCPT command in the same way. e holds the recipients before it.
	Recipient(ctx context.Context, e *queue.Envelope, to *queue.Recipient) (*Rejection, error)
	// Content sees the message, in place of Check.
	Content(ctx context.Context, m *Message) (Verdict, error)
	// Reset ends the transaction, if there is one.
	Reset()
	// Close ends the session. It does not wait.
	Close()
}

// Attendance is all that follow one session. Its methods are called one at a time; of a nil one
// they do nothing.
type Attendance struct {
	relay   *Relay
	session Session
	all     []*attendant
}

type attendant struct {
	Inspection
	following Following
	failed    bool // in this transaction; it may be missed, or there would be none
}

// Attend lets those follow a session who want to; nil: there are none. submission tells the kind
// of the listener. The caller closes it.
func (r *Relay) Attend(s Session, submission bool) *Attendance {
	var a *Attendance
	for _, c := range r.config.Load().Checks {
		follower, ok := c.Check.(Follower)
		if !ok || !c.covers(submission) {
			continue
		}
		if a == nil {
			a = &Attendance{relay: r, session: s}
		}
		a.all = append(a.all, &attendant{Inspection: c, following: follower.Follow(&a.session)})
	}
	return a
}

// Of tells whether the attendance is that of a client who calls itself so.
func (a *Attendance) Of(client netip.Addr, helo string) bool {
	return a == nil || a.session.Client == client && a.session.Helo == helo
}

// Sender shows a MAIL command. It returns nil or a *Rejection.
func (a *Attendance) Sender(ctx context.Context, e *queue.Envelope) error {
	if a == nil {
		return nil
	}
	for _, at := range a.all {
		at.failed = false
	}
	return a.each(ctx, func(ctx context.Context, f Following) (*Rejection, error) { return f.Sender(ctx, e) })
}

// Recipient shows a RCPT command. It returns nil or a *Rejection. The message has its queue ID from then on.
func (a *Attendance) Recipient(ctx context.Context, e *queue.Envelope, to *queue.Recipient) error {
	if a == nil {
		return nil
	}
	if e.ID.IsZero() {
		e.ID = queue.NewID(time.Now())
	}
	return a.each(ctx, func(ctx context.Context, f Following) (*Rejection, error) { return f.Recipient(ctx, e, to) })
}

// each asks all, until one refuses.
func (a *Attendance) each(ctx context.Context, ask func(context.Context, Following) (*Rejection, error)) error {
	for _, at := range a.all {
		if at.failed {
			continue
		}
		rejection, err := within(ctx, &at.Inspection, func(ctx context.Context) (*Rejection, error) { return ask(ctx, at.following) })
		if err != nil {
			at.failed = true
			rejection = a.relay.unchecked(&at.Inspection, err)
		}
		if rejection != nil {
			return rejection
		}
	}
	return nil
}

// content finds out who is asked about the content in place of a check: nil, if the check
// did not follow the session. missed tells that it failed before, which was let pass.
func (a *Attendance) content(c Check) (f Following, missed bool) {
	if a == nil {
		return nil, false
	}
	for _, at := range a.all {
		if at.Check == c {
			return at.following, at.failed
		}
	}
	return nil, false
}

// Reset ends the transaction, if there is one.
func (a *Attendance) Reset() {
	if a == nil {
		return
	}
	for _, at := range a.all {
		at.following.Reset()
	}
}

// Close ends the attendance.
func (a *Attendance) Close() {
	if a == nil {
		return
	}
	for _, at := range a.all {
		at.following.Close()
	}
}
