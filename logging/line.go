package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ErrLine is of a line that is not by the contract. Its text tells where it
// stands, never what is in it.
var ErrLine = errors.New("relay log: a line is not by the contract")

// Line is a record as it was read back.
type Line struct {
	Record
	Raw []byte // the line itself, without its newline; the reader's own copy
}

// ErrNoKey is of a file that nobody can read any more: its key is missing, as after
// a backup of the log was put back without the folder of keys.
var ErrNoKey = errors.New("its key is missing: nobody can read it")

// GoesOn tells of an error of [Read] that leaves out what it is about, and nothing else.
func GoesOn(err error) bool { return errors.Is(err, ErrLine) || errors.Is(err, ErrNoKey) }

// ParseLine reads a line strictly: no unknown key, no unknown name, nothing
// behind the object. A record that was written comes back as it was, less
// what was cut or made visible.
func ParseLine(raw []byte) (Line, error) {
	if r, ok := parseCanonical(raw); ok {
		return Line{r, raw}, nil
	}
	return parseStrictly(raw)
}

// parseStrictly reads what is right and yet not as the encoder writes it.
func parseStrictly(raw []byte) (Line, error) {
	var w wireLine
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if dec.Decode(&w) != nil { // its text would quote the line
		return Line{Raw: raw}, ErrLine
	}
	if _, err := dec.Token(); err != io.EOF || !exactKeys(raw) {
		return Line{Raw: raw}, ErrLine
	}
	r, ok := w.record()
	if !ok {
		return Line{Raw: raw}, ErrLine
	}
	return Line{r, raw}, nil
}

// exactKeys tells whether each key stands as the contract has it and once in its object:
// encoding/json takes any case, and of many the last.
func exactKeys(raw []byte) bool {
	type object struct {
		seen  map[string]bool // nil: an array
		value bool            // what comes next is the value of a key
	}
	var open []object
	for dec := json.NewDecoder(bytes.NewReader(raw)); ; {
		token, err := dec.Token()
		if err != nil {
			return err == io.EOF
		}
		in := len(open) - 1
		key, isText := token.(string)
		if isText && in >= 0 && open[in].seen != nil && !open[in].value {
			if open[in].seen[key] || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_") != "" {
				return false
			}
			open[in].seen[key], open[in].value = true, true
			continue
		}
		if in >= 0 {
			open[in].value = false
		}
		switch token {
		case json.Delim('{'):
			open = append(open, object{seen: map[string]bool{}})
		case json.Delim('['):
			open = append(open, object{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:in]
		}
	}
}

// The wire types are the contract as encoding/json reads it.
type wireLine struct {
	Time     string      `json:"time"`
	NextHost string      `json:"next_host"`
	User     string      `json:"user"`
	Client   string      `json:"client"`
	TLS      wireTLSs    `json:"tls"`
	Sender   string      `json:"sender"`
	Receiver string      `json:"recipient"`
	Subject  string      `json:"subject"`
	Status   wireStatus  `json:"status"`
	Headers  [][2]string `json:"headers"`
}

type wireTLSs struct {
	In  wireTLS `json:"in"`
	Out wireTLS `json:"out"`
}

type wireTLS struct {
	Version  string `json:"version"`
	Cipher   string `json:"cipher"`
	Verified string `json:"verified"`
	None     string `json:"none"`
	Wanted   string `json:"wanted"`
}

type wireStatus struct {
	Event       string `json:"event"`
	ID          string `json:"id"`
	Code        int    `json:"code"`
	Enhanced    string `json:"enhanced"`
	Reason      string `json:"reason"`
	Stage       string `json:"stage"`
	Attempt     int    `json:"attempt"`
	Repeated    bool   `json:"repeated"`
	NextAttempt string `json:"next_attempt"`
	RemoteID    string `json:"remote_id"`
	HeadersCut  bool   `json:"headers_cut"`
}

func (w *wireLine) record() (r Record, ok bool) {
	s := &w.Status
	p := lineParser{ok: true}
	r = Record{
		Time:        p.time(w.Time),
		NextHost:    p.ip(w.NextHost),
		User:        w.User,
		Client:      p.ip(w.Client),
		In:          p.tls(w.TLS.In),
		Out:         p.tls(w.TLS.Out),
		Sender:      w.Sender,
		HasSender:   w.Sender != "",
		Recipient:   w.Receiver,
		Subject:     w.Subject,
		Event:       name(&p, s.Event, ParseEvent),
		ID:          s.ID,
		Code:        s.Code,
		Enhanced:    p.enhanced(s.Enhanced),
		Reason:      name(&p, s.Reason, ParseReason),
		Stage:       name(&p, s.Stage, parseStage),
		Attempt:     s.Attempt,
		Repeated:    s.Repeated,
		NextAttempt: p.time(s.NextAttempt),
		RemoteID:    s.RemoteID,
		HeadersCut:  s.HeadersCut,
	}
	if r.Sender == "<>" {
		r.Sender = ""
	}
	for _, h := range w.Headers {
		r.Headers = append(r.Headers, HeaderField{h[0], h[1]})
	}
	return r, p.ok && !r.Time.IsZero() && r.Event != 0
}

// lineParser remembers whether all that it has read was right.
type lineParser struct{ ok bool }

func (p *lineParser) check(ok bool) { p.ok = p.ok && ok }

func (p *lineParser) time(s string) time.Time {
	if s == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	p.check(err == nil)
	return t.UTC()
}

func (p *lineParser) ip(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(s)
	p.check(err == nil)
	return ip
}

func name[T ~uint8 | ~uint16](p *lineParser, s string, parse func(string) (T, bool)) T {
	if s == "" {
		return 0
	}
	v, ok := parse(s)
	p.check(ok)
	return v
}

func parseStage(s string) (Stage, bool)       { return parseIn[Stage](stageTable[:], s) }
func parseVerified(s string) (Verified, bool) { return parseIn[Verified](verifiedTable[:], s) }
func parseNoTLS(s string) (NoTLS, bool)       { return parseIn[NoTLS](noTLSTable[:], s) }
func parseWanted(s string) (Wanted, bool)     { return parseIn[Wanted](wantedTable[:], s) }

func (p *lineParser) tls(w wireTLS) (t TLS) {
	if w.Version != "" {
		t.Version = versionID(w.Version)
		p.check(t.Version != 0)
	}
	if w.Cipher != "" {
		id, ok := cipherID(w.Cipher)
		p.check(ok)
		t.Cipher = id
	}
	t.Verified = name(p, w.Verified, parseVerified)
	t.None = name(p, w.None, parseNoTLS)
	t.Wanted = name(p, w.Wanted, parseWanted)
	return t
}

func (p *lineParser) enhanced(s string) (e [3]uint16) {
	if s == "" {
		return e
	}
	rest := s
	for i := range e {
		var part string
		part, rest, _ = strings.Cut(rest, ".")
		n, err := strconv.ParseUint(part, 10, 16)
		p.check(err == nil)
		e[i] = uint16(n)
	}
	p.check(rest == "")
	return e
}

// lineError tells where a faulty line stands.
func lineError(file string, offset int64) error {
	return fmt.Errorf("%w: %s, at octet %d", ErrLine, file, offset)
}
