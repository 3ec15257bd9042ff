package relay

import (
	"bytes"
	"strings"
	"time"

	"tacet/queue"
)

// Reports about one message are gathered. A message for a thousand domains that all
// refuse it would else come back a thousand times, and whoever names another as
// its sender would have the relay do that to them.
//
// A report that can be the only one for a while is made at once. Otherwise what is owed is
// kept with the recipient, in the step that settles it, and is made when all others are settled or
// deferred, or else after a while that grows with the message's age. Whatever
// fails next does so after that while, so there are at most 26 such times in the first four hours, and one an hour
// from then on, however many recipients there are; and a report is late by no more than
// half a minute, or a quarter of the time that its message has taken already.
//
// Who reads a report? Its reverse-path's mailbox: the sender, who knows all
// recipients. Yet a report is passed on, to whom it is about or to who can help, and some
// mailboxes have several readers. So of a submitted message a report that names a recipient who
// stands in none of its address fields, one of a Bcc, names no other; unless there are so
// many of them at once that the message is a mailing, whose recipients none takes
// for a secret of the sender's. What comes from outside was sent by a server or
// a list that knows all it named here: its address fields say nothing about them.

const (
	shortestGathering = 30 * time.Second
	longestGathering  = time.Hour
	blindAlone        = 8 // recipients of a Bcc, reported at one time, each of whom gets a report alone
)

// gathering is how long a report waits for others about a message of that age.
func gathering(age time.Duration) time.Duration {
	return min(max(age/4, shortestGathering), longestGathering)
}

// together is which of the recipients the next report may name: at least one.
func together(e *queue.Envelope, header []byte, recipients []Reported) []Reported {
	if len(recipients) == 1 || !e.Origin.Submission {
		return recipients
	}
	public := addressed(header)
	var open, blind []Reported
	for _, rep := range recipients {
		if public[strings.ToLower(string(e.Recipients[rep.Recipient].Path))] {
			open = append(open, rep)
		} else {
			blind = append(blind, rep)
		}
	}
	switch {
	case len(open) > 0:
		return open
	case len(blind) > blindAlone:
		return blind
	}
	return blind[:1]
}

// addressed is what stands in the fields that say to all who else got the
// message, in lower case. An address that is written in an unusual way is not found:
// that makes one report more, and discloses nothing.
func addressed(header []byte) map[string]bool {
	found := make(map[string]bool)
	for pos := 0; pos < len(header); {
		end := lineEnd(header, pos)
		for end < len(header) && isWSP(header[end]) {
			end = lineEnd(header, end)
		}
		field := header[pos:end]
		pos = end
		_, colon, ok := fieldName(field)
		if !ok || !namesAll(string(bytes.ToLower(bytes.TrimRight(field[:colon], " \t")))) {
			continue
		}
		for word := range bytes.FieldsFuncSeq(field[colon+1:], betweenAddresses) {
			if bytes.IndexByte(word, '@') > 0 {
				found[strings.ToLower(string(word))] = true
			}
		}
	}
	return found
}

// namesAll tells whether a field names recipients to all of them.
func namesAll(field string) bool {
	switch field {
	case "to", "cc", "resent-to", "resent-cc":
		return true
	}
	return false
}

func betweenAddresses(c rune) bool {
	return c <= ' ' || strings.ContainsRune(`<>,;:()"`, c)
}
