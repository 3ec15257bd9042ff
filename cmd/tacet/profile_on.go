//go:build profile

package main

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// profiled runs the program and leaves a profile of its CPU time in the folder
// that TACET_PROFILE names. Of such profiles default.pgo is made, by which the
// compiler optimizes (testdata/bench/README.md tells how).
func profiled(program func() int) int {
	f, err := os.CreateTemp(os.Getenv("TACET_PROFILE"), "*.prof")
	if err == nil {
		defer f.Close()
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "no profile: %v\n", err)
		return exitFailure
	}
	defer pprof.StopCPUProfile()
	return program()
}
