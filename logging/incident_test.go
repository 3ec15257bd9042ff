package logging

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	clientIP = netip.MustParseAddr("192.0.2.7")
	hopIP    = netip.MustParseAddr("203.0.113.9")
)

func openIncidents(t *testing.T) *Incidents {
	t.Helper()
	all, err := OpenIncidents(IncidentOptions{Dir: filepath.Join(t.TempDir(), "incidents")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := all.CloseAll(); err != nil {
			t.Error(err)
		}
	})
	return all
}

func openIncident(t *testing.T, all *Incidents, content bool, scope ...string) Incident {
	t.Helper()
	target, err := ParseTarget(scope)
	if err != nil {
		t.Fatal(err)
	}
	in, err := all.Open(IncidentRequest{Ticket: "T-1", Target: target, WithContent: content, By: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// kept is all that an incident has, a line for each exchange.
func kept(t *testing.T, all *Incidents, id string) string {
	t.Helper()
	var b strings.Builder
	for e, err := range all.Show(id) {
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.By + " " + e.Text + string(e.Content) + "\n")
	}
	return b.String()
}

// say plays a session of a client with one mail to each of the recipients, all in
// transactions of their own but for those joined by a plus sign.
func say(d *Dialogue, sender string, mails ...string) {
	if d == nil {
		return
	}
	line := func(by byte, text string) { d.Line(by, []byte(text)) }
	line('>', "220 relay ESMTP")
	line('<', "EHLO canary-helo")
	line('>', "250 relay")
	for _, mail := range mails {
		d.Recipient("")
		d.Begin("", "", clientIP, sender)
		line('<', "MAIL FROM:<"+sender+">")
		line('>', "250 sender")
		for to := range strings.SplitSeq(mail, "+") {
			d.Recipient(to)
			line('<', "RCPT TO:<"+to+">")
			line('>', "250 recipient "+to)
		}
		d.Recipient("")
		line('<', "DATA")
		d.Content([]byte("body of " + mail))
		line('>', "250 queued "+mail)
		d.End()
	}
	line('<', "QUIT")
	d.Close()
}

func TestIncidentKeepsWhatMatchesAndNothingElse(t *testing.T) {
	for _, one := range []struct {
		scope    []string
		want     []string // what is kept
		unwanted []string
	}{
		{[]string{"recipient=ANNA@example.net"},
			[]string{"EHLO canary-helo", "RCPT TO:<anna@example.net>", "250 queued bob@example.net+anna@example.net", "<another recipient>", "250 (about another recipient)"},
			[]string{"carl", "RCPT TO:<bob", "recipient bob", "body"}},
		{[]string{"recipient=@example.com"}, []string{"RCPT TO:<carl@example.com>"}, []string{"anna", "bob"}},
		{[]string{"sender=someone@example.org"}, []string{"anna", "bob", "carl", "EHLO"}, []string{"body", "QUIT"}},
		{[]string{"sender=other@example.org"}, nil, []string{"EHLO", "anna", "bob", "carl"}},
		{[]string{"client=192.0.2.7"}, []string{"QUIT", "anna", "bob", "carl"}, []string{"body"}},
		{[]string{"client=192.0.2.8"}, nil, []string{"EHLO"}},
		{[]string{"user=erik"}, nil, []string{"EHLO"}},
		{[]string{"next=203.0.113.9"}, nil, []string{"EHLO"}},
		{[]string{"client=192.0.2.7", "recipient=carl@example.com"}, []string{"carl"}, []string{"anna", "bob"}},
	} {
		all := openIncidents(t)
		in := openIncident(t, all, false, one.scope...)
		say(all.Dialogue(true, clientIP, ""), "someone@example.org", "bob@example.net+anna@example.net", "carl@example.com", "dora@example.net")
		got := kept(t, all, in.ID)
		for _, want := range one.want {
			if !strings.Contains(got, want) {
				t.Errorf("%v: %q is missing in\n%s", one.scope, want, got)
			}
		}
		for _, leak := range one.unwanted {
			if strings.Contains(got, leak) {
				t.Errorf("%v: %q was kept:\n%s", one.scope, leak, got)
			}
		}
		if held := all.held.Load(); held != 0 {
			t.Errorf("%v: %d octets are still held", one.scope, held)
		}
	}
}

func TestIncidentOfANextHop(t *testing.T) {
	play := func(all *Incidents) {
		d := all.Dialogue(false, hopIP, "MX.example.net")
		if d == nil {
			return
		}
		d.Line('<', []byte("220 hop"))
		for _, user := range []string{"erik", "fred"} {
			d.Begin("ID-"+strings.ToUpper(user), user, clientIP, user+"@example.org")
			d.Line('>', []byte("MAIL FROM:<"+user+"@example.org>"))
			d.Recipient("anna@example.net")
			d.Line('>', []byte("RCPT TO:<anna@example.net>"))
			d.End()
		}
		d.Close()
	}
	for _, one := range []struct {
		scope      string
		erik, fred bool
	}{
		{"next=mx.EXAMPLE.net", true, true}, {"next=203.0.113.9", true, true}, {"next=mx.example.com", false, false},
		{"user=erik", true, false}, {"id=id-fred", false, true}, {"recipient=anna@example.net", true, true},
		{"client=192.0.2.7", true, true}, {"client=192.0.2.9", false, false},
	} {
		all := openIncidents(t)
		in := openIncident(t, all, false, one.scope)
		play(all)
		got := kept(t, all, in.ID)
		if strings.Contains(got, "erik") != one.erik || strings.Contains(got, "fred") != one.fred {
			t.Errorf("%s:\n%s", one.scope, got)
		}
	}
}

func TestIncidentContentOnlyIfAskedFor(t *testing.T) {
	all := openIncidents(t)
	without := openIncident(t, all, false, "recipient=anna@example.net")
	with := openIncident(t, all, true, "recipient=anna@example.net")
	say(all.Dialogue(true, clientIP, ""), "s@example.org", "anna@example.net", "bob@example.net")
	if got := kept(t, all, without.ID); strings.Contains(got, "body") {
		t.Error(got)
	}
	if got := kept(t, all, with.ID); !strings.Contains(got, "body of anna") || strings.Contains(got, "body of bob") {
		t.Error(got)
	}
}

// What was said before an incident is none of its business.
func TestIncidentSeesNothingFromBefore(t *testing.T) {
	all := openIncidents(t)
	first := openIncident(t, all, false, "recipient=anna@example.net")
	d := all.Dialogue(true, clientIP, "")
	d.Line('<', []byte("EHLO before"))
	second := openIncident(t, all, false, "client=192.0.2.7")
	d.Line('<', []byte("NOOP after"))
	if got := kept(t, all, second.ID); strings.Contains(got, "before") || !strings.Contains(got, "after") {
		t.Error(got)
	}
	if _, err := all.Close(first.ID); err != nil {
		t.Fatal(err)
	}
	d.Line('<', []byte("NOOP still"))
	if got := kept(t, all, second.ID); !strings.Contains(got, "still") {
		t.Error(got)
	}
	d.Close()
}

func TestIncidentFileIsNoise(t *testing.T) {
	all := openIncidents(t)
	in := openIncident(t, all, true, "sender=canary@example.org")
	say(all.Dialogue(true, clientIP, ""), "canary@example.org", "anna@example.net")
	path := filepath.Join(all.dir, in.ID+".sealed")
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) == 0 {
		t.Fatalf("%d octets, %v", len(raw), err)
	}
	for _, canary := range []string{"canary", "anna", "EHLO", "T-1"} {
		if bytes.Contains(raw, []byte(canary)) {
			t.Errorf("%q is in the file", canary)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	last := error(nil)
	for _, err := range all.Show(in.ID) {
		last = err
	}
	if last == nil {
		t.Error("a changed file was read")
	}
}

func TestIncidentEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "incidents")
		var ended []Incident
		all, err := OpenIncidents(IncidentOptions{Dir: dir, Ended: func(in Incident) { ended = append(ended, in) }})
		if err != nil {
			t.Fatal(err)
		}
		defer all.CloseAll()
		in := openIncident(t, all, false, "client=192.0.2.7")
		d := all.Dialogue(true, clientIP, "")
		d.Line('<', []byte("NOOP"))
		time.Sleep(DefaultIncident - time.Second)
		synctest.Wait()
		if got, err := all.Get(in.ID); err != nil || got.Lines != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if _, err := all.Get(in.ID); !errors.Is(err, ErrNoIncident) || all.Active() {
			t.Errorf("it is open still: %v", err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
			t.Errorf("%v, %v", files, err)
		}
		if len(ended) != 1 || ended[0].ID != in.ID || ended[0].Lines != 1 {
			t.Errorf("told of %+v", ended)
		}
		d.Line('<', []byte("RSET")) // nobody wants it any more
		d.Close()
	})
}

