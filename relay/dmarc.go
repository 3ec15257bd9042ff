package relay

import "net/netip"

// DMARCOutcome is what DMARC came to for one message from outside, as the domain that its author's
// address belongs to may learn it (RFC 9990): domains and the client's address, and no mailbox.
type DMARCOutcome struct {
	Policy DMARCPolicy
	Client netip.Addr

	From   string // domain of the header field From
	Sender string // domain of the reverse-path; empty: null

	Disposition string // none, pass, quarantine or reject: what was done
	Reason      string // why that is not what the domain asks for: policy_test_mode or local_policy; empty: it is
	DKIM, SPF   bool   // whether it vouches for From's domain

	SPFDomain, SPFResult string
	Signatures           []DKIMOutcome
}

// DMARCPolicy is a record as its domain publishes it (RFC 9989 §4.7); what it does not say is empty.
type DMARCPolicy struct {
	Domain                     string // where the record is
	P, SP, NP, ADKIM, ASPF, FO string
	Testing                    bool
}

// DKIMOutcome is what became of one DKIM signature.
type DKIMOutcome struct{ Domain, Selector, Result string }

// DMARCObserver counts outcomes for reports to the domains. The check that verifies mail calls it.
type DMARCObserver interface {
	Observe(DMARCOutcome)
}
