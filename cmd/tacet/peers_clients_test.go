package main_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// mail is a message to submit.
type mail struct {
	from, to string
	content  []byte // CRLF lines
	file     string // the content in a file
}

// submission is how a program is to submit.
type submission struct {
	addr     string
	implicit bool
	auth     string // PLAIN or LOGIN
	utf8     bool
}

// program is a mail client: the command that submits a message.
type program struct {
	name string
	make func(p *peers, s submission, m mail) *exec.Cmd
	utf8 bool // knows SMTPUTF8
}

func programs() []program {
	return []program{
		{name: "swaks", make: swaksCommand},
		{name: "curl", make: curlCommand, utf8: true},
		{name: "msmtp", make: msmtpCommand},
		{name: "smtplib", make: smtplibCommand, utf8: true},
	}
}

func swaksCommand(p *peers, s submission, m mail) *exec.Cmd {
	how := "--tls"
	if s.implicit {
		how = "--tls-on-connect"
	}
	cmd := exec.Command("swaks", "--server", "localhost:"+portAfter(s.addr), how, "--tls-verify", "--tls-ca-path", p.cert.cert,
		"--auth", s.auth, "--auth-user", testUser, "--auth-password", testPassword,
		"--helo", "secret-client.example", "--from", m.from, "--to", m.to, "--data", "-", "--suppress-data")
	cmd.Stdin = bytes.NewReader(bytes.TrimSuffix(m.content, []byte("\r\n"))) // it adds a line end of its own
	return cmd
}

func curlCommand(p *peers, s submission, m mail) *exec.Cmd {
	scheme := "smtp"
	if s.implicit {
		scheme = "smtps"
	}
	return exec.Command("curl", "--no-progress-meter", "--verbose", "--url", scheme+"://localhost:"+portAfter(s.addr)+"/secret-client.example", "--ssl-reqd", "--cacert", p.cert.cert,
		"--user", testUser+":"+testPassword, "--login-options", "AUTH="+s.auth,
		"--mail-from", m.from, "--mail-rcpt", m.to, "--upload-file", m.file)
}

func msmtpCommand(p *peers, s submission, m mail) *exec.Cmd {
	starttls := "on"
	if s.implicit {
		starttls = "off"
	}
	cmd := exec.Command("msmtp", "--debug", "--file=/dev/null", "--host=localhost", "--port="+portAfter(s.addr), "--domain=secret-client.example",
		"--tls=on", "--tls-starttls="+starttls, "--tls-trust-file="+p.cert.cert,
		"--auth="+strings.ToLower(s.auth), "--user="+testUser, "--passwordeval=echo '"+testPassword+"'", "--from="+m.from, "--", m.to)
	cmd.Stdin = bytes.NewReader(bytes.ReplaceAll(m.content, []byte("\r\n"), []byte("\n")))
	return cmd
}

const smtplibScript = `
import os, smtplib, ssl, sys
host, port, how, mechanism, utf8, cafile, user, password, sender, recipient, path = sys.argv[1:]
context = ssl.create_default_context(cafile=cafile)
if how == "implicit":
    s = smtplib.SMTP_SSL(host, int(port), "secret-client.example", context=context)
else:
    s = smtplib.SMTP(host, int(port), "secret-client.example")
    s.starttls(context=context)
s.set_debuglevel(int(os.path.getsize(path) < 100000))
s.ehlo()
s.user, s.password = user, password
s.auth(mechanism, getattr(s, "auth_" + mechanism.lower()))
options = ["BODY=8BITMIME"] + (["SMTPUTF8"] if utf8 == "true" else [])
with open(path, "rb") as f:
    s.sendmail(sender, [recipient], f.read(), mail_options=options)
s.quit()
`

func smtplibCommand(p *peers, s submission, m mail) *exec.Cmd {
	how := "starttls"
	if s.implicit {
		how = "implicit"
	}
	return exec.Command("python3", "-c", smtplibScript, "localhost", portAfter(s.addr), how, s.auth, fmt.Sprint(s.utf8), p.cert.cert,
		testUser, testPassword, m.from, m.to, m.file)
}

