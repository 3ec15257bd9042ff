//go:build !unix

package outbound

import "net"

// probe looks at a socket; here it sees nothing, and what a kept connection
// is worth shows at its first use.
type probe struct{}

func newProbe(net.Conn) *probe { return nil }

func (*probe) readable() bool { return false }
