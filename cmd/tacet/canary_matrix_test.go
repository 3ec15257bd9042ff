package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"tacet/logging"
)

// canaryRule says where one input may be seen, and must be.
type canaryRule struct {
	input string   // or several, as a pattern
	field string   // of the relay log, in every event that the schema has it in; "": none
	may   []string // sinks, as patterns
	must  []string // sinks, without patterns
}

// The sinks are named
//
//	log:EVENT:KEY       a field of a line of the relay log, by its place in the schema
//	log:raw             a line of it, otherwise
//	log:file            a file of it that is encrypted, as it stands on the disk
//	data:FOLDER         files in data_dir, by the folder's name; log is not among them
//	audit operations stdout backup
//	control:PATH config stats health metrics incidents cli:VERB proc:FILE
//	incident:NAME       what is shown of an incident, and exported
//	dns                 what resolvers are asked
//	hop:NAME            what a next hop is sent; reports are unpacked
//	report:web          what a web server is sent that wants reports
//	kept:NAME           what is in a file of data_dir that is encrypted under a key of its own
//	replies             what clients are answered
//	check:NAME          what a virus scanner, a mail filter and a Pyzor server are sent
//	try:files           files of a playground, but for its log

// canaryRules is the oracle: with the schema of the relay log, all that may be
// seen of the inputs. Whatever is not here must not be seen anywhere.
func canaryRules() []canaryRule {
	list := []string{"control:*", "cli:queue-list", "cli:queue-show"}                                       // what an operator sees of the queue
	reader := "cli:log-[rt]*"                                                                               // log read: find and trace; log tail
	domains := []string{"cli:log-stats", "cli:queue-stats", "cli:queue-stats-sender", "cli:privacy-export"} // what stands for a person's address where that is not to be seen
	config := []string{"cli:check", "config", "backup", "cli:privacy-policy", "cli:privacy-export"}         // what is in the config
	checks := []string{"check:scanner", "check:filter"}                                                     // what judges content
	content := append([]string{"hop:a", "hop:b", "hop:e", "incident:content"}, checks...)                   // of a message, where it is delivered or offered, or asked for
	header := append([]string{"hop:reports"}, content...)
	dialogue := []string{"incident:recipient", "incident:content"}
	with := func(some []string, more ...string) []string { return slices.Concat(some, more) }
	return []canaryRule{
		// Who and from where.
		{"user", "user", with(list, reader, "cli:user"), []string{"log:accepted:user", "log:delivered:user", "log:deferred:user", "log:failed:user", "log:held:user", "log:released:user", "log:deleted:user", "cli:user", "control:list", "cli:log-read"}},
		{"known.user", "user", []string{reader, "cli:user"}, []string{"log:auth_failed:user"}},
		{"added.user", "", nil, []string{"cli:user"}}, {"user.sender", "", nil, []string{"cli:user"}}, {"looked.up", "", []string{"cli:route"}, []string{"dns"}}, {"asked.recipient", "", nil, nil},
		{"client", "client", with(dialogue, reader), []string{"log:accepted:client", "log:delivered:client", "log:auth_failed:client", "log:tls_failed:client", "incident:recipient"}},

		// The envelope.
		{"mail.local", "sender", with(list, reader, "cli:queue-stats-sender", "cli:incident-list", "incident:recipient", "incident:content", "hop:reports", "hop:a", "hop:b", "hop:c", "hop:e"), []string{"log:accepted:sender", "log:delivered:sender", "log:deferred:sender", "log:failed:sender", "log:rejected:sender", "log:held:sender", "log:released:sender", "log:deleted:sender", "log:expired:sender", "control:show", "cli:queue-list", "cli:log-read", "cli:incident-list", "incident:content", "hop:a"}},
		{"mail.domain", "sender", slices.Concat(list, domains, config, dialogue, []string{reader, "dns", "cli:incident-list", "hop:reports", "hop:a", "hop:b", "hop:c", "hop:e"}), []string{"log:accepted:sender", "hop:a", "cli:privacy-export"}},
		{"mail.domain", "recipient", nil, []string{"log:delivered:recipient"}}, // of the report
		{"mail.local", "recipient", nil, []string{"log:delivered:recipient"}},
		{"envid", "", with(dialogue, "hop:a", "hop:b", "hop:c", "hop:e", "hop:reports"), []string{"hop:a", "hop:reports", "incident:recipient"}}, // RFC 3461 §4.4
		{"rcpt.a.*", "recipient", slices.Concat(list, dialogue, []string{reader, "hop:a", "cli:incident-list", "cli:privacy-export"}), []string{"log:accepted:recipient", "log:delivered:recipient", "hop:a", "cli:privacy-export", "cli:incident-list", "incident:recipient", "incident:content", "cli:log-read", "cli:log-tail"}},
		{"rcpt.b.*", "recipient", with(list, reader, "incident:content", "hop:b", "hop:reports"), []string{"log:accepted:recipient", "log:deferred:recipient", "log:held:recipient", "log:released:recipient", "log:deleted:recipient", "hop:b", "control:list", "incident:content"}},
		{"rcpt.c.*", "recipient", with(list, reader, "incident:content", "hop:c", "hop:reports"), []string{"log:accepted:recipient", "log:failed:recipient", "hop:c", "hop:reports", "incident:content"}},
		{"rcpt.d.*", "recipient", with(list, reader, "incident:content", "hop:reports"), []string{"log:accepted:recipient", "log:deferred:recipient", "log:expired:recipient", "incident:content"}},
		{"rcpt.e.*", "recipient", with(list, reader, "hop:e"), []string{"log:accepted:recipient", "log:delivered:recipient", "hop:e"}},
		{"rcpt.a.domain", "", with(slices.Concat(config, domains)), []string{"dns", "cli:log-stats"}},
		{"rcpt.e.domain", "", domains, []string{"dns", "cli:log-stats"}},
		{"rcpt.[bc].domain", "", with(slices.Concat(config, domains)), []string{"cli:log-stats"}},
		{"rcpt.d.domain", "", with(domains, "dns"), []string{"dns", "cli:log-stats"}},
		{"orcpt.a", "", nil, []string{"hop:a", "incident:recipient", "incident:content"}},
		{"orcpt.e", "", nil, []string{"hop:e"}},
		{"orcpt.b", "", []string{"hop:reports"}, []string{"hop:b", "incident:content"}},
		{"orcpt.d", "", []string{"hop:reports"}, []string{"incident:content"}},
		{"orcpt.c", "", []string{"hop:c", "hop:reports"}, []string{"hop:reports", "incident:content"}},

		// The message.
		{"header.subject", "subject", with(header, reader, "cli:privacy-export"), []string{"log:accepted:subject", "log:delivered:subject", "log:deferred:subject", "log:failed:subject", "log:expired:subject", "log:held:subject", "log:released:subject", "log:deleted:subject", "hop:a", "hop:reports", "cli:privacy-export", "cli:log-read"}},
		{"header.*", "headers", with(header, reader), []string{"log:content_rejected:headers", "hop:a", "incident:content", "cli:log-read", "check:scanner", "check:filter"}},
		{"body", "", content, []string{"hop:a", "incident:content", "check:scanner", "check:filter"}},
		{"attachment.*", "", content, []string{"hop:a", "incident:content"}},
		{"bcc", "", []string{"incident:content"}, nil}, // as the client sent it

		// In chunks, and to an address beyond ASCII.
		{"utf8.local", "recipient", with(list, reader, "hop:a"), []string{"log:accepted:recipient", "log:delivered:recipient", "hop:a"}},
		{"chunk.*", "", with(checks, "hop:a"), []string{"hop:a", "check:scanner"}},

		// What next hops and the DNS say.
		{"reply.queued", "status.remote_id", slices.Concat(list, dialogue, []string{reader, "cli:privacy-export"}), []string{"log:delivered:status.remote_id", "incident:recipient"}},
		{"reply.b.rcpt", "", with(list, "hop:reports", "incident:content"), []string{"control:show", "cli:queue-show", "incident:content"}},
		{"reply.c.rcpt", "", with(list, "hop:reports", "incident:content"), []string{"hop:reports", "incident:content"}},
		{"reply.a.*", "", dialogue, nil},
		{"reply.[bc].*", "", []string{"incident:content"}, nil},
		{"dns.mx", "", []string{"dns"}, []string{"dns"}}, // its address is asked for
		{"dns.torn", "", nil, []string{"dns"}},
		{"smarthost.*", "", nil, []string{"hop:b"}},
		{"smarthost.user", "", config, nil},

		// Mail for our own domains: no user, no client.
		{"mx.mail.local", "sender", with(list, reader, "hop:a"), []string{"log:accepted:sender", "log:delivered:sender", "log:rejected:sender", "hop:a"}},
		{"mx.rcpt.local", "recipient", with(list, reader, "hop:a"), []string{"log:accepted:recipient", "log:delivered:recipient", "hop:a"}},
		{"mx.denied.*", "recipient", []string{reader, "check:filter"}, []string{"log:rejected:recipient"}},
		{"mx.denied.domain", "", []string{"cli:log-stats"}, nil},

		// What a session says of itself: in the dialogue of an incident alone.
		{"helo.clear", "", dialogue, []string{"incident:recipient"}}, {"helo.secure", "", dialogue, []string{"incident:recipient"}},
		{"banner.*", "", dialogue, nil}, {"ehlo.*", "", dialogue, nil},
		{"mail.parameter", "", dialogue, nil}, {"rcpt.parameter", "", []string{"incident:content"}, nil}, {"command", "", dialogue, nil},
		{"elsewhere", "", nil, []string{"cli:incident-list"}},

		// What a playground shows to who plays, and what is known of keys.
		{"try.password", "", nil, []string{"cli:try"}},
		{"mail.*", "", []string{"cli:try"}, nil}, {"mail.local", "", nil, []string{"cli:try"}}, {"rcpt.[ac].*", "", nil, []string{"cli:try"}},
		{"header.subject", "", nil, []string{"cli:try"}}, {"client", "", nil, []string{"cli:try"}},
		{"dkim.selector", "", with(config, "hop:reports"), []string{"cli:dkim-check", "config", "dns"}}, // and where the relay signs its own reports
		{"dkim.domain", "", with(config, "cli:user"), []string{"cli:dkim-check", "config", "dns"}},

		// What judges mail: the envelope goes to a filter, content to both, domains to the DNS.
		{"client", "", []string{"check:filter"}, nil}, {"mx.client", "", []string{"check:filter"}, []string{"check:filter"}}, {"mx.helo", "", []string{"check:filter"}, []string{"check:filter"}},
		{"user", "", []string{"check:filter"}, []string{"check:filter"}},
		{"mail.local", "", nil, []string{"check:filter"}}, {"mail.domain", "", checks, []string{"check:filter"}}, {"mx.mail.local", "", []string{"check:filter"}, []string{"check:filter"}},
		{"rcpt.*", "", []string{"check:filter"}, nil}, {"utf8.local", "", []string{"check:filter"}, []string{"check:filter"}}, {"mx.rcpt.local", "", []string{"check:filter"}, []string{"check:filter"}},
		{"refused.rcpt", "recipient", []string{reader, "check:filter"}, []string{"log:content_rejected:recipient", "check:filter"}},
		{"scanner.signature", "", nil, nil},
		{"filter.reply", "", nil, []string{"replies"}}, // its own words to the client
		{"filter.added", "", content, []string{"hop:a"}},
		{"filter.added", "", []string{"hop:reports"}, nil},
		{"rule.name", "", with(config, "metrics"), []string{"config", "metrics"}}, {"rule.pattern", "", config, []string{"config"}},
		{"list.address", "", with(config, "dns"), []string{"dns"}}, {"list.domain", "", with(config, "dns"), []string{"dns"}}, {"list.text", "", nil, nil},
		{"listed.client", "", []string{"check:filter"}, nil}, {"listed.domain", "sender", with([]string{reader, "dns", "check:filter"}, domains...), []string{"log:rejected:sender", "dns"}},
		{"edge.mail.local", "sender", []string{reader, "check:filter"}, []string{"log:rejected:sender"}}, {"edge.helo", "", []string{"check:filter"}, nil},
		{"mx.unknown.local", "recipient", []string{reader, "check:filter"}, []string{"log:rejected:recipient"}},
		{"spf.domain", "sender", with([]string{reader, "dns", "check:filter"}, domains...), []string{"log:rejected:sender", "dns"}}, {"spf.include", "", nil, []string{"dns"}},
		{"spf.local", "sender", []string{reader, "check:filter"}, []string{"log:rejected:sender"}}, // and not to the DNS, whatever a record asks for
		{"spf.subject", "subject", []string{reader}, []string{"log:rejected:subject"}}, {"spf.body", "", nil, nil}, {"spf.explanation", "", nil, nil},
		{"sts.id", "", nil, nil}, {"pyzor.answer", "", nil, nil},
		{"hash.zone", "", config, []string{"dns", "config"}}, {"hash.purpose", "", config, []string{"config", "cli:privacy-policy"}},
		{"hash.name", "", with(config, "kept:asked"), []string{"config", "kept:asked"}}, {"list.*", "", []string{"kept:asked"}, nil},
		{"attachment.octets", "", nil, []string{"dns"}}, // its digest: TestEveryPacketIsADigest knows each octet of the packets

		// What is counted for reports to domains, in files of its own: hosts, domains and the clients of others.
		{"rcpt.[ae].domain", "", nil, []string{"kept:tlsreports"}}, {"dns.torn", "", nil, []string{"kept:tlsreports"}}, {"dns.mx", "", nil, []string{"kept:tlsreports"}}, // of hosts that failed, or whose policy could not be had
		{"spf.domain", "", nil, []string{"kept:dmarcreports"}}, {"mx.client", "", nil, []string{"kept:dmarcreports"}},
		{"tls.reports", "", nil, nil}, {"dmarc.reports", "", nil, nil}, {"web.reports", "", nil, nil},
		{"recipients.*", "", nil, nil}, {"dkim.*", "", nil, nil}, {"listed.local", "", nil, nil},

		// And nowhere at all.
		{"sni.*", "", nil, nil}, {"helo.wrong", "", nil, nil}, {"password", "", nil, nil},
		{"known.password", "", nil, nil}, {"unknown.*", "", nil, nil}, {"cancelled.*", "", nil, nil},
		{"malformed.*", "", nil, nil}, {"reply.*", "", nil, nil}, {"certificate.*", "", nil, nil}, {"dns.*", "", nil, nil},
		{"panic", "", nil, nil}, {"query", "", nil, nil}, {"query.*", "", nil, nil},
	}
}

