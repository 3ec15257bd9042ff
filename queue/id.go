package queue

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"time"
)

// ID names one queued message. It begins with its time of birth, so that IDs
// sort by age, and ends in random bits. It says nothing of sender or recipient
// and is the only name of a message outside the encrypted part of a store.
type ID [10]byte

// idText is Crockford's alphabet in upper case, without I, L, O and U, so that
// an ID can be read out on the telephone and sorts as its bytes do.
var idText = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// IDLength is the length of an ID as text.
const IDLength = 16

// ErrBadID is what [ParseID] returns for a text that names no message.
var ErrBadID = errors.New("a queue ID is 16 letters and digits")

// NewID makes an ID for a message that arrived at now.
func NewID(now time.Time) ID {
	var id ID
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(id[:6], ms[2:])
	rand.Read(id[6:])
	return id
}

// ParseID reads what String wrote. Lower case is taken too.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != IDLength {
		return id, ErrBadID
	}
	var upper [IDLength]byte
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	if _, err := idText.Decode(id[:], upper[:]); err != nil {
		return ID{}, ErrBadID
	}
	return id, nil
}

// String is the ID as the log, the reply to the client and the command line show it.
func (id ID) String() string { return string(id.Append(make([]byte, 0, IDLength))) }

// Append adds the ID as text to b.
func (id ID) Append(b []byte) []byte { return idText.AppendEncode(b, id[:]) }

// IsZero tells whether the ID names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// Time is when the message arrived, to the millisecond.
func (id ID) Time() time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC()
}
