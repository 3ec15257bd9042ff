package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"tacet/logging"
	"tacet/queue"
	"tacet/relay"
)

// recording is what a command puts on record, or why it need not.
type recording struct {
	verb logging.Verb // 0: nothing
	why  string
	also logging.Verb // what it looks at besides
	args string       // with which the test runs it; QUEUED, INCIDENT and DIR are filled in; "-": it does not
}

// recordings tells it of every command.
var recordings = map[string]recording{
	"tacet serve":   {why: "starts and ends in the operational events", args: "-"},
	"tacet try":     {why: "a playground of nobody's mail", args: "-"},
	"tacet check":   {why: "reads the config alone"},
	"tacet man":     {why: "the manual", args: "DIR/man"},
	"tacet unit":    {why: "a text"},
	"tacet version": {why: "a text"},

	"tacet user add":    {verb: logging.VerbUserAdd, args: "anna --generate"},
	"tacet user list":   {verb: logging.VerbUserList},
	"tacet user modify": {verb: logging.VerbUserModify, args: "anna --senders anna@example.org --messages-per-day 100"},
	"tacet user show":   {verb: logging.VerbUserShow},
	"tacet user remove": {verb: logging.VerbUserRemove, args: "anna"},

	"tacet dkim generate": {why: "makes keys, reads nobody's data", args: "example.org --dir DIR --algorithm ed25519"},
	"tacet dkim check":    {why: "public records of our own domains", args: "-"},

	"tacet route": {why: "asks the DNS, and reads nothing of anyone's mail", args: "bob@example.net"},

	"tacet recipients key":   {why: "makes keys, reads nobody's data", args: "-"},
	"tacet recipients build": {why: "made from the primary's own list, at the primary", args: "-"},
	"tacet recipients pull":  {why: "fetches a list that no one can read", args: "-"},
	"tacet recipients check": {why: "looks in a list of digests for what was given", args: "-"},

	"tacet queue list":    {verb: logging.VerbQueueList},
	"tacet queue stats":   {verb: logging.VerbQueueStats},
	"tacet queue show":    {verb: logging.VerbQueueShow, args: "QUEUED"},
	"tacet queue hold":    {verb: logging.VerbQueueHold, args: "QUEUED"},
	"tacet queue release": {verb: logging.VerbQueueRelease, args: "QUEUED"},
	"tacet queue retry":   {verb: logging.VerbQueueRetry, args: "QUEUED"},
	"tacet queue delete":  {verb: logging.VerbQueueDelete, args: "QUEUED"},

	"tacet log tail":   {verb: logging.VerbLogRead},
	"tacet log find":   {verb: logging.VerbLogRead, args: "--sender nobody@example.com"},
	"tacet log trace":  {verb: logging.VerbLogRead, args: "QUEUED"},
	"tacet log stats":  {verb: logging.VerbLogRead},
	"tacet log verify": {verb: logging.VerbVerify},

	"tacet incident open":   {verb: logging.VerbIncidentOpen, args: "--ticket T-1 --scope user=anna"},
	"tacet incident list":   {verb: logging.VerbIncidentList},
	"tacet incident show":   {verb: logging.VerbIncidentShow, args: "INCIDENT"},
	"tacet incident export": {verb: logging.VerbIncidentExport, args: "INCIDENT --to DIR/dialogue"},
	"tacet incident close":  {verb: logging.VerbIncidentClose, args: "INCIDENT"},

	"tacet privacy report":    {verb: logging.VerbPrivacyReport},
	"tacet privacy statement": {why: "made of the config alone"},
	"tacet privacy record":    {why: "made of the config alone"},
	"tacet privacy export":    {verb: logging.VerbPrivacyExport, args: "anna@example.org --ticket T-1"},
	"tacet privacy erase":     {verb: logging.VerbPrivacyErase, also: logging.VerbQueueList, args: "nobody@example.org --ticket T-1 --yes"},
	"tacet privacy selftest":  {verb: logging.VerbSelftest},

	"tacet backup create":  {verb: logging.VerbBackupCreate, args: "DIR/backup.tar"},
	"tacet backup verify":  {verb: logging.VerbBackupVerify, args: "DIR/backup.tar"},
	"tacet backup restore": {verb: logging.VerbBackupRestore, args: "-"},
}

