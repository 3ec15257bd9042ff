//go:build leaks

package main

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/miekg/dns"

	"tacet/logging"
	"tacet/queue"
)

// canaryLeak is one fault that a part of the relay might have, and where the
// harness must see it. It does its harm where the parts meet, with what it is
// shown there.
type canaryLeak struct {
	name        string
	input, sink string
	at          canaryHook
	do          func(*canaryRelay, *canarySight)
}

// The harness bites: with all of these faults seeded, each is found where it
// shows. Every one is forbidden by the rules.
func TestCanariesCatchLeaks(t *testing.T) {
	w := newCanaryWorld(t, "127.0.0.1:0")
	w.leaky = true
	all := canaryLeaks()
	if len(all) < 40 {
		t.Errorf("there are %d leaks only", len(all))
	}
	if err := os.Mkdir(w.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := startCanaryRelay(t, w, func(s *canaryRelay, h canaryHook, what *canarySight) {
		for _, leak := range all {
			if leak.at == h {
				leak.do(s, what)
			}
		}
	})
	saw := s.everything(t)
	rules := slices.Concat(canaryRules(), reportRules())
	places := map[string]string{}
	for _, leak := range all {
		if canaryMay(rules, leak.input, leak.sink) {
			t.Errorf("%s: %s may be in %s", leak.name, leak.input, leak.sink)
		}
		place := leak.input + " in " + leak.sink
		if other, twice := places[place]; twice {
			t.Errorf("%s and %s show in the same place: neither is proven", leak.name, other)
		}
		places[place] = leak.name
		if _, found := saw[leak.input][leak.sink]; !found {
			t.Errorf("not caught: %s, which puts %s", leak.name, place)
		}
	}
	t.Logf("%d leaks", len(all))
}

// leakPrinted is a fault that prints something where operational events go.
func leakPrinted(format string, what func(*canarySight) any) func(*canaryRelay, *canarySight) {
	return func(s *canaryRelay, x *canarySight) { fmt.Fprintf(&s.operations, format+"\n", what(x)) }
}

// leakSaved is a fault that leaves a file behind.
func leakSaved(name string, what func(*canarySight) []byte) func(*canaryRelay, *canarySight) {
	return func(s *canaryRelay, x *canarySight) {
		path := s.w.path(name)
		os.MkdirAll(filepath.Dir(path), 0o700)
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			f.Write(what(x))
			f.Close()
		}
	}
}

// leakSaid is a fault that answers an asker more than it should.
func leakSaid(format string, input string) func(*canaryRelay, *canarySight) {
	return func(s *canaryRelay, x *canarySight) { fmt.Fprintf(x.answer, format, s.w.of(input)) }
}

// leakRecorded is a fault that puts into a record what does not belong there.
func leakRecorded(event logging.Event, change func(*canaryRelay, *logging.Record)) func(*canaryRelay, *canarySight) {
	return func(s *canaryRelay, x *canarySight) {
		if x.record.Event == event {
			change(s, x.record)
		}
	}
}

// leakAdded is a fault that adds a header field to what a next hop is sent.
func leakAdded(format string, what func(*canaryRelay, *queue.Envelope) any) func(*canaryRelay, *canarySight) {
	return func(s *canaryRelay, x *canarySight) {
		if head := x.claim.Content.Head; head != nil {
			x.claim.Content.Head = append(fmt.Appendf(nil, format+"\r\n", what(s, x.envelope)), head...)
		}
	}
}

func leakLocalPart(p queue.ForwardPath) string { return strings.SplitN(string(p), "@", 2)[0] }

func utf16Octets(text string) (out []byte) {
	for _, u := range utf16.Encode([]rune(text)) {
		out = append(out, byte(u), byte(u>>8))
	}
	return out
}

func leakQuoted(text string) string {
	return "=?utf-8?Q?" + string(escapedForm(text, "=%02X")) + "?="
}

// leakAsked is a fault that asks a resolver more than the way of the mail needs.
func leakAsked(s *canaryRelay, name string) {
	conn, err := net.Dial("udp", s.w.dns.address)
	if err != nil {
		return
	}
	defer conn.Close()
	if packet, err := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeTXT).Pack(); err == nil {
		conn.Write(packet)
		conn.Read(make([]byte, 512)) // it has been asked
	}
}

