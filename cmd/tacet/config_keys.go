package main

import (
	"slices"
	"time"

	"tacet/relay"
	"tacet/relay/auth"
	"tacet/relay/content"
	"tacet/relay/recipients"
)

// key is one row of the config's contract: its name below its section, where
// its value goes, and what it means.
type key struct {
	name  string
	value value
	help  string
}

// section is one table of the file. The sections stand in the order of the manual.
type section struct {
	name string // "" is the top of the file
	keys []key
}

// The tables that may occur many times, and what they are called.
const (
	listenerTables = "listener"
	routeTables    = "delivery.route"
	dkimTables     = "dkim"
	ruleTables     = "rule"
	milterTables   = "milter"
	hashListTables = "hash_list"
)

const day = 24 * time.Hour

// sections binds every key that occurs once to its field of c.
func (c *Config) sections() []section {
	return slices.Concat(c.incomingSections(), c.outgoingSections(), c.upkeepSections())
}

// incomingSections are about the relay itself and what comes to it.
func (c *Config) incomingSections() []section {
	return []section{
		{"", []key{
			{"hostname", textValue{&c.Hostname, ownName}, "the relay's name in greetings, EHLO and trace fields. Default: the machine's name"},
			{"data_dir", textValue{&c.DataDir, filename}, "holds queue/, keys/ (in no backup), log/ and control.sock. Relative paths start at this file's folder"},
			{"postmaster", textValue{&c.Postmaster, mailbox}, "where mail to the bare <Postmaster> goes, and whom delivery reports name. Default: postmaster@ the hostname"},
		}},
		{"tls", []key{
			{"cert", textValue{&c.TLS.Cert, filename}, "certificate chain, PEM. Absent: a self-signed one is made in data_dir, with a warning"},
			{"key", textValue{&c.TLS.Key, filename}, "its private key, PEM, mode 0600"},
		}},
		{"auth", []key{
			{"users_file", textValue{&c.Auth.UsersFile, filename}, "who may submit; made by `tacet user add`"},
		}},
		{"submission", slices.Concat([]key{
			{"senders", enumValue[auth.Unlisted]{&c.Submission.Senders, []string{"own", "any", "none"}}, "what users may send as who have no senders in users_file. own: the address that is their name, or, if the name is no address, NAME@ hostname, postmaster's domain, relay.domains and the domains of [[dkim]]; any: any address; none: no address. `tacet user modify` gives them some"},
			{"header_from", enumValue[HeaderFrom]{&c.Submission.HeaderFrom, []string{"any", "own"}}, "any: the From field says what the client likes, and DKIM signs it only if it is an address that the user may send as; own: it must be one, and clear, or the mail is refused"},
		}, c.Submission.limitKeys())},
		{"relay", []key{
			{"trusted_networks", prefixesValue{&c.Relay.TrustedNetworks}, "may relay without AUTH and without TLS"},
			{"domains", domainsValue{&c.Relay.Domains}, "relay domains of an mx listener"},
			{"max_message_size", sizeValue{&c.Relay.MaxMessageSize, 64_000, 1_000_000_000}, "largest message, as the SIZE extension tells clients"},
			{"max_recipients", numberValue{&c.Relay.MaxRecipients, 100, 50_000}, "of one message; a standard relay takes at least 100 (RFC 5321 §4.5.3.1.8)"},
		}},
		{"primary", []key{
			{"hosts", hostsValue{&c.Primary.Hosts}, "what takes the mail for relay.domains, in the order to try them: \"mail.example.org\" or \"192.0.2.1\", that very host. Empty: what of the domain's MX is preferred to this relay. A [[delivery.route]] for the domain goes first"},
			{"tls", enumValue[relay.TLSPolicy]{&c.Primary.TLS, tlsPolicies()}, "towards it, as delivery.tls. Default: as delivery.tls"},
			{"introduce", enumValue[relay.Introduction]{&c.Primary.Introduce, []string{"none", "xclient", "xforward", "proxy-v1", "proxy-v2"}}, "how a primary that trusts this relay learns of the client that mail came from, its address and what it called itself: Postfix takes xclient and xforward, which name its host by the DNS, too; Exim, Postfix and tacet take the PROXY protocol"},
			{"lifetime", durationValue{&c.Primary.Lifetime, time.Minute, 60 * day}, "after it a message that waits for the primary expires"},
			{"probe", durationValue{&c.Primary.Probe, time.Second, time.Hour}, "how often a primary that cannot be reached is tried, by a connection and no message. Once it answers, or says ETRN, its mail goes out"},
			{"alarm", durationValue{&c.Primary.Alarm, 0, 60 * day}, "after it mail that still waits for the primary is an operational event; \"0s\": never"},
		}},
		{"recipients", []key{
			{"key", textValue{&c.Recipients.Key, filename}, "recipients-verify.key of `tacet recipients key`; with it the list of the primary says who exists in relay.domains. Empty: all exist"},
			{"source", textValue{&c.Recipients.Source, sourceOK}, "where the list is fetched from: \"https://mail.example.org/recipients.list\", \"file:/path\", or \"|scp -q mail.example.org:recipients.list /dev/stdout\""},
			{"every", durationValue{&c.Recipients.Every, time.Minute, 7 * day}, "how often it is fetched"},
			{"max_age", durationValue{&c.Recipients.MaxAge, time.Hour, 365 * day}, "of the list. An older one still tells who exists, and no more who does not"},
			{"unknown", enumValue[recipients.Policy]{&c.Recipients.Unknown, []string{"accept", "defer"}}, "what becomes of a recipient of whom nothing is known: accept, or defer with 450"},
			{"probe", boolValue{&c.Recipients.Probe}, "ask the primary for those of whom the list says nothing, by RCPT without content; the answers are kept as hashes"},
		}},
		{"edge", []key{
			{"address_lists", domainsValue{&c.Edge.AddressLists}, "block lists (DNS zones) that a client's address must not be on, such as \"zen.spamhaus.org\". They learn the addresses of clients"},
			{"domain_lists", domainsValue{&c.Edge.DomainLists}, "block lists that a sender's domain must not be on. They learn the domains of senders"},
			{"lists_purpose", textValue{&c.Edge.ListsPurpose, purposeText}, "why these lists are asked, in your words, for the privacy report, statement and record. Needed where there is a list"},
			{"helo", boolValue{&c.Edge.Helo}, "refuse clients that do not name themselves by a full host name or their own address, or take our name"},
			{"greet_pause", durationValue{&c.Edge.Pause, 0, 30 * time.Second}, "before the greeting; who speaks during it is no mail server and turned away. \"0s\": none"},
			{"greylist", durationValue{&c.Edge.Greylist, 0, time.Hour}, "how long a sender has to wait at the first time, such as \"5m\"; remembered as hashes, encrypted, over restarts too. \"0s\": nobody has to"},
			{"connections_per_minute", numberValue{&c.Edge.Connections, 0, 100_000}, "of one client network (IPv4 address, IPv6 /64); 0: any number"},
			{"messages_per_minute", numberValue{&c.Edge.Messages, 0, 100_000}, "of one client network; 0: any number"},
		}},
		{"site", []key{
			{"command", wordsValue{&c.Site.Command}, "how tacet is run at the other site, such as [\"ssh\", \"mx2.example.org\", \"tacet\"]: the trace of a queue ID goes on there, and a person is erased at both sites or the erasure fails"},
			{"addresses", prefixesValue{&c.Site.Addresses}, "where the other site's relay connects from, such as [\"203.0.113.20\"]: the queue ID that it gave to mail is on record here as remote_id, so that a trace finds both halves"},
		}},
	}
}

