package logging

import (
	"net/netip"
	"time"
)

// Record is one line of the relay log. Its fields are all that a line can
// hold; a zero field is absent. Texts are escaped and cut by the encoder.
type Record struct {
	Time        time.Time  // zero: now
	NextHost    netip.Addr // of the host really connected to; attempts only
	User        string     // authenticated user; submission only
	Client      netip.Addr // submission only
	In, Out     TLS
	Sender      string // reverse-path; empty with HasSender is the null one, "<>"
	HasSender   bool
	Recipient   string // one forward-path
	Subject     string // decoded: see [Subject]
	Event       Event
	ID          string // queue ID
	Code        int
	Enhanced    [3]uint16
	Reason      Reason
	Stage       Stage
	Attempt     int
	Repeated    bool // told once before: see [Recall]
	NextAttempt time.Time
	RemoteID    string        // at the next hop; Event Accepted: at the other site, which it came from
	Headers     []HeaderField // Event ContentRejected only
	HeadersCut  bool          // the header block was longer than what is kept
}

// HeaderField is one header field of a message that was rejected for its content.
type HeaderField struct{ Name, Value string }

// TLS tells how a connection was protected, or why not. The zero value is absent.
type TLS struct {
	Version  uint16 // as in crypto/tls
	Cipher   uint16 // as in crypto/tls
	Verified Verified
	None     NoTLS
	Wanted   Wanted // of tls.out
}
