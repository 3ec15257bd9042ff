package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tacet/logging"
)

func newBackup(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Back up the queue and restore it: create, verify, restore",
		Long: `Make a consistent copy of a live relay's queue and config, check one, and restore one.

A backup holds no keys. Everything in the queue is sealed, each message under a key of
its own that is destroyed once the message is delivered: restored beside the key folder
as it is now, a backup opens what is still owed and nothing else, and without the key
folder it opens nothing. That is on purpose: nothing is kept in backups that was
delivered.

To survive the loss of the key folder, seal the keys of what is queued to somebody:
backup create --keys-to. Such a backup can be read for as long as that recipient's key
exists, also what was delivered in the meantime: keep the key off this machine, and
destroy it, or the backup, as soon as you can.`,
		Example: `  tacet backup create /backup/tacet-monday.tar
  tacet backup create /backup/tacet-monday.tar --keys-to age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
  tacet backup verify /backup/tacet-monday.tar
  tacet backup restore /backup/tacet-monday.tar`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newBackupCreate(c), newBackupVerify(c), newBackupRestore(c))
	return cmd
}

func newBackupCreate(c *console) *cobra.Command {
	var keysTo string
	cmd := &cobra.Command{
		Use:   "create {FILE.tar | FOLDER}",
		Short: "Copy the queue and the config",
		Long: `Copy the queue, as it is at one moment, and the config file into a tar file, if the name ends
in ".tar", or else a folder. Mail flows meanwhile. The name is given to it when it is whole
and on the disk; nothing is overwritten.

The log, the users and the certificate are not in it, and no key, unless --keys-to names an
age recipient to whom the keys of what is queued are sealed.`,
		Example: `  tacet backup create /backup/tacet-monday.tar
  tacet backup create /backup/monday --keys-to "$(age-keygen -y disaster.key)"`,
		Args: takes("a name for the backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := parseRecipient(keysTo); err != nil {
				return err
			}
			return c.createBackup(cmd.Context(), args[0], keysTo)
		},
	}
	cmd.Flags().StringVar(&keysTo, "keys-to", "", "age recipient (age1…) to whom the keys of what is queued are sealed")
	return cmd
}

func (c *console) createBackup(ctx context.Context, target, keysTo string) error {
	config, err := LoadConfig(c.config)
	if err != nil {
		return err
	}
	if target, err = filepath.Abs(target); err != nil {
		return err
	}
	w, err := newArchive(target)
	if err != nil {
		return err
	}
	s, release, err := c.stage(ctx, config, keysTo)
	if err == nil {
		err = errors.Join(w.fill(ctx, config, s), release())
	}
	if err != nil {
		return errors.Join(err, w.abandon())
	}
	size := int64(0)
	for _, f := range w.manifest.Files {
		size += f.Size
	}
	if err := w.finish(); err != nil {
		return err
	}
	if c.json {
		return c.printJSON(map[string]any{"backup": target, "messages": s.Messages, "keys": s.Keys, "octets": size})
	}
	keys := "no keys"
	if keysTo != "" {
		keys = plural(s.Keys, "key")
	}
	_, err = fmt.Fprintf(c.out, "%s: %s, %s, %s\n", target, plural(s.Messages, "message"), keys, shortOctets(size))
	return err
}

// fill writes a copy of the queue, and the config.
func (w *archiveWriter) fill(ctx context.Context, config *Config, s staged) error {
	w.manifest.Format, w.manifest.Tacet, w.manifest.Created = archiveFormat, buildVersion().Version, time.Now().UTC()
	w.manifest.Messages, w.manifest.Keys = s.Messages, s.Keys
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return fmt.Errorf("reading the copy of the queue: %w", err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || entry.IsDir() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		return errors.Join(w.addFile(name, f), f.Close())
	})
	if err != nil {
		return fmt.Errorf("reading the copy of the queue: %w", err)
	}
	f, err := os.Open(config.source.path)
	if err != nil {
		return fmt.Errorf("reading the config: %w", err)
	}
	return errors.Join(w.addFile("config/tacet.toml", f), f.Close())
}

func (w *archiveWriter) addFile(name string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return w.add(name, info.Size(), f)
}

