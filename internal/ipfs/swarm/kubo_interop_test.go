//go:build interop

package swarm_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs/swarm"
)

// kuboMax bounds one command of a Kubo.
const kuboMax = time.Minute

// kuboNode is a Kubo that runs.
type kuboNode struct {
	program, dir string
}

// startKubo starts a Kubo that knows nobody, at addresses of this machine alone.
func startKubo(t *testing.T, bootstrap ...string) *kuboNode {
	t.Helper()
	program, err := filepath.Abs(filepath.Join("..", "..", "..", "build", "kubo", "ipfs"))
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		t.Fatalf("there is no Kubo, run 'make interop-deps': %v", err)
	}
	k := &kuboNode{program: program, dir: t.TempDir()}
	k.run(t, nil, "init", "--profile=test")
	for key, value := range map[string]any{
		"Addresses.Swarm": []string{"/ip4/127.0.0.1/tcp/0"}, "Bootstrap": append([]string{}, bootstrap...), "AutoConf.Enabled": false, "AutoTLS.Enabled": false,
		"Discovery.MDNS.Enabled": false, "Routing.Type": "dht", "Swarm.DisableNatPortMap": true, "DNS.Resolvers": map[string]string{},
		"Routing.DelegatedRouters": []string{}, "Ipns.DelegatedPublishers": []string{}, "Gateway.NoFetch": true,
	} {
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		k.run(t, nil, "config", "--json", key, string(raw))
	}
	daemon := exec.Command(program, "daemon")
	daemon.Env = k.env()
	var out syncBuffer
	daemon.Stdout, daemon.Stderr = &out, &out
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM) // Wait tells whether it was there.
		_ = daemon.Wait()
	})
	wait(t, "Kubo is up", func() bool { return strings.Contains(out.String(), "Daemon is ready") })
	return k
}

func (k *kuboNode) env() []string {
	return append(os.Environ(), "IPFS_PATH="+k.dir, "IPFS_TELEMETRY=off")
}

// run runs a command, and returns what it prints.
func (k *kuboNode) run(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), kuboMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, k.program, args...)
	cmd.Env, cmd.Stdin = k.env(), bytes.NewReader(in)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ipfs %s: %v\n%s", strings.Join(args, " "), err, problem.String())
	}
	return out
}

func (k *kuboNode) line(t *testing.T, in []byte, args ...string) string {
	t.Helper()
	return strings.TrimSpace(string(k.run(t, in, args...)))
}

func (k *kuboNode) addrs(t *testing.T) []string {
	t.Helper()
	var id struct{ Addresses []string }
	if err := json.Unmarshal(k.run(t, nil, "id"), &id); err != nil {
		t.Fatal(err)
	}
	return id.Addresses
}

