package relay

import (
	"errors"
	"strings"
	"testing"

	"tacet/queue"
)

// Mail that comes back from where it was handed to ends after a few rounds; of
// a user's own mail the fields say nothing.
func TestAcceptEndsCircles(t *testing.T) {
	w := newWorld(t)
	const field = "Received: by relay.example.org with ESMTPS id 0001;\r\n\tMon, 23 Nov 2026 10:00:00 +0000\r\n"
	for _, c := range []struct {
		rounds     int
		submission bool
		code       int
	}{{0, false, 0}, {maxRounds, false, 0}, {maxRounds + 1, false, 554}, {maxRounds + 1, true, 0}} {
		e := envelope("b@example.net")
		e.Origin = queue.Origin{Submission: c.submission}
		_, err := w.Accept(t.Context(), e, strings.NewReader(strings.Repeat(field, c.rounds)+mailText), Session{Protocol: "ESMTPS"})
		code := 0
		if rejection, ok := errors.AsType[*Rejection](err); ok {
			code = rejection.Code
		}
		if code != c.code {
			t.Errorf("%d rounds, submission %v: %d, want %d", c.rounds, c.submission, code, c.code)
		}
	}
}
