package pebblestore

import (
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// op is one call that changes the file system.
type op struct {
	kind string
	name string
}

// opFS calls before and after for each call that changes the file system. An
// error of before is returned instead of doing it.
type opFS struct {
	vfs.FS
	before func(op) error
	after  func(op)
}

func (fs *opFS) do(o op, f func() error) error {
	if fs.before != nil {
		if err := fs.before(o); err != nil {
			return err
		}
	}
	err := f()
	if fs.after != nil {
		fs.after(o)
	}
	return err
}

func (fs *opFS) open(o op, f func() (vfs.File, error)) (file vfs.File, err error) {
	err = fs.do(o, func() error {
		file, err = f()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &opFile{file, fs, o.name}, nil
}

func (fs *opFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.open(op{"create", name}, func() (vfs.File, error) { return fs.FS.Create(name, c) })
}

func (fs *opFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.open(op{"reuse", to}, func() (vfs.File, error) { return fs.FS.ReuseForWrite(from, to, c) })
}

func (fs *opFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return fs.open(op{"create", name}, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, c, o...) })
}

func (fs *opFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &opFile{f, fs, name}, nil
}

func (fs *opFS) Remove(name string) error {
	return fs.do(op{"remove", name}, func() error { return fs.FS.Remove(name) })
}

func (fs *opFS) Rename(from, to string) error {
	return fs.do(op{"rename", to}, func() error { return fs.FS.Rename(from, to) })
}

func (fs *opFS) MkdirAll(name string, mode os.FileMode) error {
	return fs.do(op{"mkdir", name}, func() error { return fs.FS.MkdirAll(name, mode) })
}

type opFile struct {
	vfs.File
	fs   *opFS
	name string
}

func (f *opFile) Write(p []byte) (n int, err error) {
	err = f.fs.do(op{"write", f.name}, func() error {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

func (f *opFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.fs.do(op{"write", f.name}, func() error {
		n, err = f.File.WriteAt(p, at)
		return err
	})
	return n, err
}

func (f *opFile) Sync() error     { return f.fs.do(op{"sync", f.name}, f.File.Sync) }
func (f *opFile) SyncData() error { return f.fs.do(op{"sync", f.name}, f.File.SyncData) }
