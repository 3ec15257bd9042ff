package main

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tacet/relay"
	"tacet/relay/route"
)

// validate adds what is wrong between values that are each allowed.
func (c *Config) validate(f *faults) {
	c.validateListeners(f)
	c.validateDelivery(f)
	c.validatePrimary(f)
	c.validateLog(f)
	c.validateDKIM(f)
	c.validateRules(f)
	c.validateSubmission(f)
	c.validateOutside(f)
	line := c.source.lines
	// sun_path of unix(7) holds 108 octets with the final NUL.
	if n := len(c.controlSocket()); n > 107 {
		f.also(line["data_dir"], "data_dir is %d octets too long: the path of the control socket in it may have 107", n-107)
	}
	if c.TLS.Cert != "" && c.TLS.Key == "" {
		f.also(line["tls.cert"], "tls.cert without tls.key: give both, or neither for a self-signed certificate")
	}
	if c.TLS.Key != "" && c.TLS.Cert == "" {
		f.also(line["tls.key"], "tls.key without tls.cert: give both, or neither for a self-signed certificate")
	}
	if c.Queue.Lifetime < c.Queue.Retry[0] {
		f.also(line["queue.lifetime"], "queue.lifetime = %q is shorter than the first wait of queue.retry (%s): no message would be tried twice",
			formatDuration(c.Queue.Lifetime), formatDuration(c.Queue.Retry[0]))
	}
	if c.source.given("queue.delay_warning") && c.Queue.DelayWarning >= c.Queue.Lifetime {
		f.also(line["queue.delay_warning"], "queue.delay_warning = %q is not shorter than queue.lifetime (%s): use \"0s\" for no warning",
			formatDuration(c.Queue.DelayWarning), formatDuration(c.Queue.Lifetime))
	}
}

// validateLog checks that no field outlives its record.
func (c *Config) validateLog(f *faults) {
	for _, field := range []struct {
		key    string
		period time.Duration
	}{
		{"log.retention_subject", c.Log.RetentionSubject}, {"log.retention_client", c.Log.RetentionClient}, {"log.retention_user", c.Log.RetentionUser},
		{"log.retention_logins", c.Log.RetentionLogins},
	} {
		if field.period > c.Log.Retention {
			f.also(c.source.lines[field.key], "%s = %q is longer than log.retention (%s): nothing in the log outlives that",
				field.key, formatDuration(field.period), formatDuration(c.Log.Retention))
		}
	}
}

// validateDKIM checks that every key has its place in the DNS.
func (c *Config) validateDKIM(f *faults) {
	seen := make(map[string]bool)
	for i, d := range c.DKIM {
		path := join(dkimTables, strconv.Itoa(i))
		if d.Domain == "" || d.Selector == "" {
			f.also(c.source.lines[path], "a [[dkim]] needs a domain and a selector; `tacet dkim generate` prints both")
			continue
		}
		name := d.Selector + "._domainkey." + d.Domain
		if seen[name] {
			f.also(c.source.lines[join(path, "selector")], "dkim.selector = %q is given twice for %s: each key needs a selector of its own", d.Selector, d.Domain)
		}
		seen[name] = true
	}
}

// validateSubmission checks that limits can be held.
func (c *Config) validateSubmission(f *faults) {
	s, line := &c.Submission, c.source.lines
	switch {
	case s.Quota[relay.NewRecipientsPerDay] > 0 && s.Memory == 0:
		f.also(line["submission.new_recipients_per_day"], "submission.new_recipients_per_day without submission.recipient_memory: say how long it is remembered to whom users have written, such as recipient_memory = \"30d\"")
	case s.Memory > 0 && s.Memory < day:
		f.also(line["submission.recipient_memory"], "submission.recipient_memory = %q is shorter than the day in which new recipients are counted: use \"1d\" or more, or \"0s\" for none", formatDuration(s.Memory))
	}
}

