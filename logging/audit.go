package logging

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// Verb is what an admin did.
type Verb uint8

// The verbs.
const (
	_ Verb = iota
	VerbLogRead
	VerbQueueList
	VerbQueueShow
	VerbQueueRetry
	VerbQueueHold
	VerbQueueRelease
	VerbQueueDelete
	VerbUserAdd
	VerbUserList
	VerbUserRemove
	VerbReload
	VerbShutdown
	VerbIncidentOpen
	VerbIncidentList
	VerbIncidentClose
	VerbIncidentShow
	VerbIncidentExport
	VerbQueueContent
	VerbPrivacyReport
	VerbPrivacyExport
	VerbPrivacyErase
	VerbSelftest
	VerbVerify
	VerbQueueStats
	VerbBackupCreate
	VerbBackupVerify
	VerbBackupRestore
	VerbUserModify
	VerbUserShow
	VerbGrant // who may read the log is others now
	verbEnd
)

var verbTable = [verbEnd]string{
	VerbLogRead:        "log_read",
	VerbQueueList:      "queue_list",
	VerbQueueShow:      "queue_show",
	VerbQueueRetry:     "queue_retry",
	VerbQueueHold:      "queue_hold",
	VerbQueueRelease:   "queue_release",
	VerbQueueDelete:    "queue_delete",
	VerbUserAdd:        "user_add",
	VerbUserList:       "user_list",
	VerbUserRemove:     "user_remove",
	VerbReload:         "reload",
	VerbShutdown:       "shutdown",
	VerbIncidentOpen:   "incident_open",
	VerbIncidentList:   "incident_list",
	VerbIncidentClose:  "incident_close",
	VerbIncidentShow:   "incident_show",
	VerbIncidentExport: "incident_export",
	VerbQueueContent:   "queue_content",
	VerbPrivacyReport:  "privacy_report",
	VerbPrivacyExport:  "privacy_export",
	VerbPrivacyErase:   "privacy_erase",
	VerbSelftest:       "selftest",
	VerbVerify:         "verify",
	VerbQueueStats:     "queue_stats",
	VerbBackupCreate:   "backup_create",
	VerbBackupVerify:   "backup_verify",
	VerbBackupRestore:  "backup_restore",
	VerbUserModify:     "user_modify",
	VerbUserShow:       "user_show",
	VerbGrant:          "grant",
}

// String gives the verb's name, "" for an unknown one.
func (v Verb) String() string { return nameIn(verbTable[:], v) }

// Scope is by what an action chose what it worked on. What was chosen, an
// address for instance, is not recorded.
type Scope uint8

// The scopes. The zero Scope is absent.
const (
	_ Scope = iota
	ScopeAll
	ScopeID
	ScopeSender
	ScopeRecipient
	ScopeAddress
	ScopeUser
	ScopeClient
	ScopeNextHost
	ScopeDomain
	ScopeTime
	ScopeEvent
	ScopeReason
	scopeEnd
)

var scopeTable = [scopeEnd]string{
	ScopeAll:       "all",
	ScopeID:        "id",
	ScopeSender:    "sender",
	ScopeRecipient: "recipient",
	ScopeAddress:   "address",
	ScopeUser:      "user",
	ScopeClient:    "client",
	ScopeNextHost:  "next_host",
	ScopeDomain:    "domain",
	ScopeTime:      "time",
	ScopeEvent:     "event",
	ScopeReason:    "reason",
}

// String gives the scope's name, "" for none or an unknown one.
func (s Scope) String() string { return nameIn(scopeTable[:], s) }

// ParseScope finds the scope with the given name.
func ParseScope(name string) (Scope, bool) { return parseIn[Scope](scopeTable[:], name) }

