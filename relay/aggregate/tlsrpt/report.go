package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tacet/relay/aggregate"
)

// report is an aggregate report (RFC 8460 §4.4).
type report struct {
	Organization string   `json:"organization-name"`
	Range        dates    `json:"date-range"`
	Contact      string   `json:"contact-info"`
	ID           string   `json:"report-id"`
	Policies     []result `json:"policies"`

	domain string
}

type dates struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

type result struct {
	Policy  policy   `json:"policy"`
	Summary summary  `json:"summary"`
	Details []detail `json:"failure-details,omitempty"`
}

type policy struct {
	Type    string   `json:"policy-type"`
	Strings []string `json:"policy-string,omitempty"`
	Domain  string   `json:"policy-domain"`
	Hosts   []string `json:"mx-host,omitempty"`
}

type summary struct {
	Good int64 `json:"total-successful-session-count"`
	Bad  int64 `json:"total-failure-session-count"`
}

// detail has neither of the optional IP addresses.
type detail struct {
	Result string `json:"result-type"`
	Host   string `json:"receiving-mx-hostname,omitempty"`
	Count  int64  `json:"failed-session-count"`
}

// newReport makes the report of one domain for the day that starts at begin.
func (c *Config) newReport(begin time.Time, domain string, counts domainCounts) *report {
	r := &report{
		Organization: c.Hostname, Contact: c.Contact, domain: domain,
		Range: dates{begin, aggregate.End(begin)},
		ID:    begin.Format(time.DateOnly) + "_" + domain + "@" + c.Hostname,
	}
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		p := counts[key]
		one := result{Policy: policy{p.Type, p.Strings, domain, p.Hosts}, Summary: summary{Good: p.Good}}
		for _, what := range slices.Sorted(maps.Keys(p.Bad)) {
			kind, host, _ := strings.Cut(what, " ")
			one.Details = append(one.Details, detail{kind, host, p.Bad[what]})
			one.Summary.Bad += p.Bad[what]
		}
		r.Policies = append(r.Policies, one)
	}
	return r
}

// packed is the report as gzipped JSON (RFC 8460 §5.2).
func (r *report) packed() ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	if err := json.NewEncoder(zip).Encode(r); err != nil {
		return nil, fmt.Errorf("encoding a TLS report: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("packing a TLS report: %w", err)
	}
	return out.Bytes(), nil
}

// letter is the message that brings the report (RFC 8460 §5.3). It goes also
// where TLS does not meet the policy, for that is what it tells of (§3).
func (r *report) letter(to string, packed []byte) *aggregate.Letter {
	return &aggregate.Letter{
		From: r.Contact, To: to, ID: r.ID, Domain: r.domain, Host: r.Organization, Begin: r.Range.Start,
		Fields: []string{"TLS-Report-Domain: " + r.domain, "TLS-Report-Submitter: " + r.Organization, "TLS-Required: No"},
		Type:   `multipart/report; report-type="tlsrpt"`,
		Text: fmt.Sprintf("This is a report on TLS with the mail servers of %s\r\non %s (UTC), as RFC 8460 describes it.",
			r.domain, r.Range.Start.Format(time.DateOnly)),
		Part: "application/tlsrpt+gzip", Ending: ".json.gz", Packed: packed,
	}
}
