package auth

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const goodHash = "$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func TestCheckFile(t *testing.T) {
	for _, test := range []struct{ name, content, fault string }{
		{"empty", "", ""},
		{"comments", "# a\n\n  # b\n", ""},
		{"one", "anna:" + goodHash + "\n", ""},
		{"no final line end", "anna:" + goodHash, ""},
		{"CRLF", "anna:" + goodHash + "\r\nbob:" + goodHash + "\r\n", ""},
		{"no hash", "anna\n", "line 1: want name:hash"},
		{"no name", "# a\n:" + goodHash, "line 2: the user name is missing"},
		{"plain password", "anna:secret", "line 1: want $argon2id"},
		{"crypt", "anna:$6$salt$hash", "line 1: want $argon2id"},
		{"argon2i", "anna:" + strings.Replace(goodHash, "argon2id", "argon2i", 1), "line 1: want $argon2id"},
		{"other version", "anna:" + strings.Replace(goodHash, "v=19", "v=16", 1), "line 1: want $argon2id"},
		{"bad parameters", "anna:" + strings.Replace(goodHash, "m=8", "m=x", 1), "line 1: want $argon2id"},
		{"no time", "anna:" + strings.Replace(goodHash, "t=1", "t=0", 1), "line 1: want $argon2id"},
		{"no lanes", "anna:" + strings.Replace(goodHash, "p=1", "p=0", 1), "line 1: want $argon2id"},
		{"too much memory", "anna:" + strings.Replace(goodHash, "m=8", "m=4000000", 1), "line 1: the hash costs too much"},
		{"too many passes", "anna:" + strings.Replace(goodHash, "t=1", "t=1000", 1), "line 1: the hash costs too much"},
		{"short key", "anna:" + strings.TrimRight(goodHash, "A") + "AAAA", "line 1: want $argon2id"},
		{"bad base64", "anna:" + strings.Replace(goodHash, "AAAA", "A!AA", 1), "line 1: want $argon2id"},
		{"twice", "anna:" + goodHash + "\nanna:" + goodHash, "line 2: this user stands in the file twice"},
		{"bidi name", "an\u202ena:" + goodHash, "line 1: a user name must not contain control"},
		{"long name", strings.Repeat("a", 129) + ":" + goodHash, "line 1: a user name has at most 128"},
		{"all faults", "anna\nbob:x\ncarl:" + goodHash, "line 1: want name:hash, as `tacet user add` writes it\nline 2: want $argon2id"},
		{"too large", strings.Repeat("#", maxUsersFile+1), "the users file is larger"},
	} {
		_, err := CheckFile([]byte(test.content))
		if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.fault)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"anna", "anna@example.org", "a b", "Жанна", "-", "名前", strings.Repeat("a", MaxName)} {
		if err := CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", " anna", "anna\t", "a:b", "#anna", "a\nb", "a\x00b", "a\x7fb", "a\u0085b", "a\u2028b", "a\u200fb", "\xff", strings.Repeat("a", MaxName+1)} {
		if err := CheckName(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// What CheckName lets through comes back from the file as it was.
func TestNamesSurviveTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Filter(func(s string) bool { return CheckName(s) == nil }).Draw(t, "name")
		names, err := CheckFile([]byte("# first\n" + name + ":" + goodHash + "\n"))
		if err != nil || len(names) != 1 || names[0].Name != name {
			t.Fatalf("got %q, %v", names, err)
		}
	})
}

func TestHashMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.SliceOf(rapid.Byte()).Draw(t, "password")
		other := rapid.SliceOf(rapid.Byte()).Draw(t, "other")
		h, err := parseHash(NewHash(password, cheap()))
		if err != nil {
			t.Fatal(err)
		}
		if !h.matches(password) {
			t.Fatal("the password does not match its own hash")
		}
		if string(other) != string(password) && h.matches(other) {
			t.Fatal("another password matches")
		}
	})
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte("anna:" + goodHash + "\n# x\n"))
	f.Add([]byte("anna:$argon2id$v=19$m=8,t=1,p=1$$\n:\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		users, err := parseFile(content)
		for name, h := range users {
			if CheckName(name) != nil {
				t.Errorf("a user %q", name)
			}
			if p := h.hash.params; p.Memory > maxMemory || p.Time > maxTime || p.Threads > maxThreads || p.Time == 0 || p.Threads == 0 {
				t.Errorf("a cost of %+v", p)
			}
		}
		if err != nil && strings.Contains(err.Error(), "AAAAAAAA") {
			t.Errorf("a fault shows a hash: %v", err)
		}
	})
}
