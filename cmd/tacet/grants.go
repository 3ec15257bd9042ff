package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tacet/logging"
)

// recordGrants puts on record that others than at the last start may read the log by
// the control socket. Who they are is in the config; what is remembered is a digest.
func (d *daemon) recordGrants(context.Context) error {
	full, status := d.config.Log.FullReaders, d.config.Log.StatusReaders
	text, err := json.Marshal([][]string{full, status})
	if err != nil {
		return fmt.Errorf("remembering who may read the log: %w", err)
	}
	sum := sha256.Sum256(text)
	now := hex.EncodeToString(sum[:]) + "\n"
	path := filepath.Join(d.config.keyDir(), "readers")
	before, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(full)+len(status) == 0, string(before) == now:
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("remembering who may read the log: %w", err)
	}
	act := personOf(ownUID()).action(logging.VerbGrant)
	act.Matched = len(full) + len(status)
	if d.audit(act) != nil {
		return errNotRecorded
	}
	if err := os.WriteFile(path, []byte(now), 0o600); err != nil {
		return fmt.Errorf("remembering who may read the log: %w", err)
	}
	return nil
}
