package main

import (
	"time"

	"tacet/queue"
	"tacet/relay"
)

// message is a queued message as the operator sees it, in JSON and on the
// control socket: the envelope and how its delivery stands, never content.
type message struct {
	ID         string             `json:"id"`
	Arrived    time.Time          `json:"arrived"`
	Size       int64              `json:"size"`
	Sender     string             `json:"sender"` // "<>" for the null reverse-path
	User       string             `json:"user,omitempty"`
	Damaged    bool               `json:"damaged,omitempty"` // set aside: no more is known than that it is there
	Recipients []messageRecipient `json:"recipients"`
}

type messageRecipient struct {
	Recipient   string    `json:"recipient"`
	State       string    `json:"state"`
	Attempts    int       `json:"attempts"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	Reason      string    `json:"reason,omitempty"` // the log's word
	Meaning     string    `json:"meaning,omitempty"`
	Code        int       `json:"code,omitempty"`
	Enhanced    string    `json:"enhanced,omitempty"`
	Reply       string    `json:"reply,omitempty"` // what the next hop said
}

func describe(e *queue.Envelope) message {
	m := message{
		ID: e.ID.String(), Arrived: e.Arrived.UTC(), Size: e.Size,
		Sender: string(e.Sender), User: e.Origin.User,
		Recipients: make([]messageRecipient, len(e.Recipients)),
	}
	switch {
	case len(e.Recipients) == 0:
		m.Damaged = true
	case e.Sender.IsNull():
		m.Sender = "<>"
	}
	for i, r := range e.Recipients {
		to := messageRecipient{Recipient: string(r.Path), State: r.State.String(), Attempts: r.Attempts}
		if r.State == queue.Waiting && !r.Next.IsZero() {
			to.NextAttempt = r.Next.UTC()
		}
		if r.Attempts > 0 && !r.Last.Delivered() {
			reason := relay.Reason(r.Last)
			to.Reason, to.Meaning = reason.String(), reason.Meaning("en")
		}
		to.Code, to.Reply = r.Last.Code, r.Last.Text
		if !r.Last.Enhanced.IsZero() {
			to.Enhanced = enhanced(r.Last.Enhanced)
		}
		m.Recipients[i] = to
	}
	return m
}

// left are the recipients that are not settled.
func (m message) left() []messageRecipient {
	var left []messageRecipient
	for _, r := range m.Recipients {
		if r.State == queue.Waiting.String() || r.State == queue.Held.String() {
			left = append(left, r)
		}
	}
	return left
}
