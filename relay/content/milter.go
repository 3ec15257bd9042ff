package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/d--j/go-milter"

	"tacet/queue"
	"tacet/relay"
)

// Milter asks a mail filter that speaks Sendmail's milter protocol: rspamd, OpenDKIM,
// clamav-milter. The whole message is shown once it is there, each in a session of
// its own; an answer to MAIL or RCPT counts for all of it. Header changes and quarantine
// are applied; changes to recipients, sender or body are not, and count as a failure.
type Milter struct {
	Network, Address string // "unix" and a path, or "tcp" and an address
	Hostname         string // of the relay, as macro j
}

var (
	errMilterChange = errors.New("the milter wants a change that is not made here")
	errMilterAnswer = errors.New("the milter's answer makes no sense")
)

// Check implements [relay.Check].
func (f *Milter) Check(ctx context.Context, m *relay.Message) (relay.Verdict, error) {
	client := milter.NewClient(f.Network, f.Address,
		milter.WithDialer(milterDialer{ctx}), milter.WithReadTimeout(time.Hour), milter.WithWriteTimeout(time.Hour)) // ctx ends it
	session, err := client.Session(f.macros(m))
	if err != nil {
		return relay.Verdict{}, fmt.Errorf("reach a milter: %w", err)
	}
	defer session.Close()
	talk := milterTalk{session: session, m: m}
	v, err := talk.run(ctx)
	if err != nil {
		return relay.Verdict{}, fmt.Errorf("ask a milter: %w", err)
	}
	return v, nil
}

// macros are what filters ask of the session, under the names that Postfix gives them.
func (f *Milter) macros(m *relay.Message) milter.Macros {
	e := m.Envelope
	bag := milter.NewMacroBag()
	bag.Set(milter.MacroQueueId, e.ID.String())
	bag.Set(milter.MacroMTAFQDN, f.Hostname)
	bag.Set(milter.MacroMTAVersion, "tacet")
	bag.Set(milter.MacroDaemonName, f.Hostname)
	bag.Set(milter.MacroMailAddr, string(e.Sender))
	bag.Set(milter.MacroMailHost, string(e.Sender.Domain()))
	bag.Set(milter.MacroClientName, "unknown")
	if m.Session.Client.IsValid() {
		bag.Set(milter.MacroClientAddr, m.Session.Client.String())
	}
	if e.Origin.User != "" {
		bag.Set(milter.MacroAuthAuthen, e.Origin.User)
		bag.Set(milter.MacroAuthType, "PLAIN")
	}
	if len(e.Recipients) == 1 {
		bag.Set(milter.MacroRcptAddr, string(e.Recipients[0].Path))
	}
	return bag
}

// milterTalk is one message shown to one filter.
type milterTalk struct {
	session *milter.ClientSession
	m       *relay.Message
}

// run shows the message, stage by stage, until the filter has seen enough.
func (t *milterTalk) run(ctx context.Context) (v relay.Verdict, err error) {
	for _, stage := range []func() (*milter.Action, error){t.connect, t.helo, t.mail, t.recipients, t.session.DataStart} {
		act, err := stage()
		if v, done, err := decide(act, err, relay.ClassPolicy); done || err != nil {
			return v, err
		}
	}
	act, err := t.header()
	if v, done, err := decide(act, err, relay.ClassContent); done || err != nil {
		return v, err
	}
	changes, act, err := t.session.BodyReadFrom(bounded(ctx, t.m.Body()))
	v, _, err = decide(act, err, relay.ClassContent)
	if err != nil || v.Rejection != nil {
		return v, err
	}
	return applyMilter(t.m, changes, t.session.ProtocolOption(milter.OptHeaderLeadingSpace))
}

func (t *milterTalk) connect() (*milter.Action, error) {
	addr := t.m.Session.Client
	switch {
	case !addr.IsValid():
		return t.session.Conn("localhost", milter.FamilyInet, 25, "127.0.0.1")
	case addr.Is4():
		return t.session.Conn("unknown", milter.FamilyInet, 25, addr.String())
	}
	return t.session.Conn("unknown", milter.FamilyInet6, 25, "IPv6:"+addr.String())
}

func (t *milterTalk) helo() (*milter.Action, error) {
	name := t.m.Session.Helo
	if name == "" {
		name = "unknown" // submission: whose client it is, is not asked
	}
	return t.session.Helo(name)
}

func (t *milterTalk) mail() (*milter.Action, error) {
	return t.session.Mail("<"+string(t.m.Envelope.Sender)+">", "")
}

func (t *milterTalk) recipients() (act *milter.Action, err error) {
	for i := range t.m.Envelope.Recipients {
		act, err = t.session.Rcpt("<"+string(t.m.Envelope.Recipients[i].Path)+">", "")
		if err != nil || act.Type != milter.ActionContinue {
			return act, err
		}
	}
	return act, err
}

