package tlsrpt

import (
	"net/url"
	"strings"
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
		switch strings.ToLower(u.Scheme) {
		case "mailto":
			if to, err := url.PathUnescape(u.Opaque); err == nil && isMailbox(to) {
				found = append(found, target{mail: to})
			}
		case "https":
			if u.User == nil && u.Hostname() != "" && (u.Port() == "" || u.Port() == "443") {
				found = append(found, target{web: u.String()})
			}
		}
	}
	return found
}

// isMailbox tells whether s is a plain mailbox: a dot-string of ASCII at a
// domain (RFC 5321 §4.1.2). Whoever wants reports elsewhere has another.
func isMailbox(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || len(local) > 64 || domain == "" || len(s) > 254 {
		return false
	}
	for part := range strings.SplitSeq(local, ".") {
		if part == "" || strings.Trim(strings.ToLower(part), "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~") != "" {
			return false
		}
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}
