package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// canaryBinary is the built binary as a process of its own.
type canaryBinary struct {
	w      *canaryWorld
	bin    string
	cmd    *exec.Cmd
	stdout lockedBuffer
	stderr lockedBuffer
}

// newCanaryBinary builds the binary and makes a world with a next hop at the port
// that the DNS leads to.
func newCanaryBinary(t *testing.T) *canaryBinary {
	t.Helper()
	if os.Getenv("TACET_PEERS") != "1" {
		t.Skip("TACET_PEERS is not 1")
	}
	pid := os.Getpid() // no other run has the address
	s := &canaryBinary{w: newCanaryWorld(t, fmt.Sprintf("127.%d.%d.15:25", 64+pid>>8&127, pid&255))}
	s.bin = s.w.path("tacet")
	if out, err := exec.Command("go", "build", "-o", s.bin, "tacet/cmd/tacet").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return s
}

// start starts the daemon and waits until all of it answers.
func (s *canaryBinary) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command(s.bin, "serve", "--json", "--config", s.w.config)
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	s.cmd.Env = append(os.Environ(), "GOTRACEBACK=crash") // the worst that can be asked for
	s.cmd.Dir = s.w.dir
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.w.note(s.cmd.Args[1:2])
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := s.cmd
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	deadline := time.Now().Add(canaryPatience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("unix", s.w.path("data/control.sock")); err == nil { // after the listeners
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the daemon does not listen:\n%s", s.stderr.all())
		}
		<-tick.C
	}
}

// end sends a signal and returns how the daemon ended.
func (s *canaryBinary) end(t *testing.T, signal syscall.Signal) *os.ProcessState {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(canaryPatience, func() { s.cmd.Process.Kill() })
	defer timer.Stop()
	s.cmd.Wait()
	return s.cmd.ProcessState
}

// The built binary under the same load, and with every signal that could make
// it print or dump what it holds.
func TestCanariesOfTheBinary(t *testing.T) {
	s := newCanaryBinary(t)
	w, saw := s.w, sightings{}
	w.smallDisk(t)
	w.pull()
	s.start(t)
	w.misbehave()
	w.incoming()
	w.judged()
	followed := w.followed(t, saw)
	w.submit("starttls", "a", "b", "c", "d")
	w.submit("implicit", "b")
	w.chunks()
	w.submit("implicit", "e")
	w.until("delivered", 5)
	w.until("deferred", 3)
	followed()
	s.process(t, saw)
	first, last := w.deferredIDs()
	w.commands(t, saw, s.run, first)
	w.incidents(t, saw, s.run)
	w.played(t, saw, s.play, func(io.Writer) {})
	code, out := s.run("queue", "delete", last)
	if code != 0 {
		t.Errorf("delete: %d %s", code, out)
	}
	saw.look(w.canarySet, "cli:queue-act", out)
	w.until("deleted", 1)
	w.fillDisk(t)
	w.look(saw)
	if end := s.end(t, syscall.SIGQUIT); !end.Exited() || end.ExitCode() != 0 {
		t.Errorf("SIGQUIT: %v\n%s", end, s.stderr.all())
	}
	for _, signal := range []syscall.Signal{syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGTRAP, syscall.SIGKILL, syscall.SIGTERM} {
		s.start(t)
		w.submit("starttls", "b")
		w.look(saw)
		end := s.end(t, signal)
		if status := end.Sys().(syscall.WaitStatus); status.CoreDump() {
			t.Errorf("%v dumped core", signal)
		}
		w.look(saw)
	}
	s.expire(t, saw)
	if bytes.Contains(s.stderr.all(), []byte("goroutine ")) {
		t.Errorf("standard error has a dump:\n%.2000s", s.stderr.all())
	}
	saw.look(w.canarySet, "operations", s.stderr.all())
	saw.look(w.canarySet, "stdout", s.stdout.all())
	s.dumps(t, saw)
	w.kept(t, saw)
	w.restored(t, saw)
	w.everyCommandRan(t)
	w.everyEventHappened(t)
	leaks, missing := saw.compare(w.canarySet, canaryRules())
	for _, leak := range leaks {
		t.Error("leaks:", leak)
	}
	for _, gap := range missing {
		t.Error("not seen:", gap)
	}
}

// expire has what was deferred first grow too old, at the shortest lifetime that the config takes.
func (s *canaryBinary) expire(t *testing.T, saw sightings) {
	t.Helper()
	text, err := os.ReadFile(s.w.config)
	if err != nil {
		t.Fatal(err)
	}
	s.w.file("tacet.toml", string(text)+"[queue]\nlifetime = \"1m\"\nretry = [\"10s\"]\n")
	s.start(t)
	deadline, tick := time.Now().Add(3*canaryPatience), time.NewTicker(time.Second)
	defer tick.Stop()
	for s.w.count("expired") < 2 { // to b, and to d
		if code, out := s.run("queue", "retry", "--all"); code != 0 || time.Now().After(deadline) {
			t.Fatalf("nothing expires: %d %s", code, out)
		}
		<-tick.C
	}
	s.w.look(saw)
	s.end(t, syscall.SIGTERM)
	s.w.look(saw)
}

