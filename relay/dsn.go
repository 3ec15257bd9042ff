package relay

import (
	"bytes"
	"mime/quotedprintable"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"tacet/queue"
)

// The limits of a report.
const (
	reportFull   = 50_000   // octets of a message that is returned whole
	reportHeader = 64 << 10 // octets of a header block that is returned
	maxLine      = 998      // octets of a line without CRLF (RFC 5322 §2.1.1)
)

// ReportInput is what a delivery status notification is made of.
type ReportInput struct {
	ID         queue.ID // of the report itself
	Hostname   string   // of this relay
	Postmaster string   // mailbox the report comes from and where its reader finds help
	Language   Language // of what people read in it

	Original   *queue.Envelope
	Recipients []Reported
	RetryUntil time.Time // delay: when the relay gives up; zero: not said

	Header  []byte // the original's header block
	Content []byte // the whole original, for RET=FULL; may be nil. Over 50,000 octets it is not used
}

// Language is what the part of a report that people read is written in.
type Language uint8

// The languages, named as in the config.
const (
	LanguageBoth    Language = iota // English, then German
	LanguageEnglish                 // "en"
	LanguageGerman                  // "de"
)

// Reported is one recipient of a report.
type Reported struct {
	Recipient int // index into the original's Recipients
	Reply     queue.Reply
	Host      netip.Addr // of the host the reply is from; invalid if none
	At        time.Time  // of the attempt; zero: now
}

// Report makes the delivery status notification (RFC 3464, RFC 6522) that is
// owed to the sender: kind is [queue.NotifyFailure] (refused or given up), [queue.NotifyDelay]
// (still tried) or [queue.NotifySuccess] (handed on to a host that will not report).
// It is nil if none is owed: the reverse-path is null (RFC 3464 §2), or no
// recipient wants one of this kind. It is made from its input alone, so the same input gives the same octets.
//
// Texts from elsewhere are cleaned of what does not print; lines are at most
// 76 octets where the relay writes them and at most 998 anywhere. The report is 7-bit unless
// the sender's mailbox is not US-ASCII; then it needs SMTPUTF8 (RFC 6533).
func Report(kind queue.Notify, now time.Time, in ReportInput) *queue.Report {
	if in.Original.Sender.IsNull() {
		return nil
	}
	r := report{ReportInput: in, kind: kind, now: now.UTC(), asUTF8: !isASCII(string(in.Original.Sender))}
	r.Recipients = r.wanted()
	if len(r.Recipients) == 0 {
		return nil
	}
	human := r.human()
	status, statusType := r.status()
	original := r.original()
	boundary := "=_" + in.ID.String()
	for bytes.Contains(status, []byte(boundary)) || bytes.Contains(original.body, []byte(boundary)) || bytes.Contains(human, []byte(boundary)) {
		boundary += "_"
	}
	var b bytes.Buffer
	r.topHeader(&b, boundary)
	part(&b, boundary, "Content-Description: Notification\r\nContent-Language: "+r.languageTags()+"\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n", human)
	part(&b, boundary, "Content-Description: Delivery report\r\n"+statusType, status)
	part(&b, boundary, original.header, original.body)
	b.WriteString("--" + boundary + "--\r\n")
	return &queue.Report{Envelope: r.envelope(), Content: b.Bytes()}
}

// report is a report under way.
type report struct {
	ReportInput
	kind   queue.Notify
	now    time.Time
	asUTF8 bool // the report itself is sent with SMTPUTF8
}

// wanted returns the recipients for whom a report of this kind is owed.
func (r *report) wanted() []Reported {
	var out []Reported
	for _, rep := range r.Recipients {
		if r.Original.Recipients[rep.Recipient].Notify.Wants(r.kind) {
			if rep.At.IsZero() {
				rep.At = r.now
			}
			out = append(out, rep)
		}
	}
	return out
}

func (r *report) envelope() *queue.Envelope {
	e := &queue.Envelope{
		ID:         r.ID,
		Arrived:    r.now,
		Recipients: []queue.Recipient{{Path: queue.ForwardPath(r.Original.Sender)}},
		Origin:     queue.Origin{Local: true},
		UTF8:       r.asUTF8,
		RequireTLS: r.Original.RequireTLS, // RFC 8689 §5
		Subject:    r.subject(),
	}
	if r.asUTF8 {
		e.Body = queue.Body8BitMIME
	}
	return e
}

func (r *report) subject() string {
	var subjects []string
	for _, l := range r.languages() {
		switch r.kind {
		case queue.NotifySuccess:
			subjects = append(subjects, l.aboutGiven)
		case queue.NotifyDelay:
			subjects = append(subjects, l.aboutDelayed)
		default:
			subjects = append(subjects, l.aboutFailed)
		}
	}
	return strings.Join(subjects, " / ")
}

// topHeader writes the report's own header block.
func (r *report) topHeader(b *bytes.Buffer, boundary string) {
	b.WriteString("From: MAILER-DAEMON <" + r.address(r.Postmaster) + ">\r\n")
	b.WriteString("To: <" + r.address(string(r.Original.Sender)) + ">\r\n")
	b.WriteString("Subject: " + r.subject() + "\r\n")
	b.WriteString("Date: " + mailDate(r.now) + "\r\n")
	b.WriteString("Message-ID: <" + r.ID.String() + "@" + r.host() + ">\r\n")
	b.WriteString("Auto-Submitted: auto-replied\r\n") // RFC 3834 §5
	b.WriteString("MIME-Version: 1.0\r\n")
	b.WriteString("Content-Type: multipart/report; report-type=")
	if r.asUTF8 {
		b.WriteString("global-") // RFC 6533 §6
	}
	b.WriteString("delivery-status;\r\n\tboundary=\"" + boundary + "\"\r\n\r\n")
	b.WriteString("This is a report of the mail system in MIME format.\r\n\r\n")
}

