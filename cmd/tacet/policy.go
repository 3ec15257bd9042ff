package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tacet/logging"
	"tacet/relay"
)

// policy is what a config makes of the people whose mail is relayed: what is
// kept of them, for how long, who else learns of it, and where the config
// departs from the defaults, of which none is stricter.
type policy struct {
	Hostname   string          `json:"hostname"`
	Fields     []policyField   `json:"fields"`
	Periods    []policyPeriod  `json:"periods"`
	Recipients []policyParty   `json:"recipients"`
	Asked      []askedService  `json:"asked"` // in numbers
	Widened    []policySetting `json:"widened"`
	Narrowed   []policySetting `json:"narrowed"`

	fingerprints bool // go to someone
}

// policyField is one key of the relay log.
type policyField struct {
	Key     string `json:"key"`
	Meaning string `json:"meaning"`
	Days    int    `json:"days"`
}

// policyPeriod is how long something is kept at most.
type policyPeriod struct {
	What string `json:"what"`
	Time string `json:"time"`
}

// policyParty is who else learns something, and what.
type policyParty struct {
	Who  string `json:"who"`
	What string `json:"what"`
}

// policySetting is a key that is not at its default.
type policySetting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Means string `json:"means"`
}

func (c *Config) policy() policy {
	p := policy{Hostname: c.Hostname, Asked: []askedService{}, Widened: []policySetting{}, Narrowed: []policySetting{}, fingerprints: c.fingerprinted()}
	for _, f := range logging.Schema() {
		if !strings.Contains(f.Key, ".") {
			p.Fields = append(p.Fields, policyField{f.Key, f.Meaning, days(c.fieldPeriod(f.Key))})
		}
	}
	p.Periods = []policyPeriod{
		{"relay log", plural(days(c.Log.Retention), "day")},
		{"failed logins and TLS handshakes in it", plural(days(c.Log.RetentionLogins), "day")},
		{"messages that cannot be delivered", configDuration(c.Queue.Lifetime)},
		{"messages that were delivered", "none: destroyed with the last recipient"},
		{"audit log", plural(days(maxRetention), "day")},
		{"incidents", "4 hours unless said otherwise, 72 hours at most; destroyed when they end"},
	}
	if c.byMX() {
		p.Periods = append(p.Periods, policyPeriod{"MTA-STS policies of recipients' domains", "as the policy says, a year at most; encrypted, and without addresses"})
		if c.Delivery.TLSReports {
			p.Periods = append(p.Periods, policyPeriod{"counts for TLS reports", "2 days; encrypted, by domain and host, and without addresses"})
		}
	}
	if c.reportsDMARC() {
		p.Periods = append(p.Periods, policyPeriod{"counts for DMARC reports", "2 days; encrypted, by clients' addresses and domains, and without mailboxes"})
	}
	if len(c.Relay.Domains) > 0 {
		p.Periods = slices.Insert(p.Periods, 3, policyPeriod{"messages that wait for the primary of a relay domain", configDuration(c.Primary.Lifetime)})
	}
	if c.hasKind(KindSubmission) {
		p.Periods = append(p.Periods, policyPeriod{"how much users sent that have a limit", "a day; encrypted, and by hashes instead of names"})
		if c.Submission.Memory > 0 {
			p.Periods = append(p.Periods, policyPeriod{"to whom users wrote that have a limit of new recipients", configDuration(c.Submission.Memory) + " from the last message; encrypted keyed hashes, no addresses"})
		}
	}
	if len(c.outsideParties()) > 0 {
		p.Periods = append(p.Periods, policyPeriod{"counts of what was asked of services outside", "365 days; encrypted, by service and day, and of nobody"})
	}
	p.Recipients = c.parties()
	c.judge(&p)
	return p
}

