package main

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
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/pelletier/go-toml/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

type fields = map[string]any

const (
	// awaitMax bounds every wait: guests boot by translation, on a busy machine too.
	awaitMax = 5 * time.Minute
	// endMax bounds the end of a node.
	endMax = time.Minute

	ownerAleph = 500_000
	gasEther   = 100
)

// world is a chain, a coordinator, a compute node that takes machines from the message
// network, and an owner of machines.
type world struct {
	b       *bench
	dir     string
	chain   *devchain.Chain
	client  *chain.Client
	core    *node
	compute *node

	owner   *ecdsa.PrivateKey
	session *ecdsa.PrivateKey // The owner's, for requests to the compute node.
	signed  int
	at      int64 // Of the next message.
	home    *devnet.CLI

	stop  context.CancelFunc
	mined sync.WaitGroup
}

// node is a node in a process of its own.
type node struct {
	url, dir string
	cmd      *exec.Cmd
	ended    chan struct{}
}

func key(name string) (*ecdsa.PrivateKey, error) {
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("bench " + name)))
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return k, nil
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

// newWorld makes a world whose compute node has more settings.
func (b *bench) newWorld(ctx context.Context, more map[string]fields) (_ *world, err error) {
	w := &world{b: b, at: time.Now().Add(-time.Hour).Unix()}
	if w.dir, err = os.MkdirTemp("", "aleph-bench-"); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(context.WithoutCancel(ctx)))
		}
	}()
	w.home = &devnet.CLI{Home: filepath.Join(w.dir, "owner")}
	if err := os.MkdirAll(w.home.Home, 0o700); err != nil {
		return nil, fmt.Errorf("make home: %w", err)
	}
	if w.owner, err = key("owner"); err != nil {
		return nil, err
	}
	if w.session, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make session key: %w", err)
	}
	b.say("starting a chain, a coordinator and a compute node")
	deployed, err := w.openChain(ctx)
	if err != nil {
		return nil, err
	}
	authority, err := key("authority")
	if err != nil {
		return nil, err
	}
	core, peer, err := w.settings(ctx, deployed, job.KindCoordinator)
	if err != nil {
		return nil, err
	}
	core["ingest"] = fields{"credit_authority": addressOf(authority), "balance_authority": []string{addressOf(authority)}}
	listens, ok := core["network"]["listen_addr"].(string)
	if !ok {
		return nil, errors.New("the coordinator has no address")
	}
	if w.core, err = w.start(ctx, core); err != nil {
		return nil, err
	}
	compute, _, err := w.settings(ctx, deployed, job.KindCompute)
	if err != nil {
		return nil, err
	}
	compute["network"]["bootstrap_peers"] = []string{listens + "/p2p/" + peer}
	compute["corenode"] = fields{"servers": []string{w.core.url}}
	compute["executor"] = fields{"on_exit": "stop", "interval": "500ms"}
	compute["vmnet"] = fields{"mode": "user"}
	image, err := filepath.Abs(b.image)
	if err != nil {
		return nil, fmt.Errorf("find image: %w", err)
	}
	compute["qemu"] = fields{"probe_image": image}
	for section, values := range more {
		if compute[section] == nil {
			compute[section] = fields{}
		}
		maps.Copy(compute[section], values)
	}
	if w.compute, err = w.start(ctx, compute); err != nil {
		return nil, err
	}
	return w, w.pay(ctx, authority)
}

// pay gives the owner credits and tokens.
func (w *world) pay(ctx context.Context, authority *ecdsa.PrivateKey) error {
	_, err := w.send(ctx, authority, message.TypePost, fields{"type": "aleph_credit_distribution", "content": fields{"distribution": fields{
		"token": "ALEPH", "chain": "ETH",
		"credits": []fields{{"address": addressOf(w.owner), "amount": 1_000_000_000_000, "price": "1", "tx_hash": "0x1", "provider": "bench"}},
	}}}, "ALEPH_CREDIT")
	if err != nil {
		return err
	}
	_, err = w.send(ctx, authority, message.TypePost, fields{"type": "balances-update", "content": fields{
		"chain": "ETH", "main_height": 1, "balances": fields{addressOf(w.owner): 1_000_000},
	}}, "")
	return err
}

