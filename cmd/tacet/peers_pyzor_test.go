package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tacet/relay/reputation"
)

// A text that was reported to a real Pyzor server, by its own client, is refused; one that
// was reported and then vouched for is not.
func TestPeerPyzord(t *testing.T) {
	needPeers(t, "pyzor", "pyzord")
	home, port := t.TempDir(), strings.TrimPrefix(unused(t), "127.0.0.1:")
	address := "127.0.0.2:" + port // of the first one its claim holds the UDP port
	write(t, home, "servers", address+"\n")
	write(t, home, "pyzord.access", "check report ping pong info whitelist : anonymous : allow\n")
	server := exec.Command("pyzord", "--homedir", home, "-a", "127.0.0.2", "-p", port, "-e", "gdbm", "--dsn", filepath.Join(home, "db"))
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	server.Stdout, server.Stderr = t.Output(), t.Output()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	client := func(input string, args ...string) error {
		cmd := exec.CommandContext(t.Context(), "pyzor", append([]string{"--homedir", home}, args...)...)
		cmd.Stdin = strings.NewReader(input)
		return cmd.Run()
	}
	deadline, tick := time.Now().Add(scriptPatience), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for client("", "-t", "1", "ping") != nil {
		if time.Now().After(deadline) {
			t.Fatal("pyzord does not answer")
		}
		<-tick.C
	}
	r := startChecked(t, t.TempDir(), "[pyzor]\naddress = \""+address+"\"\npurpose = \"to keep bulk mail out\"\nthreshold = 2\naction = \"reject\"\n")
	spam := plainMail + "Buy this now and get one more for free\r\nsee http://spam.example/x?id=%s now\r\n"
	for _, step := range []struct {
		command string
		refused bool
	}{{"report", false}, {"report", true}, {"whitelist", false}} {
		if err := client(strings.Replace(spam, "%s", step.command, 1), step.command); err != nil {
			t.Fatalf("pyzor %s: %v", step.command, err)
		}
		err := r.send(1, strings.Replace(spam, "%s", "other", 1))
		if refused := err != nil && strings.HasPrefix(err.Error(), "550"); refused != step.refused {
			t.Errorf("after a %s the client reads %v", step.command, err)
		}
	}
	if got := r.ledger.Totals(reputation.Text); got != (reputation.Counts{Asked: 3, Listed: 1}) {
		t.Errorf("the ledger has %+v", got)
	}
	if lines := r.lines(t, "content_rejected"); len(lines) != 1 || lines[0]["headers"] == nil {
		t.Errorf("log %v", lines)
	}
}
