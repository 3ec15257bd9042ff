package content

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tacet/relay"
)

// fakeClamd answers every content with answer; got is what it was sent.
func fakeClamd(t *testing.T, answer string) (c *Clamd, got chan string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "clamd")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got = make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		command := make([]byte, 10)
		if _, err := io.ReadFull(conn, command); err != nil || string(command) != "zINSTREAM\x00" {
			return
		}
		var all bytes.Buffer
		for {
			var size [4]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return
			}
			n := binary.BigEndian.Uint32(size[:])
			if n == 0 {
				break
			}
			if _, err := io.CopyN(&all, conn, int64(n)); err != nil {
				return
			}
		}
		got <- all.String()
		if answer == "hang" {
			_, _ = io.Copy(io.Discard, conn)
			return
		}
		_, _ = conn.Write([]byte(answer))
	}()
	return &Clamd{Network: "unix", Address: path}, got
}

func TestClamd(t *testing.T) {
	text := signedText + strings.Repeat("0123456789abcdef\r\n", 20000)
	for answer, want := range map[string]string{
		"stream: OK\x00":                          "pass",
		"stream: Eicar-Test-Signature FOUND\x00":  "virus",
		"INSTREAM size limit exceeded. ERROR\x00": "error",
		"stream: OK":                              "error", // cut off
		"":                                        "error",
		"SSH-2.0-x\r\n\x00":                       "error",
		strings.Repeat("x", 10000):                "error",
		"stream: OK FOUND OK\x00":                 "error",
	} {
		c, got := fakeClamd(t, answer)
		v, err := c.Check(t.Context(), message(text))
		if sent := <-got; sent != text {
			t.Errorf("%q: it was sent %d octets of %d", answer, len(sent), len(text))
		}
		result := "pass"
		if err != nil {
			result = "error"
		} else if r := v.Rejection; r != nil && r.Class == relay.ClassContent && r.Ground == relay.GroundVirus && r.Code == 550 {
			result = "virus"
		}
		if result != want {
			t.Errorf("%q: %s, want %s (%v)", answer, result, want, err)
		}
	}
}

// A scanner that is not there, or says nothing, is an error within the time given.
func TestClamdAway(t *testing.T) {
	c := &Clamd{Network: "unix", Address: filepath.Join(t.TempDir(), "missing")}
	if _, err := c.Check(t.Context(), message(signedText)); err == nil {
		t.Error("no scanner, and no error")
	}
	c, got := fakeClamd(t, "hang")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() {
		<-got
		cancel()
	}()
	if _, err := c.Check(ctx, message(signedText)); err == nil {
		t.Error("a silent scanner, and no error")
	}
}