func (c *Config) validateRules(f *faults) {
	for i := range c.Milters {
		if path := join(milterTables, strconv.Itoa(i)); !c.source.given(join(path, "address")) {
			f.also(c.source.lines[path], "a [[milter]] needs an address, such as address = \"unix:/run/rspamd/milter.sock\"")
		}
	}
	seen := make(map[string]bool)
	for i, r := range c.Rules {
		path := join(ruleTables, strconv.Itoa(i))
		line := c.source.lines[path]
		given := func(key string) bool { return c.source.given(join(path, key)) }
		switch {
		case !given("name"):
			f.also(line, "a [[rule]] needs a name, such as name = \"no-programs\"")
		case r.Name != "" && seen[r.Name]:
			f.also(c.source.lines[join(path, "name")], "rule.name = %q is given twice: each rule has a counter of its own", r.Name)
		case given("field") != given("pattern"):
			f.also(line, "rule.field and rule.pattern of %q belong together: give both or neither", r.Name)
		case !given("field") && !given("attachment") && !given("kinds") && !given("larger"):
			f.also(line, "the rule %q says nothing of the mail that it is for: give field and pattern, attachment, kinds or larger", r.Name)
		}
		seen[r.Name] = true
	}
}

func (c *Config) validateListeners(f *faults) {
	seen := make(map[string]bool)
	for i, l := range c.Listeners {
		path := join(listenerTables, strconv.Itoa(i))
		line := func(key string) int {
			if n := c.source.lines[join(path, key)]; n > 0 {
				return n
			}
			return c.source.lines[path]
		}
		if seen[l.Address] && !strings.HasSuffix(l.Address, ":0") {
			f.also(line("address"), "listener.address = %q is given twice: each listener needs an address and port of its own", l.Address)
		}
		seen[l.Address] = true
		if l.Kind == KindMX && len(c.Relay.Domains) == 0 {
			f.also(line("kind"), "listener.kind = \"mx\" without relay.domains: name the domains that it takes mail for, as [relay] domains = [\"example.org\"]")
		}
		if l.Kind == KindSubmission && l.TLS == ListenerNoTLS && len(c.Relay.TrustedNetworks) == 0 {
			f.also(line("tls"), "listener.tls = \"none\" on a submission listener takes nothing: AUTH is never offered in the clear; "+
				"use \"starttls\" or \"implicit\", or name relay.trusted_networks")
		}
	}
}

func (c *Config) validateDelivery(f *faults) {
	c.validateSmarthost(f, "delivery", "delivery", c.Delivery.Smarthost)
	seen := make(map[string]bool)
	for i := range c.Delivery.Routes {
		r := &c.Delivery.Routes[i]
		path := join(routeTables, strconv.Itoa(i))
		if !c.source.given(join(path, "tls")) {
			r.TLS = c.Delivery.TLS
		}
		if !c.source.given(join(path, "concurrency")) {
			r.Concurrency = c.Delivery.Concurrency
		}
		if !c.source.given(join(path, "messages_per_connection")) {
			r.MessagesPerConnection = c.Delivery.MessagesPerConnection
		}
		if !c.source.given(join(path, "rate")) {
			r.Rate = c.Delivery.Rate
		}
		if !c.source.given(join(path, "domain")) {
			f.also(c.source.lines[path], "a [[delivery.route]] needs a domain, such as domain = \"example.net\"")
		}
		domain := strings.ToLower(r.Domain)
		if r.Domain != "" && seen[domain] {
			f.also(c.source.lines[join(path, "domain")], "delivery.route.domain = %q is given twice: the first match wins, so this route is never used", r.Domain)
		}
		seen[domain] = true
		c.validateSmarthost(f, path, routeTables, r.Smarthost)
	}
}

// validatePrimary checks that the primary is another host, and has a domain.
func (c *Config) validatePrimary(f *faults) {
	if !c.source.given("primary.tls") {
		c.Primary.TLS = c.Delivery.TLS
	}
	line := c.source.lines["primary.hosts"]
	if len(c.Primary.Hosts) > 0 && len(c.Relay.Domains) == 0 {
		f.also(line, "primary.hosts without relay.domains: name the domains that they take mail for, as [relay] domains = [\"example.org\"]")
	}
	for _, text := range c.Primary.Hosts {
		if host, err := route.ParseHost(text); err == nil && host.Host != "" && host.Host == strings.ToLower(c.Hostname) {
			f.also(line, "primary.hosts has %q, which is this relay itself: name the host that has the mailboxes", text)
		}
	}
}

