package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// hardenProcess keeps what the relay has in memory and writes from others:
// no core dumps, no reading by a debugger of the same user, and files that
// are its own unless they say otherwise.
func hardenProcess() error {
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("switching core dumps off: %w", err)
	}
	return nil
}

// containCrashes keeps what the runtime prints when the process dies away from
// standard error: a panic's value or a goroutine's memory may be somebody's
// mail, and no handler of ours could stop it from being printed. From then on
// descriptor 2 leads nowhere, and what the relay itself tells goes to a copy of
// what it was. Whatever runs the relay sees its exit status 2.
func (c *console) containCrashes() error {
	if to, ok := c.err.(*os.File); !ok || to.Fd() != uintptr(unix.Stderr) {
		return nil
	}
	kept, err := unix.FcntlInt(uintptr(unix.Stderr), unix.F_DUPFD_CLOEXEC, unix.Stderr+1)
	if err != nil {
		return fmt.Errorf("containing crashes: %w", err)
	}
	nowhere, err := unix.Open(os.DevNull, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Dup3(nowhere, unix.Stderr, 0)
		unix.Close(nowhere)
	}
	if err != nil {
		unix.Close(kept)
		return fmt.Errorf("containing crashes: %w", err)
	}
	c.err = os.NewFile(uintptr(kept), "standard error")
	return nil
}

// limitMemory tells the garbage collector of the memory that the control
// group allows, unless GOMEMLIMIT says something else. A tenth is left for
// what the collector does not count.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if limit := memoryLimit(os.DirFS("/")); limit > 0 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}

// memoryLimit is the smallest limit in octets that the process's control
// group or one above it sets, 0 if there is none. root is the machine's file system.
func memoryLimit(root fs.FS) int64 {
	membership, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	var least int64
	consider := func(name string) {
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return
		}
		// "max" in version 2 and a number near 2^63 in version 1 stand for no limit.
		n, err := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
		if err == nil && n > 0 && n < 1<<60 && (least == 0 || n < least) {
			least = n
		}
	}
	for line := range strings.Lines(string(membership)) {
		// hierarchy:controllers:path (cgroups(7))
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		switch {
		case part[1] == "":
		case slices.Contains(strings.Split(part[1], ","), "memory"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// Inside a container the path may be one of the host's: what is not
		// found there is found at the top of the mount.
		for at := path.Join("/", part[2]); ; at = path.Dir(at) {
			consider(path.Join(mount, at, file))
			if at == "/" {
				break
			}
		}
	}
	return least
}
