package main

import (
	"context"
	"fmt"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay/tlsrpt"
)

// openReports opens the counts that domains get as TLS reports, unless that is switched off.
func (d *daemon) openReports(context.Context) error {
	if !d.config.Delivery.TLSReports {
		return nil
	}
	failed := func(err error) { d.ops.Log(logging.OpTaskFailed, logging.Err(err)) }
	reports, err := tlsrpt.New(tlsrpt.Config{
		Hostname: d.config.Hostname, Contact: d.config.Postmaster,
		World: reportWorld{d, &d.routes, true}, Keeper: d.config.sealed("tlsreports"), Failed: failed,
	})
	if err != nil {
		failed(err) // what can't be read is not reported
	}
	d.reports = reports
	return nil
}

// reportWorld is the relay as its own reports use it.
type reportWorld struct {
	d *daemon
	*routes
	signed bool // nothing goes out without a signature
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
