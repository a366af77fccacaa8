package sim_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// node is a place in the network, at which processes come and go.
type node struct {
	w       *world
	index   int
	nat     bool // It can be reached by those only whom it knows.
	liar    bool
	dir     string        // What it has on disk.
	lives   int           // Processes that there were.
	names   int           // Identities that it had.
	skew    time.Duration // By which its clock is wrong.
	process *process      // nil: it is off.
}

// process is a node that runs.
type process struct {
	node *node
	id   p2p.PeerID
	life context.Context
	end  context.CancelFunc
	done sync.WaitGroup

	db    *state.DB
	blobs *blob.Store
	pipe  *ingest.Pipeline
	lie   *lie // nil of an honest node

	ended bool
	queue []*happening

	topics  map[string]topic
	asks    map[string]p2p.AskHandler
	blob    p2p.BlobHandler
	seen    map[digest]bool
	held    []gossip
	rejects map[int]int
	shunned map[int]time.Time

	mu     sync.Mutex
	asking map[*asking]bool // guarded by mu
}

// newProcess is a process that does nothing yet.
func (n *node) newProcess() (*process, error) {
	seed := sha256.Sum256(binary.BigEndian.AppendUint64(fmt.Appendf(nil, "node %d %d", n.index, n.names), n.w.seed))
	id, err := p2p.PeerIDOf(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		return nil, err
	}
	p := &process{
		node: n, id: id, topics: map[string]topic{}, asks: map[string]p2p.AskHandler{}, seen: map[digest]bool{},
		rejects: map[int]int{}, shunned: map[int]time.Time{}, asking: map[*asking]bool{},
	}
	p.life, p.end = context.WithCancel(n.w.t.Context())
	return p, nil
}

// start turns a node on.
func (n *node) start(cfg ingest.Config) error {
	p, err := n.newProcess()
	if err != nil {
		return err
	}
	n.lives++
	if n.liar {
		p.lie = newLie(p)
	} else if err := p.open(cfg, p); err != nil {
		return fmt.Errorf("start node %d: %w", n.index, err)
	} else {
		p.surround()
	}
	n.process = p
	n.w.wire.who[p.id] = n.index
	if p.lie == nil {
		p.run()
	}
	n.w.wire.look(false)
	return nil
}

// connection is how a node reaches others.
type connection interface {
	ingest.Network
	storage.Network
}

// open opens what a node is made of, as internal/node does.
func (p *process) open(cfg ingest.Config, net connection) (err error) {
	n, reg, log := p.node, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
	if n.w.log != nil {
		log = slog.New(slog.NewTextHandler(n.w.log, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", n.index)
	}
	log = slog.New(refusals{log.Handler(), n.w.harms["full disk"]})
	if p.db, err = state.Open(p.life, filepath.Join(n.dir, "state")); err != nil {
		return err
	}
	if p.blobs, err = blob.Open(filepath.Join(n.dir, "blobs"), blob.DefaultConfig(), reg, log); err != nil {
		return errors.Join(err, p.db.Close())
	}
	keeper, err := storage.New(p.blobs, net, reg, log)
	if err != nil {
		return errors.Join(err, p.db.Close())
	}
	domain := job.Jobs(big.NewInt(31337), common.HexToAddress("0xA1"))
	if p.pipe, err = ingest.New(cfg, domain, p.db, net, contents{keeper, p.blobs}, wallets{}, reg, log); err != nil {
		return errors.Join(err, p.db.Close())
	}
	return nil
}

// surround gives a node its surroundings.
func (p *process) surround() {
	n := p.node
	chance := rand.New(rand.NewPCG(n.w.chance("node", n.index, n.lives), 0))
	p.pipe.Surround(ingest.Surroundings{
		Now:    p.now,
		Chance: chance.Int64N,
		Turn:   func(_ context.Context, name string) { n.w.turn(p, name) },
	})
}

// now is the time by the node's clock.
func (p *process) now() time.Time { return time.Now().Add(p.node.skew) }

func (p *process) run() {
	remover := ingest.NewRemover(p.pipe, wallets{})
	for name, run := range map[string]func(context.Context) error{"ingest": p.pipe.Run, "remover": remover.Run} {
		p.done.Go(func() {
			if err := run(p.life); !errors.Is(err, context.Canceled) {
				p.node.w.t.Errorf("node %d: %s ended: %v", p.node.index, name, err)
			}
		})
	}
}

// stop turns a node off.
func (n *node) stop(farewell bool) error {
	p := n.process
	if p == nil {
		return nil
	}
	n.process = nil
	delete(n.w.wire.who, p.id)
	p.ended, p.queue = true, nil
	p.end()
	p.done.Wait()
	n.w.wire.look(farewell)
	if p.db == nil {
		return nil
	}
	return errors.Join(p.db.Close(), p.blobs.Close())
}

// kill ends a node as a power cut does: what goes on with is what the disk has.
func (n *node) kill() error {
	left := fmt.Sprintf("%s.%d", n.dir, n.lives)
	if err := os.CopyFS(left, os.DirFS(n.dir)); err != nil {
		return err
	}
	if err := n.stop(false); err != nil {
		return err
	}
	if err := os.RemoveAll(n.dir); err != nil {
		return err
	}
	n.dir = left
	return nil
}

// contents has the bytes that messages name; content of IPFS is not under simulation.
type contents struct {
	keeper *storage.Keeper
	blobs  *blob.Store
}

// Stat implements ingest.Files.
func (c contents) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	if hash.Type() == message.IPFS {
		return state.FileInfo{}, errs.New(errs.NotFound, "no content %s", hash)
	}
	info, err := c.keeper.Stat(hash)
	return state.FileInfo{Hash: hash, SizeBytes: info.Size}, err
}

// Fetch implements ingest.Files.
func (c contents) Fetch(ctx context.Context, hash message.ItemHash) error {
	_, err := c.keeper.Fetch(ctx, hash)
	return err
}

// Read implements ingest.Files.
func (c contents) Read(_ context.Context, hash message.ItemHash, limit int64) (_ []byte, err error) {
	if _, err := c.keeper.Stat(hash); err != nil {
		return nil, err
	}
	b, err := c.blobs.Open(hash)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return io.ReadAll(io.LimitReader(b, limit))
}

// wallets are those of owners on a chain: all have enough, and it is always known.
type wallets struct{}

// Funds implements ingest.Funds.
func (wallets) Funds(context.Context, common.Address, uint8) (balance, allowance, refund *big.Int, err error) {
	const digits = 24
	much := new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil)
	return much, much, new(big.Int), nil
}

// Ready implements ingest.ChainView.
func (wallets) Ready(context.Context) error { return nil }
