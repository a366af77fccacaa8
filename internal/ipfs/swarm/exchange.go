package swarm

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/boxo/bitswap"
	"github.com/ipfs/boxo/bitswap/client"
	bsmsg "github.com/ipfs/boxo/bitswap/message"
	"github.com/ipfs/boxo/bitswap/network/bsnet"
	fetcher "github.com/ipfs/boxo/exchange"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
)

const (
	// wantsMax is how many blocks of what one peer wants are remembered.
	wantsMax = 1024
	// cidMax is the longest CID that is looked for.
	cidMax = 168
	// outstandingMax is how many bytes are on their way to one peer.
	outstandingMax = 1 << 20
	// readersMax is how many blocks of one network are read at the same time.
	readersMax = 8
	// burst is for how many seconds a peer may ask ahead.
	burst = 4
	// bitswapParallel is how many blocks of one content are wanted at the same time.
	bitswapParallel = 64
	// connectedMax is how long peers that are connected have for the first block,
	// and answerMax how long one of them until another is asked too, which must fit
	// into it several times: some say that they have what they never send.
	connectedMax, answerMax = 12 * time.Second, 4 * time.Second
)

// exchange is bitswap over one host.
type exchange struct {
	network string // in metrics and errors
	host    host.Host
	bitswap *bitswap.Bitswap
	routed  bool // It finds peers that have something.
	debts   *debts
	ended   sync.WaitGroup
}

// newExchange serves what view has, and asks peers that are connected, or that find
// leads to unless it is nil.
func newExchange(ctx context.Context, network string, h host.Host, find routing.ContentDiscovery, v view, serveRate int, m *metrics) *exchange {
	limit := newLimiter(serveRate)
	refused := m.refused.WithLabelValues(network)
	owed := newDebts()
	b := bitswap.New(ctx, debtNetwork{bsnet.NewFromIpfsHost(newGate(h)), owed}, find, v,
		bitswap.MaxQueuedWantlistEntriesPerPeer(wantsMax), bitswap.MaxCidSize(cidMax), bitswap.MaxOutstandingBytesPerPeer(outstandingMax),
		bitswap.EngineBlockstoreWorkerCount(readersMax), bitswap.WithClientOption(client.WithoutDuplicatedBlockStats()),
		bitswap.WithTracer(watch{m, network, owed}),
		bitswap.WithPeerBlockRequestFilter(func(p peer.ID, _ cid.Cid) bool {
			ok := limit.take(p, time.Now())
			if !ok {
				refused.Inc()
			}
			return ok
		}))
	x := &exchange{network: network, host: h, bitswap: b, routed: find != nil, debts: owed}
	x.ended.Go(func() { x.dun(ctx) })
	return x
}

// close ends the exchange, whose ctx has ended.
func (x *exchange) close() error {
	x.ended.Wait()
	for _, id := range []protocol.ID{bsnet.ProtocolBitswap, bsnet.ProtocolBitswapOneOne, bsnet.ProtocolBitswapOneZero, bsnet.ProtocolBitswapNoVers} {
		x.host.RemoveStreamHandler(id)
	}
	return x.bitswap.Close()
}

// name implements source.
func (x *exchange) name() string { return x.network }

// open implements source.
func (x *exchange) open(ctx context.Context) (session, error) {
	if !x.routed && len(x.host.Network().Peers()) == 0 {
		return nil, errs.New(errs.Unavailable, "connected to no peer")
	}
	return wants{x.bitswap.NewSession(ctx), x.routed}, nil
}

// wants are the blocks of one content that peers are asked for.
type wants struct {
	from   fetcher.Fetcher
	routed bool
}

// patience implements session. Peers that are connected say at once whether they
// have something.
func (w wants) patience(stall time.Duration) time.Duration {
	if w.routed {
		return stall
	}
	return min(stall, connectedMax)
}

// parallel implements session.
func (w wants) parallel() int { return bitswapParallel }

// get implements session. The block's bytes hash to its CID: that is how bitswap
// knows which block it is.
func (w wants) get(ctx context.Context, c cid.Cid) ([]byte, error) {
	b, err := w.from.GetBlock(ctx, c)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "block %s: %w", c, err)
	}
	return b.RawData(), nil
}

