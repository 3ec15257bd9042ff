package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tlsa is the data of the TLSA record 3 1 1 of the identity.
func (id identity) tlsa(t *testing.T) string {
	t.Helper()
	cert, err := x509.ParseCertificate(id.pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("3 1 1 %X", sha256.Sum256(cert.RawSubjectPublicKeyInfo))
}

// vouched makes a certificate for name that an authority of its own vouches for. It returns
// a file with its key and both certificates, and the data of the TLSA record 2 0 1.
func vouched(t *testing.T, dir, name string) (chain, tlsa string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1},
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	var der []byte
	for _, template := range []*x509.Certificate{server, authority} {
		if der, err = x509.CreateCertificate(rand.Reader, template, authority, key.Public(), key); err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return writeFile(t, filepath.Join(dir, "chain.pem"), string(text)), fmt.Sprintf("2 0 1 %X", sha256.Sum256(der))
}

// signed signs a zone by ldns and returns its file and the DS record of its key.
func signed(t *testing.T, dir, name, records string, options ...string) (file, ds string) {
	t.Helper()
	zone := writeFile(t, filepath.Join(dir, name), "$ORIGIN "+name+".\n$TTL 60\n@ SOA ns host 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"+records)
	run := func(program string, args ...string) string {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		out, errs, status := runProgram(t, cmd)
		if status != 0 {
			t.Fatalf("%s %q: %s%s", program, args, out, errs)
		}
		return strings.TrimSpace(out)
	}
	key := run("ldns-keygen", "-k", "-a", "ECDSAP256SHA256", name)
	file = zone + ".signed"
	run("ldns-signzone", append(options, "-f", file, zone, key)...)
	text, err := os.ReadFile(filepath.Join(dir, key+".ds"))
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(text))
}

// newUnbound starts a validating resolver with the zones: their names and files,
// and the DS records it trusts.
func newUnbound(t *testing.T, dir string, zones map[string]string, anchors ...string) (addr string) {
	t.Helper()
	addr = own(4) + ":" + portOf(t, freePort(t)) // freePort keeps the UDP port at its own address
	var config strings.Builder
	fmt.Fprintf(&config, `server:
	interface: `+own(4)+`@%s
	do-daemonize: no
	chroot: ""
	username: ""
	directory: %q
	pidfile: ""
	use-syslog: no
	logfile: ""
	do-not-query-localhost: no
	module-config: "validator iterator"
`, portOf(t, addr), dir)
	for _, ds := range anchors {
		fmt.Fprintf(&config, "\ttrust-anchor: %q\n", strings.Join(strings.Fields(strings.Split(ds, ";")[0]), " "))
	}
	config.WriteString("remote-control:\n\tcontrol-enable: no\n")
	for name, file := range zones {
		fmt.Fprintf(&config, "auth-zone:\n\tname: %q\n\tzonefile: %q\n\tfor-downstream: no\n\tfor-upstream: yes\n\tfallback-enabled: no\n", name+".", file)
	}
	p := start(t, exec.Command("unbound", "-d", "-c", writeFile(t, filepath.Join(dir, "unbound.conf"), config.String())))
	p.listens(addr)
	return addr
}

// newPolicyServer is an HTTPS server of Python's that serves a policy for each of the names.
func newPolicyServer(t *testing.T, dir, addr string, id identity, policy string) {
	t.Helper()
	root := filepath.Join(dir, "web/.well-known")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(root, "mta-sts.txt"), policy)
	script := writeFile(t, filepath.Join(dir, "web.py"), `import http.server, ssl, sys
host, cert, key, root = sys.argv[1:]
class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
        super().__init__(*args, directory=root)
server = http.server.ThreadingHTTPServer((host, 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
`)
	p := start(t, exec.Command("python3", script, addr, id.cert, id.key, filepath.Join(dir, "web")))
	p.listens(addr + ":443")
}

// zoneOf is a domain's MX record, its host's address and further records.
func zoneOf(domain, host, address string, more ...string) string {
	return fmt.Sprintf("%s MX 10 %s\n%s A %s\n%s\n", domain, host, host, address, strings.Join(more, "\n"))
}

