package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Params is the cost of one argon2id hash (RFC 9106).
type Params struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

// DefaultParams is the cost of new hashes: 19 MiB, two passes, one lane, the
// least that OWASP recommends and some 30 ms of one core.
func DefaultParams() Params { return Params{Memory: 19 << 10, Time: 2, Threads: 1} }

// What a hash in the file may cost at most, so that a line of it cannot take
// the memory that the mail needs.
const (
	maxMemory  = 128 << 10 // KiB
	maxTime    = 16
	maxThreads = 8
	saltLength = 16
	keyLength  = 32
)

// MaxPassword is the length in octets beyond which no password is right.
const MaxPassword = 1024

// errBadHash is the cause of a line whose hash is not one.
var errBadHash = errors.New("want $argon2id$v=19$m=…,t=…,p=…$salt$hash, as `tacet user add` writes it")

// hash is one argon2id hash in the PHC string format.
type hash struct {
	params Params
	salt   []byte
	key    []byte
}

// NewHash hashes a password for the users file, with a salt of its own. The
// result contains neither ":" nor white space.
func NewHash(password []byte, p Params) string {
	h := hash{params: p, salt: make([]byte, saltLength)}
	rand.Read(h.salt)
	h.key = h.compute(password)
	return h.String()
}

func (h hash) compute(password []byte) []byte {
	return argon2.IDKey(password, h.salt, h.params.Time, h.params.Memory, h.params.Threads, keyLength)
}

// matches tells whether the password is the one that was hashed, in a time
// that does not depend on the answer.
func (h hash) matches(password []byte) bool {
	return subtle.ConstantTimeCompare(h.compute(password), h.key) == 1
}

func (h hash) String() string {
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		h.params.Memory, h.params.Time, h.params.Threads, text(h.salt), text(h.key))
}

func parseHash(s string) (hash, error) {
	var h hash
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v=19" {
		return h, errBadHash
	}
	if _, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &h.params.Memory, &h.params.Time, &h.params.Threads); err != nil {
		return h, errBadHash
	}
	p := h.params
	// argon2 itself raises the memory to 8 KiB a lane and refuses no time or lanes of zero but by a panic.
	if p.Memory < 8 || p.Time < 1 || p.Threads < 1 {
		return h, errBadHash
	}
	if p.Memory > maxMemory || p.Time > maxTime || p.Threads > maxThreads {
		return h, fmt.Errorf("the hash costs too much: at most m=%d,t=%d,p=%d", maxMemory, maxTime, maxThreads)
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.DecodeString(part[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return h, errBadHash
	}
	if h.key, err = base64.RawStdEncoding.DecodeString(part[5]); err != nil || len(h.key) != keyLength {
		return h, errBadHash
	}
	return h, nil
}
