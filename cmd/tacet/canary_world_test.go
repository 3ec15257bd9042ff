package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"tacet/logging"
	"tacet/relay/auth"
)

// canaryWorld is all that surrounds a relay: clients, next hops and a
// resolver, each input of theirs a canary.
type canaryWorld struct {
	*canarySet
	t       *testing.T
	dir     string
	config  string // its path
	hops    map[string]*canaryHop
	dns     *canaryDNS
	ports   map[string]string // listeners by name
	replies bytes.Buffer      // all that clients were answered
	extra   lockedBuffer      // likewise
	sealed  bool              // the running day is encrypted
	leaky   bool              // faults are seeded
	checks  canaryChecks
	reader  *age.X25519Identity // of what is exported encrypted

	mu  sync.Mutex
	ran map[string]bool // commands
}

const canaryPatience = 3 * time.Minute

// newCanaryWorld makes it. mxPort is the port of next hops that the DNS names.
func newCanaryWorld(t *testing.T, mxAddress string) *canaryWorld {
	t.Helper()
	dir, err := os.MkdirTemp("", "canary-") // short, for the socket's sake
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &canaryWorld{canarySet: newCanarySet(), t: t, dir: dir, config: filepath.Join(dir, "tacet.toml"), hops: map[string]*canaryHop{}, dns: new(canaryDNS), ports: map[string]string{}, ran: map[string]bool{}}
	if err := os.Mkdir(w.path("play"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", w.path("play")) // of playgrounds, and of whatever else is for now
	if w.reader, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	w.add("client", "127.64.23.45")
	w.add("mx.client", "127.65.34.56")
	for _, name := range []string{"a", "b", "c", "e", "reports", "told"} {
		w.hop(name)
	}
	w.hops["a"].start(t, mxAddress)
	host, port, _ := net.SplitHostPort(mxAddress)
	tornHost := netip.MustParseAddr(host).Next().String()
	w.hops["e"].start(t, net.JoinHostPort(tornHost, port))
	for _, name := range []string{"b", "c", "reports", "told"} {
		w.hops[name].start(t, "127.0.0.1:0")
	}
	w.startChecks()
	mx, domain := w.new("dns.mx")+".example.", w.new("rcpt.a.domain", "%s.example")+".example."
	torn := w.new("rcpt.e.domain", "%s.example") + ".example."
	keys, keyRecords := w.canaryDKIM()
	w.dns.start(t, "aside.example. 60 IN TXT "+w.new("dns.text"), append(append(w.checksZone(), keyRecords...),
		domain+" 60 IN MX 10 "+mx,
		domain+" 60 IN TXT "+w.new("dns.text"),
		mx+" 60 IN A "+host,
		torn+" 60 IN MX 10 "+w.new("dns.torn")+".example.",
		w.of("dns.torn")+".example. 60 IN A "+tornHost)...)
	w.configure(keys)
	return w
}

// hop makes a next hop that talks canaries.
func (w *canaryWorld) hop(name string) {
	id := func(part string) string { return w.new("reply." + name + "." + part) }
	h := &canaryHop{name: name, say: map[string]string{
		"":         w.new("banner."+name) + ".example ESMTP " + w.of("banner."+name),
		"EHLO":     w.new("ehlo."+name) + ".example hello",
		"MAIL":     "250 2.1.0 " + id("mail"),
		"RCPT":     "250 2.1.5 " + id("rcpt"),
		"DATA":     "354 " + id("data"),
		".":        "250 2.0.0 Ok: " + id("end"),
		"QUIT":     "221 2.0.0 " + id("quit"),
		"RSET":     "250 2.0.0 " + id("rset"),
		"STARTTLS": "",
	}, offer: []string{"PIPELINING", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES", "X" + w.new("ehlo."+name+".keyword")}}
	switch name {
	case "a":
		h.say["."] = "250 2.0.0 Ok: queued as 4F" + w.new("reply.queued")
		h.offer = append(h.offer, "SMTPUTF8")
		common := w.new("certificate.name")
		h.tls = &tls.Config{Certificates: []tls.Certificate{canaryCertificate(w.t, common+".example", common)}}
	case "e":
		h.tls = &tls.Config{} // without a certificate
	case "b":
		common := w.new("certificate.b")
		h.tls = &tls.Config{Certificates: []tls.Certificate{canaryCertificate(w.t, common+".example", common)}}
		h.offer = append(h.offer, "AUTH PLAIN")
		h.say["AUTH"] = "235 2.7.0 " + id("auth")
		h.say["RCPT"] = "451 4.7.1 " + id("rcpt")
		h.say["DATA"] = "503 5.5.1 " + id("data")
	case "c":
		h.say["RCPT"] = "550 5.1.1 " + id("rcpt")
		h.say["DATA"] = "503 5.5.1 " + id("data")
	}
	w.hops[name] = h
}

func (w *canaryWorld) path(name string) string { return filepath.Join(w.dir, name) }

func (w *canaryWorld) file(name, content string) string {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// configure writes config, users and what they name. more is put into the config.
func (w *canaryWorld) configure(more string) {
	for _, name := range []string{"starttls", "implicit", "mx", "proxied"} {
		w.ports[name] = unused(w.t)
	}
	cheap := auth.Params{Memory: 64, Time: 1, Threads: 1}
	user, known := w.new("user", "%s@example.org"), w.new("known.user", "%s@example.org")
	users := w.file("users", fmt.Sprintf("%s@example.org:%s:senders=* new_recipients_per_day=1000\n%s@example.org:%s\n", user, auth.NewHash([]byte(w.new("password")), cheap),
		known, auth.NewHash([]byte("another"), cheap)))
	secret := w.file("secret", w.new("smarthost.password")+"\n")
	hop := func(name string) string {
		_, port, _ := net.SplitHostPort(w.hops[name].address)
		return "[127.0.0.1]:" + port
	}
	w.file("tacet.toml", fmt.Sprintf(`hostname = "relay.example.org"
data_dir = %q
postmaster = "postmaster@relay.example.org"

[[listener]]
address = %q
tls = "starttls"

[[listener]]
address = %q
tls = "implicit"

[[listener]]
address = %q
kind = "mx"
tls = "starttls"

[[listener]]
address = %q
kind = "mx"
tls = "none"
proxy_from = ["127.0.0.1/32"]

[auth]
users_file = %q

[submission]
recipient_memory = "1d"

[relay]
domains = ["own.example"]

[delivery]
deny_special_addresses = false

[[delivery.route]]
domain = "%s.example"
next_hop = %q
auth_user = %q
auth_password_file = %q

[[delivery.route]]
domain = "%s.example"
next_hop = %q

[[delivery.route]]
domain = "%s.example"
next_hop = %q

[[delivery.route]]
domain = "own.example"
next_hop = "%s.example"

[[delivery.route]]
domain = "reports.example"
next_hop = %q

[dns]
resolvers = [%q]
%s
[log]
dir = %q
`, w.path("data"), w.ports["starttls"], w.ports["implicit"], w.ports["mx"], w.ports["proxied"], users,
		w.new("rcpt.b.domain", "%s.example"), hop("b"), w.new("smarthost.user"), secret,
		w.new("rcpt.c.domain", "%s.example"), hop("c"),
		w.new("mail.domain", "%s.example"), hop("reports"), w.of("rcpt.a.domain"), hop("told"), w.dns.address, w.checksConfig()+more, w.path("log")))
}

// message is the content that is submitted.
func (w *canaryWorld) message() string {
	h := func(name string) string { return w.new("header." + name) }
	return strings.Join([]string{
		"Received: from " + h("received") + ".example by x.example; Mon, 23 Nov 2026 12:00:00 +0000",
		"From: " + h("from") + " <" + h("from") + "@example.org>",
		"To: " + h("to") + "@example.net",
		"Cc: " + h("cc") + "@example.net",
		"Bcc: " + w.new("bcc") + "@example.net",
		"Subject: =?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte("Angebot "+h("subject"))) + "?=",
		"Message-ID: <" + h("message-id") + "@example.org>",
		"In-Reply-To: <" + h("in-reply-to") + "@example.org>",
		"X-Mailer: " + h("x-mailer"), "X-Originating-IP: " + h("x-originating"),
		"List-Unsubscribe: <https://example.org/" + h("list") + ">",
		"MIME-Version: 1.0", `Content-Type: multipart/mixed; boundary="limit"`, "",
		"--limit", "Content-Type: text/plain", "", "The text says " + w.new("body"),
		"--limit", `Content-Type: application/pdf; name="` + w.new("attachment.name") + `.pdf"`, "", w.new("attachment.octets"),
		"--limit--", "",
	}, "\r\n")
}

// client is one session with the relay.
type canaryClient struct {
	w    *canaryWorld
	conn net.Conn
	in   *bufio.Reader
}

// dial connects from an address.
func (w *canaryWorld) dial(port, from string) *canaryClient {
	w.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: canaryPatience}
	conn, err := dialer.Dial("tcp", w.ports[port])
	if err != nil {
		w.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(canaryPatience))
	c := &canaryClient{w: w, conn: conn, in: bufio.NewReader(conn)}
	return c
}

// read reads one reply.
func (c *canaryClient) read() string {
	var last string
	for {
		line, err := c.in.ReadString('\n')
		c.w.replies.WriteString(line)
		if err != nil {
			return last
		}
		if last = strings.TrimSpace(line); len(last) < 4 || last[3] != '-' {
			return last
		}
	}
}

// say sends lines one by one; the last one must be answered with a code.
func (c *canaryClient) say(code string, lines ...string) {
	c.w.t.Helper()
	var reply string
	for _, line := range lines {
		io.WriteString(c.conn, line+"\r\n")
		reply = c.read()
	}
	if !strings.HasPrefix(reply, code) {
		c.w.t.Fatalf("%.20q was answered with %q, want %s", lines[len(lines)-1], reply, code)
	}
}

// secure begins TLS with a server name and a certificate that are canaries.
func (c *canaryClient) secure(starttls bool) {
	c.w.t.Helper()
	if starttls {
		c.say("220", "STARTTLS")
	}
	common := c.w.new("sni.certificate")
	own := canaryCertificate(c.w.t, common+".example", common)
	under := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, ServerName: c.w.new("sni.name") + ".example", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }})
	if err := under.HandshakeContext(context.Background()); err != nil {
		c.w.t.Fatal(err)
	}
	c.conn, c.in = under, bufio.NewReader(under)
}

func saslPayload(parts ...string) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(parts, "\x00")))
}