// openChain makes a chain with the contracts on it.
func (w *world) openChain(ctx context.Context) (*deploy.Deployment, error) {
	quiet := slog.New(slog.DiscardHandler)
	var err error
	if w.chain, err = devchain.Open(devchain.Config{}, quiet); err != nil {
		return nil, err
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	w.mined.Go(func() { _ = w.chain.Run(life) }) // It ends with life.
	if w.client, err = chain.Dial(ctx, chain.Config{RPCURL: w.chain.URL(), ChainID: devchain.ChainID}, quiet); err != nil {
		return nil, err
	}
	accounts := devchain.Accounts()
	params, err := deploy.ParamsOf(devchain.ChainID)
	if err != nil {
		return nil, err
	}
	params.Pools = deploy.Pools{Stakers: accounts[2].Address, Coordinators: accounts[3].Address, Development: accounts[4].Address}
	return deploy.Deploy(ctx, w.client, accounts[0].Key, params, deploy.Extras{
		Grants: []deploy.Grant{{To: accounts[1].Address, AlephWei: wei(ownerAleph)}},
	})
}

func wei(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(1e18)) }

// settings lets a node join the chain, and returns its settings and its peer id.
func (w *world) settings(ctx context.Context, d *deploy.Deployment, kind job.NodeKind) (map[string]fields, string, error) {
	role := "coordinator"
	if kind == job.KindCompute {
		role = "compute"
	}
	dir := filepath.Join(w.dir, role)
	keys, err := keystore.Open(dir, "", "")
	if err != nil {
		return nil, "", err
	}
	peer, err := p2p.PeerIDOf(keys.Identity)
	if err != nil {
		return nil, "", err
	}
	me := deploy.Node{Owner: devchain.Accounts()[1].Key, Signer: keys.Signer, Kind: kind, PeerID: peer.Bytes(), EtherWei: wei(gasEther)}
	if _, err := deploy.Join(ctx, w.client, d.Contracts, me); err != nil {
		return nil, "", err
	}
	contracts := fields{}
	for name, address := range d.Contracts.ByName() {
		contracts[name] = address.Hex()
	}
	api, err := freePort(ctx)
	if err != nil {
		return nil, "", err
	}
	swarm, err := freePort(ctx)
	if err != nil {
		return nil, "", err
	}
	return map[string]fields{
		"node": {"role": role, "data_dir": dir},
		"chain": {
			"rpc_url": w.chain.URL(), "chain_id": devchain.ChainID, "from_block": d.FromBlock, "poll_interval": "100ms", "contracts": contracts,
		},
		"network": {"listen_addr": fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", swarm)},
		"api":     {"bind": fmt.Sprintf("127.0.0.1:%d", api)},
	}, string(peer), nil
}

// start runs a node and returns when it is ready.
func (w *world) start(ctx context.Context, settings map[string]fields) (*node, error) {
	dir, _ := settings["node"]["data_dir"].(string)
	bind, _ := settings["api"]["bind"].(string)
	raw, err := toml.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	path := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return nil, fmt.Errorf("write settings: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "node.log"))
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	n := &node{url: "http://" + bind, dir: dir, ended: make(chan struct{})}
	n.cmd = exec.Command(filepath.Join(w.b.bin, "aleph-node"), "--config", path) //nolint:noctx // end ends it in order
	n.cmd.Stdout, n.cmd.Stderr = log, log
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "ALEPH_") {
			n.cmd.Env = append(n.cmd.Env, pair)
		}
	}
	// It ends in order with end, not with the terminal's Ctrl-C; and by itself when
	// this process dies. To the kernel the thread that starts it is its parent.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	began := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := n.cmd.Start()
		began <- err
		if err == nil {
			_ = n.cmd.Wait() // That it was ended is no failure.
		}
		log.Close()
		close(n.ended)
	}()
	if err := <-began; err != nil {
		return nil, fmt.Errorf("start node: %w", err)
	}
	err = until(ctx, "the node to be ready", 20*time.Millisecond, func() (bool, error) {
		select {
		case <-n.ended:
			return false, fmt.Errorf("the node ended: %s", tail(filepath.Join(dir, "node.log")))
		default:
		}
		status, _, err := request(ctx, http.MethodGet, n.url+"/readyz", nil)
		return err == nil && status == http.StatusOK, nil
	})
	if err != nil {
		return nil, errors.Join(err, n.end())
	}
	return n, nil
}

// tail is the end of a log.
func tail(path string) string {
	const most = 2000
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-most):])
}

