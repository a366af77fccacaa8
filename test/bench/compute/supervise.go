package main

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

// A process of its own runs machines whose hypervisor does nothing, so that its
// processor time and its memory are those of the executor, the driver, the database
// and the network of machines, and of nothing else.
const (
	nodeID = 3
	// beginAt is the chain's time at the start, and blockEvery how long a block takes.
	beginAt    = 1_000_000
	blockEvery = time.Second
	// settleFor is how long machines run before the memory is read, and idleFor how
	// long what they cost meanwhile is measured.
	settleFor = time.Second
	// superviseMax bounds a round.
	superviseMax = 2 * time.Minute
)

// supervising is such a process.
type supervising struct {
	dir, stub, image, profile string
	mode                      string
	machines, rounds          int
	idle                      time.Duration
}

// superviseRound is what it measured in one round, which it prints as a line of JSON.
type superviseRound struct {
	Machines int     `json:"machines"`
	StartMS  float64 `json:"start_ms"` // From the rows of jobs to the last machine that runs.
	StopMS   float64 `json:"stop_ms"`  // From the ends of jobs to the last machine that is removed.
	// Processor time of the process, all machines together.
	StartCPUMS float64 `json:"start_cpu_ms"`
	StopCPUMS  float64 `json:"stop_cpu_ms"`
	IdleCPUMS  float64 `json:"idle_cpu_ms"` // A second.
	// Memory in bytes: resident before and while the machines run.
	Before float64 `json:"before"`
	With   float64 `json:"with"`
}

func (s *supervising) flags(f *flag.FlagSet) {
	f.StringVar(&s.dir, "supervise", "", "be the process that is measured, and work in this directory")
	f.StringVar(&s.mode, "supervise-net", string(vmnet.User), "network of its machines")
	f.IntVar(&s.machines, "supervise-machines", 1, "machines of a round")
	f.IntVar(&s.rounds, "supervise-rounds", 1, "rounds, after one that does not count")
	f.DurationVar(&s.idle, "supervise-idle", time.Second, "how long machines idle in a round")
	f.StringVar(&s.stub, "supervise-stub", "", "program that plays QEMU")
	f.StringVar(&s.image, "supervise-image", "", "image of the machines")
	f.StringVar(&s.profile, "supervise-profile", "", "write a profile of the rounds to this file")
}

// run measures the rounds and prints them.
func (s *supervising) run(ctx context.Context, out io.Writer) (err error) {
	if s.mode == string(vmnet.Tap) {
		if err := raiseLoopback(); err != nil {
			return err
		}
	}
	w, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if _, err := w.round(ctx, 1, 0); err != nil { // Unpacks the image, and checks it.
		return err
	}
	if s.profile != "" {
		f, err := os.Create(s.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("begin profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	for range s.rounds {
		r, err := w.round(ctx, s.machines, s.idle)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print round: %w", err)
		}
	}
	return nil
}

// raiseLoopback brings up the loopback device of this process's network.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("name loopback device: %w", err)
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("raise loopback device: %w", err)
	}
	return nil
}

// supervised is what the process has: a database, a supervisor, and what stands for
// the rest of a node.
type supervised struct {
	db      *state.DB
	driver  *qemu.Driver
	network *vmnet.Network
	src     *source
	heard   *hearing
	key     *ecdsa.PrivateKey

	cancel context.CancelFunc
	parts  sync.WaitGroup
	failed chan error

	made int // Messages so far.

	mu   sync.Mutex
	head uint64 // guarded by mu
}

