package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacet/queue"
	"tacet/queue/pebblestore"
)

// TestDamagedQueue: check tells of a damaged queue before it is started, and
// the start asks systemd for the time it takes.
func TestDamagedQueue(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tacet.toml")
	if err := os.WriteFile(path, []byte("data_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second open writes what the first has logged to a table
		damageQueue(t, config, func([]byte) {})
	}
	if f := inspect(config); strings.Contains(strings.Join(f.Warnings, "\n"), "damaged") || len(f.Faults) > 0 {
		t.Errorf("of a sound queue check says %q", f)
	}
	damageQueue(t, config, func(table []byte) { table[len(table)/3] ^= 1 })
	if f := inspect(config); !strings.Contains(strings.Join(f.Warnings, "\n"), "is damaged (0") || len(f.Faults) > 0 {
		t.Errorf("of a damaged queue check says %q", f)
	}

	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	if err := os.WriteFile(filepath.Join(config.queueDir(), "damaged"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	runDaemon(t, config, deps{})
	systemd.SetReadDeadline(time.Now().Add(scriptPatience))
	b := make([]byte, 1000)
	n, err := systemd.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "EXTEND_TIMEOUT_USEC=") {
		t.Errorf("systemd was told %q, %v", b[:n], err)
	}
}

// damageQueue puts a message into a config's queue, and changes its tables.
func damageQueue(t *testing.T, config *Config, change func(table []byte)) {
	t.Helper()
	store, err := pebblestore.Open(pebblestore.Options{
		Dir: config.queueDir(), KeyDir: config.keyDir(), Destination: func(queue.ForwardPath) queue.Destination { return "x" },
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	e := &queue.Envelope{ID: queue.NewID(now), Arrived: now, Sender: "a@example.org", Recipients: []queue.Recipient{{Path: "b@example.net", Next: now.Add(time.Hour)}}}
	if err := store.Put(t.Context(), e, []byte("Subject: x\r\n\r\nx\r\n"), nil); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(config.queueDir(), "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		change(b)
		if err := os.WriteFile(table, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
