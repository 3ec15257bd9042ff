package relay

import (
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"tacet/queue"
)

// wrapAt is the width of the part for people, in characters.
const wrapAt = 72

// phrases are the sentences of a report in one language.
type phrases struct {
	tag                                   string               // RFC 5646
	advice                                func(advices) advice // in this language
	aboutFailed, aboutDelayed, aboutGiven string               // subjects, in US-ASCII
	hello                                 string               // before the relay's name
	failed, delayed, given                string               // what the report is about, before the recipients
	dated, subject                        string
	expired                               string // before the reason of the last attempt
	said, saidBy                          string
	enclosed, waiting                     string
	until                                 string
	help                                  string // before the postmaster's mailbox
	date                                  string // layout
}

var english = phrases{
	tag:    "en",
	advice: func(a advices) advice { return a.en },

	aboutFailed:  "Your message could not be delivered",
	aboutDelayed: "Your message is still waiting",
	aboutGiven:   "Your message was handed on",

	hello:    "This is the mail server",
	failed:   "Your message could not be delivered to:",
	delayed:  "Your message could not be delivered yet to:",
	given:    "Your message was handed on for:",
	dated:    "Sent:",
	subject:  "Subject:",
	expired:  "It was tried again and again, and is now given up. The last attempt:",
	said:     "The answer was:",
	saidBy:   "The answer of",
	enclosed: "It will not be tried again. What is enclosed says which message this is about.",
	waiting:  "You need not do anything: it is tried again by itself.",
	until:    "If it does not succeed, you will be told by",
	help:     "If you need help, write to",
	date:     "2 January 2006, 15:04 UTC",
}

var german = phrases{
	tag:    "de",
	advice: func(a advices) advice { return a.de },

	aboutFailed:  "Ihre Nachricht ist nicht angekommen",
	aboutDelayed: "Ihre Nachricht wartet noch",
	aboutGiven:   "Ihre Nachricht wurde weitergegeben",

	hello:    "Dies ist der Mailserver",
	failed:   "Ihre Nachricht konnte nicht zugestellt werden an:",
	delayed:  "Ihre Nachricht konnte noch nicht zugestellt werden an:",
	given:    "Ihre Nachricht wurde weitergegeben für:",
	dated:    "Gesendet:",
	subject:  "Betreff:",
	expired:  "Es wurde immer wieder versucht und ist nun aufgegeben. Der letzte Versuch:",
	said:     "Die Antwort war:",
	saidBy:   "Die Antwort von",
	enclosed: "Es wird nicht noch einmal versucht. Was beiliegt, sagt, um welche Nachricht es geht.",
	waiting:  "Sie müssen nichts tun: es wird von selbst noch einmal versucht.",
	until:    "Wenn es nicht gelingt, erfahren Sie es bis zum",
	help:     "Wenn Sie Hilfe brauchen, schreiben Sie an",
	date:     "02.01.2006, 15:04 UTC",
}

// languages are those of the report, in their order.
func (r *report) languages() []*phrases {
	switch r.Language {
	case LanguageEnglish:
		return []*phrases{&english}
	case LanguageGerman:
		return []*phrases{&german}
	}
	return []*phrases{&english, &german}
}

func (r *report) languageTags() string {
	var tags []string
	for _, l := range r.languages() {
		tags = append(tags, l.tag)
	}
	return strings.Join(tags, ", ")
}

// human is the part for people, in one language after the other, as quoted-printable.
func (r *report) human() []byte {
	groups := r.grouped()
	var b text
	for i, l := range r.languages() {
		if i > 0 {
			b.WriteString("\r\n" + strings.Repeat("-", wrapAt) + "\r\n\r\n")
		}
		r.write(&b, l, groups)
	}
	return quoted([]byte(b.String()))
}

// group is recipients with the same outcome.
type group struct {
	outcome outcome
	to      []string
}

type outcome struct {
	expired bool
	topic   advices
	answer  string // of the next hop; empty if there was none
	host    netip.Addr
}

// grouped puts recipients with the same outcome together, in the order of the
// first of each, so that a report for many stays readable.
func (r *report) grouped() []group {
	var groups []group
	index := make(map[outcome]int)
	for _, rep := range r.Recipients {
		o := outcome{topic: explain(r.kind, rep.Reply), host: rep.Host}
		o.expired = r.kind == queue.NotifyFailure && (rep.Reply.Cause == queue.CauseExpired || rep.Reply.Temporary())
		if rep.Reply.Code != 0 {
			o.answer = replyText(rep.Reply, true)
		}
		i, ok := index[o]
		if !ok {
			i = len(groups)
			index[o] = i
			groups = append(groups, group{outcome: o})
		}
		path := string(r.Original.Recipients[rep.Recipient].Path)
		groups[i].to = append(groups[i].to, cleanText(path, true, 900))
	}
	return groups
}

// write writes the report in one language.
func (r *report) write(b *text, p *phrases, groups []group) {
	b.wrap("", p.hello+" "+r.host()+".")
	b.blank()
	b.wrap("    ", p.dated+" "+r.Original.Arrived.UTC().Format(p.date))
	if subject := cleanText(r.Original.Subject, true, 200); subject != "" {
		b.wrap("    ", p.subject+" "+subject)
	}
	lead := p.failed
	switch r.kind {
	case queue.NotifyDelay:
		lead = p.delayed
	case queue.NotifySuccess:
		lead = p.given
	}
	for _, g := range groups {
		b.blank()
		b.wrap("", lead)
		b.blank()
		for _, to := range g.to {
			b.WriteString("    <" + to + ">\r\n")
		}
		b.blank()
		if g.outcome.expired {
			b.wrap("", p.expired)
		}
		a := p.advice(g.outcome.topic)
		b.wrap("", a.what)
		b.wrap("", a.do)
		b.answer(p, g.outcome)
	}
	b.blank()
	switch r.kind {
	case queue.NotifyFailure:
		b.wrap("", p.enclosed)
	case queue.NotifyDelay:
		b.wrap("", p.waiting)
		if !r.RetryUntil.IsZero() {
			b.wrap("", p.until+" "+r.RetryUntil.UTC().Format(p.date)+".")
		}
	}
	b.wrap("", p.help+" <"+cleanText(r.Postmaster, true, 320)+">.")
}

// text is plain text with CRLF line ends.
type text struct{ strings.Builder }

func (b *text) blank() { b.WriteString("\r\n") }

// answer quotes what the next hop said.
func (b *text) answer(p *phrases, o outcome) {
	if o.answer == "" {
		return
	}
	said := p.said
	if o.host.IsValid() {
		said = p.saidBy + " " + o.host.String() + ":"
	}
	b.blank()
	b.wrap("", said)
	b.wrap("    > ", o.answer)
}

// wrap writes s with prefix before each line of at most wrapAt characters,
// broken at spaces.
func (b *text) wrap(prefix, s string) {
	column := 0
	for word := range strings.FieldsSeq(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			b.WriteString(prefix)
			column = len(prefix)
		case column+1+n > wrapAt:
			b.WriteString("\r\n" + prefix)
			column = len(prefix)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	b.WriteString("\r\n")
}

// mailDate is t as in RFC 5322 §3.3.
func mailDate(t time.Time) string { return t.UTC().Format("Mon, 2 Jan 2006 15:04:05 -0700") }