// The start of a process destroys what the one before it has left.
func TestIncidentsOfAnEarlierProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "incidents")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "abc.sealed"), []byte("left"), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := OpenIncidents(IncidentOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 || all.Active() {
		t.Errorf("%v, %v", files, err)
	}
}

func TestIncidentLimits(t *testing.T) {
	all := openIncidents(t)
	target, err := ParseTarget([]string{"client=192.0.2.7"})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []IncidentRequest{
		{Target: target}, {Ticket: "a b", Target: target}, {Ticket: "T"}, {Ticket: "T", Target: target, For: 73 * time.Hour},
		{Ticket: "T", Target: target, For: time.Second}, {Ticket: "T", Target: target, For: -time.Hour},
	} {
		if in, err := all.Open(bad); err == nil {
			t.Errorf("%+v was opened as %s", bad, in.ID)
		}
	}
	for range MaxIncidents {
		openIncident(t, all, true, "client=192.0.2.7")
	}
	if _, err := all.Open(IncidentRequest{Ticket: "T", Target: target}); !errors.Is(err, ErrManyIncident) {
		t.Error(err)
	}
	d := all.Dialogue(true, clientIP, "")
	d.Begin("", "", clientIP, "a@example.org")
	block := bytes.Repeat([]byte{'x'}, 64<<10)
	for range 200 {
		d.Content(block)
	}
	d.Close()
	for _, in := range all.List() {
		if !in.Full || in.Octets > MaxIncident || in.Octets < MaxIncident/2 {
			t.Errorf("%+v", in)
		}
	}
}

