package inbound

import (
	"io"
	"net"
	"net/netip"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/inbound/wire"
)

// session is go-smtp's view of one client. go-smtp calls its methods one at a
// time; what they are given they take from the wire, where it was parsed and checked.
type session struct {
	server   *Server
	port     *port
	conn     *wire.Conn
	user     string // authenticated as
	failures int    // of AUTH
	busy     int    // AUTH that could not be looked at
	limits   *Limits
	peer     netip.Addr // at the other end of the socket

	envelope  *queue.Envelope // of the open transaction
	allowance Allowance       // of the user; nil: no limit
	overfull  bool            // a recipient too many is on record

	attended   bool // Filters were asked
	attendance *relay.Attendance
}

var _ smtp.AuthSession = (*session)(nil)

// NewSession is go-smtp's [smtp.Backend].
func (s *Server) NewSession(c *smtp.Conn) (smtp.Session, error) {
	client := c.Conn().(*client)
	return &session{server: s, port: client.port, conn: client.Conn, limits: client.limits, peer: client.peer}, nil
}

func (s *session) mx() bool { return s.port.Kind == MX }

// origin is what of the session an envelope keeps: the client's address on
// submission, and what a primary is to learn of the client otherwise.
func (s *session) origin() queue.Origin {
	o := queue.Origin{Submission: !s.mx(), User: s.user, TLS: s.conn.TLS()}
	if o.Submission || s.server.keepClient.Load() {
		o.Client = s.conn.Client()
	}
	if s.mx() && s.server.keepHelo.Load() {
		o.Helo = s.conn.Helo()
	}
	return o
}

// Mail begins a transaction.
func (s *session) Mail(string, *smtp.MailOptions) error {
	m := s.conn.Mail()
	e := &queue.Envelope{
		Sender: m.From, Origin: s.origin(),
		Body: m.Body, UTF8: m.UTF8, Return: m.Return, EnvID: m.EnvID, RequireTLS: m.RequireTLS,
	}
	if s.user != "" && !s.server.config.Auth.Exists(s.user) {
		return s.refuse(errUserGone, e, nil, queue.StageMail)
	}
	if err := s.server.config.Relay.AdmitSender(s.mx(), &e.Origin, e.Sender); err != nil {
		return s.refuse(err, e, nil, queue.StageMail)
	}
	var allowance Allowance
	if users := s.server.config.Users; users != nil && s.user != "" {
		var err error
		if allowance, err = users.Sender(s.user, e.Sender); err != nil {
			return s.refuse(err, e, nil, queue.StageMail)
		}
	}
	if edge := s.server.config.Edge; edge != nil && s.mx() {
		if err := edge.Sender(s.server.ctx, s.conn.Client(), s.conn.Helo(), e.Sender); err != nil {
			return s.refuse(err, e, nil, queue.StageMail)
		}
	}
	if limit := s.limits.MaxMessageSize; limit > 0 && m.Size > limit {
		return s.refuse(errSize, e, nil, queue.StageMail)
	}
	if err := s.server.config.Relay.Ready(); err != nil {
		return s.refuse(err, e, nil, queue.StageMail)
	}
	if err := s.attend().Sender(s.server.ctx, e); err != nil {
		return s.refuse(err, e, nil, queue.StageMail)
	}
	s.envelope, s.allowance, s.overfull = e, allowance, false
	return nil
}

// attend shows the session to the filters, from the first transaction on.
func (s *session) attend() *relay.Attendance {
	if s.server.config.Filters == nil {
		return nil
	}
	client, helo := s.conn.Client(), s.conn.Helo()
	if s.attended && s.attendance.Of(client, helo) {
		return s.attendance
	}
	s.attendance.Close()
	about := relay.Session{Protocol: s.conn.Protocol(), Client: client, Helo: helo}
	if local, ok := s.conn.LocalAddr().(*net.TCPAddr); ok {
		about.Server = local.AddrPort()
	}
	s.attended, s.attendance = true, s.server.config.Filters.Attend(about, !s.mx())
	return s.attendance
}

// Rcpt adds a recipient.
func (s *session) Rcpt(string, *smtp.RcptOptions) error {
	r, e := s.conn.Rcpt(), s.envelope
	if len(e.Recipients) >= s.limits.MaxRecipients {
		if s.overfull { // one record of it is enough
			return s.reply(errRecipients)
		}
		s.overfull = true
		return s.refuse(errRecipients, e, nil, queue.StageRcpt)
	}
	if err := s.server.config.Relay.Admit(s.mx(), &e.Origin, e.Sender, r.To); err != nil {
		return s.refuse(err, e, []queue.ForwardPath{r.To}, queue.StageRcpt)
	}
	if edge := s.server.config.Edge; edge != nil && s.mx() {
		if err := edge.Recipient(s.conn.Client(), e.Sender, r.To); err != nil {
			return s.refuse(err, e, []queue.ForwardPath{r.To}, queue.StageRcpt)
		}
	}
	if s.allowance != nil {
		if err := s.allowance.Recipient(r.To); err != nil {
			return s.refuse(err, e, []queue.ForwardPath{r.To}, queue.StageRcpt)
		}
	}
	to := queue.Recipient{Path: r.To, Notify: r.Notify, ORcpt: r.ORcpt}
	if err := s.attendance.Recipient(s.server.ctx, e, &to); err != nil {
		return s.refuse(err, e, []queue.ForwardPath{r.To}, queue.StageRcpt)
	}
	e.Recipients = append(e.Recipients, to)
	return nil
}

// Data hands the message to the relay. The content comes from the wire, not
// from go-smtp, which sees an empty one.
func (s *session) Data(io.Reader) error {
	e := s.envelope
	s.envelope, s.allowance = nil, nil // it is the relay's now
	id, err := s.server.config.Relay.Accept(s.server.ctx, e, s.conn.Content(),
		relay.Session{Protocol: s.conn.Protocol(), Client: s.conn.Client(), Peer: s.peer, Helo: s.conn.Helo(), Attendance: s.attendance})
	switch {
	case s.conn.Lost(): // go-smtp needs a reply, and no one reads it
		return &smtp.SMTPError{Code: errInternal.Code, Message: errInternal.Text}
	case s.conn.Refusal() != nil: // whatever the relay made of it
		return s.reply(s.conn.Refusal())
	case err != nil:
		return s.reply(err)
	case !s.conn.Complete():
		s.server.trouble(TroubleIncomplete)
		return s.reply(errInternal)
	}
	s.server.stats.Messages.Add(1)
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "queued as " + id.String()}
}

// Reset gives the transaction up.
func (s *session) Reset() {
	s.envelope, s.allowance = nil, nil
	s.attendance.Reset()
}

// Logout ends the session.
func (s *session) Logout() error {
	s.attendance.Close()
	s.attendance = nil
	return nil
}

// AuthMechanisms is for go-smtp's reply to EHLO, which no one reads.
func (s *session) AuthMechanisms() []string { return nil }

// Auth begins a SASL dialogue. Whether it may be begun was checked on the wire.
func (s *session) Auth(mech string) (sasl.Server, error) {
	switch mech {
	case sasl.Plain:
		return &dialogue{s, sasl.NewPlainServer(s.authenticate)}, nil
	case sasl.Login:
		return &dialogue{s, &login{verify: s.authenticate}}, nil
	}
	return nil, s.reply(errMechanism)
}