// otherVerbs are those that no command of the table above leaves when it is run as there, and the
// file of the test that wants the record, by its name.
var otherVerbs = map[logging.Verb]string{
	logging.VerbReload:        "testdata/script/serve.txtar",
	logging.VerbShutdown:      "testdata/script/serve.txtar",
	logging.VerbQueueContent:  "testdata/script/incident.txtar",
	logging.VerbBackupRestore: "testdata/script/backup.txtar",
	logging.VerbGrant:         "grants_test.go",
}

// Whatever verb there is, some test wants its record.
func TestEveryVerbIsWanted(t *testing.T) {
	wanted := map[logging.Verb]bool{}
	for _, r := range recordings {
		wanted[r.verb] = wanted[r.verb] || r.args != "-"
	}
	for v := logging.Verb(1); v.String() != ""; v++ {
		file := otherVerbs[v]
		if wanted[v] != (file == "") {
			t.Errorf("%s: a command leaves it %v, another test wants it in %q", v, wanted[v], file)
		}
		if file == "" {
			continue
		}
		record := `"what":"` + v.String() + `"`
		if strings.HasSuffix(file, ".go") {
			record = "What == logging.Verb" + strings.ToUpper(v.String()[:1]) + v.String()[1:]
		}
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(bytes.ReplaceAll(text, []byte("\\"), nil), []byte(record)) {
			t.Errorf("%s: nothing in %s wants its record: %v", v, file, err)
		}
	}
}

// commands lists the commands that do something.
func commands(cmd *cobra.Command) []string {
	if !cmd.HasSubCommands() {
		return []string{cmd.CommandPath()}
	}
	var all []string
	for _, sub := range cmd.Commands() {
		all = append(all, commands(sub)...)
	}
	return all
}

func TestEveryCommandSaysWhatItRecords(t *testing.T) {
	var all []string
	for _, path := range commands(newRoot(&console{})) {
		if all = append(all, path); recordings[path] == (recording{}) {
			t.Errorf("%s: say which record it leaves, or why none", path)
		}
	}
	for path, r := range recordings {
		if !slices.Contains(all, path) {
			t.Errorf("there is no %s", path)
		}
		if (r.verb == 0) == (r.why == "") {
			t.Errorf("%s: either a verb or a reason", path)
		}
	}
}

// lonely is a daemon whose next hop is not there, and its config file.
func lonely(t *testing.T) (*daemon, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tacet.toml")
	text := "hostname = \"localhost\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[auth]\nusers_file = \"users\"\n" +
		"[delivery]\nnext_hop = \"[127.0.0.1]" + strings.TrimPrefix(unused(t), "127.0.0.1") + "\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	return runDaemon(t, config, deps{}), file
}

// queued puts a message into the queue of a lonely daemon, and waits until its
// first attempt has failed.
func (d *daemon) queued(t *testing.T) string {
	t.Helper()
	e := &queue.Envelope{Sender: "anna@example.org", Origin: queue.Origin{Submission: true, User: "anna"},
		Recipients: []queue.Recipient{{Path: "bob@example.net"}}}
	id, err := d.relay.Accept(t.Context(), e, strings.NewReader("Subject: x\r\n\r\ny\r\n"), relay.Session{Protocol: "ESMTPA"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), scriptPatience)
	defer cancel()
	filter := logging.Filter{ID: id.String(), Events: []logging.Event{logging.Deferred}}
	for _, err := range logging.Read(ctx, logging.ReadOptions{Dir: d.config.Log.Dir, KeyDir: d.config.logKeyDir(), Last: -1, Follow: true, Filter: filter}) {
		if err != nil {
			t.Fatal(err)
		}
		soon(t, "the queue to have what the log has", func() bool { return d.store.Stats().Active == 0 })
		return id.String()
	}
	t.Fatal("no attempt was made")
	return ""
}

