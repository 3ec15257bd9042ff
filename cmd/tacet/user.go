package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tacet/logging"
	"tacet/relay/auth"
)

func newUser(c *console) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Say who may submit, and as whom: add, list, modify, remove and show users",
		Long: `Edit the users file (auth.users_file of the config): who may log in and submit mail,
the addresses that each may send as, and how much each may send.

Until "senders" are given, a user whose name is a mail address may send as that
address, and another one as NAME@ each domain of the relay's own: hostname, that of
postmaster, relay.domains and those of [[dkim]]. submission.senders of the config
changes that for all who have no senders.

Passwords are kept as argon2id hashes. A running daemon takes changes over at
once; a removed user's open sessions start no further message.`,
		Example: `  tacet user add anna
  tacet user modify anna --senders anna@example.org,info@example.org
  tacet user show anna
  tacet user list
  tacet user remove anna`,
		Args: subcommand,
		RunE: nameOneOf,
	}
	cmd.AddCommand(newUserAdd(c), newUserList(c), newUserModify(c), newUserRemove(c), newUserShow(c))
	return cmd
}

func newUserAdd(c *console) *cobra.Command {
	var generate bool
	var rules ruleFlags
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user, or give one a new password",
		Long: `Add a user, or give an existing one a new password. An existing user keeps the
addresses and limits that are not given.

The password is the first line of standard input; on a terminal it is asked for
twice and not shown. With --generate a random one is made and printed.

A name is compared exactly, upper and lower case included. It holds no ":" and
no control characters and is at most 128 octets long. Name and password are taken
octet by octet, without Unicode normalisation.

` + rulesHelp,
		Example: `  tacet user add anna@example.org
  tacet user add anna@example.org --generate
  tacet user add anna --senders anna@example.org,@example.net
  pass show mail/anna | tacet user add anna`,
		Args: takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := rules.change(cmd)
			if err != nil {
				return err
			}
			return c.addUser(cmd.Context(), args[0], generate, change)
		},
	}
	rules.define(cmd)
	cmd.Flags().BoolVar(&generate, "generate", false, "make a random password and print it")
	return cmd
}

func (c *console) addUser(ctx context.Context, name string, generate bool, change func(*auth.Rules)) error {
	if err := auth.CheckName(name); err != nil {
		return usageError{err}
	}
	config, err := LoadConfig(c.config)
	if err != nil {
		return err
	}
	password := []byte(rand.Text())
	if !generate {
		if password, err = c.askPassword(name); err != nil {
			return err
		}
	}
	users, err := editUsers(config.Auth.UsersFile)
	if err != nil {
		return err
	}
	defer users.Close()
	if err := c.recordUsers(ctx, config, logging.VerbUserAdd, logging.ScopeUser); err != nil {
		return err
	}
	rules, added, err := users.set(name, auth.NewHash(password, auth.DefaultParams()), change)
	if err != nil {
		return err
	}
	c.tellDaemon(ctx, config)
	if c.json {
		done := map[string]any{"user": name, "added": added}
		if generate {
			done["password"] = string(password)
		}
		return c.printJSON(done)
	}
	if generate {
		fmt.Fprintln(c.out, string(password))
	}
	if added {
		c.note("added %s to %s", name, config.Auth.UsersFile)
	} else {
		c.note("%s has a new password", name)
	}
	c.noteRules(config, name, rules)
	return nil
}

// askPassword reads a password: from a terminal twice and without echo, else
// the first line of standard input.
func (c *console) askPassword(name string) ([]byte, error) {
	if f, ok := c.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return c.promptPassword(int(f.Fd()), name)
	}
	// One octet more than is allowed, and the line end.
	line, err := bufio.NewReader(io.LimitReader(c.in, auth.MaxPassword+3)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the password from standard input: %w", err)
	}
	return checkPassword(bytes.TrimRight(line, "\r\n"))
}

