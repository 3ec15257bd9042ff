package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
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
		Range: dates{begin, begin.Add(24*time.Hour - time.Second)},
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

// file is the report's name (RFC 8460 §5.1).
func (r *report) file() string {
	return fmt.Sprintf("%s!%s!%d!%d.json.gz", r.Organization, r.domain, r.Range.Start.Unix(), r.Range.End.Unix())
}

// letter is the message that brings the report (RFC 8460 §5.3). It goes also
// where TLS does not meet the policy, for that is what it tells of (§3).
func (r *report) letter(to string, now time.Time, packed []byte) []byte {
	var b bytes.Buffer
	const boundary = "=_tls-report"
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("From: <%s>", r.Contact)
	line("To: <%s>", to)
	line("Date: %s", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000"))
	line("Message-ID: <%s>", r.ID)
	line("Subject: Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s>", r.domain, r.Organization, r.ID)
	line("TLS-Report-Domain: %s", r.domain)
	line("TLS-Report-Submitter: %s", r.Organization)
	line("TLS-Required: No")
	line("Auto-Submitted: auto-generated")
	line("MIME-Version: 1.0")
	line("Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=%q", boundary)
	line("\r\n--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n", boundary)
	line("This is a report on TLS with the mail servers of %s\r\non %s (UTC), as RFC 8460 describes it.", r.domain, r.Range.Start.Format(time.DateOnly))
	line("\r\n--%s\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64", boundary)
	line("Content-Disposition: attachment;\r\n filename=%q\r\n", r.file())
	for text := base64.StdEncoding.EncodeToString(packed); text != ""; {
		n := min(len(text), 76)
		line("%s", text[:n])
		text = text[n:]
	}
	line("\r\n--%s--", boundary)
	return b.Bytes()
}
