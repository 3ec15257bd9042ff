package outbound

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"tacet/queue"
)

func readReply(s string) (reply, error) {
	var r reply
	err := r.read(bufio.NewReaderSize(strings.NewReader(s), maxReplyLine), nil)
	return r, err
}

func TestReadReply(t *testing.T) {
	for in, want := range map[string]struct {
		code     int
		enhanced queue.Enhanced
		text     string
	}{
		"250 ok\r\n":                          {250, queue.Enhanced{}, "ok"},
		"250\r\n":                             {250, queue.Enhanced{}, ""},
		"250 ok\n":                            {250, queue.Enhanced{}, "ok"},
		"250-2.1.0 a\r\n250 2.1.0 b\r\n":      {250, queue.Enhanced{2, 1, 0}, "a b"},
		"550 5.7.1 no\x1b[31m\x07\tway\r\n":   {550, queue.Enhanced{5, 7, 1}, "no[31m way"},
		"550 4.7.1 conflict\r\n":              {550, queue.Enhanced{}, "conflict"},
		"550 5.7.1234 x\r\n":                  {550, queue.Enhanced{}, "5.7.1234 x"},
		"550 5.7.x\r\n":                       {550, queue.Enhanced{}, "5.7.x"},
		"550 5.7.1\r\n":                       {550, queue.Enhanced{5, 7, 1}, ""},
		"450 Gr\xc3\xbc\xc3\u202e\u2028x\r\n": {450, queue.Enhanced{}, "Grü?x"},
	} {
		r, err := readReply(in)
		if err != nil || r.code != want.code || r.enhanced != want.enhanced || string(r.text) != want.text {
			t.Errorf("%q: %d %v %q, %v", in, r.code, r.enhanced, r.text, err)
		}
	}
	for in, want := range map[string]error{
		"":                        io.EOF,
		"250":                     io.EOF,
		"250-a\r\n":               io.EOF,
		"hello\r\n":               errNotSMTP,
		"\r\n":                    errNotSMTP,
		"25 ok\r\n":               errNotSMTP,
		"150 ok\r\n":              errNotSMTP,
		"650 ok\r\n":              errNotSMTP,
		"2500 ok\r\n":             errNotSMTP,
		"250+ok\r\n":              errNotSMTP,
		"250-a\r\n251 b\r\n":      errOutOfStep,
		"250-a\r\nb\r\n250 c\r\n": errNotSMTP,
		strings.Repeat("250-"+strings.Repeat("x", 500)+"\r\n", 200): errTooLong,
		"250 " + strings.Repeat("x", 1<<17) + "\r\n":                errTooLong,
	} {
		if _, err := readReply(in); !errors.Is(err, want) {
			t.Errorf("%.20q: %v, want %v", in, err, want)
		}
	}
	if r, err := readReply("250 " + strings.Repeat("x", 60_000) + "\r\n"); err != nil || len(r.text) != maxReplyText {
		t.Errorf("a long line: %d octets, %v", len(r.text), err)
	}
}

func TestRemoteID(t *testing.T) {
	for text, want := range map[string]string{
		"Ok: queued as 4XyZ123abc":                              "4XyZ123abc",
		"queued as 01JD4Z7KQ8M3N5P6.":                           "01JD4Z7KQ8M3N5P6",
		"OK id=1tEaBc-0000000Ab12-2c3D":                         "1tEaBc-0000000Ab12-2c3D",
		"4ANHQnL1012345 Message accepted for delivery":          "4ANHQnL1012345",
		"OK  1732380000 a1-20020a05.123si456.78 - gsmtp":        "a1-20020a05.123si456.78",
		"<x@y> [InternalId=123456, Hostname=z] Queued mail":     "123456",
		"ok 1732380000 qp 12345":                                "12345",
		"Ok":                                                    "",
		"queued as john.doe1@example.com":                       "",
		"queued as 12345\"}":                                    "",
		"queued as nodigits":                                    "",
		"queued as " + strings.Repeat("1", 65):                  "",
		"mail from <user1@example.com> Message accepted by hop": "",
		"queued":           "",
		"Message accepted": "",
	} {
		if got := remoteID(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 2.0.0 queued as ABC12\r\n", "550 5.1.1 \xff\u202e\r\n", "250-a\r\n550 b\r\n", "220"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := readReply(s)
		if err != nil {
			return
		}
		if r.code < 200 || r.code > 599 || !r.enhanced.IsZero() && int(r.enhanced[0]) != r.code/100 {
			t.Fatalf("%d %v", r.code, r.enhanced)
		}
		if len(r.text) > maxReplyText || !utf8.Valid(r.text) {
			t.Fatalf("text of %d octets: %q", len(r.text), r.text)
		}
		for _, c := range string(r.text) {
			if unicode.IsControl(c) || unicode.Is(unicode.Cf, c) || unicode.Is(unicode.Zl, c) {
				t.Fatalf("text has %U", c)
			}
		}
		if id := remoteID(string(r.text)); strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-._") != "" || len(id) > maxRemoteID {
			t.Fatalf("ID %q", id)
		}
	})
}
