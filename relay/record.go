package relay

import (
	"time"

	"tacet/logging"
	"tacet/queue"
)

// Refuse records that mail, a login or a TLS handshake of a client was refused.
func (r *Relay) Refuse(f Refusal) { r.refuse(f, "", nil) }

// refuse records a refusal. header is logged if, and only if, the message was
// refused for its content.
func (r *Relay) refuse(f Refusal, subject string, header []byte) {
	r.Stats.Rejected.Add(1)
	rec := logging.Record{
		In:     logTLS(f.Origin.TLS),
		Sender: string(f.Sender), HasSender: f.HasSender,
		Subject: subject,
		Stage:   stages[f.Stage],
	}
	r.whose(&rec, &f.Origin)
	switch f.Kind {
	case RefusedAuth:
		rec.Event = logging.AuthFailed
	case RefusedTLS:
		rec.Event = logging.TLSFailed
	default:
		rec.Event = logging.Rejected
	}
	if f.Rejection != nil {
		rec.Code, rec.Enhanced = f.Rejection.Code, f.Rejection.Enhanced
		rec.Reason = classReasons[f.Rejection.Class]
		switch f.Kind {
		case RefusedAuth:
			rec.Reason = logging.ReasonBadCredentials
		case RefusedTLS:
			// After a handshake that failed no reply can be sent.
			rec.Code, rec.Enhanced, rec.Reason = 0, queue.Enhanced{}, logging.ReasonTLSHandshake
		}
		if f.Rejection.Class == ClassPolicy && f.Stage == queue.StageRcpt {
			rec.Reason = logging.ReasonRelayDenied
		}
		if ground := groundReasons[f.Rejection.Ground]; ground != logging.ReasonNone {
			rec.Reason = ground
		}
		if f.Kind == RefusedMail && f.Rejection.Class == ClassContent {
			rec.Event, rec.Headers = logging.ContentRejected, headerFields(header)
		}
	}
	if len(f.Recipients) == 0 {
		r.write(&rec)
	}
	for _, to := range f.Recipients {
		rec.Recipient = string(to)
		r.write(&rec)
	}
}

// logAccepted records each recipient of a message that was taken.
func (r *Relay) logAccepted(e *queue.Envelope) {
	rec := r.envelopeRecord(e)
	rec.Event, rec.Time, rec.RemoteID = logging.Accepted, e.Arrived, e.Origin.ID
	for i := range e.Recipients {
		rec.Recipient = string(e.Recipients[i].Path)
		r.write(&rec)
	}
}

// logAttempt records what an attempt came to for one recipient.
func (r *Relay) logAttempt(e *queue.Envelope, o *queue.Outcome, res *Result, now time.Time) {
	rec := r.envelopeRecord(e)
	rcpt := &e.Recipients[o.Recipient]
	rec.Time = now
	rec.NextHost = res.Host
	rec.Out = logTLS(res.TLS)
	rec.Recipient = string(rcpt.Path)
	rec.Attempt = rcpt.Attempts + 1
	rec.Code, rec.Enhanced = o.Reply.Code, o.Reply.Enhanced
	rec.Stage = stages[o.Reply.Stage]
	rec.RemoteID = o.Reply.RemoteID
	switch {
	case o.State == queue.Delivered:
		rec.Event = logging.Delivered
	case o.State == queue.Waiting:
		rec.Event, rec.NextAttempt = logging.Deferred, o.Next
	case o.Reply.Cause == queue.CauseExpired:
		rec.Event = logging.Expired
	default:
		rec.Event = logging.Failed
	}
	if o.State != queue.Delivered {
		rec.Reason = reason(&o.Reply)
	}
	r.write(&rec)
}

// logAction records what an operator did to each unsettled recipient of a message.
func (r *Relay) logAction(e *queue.Envelope, event logging.Event) {
	rec := r.envelopeRecord(e)
	rec.Event, rec.Stage = event, logging.StageQueue
	for i := range e.Recipients {
		if rcpt := &e.Recipients[i]; !rcpt.State.Settled() {
			rec.Recipient = string(rcpt.Path)
			r.write(&rec)
		}
	}
}

// envelopeRecord is what each line about a message says, so that none needs another.
func (r *Relay) envelopeRecord(e *queue.Envelope) logging.Record {
	rec := logging.Record{
		In:     logTLS(e.Origin.TLS),
		Sender: string(e.Sender), HasSender: true,
		Subject: e.Subject,
		ID:      e.ID.String(),
	}
	r.whose(&rec, &e.Origin)
	return rec
}

func (r *Relay) write(rec *logging.Record) {
	if past := r.past.Load(); past != nil {
		rec.Repeated = past.Repeats(rec)
	}
	if err := r.journal.Write(rec); err != nil {
		r.Stats.Unlogged.Add(1)
	}
}

// reason is the closed word for why a recipient was not delivered to.
func reason(reply *queue.Reply) logging.Reason {
	if reply.Cause != queue.CauseNone {
		return causeReasons[reply.Cause]
	}
	return logging.Classify(stages[reply.Stage], reply.Code, reply.Enhanced, reply.Text)
}

// Reason is the log's word for why a recipient with this reply was not
// delivered to, for the operator's view of the queue.
func Reason(reply queue.Reply) logging.Reason {
	if reply.Cause == queue.CauseNone && reply.Code == 0 {
		return logging.ReasonNone
	}
	return reason(&reply)
}

// whose adds who submitted mail. Who a client outside was is recorded only if the
// config widens the log so far.
func (r *Relay) whose(rec *logging.Record, o *queue.Origin) {
	if o.Submission {
		rec.User, rec.Client = o.User, o.Client
	} else if r.config.Load().LogIncoming {
		rec.Client = o.Client
	}
}
