package main_test

import (
	"fmt"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// postfixServer is a Postfix in a private folder.
type postfixServer struct {
	addr, config string
	*process
}

// newPostfix starts a Postfix that relays everything to relayhost; settings are
// further lines of its main.cf.
func (p *peers) newPostfix(t *testing.T, name, relayhost string, settings ...string) *postfixServer {
	t.Helper()
	return p.newPostfixAt(t, place{addr: freePort(t)}, name, relayhost, settings...)
}

func (p *peers) newPostfixAt(t *testing.T, at place, name, relayhost string, settings ...string) *postfixServer {
	t.Helper()
	dir := workDir(t)
	server := &postfixServer{addr: at.addr, config: filepath.Join(dir, "etc")}
	for _, sub := range []string{"etc", "spool", "data"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	writeFile(t, filepath.Join(dir, "etc/main.cf"), fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = %[2]s
mydestination =
mynetworks = 127.0.0.0/8
relayhost = %[3]s
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_transport = error:no local
maillog_file = /dev/stdout
disable_dns_lookups = yes
smtputf8_enable = yes
message_size_limit = 51200000
smtp_tls_loglevel = 1
smtpd_tls_loglevel = 1
smtpd_tls_chain_files = %[4]s
smtp_tls_CAfile = %[5]s
%[6]s
`, dir, name, relayhost, p.cert.both, p.cert.cert, strings.Join(settings, "\n")))
	writeFile(t, filepath.Join(dir, "etc/master.cf"), server.addr+` inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`)
	server.process = start(t, at.command("postfix", "-c", filepath.Join(dir, "etc"), "start-fg"))
	t.Cleanup(func() { // its processes have left the group that start made
		if out, err := exec.Command("postfix", "-c", filepath.Join(dir, "etc"), "stop").CombinedOutput(); err != nil {
			t.Errorf("postfix stop: %v: %s", err, out)
		}
	})
	server.output.find(t, "Postfix to start", func(line string) bool { return strings.Contains(line, "daemon started") })
	server.listens(server.addr)
	return server
}

// said waits for a line of Postfix's log.
func (s *postfixServer) said(t *testing.T, words ...string) {
	t.Helper()
	s.output.find(t, fmt.Sprintf("Postfix to say %q", words), func(line string) bool {
		for _, word := range words {
			if !strings.Contains(line, word) {
				return false
			}
		}
		return true
	})
}

// postfix: Postfix submits through the relay as its relayhost, with SASL and
// TLS, and another one takes the mail as the next hop, with TLS.
func (p *peers) postfix(t *testing.T) {
	last := newSink(t)
	after := p.newPostfix(t, "after.example.org", hop(last.addr), "smtpd_tls_security_level = encrypt")
	d := p.newDaemon(t, fmt.Sprintf("[delivery]\nnext_hop = %q\ntls = \"require\"\n[[delivery.route]]\ndomain = \"verified.example\"\nnext_hop = \"localhost:%s\"\ntls = \"verify\"\n",
		hop(after.addr), portOf(t, after.addr)))
	d.env = []string{"SSL_CERT_FILE=" + p.cert.cert}
	d.addUser()
	d.start()
	for _, c := range []struct {
		name, addr, domain string
		settings           []string
	}{
		{"starttls", d.starttls, "example.net", []string{"smtp_sasl_mechanism_filter = plain"}},
		{"implicit", d.implicit, "verified.example", []string{"smtp_sasl_mechanism_filter = login", "smtp_tls_wrappermode = yes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			passwords := writeFile(t, filepath.Join(workDir(t), "passwords"), hop(c.addr)+" "+testUser+":"+testPassword+"\n")
			before := p.newPostfix(t, "before.example.org", hop(c.addr), append(c.settings,
				"smtp_sasl_auth_enable = yes", "smtp_sasl_password_maps = texthash:"+passwords, "smtp_sasl_security_options = noanonymous",
				"smtp_tls_security_level = secure", "smtp_tls_secure_cert_match = relay.example.org")...)
			m := newMail(t, d.dir, "anna@example.org", c.name+"@"+c.domain, c.name, oddBody()...)
			if err := smtp.SendMail(before.addr, nil, m.from, []string{m.to}, m.content); err != nil {
				t.Fatal(err)
			}
			before.said(t, "Verified TLS connection established to", "TLSv1.3")
			before.said(t, "to=<"+m.to+">", "status=sent (250")
			r := d.outcome("delivered", m.to)
			if r.User != testUser || r.Client != "127.0.0.1" || r.TLS.In == nil || r.TLS.In.Version != "1.3" ||
				r.TLS.Out == nil || r.TLS.Out.Version != "1.3" || r.TLS.Out.Cipher == "" || r.TLS.Out.Verified != "pkix" || r.Status.RemoteID == "" {
				t.Errorf("the log misses something: %s", r.line)
			}
			after.said(t, "TLS connection established from", "TLSv1.3")
			after.said(t, r.Status.RemoteID+": to=<"+m.to+">", "status=sent")
			got := last.mail.find(t, "the message behind the second Postfix", func(got message) bool {
				return len(got.to) == 1 && strings.HasPrefix(got.to[0], "<"+m.to+">")
			})
			// The trace fields of all three; the relay's is the middle one.
			outer := receivedField.Find(got.content)
			checkArrived(t, got.content[len(outer):], m.content, 2)
		})
	}
}