// dane: policies that domains publish, by a validating unbound, a web server and
// next hops with and without what they promise.
func (p *peers) dane(t *testing.T) {
	dir := workDir(t)
	mx := newIdentity(t, workDir(t), "mx.good.plain.example")
	web := newIdentity(t, workDir(t), "mta-sts.good.plain.example", "mta-sts.foreign.plain.example", "mta-sts.testing.plain.example")
	newSink(t, withTLS(mx), func(s *sink) { s.addr = own(1) + ":25" })
	newSink(t, func(s *sink) { s.addr = own(2) + ":25" })
	keen := newSink(t, withTLS(mx), func(s *sink) { s.addr, s.offer = own(5)+":25", append(s.offer, "REQUIRETLS") })
	postfix := p.newPostfix(t, "mx.example.org", hop(newSink(t).addr), "smtpd_tls_security_level = encrypt")
	chain, authority := vouched(t, workDir(t), "anchored.dane.example")
	anchored := p.newPostfix(t, "anchored.example.org", hop(newSink(t).addr), "smtpd_tls_security_level = encrypt", "smtpd_tls_chain_files = "+chain)
	right, wrong := " TLSA "+mx.tlsa(t), " TLSA 3 1 1 "+strings.Repeat("00", 32)
	at := "_25._tcp.mx."
	zone, anchor := signed(t, dir, "dane.example",
		zoneOf("good", "mx.good", own(1), at+"good"+right)+
			zoneOf("rotating", "mx.rotating", own(1), at+"rotating"+wrong, at+"rotating"+right)+
			zoneOf("wrong", "mx.wrong", own(1), at+"wrong"+wrong)+
			zoneOf("stripped", "mx.stripped", own(2), at+"stripped"+right)+
			zoneOf("unusable", "mx.unusable", own(1), at+"unusable TLSA 1 1 1 "+strings.Repeat("00", 32))+
			zoneOf("bogus", "mx.bogus", own(1), at+"bogus TLSA 3 1 1 "+strings.Repeat("11", 32))+
			zoneOf("none", "mx.none", own(1))+
			zoneOf("keen", "mx.keen", own(5), at+"keen"+right)+
			"alias MX 10 mx.alias\nmx.alias CNAME mx.good\n"+
			"tlsaalias MX 10 mx.tlsaalias\nmx.tlsaalias A "+own(1)+"\n"+at+"tlsaalias CNAME "+at+"good\n"+
			"postfix A 127.0.0.1\n_"+portOf(t, postfix.addr)+"._tcp.postfix TLSA "+p.cert.tlsa(t)+"\n"+
			"anchored A 127.0.0.1\n_"+portOf(t, anchored.addr)+"._tcp.anchored TLSA "+authority+"\n"+
			"misnamed A 127.0.0.1\n_"+portOf(t, anchored.addr)+"._tcp.misnamed TLSA "+authority+"\n")
	text, err := os.ReadFile(zone)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, zone, strings.ReplaceAll(string(text), strings.Repeat("11", 32), strings.Repeat("12", 32)))
	expired, anchor2 := signed(t, dir, "expired.example", zoneOf("@", "mx", own(1), at+"expired.example."+right), "-i", "20190101000000", "-e", "20200101000000")
	plain := writeFile(t, filepath.Join(dir, "plain.example"), "$ORIGIN plain.example.\n$TTL 60\n@ SOA ns host 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"+
		zoneOf("insecure", "mx.insecure", own(1), at+"insecure"+wrong)+
		zoneOf("good", "mx.good", own(1), "_mta-sts.good TXT \"v=STSv1; id=1;\"", "mta-sts.good A "+own(3))+
		zoneOf("foreign", "mx.foreign", own(1), "_mta-sts.foreign TXT \"v=STSv1; id=1;\"", "mta-sts.foreign A "+own(3))+
		zoneOf("testing", "mx.testing", own(1), "_mta-sts.testing TXT \"v=STSv1; id=1;\"", "mta-sts.testing A "+own(6)))
	resolver := newUnbound(t, dir, map[string]string{"dane.example": zone, "expired.example": expired, "plain.example": plain}, anchor, anchor2)
	newPolicyServer(t, dir, own(3), web, "version: STSv1\nmode: enforce\nmx: *.good.plain.example\nmax_age: 86400\n")
	newPolicyServer(t, workDir(t), own(6), web, "version: STSv1\nmode: testing\nmx: *.good.plain.example\nmax_age: 86400\n")

	var config strings.Builder
	config.WriteString(trustLoopback + fmt.Sprintf("[delivery]\ndeny_special_addresses = false\n[dns]\nresolvers = [%q]\n", resolver))
	for name, server := range map[string]*postfixServer{"postfix": postfix, "anchored": anchored, "misnamed": anchored} {
		config.WriteString(fmt.Sprintf("[[delivery.route]]\ndomain = \"%s.example\"\nnext_hop = \"[%[1]s.dane.example]:%s\"\n", name, portOf(t, server.addr)))
	}
	d := p.newDaemon(t, config.String())
	var roots strings.Builder
	for _, id := range []identity{mx, web} {
		pem, err := os.ReadFile(id.cert)
		if err != nil {
			t.Fatal(err)
		}
		roots.WriteString(string(pem))
	}
	d.env = []string{"SSL_CERT_FILE=" + writeFile(t, filepath.Join(dir, "roots.pem"), roots.String())}
	d.start()
	p.published(t, d)
	p.asked(t, d, keen)
}

