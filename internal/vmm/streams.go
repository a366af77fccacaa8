package vmm

import (
	"context"
	"net"
)

// Streamer is a machine whose guest opens and takes streams, as by a vsock: a
// Machine that was started as a Function also is one. Each side has ports of
// its own. Streams end with the machine, and with the daemon: the guest of a
// machine that was adopted is called anew.
type Streamer interface {
	// Dial opens a stream to a port of the guest. It waits until the guest
	// has booted far enough to be asked, as long as ctx allows, and gives
	// errs.Unavailable when the machine ends first. A port on which nobody
	// listens shows as a stream that is closed at once.
	Dial(ctx context.Context, port uint32) (net.Conn, error)

	// Listen takes the streams that the guest opens to a port of the host,
	// until the listener is closed or the machine ends. A port that is
	// listened on already gives errs.Conflict. Before the first Listen or
	// Dial the guest reaches nobody, so nothing that it says early is lost to
	// one who listens right after the start.
	Listen(port uint32) (net.Listener, error)
}