func (n *node) end() error {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end node: %w", err)
	}
	select {
	case <-n.ended:
		return nil
	case <-time.After(endMax):
		return errors.Join(fmt.Errorf("node in %s did not end in %v", n.dir, endMax), n.cmd.Process.Kill())
	}
}

// cpu is the processor time that the node's process has used.
func (n *node) cpu() (time.Duration, error) { return measure.CPUOf(n.cmd.Process.Pid) }

// close ends everything and removes it.
func (w *world) close(ctx context.Context) error {
	var all error
	for _, n := range []*node{w.compute, w.core} {
		if n != nil {
			all = errors.Join(all, n.end())
		}
	}
	all = errors.Join(all, w.killMachines(ctx))
	if w.client != nil {
		w.client.Close()
	}
	if w.chain != nil {
		w.stop()
		w.mined.Wait()
		all = errors.Join(all, w.chain.Close())
	}
	return errors.Join(all, os.RemoveAll(w.dir))
}

// killMachines ends what a node that failed has left.
func (w *world) killMachines(ctx context.Context) error {
	driver := qemu.New(qemu.Config{}, slog.New(slog.DiscardHandler))
	var all error
	for _, pattern := range []string{"vms/*/lock", "functions/programs/*/machine/lock", "functions/template/machine/lock"} {
		locks, err := filepath.Glob(filepath.Join(w.dir, "compute", pattern))
		all = errors.Join(all, err)
		for _, lock := range locks {
			m, err := driver.Adopt(ctx, filepath.Dir(lock))
			if errs.KindOf(err) == errs.NotFound {
				continue
			}
			if err == nil {
				err = m.Kill(ctx)
			}
			all = errors.Join(all, err)
		}
	}
	return errors.Join(all, driver.Close())
}

// until asks again and again until it is done.
func until(ctx context.Context, what string, every time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, awaitMax, fmt.Errorf("waited %v for %s", awaitMax, what))
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func freePort(ctx context.Context) (int, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("%s is no TCP address", l.Addr())
	}
	return addr.Port, nil
}

// request asks a node and returns status and body.
func request(ctx context.Context, method, url string, body any, header ...string) (int, []byte, error) {
	var in io.Reader
	switch body := body.(type) {
	case nil:
	case io.Reader:
		in = body
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, nil, fmt.Errorf("encode request: %w", err)
		}
		in = bytes.NewReader(raw)
		header = append(header, "Content-Type", "application/json")
	}
	r, err := http.NewRequestWithContext(ctx, method, url, in)
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	for i := 0; i < len(header); i += 2 {
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

// want reports an answer that is another one.
func want(what string, status int, body []byte, err error, wanted int) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if status != wanted {
		return fmt.Errorf("%s: status %d, want %d: %.500s", what, status, wanted, body)
	}
	return nil
}

// send hands a message to the coordinator, which takes it.
func (w *world) send(ctx context.Context, k *ecdsa.PrivateKey, typ message.Type, content fields, channel string) (message.ItemHash, error) {
	w.at++
	content["address"], content["time"] = addressOf(k), w.at
	raw, err := json.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("encode message: %w", err)
	}
	e := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Time: time.Unix(w.at, 0).UTC(), ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	if channel != "" {
		e.Channel = &channel
	}
	if err := signature.SignEVM(k, e); err != nil {
		return "", err
	}
	status, body, err := request(ctx, http.MethodPost, w.core.url+"/api/v0/messages", fields{"sync": true, "message": e})
	return e.ItemHash, want(string(typ), status, body, err, http.StatusOK)
}

// store brings a file and the message that names it.
func (w *world) store(ctx context.Context, raw []byte) (message.ItemHash, error) {
	status, body, err := request(ctx, http.MethodPost, w.core.url+"/api/v1/blobs", bytes.NewReader(raw), "Content-Type", "application/octet-stream")
	if err := want("upload", status, body, err, http.StatusCreated); err != nil {
		return "", err
	}
	return w.send(ctx, w.owner, message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf(raw)}, "")
}

// storeFile is store of a file.
func (w *world) storeFile(ctx context.Context, path string) (message.ItemHash, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read file to store: %w", err)
	}
	return w.store(ctx, raw)
}

