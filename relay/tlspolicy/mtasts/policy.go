package mtasts

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode is what senders are to do where a host does not meet the policy.
type Mode uint8

// The modes (RFC 8461 §5).
const (
	ModeNone    Mode = iota // as if there were no policy
	ModeTesting             // deliver, and report
	ModeEnforce             // don't deliver
)

// String is the mode's name in a policy.
func (m Mode) String() string { return modes[m] }

var modes = [...]string{ModeNone: "none", ModeTesting: "testing", ModeEnforce: "enforce"}

// Policy is an MTA-STS policy. It is never changed.
type Policy struct {
	Mode   Mode
	MX     []string // patterns of hosts, in lower case: a name, or "*." and a name
	MaxAge time.Duration
	Text   []string // its lines as they were fetched
}

// The limits of a policy.
const (
	maxPolicy = 64 << 10                 // octets (RFC 8461 §3.3)
	maxMX     = 500                      // patterns
	maxAge    = 31_557_600 * time.Second // RFC 8461 §3.2
	minAge    = 5 * time.Minute          // less is taken as this, for else each message would fetch
)

var errPolicy = errors.New("the document is no MTA-STS policy")

// parsePolicy reads the document of RFC 8461 §3.2.
func parsePolicy(text string) (*Policy, error) {
	p := &Policy{}
	given := make(map[string]bool)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\r\n")
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f || r == '�' }) {
			return nil, errPolicy
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			if line == "" {
				continue
			}
			return nil, errPolicy
		}
		if key = strings.TrimSpace(key); given[key] && key != "mx" {
			continue // only the first counts (RFC 8461 §3.2)
		}
		given[key] = true
		if !p.set(key, strings.TrimSpace(value)) {
			return nil, errPolicy
		}
		p.Text = append(p.Text, line)
	}
	if !given["version"] || !given["mode"] || !given["max_age"] || len(p.MX) == 0 && p.Mode != ModeNone {
		return nil, errPolicy
	}
	return p, nil
}

// set takes one field. One that is not known is passed over.
func (p *Policy) set(key, value string) bool {
	switch key {
	case "version":
		return value == "STSv1"
	case "mode":
		mode := slices.Index(modes[:], value)
		p.Mode = Mode(max(mode, 0))
		return mode >= 0
	case "max_age":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || len(value) > 10 { // RFC 8461 §3.2: at most ten digits
			return false
		}
		p.MaxAge = min(max(time.Duration(min(n, 1<<32))*time.Second, minAge), maxAge)
	case "mx":
		pattern := strings.ToLower(strings.TrimSuffix(value, "."))
		if !isName(strings.TrimPrefix(pattern, "*.")) || len(p.MX) == maxMX {
			return false
		}
		p.MX = append(p.MX, pattern)
	}
	return true
}

// isName tells whether s is a host name of letters, digits and hyphens.
func isName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// Allows tells whether a pattern covers the host, a name in lower case. The
// star stands for exactly one label (RFC 8461 §4.1).
func (p *Policy) Allows(host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(p.MX, func(pattern string) bool {
		wild, ok := strings.CutPrefix(pattern, "*.")
		return pattern == host || ok && wild == parent && host[0] != '.'
	})
}

// parseRecord reads the id out of the TXT records at _mta-sts. More than one
// record of the version is as good as none (RFC 8461 §3.1).
func parseRecord(records []string) (id string, ok bool) {
	for _, record := range records {
		version, fields, _ := strings.Cut(record, ";")
		if strings.TrimRight(version, " \t") != "v=STSv1" {
			continue
		}
		if ok {
			return "", false
		}
		ok = true
		for field := range strings.SplitSeq(fields, ";") {
			if value, is := strings.CutPrefix(strings.Trim(field, " \t"), "id="); is && id == "" {
				id = value
			}
		}
	}
	return id, ok && isID(id)
}

// isID tells whether s is the id of a policy: 1 to 32 letters and digits.
func isID(s string) bool {
	return len(s) >= 1 && len(s) <= 32 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") == ""
}
