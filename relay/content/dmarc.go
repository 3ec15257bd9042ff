package content

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"

	"blitiri.com.ar/go/spf"
)

// The results of DMARC (RFC 9989 §5.3), as Authentication-Results has them.
const (
	dmarcNone = "none"
	dmarcPass = "pass"
	dmarcFail = "fail"
	dmarcTemp = "temperror"
	dmarcPerm = "permerror"
)

// What a domain asks for (RFC 9989 §4.7).
const (
	wantsNone       = "none"
	wantsQuarantine = "quarantine"
	wantsReject     = "reject"
)

type dmarcResult struct {
	result      string
	asks, wants string      // of what fails: as published, and what of it is meant to be done (tag t)
	record      dmarcRecord // that was found; of none the domain is empty
	spf, dkim   bool        // vouch for the author's domain; both are known only where reports are made
}

// dmarcRecord is one record with the domain that it was found at.
type dmarcRecord struct {
	domain string
	tags   map[string]string
}

// maxWalk is how many names a tree walk asks for (RFC 9989 §4.10).
const maxWalk = 8

// dmarc tells whether SPF or DKIM vouches for the author's domain.
func (v *Verifier) dmarc(ctx context.Context, from string, sender spfResult, signatures []signature) dmarcResult {
	if from == "" {
		return dmarcResult{result: dmarcPerm} // no author, or several
	}
	walk, err := v.treeWalk(ctx, from)
	if err != nil {
		return dmarcResult{result: dmarcTemp}
	}
	org := organizational(from, walk)
	record, found := policyOf(from, org, walk)
	if !found || !record.sound() {
		return dmarcResult{result: dmarcNone}
	}
	unsure := false
	aligned := func(domain, mode string) bool {
		if domain == from {
			return true
		}
		if domain == "" || record.tags[mode] == "s" {
			return false
		}
		other, err := v.treeWalk(ctx, domain)
		unsure = unsure || err != nil
		return err == nil && organizational(domain, other) == org
	}
	r := dmarcResult{result: dmarcFail, record: record}
	r.spf = sender.result == spf.Pass && aligned(sender.domain, "aspf")
	for _, s := range signatures {
		if r.spf && v.Observer == nil || r.dkim {
			break // it is known
		}
		r.dkim = s.result == "pass" && aligned(s.domain, "adkim")
		unsure = unsure || s.result == "temperror"
	}
	switch {
	case r.spf || r.dkim:
		r.result = dmarcPass
	case unsure || sender.result == spf.TempError:
		r.result = dmarcTemp
	default:
		if r.asks, err = v.asked(ctx, from, record); err != nil {
			r.result = dmarcTemp
		}
		r.wants = record.wanted(r.asks)
	}
	return r
}

// treeWalk looks for records at the domain and those above it (RFC 9989 §4.10).
func (v *Verifier) treeWalk(ctx context.Context, domain string) (found []dmarcRecord, err error) {
	at := domain
	for range maxWalk {
		tags, err := v.record(ctx, at)
		if err != nil {
			return nil, err
		}
		if tags != nil {
			found = append(found, dmarcRecord{at, tags})
			if tags["psd"] == "n" || tags["psd"] == "y" {
				break
			}
		}
		_, rest, more := strings.Cut(at, ".")
		for more && strings.Count(rest, ".") >= maxWalk-1 {
			_, rest, more = strings.Cut(rest, ".")
		}
		if !more {
			break
		}
		at = rest
	}
	return found, nil
}

// record is the one valid DMARC record of a name; nil if there is none, or several.
func (v *Verifier) record(ctx context.Context, domain string) (tags map[string]string, err error) {
	texts, err := v.DNS.LookupTXT(ctx, "_dmarc."+domain)
	if err != nil {
		if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
			return nil, nil
		}
		return nil, err
	}
	for _, text := range texts {
		version, _, _ := strings.Cut(text, ";")
		name, value, _ := strings.Cut(version, "=")
		if strings.TrimSpace(name) != "v" || strings.TrimSpace(value) != "DMARC1" {
			continue
		}
		t := parseTags(withoutScraps(strings.ToLower(text)))
		if t == nil {
			continue
		}
		if tags != nil {
			return nil, nil
		}
		tags = t
	}
	return tags, nil
}

