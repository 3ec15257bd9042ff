package inbound

import (
	"net"
	"strings"
	"sync"
)

// handover is the listener that go-smtp accepts from: connections come to it
// when their clients say AUTH or MAIL.
type handover struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }

// errorLog swallows what go-smtp would print: it names clients by address.
type errorLog struct{ server *Server }

func (l errorLog) Printf(format string, _ ...any) {
	if strings.HasPrefix(format, "panic") {
		l.server.stats.Panics.Add(1)
		l.server.trouble(TroublePanic)
		return
	}
	l.server.trouble(TroubleLibrary)
}

func (l errorLog) Println(...any) { l.server.trouble(TroubleLibrary) }