func canaryLeaks() []canaryLeak {
	all := leaksOfRecords()
	all = append(all, leaksOfEvents()...)
	all = append(all, leaksOfFiles()...)
	all = append(all, leaksOfAnswers()...)
	all = append(all, leaksOfIncidents()...)
	all = append(all, leaksOfCommands()...)
	all = append(all, leaksOfReports()...)
	return append(all, leaksOfTransport()...)
}

func leaksOfRecords() []canaryLeak {
	subject := func(input string) func(*canaryRelay, *logging.Record) {
		return func(s *canaryRelay, r *logging.Record) { r.Subject += " " + s.w.of(input) }
	}
	return []canaryLeak{
		{"HELO name beside the subject", "helo.secure", "log:accepted:subject", atRecord, leakRecorded(logging.Accepted, subject("helo.secure"))},
		{"reply of the next hop beside the subject", "reply.c.rcpt", "log:failed:subject", atRecord, leakRecorded(logging.Failed, subject("reply.c.rcpt"))},
		{"banner beside the subject", "banner.b", "log:deferred:subject", atRecord, leakRecorded(logging.Deferred, subject("banner.b"))},
		{"EHLO keyword beside the subject", "ehlo.b.keyword", "log:deferred:subject", atRecord, leakRecorded(logging.Deferred, subject("ehlo.b.keyword"))},
		{"EHLO name beside the subject", "ehlo.a", "log:delivered:subject", atRecord, leakRecorded(logging.Delivered, subject("ehlo.a"))},
		{"name of the certificate beside the subject", "certificate.name", "log:delivered:subject", atRecord, leakRecorded(logging.Delivered, subject("certificate.name"))},
		{"MX host beside the subject", "dns.mx", "log:expired:subject", atRecord, leakRecorded(logging.Expired, subject("dns.mx"))},
		{"password as the user", "known.password", "log:auth_failed:user", atRecord, leakRecorded(logging.AuthFailed, func(s *canaryRelay, r *logging.Record) { r.User += s.w.of("known.password") })},
		{"user that does not exist", "unknown.user", "log:auth_failed:user", atRecord, leakRecorded(logging.AuthFailed, func(s *canaryRelay, r *logging.Record) { r.User += s.w.of("unknown.user") })},
		{"server name as the user", "sni.failed", "log:tls_failed:user", atRecord, leakRecorded(logging.TLSFailed, func(s *canaryRelay, r *logging.Record) { r.User = s.w.of("sni.failed") })},
		{"client of mail that comes in", "mx.client", "log:rejected:client", atRecord, leakRecorded(logging.Rejected, func(s *canaryRelay, r *logging.Record) {
			if !r.Client.IsValid() {
				r.Client = netip.MustParseAddr(s.w.of("mx.client"))
			}
		})},
		{"HELO name for the user", "mx.helo", "log:rejected:user", atRecord, leakRecorded(logging.Rejected, func(s *canaryRelay, r *logging.Record) { r.User = s.w.of("mx.helo") })},
		{"Message-ID as the next hop's ID", "header.message-id", "log:delivered:status.remote_id", atRecord, leakRecorded(logging.Delivered, func(s *canaryRelay, r *logging.Record) { r.RemoteID = s.w.of("header.message-id") + "." + r.RemoteID })},
		{"ENVID as the queue ID", "envid", "log:deferred:status.id", atRecord, leakRecorded(logging.Deferred, func(s *canaryRelay, r *logging.Record) { r.ID = s.w.of("envid") })},
		{"digest of the recipient as the queue ID", "rcpt.c.local", "log:failed:status.id", atRecord, leakRecorded(logging.Failed, func(_ *canaryRelay, r *logging.Record) {
			sum := sha256.Sum256([]byte(r.Recipient))
			r.ID = hex.EncodeToString(sum[:16])
		})},
		{"body as the recipient", "body", "log:deleted:recipient", atRecord, leakRecorded(logging.Deleted, func(s *canaryRelay, r *logging.Record) { r.Recipient += s.w.of("body") })},
		{"author for the reverse-path", "header.from", "log:held:sender", atRecord, leakRecorded(logging.Held, func(s *canaryRelay, r *logging.Record) { r.Sender += s.w.of("header.from") })},
		{"subject in base64 as the sender", "header.subject", "log:released:sender", atRecord, leakRecorded(logging.Released, func(_ *canaryRelay, r *logging.Record) {
			r.Sender = base64.StdEncoding.EncodeToString([]byte("x" + r.Subject))
		})},
		{"body among the header fields", "attachment.octets", "log:content_rejected:headers", atRecord, leakRecorded(logging.ContentRejected, func(s *canaryRelay, r *logging.Record) {
			r.Headers = append(r.Headers, logging.HeaderField{Name: "X-Body", Value: s.w.of("attachment.octets")})
		})},
		{"encoded word among the header fields", "attachment.name", "log:content_rejected:headers", atRecord, leakRecorded(logging.ContentRejected, func(s *canaryRelay, r *logging.Record) {
			r.Headers = append(r.Headers, logging.HeaderField{Name: "X-File", Value: leakQuoted(s.w.of("attachment.name"))})
		})},
	}
}

