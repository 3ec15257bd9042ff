package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacet/logging"
	"tacet/queue"
)

// A log that takes nothing, with its buffer full, holds up those who deliver;
// it does not hold up the relay's end.
func TestStopWithAFullLog(t *testing.T) {
	dir := t.TempDir()
	hop, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hop.Close()
	text := fmt.Sprintf("hostname = \"localhost\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[delivery]\nnext_hop = \"[127.0.0.1]:%d\"\n", hop.Addr().(*net.TCPAddr).Port)
	config, err := ParseConfig(filepath.Join(dir, "tacet.toml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	d, err := startDaemon(t.Context(), config, deps{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	e := &queue.Envelope{ID: queue.NewID(now), Arrived: now, Recipients: []queue.Recipient{{Path: "a@example.org"}}}
	if err := d.store.Put(t.Context(), e, []byte("\r\n"), nil); err != nil {
		t.Fatal(err)
	}
	d.relay.Kick()
	conn, err := hop.Accept() // and says nothing
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(config.Log.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config.Log.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		for d.journal.Write(&logging.Record{Event: logging.Accepted, Subject: strings.Repeat("x", 200)}) == nil {
		}
	}()
	meets(t, func() bool {
		err := d.journal.Err()
		return err != nil && !errors.Is(err, logging.ErrBacklog) && d.journal.Stats().Buffered > 8<<20-4096
	})
	if active := d.store.Stats().Active; active != 1 {
		t.Errorf("%d deliveries are under way", active)
	}
	conn.Close() // what comes of that cannot be put on record
	grace, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.stop(grace) }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "could not be written") {
			t.Errorf("stopped with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not stop")
	}
}

// meets waits until something is so.
func meets(t *testing.T, f func() bool) {
	t.Helper()
	for tick := time.Tick(5 * time.Millisecond); !f(); {
		select {
		case <-tick:
		case <-time.After(time.Minute):
			t.Fatal("it does not come about")
		}
	}
}
