package recipients

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
)

// HashKey is the secret under which addresses are hashed. Both sites have it: without it
// the hashes of common names could be guessed.
type HashKey [32]byte

// SignKey is what the primary makes lists with.
type SignKey struct {
	Seed [ed25519.SeedSize]byte
	Hash HashKey
}

// VerifyKey is what the fallback reads lists with. It cannot make one.
type VerifyKey struct {
	Public [ed25519.PublicKeySize]byte
	Hash   HashKey
}

const (
	signPrefix   = "tacet-recipients-sign "
	verifyPrefix = "tacet-recipients-verify "
)

var errKey = errors.New("not a key of `tacet recipients key`")

// NewKey makes a pair of keys.
func NewKey() SignKey {
	var k SignKey
	rand.Read(k.Seed[:])
	rand.Read(k.Hash[:])
	return k
}

// Verify is the other half of k.
func (k SignKey) Verify() VerifyKey {
	v := VerifyKey{Hash: k.Hash}
	copy(v.Public[:], ed25519.NewKeyFromSeed(k.Seed[:]).Public().(ed25519.PublicKey))
	return v
}

// Text is k as one line.
func (k SignKey) Text() string {
	return signPrefix + base64.StdEncoding.EncodeToString(append(k.Seed[:], k.Hash[:]...)) + "\n"
}

// Text is k as one line.
func (k VerifyKey) Text() string {
	return verifyPrefix + base64.StdEncoding.EncodeToString(append(k.Public[:], k.Hash[:]...)) + "\n"
}

// ParseSignKey reads what [SignKey.Text] wrote.
func ParseSignKey(text string) (k SignKey, err error) {
	b, err := parseKey(text, signPrefix, len(k.Seed)+len(k.Hash))
	if err != nil {
		return k, err
	}
	copy(k.Hash[:], b[copy(k.Seed[:], b):])
	return k, nil
}

// ParseVerifyKey reads what [VerifyKey.Text] wrote.
func ParseVerifyKey(text string) (k VerifyKey, err error) {
	b, err := parseKey(text, verifyPrefix, len(k.Public)+len(k.Hash))
	if err != nil {
		return k, err
	}
	copy(k.Hash[:], b[copy(k.Public[:], b):])
	return k, nil
}

func parseKey(text, prefix string, size int) ([]byte, error) {
	code, ok := strings.CutPrefix(strings.TrimSpace(text), prefix)
	if !ok {
		return nil, errKey
	}
	b, err := base64.StdEncoding.DecodeString(code)
	if err != nil || len(b) != size {
		return nil, errKey
	}
	return b, nil
}
