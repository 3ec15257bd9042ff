package relay

import (
	"context"
	"fmt"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// Check looks at a message before it is accepted. The checks in relay/content
// fill it. Check may be called for many messages at the same time; it keeps
// nothing of m, and ends soon after ctx does. An error says that the message could not be
// looked at: it is for no one's eyes but the operator's count of failures.
type Check interface {
	Check(ctx context.Context, m *Message) (Verdict, error)
}

// Verdict is what a check says of a message. The zero one lets it pass.
type Verdict struct {
	// Rejection is what the client is told; nil: nothing is wrong. Its header
	// fields are logged if its class is ClassContent, and only then.
	Rejection *Rejection
	// Added is whole header fields, each with its CR LF, that are put before the message.
	Added []byte
	// Header replaces Message.Header; nil leaves it as it is.
	Header []byte
	// Body replaces the body, in CRLF lines; nil leaves it as it is.
	Body []byte
	// Sender replaces the reverse-path; nil leaves it as it is.
	Sender *queue.ReversePath
	// Recipients replaces them, in a slice of their own; nil leaves them as they are.
	Recipients []queue.Recipient
	// Hold keeps the accepted message from delivery until an operator releases it.
	Hold bool
}

// Scope tells which mail a check is for.
type Scope uint8

// The scopes.
const (
	Everywhere     Scope = iota
	SubmissionOnly       // what users send
	IncomingOnly         // what comes by an mx listener
)

// Inspection is a check and how it is called.
type Inspection struct {
	Check    Check
	Scope    Scope
	Timeout  time.Duration // 0: a minute
	FailOpen bool          // what could not be checked is accepted; otherwise the client comes back
}

func (i *Inspection) covers(submission bool) bool {
	switch i.Scope {
	case SubmissionOnly:
		return submission
	case IncomingOnly:
		return !submission
	}
	return true
}

// inspect asks the checks about a message, one after the other, and applies
// what they say. It returns nil if the message may be accepted.
func (r *Relay) inspect(ctx context.Context, checks []Inspection, m *Message) *Rejection {
	for i := range checks {
		c := &checks[i]
		if !c.covers(m.Envelope.Origin.Submission) {
			continue
		}
		following, missed := m.Session.Attendance.content(c.Check)
		if missed {
			continue
		}
		look := c.Check.Check
		if following != nil {
			look = following.Content
		}
		verdict, err := within(ctx, c, func(ctx context.Context) (Verdict, error) { return look(ctx, m) })
		switch {
		case err != nil:
			if rejection := r.unchecked(c, err); rejection != nil {
				return rejection
			}
		case verdict.Rejection != nil:
			return verdict.Rejection
		default:
			m.apply(&verdict)
		}
	}
	if len(m.Added)+len(m.Header) > MaxHeader {
		return &Rejection{Code: 552, Enhanced: queue.Enhanced{5, 3, 4}, Class: ClassSize, Text: "The message's header is too large"}
	}
	return nil
}

// unchecked counts that a check could not do its work. It returns what the client is told,
// nil if the check may be missed.
func (r *Relay) unchecked(c *Inspection, err error) *Rejection {
	r.Stats.Unchecked.Add(1)
	if cfg := r.config.Load(); cfg.CheckFailed != nil {
		cfg.CheckFailed(err)
	}
	if c.FailOpen {
		return nil
	}
	return &Rejection{Code: 451, Enhanced: queue.Enhanced{4, 7, 1}, Class: ClassResource,
		Text: "The message cannot be checked now; try again later", Err: err}
}

// within asks a check within its time. A panic of it is its failure: what it
// fell over came from the network.
func within[T any](ctx context.Context, i *Inspection, ask func(context.Context) (T, error)) (answer T, err error) {
	timeout := i.Timeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if recover() != nil {
			err = errCheckPanicked
		}
	}()
	answer, err = ask(ctx)
	if err == nil && ctx.Err() != nil && !refuses(answer) {
		err = fmt.Errorf("check a message: %w", ctx.Err()) // it gave up early, and has not seen everything
	}
	return answer, err
}

// refuses tells whether an answer is a refusal, which counts however late it is.
func refuses(answer any) bool {
	switch a := answer.(type) {
	case Verdict:
		return a.Rejection != nil
	case *Rejection:
		return a != nil
	}
	return false
}

// apply makes what a check said part of the message.
func (m *Message) apply(v *Verdict) {
	if v.Header != nil {
		m.Header = v.Header
	}
	if len(v.Added) > 0 {
		m.Added = append(v.Added[:len(v.Added):len(v.Added)], m.Added...)
	}
	if v.Body != nil {
		m.Size += int64(len(v.Body) - len(m.body))
		if m.rest != nil {
			m.Size -= m.rest.size
		}
		m.body, m.rest, m.blank = v.Body, nil, true
	}
	if v.Sender != nil {
		m.Envelope.Sender = *v.Sender
	}
	if v.Recipients != nil {
		m.Envelope.Recipients = v.Recipients
	}
	m.hold = m.hold || v.Hold
}

// headerFields is the header block for the log, which cuts what is too much of it.
func headerFields(header []byte) []logging.HeaderField {
	var fields []logging.HeaderField
	for f := range Fields(header) {
		fields = append(fields, logging.HeaderField{Name: string(f.Name), Value: string(f.Unfolded())})
	}
	return fields
}
