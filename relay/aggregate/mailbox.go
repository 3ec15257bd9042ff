package aggregate

import (
	"net/url"
	"strings"
)

// Mailbox is the mailbox of a mailto URI, if that has one that is plain: a dot-string of
// ASCII at a domain (RFC 5321 §4.1.2). Whoever wants reports elsewhere has another.
func Mailbox(u *url.URL) (mailbox string, ok bool) {
	if !strings.EqualFold(u.Scheme, "mailto") {
		return "", false
	}
	mailbox, err := url.PathUnescape(u.Opaque)
	return mailbox, err == nil && plain(mailbox)
}

func plain(s string) bool {
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
