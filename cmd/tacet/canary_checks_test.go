package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tacet/relay/recipients"
)

// canaryChecks are what judges mail: a virus scanner and a mail filter that say canaries and
// keep what they are sent, block lists, policies in the DNS, and a list of who exists.
type canaryChecks struct {
	clamd, milter, pyzor canaryPeer
}

// canaryPeer is a server that keeps what it is sent.
type canaryPeer struct {
	address string
	got     lockedBuffer
}

// start serves each connection in turn until the end of the test.
func (p *canaryPeer) start(t *testing.T, path string, serve func(conn net.Conn, in io.Reader)) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p.address = "unix:" + path
	var talks sync.WaitGroup
	talks.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			talks.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(canaryPatience))
				serve(conn, io.TeeReader(conn, &p.got))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		talks.Wait()
	})
}

// checkMarks are what a message has in its X-Check field to be refused by one check.
const (
	markRule   = "refused-by-rule"
	markClamd  = "refused-by-scanner"
	markMilter = "refused-by-filter"
)

// startChecks starts the scanner and the filter.
func (w *canaryWorld) startChecks() {
	w.t.Helper()
	signature, reply, added := w.new("scanner.signature"), w.new("filter.reply"), w.new("filter.added")
	w.checks.clamd.start(w.t, w.path("clamd"), func(conn net.Conn, in io.Reader) {
		content, err := readInstream(in)
		switch {
		case err != nil:
		case bytes.Contains(content, []byte(markClamd)):
			fmt.Fprintf(conn, "stream: %s FOUND\x00", signature)
		default:
			io.WriteString(conn, "stream: OK\x00")
		}
	})
	w.checks.startPyzor(w.t, w.new("pyzor.answer"))
	w.checks.milter.start(w.t, w.path("milter"), func(conn net.Conn, in io.Reader) { serveMilter(conn, in, reply, added) })
}

// startPyzor answers that it knows no text, and says more than it should.
func (c *canaryChecks) startPyzor(t *testing.T, aside string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.pyzor.address = conn.LocalAddr().String()
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		for packet := make([]byte, 64<<10); ; {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			c.pyzor.got.Write(packet[:n])
			_, rest, _ := bytes.Cut(packet[:n], []byte("\nThread: "))
			thread, _, _ := bytes.Cut(rest, []byte("\n"))
			conn.WriteTo(fmt.Appendf(nil, "Code: 200\nDiag: %[1]s\nPV: 2.1\nThread: %[2]s\nCount: 0\nWL-Count: 0\nX-%[1]s: %[1]s\n\n", aside, thread), from)
		}
	}()
}

// readInstream reads what clamd's INSTREAM sends: pieces, each behind its length, until an empty one.
func readInstream(in io.Reader) (content []byte, err error) {
	if _, err := io.ReadFull(in, make([]byte, len("zINSTREAM\x00"))); err != nil {
		return nil, err
	}
	for {
		var size uint32
		if err := binary.Read(in, binary.BigEndian, &size); err != nil || size == 0 {
			return content, err
		}
		piece := make([]byte, min(size, 1<<20))
		if _, err := io.ReadFull(in, piece); err != nil {
			return nil, err
		}
		content = append(content, piece...)
	}
}

// serveMilter speaks as much of the milter protocol as a filter that adds a field and refuses
// by a mark: packets of a length, a command and its data.
func serveMilter(conn net.Conn, in io.Reader, reply, added string) {
	answer := func(data string) {
		packet := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		conn.Write(append(packet, data...))
	}
	refuse := false
	for {
		var size uint32
		if err := binary.Read(in, binary.BigEndian, &size); err != nil || size == 0 || size > 1<<20 {
			return
		}
		packet := make([]byte, size)
		if _, err := io.ReadFull(in, packet); err != nil {
			return
		}
		switch packet[0] {
		case 'O': // version 6, may add fields, asks for everything
			answer("O\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00\x00\x00")
		case 'D': // macros
		case 'Q':
			return
		case 'E':
			if refuse {
				answer("y550 5.7.1 " + reply + "\x00")
				continue
			}
			answer("hX-Filter\x00" + added + "\x00")
			answer("c")
		default:
			refuse = refuse || bytes.Contains(packet, []byte(markMilter))
			answer("c")
		}
	}
}