func (s *supervising) open(ctx context.Context) (_ *supervised, err error) {
	w := &supervised{heard: newHearing(), head: beginAt, failed: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	log := slog.New(w.heard)
	if w.key, err = crypto.ToECDSA(crypto.Keccak256([]byte("bench payer"))); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if w.src, err = newSource(s.image, w.key); err != nil {
		return nil, err
	}
	if w.db, err = state.Open(ctx, s.dir); err != nil {
		return nil, err
	}
	if err := w.found(ctx); err != nil {
		return nil, err
	}
	w.driver = qemu.New(qemu.Config{Binary: s.stub, CacheDir: filepath.Join(s.dir, "cache")}, log.With("part", "vmm"))
	net := vmnet.DefaultConfig()
	net.Mode, net.Name = vmnet.Mode(s.mode), vmnet.NameOf(s.dir)
	if w.network, err = vmnet.Open(net, log.With("part", "vmnet")); err != nil {
		return nil, err
	}
	cfg := executor.DefaultConfig()
	cfg.VCPUs, cfg.MemoryMiB, cfg.DiskMiB = 1<<16, 1<<24, 1<<30 // Nothing of it is used.
	cfg.Retention = 0                                           // What a machine leaves is removed at once, which counts.
	super, err := executor.New(cfg, executor.Self{
		NodeID: nodeID, Key: w.key, Domain: job.Jobs(big.NewInt(31337), common.Address{0x0b}), PeerID: "peer", //nolint:mnd // any chain
		Endpoint: "http://127.0.0.1:1", PublicIP: "127.0.0.1", Accelerator: vmm.TCG, Root: filepath.Join(s.dir, "vms"),
		ImageCache: filepath.Join(s.dir, "images"), Logs: filepath.Join(s.dir, "consoles"), Backups: filepath.Join(s.dir, "backups"),
	}, executor.Parts{
		DB: w.db, Driver: w.driver, Network: w.network, Messages: w.src, Images: w.src, Publisher: w, Chain: w,
	}, prometheus.NewRegistry(), log.With("part", "executor"))
	if err != nil {
		return nil, err
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.parts.Go(func() {
		if err := super.Run(ctx); ctx.Err() == nil {
			w.failed <- err
		}
	})
	w.parts.Go(func() {
		if err := w.mine(ctx); ctx.Err() == nil {
			w.failed <- err
		}
	})
	return w, nil
}

// found writes the rows that a node has before any job.
func (w *supervised) found(ctx context.Context) error {
	return w.db.Update(ctx, func(tx *state.Tx) error {
		return errors.Join(
			tx.PutParams(ctx, state.Params{PrepaySeconds: 3600, StartSeconds: 900, GraceSoftSeconds: 7200, GraceHardSeconds: 86400}),
			tx.PutNode(ctx, state.Node{ID: nodeID, Kind: state.KindCompute, Status: state.NodeActive, Signer: crypto.PubkeyToAddress(w.key.PublicKey)}),
			w.block(ctx, tx),
		)
	})
}

func (w *supervised) block(ctx context.Context, tx *state.Tx) error {
	return tx.PutBlock(ctx, state.Block{Number: w.head, Hash: common.BigToHash(new(big.Int).SetUint64(w.head)), Time: w.head})
}

// mine plays the chain: a block a second, in which jobs whose machines run begin to
// be billed.
func (w *supervised) mine(ctx context.Context) error {
	tick := time.NewTicker(blockEvery)
	defer tick.Stop()
	var fresh []message.ItemHash // Jobs whose machines have come up since the last block.
	for {
		select {
		case <-tick.C:
		case spec := <-w.heard.runs:
			fresh = append(fresh, spec)
			continue
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		w.mu.Lock()
		w.head++
		err := w.db.Update(ctx, func(tx *state.Tx) error {
			for _, spec := range fresh {
				j, err := tx.Job(ctx, spec)
				if err != nil {
					return err
				}
				if j.Status != state.JobAssigned {
					continue
				}
				j.Status, j.StartedAt = state.JobRunning, w.head
				if err := tx.PutJob(ctx, *j); err != nil {
					return err
				}
			}
			return w.block(ctx, tx)
		})
		w.mu.Unlock()
		if err != nil {
			return err
		}
		fresh = fresh[:0]
	}
}

func (w *supervised) close() error {
	if w.cancel != nil {
		w.cancel()
	}
	w.parts.Wait()
	var all error
	if w.driver != nil {
		all = w.driver.Close()
	}
	if w.network != nil {
		all = errors.Join(all, w.network.Purge(), w.network.Close())
	}
	if w.db != nil {
		all = errors.Join(all, w.db.Close())
	}
	return all
}

// Synced implements executor.Chain.
func (w *supervised) Synced() bool { return true }

// PublishCapacity implements executor.Publisher: nobody listens.
func (w *supervised) PublishCapacity(context.Context, *wire.CapacityAd) error { return nil }

// round starts so many machines at once and stops them at once.
func (w *supervised) round(ctx context.Context, n int, idle time.Duration) (r superviseRound, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, superviseMax, fmt.Errorf("%d machines did not start and stop in %v", n, superviseMax))
	defer cancel()
	specs := make([]message.ItemHash, n)
	for i := range specs {
		w.made++
		if specs[i], err = w.src.instance(w.made); err != nil {
			return r, err
		}
	}
	r.Machines = n
	if r.Before, err = measure.Memory(os.Getpid(), measure.Resident); err != nil {
		return r, err
	}
	put := func(status state.JobStatus) func() error {
		return func() error { return w.putJobs(ctx, specs, status) }
	}
	if r.StartMS, r.StartCPUMS, err = w.timed(ctx, put(state.JobAssigned), w.heard.started, n); err != nil {
		return r, err
	}
	if err := sleep(ctx, settleFor); err != nil {
		return r, err
	}
	if r.With, err = measure.Memory(os.Getpid(), measure.Resident); err != nil {
		return r, err
	}
	if idle > 0 {
		before, err := measure.CPU()
		if err != nil {
			return r, err
		}
		if err := sleep(ctx, idle); err != nil {
			return r, err
		}
		after, err := measure.CPU()
		if err != nil {
			return r, err
		}
		r.IdleCPUMS = (after - before).Seconds() * 1000 / idle.Seconds()
	}
	r.StopMS, r.StopCPUMS, err = w.timed(ctx, put(state.JobStopped), w.heard.removed, n)
	return r, err
}

// timed does something, waits until n machines are where it brings them, and returns
// the milliseconds and those of processor time that this took.
func (w *supervised) timed(ctx context.Context, do func() error, there *count, n int) (ms, cpuMS float64, err error) {
	goal := there.wait(n)
	used, err := measure.CPU()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := do(); err != nil {
		return 0, 0, err
	}
	select {
	case <-goal:
	case err := <-w.failed:
		return 0, 0, fmt.Errorf("the supervisor ended: %w", err)
	case <-ctx.Done():
		return 0, 0, fmt.Errorf("%w; last it said: %s", context.Cause(ctx), w.heard.last())
	}
	ms = time.Since(began).Seconds() * 1000
	after, err := measure.CPU()
	return ms, (after - used).Seconds() * 1000, err
}

func (w *supervised) putJobs(ctx context.Context, specs []message.ItemHash, status state.JobStatus) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.db.Update(ctx, func(tx *state.Tx) error {
		for _, spec := range specs {
			j, err := tx.Job(ctx, spec)
			if errors.Is(err, errs.NotFound) {
				j, err = &state.Job{
					Spec: spec, Payer: crypto.PubkeyToAddress(w.key.PublicKey), NodeID: nodeID, CoordID: 1, Token: job.TokenALEPH,
					RateQ32: big.NewInt(1 << 40), AssignedAt: w.head, //nolint:mnd // any rate
				}, nil
			}
			if err != nil {
				return err
			}
			j.Status = status
			if status.Ended() {
				j.StoppedAt, j.Reason = w.head, "the owner stopped it"
			}
			if err := tx.PutJob(ctx, *j); err != nil {
				return err
			}
		}
		return nil
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// source has the messages and the image of machines.
type source struct {
	image string
	key   *ecdsa.PrivateKey
	store *message.Envelope

	mu    sync.Mutex
	known map[message.ItemHash]*message.Envelope // guarded by mu
}

func newSource(image string, key *ecdsa.PrivateKey) (*source, error) {
	s := &source{image: image, key: key, known: map[message.ItemHash]*message.Envelope{}}
	var err error
	s.store, err = s.sign(message.TypeStore, map[string]any{
		"address": s.owner(), "time": 1_700_000_000, "item_type": "storage", "item_hash": filepath.Base(image), //nolint:mnd // any time
	})
	return s, err
}

func (s *source) owner() string { return crypto.PubkeyToAddress(s.key.PublicKey).Hex() }

// instance makes the nth INSTANCE message.
func (s *source) instance(n int) (message.ItemHash, error) {
	e, err := s.sign(message.TypeInstance, map[string]any{
		"address": s.owner(), "time": 1_700_000_000 + n, "allow_amend": false, "authorized_keys": []string{"ssh-ed25519 AAAA bench"}, //nolint:mnd // any time
		"environment": map[string]any{"internet": true, "aleph_api": false},
		"resources":   map[string]any{"vcpus": 1, "memory": 256, "seconds": 30, "published_ports": []map[string]any{{"protocol": "tcp", "port": 80}}}, //nolint:mnd // a small machine
		"payment":     map[string]any{"chain": "ETH", "type": "credit"}, "volumes": []any{},
		"rootfs": map[string]any{"parent": map[string]any{"ref": s.store.ItemHash}, "persistence": "host", "size_mib": 1024}, //nolint:mnd // more than the image's
	})
	if err != nil {
		return "", err
	}
	return e.ItemHash, nil
}

func (s *source) sign(typ message.Type, content map[string]any) (*message.Envelope, error) {
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	e := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Time: time.Unix(1_700_000_000, 0).UTC(), //nolint:mnd // any time
		ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	if err := signature.SignEVM(s.key, e); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[e.ItemHash] = e
	return e, nil
}

// Message implements executor.Messages.
func (s *source) Message(_ context.Context, hash message.ItemHash) (*message.Envelope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.known[hash]; e != nil {
		return e, nil
	}
	return nil, errs.New(errs.Unavailable, "nobody has message %s", hash)
}

// Fetch implements executor.Images: the image is here.
func (s *source) Fetch(context.Context, message.ItemHash, func(done, total int64)) (string, error) {
	return s.image, nil
}

// Blob implements executor.Images.
func (s *source) Blob(hash message.ItemHash) message.ItemHash { return hash }

// Drop implements executor.Images.
func (s *source) Drop(hash message.ItemHash) error {
	return errs.New(errs.Internal, "image %s has changed while it was used", hash)
}

// MakeRoom implements executor.Images.
func (s *source) MakeRoom(context.Context, int64) error {
	return errs.New(errs.Exhausted, "the disk of the bench is full")
}

// hearing is a log that is written to nowhere, and heard for how far machines are: to
// ask the database would cost what is measured.
type hearing struct {
	slog.Handler
	*heard
}

type heard struct {
	started, removed *count
	runs             chan message.ItemHash

	mu      sync.Mutex
	warning string // guarded by mu
}

func newHearing() *hearing {
	const waiting = 1 << 14                         // More than machines of a round.
	written := slog.NewTextHandler(io.Discard, nil) //nolint:sloglint // Writing the log costs a node, too.
	return &hearing{written, &heard{started: &count{}, removed: &count{}, runs: make(chan message.ItemHash, waiting)}}
}

// Handle implements slog.Handler.
func (h *hearing) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case "machine runs":
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "job_id" {
				h.runs <- message.ItemHash(a.Value.String())
			}
			return true
		})
		h.started.add()
	case "removed":
		h.removed.add()
	}
	if r.Level >= slog.LevelWarn {
		h.mu.Lock()
		h.warning = r.Message
		r.Attrs(func(a slog.Attr) bool { h.warning += " " + a.String(); return true })
		h.mu.Unlock()
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *hearing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &hearing{h.Handler.WithAttrs(attrs), h.heard}
}

// WithGroup implements slog.Handler.
func (h *hearing) WithGroup(name string) slog.Handler {
	return &hearing{h.Handler.WithGroup(name), h.heard}
}

// last is the last warning.
func (h *heard) last() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.warning
}

// count counts up to goals.
type count struct {
	mu   sync.Mutex
	left int           // guarded by mu
	goal chan struct{} // Closed when left is 0; nil without one; guarded by mu
}

// wait returns what is closed after so many.
func (c *count) wait(n int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.goal = n, make(chan struct{})
	return c.goal
}

func (c *count) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 && c.goal != nil {
		close(c.goal)
	}
}
