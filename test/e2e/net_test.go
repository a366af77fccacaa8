//go:build e2e

// Package e2e_test breaks a real network: built binaries, a chain, machines.
//
// Every test has what it needs from the files whose names end in net_test.go,
// which start networks, make users and machines, look into chains, databases and
// processes, and check at the end that a network has left nothing behind.
package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

const (
	// long bounds every wait: machines boot by translation, beside other tests.
	long = 4 * time.Minute
	// pollEvery is how often a condition is looked at.
	pollEvery = 100 * time.Millisecond
	// pagePort is where the image's web service listens.
	pagePort = 8080
	// pageMax bounds one request to it.
	pageMax = 30 * time.Second
	// enough ALEPH for any test, as balance and allowance.
	enough = "100"
)

// networksMin is how many tests run side by side at least: they wait more than
// they work.
const networksMin = 4

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen && runtime.GOMAXPROCS(0) < networksMin {
		if err := flag.Set("test.parallel", strconv.Itoa(networksMin)); err != nil {
			panic("BUG: " + err.Error())
		}
	}
	os.Exit(m.Run())
}

// binaries is the directory with aleph and aleph-node.
func binaries(t *testing.T) string {
	t.Helper()
	return absolute(t, "ALEPH_BIN", "../../bin", "aleph-node", "make build")
}

// imageFile is the guest image.
func imageFile(t *testing.T) string {
	t.Helper()
	return absolute(t, "ALEPH_IMAGE", "../../build/images/debian.aleph", "", "make image")
}

func absolute(t *testing.T, variable, fallback, inside, how string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = fallback
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(filepath.Join(path, inside))
	}
	if err != nil {
		t.Fatalf("%v; '%s' makes it, or set %s", err, how, variable)
	}
	return path
}

// network is a local network with an image in its storage.
type network struct {
	*devnet.Network
	node  *aleph.Client // Of the coordinator.
	chain *aleph.Chain
	eth   *ethclient.Client
	rpc   *rpc.Client
	image message.ItemHash // STORE message of the guest image.
	users string           // Directory of the users' homes.
	funds sync.Mutex       // Held while the source of play money is used.
}

// startNetwork starts a network that ends with the test. Nothing of it may be
// left then.
func startNetwork(t *testing.T, o devnet.Options) *network {
	t.Helper()
	if o.Bin == "" {
		o.Bin = binaries(t)
	}
	if o.Image == "" {
		o.Image = imageFile(t)
	}
	inner, err := devnet.Start(t.Context(), o)
	if err != nil {
		t.Fatalf("start network: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logTails(t, inner)
		}
		if err := inner.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("stop network: %v", err)
		}
		checkNothingLeft(t, inner, o.DataDir != "")
	})
	n := &network{Network: inner, users: t.TempDir()}
	if n.node, err = aleph.New(inner.Nodes[0].URL); err != nil {
		t.Fatal(err)
	}
	if n.chain, err = aleph.DialChain(t.Context(), inner.RPCURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.chain.Close)
	if n.rpc, err = rpc.DialContext(t.Context(), inner.RPCURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.rpc.Close)
	n.eth = ethclient.NewClient(n.rpc)
	n.image = n.upload(t, n.account(t, n.Accounts[len(n.Accounts)-1].Key), o.Image)
	return n
}

