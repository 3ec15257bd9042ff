package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"tacet/queue"
	"tacet/relay"
)

// maxWaiting is how many attempts may wait for their turn to be hashed. At
// 30 ms each the last of them waits some two seconds; whoever comes after is
// told to come back.
const maxWaiting = 64

// Users is the users of one users file. All methods may be called at the same time.
type Users struct {
	path     string
	defaults atomic.Pointer[Defaults]
	secret   [32]byte // of this process: keys the cache and the choice of a dummy
	table    atomic.Pointer[table]
	turns    chan struct{} // one for each hash that may be computed at a time
	waiting  atomic.Int32
}

// table is the content of the users file at one time.
type table struct {
	users   map[string]account
	dummies []hash // what an unknown user is compared with: one for each cost in the file, as often as it occurs
	recent  *logins
}

// Open reads the users file. A file that does not exist has no users: all
// attempts fail until Reload finds one.
func Open(path string, d Defaults) (*Users, error) {
	// Each hash keeps one core and its memory busy; one core stays for the mail.
	turns := min(max(runtime.GOMAXPROCS(0)-1, 1), 4)
	u := &Users{path: path, turns: make(chan struct{}, turns)}
	rand.Read(u.secret[:])
	u.SetDefaults(d)
	u.table.Store(newTable(nil))
	if err := u.Reload(); err != nil {
		return nil, err
	}
	return u, nil
}

// Reload reads the users file again and forgets recent logins. After an
// error, whatever it is, the users stay those known before; a file that does
// not exist is one unless there were none.
func (u *Users) Reload() error {
	f, err := os.Open(u.path)
	if errors.Is(err, fs.ErrNotExist) && u.Len() == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the users file: %w", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxUsersFile+1))
	if err != nil {
		return fmt.Errorf("reading the users file: %w", err)
	}
	users, err := parseFile(content)
	if err != nil {
		return fmt.Errorf("users file %s: %w", u.path, err)
	}
	u.table.Store(newTable(users))
	return nil
}

// SetDefaults replaces what holds for users whose line does not say otherwise.
func (u *Users) SetDefaults(d Defaults) { u.defaults.Store(&d) }

func newTable(users map[string]account) *table {
	t := &table{users: users, recent: newLogins()}
	for _, a := range users {
		t.dummies = append(t.dummies, hash{params: a.hash.params, salt: make([]byte, saltLength), key: make([]byte, keyLength)})
	}
	if len(users) == 0 {
		t.dummies = []hash{{params: DefaultParams(), salt: make([]byte, saltLength), key: make([]byte, keyLength)}}
	}
	slices.SortFunc(t.dummies, func(a, b hash) int { return strings.Compare(a.String(), b.String()) })
	return t
}

// Len is how many users there are.
func (u *Users) Len() int { return len(u.table.Load().users) }

// Exists tells whether the user may log in as of the newest Reload. A session
// asks before each transaction, so that a removed user is out at once.
func (u *Users) Exists(user string) bool {
	_, found := u.table.Load().users[user]
	return found
}

// MaySend tells whether the user may send as the address, which is not the null
// reverse-path: that may be used by all (RFC 5321 §4.5.5).
func (u *Users) MaySend(user, address string) bool {
	a, found := u.table.Load().users[user]
	if !found {
		return false
	}
	if a.rules != nil && a.rules.Senders != nil {
		return a.rules.Senders.Has(address)
	}
	return u.defaults.Load().maySend(user, address)
}

// Quota is how much the user may send.
func (u *Users) Quota(user string) relay.Quota {
	all := u.defaults.Load().Quota
	if rules := u.table.Load().users[user].rules; rules != nil {
		return rules.Quota(all)
	}
	return all
}

// Authenticate checks the password and returns nil if it is the user's.
// Otherwise err is a [relay.Rejection]: 535 for a wrong one, alike in text and
// time for a user that exists (known tells) and one that does not, or 454 when
// too many attempts are under way or ctx ended.
func (u *Users) Authenticate(ctx context.Context, user, password string) (known bool, err error) {
	t := u.table.Load()
	account, known := t.users[user]
	entry := account.hash
	sum := u.sum("login", user, password)
	if known && t.recent.has(sum) {
		return true, nil
	}
	if err := u.wait(ctx); err != nil {
		return known, &relay.Rejection{Code: 454, Enhanced: queue.Enhanced{4, 7, 0}, Class: relay.ClassLimit,
			Text: "Too many logins at the moment, try again shortly", Err: err}
	}
	defer func() { <-u.turns }()
	if !known {
		// The same name always meets the same cost, as a user's would be:
		// whoever measures learns what hashes the file has, not which users.
		choice := u.sum("dummy", user, "")
		entry = t.dummies[binary.BigEndian.Uint64(choice[:])%uint64(len(t.dummies))]
	}
	if len(password) > MaxPassword {
		password = ""
	}
	if !entry.matches([]byte(password)) || !known || password == "" {
		return known, &relay.Rejection{Code: 535, Enhanced: queue.Enhanced{5, 7, 8}, Class: relay.ClassAuth,
			Text: "Authentication failed: user name or password is wrong"}
	}
	t.recent.add(sum)
	return true, nil
}

// errSaturated is the cause of a 454 when too many attempts wait already.
var errSaturated = errors.New("too many logins are being checked")

// wait takes a turn at hashing, in bounded memory and until ctx ends.
func (u *Users) wait(ctx context.Context) error {
	select {
	case u.turns <- struct{}{}:
		return nil
	default:
	}
	if u.waiting.Add(1) > maxWaiting {
		u.waiting.Add(-1)
		return errSaturated
	}
	defer u.waiting.Add(-1)
	select {
	case u.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sum is a digest of two texts for one purpose that no one outside this
// process can compute.
func (u *Users) sum(purpose, a, b string) [sha256.Size]byte {
	mac := hmac.New(sha256.New, u.secret[:])
	fmt.Fprintf(mac, "%s %d ", purpose, len(a))
	io.WriteString(mac, a)
	io.WriteString(mac, b)
	return [sha256.Size]byte(mac.Sum(nil))
}
