package tlsrpt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"tacet/relay"
	"tacet/relay/aggregate"
)

// World is what reports need of the world.
type World interface {
	// TXT returns the TXT records of name; a name that does not exist has none.
	TXT(ctx context.Context, name string) ([]string, error)
	// Dial connects to port 443 of the host.
	Dial(ctx context.Context, host string) (net.Conn, error)
	// Submit queues a message of the relay's own, with a DKIM signature: [relay.ErrUnsigned]
	// where there is no key for that.
	Submit(ctx context.Context, to string, content []byte) error
}

// Config is how a [Collector] works.
type Config struct {
	Hostname string // of this relay, by which it is known
	Contact  string // mailbox of a person, and the letters' sender
	World    World
	Keeper   aggregate.Keeper
	Failed   func(error)       // is told that the Keeper failed; nil: no one
	HTTP     http.RoundTripper // nil: one that dials by World
}

const sendWithin = time.Minute // for one web server, or one look-up

// New makes a collector with what its Keeper has. The error is the Keeper's,
// and the collector works all the same.
func New(config Config) (*Collector, error) {
	if config.HTTP == nil {
		config.HTTP = &http.Transport{
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				host, _, err := net.SplitHostPort(addr)
				if err != nil {
					return nil, fmt.Errorf("dialling a report's web server: %w", err)
				}
				return config.World.Dial(ctx, host)
			},
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 16 << 10,
		}
	}
	c := &Collector{config: config}
	var err error
	c.Days, err = aggregate.New(aggregate.Config[*policyCounts]{
		What: "TLS", Keeper: config.Keeper, Failed: config.Failed, Report: c.report,
		Cost: func(_ string, p *policyCounts) int { return p.cost() },
	})
	return c, err
}

// report sends the report of one domain to each of its addresses (RFC 8460 §3),
// and is done if one of them took it: that one must not get it twice.
func (c *Collector) report(ctx context.Context, begin time.Time, domain string) error {
	ctx, cancel := context.WithTimeout(ctx, (maxTargets+1)*sendWithin)
	defer cancel()
	records, err := c.config.World.TXT(ctx, "_smtp._tls."+domain)
	if err != nil {
		return fmt.Errorf("asking whether a domain wants TLS reports: %w", err)
	}
	targets := parseRecord(records)
	if len(targets) == 0 {
		return nil
	}
	var r *report
	c.View(begin, domain, func(counts map[string]*policyCounts) { r = c.config.newReport(begin, domain, counts) })
	packed, err := r.packed()
	if err != nil {
		return err
	}
	var faults []error
	for _, t := range targets {
		if t.mail != "" {
			err = c.config.World.Submit(ctx, t.mail, r.letter(t.mail, packed).Message(time.Now()))
		} else {
			err = c.post(ctx, t.web, packed)
		}
		faults = append(faults, err)
	}
	if slices.Contains(faults, nil) { // those that took it must not get it twice
		return nil
	}
	faults = slices.DeleteFunc(faults, func(err error) bool { return errors.Is(err, relay.ErrUnsigned) }) // they would have to ignore it (RFC 8460 §3)
	return errors.Join(faults...)
}

var errAnswer = errors.New("the web server does not take the report")

// post hands a report to a web server (RFC 8460 §5.4). No redirect is followed.
func (c *Collector) post(ctx context.Context, url string, packed []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(packed))
	if err != nil {
		return fmt.Errorf("posting a TLS report: %w", err)
	}
	req.Header["User-Agent"] = nil
	req.Header.Set("Content-Type", "application/tlsrpt+gzip")
	resp, err := c.config.HTTP.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("posting a TLS report: %w", err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // what it says is of no use; its reading may fail
	if resp.StatusCode/100 != 2 {
		return errAnswer
	}
	return nil
}
