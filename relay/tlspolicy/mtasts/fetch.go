package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"

	"tacet/relay"
)

// fetchWithin is for all of a fetch (RFC 8461 §3.3).
const fetchWithin = 60 * time.Second

// fetchFault is a fetch that failed.
type fetchFault struct {
	failure relay.TLSFailure
	err     error
}

func (f *fetchFault) Error() string { return fmt.Sprintf("fetching an MTA-STS policy: %v", f.err) }
func (f *fetchFault) Unwrap() error { return f.err }

var (
	errStatus  = errors.New("the web server does not answer with 200")
	errType    = errors.New("the answer is no plain text")
	errTooLong = errors.New("the answer is longer than 64 KiB")
)

// newHTTP makes a client that follows nothing, keeps nothing and says nothing of itself.
func newHTTP(dial func(ctx context.Context, host string) (net.Conn, error), roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				host, _, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, fmt.Errorf("dialling a policy's web server: %w", err)
				}
				return dial(ctx, host)
			},
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 16 << 10,
		},
		// RFC 8461 §3.3: no redirect is followed.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch gets the policy of domain (RFC 8461 §3.3). An error is a [*fetchFault].
func (c *Cache) fetch(ctx context.Context, domain string) (*Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchWithin)
	defer cancel()
	text, err := c.get(ctx, "https://mta-sts."+domain+"/.well-known/mta-sts.txt")
	if err != nil {
		failure := relay.FailedSTSFetch
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			failure = relay.FailedSTSPKI
		}
		return nil, &fetchFault{failure, err}
	}
	p, err := parsePolicy(text)
	if err != nil {
		return nil, &fetchFault{relay.FailedSTSPolicy, err}
	}
	return p, nil
}

func (c *Cache) get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("naming the policy: %w", err)
	}
	req.Header["User-Agent"] = nil
	resp, err := c.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking for the policy: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errStatus
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/plain" { // RFC 8461 §3.2
		return "", errType
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxPolicy+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the policy: %w", err)
	case len(text) > maxPolicy:
		return "", errTooLong
	}
	return string(text), nil
}
