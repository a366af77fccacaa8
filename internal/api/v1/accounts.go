package v1

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// paymentManager is the contract that permits are for.
const paymentManager = "PaymentManager"

func typeOf(v any) reflect.Type { return reflect.TypeOf(v).Elem() }

type accountInput struct {
	Address string `path:"address"`
}

type accountView struct {
	Address      string `json:"address"`
	EthWei       string `json:"eth_wei"`
	TokenBalance string `json:"token_balance"`
	Allowance    string `json:"allowance" doc:"Given to the payment contract."`
	Refund       string `json:"refund" doc:"Prepaid money that was given back; it is used before the allowance."`
	RateQ32      string `json:"rate_q32" doc:"Of all running machines."`
	PaidUntil    uint64 `json:"paid_until"`
	ArrearsSince uint64 `json:"arrears_since"`
	SoftStop     uint64 `json:"soft_stop" doc:"When nodes pause the machines if nothing more is paid; 0 when nothing runs."`
	HardStop     uint64 `json:"hard_stop" doc:"When anyone may end the machines if nothing more is paid; 0 when nothing runs."`
}

type accountOutput struct{ Body accountView }

func (s *Server) account(ctx context.Context, in *accountInput) (*accountOutput, error) {
	addr, err := parseAddress("address", in.Address)
	if err != nil {
		return nil, err
	}
	balance, allowance, refund, err := s.parts.Funds.Funds(ctx, addr, job.TokenALEPH)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "read funds of %s: %w", addr, err)
	}
	eth, err := s.parts.Ether.Balance(ctx, addr)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "read ether of %s: %w", addr, err)
	}
	v := accountView{
		Address: addr.Hex(), EthWei: decimal(eth), TokenBalance: decimal(balance), Allowance: decimal(allowance), Refund: decimal(refund), RateQ32: "0",
	}
	err = s.parts.DB.View(ctx, func(view *state.View) error {
		a, err := maybe(view.Account(ctx, addr, job.TokenALEPH))
		if err != nil || a == nil {
			return err
		}
		v.RateQ32, v.PaidUntil, v.ArrearsSince = decimal(a.RateQ32), a.PaidUntil, a.ArrearsSince
		p, err := maybe(view.Params(ctx))
		if err != nil || p == nil || a.RateQ32 == nil || a.RateQ32.Sign() == 0 {
			return err
		}
		// Both count from paidUntil, as in the contract: a payment that does not
		// end the arrears moves them.
		v.SoftStop, v.HardStop = a.PaidUntil+min(p.GraceSoftSeconds, p.PrepaySeconds), a.PaidUntil+p.GraceHardSeconds
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &accountOutput{v}, nil
}

type permitInput struct {
	Body struct {
		Owner    string `json:"owner"`
		Spender  string `json:"spender" doc:"The payment contract."`
		Value    string `json:"value" doc:"The new allowance in wei."`
		Deadline uint64 `json:"deadline"`
		V        uint8  `json:"v" enum:"27,28"`
		R        string `json:"r" doc:"32 bytes, 0x and hex."`
		S        string `json:"s" doc:"32 bytes, 0x and hex."`
	}
}

type permitView struct {
	Intent string `json:"intent" doc:"Name of the transaction that is on its way."`
}

type permitOutput struct{ Body permitView }

// permit relays a permit of somebody who has something to spend: the node pays
// for the transaction. The token takes it as things are, and there is one per
// owner on its way, so that nobody keeps the node busy for nothing.
func (s *Server) permit(ctx context.Context, in *permitInput) (*permitOutput, error) {
	owner, value, err := s.checkPermit(ctx, in)
	if err != nil {
		return nil, err
	}
	r, err := parseWord("r", in.Body.R)
	if err != nil {
		return nil, err
	}
	sWord, err := parseWord("s", in.Body.S)
	if err != nil {
		return nil, err
	}
	balance, allowance, _, err := s.parts.Funds.Funds(ctx, owner, job.TokenALEPH)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "read funds of %s: %w", owner, err)
	}
	if balance.Sign() == 0 {
		return nil, errs.New(errs.Exhausted, "%s has no ALEPH to allow", owner)
	}
	if allowance.Cmp(value) >= 0 {
		// The contract takes any signature for what is allowed already, so
		// anybody could make this node pay for nothing.
		return nil, errs.New(errs.Conflict, "the allowance of %s is %s already; only the owner's own transaction lowers it", owner, allowance)
	}
	args, err := json.Marshal([]any{
		owner, strconv.Itoa(job.TokenALEPH), value.String(), strconv.FormatUint(in.Body.Deadline, 10), strconv.Itoa(int(in.Body.V)), r, sWord,
	})
	if err != nil {
		return nil, fmt.Errorf("encode permit of %s: %w", owner, err)
	}
	i := state.Intent{
		Key: permitPrefix(owner) + crypto.Keccak256Hash(args).Hex(), Contract: paymentManager, Method: "permit",
		Args: args, Deadline: in.Body.Deadline, Yields: true,
	}
	// First, because the token would refuse the next one only for its nonce.
	if _, err := permitWaiting(ctx, s.parts.DB, owner, i.Key); err != nil {
		return nil, err
	}
	sig := job.Signature(append(append(r.Bytes(), sWord.Bytes()...), in.Body.V))
	if err := s.parts.Funds.CheckPermit(ctx, owner, value, in.Body.Deadline, sig); err != nil {
		return nil, err
	}
	err = s.parts.DB.Update(ctx, func(tx *state.Tx) error { return enqueuePermit(ctx, tx, owner, i) })
	if err != nil {
		return nil, err
	}
	return &permitOutput{permitView{Intent: i.Key}}, nil
}

