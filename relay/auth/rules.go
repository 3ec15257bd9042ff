package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tacet/relay"
)

// Rules are what a line of the users file says behind the password: words such as
//
//	senders=anna@example.org,@example.net messages_per_day=500
type Rules struct {
	Senders *Senders            // nil: nothing is said
	Limits  map[relay.Limit]int // those that are said; 0: no limit
}

// sendersWord is the word before the list of senders.
const sendersWord = "senders"

var errRulesWord = errors.New("want words such as senders=anna@example.org,@example.net or messages_per_day=500 behind the hash")

// ParseRules reads the rules. Their words are separated by blanks.
func ParseRules(text string) (Rules, error) {
	var r Rules
	for _, word := range splitWords(text) {
		name, value, found := strings.Cut(word, "=")
		if !found {
			return Rules{}, errRulesWord
		}
		if name == sendersWord {
			if r.Senders != nil {
				return Rules{}, errors.New("senders is said twice")
			}
			var err error
			if r.Senders, err = ParseSenders(value); err != nil {
				return Rules{}, err
			}
			continue
		}
		if err := r.parseLimit(name, value); err != nil {
			return Rules{}, err
		}
	}
	return r, nil
}

func (r *Rules) parseLimit(name, value string) error {
	i := slices.IndexFunc(relay.AllLimits(), func(l relay.Limit) bool { return l.String() == name })
	if i < 0 {
		return errRulesWord
	}
	limit := relay.AllLimits()[i]
	if _, twice := r.Limits[limit]; twice {
		return fmt.Errorf("%s is said twice", limit)
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n > relay.MaxLimit {
		return fmt.Errorf("%s: want a whole number from 0 (no limit) to %d", limit, relay.MaxLimit)
	}
	if r.Limits == nil {
		r.Limits = make(map[relay.Limit]int)
	}
	r.Limits[limit] = int(n)
	return nil
}

// splitWords cuts at the blanks outside of quotes.
func splitWords(text string) (words []string) {
	start := 0
	cut := func(end int) {
		if end > start {
			words = append(words, text[start:end])
		}
		start = end + 1
	}
	for i := range outsideQuotes(text) {
		if text[i] == ' ' || text[i] == '\t' {
			cut(i)
		}
	}
	cut(len(text))
	return words
}

// String gives the rules in the form that ParseRules reads; empty if nothing is said.
func (r Rules) String() string {
	var words []string
	if r.Senders != nil {
		words = append(words, sendersWord+"="+r.Senders.String())
	}
	for _, limit := range slices.Sorted(maps.Keys(r.Limits)) {
		words = append(words, limit.String()+"="+strconv.Itoa(r.Limits[limit]))
	}
	return strings.Join(words, " ")
}

// Quota is what the rules make of the quota that all users have.
func (r Rules) Quota(all relay.Quota) relay.Quota {
	for limit, n := range r.Limits {
		all[limit] = n
	}
	return all
}

// Unlisted is what users may send as whose line has no senders.
type Unlisted uint8

// What they may.
const (
	UnlistedOwn  Unlisted = iota // the address that is their name; if the name is none, name@ each of the relay's own domains
	UnlistedAny                  // any address
	UnlistedNone                 // none
)

// Defaults are what holds for users whose line does not say otherwise.
type Defaults struct {
	Unlisted Unlisted
	Domains  []string // the relay's own, as [relay.CanonicalDomain] has them
	Quota    relay.Quota
}

// Senders is what a user of that name may send as whose line has no senders. It is no address,
// if the name is neither one nor the local part of one.
func (d Defaults) Senders(name string) *Senders {
	switch d.Unlisted {
	case UnlistedAny:
		return &Senders{texts: []string{"*"}, any: true}
	case UnlistedNone:
		return &Senders{}
	}
	addresses := []string{name}
	if !strings.Contains(name, "@") {
		addresses = nil
		for _, domain := range d.Domains {
			addresses = append(addresses, name+"@"+domain)
		}
	}
	own := &Senders{keys: make(map[string]struct{})}
	for _, address := range addresses {
		if local, domain, ok := relay.CanonicalMailbox(address); ok {
			own.texts = append(own.texts, address)
			own.keys[local+"@"+domain] = struct{}{}
		}
	}
	return own
}

// maySend tells whether the address is among Senders of the user.
func (d *Defaults) maySend(user, address string) bool {
	switch d.Unlisted {
	case UnlistedAny:
		return true
	case UnlistedNone:
		return false
	}
	local, domain, ok := relay.CanonicalMailbox(address)
	if !ok {
		return false
	}
	if !strings.Contains(user, "@") {
		if !slices.Contains(d.Domains, domain) {
			return false
		}
		user += "@" + domain
	}
	ownLocal, ownDomain, ok := relay.CanonicalMailbox(user)
	return ok && local == ownLocal && domain == ownDomain
}
