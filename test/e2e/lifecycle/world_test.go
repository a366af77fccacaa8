//go:build e2e

package lifecycle_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

const (
	poll = 50 * time.Millisecond
	// requestMax bounds a step's question to the node.
	requestMax = 10 * time.Second
	// plenty are the credits of an owner who pays.
	plenty = 1_000_000_000_000
)

// heldFrom is when our messages are from: machines that are held for may be new then.
var heldFrom = time.Date(2026, 2, 15, 0, 0, 0, 0, time.UTC)

type fields = map[string]any

// key is a key of ours, the same for the same name.
func key(name string) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("lifecycle " + name)))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

// owner has machines, and a session key that its wallet has signed.
type owner struct {
	key     *ecdsa.PrivateKey
	session *ecdsa.PrivateKey

	mu    sync.RWMutex // Held to read while something is done with its machines, and to write while its credits change.
	broke bool         // guarded by mu
}

// world is a coordinator, a compute node in a process of its own, and what there is
// on them.
type world struct {
	*testing.T
	chain    *chaintest.Net
	core     string // Base URL of the coordinator.
	client   *aleph.Client
	rpc, ccn *gate // The node's ways to the chain and to the coordinator.
	node     *daemon
	dir      string // Of the node's data.
	owners   []*owner
	payer    *aleph.Account
	image    message.ItemHash // STORE messages.
	code     message.ItemHash
	runtime  message.ItemHash

	mu     sync.Mutex
	signed int   // guarded by mu
	at     int64 // Of the next message; guarded by mu
}

// newWorld makes a world of so many owners. Machines are processes of hypervisor.
func newWorld(t *testing.T, owners int, bins []string, hypervisor string, change func(*config.Config)) *world {
	t.Helper()
	n := chaintest.Start(t)
	t.Cleanup(n.Run(t))
	w := &world{T: t, chain: n, at: heldFrom.Unix(), payer: aleph.NewAccount(n.Payer.Key)}
	for i := range owners {
		session, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.owners = append(w.owners, &owner{key: key(fmt.Sprint("owner ", i)), session: session})
	}
	root := t.TempDir()
	mountDisk(t, root, 2048)
	peers := w.coordinate(filepath.Join(root, "coordinator"))
	server, err := url.Parse(n.Chain.URL())
	if err != nil {
		t.Fatal(err)
	}
	w.rpc, w.ccn = newGate(t, server.Host), newGate(t, strings.TrimPrefix(w.core, "http://"))
	w.dir = filepath.Join(root, "node")
	mountDisk(t, w.dir, 512)
	cfg := w.join(w.dir, job.KindCompute)
	cfg.Chain.RPCURL = "http://" + w.rpc.addr
	cfg.Network.BootstrapPeers, cfg.API.Bind = peers, freeAddr(t)
	cfg.CoreNode.Servers = []string{"http://" + w.ccn.addr}
	cfg.CoreNode.StandingTTL, cfg.CoreNode.BalanceTTL, cfg.CoreNode.AggregateTTL, cfg.CoreNode.Rest = 0, 0, 0, 0
	cfg.CRN.AllocationSigners = []string{addressOf(key("scheduler"))}
	cfg.QEMU.Binary, cfg.VMNet.Mode = hypervisor, vmnet.Tap
	e := &cfg.Executor
	e.VCPUs, e.MemoryMiB, e.DiskMiB, e.ReserveDiskMiB = 256, 1<<17, 1<<20, 0
	e.Interval, e.AdInterval, e.WatchInterval, e.StopGrace = 200*time.Millisecond, time.Second, time.Second, 2*time.Second
	e.BackoffMin, e.BackoffMax, e.StableAfter, e.FailuresMax = 100*time.Millisecond, 500*time.Millisecond, time.Second, 1000
	e.LeaseGrace, e.LeaseRetention, e.Retention = time.Minute, time.Second, time.Second
	cfg.Functions.ReuseTimeout, cfg.Functions.Refresh = time.Second, time.Second
	change(&cfg)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.killAll() })
	w.node = startDaemon(t, cfg, bins, t.TempDir())
	w.furnish(root)
	return w
}

// join returns the settings of a node that has joined the chain.
func (w *world) join(dir string, kind job.NodeKind) config.Config {
	w.Helper()
	n := w.chain
	cfg := config.Default()
	cfg.Node.DataDir = dir
	cfg.Chain.RPCURL, cfg.Chain.ChainID, cfg.Chain.Contracts = n.Chain.URL(), devchain.ChainID, n.Deployment.Contracts
	cfg.Chain.FromBlock, cfg.Chain.PollInterval = n.Deployment.FromBlock, 100*time.Millisecond
	cfg.API.Bind = "127.0.0.1:0"
	if kind == job.KindCompute {
		cfg.Node.Role = config.Compute
	}
	keys, err := keystore.Open(dir, "", "")
	if err != nil {
		w.Fatal(err)
	}
	peer, err := p2p.PeerIDOf(keys.Identity)
	if err != nil {
		w.Fatal(err)
	}
	me := deploy.Node{Owner: n.Owner.Key, Signer: keys.Signer, Kind: kind, PeerID: peer.Bytes(), EtherWei: chaintest.Aleph(10)}
	if _, err := deploy.Join(w.Context(), n.Client, n.Deployment.Contracts, me); err != nil {
		w.Fatal(err)
	}
	return cfg
}

