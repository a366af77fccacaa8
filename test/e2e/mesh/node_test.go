//go:build e2e

package mesh_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/test/e2e/wire"
)

const (
	apiPort, meshPort = 4020, 4001
	requestMax        = 30 * time.Second
	// logTail is how much of a log is shown, in bytes.
	logTail = 6000
)

// table is a table of a configuration file.
type table map[string]any

// node is a coordinator in a namespace of its own. It may be killed and started again.
type node struct {
	world  *world
	name   string
	host   *wire.Host
	keys   keys
	dir    string           // Of its data.
	first  []*node          // Whom it meets first.
	more   map[string]table // Settings over those of all.
	binary string           // "" = the built one.
	env    []string
	client *http.Client
	cmd    *exec.Cmd // nil while it does not run.
	log    string    // File,
	logged int64     // and what it had in it when the process started, in bytes.
}

// add makes a node that does not run yet and whom the wire reaches directly.
func (w *world) add(t *testing.T, name string, first ...*node) *node {
	t.Helper()
	return w.addAt(t, name, w.join(t, name), first...)
}

// addAt makes a node at a host.
func (w *world) addAt(t *testing.T, name string, h *wire.Host, first ...*node) *node {
	t.Helper()
	n := &node{world: w, name: name, host: h, keys: w.takeKeys(t), dir: filepath.Join(w.dir, name), first: first, more: map[string]table{}, log: filepath.Join(w.dir, name+".log")}
	n.client = &http.Client{Timeout: requestMax, Transport: &http.Transport{
		// It would keep a connection to a process that was killed.
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return h.Dial(ctx, network, address)
		},
	}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s, a %s, ended its log with\n%s", n.name, n.keys.peer, n.tail(t))
		}
		if n.cmd != nil {
			n.kill(t)
		}
	})
	return n
}

// network makes nodes that meet each other, and starts them.
func (w *world) network(t *testing.T, names ...string) {
	t.Helper()
	var all []*node
	for _, name := range names {
		all = append(all, w.add(t, name, all...))
	}
	w.run(t, all...)
}

// run starts the nodes that are equal.
func (w *world) run(t *testing.T, nodes ...*node) {
	t.Helper()
	w.nodes = nodes
	for _, n := range w.nodes {
		n.start(t)
	}
	for _, n := range w.nodes {
		n.waitUp(t)
	}
	w.waitMet(t, w.nodes)
	w.fund(t)
}

// bootstrap is where others meet the node first.
func (n *node) bootstrap() []string {
	return []string{
		fmt.Sprintf("/ip4/%s/tcp/%d/p2p/%s", n.host.Addr, meshPort, n.keys.peer),
		fmt.Sprintf("/ip4/%s/udp/%d/quic-v1/p2p/%s", n.host.Addr, meshPort, n.keys.peer),
	}
}

// configure writes the configuration as an operator would.
func (n *node) configure(t *testing.T) string {
	t.Helper()
	contracts, first := table{}, []string{}
	for name, address := range n.world.deployed.Contracts.ByName() {
		contracts[name] = address.Hex()
	}
	for _, f := range n.first {
		first = append(first, f.bootstrap()...)
	}
	file := map[string]table{
		"node": {"role": "coordinator", "data_dir": n.dir},
		"chain": {
			"rpc_url": fmt.Sprintf("http://%s:%d", addr(1), rpcPort), "chain_id": devchain.ChainID, "from_block": n.world.deployed.FromBlock, "confirmations": 2,
			"private_key_path": filepath.Join(n.keys.dir, "signer.key"), "contracts": contracts,
		},
		"network": {
			"listen_addr":     fmt.Sprintf("/ip4/%s/tcp/%d,/ip4/%s/udp/%d/quic-v1", n.host.Addr, meshPort, n.host.Addr, meshPort),
			"identity_path":   filepath.Join(n.keys.dir, "identity.key"),
			"bootstrap_peers": first,
		},
		"api":    {"bind": fmt.Sprintf("127.0.0.1:%d", apiPort)},
		"ingest": {"catch_up_interval": "2s", "credit_authority": n.world.authors[0].address, "balance_authority": []string{n.world.authors[0].address}},
	}
	for section, settings := range n.more {
		if file[section] == nil {
			file[section] = table{}
		}
		maps.Copy(file[section], settings)
	}
	raw, err := toml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(n.world.dir, n.name+".toml")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// program is the path of a program.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(cmp.Or(os.Getenv("ALEPH_BIN"), "../../../bin"), name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v; 'make build' makes it, or set ALEPH_BIN", err)
	}
	return path
}