// A client that talks without end before anything matches takes no more than its share.
func TestDialogueIsBounded(t *testing.T) {
	all := openIncidents(t)
	openIncident(t, all, false, "recipient=anna@example.net")
	d := all.Dialogue(true, clientIP, "")
	long := []byte(strings.Repeat("x", 100_000))
	for range 1000 {
		d.Line('<', long)
	}
	d.Begin("", "", clientIP, "a@example.org")
	for range 1000 {
		d.Recipient("bob@example.net")
		d.Line('<', long)
	}
	if held := all.held.Load(); held > sessionRing+mailRing {
		t.Errorf("%d octets are held", held)
	}
	d.Close()
}

func TestParseTarget(t *testing.T) {
	for _, bad := range []string{"", "recipient", "recipient=", "recipient=*", "recipient=anna", "sender=@", "client=192.0.2.0/24", "all=1", "id=a b", "next="} {
		if target, err := ParseTarget([]string{bad}); err == nil {
			t.Errorf("%q was taken for %+v", bad, target)
		}
	}
	if _, err := ParseTarget([]string{"user=a", "user=b"}); err == nil {
		t.Error("a scope was taken twice")
	}
	terms := []string{"recipient=a@example.org", "sender=<>", "user=a", "client=192.0.2.7", "next=mx.example.org", "id=0123456789ABCDEF"}
	target, err := ParseTarget(terms)
	if got := target.Terms(); err != nil || strings.Join(got, " ") != strings.Join(terms, " ") {
		t.Errorf("%v, %v", got, err)
	}
}

// With no incident open a connection costs one load.
func BenchmarkNoIncident(b *testing.B) {
	all, err := OpenIncidents(IncidentOptions{Dir: filepath.Join(b.TempDir(), "incidents")})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if all.Active() {
			b.Fatal("open")
		}
	}
}