// checksConfig is the config of all that judges mail.
func (w *canaryWorld) checksConfig() string {
	w.t.Helper()
	key := recipients.NewKey()
	list, err := recipients.Build(key, []string{w.new("mx.rcpt.local", "%s@own.example") + "@own.example", w.new("listed.local", "%s@own.example") + "@own.example"}, recipients.Options{}, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	signing, reading := key.Text(), key.Verify().Text()
	w.add("recipients.key", lastWord(signing))
	w.add("recipients.verify", lastWord(reading))
	w.file("recipients.source", string(list))
	w.file("verify.key", reading)
	w.file("sign.key", signing)
	return fmt.Sprintf(`
[recipients]
key = %q
source = "file:%s"

[edge]
address_lists = ["%s.example"]
domain_lists = ["%s.example"]
lists_purpose = "to keep spammers out"

[clamd]
address = %q

[[milter]]
address = %q

[[rule]]
name = "rule-%s"
field = "x-check"
pattern = "%s|%s"
action = "reject"

[verify]
scope = "all"
spf = "reject"
dmarc_reports = true

[[hash_list]]
name = "list-%s"
purpose = "to keep %s out"
attachments = "_file.%s.example"
links = "_url.%s.example"
action = "mark"
scope = "all"

[pyzor]
address = %q
purpose = "to keep bulk mail out"
action = "mark"
scope = "all"
`, w.path("verify.key"), w.path("recipients.source"), w.new("list.address", "%s.example"), w.new("list.domain", "%s.example"),
		w.checks.clamd.address, w.checks.milter.address, w.new("rule.name"), markRule, w.new("rule.pattern"),
		w.new("hash.name"), w.new("hash.purpose"), w.new("hash.zone"), w.of("hash.zone"), w.checks.pyzor.address)
}

// lastWord is the secret of a key's text, which stands behind what kind it is.
func lastWord(text string) string {
	words := strings.Fields(text)
	return words[len(words)-1]
}

// checksZone is what the DNS says to those who judge: SPF with a mechanism that would have a local part
// asked for, DMARC and reports with addresses, and entries of block lists with texts.
func (w *canaryWorld) checksZone() []string {
	spf, of, torn := w.new("spf.domain", "%s.example")+".example", w.new("rcpt.a.domain", "%s.example")+".example", w.new("rcpt.e.domain", "%s.example")+".example"
	tlsReports := `. 60 IN TXT "v=TLSRPTv1; rua=mailto:` + w.new("tls.reports", "%s@reports.example") + `@reports.example`
	w.add("listed.client", "198.51.100.77") // as a proxy says
	return []string{
		spf + `. 60 IN TXT "v=spf1 include:` + w.new("spf.include") + `.example exists:%{l}.%{h}.local.example exp=why.` + spf + ` -all"`,
		w.of("spf.include") + `.example. 60 IN TXT "v=spf1 ip4:192.0.2.1 -all"`,
		"why." + spf + ". 60 IN TXT " + w.new("spf.explanation"),
		"_dmarc." + spf + `. 60 IN TXT "v=DMARC1; p=reject; rua=mailto:` + w.new("dmarc.reports", "%s@reports.example") + `@reports.example"`,
		spf + `._report._dmarc.reports.example. 60 IN TXT "v=DMARC1"`,
		"_smtp._tls." + of + tlsReports + `,https://reports.example/` + w.new("web.reports") + `"`,
		"_smtp._tls." + torn + tlsReports + `"`,
		"_mta-sts." + of + `. 60 IN TXT "v=STSv1; id=` + w.new("sts.id") + `;"`,
		"77.100.51.198." + w.new("list.address", "%s.example") + ".example. 60 IN A 127.0.0.2",
		"77.100.51.198." + w.new("list.address", "%s.example") + ".example. 60 IN TXT " + w.new("list.text"),
		w.new("listed.domain", "%s.example") + ".example." + w.new("list.domain", "%s.example") + ".example. 60 IN A 127.0.0.2",
	}
}

// judged is mail that each of those who judge refuses.
func (w *canaryWorld) judged() {
	w.t.Helper()
	for _, mark := range []string{markRule, markClamd, markMilter} {
		c := w.submission("starttls")
		c.say("250", "MAIL FROM:<"+w.sender()+">")
		c.say("250", "RCPT TO:<"+w.new("refused.rcpt", "%s@example.net")+"@example.net>")
		c.say("354", "DATA")
		content := strings.Replace(w.message(), "MIME-Version:", "X-Check: "+mark+"\r\nMIME-Version:", 1)
		c.say("550", content+"\r\n.")
		c.say("221", "QUIT")
		c.conn.Close()
	}
	for _, refused := range []struct{ client, sender, recipient string }{
		{w.of("listed.client"), w.new("edge.mail.local", "%s@example.org") + "@example.org", w.of("mx.rcpt.local") + "@own.example"},
		{w.of("mx.client"), "x@" + w.of("listed.domain") + ".example", w.of("mx.rcpt.local") + "@own.example"},
		{w.of("mx.client"), "x@example.org", w.new("mx.unknown.local", "%s@own.example") + "@own.example"},
	} {
		c := w.dialFrom(refused.client)
		c.read()
		c.say("250", "EHLO "+w.new("edge.helo")+".example")
		reply := c.after("MAIL FROM:<" + refused.sender + ">")
		if reply[0] == '2' {
			reply = c.after("RCPT TO:<" + refused.recipient + ">")
		}
		if reply[0] != '5' {
			w.t.Errorf("from %s: %q", refused.client, reply)
		}
		c.conn.Close()
	}
	c := w.dial("mx", w.of("mx.client"))
	defer c.conn.Close()
	c.read()
	c.say("250", "EHLO client.example")
	c.say("250", "MAIL FROM:<"+w.new("spf.local", "%s@"+w.of("spf.domain")+".example")+"@"+w.of("spf.domain")+".example>")
	c.say("250", "RCPT TO:<"+w.of("mx.rcpt.local")+"@own.example>")
	c.say("354", "DATA")
	c.say("550", "From: x@"+w.of("spf.domain")+".example\r\nSubject: "+w.new("spf.subject")+"\r\n\r\n"+w.new("spf.body")+"\r\n.")
}

// dialFrom connects to the listener for incoming mail; a client that is not of this machine comes through a proxy.
func (w *canaryWorld) dialFrom(client string) *canaryClient {
	w.t.Helper()
	if client != w.of("listed.client") {
		return w.dial("mx", client)
	}
	c := w.dial("proxied", "127.0.0.1")
	fmt.Fprintf(c.conn, "PROXY TCP4 %s 198.51.100.1 4711 25\r\n", client)
	return c
}

// after says a line and returns its reply.
func (c *canaryClient) after(line string) string {
	c.w.t.Helper()
	io.WriteString(c.conn, line+"\r\n")
	reply := c.read()
	if reply == "" {
		c.w.t.Fatalf("%.20q was not answered", line)
	}
	return reply
}

// pull fetches the list of recipients before the relay starts.
func (w *canaryWorld) pull() {
	w.t.Helper()
	if err := os.MkdirAll(w.path("data"), 0o750); err != nil {
		w.t.Fatal(err)
	}
	if code, out := w.cli("recipients", "pull"); code != 0 {
		w.t.Fatalf("pull: %d %s", code, out)
	}
}
