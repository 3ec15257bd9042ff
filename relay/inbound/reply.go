package inbound

import (
	"errors"

	"github.com/emersion/go-smtp"

	"tacet/queue"
	"tacet/relay"
)

// The rejections of this package's own. None repeats what the client said.
var (
	errInternal = &relay.Rejection{Code: 451, Enhanced: queue.Enhanced{4, 3, 0}, Class: relay.ClassResource,
		Text: "Local error, try again later"}
	errSize = &relay.Rejection{Code: 552, Enhanced: queue.Enhanced{5, 3, 4}, Class: relay.ClassSize,
		Text: "Message is larger than the limit that SIZE tells"}
	errRecipients = &relay.Rejection{Code: 452, Enhanced: queue.Enhanced{4, 5, 3}, Class: relay.ClassLimit,
		Text: "Too many recipients, send the rest with another message"}
	errCredentials = &relay.Rejection{Code: 535, Enhanced: queue.Enhanced{5, 7, 8}, Class: relay.ClassAuth,
		Text: "User name or password is wrong"}
	errEarly = &relay.Rejection{Code: 554, Enhanced: queue.Enhanced{5, 5, 1}, Class: relay.ClassSyntax,
		Text: "The client spoke before it was greeted"} // for the log: the wire says so itself
	errSASL = &relay.Rejection{Code: 501, Enhanced: queue.Enhanced{5, 5, 2}, Class: relay.ClassSyntax,
		Text: "Not a valid response of this mechanism"}
	errMechanism = &relay.Rejection{Code: 504, Enhanced: queue.Enhanced{5, 5, 4}, Class: relay.ClassSyntax,
		Text: "Mechanism not available"}
	errUserGone = &relay.Rejection{Code: 421, Enhanced: queue.Enhanced{4, 7, 0}, Class: relay.ClassAuth,
		Text: "Log in again"}
	errHandshake = &relay.Rejection{Code: 454, Enhanced: queue.Enhanced{4, 7, 0}, Class: relay.ClassTLS,
		Text: "TLS handshake failed"} // for the log: the client reads nothing
)

// What a client reads that is turned away before it becomes a session.
const (
	replyShutdown      = "421 4.3.2 The server is going down, try again shortly\r\n"
	replyFull          = "421 4.7.0 Too many connections, try again later\r\n"
	replyFullForClient = "421 4.7.0 Too many connections from your address\r\n"
)

// reply makes an error the reply to the command under way: the one place where
// that happens. A rejection says what the client reads; whatever else went
// wrong is none of the client's business.
func (s *session) reply(err error) *smtp.SMTPError {
	r, ok := errors.AsType[*relay.Rejection](err)
	if !ok {
		r = errInternal
	}
	s.server.stats.Refused[min(r.Class, relay.ClassShutdown)].Add(1)
	if r.Close || r.Code == 421 {
		s.conn.EndAfterReply()
	}
	return &smtp.SMTPError{Code: r.Code, EnhancedCode: enhanced(r.Enhanced), Message: r.Text}
}

// refuse makes an error the reply to MAIL or RCPT and puts it on record.
func (s *session) refuse(err error, e *queue.Envelope, to []queue.ForwardPath, at queue.Stage) *smtp.SMTPError {
	r, ok := errors.AsType[*relay.Rejection](err)
	if !ok {
		r = &relay.Rejection{Code: errInternal.Code, Enhanced: errInternal.Enhanced, Text: errInternal.Text,
			Class: errInternal.Class, Err: err}
	}
	s.server.config.Relay.Refuse(relay.Refusal{
		Kind: relay.RefusedMail, Rejection: r, Origin: e.Origin,
		Sender: e.Sender, HasSender: true, Recipients: to, Stage: at,
	})
	return s.reply(r)
}

func enhanced(e queue.Enhanced) smtp.EnhancedCode {
	if e.IsZero() {
		return smtp.EnhancedCodeNotSet // go-smtp makes it X.0.0
	}
	return smtp.EnhancedCode{int(e[0]), int(e[1]), int(e[2])}
}
