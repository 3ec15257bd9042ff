package inbound

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"tacet/queue"
	"tacet/relay"
)

// Relay decides on and takes messages. [*relay.Relay] fills it. All methods may
// be called at the same time. An error that is, or wraps, a [*relay.Rejection] is the
// client's reply; any other is answered with 451.
type Relay interface {
	// AdmitSender decides on a MAIL command. mx tells the kind of the listener.
	AdmitSender(mx bool, o *queue.Origin, from queue.ReversePath) error
	// Admit decides on a RCPT command.
	Admit(mx bool, o *queue.Origin, from queue.ReversePath, to queue.ForwardPath) error
	// Ready tells whether there is room for a message; asked at MAIL.
	Ready() error
	// Accept takes a message and answers for it from then on. It reads
	// content to io.EOF, or to an error and then keeps nothing. s is what the
	// envelope does not say of the session.
	Accept(ctx context.Context, e *queue.Envelope, content io.Reader, s relay.Session) (queue.ID, error)
	// Refuse puts a refusal on record. Refused content is Accept's to record.
	Refuse(relay.Refusal)
}

// Authenticator checks passwords. relay/auth fills it.
type Authenticator interface {
	// Authenticate returns nil if the password is the user's. known tells
	// whether there is such a user, for the log alone: time and error are the same
	// either way. A [*relay.Rejection] with a 4yz code is the client's reply (too
	// busy, users cannot be read); any other error means that the credentials are wrong.
	Authenticate(ctx context.Context, user, password string) (known bool, err error)
	// Exists tells whether an authenticated user still exists; asked at each
	// MAIL, so that one that was removed is out at once.
	Exists(user string) bool
}

// Submitters judges what logged-in users bring to submission listeners. relay/auth
// and relay/quota fill it. An error is a [*relay.Rejection]. All methods may be called
// at the same time, and none may wait.
type Submitters interface {
	// Sender judges a MAIL command of a user. The allowance is asked about each
	// recipient of the transaction; nil: there is no limit to them.
	Sender(user string, from queue.ReversePath) (Allowance, error)
}

// Allowance is what a user may still send, as one transaction meets it.
type Allowance interface {
	// Recipient judges one more recipient that is good otherwise.
	Recipient(to queue.ForwardPath) error
}

// Edge judges the clients of MX listeners before they bring anything.
// relay/edge fills it. An error is a [*relay.Rejection]. All methods may be called
// at the same time.
type Edge interface {
	// Connect judges a connection. It must not wait.
	Connect(client netip.Addr) error
	// Sender judges a MAIL command, in bounded time.
	Sender(ctx context.Context, client netip.Addr, helo string, from queue.ReversePath) error
	// Recipient judges a RCPT command that is good otherwise.
	Recipient(client netip.Addr, from queue.ReversePath, to queue.ForwardPath) error
}

// Filters shows sessions to those who look at more than the content. [*relay.Relay] fills it.
type Filters interface {
	// Attend begins to show a session; nil: nobody wants to see it.
	Attend(s relay.Session, submission bool) *relay.Attendance
}

// Turner starts the delivery of what waits for a host that is back (ETRN, RFC 1985).
type Turner interface {
	// Turn starts the queue that client names and returns how many messages
	// wait there, or ErrNotAllowed if it is not the client's.
	Turn(ctx context.Context, client netip.Addr, name string) (waiting int, err error)
}

// ErrNotAllowed says that a client may not start a queue.
var ErrNotAllowed = errors.New("the queue is not the client's")

// Events hears of trouble that an operator should know of. It must not block.
type Events interface {
	Trouble(Trouble)
}

// Trouble is what an operator should know of.
type Trouble uint8

// The kinds of trouble.
const (
	TroubleAccept     Trouble = iota // connections cannot be accepted: out of descriptors or memory; it is tried again
	TroublePanic                     // a session panicked; its connection was closed
	TroubleIncomplete                // the relay accepted a content without reading it to its end; the client read 451
	TroubleLibrary                   // the SMTP library met what it did not expect
)
