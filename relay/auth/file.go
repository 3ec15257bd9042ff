package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName is the longest user name, in octets.
const MaxName = 128

// maxUsersFile is the largest users file that is read: some 100,000 users.
const maxUsersFile = 16 << 20

// CheckName says what is wrong with a user name: it is one to MaxName octets
// of valid UTF-8 without control, format or bidirectional characters, ":" and
// leading or trailing white space, and does not begin with "#".
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a user name must not be empty")
	case len(name) > MaxName:
		return fmt.Errorf("a user name has at most %d octets", MaxName)
	case !utf8.ValidString(name):
		return errors.New("a user name must be valid UTF-8")
	case strings.Contains(name, ":"):
		return errors.New("a user name must not contain \":\"")
	case strings.HasPrefix(name, "#"):
		return errors.New("a user name must not begin with \"#\"")
	case strings.TrimSpace(name) != name:
		return errors.New("a user name must not begin or end with white space")
	}
	for _, r := range name {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return errors.New("a user name must not contain control characters")
		}
	}
	return nil
}

// CheckFile returns the users of a users file in alphabetical order. The error
// joins all faults, each with its line number, none with a hash or an address.
func CheckFile(content []byte) ([]User, error) {
	accounts, err := parseFile(content)
	users := make([]User, 0, len(accounts))
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		user := User{Name: name}
		if rules := accounts[name].rules; rules != nil {
			user.Rules = *rules
		}
		users = append(users, user)
	}
	return users, err
}

// User is what the users file says of a user beside the password.
type User struct {
	Name  string
	Rules Rules
}

// account is a line of the users file.
type account struct {
	hash  hash
	rules *Rules // nil: none
}

// Name is the user that a line of the users file is about, empty for a
// comment and an empty line.
func Name(line string) string {
	line = strings.TrimSpace(line)
	if line == "" || strings.HasPrefix(line, "#") {
		return ""
	}
	name, _, _ := strings.Cut(line, ":")
	return name
}

// Line makes the line of a user, of a hash by NewHash.
func Line(name, hash string, r Rules) string {
	line := name + ":" + hash
	if text := r.String(); text != "" {
		line += ":" + text
	}
	return line
}

// SplitLine takes the line of a user apart.
func SplitLine(line string) (name, hash string, r Rules, err error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
	hash, rules, _ := strings.Cut(rest, ":")
	r, err = ParseRules(rules)
	return name, hash, r, err
}

func parseFile(content []byte) (map[string]account, error) {
	if len(content) > maxUsersFile {
		return nil, fmt.Errorf("the users file is larger than %d MB", maxUsersFile>>20)
	}
	users := make(map[string]account)
	var faults []error
	number := 0
	for line := range strings.Lines(string(content)) {
		number++
		name := Name(line)
		if name == "" {
			if strings.HasPrefix(strings.TrimSpace(line), ":") {
				faults = append(faults, fmt.Errorf("line %d: the user name is missing", number))
			}
			continue
		}
		_, text, found := strings.Cut(strings.TrimSpace(line), ":")
		text, ruleText, ruled := strings.Cut(text, ":")
		h, err := parseHash(text)
		rules, wrong := ParseRules(ruleText)
		switch _, twice := users[name]; {
		case !found:
			faults = append(faults, fmt.Errorf("line %d: want name:hash, as `tacet user add` writes it", number))
		case CheckName(name) != nil:
			faults = append(faults, fmt.Errorf("line %d: %w", number, CheckName(name)))
		case err != nil:
			faults = append(faults, fmt.Errorf("line %d: %w", number, err))
		case twice:
			faults = append(faults, fmt.Errorf("line %d: this user stands in the file twice", number))
		case wrong != nil:
			faults = append(faults, fmt.Errorf("line %d: %w", number, wrong))
		case ruled:
			users[name] = account{h, &rules}
		default:
			users[name] = account{hash: h}
		}
	}
	return users, errors.Join(faults...)
}
