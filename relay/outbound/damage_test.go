package outbound

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"tacet/queue"
)

// Content that is not what was stored does not go out, and the hop has no message.
func TestDamagedContent(t *testing.T) {
	pad := strings.Repeat("0123456789\r\n", 20_000)
	for _, bad := range []string{"a\rb\r\n", "a\nb\r\n", "a\x00b\r\n", "a\r", "\r\r\n", "\n", "a\r\n.\n", "a\n.\r\n"} {
		for _, before := range []string{"", pad} {
			for _, stream := range []bool{false, true} {
				for _, offer := range []string{pipelines, chunks} {
					synctest.Test(t, func(t *testing.T) {
						c := claim(before+bad, "a@example.com")
						if stream {
							c = streamed(c)
						}
						r, h := deliver(t, c, server(offer, nil, nil))
						if r.Replies[0].Cause != queue.CauseContentDamaged || len(h.taken()) != 0 {
							t.Errorf("%q: %+v, %d messages", bad, r.Replies[0], len(h.taken()))
						}
						for _, line := range h.told() {
							if !stream && line != "QUIT" {
								t.Errorf("%q: the hop was told %q", bad, line)
							}
						}
					})
				}
			}
		}
	}
}

// Content that the store cuts short, makes longer or cannot read is no message.
func TestUnreadableContent(t *testing.T) {
	failing := errors.New("disk")
	for _, test := range []struct {
		open func() (io.ReadCloser, error)
		want queue.Cause
	}{
		{func() (io.ReadCloser, error) { return nil, failing }, queue.CauseLocal},
		{func() (io.ReadCloser, error) { return nil, queue.ErrDamaged }, queue.CauseContentDamaged},
		{func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("short\r\n")), nil }, queue.CauseContentDamaged},
		{func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("short\r\n"), iotest.ErrReader(failing))), nil
		}, queue.CauseLocal},
	} {
		for _, offer := range []string{lockstep, pipelines, chunks} {
			synctest.Test(t, func(t *testing.T) {
				c := claim("", "a@example.com")
				c.Content = queue.Content{Open: test.open, Size: 100_000}
				r, h := deliver(t, c, server(offer, nil, nil))
				if r.Replies[0].Cause != test.want || len(h.taken()) != 0 {
					t.Errorf("%+v, %d messages", r.Replies[0], len(h.taken()))
				}
			})
		}
	}
}