// watch counts what is served, and notes what comes.
type watch struct {
	m       *metrics
	network string
	debts   *debts
}

// MessageReceived implements tracer.Tracer.
func (w watch) MessageReceived(p peer.ID, msg bsmsg.BitSwapMessage) { w.debts.got(p, msg, time.Now()) }

// MessageSent implements tracer.Tracer.
func (w watch) MessageSent(_ peer.ID, msg bsmsg.BitSwapMessage) {
	n, size := 0, 0
	for _, b := range msg.Blocks() {
		n++
		size += len(b.RawData())
	}
	w.m.served.WithLabelValues(w.network).Add(float64(n))
	w.m.servedLen.WithLabelValues(w.network).Add(float64(size))
}

// limiter bounds how many blocks each peer asks for.
type limiter struct {
	rate float64 // per second

	mu    sync.Mutex
	peers map[peer.ID]allowance // guarded by mu
}

// allowance is what a peer may ask for at a time.
type allowance struct {
	left float64
	at   time.Time
}

// limiterPeersMax is how many peers are remembered before those are forgotten that
// have not asked for a while.
const limiterPeersMax = 1024

func newLimiter(rate int) *limiter {
	return &limiter{rate: float64(rate), peers: map[peer.ID]allowance{}}
}

// take says whether the peer may ask for one more.
func (l *limiter) take(p peer.ID, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.peers[p]
	if !ok {
		l.forget(now)
		a = allowance{left: burst * l.rate, at: now}
	}
	a.left = min(a.left+now.Sub(a.at).Seconds()*l.rate, burst*l.rate)
	a.at = now
	enough := a.left >= 1
	if enough {
		a.left--
	}
	l.peers[p] = a
	return enough
}

// forget drops peers that may ask for all by now. The caller holds mu.
func (l *limiter) forget(now time.Time) {
	if len(l.peers) < limiterPeersMax {
		return
	}
	for p, a := range l.peers {
		if now.Sub(a.at).Seconds() > burst {
			delete(l.peers, p)
		}
	}
}

// view shows content to bitswap, block by block. It writes nothing.
type view struct{ store *ipfs.Store }

// absent is what a block that is not here gives, or that cannot be.
func absent(c cid.Cid, err error) error {
	if kind := errs.KindOf(err); kind == errs.NotFound || kind == errs.Invalid {
		return ipld.ErrNotFound{Cid: c}
	}
	return err
}

// Has implements blockstore.Blockstore.
func (v view) Has(_ context.Context, c cid.Cid) (bool, error) {
	ok, err := v.store.Has(c)
	if errs.KindOf(err) == errs.Invalid {
		return false, nil
	}
	return ok, err
}

// GetSize implements blockstore.Blockstore.
func (v view) GetSize(_ context.Context, c cid.Cid) (int, error) {
	n, err := v.store.BlockSize(c)
	if err != nil {
		return 0, absent(c, err)
	}
	return n, nil
}

// Get implements blockstore.Blockstore.
func (v view) Get(_ context.Context, c cid.Cid) (blocks.Block, error) {
	data, err := v.store.Block(c)
	if err != nil {
		return nil, absent(c, err)
	}
	return blocks.NewBlockWithCid(data, c)
}

// errReadOnly is what changing the view gives: content is added whole.
var errReadOnly = errs.New(errs.Internal, "BUG: bitswap does not write")

// Put implements blockstore.Blockstore.
func (view) Put(context.Context, blocks.Block) error { return errReadOnly }

// PutMany implements blockstore.Blockstore.
func (view) PutMany(context.Context, []blocks.Block) error { return errReadOnly }

// DeleteBlock implements blockstore.Blockstore.
func (view) DeleteBlock(context.Context, cid.Cid) error { return errReadOnly }

// AllKeysChan implements blockstore.Blockstore. Bitswap does not ask.
func (view) AllKeysChan(context.Context) (<-chan cid.Cid, error) { return nil, errReadOnly }
