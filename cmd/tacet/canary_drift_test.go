package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tacet/logging"
)

// The canaries cover what there is: an event, a command or a key of the config that is new fails
// here until a canary has gone through it, or a reason says why none need to.

// note keeps which command was run.
func (w *canaryWorld) note(args []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var path strings.Builder
	path.WriteString("tacet")
	for _, word := range args {
		path.WriteString(" " + word)
		w.ran[path.String()] = true
	}
}

// everyCommandRan wants each command that there is to have been run, and looked at.
func (w *canaryWorld) everyCommandRan(t *testing.T) {
	t.Helper()
	for _, path := range commands(newRoot(&console{})) {
		if !w.ran[path] {
			t.Errorf("no canary went through %s", path)
		}
	}
}

// everyEventHappened wants a record of each event of the schema.
func (w *canaryWorld) everyEventHappened(t *testing.T) {
	t.Helper()
	for e := logging.Event(1); e.String() != ""; e++ {
		if !bytes.Contains(w.logged(), []byte(`"event":"`+e.String()+`"`)) {
			t.Errorf("nothing was %s", e)
		}
	}
}

// configInputs are the sections of the config whose texts come from or go to others, and a
// canary that goes through each; or what there is in the others.
var configInputs = map[string]string{
	"": "data_dir and names of our own", "tls": "files of our own", "auth": "user", "submission": "rcpt.a.local", "relay": "mx.rcpt.local", "primary": "numbers and hosts of our own",
	"recipients": "recipients.key", "edge": "list.address", "site": "a command of our own: TestPeers/sites runs it", "delivery": "tls.reports",
	"delivery.timeouts": "numbers", "dns": "dns.text", "queue": "numbers", "keys": "where the master key is", "limits": "numbers",
	"clamd": "scanner.signature", "verify": "spf.local", "log": "names and periods of our own", "metrics": "an address of our own",
	listenerTables: "listed.client", routeTables: "smarthost.password", dkimTables: "dkim.selector", ruleTables: "rule.pattern", milterTables: "filter.reply",
	hashListTables: "hash.zone", "pyzor": "pyzor.answer",
}

// Each section of the config has its canary, or nothing of anyone else in it.
func TestCanariesCoverTheConfig(t *testing.T) {
	w := newCanaryWorld(t, "127.0.0.1:0")
	w.message() // makes those of a message
	names := []string{listenerTables, routeTables, dkimTables, ruleTables, milterTables, hashListTables}
	for _, s := range new(Config).sections() {
		names = append(names, s.name)
	}
	for _, name := range names {
		if configInputs[name] == "" {
			t.Errorf("[%s]: say which canary goes through it", name)
		}
		if input := configInputs[name]; !strings.Contains(input, " ") && input != "numbers" && w.of(input) == "" && len(canaryRulesOf(canaryRules(), input)) == 0 {
			t.Errorf("[%s]: there is no canary %s", name, input)
		}
	}
	for name := range configInputs {
		if !slices.Contains(names, name) {
			t.Errorf("the config has no [%s]", name)
		}
	}
}

// followed runs `log tail -f` until it is ended, and looks at what it showed.
func (w *canaryWorld) followed(t *testing.T, saw sightings) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var out lockedBuffer
	ended := make(chan int, 1)
	w.note([]string{"log", "tail", "-f"})
	go func() {
		ended <- run(ctx, []string{"log", "tail", "-f", "-n", "500", "--config", w.config}, strings.NewReader(""), &out, &out)
	}()
	return func() {
		t.Helper()
		deadline, tick := time.After(canaryPatience), time.NewTicker(5*time.Millisecond)
		defer tick.Stop()
		for shown := w.of("rcpt.a.local"); !bytes.Contains(out.all(), []byte(shown)); {
			select {
			case <-tick.C:
			case <-deadline:
				t.Error("tail -f does not show what is written")
				shown = ""
			}
		}
		cancel()
		if code := <-ended; code != exitOK {
			t.Errorf("tail -f ended with %d", code)
		}
		saw.look(w.canarySet, "cli:log-tail", out.all())
	}
}

// restored puts the queue of the backup into a place of its own, and looks at what is there.
func (w *canaryWorld) restored(t *testing.T, saw sightings) {
	t.Helper()
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	config := w.file("elsewhere.toml", strings.ReplaceAll(string(text), w.path("data"), w.path("elsewhere")))
	code, out := w.cliOf(config, "backup", "restore", w.path("backup.tar"))
	if code != exitOK {
		t.Errorf("restore: %d %s", code, out)
	}
	saw.look(w.canarySet, "cli:quiet", out)
	err = filepath.WalkDir(w.path("elsewhere"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			content, readErr := os.ReadFile(path)
			saw.look(w.canarySet, "data:restored", content)
			err = readErr
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