func part(b *bytes.Buffer, boundary, header string, body []byte) {
	b.WriteString("--" + boundary + "\r\n" + header + "\r\n")
	b.Write(body)
	b.WriteString("\r\n")
}

// status is the part for machines (RFC 3464 §2), and its header.
func (r *report) status() (body []byte, header string) {
	var b fields
	b.add("Reporting-MTA", "dns; "+r.host())
	if id := r.Original.EnvID; id != "" && id == cleanText(id, false, 100) {
		b.addWhole("Original-Envelope-Id", id)
	}
	b.add("Arrival-Date", mailDate(r.Original.Arrived))
	for _, rep := range r.Recipients {
		b.WriteString("\r\n")
		r.recipient(&b, rep)
	}
	switch {
	case r.asUTF8:
		return b.Bytes(), "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n"
	default:
		return b.Bytes(), "Content-Type: message/delivery-status\r\n"
	}
}

// recipient writes the fields of one recipient (RFC 3464 §2.3).
func (r *report) recipient(b *fields, rep Reported) {
	to := r.Original.Recipients[rep.Recipient]
	if kind, address, ok := strings.Cut(to.ORcpt, ";"); ok && isToken(kind) {
		b.addWhole("Original-Recipient", kind+";"+r.address(address))
	}
	kind := "rfc822"
	if !isASCII(string(to.Path)) {
		kind = "utf-8" // RFC 6533 §3
	}
	b.addWhole("Final-Recipient", kind+"; "+r.address(string(to.Path)))
	b.add("Action", r.action())
	b.add("Status", dotted(statusOf(r.kind, rep.Reply)))
	if rep.Host.IsValid() {
		b.add("Remote-MTA", "dns; "+addressLiteral(rep.Host))
	}
	b.add("Diagnostic-Code", r.diagnostic(rep.Reply))
	b.add("Last-Attempt-Date", mailDate(rep.At))
	if r.kind == queue.NotifyDelay && !r.RetryUntil.IsZero() {
		b.add("Will-Retry-Until", mailDate(r.RetryUntil))
	}
}

func (r *report) action() string {
	switch r.kind {
	case queue.NotifySuccess:
		return "relayed"
	case queue.NotifyDelay:
		return "delayed"
	}
	return "failed"
}

// diagnostic is what the next hop said, or what the relay itself found.
func (r *report) diagnostic(reply queue.Reply) string {
	if reply.Code == 0 {
		return "X-Tacet; " + explain(r.kind, reply).en.what
	}
	return "smtp; " + replyText(reply, r.asUTF8)
}

// original is the part that brings the message back: its header block, or all
// of it if RET=FULL asks for that, the message failed and is small, and fits the report.
func (r *report) original() (p struct {
	header string
	body   []byte
}) {
	whole := r.Content
	if r.kind == queue.NotifyFailure && r.Original.Return == queue.ReturnFull && !r.Original.RequireTLS &&
		0 < len(whole) && len(whole) <= reportFull && fits(whole, r.asUTF8) {
		p.header = "Content-Description: Undelivered message\r\nContent-Type: message/rfc822\r\n"
		if r.asUTF8 {
			p.header = "Content-Description: Undelivered message\r\nContent-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n"
		}
		p.body = whole
		return p
	}
	info := ScanHeader(r.Header)
	head := cutLines(info.AppendHeader(nil, r.Header), reportHeader)
	p.header = "Content-Description: Header of the message\r\nContent-Type: text/rfc822-headers\r\n"
	if r.Original.UTF8 && !isASCII(string(head)) && utf8.Valid(head) {
		p.header = "Content-Description: Header of the message\r\nContent-Type: message/global-headers\r\n"
	}
	if fits(head, false) {
		p.body = head
		return p
	}
	p.header += "Content-Transfer-Encoding: quoted-printable\r\n"
	p.body = quoted(head)
	return p
}

// fits tells whether content can stand in a report as it is: CRLF line ends,
// lines within the limit, nothing but text, 7-bit unless utf8 allows UTF-8.
func fits(content []byte, allowUTF8 bool) bool {
	if allowUTF8 && !utf8.Valid(content) {
		return false
	}
	for line := range bytes.Lines(content) {
		text, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if !ok || len(text) > maxLine {
			return false
		}
		for _, c := range text {
			if c == 0 || c == '\r' || c >= 0x80 && !allowUTF8 {
				return false
			}
		}
	}
	return true
}

// cutLines cuts b to at most limit octets, behind a line end.
func cutLines(b []byte, limit int) []byte {
	if len(b) <= limit {
		return b
	}
	return b[:bytes.LastIndexByte(b[:limit], '\n')+1]
}

// quoted is text as quoted-printable.
func quoted(text []byte) []byte {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	w.Write(text) // a bytes.Buffer takes everything
	w.Close()
	return b.Bytes()
}

// host is the relay's name, fit for a field.
func (r *report) host() string { return cleanText(r.Hostname, false, 255) }
