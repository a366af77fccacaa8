package p2p

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// The names of transports.
const (
	transportTCP, transportQUIC, transportRelay = "tcp", "quic", "relay"
)

// portTries bounds the search for a port that is free for both transports.
const portTries = 32

// settlePorts gives TCP and QUIC addresses of the same host that leave the port to
// the system the same port, so that one rule of a firewall is for both.
func settlePorts(listen []ma.Multiaddr) ([]ma.Multiaddr, error) {
	open := map[string]map[string]int{} // host -> transport -> index in listen
	for i, addr := range listen {
		name, _ := protocolOf(addr)
		if host, port := hostPort(addr); port == "0" {
			if open[host] == nil {
				open[host] = map[string]int{}
			}
			if _, twice := open[host][name]; !twice {
				open[host][name] = i
			}
		}
	}
	out := append([]ma.Multiaddr(nil), listen...)
	for host, at := range open {
		if len(at) < 2 { //nolint:mnd // both transports
			continue
		}
		port, err := freePort(listen[at[transportTCP]])
		if err != nil {
			return nil, err
		}
		for name, i := range at {
			text := fmt.Sprintf("%s/tcp/%d", host, port)
			if name == transportQUIC {
				text = fmt.Sprintf("%s/udp/%d/quic-v1", host, port)
			}
			if out[i], err = ma.NewMultiaddr(text); err != nil {
				return nil, fmt.Errorf("listen on %s: %w", text, err)
			}
		}
	}
	return out, nil
}

// hostPort splits an address to listen on; the port is "" if it has none.
func hostPort(addr ma.Multiaddr) (host, port string) {
	head, _ := ma.SplitFunc(addr, func(c ma.Component) bool {
		return c.Protocol().Code == ma.P_TCP || c.Protocol().Code == ma.P_UDP
	})
	for _, code := range []int{ma.P_TCP, ma.P_UDP} {
		if v, err := addr.ValueForProtocol(code); err == nil {
			port = v
		}
	}
	return head.String(), port
}

// freePort finds a port that is free for TCP and UDP at the address.
func freePort(tcp ma.Multiaddr) (int, error) {
	for range portTries {
		l, err := manet.Listen(tcp)
		if err != nil {
			return 0, fmt.Errorf("listen on %s: %w", tcp, err)
		}
		at, ok := l.Multiaddr(), true
		network, text, err := manet.DialArgs(at)
		if err != nil {
			return 0, errors.Join(fmt.Errorf("listen on %s: %w", at, err), l.Close())
		}
		u, err := net.ListenPacket("udp"+network[len("tcp"):], text) //nolint:noctx // it is at once
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			ok = false
		case err != nil:
			return 0, errors.Join(fmt.Errorf("listen on %s for QUIC: %w", text, err), l.Close())
		default:
			err = u.Close()
		}
		if err := errors.Join(err, l.Close()); err != nil && ok {
			return 0, fmt.Errorf("listen on %s: %w", tcp, err)
		}
		if a, isTCP := l.Addr().(*net.TCPAddr); ok && isTCP {
			return a.Port, nil
		}
	}
	return 0, errs.New(errs.Unavailable, "found no port that is free for TCP and UDP at %s; set one in [network] listen_addr", tcp)
}

// checkPorts reports a port that is taken, which the library would say in many
// words, or not at all while another address works.
func checkPorts(listen []ma.Multiaddr) error {
	for _, addr := range listen {
		err := tryListen(addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return errs.New(errs.Conflict, "another process already listens on %s; stop it or set another [network] listen_addr", addr)
		}
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			return errs.New(errs.Invalid, "this machine has no address as in %s: correct [network] listen_addr", addr)
		}
		if errors.Is(err, syscall.EACCES) {
			return errs.New(errs.Denied, "may not listen on %s: ports below 1024 need root or CAP_NET_BIND_SERVICE; set another [network] listen_addr", addr)
		}
		if err != nil {
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
	}
	return nil
}

func tryListen(addr ma.Multiaddr) error {
	if name, _ := protocolOf(addr); name == transportTCP {
		l, err := manet.Listen(addr)
		if err != nil {
			return err
		}
		return l.Close()
	}
	udp, _ := ma.SplitLast(addr)
	l, err := manet.ListenPacket(udp)
	if err != nil {
		return err
	}
	return l.Close()
}
