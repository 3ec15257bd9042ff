package main

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
)

// logFilter is by what the commands on the log were asked to choose records,
// as it was written. Its fields are the flags, and the query of the control socket.
type logFilter struct {
	since, until, event, reason, id          string
	sender, recipient, address, user, domain string
	host, client                             string
}

// logFlag is one of the flags.
type logFlag struct {
	name, help string
	value      *string
	scope      logging.Scope
}

func (f *logFilter) flags() []logFlag {
	return []logFlag{
		{"since", "from then on: 2h, 3d (ago), 2026-05-04, \"2026-05-04 13:30\" or 13:30", &f.since, logging.ScopeTime},
		{"until", "before then, written as --since is", &f.until, logging.ScopeTime},
		{"event", "one or more, with commas: " + strings.Join(eventNames(), ", "), &f.event, logging.ScopeEvent},
		{"reason", "one or more, with commas; 'tacet log stats' shows those there are", &f.reason, logging.ScopeReason},
		{"id", "queue ID", &f.id, logging.ScopeID},
		{"sender", "reverse-path: anna@example.org, @example.org, a part of it, or '<>'", &f.sender, logging.ScopeSender},
		{"recipient", "recipient: bob@example.net, @example.net, or a part of it", &f.recipient, logging.ScopeRecipient},
		{"address", "sender or recipient", &f.address, logging.ScopeAddress},
		{"domain", "domain of the sender or of the recipient", &f.domain, logging.ScopeDomain},
		{"user", "authenticated user, or a part of the name", &f.user, logging.ScopeUser},
		{"host", "next host: an address or a network such as 192.0.2.0/24", &f.host, logging.ScopeNextHost},
		{"client", "client: an address or a network", &f.client, logging.ScopeClient},
	}
}

// eventNames lists the events.
func eventNames() []string {
	var names []string
	for e := logging.Accepted; e.String() != ""; e++ {
		names = append(names, e.String())
	}
	return names
}

// addTo gives the command the flags.
func (f *logFilter) addTo(cmd *cobra.Command) {
	for _, flag := range f.flags() {
		cmd.Flags().StringVar(flag.value, flag.name, "", flag.help)
	}
	cmd.RegisterFlagCompletionFunc("event", cobra.FixedCompletions(eventNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(reasonNames(), cobra.ShellCompDirectiveNoFileComp))
}

func reasonNames() []string {
	var names []string
	for _, r := range logging.Reasons() {
		names = append(names, r.String())
	}
	return names
}

// scopes is by what was chosen, for the audit record.
func (f *logFilter) scopes() []logging.Scope {
	var list []logging.Scope
	for _, flag := range f.flags() {
		if *flag.value != "" && !slices.Contains(list, flag.scope) {
			list = append(list, flag.scope)
		}
	}
	if len(list) == 0 {
		return []logging.Scope{logging.ScopeAll}
	}
	return list
}

// about tells whether it chooses by whose mail it was.
func (f *logFilter) about() bool {
	return f.sender+f.recipient+f.address+f.user+f.domain+f.client != ""
}

func (f *logFilter) query() url.Values {
	q := url.Values{}
	for _, flag := range f.flags() {
		if *flag.value != "" {
			q.Set(flag.name, *flag.value)
		}
	}
	return q
}

func logFilterOf(q url.Values) (f logFilter) {
	for _, flag := range f.flags() {
		*flag.value = q.Get(flag.name)
	}
	return f
}

// filter is the filter that it stands for.
func (f *logFilter) filter(now time.Time) (to logging.Filter, err error) {
	to = logging.Filter{ID: f.id, Sender: f.sender, Recipient: f.recipient, Address: f.address, User: f.user}
	if f.domain != "" {
		if f.address != "" {
			return to, wrongUsage("--domain and --address are both of the sender or the recipient: give one")
		}
		to.Address = "@" + strings.TrimPrefix(f.domain, "@")
	}
	for _, at := range []struct {
		flag, text string
		to         *time.Time
	}{{"--since", f.since, &to.Since}, {"--until", f.until, &to.Until}} {
		if *at.to, err = parseMoment(at.text, now); err != nil {
			return to, wrongUsage("%s %v, not %s", at.flag, err, quote(at.text))
		}
	}
	for name := range split(f.event) {
		e, ok := logging.ParseEvent(name)
		if !ok {
			return to, wrongUsage("--event is one of %s, not %s", strings.Join(eventNames(), ", "), quote(name))
		}
		to.Events = append(to.Events, e)
	}
	for name := range split(f.reason) {
		r, ok := logging.ParseReason(name)
		if !ok {
			return to, wrongUsage("--reason is one of %s, not %s", strings.Join(reasonNames(), ", "), quote(name))
		}
		to.Reasons = append(to.Reasons, r)
	}
	for _, at := range []struct {
		flag, text string
		to         *netip.Prefix
	}{{"--host", f.host, &to.NextHost}, {"--client", f.client, &to.Client}} {
		if *at.to, err = parseNetwork(at.text); err != nil {
			return to, wrongUsage("%s wants an address or a network such as 192.0.2.0/24, not %s", at.flag, quote(at.text))
		}
	}
	return to, nil
}

// split gives the names of a list with commas.
func split(list string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" && !yield(name) {
				return
			}
		}
	}
}

func parseNetwork(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if ip, err := netip.ParseAddr(text); err == nil {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	return network.Masked(), err
}

// parseMoment reads a point in time: how long ago, or a local date and time.
func parseMoment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := parseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, err := time.ParseInLocation("15:04", text, now.Location()); err == nil {
		return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location()), nil
	}
	return time.Time{}, fmt.Errorf("wants 2h or 3d (ago), 2026-05-04, \"2026-05-04 13:30\" or 13:30")
}
