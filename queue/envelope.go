package queue

import (
	"net/netip"
	"strings"
	"time"
)

// ReversePath is the mailbox of MAIL FROM as it stood on the wire, without the
// angle brackets: quoting kept, source route removed (RFC 5321 §4.1.2). The
// empty one is the null reverse-path, which is never answered by a DSN.
type ReversePath string

// ForwardPath is the mailbox of one RCPT TO as it stood on the wire, without
// the angle brackets: quoting kept, source route removed. "Postmaster" may
// stand without a domain (RFC 5321 §4.5.1).
type ForwardPath string

// Domain is what follows the last "@" of a mailbox, as it stood on the wire:
// a domain name in any case, an IDN U-label, or an address literal in brackets.
type Domain string

// Destination names the queue that a recipient waits in: what is delivered to
// together. It is made by the router, without asking the DNS: the recipient's
// domain in lower case as A-label, or a configured next hop such as
// "[127.0.0.1]:2626".
type Destination string

// IsNull tells whether p is the null reverse-path.
func (p ReversePath) IsNull() bool { return p == "" }

// Domain is the domain of p, empty for the null reverse-path.
func (p ReversePath) Domain() Domain { return domainOf(string(p)) }

// Domain is the domain of p, empty for a bare "Postmaster".
func (p ForwardPath) Domain() Domain { return domainOf(string(p)) }

func domainOf(mailbox string) Domain {
	if i := strings.LastIndexByte(mailbox, '@'); i >= 0 {
		return Domain(mailbox[i+1:])
	}
	return ""
}

// BodyType is the BODY parameter of MAIL FROM (RFC 6152, RFC 3030).
type BodyType uint8

// The body types.
const (
	Body7Bit BodyType = iota // not said, or BODY=7BIT
	Body8BitMIME
	BodyBinaryMIME
)

// Return is the RET parameter of MAIL FROM (RFC 3461 §4.3).
type Return uint8

// What a DSN brings back of the message.
const (
	ReturnUnset Return = iota // as the relay's default says: header fields only
	ReturnFull
	ReturnHeaders
)

// Notify is the NOTIFY parameter of RCPT TO (RFC 3461 §4.1), a set.
type Notify uint8

// The members of a Notify. Zero means that the parameter was not given:
// failure, and delay where the relay warns of it.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Wants tells whether a report of the kind is owed to the sender.
func (n Notify) Wants(kind Notify) bool {
	if n == 0 {
		return kind == NotifyFailure || kind == NotifyDelay
	}
	return n&NotifyNever == 0 && n&kind != 0
}

// TLS tells how a connection was protected: by Version, Cipher and Verified,
// or else why not, by None. The zero value says nothing.
type TLS struct {
	Version  uint16 // as in crypto/tls: tls.VersionTLS13
	Cipher   uint16 // as in crypto/tls: tls.TLS_AES_128_GCM_SHA256
	Verified Verified
	None     NoTLS
	Wanted   Wanted // towards a next hop
}

// Verified tells how the peer's certificate was checked.
type Verified uint8

// How a peer was verified.
const (
	VerifiedNo Verified = iota
	VerifiedPKIX
	VerifiedDANE
	VerifiedSTS
)

// NoTLS tells why a connection was not protected.
type NoTLS uint8

// Why there was no TLS.
const (
	NoTLSUnset           NoTLS = iota
	NoTLSNotOffered            // the server did not offer STARTTLS
	NoTLSNotUsed               // offered, and the client did not use it
	NoTLSHandshakeFailed       // tried before, failed; this connection is the one in the clear
	NoTLSRefused               // the server refused the STARTTLS command
	NoTLSOff                   // switched off by configuration
	NoTLSUnverified            // the certificate was not the required one: the connection was given up
	NoTLSNotConnected          // policy forbids the host: it was not connected to
)

// Wanted tells what a connection to a next hop was held to, where it was
// held to something.
type Wanted uint8

// What was wanted, the first of these that applies from the end.
const (
	WantedNothing    Wanted = iota // TLS when offered
	WantedRequire                  // TLS with any certificate
	WantedVerify                   // a certificate valid for the host's name
	WantedSTSTesting               // what an MTA-STS policy in testing asks for, and does without (RFC 8461 §5)
	WantedSTS                      // a certificate valid for the name of a host that the MTA-STS policy allows
	WantedDANE                     // a certificate that a TLSA record describes (RFC 7672)
	WantedRequireTLS               // what the sender asked for (RFC 8689)
	WantedWaived                   // nothing: the sender waived the policy of the domain (RFC 8689 §5)
)

// Origin is where a message came from: what of the client's session the log
// and later deliveries may know.
type Origin struct {
	Submission bool       // it came by a submission listener
	User       string     // authenticated user, empty without AUTH
	Client     netip.Addr // client's address, on submission, or if a next hop is to learn it
	Helo       string     // what the client called itself, unchecked, if a next hop is to learn it; never logged
	ID         string     // queue ID at the other site, if its relay brought the message: as Reply.RemoteID
	TLS        TLS        // the client's connection
	Local      bool       // made by the relay itself: a DSN
}

// Envelope is what the relay knows of a message beside its content. An
// Envelope that has been Put or Claimed is shared and never changed.
type Envelope struct {
	ID         ID
	Arrived    time.Time
	Sender     ReversePath
	Recipients []Recipient // at least one
	Origin     Origin

	Body        BodyType
	UTF8        bool   // SMTPUTF8 was given (RFC 6531)
	RequireTLS  bool   // REQUIRETLS was given (RFC 8689)
	TLSOptional bool   // the field "TLS-Required: No" waives what domains ask of TLS (RFC 8689 §5); RequireTLS outweighs it
	Return      Return // RET
	EnvID       string // ENVID, decoded from xtext; never logged

	Subject string // decoded and cut for the log: at most 200 characters
	Size    int64  // octets of the content as stored, CRLF line ends, no dot-stuffing
}

// Recipient is one recipient of an envelope and how its delivery stands.
type Recipient struct {
	Path   ForwardPath
	Notify Notify
	ORcpt  string // ORCPT as "type;address", decoded from xtext; never logged

	State    State
	Attempts int       // deliveries tried so far
	Next     time.Time // when the next attempt falls due; State Waiting
	Warned   bool      // a delay warning was sent
	Last     Reply     // of the newest attempt

	Owed *Owed // a report to the sender that is still to be made; nil: none. It is never changed
}

// Over tells whether nothing more is owed for the recipient, not even a report.
func (r *Recipient) Over() bool { return r.State.Settled() && r.Owed == nil }

// Owed is a report on one recipient. Where a message has several, reports wait
// a while for each other, so that the sender gets one.
type Owed struct {
	Kind Notify     // NotifyFailure, NotifyDelay or NotifySuccess
	By   time.Time  // when the message's reports are made; at once where no recipient of it is to be tried until then
	At   time.Time  // of the attempt
	Host netip.Addr // that was tried; invalid if none was
}

// Reports is the destination of messages for which reports are owed. No router
// names one like it.
const Reports Destination = "(reports)"

// State is how the delivery to one recipient stands.
type State uint8

// The states of a recipient. The last two end it: it is settled.
const (
	Waiting State = iota // for its next attempt
	Held                 // until it is released
	Delivered
	Failed // refused for good, expired or deleted
)

// Settled tells whether nothing more is owed to the recipient.
func (s State) Settled() bool { return s >= Delivered }

func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case Held:
		return "held"
	case Delivered:
		return "delivered"
	case Failed:
		return "failed"
	}
	return "unknown"
}