// Each command leaves exactly one record, its own, from whoever ran it.
func TestEveryCommandLeavesOneRecord(t *testing.T) {
	d, file := lonely(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "man"), 0o700); err != nil {
		t.Fatal(err)
	}
	target, err := logging.ParseTarget([]string{"user=erik"})
	if err != nil {
		t.Fatal(err)
	}
	records := func() (all []logging.Action) {
		for act, err := range logging.ReadAudit(d.config.Log.Dir) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, act)
		}
		return all
	}
	// In the order of the table's words, so that what removes comes after what adds.
	paths := commands(newRoot(&console{}))
	slices.Sort(paths)
	id := d.queued(t)
	for _, path := range paths {
		r := recordings[path]
		if r.args == "-" {
			continue
		}
		if strings.Contains(r.args, "INCIDENT") {
			for _, in := range d.incidents.List() {
				if _, err := d.incidents.Close(in.ID); err != nil {
					t.Fatal(err)
				}
			}
			in, err := d.incidents.Open(logging.IncidentRequest{Ticket: "T-1", Target: target, By: "test"})
			if err != nil {
				t.Fatal(err)
			}
			r.args = strings.ReplaceAll(r.args, "INCIDENT", in.ID)
		}
		if strings.Contains(r.args, "QUEUED") {
			if _, err := d.store.Get(t.Context(), mustID(t, id)); err != nil {
				id = d.queued(t)
			}
		}
		r.args = strings.NewReplacer("QUEUED", id, "DIR", dir).Replace(r.args)
		args := append(strings.Fields(path)[1:], strings.Fields(r.args)...)
		before := len(records())
		var out, errs bytes.Buffer
		if status := run(t.Context(), append(args, "--config", file), strings.NewReader(""), &out, &errs); status != exitOK {
			t.Errorf("%s ended with %d: %s%s", path, status, out.String(), errs.String())
			continue
		}
		left := records()[before:]
		left = slices.DeleteFunc(left, func(a logging.Action) bool { return a.What == r.also && r.also != 0 })
		switch {
		case r.verb == 0 && len(left) != 0:
			t.Errorf("%s left %+v", path, left)
		case r.verb != 0 && (len(left) != 1 || left[0].What != r.verb || left[0].UID != os.Getuid()):
			t.Errorf("%s left %+v, want one of %s", path, left, r.verb)
		case strings.Contains(r.args, "T-1") && left[0].Ticket != "T-1":
			t.Errorf("%s: the ticket is missing", path)
		}
	}
}

// Who is added before the relay has ever run is on record too.
func TestUsersBeforeTheRelayAreOnRecord(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tacet.toml")
	if err := os.WriteFile(file, []byte("hostname = \"localhost\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[auth]\nusers_file = \"users\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"user", "add", "anna", "--generate", "--config", file}, strings.NewReader(""), &out, &out); code != exitOK {
		t.Fatalf("%d: %s", code, out.String())
	}
	var left []logging.Verb
	for act, err := range logging.ReadAudit(filepath.Join(dir, "data/log")) {
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, act.What)
	}
	if !slices.Equal(left, []logging.Verb{logging.VerbUserAdd}) {
		t.Errorf("on record: %v", left)
	}
}

// An erasure leaves one record, also where it fails in the middle: what it set out to change.
func TestAFailedErasureLeavesOneRecord(t *testing.T) {
	d, _ := lonely(t)
	d.queued(t)
	e := erasure{Person: logging.Person{Address: "bob@example.net"}, ticket: "T-1", yes: true}
	broken := errors.New("broken")
	var left []logging.Action
	_, err := e.run(t.Context(), person{uid: 1}, func(a logging.Action) error { left = append(left, a); return nil }, d.config, d.quota,
		func(context.Context, logging.Person) (logging.Traces, error) { return logging.Traces{}, broken })
	if !errors.Is(err, broken) || len(left) != 1 || left[0].Changed == 0 || left[0].Changed != left[0].Matched {
		t.Errorf("%v, on record: %+v", err, left)
	}
}

func mustID(t *testing.T, s string) queue.ID {
	t.Helper()
	id, err := queue.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// The words of a self-test are found in every form, wherever they stand, and
// not where they are not.
func TestCanariesAreFound(t *testing.T) {
	list := newCanaries()
	word, other := list[len(list)-1].Word, list[0].Word
	for i, form := range forms(word) {
		for _, content := range [][]byte{form, append([]byte("x"), form...), append(form[:len(form):len(form)], 'x')} {
			if !containsWord(content, word) {
				t.Errorf("form %d is not found", i)
			}
			if containsWord(content, other) {
				t.Errorf("form %d: another word is found", i)
			}
		}
	}
	if r := judgeContent("", []byte(word+other), list, true); r.OK || !slices.Equal(r.Leaks, []string{list[len(list)-1].Place}) {
		t.Errorf("in the log: %+v", r)
	}
	if r := judgeContent("", []byte(other), list, false); r.OK {
		t.Errorf("elsewhere: %+v", r)
	}
	if r := judgeContent("", []byte("nothing"), list, false); !r.OK {
		t.Errorf("%+v", r)
	}
}
