package relay

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

func TestScanHeader(t *testing.T) {
	type want struct {
		header    string // the block without Bcc
		body      string
		blank     bool
		flags     string // d: Date, f: From, m: Message-ID
		received  int
		fields    int
		malformed int
		subject   string
	}
	tests := []struct {
		name string
		in   string
		want want
	}{
		{"common", "Received: a\n by b\nReceived: c\nFrom: x\nDate: y\nMessage-ID: <z>\nSubject: Hello\n\nbody\n",
			want{"Received: a\n by b\nReceived: c\nFrom: x\nDate: y\nMessage-ID: <z>\nSubject: Hello\n", "body\n", true, "dfm", 2, 6, 0, "Hello"}},
		{"any case, blanks before the colon", "FROM\t : x\ndAtE:y\nmessage-Id :z\n\n",
			want{"FROM\t : x\ndAtE:y\nmessage-Id :z\n", "", true, "dfm", 0, 3, 0, ""}},
		{"Bcc first, folded, last", "bcc: a@x,\n b@y,\n\tc@z\nFrom: f\nBCC : d\nSubject: s\nResent-Bcc:\n e\n\nBcc: in the body\n",
			want{"From: f\nSubject: s\n", "Bcc: in the body\n", true, "f", 0, 5, 0, "s"}},
		{"names that only begin alike", "Bccc: a\nX-Bcc: b\nDates: c\nReceived-SPF: d\nB cc: e\n\n",
			want{"Bccc: a\nX-Bcc: b\nDates: c\nReceived-SPF: d\nB cc: e\n", "", true, "", 0, 4, 1, ""}},
		{"folded subject", "Subject: one\n two\n\tthree\nSubject: other\n\n",
			want{"Subject: one\n two\n\tthree\nSubject: other\n", "", true, "", 0, 2, 0, "one two\tthree"}},
		{"empty subject counts as the first", "Subject:\nSubject: other\n\n",
			want{"Subject:\nSubject: other\n", "", true, "", 0, 2, 0, ""}},
		{"8-bit", "Subject: Gr\u00fc\u00dfe\nFrom: \u00e4\n\n\u00f6",
			want{"Subject: Gr\u00fc\u00dfe\nFrom: \u00e4\n", "\u00f6", true, "f", 0, 2, 0, "Gr\u00fc\u00dfe"}},
		{"header only", "From: x\nBcc: y\n", want{"From: x\n", "", false, "f", 0, 2, 0, ""}},
		{"header only, no line end", "From: x\nBcc: y", want{"From: x\n", "", false, "f", 0, 2, 0, ""}},
		{"no header", "\nFrom: x\n", want{"", "From: x\n", true, "", 0, 0, 0, ""}},
		{"body only", "Hello you,\nBcc: x\n\nrest", want{"", "Hello you,\nBcc: x\n\nrest", false, "", 0, 0, 0, ""}},
		{"first line folded", " Bcc: x\nFrom: y\n\n", want{"", " Bcc: x\nFrom: y\n\n", false, "", 0, 0, 0, ""}},
		{"mailbox line first", "From x@y Mon Jan  1\nFrom: x\nBcc: y\n\nb",
			want{"From x@y Mon Jan  1\nFrom: x\n", "b", true, "f", 0, 2, 1, ""}},
		{"a line that is no field hides no Bcc", "From: x\nno field\n folded on\nBcc: y\nDate: z\n\nb",
			want{"From: x\nno field\n folded on\nDate: z\n", "b", true, "df", 0, 3, 1, ""}},
		{"blank line with blanks belongs to the field", "From: x\n \t\nBcc: y\n\t\n\nb",
			want{"From: x\n \t\n", "b", true, "f", 0, 2, 0, ""}},
		{"name with an 8-bit octet", "From: x\nB\u00e4: y\n: z\n\n", want{"From: x\nB\u00e4: y\n: z\n", "", true, "f", 0, 1, 2, ""}},
		{"empty", "", want{}},
	}
	for _, tc := range tests {
		for _, ends := range []string{"\r\n", "\n"} {
			t.Run(fmt.Sprintf("%s/%q", tc.name, ends), func(t *testing.T) {
				conv := func(s string) string { return strings.ReplaceAll(s, "\n", ends) }
				in := []byte(conv(tc.in))
				h := ScanHeader(in)
				got := want{string(h.AppendHeader(nil, in)), string(in[h.Body:]), h.Blank, found(h), h.Received, h.Fields, h.Malformed, string(h.Subject)}
				w := tc.want
				w.header, w.body = conv(w.header), conv(w.body)
				if got != w {
					t.Errorf("got  %+v\nwant %+v", got, w)
				}
			})
		}
	}
}

// found has a letter for each field that h says is there.
func found(h HeaderInfo) (letters string) {
	if h.HasDate {
		letters += "d"
	}
	if h.HasFrom {
		letters += "f"
	}
	if h.HasMessageID {
		letters += "m"
	}
	return letters
}