func leaksOfEvents() []canaryLeak {
	return []canaryLeak{
		{"password printed", "password", "operations", atLogin, leakPrinted("login %v", func(x *canarySight) any { return x.password })},
		{"user's digest printed", "user", "operations", atLogin, leakPrinted("login %x", func(x *canarySight) any { return md5.Sum([]byte(x.user)) })},
		{"AUTH payload printed", "known.password", "operations", atLogin, leakPrinted("%s", func(x *canarySight) any { return saslPayload("", x.user, x.password) })},
		{"refusal printed", "mx.denied.local", "operations", atRefuse, leakPrinted("%+v", func(x *canarySight) any { return *x.refusal })},
		{"recipient in a URL printed", "rcpt.a.local", "operations", atAccept, leakPrinted("https://example.org/?to=%s", func(x *canarySight) any {
			return escapedForm(string(x.envelope.Recipients[0].Path), "%%%02X")
		})},
		{"subject in hex printed", "header.subject", "operations", atAccept, leakPrinted("%x", func(x *canarySight) any { return x.envelope.Subject })},
		{"sender's digest printed", "mail.local", "operations", atAccept, leakPrinted("%x", func(x *canarySight) any { return sha1.Sum([]byte(x.envelope.Sender)) })},
		{"ENVID printed", "envid", "operations", atDeliver, leakPrinted("%q", func(x *canarySight) any { return x.envelope.EnvID })},
		{"ORCPT printed", "orcpt.a", "operations", atDeliver, leakPrinted("%+v", func(x *canarySight) any { return x.envelope.Recipients })},
		{"content in quoted-printable printed", "body", "operations", atDeliver, leakPrinted("%s", func(x *canarySight) any {
			content := x.claim.Content.Head
			at := max(bytes.Index(content, []byte("text/plain\r\n\r\n")), 0)
			return leakQuoted(string(content[at:min(len(content), at+100)]))
		})},
		{"reply of the next hop printed", "reply.b.rcpt", "operations", atResult, leakPrinted("%v", func(x *canarySight) any { return x.result.Replies })},
		{"route printed", "dns.mx", "operations", atRoute, leakPrinted("%+v", func(x *canarySight) any {
			if x.route == nil {
				return x.err
			}
			return *x.route
		})},
		{"dialogue of the next hop printed", "banner.a", "operations", atSent, leakPrinted("%q", func(x *canarySight) any { return string(x.octets) })},
		{"dialogue of the client printed", "helo.clear", "operations", atClient, leakPrinted("%q", func(x *canarySight) any { return string(x.octets) })},
		{"panic's value printed", "panic", "operations", atClient, leakPrinted("panic: %v", func(x *canarySight) any { return utf16Octets(string(x.octets)) })},
		{"name that TLS was asked for printed", "sni.name", "operations", atClient, leakPrinted("%x", func(x *canarySight) any { return x.octets })},
	}
}

