package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay"
	"tacet/relay/quota"
)

// brokenStore stores nothing while it has an error, which it may tell of late.
type brokenStore struct {
	queue.Store
	err  error
	late bool // after the content
}

func (s *brokenStore) Put(_ context.Context, _ *queue.Envelope, _ []byte, rest io.Reader) error {
	if s.err != nil && !s.late {
		return s.err
	}
	if rest != nil {
		if _, err := io.Copy(io.Discard, rest); err != nil {
			return err
		}
	}
	return s.err
}

type oneWay struct{}

func (oneWay) Destination(queue.ForwardPath) queue.Destination { return "far.example" }
func (oneWay) Limits(queue.Destination) relay.Limits           { return relay.Limits{} }

type noJournal struct{}

func (noJournal) Write(*logging.Record) error { return nil }
func (noJournal) Secure()                     {}
func (noJournal) Err() error                  { return nil }

// A message that is not stored, whoever is to blame, counts against no limit, and its
// recipients stay new; one that is stored counts.
func TestRefundOfFailedStore(t *testing.T) {
	all := relay.Quota{relay.MessagesPerHour: 2, relay.MessagesPerDay: 2, relay.RecipientsPerHour: 4, relay.RecipientsPerDay: 4, relay.NewRecipientsPerDay: 2}
	meter, err := quota.New(quota.Config{Quota: func(string) relay.Quota { return all }, Memory: 48 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer meter.Stop()
	store := &brokenStore{}
	r := relay.New(relay.Config{Hostname: "relay.example.org", Postmaster: "postmaster@example.org", Charger: meter}, store, nil, oneWay{}, nil, noJournal{})
	const mail = "From: anna@example.org\r\n\r\nhello\r\n"
	submit := func(content io.Reader) int {
		e := &queue.Envelope{Sender: "anna@example.org", Origin: queue.Origin{Submission: true, User: "anna"},
			Recipients: []queue.Recipient{{Path: "x@far.example"}, {Path: "y@far.example"}}}
		_, err := r.Accept(t.Context(), e, content, relay.Session{})
		if rejection, ok := errors.AsType[*relay.Rejection](err); ok {
			return rejection.Code
		}
		if err != nil {
			return -1
		}
		return 250
	}
	large := mail + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 40_000)
	for range 5 { // more than would fit
		for _, c := range []struct {
			store   brokenStore
			content io.Reader
			code    int
		}{
			{brokenStore{err: queue.ErrFull}, strings.NewReader(mail), 452},
			{brokenStore{err: errors.New("disk")}, strings.NewReader(mail), 451},
			{brokenStore{err: errors.New("disk"), late: true}, strings.NewReader(large), 451},
			{brokenStore{}, io.MultiReader(strings.NewReader(large), iotest.ErrReader(io.ErrUnexpectedEOF)), -1},
		} {
			*store = c.store
			if code := submit(c.content); code != c.code {
				t.Fatalf("%+v: %d, want %d", c.store, code, c.code)
			}
			if used, known := meter.Used("anna"); used != (relay.Quota{}) || known != 0 {
				t.Fatalf("after %+v: %v was used, %d recipients are known", c.store, used, known)
			}
		}
	}
	*store = brokenStore{}
	for i, want := range []int{250, 250, 450} {
		if code := submit(strings.NewReader(mail)); code != want {
			t.Errorf("message %d: %d, want %d", i, code, want)
		}
	}
	want := relay.Quota{relay.MessagesPerHour: 2, relay.MessagesPerDay: 2, relay.RecipientsPerHour: 4, relay.RecipientsPerDay: 4, relay.NewRecipientsPerDay: 2}
	if used, known := meter.Used("anna"); used != want || known != 2 {
		t.Errorf("%v was used, %d recipients are known", used, known)
	}
}
