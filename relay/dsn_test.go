package relay

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-message"

	"tacet/queue"
)

var updateGolden = flag.Bool("update", false, "write the golden files of reports anew")

var (
	reportNow = time.Date(2025, 11, 3, 14, 30, 0, 0, time.UTC)
	reportID  = queue.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	hostOne   = netip.MustParseAddr("192.0.2.25")
	hostTwo   = netip.MustParseAddr("2001:db8::25")
)

// reportInput is the input that the cases change.
func reportInput() ReportInput {
	return ReportInput{
		ID:         reportID,
		Hostname:   "relay.example.org",
		Postmaster: "postmaster@example.org",
		Original: &queue.Envelope{
			ID:         queue.ID{1, 1, 1, 1},
			Arrived:    time.Date(2025, 11, 3, 10, 0, 0, 0, time.UTC),
			Sender:     "person@example.org",
			Recipients: []queue.Recipient{{Path: "one@example.net"}, {Path: "two@example.net"}, {Path: "three@example.com"}},
			Subject:    "The minutes of yesterday's meeting",
		},
		Header: crlf("From: A Person <person@example.org>\nTo: one@example.net\nBcc: secret@example.com\n" +
			"Subject: The minutes\nMessage-ID: <1234@example.org>\n"),
	}
}

var errorUnknown = queue.Reply{Code: 550, Enhanced: queue.Enhanced{5, 1, 1}, Text: "5.1.1 No such user here", Stage: queue.StageRcpt}

