package content

import (
	"html"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	nethtml "golang.org/x/net/html"

	"tacet/relay"
)

// LinkForm tells what of a link a list of hashes knows it by. Neither has the query, the
// fragment or what stands before an "@".
type LinkForm uint8

// The forms of a link.
const (
	HostPath LinkForm = iota // "host/Path", percent signs undone: Spamhaus's own rspamd module
	WholeURL                 // "https://host/path", in lower case: SpamAssassin's HashBL
)

// maxLink is the longest link that is looked at, and maxLinksSeen how many of a message are.
const (
	maxLink      = 2048
	maxLinksSeen = 1000
)

// linkDigests are the digests of the links in the texts of a message, each once, at most
// so many of them, by chance which.
func linkDigests(parts []Part, form LinkForm, most int) []relay.Digest {
	seen := make(map[string]bool)
	for i := range parts {
		if !strings.HasPrefix(parts[i].Type, "text/") {
			continue
		}
		for link := range links(&parts[i]) {
			if len(seen) == maxLinksSeen {
				break
			}
			if normal, ok := normalLink(link, form); ok {
				seen[normal] = true
			}
		}
	}
	var digests []relay.Digest
	for link := range seen {
		d := relay.NewDigester()
		_, _ = d.Write([]byte(link))
		digests = append(digests, d.Digest())
	}
	return sample(digests, most)
}

// sample is at most so many of the digests: if who wrote the message could tell which,
// there would be a place to hide in.
func sample(digests []relay.Digest, most int) []relay.Digest {
	rand.Shuffle(len(digests), func(i, j int) { digests[i], digests[j] = digests[j], digests[i] })
	return digests[:min(most, len(digests))]
}

// links finds the links of a text: in HTML in the attributes that lead somewhere, and
// in any text where a mail client would see one.
func links(p *Part) func(yield func(string) bool) {
	text := decodeText(p)
	return func(yield func(string) bool) {
		if p.Type != "text/html" {
			plainLinks(text, yield)
			return
		}
		z := nethtml.NewTokenizer(strings.NewReader(text))
		for {
			switch z.Next() {
			case nethtml.ErrorToken:
				return
			case nethtml.TextToken:
				if !plainLinks(html.UnescapeString(string(z.Raw())), yield) {
					return
				}
			case nethtml.StartTagToken, nethtml.SelfClosingTagToken:
				for _, more := z.TagName(); more; {
					var name, value []byte
					name, value, more = z.TagAttr()
					if slices.Contains([]string{"href", "src", "action", "background", "formaction"}, string(name)) &&
						!yield(strings.Map(notBreak, strings.TrimSpace(string(value)))) {
						return
					}
				}
			}
		}
	}
}

// notBreak leaves out what browsers leave out of an attribute's URL.
func notBreak(r rune) rune {
	if r == '\n' || r == '\r' || r == '\t' {
		return -1
	}
	return r
}

// plainLinks yields what begins like a link, up to the first blank, quote or bracket.
func plainLinks(text string, yield func(string) bool) bool {
	for {
		begin, mark := nextLink(text)
		if begin < 0 {
			return true
		}
		text = text[begin:]
		reach := text[:min(len(text), maxLink+1)]
		end := strings.IndexFunc(reach, func(r rune) bool { return r <= ' ' || strings.ContainsRune("\"'<>`{}|^\u00a0\u201c\u201d", r) })
		if end < 0 {
			end = len(reach)
		}
		link := strings.TrimRight(text[:end], ".,;:!?)]*")
		if !yield(link) {
			return false
		}
		text = text[max(mark, end):]
	}
}

// nextLink is where the next link begins, and how long the mark is that tells it.
func nextLink(text string) (begin, mark int) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case 'h', 'H':
			for _, scheme := range []string{"http://", "https://"} {
				if len(text)-i >= len(scheme) && strings.EqualFold(text[i:i+len(scheme)], scheme) {
					return i, len(scheme)
				}
			}
		case 'w', 'W':
			if len(text)-i > 4 && strings.EqualFold(text[i:i+4], "www.") && (i == 0 || !wordOctet(text[i-1])) {
				return i, 4
			}
		}
	}
	return -1, 0
}

func wordOctet(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || strings.IndexByte("-_.@/", c) >= 0 || c >= 0x80
}

// normalLink is a link in the form that it is hashed in. False are those that are not
// asked about: without a path, since a digest of a mere host is as good as its name; with an
// address in it; at a host inside; and what is no link of the web.
func normalLink(link string, form LinkForm) (string, bool) {
	if len(link) > maxLink {
		return "", false
	}
	scheme, rest, found := strings.Cut(link, ":")
	switch scheme = strings.ToLower(scheme); {
	case found && (scheme == "http" || scheme == "https"):
		rest = strings.TrimLeft(rest, "/\\")
	case strings.HasPrefix(strings.ToLower(link), "www."):
		scheme, rest = "http", link
	default:
		return "", false
	}
	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end]
	}
	rest = strings.ReplaceAll(rest, "\\", "/") // as browsers do
	authority, path, _ := strings.Cut(rest, "/")
	host, ok := linkHost(authority[strings.LastIndexByte(authority, '@')+1:], scheme)
	plain := unescaped(path)
	if !ok || plain == "" || strings.Contains(plain, "@") || strings.ContainsFunc(plain, func(r rune) bool { return r < ' ' }) {
		return "", false
	}
	if form == WholeURL {
		return strings.ToLower(scheme + "://" + host + "/" + path), true
	}
	return host + "/" + plain, true
}

// linkHost is a host in lower case with its port, unless that is the scheme's own.
func linkHost(s, scheme string) (string, bool) {
	host, port, found := strings.Cut(s, ":")
	host = Domain(unescaped(host))
	if ip, err := netip.ParseAddr(host); err == nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()) {
		return "", false
	}
	if !strings.Contains(host, ".") || strings.Trim(port, "0123456789") != "" || len(port) > 5 {
		return "", false
	}
	if found && port != "" && port != map[string]string{"http": "80", "https": "443"}[scheme] {
		host += ":" + port
	}
	return host, true
}

// unescaped undoes the percent signs that have two hexadecimal digits behind them.
func unescaped(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && hexValue(s[i+1]) >= 0 && hexValue(s[i+2]) >= 0 {
			b = append(b, byte(hexValue(s[i+1])<<4|hexValue(s[i+2])))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}