// stage has a copy made, by the daemon or without one here, and says how it is given up.
func (c *console) stage(ctx context.Context, config *Config, keysTo string) (s staged, release func() error, err error) {
	daemon, err := dialControl(ctx, config.controlSocket())
	if errors.Is(err, errNoDaemon) {
		c.note("no daemon is running: copying the queue in %s itself", config.queueDir())
		return stageOffline(ctx, config, keysTo)
	}
	if err != nil {
		return s, nil, err
	}
	resp, err := daemon.do(ctx, http.MethodPost, "backup?keys_to="+url.QueryEscape(keysTo))
	if err != nil {
		return s, nil, errors.Join(err, daemon.Close())
	}
	// The daemon keeps the copy until the answer is closed.
	release = func() error { return errors.Join(resp.Body.Close(), daemon.Close()) }
	if s, err = stepsOf[staged](resp.Body, func(int) {}); err != nil {
		return s, nil, errors.Join(err, release())
	}
	return s, release, nil
}

func stageOffline(ctx context.Context, config *Config, keysTo string) (s staged, release func() error, err error) {
	to, err := parseRecipient(keysTo)
	if err != nil {
		return s, nil, err
	}
	router, err := config.router(config.lookups())
	if err != nil {
		return s, nil, err
	}
	if _, err := os.Stat(config.queueDir()); err != nil {
		return s, nil, fmt.Errorf("there is no queue: %w; is --config the right one?", err)
	}
	who := personOf(os.Getuid())
	err = asOwner(config.queueDir(), func() error {
		store, err := openStore(ctx, config, router.Destination, nil)
		if err != nil {
			return err
		}
		act := who.action(logging.VerbBackupCreate, logging.ScopeAll)
		<-store.Loaded()
		act.Matched = store.Stats().Messages
		if err := config.audit().Write(act); err != nil {
			return errors.Join(fmt.Errorf("%w: %w", errNotRecorded, err), store.Close())
		}
		b, err := newBackups(config, store)
		if err == nil {
			s, err = b.stage(ctx, to)
		}
		return errors.Join(err, store.Close())
	})
	release = func() error { return os.RemoveAll(config.stagingDir()) }
	if err != nil {
		return s, nil, errors.Join(err, release())
	}
	return s, release, nil
}

func newBackupVerify(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "verify {FILE.tar | FOLDER}",
		Short: "Check that a backup is whole",
		Long: `Read all of a backup and compare it with the checksums in it. It ends with 1 if
anything is damaged, missing or too much, and the result is in the audit log.`,
		Example: `  tacet backup verify /backup/tacet-monday.tar && echo good`,
		Args:    takes("a backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			m, fault := verifyArchive(args[0])
			if err := recordVerified(cmd.Context(), config, len(m.Files), fault != nil); err != nil {
				return errors.Join(fault, err)
			}
			if fault != nil {
				return fmt.Errorf("%s: %w", args[0], fault)
			}
			if c.json {
				return c.printJSON(map[string]any{"backup": args[0], "ok": true, "created": m.Created, "messages": m.Messages, "keys": m.Keys, "files": len(m.Files)})
			}
			_, err = fmt.Fprintf(c.out, "%s is whole: %s of %s, %s\n", args[0], plural(m.Messages, "message"),
				m.Created.Local().Format(time.DateTime), plural(m.Keys, "key"))
			return err
		},
	}
}

// recordVerified puts the result on record.
func recordVerified(ctx context.Context, config *Config, files int, failed bool) error {
	daemon, err := dialControl(ctx, config.controlSocket())
	if err == nil {
		q := url.Values{"files": {strconv.Itoa(files)}}
		if failed {
			q.Set("failed", "1")
		}
		return errors.Join(daemon.get(ctx, http.MethodPost, "backup/verified?"+q.Encode(), new(struct{})), daemon.Close())
	}
	if !errors.Is(err, errNoDaemon) {
		return err
	}
	act := personOf(os.Getuid()).action(logging.VerbBackupVerify)
	act.Matched, act.Failed = files, failed
	return recordHere(config, act)
}

// recordHere writes to the audit log without a daemon, as its owner. On a new
// machine there is none yet.
func recordHere(config *Config, act logging.Action) error {
	for _, folder := range []struct{ name, path string }{{"data_dir", config.DataDir}, {"log.dir", config.Log.Dir}} {
		if err := makeFolder(folder.name, folder.path); err != nil {
			return fmt.Errorf("%w: %w", errNotRecorded, err)
		}
	}
	err := asOwner(config.Log.Dir, func() error { return config.audit().Write(act) })
	if err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	return nil
}

// copyTo writes what an archive holds below a folder, durably.
func copyTo(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// isEmpty tells whether a folder holds nothing, or is not there.
func isEmpty(path string) (bool, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return !slices.ContainsFunc(entries, func(fs.DirEntry) bool { return true }), err
}
