package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/params"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// follow looks what became of the sent intents, in the order of their nonces,
// and notes in f which are still open.
func (s *Sender) follow(ctx context.Context, f *flight, sent []state.Intent) error {
	if len(sent) == 0 {
		return nil
	}
	receipts, err := s.receipts(ctx, sent)
	if err != nil {
		return err
	}
	for n := range sent {
		i := &sent[n]
		f.taken[i.Nonce] = true
		if r := receipts[i.Key]; r != nil {
			if err := s.mined(ctx, f, i, r); err != nil {
				return err
			}
			continue
		}
		if err := s.unmined(ctx, f, i); err != nil {
			return err
		}
	}
	return nil
}

// receipts returns the receipt of each intent of which some transaction is
// mined, by key.
func (s *Sender) receipts(ctx context.Context, sent []state.Intent) (map[string]*chain.Receipt, error) {
	var hashes []common.Hash
	var keys []string
	for _, i := range sent {
		for _, t := range i.Txs {
			hashes, keys = append(hashes, t.Hash), append(keys, i.Key)
		}
	}
	found, err := s.chain.Receipts(ctx, hashes)
	if err != nil {
		return nil, err
	}
	out := map[string]*chain.Receipt{}
	for n, r := range found {
		if r != nil {
			out[keys[n]] = r
		}
	}
	return out, nil
}

// mined notes where an intent was mined, and finishes it when that is deep
// enough.
func (s *Sender) mined(ctx context.Context, f *flight, i *state.Intent, r *chain.Receipt) error {
	moved := i.MinedIn != r.Block
	i.MinedIn, i.MinedAt, i.TxHash, i.GasUsed, i.Error = r.Block, r.Number, r.Tx, r.GasUsed, ""
	if f.head.Number < r.Number+s.cfg.Confirmations {
		if !moved {
			return nil
		}
		s.outcomes.WithLabelValues("mined").Inc()
		s.log.Info("mined", "intent", i.Key, "tx", r.Tx, "block", r.Number, "gas", r.GasUsed)
		return s.put(ctx, i)
	}
	if cancels(i, r.Tx, s.from) {
		return s.finish(ctx, i, state.IntentExpired, fmt.Sprintf("the deadline %d passed before it was mined", i.Deadline))
	}
	if !r.OK {
		return s.finish(ctx, i, state.IntentReverted, s.whyReverted(ctx, i, r))
	}
	if reason, all := refusals(r); reason != "" {
		status := state.IntentConfirmed
		if all {
			status = state.IntentReverted
		}
		return s.finish(ctx, i, status, reason)
	}
	return s.finish(ctx, i, state.IntentConfirmed, "")
}

// whyReverted asks the contract once more for the reason; the receipt has none.
func (s *Sender) whyReverted(ctx context.Context, i *state.Intent, r *chain.Receipt) string {
	text := fmt.Sprintf("refused in block %d", r.Number)
	call, err := s.callOf(i)
	if err != nil {
		return text
	}
	var revert *chain.Revert
	if _, err := s.chain.Call(ctx, call); errors.As(err, &revert) {
		return text + ": " + revert.Error()
	}
	return text + "; it would succeed now"
}

// unmined keeps an intent going that is not mined: sends it again, replaces it
// when it is stuck or too late, and starts over when its nonce is lost.
func (s *Sender) unmined(ctx context.Context, f *flight, i *state.Intent) error {
	f.open = append(f.open, i.Nonce)
	if i.MinedIn != (common.Hash{}) {
		s.outcomes.WithLabelValues("reorged").Inc()
		s.log.Warn("reorganised out", "intent", i.Key, "tx", i.TxHash, "block", i.MinedAt)
		i.MinedIn, i.MinedAt, i.TxHash, i.GasUsed = common.Hash{}, 0, common.Hash{}, 0
		if err := s.put(ctx, i); err != nil {
			return err
		}
		s.broadcast(ctx, i)
		return nil
	}
	if i.Nonce < f.used {
		return s.startOver(ctx, f, i)
	}
	last := &i.Txs[len(i.Txs)-1]
	now := time.Now()
	if i.Nonce == f.used {
		late := tooLate(f, i) && !cancels(i, last.Hash, s.from)
		if late || now.Sub(last.SentAt) >= s.cfg.StuckAfter {
			replaced, err := s.replace(ctx, f, i, late)
			if err != nil || replaced {
				return err
			}
		}
	}
	if now.Sub(s.lastSent[last.Hash]) >= repeatEvery {
		s.outcomes.WithLabelValues("repeated").Inc()
		s.broadcast(ctx, i)
	}
	return nil
}

