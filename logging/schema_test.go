package logging

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the generated files of testdata/schema anew")

// TestSchemaFiles holds what is made from the schema to the schema.
func TestSchemaFiles(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"relay.md":              writeTable,
		"reasons.md":            writeReasons,
		"relay.schema.json":     writeJSONSchema,
		"tacet_relay.lnav.json": writeLnav,
	} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "schema", name)
		if *update {
			if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s is not what the schema says; run go test ./logging -run SchemaFiles -update", path)
		}
	}
}

// full is a record with every field of the schema set.
func full(e Event) *Record {
	leg := TLS{Version: 0x0304, Cipher: 0x1301, Verified: VerifiedDANE}
	return &Record{
		Time:        time.Date(2026, 5, 4, 3, 2, 1, 7000, time.UTC),
		NextHost:    netip.MustParseAddr("2001:db8::25"),
		User:        "anna",
		Client:      netip.MustParseAddr("203.0.113.9"),
		In:          leg,
		Out:         TLS{Version: 0x0304, Cipher: 0x1301, Verified: VerifiedDANE, Wanted: WantedDANE},
		Sender:      "anna@example.org",
		HasSender:   true,
		Recipient:   "bob@example.net",
		Subject:     "Angebot 4711",
		Event:       e,
		ID:          "K3V9QM2X7D4RP6TA",
		Code:        250,
		Enhanced:    [3]uint16{2, 1, 5},
		Reason:      ReasonGreylisted,
		Stage:       StageEnd,
		Attempt:     3,
		NextAttempt: time.Date(2026, 5, 4, 4, 2, 1, 0, time.UTC),
		RemoteID:    "4XyzAB-cd.1_2",
		Headers:     []HeaderField{{"From", "a@example.org"}},
		HeadersCut:  true,
		Repeated:    true,
	}
}

func encodeLine(t testing.TB, r *Record) []byte {
	t.Helper()
	return bytes.Clone(newEncoder().encode(r, r.Time).bytes())
}

