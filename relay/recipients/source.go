package recipients

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Formats names what [Parse] reads.
func Formats() []string { return []string{"list", "postfix", "exim", "ldif"} }

// Parse reads the recipients out of a text of one of the formats. Names without a domain are
// of each of the domains; what is of another domain is left out.
//
//   - list: an address or "@domain" on each line.
//   - postfix: the source of a table, such as virtual_alias_maps, or what
//     `postmap -s` prints: the first word of each line, continued lines aside.
//   - exim: an aliases file, or another for lsearch: the key of each line.
//   - ldif: what ldapsearch prints: the value of each attribute that has an
//     "@" in it, with or without "smtp:" in front of it.
func Parse(format, text string, domains []string) ([]string, error) {
	if !slices.Contains(Formats(), format) {
		return nil, fmt.Errorf("there is no format %q: use one of %s", format, strings.Join(Formats(), ", "))
	}
	if format == "ldif" {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n ", "") // RFC 2849: folded lines
	}
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("this is no text: of a compiled map of Postfix (hash, btree, lmdb …) take what its own tool prints, such as \"postfix:|postmap -s lmdb:/etc/postfix/virtual\"")
	}
	var found []string
	for line := range strings.Lines(text) {
		found = appendEntry(found, entryOf(format, strings.TrimRight(line, "\r\n")), domains)
	}
	return found, nil
}

// appendEntry adds an address or name, if it is of the domains.
func appendEntry(found []string, entry string, domains []string) []string {
	switch at := strings.LastIndexByte(entry, '@'); {
	case entry == "":
	case entry == "*":
		for _, domain := range domains {
			found = append(found, "@"+domain)
		}
	case at < 0:
		for _, domain := range domains {
			found = append(found, entry+"@"+domain)
		}
	case among(entry[at+1:], domains):
		found = append(found, entry)
	}
	return found
}

// entryOf is the address or name of one line, empty if it has none.
func entryOf(format, line string) string {
	if format != "ldif" && (line == "" || line[0] == ' ' || line[0] == '\t' || line[0] == '#') {
		return "" // a comment, or the continuation of a line
	}
	switch format {
	case "postfix":
		key, _, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
		return key
	case "exim":
		return eximKey(line)
	case "ldif":
		return ldifValue(line)
	}
	return strings.TrimSpace(line)
}

// eximKey is the key of a line of an lsearch file: it ends at a colon or a blank, unless
// they are within quotes. "*" and "*@domain" are what is looked for last: they take all.
func eximKey(line string) string {
	key := ""
	if rest, quoted := strings.CutPrefix(line, `"`); quoted {
		key, _, _ = strings.Cut(rest, `"`)
	} else if key = line; strings.ContainsAny(line, ": \t") {
		key = line[:strings.IndexAny(line, ": \t")]
	}
	if rest, all := strings.CutPrefix(key, "*@"); all {
		return "@" + rest
	}
	return key
}

// ldifValue is the address in one attribute's line (RFC 2849).
func ldifValue(line string) string {
	name, value, found := strings.Cut(line, ":")
	if !found || strings.EqualFold(name, "dn") || strings.HasPrefix(line, "#") {
		return ""
	}
	if code, encoded := strings.CutPrefix(value, ":"); encoded {
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(code))
		if err != nil {
			return ""
		}
		value = string(b)
	}
	return directoryAddress(value)
}

// directoryAddress is the address in an attribute's value, empty if there is none.
func directoryAddress(value string) string {
	value = strings.TrimSpace(value)
	if len(value) > 5 && strings.EqualFold(value[:5], "smtp:") {
		value = value[5:] // proxyAddresses
	}
	if !strings.Contains(value, "@") || strings.ContainsAny(value, " \t:") {
		return ""
	}
	return value
}

func among(domain string, domains []string) bool {
	_, domain, _ = parts("@"+domain, Options{})
	return slices.ContainsFunc(domains, func(one string) bool {
		_, one, _ = parts("@"+one, Options{})
		return one == domain
	})
}
