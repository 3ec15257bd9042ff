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

// String names the person, by number if there is no name.
func (p person) String() string {
	if p.name != "" {
		return p.name
	}
	return "uid " + strconv.Itoa(p.uid)
}

// action is the record of what the person is about to do.
func (p person) action(verb logging.Verb, scope ...logging.Scope) logging.Action {
	return logging.Action{UID: p.uid, User: p.name, What: verb, Scope: scope}
}

// recordByCommand records what a command does beside the daemon: with the
// daemon if it runs, else in the audit log itself, as the owner of the log.
func (c *console) recordByCommand(ctx context.Context, config *Config, verb logging.Verb, scope ...logging.Scope) error {
	r, err := newRecorder(ctx, config)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.record(ctx, logging.Action{What: verb, Scope: scope})
}

// recorder puts on record what a command does, under the name of whoever began it.
type recorder struct {
	who    person
	daemon *controlClient // nil: there is none
	admins *logging.Audit
}

// newRecorder asks the daemon, if it runs. Without one the command becomes
// the owner of the log.
func newRecorder(ctx context.Context, config *Config) (*recorder, error) {
	daemon, err := dialControl(ctx, config.controlSocket())
	if err == nil {
		return &recorder{daemon: daemon}, nil
	}
	if !errors.Is(err, errNoDaemon) {
		return nil, err
	}
	who := personOf(os.Getuid())
	if err := becomeOwner(config.Log.Dir); err != nil {
		return nil, err
	}
	return &recorder{who: who, admins: config.audit()}, nil
}

// audit is the audit log of a config.
func (c *Config) audit() *logging.Audit { return logging.NewAudit(c.Log.Dir).WithKey(c.logKeyDir()) }

func (r *recorder) record(ctx context.Context, act logging.Action) error {
	if r.daemon != nil {
		return r.daemon.get(ctx, http.MethodPost, "audit?"+actionQuery(act).Encode(), new(struct{}))
	}
	act.UID, act.User = r.who.uid, r.who.name
	if err := r.admins.Write(act); err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	return nil
}

// Close ends the talk with the daemon.
func (r *recorder) Close() error {
	if r.daemon != nil {
		return r.daemon.Close()
	}
	return nil
}

// actionQuery is an action as the control socket takes it.
func actionQuery(act logging.Action) url.Values {
	q := url.Values{"verb": {act.What.String()}}
	for _, scope := range act.Scope {
		q.Add("scope", scope.String())
	}
	if act.Ticket != "" {
		q.Set("ticket", act.Ticket)
	}
	if act.Matched > 0 {
		q.Set("matched", strconv.Itoa(act.Matched))
	}
	if act.Failed {
		q.Set("failed", "true")
	}
	return q
}

// parseAction reads the query; who acts is known otherwise.
func parseAction(q url.Values) (act logging.Action, ok bool) {
	for _, verb := range []logging.Verb{
		logging.VerbUserAdd, logging.VerbUserList, logging.VerbUserModify, logging.VerbUserShow, logging.VerbUserRemove, logging.VerbLogRead, logging.VerbVerify, logging.VerbPrivacyErase,
		logging.VerbPrivacyReport, logging.VerbPrivacyExport, logging.VerbSelftest,
	} {
		if q.Get("verb") == verb.String() {
			act.What = verb
		}
	}
	for _, name := range q["scope"] {
		if scope, known := logging.ParseScope(name); known {
			act.Scope = append(act.Scope, scope)
		}
	}
	act.Ticket, act.Failed = q.Get("ticket"), q.Get("failed") == "true"
	act.Matched, _ = strconv.Atoi(q.Get("matched"))
	return act, act.What != 0
}
