package logging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Op is an operational event: something that happened to the relay itself.
type Op uint8

// The operational events.
const (
	_ Op = iota
	OpStarted
	OpListenerUp
	OpListenerFailed
	OpReady
	OpReloadDone
	OpReloadFailed
	OpDiskFull
	OpDiskOK
	OpStoreOpened
	OpStoreFailed
	OpStoreSlow
	OpStoreSalvaging
	OpStoreSalvaged
	OpMessageDamaged
	OpLogFailed
	OpLogRecovered
	OpLogClosed
	OpRetentionDeleted
	OpRetentionFailed
	OpRecallFailed
	OpSealed
	OpSealFailed
	OpClockJump
	OpClockDoubted
	OpCertificateSelfSigned
	OpCertificateExpires
	OpCertificateExpired
	OpUsersLoaded
	OpMemoryHigh
	OpConnectionsFull
	OpControlUp
	OpControlFailed
	OpMetricsUp
	OpRouteFailed
	OpAuditFailed
	OpPanicContained
	OpLibraryMessage
	OpCheckFailed
	OpTaskFailed
	OpIncidentOpened
	OpIncidentClosed
	OpRecipientsLoaded
	OpRecipientsFailed
	OpRecipientsStale
	OpPrimaryAway
	OpPrimaryBack
	OpPrimaryLate
	OpShutdownBegun
	OpShutdownForced
	OpShutdownDone
	opEnd
)

// opText is how an operational event is called and what it says to people.
type opText struct {
	level         zapcore.Level
	name, meaning string
}

