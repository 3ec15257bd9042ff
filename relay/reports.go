package relay

import (
	"context"
	"io"
	"time"

	"tacet/queue"
)

// reports makes the reports that are owed for a settlement: of failure, of
// delay, of relaying to a host that will not report itself. It marks the
// recipients that are warned of delay in outcomes.
func (r *Relay) reports(c *queue.Claim, outcomes []queue.Outcome, res Result, now time.Time) []*queue.Report {
	e := c.Envelope
	if e.Sender.IsNull() {
		return nil // RFC 3464 §2, RFC 5321 §4.5.5
	}
	cfg := r.config.Load()
	schedule := cfg.schedule(c.Destination)
	late := schedule.WarnDue(e.Arrived, now)
	var byKind [3][]Reported
	for i := range outcomes {
		o := &outcomes[i]
		kind := -1
		switch {
		case o.State == queue.Failed:
			kind = 0
		case o.State == queue.Waiting && late && !o.Warned:
			o.Warned = true
			kind = 1
		case o.State == queue.Delivered && !res.Reports:
			kind = 2
		}
		if kind >= 0 && e.Recipients[o.Recipient].Notify.Wants(reportKinds[kind]) {
			byKind[kind] = append(byKind[kind], Reported{Recipient: o.Recipient, Reply: o.Reply, Host: res.Host})
		}
	}
	var out []*queue.Report
	for i, recipients := range byKind {
		if len(recipients) == 0 {
			continue
		}
		in := ReportInput{
			ID: queue.NewID(now), Hostname: cfg.Hostname, Postmaster: string(cfg.Postmaster), Language: cfg.ReportLanguage,
			Original: e, Recipients: recipients, RetryUntil: e.Arrived.Add(schedule.Lifetime),
		}
		in.Header, in.Content = original(c, reportKinds[i] == queue.NotifyFailure && e.Return == queue.ReturnFull)
		if report := Report(reportKinds[i], now, in); report != nil {
			out = append(out, report)
		}
	}
	return out
}

// reportKinds is the order in which reports are made: the first rides on the settlement.
var reportKinds = [3]queue.Notify{queue.NotifyFailure, queue.NotifyDelay, queue.NotifySuccess}

// original reads what a report brings back of the message: its header block,
// and all of it if whole is asked for and it is small. What cannot be read is left out.
func original(c *queue.Claim, whole bool) (header, content []byte) {
	limit := reportHeader + 1
	if whole {
		limit = max(limit, reportFull+1)
	}
	got := c.Content.Head
	if got == nil {
		in, err := c.Content.Reader()
		if err != nil {
			return nil, nil
		}
		defer in.Close()
		got, _ = io.ReadAll(io.LimitReader(in, int64(limit)))
	}
	info := ScanHeader(got[:min(len(got), limit)])
	if whole && c.Content.Size <= reportFull {
		content = got
	}
	return got[:info.End], content
}

// putReport queues a report that does not ride on a settlement.
func (r *Relay) putReport(ctx context.Context, report *queue.Report) {
	if r.store.Put(context.WithoutCancel(ctx), report.Envelope, report.Content, nil) == nil {
		r.reported(report.Envelope)
	}
}

// reported records a report that was queued, and sends it on its way.
func (r *Relay) reported(e *queue.Envelope) {
	r.Stats.Reports.Add(1)
	r.logAccepted(e)
	r.wakeAll(e)
}
