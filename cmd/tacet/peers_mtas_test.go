package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mailServer is a mail server that Debian does not install beside Postfix. It
// runs from an unpacked package, in a mount namespace where its users and folders exist.
type mailServer struct {
	name   string
	binary string                              // in the folder of .ci/mtas
	config func(dir, addr, next string) string // what it is told; it relays everything to next
	launch string                              // shell commands that become the server; $1 is dir
	quoted string                              // what comes of quoted mailboxes
}

// mailServers are the two: one that offers PIPELINING and CHUNKING, and one that has to be spoken to in lockstep.
//
// OpenSMTPD signs in another process, by an engine of its own, which OpenSSL 3 passes over ("missing
// private key") for keys that it has decoded itself. It leaves that to its older code as soon as there is an
// engine for public keys: smtpdCrypto loads one, which then has nothing to do.
func mailServers() []mailServer {
	return []mailServer{
		{"exim", "exim4-daemon-light/usr/sbin/exim4", eximConfig,
			`touch $1/log/main; chown -R 970:970 $1/log; tail -q -n +1 -F $1/log/main & exec $1/server -bdf -q1h -C $1/config`, "delivered"},
		{"opensmtpd", "opensmtpd/usr/sbin/smtpd", smtpdConfig, `chmod 600 $1/key; echo '` + smtpdCrypto + `' >$1/openssl.cnf; OPENSSL_CONF=$1/openssl.cnf exec $1/server -d -f $1/config`, "failed"},
	}
}

func eximConfig(dir, addr, next string) string {
	host, port, _ := strings.Cut(addr, ":")
	nextHost, nextPort, _ := strings.Cut(next, ":")
	return fmt.Sprintf(`primary_hostname = exim.example.org
exim_path = %[1]s/server
exim_user = Debian-exim
exim_group = Debian-exim
keep_environment =
log_file_path = %[1]s/log/%%s
spool_directory = /var/spool/exim4
local_interfaces = %[4]s
daemon_smtp_ports = %[2]s
tls_certificate = %[1]s/cert
tls_privatekey = %[1]s/key
tls_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
accept_8bitmime = true
smtp_accept_queue_per_connection = 0
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  deny message = no such person
       local_parts = nobody
  accept
begin routers
next:
  driver = manualroute
  transport = smtp
  route_list = * %[5]s
  self = send
begin transports
smtp:
  driver = smtp
  port = %[3]s
`, dir, port, nextPort, host, nextHost)
}

const smtpdCrypto = `openssl_conf = init
[init]
engines = engines
[engines]
pkcs11 = pkcs11
[pkcs11]
default_algorithms = PKEY`

func smtpdConfig(dir, addr, next string) string {
	_, port, _ := strings.Cut(addr, ":")
	return fmt.Sprintf(`pki smtpd.example.org cert "%[3]s/cert"
pki smtpd.example.org key "%[3]s/key"
listen on 127.0.0.1 port %[1]s tls-require pki smtpd.example.org hostname smtpd.example.org
table nobody { nobody@opensmtpd.example }
action next relay host smtp://%[2]s
match from any for rcpt-to <nobody> reject
match from any for any action next
`, port, next, dir)
}

// newMailServer starts m as a relay to next.
func (p *peers) newMailServer(t *testing.T, m mailServer, folder, next string) (addr string, proc *process) {
	t.Helper()
	addr = freePort(t)
	return addr, p.newMailServerAt(t, place{addr: addr}, m, folder, next)
}

