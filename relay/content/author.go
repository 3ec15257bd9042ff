package content

import (
	"context"
	"sync/atomic"

	"tacet/queue"
	"tacet/relay"
)

// Owners tells what addresses a user may send as. relay/auth fills it.
type Owners interface {
	// MaySend tells whether the user may send as the address, as it stands in a field.
	MaySend(user, address string) bool
}

// Author refuses mail of a logged-in user whose From or Sender field names an
// address that the user may not send as, and mail of which that cannot be said for sure:
// two readers of it could see two authors. Mail of clients that need no login passes.
//
// Resent-From and Resent-Sender are not looked at: they are informational (RFC 5322 §3.6.6), and what
// people are shown as the author is From. So they excuse no foreign From, and a user's own mail
// that another has resent may be sent on. To send on what others wrote, it is attached (message/rfc822).
type Author struct {
	Owners  Owners
	Refused *atomic.Int64 // messages; nil: they are not counted
}

// Check implements [relay.Check]. It refuses by policy, so no header field is logged.
func (a *Author) Check(_ context.Context, m *relay.Message) (relay.Verdict, error) {
	user := m.Envelope.Origin.User
	if user == "" {
		return relay.Verdict{}, nil
	}
	authors, clear := authorsOf(m.Header)
	if !clear {
		a.count()
		return relay.Verdict{Rejection: &relay.Rejection{Code: 554, Enhanced: queue.Enhanced{5, 6, 0},
			Class: relay.ClassPolicy, Ground: relay.GroundHeader,
			Text: "The sender is unclear: one From field with plain addresses is needed, and at most one Sender field (RFC 5322 section 3.6.2)"}}, nil
	}
	for _, address := range authors {
		if !a.Owners.MaySend(user, address) {
			a.count()
			return relay.Verdict{Rejection: &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, // RFC 6409 §6.1
				Class: relay.ClassPolicy, Ground: relay.GroundSender,
				Text: "The From field has an address that is not yours to send as; your administrator can add it: `tacet user modify NAME --senders`"}}, nil
		}
	}
	return relay.Verdict{}, nil
}

func (a *Author) count() {
	if a.Refused != nil {
		a.Refused.Add(1)
	}
}

// authorsOf are the addresses in From and Sender (RFC 5322 §3.6.2). clear is false where a
// reader may see others: more than one such field, none, an address that is not plainly
// one, or a line in the header that is no field, behind which some see the body.
func authorsOf(header []byte) (authors []string, clear bool) {
	from, sender := 0, 0
	for f := range relay.Fields(header) {
		switch {
		case len(f.Name) == 0:
			return nil, false
		case f.Is("from"):
			from++
		case f.Is("sender"):
			sender++
		default:
			continue
		}
		found, ok := addresses(f.Value)
		if !ok || len(found) == 0 || f.Is("sender") && len(found) != 1 {
			return nil, false
		}
		authors = append(authors, found...)
	}
	return authors, from == 1 && sender <= 1
}