// limitKeys are the limits of each user, which users_file may change for one.
func (s *SubmissionConfig) limitKeys() []key {
	of := func(limit relay.Limit, help string) key {
		return key{limit.String(), numberValue{&s.Quota[limit], 0, relay.MaxLimit}, help}
	}
	return []key{
		of(relay.MessagesPerHour, "of one user within any hour; what is more is answered 450. `tacet user modify` sets it for one user. 0, of this and the next ones: no limit"),
		of(relay.MessagesPerDay, "of one user within any day"),
		of(relay.RecipientsPerHour, "of one user within any hour, over all messages"),
		of(relay.RecipientsPerDay, "of one user within any day, over all messages"),
		of(relay.NewRecipientsPerDay, "to whom the user has not written within recipient_memory, which it needs: stolen passwords are used to write to strangers"),
		{"recipient_memory", durationValue{&s.Memory, 0, 90 * day}, "how long it is remembered, as keyed hashes, to whom users with a limit of new recipients have written, such as \"1d\" or \"30d\". \"0s\": not at all, and new_recipients_per_day is without effect"},
	}
}

// outgoingSections are about what goes out, and what waits for that.
func (c *Config) outgoingSections() []section {
	t := &c.Delivery.Timeouts
	wait := func(p *time.Duration) value { return durationValue{p, time.Second, time.Hour} }
	return []section{
		{"delivery", slices.Concat(c.Delivery.Smarthost.keys(), c.Delivery.Load.keys(), []key{
			{"fallback", textValue{&c.Delivery.Fallback, nextHop}, "written as next_hop: takes what no MX of its domain takes for now; empty: it waits"},
			{"deny_special_addresses", boolValue{&c.Delivery.DenySpecialAddresses}, "no MX in loopback, private or link-local ranges. A configured next_hop may be there"},
			{"tls_reports", boolValue{&c.Delivery.TLSReports}, "domains that ask for it get a daily count of how TLS with their hosts came out (RFC 8460), without any address"},
		})},
		{"delivery.timeouts", []key{
			{"connect", wait(&t.Connect), "to reach a host (RFC 5321 §4.5.3.2 for all of these)"},
			{"greeting", wait(&t.Greeting), "for the 220"},
			{"command", wait(&t.Command), "for the reply to EHLO, STARTTLS, AUTH, MAIL and RCPT"},
			{"data_start", wait(&t.DataStart), "for the 354"},
			{"data_block", wait(&t.DataBlock), "for each piece of content to be taken"},
			{"data_end", wait(&t.DataEnd), "for the reply to the final dot"},
		}},
		{"dns", []key{
			{"resolvers", resolversValue{&c.DNS.Resolvers}, "addresses of resolvers; empty: those of /etc/resolv.conf"},
			{"trusted", resolversValue{&c.DNS.Trusted}, "those of them, beside loopback, whose word on DNSSEC counts, for DANE: nobody else may get at what they answer"},
		}},
		{"queue", []key{
			{"retry", durationsValue{&c.Queue.Retry, 10 * time.Second, 7 * day}, "waits after the first, second … attempt; the last repeats"},
			{"lifetime", durationValue{&c.Queue.Lifetime, time.Minute, 30 * day}, "after it a message expires and its sender gets a report"},
			{"delay_warning", durationValue{&c.Queue.DelayWarning, 0, 30 * day}, "after it the sender is told once that the message is late; \"0s\": never"},
			{"report_language", enumValue[relay.Language]{&c.Queue.ReportLanguage, []string{"both", "en", "de"}}, "of delivery reports: English and German, or one of the two"},
		}},
	}
}

