package pebblestore

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// countFS counts what reaches the file system.
type countFS struct {
	vfs.FS
	syncs, bytes atomic.Int64
}

func (c *countFS) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &countFile{f, c}, nil
}

func (c *countFS) Create(name string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	return c.file(c.FS.Create(name, cat))
}

func (c *countFS) ReuseForWrite(from, to string, cat vfs.DiskWriteCategory) (vfs.File, error) {
	return c.file(c.FS.ReuseForWrite(from, to, cat))
}

func (c *countFS) OpenReadWrite(name string, cat vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return c.file(c.FS.OpenReadWrite(name, cat, o...))
}

func (c *countFS) OpenDir(name string) (vfs.File, error) { return c.file(c.FS.OpenDir(name)) }

type countFile struct {
	vfs.File
	c *countFS
}

func (f *countFile) Write(p []byte) (int, error) {
	f.c.bytes.Add(int64(len(p)))
	return f.File.Write(p)
}

func (f *countFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.bytes.Add(int64(len(p)))
	return f.File.WriteAt(p, off)
}

func (f *countFile) Sync() error {
	f.c.syncs.Add(1)
	return f.File.Sync()
}

func (f *countFile) SyncData() error {
	f.c.syncs.Add(1)
	return f.File.SyncData()
}