// fieldPeriod is how long a key of the relay log is kept.
func (c *Config) fieldPeriod(key string) time.Duration {
	switch key {
	case "subject", "headers":
		return c.Log.RetentionSubject
	case "client":
		return c.Log.RetentionClient
	case "user":
		return c.Log.RetentionUser
	}
	return c.Log.Retention
}

func days(d time.Duration) int { return int(d / day) }

// configDuration is a duration in days where that is a whole number of them.
func configDuration(d time.Duration) string {
	if d >= day && d%day == 0 {
		return plural(days(d), "day")
	}
	return d.String()
}

// parties are those who learn something of a message by design.
func (c *Config) parties() []policyParty {
	parties := []policyParty{}
	if c.Delivery.NextHop != "" {
		parties = append(parties, policyParty{c.Delivery.NextHop, "all mail that no route sends elsewhere"})
	} else {
		parties = append(parties, policyParty{"the MX of each recipient's domain", "the message, with the recipients of that domain only"})
	}
	if len(c.Relay.Domains) > 0 {
		who := "the preferred MX of the relay domains"
		if len(c.Primary.Hosts) > 0 {
			who = strings.Join(c.Primary.Hosts, ", ")
		}
		parties = append(parties, policyParty{who, "mail to " + strings.Join(c.Relay.Domains, ", ")})
	}
	if c.Delivery.Fallback != "" {
		parties = append(parties, policyParty{c.Delivery.Fallback, "mail that no MX of its domain takes for now"})
	}
	parties = append(parties, c.outsideParties()...)
	for _, r := range c.Delivery.Routes {
		who := r.NextHop
		if who == "" {
			who = "the MX"
		}
		parties = append(parties, policyParty{who, "mail to " + r.Domain})
	}
	if c.Clamd.Address != "" {
		parties = append(parties, policyParty{"the virus scanner at " + c.Clamd.Address, "the content of mail, to look for viruses"})
	}
	for _, m := range c.Milters {
		parties = append(parties, policyParty{"the mail filter at " + m.Address, "envelope, client and content of mail"})
	}
	resolvers := "the resolvers of /etc/resolv.conf"
	if len(c.DNS.Resolvers) > 0 {
		names := make([]string, len(c.DNS.Resolvers))
		for i, r := range c.DNS.Resolvers {
			names[i] = r.String()
		}
		resolvers = "resolvers " + strings.Join(names, ", ")
	}
	parties = append(parties, policyParty{resolvers, "the domains of recipients, never an address"})
	if c.byMX() {
		parties = append(parties, policyParty{"the web server mta-sts.DOMAIN of a recipient's domain that has an MTA-STS policy", "that this relay sends mail to the domain"})
		if c.Delivery.TLSReports {
			parties = append(parties, policyParty{"a recipient's domain that asks for TLS reports (RFC 8460)", "how many connections to its hosts met its policy on a day, and why others did not"})
		}
	}
	if c.reportsDMARC() {
		parties = append(parties, policyParty{"an author's domain that asks for DMARC reports (RFC 9990), and whom it names for them",
			"how many messages came in its name on a day, from which clients' addresses and reverse-paths' domains, and whether they were vouched for"})
	}
	return parties
}

// reportsDMARC tells whether domains learn what comes in their name.
func (c *Config) reportsDMARC() bool { return c.Verify.DMARCReports && c.Verify.Scope != VerifyNone }

// byMX tells whether some mail goes where the MX records of its domain lead.
func (c *Config) byMX() bool {
	return c.Delivery.NextHop == "" || slices.ContainsFunc(c.Delivery.Routes, func(r RouteConfig) bool { return r.NextHop == "" })
}

// parties prints for how long data is kept, and under the title who gets some.
func (l *lineWriter) parties(kept []policyPeriod, title string, parties []policyParty) {
	l.line("Kept at most:")
	for _, p := range kept {
		l.line("  %s: %s", p.What, p.Time)
	}
	l.line("\n%s", title)
	for _, p := range parties {
		l.line("  %s: %s", p.Who, p.What)
	}
}