// upkeepSections are about keys, limits, checks, and what the operator sees.
func (c *Config) upkeepSections() []section {
	return []section{
		{"keys", []key{
			{"master", textValue{&c.Keys.Master, masterSource}, "where the queue's master key comes from: \"file:/path\" (mode 0600), \"credential:NAME\" (of systemd) or \"prompt\" (a passphrase, asked for at each start). Default: a file that is made in keys/"},
		}},
		{"limits", []key{
			{"connections", numberValue{&c.Limits.Connections, 1, 1_000_000}, "sessions at a time"},
			{"connections_per_client", numberValue{&c.Limits.ConnectionsPerClient, 0, 1_000_000}, "of one client address; 0: no limit of its own"},
			{"command_timeout", durationValue{&c.Limits.CommandTimeout, 10 * time.Second, time.Hour}, "how long a client may be silent between commands"},
			{"min_content_rate", rateValue{&c.Limits.MinContentRate, 1, 1_000_000}, "below it, on average, a client is cut off while it sends content"},
		}},
		{"clamd", append([]key{
			{"address", textValue{&c.Clamd.Address, scannerAddress}, "socket of ClamAV's daemon, \"unix:/run/clamav/clamd.ctl\" or \"tcp:127.0.0.1:3310\": all content goes there. Empty: no scan"},
		}, c.Clamd.Called.keys()...)},
		{"pyzor", c.Pyzor.keys()},
		{"verify", []key{
			{"scope", enumValue[VerifyScope]{&c.Verify.Scope, []string{"none", "incoming", "all"}}, "which mail SPF, DKIM and DMARC are looked up for; the result is in its Authentication-Results field. The DNS learns domains, never an address"},
			{"spf", enumValue[Enforcement]{&c.Verify.SPF, enforcements()}, "what becomes of mail that SPF fails"},
			{"dmarc", enumValue[Enforcement]{&c.Verify.DMARC, enforcements()}, "what becomes of mail that DMARC fails, where its domain asks for a refusal (p=reject)"},
			{"dmarc_reports", boolValue{&c.Verify.DMARCReports}, "domains that ask for it get a daily count of what came in their name (RFC 9990): by clients' addresses and domains, without mailboxes"},
		}},
		{"log", []key{
			{"dir", textValue{&c.Log.Dir, filename}, "of the relay log and the audit log. Default: log/ in data_dir"},
			{"retention", durationValue{&c.Log.Retention, day, maxRetention}, "how long the relay log is kept; more than 365d is refused"},
			{"retention_subject", durationValue{&c.Log.RetentionSubject, day, maxRetention}, "of the subject, and of the header fields of content rejections. Default: as long as the record"},
			{"retention_client", durationValue{&c.Log.RetentionClient, day, maxRetention}, "of the client's address. Default: as long as the record"},
			{"retention_user", durationValue{&c.Log.RetentionUser, day, maxRetention}, "of the user. Default: as long as the record"},
			{"retention_logins", durationValue{&c.Log.RetentionLogins, day, maxRetentionLogins}, "of whole records of failed logins and TLS handshakes, which tell of no mail; more than 30d is refused"},
			{"live", enumValue[LogLive]{&c.Log.Live, []string{"plain", "sealed"}}, "the running day as lines of JSON, or encrypted as every day is that is over"},
			{"incoming_client", boolValue{&c.Log.IncomingClient}, "the address of clients that bring mail for relay.domains is on record, too"},
			{"full_readers", readersValue{&c.Log.FullReaders}, "users and \"@groups\" who may read all of it, and act, by the control socket. Both lists empty: whom the socket lets in"},
			{"status_readers", readersValue{&c.Log.StatusReaders}, "those who may see how mail went, without addresses, subjects and clients, and nothing else"},
		}},
		{"metrics", []key{
			{"address", textValue{&c.Metrics.Address, loopbackAddress}, "loopback address for Prometheus, such as \"127.0.0.1:9587\". Empty: on the control socket only"},
		}},
	}
}

