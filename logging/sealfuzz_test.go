package logging

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// FuzzSealedReader opens files that are anything at all: it must end, with an
// error or with what was sealed, and never with anything else.
func FuzzSealedReader(f *testing.F) {
	header := frameHeader{sealed: true, day: dayOf(time.Date(2026, 5, 4, 0, 0, 0, 0, time.UTC)), key: keyID{1}}
	key := bytes.Repeat([]byte{7}, keySize)
	b, err := newBox(key, header)
	if err != nil {
		f.Fatal(err)
	}
	var good bytes.Buffer
	w, err := newFrameWriter(&good, b)
	if err != nil {
		f.Fatal(err)
	}
	line := `{"time":"2026-05-04T03:02:01.000007Z","status":{"event":"held","id":"a"}}`
	for range 3 {
		if err := w.line([]byte(line)); err != nil {
			f.Fatal(err)
		}
		if err := w.flush(false); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.end(); err != nil {
		f.Fatal(err)
	}
	live := frameHeader{day: header.day, key: keyID{2}}
	lb, err := newBox(key, live)
	if err != nil {
		f.Fatal(err)
	}
	running := lb.appendFrame(live.append(nil), append([]byte{packedNot}, line+"\n"...), headerSize, false)
	f.Add(good.Bytes(), true)
	f.Add(running, false)
	f.Add(running[:len(running)-3], false)
	f.Add(good.Bytes()[:headerSize], true)
	f.Fuzz(func(t *testing.T, content []byte, sealed bool) {
		base := t.TempDir()
		h, name := header, header.day.sealed()
		if !sealed {
			h, name = live, header.day.live(true)
		}
		k := &keyring{dir: filepath.Join(base, "keys")}
		if err := k.prepare(); err != nil {
			t.Fatal(err)
		}
		for path, content := range map[string][]byte{k.path(keyFile{h.day, h.key}): key, filepath.Join(base, name): content} {
			if err := os.WriteFile(path, content, fs.FileMode(0o600)); err != nil {
				t.Fatal(err)
			}
		}
		for _, last := range []int{-1, 10} {
			n, failed := 0, false
			for got, err := range Read(t.Context(), ReadOptions{Dir: base, KeyDir: k.dir, Last: last}) {
				if err != nil {
					failed = true
					continue
				}
				if n++; string(got.Raw) != line {
					t.Errorf("%q", got.Raw)
				}
			}
			// Nonces are random: what was sealed by another process is right as well.
			if sealed && !failed && n != 3 {
				t.Errorf("%d lines of 3 were read without an error", n)
			}
		}
	})
}

// FuzzCanonical wants the fast way of reading a line to agree with the slow one
// wherever it does not give up.
func FuzzCanonical(f *testing.F) {
	enc := newEncoder()
	for e := Accepted; e < eventEnd; e++ {
		for _, change := range []func(*Record){func(*Record) {}, func(r *Record) { r.Sender, r.Out = "", TLS{None: NoTLSOff} }} {
			r := full(e)
			change(r)
			buf := enc.encode(r, r.Time)
			raw := bytes.TrimSuffix(bytes.Clone(buf.bytes()), newline)
			buf.free()
			if got, ok := parseCanonical(raw); !ok {
				f.Errorf("the fast way gave up on %s", raw)
			} else if got.Event != e {
				f.Errorf("%v", got.Event)
			}
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		fast, ok := parseCanonical(raw)
		if !ok {
			return
		}
		slow, err := parseStrictly(raw)
		if err != nil {
			t.Fatalf("only the fast way takes %q", raw)
		}
		if !reflect.DeepEqual(fast, slow.Record) {
			t.Errorf("%q\nfast %+v\nslow %+v", raw, fast, slow.Record)
		}
	})
}

// TestSieve wants it to let through every line that passes its filter.
func TestSieve(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	enc := newEncoder()
	addresses := []string{"anna@example.org", "Anna@Example.ORG", "joanna@example.org", `"a b\"c"@example.net`, "bob@example.net", "jürg@exämple.org", "<x>@example.net", "a\x01b@example.net"}
	var piece []byte
	var records []Record
	for range 500 {
		r := full(pickEvent(random))
		r.Sender, r.Recipient, r.User = pick(addresses...), pick(addresses...), pick("anna", "Bob", "")
		r.HasSender = true
		if random.IntN(5) == 0 {
			r.Sender = ""
		}
		r.ID = pick("AB12", "ab13", "ZZ")
		r.NextHost = netip.MustParseAddr(pick("192.0.2.1", "192.0.2.10", "2001:db8::1"))
		r.Time = r.Time.Add(time.Duration(random.IntN(1000)) * time.Second)
		buf := enc.encode(r, r.Time)
		line, err := ParseLine(bytes.TrimSpace(bytes.Clone(buf.bytes())))
		if err != nil {
			t.Fatal(err)
		}
		piece = append(piece, buf.bytes()...)
		records = append(records, line.Record)
		buf.free()
	}
	for range 500 {
		var f Filter
		for range 1 + random.IntN(2) {
			switch random.IntN(10) {
			case 0:
				f.Sender = pick("<>", "anna@example.org", "@EXAMPLE.org", "ann", "ü", `b\"`)
			case 1:
				f.Recipient = pick("anna@example.org", "@example.net", "a b", "jürg@exämple.org")
			case 2:
				f.Address = pick("ANNA@example.org", "@example.net", "bob@", `"a b\"c"@example.net`)
			case 3:
				f.User = pick("AN", "bob")
			case 4:
				f.ID = pick("ab12", "zz", "a")
			case 5:
				f.NextHost = netip.MustParsePrefix(pick("192.0.2.1/32", "192.0.2.0/24", "2001:db8::1/128"))
			case 6:
				f.Events = []Event{pickEvent(random), pickEvent(random)}
			case 7:
				f.Since = full(Delivered).Time.Add(time.Duration(random.IntN(1000)) * time.Second)
			case 8:
				f.Until = full(Delivered).Time.Add(time.Duration(random.IntN(1000)) * time.Second)
			case 9:
				f.person = &Person{Address: pick("anna@example.org", "jürg@exämple.org"), User: pick("", "Bob")}
			}
		}
		var want, got []string
		at := 0
		for _, r := range records {
			end := at + bytes.IndexByte(piece[at:], '\n')
			if f.Match(&r) {
				want = append(want, string(piece[at:end]))
			}
			at = end + 1
		}
		f.sieve().lines(piece, func(raw []byte, _ int) bool {
			if line, err := ParseLine(raw); err == nil && f.Match(&line.Record) {
				got = append(got, string(raw))
			}
			return true
		})
		if !slices.Equal(got, want) {
			t.Fatalf("%+v: %d lines, want %d", f, len(got), len(want))
		}
	}
}

func pickEvent(random *rand.Rand) Event { return Event(1 + random.IntN(int(eventEnd)-1)) }

// BenchmarkSearch searches a sealed day of 16 MiB.
func BenchmarkSearch(b *testing.B) {
	base := b.TempDir()
	p := place{filepath.Join(base, "log"), filepath.Join(base, "keys")}
	if err := os.Mkdir(p.dir, 0o750); err != nil {
		b.Fatal(err)
	}
	var lines []byte
	enc := newEncoder()
	random := rand.New(rand.NewPCG(1, 2))
	d := dayOf(full(Delivered).Time)
	for i := 0; len(lines) < 16<<20; i++ {
		r := full(pickEvent(random))
		r.Sender = "user" + strings.Repeat("x", random.IntN(9)) + strconv.Itoa(random.IntN(1e6)) + "@example.org"
		r.Recipient = strconv.Itoa(random.IntN(1e6)) + "@example.net"
		r.Headers = nil
		buf := enc.encode(r, d.begin().Add(time.Duration(i)*time.Millisecond))
		lines = append(lines, buf.bytes()...)
		buf.free()
	}
	if err := os.WriteFile(filepath.Join(p.dir, d.aside(1)), lines, 0o640); err != nil {
		b.Fatal(err)
	}
	if err := p.keeper(nil).reseal(b.Context(), d, 0, nil); err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]Filter{
		"address": {Address: "nobody@example.net"}, "event": {Events: []Event{Failed}}, "all": {}, "host": {NextHost: netip.MustParsePrefix("192.0.2.77/32")},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(lines)))
			for b.Loop() {
				for _, err := range Read(b.Context(), ReadOptions{Dir: p.dir, KeyDir: p.keys, Filter: f}) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