func leaksOfFiles() []canaryLeak {
	return []canaryLeak{
		{"content in a temporary file", "body", "data:mail.eml", atStore, leakSaved("tmp/mail.eml", func(x *canarySight) []byte { return x.head })},
		{"UTF-16 beside the queue", "attachment.name", "data:queue", atStore, leakSaved("data/queue/CACHE", func(x *canarySight) []byte { return utf16Octets(string(x.head)) })},
		{"base64 beside the keys", "attachment.octets", "data:keys", atStore, leakSaved("data/keys/.swap", func(x *canarySight) []byte {
			return []byte(base64.StdEncoding.EncodeToString(append([]byte{1}, x.head...)))
		})},
		{"recipient in a hints database", "rcpt.b.local", "data:hints", atResult, leakSaved("data/hints/hosts.db", func(x *canarySight) []byte { return []byte(x.envelope.Recipients[x.claim.Recipients[0]].Path) })},
		{"reply in a hints database", "reply.c.rcpt", "data:hints", atResult, leakSaved("data/hints/replies.db", func(x *canarySight) []byte { return []byte(x.result.Replies[0].Text) })},
		{"name of a file", "mail.local", "data:senders", atStore, func(s *canaryRelay, x *canarySight) {
			os.MkdirAll(s.w.path("data/senders/"+url.PathEscape(string(x.envelope.Sender))), 0o700)
			leakSaved("data/senders/"+url.PathEscape(string(x.envelope.Sender))+"/seen", func(*canarySight) []byte { return nil })(s, x)
		}},
		{"search in the audit log", "rcpt.d.local", "audit", atAudit, func(s *canaryRelay, x *canarySight) { x.action.Ticket = s.w.of("rcpt.d.local") }},
	}
}

func leaksOfAnswers() []canaryLeak {
	return []canaryLeak{
		{"domain as a label", "rcpt.a.domain", "metrics", atScrape, leakSaid("tacet_mail_total{domain=%q} 1\n", "rcpt.a.domain")},
		{"digest of a user as a label", "user", "metrics", atScrape, func(s *canaryRelay, x *canarySight) {
			fmt.Fprintf(x.answer, "tacet_user_total{user=\"%x\"} 1\n", sha256.Sum256([]byte(s.w.of("user")+"@example.org")))
		}},
		{"reply in the health answer", "reply.b.rcpt", "health", atHealth, leakSaid("the smarthost says %s", "reply.b.rcpt")},
		{"author in the queue's list", "header.from", "control:show", atList, func(s *canaryRelay, x *canarySight) { x.envelope.Sender += queue.ReversePath(s.w.of("header.from")) }},
		{"password in the queue's view", "smarthost.password", "cli:queue-show", atList, func(s *canaryRelay, x *canarySight) { x.envelope.Origin.User += s.w.of("smarthost.password") }},
		{"client told of others", "known.user", "replies", atRefuse, func(s *canaryRelay, x *canarySight) {
			s.w.answered(x.refusal.Rejection.Text + " " + s.w.of("known.user"))
		}},
	}
}

// leakTraced is a fault that puts a line into the dialogue of an incident.
func leakTraced(format, input string) func(*canaryRelay, *canarySight) {
	return func(s *canaryRelay, x *canarySight) { x.trace.Line('<', fmt.Appendf(nil, format, s.w.of(input))) }
}

// leakAnswered is a fault that puts more into an answer of the control socket.
func leakAnswered(path, old, format, input string) func(*canaryRelay, *canarySight) {
	return func(s *canaryRelay, x *canarySight) {
		if x.path != path {
			return
		}
		body := strings.Replace(x.body.String(), old, fmt.Sprintf(format, s.w.of(input)), 1)
		x.body.Reset()
		x.body.WriteString(body)
	}
}

