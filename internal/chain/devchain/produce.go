package devchain

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/miner"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// heartbeat is how long chain time may stand still.
	heartbeat = 2 * time.Second
	// quiet is how long no transaction may arrive before a block is made, so
	// that a batch lands in one block; quietMax bounds that wait.
	quiet    = 5 * time.Millisecond
	quietMax = 50 * time.Millisecond
	// reorgMax bounds the depth of anvil_reorg; clients keep no more to undo.
	reorgMax = 1024
)

// Run makes blocks until ctx ends and returns its cause. A block that cannot be
// made ends it: there is nothing to wait for.
func (c *Chain) Run(ctx context.Context) error {
	txs, leave := c.arrivals()
	defer leave()
	waiting, _ := c.eth.TxPool().Stats()
	due := c.due(waiting > 0)
	for {
		timer := time.NewTimer(time.Until(due))
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-txs:
			timer.Stop()
			gather(ctx, txs)
			due = c.due(true)
		case <-timer.C:
			again, err := c.produce()
			if err != nil {
				return err
			}
			due = c.due(again)
		}
	}
}

// arrivals tells when transactions have come, until leave is called. The pool
// stands still while nobody takes its announcements, and a producer that waits
// for the pool takes none: somebody else must.
func (c *Chain) arrivals() (_ <-chan struct{}, leave func()) {
	announced := make(chan core.NewTxsEvent)
	sub := c.eth.TxPool().SubscribeTransactions(announced, true)
	came := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-announced:
			case <-sub.Err(): //nolint:errcheck // It only ever closes, when nobody listens any longer.
				return
			}
			select {
			case came <- struct{}{}:
			default: // The producer has not yet seen that others came.
			}
		}
	}()
	return came, sub.Unsubscribe
}

// gather waits until no transaction has arrived for a moment.
func gather(ctx context.Context, txs <-chan struct{}) {
	end := time.NewTimer(quietMax)
	defer end.Stop()
	for {
		pause := time.NewTimer(quiet)
		select {
		case <-txs:
			pause.Stop()
			continue
		case <-pause.C:
		case <-end.C:
		case <-ctx.Done():
		}
		pause.Stop()
		return
	}
}

// due returns when the next block is to be made, by the wall clock: for waiting
// transactions as soon as it is not ahead of chain time by more than a second.
func (c *Chain) due(waiting bool) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	head := time.Unix(int64(c.eth.BlockChain().CurrentBlock().Time), 0).Add(-c.offset)
	if waiting {
		return head
	}
	return head.Add(heartbeat)
}

// produce makes a block and reports whether transactions that came meanwhile
// wait for the next.
func (c *Chain) produce() (again bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	block, err := c.seal(c.timestamp())
	if err != nil {
		return false, err
	}
	if err := c.eth.TxPool().Sync(); err != nil {
		return false, fmt.Errorf("refresh pool: %w", err)
	}
	left, _ := c.eth.TxPool().Stats()
	// What an empty block left behind pays too little; the next heartbeat tries
	// it again.
	return left > 0 && len(block.Transactions()) > 0, nil
}

// Mine makes a block now and returns its hash. Chain time goes on from there,
// even if many blocks at once put it ahead of the wall clock.
func (c *Chain) Mine() (common.Hash, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	block, err := c.seal(c.timestamp())
	if err != nil {
		return common.Hash{}, err
	}
	if ahead := int64(block.Time()) - c.now(); ahead > 0 {
		c.offset += time.Duration(ahead) * time.Second
	}
	return block.Hash(), nil
}

// IncreaseTime puts chain time ahead by d, whole seconds.
func (c *Chain) IncreaseTime(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d.Truncate(time.Second)
}

// SetNextTimestamp gives the next block the timestamp, and chain time goes on
// from it. One that is not after the newest block gives errs.Invalid.
func (c *Chain) SetNextTimestamp(timestamp uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if head := c.eth.BlockChain().CurrentBlock().Time; timestamp <= head {
		return errs.New(errs.Invalid, "timestamp %d is not after the newest block's, %d", timestamp, head)
	}
	c.next = timestamp
	c.offset = time.Until(time.Unix(int64(timestamp), 0))
	return nil
}

// Reorg replaces the newest depth blocks by as many empty ones. Their
// transactions are dropped; who wants them must send them again.
func (c *Chain) Reorg(depth int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	chain := c.eth.BlockChain()
	head := chain.CurrentBlock().Number.Uint64()
	if depth < 1 || depth > reorgMax || uint64(depth) > head {
		return errs.New(errs.Invalid, "depth is %d, want 1 to %d", depth, min(head, reorgMax))
	}
	parent := chain.GetHeaderByNumber(head - uint64(depth))
	var tip *types.Block
	for n := head - uint64(depth) + 1; n <= head; n++ {
		block, err := c.build(parent, chain.GetHeaderByNumber(n).Time, true)
		if err != nil {
			return err
		}
		tip, parent = block, block.Header()
	}
	if err := c.adopt(tip); err != nil {
		return err
	}
	c.eth.TxPool().Clear()
	return nil
}

// now returns chain time in unix seconds. Hold mu.
func (c *Chain) now() int64 { return time.Now().Add(c.offset).Unix() }

// timestamp returns what the next block's timestamp is. Hold mu.
func (c *Chain) timestamp() uint64 {
	if c.next != 0 {
		return c.next
	}
	return max(uint64(c.now()), c.eth.BlockChain().CurrentBlock().Time+1)
}

// seal makes the next block from the waiting transactions. Hold mu.
func (c *Chain) seal(timestamp uint64) (*types.Block, error) {
	if err := c.eth.TxPool().Sync(); err != nil {
		return nil, fmt.Errorf("refresh pool: %w", err)
	}
	block, err := c.build(c.eth.BlockChain().CurrentBlock(), timestamp, false)
	if err != nil {
		return nil, err
	}
	c.next = 0
	return block, c.adopt(block)
}

// build makes a block on parent and stores it; it is not the head yet.
func (c *Chain) build(parent *types.Header, timestamp uint64, empty bool) (*types.Block, error) {
	var random common.Hash
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("draw randomness of a block: %w", err)
	}
	args := &miner.BuildPayloadArgs{
		Parent: parent.Hash(), Timestamp: timestamp, Random: random,
		Withdrawals: types.Withdrawals{}, BeaconRoot: &common.Hash{},
	}
	block, _, err := c.eth.Miner().BuildTestingPayload(args, nil, empty, nil)
	if err != nil {
		return nil, fmt.Errorf("build block %d: %w", parent.Number.Uint64()+1, err)
	}
	// The library offers no way to abandon a block half-way, so no caller's ctx
	// goes in; a block takes milliseconds.
	if _, err := c.eth.BlockChain().InsertBlockWithoutSetHead(context.Background(), block, false); err != nil { //nolint:forbidigo // see above
		return nil, fmt.Errorf("insert block %d: %w", block.NumberU64(), err)
	}
	return block, nil
}

// adopt makes block the head, on disk.
func (c *Chain) adopt(block *types.Block) error {
	chain := c.eth.BlockChain()
	if _, err := chain.SetCanonical(block); err != nil {
		return fmt.Errorf("make block %d the head: %w", block.NumberU64(), err)
	}
	if err := c.eth.ChainDb().SyncKeyValue(); err != nil {
		return fmt.Errorf("write block %d to disk: %w", block.NumberU64(), err)
	}
	return nil
}
