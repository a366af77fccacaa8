package corechannel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	core "github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/staking"
)

// readRegistry makes events of what the chain says of nodes.
func (k *Keeper) readRegistry(ctx context.Context) error {
	select {
	case <-k.registry:
		k.reread = true
	default:
	}
	if !k.reread {
		return nil
	}
	var rows []state.RegistryChange
	err := k.db.View(ctx, func(v *state.View) (err error) {
		rows, err = changesOf(ctx, v)
		return err
	})
	if err != nil {
		return err
	}
	if k.changes, err = entriesOf(rows); err != nil {
		return err
	}
	k.reread, k.place = false, true
	return nil
}

// changesOf are all changes of nodes. Of a node that an older version has mirrored
// there is only what it is; that comes first.
func changesOf(ctx context.Context, v *state.View) ([]state.RegistryChange, error) {
	rows, err := v.RegistryChanges(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := v.Nodes(ctx, "")
	if err != nil {
		return nil, err
	}
	told := map[uint32]bool{}
	for i := range rows {
		told[rows[i].Node.ID] = true
	}
	var out []state.RegistryChange
	for _, n := range nodes {
		if !told[n.ID] {
			n.MadeAt = n.SinceAt
			out = append(out, state.RegistryChange{Block: n.Block, At: n.SinceAt, Node: n})
		}
	}
	return append(out, rows...), nil
}

// entriesOf are the events of the changes of the registry. Of changes of one node
// in one block the last tells all.
func entriesOf(rows []state.RegistryChange) ([]*entry, error) {
	shares := map[uint32]map[common.Address]*big.Int{}
	var out []*entry
	for i := range rows {
		c := &rows[i]
		mine := shares[c.Node.ID]
		if mine == nil || c.Void {
			mine = map[common.Address]*big.Int{}
			shares[c.Node.ID] = mine
		}
		if c.Shares != nil {
			sum := new(big.Int).Add(c.Shares, orZero(mine[c.Delegator]))
			if mine[c.Delegator] = sum; sum.Sign() <= 0 {
				delete(mine, c.Delegator)
			}
		}
		if i+1 < len(rows) && rows[i+1].Block == c.Block && rows[i+1].Node.ID == c.Node.ID && rows[i+1].Node.Owner == c.Node.Owner {
			continue
		}
		r := registrationOf(&c.Node, mine)
		raw, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode registration of node %d: %w", c.Node.ID, err)
		}
		sum := sha256.Sum256(raw)
		out = append(out, &entry{
			registration: &r, chainAt: time.Unix(int64(c.At), 0).UnixMicro(),
			key: key{index: uint32(i), version: hex.EncodeToString(sum[:8])},
		})
	}
	return out, nil
}

func orZero(n *big.Int) *big.Int {
	if n == nil {
		return new(big.Int)
	}
	return n
}

// registrationOf is a node on chain as the fold reads it.
func registrationOf(n *state.Node, shares map[common.Address]*big.Int) core.Registration {
	r := core.Registration{
		ID: n.ID, Kind: core.Kind(n.Kind), Status: core.ChainStatus(n.Status), Owner: n.Owner.Hex(), Payout: n.Payout.Hex(),
		Meta: message.ItemHash(hex.EncodeToString(n.MetaHash[:])), Stake: n.SelfStake, Locked: n.Locked, Linked: n.Linked,
		At: time.Unix(int64(n.MadeAt), 0).UTC(),
	}
	if len(shares) == 0 || n.PoolShares == nil || n.PoolTokens == nil {
		return r
	}
	pool := staking.NewPool()
	pool.Bonded.Tokens, pool.Bonded.Shares = n.PoolTokens, n.PoolShares
	r.Delegations = make(map[string]*big.Int, len(shares))
	for who, have := range shares {
		r.Delegations[who.Hex()] = pool.Value(have, 0)
	}
	return r
}