func (c *console) promptPassword(fd int, name string) ([]byte, error) {
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(c.err, prompt)
		defer fmt.Fprintln(c.err)
		return term.ReadPassword(fd)
	}
	first, err := ask("Password for " + name + ": ")
	if err != nil {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	again, err := ask("Once more: ")
	if err != nil {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	if !bytes.Equal(first, again) {
		return nil, errors.New("the two passwords differ; nothing was changed")
	}
	return checkPassword(first)
}

func checkPassword(password []byte) ([]byte, error) {
	switch {
	case len(password) == 0:
		return nil, errors.New("the password is empty: give one on standard input, or let --generate make one")
	case len(password) > auth.MaxPassword:
		return nil, fmt.Errorf("the password is longer than %d octets", auth.MaxPassword)
	case bytes.IndexByte(password, 0) >= 0:
		// AUTH PLAIN separates its parts by NUL (RFC 4616 §2).
		return nil, errors.New("the password contains a NUL octet, which AUTH cannot carry")
	}
	return password, nil
}

func newUserList(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the users",
		Long: `List the names of the users file in alphabetical order, one a line. What each may
send is in "tacet user show".`,
		Example: `  tacet user list
  tacet user list --json | jq -r .user`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := LoadConfig(c.config)
			if err != nil {
				return err
			}
			content, err := os.ReadFile(config.Auth.UsersFile)
			if errors.Is(err, fs.ErrNotExist) {
				c.note("there are no users yet; begin with `tacet user add NAME`")
				return nil
			}
			if err != nil {
				return fmt.Errorf("reading the users file: %w", err)
			}
			if err := c.recordUsers(cmd.Context(), config, logging.VerbUserList, logging.ScopeAll); err != nil {
				return err
			}
			users, err := auth.CheckFile(content)
			for _, user := range users {
				if c.json {
					err = errors.Join(err, c.printJSON(map[string]string{"user": user.Name}))
				} else {
					fmt.Fprintln(c.out, user.Name)
				}
			}
			if err != nil {
				return fmt.Errorf("%s: %w", config.Auth.UsersFile, err)
			}
			return nil
		},
	}
}

// changeUsers opens the users file to change what it says of a user, once that is on record.
func (c *console) changeUsers(ctx context.Context, verb logging.Verb) (*Config, *usersFile, error) {
	config, err := LoadConfig(c.config)
	if err != nil {
		return nil, nil, err
	}
	users, err := editUsers(config.Auth.UsersFile)
	if err != nil {
		return nil, nil, err
	}
	if err := c.recordUsers(ctx, config, verb, logging.ScopeUser); err != nil {
		users.Close()
		return nil, nil, err
	}
	return config, users, nil
}

func newUserRemove(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a user",
		Long: `Remove a user from the users file. A running daemon refuses the user at once; what
the user has submitted before is still delivered.`,
		Example: `  tacet user remove anna`,
		Args:    takes("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			config, users, err := c.changeUsers(cmd.Context(), logging.VerbUserRemove)
			if err != nil {
				return err
			}
			defer users.Close()
			found, err := users.remove(args[0])
			if err != nil {
				return err
			}
			if !found {
				return fmt.Errorf("there is no user %s; `tacet user list` shows who there is", strings.TrimSpace(args[0]))
			}
			c.tellDaemon(cmd.Context(), config)
			if c.json {
				return c.printJSON(map[string]any{"user": args[0], "removed": true})
			}
			c.note("removed %s", args[0])
			return nil
		},
	}
}

// recordUsers puts on record what is about to be done to the users: with the daemon
// if it runs, else in the audit log itself. Where there is no data_dir yet it is made: what
// cannot be recorded is not done.
func (c *console) recordUsers(ctx context.Context, config *Config, verb logging.Verb, scope logging.Scope) error {
	daemon, err := dialControl(ctx, config.controlSocket())
	if err == nil {
		return errors.Join((&recorder{daemon: daemon}).record(ctx, logging.Action{What: verb, Scope: []logging.Scope{scope}}), daemon.Close())
	}
	if !errors.Is(err, errNoDaemon) {
		return err
	}
	act := personOf(os.Getuid()).action(verb, scope)
	if err := makeFolder("data_dir", config.DataDir); err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	return asOwner(config.DataDir, func() error {
		if err := makeFolder("log.dir", config.Log.Dir); err != nil {
			return fmt.Errorf("%w: %w", errNotRecorded, err)
		}
		if err := config.audit().Write(act); err != nil {
			return fmt.Errorf("%w: %w", errNotRecorded, err)
		}
		return nil
	})
}

// tellDaemon makes a running daemon read the users file.
func (c *console) tellDaemon(ctx context.Context, config *Config) {
	daemon, err := dialControl(ctx, config.controlSocket())
	if err == nil {
		err = daemon.reloadUsers(ctx)
	}
	if err != nil && !errors.Is(err, errNoDaemon) {
		c.note("the running daemon has not taken the change over yet (%v): reload it", err)
	}
}
