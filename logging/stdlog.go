package logging

import (
	"io"
	"log"
)

// CaptureStd takes the standard library's log, and with it the default of
// log/slog, away from standard error: what libraries print there becomes an
// event without its text. The returned function restores what was before.
func CaptureStd(o *Operations) (restore func()) {
	to, flags, prefix := log.Writer(), log.Flags(), log.Prefix()
	log.SetOutput(stray{o})
	log.SetFlags(0)
	return func() {
		log.SetOutput(to)
		log.SetFlags(flags)
		log.SetPrefix(prefix)
	}
}

// Withheld gives a logger for libraries that want one: what they print becomes
// an event without its text.
func Withheld(o *Operations) *log.Logger { return log.New(stray{o}, "", 0) }

type stray struct{ ops *Operations }

var _ io.Writer = stray{}

func (s stray) Write(text []byte) (int, error) {
	s.ops.Log(OpLibraryMessage)
	return len(text), nil
}
