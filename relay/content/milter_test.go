package content

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/d--j/go-milter"

	"tacet/relay"
)

const threeFields = "A: 1\r\nb: 2\r\n more\r\nA: 3\r\n\r\nbody\r\n"

func TestMilterChanges(t *testing.T) {
	insert, add, change := milter.ActionInsertHeader, milter.ActionAddHeader, milter.ActionChangeHeader
	for name, c := range map[string]struct {
		act    milter.ModifyAction
		added  string
		header string
	}{
		"at the beginning": {milter.ModifyAction{Type: insert, HeaderName: "X", HeaderValue: "v"}, "X: v\r\n", "A: 1\r\nb: 2\r\n more\r\nA: 3\r\n"},
		"at the first":     {milter.ModifyAction{Type: insert, HeaderIndex: 1, HeaderName: "X", HeaderValue: "v\n w"}, "", "X: v\r\n w\r\nA: 1\r\nb: 2\r\n more\r\nA: 3\r\n"},
		"behind the end":   {milter.ModifyAction{Type: insert, HeaderIndex: 99, HeaderName: "X", HeaderValue: "v"}, "", "A: 1\r\nb: 2\r\n more\r\nA: 3\r\nX: v\r\n"},
		"add":              {milter.ModifyAction{Type: add, HeaderName: "X", HeaderValue: "v"}, "", "A: 1\r\nb: 2\r\n more\r\nA: 3\r\nX: v\r\n"},
		"change":           {milter.ModifyAction{Type: change, HeaderIndex: 2, HeaderName: "a", HeaderValue: "v"}, "", "A: 1\r\nb: 2\r\n more\r\na: v\r\n"},
		"remove":           {milter.ModifyAction{Type: change, HeaderIndex: 1, HeaderName: "B"}, "", "A: 1\r\nA: 3\r\n"},
		"remove none":      {milter.ModifyAction{Type: change, HeaderIndex: 3, HeaderName: "A"}, "", "A: 1\r\nb: 2\r\n more\r\nA: 3\r\n"},
		"change none":      {milter.ModifyAction{Type: change, HeaderIndex: 1, HeaderName: "X", HeaderValue: "v"}, "", "A: 1\r\nb: 2\r\n more\r\nA: 3\r\nX: v\r\n"},
	} {
		v, err := applyMilter(message(threeFields), []milter.ModifyAction{c.act}, false)
		if err != nil || string(v.Added) != c.added || string(v.Header) != c.header {
			t.Errorf("%s: %q, %q, %v", name, v.Added, v.Header, err)
		}
	}
	if v, err := applyMilter(message(threeFields), []milter.ModifyAction{{Type: milter.ActionQuarantine}}, false); err != nil || !v.Hold {
		t.Errorf("quarantine: %+v, %v", v, err)
	}
}

// No answer makes more of a header than one field, or changes what is not changed here.
func TestMilterNonsense(t *testing.T) {
	add := milter.ActionAddHeader
	for name, act := range map[string]milter.ModifyAction{
		"two fields": {Type: add, HeaderName: "X", HeaderValue: "v\nBcc: evil@example.net"}, "end of header": {Type: add, HeaderName: "X", HeaderValue: "v\n\nbody"},
		"name of two": {Type: add, HeaderName: "X: y\r\nZ", HeaderValue: "v"}, "no name": {Type: add, HeaderValue: "v"}, "bare CR": {Type: add, HeaderName: "X", HeaderValue: "a\rb"},
		"NUL":          {Type: add, HeaderName: "X", HeaderValue: "a\x00b"},
		"no recipient": {Type: milter.ActionAddRcpt, Rcpt: "<>"}, "two recipients": {Type: milter.ActionAddRcpt, Rcpt: "<a@example.net>,<b@example.net>"},
		"parameters": {Type: milter.ActionAddRcpt, Rcpt: "<a@example.net> NOTIFY=NEVER"}, "no domain": {Type: milter.ActionChangeFrom, From: "<a>"},
		"a line": {Type: milter.ActionChangeFrom, From: "<a@example.net>\r\nRCPT TO:<b@example.net>"}, "a quote": {Type: milter.ActionChangeFrom, From: `<"a b"@example.net>`},
		"NUL in the body": {Type: milter.ActionReplaceBody, Body: []byte("a\x00b")}, "CR in the body": {Type: milter.ActionReplaceBody, Body: []byte("a\rb")},
	} {
		if v, err := applyMilter(message(threeFields), []milter.ModifyAction{act}, false); err == nil {
			t.Errorf("%s: %q", name, v.Header)
		}
	}
}

func TestMilterAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		act   milter.Action
		code  int
		class relay.Class
		text  string
	}{
		"continue": {act: milter.Action{Type: milter.ActionContinue}}, "accept": {act: milter.Action{Type: milter.ActionAccept}},
		"reject":   {milter.Action{Type: milter.ActionReject}, 550, relay.ClassContent, "The message is refused by a filter"},
		"discard":  {milter.Action{Type: milter.ActionDiscard}, 550, relay.ClassContent, "The message is refused by a filter"},
		"tempfail": {milter.Action{Type: milter.ActionTempFail}, 451, relay.ClassPolicy, "The message cannot be taken now; try again later"},
		"words":    {milter.Action{Type: milter.ActionRejectWithCode, SMTPCode: 554, SMTPReply: "554 5.7.1 Gtube pattern"}, 554, relay.ClassContent, "Gtube pattern"},
		"later":    {milter.Action{Type: milter.ActionRejectWithCode, SMTPCode: 451, SMTPReply: "451 4.7.1 Greylisted"}, 451, relay.ClassPolicy, "Greylisted"},
		"lines":    {milter.Action{Type: milter.ActionRejectWithCode, SMTPCode: 550, SMTPReply: "550-5.7.1 one\x00\x1b[2J\r\n550 5.7.1 two"}, 550, relay.ClassContent, "one [2J"},
	} {
		v, _, err := decide(&c.act, nil, relay.ClassContent)
		r := v.Rejection
		if err != nil || (r == nil) != (c.code == 0) || r != nil && (r.Code != c.code || r.Class != c.class || r.Text != c.text) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, _, err := decide(&milter.Action{Type: 99}, nil, relay.ClassContent); err == nil {
		t.Error("an unknown answer, and no error")
	}
}

// A filter that is away, hangs, hangs up or talks nonsense is an error within the time given.
func TestMilterFails(t *testing.T) {
	for name, answer := range map[string]string{"hangs": "", "hangs up": "-", "nonsense": "\x00\x00\x00\x05Xabcd", "endless": "\x7f\xff\xff\xff" + strings.Repeat("x", 1000)} {
		path := filepath.Join(t.TempDir(), "milter")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if answer == "-" {
				return
			}
			buf := make([]byte, 100)
			_, _ = conn.Read(buf)
			if _, _ = conn.Write([]byte(answer)); answer == "" || name == "endless" {
				cancel()
			}
			_, _ = conn.Read(buf)
		}()
		if _, err := (&Milter{Network: "unix", Address: path}).Check(ctx, message(signedText)); err == nil {
			t.Errorf("%s: no error", name)
		}
		cancel()
		l.Close()
	}
	if _, err := (&Milter{Network: "unix", Address: filepath.Join(t.TempDir(), "away")}).Check(t.Context(), message(signedText)); err == nil {
		t.Error("away: no error")
	}
}