func (p *peers) newMailServerAt(t *testing.T, at place, m mailServer, folder, next string) (proc *process) {
	t.Helper()
	dir, addr := workDir(t), at.addr
	if err := os.Mkdir(filepath.Join(dir, "log"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Under a name that the server's own user may reach.
	for name, from := range map[string]string{"cert": p.cert.cert, "key": p.cert.key, "server": filepath.Join(folder, m.binary)} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(m.config(dir, addr, next)), 0o644); err != nil {
		t.Fatal(err)
	}
	const world = `set -e
{ cat /etc/passwd; echo 'Debian-exim:x:970:970::/:/usr/sbin/nologin'; echo 'opensmtpd:x:971:971::/:/usr/sbin/nologin'; echo 'opensmtpq:x:972:972::/:/usr/sbin/nologin'; } >$1/passwd
{ cat /etc/group; echo 'Debian-exim:x:970:'; echo 'opensmtpd:x:971:'; echo 'opensmtpq:x:972:'; } >$1/group
mount --bind $1/passwd /etc/passwd
mount --bind $1/group /etc/group
for d in /var/spool /var/lib /run; do mount -t tmpfs none $d; done
mkdir -p /var/lib/opensmtpd/empty /var/spool/exim4
mkdir -m 711 /var/spool/smtpd
chown 970:970 /var/spool/exim4
`
	proc = start(t, at.command("unshare", "--mount", "--propagation", "private", "sh", "-c", world+m.launch, "sh", dir))
	proc.listens(addr)
	return proc
}

// mailServers: Exim and OpenSMTPD take the mail as next hops and hand it
// on as it was.
func (p *peers) mailServers(t *testing.T) {
	out, err := exec.Command("../../.ci/mtas").Output()
	if err != nil {
		t.Fatalf(".ci/mtas: %v", err)
	}
	folder := strings.TrimSpace(string(out))
	for _, m := range mailServers() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			last := newSink(t)
			addr, server := p.newMailServer(t, m, folder, last.addr)
			d := p.newDaemon(t, trustLoopback+fmt.Sprintf("[delivery]\nnext_hop = \"localhost:%s\"\ntls = \"verify\"\n", portOf(t, addr)))
			d.env = []string{"SSL_CERT_FILE=" + p.cert.cert}
			d.start()
			domain := m.name + ".example"
			odd := newMail(t, d.dir, "anna@example.org", "bob@"+domain, m.name, oddBody()...)
			if err := submitOne(d.starttls, bytes.ReplaceAll(odd.content, []byte("\r\n."), []byte("\r\n..")), odd.from, odd.to); err != nil {
				t.Fatal(err)
			}
			r := d.outcome("delivered", odd.to)
			if r.TLS.Out == nil || r.TLS.Out.Verified != "pkix" || r.Status.RemoteID == "" {
				t.Errorf("the log misses something: %s", r.line)
			}
			server.output.find(t, "the next hop's own log of "+r.Status.RemoteID, func(line string) bool { return strings.Contains(line, r.Status.RemoteID) })
			got := last.mail.find(t, "the message behind "+m.name, func(got message) bool {
				return len(got.to) == 1 && strings.HasPrefix(got.to[0], "<"+odd.to+">")
			})
			own := receivedField.Find(got.content) // the next hop's trace field
			checkArrived(t, got.content[len(own):], odd.content, 1)
			hardAddresses(t, d, last, domain, m.quoted)
		})
	}
}

// hardAddresses sends to mailboxes that have to be quoted, and to one that is refused.
func hardAddresses(t *testing.T, d *daemon, last *sink, domain, event string) {
	for n, to := range []string{`"two words"@` + domain, `"a\"b\\c"@` + domain} {
		if err := submitOne(d.starttls, numbered(n, 3000), "anna@example.org", to); err != nil {
			t.Fatal(err)
		}
		d.outcome(event, to)
		if event != "delivered" {
			continue
		}
		last.mail.find(t, "the message to "+to, func(got message) bool {
			return len(got.to) == 1 && strings.HasPrefix(got.to[0], "<"+to+">")
		})
	}
	if err := submitOne(d.starttls, numbered(9, 3000), "anna@example.org", "nobody@"+domain); err != nil {
		t.Fatal(err)
	}
	if r := d.outcome("failed", "nobody@"+domain); r.Status.Code != 550 || r.Status.Stage != "rcpt" {
		t.Errorf("a refused recipient: %s", r.line)
	}
}
