package main

import (
	"fmt"
	"os"

	"tacet/logging"
	"tacet/relay"
	"tacet/relay/content"
)

// checks are the content checks that the config asks for, in the order in which a
// message meets them. Signing comes last: what was changed before it is signed.
func (c *Config) checks() ([]relay.Inspection, error) {
	var all []relay.Inspection
	keys, err := c.dkimKeys()
	if err != nil {
		return nil, err
	}
	if len(keys) > 0 {
		all = append(all, relay.Inspection{Check: content.NewSigner(keys), Scope: relay.SubmissionOnly})
	}
	return all, nil
}

// core is the config in the words of the core, with the content checks.
func (d *daemon) core(c *Config) (relay.Config, error) {
	config := c.core()
	checks, err := c.checks()
	if err != nil {
		return config, err
	}
	if len(checks) > 0 {
		if err := os.MkdirAll(c.spoolDir(), 0o700); err != nil {
			return config, fmt.Errorf("making the folder for content being checked: %w", err)
		}
	}
	config.Checks, config.SpoolDir = checks, c.spoolDir()
	config.CheckFailed = func(err error) { d.ops.Log(logging.OpCheckFailed, logging.Err(err)) }
	return config, nil
}