// direction is where a setting leads away from its default.
type direction int

const (
	neutral direction = iota
	widens
	narrows
)

// effect is what a key can do to the privacy of those whose mail is relayed.
// value is the key's value as TOML; the zero effect does nothing.
type effect struct {
	judge func(c *Config, value string) direction
	means string
}

// is judges a key by its value alone.
func is(d direction, values ...string) func(*Config, string) direction {
	return func(_ *Config, value string) direction {
		if slices.Contains(values, strings.Trim(value, `"`)) {
			return d
		}
		return neutral
	}
}

// isNot judges a key by that it has a value other than its default.
func isNot(d direction, value string) func(*Config, string) direction {
	return func(_ *Config, have string) direction {
		if strings.Trim(have, `"`) != value {
			return d
		}
		return neutral
	}
}

// deliveryTLS judges how much TLS a next hop is held to.
func deliveryTLS(_ *Config, value string) direction {
	switch strings.Trim(value, `"`) {
	case "none":
		return widens
	case "require", "verify":
		return narrows
	}
	return neutral
}

// shorter judges a period of the log.
func shorter(period func(*Config) time.Duration) func(*Config, string) direction {
	return func(c *Config, _ string) direction {
		if period(c) < maxRetention {
			return narrows
		}
		return neutral
	}
}

// shorterLogins narrows where failed logins are kept for less than the log's own period asks for.
func shorterLogins(c *Config, _ string) direction {
	if c.Log.RetentionLogins < min(c.Log.Retention, maxRetentionLogins) {
		return narrows
	}
	return neutral
}

// lifetime widens where mail is kept longer than the default says.
func lifetime(period func(*Config) time.Duration) func(*Config, string) direction {
	return func(c *Config, _ string) direction {
		switch now, standard := period(c), period(DefaultConfig()); {
		case now > standard:
			return widens
		case now < standard:
			return narrows
		}
		return neutral
	}
}

// harmless are the keys that neither widen nor narrow what becomes known of anyone.
var harmless = []string{
	"rule.name", "rule.scope", "rule.field", "rule.pattern", "rule.attachment", "rule.kinds", "rule.larger", "rule.action",
	"verify.spf", "verify.dmarc",
	"edge.lists_purpose",
	"hash_list.name", "hash_list.purpose", "hash_list.link_form", "hash_list.answers", "hash_list.action",
	"hash_list.scope", "hash_list.timeout", "hash_list.on_failure",
	"pyzor.purpose", "pyzor.threshold", "pyzor.action", "pyzor.scope", "pyzor.timeout", "pyzor.on_failure",
	"milter.scope", "milter.timeout", "milter.on_failure",
	"clamd.scope", "clamd.timeout", "clamd.on_failure",
	"submission.senders", "submission.header_from", "submission.messages_per_hour", "submission.messages_per_day",
	"submission.recipients_per_hour", "submission.recipients_per_day", "submission.new_recipients_per_day",
	"dkim.domain", "dkim.selector", "dkim.key", "dkim.active",
	"hostname", "data_dir", "postmaster", "listener.kind", "tls.cert", "tls.key", "auth.users_file",
	"edge.helo", "edge.greet_pause", "edge.greylist", "edge.connections_per_minute", "edge.messages_per_minute",
	"site.command", "site.addresses",
	"listener.proxy_from", "primary.hosts", "primary.probe", "primary.alarm",
	"recipients.key", "recipients.source", "recipients.every", "recipients.max_age", "recipients.unknown",
	"relay.domains", "relay.max_message_size", "relay.max_recipients",
	"dns.trusted", "delivery.auth_user", "delivery.auth_password_file", "delivery.concurrency", "delivery.messages_per_connection", "delivery.rate",
	"delivery.route.concurrency", "delivery.route.messages_per_connection", "delivery.route.rate",
	"delivery.timeouts.connect", "delivery.timeouts.greeting", "delivery.timeouts.command",
	"delivery.timeouts.data_start", "delivery.timeouts.data_block", "delivery.timeouts.data_end",
	"delivery.route.domain", "delivery.route.auth_user", "delivery.route.auth_password_file",
	"queue.retry", "queue.delay_warning", "queue.report_language",
	"limits.connections", "limits.connections_per_client", "limits.command_timeout", "limits.min_content_rate", "log.dir",
}

