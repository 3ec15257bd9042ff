package logging

import (
	"context"
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(Options{Dir: dir, Operations: NewOperations(OperationsOptions{Format: FormatColour})})
	if err != nil {
		t.Fatal(err)
	}
	l.Write(&Record{Event: Delivered, NextHost: netip.MustParseAddr("192.0.2.1"), Out: TLS{Version: tls.VersionTLS13, Cipher: 0x1301}, HasSender: true, Recipient: "a@b.c", Subject: Subject([]byte(" =?utf-8?q?Gr=C3=BC=C3?= =?utf-8?q?=9Fe?= \x1b[31m")), ID: "ABC", Code: 250, Enhanced: [3]uint16{2, 0, 0}, Attempt: 1, RemoteID: "4Xyz"})
	l.Flush(context.Background())
	m, _ := filepath.Glob(dir + "/*")
	b, _ := os.ReadFile(m[0])
	t.Log(m, string(b))
	NewOperations(OperationsOptions{Format: FormatConsole}).Log(OpLogFailed, Err(os.ErrNotExist), Count(2))
	NewOperations(OperationsOptions{Format: FormatJSON}).Log(OpLogFailed, Err(&os.PathError{Err: os.ErrNotExist}), Count(2))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkWrite(b *testing.B) {
	l, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	r := &Record{Event: Delivered, User: "anna", Client: netip.MustParseAddr("203.0.113.9"), NextHost: netip.MustParseAddr("192.0.2.1"), In: TLS{Version: tls.VersionTLS13, Cipher: 0x1301}, Out: TLS{Version: tls.VersionTLS13, Cipher: 0x1301}, Sender: "anna@example.org", HasSender: true, Recipient: "bob@example.net", Subject: "Angebot 4711 vom letzten Dienstag", ID: "K3V9QM2X7D4RP6TA", Code: 250, Enhanced: [3]uint16{2, 0, 0}, Attempt: 1, RemoteID: "4Xyz"}
	b.ReportAllocs()
	for b.Loop() {
		l.Write(r)
	}
	l.Close()
}
func BenchmarkEncode(b *testing.B) {
	l := newEncoder()
	r := &Record{Event: Delivered, User: "anna", Client: netip.MustParseAddr("203.0.113.9"), NextHost: netip.MustParseAddr("192.0.2.1"), In: TLS{Version: tls.VersionTLS13, Cipher: 0x1301}, Out: TLS{Version: tls.VersionTLS13, Cipher: 0x1301}, Sender: "anna@example.org", HasSender: true, Recipient: "bob@example.net", Subject: "Angebot 4711 vom letzten Dienstag", ID: "K3V9QM2X7D4RP6TA", Code: 250, Enhanced: [3]uint16{2, 0, 0}, Attempt: 1, RemoteID: "4Xyz"}
	b.ReportAllocs()
	for b.Loop() {
		x, _ := l.encode(r, r.Time)
		x.Free()
	}
}
func BenchmarkClassify(b *testing.B) {
	for b.Loop() {
		Classify(StageRcpt, 550, [3]uint16{5, 1, 1}, "The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or unnecessary spaces.")
	}
}
