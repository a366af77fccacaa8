package executor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	chainNow    = 1_000_000 // chain time of the head block at the start
	coordinator = 1
	self        = 3
	payerKey    = 100
)

func domain() job.Domain { return job.Jobs(big.NewInt(31337), common.Address{0x0b}) }

func keyOf(t testing.TB, n int) *ecdsa.PrivateKey {
	t.Helper()
	key, err := crypto.ToECDSA(crypto.Keccak256(fmt.Appendf(nil, "key %d", n)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func address(t testing.TB, n int) common.Address {
	t.Helper()
	return crypto.PubkeyToAddress(keyOf(t, n).PublicKey)
}

func peerOf(t testing.TB, n int) p2p.PeerID {
	t.Helper()
	id, err := p2p.PeerIDOf(ed25519.NewKeyFromSeed(crypto.Keccak256(fmt.Appendf(nil, "peer %d", n))))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// world is a compute node: its database and its host, which survive a crash,
// and what the network gives it.
type world struct {
	t    testing.TB
	dir  string
	db   *state.DB
	cfg  executor.Config
	host *vmmtest.Host
	net  *network
	src  *source
	ads  *ads
	head uint64

	metrics *prometheus.Registry // of the last supervisor

	core *core // nil for none
	sev  *sev  // nil for none
	// devices are the host's GPUs; nil for none.
	devices executor.Devices
	// copying is called when a machine's disks are copied; nil for nothing.
	copying func(context.Context) error
	exports *exports          // nil for those of real nodes
	fetches *executor.Exports // nil for one that asks no address of this host
	hook    *hook             // nil for none
	synced  atomic.Bool
	asked   func() // When it is asked whether it is synced; nil for none.
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldWith(t, &state.Params{PrepaySeconds: 3600, StartSeconds: 900, GraceSoftSeconds: 7200, GraceHardSeconds: 86400})
}

// newWorldWith has other parameters of the contracts, or none.
func newWorldWith(t testing.TB, params *state.Params) *world {
	t.Helper()
	w := &world{
		t: t, dir: t.TempDir(), cfg: executor.DefaultConfig(), host: vmmtest.NewHost(), net: &network{t: t},
		ads: &ads{}, head: chainNow,
	}
	w.synced.Store(true)
	w.src = newSource(t, w.dir)
	w.cfg.VCPUs, w.cfg.MemoryMiB, w.cfg.DiskMiB = 64, 65536, 1_000_000
	w.cfg.Retention = 30 * time.Second
	w.open()
	t.Cleanup(func() { w.db.Close() })
	w.update(func(ctx context.Context, tx *state.Tx) error {
		if params != nil {
			if err := tx.PutParams(ctx, *params); err != nil {
				return err
			}
		}
		err := tx.PutNode(ctx, state.Node{
			ID: coordinator, Kind: state.KindCoordinator, Status: state.NodeActive,
			PeerIDHash: crypto.Keccak256Hash(peerOf(t, coordinator).Bytes()),
		})
		if err != nil {
			return err
		}
		return tx.PutNode(ctx, state.Node{ID: self, Kind: state.KindCompute, Status: state.NodeActive, Signer: address(t, self)})
	})
	w.block(0)
	return w
}

func (w *world) Synced() bool {
	if w.asked != nil {
		w.asked()
	}
	return w.synced.Load()
}

func (w *world) open() {
	w.t.Helper()
	db, err := state.Open(context.WithoutCancel(w.t.Context()), w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.db = db
}

func (w *world) reopen() {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

func (w *world) update(fn func(ctx context.Context, tx *state.Tx) error) {
	w.t.Helper()
	ctx := w.t.Context()
	if err := w.db.Update(ctx, func(tx *state.Tx) error { return fn(ctx, tx) }); err != nil {
		w.t.Fatal(err)
	}
}

// block mines a block so many seconds after the last.
func (w *world) block(seconds uint64) {
	w.t.Helper()
	w.head += seconds
	w.update(func(ctx context.Context, tx *state.Tx) error {
		return tx.PutBlock(ctx, state.Block{Number: w.head, Hash: common.BigToHash(new(big.Int).SetUint64(w.head)), Time: w.head})
	})
}

// job gives the nth message's job to this node.
func (w *world) job(n int) message.ItemHash {
	w.t.Helper()
	spec := w.src.instance(n).ItemHash
	w.setJob(spec, func(j *state.Job) {
		*j = state.Job{
			Spec: spec, Payer: address(w.t, payerKey), NodeID: self, CoordID: coordinator, Token: job.TokenALEPH,
			RateQ32: big.NewInt(1 << 40), Status: state.JobAssigned, AssignedAt: w.head,
		}
	})
	return spec
}

func (w *world) setJob(spec message.ItemHash, edit func(*state.Job)) {
	w.t.Helper()
	w.update(func(ctx context.Context, tx *state.Tx) error {
		j, err := tx.Job(ctx, spec)
		if errors.Is(err, errs.NotFound) {
			j, err = &state.Job{}, nil
		}
		if err != nil {
			return err
		}
		edit(j)
		return tx.PutJob(ctx, *j)
	})
}

func (w *world) startBilling(spec message.ItemHash) {
	w.t.Helper()
	w.setJob(spec, func(j *state.Job) { j.Status, j.StartedAt = state.JobRunning, w.head })
}

func (w *world) end(spec message.ItemHash, status state.JobStatus, reason string) {
	w.t.Helper()
	w.setJob(spec, func(j *state.Job) { j.Status, j.Reason, j.StoppedAt = status, reason, w.head })
}

// supervisor returns a new one, as after a start of the node.
func (w *world) supervisor() *executor.Supervisor {
	w.t.Helper()
	d := &driver{Driver: w.host.Open(), hook: w.hook, copying: w.copying, sev: w.sev}
	w.metrics = prometheus.NewRegistry()
	w.net.hook, w.src.hook = w.hook, w.hook
	parts := executor.Parts{
		DB: w.db, Driver: d, Network: w.net, Messages: w.src, Images: w.src, Publisher: w.ads, Chain: w,
	}
	if w.core != nil {
		parts.Core = w.core
	}
	parts.Devices = w.devices
	if w.exports != nil {
		w.exports.hook = w.hook
		parts.Exports = w.exports
	}
	if w.fetches != nil {
		parts.Exports = w.fetches
	}
	s, err := executor.New(w.cfg, executor.Self{
		NodeID: self, Key: keyOf(w.t, self), Domain: domain(), PeerID: "peer", Endpoint: "http://127.0.0.1:1", PublicIP: "192.0.2.7",
		Accelerator: vmm.TCG, Root: filepath.Join(w.dir, "vms"), ImageCache: filepath.Join(w.dir, "images"), Logs: filepath.Join(w.dir, "consoles"),
		Backups: filepath.Join(w.dir, "backups"),
	}, parts, w.metrics, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// start runs a new supervisor until the returned function is called, which
// waits for its end.
func (w *world) start() (stop func()) {
	w.t.Helper()
	return w.run(w.supervisor())
}

// run runs the supervisor as start does.
func (w *world) run(s *executor.Supervisor) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	if w.hook != nil {
		w.hook.crash = cancel
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); ctx.Err() == nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (w *world) vm(spec message.ItemHash) *state.VM {
	w.t.Helper()
	vm, err := w.db.VM(w.t.Context(), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return vm
}

func (w *world) wantState(spec message.ItemHash, want state.VMState) *state.VM {
	w.t.Helper()
	vm := w.vm(spec)
	if vm.State != want {
		w.t.Fatalf("VM is %s (%s), want %s", vm.State, vm.Detail, want)
	}
	return vm
}

func (w *world) intents() []string {
	w.t.Helper()
	all, err := w.db.IntentsWith(w.t.Context(), 10_000, state.IntentPending)
	if err != nil {
		w.t.Fatal(err)
	}
	var keys []string
	for _, i := range all {
		keys = append(keys, i.Key)
	}
	return keys
}

// wantNothing checks that the host holds nothing of ours.
func (w *world) wantNothing() {
	w.t.Helper()
	if ids := w.host.Running(); len(ids) > 0 {
		w.t.Errorf("machines run: %v, want none", ids)
	}
	if ls := w.net.applied(); len(ls) > 0 {
		w.t.Errorf("leases are applied: %v, want none", ls)
	}
	entries, err := os.ReadDir(filepath.Join(w.dir, "vms"))
	if err != nil {
		w.t.Fatal(err)
	}
	if len(entries) > 0 {
		w.t.Errorf("machine directories: %v, want none", entries)
	}
	vms, err := w.db.VMs(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, vm := range vms {
		w.t.Errorf("VM %s is left, %s: %s", vm.Spec, vm.State, vm.Detail)
	}
}

// hook counts what a supervisor asks of the world, and crashes it at one of
// the calls, before or after the call has had its effect.
type hook struct {
	mu    sync.Mutex
	calls int
	at    int // 0 = never
	after bool
	crash func()
}

var errCrash = errors.New("crashed")

func (h *hook) reached() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls >= h.at
}

// around runs effect, unless the crash comes before it.
func (h *hook) around(effect func() error) error {
	if h == nil {
		return effect()
	}
	h.mu.Lock()
	h.calls++
	hit := h.at != 0 && h.calls == h.at
	dead := h.at != 0 && h.calls > h.at
	h.mu.Unlock()
	switch {
	case dead:
		return errCrash
	case hit && !h.after:
		h.crash()
		return errCrash
	}
	err := effect()
	if hit {
		h.crash()
		return errCrash
	}
	return err
}

// driver is the host's driver under the name that messages want.
type driver struct {
	vmm.Driver
	hook    *hook
	copying func(context.Context) error
	sev     *sev // nil for none
}

func (d *driver) Name() string { return "qemu" }

func (d *driver) Start(ctx context.Context, spec vmm.Spec) (m vmm.Machine, err error) {
	err = d.hook.around(func() error { m, err = d.Driver.Start(ctx, spec); return err })
	return d.wrap(m), err
}

func (d *driver) Adopt(ctx context.Context, dir string) (m vmm.Machine, err error) {
	err = d.hook.around(func() error { m, err = d.Driver.Adopt(ctx, dir); return err })
	return d.wrap(m), err
}

func (d *driver) wrap(m vmm.Machine) vmm.Machine {
	if m == nil {
		return nil
	}
	if d.sev != nil && d.sev.isGuarded(m.ID()) {
		return guarded{m, d.sev}
	}
	return &machine{m, d.hook, d.copying}
}

type machine struct {
	vmm.Machine
	hook    *hook
	copying func(context.Context) error
}

// Backup implements vmm.Backuper with copies that are empty.
func (m *machine) Backup(ctx context.Context, spec vmm.BackupSpec) (vmm.BackupResult, error) {
	if m.copying != nil {
		if err := m.copying(ctx); err != nil {
			return vmm.BackupResult{}, err
		}
	}
	for _, d := range spec.Disks {
		if err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", filepath.Join(spec.Dir, d.Name), "1M").Run(); err != nil {
			return vmm.BackupResult{}, err
		}
	}
	return vmm.BackupResult{At: time.Now().UTC(), Frozen: spec.Freeze}, nil
}

// CancelBackup implements vmm.Backuper.
func (m *machine) CancelBackup(context.Context) error { return nil }

func (m *machine) Ready(ctx context.Context) error {
	return m.hook.around(func() error { return m.Machine.Ready(ctx) })
}

func (m *machine) Stop(ctx context.Context, grace time.Duration) error {
	return m.hook.around(func() error { return m.Machine.Stop(ctx, grace) })
}

// network is the host's network in memory.
type network struct {
	t    testing.TB
	hook *hook

	mu     sync.Mutex
	leases []vmnet.Lease
	fail   error
}

func (n *network) applied() []vmnet.Lease {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.leases)
}

func (n *network) set(fail error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fail = fail
}

func (n *network) Device(l vmnet.Lease) (vmnet.Device, error) {
	d := vmnet.Device{Mode: vmnet.User, MAC: "52:54:00:00:00:01", Bind: netip.MustParseAddr("127.0.0.1")}
	if l.Slot%2 == 1 {
		d = vmnet.Device{
			Mode: vmnet.Tap, TapName: fmt.Sprintf("tap%d", l.Slot), MAC: "52:54:00:00:00:02", Bind: netip.IPv4Unspecified(),
			Address: netip.MustParsePrefix("10.0.0.2/30"), Gateway: netip.MustParseAddr("10.0.0.1"),
		}
	}
	return d, nil
}

func (n *network) Traffic(l vmnet.Lease) (vmnet.Traffic, error) {
	if l.Slot%2 == 0 {
		return vmnet.Traffic{}, errs.New(errs.NotFound, "user mode")
	}
	return vmnet.Traffic{Received: 1000, Sent: 2000}, nil
}

// Strays finds the devices of leases that are applied and not among these.
func (n *network) Strays(leases []vmnet.Lease) ([]vmnet.Stray, error) {
	var out []vmnet.Stray
	for _, l := range n.applied() {
		if !slices.ContainsFunc(leases, func(o vmnet.Lease) bool { return o.ID == l.ID }) {
			out = append(out, vmnet.Stray{Kind: vmnet.StrayDevice, What: "device of " + l.ID}, vmnet.Stray{Kind: vmnet.StrayRule, What: "rule of " + l.ID})
		}
	}
	return out, nil
}

func (n *network) FreeSlot(taken func(int) bool) (int, error) {
	for i := range 1000 {
		if !taken(i) {
			return i, nil
		}
	}
	return 0, errs.New(errs.Exhausted, "no slot is free")
}

func (n *network) FreeSubnet6(func(int) bool) (int, error) { return 0, nil }

func (n *network) Admit(vmnet.Lease, []vmnet.Lease) error { return nil }

func (n *network) FreePort(_ vmnet.Protocol, prefer int, taken func(int) bool) (int, error) {
	for p := max(prefer, 20_000); p < 30_000; p++ {
		if !taken(p) {
			return p, nil
		}
	}
	return 0, errs.New(errs.Exhausted, "no port is free")
}

func (n *network) Apply(_ context.Context, leases []vmnet.Lease) error {
	return n.hook.around(func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.fail != nil {
			return n.fail
		}
		slots, ports := map[int]bool{}, map[string]bool{}
		for _, l := range leases {
			if slots[l.Slot] {
				n.t.Errorf("slot %d was given twice", l.Slot)
			}
			slots[l.Slot] = true
			for _, f := range l.Forwards {
				key := fmt.Sprint(f.Protocol, f.HostPort)
				if ports[key] {
					n.t.Errorf("port %s was given twice", key)
				}
				ports[key] = true
			}
		}
		n.leases = slices.Clone(leases)
		return nil
	})
}

// source is where messages and images come from.
type source struct {
	t    testing.TB
	hook *hook
	path string // of the one image

	mu      sync.Mutex
	known   map[message.ItemHash]*message.Envelope
	fail    error // of Fetch
	fetched int   // images
	dropped int   // images
	room    []int64
	blobs   map[message.ItemHash]message.ItemHash // under which names files are kept; most under their own
}

// imageBytes is a raw disk.
func imageBytes() []byte { return make([]byte, 1<<20) }

func imageHash() message.ItemHash { return message.HashOf(imageBytes()) }

func newSource(t testing.TB, dir string) *source {
	t.Helper()
	s := &source{t: t, known: map[message.ItemHash]*message.Envelope{}}
	files := filepath.Join(dir, "files")
	if err := os.MkdirAll(files, 0o700); err != nil {
		t.Fatal(err)
	}
	s.path = filepath.Join(files, string(imageHash()))
	if err := os.WriteFile(s.path, imageBytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// image returns the STORE message of the image.
func (s *source) image() *message.Envelope {
	s.t.Helper()
	return s.sign(message.TypeStore, fmt.Sprintf(`{"address":%q,"time":1700000000,"item_type":"storage","item_hash":%q}`,
		address(s.t, payerKey).Hex(), imageHash()))
}

// instance returns the nth INSTANCE message.
func (s *source) instance(n int) *message.Envelope {
	s.t.Helper()
	return s.content(fmt.Sprintf(`{"address":%q,"time":%d,"allow_amend":false,"variables":{"N":"%d"},"authorized_keys":["ssh-ed25519 AAAA me"],
		"environment":{"internet":true,"aleph_api":false},
		"resources":{"vcpus":1,"memory":512,"seconds":30,"published_ports":[{"protocol":"tcp","port":80},{"protocol":"tcp","port":22},{"protocol":"udp","port":53}]},
		"payment":{"chain":"ETH","type":"credit"},"volumes":[],
		"rootfs":{"parent":{"ref":"%s"},"persistence":"host","size_mib":1000}}`,
		address(s.t, payerKey).Hex(), 1_700_000_000+n, n, s.image().ItemHash))
}

// held returns the nth INSTANCE message that is paid by holding tokens.
func (s *source) held(n int) *message.Envelope {
	s.t.Helper()
	return s.content(fmt.Sprintf(`{"address":%q,"time":%d,"allow_amend":false,"environment":{"internet":true,"aleph_api":false},
		"resources":{"vcpus":1,"memory":512,"seconds":30},"payment":{"chain":"ETH","type":"hold"},"volumes":[],
		"rootfs":{"parent":{"ref":"%s"},"persistence":"host","size_mib":1000}}`,
		address(s.t, payerKey).Hex(), 1_700_000_000+n, s.image().ItemHash))
}

// streamed returns the nth INSTANCE message that a stream of tokens to a receiver pays.
func (s *source) streamed(n int, chain, receiver string) *message.Envelope {
	s.t.Helper()
	return s.content(fmt.Sprintf(`{"address":%q,"time":%d,"allow_amend":false,"environment":{"internet":true,"aleph_api":false},
		"resources":{"vcpus":1,"memory":512,"seconds":30},"payment":{"chain":%q,"receiver":%q,"type":"superfluid"},"volumes":[],
		"rootfs":{"parent":{"ref":"%s"},"persistence":"host","size_mib":1000}}`,
		address(s.t, payerKey).Hex(), 1_700_000_000+n, chain, receiver, s.image().ItemHash))
}

func (s *source) content(content string) *message.Envelope {
	s.t.Helper()
	return s.sign(message.TypeInstance, content)
}

func (s *source) sign(typ message.Type, content string) *message.Envelope {
	s.t.Helper()
	env := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Time: time.Unix(1_700_000_000, 0).UTC(),
		ItemType: message.Inline, ItemContent: content, ItemHash: message.HashOf([]byte(content)),
	}
	if err := signature.SignEVM(keyOf(s.t, payerKey), env); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[env.ItemHash] = env
	return env
}

func (s *source) set(fail error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *source) Message(_ context.Context, hash message.ItemHash) (env *message.Envelope, err error) {
	err = s.hook.around(func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if env = s.known[hash]; env == nil {
			return errs.New(errs.Unavailable, "nobody has message %s", hash)
		}
		return nil
	})
	return env, err
}

func (s *source) Fetch(ctx context.Context, hash message.ItemHash, progress func(done, total int64)) (string, error) {
	err := s.hook.around(func() error {
		s.mu.Lock()
		fail := s.fail
		s.fetched++
		s.mu.Unlock()
		if !strings.HasSuffix(s.path, string(hash)) {
			// An image that never comes.
			for done := int64(0); ; done += 1 << 20 {
				progress(done, 1<<40)
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return fail
	})
	return s.path, err
}

func (s *source) Blob(hash message.ItemHash) message.ItemHash {
	s.mu.Lock()
	defer s.mu.Unlock()
	if blob, ok := s.blobs[hash]; ok {
		return blob
	}
	return hash
}

// Drop gives the image its bytes back, as the next Fetch would.
func (s *source) Drop(message.ItemHash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped++
	return os.WriteFile(s.path, imageBytes(), 0o600)
}

func (s *source) MakeRoom(_ context.Context, sizeBytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = append(s.room, sizeBytes)
	return nil
}

// ads keeps what was advertised.
type ads struct {
	mu  sync.Mutex
	all []wire.CapacityAd
}

func (a *ads) PublishCapacity(_ context.Context, ad *wire.CapacityAd) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, *ad)
	return nil
}

func (a *ads) last() wire.CapacityAd {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) == 0 {
		return wire.CapacityAd{}
	}
	return a.all[len(a.all)-1]
}

func (a *ads) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.all)
}

// ask is what a coordinator asks about the nth message.
func (w *world) ask(n int, edit func(*job.Ask)) *job.Ask {
	w.t.Helper()
	return w.askFor(w.src.instance(n), edit)
}

func (w *world) askFor(env *message.Envelope, edit func(*job.Ask)) *job.Ask {
	w.t.Helper()
	rate := new(big.Int).Lsh(big.NewInt(1), 110)
	a := &job.Ask{
		Kind: job.AskAccept, Message: env,
		Offer: &job.Offer{
			Spec: env.ItemHash, Payer: address(w.t, payerKey), Token: job.TokenALEPH, MaxRateQ32: rate, Deadline: w.head + 600, Nonce: big.NewInt(7),
		},
		Assignment: &job.Assignment{Spec: env.ItemHash, NodeID: self, RateQ32: rate, CoordID: coordinator, Deadline: w.head + 300},
	}
	if edit != nil {
		edit(a)
	}
	if a.Offer != nil && a.OfferSignature == nil {
		sig, err := job.Sign(keyOf(w.t, payerKey), domain(), a.Offer)
		if err != nil {
			w.t.Fatal(err)
		}
		a.OfferSignature = sig
	}
	raw, err := json.Marshal(a)
	if err != nil {
		w.t.Fatal(err)
	}
	var read job.Ask
	if err := json.Unmarshal(raw, &read); err != nil {
		w.t.Fatal(err)
	}
	return &read
}