// instance publishes an INSTANCE that is paid by credits.
func (w *world) instance(ctx context.Context, image message.ItemHash) (message.ItemHash, error) {
	path, err := w.home.SSHKey()
	if err != nil {
		return "", err
	}
	public, err := os.ReadFile(path + ".pub")
	if err != nil {
		return "", fmt.Errorf("read SSH key: %w", err)
	}
	return w.send(ctx, w.owner, message.TypeInstance, fields{
		"allow_amend": false, "authorized_keys": []string{strings.TrimSpace(string(public))}, "variables": fields{},
		"environment": fields{"internet": true, "aleph_api": false, "hypervisor": "qemu", "reproducible": false, "shared_cache": false},
		"resources":   fields{"vcpus": 1, "memory": machineMiB, "seconds": 30}, "payment": fields{"type": "credit", "chain": "ETH"}, "volumes": []fields{},
		"rootfs": fields{"parent": fields{"ref": image, "use_latest": true}, "persistence": "host", "size_mib": diskMiB},
	}, "")
}

// What machines have.
const (
	machineMiB = 256
	diskMiB    = 1024
)

// notify asks the compute node to run an instance.
func (w *world) notify(ctx context.Context, vm message.ItemHash) error {
	status, body, err := request(ctx, http.MethodPost, w.compute.url+"/control/allocation/notify", fields{"instance": vm})
	return want("notify", status, body, err, http.StatusOK)
}

// sshPort is the port of the host that leads to a machine's SSH, 0 while there is none.
func (w *world) sshPort(ctx context.Context, vm message.ItemHash) (int, error) {
	status, body, err := request(ctx, http.MethodGet, w.compute.url+"/v2/about/executions/list", nil)
	if err := want("list of machines", status, body, err, http.StatusOK); err != nil {
		return 0, err
	}
	var all map[message.ItemHash]struct {
		Networking struct {
			MappedPorts map[string]struct{ Host int } `json:"mapped_ports"`
		}
	}
	if err := json.Unmarshal(body, &all); err != nil {
		return 0, fmt.Errorf("read list of machines: %w", err)
	}
	return all[vm].Networking.MappedPorts["22"].Host, nil
}

// erase ends a machine and its disk, by the owner's order.
func (w *world) erase(ctx context.Context, vm message.ItemHash) error {
	status, body, err := w.owned(ctx, http.MethodPost, "/control/machine/"+string(vm)+"/erase")
	return want("erase", status, body, err, http.StatusOK)
}

// owned asks the compute node as the owner does, with a session key that the wallet
// has signed.
func (w *world) owned(ctx context.Context, method, path string) (int, []byte, error) {
	pub, err := w.session.PublicKey.Bytes()
	if err != nil {
		return 0, nil, fmt.Errorf("encode session key: %w", err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	wallet, err := json.Marshal(fields{
		"pubkey": fields{"kty": "EC", "crv": "P-256", "x": b64(pub[1:33]), "y": b64(pub[33:])}, "alg": "ECDSA", "domain": "localhost",
		"address": addressOf(w.owner), "expires": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "chain": "ETH",
	})
	if err != nil {
		return 0, nil, fmt.Errorf("encode session: %w", err)
	}
	sig, err := message.SignText(w.owner, wallet)
	if err != nil {
		return 0, nil, err
	}
	w.signed++
	plain, _, _ := strings.Cut(path, "?")
	operation, err := json.Marshal(fields{
		"time": time.Now().Add(time.Duration(w.signed) * time.Microsecond).UTC().Format(time.RFC3339Nano), "method": method, "path": plain, "domain": "localhost",
	})
	if err != nil {
		return 0, nil, fmt.Errorf("encode operation: %w", err)
	}
	digest := sha256.Sum256(operation)
	r, s, err := ecdsa.Sign(rand.Reader, w.session, digest[:])
	if err != nil {
		return 0, nil, fmt.Errorf("sign operation: %w", err)
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	signedKey, err := json.Marshal(fields{"payload": hex.EncodeToString(wallet), "signature": sig})
	if err != nil {
		return 0, nil, fmt.Errorf("encode session: %w", err)
	}
	signedOperation, err := json.Marshal(fields{"payload": hex.EncodeToString(operation), "signature": hex.EncodeToString(raw[:])})
	if err != nil {
		return 0, nil, fmt.Errorf("encode operation: %w", err)
	}
	return request(ctx, method, w.compute.url+path, nil, "X-SignedPubKey", string(signedKey), "X-SignedOperation", string(signedOperation))
}