func portAfter(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// newMail makes a message of a header and body lines, and its file in dir.
func newMail(t *testing.T, dir, from, to, subject string, body ...string) mail {
	t.Helper()
	m := mail{from: from, to: to}
	m.content = fmt.Appendf(nil, "From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: Mon, 02 Nov 2026 10:00:00 +0100\r\nMessage-ID: <%d@client.example>\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-Odd:   two  blanks \r\n\tand a folded   line\r\n\r\n%s\r\n",
		from, to, subject, rand.Int64(), strings.Join(body, "\r\n"))
	m.file = writeFile(t, filepath.Join(dir, fmt.Sprintf("%d.eml", rand.Int64())), string(m.content))
	return m
}

// oddBody has what relays and clients get wrong: dots, blanks, 8-bit, long lines.
func oddBody() []string {
	return []string{
		"Grüße aus Köln – 8-bit, €, 漢字", ".", "..", ".a line that starts with a dot", "a dot at the end.", "", "   ", "\ttab",
		strings.Repeat("x", 998), strings.Repeat("ä", 499), "From the beginning", "QUIT", "250 ok", "", "",
	}
}

// bigBody is about 20 MB of lines.
func bigBody() []string {
	random := make([]byte, 57)
	source := rand.NewChaCha8([32]byte{1})
	lines := make([]string, 20_000_000/78)
	for i := range lines {
		source.Read(random)
		lines[i] = base64.StdEncoding.EncodeToString(random)
	}
	return lines
}

var receivedField = regexp.MustCompile(`^Received: [^\r\n]*\r\n([ \t][^\r\n]*\r\n)*`)

// checkArrived compares what arrived with what was sent, less the trace
// fields, of which there are hops.
func checkArrived(t *testing.T, got, sent []byte, hops int) {
	t.Helper()
	for i := range hops {
		trace := receivedField.Find(got)
		if trace == nil {
			t.Fatalf("trace field %d is missing: %q", i+1, got[:min(len(got), 300)])
		}
		if i == 0 {
			for _, secret := range []string{"127.0.0.1", "secret-client", "anna", "localhost"} {
				if bytes.Contains(trace, []byte(secret)) {
					t.Errorf("the trace field names %s: %q", secret, trace)
				}
			}
		}
		got = got[len(trace):]
	}
	if !bytes.Equal(got, sent) {
		at := 0
		for at < min(len(got), len(sent)) && got[at] == sent[at] {
			at++
		}
		t.Errorf("the message changed on its way: %d octets of %d, first difference at %d\n got %q\nsent %q", len(got), len(sent), at,
			got[max(0, at-40):min(len(got), at+80)], sent[max(0, at-40):min(len(sent), at+80)])
	}
}

// clients: every program submits over STARTTLS and implicit TLS, with PLAIN
// and LOGIN, 8-bit text, 20 MB and internationalized addresses, and every octet arrives.
func (p *peers) clients(t *testing.T) {
	next := newSink(t, withTLS(p.cert))
	d := p.daemon(t, fmt.Sprintf("[delivery]\nnext_hop = %q\n", hop(next.addr)))
	big := bigBody()
	for _, program := range programs() {
		for _, how := range []submission{
			{addr: d.starttls, auth: "PLAIN"}, {addr: d.starttls, auth: "LOGIN"},
			{addr: d.implicit, auth: "PLAIN", implicit: true}, {addr: d.implicit, auth: "LOGIN", implicit: true},
		} {
			name := fmt.Sprintf("%s-%s-%v", program.name, how.auth, how.implicit)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				m := newMail(t, d.dir, "anna@example.org", name+"@example.net", "=?utf-8?q?Gr=C3=BC=C3=9Fe?= "+name, oddBody()...)
				p.submits(t, d, next, program, how, m)
				accepted, delivered := d.outcome("accepted", m.to), d.outcome("delivered", m.to)
				for _, r := range []record{accepted, delivered} {
					if r.User != testUser || r.Client != "127.0.0.1" || r.Sender != m.from || r.Subject != "Grüße "+name || r.TLS.In == nil || r.TLS.In.Version != "1.3" {
						t.Errorf("the log misses something: %s", r.line)
					}
				}
				if accepted.Status.ID != delivered.Status.ID || delivered.NextHost != "127.0.0.1" || delivered.TLS.Out == nil || delivered.TLS.Out.Version != "1.3" ||
					delivered.TLS.Out.Verified != "no" || delivered.Status.Code != 250 || delivered.Status.RemoteID != "SINK42" {
					t.Errorf("the log misses something: %s", delivered.line)
				}
			})
		}
		t.Run(program.name+"-20MB", func(t *testing.T) {
			t.Parallel()
			m := newMail(t, d.dir, "anna@example.org", program.name+"-big@example.net", "big", big...)
			p.submits(t, d, next, program, submission{addr: d.implicit, implicit: true, auth: "PLAIN"}, m)
		})
		if program.utf8 {
			t.Run(program.name+"-SMTPUTF8", func(t *testing.T) {
				t.Parallel()
				// curl passes the domain as A-label, smtplib as it is.
				domain := map[string]string{"curl": "xn--mller-kva.example", "smtplib": "müller.example"}[program.name]
				m := newMail(t, d.dir, "анна@example.org", program.name+"-jürgen@"+domain, "Grüße roh", oddBody()...)
				got := p.submits(t, d, next, program, submission{addr: d.starttls, auth: "PLAIN", utf8: true}, m)
				if !strings.Contains(got.from, " SMTPUTF8") {
					t.Errorf("passed on without SMTPUTF8: %s", got.from)
				}
				if r := d.outcome("delivered", m.to); r.Sender != m.from || r.Subject != "Grüße roh" {
					t.Errorf("the log misses something: %s", r.line)
				}
			})
		}
	}
}