// effects tells of every key of the config what it does to privacy.
func effects() map[string]effect {
	hop := effect{isNot(widens, ""), "another host than the recipients' own gets the mail"}
	tls := effect{deliveryTLS, "how much TLS next hops are held to"}
	all := map[string]effect{
		"listener.address": {outside, "clients in the network reach this listener"},
		"listener.tls":     {is(widens, "none"), "clients speak in the clear"},

		"relay.trusted_networks": {isNot(widens, "[]"), "clients send without a login, and in the clear if they like"},

		"submission.recipient_memory": {isNot(widens, "0s"), "it is remembered, as keyed hashes, to whom users with a limit of new recipients have written"},

		"delivery.next_hop":               hop,
		"delivery.route.next_hop":         hop,
		"delivery.fallback":               hop,
		"delivery.tls":                    tls,
		"delivery.route.tls":              tls,
		"primary.tls":                     tls,
		"delivery.deny_special_addresses": {is(widens, "false"), "a foreign MX record may lead mail into our own networks"},

		"delivery.tls_reports": {is(narrows, "false"), "domains are not told how TLS with their hosts came out"},

		"dns.resolvers": {isNot(widens, "[]"), "these resolvers learn the domains of recipients"},

		"verify.scope":         {isNot(widens, "none"), "the DNS learns the domains of senders and authors, and by SPF macros their hosts' addresses"},
		"verify.dmarc_reports": {is(widens, "true"), "authors' domains learn from which addresses mail came in their name"},
		"milter.address":       {scanner, "a program on another machine sees envelopes, clients and the content of mail"},
		"clamd.address":        {scanner, "a program on another machine sees the content of mail"},

		"hash_list.attachments": {isNot(widens, ""), "the operator of this list learns hashes (SHA-256) of attachments"},
		"hash_list.links":       {isNot(widens, ""), "the operator of this list learns hashes (SHA-256) of links"},
		"pyzor.address":         {isNot(widens, ""), "the operator of this server learns a hash (SHA-1) of the text of mail"},

		"keys.master": {func(c *Config, _ string) direction {
			if c.ownKeyFile() {
				return neutral
			}
			return narrows
		}, "the key of the queue's keys is kept elsewhere"},

		"queue.lifetime": {lifetime(func(c *Config) time.Duration { return c.Queue.Lifetime }), "how long a message is kept that cannot be delivered"},

		"primary.introduce":   {isNot(widens, "none"), "the address of who sends to relay domains, and what its host calls itself, is kept with the mail, and the primary learns it; xclient and xforward ask the DNS for the name of that address"},
		"log.incoming_client": {is(widens, "true"), "the address of who sends to relay domains is on record"},
		"edge.address_lists":  {isNot(widens, "[]"), "the operators of these lists learn the addresses of who sends to relay domains"},
		"edge.domain_lists":   {isNot(widens, "[]"), "the operators of these lists learn the domains of who sends to relay domains"},
		"recipients.probe":    {is(widens, "true"), "the primary learns whom senders ask for before it gets mail"},

		"primary.lifetime": {lifetime(func(c *Config) time.Duration { return c.Primary.Lifetime }), "how long a message is kept that waits for the primary"},

		"log.retention":         {shorter(func(c *Config) time.Duration { return c.Log.Retention }), "the relay log is kept shorter"},
		"log.retention_subject": {shorter(func(c *Config) time.Duration { return c.Log.RetentionSubject }), "subjects are kept shorter"},
		"log.retention_client":  {shorter(func(c *Config) time.Duration { return c.Log.RetentionClient }), "clients' addresses are kept shorter"},
		"log.retention_user":    {shorter(func(c *Config) time.Duration { return c.Log.RetentionUser }), "users are kept shorter"},
		"log.retention_logins":  {shorterLogins, "failed logins and TLS handshakes are kept shorter"},
		"log.full_readers":      {isNot(narrows, "[]"), "only these may read the log with the daemon's help"},
		"log.status_readers":    {isNot(narrows, "[]"), "these see the status of mail only"},
		"log.live":              {is(narrows, "sealed"), "the running day's log is encrypted too"},

		"metrics.address": {isNot(widens, ""), "every local program reads the counters, which name nobody"},
	}
	for _, name := range harmless {
		all[name] = effect{}
	}
	return all
}

