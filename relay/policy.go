package relay

import (
	"context"
	"strings"

	"tacet/queue"
)

// AdmitSender decides whether this client may send at all. mx tells the kind
// of the listener. It returns nil or a *Rejection.
func (r *Relay) AdmitSender(mx bool, o *queue.Origin, from queue.ReversePath) error {
	if mx || o.User != "" || r.trusted(o) {
		return nil
	}
	return &Rejection{Code: 530, Enhanced: queue.Enhanced{5, 7, 0}, Class: ClassAuth,
		Text: "Authentication required: log in over TLS first"}
}

// Admit decides whether mail for the recipient is taken. On a submission
// listener whoever was admitted as sender may send to anyone; on an mx
// listener only the relay domains are served, and the postmaster
// (RFC 5321 §4.5.1).
func (r *Relay) Admit(mx bool, o *queue.Origin, from queue.ReversePath, to queue.ForwardPath) error {
	if !mx {
		return r.AdmitSender(mx, o, from)
	}
	domain := to.Domain()
	if domain == "" {
		return nil // bare Postmaster: the wire lets no other mailbox without a domain through
	}
	if r.relayDomain(domain) && !foreignRoute(to) {
		if directory := r.config.Load().Directory; directory != nil {
			return directory.Check(context.Background(), to) // it bounds itself
		}
		return nil
	}
	return &Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, Class: ClassPolicy,
		Text: "Relaying denied: this server does not take mail for that domain"}
}

func (r *Relay) trusted(o *queue.Origin) bool {
	if !o.Submission || !o.Client.IsValid() {
		return false
	}
	client := o.Client.Unmap()
	for _, p := range r.config.Load().TrustedNetworks {
		if p.Contains(client) {
			return true
		}
	}
	return false
}

func (r *Relay) relayDomain(d queue.Domain) bool {
	relays := r.config.Load().Relays
	return relays != nil && relays(d)
}

// foreignRoute tells whether a mailbox of a relay domain asks, in its local
// part, to be sent on from there: "user%far.example", "far.example!user" or
// "user@far.example" in quotes. The primary may trust this relay and do so, and
// then both are an open relay together.
func foreignRoute(to queue.ForwardPath) bool {
	local := string(to[:max(strings.LastIndexByte(string(to), '@'), 0)])
	return strings.ContainsAny(local, "%!@")
}

// Ready tells whether a message can be taken now: nil or a *Rejection that
// asks the client to come back.
func (r *Relay) Ready() error {
	if err := r.store.Ready(); err != nil {
		return storeRejection(err)
	}
	if err := r.journal.Err(); err != nil {
		return &Rejection{Code: 451, Enhanced: queue.Enhanced{4, 3, 0}, Class: ClassResource,
			Text: "The relay cannot keep its records now; try again later", Err: err}
	}
	return nil
}
