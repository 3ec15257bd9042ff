package main_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// silent is a service at a socket of dir that takes what it is told and never answers.
func silent(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 32<<10)
				for {
					if _, err := conn.Read(buf); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return path
}

// bombs are contents that cost a careless reader much.
func bombs() map[string]string {
	const head = "From: a@example.org\r\nSubject: bomb\r\nMIME-Version: 1.0\r\n"
	var deep strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=x%dx\r\n\r\n--x%dx\r\n", i, i)
	}
	block := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 57))) + "\r\n"
	return map[string]string{
		"depth":         head + deep.String(),
		"messages":      head + strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100_000),
		"100,000 parts": head + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Disposition: attachment; filename=a.exe.txt\r\n\r\nx\r\n", 100_000),
		"part header":   head + "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + strings.Repeat("X-Y: z\r\n", 500_000),
		"header":        head + strings.Repeat("X-Long: "+strings.Repeat("x", 900)+"\r\n", 10_000) + "\r\n",
		"signatures":    head + strings.Repeat("DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=s; h=from; bh=AAAA; b=AAAA\r\n", 500) + "\r\nbody\r\n",
		"parameters":    head + "Content-Type: text/plain" + strings.Repeat(";\r\n name*1*=utf-8''%41", 3000) + "\r\n\r\nx\r\n",
		"large":         head + "Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + strings.Repeat(block, 300_000),
		"empty lines":   head + "\r\n" + strings.Repeat("\r\n", 2_000_000),
	}
}

// hostile: bombs in many sessions at once, with every service behind the checks silent, are each answered, and the
// process stays within the memory that the kernel lets it have. Whoever comes then is served.
func (p *peers) hostile(t *testing.T) {
	const sessions, limit = 4, 384 << 20
	next := newSink(t)
	dns, err := net.ListenPacket("udp", "127.0.0.1:0") // asked, it says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer dns.Close()
	dir := t.TempDir()
	d := p.newDaemon(t, trustLoopback+fmt.Sprintf(`[delivery]
next_hop = %q
[dns]
resolvers = [%q]
[verify]
scope = "all"
[[rule]]
name = "no-programs"
attachment = "\\.exe$"
action = "reject"
[clamd]
address = "unix:%s"
timeout = "1s"
on_failure = "accept"
[[milter]]
address = "unix:%s"
timeout = "1s"
on_failure = "accept"
`, hop(next.addr), dns.LocalAddr(), silent(t, dir, "clamd"), silent(t, dir, "milter")))
	// Writable memory beyond it the kernel refuses, which ends the process (RLIMIT_DATA).
	d.bin = writeFile(t, d.path("limited"), fmt.Sprintf("#!/bin/sh\nulimit -d %d\nexec %s \"$@\"\n", limit>>10, p.bin))
	if err := os.Chmod(d.bin, 0o755); err != nil {
		t.Fatal(err)
	}
	d.env = []string{"GOMEMLIMIT=256MiB"}
	d.start()
	var all sync.WaitGroup
	for name, text := range bombs() {
		for range sessions {
			all.Go(func() {
				if code, err := p.drop(d, text); err != nil || code < 250 || code == 421 {
					t.Errorf("%s: %d, %v", name, code, err)
				}
			})
		}
	}
	all.Wait()
	s, err := dial(d.implicit, &p.cert)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.begin("anna@example.org", "bob@example.net"); err != nil {
		t.Fatal(err)
	}
	if err := s.end(numbered(1, 5000)); err != nil {
		t.Errorf("after the bombs: %v", err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	peak, err := strconv.ParseInt(string(peakMemory.FindSubmatch(status)[1]), 10, 64)
	if err != nil || peak<<10 > limit {
		t.Errorf("the peak of memory is %d MB, %v", peak>>10, err)
	}
	t.Logf("%d bombs at once: peak memory %d MB", sessions*len(bombs()), peak>>10)
}

// drop submits a content, whatever it is, and returns the code of the answer to it.
func (p *peers) drop(d *daemon, text string) (code int, err error) {
	s, err := dial(d.implicit, &p.cert)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	s.W = bufio.NewWriterSize(s.conn, 64<<10)
	if err := s.begin("anna@example.org", "bob@example.net"); err != nil {
		return 0, err
	}
	if _, err := s.W.WriteString(text + "\r\n.\r\n"); err != nil {
		return 0, err
	}
	if err := s.W.Flush(); err != nil {
		return 0, err
	}
	line, err := s.ReadLine()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(line[:min(3, len(line))])
}
