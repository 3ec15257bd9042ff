package inbound

import (
	"errors"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"tacet/queue"
	"tacet/relay"
)

// dialogue makes every error of a mechanism a reply of ours.
type dialogue struct {
	session *session
	sasl.Server
}

func (d *dialogue) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = d.Server.Next(response)
	if err == nil {
		return challenge, done, nil
	}
	// go-smtp looks at the error's own type, not at what it wraps.
	if reply, ok := errors.AsType[*smtp.SMTPError](err); ok {
		return nil, done, reply
	}
	d.session.failed()
	return nil, done, d.session.reply(errSASL)
}

// authenticate checks a user's password. Wrong credentials of every kind give
// the same reply.
func (s *session) authenticate(identity, user, password string) error {
	known := false
	err := error(errCredentials)
	// No one may act for another (RFC 4616 §2: authzid).
	if user != "" && (identity == "" || identity == user) {
		known, err = s.server.config.Auth.Authenticate(s.server.ctx, user, password)
	}
	if err == nil {
		s.user = user
		s.conn.LoggedIn(user)
		s.server.stats.AuthOK.Add(1)
		return nil
	}
	if r, ok := errors.AsType[*relay.Rejection](err); ok && r.Code/100 == 4 {
		if s.busy++; s.busy >= s.limits.MaxAuthFailures {
			s.conn.EndAfterReply()
		}
		return s.reply(r)
	}
	s.server.stats.AuthFailed.Add(1)
	o := s.origin()
	if known {
		o.User = user
	}
	s.server.config.Relay.Refuse(relay.Refusal{
		Kind: relay.RefusedAuth, Rejection: errCredentials, Origin: o, Stage: queue.StageAuth,
	})
	s.failed()
	return s.reply(errCredentials)
}

// failed counts a failed AUTH; a few of them end the session.
func (s *session) failed() {
	if s.failures++; s.failures >= s.limits.MaxAuthFailures {
		s.conn.EndAfterReply()
	}
}

// login is the server's side of LOGIN (draft-murchison-sasl-login), which
// go-sasl lacks.
type login struct {
	verify sasl.PlainAuthenticator
	user   string
	step   int
}

func (l *login) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case l.step == 0 && response == nil:
		l.step = 1
		return []byte("Username:"), false, nil
	case l.step <= 1: // the name, as initial response or when asked
		l.step, l.user = 2, string(response)
		return []byte("Password:"), false, nil
	case l.step == 2:
		l.step = 3
		return nil, true, l.verify("", l.user, string(response))
	}
	return nil, false, sasl.ErrUnexpectedClientResponse
}
