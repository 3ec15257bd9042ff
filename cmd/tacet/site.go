package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// SiteConfig is [site]: the other site, whose mail is seen together with ours.
type SiteConfig struct {
	Command   []string
	Addresses []netip.Prefix
}

// siteWithin is how long the other site may take for one answer.
const siteWithin = 5 * time.Minute

// atSite runs tacet at the other site, for itself alone. Its arguments pass a shell
// there where the command is ssh, so they hold nothing that one could take for more than words.
func (c *Config) atSite(ctx context.Context, args ...string) (stdout []byte, err error) {
	for _, arg := range args {
		if arg == "" || strings.ContainsFunc(arg, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("@._+=-", r)
		}) {
			return nil, errors.New("an argument holds characters that are not passed to the other site: ask there by hand, with --here at each site")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, siteWithin)
	defer cancel()
	command := slices.Concat(c.Site.Command, args, []string{"--here"})
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		last := strings.TrimSpace(said.String())
		return out.Bytes(), fmt.Errorf("%s at the other site: %w: %s", strings.Join(args[:2], " "), err, last[strings.LastIndexByte(last, '\n')+1:])
	}
	return out.Bytes(), nil
}

// traceAtSite prints what the other site's log has of the mails with these queue IDs, by its
// own ID for them or by ours.
func (c *console) traceAtSite(ctx context.Context, config *Config, ids []string) (found bool, err error) {
	args := []string{"log", "trace"}
	for _, id := range ids {
		with := append(slices.Clone(args), id)
		if c.json {
			with = append(with, "--json")
		}
		out, err := config.atSite(ctx, with...)
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == exitFailure && strings.HasSuffix(err.Error(), traceNothing) {
			continue
		}
		if err != nil {
			return found, err
		}
		if !found && !c.json {
			fmt.Fprintf(c.out, "At the other site:\n")
		}
		found = true
		if _, err := c.out.Write(out); err != nil {
			return found, fmt.Errorf("printing: %w", err)
		}
	}
	return found, nil
}

// traceNothing is what a trace ends with that finds nothing.
const traceNothing = "the log has nothing of it"

// eraseAtSite erases at the other site, or counts there.
func (c *console) eraseAtSite(ctx context.Context, config *Config, e *erasure) error {
	args := []string{"privacy", "erase", e.Address, "--ticket", e.ticket}
	if e.User != "" {
		args = append(args, "--user", e.User)
	}
	if e.yes {
		args = append(args, "--yes")
	}
	if c.json {
		args = append(args, "--json")
	}
	out, err := config.atSite(ctx, args...)
	if err != nil {
		return fmt.Errorf("%w; nothing was done here", err)
	}
	if !c.json {
		fmt.Fprintf(c.out, "At the other site:\n")
	}
	_, err = c.out.Write(out)
	return err
}
