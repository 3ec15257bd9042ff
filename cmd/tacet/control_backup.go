package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"filippo.io/age"

	"tacet/logging"
	"tacet/queue"
	"tacet/queue/pebblestore"
)

// backups makes copies of the queue from which a command takes a backup. It
// is the daemon that makes them, for it alone has the queue open, and it keeps
// a copy only as long as the command asks for it.
type backups struct {
	dir   string // where a copy stands: on the queue's file system, so that tables are linked
	store *pebblestore.Store
	turn  chan struct{} // holds one: a backup at a time
}

func (c *Config) stagingDir() string { return filepath.Join(c.DataDir, "backup-staging") }

// newBackups removes the copy that a killed process has left.
func newBackups(config *Config, store *pebblestore.Store) (*backups, error) {
	if err := os.RemoveAll(config.stagingDir()); err != nil {
		return nil, fmt.Errorf("removing an unfinished backup: %w", err)
	}
	return &backups{dir: config.stagingDir(), store: store, turn: make(chan struct{}, 1)}, nil
}

// staged is a copy of the queue, ready to be taken.
type staged struct {
	Dir      string `json:"dir"` // with queue/, and keys.age if there are keys
	Messages int    `json:"messages"`
	Keys     int    `json:"keys"`
}

const keysName = "keys.age"

// backupWait is how long a backup waits for the one before it.
const backupWait = 10 * time.Second

// stage makes a copy, with the keys of what is queued if there is someone to seal them to.
func (b *backups) stage(ctx context.Context, to age.Recipient) (s staged, err error) {
	s.Dir = b.dir
	if err := os.RemoveAll(b.dir); err != nil {
		return s, fmt.Errorf("removing an unfinished backup: %w", err)
	}
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return s, fmt.Errorf("making room for the backup: %w", err)
	}
	if s.Messages, err = b.store.Checkpoint(ctx, filepath.Join(b.dir, "queue")); err != nil {
		return s, err
	}
	if to == nil {
		return s, nil
	}
	f, err := os.OpenFile(filepath.Join(b.dir, keysName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return s, fmt.Errorf("sealing the keys: %w", err)
	}
	sealed, err := age.Encrypt(f, to)
	if err == nil {
		s.Keys, err = b.store.WriteKeys(ctx, sealed)
		err = errors.Join(err, sealed.Close())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return s, fmt.Errorf("sealing the keys: %w", err)
	}
	return s, nil
}

func (b *backups) remove() error { return os.RemoveAll(b.dir) }

// parseRecipient reads an age recipient; nil for none.
func parseRecipient(text string) (age.Recipient, error) {
	if text == "" {
		return nil, nil
	}
	to, err := age.ParseX25519Recipient(text)
	if err != nil {
		return nil, wrongUsage("--keys-to wants a recipient such as age1…, which `age-keygen` prints")
	}
	return to, nil
}

func (c *control) handleBackup(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/backup", c.backup)
	mux.HandleFunc("POST /v1/backup/verified", c.backupVerified)
}

// backup makes a copy and keeps it until the client goes.
func (c *control) backup(w http.ResponseWriter, r *http.Request) {
	to, err := parseRecipient(r.URL.Query().Get("keys_to"))
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	// One that was given up a moment ago may still be removing its copy.
	waited := time.NewTimer(backupWait)
	defer waited.Stop()
	select {
	case c.backups.turn <- struct{}{}:
	case <-waited.C:
		fail(w, http.StatusConflict, errors.New("another backup is being made: wait for it"))
		return
	case <-r.Context().Done():
		return
	}
	defer func() { <-c.backups.turn }()
	act := peerOf(r.Context()).action(logging.VerbBackupCreate, logging.ScopeAll)
	act.Matched = c.queue.Stats().Messages
	if err := c.audit(act); err != nil {
		fail(w, http.StatusInsufficientStorage, errNotRecorded)
		return
	}
	lines := newStepper(w)
	// What is left behind by an error is removed before the next backup, and at the start.
	defer func() { _ = c.backups.remove() }()
	s, err := c.backups.stage(r.Context(), to)
	if err != nil {
		_ = lines.out.Encode(problem{Error: err.Error()})
		return
	}
	if lines.out.Encode(step[staged]{Result: &s}) != nil || lines.flush.Flush() != nil {
		return
	}
	<-r.Context().Done()
}

// backupVerified puts on record what a command has found.
func (c *control) backupVerified(w http.ResponseWriter, r *http.Request) {
	files, err := strconv.Atoi(r.URL.Query().Get("files"))
	if err != nil {
		fail(w, http.StatusBadRequest, errors.New("files: want a number"))
		return
	}
	act := peerOf(r.Context()).action(logging.VerbBackupVerify)
	act.Matched, act.Failed = files, r.URL.Query().Get("failed") == "1"
	if err := c.audit(act); err != nil {
		fail(w, http.StatusInsufficientStorage, errNotRecorded)
		return
	}
	answer(w, struct{}{})
}

// stepsOf reads an answer that takes its time: its steps, and its result.
func stepsOf[T any](in io.Reader, progress func(int)) (result T, err error) {
	lines := json.NewDecoder(in)
	for {
		var line step[T]
		if err := lines.Decode(&line); err != nil {
			return result, fmt.Errorf("reading the daemon's answer: %w", err)
		}
		if line.Result != nil {
			result = *line.Result
			if line.Error != "" {
				err = line.err()
			}
			return result, err
		}
		if line.Error != "" {
			return result, line.err()
		}
		progress(line.Done)
	}
}

// purge deletes what has no key any more, and tells how many that were.
func purge(ctx context.Context, store *pebblestore.Store) (int, error) {
	ids, err := store.Forgotten(ctx)
	if err != nil {
		return 0, err
	}
	all := selections{actions: forgetful{store}}
	result := all.act(ctx, &selection{verb: logging.VerbQueueDelete, ids: ids}, func(int) {})
	return result.Changed, result.fault
}

// forgetful deletes messages of which nothing is known, and so leaves no record of each.
type forgetful struct{ *pebblestore.Store }

// Delete implements QueueActions.
func (f forgetful) Delete(ctx context.Context, id queue.ID) error {
	_, err := f.Store.Delete(ctx, id, nil)
	return err
}

// Release implements QueueActions.
func (f forgetful) Release(ctx context.Context, id queue.ID) error { return f.Unhold(ctx, id) }