// Action is one audit record: who did what, when, why. Never the result.
type Action struct {
	Time    time.Time // zero: now
	UID     int       // of the peer of the control socket, or of the process
	User    string    // its name, if it has one
	What    Verb
	Scope   []Scope
	ID      string // queue ID, if the scope is one
	Ticket  string // of the occasion: letters, digits, "-", "." and "_"
	Matched int    // how many things it was about
	Changed int    // how many of them it set out to change
	Failed  bool   // it could not be begun, or ended with an error before anything was changed
	Prev    string // digest of the record before; set by [Audit.Write]
}

// Audit writes the audit records of a log's directory, each to the disk before
// Write returns: audit-YYYY-MM.jsonl, mode 0600. Each record carries the
// SHA-256 of the line before it, over the months, so that a changed or removed
// one is found. Several processes may write at once.
type Audit struct {
	dir  string
	keys string // folder of the note of its ends; empty: there is none
	mu   sync.Mutex
	enc  zapcore.Encoder
}

// NewAudit makes the writer for the directory, which must exist when the first
// action is written.
func NewAudit(dir string) *Audit {
	return &Audit{dir: dir, enc: zapcore.NewJSONEncoder(zapcore.EncoderConfig{})}
}

const auditLayout = "audit-2006-01.jsonl"

// monthOfAudit gives the last day of the month of an audit file.
func monthOfAudit(name string) (day, bool) {
	t, err := time.Parse(auditLayout, name)
	if err != nil {
		return 0, false
	}
	return dayOf(t.AddDate(0, 1, -1)), true
}

// Write records an action. An action that cannot be recorded must not be done.
func (a *Audit) Write(act Action) error {
	if act.Time.IsZero() {
		act.Time = time.Now()
	}
	act.Time = act.Time.UTC()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.write(act); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

func (a *Audit) write(act Action) error {
	name := act.Time.Format(auditLayout)
	f, err := os.OpenFile(filepath.Join(a.dir, name), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil { // ends with the descriptor
		return err
	}
	if err := repair(f, true); err != nil {
		return err
	}
	if act.Prev, err = a.previous(f, name); err != nil {
		return err
	}
	buf, err := a.enc.EncodeEntry(zapcore.Entry{}, []zapcore.Field{zap.Inline(&act)})
	if err != nil {
		return err
	}
	defer buf.Free()
	if _, err := f.Write(buf.Bytes()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return a.raise(f, &act, digestOf(strings.TrimSuffix(string(buf.Bytes()), "\n")))
}

// previous gives the digest of the last line of f or else of the newest month
// before, "" if there is none.
func (a *Audit) previous(f *os.File, name string) (string, error) {
	digest, err := lastDigest(f)
	if err != nil || digest != "" {
		return digest, err
	}
	names, err := auditFiles(a.dir)
	if err != nil {
		return "", err
	}
	for _, older := range slices.Backward(names) {
		if older >= name {
			continue
		}
		f, err := os.Open(filepath.Join(a.dir, older))
		if err != nil {
			return "", err
		}
		digest, err := lastDigest(f)
		f.Close()
		if err != nil || digest != "" {
			return digest, err
		}
	}
	return "", nil
}

func lastDigest(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	from := max(0, info.Size()-16<<10) // a line is far shorter
	tail := make([]byte, info.Size()-from)
	if _, err := f.ReadAt(tail, from); err != nil && err != io.EOF {
		return "", err
	}
	lines := strings.Split(strings.TrimRight(string(tail), "\n"), "\n")
	return digestOf(lines[len(lines)-1]), nil
}

func digestOf(line string) string {
	if line == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(line))
	return hex.EncodeToString(sum[:])
}

func auditFiles(dir string) ([]string, error) {
	names, err := filepath.Glob(filepath.Join(dir, "audit-????-??.jsonl"))
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	slices.Sort(names)
	return names, err
}

// MarshalLogObject writes the record's keys.
func (act *Action) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("time", act.Time.Format(timeLayout))
	if err := enc.AddObject("who", auditWho{act}); err != nil {
		return err
	}
	enc.AddString("what", act.What.String())
	if len(act.Scope) > 0 {
		if err := enc.AddArray("scope", auditScope(act.Scope)); err != nil {
			return err
		}
	}
	if token(act.ID) {
		enc.AddString("id", act.ID)
	}
	if token(act.Ticket) {
		enc.AddString("ticket", act.Ticket)
	}
	if err := enc.AddObject("counts", auditCounts{act}); err != nil {
		return err
	}
	if act.Failed {
		enc.AddBool("failed", true)
	}
	enc.AddString("prev", act.Prev)
	return nil
}

type auditWho struct{ *Action }

func (w auditWho) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddInt("uid", w.UID)
	if w.User != "" {
		user, _ := appendVisible(nil, w.User, limitUser)
		enc.AddByteString("user", user)
	}
	return nil
}

