package logging

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// recover clears away what a crash has left: new files without a name, parts
// that are in a sealed file already, and keys of no file.
func (k *keeper) recover() error {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if stem, ok := strings.CutSuffix(entry.Name(), tempSuffix); ok && strings.HasPrefix(stem, "relay-") {
			if err := removeIfThere(filepath.Join(k.dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	if !k.sealing() {
		return nil
	}
	// While this is held, every key that is listed has its file.
	k.keys.mu.Lock()
	defer k.keys.mu.Unlock()
	keys, err := k.keys.list()
	if err != nil {
		return err
	}
	parts, err := partsIn(k.dir)
	if err != nil {
		return err
	}
	used, err := k.clearMerged(parts)
	if err != nil {
		return err
	}
	// Where a file names a key that is not there, or none, damage may have changed the name of its own.
	doubted := make(map[day]bool)
	for _, key := range used {
		doubted[key.day] = doubted[key.day] || !slices.Contains(keys, key)
	}
	for _, key := range keys {
		if !slices.Contains(used, key) && !doubted[key.day] {
			err = errors.Join(err, k.keys.destroy(key))
		}
	}
	return err
}

// clearMerged destroys the parts that a sealed file holds, and tells which
// keys are those of a file that stays, as it says itself.
func (k *keeper) clearMerged(parts []part) (used []keyFile, err error) {
	var sealed frameHeader
	for _, p := range parts {
		h, err := k.header(p.name)
		if err != nil && !errors.Is(err, errNoFrames) {
			return nil, err
		}
		if p.kind == partSealed {
			sealed = h
		}
		if p.kind == partAside && sealed.sealed && sealed.day == p.day && p.seq <= sealed.merged {
			if err := k.destroyPart(p, h); err != nil {
				return nil, err
			}
			continue
		}
		if h.key != (keyID{}) || p.kind == partSealed {
			used = append(used, keyFile{p.day, h.key})
		}
	}
	return used, nil
}