func TestScanHeaderLimits(t *testing.T) {
	field := "X-Field: v\r\n"
	tests := []struct {
		name string
		in   string
		over bool
	}{
		{"fields at the limit", strings.Repeat(field, MaxFields) + "\r\n", false},
		{"one field more", strings.Repeat(field, MaxFields+1) + "\r\n", true},
		{"octets at the limit", "X: " + strings.Repeat("x", MaxHeader-5) + "\r\n\r\n", false},
		{"one octet more", "X: " + strings.Repeat("x", MaxHeader-4) + "\r\n\r\n", true},
		{"folded beyond the limit", "X: x\r\n" + strings.Repeat(" y\r\n", MaxHeader/4) + "\r\n", true},
	}
	for _, tc := range tests {
		if h := ScanHeader([]byte(tc.in)); h.Over != tc.over {
			t.Errorf("%s: Over = %v, want %v", tc.name, h.Over, tc.over)
		}
	}
	for _, subject := range []string{strings.Repeat("s", 3*MaxSubject), strings.Repeat("s\r\n ", MaxSubject)} {
		if h := ScanHeader([]byte("Subject: " + subject + "\r\n\r\n")); len(h.Subject) != MaxSubject {
			t.Errorf("a subject of %d octets is kept with %d, want %d", len(subject), len(h.Subject), MaxSubject)
		}
	}
}

func TestScanHeaderAllocatesNothing(t *testing.T) {
	msg := commonMessage()
	if n := testing.AllocsPerRun(100, func() { ScanHeader(msg) }); n != 0 {
		t.Errorf("scanning a common message allocates %v times", n)
	}
}

// FuzzScanHeader holds the scanner against a reference that splits the block
// into lines, and checks that ranges are in order and nothing else is cut.
func FuzzScanHeader(f *testing.F) {
	f.Add(commonMessage())
	f.Add(crlf("Bcc: a\n b\nX: y\nno\nBcc:\n\nbody"))
	f.Add([]byte("Bcc: a\nX\r: \r\n\r\r\n \n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h := ScanHeader(in)
		if h.End < 0 || h.End > h.Body || h.Body > len(in) {
			t.Fatalf("End %d, Body %d of %d", h.End, h.Body, len(in))
		}
		if h.Over {
			return
		}
		pos := 0
		for _, s := range h.Bcc {
			if s.Start < pos || s.End <= s.Start || s.End > h.End {
				t.Fatalf("range %v after %d, End %d", s, pos, h.End)
			}
			pos = s.End
		}
		want, fields := referenceHeader(in)
		if got := h.AppendHeader(nil, in); !bytes.Equal(got, want) || h.Fields != fields {
			t.Fatalf("kept %q with %d fields, want %q with %d", got, h.Fields, want, fields)
		}
		if again := ScanHeader(want); len(again.Bcc) != 0 && h.Malformed == 0 {
			t.Fatalf("a Bcc field is left in %q", want)
		}
		if bytes.ContainsAny(h.Subject, "\n") || len(h.Subject) > MaxSubject {
			t.Fatalf("subject %q", h.Subject)
		}
	})
}

func referenceHeader(in []byte) (kept []byte, fields int) {
	dropping, first := false, true
	for line := range bytes.Lines(in) {
		text := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
		if bytes.HasSuffix(line, []byte("\n")) && text == "" {
			break
		}
		if !first && (line[0] == ' ' || line[0] == '\t') {
			if !dropping {
				kept = append(kept, line...)
			}
			continue
		}
		name, _, ok := strings.Cut(string(line), ":")
		name = strings.TrimRight(name, " \t")
		ok = ok && name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f })
		if first && !ok && !strings.HasPrefix(text, "From ") && !strings.HasPrefix(text, ">From ") {
			return nil, 0
		}
		first = false
		dropping = ok && (asciiLower(name) == "bcc" || asciiLower(name) == "resent-bcc")
		if ok {
			fields++
		}
		if !dropping {
			kept = append(kept, line...)
		}
	}
	return kept, fields
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func commonMessage() []byte {
	return crlf(`Received: from [192.0.2.7] by relay.example.org with ESMTPSA id 0001
	for <someone@example.net>; Mon, 3 Nov 2025 10:00:00 +0000
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s1;
	h=From:To:Subject:Date:Message-ID:MIME-Version:Content-Type;
	bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;
	b=dzdVyOfAKCdLXdJOc9G2q8LoXSlEniSbav+yuU4zGeeruD00lszZVoG4ZHRNiYzR
From: A Person <person@example.org>
To: Someone Else <someone@example.net>
Subject: The minutes of yesterday's meeting
Date: Mon, 3 Nov 2025 10:00:00 +0000
Message-ID: <20251103100000.1234@example.org>
User-Agent: Mail Client 1.0
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8; format=flowed
Content-Transfer-Encoding: 8bit
Content-Language: en

` + strings.Repeat("A line of the body as people write them.\n", 100))
}

func BenchmarkScanHeader(b *testing.B) {
	msg := commonMessage()
	h := ScanHeader(msg)
	b.SetBytes(int64(h.Body))
	b.ReportAllocs()
	for b.Loop() {
		ScanHeader(msg)
	}
}

// TestTLSRequired checks when a header waives the policies of domains (RFC 8689 §5).
func TestTLSRequired(t *testing.T) {
	for head, want := range map[string]bool{
		"TLS-Required: No\r\n\r\n":                      true,
		"Subject: x\r\ntls-required:\r\n\tno \r\n\r\n":  true,
		"TLS-Required: Yes\r\n\r\n":                     false,
		"TLS-Required: Nothing\r\n\r\n":                 false,
		"TLS-Required: No\r\nTLS-Required: No\r\n\r\n":  false,
		"TLS-Required: Yes\r\nTLS-Required: No\r\n\r\n": false,
		"X-TLS-Required: No\r\n\r\n":                    false,
		"Subject: x\r\n\r\nTLS-Required: No\r\n":        false,
	} {
		if h := ScanHeader([]byte(head)); h.TLSOptional != want {
			t.Errorf("%q: %v", head, h.TLSOptional)
		}
	}
}