// account is the account of a private key in hex.
func (n *network) account(t *testing.T, key string) *aleph.Account {
	t.Helper()
	k, err := crypto.HexToECDSA(strings.TrimPrefix(key, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return aleph.NewAccount(k)
}

// upload brings a file into the network's storage and returns the STORE message
// that names it.
func (n *network) upload(t *testing.T, a *aleph.Account, path string) message.ItemHash {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	blob, err := n.node.Upload(ctx, f, nil)
	if err != nil {
		t.Fatalf("upload %s: %v", path, err)
	}
	e, err := a.SignStore(*blob, map[string]string{"name": filepath.Base(path)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.node.PublishMessage(ctx, e); err != nil {
		t.Fatalf("publish %s: %v", path, err)
	}
	if _, err := n.node.WaitMessage(ctx, e.ItemHash); err != nil {
		t.Fatalf("publish %s: %v", path, err)
	}
	return e.ItemHash
}

// user is somebody who pays for machines.
type user struct {
	*aleph.Account
	key string
}

// user makes a user with tokens and an allowance, both in ALEPH.
func (n *network) user(t *testing.T, tokens, allowance string) *user {
	t.Helper()
	key, err := crypto.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	u := &user{Account: aleph.NewAccount(key), key: common.Bytes2Hex(crypto.FromECDSA(key))}
	n.fund(t, u, tokens)
	n.allow(t, u, allowance)
	return u
}

// fund gives a user ALEPH.
func (n *network) fund(t *testing.T, u *user, tokens string) {
	t.Helper()
	n.funds.Lock()
	defer n.funds.Unlock()
	source, err := crypto.HexToECDSA(strings.TrimPrefix(n.Accounts[len(n.Accounts)-1].Key, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if _, err := n.chain.SendToken(ctx, source, n.Contracts.AlephToken, u.Address(), parseTokens(t, tokens)); err != nil {
		t.Fatalf("fund %s: %v", u.Address(), err)
	}
}

// allow sets what the payment contract may take of a user.
func (n *network) allow(t *testing.T, u *user, tokens string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	granted, err := aleph.Grant(ctx, n.node, n.chain, u.Account, parseTokens(t, tokens))
	if err == nil {
		_, err = aleph.WaitGranted(ctx, n.node, n.chain, granted)
	}
	if err != nil {
		t.Fatalf("allow %s ALEPH: %v", tokens, err)
	}
}

func parseTokens(t *testing.T, tokens string) aleph.Wei {
	t.Helper()
	wei, err := aleph.ParseTokens(tokens)
	if err != nil {
		t.Fatal(err)
	}
	return wei
}

// cli is the command line of a user.
func (n *network) cli(t *testing.T, u *user) *devnet.CLI {
	t.Helper()
	cli, err := devnet.NewCLI(binaries(t), filepath.Join(n.users, u.Address().Hex()), n.Network)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cli.Home, "key")
	if err := os.WriteFile(file, []byte(u.key), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Run(t.Context(), "account", "import", "me", "--key-file", file); err != nil {
		t.Fatal(err)
	}
	return cli
}

// small is the smallest machine of the image, with its page.
func (n *network) small(name string) aleph.InstanceSpec {
	return aleph.InstanceSpec{
		Image: n.image, Name: name, VCPUs: 1, MemoryMiB: 256, DiskMiB: 1024,
		Ports: []message.PublishedPort{{Protocol: "tcp", Port: pagePort}},
	}
}

// open makes an offer for a machine, on the node with the number if that is not
// 0, and returns as soon as the coordinator has it.
func (n *network) open(t *testing.T, u *user, s aleph.InstanceSpec, nodeID uint32) (*aleph.Job, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	content, err := s.Content(u.Address(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	q, err := n.node.Quote(ctx, aleph.QuoteRequest{NodeHint: nodeID, Content: content})
	if err != nil {
		t.Fatalf("quote: %v", err)
	}
	return n.node.CreateInstance(ctx, u.Account, content, aleph.Limits{MaxRateQ32: q.RateQ32, NodeHint: nodeID})
}

// machine is a job that runs.
type machine struct {
	*aleph.Job
	Host  devnet.Node // Where it runs.
	Dir   string      // Of its files there.
	PID   int         // Of its only hypervisor.
	Page  string      // URL of its page.
	Token string      // That only this machine knows.
}

// run opens a job and returns when its page answers.
func (n *network) run(t *testing.T, u *user, s aleph.InstanceSpec, nodeID uint32) *machine {
	t.Helper()
	j, err := n.open(t, u, s, nodeID)
	if err != nil {
		t.Fatalf("open job: %v", err)
	}
	return n.running(t, j.Spec)
}

// running waits until a job runs and its page answers.
func (n *network) running(t *testing.T, spec message.ItemHash) *machine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	j, err := n.node.WaitRunning(ctx, spec, nil)
	if err != nil {
		t.Fatalf("wait for job %s to run: %v", spec, err)
	}
	m := &machine{Job: j}
	if m.Host, err = n.NodeByID(j.NodeID); err != nil {
		t.Fatal(err)
	}
	m.Dir = machineDir(m.Host, spec)
	p, ok := j.Port("tcp", pagePort)
	if !ok {
		t.Fatalf("job %s has no port %d: %+v", spec, pagePort, j.Ports)
	}
	m.Page = "http://" + net.JoinHostPort(p.HostIP, strconv.Itoa(p.Host)) + "/"
	eventually(t, "the page of "+m.Page, func() error {
		m.Token, err = page(t.Context(), m.Page)
		return err
	})
	pids := hypervisors(t, m.Dir)
	if len(pids) != 1 {
		t.Fatalf("job %s has the processes %v, want one", spec, pids)
	}
	m.PID = pids[0]
	return m
}

// machineDir is where a node keeps the files of a job's machine.
func machineDir(host devnet.Node, spec message.ItemHash) string {
	return filepath.Join(host.DataDir, "vms", string(spec))
}

// stop ends a job as its payer and returns what it cost, all settled.
func (n *network) stop(t *testing.T, u *user, spec message.ItemHash) *aleph.Receipt {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if _, err := n.node.Stop(ctx, u.Account, spec); err != nil {
		t.Fatalf("stop %s: %v", spec, err)
	}
	if _, err := n.node.WaitEnded(ctx, spec, nil); err != nil {
		t.Fatal(err)
	}
	r, err := n.node.WaitReceipt(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tokenIn finds the token on a machine's page.
var tokenIn = regexp.MustCompile(`token: ([0-9a-f-]{72})`)

// page gets a machine's page and returns the token on it.
func page(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, pageMax)
	defer cancel()
	raw, err := get(ctx, url)
	if err != nil {
		return "", err
	}
	found := tokenIn.FindSubmatch(raw)
	if found == nil {
		return "", fmt.Errorf("page %s has no token: %.200s", url, raw)
	}
	return string(found[1]), nil
}

// get fetches a small document over a connection of its own.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %.200s", url, resp.StatusCode, raw)
	}
	return raw, err
}

// visitor asks for a machine's page again and again.
type visitor struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	visits int   // guarded by mu
	err    error // guarded by mu
}

// visit begins to ask for a machine's page, every pollEvery, until leave.
func visit(t *testing.T, m *machine) *visitor {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	v := &visitor{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(v.done)
		tick := time.NewTicker(pollEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			start := time.Now()
			token, err := page(ctx, m.Page)
			if ctx.Err() != nil {
				return
			}
			if err == nil && token != m.Token {
				err = fmt.Errorf("token is %s, want %s: it is another machine, or it has lost its disk", token, m.Token)
			}
			v.mu.Lock()
			v.visits++
			if err != nil {
				v.err = errors.Join(v.err, fmt.Errorf("visit %d at %s: %w", v.visits, start.Format(time.TimeOnly), err))
			}
			v.mu.Unlock()
		}
	}()
	t.Cleanup(cancel)
	return v
}

// count is how many visits there were.
func (v *visitor) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.visits
}

// leave ends the visits and fails the test when one did not get the page, or
// when there were fewer than min.
func (v *visitor) leave(t *testing.T, least int) {
	t.Helper()
	v.cancel()
	<-v.done
	if v.err != nil {
		t.Errorf("of %d visits some failed: %v", v.visits, v.err)
	}
	if v.visits < least {
		t.Errorf("there were %d visits, want at least %d", v.visits, least)
	}
}

// eventually waits until look finds nothing wrong.
func eventually(t *testing.T, what string, look func() error) {
	t.Helper()
	within(t, long, what, look)
}

// within is eventually with a bound of its own.
func within(t *testing.T, most time.Duration, what string, look func() error) {
	t.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	end := time.NewTimer(most)
	defer end.Stop()
	for {
		err := look()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("%s: after %v: %v", what, most, err)
		case <-t.Context().Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// ready waits until a node can do all its work.
func (n *network) ready(t *testing.T, name string) {
	t.Helper()
	node, err := n.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	client, err := aleph.New(node.URL)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, name+" is ready", func() error { return client.Ready(t.Context()) })
}

// metric returns the value of a node's metric, such as
// aleph_executor_outcomes_total{outcome="started"}; 0 when it has none.
func metric(t *testing.T, node devnet.Node, name string) float64 {
	t.Helper()
	raw, err := get(t.Context(), node.URL+"/metrics")
	if err != nil {
		t.Fatalf("metrics: %v", err)
	}
	for line := range bytes.Lines(raw) {
		rest, found := strings.CutPrefix(string(line), name+" ")
		if !found {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
		if err != nil {
			t.Fatalf("metric %s: %v", name, err)
		}
		return v
	}
	return 0
}

// price is what seconds at a rate cost, rounded down, as the contract does it.
func price(rateQ32 *big.Int, seconds int64) *big.Int {
	v := new(big.Int).Mul(rateQ32, big.NewInt(seconds))
	return v.Rsh(v, 32)
}

// logTails shows what the nodes said last.
func logTails(t *testing.T, n *devnet.Network) {
	t.Helper()
	const lines = 60
	for _, node := range n.Nodes {
		raw, err := os.ReadFile(filepath.Join(node.DataDir, "node.log"))
		if err != nil {
			t.Logf("log of %s: %v", node.Name, err)
			continue
		}
		all := strings.Split(strings.TrimSpace(string(raw)), "\n")
		t.Logf("the end of the log of %s:\n%s", node.Name, strings.Join(all[max(0, len(all)-lines):], "\n"))
	}
}