// permitPrefix begins the keys of an owner's permits.
func permitPrefix(owner common.Address) string { return "permit/" + owner.Hex() + "/" }

// intentReader is a database or a transaction.
type intentReader interface {
	IntentsUnder(ctx context.Context, prefix string, limit int, statuses ...state.IntentStatus) ([]state.Intent, error)
}

// permitWaiting reports whether the permit with the key is on its way. Another
// one of the owner on its way is errs.Conflict.
func permitWaiting(ctx context.Context, r intentReader, owner common.Address, key string) (bool, error) {
	waiting, err := r.IntentsUnder(ctx, permitPrefix(owner), 1, state.IntentPending, state.IntentSent)
	if err != nil || len(waiting) == 0 {
		return false, err
	}
	if waiting[0].Key != key {
		return false, errs.New(errs.Conflict, "another permit of %s is on its way; wait until it is through", owner)
	}
	return true, nil
}

// enqueuePermit adds the permit unless it is on its way.
func enqueuePermit(ctx context.Context, tx *state.Tx, owner common.Address, i state.Intent) error {
	waiting, err := permitWaiting(ctx, tx, owner, i.Key)
	if err != nil || waiting {
		return err
	}
	isNew, err := tx.Enqueue(ctx, i)
	if err != nil {
		return fmt.Errorf("relay permit of %s: %w", owner, err)
	}
	if !isNew {
		return errs.New(errs.Conflict, "this permit of %s was sent already; sign a new one", owner)
	}
	return nil
}

// checkPermit judges what needs no balance.
func (s *Server) checkPermit(ctx context.Context, in *permitInput) (common.Address, *big.Int, error) {
	owner, err := parseAddress("owner", in.Body.Owner)
	if err != nil {
		return owner, nil, err
	}
	spender, err := parseAddress("spender", in.Body.Spender)
	if err != nil {
		return owner, nil, err
	}
	if want := s.self.Contracts[paymentManager]; spender != want {
		return owner, nil, errs.New(errs.Invalid, "spender is %s, want the payment contract, %s", spender, want)
	}
	value, err := parseAmount("value", in.Body.Value)
	if err != nil {
		return owner, nil, err
	}
	if value.Sign() == 0 {
		return owner, nil, errs.New(errs.Invalid, "value is 0; only the owner's own transaction takes an allowance back")
	}
	head, err := s.parts.DB.Head(ctx)
	if err != nil {
		return owner, nil, errs.New(errs.Unavailable, "the chain has not been read yet: %w", err)
	}
	if in.Body.Deadline <= head.Time {
		return owner, nil, errs.New(errs.Invalid, "permit's deadline %d is over: the chain's time is %d", in.Body.Deadline, head.Time)
	}
	return owner, value, nil
}

// parseWord reads 32 bytes, 0x and hex.
func parseWord(name, s string) (common.Hash, error) {
	b, err := hexutil.Decode(s)
	if err != nil || len(b) != common.HashLength {
		return common.Hash{}, errs.New(errs.Invalid, "%s is %.80q, want 32 bytes as 0x and 64 hex digits", name, s)
	}
	return common.BytesToHash(b), nil
}