// withoutScraps is a record without what is no tag: that is left out, and the rest counts (RFC 9989 §4.8).
func withoutScraps(text string) string {
	parts := strings.Split(text, ";")
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return !strings.Contains(part, "=") }), ";")
}

// organizational is the organizational domain of a domain whose walk found these records
// (RFC 9989 §4.10.2).
func organizational(domain string, walk []dmarcRecord) string {
	for _, r := range walk {
		switch {
		case r.tags["psd"] == "n":
			return r.domain
		case r.tags["psd"] == "y" && r.domain != domain:
			below := strings.TrimSuffix(domain, "."+r.domain)
			if i := strings.LastIndexByte(below, '.'); i >= 0 {
				below = below[i+1:]
			}
			return below + "." + r.domain
		}
	}
	if len(walk) == 0 {
		return domain
	}
	return walk[len(walk)-1].domain
}

// policyOf picks the record that counts: of the author's domain, of the organizational
// one, or of the public suffix above it.
func policyOf(from, org string, walk []dmarcRecord) (r dmarcRecord, found bool) {
	for _, want := range []func(dmarcRecord) bool{
		func(r dmarcRecord) bool { return r.domain == from },
		func(r dmarcRecord) bool { return r.domain == org },
		func(r dmarcRecord) bool { return r.tags["psd"] == "y" },
	} {
		for _, r := range walk {
			if want(r) {
				return r, true
			}
		}
	}
	return r, false
}

// sound tells whether the record says what is to be done. One that does not, or says it of those below by a word
// that there is not, asks for nothing but reports, if it wants those (RFC 9989 §4.10.1).
func (r *dmarcRecord) sound() bool {
	for _, tag := range []string{"p", "sp", "np"} {
		if value, there := r.tags[tag]; (there || tag == "p") && policyWord(value) != value {
			delete(r.tags, "sp")
			delete(r.tags, "np")
			r.tags["p"] = wantsNone
			return strings.Contains(r.tags["rua"], ":")
		}
	}
	return true
}

// asks is what the record says of mail of the domain.
func (r *dmarcRecord) asks(from string, exists bool) string {
	tags := []string{"p"}
	switch {
	case r.domain == from:
	case exists:
		tags = []string{"sp", "p"}
	default:
		tags = []string{"np", "sp", "p"}
	}
	for _, tag := range tags {
		if value, ok := r.tags[tag]; ok {
			return value
		}
	}
	return wantsNone
}

// asked is what the record says of mail of the domain, which exists or not.
func (v *Verifier) asked(ctx context.Context, from string, r dmarcRecord) (string, error) {
	exists := true
	if _, ok := r.tags["np"]; ok && r.domain != from {
		var err error
		if exists, err = v.exists(ctx, from); err != nil {
			return "", err
		}
	}
	return r.asks(from, exists), nil
}

// wanted is what is meant to be done. A domain under test wants one step less than it asks for
// (RFC 9989 §4.7, tag t).
func (r *dmarcRecord) wanted(asks string) string {
	if r.tags["t"] == "y" {
		switch asks {
		case wantsReject:
			return wantsQuarantine
		case wantsQuarantine:
			return wantsNone
		}
	}
	return asks
}

func policyWord(s string) string {
	if s == wantsReject || s == wantsQuarantine {
		return s
	}
	return wantsNone
}

// exists tells whether the domain has an address or an MX (RFC 9989 §3.2.13).
func (v *Verifier) exists(ctx context.Context, domain string) (bool, error) {
	mx, err := v.DNS.LookupMX(ctx, domain)
	if err == nil && len(mx) > 0 {
		return true, nil
	}
	ips, err2 := v.DNS.LookupIPAddr(ctx, domain)
	if err2 == nil && len(ips) > 0 {
		return true, nil
	}
	for _, e := range []error{err, err2} {
		if dns, ok := errors.AsType[*net.DNSError](e); e != nil && (!ok || !dns.IsNotFound) {
			return false, e
		}
	}
	return false, nil
}
