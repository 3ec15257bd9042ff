package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tryCommand is `tacet try` with its throw-away folder in dir.
func tryCommand(bin, dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(bin, append([]string{"try"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	return cmd
}

// paste runs a command as a shell gets it from the clipboard.
func paste(bin, command string) *exec.Cmd {
	cmd := exec.Command("bash", "-c", command)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"))
	return cmd
}

// try: the commands that `tacet try` prints work as they stand.
func (p *peers) try(t *testing.T) {
	dir := workDir(t)
	run := start(t, tryCommand(p.bin, dir))
	text := strings.Join(run.output.until(t, "the hints", func(lines []string) bool {
		return slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "Ctrl-C") })
	}), "\n")
	var pasted int
	for hint := range strings.SplitSeq(text, "\n\n") {
		hint, found := strings.CutPrefix(hint, "# ")
		if !found {
			continue
		}
		name, command, _ := strings.Cut(hint, "\n")
		t.Run(name, func(t *testing.T) {
			before := len(run.output.all())
			out, errs, status := runProgram(t, paste(p.bin, command))
			if status != 0 {
				t.Fatalf("status %d\n%s\n%s%s", status, command, out, errs)
			}
			if strings.Contains(command, " queue list ") {
				return
			}
			pasted++
			word, _, _ := strings.Cut(name, ",")
			run.output.until(t, "the delivery on record", func(lines []string) bool {
				return slices.ContainsFunc(lines[before:], func(line string) bool {
					return strings.Contains(line, "delivered") && strings.Contains(line, "Hello from "+word)
				})
			})
		})
	}
	if pasted != 4 {
		t.Errorf("%d commands for mail clients, want 4:\n%s", pasted, text)
	}
	run.cmd.Process.Signal(syscall.SIGINT)
	if status := run.wait(); status != 0 {
		t.Errorf("after Ctrl-C: status %d\n%s", status, lastOf(run.output.all()))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	begun := time.Now()
	out, errs, status := runProgram(t, tryCommand(p.bin, dir, "--once"))
	if status != 0 || !strings.Contains(out, "delivered") {
		t.Errorf("try --once: status %d\n%s%s", status, out, errs)
	}
	t.Logf("try --once took %v", time.Since(begun))
}
