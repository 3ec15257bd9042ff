package relay

import (
	"context"
	"io"
	"slices"
	"time"

	"tacet/queue"
)

// reports notes what is owed to the sender for a settlement: reports of failure, of
// delay, of relaying to a host that will not report itself. It marks the
// recipients that are warned of delay in outcomes. Where one report says it all and
// nothing can follow soon, that is returned. Otherwise outcomes say what is owed,
// and the reports of the message are made together: see gather.go.
func (r *Relay) reports(ctx context.Context, c *queue.Claim, outcomes []queue.Outcome, res Result, now time.Time) *queue.Report {
	e := c.Envelope
	if e.Sender.IsNull() {
		return nil // RFC 3464 §2, RFC 5321 §4.5.5
	}
	schedule := r.config.Load().schedule(c.Destination)
	late := schedule.WarnDue(e.Arrived, now)
	by := now.Add(gathering(now.Sub(e.Arrived)))
	var owed []Reported
	var kinds queue.Notify
	for i := range outcomes {
		o := &outcomes[i]
		var kind queue.Notify
		switch {
		case o.State == queue.Failed:
			kind = queue.NotifyFailure
		case o.State == queue.Waiting && late && !o.Warned:
			o.Warned = true
			kind = queue.NotifyDelay
		case o.State == queue.Delivered && !res.Reports:
			kind = queue.NotifySuccess
		default:
			continue
		}
		if e.Recipients[o.Recipient].Notify.Wants(kind) {
			o.Owed = &queue.Owed{Kind: kind, By: by, At: now, Host: res.Host}
			kinds |= kind
			owed = append(owed, Reported{Recipient: o.Recipient, Reply: o.Reply, Host: res.Host, At: now})
		}
	}
	alone := func(rc *queue.Recipient) bool { return rc.Owed == nil && untriedUntil(rc, by) }
	if len(owed) == 0 {
		return nil
	}
	if !others(c, alone) {
		r.owing.Store(e.ID, struct{}{}) // before the store knows: whoever settles the last sees it
		return nil
	}
	for _, kind := range reportKinds {
		if kinds != kind {
			continue
		}
		report, of := r.report(ctx, c, kind, owed, now)
		if len(of) < len(owed) {
			break
		}
		for i := range outcomes {
			outcomes[i].Owed = nil
		}
		return report
	}
	r.owing.Store(e.ID, struct{}{})
	return nil
}

// gathers tells whether reports on the message of a claim are gathered: some were owed when it was
// claimed, or have come to be since.
func (r *Relay) gathers(c *queue.Claim) bool {
	if len(c.Envelope.Recipients) == 1 {
		return false // what is owed for it rides on its settlement
	}
	if !others(c, func(rc *queue.Recipient) bool { return rc.Owed == nil }) {
		return true
	}
	_, since := r.owing.Load(c.Envelope.ID)
	return since
}

// gathered forgets that reports on the message of a claim were gathered, where its outcomes end the
// message with no report owed: the last recipients were delivered to before the others' warning was made.
func (r *Relay) gathered(c *queue.Claim, outcomes []queue.Outcome) {
	owes := func(o queue.Outcome) bool { return !o.State.Settled() || o.Owed != nil }
	if !slices.ContainsFunc(outcomes, owes) && others(c, (*queue.Recipient).Over) {
		r.owing.Delete(c.Envelope.ID)
	}
}

// reportKinds is the order in which reports are made.
var reportKinds = [...]queue.Notify{queue.NotifyFailure, queue.NotifyDelay, queue.NotifySuccess}

// untriedUntil tells whether the recipient is not to be tried until then.
func untriedUntil(rc *queue.Recipient, by time.Time) bool {
	return rc.State != queue.Waiting || rc.Next.After(by)
}

// others tells whether f holds for all recipients of a message that are not in the claim.
func others(c *queue.Claim, f func(*queue.Recipient) bool) bool {
	for i := range c.Envelope.Recipients {
		if !f(&c.Envelope.Recipients[i]) && !slices.Contains(c.Recipients, i) {
			return false
		}
	}
	return true
}

// report makes one report of a kind for as many of the recipients as it may
// name, and returns which these are.
func (r *Relay) report(ctx context.Context, c *queue.Claim, kind queue.Notify, recipients []Reported, now time.Time) (*queue.Report, []Reported) {
	e, cfg := c.Envelope, r.config.Load()
	in := ReportInput{ID: queue.NewID(now), Hostname: cfg.Hostname, Postmaster: string(cfg.Postmaster), Language: cfg.ReportLanguage, Original: e}
	in.Header, in.Content = original(c, kind == queue.NotifyFailure && e.Return == queue.ReturnFull)
	in.Recipients = together(e, in.Header, recipients)
	schedule := cfg.schedule(r.router.Destination(e.Recipients[in.Recipients[0].Recipient].Path))
	in.RetryUntil = e.Arrived.Add(schedule.Lifetime)
	for {
		report := Report(kind, now, in)
		n := len(in.Recipients)
		if report == nil {
			return nil, in.Recipients
		}
		if n == 1 || len(report.Content) <= queue.InMemory-maxSignatures {
			r.signReport(ctx, report)
			return report, in.Recipients
		}
		// Hundreds of long answers: the others get a report of their own.
		in.Recipients = in.Recipients[:n*3/4]
	}
}

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

// reported records a report that was queued, and sends it on its way.
func (r *Relay) reported(e *queue.Envelope) {
	r.Stats.Reports.Add(1)
	r.logAccepted(e)
	r.wakeAll(e)
}

// settleReports makes the report of one kind that a message owes, for as many
// recipients as may be in one, and settles them. What is left is due again at once.
func (r *Relay) settleReports(ctx context.Context, c *queue.Claim, now time.Time) {
	e := c.Envelope
	r.owing.Delete(e.ID)
	for _, kind := range reportKinds {
		var recipients []Reported
		for _, i := range c.Recipients {
			if rcpt := &e.Recipients[i]; rcpt.Owed.Kind == kind {
				recipients = append(recipients, Reported{Recipient: i, Reply: rcpt.Last, Host: rcpt.Owed.Host, At: rcpt.Owed.At})
			}
		}
		if len(recipients) == 0 {
			continue
		}
		var s queue.Settlement
		s.Report, recipients = r.report(ctx, c, kind, recipients, now)
		for _, rep := range recipients {
			s.Outcomes = append(s.Outcomes, queue.Outcome{Recipient: rep.Recipient})
		}
		if r.record(ctx, c, s) && s.Report != nil {
			r.reported(s.Report.Envelope)
		}
		return
	}
	r.store.Release(c)
}