// reportCases are the reports that are kept as golden files.
var reportCases = []struct {
	name string
	kind queue.Notify
	edit func(*ReportInput)
}{
	{"failure", queue.NotifyFailure, func(in *ReportInput) {
		in.Original.EnvID = "QQ314159"
		in.Original.Recipients[0].ORcpt = "rfc822;first@example.net"
		in.Recipients = []Reported{{Recipient: 0, Reply: errorUnknown, Host: hostOne}}
	}},
	{"failure-many", queue.NotifyFailure, func(in *ReportInput) {
		in.Recipients = []Reported{
			{Recipient: 0, Reply: errorUnknown, Host: hostOne},
			{Recipient: 1, Reply: errorUnknown, Host: hostOne},
			{Recipient: 2, Reply: queue.Reply{Code: 554, Enhanced: queue.Enhanced{5, 7, 26}, Text: "DMARC policy of your domain", Stage: queue.StageEnd}, Host: hostTwo},
		}
	}},
	{"failure-expired", queue.NotifyFailure, func(in *ReportInput) {
		in.Original.Arrived = reportNow.Add(-5 * 24 * time.Hour)
		in.Recipients = []Reported{
			{Recipient: 0, Reply: queue.Reply{Code: 451, Enhanced: queue.Enhanced{4, 7, 1}, Text: "Greylisted, try again", Stage: queue.StageRcpt, Cause: queue.CauseExpired}, Host: hostOne},
			{Recipient: 2, Reply: queue.Reply{Stage: queue.StageConnect, Cause: queue.CauseExpired}},
		}
	}},
	{"failure-english", queue.NotifyFailure, func(in *ReportInput) {
		in.Language = LanguageEnglish
		in.Recipients = []Reported{{Recipient: 0, Reply: queue.Reply{Cause: queue.CauseLineTooLong, Stage: queue.StageContent}}}
	}},
	{"delay-german", queue.NotifyDelay, func(in *ReportInput) {
		in.Language = LanguageGerman
		in.RetryUntil = in.Original.Arrived.Add(5 * 24 * time.Hour)
		in.Recipients = []Reported{{Recipient: 0, Reply: queue.Reply{Cause: queue.CauseAmbiguous, Stage: queue.StageEnd}, Host: hostOne}}
	}},
	{"failure-domain", queue.NotifyFailure, func(in *ReportInput) {
		in.Recipients = []Reported{{Recipient: 2, Reply: queue.Reply{Stage: queue.StageRoute, Cause: queue.CauseNoSuchDomain}}}
	}},
	{"failure-full", queue.NotifyFailure, func(in *ReportInput) {
		in.Original.Return = queue.ReturnFull
		in.Content = append(bytes.Clone(in.Header), crlf("\nHello,\n\n--=_041061050R3GG28A\nthe text of it.\n")...)
		in.Recipients = []Reported{{Recipient: 0, Reply: errorUnknown, Host: hostOne}}
	}},
	{"failure-utf8", queue.NotifyFailure, func(in *ReportInput) {
		in.Original.UTF8 = true
		in.Original.Sender = "jürgen@bücher.example"
		in.Original.Recipients[0] = queue.Recipient{Path: "ödön@example.net", ORcpt: "utf-8;ödön@example.net"}
		in.Original.Subject = "Grüße"
		in.Header = crlf("From: jürgen@bücher.example\nSubject: Grüße\n")
		in.Recipients = []Reported{{Recipient: 0, Reply: queue.Reply{Code: 550, Text: "unbekannt: ödön", Stage: queue.StageRcpt}, Host: hostOne}}
	}},
	{"failure-utf8-recipient", queue.NotifyFailure, func(in *ReportInput) {
		in.Original.UTF8 = true
		in.Original.Recipients[0] = queue.Recipient{Path: "ödön@example.net", ORcpt: "utf-8;ödön@example.net"}
		in.Header = crlf("From: person@example.org\nTo: ödön@example.net\nSubject: Grüße\n")
		in.Recipients = []Reported{{Recipient: 0, Reply: queue.Reply{Cause: queue.CauseNoSMTPUTF8, Stage: queue.StageMail}, Host: hostOne}}
	}},
	{"failure-hostile", queue.NotifyFailure, func(in *ReportInput) {
		in.Original.EnvID = "a\r\nAction: delivered"
		in.Original.Subject = "x\r\n\r\n<html>\u202egnp.exe\x00"
		in.Original.Recipients[0] = queue.Recipient{Path: "\"a  b\r\nStatus: 2.0.0\"@example.net", ORcpt: "rfc822;x\r\nAction: relayed"}
		in.Header = []byte("Subject: \x00a\rb\xff\r\nX-Long: " + strings.Repeat("y", 1200) + "\r\nContent-Type: text/html\r\n\r\nbody\r\n")
		in.Recipients = []Reported{{Recipient: 0, Host: hostOne, Reply: queue.Reply{Code: 550, Stage: queue.StageEnd,
			Text: "no\r\n--=_041061050R3GG28A\r\nContent-Type: text/html\r\n\r\n\u202e\u2066\x1b[31m" + strings.Repeat("z", 2000)}}}
	}},
	{"delay", queue.NotifyDelay, func(in *ReportInput) {
		in.RetryUntil = in.Original.Arrived.Add(5 * 24 * time.Hour)
		in.Recipients = []Reported{
			{Recipient: 0, Reply: queue.Reply{Code: 452, Enhanced: queue.Enhanced{4, 2, 2}, Text: "Mailbox full", Stage: queue.StageRcpt}, Host: hostOne, At: reportNow.Add(-time.Minute)},
			{Recipient: 2, Reply: queue.Reply{Cause: queue.CauseTimeout, Stage: queue.StageConnect}},
		}
	}},
	{"success", queue.NotifySuccess, func(in *ReportInput) {
		for i := range in.Original.Recipients {
			in.Original.Recipients[i].Notify = queue.NotifySuccess
		}
		in.Original.Recipients[1].Notify = queue.NotifyNever
		reply := queue.Reply{Code: 250, Enhanced: queue.Enhanced{2, 0, 0}, Text: "Ok: queued as 4XYZ", Stage: queue.StageEnd}
		in.Recipients = []Reported{{Recipient: 0, Reply: reply, Host: hostOne}, {Recipient: 1, Reply: reply, Host: hostOne}, {Recipient: 2, Reply: reply, Host: hostOne}}
	}},
}

