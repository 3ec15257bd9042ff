package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tacet/logging"
	"tacet/queue"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tacet": main, "crash": crashContained})
}

// The scripts run the real program. Beside the commands of testscript they have:
//
//	status N CMD...     run a command that must end with N
//	port NAME...        set each name to a port that is free
//	expand FILE...      replace $NAME in files
//	notify              listen for what a daemon tells systemd
//	notified TEXT       wait until it has told that
//	nexthop NAME        start a next hop that takes all mail; set name to its "[address]:port"
//	submit PORT USER PASSWORD [CERT]
//	                    submit a message, with STARTTLS if a certificate to trust is given
//	logged DIR EVENT [N]
//	                    wait until the relay log of that folder has the event, N times
//	idle SOCKET         wait until the relay of a control socket attempts nothing: the log has an
//	                    outcome before the queue has it
//	control SOCKET METHOD PATH
//	                    print the answer of a control socket
//	signal NAME         send TERM, INT, HUP or KILL to the newest program in the background
//	activated ADDRESS CMD...
//	                    run a command that inherits a listening socket, as systemd does it
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[systemdKey{}] = new(systemdSocket)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": scriptStatus, "port": scriptPort, "expand": scriptExpand,
			"notify": scriptNotify, "notified": scriptNotified, "nexthop": scriptNextHop,
			"submit": scriptSubmit, "mail": scriptMail, "logged": scriptLogged, "idle": scriptIdle, "control": scriptControl, "activated": scriptActivated,
			"signal": scriptSignal, "gone": scriptGone,
		},
	})
}

// scriptPatience is how long a script waits for what is to happen.
const scriptPatience = 3 * time.Minute

func scriptStatus(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		failed, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = failed.ExitCode()
	}
	if got != want {
		ts.Fatalf("it ended with %d, want %d", got, want)
	}
}

func scriptPort(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		address, claim, err := claimPort()
		ts.Check(err)
		ts.Defer(func() { claim.Close() })
		ts.Setenv(name, strings.TrimPrefix(address, "127.0.0.1:"))
	}
}

func scriptExpand(ts *testscript.TestScript, _ bool, files []string) {
	for _, file := range files {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
}

// systemdKey is where a script keeps the socket that notifications come by.
type systemdKey struct{}

// systemdSocket is that socket, once there is one.
type systemdSocket struct{ *net.UnixConn }

func scriptNotify(ts *testscript.TestScript, _ bool, _ []string) {
	path := ts.MkAbs("notify.sock")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	ts.Defer(func() { conn.Close() })
	ts.Setenv("NOTIFY_SOCKET", path)
	ts.Value(systemdKey{}).(*systemdSocket).UnixConn = conn
}

func scriptNotified(ts *testscript.TestScript, _ bool, args []string) {
	conn := ts.Value(systemdKey{}).(*systemdSocket)
	ts.Check(conn.SetReadDeadline(time.Now().Add(scriptPatience)))
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			ts.Fatalf("%s was not told: %v", args[0], err)
		}
		if strings.Contains(string(buffer[:n]), args[0]) {
			return
		}
	}
}

func scriptNextHop(ts *testscript.TestScript, _ bool, args []string) {
	s, err := startSink()
	ts.Check(err)
	ts.Defer(func() { ts.Check(s.stop()) })
	ts.Setenv(args[0], "["+s.address.Addr().String()+"]:"+strconv.Itoa(int(s.address.Port())))
}

func scriptSubmit(ts *testscript.TestScript, neg bool, args []string) {
	port, err := strconv.ParseUint(args[0], 10, 16)
	ts.Check(err)
	p := &playground{
		user: args[1], password: args[2], cert: ts.MkAbs(args[3]),
		starttls: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)),
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	if err := p.submit(ctx); (err != nil) != neg {
		ts.Fatalf("submitting: %v", err)
	} else if err != nil {
		io.WriteString(ts.Stdout(), err.Error()+"\n")
	}
}