func leaksOfIncidents() []canaryLeak {
	return []canaryLeak{
		{"AUTH not masked in an incident", "password", "incident:recipient", atTrace, func(s *canaryRelay, x *canarySight) {
			x.trace.Line('<', []byte("AUTH PLAIN "+saslPayload("", s.w.of("user"), s.w.of("password"))))
		}},
		{"content that nobody asked for in an incident", "body", "incident:recipient", atTrace, leakTraced("%s", "body")},
		{"another recipient in an incident", "rcpt.c.local", "incident:recipient", atTrace, leakTraced("250 2.1.5 <%s> ok", "rcpt.c.local")},
		{"user of another session in an incident", "known.user", "incident:content", atTrace, leakTraced("250 hello %s", "known.user")},
		{"dialogue beside the incident's file", "helo.secure", "data:dialogues", atTrace, func(s *canaryRelay, x *canarySight) {
			leakSaved("data/dialogues/1.txt", func(*canarySight) []byte { return []byte(s.w.of("helo.secure")) })(s, x)
		}},
		{"password in the list of incidents", "smarthost.password", "cli:incident-list", atAnswer, leakAnswered("/v1/incidents", `"T-3"`, `"T-3%s"`, "smarthost.password")},
		{"scope told to all who read the log", "rcpt.a.local", "incidents", atAnswer, leakAnswered("/v1/incidents/open", `"T-3"`, `"T-3%s"`, "rcpt.a.local")},
		{"password in the config's answer", "smarthost.password", "config", atAnswer, leakAnswered("/v1/config", `"`, `"%s`, "smarthost.password")},
		{"local part in the queue's statistics", "rcpt.d.local", "cli:queue-stats", atAnswer, func(s *canaryRelay, x *canarySight) {
			leakAnswered("/v1/shape", s.w.of("rcpt.d.domain"), "%s@x", "rcpt.d.local")(s, x)
		}},
		{"another person in an export", "mail.local", "cli:privacy-export", atAnswer, func(s *canaryRelay, x *canarySight) {
			leakAnswered("/v1/privacy/export", `"…@`, `"%s@`, "mail.local")(s, x)
		}},
		{"plain beside a sealed day", "header.subject", "log:file", atRecord, leakSaved("log/cache", func(x *canarySight) []byte { return []byte(x.record.Subject) })},
		{"password in a backup", "smarthost.password", "backup", atAudit, func(s *canaryRelay, x *canarySight) {
			if x.action.What == logging.VerbBackupVerify {
				leakSaved("backup.tar", func(*canarySight) []byte { return []byte(s.w.of("smarthost.password")) })(s, x)
			}
		}},
		{"chunk printed", "chunk.last", "operations", atStore, func(s *canaryRelay, x *canarySight) {
			if text := s.w.of("chunk.last"); text != "" && bytes.Contains(x.head, []byte(text)) {
				fmt.Fprintf(&s.operations, "%q\n", text)
			}
		}},
		{"address beyond ASCII in a query", "utf8.local", "dns", atAccept, func(s *canaryRelay, x *canarySight) {
			if local, ok := strings.CutPrefix(leakLocalPart(x.envelope.Recipients[0].Path), "ü"); ok {
				leakAsked(s, "xn--"+local+".example")
			}
		}},
	}
}

// leakShown is a fault that has a command print more.
func leakShown(command, format, input string) func(*canaryRelay, *canarySight) {
	return func(s *canaryRelay, x *canarySight) {
		if strings.HasPrefix(x.path, command) {
			fmt.Fprintf(x.answer, format+"\n", s.w.of(input))
		}
	}
}

func leaksOfCommands() []canaryLeak {
	return []canaryLeak{
		{"body in what a playground shows", "body", "cli:try", atPrint, leakShown("try", "%q", "body")},
		{"HELO name in what a playground shows", "helo.secure", "cli:try", atPrint, leakShown("try", "EHLO %s", "helo.secure")},
		{"wrong user in what a playground shows", "unknown.user", "cli:try", atPrint, leakShown("try", "auth_failed %s", "unknown.user")},
		{"content beside a playground", "attachment.octets", "try:files", atPrint, func(s *canaryRelay, x *canarySight) {
			if at, _ := filepath.Glob(s.w.path("play/tacet-try-*")); x.path == "try" && len(at) == 1 {
				os.WriteFile(filepath.Join(at[0], "mail.eml"), []byte(s.w.of("attachment.octets")), 0o600)
			}
		}},
		{"record of the DNS in a check of keys", "dkim.text", "cli:dkim-check", atPrint, leakShown("dkim check", "the DNS has n=%s", "dkim.text")},
		{"private key in a check of keys", "dkim.key.other", "cli:dkim-check", atPrint, leakShown("dkim check", "%x", "dkim.key.other")},
	}
}

// leakCounted is a fault that counts more than a host's name for the reports.
func leakCounted(format, input string) func(*canaryRelay, *canarySight) {
	return func(s *canaryRelay, x *canarySight) {
		if x.session != nil && x.session.Host != "" {
			x.session.Host += fmt.Sprintf(format, s.w.of(input))
		}
	}
}