// start starts the process, and does not wait for it.
func (n *node) start(t *testing.T) {
	t.Helper()
	if n.binary == "" {
		n.binary = program(t, "aleph-node")
	}
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	before, err := log.Stat()
	if err != nil {
		t.Fatal(err)
	}
	n.logged = before.Size()
	n.cmd = exec.Command(n.binary, "--config", n.configure(t))
	n.cmd.Env = append(os.Environ(), n.env...)
	n.cmd.Stderr = log
	// The test may end in a panic, and nothing is to stay.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.host.Start(n.cmd); err != nil {
		t.Fatal(err)
	}
}

// kill ends the process at once.
func (n *node) kill(t *testing.T) {
	t.Helper()
	n.end(t, syscall.SIGKILL)
}

// stop lets the process end.
func (n *node) stop(t *testing.T) {
	t.Helper()
	n.end(t, syscall.SIGTERM)
}

func (n *node) end(t *testing.T, how syscall.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(how); err != nil {
		t.Errorf("%s had ended by itself: %v\n%s", n.name, err, n.tail(t))
	}
	if err := n.cmd.Wait(); how == syscall.SIGTERM && err != nil {
		t.Errorf("%s ended with %v\n%s", n.name, err, n.tail(t))
	}
	n.cmd = nil
}

// tail is the end of the log.
func (n *node) tail(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-logTail):])
}

// request asks the process, from inside its namespace.
func (n *node) request(ctx context.Context, method, path, kind string, body []byte) (int, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", apiPort, path), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	res, err := n.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return res.StatusCode, raw, err
}

// get reads a document.
func (n *node) get(ctx context.Context, path string, into any) error {
	code, body, err := n.request(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("%s: GET %s = %d %.300s", n.name, path, code, body)
	}
	return json.Unmarshal(body, into)
}

// waitUp waits until the process answers.
func (n *node) waitUp(t *testing.T) {
	t.Helper()
	eventually(t, n.name+" answers", func(ctx context.Context) error {
		code, body, err := n.request(ctx, http.MethodGet, "/api/v0/version", "", nil)
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
}

// peers are those with an open connection.
func (n *node) peers(ctx context.Context) (map[string]v1.PeerView, error) {
	var answer v1.PeersView
	if err := n.get(ctx, "/api/v1/peers", &answer); err != nil {
		return nil, err
	}
	out := map[string]v1.PeerView{}
	for _, p := range answer.Peers {
		out[p.ID] = p
	}
	return out, nil
}

// sees reports an error unless each of the others is, or is not, connected with the node.
func (n *node) sees(ctx context.Context, want bool, others ...*node) error {
	peers, err := n.peers(ctx)
	if err != nil {
		return err
	}
	for _, o := range others {
		if _, ok := peers[string(o.keys.peer)]; ok != want && o != n {
			return fmt.Errorf("%s is connected with %s: %v", n.name, o.name, ok)
		}
	}
	return nil
}

// waitMet waits until all nodes are connected with each other.
func (w *world) waitMet(t *testing.T, nodes []*node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, n.name+" is connected with all others", func(ctx context.Context) error { return n.sees(ctx, true, nodes...) })
	}
}

// metric adds up the values of a metric of the process whose labels have all of the texts.
func (n *node) metric(ctx context.Context, name string, labels ...string) (sum float64, err error) {
	code, body, err := n.request(ctx, http.MethodGet, "/metrics", "", nil)
	if err != nil || code != http.StatusOK {
		return 0, errors.Join(err, fmt.Errorf("%s: GET /metrics = %d", n.name, code))
	}
lines:
	for line := range strings.Lines(string(body)) {
		head, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if of, _, _ := strings.Cut(head, "{"); !ok || of != name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(head, l) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// memory is how much of it the process uses, in bytes.
func (n *node) memory(t *testing.T) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", n.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(raw))
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// says waits until the process that runs has logged a text. Those before it may have, too.
func (n *node) says(t *testing.T, text string) {
	t.Helper()
	eventually(t, n.name+" says "+text, func(context.Context) error {
		raw, err := os.ReadFile(n.log)
		if err == nil && !bytes.Contains(raw[n.logged:], []byte(text)) {
			err = errors.New("it does not")
		}
		return err
	})
}