func TestReport(t *testing.T) {
	for _, tc := range reportCases {
		t.Run(tc.name, func(t *testing.T) {
			in := reportInput()
			tc.edit(&in)
			got := Report(tc.kind, reportNow, in)
			if got == nil {
				t.Fatal("no report")
			}
			checkReport(t, got)
			if again := Report(tc.kind, reportNow, in); !bytes.Equal(got.Content, again.Content) {
				t.Error("the same input gives another report")
			}
			golden := filepath.Join("testdata", "reports", tc.name+".eml")
			if *updateGolden {
				if err := os.WriteFile(golden, got.Content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Content, want) {
				t.Errorf("the report differs from %s (-update writes it anew):\n%s", golden, got.Content)
			}
		})
	}
}

func TestReportOwed(t *testing.T) {
	failed := []Reported{{Recipient: 0, Reply: errorUnknown}, {Recipient: 1, Reply: errorUnknown}}
	tests := []struct {
		name   string
		kind   queue.Notify
		sender queue.ReversePath
		notify [2]queue.Notify
		want   int // recipients in the report; 0: no report
	}{
		{"null reverse-path", queue.NotifyFailure, "", [2]queue.Notify{0, 0}, 0},
		{"null reverse-path, asked for", queue.NotifyFailure, "", [2]queue.Notify{queue.NotifyFailure, queue.NotifyFailure}, 0},
		{"failure unasked", queue.NotifyFailure, "a@b.example", [2]queue.Notify{0, 0}, 2},
		{"delay unasked", queue.NotifyDelay, "a@b.example", [2]queue.Notify{0, 0}, 2},
		{"success unasked", queue.NotifySuccess, "a@b.example", [2]queue.Notify{0, 0}, 0},
		{"never", queue.NotifyFailure, "a@b.example", [2]queue.Notify{queue.NotifyNever, queue.NotifyNever}, 0},
		{"one never", queue.NotifyFailure, "a@b.example", [2]queue.Notify{queue.NotifyNever, queue.NotifyFailure}, 1},
		{"delay not asked for", queue.NotifyDelay, "a@b.example", [2]queue.Notify{queue.NotifyFailure, queue.NotifySuccess}, 0},
		{"success asked for", queue.NotifySuccess, "a@b.example", [2]queue.Notify{queue.NotifySuccess | queue.NotifyFailure, 0}, 1},
	}
	for _, tc := range tests {
		in := reportInput()
		in.Original.Sender = tc.sender
		in.Original.Recipients[0].Notify, in.Original.Recipients[1].Notify = tc.notify[0], tc.notify[1]
		in.Recipients = failed
		got := Report(tc.kind, reportNow, in)
		if tc.want == 0 {
			if got != nil {
				t.Errorf("%s: a report that nobody is owed", tc.name)
			}
			continue
		}
		if got == nil {
			t.Errorf("%s: no report", tc.name)
			continue
		}
		if n := bytes.Count(got.Content, []byte("\r\nFinal-Recipient:")); n != tc.want {
			t.Errorf("%s: %d recipients reported, want %d", tc.name, n, tc.want)
		}
	}
}

// TestReportReturns checks what of the message a report brings back.
func TestReportReturns(t *testing.T) {
	small := crlf("Subject: s\n\nbody\n")
	tests := []struct {
		name    string
		kind    queue.Notify
		ret     queue.Return
		reqTLS  bool
		content []byte
		want    string
	}{
		{"not said", queue.NotifyFailure, queue.ReturnUnset, false, small, "text/rfc822-headers"},
		{"headers", queue.NotifyFailure, queue.ReturnHeaders, false, small, "text/rfc822-headers"},
		{"full", queue.NotifyFailure, queue.ReturnFull, false, small, "message/rfc822"},
		{"full, not there", queue.NotifyFailure, queue.ReturnFull, false, nil, "text/rfc822-headers"},
		{"full, a delay", queue.NotifyDelay, queue.ReturnFull, false, small, "text/rfc822-headers"},
		{"full, REQUIRETLS", queue.NotifyFailure, queue.ReturnFull, true, small, "text/rfc822-headers"},
		{"full, at the limit", queue.NotifyFailure, queue.ReturnFull, false, crlf("Subject: s\n\n" + strings.Repeat("x\n", 16662))[:reportFull], "message/rfc822"},
		{"full, too large", queue.NotifyFailure, queue.ReturnFull, false, crlf("Subject: s\n\n" + strings.Repeat("x\n", 20000)), "text/rfc822-headers"},
		{"full, 8-bit", queue.NotifyFailure, queue.ReturnFull, false, crlf("Subject: s\n\n\u00e4\n"), "text/rfc822-headers"},
		{"full, long line", queue.NotifyFailure, queue.ReturnFull, false, crlf("Subject: s\n\n" + strings.Repeat("x", 999) + "\n"), "text/rfc822-headers"},
		{"full, NUL", queue.NotifyFailure, queue.ReturnFull, false, crlf("Subject: s\n\n\x00\n"), "text/rfc822-headers"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			in := reportInput()
			in.Original.Return, in.Original.RequireTLS, in.Content = tc.ret, tc.reqTLS, tc.content
			in.Recipients = []Reported{{Recipient: 0, Reply: errorUnknown}}
			got := Report(tc.kind, reportNow, in)
			parts := checkReport(t, got)
			if parts[2].mediaType != tc.want {
				t.Errorf("the third part is %s, want %s", parts[2].mediaType, tc.want)
			}
			if bytes.Contains(got.Content, []byte("secret@")) {
				t.Error("a Bcc recipient is disclosed")
			}
			if got.Envelope.RequireTLS != tc.reqTLS {
				t.Error("REQUIRETLS is not carried over")
			}
		})
	}
}

