package aggregate

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"time"
)

// Letter is the message that brings a report. Both kinds of reports have the same
// subject and name of the file (RFC 8460 §5.1, §5.3; RFC 9990 §3.5.2).
type Letter struct {
	From, To string // mailboxes
	ID       string // of the report
	Domain   string // that the report is for
	Host     string // that it is from
	Begin    time.Time
	Fields   []string // header fields beside the usual ones
	Type     string   // of the whole, without its boundary
	Text     string   // what a person reads, its lines ended by CR LF
	Part     string   // type of the report
	Ending   string   // of the file's name
	Packed   []byte   // the report, compressed
}

// End is the last second of the day that starts at begin.
func End(begin time.Time) time.Time { return begin.Add(24*time.Hour - time.Second) }

// File is the name of the report's file.
func (l *Letter) File() string {
	return fmt.Sprintf("%s!%s!%d!%d%s", l.Host, l.Domain, l.Begin.Unix(), End(l.Begin).Unix(), l.Ending)
}

// Message is the letter as it is sent.
func (l *Letter) Message(now time.Time) []byte {
	var b bytes.Buffer
	const boundary = "=_report"
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("From: <%s>", l.From)
	line("To: <%s>", l.To)
	line("Date: %s", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000"))
	line("Message-ID: <%s>", l.ID)
	line("Subject: Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s>", l.Domain, l.Host, l.ID)
	for _, field := range l.Fields {
		line("%s", field)
	}
	line("Auto-Submitted: auto-generated")
	line("MIME-Version: 1.0")
	line("Content-Type: %s;\r\n boundary=%q", l.Type, boundary)
	line("\r\n--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n", boundary)
	line("%s", l.Text)
	line("\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: base64", boundary, l.Part)
	line("Content-Disposition: attachment;\r\n filename=%q\r\n", l.File())
	for text := base64.StdEncoding.EncodeToString(l.Packed); text != ""; {
		n := min(len(text), 76)
		line("%s", text[:n])
		text = text[n:]
	}
	line("\r\n--%s--", boundary)
	return b.Bytes()
}
