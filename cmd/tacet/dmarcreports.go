package main

import (
	"context"

	"tacet/logging"
	"tacet/relay/content"
	"tacet/relay/dmarcrpt"
)

// openDMARCReports opens the counts that domains get as DMARC reports, if the config says so.
func (d *daemon) openDMARCReports(context.Context) error {
	if !d.config.Verify.DMARCReports {
		return nil
	}
	failed := func(err error) { d.ops.Log(logging.OpTaskFailed, logging.Err(err)) }
	reports, err := dmarcrpt.New(dmarcrpt.Config{
		Hostname: d.config.Hostname, Contact: string(d.config.Postmaster),
		World: reportWorld{d, &d.routes, false}, Keeper: d.config.sealed("dmarcreports"), Failed: failed,
	})
	if err != nil {
		failed(err) // what can't be read is not reported
	}
	d.dmarc = reports
	return nil
}

// Organizational implements dmarcrpt.World.
func (w reportWorld) Organizational(ctx context.Context, domain string) (string, error) {
	return (&content.Verifier{DNS: domainNames{w.dns.Load().Stub}}).Organizational(ctx, domain)
}
