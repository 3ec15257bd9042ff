package logging

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Style says how a record looks to people.
type Style struct {
	Colour   bool
	Date     bool           // show the day, not the time of day alone
	Location *time.Location // nil: local time
	Language string         // of reasons: "de", else English
	Headers  bool           // show the header fields of content rejections, a line each
}

// Columns of a formatted record.
const (
	widthEvent    = 11
	widthMailbox  = 24
	widthSubject  = 30
	subjectOnLine = 48 // characters of a subject that are shown
)

// Format prints a record for people: when, what, from whom to whom, about
// what, why, where to and how, and the answer. Every text is made visible
// again, so that not even a forged file can play with the terminal.
func Format(w io.Writer, l Line, style Style) error {
	p := printer{style: style}
	p.when(l.Time)
	p.event(l.Event)
	p.people(&l.Record)
	p.subject(l.Subject)
	p.outcome(&l.Record)
	p.connection(&l.Record)
	p.answer(&l.Record)
	if l.ID != "" {
		p.word(dim, visibleText(l.ID, limitID))
	}
	p.out.WriteByte('\n')
	if style.Headers {
		for _, h := range l.Headers {
			p.out.WriteString("          ")
			p.paint(dim, visibleText(h.Name, limitHeaderName)+": ")
			p.out.WriteString(visibleText(h.Value, limitHeaderValue))
			p.out.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, p.out.String())
	return err
}

// colour is a SGR parameter of a terminal; empty for none.
type colour string

const (
	red     colour = "31"
	green   colour = "32"
	yellow  colour = "33"
	blue    colour = "34"
	magenta colour = "35"
	cyan    colour = "36"
	dim     colour = "2"
	bold    colour = "1"
)

var eventColours = [eventEnd]colour{
	Accepted: cyan, Delivered: green, Deferred: yellow, Failed: red, Expired: red, Rejected: magenta,
	ContentRejected: magenta, AuthFailed: red, TLSFailed: yellow, Held: blue, Released: blue, Deleted: blue,
}

// printer gathers a line.
type printer struct {
	style Style
	out   strings.Builder
}

func (p *printer) paint(c colour, text string) {
	if p.style.Colour && c != "" {
		p.out.WriteString("\x1b[" + string(c) + "m" + text + "\x1b[0m")
		return
	}
	p.out.WriteString(text)
}

// word is a further part of the line, two spaces apart.
func (p *printer) word(c colour, text string) {
	p.out.WriteString("  ")
	p.paint(c, text)
}

func (p *printer) pad(used, width int) {
	for ; used < width; used++ {
		p.out.WriteByte(' ')
	}
}

func (p *printer) when(t time.Time) {
	location := p.style.Location
	if location == nil {
		location = time.Local
	}
	layout := "15:04:05"
	if p.style.Date {
		layout = "2006-01-02 15:04:05"
	}
	p.paint(dim, t.In(location).Format(layout))
}

func (p *printer) event(e Event) {
	if e >= eventEnd {
		e = 0
	}
	p.word(eventColours[e], e.String())
	p.pad(len(e.String()), widthEvent)
}

func (p *printer) people(r *Record) {
	sender := visibleText(r.Sender, limitAddress)
	if sender == "" && r.HasSender {
		sender = "<>"
	}
	recipient := visibleText(r.Recipient, limitAddress)
	if sender == "" && recipient == "" {
		return
	}
	p.out.WriteString("  ")
	p.out.WriteString(sender)
	p.pad(columns(sender), widthMailbox)
	p.paint(dim, " → ")
	p.paint(bold, recipient)
	p.pad(columns(recipient), widthMailbox)
}

func (p *printer) subject(subject string) {
	if subject == "" {
		return
	}
	text := `"` + visibleText(subject, subjectOnLine) + `"`
	p.word("", text)
	p.pad(columns(text), widthSubject)
}

// outcome says in words why, and what comes next.
func (p *printer) outcome(r *Record) {
	var words []string
	if r.Reason != ReasonNone {
		words = append(words, r.Reason.Meaning(p.style.Language))
	}
	if r.Stage != StageNone && r.Event != Accepted && r.Event != Delivered {
		words = append(words, "at "+r.Stage.String())
	}
	if len(words) > 0 {
		p.word(eventColours[min(r.Event, eventEnd-1)], strings.Join(words, " "))
	}
	if r.Attempt > 1 || r.Event == Deferred && r.Attempt > 0 {
		p.word("", "try "+strconv.Itoa(r.Attempt))
	}
	if r.Repeated {
		p.word(yellow, "again after a crash")
	}
	if !r.NextAttempt.IsZero() {
		p.word("", "again in "+roughly(r.NextAttempt.Sub(r.Time)))
	}
}

// roughly gives a length of time to two figures or so.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(max(0, int(d.Seconds()+0.5))) + "s"
	case d < 100*time.Minute:
		return strconv.Itoa(int(d.Minutes()+0.5)) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours()+0.5)) + "h"
	}
	return strconv.Itoa(int(d.Hours()/24+0.5)) + "d"
}

// connection tells of both legs: where from and where to, and how protected.
func (p *printer) connection(r *Record) {
	if r.Client.IsValid() {
		p.word("", "from "+r.Client.String())
	}
	if r.User != "" {
		p.word("", "as "+visibleText(r.User, limitUser))
	}
	// The client's leg is told where it matters: later records repeat it.
	if !attemptEvents.has(r.Event) {
		p.tls(r.In)
	}
	if r.NextHost.IsValid() {
		p.word("", "via "+r.NextHost.String())
		p.tls(r.Out)
	}
}

func (p *printer) tls(t TLS) {
	switch {
	case t.Version != 0 && t.Verified != VerifiedNo:
		p.out.WriteByte(' ')
		p.paint(green, "TLS"+versionName(t.Version)+" "+t.Verified.String())
	case t.Version != 0:
		p.out.WriteString(" TLS" + versionName(t.Version))
	case t.None != 0:
		p.out.WriteByte(' ')
		p.paint(yellow, "no TLS ("+strings.ReplaceAll(t.None.String(), "_", " ")+")")
	}
	if t.Wanted != 0 && t.Verified == VerifiedNo {
		p.out.WriteByte(' ')
		p.paint(yellow, "wanted "+strings.ReplaceAll(t.Wanted.String(), "_", " "))
	}
}

func (p *printer) answer(r *Record) {
	if r.Code == 0 {
		return
	}
	text := strconv.Itoa(r.Code)
	if r.Enhanced != ([3]uint16{}) {
		text = fmt.Sprintf("%s %d.%d.%d", text, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
	}
	if r.RemoteID != "" {
		text += " " + visibleText(r.RemoteID, limitID)
	}
	p.word("", text)
}

func visibleText(s string, limit int) string {
	if plain(s, limit) {
		return s
	}
	out, _ := appendVisible(nil, s, limit)
	return string(out)
}

// columns is how many columns of a terminal a visible text takes.
func columns(s string) (n int) {
	for _, r := range s {
		switch {
		case r < 0x300:
			n++
		case unicode.In(r, unicode.Mn, unicode.Me):
		case r >= 0x1100 && r < 0x1160, r >= 0x2e80 && r < 0xa4d0, r >= 0xac00 && r < 0xd7a4, r >= 0xf900 && r < 0xfb00,
			r >= 0xfe30 && r < 0xfe70, r >= 0xff01 && r < 0xff61, r >= 0x1f300 && r < 0x1fb00, r >= 0x20000 && r < 0x40000:
			n += 2
		default:
			n++
		}
	}
	return n
}