// submission opens a session that has logged in.
func (w *canaryWorld) submission(port string) *canaryClient {
	c := w.dial(port, w.of("client"))
	if port == "implicit" {
		c.secure(false)
		c.read()
	} else {
		c.read()
		c.say("250", "EHLO "+w.new("helo.clear")+".example")
		c.secure(true)
	}
	c.say("250", "EHLO "+w.new("helo.secure")+".example")
	if port == "implicit" {
		c.say("235", "AUTH LOGIN", saslPayload(w.of("user")+"@example.org"), saslPayload(w.of("password")))
	} else {
		c.say("235", "AUTH PLAIN "+saslPayload("", w.of("user")+"@example.org", w.of("password")))
	}
	return c
}

func (w *canaryWorld) sender() string {
	domain := w.of("mail.domain") + ".example"
	return w.new("mail.local", "%s@"+domain, "<%s@"+domain+">") + "@" + domain
}

// submit submits the message to all kinds of recipients.
func (w *canaryWorld) submit(port string, recipients ...string) {
	w.t.Helper()
	w.transaction(w.submission(port), recipients...)
}

// transaction submits the message in a session that has logged in, and ends it.
func (w *canaryWorld) transaction(c *canaryClient, recipients ...string) {
	w.t.Helper()
	defer c.conn.Close()
	from := w.sender()
	c.say("5", "MAIL FROM:<"+from+"> "+strings.ToUpper(w.new("mail.parameter"))+"="+w.of("mail.parameter"))
	c.say("250", "MAIL FROM:<"+from+"> ENVID="+w.new("envid"))
	c.say("5", "RCPT TO:<x@example.org> "+w.new("rcpt.parameter"))
	for _, name := range recipients {
		c.say("250", "RCPT TO:<"+w.address(name)+"> ORCPT=rfc822;"+w.new("orcpt."+name)+"@example.com")
	}
	c.say("5", strings.ToUpper(w.new("command"))+" "+w.of("command"))
	c.say("354", "DATA")
	c.say("250", w.message()+"\r\n.")
	c.say("221", "QUIT")
}

