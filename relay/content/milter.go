package content

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/d--j/go-milter"

	"tacet/queue"
	"tacet/relay"
)

// Milter asks a mail filter that speaks Sendmail's milter protocol: rspamd, OpenDKIM,
// clamav-milter. It follows sessions: one connection to the filter for each, which shows client
// and HELO name with the first MAIL, then MAIL and each RCPT as they come, and the content once it is
// there. A message whose session was not followed is shown whole, as if it had been.
//
// Who connects and says nothing, or guesses passwords, costs the filters no connection so. What they
// refuse of client or name is the reply to each MAIL of the session, which no mail gets past.
// "Discard" is refused like "reject": what is answered 250 is delivered.
type Milter struct {
	Network, Address string // "unix" and a path, or "tcp" and an address
	Hostname         string // of the relay, as macro j
}

var errMilterAnswer = errors.New("the milter's answer makes no sense")

// Check implements [relay.Check].
func (f *Milter) Check(ctx context.Context, m *relay.Message) (v relay.Verdict, err error) {
	t := f.follow(m.Session)
	defer t.Close()
	if v.Rejection, err = t.Sender(ctx, m.Envelope); v.Rejection != nil || err != nil {
		return v, err
	}
	for i := range m.Envelope.Recipients {
		if v.Rejection, err = t.Recipient(ctx, m.Envelope, &m.Envelope.Recipients[i]); v.Rejection != nil || err != nil {
			return v, err
		}
	}
	return t.Content(ctx, m)
}

// Follow implements [relay.Follower].
func (f *Milter) Follow(s *relay.Session) relay.Following { return f.follow(s) }

func (f *Milter) follow(s *relay.Session) *milterTalk { return &milterTalk{filter: f, about: s} }

// milterTalk is one session shown to one filter.
type milterTalk struct {
	filter  *Milter
	about   *relay.Session
	session *milter.ClientSession // nil: not connected
	conn    *milterConn
	bag     milterMacros

	trusted bool             // the filter wants to see nothing of the session
	refused *relay.Rejection // nor of a client that it does not want
	passed  bool             // nothing more of this message
	open    bool             // between MAIL and the end of the content
}

// Sender implements [relay.Following].
func (t *milterTalk) Sender(ctx context.Context, e *queue.Envelope) (*relay.Rejection, error) {
	kept := t.session != nil
	r, err := t.sender(ctx, e)
	if err != nil && kept && ctx.Err() == nil {
		r, err = t.sender(ctx, e) // filters hang up when a client is idle for long
	}
	return r, err
}

func (t *milterTalk) sender(ctx context.Context, e *queue.Envelope) (*relay.Rejection, error) {
	t.Reset() // of what was refused before its content came
	if t.trusted || t.refused != nil {
		return t.refused, nil
	}
	if t.session == nil {
		if r, err := t.connect(ctx, e); t.trusted || r != nil || err != nil {
			return r, err
		}
	}
	defer t.conn.until(ctx)()
	t.set(milter.MacroQueueId, "", milter.MacroRcptAddr, "", milter.MacroRcptHost, "", milter.MacroRcptMailer, "")
	t.set(milter.MacroMailAddr, string(e.Sender), milter.MacroMailHost, string(e.Sender.Domain()), milter.MacroMailMailer, "smtp")
	if e.Origin.User != "" {
		t.set(milter.MacroAuthAuthen, e.Origin.User, milter.MacroAuthType, "PLAIN")
	}
	t.open = true
	act, err := t.session.Mail(string(e.Sender), mailArguments(e))
	return t.answer(act, err, relay.ClassPolicy)
}

// connect reaches the filter and shows it the client.
func (t *milterTalk) connect(ctx context.Context, e *queue.Envelope) (*relay.Rejection, error) {
	t.bag = make(milterMacros)
	t.firstMacros(e)
	client := milter.NewClient(t.filter.Network, t.filter.Address, append(postfixMacros(), milter.WithDialer(milterDialer{ctx, &t.conn}),
		milter.WithoutProtocol(milter.OptRcptRej), milter.WithReadTimeout(time.Hour), milter.WithWriteTimeout(time.Hour))...) // ctx ends it
	session, err := client.Session(t.bag)
	if err != nil {
		t.conn.drop()
		return nil, fmt.Errorf("reach a milter: %w", err)
	}
	t.session = session
	defer t.conn.until(ctx)()
	name := t.about.Helo
	if name == "" {
		name = "unknown" // submission: whose client it is, is not asked
	}
	for _, stage := range []func() (*milter.Action, error){t.client, func() (*milter.Action, error) { return session.Helo(name) }} {
		act, err := stage()
		r, err := t.answer(act, err, relay.ClassPolicy)
		t.trusted, t.passed = t.passed, false
		if t.refused = r; r != nil || err != nil || t.trusted {
			return r, err
		}
	}
	return nil, nil
}