func TestStatusOf(t *testing.T) {
	tests := []struct {
		kind  queue.Notify
		reply queue.Reply
		want  string
	}{
		{queue.NotifyFailure, errorUnknown, "5.1.1"},
		{queue.NotifyFailure, queue.Reply{Code: 550}, "5.0.0"},
		{queue.NotifyFailure, queue.Reply{Code: 550, Enhanced: queue.Enhanced{2, 1, 5}}, "5.0.0"},
		{queue.NotifyFailure, queue.Reply{Code: 550, Enhanced: queue.Enhanced{4, 2, 2}}, "5.0.0"},
		{queue.NotifyFailure, queue.Reply{Code: 451, Enhanced: queue.Enhanced{4, 7, 1}, Cause: queue.CauseExpired}, "4.4.7"},
		{queue.NotifyFailure, queue.Reply{Cause: queue.CauseNullMX}, "5.1.10"},
		{queue.NotifyDelay, queue.Reply{Code: 451}, "4.0.0"},
		{queue.NotifyDelay, queue.Reply{Cause: queue.CauseTimeout}, "4.4.2"},
		{queue.NotifyDelay, queue.Reply{Code: 552, Enhanced: queue.Enhanced{5, 2, 2}}, "4.2.2"},
		{queue.NotifySuccess, queue.Reply{Code: 250, Enhanced: queue.Enhanced{2, 1, 5}}, "2.0.0"},
	}
	for _, tc := range tests {
		if got := dotted(statusOf(tc.kind, tc.reply)); got != tc.want {
			t.Errorf("%+v: status %s, want %s", tc.reply, got, tc.want)
		}
	}
}

// TestEveryOutcomeExplained goes over all causes and codes: each has a status
// of the class it is judged by and an explanation in both languages.
func TestEveryOutcomeExplained(t *testing.T) {
	for c := queue.CauseNone + 1; int(c) < queue.NumCauses; c++ {
		reply := queue.Reply{Cause: c}
		status := statusOf(queue.NotifyFailure, reply)
		want := uint16(4)
		if c.Permanent() && c != queue.CauseExpired {
			want = 5
		}
		if status[0] != want {
			t.Errorf("cause %d: status %s, want class %d", c, dotted(status), want)
		}
		if topicOf(reply) == topicUnknown {
			t.Errorf("cause %d has no topic", c)
		}
	}
	for topic, a := range topics {
		if a.en.what == "" || a.en.do == "" || a.de.what == "" || a.de.do == "" || !isASCII(a.en.what+a.en.do) {
			t.Errorf("topic %d: %+v", topic, a)
		}
	}
	if len(topics) != int(topicDeleted)+1 {
		t.Errorf("%d topics are explained of %d", len(topics), topicDeleted+1)
	}
	for code := 400; code < 600; code++ {
		reply := queue.Reply{Code: code}
		if busy := topicOf(reply) == topicBusy; busy && code >= 500 {
			t.Errorf("%d is explained as temporary", code)
		}
	}
}

func FuzzReport(f *testing.F) {
	f.Add(uint8(4), "a@b.example", "c@d.example", "rfc822;c@d.example", "id", "550 no", "Subject: x\r\n\r\n", "subject", uint16(550), uint8(0), true)
	f.Add(uint8(8), "ä@b.example", "\"\r\n\"@d.example", "utf-8;ü@d", "\r\n", "no\r\n.\r\n", "a\nb\x00", "\u202e", uint16(451), uint8(3), false)
	f.Fuzz(func(t *testing.T, kind uint8, sender, rcpt, orcpt, envid, text, content, subject string, code uint16, cause uint8, full bool) {
		if sender == "" {
			return
		}
		in := reportInput()
		e := in.Original
		e.Sender, e.EnvID, e.Subject, e.UTF8 = queue.ReversePath(sender), envid, subject, !isASCII(sender+rcpt)
		e.Recipients = []queue.Recipient{{Path: queue.ForwardPath(rcpt), ORcpt: orcpt}, {Path: "other@example.net"}}
		if full {
			e.Return = queue.ReturnFull
		}
		in.Header, in.Content = []byte(content), []byte(content)
		reply := queue.Reply{Code: int(code), Text: text, Cause: queue.Cause(int(cause) % queue.NumCauses)}
		in.Recipients = []Reported{{Recipient: 0, Reply: reply}, {Recipient: 1, Reply: errorUnknown, Host: hostTwo}}
		k := []queue.Notify{queue.NotifyFailure, queue.NotifyDelay}[kind%2]
		checkReport(t, Report(k, reportNow, in))
	})
}