// validateSmarthost checks what [delivery] and a route have in common. path
// is where its values stood, name what a person calls it.
func (c *Config) validateSmarthost(f *faults, path, name string, s Smarthost) {
	line := func(key string) int { return c.source.lines[join(path, key)] }
	switch {
	case s.AuthUser != "" && s.AuthPasswordFile == "":
		f.also(line("auth_user"), "%s.auth_user without %s.auth_password_file: name the file that has the password", name, name)
	case s.AuthUser == "" && s.AuthPasswordFile != "":
		f.also(line("auth_password_file"), "%s.auth_password_file without %s.auth_user: name the user", name, name)
	case s.AuthUser != "" && s.NextHop == "":
		f.also(line("auth_user"), "%s.auth_user without %s.next_hop: a login belongs to one smarthost, not to every MX", name, name)
	case s.AuthUser != "" && s.TLS == relay.TLSNone:
		f.also(line("auth_user"), "%s.auth_user with tls = \"none\": a password is never sent in the clear; use tls = \"verify\" or \"require\"", name)
	}
}

// warnings say what is allowed and yet seldom meant.
func (c *Config) warnings() []string {
	var w []string
	for _, network := range c.Relay.TrustedNetworks {
		if wide(network) {
			w = append(w, "relay.trusted_networks has "+network.String()+": everyone in it may send as anyone, without a password")
		}
	}
	if !strings.Contains(c.Hostname, ".") {
		w = append(w, "hostname "+quote(c.Hostname)+" is no full name: many hosts refuse mail from it; set hostname = \"relay.example.org\"")
	}
	if c.needsCertificate() && c.TLS.Cert == "" {
		w = append(w, "tls.cert is not set: a self-signed certificate is made in data_dir, which mail clients will not trust")
	}
	for _, l := range c.Listeners {
		if l.Kind == KindMX && l.TLS == ListenerNoTLS {
			w = append(w, "the mx listener "+l.Address+" offers no TLS: incoming mail passes in the clear")
		}
	}
	if c.Delivery.TLS == relay.TLSNone {
		w = append(w, "delivery.tls = \"none\": all mail leaves in the clear")
	}
	if c.Delivery.AuthUser != "" && c.Delivery.TLS != relay.TLSVerify {
		w = append(w, "delivery.auth_user without tls = \"verify\": whoever stands between may read the password")
	}
	for _, r := range c.Delivery.Routes {
		if r.AuthUser != "" && r.TLS != relay.TLSVerify {
			w = append(w, "the route of "+r.Domain+" has auth_user without tls = \"verify\": whoever stands between may read the password")
		}
	}
	if c.Delivery.Fallback != "" && c.Delivery.NextHop != "" &&
		!slices.ContainsFunc(c.Delivery.Routes, func(r RouteConfig) bool { return r.NextHop == "" }) {
		w = append(w, "delivery.fallback is for mail that goes to the MX of its domain: with delivery.next_hop none does")
	}
	if !c.Delivery.DenySpecialAddresses {
		w = append(w, "delivery.deny_special_addresses = false: a foreign domain's MX may point into your own network")
	}
	if elsewhere(c.Clamd.Address) {
		w = append(w, "clamd.address "+c.Clamd.Address+" is another machine: all content goes there, in the clear")
	}
	for _, m := range c.Milters {
		if elsewhere(m.Address) {
			w = append(w, "milter.address "+m.Address+" is another machine: envelopes, clients and content go there, in the clear")
		}
	}
	w = append(w, c.outsideWarnings()...)
	if c.Queue.Lifetime < day {
		w = append(w, "queue.lifetime is under a day: mail is returned after a short outage (RFC 5321 §4.5.4.1 asks for 4 to 5 days)")
	}
	if c.Limits.ConnectionsPerClient == 0 {
		w = append(w, "limits.connections_per_client = 0: one client may take every connection")
	}
	if c.Limits.CommandTimeout < 5*time.Minute {
		w = append(w, "limits.command_timeout is under the 5 minutes of RFC 5321 §4.5.3.2.7: slow clients are cut off")
	}
	return w
}

// wide tells whether a network is larger than a site's own.
func wide(n netip.Prefix) bool {
	if n.Addr().IsPrivate() || n.Addr().IsLoopback() || n.Addr().IsLinkLocalUnicast() {
		return n.Bits() < 8
	}
	if n.Addr().Is4() {
		return n.Bits() < 20
	}
	return n.Bits() < 40
}