// reportRules are those of the reports themselves: what domains learn, and who is told.
func reportRules() []canaryRule {
	told := []string{"hop:told", "log:accepted:subject", "log:delivered:subject", "check:scanner"} // the subject has the domain that it is about (RFC 8460 §5.3)
	checks := []string{"check:filter", "check:scanner"}
	return []canaryRule{
		{"tls.reports", "recipient", checks, []string{"hop:told"}}, {"dmarc.reports", "recipient", checks, []string{"hop:told"}}, {"web.reports", "", nil, []string{"report:web"}},
		{"rcpt.a.domain", "", nil, append(told, "report:web", "dns")}, {"rcpt.e.domain", "", nil, told}, {"dns.torn", "", nil, []string{"hop:told"}}, {"dns.mx", "", nil, []string{"hop:told", "report:web"}},
		{"spf.domain", "", nil, told}, {"mx.client", "", nil, []string{"hop:told"}}, {"dkim.selector", "", checks, []string{"hop:told"}}, {"filter.added", "", nil, []string{"hop:told"}},
	}
}

// canaryMay tells whether one of the rules lets an input be seen in a sink.
func canaryMay(rules []canaryRule, input, sink string) bool {
	fields := logging.Schema()
	for _, r := range canaryRulesOf(rules, input) {
		for _, may := range slices.Concat(r.may, r.must) {
			if ok, _ := path.Match(may, sink); ok {
				return true
			}
		}
		event, key, _ := strings.Cut(strings.TrimPrefix(sink, "log:"), ":")
		if strings.HasPrefix(sink, "log:") && r.field != "" && key == r.field {
			return slices.ContainsFunc(fields, func(f logging.Field) bool { return f.Key == key && canaryFieldIn(f, event) })
		}
	}
	return false
}

