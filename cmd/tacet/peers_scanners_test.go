package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
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