// submits lets a program submit and waits until all of the message is at the next hop.
func (p *peers) submits(t *testing.T, d *daemon, next *sink, program program, how submission, m mail) message {
	t.Helper()
	out, errs, status := runProgram(t, program.make(p, how, m))
	if status != 0 {
		t.Fatalf("%s ends with %d:\n%s%s", program.name, status, out, errs)
	}
	got := next.mail.find(t, "the message to "+m.to, func(got message) bool {
		return len(got.to) == 1 && strings.HasPrefix(got.to[0], "<"+m.to+">")
	})
	checkArrived(t, got.content, m.content, 1)
	if !got.tls {
		t.Error("the next hop offers TLS and was not given it")
	}
	return got
}

// extensions: what the next hop lacks changes how a message goes there, not what arrives.
func (p *peers) extensions(t *testing.T) {
	without := func(words ...string) func(*sink) {
		return func(s *sink) {
			var left []string
			for _, keyword := range s.offer {
				if name, _, _ := strings.Cut(keyword, " "); !strings.Contains(" "+strings.Join(words, " ")+" ", " "+name+" ") {
					left = append(left, keyword)
				}
			}
			s.offer = left
		}
	}
	cases := []struct {
		name string
		sink *sink
	}{
		{"all", newSink(t)},
		{"tls", newSink(t, withTLS(p.cert))},
		{"nochunking", newSink(t, without("CHUNKING"))},
		{"nopipelining", newSink(t, without("PIPELINING"))},
		{"data", newSink(t, without("CHUNKING", "PIPELINING", "SIZE", "DSN", "ENHANCEDSTATUSCODES"))},
	}
	var routes strings.Builder
	for _, c := range cases {
		fmt.Fprintf(&routes, "[[delivery.route]]\ndomain = \"%s.example\"\nnext_hop = %q\n", c.name, hop(c.sink.addr))
	}
	d := p.daemon(t, routes.String())
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := newMail(t, d.dir, "anna@example.org", "bob@"+c.name+".example", c.name, oddBody()...)
			cmd := smtplibCommand(p, submission{addr: d.starttls, auth: "PLAIN"}, m)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			got := c.sink.mail.find(t, c.name, func(message) bool { return true })
			checkArrived(t, got.content, m.content, 1)
			if want := c.name == "all" || c.name == "tls" || c.name == "nopipelining"; got.chunked != want {
				t.Errorf("sent with BDAT: %v, want %v", got.chunked, want)
			}
			r := d.outcome("delivered", m.to)
			switch {
			case c.name == "tls" && (r.TLS.Out == nil || r.TLS.Out.Version != "1.3"):
				t.Errorf("TLS is not on record: %s", r.line)
			case c.name != "tls" && (r.TLS.Out == nil || r.TLS.Out.None != "not_offered"):
				t.Errorf("that there was no TLS is not on record: %s", r.line)
			}
		})
	}
	// Content is forgotten once it is delivered.
	d.empties()
}
