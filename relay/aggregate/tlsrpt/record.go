package tlsrpt

import (
	"net/url"
	"strings"

	"tacet/relay/aggregate"
)

// maxTargets is how many addresses of a record are sent to.
const maxTargets = 4

// target is where a domain wants its reports: one of the two.
type target struct {
	mail string // a mailbox
	web  string // a URL
}

// parseRecord reads the TXT records at _smtp._tls (RFC 8460 §3). More than
// one of the version is as good as none, and so is one that names no use of reports.
func parseRecord(records []string) []target {
	var found []target
	seen := false
	for _, record := range records {
		version, fields, _ := strings.Cut(record, ";")
		if strings.TrimRight(version, " \t") != "v=TLSRPTv1" {
			continue
		}
		if seen {
			return nil
		}
		seen = true
		for field := range strings.SplitSeq(fields, ";") {
			if list, ok := strings.CutPrefix(strings.Trim(field, " \t"), "rua="); ok && found == nil {
				found = parseTargets(list)
			}
		}
	}
	return found
}

func parseTargets(list string) []target {
	var found []target
	for text := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.Trim(text, " \t"))
		if err != nil || len(found) == maxTargets {
			continue
		}
		if to, ok := aggregate.Mailbox(u); ok {
			found = append(found, target{mail: to})
		} else if u.Scheme == "https" && u.User == nil && u.Hostname() != "" && (u.Port() == "" || u.Port() == "443") {
			found = append(found, target{web: u.String()})
		}
	}
	return found
}