// keys are those of one [[listener]].
func (l *Listener) keys() []key {
	return []key{
		{"address", textValue{&l.Address, listenAddress}, "IP address and port; a socket of systemd's for the same address is taken over"},
		{"kind", enumValue[ListenerKind]{&l.Kind, []string{"submission", "mx"}}, "submission: AUTH needed; mx: for our relay domains only"},
		{"tls", enumValue[ListenerTLS]{&l.TLS, []string{"starttls", "implicit", "none"}}, "starttls: the client asks for it; implicit: from the first octet; none: never, and so no AUTH"},
		{"proxy_from", prefixesValue{&l.ProxyFrom}, "proxies and load balancers before this listener, which say by the PROXY protocol (v1 or v2) who the client is. A connection from them without it is closed"},
	}
}

// keys are those of one [[delivery.route]].
func (r *RouteConfig) keys() []key {
	return slices.Concat([]key{
		{"domain", textValue{&r.Domain, routeDomain}, "recipient domain; \".example.net\" stands for its subdomains, \"*\" for all. First match wins"},
	}, r.Smarthost.keys(), r.Load.keys())
}

// keys are what [delivery] and a route say of how much a next hop gets.
func (l *Load) keys() []key {
	return []key{
		{"concurrency", numberValue{&l.Concurrency, 1, 1000}, "connections per next hop"},
		{"messages_per_connection", numberValue{&l.MessagesPerConnection, 1, 10_000}, "over one connection to it"},
		{"rate", frequencyValue{&l.Rate}, "messages to it, such as \"10/s\", \"100/m\" or \"1000/h\", evenly spaced; empty: as they come"},
	}
}

