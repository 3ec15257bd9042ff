package content

import (
	"context"
	"strings"

	"blitiri.com.ar/go/spf"

	"tacet/relay"
)

// report tells the observer what DMARC came to, if the message came from outside and the domain wants
// to know. What could not be found out is not told.
func (v *Verifier) report(m *relay.Message, from string, sender spfResult, signatures []signature, policy dmarcResult) {
	if v.Observer == nil || m.Envelope.Origin.Submission || policy.record.tags["rua"] == "" ||
		policy.result != dmarcPass && policy.result != dmarcFail {
		return
	}
	o := relay.DMARCOutcome{
		Policy: policy.record.published(), Client: m.Session.Client, From: from, Sender: Domain(string(m.Envelope.Sender.Domain())),
		DKIM: policy.dkim, SPF: policy.spf, SPFDomain: sender.domain, SPFResult: string(sender.result),
	}
	switch {
	case policy.result == dmarcPass:
		o.Disposition = wantsNone
		if policy.record.asks(from, true) != wantsNone {
			o.Disposition = "pass" // of a policy that is none there is nothing to pass (RFC 9990 Appendix A)
		}
	case v.refuses(policy), v.RejectSPF && sender.result == spf.Fail:
		o.Disposition = wantsReject
	default:
		o.Disposition = wantsNone // what a domain wants in quarantine is marked, and goes on
	}
	switch {
	case policy.result == dmarcPass || o.Disposition == policy.asks:
	case policy.wants != policy.asks && o.Disposition == wantsNone:
		o.Reason = "policy_test_mode"
	default:
		o.Reason = "local_policy"
	}
	for _, s := range signatures {
		if s.domain != "" && s.selector != "" {
			o.Signatures = append(o.Signatures, relay.DKIMOutcome{Domain: s.domain, Selector: s.selector, Result: s.result})
		}
	}
	v.Observer.Observe(o)
}

// published is what of a record goes into a report: words that are known, nothing else.
func (r *dmarcRecord) published() relay.DMARCPolicy {
	word := func(tag, among string) string {
		if value := r.tags[tag]; strings.Contains(" "+among+" ", " "+value+" ") {
			return value
		}
		return ""
	}
	const wants = wantsNone + " " + wantsQuarantine + " " + wantsReject
	p := relay.DMARCPolicy{
		Domain: r.domain, P: policyWord(r.tags["p"]), SP: word("sp", wants), NP: word("np", wants),
		ADKIM: word("adkim", "r s"), ASPF: word("aspf", "r s"), Testing: r.tags["t"] == "y",
	}
	if fo := r.tags["fo"]; len(fo) <= 7 && strings.Trim(fo, "01ds:") == "" {
		p.FO = fo
	}
	return p
}

// Organizational returns the organizational domain of a domain (RFC 9989 §4.10.2).
func (v *Verifier) Organizational(ctx context.Context, domain string) (string, error) {
	walk, err := v.treeWalk(ctx, domain)
	if err != nil {
		return "", err
	}
	return organizational(domain, walk), nil
}