func canaryRulesOf(rules []canaryRule, input string) (of []canaryRule) {
	for _, r := range rules {
		if ok, _ := path.Match(r.input, input); ok {
			of = append(of, r)
		}
	}
	return of
}

func canaryFieldIn(f logging.Field, event string) bool {
	for e := logging.Event(1); e.String() != ""; e++ {
		if e.String() == event {
			return f.Allowed(e)
		}
	}
	return false
}

// sightings are where each input was seen: input, sink, form.
type sightings map[string]map[string]string

func (s sightings) note(input, sink, form string) {
	if s[input] == nil {
		s[input] = map[string]string{}
	}
	s[input][sink] = form
}

// look notes what data shows of the canaries.
func (s sightings) look(c *canarySet, sink string, data []byte) {
	for input, form := range c.search(data) {
		s.note(input, sink, form)
	}
}

// lookLog notes what the lines of a relay log show, by event and field. What
// a line shows beside its fields counts as raw.
func (s sightings) lookLog(t *testing.T, c *canarySet, lines []byte) {
	t.Helper()
	for line := range bytes.Lines(lines) {
		var record map[string]any
		if err := json.Unmarshal(line, &record); err != nil {
			t.Errorf("a line of the log is no JSON: %v", err)
			s.look(c, "log:raw", line)
			continue
		}
		event := fmt.Sprint(record["status"].(map[string]any)["event"])
		inFields := map[string]bool{}
		eachLogField("", record, func(key string, value []byte) {
			for input, form := range c.search(value) {
				inFields[input] = true
				s.note(input, "log:"+event+":"+key, form)
			}
		})
		for input, form := range c.search(line) {
			if !inFields[input] {
				s.note(input, "log:raw", form)
			}
		}
	}
}

