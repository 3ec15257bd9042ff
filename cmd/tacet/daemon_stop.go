package main

import (
	"context"
	"errors"
	"time"

	"tacet/logging"
)

// stop ends the relay in order: no new connections, idle clients are told
// 421, what is under way is finished until ctx ends, and then cut off. What is
// queued stays queued.
func (d *daemon) stop(ctx context.Context) error {
	d.ops.Log(logging.OpShutdownBegun)
	err := d.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		d.ops.Log(logging.OpShutdownForced)
		err = nil // nothing is lost by it: the client keeps what was not answered
	}
	d.endRun()
	finished := make(chan struct{})
	go func() {
		d.running.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-ctx.Done():
		d.client.Close() // ends what still waits for a next hop
		d.finish(finished)
	}
	err = errors.Join(err, d.unwind())
	d.tasks.Wait()
	d.ops.Log(logging.OpShutdownDone)
	return err
}

// logPatience is how long a stopping relay lets a log fail that deliveries wait for.
const logPatience = 2 * time.Second

// finish waits for the last deliveries. Those that wait for room in a log that cannot be written
// go on without it after a while, so that what was delivered is at least settled: the end
// of the log then tells how many records are lost.
func (d *daemon) finish(finished <-chan struct{}) {
	for {
		select {
		case <-finished:
			return
		case <-time.After(logPatience):
			if err := d.journal.Err(); err != nil && !errors.Is(err, logging.ErrBacklog) && !errors.Is(err, logging.ErrClosed) {
				_ = d.journal.Close()
			}
		}
	}
}

// stopNow ends the relay without waiting for anyone.
func (d *daemon) stopNow() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return d.stop(ctx)
}
