package main

import (
	"context"
	"time"

	"tacet/logging"
)

// every does something at an interval, until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

// taskFailed tells the operator that something beside the mail failed, if it did. Mail goes on
// without it.
func (d *daemon) taskFailed(err error) {
	if err != nil {
		d.ops.Log(logging.OpTaskFailed, logging.Err(err))
	}
}

// renewCertificate looks at the certificate's end, and renews a self-signed one.
func (d *daemon) renewCertificate(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taskFailed(d.loadCertificate(ctx))
}
