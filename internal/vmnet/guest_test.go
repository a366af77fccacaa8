package vmnet_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet/nsguest"
)

// guest stands for a machine, or for a computer beside the host.
type guest struct{ *nsguest.Guest }

// newGuest makes a guest with the addresses of the device.
func newGuest(t *testing.T, d vmnet.Device) *guest {
	t.Helper()
	c := nsguest.Config{Tap: d.TapName, MAC: d.MAC, Addresses: []netip.Prefix{d.Address}, Gateways: []netip.Addr{d.Gateway}}
	if d.Address6.IsValid() {
		c.Addresses, c.Gateways = append(c.Addresses, d.Address6), append(c.Gateways, d.Gateway6)
	}
	g, err := nsguest.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return &guest{g}
}

// run runs fn in the guest.
func (g *guest) run(fn func()) { g.Do(fn) }

// serve answers HTTP in the guest with a text, over IPv4 and IPv6.
func (g *guest) serve(t *testing.T, port int, text string) {
	t.Helper()
	var l net.Listener
	var err error
	g.run(func() { l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)) })
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s from %s", text, r.RemoteAddr)
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
}

// dial connects from the guest, within a time that a drop takes up whole.
func (g *guest) dial(addr string) error {
	var err error
	g.run(func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", addr, 400*time.Millisecond); err == nil {
			c.Close()
		}
	})
	return err
}

// dialFor is dial, again and again for a while.
func (g *guest) dialFor(addr string) (err error) {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if err = g.dial(addr); err == nil {
			return nil
		}
	}
	return err
}

// get fetches from the host's side. It tries again for a while: the kernel
// takes up to a second to notice that a TAP device has somebody at its end.
func get(ctx context.Context, url string) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if text, err = getOnce(ctx, url); err == nil {
			return text, nil
		}
	}
	return "", err
}

func getOnce(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return string(raw), err
}
