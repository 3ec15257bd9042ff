package dmarcrpt

import (
	"math"
	"net/url"
	"strconv"
	"strings"

	"tacet/relay/aggregate"
)

// maxTargets is how many addresses of a record are sent to.
const maxTargets = 4

// target is where a domain wants its reports.
type target struct {
	mail string // a mailbox
	most int64  // octets of a report
}

// host is the domain of the mailbox.
func (t target) host() string { return strings.ToLower(t.mail[strings.LastIndexByte(t.mail, '@')+1:]) }

// isDMARC tells whether a TXT record is one of DMARC.
func isDMARC(text string) bool {
	version, _, _ := strings.Cut(text, ";")
	name, value, _ := strings.Cut(version, "=")
	return strings.TrimSpace(name) == "v" && strings.TrimSpace(value) == "DMARC1"
}

// parseRecord reads where reports go (RFC 9989 §4.7, tag rua). More than one record is as good as none.
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
		for tag := range strings.SplitSeq(record, ";") {
			if name, list, _ := strings.Cut(tag, "="); strings.TrimSpace(name) == "rua" && found == nil {
				found = parseTargets(list)
			}
		}
	}
	return found
}

func parseTargets(list string) (found []target) {
	for text := range strings.SplitSeq(list, ",") {
		text, most := cutSize(strings.TrimSpace(text))
		u, err := url.Parse(text)
		if err != nil || len(found) == maxTargets {
			continue
		}
		if to, ok := aggregate.Mailbox(u); ok {
			found = append(found, target{to, most})
		}
	}
	return found
}

// cutSize takes the limit of older records, "!10m", off a URI.
func cutSize(text string) (uri string, most int64) {
	uri, size, found := strings.Cut(text, "!")
	if !found {
		return text, math.MaxInt64
	}
	shift := 0
	if i := strings.IndexAny(size, "kmgtKMGT"); i >= 0 && i == len(size)-1 {
		shift = 10 * (1 + strings.IndexByte("kmgt", size[i]|0x20))
		size = size[:i]
	}
	n, err := strconv.ParseUint(size, 10, 20)
	if err != nil {
		return uri, math.MaxInt64
	}
	return uri, int64(n) << shift
}
