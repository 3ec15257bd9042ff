package logging

import (
	"bytes"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
	"unsafe"
)

// parseCanonical reads a line as the encoder writes it: the keys of the schema
// in their order, no white space. It is many times faster than encoding/json,
// and gives up, with false, on anything else, escapes included; whoever asks
// then reads the line the slow way. Where it does not give up, both give the same.
func parseCanonical(raw []byte) (r Record, ok bool) {
	s := scanner{rest: raw, ok: true}
	s.lit(`{"time":`)
	r.Time = s.time()
	if s.key(`"next_host":`) {
		r.NextHost = s.ip()
	}
	if s.key(`"user":`) {
		r.User = s.text()
	}
	if s.key(`"client":`) {
		r.Client = s.ip()
	}
	if s.key(`"tls":{`) {
		if s.take(`"in":`) {
			r.In = s.tls()
			if s.take(`,"out":`) {
				r.Out = s.tls()
			}
		} else {
			s.lit(`"out":`)
			r.Out = s.tls()
		}
		s.lit(`}`)
	}
	if s.key(`"sender":`) {
		r.Sender = s.text()
		r.HasSender = r.Sender != ""
		if r.Sender == "<>" {
			r.Sender = ""
		}
	}
	if s.key(`"recipient":`) {
		r.Recipient = s.text()
	}
	if s.key(`"subject":`) {
		r.Subject = s.text()
	}
	s.lit(`,"status":`)
	s.status(&r)
	if s.key(`"headers":[`) {
		s.headers(&r)
	}
	s.lit(`}`)
	return r, s.ok && len(s.rest) == 0 && r.Event != 0 && !r.Time.IsZero()
}

// scanner reads a line from the front; once it does not fit, ok is false.
type scanner struct {
	rest []byte
	ok   bool
}

func (s *scanner) take(lit string) bool {
	if len(s.rest) >= len(lit) && string(s.rest[:len(lit)]) == lit {
		s.rest = s.rest[len(lit):]
		return true
	}
	return false
}

func (s *scanner) lit(lit string) { s.ok = s.take(lit) && s.ok }

// key takes a comma and the key, if they come next.
func (s *scanner) key(key string) bool {
	if len(s.rest) > len(key) && s.rest[0] == ',' && string(s.rest[1:1+len(key)]) == key {
		s.rest = s.rest[1+len(key):]
		return true
	}
	return false
}

// raw takes a string without escapes, which is part of the line.
func (s *scanner) raw() []byte {
	if len(s.rest) == 0 || s.rest[0] != '"' {
		s.ok = false
		return nil
	}
	end := bytes.IndexByte(s.rest[1:], '"')
	if end < 0 {
		s.ok = false
		return nil
	}
	text := s.rest[1 : 1+end]
	s.rest = s.rest[end+2:]
	ascii := true
	for _, c := range text {
		if c == '\\' || c < ' ' {
			s.ok = false
			return nil
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	s.ok = s.ok && (ascii || utf8.Valid(text))
	return text
}

func (s *scanner) text() string { return string(s.raw()) }

// look is a text that is only looked at and not kept.
func (s *scanner) look() string {
	text := s.raw()
	return unsafe.String(unsafe.SliceData(text), len(text))
}

func (s *scanner) ip() netip.Addr {
	ip, err := netip.ParseAddr(s.look())
	s.ok = s.ok && err == nil
	return ip
}

// time takes "2006-01-02T15:04:05.000000Z".
func (s *scanner) time() time.Time {
	text := s.raw()
	if len(text) != len(timeLayout) || text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' ||
		text[16] != ':' || text[19] != '.' || text[26] != 'Z' {
		s.ok = false
		return time.Time{}
	}
	number := func(from, to int) (n int) {
		for _, c := range text[from:to] {
			if c < '0' || c > '9' {
				s.ok = false
			}
			n = 10*n + int(c-'0')
		}
		return n
	}
	year, month, day := number(0, 4), number(5, 7), number(8, 10)
	hour, minute, second := number(11, 13), number(14, 16), number(17, 19)
	t := time.Date(year, time.Month(month), day, hour, minute, second, 1000*number(20, 26), time.UTC)
	y, m, d := t.Date() // what does not exist was carried over
	s.ok = s.ok && y == year && int(m) == month && d == day && hour < 24 && minute < 60 && second < 60
	return t
}

// number takes 1 to 9,999,999 without a leading zero, which JSON has not (RFC 8259, 6).
func (s *scanner) number() (n int) {
	digits := 0
	if len(s.rest) > 0 && s.rest[0] == '0' {
		s.ok = false
	}
	for len(s.rest) > 0 && s.rest[0] >= '0' && s.rest[0] <= '9' {
		n = 10*n + int(s.rest[0]-'0')
		s.rest = s.rest[1:]
		digits++
	}
	s.ok = s.ok && n > 0 && digits < 8
	return n
}

func scanName[T ~uint8 | ~uint16](s *scanner, table []string) T {
	v, ok := parseIn[T](table, s.look())
	s.ok = s.ok && ok
	return v
}

func (s *scanner) tls() (t TLS) {
	s.lit(`{`)
	if s.take(`"none":`) {
		t.None = scanName[NoTLS](s, noTLSTable[:])
	} else {
		s.lit(`"version":`)
		t.Version = versionID(s.look())
		s.ok = s.ok && t.Version != 0
		if s.key(`"cipher":`) {
			id, ok := cipherID(s.look())
			s.ok = s.ok && ok
			t.Cipher = id
		}
		if s.key(`"verified":`) {
			t.Verified = scanName[Verified](s, verifiedTable[:])
		}
	}
	if s.key(`"wanted":`) {
		t.Wanted = scanName[Wanted](s, wantedTable[:])
	}
	s.lit(`}`)
	return t
}

func (s *scanner) status(r *Record) {
	s.lit(`{"event":`)
	r.Event = scanName[Event](s, eventTable[:])
	if s.key(`"id":`) {
		r.ID = s.text()
	}
	if s.key(`"code":`) {
		r.Code = s.number()
	}
	if s.key(`"enhanced":`) {
		text := s.look()
		p := lineParser{ok: text != "" && !strings.ContainsAny(text, "+_")}
		r.Enhanced = p.enhanced(text)
		s.ok = s.ok && p.ok
	}
	if s.key(`"reason":`) {
		name := s.look()
		reason, ok := ParseReason(name)
		r.Reason = reason
		s.ok = s.ok && ok
	}
	if s.key(`"stage":`) {
		r.Stage = scanName[Stage](s, stageTable[:])
	}
	if s.key(`"attempt":`) {
		r.Attempt = s.number()
	}
	r.Repeated = s.key(`"repeated":true`)
	if s.key(`"next_attempt":`) {
		r.NextAttempt = s.time()
	}
	if s.key(`"remote_id":`) {
		r.RemoteID = s.text()
	}
	r.HeadersCut = s.key(`"headers_cut":true`)
	s.lit(`}`)
}

func (s *scanner) headers(r *Record) {
	for s.ok {
		s.lit(`[`)
		name := s.text()
		s.lit(`,`)
		r.Headers = append(r.Headers, HeaderField{name, s.text()})
		s.lit(`]`)
		if !s.take(`,`) {
			break
		}
	}
	s.lit(`]`)
}