func BenchmarkReport(b *testing.B) {
	in := reportInput()
	in.Recipients = []Reported{{Recipient: 0, Reply: errorUnknown, Host: hostOne}}
	b.ReportAllocs()
	for b.Loop() {
		Report(queue.NotifyFailure, reportNow, in)
	}
}

// parsed is one part of a report, as both parsers have it.
type parsed struct {
	mediaType string
	body      []byte
}

// checkReport checks what holds for every report, and reads it with two parsers.
func checkReport(t *testing.T, r *queue.Report) []parsed {
	t.Helper()
	checkOctets(t, r)
	e := r.Envelope
	if !e.Sender.IsNull() || len(e.Recipients) != 1 || !e.Origin.Local || e.ID.IsZero() {
		t.Fatalf("envelope %+v", e)
	}
	one := withStandardLibrary(t, r.Content)
	two := withGoMessage(t, r.Content)
	if !slices.EqualFunc(one, two, func(a, b parsed) bool { return a.mediaType == b.mediaType && bytes.Equal(a.body, b.body) }) {
		t.Fatalf("the parsers differ:\n%s\n%s", one, two)
	}
	if len(one) != 3 {
		t.Fatalf("%d parts, want 3:\n%s", len(one), r.Content)
	}
	if one[0].mediaType != "text/plain" || !strings.HasSuffix(one[1].mediaType, "delivery-status") {
		t.Fatalf("the parts are %s and %s", one[0].mediaType, one[1].mediaType)
	}
	checkStatus(t, one[1].body)
	return one
}

func checkOctets(t *testing.T, r *queue.Report) {
	t.Helper()
	for line := range bytes.Lines(r.Content) {
		text, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if !ok || len(text) > 998 || bytes.ContainsAny(text, "\r\x00") {
			t.Fatalf("line %q", line)
		}
		if !r.Envelope.UTF8 && !isASCII(string(text)) {
			t.Fatalf("8-bit line %q", line)
		}
	}
}

func withStandardLibrary(t *testing.T, content []byte) []parsed {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"From", "To", "Subject", "Date", "Message-Id", "Auto-Submitted", "Mime-Version", "Content-Type"} {
		if len(m.Header[name]) != 1 {
			t.Fatalf("%d %s fields", len(m.Header[name]), name)
		}
	}
	if len(m.Header) != 8 || m.Header.Get("Auto-Submitted") != "auto-replied" {
		t.Fatalf("header %v", m.Header)
	}
	mediaType, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/report" || !strings.HasSuffix(params["report-type"], "delivery-status") {
		t.Fatalf("%s %v: %v", mediaType, params, err)
	}
	var parts []parsed
	mr := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		mediaType, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = p
		if p.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(p)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, parsed{mediaType, text})
	}
}

func withGoMessage(t *testing.T, content []byte) []parsed {
	t.Helper()
	m, err := message.Read(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var parts []parsed
	mr := m.MultipartReader()
	if mr == nil {
		t.Fatal("not a multipart message")
	}
	for {
		p, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil && !message.IsUnknownCharset(err) {
			t.Fatal(err)
		}
		mediaType, _, err := p.Header.ContentType()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(p.Body)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, parsed{mediaType, text})
	}
}

// checkStatus reads the part for machines: one block for the message and one
// for each recipient, with known fields, each once.
func checkStatus(t *testing.T, body []byte) {
	t.Helper()
	known := []string{"Reporting-Mta", "Original-Envelope-Id", "Arrival-Date", "Original-Recipient", "Final-Recipient",
		"Action", "Status", "Remote-Mta", "Diagnostic-Code", "Last-Attempt-Date", "Will-Retry-Until"}
	blocks := strings.Split(strings.TrimSuffix(string(body), "\r\n"), "\r\n\r\n")
	for i, block := range blocks {
		h, err := textproto.NewReader(bufio.NewReader(strings.NewReader(block + "\r\n\r\n"))).ReadMIMEHeader()
		if err != nil {
			t.Fatalf("%v in %q", err, block)
		}
		for name, values := range h {
			if len(values) != 1 || !slices.Contains(known, name) {
				t.Fatalf("%s: %q", name, values)
			}
		}
		required := []string{"Final-Recipient", "Action", "Status"}
		if i == 0 {
			required = []string{"Reporting-Mta"}
		}
		for _, name := range required {
			if h.Get(name) == "" {
				t.Fatalf("no %s in %q", name, block)
			}
		}
	}
	if len(blocks) < 2 {
		t.Fatalf("no recipient in %q", body)
	}
}

func (p parsed) String() string { return fmt.Sprintf("%s: %q\n", p.mediaType, p.body) }