func leaksOfReports() []canaryLeak {
	return []canaryLeak{
		{"recipient in a TLS report", "rcpt.e.local", "hop:told", atCount, leakCounted(" for %s", "rcpt.e.local")},
		{"client of a submission in the counts of TLS", "client", "kept:tlsreports", atCount, leakCounted(" from %s", "client")},
		{"user's digest in a TLS report", "user", "hop:told", atCount, func(s *canaryRelay, x *canarySight) {
			if x.session != nil {
				x.session.Host += fmt.Sprintf(" by %x", sha256.Sum256([]byte(s.w.of("user")+"@example.org")))
			}
		}},
		{"local part in a DMARC report", "spf.local", "hop:told", atCount, func(s *canaryRelay, x *canarySight) {
			if x.outcome != nil && strings.HasPrefix(x.outcome.From, s.w.of("spf.domain")) {
				x.outcome.Sender = s.w.of("spf.local") + "@" + x.outcome.Sender
			}
		}},
		{"subject in the counts of DMARC", "spf.subject", "kept:dmarcreports", atCount, func(s *canaryRelay, x *canarySight) {
			if x.outcome != nil {
				x.outcome.SPFDomain += s.w.of("spf.subject")
			}
		}},
		{"cookie for a report's web server", "mail.local", "report:web", atPost, leakSaid("Cookie: %s\r\n", "mail.local")},
		{"text in a packet to a Pyzor server", "body", "check:pyzor", atStore, func(s *canaryRelay, x *canarySight) {
			fmt.Fprintf(&s.w.checks.pyzor.got, "Text: %s\n", s.w.of("body"))
		}},
	}
}

func leaksOfTransport() []canaryLeak {
	return []canaryLeak{
		{"user in a header field", "user", "hop:a", atDeliver, leakAdded("X-Authenticated-User: %s", func(_ *canaryRelay, e *queue.Envelope) any { return e.Origin.User })},
		{"client in a header field", "client", "hop:a", atDeliver, leakAdded("X-Originating-IP: [%s]", func(_ *canaryRelay, e *queue.Envelope) any { return e.Origin.Client })},
		{"HELO name in a header field", "helo.secure", "hop:a", atDeliver, leakAdded("Received: from %s", func(s *canaryRelay, _ *queue.Envelope) any { return s.w.of("helo.secure") })},
		{"Bcc relayed", "bcc", "hop:a", atDeliver, leakAdded("Bcc: %s@example.net", func(s *canaryRelay, _ *queue.Envelope) any { return s.w.of("bcc") })},
		{"other recipients in a header field", "rcpt.c.local", "hop:a", atDeliver, leakAdded("X-Envelope-To: %s", func(_ *canaryRelay, e *queue.Envelope) any {
			var all []string
			for _, r := range e.Recipients {
				all = append(all, string(r.Path))
			}
			return strings.Join(all, ", ")
		})},
		{"digest of the user in a header field", "known.user", "hop:a", atDeliver, leakAdded("X-Sender-Hash: %x", func(s *canaryRelay, _ *queue.Envelope) any {
			return sha1.Sum([]byte(s.w.of("known.user") + "@example.org"))
		})},
		{"body in a report", "body", "hop:reports", atDeliver, func(s *canaryRelay, x *canarySight) {
			if x.envelope.Sender.IsNull() {
				leakAdded("X-Original: %s", func(s *canaryRelay, _ *queue.Envelope) any { return s.w.of("body") })(s, x)
			}
		}},
		{"local part in a query", "rcpt.a.local", "dns", atDeliver, func(s *canaryRelay, x *canarySight) {
			leakAsked(s, leakLocalPart(x.envelope.Recipients[0].Path)+"._spf.example")
		}},
		{"digest of a recipient in a query", "mx.rcpt.local", "dns", atDeliver, func(s *canaryRelay, x *canarySight) {
			leakAsked(s, fmt.Sprintf("%x.hashbl.example", md5.Sum([]byte(x.envelope.Recipients[0].Path))))
		}},
	}
}

// answered is a reply that a client is told beside the session's own.
func (w *canaryWorld) answered(text string) { io.WriteString(&w.extra, text+"\r\n") }
