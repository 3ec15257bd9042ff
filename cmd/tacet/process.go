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
