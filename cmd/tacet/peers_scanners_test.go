package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"tacet/queue"
	"tacet/relay"
	"tacet/relay/content"
)

// The test file of the EICAR, in two parts so that no scanner finds it here.
const eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-` + `STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// needPeers passes over a test that wants real programs, unless those are wanted.
func needPeers(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getenv("TACET_PEERS") != "1" {
		t.Skip("TACET_PEERS is not 1")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%s is not installed", program)
		}
	}
}

// background runs a program until the test ends, and returns when it listens at the address.
func background(t *testing.T, address, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = t.Output(), t.Output(), time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with its children
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), scriptPatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s does not listen at %s", name, address)
		}
	}
}

// unused is a loopback address that no one listens at.
func unused(t *testing.T) string {
	t.Helper()
	address, claim, err := claimPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { claim.Close() })
	return address
}

// claimPort gives a loopback address that no one listens at. Its port is below those that the
// kernel gives to whoever asks for any; and as long as the claim is open, which holds the UDP
// port of that number, no other test takes it.
func claimPort() (address string, claim io.Closer, err error) {
	for range 1000 {
		address = fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000))
		var udp net.PacketConn
		if udp, err = net.ListenPacket("udp", address); err != nil {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			return address, udp, l.Close()
		}
		udp.Close()
	}
	return "", nil, err
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// startClamd starts ClamAV's daemon with one signature, of the EICAR file, and returns its socket.
func startClamd(t *testing.T) string {
	t.Helper()
	dir, address := t.TempDir(), unused(t)
	socket := filepath.Join(dir, "clamd.ctl")
	write(t, dir, "eicar.ndb", fmt.Sprintf("Eicar-Test:0:*:%x\n", eicar))
	config := write(t, dir, "clamd.conf", fmt.Sprintf(
		"LocalSocket %s\nTCPAddr 127.0.0.1\nTCPSocket %s\nDatabaseDirectory %s\nForeground yes\nUser root\n",
		socket, strings.TrimPrefix(address, "127.0.0.1:"), dir))
	background(t, address, "clamd", "--config-file="+config)
	return socket
}

func TestPeerClamd(t *testing.T) {
	needPeers(t, "clamd")
	r := startChecked(t, t.TempDir(), "[clamd]\naddress = \"unix:"+startClamd(t)+"\"\n")
	if err := r.send(0, plainMail); err != nil {
		t.Fatal(err)
	}
	if got := r.delivered(t); !strings.Contains(got, "hello") {
		t.Errorf("got %q", got)
	}
	for _, text := range []string{plainMail + eicar + "\r\n", plainMail + strings.Repeat("padding of a long message\r\n", 20000) + eicar + "\r\n"} {
		if err := r.send(1, text); err == nil || !strings.Contains(err.Error(), "5.7.1 A virus") {
			t.Errorf("the client read %v", err)
		}
	}
	lines := r.lines(t, "content_rejected")
	if len(lines) != 2 || lines[0]["headers"] == nil || !strings.Contains(fmt.Sprint(lines[0]["status"]), "virus_found") || strings.Contains(fmt.Sprint(lines), "EICAR") {
		t.Errorf("log %v", lines)
	}
}

// The pattern that every spam filter refuses, in two parts so that none does so here.
const gtube = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-" + "STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

// startRspamd starts rspamd as a milter without anything else around it.
func startRspamd(t *testing.T) (address string) {
	t.Helper()
	dir, address := t.TempDir(), unused(t)
	config := write(t, dir, "rspamd.conf", fmt.Sprintf(`
options { pidfile = "%[1]s/pid"; url_tld = "/usr/share/rspamd/effective_tld_names.dat"; dns { nameserver = ["127.0.0.1:9:1"]; timeout = 0.1s; retransmits = 1; } filters = []; gtube_patterns = "all"; }
logging { type = "console"; level = "warning"; }
metric { name = "default"; actions { reject = 15; add_header = 6; } }
worker "rspamd_proxy" {
  bind_socket = "%[2]s"; milter = yes; timeout = 20s; count = 1;
  upstream "local" { default = yes; self_scan = yes; }
}
`, dir, address))
	background(t, address, "rspamd", "-f", "-i", "-c", config)
	return address
}

func TestPeerRspamd(t *testing.T) {
	needPeers(t, "rspamd")
	r := startChecked(t, t.TempDir(), "[[milter]]\naddress = \"tcp:"+startRspamd(t)+"\"\n")
	for i := range 2 {
		if err := r.send(i, plainMail); err != nil {
			t.Fatal(err)
		}
		if got := r.delivered(t); !strings.Contains(got, "Subject: hello\r\n") || !strings.HasSuffix(got, "\r\n\r\nbody\r\n") {
			t.Errorf("got %q", got)
		}
		if err := r.send(i, plainMail+gtube+"\r\n"); err == nil || !strings.Contains(err.Error(), "5.7.1 Gtube pattern") {
			t.Errorf("the client read %v", err)
		}
	}
	lines := r.lines(t, "content_rejected")
	if len(lines) != 2 || !strings.Contains(fmt.Sprint(lines[0]["headers"]), "hello") || strings.Contains(fmt.Sprint(lines), "Gtube") {
		t.Errorf("log %v", lines)
	}
}

