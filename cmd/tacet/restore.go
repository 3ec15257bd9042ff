package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tacet/logging"
	"tacet/queue/pebblestore"
)

func newBackupRestore(c *console) *cobra.Command {
	var identity string
	cmd := &cobra.Command{
		Use:   "restore {FILE.tar | FOLDER}",
		Short: "Put the queue of a backup in place",
		Long: `Check a backup and put its queue into data_dir, where there must be none. No daemon may
be running: restore before you start it for the first time, for it gives up keys that
no queued message needs. The config in the backup is left alone: compare it yourself.

What was settled before the backup is not in it. Beside the key folder as it was left,
what was settled after the backup is forgotten too, so that nothing is delivered twice.
With --identity the keys that were sealed with --keys-to come back as well: then what was
delivered after the backup is delivered again.

Messages whose keys are gone are counted as forgotten and removed.`,
		Example: `  tacet backup restore /backup/tacet-monday.tar
  tacet backup restore /backup/tacet-monday.tar --identity /media/stick/disaster.key`,
		Args: takes("a backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.restoreBackup(cmd.Context(), args[0], identity)
		},
	}
	cmd.Flags().StringVar(&identity, "identity", "", "file with the age identity to which the keys were sealed")
	return cmd
}

// restoring is a restore under way.
type restoring struct {
	config     *Config
	identities []age.Identity
	folder     string // where the queue is put together: beside its final place
	keys       int
}

// restored is what came of it.
type restored struct {
	Messages  int `json:"messages"`
	Forgotten int `json:"forgotten"`
	Damaged   int `json:"damaged"`
	Keys      int `json:"keys"`
}

func (c *console) restoreBackup(ctx context.Context, source, identity string) error {
	config, err := LoadConfig(c.config)
	if err != nil {
		return err
	}
	r := &restoring{config: config, folder: config.queueDir() + ".restoring"}
	if err := r.ready(ctx, identity); err != nil {
		return err
	}
	m, err := verifyArchive(source)
	if err != nil {
		return fmt.Errorf("%s: %w; nothing was restored", source, err)
	}
	if m.Keys > 0 && identity == "" {
		c.note("the backup has keys; without --identity only the key folder in %s is used", config.keyDir())
	}
	act := personOf(os.Getuid()).action(logging.VerbBackupRestore, logging.ScopeAll)
	act.Matched = m.Messages
	if err := recordHere(config, act); err != nil {
		return err
	}
	if err := r.unpack(source); err != nil {
		return fmt.Errorf("restoring: %w", errors.Join(err, os.RemoveAll(r.folder)))
	}
	result, err := r.settle(ctx)
	if err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	if c.json {
		return c.printJSON(result)
	}
	_, err = fmt.Fprintf(c.out, "%s restored, %d forgotten because their keys are gone, %d damaged\n", plural(result.Messages, "message"), result.Forgotten, result.Damaged)
	return err
}

// ready checks that there is a place to restore to.
func (r *restoring) ready(ctx context.Context, identity string) error {
	daemon, err := dialControl(ctx, r.config.controlSocket())
	if err == nil {
		return errors.Join(errors.New("a daemon is running: stop it first"), daemon.Close())
	}
	if !errors.Is(err, errNoDaemon) {
		return err
	}
	empty, err := isEmpty(r.config.queueDir())
	if err != nil {
		return err
	}
	if !empty {
		return fmt.Errorf("there is a queue in %s already: move it away first, and leave %s where it is", r.config.queueDir(), r.config.keyDir())
	}
	if identity == "" {
		return nil
	}
	f, err := os.Open(identity)
	if err != nil {
		return fmt.Errorf("reading the identity: %w", err)
	}
	defer f.Close()
	if r.identities, err = age.ParseIdentities(f); err != nil {
		return fmt.Errorf("%s holds no age identity", identity)
	}
	return nil
}

// unpack writes the queue beside its place, and the keys into the key folder.
func (r *restoring) unpack(source string) error {
	if err := os.RemoveAll(r.folder); err != nil {
		return err
	}
	if err := os.Mkdir(r.folder, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(r.folder)
	if err != nil {
		return err
	}
	defer root.Close()
	err = readArchive(source, func(name string, _ int64, in io.Reader) error {
		if name == keysName && r.identities != nil {
			return r.readKeys(in)
		}
		below, ok := strings.CutPrefix(name, "queue/")
		if !ok {
			return nil
		}
		return copyTo(root, below, in)
	})
	if err != nil {
		return err
	}
	return r.giveAway(root)
}

func (r *restoring) readKeys(in io.Reader) error {
	plain, err := age.Decrypt(in, r.identities...)
	if err != nil {
		return errors.New("the identity is not the one that the keys were sealed to")
	}
	return asOwner(r.config.DataDir, func() error {
		master, err := r.config.masterKey(context.Background(), askPerson)
		if err != nil {
			return err
		}
		defer clear(master)
		r.keys, err = pebblestore.ReadKeys(pebblestore.Options{KeyDir: r.config.keyDir(), MasterKey: master}, plain)
		return r.config.wrongKey(err)
	})
}

// giveAway makes the owner of data_dir the owner of what was unpacked, and its names durable.
func (r *restoring) giveAway(root *os.Root) error {
	var owner unix.Stat_t
	if err := unix.Stat(r.config.DataDir, &owner); err != nil {
		return err
	}
	return fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if err := root.Lchown(name, int(owner.Uid), int(owner.Gid)); err != nil {
				return err
			}
		}
		if entry.IsDir() {
			return syncFolder(filepath.Join(r.folder, name))
		}
		return nil
	})
}

// settle opens the queue, removes what is forgotten, and puts it in place.
func (r *restoring) settle(ctx context.Context) (result restored, err error) {
	router, err := r.config.router(r.config.lookups())
	if err != nil {
		return result, err
	}
	err = asOwner(r.config.DataDir, func() error {
		store, err := openStore(ctx, r.config, router.Destination, func(o *pebblestore.Options) { o.Dir = r.folder })
		if err != nil {
			return err
		}
		result.Forgotten, err = purge(ctx, store)
		stats := store.Stats()
		result.Messages, result.Damaged, result.Keys = stats.Messages-stats.Damaged, stats.Damaged, r.keys
		if err = errors.Join(err, store.Close()); err != nil {
			return err
		}
		// An empty folder in its place is replaced, a queue is not.
		if err := os.Rename(r.folder, r.config.queueDir()); err != nil {
			return err
		}
		return syncFolder(r.config.DataDir)
	})
	return result, err
}

// asOwner does something as the owner of a path, where it is root who asks, so
// that the daemon can use what is made. Who asks is root again afterwards.
func asOwner(path string, do func() error) (err error) {
	var owner unix.Stat_t
	if err := unix.Stat(path, &owner); err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	if os.Geteuid() != 0 || owner.Uid == 0 {
		return do()
	}
	if err := syscall.Setresgid(-1, int(owner.Gid), -1); err != nil {
		return fmt.Errorf("becoming the owner of %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, syscall.Setresgid(-1, 0, -1)) }()
	if err := syscall.Setresuid(-1, int(owner.Uid), -1); err != nil {
		return fmt.Errorf("becoming the owner of %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, syscall.Setresuid(-1, 0, -1)) }()
	return do()
}
