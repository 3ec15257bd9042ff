package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for anything: only what hangs takes so long.
const patience = 3 * time.Minute

// feed is a list that grows and can be waited for.
type feed[T any] struct {
	mu      sync.Mutex
	items   []T
	changed chan struct{}
}

func newFeed[T any]() *feed[T] { return &feed[T]{changed: make(chan struct{})} }

func (f *feed[T]) add(item T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items = append(f.items, item)
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed[T]) all() []T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items[:len(f.items):len(f.items)]
}

// until waits until enough says so of all items, and returns them.
func (f *feed[T]) until(t *testing.T, what string, enough func([]T) bool) []T {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		f.mu.Lock()
		items, changed := f.items[:len(f.items):len(f.items)], f.changed
		f.mu.Unlock()
		if enough(items) {
			return items
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("waited %v for %s; there is\n%s", patience, what, lastOf(items))
		}
	}
}

// find waits for the first item that matches.
func (f *feed[T]) find(t *testing.T, what string, match func(T) bool) T {
	t.Helper()
	var found T
	f.until(t, what, func(items []T) bool {
		for _, item := range items {
			if match(item) {
				found = item
				return true
			}
		}
		return false
	})
	return found
}

func lastOf[T any](items []T) string {
	var b strings.Builder
	for _, item := range items[max(0, len(items)-25):] {
		text := fmt.Sprintf("%+v", item)
		fmt.Fprintf(&b, "  %s\n", text[:min(len(text), 500)])
	}
	return b.String()
}

// lines feeds each line of r.
func (f *feed[T]) lines(r io.Reader, parse func(string) T) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		f.add(parse(scanner.Text()))
	}
}

// workDir makes a folder with a short name, for the sake of unix sockets, that
// programs under another user may enter.
func workDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tacet-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("TACET_KEEP") != "" {
			t.Logf("kept: %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// own is an address of loopback that no other run of the tests has at the same time, for
// where the port is given.
func own(host int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 64+pid>>8&127, pid&255, host)
}

// freePort gives an address that no one listens at. It is below the range from
// which the kernel takes ports for outgoing connections, so that none of those
// gets in between; and until the end of the test the UDP port of the same
// number is held, which keeps the other tests away from it.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		n, err := rand.Int(rand.Reader, big.NewInt(20000))
		if err != nil {
			t.Fatal(err)
		}
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+n.Int64())
		claim, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			t.Cleanup(func() { claim.Close() })
			return addr
		}
		claim.Close()
	}
	t.Fatal("no free port")
	return ""
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// hop writes an address as next_hop has it.
func hop(addr string) string { return "[127.0.0.1]" + addr[strings.LastIndexByte(addr, ':'):] }

// identity is a certificate for this host, that vouches for itself.
type identity struct {
	cert, key string // PEM files
	both      string // in one file, the key first
	pair      tls.Certificate
	pool      *x509.CertPool
}

func newIdentity(t *testing.T, dir string, names ...string) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		DNSNames: append(names, "localhost", "relay.example.org"), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	id := identity{pool: x509.NewCertPool()}
	id.pool.AppendCertsFromPEM(certPEM)
	id.cert = writeFile(t, filepath.Join(dir, "cert.pem"), string(certPEM))
	id.key = writeFile(t, filepath.Join(dir, "key.pem"), string(keyPEM))
	id.both = writeFile(t, filepath.Join(dir, "both.pem"), string(keyPEM)+string(certPEM))
	if id.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return id
}

// process is a program in the background, in a group of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *feed[string] // of both channels, by lines
	exited chan struct{}
}

// start runs a program until the end of the test.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, output: newFeed[string](), exited: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	var reading sync.WaitGroup
	reading.Go(func() { p.output.lines(r, func(s string) string { return s }) })
	go func() {
		cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		r.Close()
		reading.Wait()
	})
	return p
}

// listens waits until a program listens that tells of it in no other way.
func (p *process) listens(addr string) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-p.exited:
			p.t.Fatalf("%v ended:\n%s", p.cmd.Args, lastOf(p.output.all()))
		case <-ctx.Done():
			p.t.Fatalf("%v does not listen: %v", p.cmd.Args, err)
		}
	}
}

// kill ends the program's whole group at once.
func (p *process) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// wait waits for the program's own end and returns its exit status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("%s does not end:\n%s", p.cmd.Path, lastOf(p.output.all()))
		return -1
	}
}

// runProgram runs a program to its end and returns its output and exit status.
func runProgram(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