// startOver gives an intent back to be sent anew, because something else was
// mined with its nonce: its own transactions never will be. That must be as
// deep as anything we rely on.
func (s *Sender) startOver(ctx context.Context, f *flight, i *state.Intent) error {
	if f.head.Number < s.cfg.Confirmations {
		return nil
	}
	deep := f.head.Number - s.cfg.Confirmations
	used, err := s.chain.Nonce(ctx, s.from, &deep)
	if err != nil {
		return err
	}
	if used <= i.Nonce {
		return nil
	}
	s.outcomes.WithLabelValues("nonce_lost").Inc()
	s.log.Error("another program uses the node's key: nonce lost", "intent", i.Key, "nonce", i.Nonce)
	for _, t := range i.Txs {
		delete(s.lastSent, t.Hash)
	}
	i.Status, i.Nonce, i.Txs, i.Error = state.IntentPending, 0, nil, ""
	return s.put(ctx, i)
}

// replace signs, stores and sends a transaction with the same nonce and a higher
// fee: the same call, or a payment of nothing to ourselves when the call is too
// late. It reports false when the bounds allow none.
func (s *Sender) replace(ctx context.Context, f *flight, i *state.Intent, cancel bool) (bool, error) {
	last := &i.Txs[len(i.Txs)-1]
	if len(i.Txs) > s.cfg.Replacements && !cancel {
		return false, nil
	}
	if reason := s.tooDear(f); reason != "" {
		return false, s.note(ctx, f, i, reason)
	}
	market, err := s.fees(ctx, f)
	if errs.KindOf(err) == errs.Unavailable {
		s.log.Warn("not replaced", "intent", i.Key, "nonce", i.Nonce, "err", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	fee, ok := bump(last, market, s.ceiling())
	if !ok {
		return false, s.note(ctx, f, i, fmt.Sprintf("it pays up to max_fee_gwei, %d, and is not mined: it waits until gas is cheaper", s.cfg.MaxFeeGwei))
	}
	var old types.Transaction
	if err := old.UnmarshalBinary(last.Raw); err != nil {
		return false, errs.New(errs.Internal, "decode stored transaction %s: %w", last.Hash, err)
	}
	call, gas, outcome := chain.Call{From: s.from, To: *old.To(), Data: old.Data()}, old.Gas(), "replaced"
	if cancel {
		call, gas, outcome = chain.Call{From: s.from, To: s.from}, max(old.Gas(), params.TxGas), "cancelled"
	}
	tx, err := s.sign(i.Nonce, gas, fee, call)
	if err != nil {
		return false, err
	}
	i.Txs, i.Error = append(i.Txs, *tx), ""
	if err := s.put(ctx, i); err != nil {
		return false, err
	}
	s.outcomes.WithLabelValues(outcome).Inc()
	s.log.Warn("replaced", "intent", i.Key, "tx", tx.Hash, "nonce", i.Nonce, "fee_wei", fee.max, "outcome", outcome)
	s.broadcast(ctx, i)
	return true, nil
}

// cancels reports whether the intent's transaction is a payment of nothing to
// ourselves, which takes the place of a call that is too late.
func cancels(i *state.Intent, hash common.Hash, from common.Address) bool {
	for _, t := range i.Txs {
		if t.Hash != hash {
			continue
		}
		var tx types.Transaction
		if err := tx.UnmarshalBinary(t.Raw); err != nil {
			return false
		}
		return tx.To() != nil && *tx.To() == from && len(tx.Data()) == 0
	}
	return false
}

// refusedItems is the refusal of a batch call that would skip every item.
func refusedItems() *chain.Revert {
	return chain.NewRevert(errs.Conflict, "the contract would leave every item as it is")
}

// refusals returns why items of a batch call were skipped, "" when none was,
// and whether all were.
func refusals(r *chain.Receipt) (reason string, all bool) {
	jobs := bindings.NewJobManager()
	all = true
	for n := range r.Logs {
		if e, err := jobs.UnpackItemRefusedEvent(&r.Logs[n]); err == nil {
			if reason != "" {
				reason += "; "
			}
			reason += fmt.Sprintf("job %x: %s", e.Spec, refusalText(e.Reason))
			continue
		}
		all = false // Any other event is the effect of an item that was not skipped.
	}
	return reason, all && reason != ""
}

// refusalText says what a number of IJobManager.Refusal means.
func refusalText(reason uint8) string {
	switch reason {
	case 1:
		return "it is not in the status that the call needs"
	case 2:
		return "the caller is not the signer of its node"
	case 3:
		return "it was confirmed too late"
	case 4:
		return "its payer is not overdue"
	case 5:
		return "it has not reached its end"
	}
	return fmt.Sprintf("refused for reason %d", reason)
}
