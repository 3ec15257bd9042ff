package logging

import "slices"

// Event is what a record tells of.
type Event uint8

// The events.
const (
	_               Event = iota
	Accepted              // taken from a client; one record per recipient
	Delivered             // terminal: the next hop took responsibility
	Deferred              // an attempt ended and another is owed
	Failed                // terminal: refused for good
	Expired               // terminal: the lifetime is over
	Rejected              // refused to the client, for other than its content
	ContentRejected       // refused to the client for its content; the only event with header fields
	AuthFailed            // a client's login failed
	TLSFailed             // a client's TLS handshake failed
	Held                  // put on hold by an admin
	Released              // taken off hold by an admin
	Deleted               // terminal: deleted by an admin
	eventEnd
)

var eventTable = [eventEnd]string{
	Accepted:        "accepted",
	Delivered:       "delivered",
	Deferred:        "deferred",
	Failed:          "failed",
	Expired:         "expired",
	Rejected:        "rejected",
	ContentRejected: "content_rejected",
	AuthFailed:      "auth_failed",
	TLSFailed:       "tls_failed",
	Held:            "held",
	Released:        "released",
	Deleted:         "deleted",
}

// String gives the event's name in the log, "" for an unknown one.
func (e Event) String() string { return nameIn(eventTable[:], e) }

// Terminal tells whether the event is the last one of an accepted recipient.
func (e Event) Terminal() bool {
	return e == Delivered || e == Failed || e == Expired || e == Deleted
}

// ParseEvent finds the event with the given name.
func ParseEvent(name string) (Event, bool) { return parseIn[Event](eventTable[:], name) }

// Stage is the step of an SMTP session at which something ended.
type Stage uint8

// The stages, in the order of a session. The zero Stage is absent.
const (
	StageNone     Stage = iota
	StageRoute          // finding the next hop
	StageConnect        // opening the connection
	StageGreeting       // awaiting 220
	StageEhlo           // EHLO or HELO
	StageStartTLS       // STARTTLS and the handshake
	StageAuth           // AUTH
	StageMail           // MAIL FROM
	StageRcpt           // RCPT TO
	StageData           // DATA or the first BDAT
	StageContent        // the content was under way
	StageEnd            // after the final dot or last chunk
	StageQueue          // within the relay: expiry, an admin's word
	stageEnd
)

var stageTable = [stageEnd]string{
	StageRoute:    "route",
	StageConnect:  "connect",
	StageGreeting: "greeting",
	StageEhlo:     "ehlo",
	StageStartTLS: "starttls",
	StageAuth:     "auth",
	StageMail:     "mail",
	StageRcpt:     "rcpt",
	StageData:     "data",
	StageContent:  "content",
	StageEnd:      "end",
	StageQueue:    "queue",
}

// String gives the stage's name in the log, "" for none or an unknown one.
func (s Stage) String() string { return nameIn(stageTable[:], s) }

// Verified tells by what the other side's certificate was verified.
type Verified uint8

// The ways of verification. The zero value is "no".
const (
	VerifiedNo   Verified = iota // encrypted, and the name was not verified
	VerifiedPKIX                 // by a public certificate authority
	VerifiedDANE                 // by a TLSA record (RFC 7672)
	VerifiedSTS                  // by an MTA-STS policy (RFC 8461)
	verifiedEnd
)

var verifiedTable = [verifiedEnd]string{
	VerifiedNo: "no", VerifiedPKIX: "pkix", VerifiedDANE: "dane", VerifiedSTS: "sts",
}

// String gives the name in the log, "" for an unknown value.
func (v Verified) String() string { return nameIn(verifiedTable[:], v) }

// NoTLS tells why a connection was not encrypted. The zero value is absent.
type NoTLS uint8

// The reasons for a connection in the clear.
const (
	_                 NoTLS = iota
	NoTLSNotOffered         // the server's EHLO reply had no STARTTLS
	NoTLSNotUsed            // offered, and the client did not use it
	NoTLSHandshake          // the handshake failed
	NoTLSRefused            // STARTTLS was offered and then answered 4yz or 5yz
	NoTLSOff                // switched off here by the configuration
	NoTLSNotConnected       // there was no connection
	NoTLSUnverified         // the certificate was not the required one: the connection was given up
	noTLSEnd
)

var noTLSTable = [noTLSEnd]string{
	NoTLSNotOffered:   "not_offered",
	NoTLSNotUsed:      "not_used",
	NoTLSHandshake:    "handshake_failed",
	NoTLSRefused:      "refused",
	NoTLSOff:          "off",
	NoTLSNotConnected: "not_connected",
	NoTLSUnverified:   "unverified",
}

// String gives the name in the log, "" for none or an unknown value.
func (n NoTLS) String() string { return nameIn(noTLSTable[:], n) }

// Wanted tells what the connection to a next hop was held to. The zero value is
// absent: TLS when offered.
type Wanted uint8

// What was wanted of a connection.
const (
	_                Wanted = iota
	WantedRequire           // TLS with any certificate: by the configuration, or by DANE without a usable record
	WantedVerify            // a valid certificate, by the configuration
	WantedSTSTesting        // what an MTA-STS policy in testing asks for, and does without
	WantedSTS               // what an MTA-STS policy enforces
	WantedDANE              // a certificate that a TLSA record describes
	WantedRequireTLS        // what the sender asked for by REQUIRETLS
	WantedWaived            // nothing: the sender waived the policy of the domain
	wantedEnd
)

var wantedTable = [wantedEnd]string{
	WantedRequire: "require", WantedVerify: "verify", WantedSTSTesting: "sts_testing", WantedSTS: "sts",
	WantedDANE: "dane", WantedRequireTLS: "requiretls", WantedWaived: "waived",
}

// String gives the name in the log, "" for nothing or an unknown value.
func (w Wanted) String() string { return nameIn(wantedTable[:], w) }

func nameIn[T ~uint8 | ~uint16](table []string, v T) string {
	if int(v) < len(table) {
		return table[v]
	}
	return ""
}

func parseIn[T ~uint8 | ~uint16](table []string, name string) (T, bool) {
	if name == "" {
		return 0, false
	}
	i := slices.Index(table, name)
	return T(max(i, 0)), i >= 0
}