var opTable = [opEnd]opText{
	OpStarted:               {zapcore.InfoLevel, "started", "the relay starts"},
	OpListenerUp:            {zapcore.InfoLevel, "listener_up", "a listener takes connections"},
	OpListenerFailed:        {zapcore.ErrorLevel, "listener_failed", "a listener cannot take connections"},
	OpReady:                 {zapcore.InfoLevel, "ready", "all listeners are up, the queue is being worked on"},
	OpReloadDone:            {zapcore.InfoLevel, "reload_done", "configuration, certificates and users were read again"},
	OpReloadFailed:          {zapcore.ErrorLevel, "reload_failed", "the new configuration is faulty, the old one stays"},
	OpDiskFull:              {zapcore.ErrorLevel, "disk_full", "too little free space: new mail is put off"},
	OpDiskOK:                {zapcore.InfoLevel, "disk_ok", "there is free space again: new mail is taken"},
	OpStoreOpened:           {zapcore.InfoLevel, "store_opened", "the queue was opened"},
	OpStoreFailed:           {zapcore.ErrorLevel, "store_failed", "the queue cannot be read or written"},
	OpStoreSlow:             {zapcore.WarnLevel, "store_slow", "the queue's disk is slow"},
	OpStoreSalvaging:        {zapcore.ErrorLevel, "store_salvaging", "files of the queue are damaged: what can be read of them is copied into new ones"},
	OpStoreSalvaged:         {zapcore.ErrorLevel, "store_salvaged", "the damaged files are replaced; tacet queue list shows what is lost as damaged"},
	OpMessageDamaged:        {zapcore.ErrorLevel, "message_damaged", "a stored message does not match its checksum"},
	OpLogFailed:             {zapcore.ErrorLevel, "log_failed", "the relay log cannot be written: new mail is put off, records wait in memory"},
	OpLogRecovered:          {zapcore.InfoLevel, "log_recovered", "the relay log is written again, nothing is missing"},
	OpLogClosed:             {zapcore.ErrorLevel, "log_closed", "records of the relay log were lost at the end"},
	OpRetentionDeleted:      {zapcore.InfoLevel, "retention_deleted", "log files past their retention were deleted"},
	OpRetentionFailed:       {zapcore.ErrorLevel, "retention_failed", "log files past their retention could not be deleted"},
	OpRecallFailed:          {zapcore.ErrorLevel, "log_recall_failed", "the end of the relay log cannot be read: what was told before a crash is told again unmarked"},
	OpSealed:                {zapcore.InfoLevel, "log_sealed", "days of the relay log that are over were compressed and encrypted"},
	OpSealFailed:            {zapcore.ErrorLevel, "log_seal_failed", "a day of the relay log could not be sealed: it stays as it is, and is tried again"},
	OpClockJump:             {zapcore.WarnLevel, "clock_jump", "the clock was set, or the machine slept"},
	OpClockDoubted:          {zapcore.WarnLevel, "clock_doubted", "no earlier log file leads up to today: nothing is deleted until tomorrow"},
	OpCertificateSelfSigned: {zapcore.WarnLevel, "certificate_self_signed", "the certificate is self-signed: clients will warn"},
	OpCertificateExpires:    {zapcore.WarnLevel, "certificate_expires", "the certificate expires soon"},
	OpCertificateExpired:    {zapcore.ErrorLevel, "certificate_expired", "the certificate has expired"},
	OpUsersLoaded:           {zapcore.InfoLevel, "users_loaded", "the users were read"},
	OpMemoryHigh:            {zapcore.WarnLevel, "memory_high", "memory is nearly used up: new mail is put off"},
	OpConnectionsFull:       {zapcore.WarnLevel, "connections_full", "no further connection is taken"},
	OpControlUp:             {zapcore.InfoLevel, "control_up", "the control socket answers"},
	OpControlFailed:         {zapcore.ErrorLevel, "control_failed", "the control socket does not answer"},
	OpMetricsUp:             {zapcore.InfoLevel, "metrics_up", "metrics are served"},
	OpRouteFailed:           {zapcore.WarnLevel, "route_failed", "no resolver answers: mail waits"},
	OpAuditFailed:           {zapcore.ErrorLevel, "audit_failed", "an audit record cannot be written: the action is refused"},
	OpPanicContained:        {zapcore.ErrorLevel, "panic_contained", "a fault in the program was contained: please report it"},
	OpLibraryMessage:        {zapcore.WarnLevel, "library_message", "a library wanted to print something: its text is withheld"},
	OpCheckFailed:           {zapcore.ErrorLevel, "check_failed", "a content check did not do its work"},
	OpTaskFailed:            {zapcore.ErrorLevel, "task_failed", "a background task ended with an error"},
	OpIncidentOpened:        {zapcore.WarnLevel, "incident_opened", "an incident is open: dialogues that match it are recorded"},
	OpIncidentClosed:        {zapcore.InfoLevel, "incident_closed", "an incident has ended: what it recorded is destroyed"},
	OpRecipientsLoaded:      {zapcore.InfoLevel, "recipients_loaded", "a new list of recipients is in use"},
	OpRecipientsFailed:      {zapcore.ErrorLevel, "recipients_failed", "the list of recipients cannot be fetched or read: the one in use stays"},
	OpRecipientsStale:       {zapcore.ErrorLevel, "recipients_stale", "there is no list of recipients, or it is older than recipients.max_age: who is not in it is treated as recipients.unknown says"},
	OpPrimaryAway:           {zapcore.WarnLevel, "primary_away", "the primary of a relay domain cannot be reached: its mail waits here"},
	OpPrimaryBack:           {zapcore.InfoLevel, "primary_back", "the primary answers again: what waits for it goes out"},
	OpPrimaryLate:           {zapcore.ErrorLevel, "primary_late", "mail waits for the primary longer than primary.alarm says"},
	OpShutdownBegun:         {zapcore.InfoLevel, "shutdown_begun", "no new connections, what is under way is finished"},
	OpShutdownForced:        {zapcore.WarnLevel, "shutdown_forced", "what was still under way was cut off: it stays in the queue"},
	OpShutdownDone:          {zapcore.InfoLevel, "shutdown_done", "the relay has ended"},
}

// String gives the event's name, "" for an unknown one.
func (o Op) String() string {
	if o < opEnd {
		return opTable[o].name
	}
	return ""
}

// Param is one parameter of an operational event. The functions that make one
// let nothing through that could name a person or a remote host.
type Param struct {
	key  string
	text string
	num  int64
}

// Count is a number of things.
func Count(n int) Param { return Param{key: "count", num: int64(n)} }

// Duration is a length of time.
func Duration(d time.Duration) Param {
	return Param{key: "duration", text: d.Round(time.Millisecond).String()}
}

// Until is a point in time, such as the end of a certificate.
func Until(t time.Time) Param { return Param{key: "until", text: t.UTC().Format(time.RFC3339)} }

// Listener is an address of our own that we listen at.
func Listener(own netip.AddrPort) Param { return Param{key: "listener", text: own.String()} }

// Version is the version of this program.
func Version(v string) Param { return Param{key: "version", text: nameOnly(v)} }

// nameOnly lets a name through that cannot be an address of any kind.
func nameOnly(s string) string {
	if _, err := netip.ParseAddr(s); err == nil || !token(s) {
		return "withheld"
	}
	return s
}

// Err is what kind of error it is: the system's name for it (ENOSPC), or a
// class of Go's. Its text is not told.
func Err(err error) Param { return Param{key: "error", text: errorClass(err)} }