// outside judges where a listener listens.
func outside(_ *Config, value string) direction {
	host, _, _ := cutPort(strings.Trim(value, `"`))
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return neutral
	}
	return widens
}

// scanner judges where content goes to be looked at.
func scanner(_ *Config, value string) direction {
	if address := strings.Trim(value, `"`); address != "" && elsewhere(address) {
		return widens
	}
	return neutral
}

// judge lists the settings that widen and narrow.
func (c *Config) judge(p *policy) {
	known := effects()
	c.eachTable(func(header string, keys []key) {
		prefix := strings.Trim(header, "[]")
		if prefix != "" {
			prefix += "."
		}
		for _, k := range keys {
			e := known[prefix+k.name]
			if e.judge == nil {
				continue
			}
			setting := policySetting{prefix + k.name, k.value.String(), e.means}
			verdict := e.judge(c, setting.Value)
			if prefix == "edge." || prefix == hashListTables+"." {
				setting.Value = withoutKeys(setting.Value)
			}
			switch verdict {
			case widens:
				p.Widened = append(p.Widened, setting)
			case narrows:
				p.Narrowed = append(p.Narrowed, setting)
			}
		}
	})
}

// tlsOf tells how much TLS next hops are held to, over all routes: the least of it.
func (c *Config) tlsOf() relay.TLSPolicy {
	least := c.Delivery.TLS
	for _, r := range c.Delivery.Routes {
		switch {
		case least == relay.TLSNone || r.TLS == relay.TLSNone:
			least = relay.TLSNone
		case least == relay.TLSOpportunistic || r.TLS == relay.TLSOpportunistic:
			least = relay.TLSOpportunistic
		default:
			least = min(least, r.TLS)
		}
	}
	return least
}

// print writes the report for people.
func (p *policy) print(out *lineWriter) {
	out.line("Privacy policy of %s, as it is in effect", p.Hostname)
	out.line("")
	out.line("Logged, and nothing else:")
	for _, f := range p.Fields {
		out.line("  %-10s %4d days  %s", f.Key, f.Days, f.Meaning)
	}
	out.line("")
	out.parties(p.Periods, "Who else learns something:", p.Recipients)
	nobody := "nobody gets logs, telemetry or fingerprints"
	if p.fingerprints {
		nobody = "nobody gets logs or telemetry, and of fingerprints no more than is said here"
	}
	out.line("  %s", nobody)
	p.printAsked(out)
	for _, part := range []struct {
		title string
		list  []policySetting
	}{{"Wider than the defaults:", p.Widened}, {"Narrower than the defaults:", p.Narrowed}} {
		out.line("")
		out.line("%s", part.title)
		for _, s := range part.list {
			out.line("  %s = %s: %s", s.Key, s.Value, s.Means)
		}
		if len(part.list) == 0 {
			out.line("  nothing")
		}
	}
}

// pluralDays is a number of days in German.
func pluralDays(n int) string {
	if n == 1 {
		return "1 Tag"
	}
	return fmt.Sprintf("%d Tage", n)
}