// asked: what the sender asks for, by REQUIRETLS and by TLS-Required.
func (p *peers) asked(t *testing.T, d *daemon, keen *sink) {
	t.Helper()
	s, err := dial(d.implicit, &p.cert)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct{ domain, param, field, event, reason, wanted, verified string }{
		{"keen.dane.example", " REQUIRETLS", "", "delivered", "", "requiretls", "dane"},
		{"good.dane.example", " REQUIRETLS", "", "failed", "no_requiretls", "requiretls", "dane"},
		{"insecure.plain.example", " REQUIRETLS", "", "failed", "no_requiretls", "requiretls", ""},
		{"wrong.dane.example", "", "TLS-Required: No\r\n", "delivered", "", "waived", "no"},
		{"wrong.dane.example", " REQUIRETLS", "TLS-Required: No\r\n", "deferred", "tls_unverified", "requiretls", ""},
	} {
		to := strings.Trim(strings.ToLower(c.param+c.event), " ") + "@" + c.domain
		for _, step := range []string{"MAIL FROM:<anna@example.org>" + c.param, "RCPT TO:<" + to + ">"} {
			if err := s.say(250, "%s", step); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
		}
		if err := s.say(354, "DATA"); err != nil {
			t.Fatal(err)
		}
		if err := s.end(append([]byte(c.field), numbered(1, 3000)...)); err != nil {
			t.Fatal(err)
		}
		r := d.settled(to)
		var got tlsState
		if r.TLS.Out != nil {
			got = *r.TLS.Out
		}
		if r.Status.Event != c.event || r.Status.Reason != c.reason || got.Wanted != c.wanted || got.Verified != c.verified {
			t.Errorf("want %+v; the log says\n%s", c, r.line)
		}
		if c.event == "failed" && r.Status.Enhanced != "5.7.30" {
			t.Errorf("want 5.7.30; the log says\n%s", r.line)
		}
	}
	keen.mail.find(t, "a message with REQUIRETLS", func(m message) bool { return strings.HasSuffix(m.from, " REQUIRETLS") && m.tls })
}

// published sends to each domain and looks at what the log says was wanted and had.
func (p *peers) published(t *testing.T, d *daemon) {
	t.Helper()
	cases := []struct{ domain, event, reason, wanted, verified, none string }{
		{"good.dane.example", "delivered", "", "dane", "dane", ""},
		{"rotating.dane.example", "delivered", "", "dane", "dane", ""},
		{"alias.dane.example", "delivered", "", "dane", "dane", ""},
		{"tlsaalias.dane.example", "delivered", "", "dane", "dane", ""},
		{"postfix.example", "delivered", "", "dane", "dane", ""},
		{"anchored.example", "delivered", "", "dane", "dane", ""},
		{"misnamed.example", "deferred", "tls_unverified", "dane", "", "unverified"},
		{"wrong.dane.example", "deferred", "tls_unverified", "dane", "", "unverified"},
		{"stripped.dane.example", "deferred", "tls_required", "dane", "", "not_offered"},
		{"unusable.dane.example", "delivered", "", "require", "no", ""},
		{"bogus.dane.example", "deferred", "dns_temporary", "", "", "not_connected"},
		{"expired.example", "deferred", "dns_temporary", "", "", ""},
		{"none.dane.example", "delivered", "", "", "no", ""},
		{"insecure.plain.example", "delivered", "", "", "no", ""},
		{"good.plain.example", "delivered", "", "sts", "sts", ""},
		{"testing.plain.example", "delivered", "", "sts_testing", "no", ""},
		{"foreign.plain.example", "deferred", "tls_unverified", "sts", "", "not_connected"},
	}
	for n, c := range cases {
		if err := submitOne(d.starttls, numbered(n, 3000), "anna@example.org", "bob@"+c.domain); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range cases {
		r := d.settled("bob@" + c.domain)
		var got tlsState
		if r.TLS.Out != nil {
			got = *r.TLS.Out
		}
		if r.Status.Event != c.event || r.Status.Reason != c.reason || got.Wanted != c.wanted || got.Verified != c.verified || got.None != c.none {
			t.Errorf("%s: want %+v; the log says\n%s", c.domain, c, r.line)
		}
	}
	cmd := d.command("route", "bob@wrong.dane.example", "--connect")
	cmd.Env = append(os.Environ(), d.env...)
	if out, errs, status := runProgram(t, cmd); status != 1 || !strings.Contains(out, "held to     dane") || !strings.Contains(out, "certificate-not-trusted") || !strings.Contains(out, "tls_unverified") {
		t.Errorf("tacet route: status %d\n%s%s", status, out, errs)
	}
	cmd = d.command("route", "good.plain.example", "--connect")
	cmd.Env = append(os.Environ(), d.env...)
	if out, errs, status := runProgram(t, cmd); status != 0 || !strings.Contains(out, "MTA-STS     enforce") || !strings.Contains(out, "verified: sts") {
		t.Errorf("tacet route: status %d\n%s%s", status, out, errs)
	}
}
