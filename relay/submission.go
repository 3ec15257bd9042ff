package relay

import "tacet/queue"

// Limit is one of the limits of a user.
type Limit uint8

// The limits. Windows slide: what was sent less than an hour, or a day, ago counts.
const (
	MessagesPerHour Limit = iota
	MessagesPerDay
	RecipientsPerHour
	RecipientsPerDay
	NewRecipientsPerDay // to whom the user has not written as long as recipients are remembered
	limitEnd
)

var limitNames = [limitEnd]string{
	MessagesPerHour:     "messages_per_hour",
	MessagesPerDay:      "messages_per_day",
	RecipientsPerHour:   "recipients_per_hour",
	RecipientsPerDay:    "recipients_per_day",
	NewRecipientsPerDay: "new_recipients_per_day",
}

// String gives the limit's name in the config and in the users file.
func (l Limit) String() string { return limitNames[l] }

// AllLimits gives all limits there are.
func AllLimits() []Limit {
	return []Limit{MessagesPerHour, MessagesPerDay, RecipientsPerHour, RecipientsPerDay, NewRecipientsPerDay}
}

// MaxLimit is the largest value of a limit.
const MaxLimit = 1_000_000

// Quota is how much a user may send, by limit. 0: as much as there is.
type Quota [limitEnd]int

// Unlimited tells whether nothing is limited.
func (q Quota) Unlimited() bool { return q == Quota{} }

// Charger counts what logged-in users send against their quota. relay/quota fills it.
type Charger interface {
	// Charge counts a message that is about to be stored. An error is a
	// [*Rejection]: the message does not fit, and nothing was counted. refund takes it back if
	// the message is not stored after all; nil: there is nothing to take back.
	Charge(e *queue.Envelope) (refund func(), err error)
}