// chunks submits a message in chunks, to a recipient whose address is beyond ASCII.
func (w *canaryWorld) chunks() {
	w.t.Helper()
	c := w.submission("implicit")
	defer c.conn.Close()
	domain := w.of("rcpt.a.domain") + ".example"
	c.say("250", "MAIL FROM:<"+w.sender()+"> SMTPUTF8 BODY=8BITMIME")
	c.say("250", "RCPT TO:<ü"+w.new("utf8.local", "ü%s@"+domain, "<ü%s@"+domain+">")+"@"+domain+">")
	first, last := "Subject: in pieces\r\n\r\n"+w.new("chunk.first")+"\r\n", "grüße "+w.new("chunk.last")
	c.say("250", fmt.Sprintf("BDAT %d\r\n%s", len(first), strings.TrimSuffix(first, "\r\n")))
	c.say("250", fmt.Sprintf("BDAT %d LAST\r\n%s", len(last)+2, last))
	c.say("221", "QUIT")
}

// address is a recipient's: of a on the DNS's way, of b behind a smarthost, of
// c refused, of d without a DNS.
func (w *canaryWorld) address(name string) string {
	domain := w.new("rcpt."+name+".domain", "%s.example") + ".example"
	if name == "d" {
		domain = w.new("rcpt.d.domain", "%s.servfail.example") + ".servfail.example"
	}
	return w.new("rcpt."+name+".local", "%s@"+domain, "<%s@"+domain+">") + "@" + domain
}