func (t *milterTalk) header() (*milter.Action, error) {
	keep := t.session.ProtocolOption(milter.OptHeaderLeadingSpace)
	for f := range relay.Fields(t.m.Header) {
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

// decide makes an answer a verdict. done tells that the filter has seen enough.
func decide(act *milter.Action, failed error, class relay.Class) (v relay.Verdict, done bool, err error) {
	if failed != nil {
		return v, true, failed
	}
	if act == nil {
		return v, false, nil
	}
	switch act.Type {
	case milter.ActionContinue, milter.ActionSkip:
		return v, false, nil
	case milter.ActionAccept:
		return v, true, nil
	case milter.ActionDiscard: // mail is refused, never accepted and dropped
		v.Rejection = milterRejection(550, "", relay.ClassContent)
	case milter.ActionReject:
		v.Rejection = milterRejection(550, "", class)
	case milter.ActionTempFail:
		v.Rejection = milterRejection(451, "", relay.ClassPolicy)
	case milter.ActionRejectWithCode:
		if act.SMTPCode/100 == 4 {
			class = relay.ClassPolicy // put off, not refused for what is in it
		}
		v.Rejection = milterRejection(int(act.SMTPCode), act.SMTPReply, class)
	default:
		return v, true, errMilterAnswer
	}
	return v, true, nil
}

// milterRejection is a refusal with the filter's own words, as far as they may stand in a reply.
func milterRejection(code int, reply string, class relay.Class) *relay.Rejection {
	r := &relay.Rejection{Code: code, Class: class, Enhanced: queue.Enhanced{uint16(code / 100), 7, 1}, Text: "The message is refused by a filter"}
	if code/100 == 4 {
		r.Text = "The message cannot be taken now; try again later"
	}
	first, _, _ := strings.Cut(reply, "\n")
	words := strings.Fields(strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return ' '
		}
		return c
	}, first))
	if len(words) > 0 && len(words[0]) >= 3 {
		words[0] = strings.TrimLeft(words[0][3:], "-")
	}
	if len(words) > 1 {
		if e, ok := enhanced(words[1]); ok && int(e[0]) == code/100 {
			r.Enhanced, words = e, words[1:]
		}
		if text := strings.Join(words[1:], " "); text != "" {
			r.Text = text[:min(len(text), 400)]
		}
	}
	return r
}

// enhanced reads an enhanced status code (RFC 3463 §2).
func enhanced(s string) (e queue.Enhanced, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return e, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n > 999 {
			return e, false
		}
		e[i] = uint16(n)
	}
	return e, e[0] == 4 || e[0] == 5
}

// applyMilter makes a filter's changes a verdict. What is put at the very beginning
// is added; the rest changes the message's own header.
func applyMilter(m *relay.Message, changes []milter.ModifyAction, keep bool) (v relay.Verdict, err error) {
	var fields [][]byte
	for f := range relay.Fields(m.Header) {
		fields = append(fields, f.Raw)
	}
	for _, c := range changes {
		var field []byte
		switch c.Type {
		case milter.ActionQuarantine:
			v.Hold = true
			continue
		case milter.ActionAddHeader, milter.ActionInsertHeader, milter.ActionChangeHeader:
			if field, err = milterField(&c, keep); err != nil {
				return relay.Verdict{}, err
			}
		default:
			return relay.Verdict{}, errMilterChange
		}
		switch at := int(min(c.HeaderIndex, relay.MaxFields)); {
		case c.Type == milter.ActionAddHeader:
			fields = append(fields, field)
		case c.Type == milter.ActionChangeHeader:
			fields = changeField(fields, c.HeaderName, at, field)
		case at == 0:
			v.Added = append(field, v.Added...)
		default:
			at = min(at-1, len(fields)) // Postfix: the first place is 1
			fields = append(fields[:at:at], append([][]byte{field}, fields[at:]...)...)
		}
		if len(fields) > relay.MaxFields {
			return relay.Verdict{}, errMilterAnswer
		}
	}
	v.Header = append([]byte{}, bytes.Join(fields, nil)...)
	return v, nil
}

// changeField replaces the n-th field of a name, counted from 1, or removes it if field is empty.
func changeField(fields [][]byte, name string, n int, field []byte) [][]byte {
	for i, raw := range fields {
		for f := range relay.Fields(raw) {
			if !strings.EqualFold(string(f.Name), name) {
				continue
			}
			if n--; n <= 0 {
				if len(field) == 0 {
					return append(fields[:i:i], fields[i+1:]...)
				}
				fields[i] = field
				return fields
			}
		}
	}
	if len(field) > 0 {
		fields = append(fields, field)
	}
	return fields
}

// milterField is a field as a filter gave it, nil for one without a value. One that would be
// more than one field, or none, is no answer.
func milterField(c *milter.ModifyAction, keep bool) ([]byte, error) {
	if c.HeaderValue == "" && c.Type == milter.ActionChangeHeader {
		return nil, nil
	}
	space := " "
	if keep {
		space = ""
	}
	value := strings.ReplaceAll(strings.ReplaceAll(c.HeaderValue, "\r\n", "\n"), "\n", "\r\n")
	field := []byte(c.HeaderName + ":" + space + value + "\r\n")
	count := 0
	for f := range relay.Fields(field) {
		if count++; len(f.Name) == 0 || len(f.Raw) != len(field) {
			return nil, errMilterAnswer
		}
	}
	if count != 1 || bytes.ContainsAny(field, "\x00") || strings.Contains(strings.ReplaceAll(value, "\r\n", ""), "\r") {
		return nil, errMilterAnswer
	}
	return field, nil
}

// milterDialer connects until ctx ends, and cuts the connection off then.
type milterDialer struct{ ctx context.Context }

// Dial implements milter.Dialer.
func (d milterDialer) Dial(network, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(d.ctx, func() { conn.Close() })
	return &milterConn{Conn: conn, stop: stop, left: maxMilterAnswers}, nil
}

// maxMilterAnswers bounds what one filter may answer about one message, in octets.
const maxMilterAnswers = 4 << 20

// milterConn ends a filter that talks without end.
type milterConn struct {
	net.Conn
	stop func() bool
	left int
}

func (c *milterConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// Close implements net.Conn.
func (c *milterConn) Close() error {
	c.stop()
	return c.Conn.Close()
}