// url returns the URL of the API or of the gateway.
func (k *kuboNode) url(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(k.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(string(raw))
	if file == "gateway" {
		return text
	}
	parts := strings.Split(text, "/") // /ip4/127.0.0.1/tcp/5001
	return fmt.Sprintf("http://%s:%s", parts[2], parts[4])
}

func parse(t *testing.T, text string) cid.Cid {
	t.Helper()
	c, err := ipfs.ParseCID(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// longFolder writes so many files to a folder that it becomes a directory of shards.
func longFolder(t *testing.T, count int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "folder")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		name := fmt.Sprintf("%s-%d", strings.Repeat("n", 80), i)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func listening(bootstrap ...string) func(*swarm.Config) {
	return func(c *swarm.Config) { c.Enabled, c.BootstrapPeers = true, bootstrap }
}

// TestKuboExchangesBlocks fetches from Kubo and lets Kubo fetch, by bitswap alone:
// files of both versions, directories of shards. CIDs and archives are the same.
func TestKuboExchangesBlocks(t *testing.T) {
	k := startKubo(t)
	n := newNode(t, options{name: "n", change: listening(k.addrs(t)...)})
	n.run(t)
	ours := newNode(t, options{name: "ours"}) // It only counts.
	wait(t, "Kubo is met", func() bool { return len(n.Own().Network().Peers()) > 0 })

	data, other := bytesOf(1, 10<<20+7), bytesOf(2, 10<<20+7)
	for _, v := range []ipfs.Version{ipfs.V0, ipfs.V1} {
		theirs := parse(t, k.line(t, data, "add", "-Q", fmt.Sprintf("--cid-version=%d", v)))
		want, err := ours.store.Add(t.Context(), bytes.NewReader(data), v)
		if err != nil || theirs != want.CID {
			t.Fatalf("version %d: Kubo says %s, this node %s, %v", v, theirs, want.CID, err)
		}
		n.fetched(t, want, ours)

		mine, err := n.store.Add(t.Context(), bytes.NewReader(other), v)
		if err != nil {
			t.Fatal(err)
		}
		if got := k.run(t, nil, "cat", mine.CID.String()); !bytes.Equal(got, other) {
			t.Errorf("version %d: Kubo got %d bytes", v, len(got))
		}
	}
	folder := parse(t, k.line(t, nil, "add", "-Qr", "--cid-version=1", longFolder(t, 3000)))
	want := ours.addFolder(t, 3000)
	if folder != want.CID {
		t.Fatalf("Kubo says %s of the folder, this node %s", folder, want.CID)
	}
	n.fetched(t, want, ours)
	mine := n.addFolder(t, 3500)
	if got := strings.Count(string(k.run(t, nil, "ls", "--size=false", "--resolve-type=false", mine.CID.String())), "\n"); got != 3500 {
		t.Errorf("Kubo lists %d entries", got)
	}
	if got := n.count(t, "aleph_ipfs_fetches_total", "swarm", "done"); got != 3 {
		t.Errorf("%v contents came by bitswap", got)
	}
}

// TestKuboReadsAndWritesArchives exchanges CAR files.
func TestKuboReadsAndWritesArchives(t *testing.T) {
	k := startKubo(t)
	n := newNode(t, options{name: "n"})
	mine := n.addFolder(t, 3000)
	k.run(t, n.export(t, mine.CID), "dag", "import")
	car, err := ipfs.OpenCAR(bytes.NewReader(k.run(t, nil, "dag", "export", mine.CID.String())))
	if err != nil {
		t.Fatal(err)
	}
	back := newNode(t, options{name: "back"})
	root, err := back.store.AddCAR(t.Context(), car)
	if err != nil || root != mine {
		t.Fatalf("got %+v, %v; want %+v", root, err, mine)
	}
	if !bytes.Equal(back.export(t, root.CID), n.export(t, mine.CID)) {
		t.Error("what comes back is another archive")
	}
}

// TestKuboFindsAndIsFound: in a private network whose members know one of this kind
// of node, Kubo is told in the table of what is here, and tells of what it has.
func TestKuboFindsAndIsFound(t *testing.T) {
	hub := newNode(t, options{name: "hub", change: listening()})
	hub.run(t)
	k := startKubo(t, hub.Addrs()...)
	n := newNode(t, options{name: "n", change: listening(hub.Addrs()...)})
	want := n.add(t, bytesOf(3, 3<<20))
	n.run(t)
	wait(t, "content is announced", func() bool { return n.count(t, "aleph_ipfs_provided_total", "done") == 1 })
	wait(t, "Kubo knows the hub", func() bool { return strings.Contains(k.line(t, nil, "swarm", "peers"), hub.Own().ID().String()) })

	wait(t, "Kubo finds the node", func() bool {
		return strings.Contains(k.line(t, nil, "routing", "findprovs", "-n", "1", want.CID.String()), n.Own().ID().String())
	})
	if got := k.run(t, nil, "cat", want.CID.String()); !bytes.Equal(got, bytesOf(3, 3<<20)) {
		t.Errorf("Kubo got %d bytes", len(got))
	}

	late := newNode(t, options{name: "late", change: listening(hub.Addrs()...)})
	late.run(t)
	data := bytesOf(4, 3<<20)
	theirs := parse(t, k.line(t, data, "add", "-Q"))
	k.run(t, nil, "routing", "provide", theirs.String())
	wait(t, "the table says that Kubo has it", func() bool {
		return slices.ContainsFunc(late.Providers(t.Context(), theirs), func(id peer.ID) bool { return strings.HasSuffix(k.addrs(t)[0], "/p2p/"+id.String()) })
	})
	if root, err := late.Fetch(t.Context(), theirs); err != nil || root.Size != int64(len(data)) {
		t.Errorf("got %+v, %v", root, err)
	}
}

// TestKuboIsGatewayAndStore: a Kubo is asked by its gateway and by its RPC, and keeps
// what is kept here.
func TestKuboIsGatewayAndStore(t *testing.T) {
	k := startKubo(t)
	data := bytesOf(5, 3<<20)
	theirs := parse(t, k.line(t, data, "add", "-Q"))
	foreign := k.line(t, []byte("pinned by its owner"), "add", "-Q")
	for source, change := range map[string]func(*swarm.Config){
		"gateway": gateways(k.url(t, "gateway")),
		"kubo":    func(c *swarm.Config) { c.KuboRPC = k.url(t, "api") },
	} {
		n := newNode(t, options{name: source, change: change})
		root, err := n.Fetch(t.Context(), theirs)
		if err != nil || root.Size != int64(len(data)) {
			t.Errorf("%s: got %+v, %v", source, root, err)
		}
		if got := n.count(t, "aleph_ipfs_fetches_total", source, "done"); got != 1 {
			t.Errorf("%s: %v contents are counted", source, got)
		}
	}

	n := newNode(t, options{name: "pins", change: func(c *swarm.Config) { c.KuboRPC, c.KuboPin = k.url(t, "api"), true }})
	if _, err := n.Fetch(t.Context(), parse(t, "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG")); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("what nobody has: %v", err)
	}
	a, b := n.add(t, bytesOf(6, 1<<20)), n.addFolder(t, 3000)
	pins := func() []string {
		return strings.Fields(k.line(t, nil, "pin", "ls", "--type=recursive", "-q"))
	}
	pass := n.PinPass()
	if err := pass(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, r := range []ipfs.Root{a, b} {
		if !slices.Contains(pins(), r.CID.String()) {
			t.Errorf("Kubo does not keep %s", r.CID)
		}
	}
	if _, err := n.store.Delete(a.CID); err != nil {
		t.Fatal(err)
	}
	if err := pass(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	left := pins()
	if slices.Contains(left, a.CID.String()) || !slices.Contains(left, b.CID.String()) || !slices.Contains(left, foreign) {
		t.Errorf("Kubo keeps %v", left)
	}
}

// syncBuffer is a buffer that is read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String implements fmt.Stringer.
func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
