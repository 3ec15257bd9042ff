package main

import (
	"slices"
	"sync/atomic"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/auth"
	"tacet/relay/inbound"
	"tacet/relay/quota"
)

// userDefaults is what holds for users whose line of the users file does not say otherwise.
func (c *Config) userDefaults() auth.Defaults {
	return auth.Defaults{Unlisted: c.Submission.Senders, Domains: c.ownDomains(), Quota: c.Submission.Quota}
}

// ownDomains are the domains in which a user whose name is no address has that name: the
// relay's own, those whose mail it takes, and those whose mail it signs.
func (c *Config) ownDomains() (own []string) {
	_, postmasters, _ := relay.CanonicalMailbox(c.Postmaster)
	domains := append([]string{c.Hostname, postmasters}, c.Relay.Domains...)
	for _, d := range c.DKIM {
		domains = append(domains, d.Domain)
	}
	for _, domain := range domains {
		if domain = relay.CanonicalDomain(domain); domain != "" && !slices.Contains(own, domain) {
			own = append(own, domain)
		}
	}
	return own
}

// usage is where it is kept how much users have sent.
func (c *Config) usage() freshFile { return freshFile{c.sealed("usage")} }

// openQuota begins to count what users send.
func (d *daemon) openQuota() error {
	meter, err := quota.New(quota.Config{
		Quota: d.users.Quota, Memory: d.config.Submission.Memory, Keeper: d.config.usage(), Failed: d.taskFailed,
	})
	d.taskFailed(err) // counted anew: no mail waits for it
	d.quota = meter
	d.made(meter.Close)
	return nil
}

// storedUsage is what was kept of how much users have sent, for whoever looks at it while
// no daemon runs. It must not be counted with.
func (c *Config) storedUsage() (*quota.Meter, error) {
	return quota.New(quota.Config{Memory: c.Submission.Memory, Keeper: c.usage()})
}

// submitters judges what users submit.
type submitters struct {
	logins  logins
	quota   *quota.Meter
	refused *atomic.Int64 // senders
}

// Sender implements inbound.Submitters. The null reverse-path is everyone's: of
// read receipts, for one (RFC 8098 §3).
func (s submitters) Sender(user string, from queue.ReversePath) (inbound.Allowance, error) {
	if !from.IsNull() && !s.logins.MaySend(user, string(from)) {
		s.refused.Add(1)
		return nil, &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1}, // RFC 6409 §6.1
			Class: relay.ClassAuth, Ground: relay.GroundSender,
			Text: "This sender address is not yours to send as; your administrator can add it: `tacet user modify NAME --senders`"}
	}
	t, err := s.quota.Begin(user)
	if t == nil {
		return nil, err
	}
	return t, err
}