// misbehave does all that is refused.
func (w *canaryWorld) misbehave() {
	w.t.Helper()
	c := w.dial("starttls", w.of("client"))
	c.read()
	c.say("250", "EHLO "+w.new("helo.wrong")+".example")
	c.say("5", "AUTH PLAIN "+saslPayload("", w.new("unknown.clear"), w.new("unknown.clear.password"))) // not in the clear
	c.say("530", "MAIL FROM:<"+w.sender()+">")
	c.secure(true)
	c.say("250", "EHLO "+w.of("helo.wrong")+".example")
	c.say("501", "AUTH LOGIN "+saslPayload(w.new("cancelled.user")), "*")
	c.say("5", "AUTH PLAIN "+w.new("malformed.payload")+"!="+w.of("malformed.payload"))
	c.say("535", "AUTH PLAIN "+saslPayload("", w.new("unknown.user"), w.new("unknown.password")))
	c.conn.Close()
	c = w.dial("implicit", w.of("client"))
	c.secure(false)
	c.read()
	c.say("250", "HELO "+w.of("helo.wrong")+".example", "EHLO "+w.of("helo.wrong")+".example")
	c.say("535", "AUTH PLAIN "+saslPayload("", w.of("known.user")+"@example.org", w.new("known.password")))
	c.say("535", "AUTH LOGIN", saslPayload(w.of("known.user")+"@example.org"), saslPayload(w.of("known.password")))
	c.conn.Close()

	c = w.dial("implicit", w.of("client")) // no TLS that we speak
	failing := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, ServerName: w.new("sni.failed") + ".example", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	if failing.HandshakeContext(context.Background()) == nil {
		w.t.Fatal("TLS 1.1 was taken")
	}
	c.conn.Close()
}

