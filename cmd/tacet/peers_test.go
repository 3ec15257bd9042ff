// The tests of peers_*_test.go run the built binary against the programs that
// a relay meets in the field. They run only if TACET_PEERS is 1; a program
// that is missing then is a failure. Everything stays on loopback.
package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// peers is what the tests share: the built binary and a certificate that
// clients are told to trust.
type peers struct {
	bin  string
	cert identity
}

// newPeers builds the binary.
func newPeers(t *testing.T) *peers {
	t.Helper()
	dir := workDir(t)
	p := &peers{bin: filepath.Join(dir, "tacet"), cert: newIdentity(t, dir)}
	if out, err := exec.Command("go", "build", "-o", p.bin, "tacet/cmd/tacet").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return p
}

func TestPeers(t *testing.T) {
	if os.Getenv("TACET_PEERS") != "1" {
		t.Skip("TACET_PEERS is not 1")
	}
	for _, program := range []string{"swaks", "curl", "msmtp", "python3", "openssl", "postfix", "smtp-sink", "tail", "unbound", "ldns-signzone", "ip", "slapd", "nft", "postmap", "postalias", "opendkim"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Errorf("%s is not installed", program)
		}
	}
	if t.Failed() {
		return
	}
	p := newPeers(t)
	for _, test := range []struct {
		name string
		run  func(*peers, *testing.T)
	}{
		{"clients", (*peers).clients},
		{"logins", (*peers).logins},
		{"completed", (*peers).completed},
		{"extensions", (*peers).extensions},
		{"postfix", (*peers).postfix},
		{"mailservers", (*peers).mailServers},
		{"reports", (*peers).reports},
		{"dmarcreports", (*peers).dmarcReports},
		{"smtpsink", (*peers).smtpSink},
		{"hang", (*peers).hang},
		{"mx", (*peers).mx},
		{"fallback", (*peers).fallback},
		{"limits", (*peers).limits},
		{"twosites", (*peers).twoSites},
		{"primaryrefuses", (*peers).primaryRefuses},
		{"recipientsources", (*peers).recipientSources},
		{"introductions", (*peers).introductions},
		{"bothsites", (*peers).bothSites},
		{"tlspolicy", (*peers).tlsPolicy},
		{"dane", (*peers).dane},
		{"badconfig", (*peers).badConfig},
		{"badstart", (*peers).badStart},
		{"fulldisk", (*peers).fullDisk},
		{"nexthopdown", (*peers).nextHopDown},
		{"retry", (*peers).retryUnreachable},
		{"nodns", (*peers).noDNS},
		{"distance", (*peers).distance},
		{"slowneighbours", (*peers).slowNeighbours},
		{"seconddaemon", (*peers).secondDaemon},
		{"sigterm", (*peers).sigterm},
		{"sigkill", (*peers).sigkill},
		{"big", (*peers).big},
		{"hostile", (*peers).hostile},
		{"try", (*peers).try},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(p, t)
		})
	}
}
