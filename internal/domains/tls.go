package domains

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// helloMax bounds how long a client takes to say which name it wants, helloBytes how
	// much it says.
	helloMax   = 5 * time.Second
	helloBytes = 64 << 10
	// dialMax bounds how long a machine takes to answer, quietMax how long a connection
	// says nothing both ways.
	dialMax  = 5 * time.Second
	quietMax = 10 * time.Minute
	// acceptPause is how long nobody is taken in after that failed.
	acceptPause = 100 * time.Millisecond
	// Of all connections one machine has at most one in machineShare and one client one
	// in clientShare; one in fallbackShare is kept from machines, for the fallback.
	machineShare, clientShare, fallbackShare = 8, 16, 4
)

// ServeTLS leads TLS connections to machines by the name that clients ask for, without
// opening them, until ctx ends. It closes the listener.
func (k *Keeper) ServeTLS(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	slots := make(chan struct{}, k.cfg.Connections)
	led := led{
		machines: NewCrowd[message.ItemHash](k.cfg.Connections/machineShare, k.cfg.Connections-k.cfg.Connections/fallbackShare),
		clients:  NewCrowd[netip.Prefix](k.cfg.Connections/clientShare, k.cfg.Connections),
	}
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("take in TLS for machines: %w", err)
		case err != nil: // As when there are too many open files.
			<-slots
			k.log.Warn("TLS connection not taken in", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := k.lead(ctx, conn, led); err != nil {
				k.log.Debug("TLS connection not led", "peer", conn.RemoteAddr(), "err", err)
			}
		})
	}
}

// led are the connections that are led.
type led struct {
	machines *Crowd[message.ItemHash]
	clients  *Crowd[netip.Prefix]
}

// client is whom a connection is counted for: an address, or in IPv6 the network that
// one client has. A proxy on this host speaks for many, and is not counted.
func client(conn net.Conn) (netip.Prefix, bool) {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	addr := from.Addr().Unmap().WithZone("")
	if err != nil || addr.IsLoopback() {
		return netip.Prefix{}, false
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	of, err := addr.Prefix(bits)
	return of, err == nil
}

// lead passes one connection on.
func (k *Keeper) lead(ctx context.Context, conn net.Conn, led led) error {
	defer func() { _ = conn.Close() }()                         // What was to be said was said.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // The node ends.
	if of, ok := client(conn); ok {
		leave, err := led.clients.Enter(of)
		if err != nil {
			return err
		}
		defer leave()
	}
	name, hello, err := readHello(ctx, conn)
	if err != nil {
		return err
	}
	to := k.cfg.TLSFallback
	way, err := k.Find(ctx, name, PortTLS)
	switch {
	case err == nil:
		leave, err := led.machines.Enter(way.Spec)
		if err != nil {
			return err
		}
		defer leave()
		to = way.To.String()
	case !errors.Is(err, errs.NotFound) || to == "":
		return err
	}
	dialer := net.Dialer{Timeout: dialMax}
	machine, err := dialer.DialContext(ctx, "tcp", to)
	if err != nil {
		return fmt.Errorf("reach %s for %s: %w", to, name, err)
	}
	defer func() { _ = machine.Close() }()
	defer context.AfterFunc(ctx, func() { _ = machine.Close() })()
	if _, err := machine.Write(hello); err != nil {
		return fmt.Errorf("pass on what the client said: %w", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { pass(machine, conn) })
	pass(conn, machine)
	wg.Wait()
	return nil
}

// errRead ends a handshake that is only listened to.
var errRead = errors.New("the name is read")

// readHello reads what a client says first, and the name that it wants.
func readHello(ctx context.Context, conn net.Conn) (name string, said []byte, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(helloMax)); err != nil {
		return "", nil, fmt.Errorf("bound the client's time: %w", err)
	}
	var all bytes.Buffer
	found := false
	listener := tls.Server(listening{io.TeeReader(io.LimitReader(conn, helloBytes), &all)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, found = h.ServerName, true
			return nil, errRead
		},
	})
	if err := listener.HandshakeContext(ctx); !found {
		return "", nil, fmt.Errorf("read the name that a client wants: %w", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return "", nil, fmt.Errorf("give the client its time: %w", err)
	}
	return name, all.Bytes(), nil
}

// listening is a connection that says nothing.
type listening struct{ io.Reader }

func (listening) Write(p []byte) (int, error)      { return len(p), nil }
func (listening) Close() error                     { return nil }
func (listening) LocalAddr() net.Addr              { return nil }
func (listening) RemoteAddr() net.Addr             { return nil }
func (listening) SetDeadline(time.Time) error      { return nil }
func (listening) SetReadDeadline(time.Time) error  { return nil }
func (listening) SetWriteDeadline(time.Time) error { return nil }

// pass copies what comes from one end to the other, until it ends or says nothing for
// too long, and says that it has ended. What is written keeps the other way open, too.
func pass(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		until := time.Now().Add(quietMax)
		_ = from.SetReadDeadline(until) // A connection that is closed says so when it is read.
		n, err := from.Read(buf)
		if n > 0 {
			until = time.Now().Add(quietMax)
			_, _ = to.SetReadDeadline(until), to.SetWriteDeadline(until)
			if _, werr := to.Write(buf[:n]); werr != nil {
				_ = from.Close() // Whoever writes there finds out.
				return
			}
		}
		if err == nil {
			continue
		}
		if half, ok := to.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) {
			_ = half.CloseWrite()
			return
		}
		_ = to.Close()
		return
	}
}
