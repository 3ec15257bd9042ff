package dmarcrpt

import (
	"net/url"
	"slices"
	"strings"

	"tacet/relay/aggregate"
)

// maxTargets is how many addresses of a record are sent to.
const maxTargets = 4

// target is where a domain wants its reports: a mailbox.
type target string

// host is the domain of the mailbox.
func (t target) host() string {
	return strings.ToLower(string(t[strings.LastIndexByte(string(t), '@')+1:]))
}

// isDMARC tells whether a TXT record is one of DMARC.
func isDMARC(text string) bool {
	version, _, _ := strings.Cut(text, ";")
	name, value, _ := strings.Cut(version, "=")
	return strings.TrimSpace(name) == "v" && strings.TrimSpace(value) == "DMARC1"
}

// parseRecord reads where reports go. More than one record is as good as none.
func parseRecord(records []string) (found []target) {
	seen := false
	for _, record := range records {
		if !isDMARC(record) {
			continue
		}
		if seen {
			return nil
		}
		seen = true
		found, _ = parseTargets(record)
	}
	return found
}

// parseTargets reads the tag rua of a record (RFC 9989 §4.7), if it is there. The limits of size that URIs once had
// ("!10m") no longer count.
func parseTargets(record string) (found []target, there bool) {
	for tag := range strings.SplitSeq(record, ";") {
		name, list, _ := strings.Cut(tag, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "rua") {
			continue
		}
		for text := range strings.SplitSeq(list, ",") {
			text, _, _ = strings.Cut(strings.TrimSpace(text), "!")
			u, err := url.Parse(text)
			if err != nil || len(found) == maxTargets {
				continue
			}
			if to, ok := aggregate.Mailbox(u); ok {
				found = append(found, target(to))
			}
		}
		return found, true
	}
	return nil, false
}

// override is where a host that is asked whether it takes reports for another domain wants those that were to go to
// t: there, or at other mailboxes of its own. One that names another host gets none (RFC 9990 §4).
func override(t target, records []string) (instead []target) {
	for _, record := range records {
		if !isDMARC(record) {
			continue
		}
		named, there := parseTargets(record)
		if !there {
			instead = []target{t}
			continue
		}
		if slices.ContainsFunc(named, func(n target) bool { return n.host() != t.host() }) {
			return nil
		}
		return named
	}
	return instead
}
