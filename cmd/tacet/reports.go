package main

import (
	"context"
	"fmt"

	"tacet/queue"
	"tacet/relay/aggregate/dmarcrpt"
	"tacet/relay/aggregate/tlsrpt"
	"tacet/relay/content"
)

// openReports opens the counts that domains get as reports on TLS, unless that is switched
// off, and on DMARC, if the config says so. What can't be read of them is not reported.
func (d *daemon) openReports(context.Context) (err error) {
	if d.config.Delivery.TLSReports {
		d.reports, err = tlsrpt.New(tlsrpt.Config{
			Hostname: d.config.Hostname, Contact: d.config.Postmaster,
			World: reportWorld{d, &d.routes, true}, Keeper: d.config.sealed("tlsreports"), Failed: d.taskFailed,
		})
		d.taskFailed(err)
	}
	if d.config.Verify.DMARCReports {
		d.dmarc, err = dmarcrpt.New(dmarcrpt.Config{
			Hostname: d.config.Hostname, Contact: d.config.Postmaster,
			World: reportWorld{d, &d.routes, false}, Keeper: d.config.sealed("dmarcreports"), Failed: d.taskFailed,
		})
		d.taskFailed(err)
	}
	return nil
}

// reportWorld is the relay as its own reports use it.
type reportWorld struct {
	d *daemon
	*routes
	signed bool // nothing goes out without a signature
}

// Organizational implements dmarcrpt.World.
func (w reportWorld) Organizational(ctx context.Context, domain string) (string, error) {
	return (&content.Verifier{DNS: domainNames{w.dns.Load().Stub}}).Organizational(ctx, domain)
}

// Submit implements tlsrpt.World and dmarcrpt.World. No one is told what becomes of the report.
func (w reportWorld) Submit(ctx context.Context, to string, content []byte) error {
	e := &queue.Envelope{
		Sender: queue.ReversePath(w.d.config.Postmaster), Origin: queue.Origin{Local: true},
		Recipients: []queue.Recipient{{Path: queue.ForwardPath(to), Notify: queue.NotifyNever}},
	}
	if err := w.d.relay.Originate(ctx, e, content, w.signed); err != nil {
		return fmt.Errorf("queueing a report: %w", err)
	}
	return nil
}
