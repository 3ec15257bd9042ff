package outbound

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"tacet/queue"
	"tacet/relay"
)

// fault is why a step of a session did not succeed: the peer's answer, or the
// cause why there was none. A nil *fault is success.
type fault struct {
	reply queue.Reply
	// decided: the reply is the last word for the recipients concerned; no
	// other hop is asked.
	decided bool
	// stale: on a kept connection, a fresh one to the same host may do.
	stale bool
	// again: the same host takes what is open if it is said otherwise, which it will be.
	again bool
	// inClear, if set, is why the same host may be tried without TLS.
	inClear queue.NoTLS
	// failure is why a certificate is not the required one.
	failure relay.TLSFailure
	// host is where the session was, and tls how it was protected, that was being set up.
	host netip.AddrPort
	tls  queue.TLS
	// err is for tests and incidents; nothing of it reaches a log.
	err error
}

// broken is the fault of a connection that did not do at stage what was asked of it.
func broken(stage queue.Stage, cause queue.Cause, err error) *fault {
	return &fault{reply: queue.Reply{Stage: stage, Cause: cause}, err: err}
}

// ours is a decision of our own, without an answer of the peer. It is taken
// before anything of the transaction was sent.
func ours(stage queue.Stage, cause queue.Cause, enhanced queue.Enhanced) *fault {
	return &fault{reply: queue.Reply{Stage: stage, Cause: cause, Enhanced: enhanced}, decided: cause.Permanent()}
}

var (
	errOutOfStep = errors.New("the peer's reply is not one to what was asked")
	errNotSMTP   = errors.New("the peer's reply is not SMTP")
	errTooLong   = errors.New("the peer's reply is longer than allowed")
	errStopped   = errors.New("the relay stopped before the end of content was sent")
	errInjected  = errors.New("the peer sent data in the clear behind its answer to STARTTLS")
)

// ioCause names what a failed read, write or dial came to.
func ioCause(err error) queue.Cause {
	switch {
	case errors.Is(err, errOutOfStep), errors.Is(err, errNotSMTP), errors.Is(err, errTooLong):
		return queue.CauseProtocol
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return queue.CauseTimeout
	case errors.Is(err, context.Canceled):
		return queue.CauseShutdown
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed):
		return queue.CauseClosed
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errnoCause(errno)
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return queue.CauseTimeout
	}
	return queue.CauseProtocol // a TLS record that does not decrypt, and the like
}

func errnoCause(errno syscall.Errno) queue.Cause {
	switch errno {
	case syscall.ECONNREFUSED:
		return queue.CauseRefused
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.EACCES, syscall.EPERM:
		return queue.CauseUnreachable
	case syscall.ETIMEDOUT:
		return queue.CauseTimeout
	case syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED:
		return queue.CauseClosed
	}
	return queue.CauseLocal // descriptors, ports, memory
}