// smallDisk puts the relay's data on a disk of its own.
func (w *canaryWorld) smallDisk(t *testing.T) {
	t.Helper()
	if err := os.Mkdir(w.path("data"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", w.path("data"), "tmpfs", 0, "size=256m,mode=750"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(w.path("data"), unix.MNT_DETACH) })
}

// fillDisk has a session meet a full disk, and makes room again.
func (w *canaryWorld) fillDisk(t *testing.T) {
	t.Helper()
	filler, err := os.Create(w.path("data/filler"))
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1<<20); err == nil; {
		_, err = filler.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	filler.Close()
	c := w.submission("implicit")
	deadline := time.Now().Add(canaryPatience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for reply := ""; !strings.HasPrefix(reply, "452"); <-tick.C { // it looks every now and then
		if time.Now().After(deadline) {
			t.Fatalf("a full disk is answered with %q", reply)
		}
		io.WriteString(c.conn, "RSET\r\n")
		c.read()
		io.WriteString(c.conn, "MAIL FROM:<"+w.sender()+">\r\n")
		reply = c.read()
	}
	c.conn.Close()
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
}

// run runs a command of the binary.
func (s *canaryBinary) run(args ...string) (int, []byte) {
	s.w.note(args)
	cmd := exec.Command(s.bin, append(args, "--config", s.w.config)...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		return -1, []byte(err.Error())
	}
	return cmd.ProcessState.ExitCode(), out
}

// play runs try of the binary.
func (s *canaryBinary) play(form string) canaryPlay {
	args := []string{"try"}
	s.w.note(args)
	if form == "json" {
		args = append(args, "--json")
	}
	p, cmd := canaryPlay{out: new(lockedBuffer)}, exec.Command(s.bin, args...)
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.w.t.Fatal(err)
	}
	p.end = func() int {
		cmd.Process.Signal(syscall.SIGINT)
		cmd.Wait()
		return cmd.ProcessState.ExitCode()
	}
	return p
}

// deferredIDs are the queue IDs of the first and the last deferral in the log.
func (w *canaryWorld) deferredIDs() (first, last string) {
	for line := range bytes.Lines(w.logged()) {
		_, rest, found := bytes.Cut(line, []byte(`"event":"deferred","id":"`))
		if id, _, ok := bytes.Cut(rest, []byte(`"`)); found && ok {
			last = string(id)
			if first == "" {
				first = last
			}
		}
	}
	return first, last
}

// process looks at what the machine shows of the process, and at what keeps
// its memory from others.
func (s *canaryBinary) process(t *testing.T, saw sightings) {
	t.Helper()
	pid := s.cmd.Process.Pid
	for _, name := range []string{"cmdline", "comm", "environ", "status", "limits", "mountinfo"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Error(err)
		}
		saw.look(s.w.canarySet, "proc:"+name, content)
		if name == "limits" && !strings.Contains(strings.Join(strings.Fields(string(content)), " "), "Max core file size 0 0 bytes") {
			t.Errorf("core files are not off:\n%s", content)
		}
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", pid))
	for _, task := range tasks {
		if content, err := os.ReadFile(task); err == nil {
			saw.look(s.w.canarySet, "proc:comm", content)
		}
	}
}

// dumps looks for what a crash may have left in the folders where it would.
func (s *canaryBinary) dumps(t *testing.T, saw sightings) {
	t.Helper()
	found, err := filepath.Glob(s.w.path("*core*"))
	if err != nil || len(found) > 0 {
		t.Errorf("core files: %v, %v", found, err)
	}
	for _, path := range found {
		if f, err := os.Open(path); err == nil {
			content, _ := io.ReadAll(f)
			f.Close()
			saw.look(s.w.canarySet, "core", content)
		}
	}
}

// crashContained is a program that contains crashes as serve does, and then
// panics with what its argument says, where nothing recovers.
func crashContained() {
	c := &console{err: os.Stderr}
	if err := c.containCrashes(); err != nil {
		panic("not contained")
	}
	fmt.Fprintln(c.err, "it speaks")
	done := make(chan struct{})
	go func() { panic(fmt.Errorf("no mailbox %s", os.Args[1])) }()
	<-done
}

// A panic that nothing recovers ends the process with status 2 and without a
// word of its value.
func TestCrashesAreContained(t *testing.T) {
	set := newCanarySet()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, set.new("panic"))
	cmd.Args[0] = "crash"
	cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Run()
	if cmd.ProcessState.ExitCode() != 2 || out.String() != "it speaks\n" {
		t.Errorf("%v, and it printed %q", cmd.ProcessState, out.String())
	}
}