// eachLogField calls f with the values of a record by their keys in the schema.
// The array of header fields is one value.
func eachLogField(key string, value any, f func(key string, value []byte)) {
	object, ok := value.(map[string]any)
	if !ok {
		text, isText := value.(string)
		if !isText {
			whole, _ := json.Marshal(value)
			text = string(whole)
		}
		f(key, []byte(text))
		return
	}
	for name, inner := range object {
		f(name, []byte(name)) // a key that the schema does not have is no field
		eachLogField(strings.TrimPrefix(key+"."+name, "."), inner, f)
	}
}

// compare holds the sightings to the rules, both ways: each input has one.
func (s sightings) compare(c *canarySet, rules []canaryRule) (leaks, missing []string) {
	for input, sinks := range s {
		for sink, form := range sinks {
			if !canaryMay(rules, input, sink) {
				leaks = append(leaks, fmt.Sprintf("%s in %s (%s)", input, sink, form))
			}
		}
	}
	for _, input := range c.inputs() {
		of := canaryRulesOf(rules, input)
		if len(of) == 0 {
			missing = append(missing, input+" has no rule")
		}
		for _, r := range of {
			if r.input != input && input == "header.subject" {
				continue // it has a rule of its own
			}
			for _, sink := range r.must {
				if _, seen := s[input][sink]; !seen {
					missing = append(missing, fmt.Sprintf("%s in %s", input, sink))
				}
			}
		}
	}
	slices.Sort(leaks)
	slices.Sort(missing)
	return leaks, missing
}