func (t *milterTalk) client() (*milter.Action, error) {
	addr := t.about.Client
	switch {
	case !addr.IsValid():
		return t.session.Conn("localhost", milter.FamilyInet, 25, "127.0.0.1")
	case addr.Is4():
		return t.session.Conn("unknown", milter.FamilyInet, 25, addr.String())
	}
	return t.session.Conn("unknown", milter.FamilyInet6, 25, "IPv6:"+addr.String())
}

// Recipient implements [relay.Following].
func (t *milterTalk) Recipient(ctx context.Context, e *queue.Envelope, to *queue.Recipient) (*relay.Rejection, error) {
	if t.trusted || t.passed || t.session == nil {
		return nil, nil
	}
	defer t.conn.until(ctx)()
	t.set(milter.MacroQueueId, e.ID.String(), milter.MacroRcptAddr, string(to.Path), milter.MacroRcptHost, string(to.Path.Domain()), milter.MacroRcptMailer, "smtp")
	act, err := t.session.Rcpt(string(to.Path), recipientArguments(to))
	return t.answer(act, err, relay.ClassPolicy)
}

// Content implements [relay.Following].
func (t *milterTalk) Content(ctx context.Context, m *relay.Message) (v relay.Verdict, err error) {
	if t.trusted || t.passed || t.session == nil {
		return v, nil
	}
	defer t.conn.until(ctx)()
	t.set(milter.MacroQueueId, m.Envelope.ID.String())
	act, err := t.session.DataStart()
	if v.Rejection, err = t.answer(act, err, relay.ClassPolicy); err != nil || v.Rejection != nil || t.passed {
		return v, err
	}
	act, err = t.header(m)
	if v.Rejection, err = t.answer(act, err, relay.ClassContent); err != nil || v.Rejection != nil || t.passed {
		return v, err
	}
	changes, act, err := t.session.BodyReadFrom(bounded(ctx, m.Body()))
	t.open = t.open && act == nil
	if v.Rejection, err = t.answer(act, err, relay.ClassContent); err != nil || v.Rejection != nil {
		return v, err
	}
	return applyMilter(m, changes, t.session.ProtocolOption(milter.OptHeaderLeadingSpace))
}

func (t *milterTalk) header(m *relay.Message) (*milter.Action, error) {
	keep := t.session.ProtocolOption(milter.OptHeaderLeadingSpace)
	for f := range relay.Fields(m.Header) {
		if len(f.Name) == 0 {
			continue
		}
		value := strings.ReplaceAll(string(f.Value), "\r\n", "\n") // as Postfix has it
		if !keep {
			value = strings.TrimPrefix(value, " ")
		}
		act, err := t.session.HeaderField(string(f.Name), value, nil)
		if err != nil || act.Type != milter.ActionContinue {
			return act, err
		}
	}
	return t.session.HeaderEnd()
}

// answer judges what the filter said. After an error it is not connected any more.
func (t *milterTalk) answer(act *milter.Action, failed error, class relay.Class) (*relay.Rejection, error) {
	v, done, err := decide(act, failed, class)
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("ask a milter: %w", err)
	}
	t.passed = done && v.Rejection == nil
	return v.Rejection, nil
}

// Reset implements [relay.Following].
func (t *milterTalk) Reset() {
	if t.open && t.session != nil {
		defer t.conn.soon()()
		if t.session.Abort(nil) != nil {
			t.session = nil // the next transaction connects anew
		}
	}
	t.open, t.passed = false, false
}

// Close implements [relay.Following].
func (t *milterTalk) Close() {
	if t.session != nil {
		defer t.conn.soon()()
		_ = t.session.Close() // says good-bye, and may fail to
	}
	t.conn.drop()
	t.session, t.open = nil, false
}