func scriptLogged(ts *testscript.TestScript, _ bool, args []string) {
	event, ok := logging.ParseEvent(args[1])
	if !ok {
		ts.Fatalf("there is no event %s", args[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	times := 1
	if len(args) > 2 {
		var err error
		times, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	options := logging.ReadOptions{Dir: ts.MkAbs(args[0]), Last: -1, Follow: true, Filter: logging.Filter{Events: []logging.Event{event}}}
	for line, err := range logging.Read(ctx, options) {
		ts.Check(err)
		ts.Stdout().Write(append(line.Raw, '\n'))
		if times--; times == 0 {
			return
		}
	}
	ts.Fatalf("%s is not in the log", args[1])
}

// scriptGone waits until there is no such file any more: gone FILE.
func scriptGone(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: gone FILE")
	}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(scriptPatience); ; <-look.C {
		if _, err := os.Stat(ts.MkAbs(args[0])); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s is still there", args[0])
		}
	}
}

// scriptIdle asks three times in a row, so that what was to begin has begun.
func scriptIdle(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	client, err := dialControl(ctx, ts.MkAbs(args[0]))
	ts.Check(err)
	defer client.Close()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for quiet := 0; quiet < 3; <-look.C {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tacet/v1/stats", nil)
		ts.Check(err)
		resp, err := client.http.Do(req)
		ts.Check(err)
		var stats queue.Stats
		err = json.NewDecoder(resp.Body).Decode(&stats)
		ts.Check(errors.Join(err, resp.Body.Close()))
		if quiet++; stats.Active > 0 {
			quiet = 0
		}
	}
}

func scriptControl(ts *testscript.TestScript, neg bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	client, err := dialControl(ctx, ts.MkAbs(args[0]))
	ts.Check(err)
	defer client.Close()
	req, err := http.NewRequestWithContext(ctx, args[1], "http://tacet"+args[2], nil)
	ts.Check(err)
	resp, err := client.http.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
	if (resp.StatusCode != http.StatusOK) != neg {
		ts.Fatalf("the answer is %s", resp.Status)
	}
}

func scriptSignal(ts *testscript.TestScript, _ bool, args []string) {
	number, ok := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}[args[0]]
	running := ts.BackgroundCmds()
	if !ok || len(running) == 0 {
		ts.Fatalf("no signal %s to send, or no one to send it to", args[0])
	}
	ts.Check(running[len(running)-1].Process.Signal(number))
}

func scriptActivated(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", args[0])
	ts.Check(err)
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	ts.Check(err)
	defer file.Close()
	// LISTEN_PID must be that of the program itself (sd_listen_fds(3)).
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh"}, args[1:]...)...)
	cmd.ExtraFiles = []*os.File{file}
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "PATH="+ts.Getenv("PATH"), "NOTIFY_SOCKET="+ts.Getenv("NOTIFY_SOCKET"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	ts.Check(cmd.Start())
	ts.Defer(func() {
		ts.Check(cmd.Process.Signal(os.Interrupt))
		if err := cmd.Wait(); err != nil {
			ts.Logf("%s", said.String())
			ts.Check(err)
		}
	})
}

// What check --json prints is JSON, with the effective config in it.
func TestCheckJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tacet.toml")
	if err := os.WriteFile(file, []byte("hostname = \"relay.example.org\"\ndata_dir = \"data\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if status := run(t.Context(), []string{"check", "--json", "--config", file}, nil, &out, &errs); status != exitOK {
		t.Fatalf("it ended with %d: %s", status, errs.String())
	}
	var got struct {
		Config struct {
			Hostname string
			Listener []struct{ Address string }
		}
		Faults, Warnings []string
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if got.Config.Hostname != "relay.example.org" || len(got.Config.Listener) != 1 || got.Config.Listener[0].Address != "127.0.0.1:2587" {
		t.Errorf("config: %+v", got.Config)
	}
	if len(got.Faults) != 0 || len(got.Warnings) == 0 {
		t.Errorf("faults %q, warnings %q", got.Faults, got.Warnings)
	}
}
