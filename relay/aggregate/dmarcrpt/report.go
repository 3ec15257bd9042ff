package dmarcrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"time"

	"tacet/relay"
	"tacet/relay/aggregate"
)

// feedback is an aggregate report (RFC 9990 §3.1.1).
type feedback struct {
	XMLName  xml.Name  `xml:"urn:ietf:params:xml:ns:dmarc-2.0 feedback"`
	Version  string    `xml:"version"`
	Metadata metadata  `xml:"report_metadata"`
	Policy   published `xml:"policy_published"`
	Records  []record  `xml:"record"`
}

type metadata struct {
	Organization string `xml:"org_name"`
	Email        string `xml:"email"`
	ID           string `xml:"report_id"`
	Begin        int64  `xml:"date_range>begin"`
	End          int64  `xml:"date_range>end"`
	Generator    string `xml:"generator"`
}

type published struct {
	Domain    string `xml:"domain"`
	P         string `xml:"p"`
	SP        string `xml:"sp,omitempty"`
	NP        string `xml:"np,omitempty"`
	ADKIM     string `xml:"adkim,omitempty"`
	ASPF      string `xml:"aspf,omitempty"`
	Discovery string `xml:"discovery_method"`
	FO        string `xml:"fo,omitempty"`
	Testing   string `xml:"testing,omitempty"`
}

type record struct {
	Source      string      `xml:"row>source_ip"`
	Count       int64       `xml:"row>count"`
	Disposition string      `xml:"row>policy_evaluated>disposition"`
	DKIM        string      `xml:"row>policy_evaluated>dkim"`
	SPF         string      `xml:"row>policy_evaluated>spf"`
	Reason      *reason     `xml:"row>policy_evaluated>reason"`
	HeaderFrom  string      `xml:"identifiers>header_from"`
	Sender      string      `xml:"identifiers>envelope_from,omitempty"`
	Signatures  []signature `xml:"auth_results>dkim"`
	SPFResult   *spf        `xml:"auth_results>spf"`
}

type reason struct {
	Type string `xml:"type"`
}

type signature struct {
	Domain   string `xml:"domain"`
	Selector string `xml:"selector"`
	Result   string `xml:"result"`
}

type spf struct {
	Domain string `xml:"domain"`
	Scope  string `xml:"scope"`
	Result string `xml:"result"`
}

// report is one report, to be packed.
type report struct {
	feedback
	domain string
	begin  time.Time
	number int // of the day's for the domain
}

// newReport makes the n-th report of one domain for the day that starts at begin. A row or policy
// that was damaged on the disk is left out.
func (c *Config) newReport(begin time.Time, domain string, n int, policy string, rows counts) *report {
	var p relay.DMARCPolicy
	_ = json.Unmarshal([]byte(policy), &p) // Observe wrote it
	r := &report{domain: domain, begin: begin, number: n}
	r.Version = "1.0"
	r.Metadata = metadata{
		Organization: c.Hostname, Email: c.Contact, ID: fmt.Sprintf("%s.%d.%s@%s", begin.Format("20060102"), n, domain, c.Hostname),
		Begin: begin.Unix(), End: aggregate.End(begin).Unix(), Generator: "tacet",
	}
	r.Policy = published{Domain: domain, P: p.P, SP: p.SP, NP: p.NP, ADKIM: p.ADKIM, ASPF: p.ASPF, FO: p.FO, Discovery: "treewalk"}
	if p.Testing {
		r.Policy.Testing = "y"
	}
	for _, text := range slices.Sorted(maps.Keys(rows)) {
		var o relay.DMARCOutcome
		if json.Unmarshal([]byte(text), &o) == nil {
			r.Records = append(r.Records, newRecord(&o, rows[text]))
		}
	}
	return r
}

func newRecord(o *relay.DMARCOutcome, count int64) record {
	r := record{
		Source: o.Client.Unmap().String(), Count: count, Disposition: o.Disposition, DKIM: passed(o.DKIM), SPF: passed(o.SPF),
		HeaderFrom: o.From, Sender: o.Sender,
	}
	if o.Reason != "" {
		r.Reason = &reason{o.Reason}
	}
	for _, s := range o.Signatures {
		r.Signatures = append(r.Signatures, signature(s))
	}
	if o.SPFDomain != "" {
		r.SPFResult = &spf{o.SPFDomain, "mfrom", o.SPFResult} // that of a null reverse-path is made of HELO (RFC 7208 §2.4)
	}
	return r
}

func passed(yes bool) string {
	if yes {
		return "pass"
	}
	return "fail"
}

// packed is the report as gzipped XML (RFC 9990 §3.5.2).
func (r *report) packed() ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	_, _ = zip.Write([]byte(xml.Header)) // an error comes again at the end
	if err := xml.NewEncoder(zip).Encode(&r.feedback); err != nil {
		return nil, fmt.Errorf("encoding a DMARC report: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("packing a DMARC report: %w", err)
	}
	return out.Bytes(), nil
}

// letter is the message that brings the report (RFC 9990 §3.5.2).
func (r *report) letter(to string, packed []byte) *aggregate.Letter {
	ending := ".xml.gz"
	if r.number > 1 { // another of the day's, which must not replace the first
		ending = fmt.Sprintf("!%d%s", r.number, ending)
	}
	return &aggregate.Letter{
		From: r.Metadata.Email, To: to, ID: r.Metadata.ID, Domain: r.domain, Host: r.Metadata.Organization, Begin: r.begin,
		Type: "multipart/mixed",
		Text: fmt.Sprintf("This is a DMARC aggregate report on mail in the name of %s\r\non %s (UTC), as RFC 9990 describes it.",
			r.domain, r.begin.Format(time.DateOnly)),
		Part: "application/gzip", Ending: ending, Packed: packed,
	}
}
