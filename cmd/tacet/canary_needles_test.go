package main

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// canarySet is the random tokens that stand in the inputs of a relay, one for
// each input, and the forms in which they are looked for.
type canarySet struct {
	mu      sync.Mutex
	text    map[string]string // by input
	needles []needle
	byHead  map[[headLength]byte][]int // index into needles, by their first octets
	heads   [1 << 16]bool              // by their first two
}

// needle is one form of one canary.
type needle struct {
	input, form string
	octets      []byte
	fold        bool // whatever the case
}

// headLength is shorter than any needle.
const headLength = 8

// canaryLetters are such that no word can be made of them.
const canaryLetters = "bcdfghjklmnpqrstvwxz"

func newCanarySet() *canarySet {
	return &canarySet{text: map[string]string{}, byHead: map[[headLength]byte][]int{}}
}

// new makes the token of an input. wholes are printf formats of the values that the
// token becomes a part of, for the sake of their hashes.
func (c *canarySet) new(input string, wholes ...string) string {
	if text := c.of(input); text != "" {
		return text
	}
	random := make([]byte, 16)
	rand.Read(random)
	for i, b := range random {
		random[i] = canaryLetters[int(b)%len(canaryLetters)]
	}
	c.add(input, string(random), wholes...)
	return string(random)
}

// of is the token of an input, if there is one yet.
func (c *canarySet) of(input string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text[input]
}

// add takes a text as the token of an input.
func (c *canarySet) add(input, text string, wholes ...string) {
	c.mu.Lock()
	c.text[input] = text
	c.mu.Unlock()
	for form, octets := range reversibleForms(text) {
		c.needle(needle{input, form, octets, form != "utf-16" && !strings.HasPrefix(form, "base64")})
	}
	values := []string{text}
	for _, format := range wholes {
		values = append(values, fmt.Sprintf(format, text))
	}
	for _, value := range values {
		for name, sum := range unkeyedDigests([]byte(value)) {
			c.needle(needle{input, name, sum[:8], false})
			c.needle(needle{input, name + " hex", []byte(hex.EncodeToString(sum)[:16]), true})
			c.needle(needle{input, name + " base32", []byte(base32.StdEncoding.EncodeToString(sum)[:16]), true})
			c.needle(needle{input, name + " base64", []byte(base64.StdEncoding.EncodeToString(sum)[:12]), false})
			c.needle(needle{input, name + " base64", []byte(base64.URLEncoding.EncodeToString(sum)[:12]), false})
		}
	}
}

func (c *canarySet) needle(n needle) {
	if n.fold {
		n.octets = bytes.ToLower(n.octets)
	}
	head := [headLength]byte(n.octets)
	c.byHead[head] = append(c.byHead[head], len(c.needles))
	c.heads[int(head[0])<<8|int(head[1])] = true
	c.needles = append(c.needles, n)
}

// reversibleForms are the ways in which a text may be written that give it away.
func reversibleForms(text string) map[string][]byte {
	forms := map[string][]byte{
		"plain":     []byte(text),
		"hex":       []byte(hex.EncodeToString([]byte(text))),
		"base32":    []byte(base32.StdEncoding.EncodeToString([]byte(text))[:len(text)*8/5]),
		"utf-16":    []byte(strings.Join(strings.Split(text, ""), "\x00")),
		"quoted":    escapedForm(text, "=%02X"),   // RFC 2045 §6.7, and RFC 2047 of it
		"percent":   escapedForm(text, "%%%02X"),  // URLs
		"json":      escapedForm(text, "\\u%04x"), // RFC 8259 §7
		"escape":    escapedForm(text, "\\x%02x"), // Go
		"character": escapedForm(text, "&#%d;"),   // HTML
	}
	for shift := range 3 { // base64 at each alignment, without what its neighbours decide
		all := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
		forms[fmt.Sprintf("base64+%d", shift)] = []byte(all[(shift*8+5)/6 : (shift+len(text))*8/6])
	}
	return forms
}

func escapedForm(text, format string) (out []byte) {
	for _, c := range []byte(text) {
		out = fmt.Appendf(out, format, c)
	}
	return out
}

// unkeyedDigests are hashes without a key: whoever has a list of addresses reverses them.
func unkeyedDigests(value []byte) map[string][]byte {
	a, b, c, d, e := md5.Sum(value), sha1.Sum(value), sha256.Sum256(value), sha512.Sum512(value), sha3.Sum256(value)
	return map[string][]byte{"md5": a[:], "sha1": b[:], "sha256": c[:], "sha512": d[:], "sha3-256": e[:]}
}

// search lists the inputs that data shows, each with the form.
func (c *canarySet) search(data []byte) map[string]string {
	found := map[string]string{}
	for _, pass := range []struct {
		data []byte
		fold bool
	}{{data, false}, {bytes.ToLower(data), true}} {
		for i := range max(len(pass.data)-headLength+1, 0) {
			if !c.heads[int(pass.data[i])<<8|int(pass.data[i+1])] {
				continue
			}
			for _, n := range c.byHead[[headLength]byte(pass.data[i:])] {
				if n := &c.needles[n]; n.fold == pass.fold && bytes.HasPrefix(pass.data[i:], n.octets) {
					found[n.input] = n.form
				}
			}
		}
	}
	return found
}

// inputs are the names of all inputs, in order.
func (c *canarySet) inputs() []string { return slices.Sorted(maps.Keys(c.text)) }