// incoming is mail for our own domain, and for others.
func (w *canaryWorld) incoming() {
	w.t.Helper()
	c := w.dial("mx", w.of("mx.client"))
	defer c.conn.Close()
	c.read()
	c.say("250", "EHLO "+w.new("mx.helo")+".example")
	c.say("250", "MAIL FROM:<"+w.new("mx.mail.local", "%s@example.org")+"@example.org>")
	c.say("550", "RCPT TO:<"+w.new("mx.denied.local", "%s@example.org")+"@"+w.new("mx.denied.domain")+".example>")
	c.say("250", "RCPT TO:<"+w.new("mx.rcpt.local", "%s@own.example")+"@own.example>")
	c.say("354", "DATA")
	content := w.message()
	c.say("250", strings.Replace(content, w.of("bcc"), "nobody", 1)+"\r\n.") // no submission: Bcc stays
}

// keepLog says how the running day is kept.
func (w *canaryWorld) keepLog(live string) {
	w.t.Helper()
	w.sealed = live == "sealed"
	content, err := os.ReadFile(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.file("tacet.toml", string(content)+fmt.Sprintf("live = %q\n", live))
}

// logged is the relay log as it stands, of sealed days what is in them.
func (w *canaryWorld) logged() []byte {
	w.t.Helper()
	var all []byte
	for line, err := range logging.Read(context.Background(), logging.ReadOptions{Dir: w.path("log"), KeyDir: w.path("data/keys/log"), Last: -1}) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			w.t.Fatal(err)
		default:
			all = append(append(all, line.Raw...), '\n')
		}
	}
	return all
}

// count is how often the log has an event.
func (w *canaryWorld) count(event string) int {
	w.t.Helper()
	return bytes.Count(w.logged(), []byte(`"event":"`+event+`"`))
}

// overnight lets a log in plain become one of a day that is over, has it sealed, and looks
// at the file and at what is in it. An encrypted one is looked at as it is.
func (w *canaryWorld) overnight(t *testing.T, saw sightings) {
	t.Helper()
	if w.sealed {
		return
	}
	live, err := filepath.Glob(w.path("log/relay-*.jsonl"))
	if err != nil || len(live) != 1 {
		t.Fatalf("%v, %v", live, err)
	}
	before := len(w.logged())
	yesterday := w.path("log/relay-" + time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly))
	if err := os.Rename(live[0], yesterday+".jsonl"); err != nil {
		t.Fatal(err)
	}
	config, err := LoadConfig(w.config)
	if err != nil {
		t.Fatal(err)
	}
	log, err := openJournal(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(canaryPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(yesterday + ".sealed"); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("yesterday is not sealed")
		}
		<-tick.C
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if after := len(w.logged()); after != before || before == 0 {
		t.Errorf("the log was %d octets, and is %d", before, after)
	}
	w.look(saw)
}

// until waits until the log has an event so often.
func (w *canaryWorld) until(event string, n int) {
	w.t.Helper()
	deadline := time.Now().Add(canaryPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for w.count(event) < n {
		if time.Now().After(deadline) {
			w.t.Fatalf("the log does not come to %d of %s:\n%s", n, event, w.logged())
		}
		<-tick.C
	}
	w.idle()
}

// idle waits until no attempt is under way: the log has an outcome before the queue has it.
func (w *canaryWorld) idle() {
	w.t.Helper()
	deadline := time.Now().Add(canaryPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var stats struct{ Active int }
		if err := json.Unmarshal(w.ask(w.t, "/v1/stats"), &stats); err != nil {
			w.t.Fatal(err)
		}
		if stats.Active == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d attempts do not end", stats.Active)
		}
		<-tick.C
	}
}
