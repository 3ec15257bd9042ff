package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"tacet/logging"
	"tacet/queue"
	"tacet/queue/pebblestore"
	"tacet/relay"
)

// offline is the queue without a daemon: its commands write their records to the
// log as the daemon would, and deliver nothing.
type offline struct {
	*relay.Relay
	store  *pebblestore.Store
	log    *logging.Log
	admins *logging.Audit
	who    person
	config *Config

	destination func(queue.ForwardPath) queue.Destination
	many        *selections // what was selected last
}

// openOffline opens the queue; an error is queue.ErrLocked if a daemon has it.
func openOffline(config *Config) (*offline, error) {
	router, err := config.router(config.lookups())
	if err != nil {
		return nil, err
	}
	who := personOf(os.Getuid())
	if err := becomeOwner(config.queueDir()); err != nil {
		return nil, err
	}
	store, err := openStore(context.Background(), config, router.Destination, nil)
	if err != nil {
		return nil, err
	}
	log, err := openJournal(config, nil)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	// Without Run the core never asks for a transport.
	core := relay.New(config.core(), store, store, router, nil, journal{log})
	return &offline{Relay: core, store: store, log: log, admins: config.audit(), who: who, config: config, destination: router.Destination}, nil
}

// record puts on record what is about to be done.
func (o *offline) record(verb logging.Verb, id string, scope ...logging.Scope) error {
	act := o.who.action(verb, scope...)
	if act.ID = id; id != "" {
		act.Matched = 1
	}
	if err := o.admins.Write(act); err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	return nil
}

// Hold implements operator.
func (o *offline) Hold(ctx context.Context, id queue.ID) error {
	return o.act(ctx, logging.VerbQueueHold, id, o.Relay.Hold)
}

// Release implements operator.
func (o *offline) Release(ctx context.Context, id queue.ID) error {
	return o.act(ctx, logging.VerbQueueRelease, id, o.Relay.Release)
}

// Delete implements operator.
func (o *offline) Delete(ctx context.Context, id queue.ID) error {
	return o.act(ctx, logging.VerbQueueDelete, id, o.Relay.Delete)
}

// Retry implements operator.
func (o *offline) Retry(ctx context.Context, id queue.ID) error {
	return o.act(ctx, logging.VerbQueueRetry, id, o.Relay.Retry)
}

func (o *offline) act(ctx context.Context, verb logging.Verb, id queue.ID, do func(context.Context, queue.ID) error) error {
	if err := o.record(verb, id.String(), logging.ScopeID); err != nil {
		return err
	}
	return do(ctx, id)
}

// RetryAll implements operator.
func (o *offline) RetryAll(ctx context.Context) (int, error) {
	if err := o.record(logging.VerbQueueRetry, "", logging.ScopeAll); err != nil {
		return 0, err
	}
	return o.Relay.RetryAll(ctx)
}

// List implements operator.
func (o *offline) List(ctx context.Context, f listFilter) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		if err := o.record(logging.VerbQueueList, "", f.scopes()...); err != nil {
			yield(message{}, err)
			return
		}
		for e, err := range o.selections().listed(ctx, f, o.store) {
			if err != nil {
				yield(message{}, err)
				return
			}
			if !yield(describe(e), nil) {
				return
			}
		}
	}
}

// Show implements operator.
func (o *offline) Show(ctx context.Context, id queue.ID) (message, error) {
	if err := o.record(logging.VerbQueueShow, id.String(), logging.ScopeID); err != nil {
		return message{}, err
	}
	e, err := o.store.Get(ctx, id)
	if err != nil {
		return message{}, err
	}
	return describe(e), nil
}

// Close ends the work on the queue.
func (o *offline) Close() error { return errors.Join(o.log.Close(), o.store.Close()) }

// becomeOwner makes root the owner of an existing folder, for good, so that the
// daemon can still write every file in it afterwards.
func becomeOwner(path string) error {
	var owner unix.Stat_t
	err := unix.Stat(path, &owner)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("there is no %s yet: `tacet serve` makes it; is --config the right one?", path)
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	if os.Geteuid() != 0 || owner.Uid == 0 {
		return nil
	}
	for _, step := range []func() error{
		func() error { return syscall.Setgroups([]int{int(owner.Gid)}) },
		func() error { return syscall.Setgid(int(owner.Gid)) },
		func() error { return syscall.Setuid(int(owner.Uid)) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("becoming the owner of %s: %w", path, err)
		}
	}
	return nil
}
