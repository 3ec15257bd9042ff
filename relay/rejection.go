package relay

import "tacet/queue"

// Rejection is the one error that becomes a reply to a client: a wire text
// that repeats nothing the client said, and apart from it the cause.
type Rejection struct {
	Code     int            // 4yz or 5yz
	Enhanced queue.Enhanced // RFC 3463
	Text     string         // for the wire: fixed, says what to do, names no one
	Class    Class
	Ground   Ground // what precisely, where the class alone would leave an operator asking
	Close    bool   // the session ends after the reply
	Err      error  // the cause; nil where the rejection is the whole story
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

// Ground says more closely than a Class why something was refused, as one of a closed list.
type Ground uint8

// The grounds. The zero one leaves it at the class.
const (
	GroundNone       Ground = iota
	GroundSpam              // suspected to be spam
	GroundVirus             // a virus was found
	GroundAttachment        // an attachment of this kind is not taken
	GroundLink              // a link, or an attachment's digest, is on a block list
	GroundHeader            // the header or the MIME structure is malformed
	GroundSPF               // SPF failed
	GroundDKIM              // DKIM failed
	GroundDMARC             // DMARC failed
	GroundSender            // this login may not use this sender address
	GroundQuota             // the user's quota is used up
	GroundGreylist          // come back later
	GroundListed            // the client or a domain is on a block list
	GroundHelo              // the client's name in HELO
	GroundRecipient         // no such mailbox
	GroundRate              // too many connections or messages
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