// coordinate runs the coordinator in this process, and returns its addresses.
func (w *world) coordinate(dir string) []string {
	w.Helper()
	cfg := w.join(dir, job.KindCoordinator)
	cfg.Ingest.CreditAuthority = addressOf(key("credits"))
	cfg.Ingest.BalanceAuthority = []string{addressOf(key("balances"))}
	if err := cfg.Validate(); err != nil {
		w.Fatal(err)
	}
	ran, err := node.New(w.Context(), cfg, slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.Context()))
	done := make(chan error, 1)
	go func() { done <- ran.Run(ctx) }()
	w.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, ran.Close()); err != nil {
			w.Errorf("coordinator ended: %v", err)
		}
	})
	w.core = ran.URL()
	if w.client, err = aleph.New(w.core); err != nil {
		w.Fatal(err)
	}
	var info struct {
		Addresses []string `json:"node_multi_addresses"`
	}
	status, body, err := w.ask(w.Context(), http.MethodGet, w.core+"/api/v0/info/public.json", nil)
	if err = errors.Join(err, json.Unmarshal(body, &info)); err != nil || status != http.StatusOK {
		w.Fatalf("info: %d %s (%v)", status, body, err)
	}
	return info.Addresses
}

// furnish brings files and money.
func (w *world) furnish(root string) {
	w.Helper()
	for i, at := range []*message.ItemHash{&w.image, &w.code, &w.runtime} {
		name := filepath.Join(root, fmt.Sprint("file", i))
		raw := append([]byte(fmt.Sprint("not bootable ", i)), make([]byte, 1<<20)...)
		if err := os.WriteFile(name, raw[:1<<20], 0o600); err != nil {
			w.Fatal(err)
		}
		*at = w.store(name)
	}
	balances := fields{}
	for _, o := range w.owners {
		balances[addressOf(o.key)] = 1_000_000_000
		w.must(w.credit(o, plenty))
	}
	_, err := w.send(key("balances"), message.TypePost, fields{"type": "balances-update", "content": fields{"chain": "ETH", "main_height": 1, "balances": balances}}, "")
	w.must(err)
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// ask asks a server, and returns status and body.
func (w *world) ask(ctx context.Context, method, url string, body any, header ...string) (int, []byte, error) {
	var in io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case io.Reader:
		in = b
	default:
		in = bytes.NewReader(encode(b))
		header = append(header, "Content-Type", "application/json")
	}
	ctx, cancel := context.WithTimeout(ctx, requestMax)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return 0, nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return resp.StatusCode, raw, err
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return raw
}

// send hands a message to the coordinator, which must take it.
func (w *world) send(k *ecdsa.PrivateKey, typ message.Type, content fields, channel string) (message.ItemHash, error) {
	w.mu.Lock()
	w.at++
	at := w.at
	w.mu.Unlock()
	content["address"], content["time"] = addressOf(k), at
	raw := encode(content)
	e := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Time: time.Unix(at, 0).UTC(), ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	if channel != "" {
		e.Channel = &channel
	}
	if err := signature.SignEVM(k, e); err != nil {
		return "", err
	}
	status, body, err := w.ask(w.Context(), http.MethodPost, w.core+"/api/v0/messages", fields{"sync": true, "message": e})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: %d %s", typ, status, body)
	}
	return e.ItemHash, err
}

// credit gives an owner credits, or takes them away if they are less than nothing.
func (w *world) credit(o *owner, amount int64) error {
	kind, part := "aleph_credit_distribution", "distribution"
	entry := fields{"address": addressOf(o.key), "amount": amount, "price": "1", "tx_hash": "0x1", "provider": "test"}
	content := fields{"token": "ALEPH", "chain": "ETH"}
	if amount < 0 {
		kind, part, content = "aleph_credit_expense", "expense", fields{}
		entry = fields{"address": addressOf(o.key), "amount": -amount, "ref": "vm", "execution_id": "", "node_id": "n"}
	}
	content["credits"] = []fields{entry}
	_, err := w.send(key("credits"), message.TypePost, fields{"type": kind, "content": fields{part: content}}, "ALEPH_CREDIT")
	return err
}

// store brings a file and the message that names it.
func (w *world) store(path string) message.ItemHash {
	w.Helper()
	raw, err := os.ReadFile(path)
	w.must(err)
	status, body, err := w.ask(w.Context(), http.MethodPost, w.core+"/api/v1/blobs", bytes.NewReader(raw), "Content-Type", "application/octet-stream")
	if err != nil || status != http.StatusCreated {
		w.Fatalf("upload: %d %s (%v)", status, body, err)
	}
	hash, err := w.send(w.owners[0].key, message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf(raw)}, "")
	w.must(err)
	return hash
}

