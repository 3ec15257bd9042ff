package logging

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Three persons, and each gets their own view.
func TestRecordsOfAPerson(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	client := netip.MustParseAddr("192.0.2.7")
	for _, r := range []Record{
		{Event: Delivered, ID: "A1", User: "anna-login", Client: client, Sender: "anna@example.org", HasSender: true, Recipient: "bob@example.net", Subject: "to bob and carl@example.com"},
		{Event: Delivered, ID: "A1", User: "anna-login", Client: client, Sender: "anna@example.org", HasSender: true, Recipient: "carl@example.com", Subject: "to bob and carl@example.com"},
		{Event: Delivered, ID: "D1", User: "dora-login", Client: client, Sender: "dora@example.org", HasSender: true, Recipient: "erik@example.net", Subject: "private"},
		{Event: ContentRejected, Sender: "x@example.org", HasSender: true, Recipient: "bob@example.net", Headers: []HeaderField{{"To", `Bob <BOB@example.net>, "fred f"@example.org, gina@example.org`}}},
	} {
		r.Time = time.Now()
		if err := l.Write(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		who        Person
		records    int
		has, hides []string
	}{
		{Person{Address: "Bob@example.net"}, 2,
			[]string{"bob@example.net", "…@example.org", "…@example.com", "BOB@example.net"},
			[]string{"anna", "carl", "dora", "erik", "fred", "gina", "login", "192.0.2.7", "x@"}},
		{Person{Address: "anna@example.org"}, 2,
			[]string{"anna@example.org", "anna-login", "192.0.2.7", "…@example.net"}, []string{"bob@", "carl@", "dora", "erik"}},
		{Person{User: "dora-login"}, 1, []string{"dora@example.org", "…@example.net", "private"}, []string{"anna", "bob", "erik"}},
		{Person{Address: "nobody@example.org"}, 0, nil, []string{"example"}},
	} {
		var all strings.Builder
		n := 0
		for line, err := range one.who.Records(t.Context(), dir, "") {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseLine(line.Raw); err != nil {
				t.Errorf("%v: %s", err, line.Raw)
			}
			n++
			all.Write(append(line.Raw, '\n'))
		}
		if n != one.records {
			t.Errorf("%+v: %d records, want %d", one.who, n, one.records)
		}
		for _, want := range one.has {
			if !strings.Contains(all.String(), want) {
				t.Errorf("%+v: %q is missing in\n%s", one.who, want, all.String())
			}
		}
		for _, leak := range one.hides {
			if strings.Contains(all.String(), leak) {
				t.Errorf("%+v: %q shows in\n%s", one.who, leak, all.String())
			}
		}
	}
	for _, err := range (Person{}).Records(t.Context(), dir, "") {
		if err == nil {
			t.Error("records of nobody")
		}
	}
}