// startOpenDKIM starts OpenDKIM as a signer for example.org, and returns its address and its public key's record.
func startOpenDKIM(t *testing.T) (address string, record []string) {
	t.Helper()
	dir, address := t.TempDir(), unused(t)
	text, err := content.NewKey("rsa")
	if err != nil {
		t.Fatal(err)
	}
	key := write(t, dir, "key.pem", string(text))
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	signer, err := content.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	published, err := (&content.Key{Signer: signer}).Record()
	if err != nil {
		t.Fatal(err)
	}
	config := write(t, dir, "opendkim.conf", fmt.Sprintf(
		"Domain example.org\nSelector s\nKeyFile %s\nMode s\nSocket inet:%s@127.0.0.1\nCanonicalization relaxed/relaxed\nInternalHosts 0.0.0.0/0\nUserID root\nRequireSafeKeys no\n",
		key, strings.TrimPrefix(address, "127.0.0.1:")))
	background(t, address, "opendkim", "-f", "-x", config)
	return address, []string{published}
}

func TestPeerOpenDKIM(t *testing.T) {
	needPeers(t, "opendkim")
	address, record := startOpenDKIM(t)
	r := startChecked(t, t.TempDir(), "[[milter]]\naddress = \"tcp:"+address+"\"\nscope = \"submission\"\n")
	for _, text := range []string{plainMail, plainMail + strings.Repeat("a long message, which is spooled\r\n", 20000)} {
		if err := r.send(0, text); err != nil {
			t.Fatal(err)
		}
		got := r.delivered(t)
		found, err := dkim.VerifyWithOptions(strings.NewReader(got), &dkim.VerifyOptions{
			LookupTXT: func(string) ([]string, error) { return record, nil }})
		if err != nil || len(found) != 1 || found[0].Err != nil {
			t.Errorf("%+v, %v: %.600q", found, err, got)
		}
	}
}

// ClamAV's own milter, beside its daemon, refuses the EICAR file as it does with Postfix, and lets the rest pass.
func TestPeerClamavMilter(t *testing.T) {
	needPeers(t, "clamd", "clamav-milter")
	dir, address := t.TempDir(), unused(t)
	config := write(t, dir, "milter.conf", fmt.Sprintf(
		"MilterSocket inet:%s@127.0.0.1\nClamdSocket unix:%s\nOnInfected Reject\nRejectMsg Infected with %%v\nAddHeader Replace\nForeground yes\nUser root\n",
		strings.TrimPrefix(address, "127.0.0.1:"), startClamd(t)))
	background(t, address, "clamav-milter", "--config-file="+config)
	r := startChecked(t, t.TempDir(), "[[milter]]\naddress = \"tcp:"+address+"\"\n")
	for i := range 2 {
		if err := r.send(i, plainMail); err != nil {
			t.Fatal(err)
		}
		if got := r.delivered(t); !strings.Contains(got, "\r\nX-Virus-Status: Clean\r\n") || !strings.HasSuffix(got, "\r\n\r\nbody\r\n") {
			t.Errorf("got %q", got)
		}
		if err := r.send(i, plainMail+eicar+"\r\n"); err == nil || !strings.Contains(err.Error(), "Infected with Eicar-Test") {
			t.Errorf("the client read %v", err)
		}
	}
	lines := r.lines(t, "content_rejected")
	if len(lines) != 2 || !strings.Contains(fmt.Sprint(lines[0]["headers"]), "hello") || strings.Contains(fmt.Sprint(lines), "Eicar") {
		t.Errorf("log %v", lines)
	}
}

// OpenDKIM verifies what this relay signs, with both algorithms.
func TestPeerOpenDKIMVerifies(t *testing.T) {
	needPeers(t, "opendkim")
	dir, address := t.TempDir(), unused(t)
	var keys []content.Key
	var published strings.Builder
	for _, algorithm := range []string{"rsa", "ed25519"} {
		text, err := content.NewKey(algorithm)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := content.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		k := content.Key{Domain: "example.org", Selector: algorithm, Signer: signer}
		record, err := k.Record()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&published, "%s %s\n", k.Name(), record)
		keys = append(keys, k)
	}
	config := write(t, dir, "opendkim.conf", fmt.Sprintf("Mode v\nSocket inet:%s@127.0.0.1\nTestPublicKeys %s\nUserID root\nAuthservID filter.example\nAlwaysAddARHeader yes\n",
		strings.TrimPrefix(address, "127.0.0.1:"), write(t, dir, "keys", published.String())))
	background(t, address, "opendkim", "-f", "-x", config)
	r := startChecked(t, t.TempDir(), "[[milter]]\naddress = \"tcp:"+address+"\"\n")
	folded := strings.Replace(plainMail, "Subject: hello", "Subject:  one \r\n\ttwo", 1) + "a  \t line \r\n\r\n\r\n"
	for _, key := range keys {
		m := relay.NewMessage(&queue.Envelope{}, &relay.Session{}, []byte(folded))
		v, err := content.NewSigner([]content.Key{key}, nil).Check(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.send(1, string(v.Added)+folded); err != nil {
			t.Fatal(err)
		}
		if got := r.delivered(t); !strings.Contains(got, "Authentication-Results: filter.example;\r\n\tdkim=pass") {
			t.Errorf("%s: %q", key.Selector, got)
		}
	}
}