// keysOf lists the keys of a line in their order, the legs of tls as one.
func keysOf(t *testing.T, line []byte) (keys []string) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(line))
	var walk func(prefix string)
	walk = func(prefix string) {
		for dec.More() {
			key, err := dec.Token()
			if err != nil {
				t.Fatal(err)
			}
			path := prefix + key.(string)
			keys = append(keys, path)
			if next := bytes.TrimLeft(line[dec.InputOffset():], ": "); next[0] == '{' {
				if _, err := dec.Token(); err != nil {
					t.Fatal(err)
				}
				walk(path + ".")
			} else {
				var skip json.RawMessage
				if err := dec.Decode(&skip); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := dec.Token(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	walk("")
	return keys
}

// TestEncoderFollowsSchema writes every field in every event, and wants those
// that the schema allows, in its order, and none else.
func TestEncoderFollowsSchema(t *testing.T) {
	for e := Event(1); e < eventEnd; e++ {
		var want []string
		for _, f := range Schema() {
			if !f.Allowed(e) {
				continue
			}
			want = append(want, f.Key)
			if f.Key == "tls.in" || f.Key == "tls.out" {
				want = append(want, f.Key+".version", f.Key+".cipher", f.Key+".verified")
			}
			if f.Key == "tls.out" {
				want = append(want, "tls.out.wanted")
			}
		}
		if got := keysOf(t, encodeLine(t, full(e))); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", e, got, want)
		}
	}
}

func TestEmptyRecordIsTimeAndStatus(t *testing.T) {
	got := string(encodeLine(t, &Record{Event: Held, Time: time.Unix(0, 0)}))
	if want := `{"time":"1970-01-01T00:00:00.000000Z","status":{"event":"held"}}` + "\n"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
}

func TestFullLine(t *testing.T) {
	r := full(Delivered)
	r.Out = TLS{None: NoTLSNotOffered, Wanted: WantedWaived}
	r.Sender = ""
	want := `{"time":"2026-05-04T03:02:01.000007Z","next_host":"2001:db8::25","user":"anna","client":"203.0.113.9",` +
		`"tls":{"in":{"version":"1.3","cipher":"TLS_AES_128_GCM_SHA256","verified":"dane"},"out":{"none":"not_offered","wanted":"waived"}},` +
		`"sender":"<>","recipient":"bob@example.net","subject":"Angebot 4711","status":{"event":"delivered","id":"K3V9QM2X7D4RP6TA",` +
		`"code":250,"enhanced":"2.1.5","reason":"greylisted","stage":"end","attempt":3,"repeated":true,"remote_id":"4XyzAB-cd.1_2"}}` + "\n"
	if got := string(encodeLine(t, r)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestTables wants every value of the closed lists to have a name and to be
// found by it.
func TestTables(t *testing.T) {
	for e := Event(1); e < eventEnd; e++ {
		if got, ok := ParseEvent(e.String()); !ok || got != e {
			t.Errorf("event %d: %q", e, e)
		}
	}
	if len(Reasons()) < 60 {
		t.Errorf("%d reasons, want 60", len(Reasons()))
	}
	seen := map[string]bool{}
	for _, r := range Reasons() {
		text := reasonTable[r]
		if got, ok := ParseReason(text.name); !ok || got != r || text.english == "" || text.german == "" || strings.Trim(text.name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("reason %d: %+v", r, text)
		}
		seen[text.name] = true
	}
	if len(seen) != len(Reasons()) {
		t.Error("a reason's name stands twice")
	}
	for s := StageNone + 1; s < stageEnd; s++ {
		if got, ok := parseStage(s.String()); !ok || got != s {
			t.Errorf("stage %d: %q", s, s)
		}
	}
	ops := map[string]bool{}
	for o := Op(1); o < opEnd; o++ {
		if o.String() == "" || opTable[o].meaning == "" || ops[o.String()] {
			t.Errorf("operational event %d: %q", o, o)
		}
		ops[o.String()] = true
	}
	for v := Verb(1); v < verbEnd; v++ {
		if v.String() == "" {
			t.Errorf("verb %d has no name", v)
		}
	}
	unknown := []string{Event(200).String(), Reason(9999).String(), Stage(200).String(), Verified(200).String(), NoTLS(200).String(),
		Op(200).String(), Verb(200).String(), Scope(200).String(), Event(0).String()}
	if strings.Join(unknown, "") != "" {
		t.Errorf("an unknown value has a name: %q", unknown)
	}
}

// TestReadBack wants a record to come back as it was written.
func TestReadBack(t *testing.T) {
	for e := Event(1); e < eventEnd; e++ {
		line := encodeLine(t, full(e))
		back, err := ParseLine(bytes.TrimSuffix(line, newline))
		if err != nil {
			t.Fatalf("%s: %v\n%s", e, err, line)
		}
		if again := encodeLine(t, &back.Record); !bytes.Equal(again, line) {
			t.Errorf("%s:\n got %s\nwant %s", e, again, line)
		}
	}
}

func TestParseLineIsStrict(t *testing.T) {
	good := strings.TrimSpace(string(encodeLine(t, full(Delivered))))
	if _, err := ParseLine([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "null", "[]", "{}", good + good, good + "x", good[:len(good)-1],
		strings.Replace(good, `"delivered"`, `"lost"`, 1),
		strings.Replace(good, `"greylisted"`, `"secret"`, 1),
		strings.Replace(good, `"user"`, `"message"`, 1),
		strings.Replace(good, "203.0.113.9", "203.0.113.900", 1),
		strings.Replace(good, "2.1.5", "2.1.5.4", 1),
		strings.Replace(good, `"1.3"`, `"9.3"`, 1),
		strings.Replace(good, "2026-05-04T03", "2026-05-04 03", 1),
	} {
		if _, err := ParseLine([]byte(bad)); err != ErrLine {
			t.Errorf("%.200s: %v, want %v", bad, err, ErrLine)
		}
	}
}

// Every key of the contract stands once in its object and as it is written there: a reader
// that takes the first of two values, or any case, must not see another record than this one.
func TestParseLineTakesKeysAsTheyAre(t *testing.T) {
	for _, e := range []Event{Delivered, ContentRejected} {
		good := strings.TrimSpace(string(encodeLine(t, full(e))))
		keys := 0
		for _, f := range Schema() {
			key := f.Key[strings.LastIndexByte(f.Key, '.')+1:]
			if !strings.Contains(good, `"`+key+`":`) {
				continue // of another event
			}
			keys++
			for what, instead := range map[string]string{
				"twice":                  key + `":null,"` + key,
				"twice, once escaped":    fmt.Sprintf(`\u%04x%s":null,"%s`, key[0], key[1:], key),
				"in upper case":          strings.ToUpper(key),
				"with a capital":         strings.ToUpper(key[:1]) + key[1:],
				"twice, in another case": strings.ToUpper(key) + `":null,"` + key,
				"with a letter like s":   strings.Replace(key, "s", "ſ", 1), // U+017F, which encoding/json takes for one
			} {
				bad := strings.Replace(good, `"`+key+`":`, `"`+instead+`":`, 1)
				if _, err := ParseLine([]byte(bad)); err != ErrLine && bad != good {
					t.Errorf("%s, %s %s: %v, want %v", e, key, what, err, ErrLine)
				}
			}
		}
		if keys < 12 {
			t.Errorf("%s: %d keys only", e, keys)
		}
	}
}
