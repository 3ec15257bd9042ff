package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tacet/relay"
)

// cheap is a cost that lets a test hash many passwords.
func cheap() Params { return Params{Memory: 8, Time: 1, Threads: 1} }

// users opens a file with the lines given.
func users(t *testing.T, lines ...string) *Users {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	rewrite(t, path, lines...)
	u, err := Open(path, Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func rewrite(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func line(user, password string) string { return user + ":" + NewHash([]byte(password), cheap()) }

// refused checks that err is the rejection with the code.
func refused(t *testing.T, err error, code int) *relay.Rejection {
	t.Helper()
	r, ok := errors.AsType[*relay.Rejection](err)
	if !ok || r.Code != code {
		t.Fatalf("got %v, want a rejection with %d", err, code)
	}
	return r
}

func TestAuthenticate(t *testing.T) {
	u := users(t, "# who may submit", "", line("anna", "secret"), line("Бob", "pässwörd"), line("a b", "x"))
	if u.Len() != 3 {
		t.Errorf("there are %d users, want 3", u.Len())
	}
	for _, right := range [][2]string{{"anna", "secret"}, {"Бob", "pässwörd"}, {"a b", "x"}} {
		for range 2 { // hashed, then remembered
			if known, err := u.Authenticate(t.Context(), right[0], right[1]); !known || err != nil {
				t.Errorf("%q: known %v, %v", right[0], known, err)
			}
		}
	}
	for _, wrong := range []struct {
		user, password string
		known          bool
	}{
		{"anna", "Secret", true},
		{"anna", "", true},
		{"anna", "secret\x00", true},
		{"anna", strings.Repeat("secret", 1000), true},
		{"Anna", "secret", false},
		{"anna ", "secret", false},
		{"", "", false},
		{"", "secret", false},
		{"*)(uid=*", "secret", false},
		{"' OR 1=1--", "secret", false},
		{"anna:secret", "", false},
		{"anna\nbob", "secret", false},
		{"# who may submit", "", false},
		{"\xff\xfe", "x", false},
		{strings.Repeat("a", 1<<20), "x", false},
	} {
		known, err := u.Authenticate(t.Context(), wrong.user, wrong.password)
		if known != wrong.known {
			t.Errorf("%.20q, %.20q: known %v", wrong.user, wrong.password, known)
		}
		r := refused(t, err, 535)
		if r.Class != relay.ClassAuth || r.Close {
			t.Errorf("%.20q: %+v", wrong.user, r)
		}
	}
}

// Whoever fails reads the same, whatever the cause.
func TestFailuresAreAlike(t *testing.T) {
	u := users(t, line("anna", "secret"))
	_, wrongPassword := u.Authenticate(t.Context(), "anna", "wrong")
	_, unknownUser := u.Authenticate(t.Context(), "nobody", "wrong")
	a, b := refused(t, wrongPassword, 535), refused(t, unknownUser, 535)
	if *a != *b {
		t.Errorf("%+v and %+v differ", a, b)
	}
	if strings.Contains(a.Text, "anna") || strings.Contains(b.Text, "nobody") {
		t.Errorf("the text repeats the name: %q", b.Text)
	}
}

// The least of several times is taken, and of many more where they differ, so that a busy
// machine does not count.
func TestUnknownUserTakesAsLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	costly := Params{Memory: 4 << 10, Time: 2, Threads: 1}
	rewrite(t, path, "anna:"+NewHash([]byte("secret"), costly))
	u, err := Open(path, Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	least := map[string]time.Duration{"anna": time.Hour, "nobody": time.Hour}
	differ := func() bool {
		known, unknown := least["anna"], least["nobody"]
		return known > 2*unknown || unknown > 2*known
	}
	for round := 0; round < 9 || differ() && round < 300; round++ {
		for user := range least {
			begin := time.Now()
			if _, err := u.Authenticate(t.Context(), user, "wrong"); err == nil {
				t.Fatal("a wrong password was taken")
			}
			least[user] = min(least[user], time.Since(begin))
		}
	}
	if differ() {
		t.Errorf("a known user takes %v, an unknown one %v", least["anna"], least["nobody"])
	}
}

// An unknown name always meets the same cost, out of those that the file has.
func TestDummiesHaveTheCostsOfTheFile(t *testing.T) {
	other := Params{Memory: 16, Time: 3, Threads: 1}
	u := users(t, line("anna", "x"), "bob:"+NewHash([]byte("y"), other))
	got := make(map[Params]bool)
	for _, d := range u.table.Load().dummies {
		got[d.params] = true
	}
	if len(got) != 2 || !got[cheap()] || !got[other] {
		t.Errorf("dummies cost %v", got)
	}
	if empty := newTable(nil).dummies; len(empty) != 1 || empty[0].params != DefaultParams() {
		t.Errorf("without users: %v", empty)
	}
}

func TestSaturation(t *testing.T) {
	u := users(t, line("anna", "secret"))
	synctest.Test(t, func(t *testing.T) {
		turns := make(chan struct{}, cap(u.turns)) // of the bubble
		u.turns = turns
		for range cap(turns) {
			turns <- struct{}{}
		}
		ctx, cancel := context.WithCancel(t.Context())
		outcomes := make(chan error, maxWaiting)
		for i := range maxWaiting {
			go func() {
				_, err := u.Authenticate(ctx, fmt.Sprint("user", i), "x")
				outcomes <- err
			}()
		}
		synctest.Wait()
		_, err := u.Authenticate(ctx, "anna", "secret")
		if r := refused(t, err, 454); !errors.Is(r, errSaturated) || r.Class == relay.ClassAuth {
			t.Errorf("one too many: %+v", r)
		}
		cancel()
		for range maxWaiting {
			r := refused(t, <-outcomes, 454)
			if !errors.Is(r, context.Canceled) {
				t.Errorf("a waiting one: %v", r.Err)
			}
		}
		if n := u.waiting.Load(); n != 0 {
			t.Errorf("%d still wait", n)
		}
		<-turns // now there is room
		if _, err := u.Authenticate(t.Context(), "anna", "secret"); err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}

func TestLoginIsRememberedForAMinute(t *testing.T) {
	u := users(t, line("anna", "secret"))
	synctest.Test(t, func(t *testing.T) {
		turns := make(chan struct{}, cap(u.turns))
		u.turns = turns
		login := func(password string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := u.Authenticate(ctx, "anna", password)
			return err
		}
		if err := login("secret"); err != nil {
			t.Fatal(err)
		}
		for range cap(turns) {
			turns <- struct{}{} // no hash can be computed any more
		}
		if err := login("secret"); err != nil {
			t.Errorf("it is not remembered: %v", err)
		}
		refused(t, login("wrong"), 454)
		time.Sleep(rememberFor)
		refused(t, login("secret"), 454)
	})
}

func TestReload(t *testing.T) {
	u := users(t, line("anna", "secret"), line("bob", "x"))
	if _, err := u.Authenticate(t.Context(), "anna", "secret"); err != nil {
		t.Fatal(err)
	}
	rewrite(t, u.path, line("anna", "new"))
	if err := u.Reload(); err != nil {
		t.Fatal(err)
	}
	_, err := u.Authenticate(t.Context(), "anna", "secret")
	refused(t, err, 535)
	if _, err := u.Authenticate(t.Context(), "anna", "new"); err != nil {
		t.Error(err)
	}
	if u.Exists("bob") || !u.Exists("anna") {
		t.Error("the users are not those of the new file")
	}

	// A faulty file, and one that is gone, change nothing.
	rewrite(t, u.path, "anna", line("carl", "x"))
	if err := u.Reload(); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a faulty file: %v", err)
	}
	if err := os.Remove(u.path); err != nil {
		t.Fatal(err)
	}
	if err := u.Reload(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if !u.Exists("anna") || u.Exists("carl") {
		t.Error("a failed reload has changed the users")
	}
}

func TestOpenWithoutFile(t *testing.T) {
	u, err := Open(filepath.Join(t.TempDir(), "users"), Defaults{})
	if err != nil {
		t.Fatal(err)
	}
	known, err := u.Authenticate(t.Context(), "anna", "secret")
	if refused(t, err, 535); known {
		t.Error("a user without a file")
	}
	// A relay for trusted networks needs none; one that is made later is found.
	if err := u.Reload(); err != nil {
		t.Errorf("still no file: %v", err)
	}
	rewrite(t, u.path, line("anna", "secret"))
	if err := u.Reload(); err != nil || !u.Exists("anna") {
		t.Errorf("the first user: %v", err)
	}
}

func TestRecentLoginsAreBounded(t *testing.T) {
	l := newLogins()
	for i := range 3 * maxRecent {
		l.add([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		if len(l.expires) > maxRecent {
			t.Fatalf("%d logins are remembered", len(l.expires))
		}
	}
}

func BenchmarkRemembered(b *testing.B) {
	path := filepath.Join(b.TempDir(), "users")
	if err := os.WriteFile(path, []byte(line("anna", "secret")), 0o600); err != nil {
		b.Fatal(err)
	}
	u, err := Open(path, Defaults{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Authenticate(b.Context(), "anna", "secret"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	h, err := parseHash(NewHash([]byte("secret"), DefaultParams()))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !h.matches([]byte("secret")) {
			b.Fatal("the password does not match")
		}
	}
}
