package content

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"

	"blitiri.com.ar/go/spf"
	"github.com/emersion/go-msgauth/dkim"

	"tacet/queue"
	"tacet/relay"
)

// Resolver is what verification asks the DNS. An error is a *net.DNSError; its
// IsNotFound tells that there is no such name.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Verifier finds out who vouches for a message: SPF (RFC 7208), DKIM (RFC 6376) and
// DMARC (RFC 9989). It tells by one Authentication-Results field (RFC 8601) and takes out
// those that bear the relay's name without being its own.
type Verifier struct {
	Hostname    string // of the relay: the authserv-id
	DNS         Resolver
	RejectSPF   bool // what SPF fails is refused
	RejectDMARC bool // what DMARC fails is refused where its domain asks for that

	Observer relay.DMARCObserver // hears what DMARC came to where the domain wants reports; nil: no one
}

// The limits of one message's verification. DKIM's work is bounded by them, whatever the
// message holds.
const (
	maxSignatures = 5       // that are looked at
	maxKeyRecord  = 1200    // octets: an RSA key of 4096 bits fits
	maxEmptyLines = 1 << 14 // in a row; the library's simple form takes time quadratic in them
)

// Check implements [relay.Check].
func (v *Verifier) Check(ctx context.Context, m *relay.Message) (relay.Verdict, error) {
	sender := v.spf(ctx, m)
	signatures, err := v.dkim(ctx, m)
	if err != nil {
		return relay.Verdict{}, err
	}
	from := domainOf(soleAuthor(m.Header))
	policy := v.dmarc(ctx, from, sender, signatures)
	v.report(m, from, sender, signatures, policy)
	switch {
	case v.RejectSPF && sender.result == spf.Fail:
		return relay.Verdict{Rejection: &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 23}, Class: relay.ClassPolicy,
			Ground: relay.GroundSPF, Text: "The sender's domain does not let your host send its mail (SPF)"}}, nil
	case v.refuses(policy):
		return relay.Verdict{Rejection: &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Class: relay.ClassPolicy,
			Ground: relay.GroundDMARC, Text: "The author's domain wants mail refused that nothing vouches for (DMARC)"}}, nil
	case v.RejectDMARC && policy.result == dmarcTemp:
		return relay.Verdict{Rejection: &relay.Rejection{Code: 451, Enhanced: queue.Enhanced{4, 7, 1}, Class: relay.ClassPolicy,
			Ground: relay.GroundDMARC, Text: "Who vouches for the message cannot be found out now; try again later"}}, nil
	}
	return relay.Verdict{Added: v.results(from, sender, signatures, policy), Header: v.withoutForged(m.Header)}, nil
}

// refuses tells whether DMARC alone has mail refused.
func (v *Verifier) refuses(policy dmarcResult) bool {
	return v.RejectDMARC && policy.result == dmarcFail && policy.wants == wantsReject
}

// spfResult is what SPF says, and of which domain.
type spfResult struct {
	result spf.Result
	domain string
	helo   bool // of HELO, because the reverse-path is null
}

// spf asks who may send for the reverse-path's domain. The DNS learns the domain and never
// a local part: macros get "postmaster" for it (RFC 7208 §4.3).
func (v *Verifier) spf(ctx context.Context, m *relay.Message) spfResult {
	r := spfResult{result: spf.None, domain: Domain(string(m.Envelope.Sender.Domain()))}
	helo := Domain(m.Session.Helo)
	if m.Envelope.Sender.IsNull() { // RFC 7208 §2.4
		r.domain, r.helo = helo, true
	}
	if r.domain == "" || !m.Session.Client.IsValid() {
		return r
	}
	result, _ := spf.CheckHostWithSender(net.IP(m.Session.Client.AsSlice()), helo, "postmaster@"+r.domain,
		spf.WithContext(ctx), spf.WithResolver(v.DNS)) // the error explains the result to people
	r.result = result
	return r
}

// signature is what became of one DKIM signature.
type signature struct {
	domain   string
	selector string // empty if it is none
	result   string // pass, fail, permerror or temperror
}

