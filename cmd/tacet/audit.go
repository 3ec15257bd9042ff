package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strconv"

	"tacet/logging"
)

// An admin's action is on record before it is done, and what cannot be
// recorded is not done. The daemon writes the record for whoever asks it, as
// the kernel vouches for the person; without a daemon the command does.

// errNotRecorded is what an admin is told when the audit log takes no record.
var errNotRecorded = errors.New("the audit log cannot be written, so nothing was done: look at log.dir")

// person is who acts: the number of the user, and the name if there is one.
type person struct {
	uid  int
	name string
}

func personOf(uid int) person {
	p := person{uid: uid}
	if account, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		p.name = account.Username
	}
	return p
}

// action is the record of what the person is about to do.
func (p person) action(verb logging.Verb, scope ...logging.Scope) logging.Action {
	return logging.Action{UID: p.uid, User: p.name, What: verb, Scope: scope}
}

// recordByCommand records what a command does beside the daemon: with the
// daemon if it runs, else in the audit log itself, as the owner of the log.
func (c *console) recordByCommand(ctx context.Context, config *Config, verb logging.Verb, scope ...logging.Scope) error {
	daemon, err := dialControl(ctx, config.controlSocket())
	if err == nil {
		defer daemon.Close()
		return daemon.get(ctx, http.MethodPost, "audit?verb="+url.QueryEscape(verb.String()), new(struct{}))
	}
	if !errors.Is(err, errNoDaemon) {
		return err
	}
	who := personOf(os.Getuid())
	if err := becomeOwner(config.Log.Dir); err != nil {
		return err
	}
	if err := logging.NewAudit(config.Log.Dir).Write(who.action(verb, scope...)); err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	return nil
}
