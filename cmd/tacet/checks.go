package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"tacet/logging"
	"tacet/relay"
	"tacet/relay/content"
	"tacet/relay/reputation"
)

// checks are the content checks that the config asks for, in the order in which a
// message meets them; ledger counts what is asked outside, observer hears of DMARC, nil: no one does. Signing comes last: what was changed before it is signed.
// signer is that of the relay's own mail; nil: there are no keys.
func (c *Config) checks(rules *content.Rules, author *content.Author, ledger *reputation.Ledger, observer relay.DMARCObserver) (all []relay.Inspection, signer relay.Check, _ error) {
	if c.Submission.HeaderFrom == FromOwn {
		all = append(all, relay.Inspection{Check: author, Scope: relay.SubmissionOnly})
	}
	if c.Verify.Scope != VerifyNone {
		scope := relay.IncomingOnly
		if c.Verify.Scope == VerifyAll {
			scope = relay.Everywhere
		}
		all = append(all, relay.Inspection{Scope: scope, Check: &content.Verifier{
			Hostname: c.Hostname, DNS: domainNames{c.stub()},
			RejectSPF: c.Verify.SPF == EnforceReject, RejectDMARC: c.Verify.DMARC == EnforceReject, Observer: observer,
		}})
	}
	if len(c.Rules) > 0 {
		all = append(all, relay.Inspection{Check: rules})
	}
	all = append(all, c.fingerprints(ledger)...)
	if c.Clamd.Address != "" {
		network, address, err := splitScanner(c.Clamd.Address)
		if err != nil {
			return nil, nil, fmt.Errorf("clamd.address: %w", err)
		}
		all = append(all, c.Clamd.inspection(&content.Clamd{Network: network, Address: address}))
	}
	for _, m := range c.Milters {
		network, address, err := splitScanner(m.Address)
		if err != nil {
			return nil, nil, fmt.Errorf("milter.address: %w", err)
		}
		all = append(all, m.inspection(&content.Milter{Network: network, Address: address, Hostname: c.Hostname}))
	}
	keys, err := c.dkimKeys()
	if err != nil {
		return nil, nil, err
	}
	if len(keys) > 0 {
		signer = content.NewSigner(keys, author.Owners)
		all = append(all, relay.Inspection{Check: signer, Scope: relay.SubmissionOnly})
	}
	return all, signer, nil
}

// core is the config in the words of the core, with the content checks.
func (d *daemon) core(c *Config) (relay.Config, error) {
	config := c.core()
	rules, err := c.rules()
	if err != nil {
		return config, err
	}
	var observer relay.DMARCObserver
	if d.dmarc != nil {
		observer = d.dmarc
	}
	checks, signer, err := c.checks(rules, &content.Author{Owners: logins{d.users, &d.selftest}, Refused: &d.authors}, d.ledger, observer)
	if err != nil {
		return config, err
	}
	if len(checks) > 0 {
		if err := os.MkdirAll(c.spoolDir(), 0o700); err != nil {
			return config, fmt.Errorf("making the folder for content being checked: %w", err)
		}
	}
	d.rules.Store(rules)
	if d.quota != nil {
		config.Charger = d.quota
	}
	config.Checks, config.Signer, config.SpoolDir = checks, signer, c.spoolDir()
	config.CheckFailed = func(err error) { d.ops.Log(logging.OpCheckFailed, logging.Err(err)) }
	return config, nil
}

// inspection is a check as the config says that it is called.
func (c Called) inspection(check relay.Check) relay.Inspection {
	return relay.Inspection{Check: check, Scope: c.Scope, Timeout: c.Timeout, FailOpen: c.OnFailure == FailAccept}
}

// rules are the local rules.
func (c *Config) rules() (*content.Rules, error) {
	var rules []content.Rule
	for _, r := range c.Rules {
		rule := content.Rule{Name: r.Name, Scope: r.Scope, Field: strings.ToLower(r.Field), Larger: int64(r.Larger), Action: r.Action}
		for _, p := range []struct {
			text string
			to   **regexp.Regexp
		}{{r.Pattern, &rule.Pattern}, {r.Attachment, &rule.Attachment}} {
			if p.text == "" {
				continue
			}
			compiled, err := regexp.Compile(p.text)
			if err != nil {
				return nil, fmt.Errorf("the rule %s: %w", r.Name, err)
			}
			*p.to = compiled
		}
		for _, kind := range r.Kinds {
			rule.Kinds = append(rule.Kinds, content.Kind(slices.Index(content.Kinds(), kind)))
		}
		rules = append(rules, rule)
	}
	return content.NewRules(rules), nil
}
