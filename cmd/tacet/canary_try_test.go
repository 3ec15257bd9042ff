package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// canaryPlay is a playground that runs.
type canaryPlay struct {
	out *lockedBuffer
	end func() int // as Ctrl-C does; returns how it ended
}

// play runs try in this process.
func (w *canaryWorld) play(form string) canaryPlay {
	ctx, cancel := context.WithCancel(w.t.Context())
	p := canaryPlay{out: new(lockedBuffer)}
	ended := make(chan int, 1)
	w.note([]string{"try"})
	go func() { // what the command does beyond it would harden the process of all tests
		c := &console{out: p.out, err: p.out, json: form == "json"}
		if err := c.try(ctx, false); err != nil {
			c.report(err)
			ended <- exitFailure
			return
		}
		ended <- exitOK
	}()
	p.end = func() int {
		cancel()
		return <-ended
	}
	return p
}

// What a playground says of itself, to people and to programs.
var (
	playAddress  = regexp.MustCompile(`(?:submit at\s+|"starttls":")(127\.0\.0\.1:\d+)`)
	playPassword = regexp.MustCompile(`password"?:?\s*"?([a-z0-9]{16})`)
)

// played submits the message to a playground, as someone does who pastes a command of
// its own, and looks at what it shows, at its files, and that none is left. shown is
// told once all has been shown.
func (w *canaryWorld) played(t *testing.T, saw sightings, play func(form string) canaryPlay, shown func(io.Writer)) {
	t.Helper()
	for _, usual := range []string{"127.0.0.1:2587", "127.0.0.1:2465"} {
		if l, err := net.Listen("tcp", usual); err == nil { // so that nobody takes it between try's look and its use
			defer l.Close()
		}
	}
	for _, form := range []string{"text", "json"} {
		p := play(form)
		address := p.says(t, playAddress)
		password := p.says(t, playPassword)
		w.add("try.password", password)
		w.ports["try"] = address
		c := w.dial("try", w.of("client"))
		c.read()
		c.say("250", "EHLO "+w.new("helo.clear")+".example")
		c.secure(true)
		c.say("250", "EHLO "+w.new("helo.secure")+".example")
		c.say("535", "AUTH PLAIN "+saslPayload("", w.new("unknown.user"), w.new("unknown.password")))
		c.say("235", "AUTH PLAIN "+saslPayload("", "try", password))
		w.transaction(c, "a", "c")
		to := w.of("rcpt.c.local")
		p.says(t, regexp.MustCompile("delivered.*"+to+"|"+to+".*delivered"))
		shown(p.out)
		w.lookAtPlay(t, saw)
		if code := p.end(); code != exitOK {
			t.Errorf("try ended with %d: %s", code, p.out.all())
		}
		saw.look(w.canarySet, "cli:try", p.out.all())
		if left, err := os.ReadDir(w.path("play")); err != nil || len(left) > 0 {
			t.Errorf("try left %v, %v", left, err)
		}
	}
}

// says waits until the playground shows what the pattern has in parentheses.
func (p *canaryPlay) says(t *testing.T, pattern *regexp.Regexp) string {
	t.Helper()
	deadline, tick := time.After(canaryPatience), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for {
		if found := pattern.FindSubmatch(p.out.all()); found != nil {
			return string(bytes.Join(found[1:], nil))
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("try does not show %s:\n%s", pattern, p.out.all())
		}
	}
}

// lookAtPlay looks at the files of a playground.
func (w *canaryWorld) lookAtPlay(t *testing.T, saw sightings) {
	t.Helper()
	err := filepath.WalkDir(w.path("play"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil // of the engine, and gone meanwhile
		}
		content, err := os.ReadFile(path)
		switch name := entry.Name(); {
		case err != nil:
		case strings.HasPrefix(name, "relay-") && strings.HasSuffix(name, ".jsonl"):
			saw.lookLog(t, w.canarySet, content[:bytes.LastIndexByte(content, '\n')+1])
		default:
			saw.look(w.canarySet, "try:files", content)
			saw.look(w.canarySet, "try:files", []byte(path))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
