package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"tacet/logging"
)

// What both kinds of operator do to many messages at once.

// Pick implements operator.
func (c *controlClient) Pick(ctx context.Context, verb logging.Verb, f listFilter) (p picked, err error) {
	q := f.query()
	q.Set("verb", verb.String())
	return p, c.get(ctx, http.MethodPost, "select?"+q.Encode(), &p)
}

// Perform implements operator.
func (c *controlClient) Perform(ctx context.Context, token string, progress func(int)) (acted, error) {
	return ask[acted](ctx, c, http.MethodPost, "select/"+url.PathEscape(token), progress)
}

// Shape implements operator.
func (c *controlClient) Shape(ctx context.Context, by string, limit int, f listFilter, progress func(int)) (shape, error) {
	q := f.query()
	q.Set("by", by)
	q.Set("limit", strconv.Itoa(limit))
	return ask[shape](ctx, c, http.MethodGet, "shape?"+q.Encode(), progress)
}

func ask[T any](ctx context.Context, c *controlClient, method, path string, progress func(int)) (result T, err error) {
	resp, err := c.do(ctx, method, path)
	if err != nil {
		return result, err
	}
	defer resp.Body.Close()
	return stepsOf[T](resp.Body, progress)
}

func (o *offline) selections() *selections {
	return &selections{survey: o.store.Survey, destination: o.destination, actions: o.Relay}
}

// Pick implements operator.
func (o *offline) Pick(ctx context.Context, verb logging.Verb, f listFilter) (picked, error) {
	o.many = o.selections()
	one, err := o.many.add(ctx, os.Getuid(), verb, f)
	if err != nil {
		return picked{}, err
	}
	act := o.who.action(verb, f.scopes()...)
	act.Matched = len(one.ids)
	if err := o.admins.Write(act); err != nil {
		return picked{}, fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	return picked{one.token, len(one.ids)}, nil
}

// Perform implements operator.
func (o *offline) Perform(ctx context.Context, token string, progress func(int)) (acted, error) {
	one, err := o.many.claim(token, os.Getuid())
	if err != nil {
		return acted{}, err
	}
	result := o.many.act(ctx, one, progress)
	return result, result.fault
}

// Shape implements operator.
func (o *offline) Shape(ctx context.Context, by string, limit int, f listFilter, progress func(int)) (shape, error) {
	if err := o.record(logging.VerbQueueStats, "", f.scopes()...); err != nil {
		return shape{}, err
	}
	full, err := o.selections().shapeOf(ctx, o.store.Waits, by, limit, f, progress)
	full.Damaged = o.store.Stats().Damaged
	return full, err
}
