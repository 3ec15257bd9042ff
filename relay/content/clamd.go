package content

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"tacet/queue"
	"tacet/relay"
)

// Clamd has messages scanned by ClamAV's daemon: the content goes to its socket (INSTREAM),
// and nothing of it comes back but a verdict.
type Clamd struct {
	Network, Address string // "unix" and a path, or "tcp" and an address
}

// clamdChunk is how much content is sent at a time, and clamdAnswer how long an answer may be.
const (
	clamdChunk  = 128 << 10
	clamdAnswer = 4 << 10
)

var errClamdAnswer = errors.New("clamd gave no verdict")

// Check implements [relay.Check]. The name of what was found goes nowhere: the list of
// reasons in the log is closed, and the sender may not be the one to be told.
func (c *Clamd) Check(ctx context.Context, m *relay.Message) (relay.Verdict, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, c.Network, c.Address)
	if err != nil {
		return relay.Verdict{}, fmt.Errorf("reach clamd: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	answer, err := scan(conn, m.Whole())
	if err != nil {
		return relay.Verdict{}, fmt.Errorf("ask clamd: %w", err)
	}
	switch {
	case answer == "stream: OK":
		return relay.Verdict{}, nil
	case strings.HasPrefix(answer, "stream: ") && strings.HasSuffix(answer, " FOUND"):
		return relay.Verdict{Rejection: &relay.Rejection{Code: 550, Enhanced: queue.Enhanced{5, 7, 1},
			Class: relay.ClassContent, Ground: relay.GroundVirus, Text: "A virus was found in the message"}}, nil
	}
	return relay.Verdict{}, errClamdAnswer // its size limit, a fault of its own, or not clamd
}

// scan sends the content in chunks and returns the one line of the answer.
func scan(conn net.Conn, content io.Reader) (string, error) {
	buf := make([]byte, 4+clamdChunk)
	if _, err := conn.Write([]byte("zINSTREAM\x00")); err != nil {
		return "", err
	}
	for {
		n, err := io.ReadFull(content, buf[4:])
		if n > 0 {
			binary.BigEndian.PutUint32(buf, uint32(n))
			if _, err := conn.Write(buf[:4+n]); err != nil {
				return "", err
			}
		}
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return "", err
		}
	}
	if _, err := conn.Write(make([]byte, 4)); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, clamdAnswer)).ReadString(0)
	if err != nil {
		return "", errClamdAnswer
	}
	return strings.TrimSuffix(line, "\x00"), nil
}
