package main

import (
	"context"
	"net"

	"golang.org/x/sys/unix"
)

// peerKey is the key of a connection's person in its context.
type peerKey struct{}

// withPeer notes the peer credentials of a control connection.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, identify(conn))
}

// peerOf is the person behind a request.
func peerOf(ctx context.Context) person {
	if who, ok := ctx.Value(peerKey{}).(person); ok {
		return who
	}
	return person{uid: -1}
}

func identify(conn net.Conn) person {
	unknown := person{uid: -1}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return unknown
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return unknown
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return unknown
	}
	return personOf(int(cred.Uid))
}
