package pebblestore

import (
	"os"
	"syscall"
)

// blocks is what a file takes of the disk.
func blocks(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
