package logging

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Filter chooses records. What is not set lets every record pass; all that is
// set must hold.
type Filter struct {
	Events  []Event  // any of them
	Reasons []Reason // any of them
	Since   time.Time
	Until   time.Time // exclusive
	ID      string    // queue ID, whole: the relay's or the next hop's

	// A pattern matches an address regardless of case: "@example.org" all of a
	// domain, "a@example.org" one mailbox, "<>" the null reverse-path, and a
	// pattern without "@" whatever it is a part of.
	Sender    string
	Recipient string
	Address   string // sender or recipient
	User      string // like a pattern without "@"

	NextHost netip.Prefix
	Client   netip.Prefix

	ids    map[string]bool // any of these queue IDs
	person *Person         // records that are about somebody
}

// Match tells whether the record passes.
func (f *Filter) Match(r *Record) bool {
	return (len(f.Events) == 0 || slices.Contains(f.Events, r.Event)) &&
		(len(f.Reasons) == 0 || slices.Contains(f.Reasons, r.Reason)) &&
		(f.Since.IsZero() || !r.Time.Before(f.Since)) &&
		(f.Until.IsZero() || r.Time.Before(f.Until)) &&
		(f.ID == "" || strings.EqualFold(f.ID, r.ID) || strings.EqualFold(f.ID, r.RemoteID)) &&
		(f.Sender == "" || matchSender(f.Sender, r)) &&
		(f.Recipient == "" || matchAddress(f.Recipient, r.Recipient)) &&
		(f.Address == "" || matchSender(f.Address, r) || matchAddress(f.Address, r.Recipient)) &&
		(f.User == "" || containsFold(r.User, f.User)) &&
		matchPrefix(f.NextHost, r.NextHost) &&
		matchPrefix(f.Client, r.Client) &&
		(f.ids == nil || f.ids[r.ID]) &&
		(f.person == nil || f.person.concerns(r))
}

func matchSender(pattern string, r *Record) bool {
	if pattern == "<>" {
		return r.HasSender && r.Sender == ""
	}
	return matchAddress(pattern, r.Sender)
}

func matchAddress(pattern, address string) bool {
	at := strings.IndexByte(pattern, '@')
	switch {
	case address == "":
		return false
	case at < 0:
		return containsFold(address, pattern)
	case at == 0:
		return len(address) >= len(pattern) && strings.EqualFold(address[len(address)-len(pattern):], pattern)
	}
	return strings.EqualFold(pattern, address)
}

func containsFold(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}

func matchPrefix(p netip.Prefix, ip netip.Addr) bool {
	return !p.IsValid() || ip.IsValid() && p.Contains(ip)
}
