package relay

import "tacet/queue"

// Rejection is the one error that becomes a reply to a client: a wire text
// that repeats nothing the client said, and apart from it the cause.
type Rejection struct {
	Code     int            // 4yz or 5yz
	Enhanced queue.Enhanced // RFC 3463
	Text     string         // for the wire: fixed, says what to do, names no one
	Class    Class
	Close    bool  // the session ends after the reply
	Err      error // the cause; nil where the rejection is the whole story
}

func (r *Rejection) Error() string { return r.Text }
func (r *Rejection) Unwrap() error { return r.Err }

// Class tells what a rejection is about. Header fields are logged for
// ClassContent alone.
type Class uint8

// The classes of rejections.
const (
	ClassPolicy   Class = iota // who may send what to whom
	ClassSyntax                // commands and framing: bare CR or LF, line lengths, parameters
	ClassSize                  // message size
	ClassLimit                 // recipients, errors, connections, rate
	ClassAuth                  // AUTH needed or failed
	ClassTLS                   // TLS needed or failed
	ClassLoop                  // too many Received fields
	ClassContent               // a content check refused it
	ClassResource              // no room, store unavailable
	ClassShutdown              // 421: the relay stops
)

// Refusal is a rejection with what is known of the session, for the log.
type Refusal struct {
	Kind       RefusalKind
	Rejection  *Rejection
	Origin     queue.Origin
	Sender     queue.ReversePath
	HasSender  bool
	Recipients []queue.ForwardPath // none: one record without a recipient
	Stage      queue.Stage
}

// RefusalKind tells which event of the log a refusal is.
type RefusalKind uint8

// The kinds of refusals.
const (
	RefusedMail RefusalKind = iota // rejected: MAIL, RCPT or content
	RefusedAuth                    // auth_failed: Origin.User only if the account exists
	RefusedTLS                     // tls_failed: a handshake of a client failed
)
