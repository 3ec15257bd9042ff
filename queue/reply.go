package queue

// Reply is what an attempt came to for one recipient: the next hop's answer,
// or the Cause why there was none.
type Reply struct {
	Code     int      // 250, 451, 550 …; 0 where the next hop gave no answer
	Enhanced Enhanced // RFC 3463; zero where the answer had none
	Text     string   // the answer's text, at most 1,000 octets. Personal: for DSNs and the operator's queue view, never for the log
	Stage    Stage
	Cause    Cause
	RemoteID string // the next hop's queue ID from its final answer: letters, digits, "-", "." and "_", at most 64; otherwise empty
}

// Enhanced is an enhanced status code: class, subject, detail (RFC 3463).
type Enhanced [3]uint16

// IsZero tells whether there is no enhanced code.
func (e Enhanced) IsZero() bool { return e[0] == 0 }

// Stage is the step of an SMTP session at which something ended.
type Stage uint8

// The stages, in the order of a session.
const (
	StageNone Stage = iota
	StageRoute
	StageConnect
	StageGreeting
	StageEhlo
	StageTLS
	StageAuth
	StageMail
	StageRcpt
	StageData
	StageContent // the content was under way
	StageEnd     // the final dot or last chunk was sent, its answer awaited
	StageQueue   // within the relay: expiry, an admin's word
)

// Cause says why an attempt ended without a deciding answer of the next hop.
// A Reply has a Code or a Cause, and both where our own rules judged an answer.
type Cause uint8

// The causes. Whether each is temporary is told by [Cause.Permanent].
const (
	CauseNone Cause = iota

	// Finding the next hop.
	CauseDNSTemporary     // SERVFAIL, time-out, no resolver
	CauseNoSuchDomain     // NXDOMAIN: permanent
	CauseNoMX             // the domain exists and has neither MX nor address: permanent
	CauseNullMX           // RFC 7505: permanent
	CauseMXUnresolved     // MX hosts without a usable address for now
	CauseAddressForbidden // every address is in a range that must not be contacted: permanent
	CauseLoopsBack        // the best MX is this relay: permanent
	CauseBadDomain        // not a valid domain name: permanent

	// Reaching it.
	CauseRefused     // connection refused
	CauseUnreachable // no route, network or host unreachable
	CauseTimeout     // no answer within the stage's time-out
	CauseClosed      // the connection ended
	CauseProtocol    // not SMTP, or out of step

	// Policy.
	CauseTLSRequired      // TLS is required and cannot be had
	CauseTLSUnverified    // the certificate is not the required one
	CauseTLSHandshake     // the handshake failed
	CauseAuthFailed       // our own login at the smarthost was refused
	CauseNo8BitMIME       // next hop lacks 8BITMIME: permanent
	CauseNoSMTPUTF8       // next hop lacks SMTPUTF8: permanent, 5.6.7
	CauseTooLarge         // larger than the next hop's SIZE: permanent
	CauseNoRequireTLS     // next hop lacks REQUIRETLS: permanent
	CauseAmbiguous        // ended after the final dot: the next hop may have taken it
	CauseShutdown         // we stopped
	CauseLocal            // a fault of our own: store, memory
	CauseContentDamaged   // stored content does not match its checksum
	CauseExpired          // the lifetime is over: permanent
	CauseDeletedByAdmin   // permanent
	CauseTooManyHops      // permanent, 5.4.6
	CauseAllHostsFailed   // unused hosts remain none; each failed in its own way
	CauseConcurrencyLimit // the next hop takes no more connections (421)
	CauseLineTooLong      // a line is longer than the next hop may be sent: permanent

	NumCauses int = iota // how many there are, CauseNone included
)

// Permanent tells whether waiting cannot help.
func (c Cause) Permanent() bool {
	switch c {
	case CauseNoSuchDomain, CauseNoMX, CauseNullMX, CauseAddressForbidden, CauseLoopsBack, CauseBadDomain,
		CauseNo8BitMIME, CauseNoSMTPUTF8, CauseTooLarge, CauseNoRequireTLS, CauseExpired, CauseDeletedByAdmin, CauseTooManyHops, CauseLineTooLong:
		return true
	}
	return false
}

// Delivered tells whether the next hop has taken responsibility: any 2yz after
// the final dot (RFC 5321 §4.2.1).
func (r Reply) Delivered() bool { return r.Cause == CauseNone && r.Code/100 == 2 }

// Permanent tells whether the recipient failed for good. A Cause outweighs the
// code: 552 at RCPT is temporary to the one who judged it so (RFC 5321 §4.5.3.1.10).
func (r Reply) Permanent() bool {
	if r.Cause != CauseNone {
		return r.Cause.Permanent()
	}
	return r.Code/100 == 5
}

// Temporary tells whether another attempt is owed.
func (r Reply) Temporary() bool { return !r.Delivered() && !r.Permanent() }