// instance publishes an INSTANCE that is paid by credits, or by what is held.
func (w *world) instance(o *owner, payment message.PaymentType) (message.ItemHash, error) {
	return w.send(o.key, message.TypeInstance, fields{
		"allow_amend": false, "authorized_keys": []string{}, "variables": fields{},
		"environment": fields{"internet": true, "aleph_api": false, "hypervisor": "qemu", "reproducible": false, "shared_cache": false},
		"resources":   fields{"vcpus": 1, "memory": 128, "seconds": 30}, "payment": fields{"type": payment, "chain": "ETH"}, "volumes": []fields{},
		"rootfs": fields{"parent": fields{"ref": w.image, "use_latest": true}, "persistence": "host", "size_mib": 16},
	}, "")
}

// program publishes a PROGRAM that is paid by what its owner holds.
func (w *world) program(o *owner) (message.ItemHash, error) {
	return w.send(o.key, message.TypeProgram, fields{
		"type": "vm-function", "allow_amend": false, "variables": fields{}, "volumes": []fields{},
		"environment": fields{"reproducible": false, "internet": true, "aleph_api": false, "shared_cache": false},
		"resources":   fields{"vcpus": 1, "memory": 128, "seconds": 20},
		"code":        fields{"encoding": "plain", "entrypoint": "app", "interface": "asgi", "ref": w.code, "use_latest": true},
		"runtime":     fields{"ref": w.runtime, "use_latest": true, "comment": "test"},
		"on":          fields{"http": true, "persistent": false},
	}, "")
}

// forget publishes a FORGET.
func (w *world) forget(o *owner, hash message.ItemHash) error {
	_, err := w.send(o.key, message.TypeForget, fields{"hashes": []message.ItemHash{hash}, "aggregates": []string{}, "reason": "done"}, "")
	return err
}

// owned asks the node as an owner does.
func (w *world) owned(ctx context.Context, o *owner, method, path string, body any, header ...string) (int, []byte, error) {
	pub, err := o.session.PublicKey.Bytes()
	if err != nil {
		return 0, nil, err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	wallet := encode(fields{
		"pubkey": fields{"kty": "EC", "crv": "P-256", "x": b64(pub[1:33]), "y": b64(pub[33:])}, "alg": "ECDSA", "domain": "localhost",
		"address": addressOf(o.key), "expires": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "chain": "ETH",
	})
	sig, err := message.SignText(o.key, wallet)
	if err != nil {
		return 0, nil, err
	}
	plain, _, _ := strings.Cut(path, "?")
	operation := encode(fields{
		"time": time.Now().Add(time.Duration(w.next()) * time.Microsecond).UTC().Format(time.RFC3339Nano), "method": method, "path": plain, "domain": "localhost",
	})
	digest := sha256.Sum256(operation)
	r, s, err := ecdsa.Sign(rand.Reader, o.session, digest[:])
	if err != nil {
		return 0, nil, err
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return w.ask(ctx, method, w.node.url+path, body, append(header,
		"X-SignedPubKey", string(encode(fields{"payload": hex.EncodeToString(wallet), "signature": sig})),
		"X-SignedOperation", string(encode(fields{"payload": hex.EncodeToString(operation), "signature": hex.EncodeToString(raw[:])})))...)
}

// next numbers what is signed.
func (w *world) next() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signed++
	return w.signed
}

// allocate asks the node as the scheduler does, and returns what of the list runs.
func (w *world) allocate(ctx context.Context, instances, programs []message.ItemHash) (runs map[message.ItemHash]bool, err error) {
	body := encode(fields{"persistent_vms": append([]message.ItemHash{}, programs...), "instances": append([]message.ItemHash{}, instances...)})
	sum := sha256.Sum256(body)
	payload := encode(fields{
		"method": "POST", "path": "/control/allocations", "body_sha256": hex.EncodeToString(sum[:]), "iat": time.Now().Unix(), "n": w.next(),
	})
	sig, err := message.SignText(key("scheduler"), payload)
	if err != nil {
		return nil, err
	}
	status, raw, err := w.ask(ctx, http.MethodPost, w.node.url+"/control/allocations", bytes.NewReader(body),
		"Authorization", fmt.Sprintf("Aleph-EIP191-V1 sig=%s,payload=0x%x", sig, payload), "Content-Type", "application/json")
	if err != nil {
		return nil, err
	}
	var out struct{ Successful []message.ItemHash }
	if status != http.StatusOK && status != http.StatusMultiStatus || json.Unmarshal(raw, &out) != nil {
		return nil, fmt.Errorf("allocate: %d %s", status, raw)
	}
	runs = map[message.ItemHash]bool{}
	for _, h := range out.Successful {
		runs[h] = true
	}
	return runs, nil
}

// killAll ends the hypervisors of the node.
func (w *world) killAll() {
	for _, p := range processes(w.dir) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // What has ended need not be killed.
	}
}
