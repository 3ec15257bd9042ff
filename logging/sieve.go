package logging

import (
	"bytes"
	"net/netip"
	"strings"
	"time"
)

// sieve tells of raw lines, without parsing them, which ones cannot pass a
// filter. What it lets through is parsed and asked again.
type sieve struct {
	groups       []needles // a line must have one of each
	fold         bool      // some of them without regard to case
	ids          map[string]bool
	since, until string // in the form of a line's time; empty: no bound
}

// needles are octets of which a line must have one.
type needles struct {
	any  [][]byte
	fold bool // regardless of case; they are in lower case then
}

// found tells whether the text has one of them; lower is the same text in lower case.
func (n *needles) found(text, lower []byte) bool {
	if n.fold {
		text = lower
	}
	for _, needle := range n.any {
		if bytes.Contains(text, needle) {
			return true
		}
	}
	return false
}

const timeKey = `{"time":"`

func (f *Filter) sieve() *sieve {
	s := &sieve{ids: f.ids}
	if !f.Since.IsZero() {
		s.since = f.Since.UTC().Add(-time.Microsecond).Format(timeLayout)
	}
	if !f.Until.IsZero() {
		s.until = f.Until.UTC().Add(time.Microsecond).Format(timeLayout)
	}
	var events, reasons [][]byte
	for _, e := range f.Events {
		events = append(events, []byte(`"event":"`+e.String()+`"`))
	}
	for _, r := range f.Reasons {
		reasons = append(reasons, []byte(`"reason":"`+r.String()+`"`))
	}
	s.add(false, events...)
	s.add(false, reasons...)
	if f.ID != "" && token(f.ID) {
		s.add(true, []byte(`id":"`+strings.ToLower(f.ID)+`"`))
	}
	for _, pattern := range []string{f.Sender, f.Recipient, f.Address, f.User} {
		if needle := needleOf(pattern); needle != nil {
			s.add(true, needle)
		}
	}
	if f.person != nil {
		f.person.sieve(s)
	}
	s.addHost(`"next_host":"`, f.NextHost)
	s.addHost(`"client":"`, f.Client)
	return s
}

func (s *sieve) add(fold bool, any ...[]byte) {
	if len(any) == 0 {
		return
	}
	// The first group is looked for in whole pieces: best one that few lines have.
	group := needles{any, fold}
	if fold && !s.fold {
		s.groups = append([]needles{group}, s.groups...)
	} else {
		s.groups = append(s.groups, group)
	}
	s.fold = s.fold || fold
}

func (s *sieve) addHost(key string, p netip.Prefix) {
	if p.IsValid() && p.IsSingleIP() {
		s.add(false, []byte(key+p.Addr().Unmap().WithZone("").String()+`"`))
	}
}

// needleOf gives the longest run of a pattern that stands in a line as it does
// in the pattern, in lower case; nil if there is none.
func needleOf(pattern string) []byte {
	best, begin := "", 0
	for i := 0; i <= len(pattern); i++ {
		if i < len(pattern) && pattern[i] < 0x7f && pattern[i] >= ' ' && pattern[i] != '"' && pattern[i] != '\\' {
			continue
		}
		if i-begin > len(best) {
			best = pattern[begin:i]
		}
		begin = i + 1
	}
	if best == "" {
		return nil
	}
	return []byte(strings.ToLower(best))
}

// lines gives the lines of a piece that may pass, and where each begins in it.
func (s *sieve) lines(piece []byte, yield func(raw []byte, at int) bool) {
	var lower []byte
	if s.fold {
		lower = appendLower(make([]byte, 0, len(piece)), piece)
	}
	for i := range s.groups {
		if !s.groups[i].found(piece, lower) {
			return
		}
	}
	for at := 0; at < len(piece); {
		if len(s.groups) > 0 && len(s.groups[0].any) == 1 {
			hit := s.groups[0].next(piece, lower, at)
			if hit < 0 {
				return
			}
			at = bytes.LastIndexByte(piece[at:hit], '\n') + 1 + at
		}
		end := bytes.IndexByte(piece[at:], '\n')
		next := at + end + 1
		if end < 0 {
			end, next = len(piece)-at, len(piece)
		}
		raw := piece[at : at+end]
		var low []byte
		if s.fold {
			low = lower[at : at+end]
		}
		if s.passes(raw, low) && !yield(raw, at) {
			return
		}
		at = next
	}
}

// next finds the needle, of which there is one, from the offset on.
func (n *needles) next(piece, lower []byte, from int) int {
	if n.fold {
		piece = lower
	}
	i := bytes.Index(piece[from:], n.any[0])
	if i < 0 {
		return i
	}
	return from + i
}

func (s *sieve) passes(raw, lower []byte) bool {
	if len(bytes.TrimSpace(raw)) == 0 {
		return false
	}
	if s.ids != nil && !s.ids[idOf(raw)] {
		return false
	}
	if (s.since != "" || s.until != "") && len(raw) > len(timeKey)+len(timeLayout) && string(raw[:len(timeKey)]) == timeKey {
		at := string(raw[len(timeKey) : len(timeKey)+len(timeLayout)])
		if s.since != "" && at < s.since || s.until != "" && at > s.until {
			return false
		}
	}
	for i := range s.groups {
		if !s.groups[i].found(raw, lower) {
			return false
		}
	}
	return true
}

// idOf gives the queue ID of a line. Within texts a quotation mark is escaped,
// so that the key stands in one place only.
func idOf(raw []byte) string {
	const key = `"id":"`
	_, rest, ok := bytes.Cut(raw, []byte(key))
	if !ok {
		return ""
	}
	id, _, _ := bytes.Cut(rest, []byte{'"'})
	return string(id)
}

// appendLower appends text with its ASCII letters in lower case.
func appendLower(dst, text []byte) []byte {
	dst = append(dst, text...)
	tail := dst[len(dst)-len(text):]
	for i, c := range tail {
		if c-'A' < 26 {
			tail[i] = c + 'a' - 'A'
		}
	}
	return dst
}
