package pebblestore

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"tacet/queue"
)

func TestContentOfAQueuedMessage(t *testing.T) {
	s, err := Open(Options{Dir: t.TempDir() + "/queue", KeyDir: t.TempDir() + "/keys",
		Destination: func(to queue.ForwardPath) queue.Destination { return queue.Destination(to.Domain()) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(head []byte, rest io.Reader) queue.ID {
		e := &queue.Envelope{ID: queue.NewID(time.Now()), Arrived: time.Now(), Sender: "anna@example.org",
			Recipients: []queue.Recipient{{Path: "bob@example.net"}}}
		if err := s.Put(t.Context(), e, head, rest); err != nil {
			t.Fatal(err)
		}
		return e.ID
	}
	small, large := "Subject: x\r\n\r\nhello\r\n", strings.Repeat("0123456789abcde\n", 50_000)
	for _, one := range []struct {
		id   queue.ID
		want string
	}{{put([]byte(small), nil), small}, {put([]byte(small), strings.NewReader(large)), small + large}} {
		content, err := s.Content(t.Context(), one.id)
		if err != nil {
			t.Fatal(err)
		}
		in, err := content.Reader()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		if in.Close(); err != nil || string(got) != one.want {
			t.Errorf("%d octets, %v; want %d", len(got), err, len(one.want))
		}
	}
	if _, err := s.Content(t.Context(), queue.NewID(time.Now())); !errors.Is(err, queue.ErrNotFound) {
		t.Error(err)
	}
}
