package tlsrpt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"

	"tacet/relay"
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
	Keeper   Keeper
	Failed   func(error)       // is told that the Keeper failed; nil: no one
	HTTP     http.RoundTripper // nil: one that dials by World
}

// The pace of reports.
const (
	saveEvery  = 10 * time.Minute
	spread     = 4 * time.Hour  // over which reports go out after a day's end (RFC 8460 §4.1)
	retryEvery = time.Hour      // where a report could not be handed over
	keepFor    = 48 * time.Hour // since a day's begin: then its reports are given up (RFC 8460 §4.1: a day of tries)
	sendWithin = time.Minute    // for one web server, or one look-up
)

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
	c := &Collector{config: config, days: make(map[string]map[string]domainCounts)}
	return c, c.load()
}

// Run saves the counts and sends the reports of past days, until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	send := time.NewTimer(rand.N(spread)) // of days that ended before
	defer send.Stop()
	for {
		select {
		case <-ctx.Done():
			c.tell(c.save())
			return
		case <-save.C:
			c.tell(c.save())
		case <-send.C:
			if c.report(ctx) {
				send.Reset(retryEvery)
			} else {
				send.Reset(time.Until(midnight(time.Now()).Add(24*time.Hour)) + rand.N(spread))
			}
		}
	}
}

func (c *Collector) tell(err error) {
	if err != nil && c.config.Failed != nil {
		c.config.Failed(err)
	}
}

// midnight is when the UTC day of t began.
func midnight(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }

// report sends what is owed for days that are over. A domain's counts are
// dropped when its report was handed over, or no one wants it. It tells whether something is left to do.
func (c *Collector) report(ctx context.Context) (left bool) {
	now := time.Now()
	c.mu.Lock()
	c.forget(now)
	past := make(map[string][]string)
	for day, domains := range c.days {
		if day < now.UTC().Format(time.DateOnly) {
			past[day] = slices.Sorted(maps.Keys(domains))
		}
	}
	c.mu.Unlock()
	for day, domains := range past {
		begin, _ := time.Parse(time.DateOnly, day) // forget left none that is no date
		for _, domain := range domains {
			if ctx.Err() != nil {
				return true
			}
			if err := c.reportTo(ctx, begin, domain); err != nil {
				left = true
				continue
			}
			c.settle(day, domain)
		}
	}
	c.mu.Lock()
	c.recount()
	c.mu.Unlock()
	c.tell(c.save())
	return left
}

// settle drops what was reported.
func (c *Collector) settle(day, domain string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirty = true
	delete(c.days[day], domain)
	if len(c.days[day]) == 0 {
		delete(c.days, day)
	}
}

// reportTo sends the report of one domain to each of its addresses (RFC 8460 §3),
// and is done if one of them took it: that one must not get it twice. An error says that
// it should be tried again.
func (c *Collector) reportTo(ctx context.Context, begin time.Time, domain string) error {
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
	c.mu.Lock()
	r := c.config.newReport(begin, domain, c.days[begin.Format(time.DateOnly)][domain])
	c.mu.Unlock()
	packed, err := r.packed()
	if err != nil {
		return err
	}
	var faults []error
	for _, t := range targets {
		if t.mail != "" {
			err = c.config.World.Submit(ctx, t.mail, r.letter(t.mail, time.Now(), packed))
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
