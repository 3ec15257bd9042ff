package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const slapdConfig = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/pid
TLSCertificateFile %[2]s
TLSCertificateKeyFile %[3]s
sizelimit size.soft=500 size.hard=500 size.pr=500 size.prtotal=unlimited
access to * by dn.exact="cn=reader,dc=example,dc=org" read by dn.exact="gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth" read by anonymous auth
database mdb
suffix "dc=example,dc=org"
directory %[1]s/db
`

// directoryPeople are in the LDAP server: more than it gives at once.
const directoryPeople = 1200

// newSlapd starts an LDAP server with people, and returns its addresses: with StartTLS, with TLS, and a socket.
func (p *peers) newSlapd(t *testing.T) (plain, secure, socket string) {
	t.Helper()
	dir := workDir(t)
	plain, secure, socket = "localhost:"+portOf(t, freePort(t)), "localhost:"+portOf(t, freePort(t)), filepath.Join(dir, "socket")
	config := writeFile(t, filepath.Join(dir, "slapd.conf"), fmt.Sprintf(slapdConfig, dir, p.cert.cert, p.cert.key))
	var people strings.Builder
	people.WriteString("dn: dc=example,dc=org\nobjectClass: domain\ndc: example\n\ndn: cn=reader,dc=example,dc=org\nobjectClass: person\ncn: reader\nsn: reader\nuserPassword: secret word\n")
	for n := range directoryPeople {
		fmt.Fprintf(&people, "\ndn: uid=u%[1]d,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: u%[1]d\ncn: u\nsn: u\nmail: u%[1]d@example.org\n", n)
	}
	people.WriteString("mail: other@else.example\nmail: second@example.org\n")
	ldif := writeFile(t, filepath.Join(dir, "people.ldif"), people.String())
	for _, cmd := range []*exec.Cmd{exec.Command("mkdir", filepath.Join(dir, "db")), exec.Command("slapadd", "-q", "-f", config, "-l", ldif)} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	proc := start(t, exec.Command("slapd", "-d", "0", "-f", config, "-h", "ldap://"+plain+" ldaps://"+secure+" ldapi://"+strings.ReplaceAll(socket, "/", "%2F")))
	proc.listens("127.0.0.1:" + portOf(t, plain))
	proc.listens("127.0.0.1:" + portOf(t, secure))
	return plain, secure, strings.ReplaceAll(socket, "/", "%2F")
}

// recipientSources: lists are made from an LDAP server, and from the maps of Postfix and Exim as their own
// tools make them.
func (p *peers) recipientSources(t *testing.T) {
	dir := workDir(t)
	plain, secure, socket := p.newSlapd(t)
	password := writeFile(t, filepath.Join(dir, "password"), "secret word\n")
	wrong := writeFile(t, filepath.Join(dir, "wrong"), "guess\n")
	maps := func(tool, kind, name, text string) string {
		file := writeFile(t, filepath.Join(dir, name), text)
		if out, err := exec.Command(tool, kind+":"+file).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", tool, err, out)
		}
		return tool + " -s " + kind + ":" + file
	}
	const table = "anna@example.org anna\nbob@example.org\n  bob, carl@far.example\n@catch.example all\nx@else.example x\n"
	hash, btree, lmdb := maps("postmap", "hash", "virtual", table), maps("postmap", "btree", "tree", table), maps("postmap", "lmdb", "lightning", table)
	aliases := maps("postalias", "hash", "aliases", "anna: a,b\n\"bob\": /dev/null\n")
	lsearch := writeFile(t, filepath.Join(dir, "lsearch"), "# people\nanna:  a,\n   b\nbob@example.org  x\n\"bob\" : y\n")
	d := p.newDaemon(t, fmt.Sprintf("[recipients]\nkey = %q\nsource = \"file:%s\"\n", filepath.Join(dir, "recipients-verify.key"), filepath.Join(dir, "list")))
	d.run("recipients", "key", dir)
	if _, said, status := runProgram(t, d.command("recipients", "pull")); status != 1 || !strings.Contains(said, "no such file") {
		t.Errorf("without a list: status %d, %s", status, said)
	}
	if err := os.Mkdir(d.path("data"), 0o700); err != nil {
		t.Fatal(err)
	}
	bind := []string{"--bind-dn", "cn=reader,dc=example,dc=org", "--password-file", password, "--ca", p.cert.cert}
	const query = "/dc=example,dc=org?mail?sub?(mail=*)"
	for _, c := range []struct {
		from  string
		args  []string
		known []string // recipients; none: it fails
		fault string
	}{
		{"ldap://" + plain + query, bind, []string{"u0@example.org", "u1199@example.org", "second@example.org"}, ""},
		{"ldaps://" + secure + query, bind, []string{"u0@example.org", "u1199@example.org", "second@example.org"}, ""},
		{"ldapi://" + socket + query, nil, []string{"u0@example.org", "u1199@example.org", "second@example.org"}, ""},
		{"ldaps://" + secure + query, append(bind[:2:2], "--password-file", wrong, "--ca", p.cert.cert), nil, "invalid credentials"},
		{"ldaps://" + secure + query, []string{"--ca", p.cert.cert}, nil, "insufficient access rights"},
		{"ldaps://" + secure + query, bind[:4], nil, "certificate"},
		{"ldap://" + plain + query, bind[:4], nil, "certificate"},
		{"postfix:|" + hash, nil, []string{"anna@example.org", "bob@example.org", "any@catch.example"}, ""},
		{"postfix:|" + btree, nil, []string{"anna@example.org", "bob@example.org", "any@catch.example"}, ""},
		{"postfix:|" + lmdb, nil, []string{"anna@example.org", "bob@example.org", "any@catch.example"}, ""},
		{"postfix:" + filepath.Join(dir, "virtual"), nil, []string{"anna@example.org", "bob@example.org", "any@catch.example"}, ""},
		{"postfix:" + filepath.Join(dir, "lightning.lmdb"), nil, nil, "postmap -s lmdb:"},
		{"exim:|" + aliases, nil, []string{"anna@example.org", "bob@example.org"}, ""},
		{"exim:" + filepath.Join(dir, "aliases"), nil, []string{"anna@example.org", "bob@example.org"}, ""},
		{"exim:" + lsearch, nil, []string{"anna@example.org", "bob@example.org"}, ""},
	} {
		args := append([]string{"recipients", "build", "--key", filepath.Join(dir, "recipients-sign.key"), "--domain", "example.org", "--domain", "catch.example",
			"--out", filepath.Join(dir, "list"), "--from", c.from}, c.args...)
		_, said, status := runProgram(t, d.command(args...))
		if c.known == nil {
			if status == 0 || !strings.Contains(said, c.fault) || strings.Contains(said, "secret") {
				t.Errorf("%s: status %d, %s", c.from, status, said)
			}
			continue
		}
		if status != 0 {
			t.Errorf("%s: status %d, %s", c.from, status, said)
			continue
		}
		d.run("recipients", "pull")
		for _, to := range c.known {
			d.run("recipients", "check", to)
		}
		for _, to := range []string{"nobody@example.org", "x@else.example", "carl@example.org"} {
			if out, _, status := runProgram(t, d.command("recipients", "check", to)); status != 1 {
				t.Errorf("%s knows %s: %s", c.from, to, out)
			}
		}
	}
}