// keys are what [delivery] and a route have in common.
func (s *Smarthost) keys() []key {
	return []key{
		{"next_hop", textValue{&s.NextHop, nextHop}, "\"smarthost.example:587\" (its MX, or else its addresses) or \"[127.0.0.1]:2626\" (that very host); empty: the MX of the recipient's domain"},
		{"tls", enumValue[relay.TLSPolicy]{&s.TLS, tlsPolicies()}, "opportunistic: when offered; require: any certificate; verify: a valid one; none: never"},
		{"auth_user", textValue{&s.AuthUser, anyText}, "user name at the next hop"},
		{"auth_password_file", textValue{&s.AuthPasswordFile, filename}, "file with the password at the next hop, its first line, mode 0600"},
	}
}

func tlsPolicies() []string { return []string{"opportunistic", "require", "verify", "none"} }

// keys are those of one [[dkim]].
func (d *DKIMConfig) keys() []key {
	return []key{
		{"domain", textValue{&d.Domain, hostname}, "of the From field: submitted mail of it, and of its subdomains without keys of their own, is signed"},
		{"selector", textValue{&d.Selector, selector}, "where the public key stands in the DNS: SELECTOR._domainkey.DOMAIN"},
		{"key", textValue{&d.Key, filename}, "private key, RSA or Ed25519, PEM, mode 0600. Default: where `tacet dkim generate` puts it, in keys/"},
		{"active", dateValue{&d.Active}, "the day from which on it signs; of each algorithm the newest signs. Empty: since ever"},
	}
}

// keys are what checks outside of the program have in common.
func (c *Called) keys() []key {
	return []key{
		{"scope", enumValue[relay.Scope]{&c.Scope, scopes()}, "all mail, submission: what users send, or incoming: what comes by an mx listener"},
		{"timeout", durationValue{&c.Timeout, time.Second, 5 * time.Minute}, "for one message"},
		{"on_failure", enumValue[OnFailure]{&c.OnFailure, []string{"defer", "accept"}}, "what becomes of mail that could not be checked: the client comes back, or it is taken unseen"},
	}
}

// keys are those of one [[milter]].
func (m *MilterConfig) keys() []key {
	return append([]key{
		{"address", textValue{&m.Address, scannerAddress}, "socket of a mail filter, \"unix:/run/rspamd/milter.sock\" or \"tcp:127.0.0.1:11332\": it sees client, envelope and content as they come, and may refuse, hold and change all but the client"},
	}, m.Called.keys()...)
}

func enforcements() []string { return []string{"mark", "reject"} }

func scopes() []string { return []string{"all", "submission", "incoming"} }

// keys are those of one [[rule]].
func (r *RuleConfig) keys() []key {
	return []key{
		{"name", textValue{&r.Name, ruleName}, "in the metrics, where each rule's matches are counted"},
		{"scope", enumValue[relay.Scope]{&r.Scope, scopes()}, "all mail, submission: what users send, or incoming: what comes by an mx listener"},
		{"field", textValue{&r.Field, headerName}, "header field, such as \"Subject\", that pattern is matched with, as it stands and decoded"},
		{"pattern", textValue{&r.Pattern, pattern}, "regular expression (RE2); \"(?i)\" in front of it: in any case"},
		{"attachment", textValue{&r.Attachment, pattern}, "regular expression for file names of attachments, which are in lower case; a message whose structure is ambiguous is then refused"},
		{"kinds", kindsValue{&r.Kinds}, "of an attachment, told by its content: program, script, archive, office, pdf, image, rtf"},
		{"larger", sizeValue{&r.Larger, 0, 1_000_000_000}, "size of the message that must be exceeded; \"0B\": any"},
		{"action", enumValue[content.Action]{&r.Action, []string{"test", "hold", "reject"}}, "of mail that meets all that the rule says: counted and nothing else, held for an operator, or refused"},
	}
}
