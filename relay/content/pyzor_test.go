package content

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// pyzorCorpus are messages of all shapes that Pyzor reads in a way of its own.
func pyzorCorpus() []string {
	lines := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "line number %d of some text\n", i)
		}
		return b.String()
	}
	latin := "Gr\xfc\xdfe aus K\xf6ln sag ich\n"
	texts := []string{
		"Subject: x\n\none short line that counts\n",
		"Subject: x\n\nshort\n",
		"Subject: x\n\n" + lines(4), "Subject: x\n\n" + lines(5), "Subject: x\n\n" + lines(99),
		"Subject: x\n\nwrite to ann@example.org or a@b now or @ab or ab@ and @a@ and @@b, it is a big sale\n",
		"Subject: x\n\nsee (http:x) HTTP:y :z a: b:c 1a:d \u017f:e tel:1 and buy some of it\n",
		"Subject: x\n\nblanks\u00a0between\u2003words\u200bhere yes\x0band more of it\x0call of the text\x1cis there\x85so\n",
		"Subject: x\nContent-Type: text/plain; charset=utf-8\n\nGr\u00fc\u00dfe aus K\u00f6ln sag ich\u2028und noch etwas mehr davon\nblanks\u00a0between\u2003words\u200bhere yes\n\u00e9\u00e9\u00e9 \u00e9\u00e9\u00e9\u00e9 \u00e9\n",
		"Subject: x\nContent-Type: text/plain; charset=\"ISO-8859-1\"\n\n" + latin,
		"Subject: x\nContent-Type: text/plain; charset=windows-1252\n\nthe \x80 and the \x93sale\x94 of it\n",
		"Subject: x\nContent-Type: text/plain; charset=utf-8\n\n" + latin,
		"Subject: x\nContent-Type: text/plain; charset=no-such\n\n" + latin,
		"Subject: x\nContent-Type: text/plain\n\n" + latin,
		"Subject: x\nContent-Type: text/plain; charset=koi8-r\n\n\xf0\xd2\xc9\xd7\xc5\xd4 \xcd\xc9\xd2 \xd7\xd3\xc5\xcd\n",
		"Subject: x\nContent-Type: text/plain; charset=iso-2022-jp\n\n\x1b$B$3$s$K$A$O\x1b(B and \x1b$B@$3&\x1b(B\n",
		"Subject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe aus =\nK=C3=B6ln  \nand a =3D sign of = it\n",
		"Subject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte(lines(3))) + "\n",
		mixed,
		"Content-Type: multipart/alternative; boundary=b\n\n--b\n\n" + lines(7) + "--b\nContent-Type: text/html\n\n<p>" + lines(7) + "</p>\n--b--\n",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n" + lines(2) + "--b\nContent-Type: message/rfc822\n\nSubject: inner\n\ninner text of it all\n--b--\n",
		"Content-Type: multipart/report; boundary=b\n\n--b\n\n" + lines(2) + "--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx of ours\n\nFinal-Recipient: rfc822; a b\nAction: failed and such\n\n--b--\n",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: application/x; name=a\n\nplain words in a part of no text\nQUJDREVG\nQUJDREVGQUJDREVG\nQUJDRA==\n--b--\n",
		"Subject: nothing\n\n", "Subject: nothing\n",
	}
	for _, body := range []string{
		"<html><head><title>A title of it</title><style>p { color: red of the text }</style></head><body><p>Some words &amp; more &euro; &#65; words</p><script>var words = 'that do not count';</script><b>bold</b> words after it</body></html>\n",
		"<p>one\ntwo three four five six\n</p>\n<p>seven eight nine ten</p>\n",
		"text of it a < b and c <3 words and <br/> more <b attr=\"x > y\">of the</b> words\n",
		"<!-- a comment of words --> the words <!--[if mso]><p>office words</p><![endif]--> the end of it\n<!doctype html>\n",
		"<textarea><b>raw words</b> of the area</textarea><title><i>title words</i> of it</title>\n",
		"<script/>words behind a script tag<p>more of the words</p>\n",
		"<STYLE type='x'>hidden words here</STYLE>shown words here <a href=http://x.example/y>link words</a>\n",
		"<p>uml&auml;ut &nbsp; words &copy 2026 &unknown; here</p>\n<p>unclosed words of it\n",
	} {
		texts = append(texts, "Subject: x\nContent-Type: text/html; charset=utf-8\n\n"+body)
	}
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"buy", "cheap", "a@b", "x:y", "http://a", "verylongword1", "<b>", "</b>", "&amp;", "\n", "\n\n", " ", "\t", "\u00fc", "ab", "!", "<p>", "1234567", "q", "< ", "&", "<!-- x -->", "<a href='x'>", "</p >", "<br/>", "&nbsp;", "&#8211;", "<", ">"}
	for i := range 60 {
		var b strings.Builder
		for range 200 {
			b.WriteString(words[random.IntN(len(words))] + []string{"", " "}[random.IntN(2)])
		}
		texts = append(texts, "Subject: x\nContent-Type: text/"+[]string{"plain", "html"}[i%2]+"; charset=utf-8\n\n"+b.String()+"\n")
	}
	return texts
}

func pyzorDigest(t *testing.T, text string) string {
	t.Helper()
	var found []Part
	if err := walkText(t.Context(), message(crlf(text)), maxText, func(p *Part) error { found = append(found, *p); return nil }); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	d, _ := textDigest(found)
	return d.Hex()
}

func TestTextDigest(t *testing.T) {
	sha := func(text string) string { sum := sha1.Sum([]byte(text)); return hex.EncodeToString(sum[:]) }
	for text, want := range map[string]string{
		"Subject: x\n\none short line that counts\n":                                sha("oneshortlinethatcounts"),
		"Subject: x\n\nshort\nsee you at ann@example.org or http://x.example/ so\n": sha("seeyouatorso"),
		"Subject: x\n\n" + strings.Repeat("the line 1\n", 10):                       sha(strings.Repeat("theline1", 6)),
		"Subject: nothing\n\n": sha(""),
		"Content-Type: text/html\n\n<style>no words here</style><p>but&nbsp;words here</p>\n": sha("butwordshere"),
	} {
		if got := pyzorDigest(t, text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// The digest is the one that Pyzor makes, by its own code, of every message of the corpus.
func TestPeerPyzorDigest(t *testing.T) {
	if os.Getenv("TACET_PEERS") != "1" {
		t.Skip("TACET_PEERS is not 1")
	}
	corpus := pyzorCorpus()
	encoded := make([][]byte, len(corpus))
	for i, text := range corpus {
		encoded[i] = []byte(crlf(text))
	}
	input, err := json.Marshal(encoded)
	if err != nil {
		t.Fatal(err)
	}
	script := "import sys,json,base64,email,pyzor.digest as d\nfor m in json.load(sys.stdin): print(d.DataDigester(email.message_from_bytes(base64.b64decode(m))).value)\n"
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", script)
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pyzor's own code: %v (Debian package pyzor)", err)
	}
	want := strings.Fields(string(out))
	if len(want) != len(corpus) {
		t.Fatalf("%d digests of %d messages", len(want), len(corpus))
	}
	for i, text := range corpus {
		if got := pyzorDigest(t, text); got != want[i] {
			t.Errorf("%q: %s, want %s", text, got, want[i])
		}
	}
}
