package qemu_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/cloudinit"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
)

// freePort returns a port that nobody listens on now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// fetch gets a page of the guest.
func fetch(t *testing.T, port int, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(bounded(t), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", port, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatalf("fetch %s: %v", path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("fetch %s: status %d, %v", path, resp.StatusCode, err)
	}
	return strings.TrimSpace(string(raw))
}

// login runs commands in the guest over SSH.
func login(t testing.TB, port int, key ssh.Signer) func(command string) string {
	t.Helper()
	client, err := ssh.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: waitMax,
	})
	if err != nil {
		t.Fatalf("ssh: %v", err)
	}
	t.Cleanup(func() { client.Close() })
	return func(command string) string {
		s, err := client.NewSession()
		if err != nil {
			t.Fatalf("ssh session: %v", err)
		}
		defer s.Close()
		out, err := s.CombinedOutput(command)
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		return strings.TrimSpace(string(out))
	}
}

// TestGuestServes boots a machine as a tenant gets it and uses it: its page
// with a token of its own, SSH, its variables, its grown disk; and then the
// guest's own reset and power-off.
func TestGuestServes(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := vmmtest.NewSpec(t, vmmtest.GuestImage(t))
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	web, shell := freePort(t), freePort(t)
	spec.Net = vmm.NetDevice{Kind: vmm.NetUser, MAC: "52:54:00:12:34:56", Forwards: []vmm.Forward{
		{Protocol: vmm.TCP, HostIP: loopback, HostPort: web, GuestPort: 8080},
		{Protocol: vmm.TCP, HostIP: loopback, HostPort: shell, GuestPort: 22},
	}}
	spec.Seed.AuthorizedKeys = []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))}
	spec.Seed.Variables = map[string]string{"GREETING": "it's me"}
	spec.Seed.Network = &cloudinit.Network{
		MAC: "52:54:00:12:34:56", Address: netip.MustParsePrefix("10.0.2.15/24"), Gateway: netip.MustParseAddr("10.0.2.2"),
		Nameservers: []netip.Addr{netip.MustParseAddr("10.0.2.3")},
	}
	m, err := d.Start(bounded(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := m.Ready(bounded(t)); err != nil {
		t.Fatal(err)
	}

	token := fetch(t, web, "/token")
	if len(token) < 64 || !strings.Contains(fetch(t, web, "/"), token) {
		t.Errorf("token is %q, want a long one that is on the page too", token)
	}
	run := login(t, shell, key)
	for command, want := range map[string]string{
		"hostname":                 spec.Seed.Hostname,
		"cat /etc/aleph/variables": `GREETING='it'\''s me'`,
		"cat /etc/resolv.conf":     "nameserver 10.0.2.3",
		"stat -c %a /root/.ssh":    "700",
	} {
		if got := run(command); got != want {
			t.Errorf("%s says %q, want %q", command, got, want)
		}
	}
	if got := run(". /etc/profile; echo $GREETING"); got != "it's me" {
		t.Errorf("GREETING is %q, want %q", got, "it's me")
	}
	if got := run("cat /sys/devices/system/cpu/vulnerabilities/spectre_v1"); !strings.Contains(got, "Mitigation") {
		t.Errorf("spectre_v1 is %q, want it mitigated as the kernel's own setting is", got)
	}
	grown(t, run, 900<<10)

	// The guest restarts itself: the same process, the same disk.
	run("(sleep 0.2; reboot) >/dev/null 2>&1 &")
	boots := waitBoots(t, spec.Dir, 2)
	if boots < 2 {
		t.Fatalf("console shows %d boots, want 2", boots)
	}
	if got := fetch(t, web, "/token"); got != token {
		t.Errorf("token after a reboot is %q, want %q", got, token)
	}
	login(t, shell, key)("(sleep 0.2; poweroff) >/dev/null 2>&1 &")
	select {
	case <-m.Done():
	case <-bounded(t).Done():
		t.Fatal("machine runs on after poweroff")
	}
	if exit := m.Exit(); !exit.Clean || exit.Asked || exit.Reason != "the guest powered off" {
		t.Errorf("Exit = %+v, want a clean one that nobody asked for", exit)
	}
}

// grown waits until the guest's disk has its full size.
func grown(t *testing.T, run func(string) string, wantKiB int) {
	t.Helper()
	ctx := bounded(t)
	for {
		var kib int
		if _, err := fmt.Sscan(run("df -k / | tail -n 1 | awk '{print $2}'"), &kib); err != nil {
			t.Fatal(err)
		}
		if kib >= wantKiB {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("disk has %d KiB, want %d", kib, wantKiB)
		}
	}
}

// waitBoots returns how often the console says that the guest was ready, when
// that is often enough or after a while.
func waitBoots(t *testing.T, dir string, want int) int {
	t.Helper()
	ctx := bounded(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := vmm.Console(ctx, dir, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(raw), "aleph-guest: ready"); n >= want {
			return n
		}
		select {
		case <-ctx.Done():
			t.Fatalf("console:\n%s", raw)
		case <-tick.C:
		}
	}
}
