package relay

import (
	"crypto/sha256"
	"crypto/sha512"

	"tacet/queue"
)

// Hold is what a published policy asks of TLS with one host: DANE or MTA-STS.
// It outweighs the [Route]'s TLS, unless that is [TLSNone]. It is never changed once it is made.
type Hold struct {
	By      HeldBy
	Require bool        // TLS, with any certificate: TLSA records are there, and none of them is usable (RFC 7672 §2.2)
	TLSA    []TLSA      // HeldByDANE: usable ones, at least one
	Base    string      // HeldByDANE: the TLSA base domain, which SNI names (RFC 7672 §8.1)
	Names   []string    // HeldByDANE: one of these must be in a certificate that a trust anchor vouches for (RFC 7672 §3.2.2)
	Refused queue.Cause // the host must not be contacted; CauseNone: it may
	Failure TLSFailure  // of the policy itself or of the host under it, for reports
	Policy  []string    // as the domain published it, a record or a line each, for reports
	Hosts   []string    // HeldBySTS: the policy's patterns of hosts, for reports
}

// HeldBy tells which policy a [Hold] stands for.
type HeldBy uint8

// The policies, the strongest last.
const (
	HeldByNothing    HeldBy = iota // none was found, or it can't be used: see Require and Failure
	HeldBySTSTesting               // MTA-STS, and what fails is reported only
	HeldBySTS                      // MTA-STS
	HeldByDANE
)

// TLSA is a TLSA record (RFC 6698 §2.1).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// The certificate usages that SMTP has (RFC 7672 §3.1).
const (
	UsageTrustAnchor = 2 // DANE-TA
	UsageEndEntity   = 3 // DANE-EE
)

// Usable tells whether the record can be matched with a certificate of an
// SMTP server; usages 0 and 1 can't (RFC 7672 §3.1.3).
func (t TLSA) Usable() bool {
	if t.Usage != UsageTrustAnchor && t.Usage != UsageEndEntity || t.Selector > 1 {
		return false
	}
	switch t.Matching {
	case 0:
		return len(t.Data) > 0
	case 1:
		return len(t.Data) == sha256.Size
	case 2:
		return len(t.Data) == sha512.Size
	}
	return false
}

// TLSFailure is why TLS with a host did not come to what its policy asks for,
// in the words of RFC 8460 §4.3.
type TLSFailure uint8

// The failures.
const (
	TLSFailureNone   TLSFailure = iota
	FailedStartTLS              // starttls-not-supported
	FailedMismatch              // certificate-host-mismatch
	FailedExpired               // certificate-expired
	FailedUntrusted             // certificate-not-trusted
	FailedValidation            // validation-failure: the handshake, or what no other word fits
	FailedTLSA                  // tlsa-invalid: no record is usable
	FailedDNSSEC                // dnssec-invalid: the records can't be had, or are bogus
	FailedSTSFetch              // sts-policy-fetch-error
	FailedSTSPolicy             // sts-policy-invalid
	FailedSTSPKI                // sts-webpki-invalid: the certificate of the policy's web server
)

// TLSSession is how TLS came out with one host for mail to a domain, once for each
// connection. It names no one.
type TLSSession struct {
	Domain  string // recipients' domain
	Host    string // MX
	Hold    *Hold  // nil: no policy
	Failure TLSFailure
}

// TLSObserver counts sessions for reports to the domains. The transport calls it.
type TLSObserver interface {
	Observe(TLSSession)
}

var failures = [...]string{
	TLSFailureNone:   "",
	FailedStartTLS:   "starttls-not-supported",
	FailedMismatch:   "certificate-host-mismatch",
	FailedExpired:    "certificate-expired",
	FailedUntrusted:  "certificate-not-trusted",
	FailedValidation: "validation-failure",
	FailedTLSA:       "tlsa-invalid",
	FailedDNSSEC:     "dnssec-invalid",
	FailedSTSFetch:   "sts-policy-fetch-error",
	FailedSTSPolicy:  "sts-policy-invalid",
	FailedSTSPKI:     "sts-webpki-invalid",
}

// String is the failure's name in a report, "" for none.
func (f TLSFailure) String() string { return failures[f] }