// dkim verifies the signatures of a message.
func (v *Verifier) dkim(ctx context.Context, m *relay.Message) (found []signature, err error) {
	var selectors []string // in the order of the signatures
	for f := range relay.Fields(m.Header) {
		if f.Is("dkim-signature") {
			selectors = append(selectors, Domain(parseTags(string(f.Unfolded()))["s"]))
		}
	}
	if len(selectors) == 0 {
		return nil, nil
	}
	body := &runCounter{r: m.Body()}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, fmt.Errorf("read a body: %w", err)
	}
	if body.longest > maxEmptyLines {
		return []signature{{result: "policy"}}, nil
	}
	// A reader that fails would leave the library's goroutines behind: one that ends early does not.
	content := &patientReader{r: m.Content()}
	checks, err := dkim.VerifyWithOptions(content, &dkim.VerifyOptions{
		MaxVerifications: maxSignatures,
		LookupTXT: func(name string) ([]string, error) {
			records, err := v.DNS.LookupTXT(ctx, strings.ToLower(name))
			var short []string
			for _, r := range records {
				if len(r) <= maxKeyRecord {
					short = append(short, r)
				}
			}
			return short, err
		},
	})
	if content.err != nil {
		return nil, fmt.Errorf("read a message: %w", content.err)
	}
	if err != nil && len(checks) == 0 {
		return []signature{{result: "permerror"}}, nil
	}
	for i, c := range checks {
		s := signature{domain: Domain(c.Domain), selector: selectors[min(i, len(selectors)-1)], result: "pass"}
		switch {
		case c.Err == nil && s.domain == "":
			s.result = "permerror"
		case c.Err == nil:
		case dkim.IsTempFail(c.Err):
			s.result = "temperror"
		case dkim.IsPermFail(c.Err):
			s.result = "permerror"
		default:
			s.result = "fail"
		}
		found = append(found, s)
	}
	return found, nil
}

// runCounter finds the longest row of line ends.
type runCounter struct {
	r            io.Reader
	now, longest int
}

func (c *runCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for _, b := range p[:n] {
		switch b {
		case '\n':
			c.now++
			c.longest = max(c.longest, c.now)
		case '\r':
		default:
			c.now = 0
		}
	}
	return n, err
}

// patientReader ends at an error, and keeps it.
type patientReader struct {
	r   io.Reader
	err error
}

func (p *patientReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		p.err, err = err, io.EOF
	}
	return n, err
}

// results is the Authentication-Results field, and one of SPF alone (RFC 7208 §9.1) without
// the client and the sender: whoever may know them reads them elsewhere. Every value in it is a
// word of ours or a domain that has been looked at.
func (v *Verifier) results(from string, sender spfResult, signatures []signature, policy dmarcResult) []byte {
	var b bytes.Buffer
	identity := "mailfrom"
	if sender.helo {
		identity = "helo"
	}
	fmt.Fprintf(&b, "Authentication-Results: %s;\r\n\tspf=%s", v.Hostname, sender.result)
	if sender.domain != "" {
		fmt.Fprintf(&b, " smtp.%s=%s", identity, sender.domain)
	}
	if len(signatures) == 0 {
		b.WriteString(";\r\n\tdkim=none")
	}
	for _, s := range signatures {
		fmt.Fprintf(&b, ";\r\n\tdkim=%s", s.result)
		if s.domain != "" {
			fmt.Fprintf(&b, " header.d=%s", s.domain)
		}
	}
	fmt.Fprintf(&b, ";\r\n\tdmarc=%s", policy.result)
	if policy.result == dmarcFail {
		fmt.Fprintf(&b, " policy.dmarc=%s", policy.wants)
	}
	if from != "" {
		fmt.Fprintf(&b, " header.from=%s", from)
	}
	fmt.Fprintf(&b, "\r\nReceived-SPF: %s receiver=%s; identity=%s\r\n", sender.result, v.Hostname, identity)
	return b.Bytes()
}

// withoutForged is the header without Authentication-Results fields that bear our name
// (RFC 8601 §5); nil if there are none.
func (v *Verifier) withoutForged(header []byte) []byte {
	var kept []byte
	forged := false
	for f := range relay.Fields(header) {
		if f.Is("authentication-results") && v.bearsOurName(f.Unfolded()) {
			forged = true
			continue
		}
		kept = append(kept, f.Raw...)
	}
	if !forged {
		return nil
	}
	return append([]byte{}, kept...)
}

func (v *Verifier) bearsOurName(value []byte) bool {
	id, _, _ := strings.Cut(stripComments(string(value)), ";")
	words := strings.Fields(strings.ReplaceAll(id, `"`, ""))
	return len(words) == 0 || strings.EqualFold(strings.TrimSuffix(words[0], "."), v.Hostname)
}