type auditScope []Scope

func (s auditScope) MarshalLogArray(enc zapcore.ArrayEncoder) error {
	for _, scope := range s {
		if name := scope.String(); name != "" {
			enc.AppendString(name)
		}
	}
	return nil
}

type auditCounts struct{ *Action }

func (c auditCounts) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddInt("matched", c.Matched)
	enc.AddInt("changed", c.Changed)
	return nil
}

// ErrChain is of an audit record whose predecessor is not the one it was
// written behind: something was changed, removed or added.
var ErrChain = errors.New("audit: the chain of records is broken")

// ReadAudit gives the audit records of the directory, oldest first. A broken
// chain gives an error that is [ErrChain] beside the record it shows at; a
// line that is not by the contract one that is [ErrLine]. Both go on. What was
// cut off from the end does not show.
func ReadAudit(dir string) iter.Seq2[Action, error] {
	return func(yield func(Action, error) bool) {
		names, err := auditFiles(dir)
		if err != nil {
			yield(Action{}, err)
			return
		}
		prev, first := "", true
		for _, name := range names {
			f, err := os.Open(filepath.Join(dir, name))
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) && !yield(Action{}, err) {
					return
				}
				continue
			}
			lines := bufio.NewScanner(f)
			for lines.Scan() {
				act, err := parseAction(lines.Text())
				if err == nil && act.Prev != prev && !first { // the first one's predecessor is past its retention
					err = ErrChain
				}
				prev, first = digestOf(lines.Text()), false
				if !yield(act, err) {
					f.Close()
					return
				}
			}
			err = lines.Err()
			f.Close()
			if err != nil && !yield(Action{}, err) {
				return
			}
		}
	}
}

func parseAction(line string) (Action, error) {
	var w struct {
		Time time.Time `json:"time"`
		Who  struct {
			UID  int    `json:"uid"`
			User string `json:"user"`
		} `json:"who"`
		What   string   `json:"what"`
		Scope  []string `json:"scope"`
		ID     string   `json:"id"`
		Ticket string   `json:"ticket"`
		Counts struct {
			Matched int `json:"matched"`
			Changed int `json:"changed"`
		} `json:"counts"`
		Failed bool   `json:"failed"`
		Prev   string `json:"prev"`
	}
	dec := json.NewDecoder(strings.NewReader(line))
	dec.DisallowUnknownFields()
	if dec.Decode(&w) != nil {
		return Action{}, ErrLine
	}
	act := Action{
		Time: w.Time, UID: w.Who.UID, User: w.Who.User, ID: w.ID, Ticket: w.Ticket,
		Matched: w.Counts.Matched, Changed: w.Counts.Changed, Failed: w.Failed, Prev: w.Prev,
	}
	var ok bool
	if act.What, ok = parseIn[Verb](verbTable[:], w.What); !ok {
		return act, ErrLine
	}
	for _, s := range w.Scope {
		scope, ok := parseIn[Scope](scopeTable[:], s)
		if !ok {
			return act, ErrLine
		}
		act.Scope = append(act.Scope, scope)
	}
	return act, nil
}