func errorClass(err error) string {
	if err == nil {
		return "none"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		if name := unix.ErrnoName(errno); name != "" {
			return name
		}
		return fmt.Sprintf("errno_%d", int(errno))
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		switch {
		case dns.IsTimeout:
			return "dns_timeout"
		case dns.IsNotFound:
			return "dns_not_found"
		}
		return "dns"
	}
	for _, known := range errorClasses {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "timeout"
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return reflect.TypeOf(err).String() // a fact of the program, not of its data
}

var errorClasses = []struct {
	err  error
	name string
}{
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "timeout"},
	{os.ErrDeadlineExceeded, "timeout"},
	{net.ErrClosed, "closed"},
	{fs.ErrNotExist, "not_exist"},
	{fs.ErrExist, "exist"},
	{fs.ErrPermission, "permission"},
	{fs.ErrClosed, "closed"},
	{io.ErrUnexpectedEOF, "truncated"},
	{io.EOF, "eof"},
	{ErrBacklog, "backlog"},
	{ErrClosed, "closed"},
}

// OperationsOptions say how operational events look.
type OperationsOptions struct {
	To     io.Writer        // nil: standard error
	Format OperationsFormat // zero: console on a terminal, JSON elsewhere
}

// OperationsFormat is a form of operational events.
type OperationsFormat uint8

// The forms.
const (
	FormatAuto OperationsFormat = iota
	FormatJSON
	FormatConsole // for people
	FormatColour  // for people with a terminal
)

// Operations writes operational events, one line each. A nil *Operations
// writes nothing. Its methods are safe for concurrent use.
type Operations struct {
	mu      sync.Mutex
	to      io.Writer
	enc     zapcore.Encoder
	console bool
	flood   [opEnd]flood
}

// flood keeps an event that comes too often from filling the journal.
type flood struct {
	since      time.Time
	lines      int
	suppressed int
}

const (
	floodLines  = 20 // lines of one event in floodPeriod
	floodPeriod = time.Minute
)

// NewOperations makes the writer of operational events.
func NewOperations(o OperationsOptions) *Operations {
	if o.To == nil {
		o.To = os.Stderr
	}
	if o.Format == FormatAuto {
		o.Format = FormatJSON
		if f, ok := o.To.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			o.Format = FormatColour
			if os.Getenv("NO_COLOR") != "" {
				o.Format = FormatConsole
			}
		}
	}
	config := zapcore.EncoderConfig{
		TimeKey:     "time",
		LevelKey:    "level",
		NameKey:     "event",
		MessageKey:  "message",
		EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeTime: func(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
			enc.AppendString(t.UTC().Format(timeLayout))
		},
	}
	if o.Format == FormatJSON {
		return &Operations{to: o.To, enc: zapcore.NewJSONEncoder(config)}
	}
	config.ConsoleSeparator = "  "
	config.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
	config.EncodeLevel = zapcore.CapitalLevelEncoder
	if o.Format == FormatColour {
		config.EncodeLevel = zapcore.CapitalColorLevelEncoder
	}
	return &Operations{to: o.To, enc: zapcore.NewConsoleEncoder(config), console: true}
}

// Log writes an event. An event that comes more than 20 times a minute is
// counted instead, and the count told with the next one of its kind.
func (o *Operations) Log(op Op, params ...Param) {
	if o == nil || op.String() == "" {
		return
	}
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	f := &o.flood[op]
	if now.Sub(f.since) >= floodPeriod {
		f.since, f.lines = now, 0
	}
	if f.lines++; f.lines > floodLines {
		f.suppressed++
		return
	}
	fields := make([]zapcore.Field, 0, len(params)+1)
	for _, p := range params {
		fields = append(fields, p.field())
	}
	if f.suppressed > 0 {
		fields = append(fields, Param{key: "suppressed", num: int64(f.suppressed)}.field())
		f.suppressed = 0
	}
	text := opTable[op]
	buf, err := o.enc.EncodeEntry(zapcore.Entry{
		Level: text.level, Time: now, LoggerName: text.name, Message: text.meaning,
	}, fields)
	if err != nil {
		return // the fields are numbers and strings: there is no such error
	}
	defer buf.Free()
	_, _ = o.to.Write(buf.Bytes()) // there is nowhere left to tell of a failure
}

func (p Param) field() zapcore.Field {
	if p.text != "" {
		return zapcore.Field{Key: p.key, Type: zapcore.StringType, String: p.text}
	}
	return zapcore.Field{Key: p.key, Type: zapcore.Int64Type, Integer: p.num}
}
