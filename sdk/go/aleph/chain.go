package aleph

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// Chain reads and writes a chain by its JSON-RPC interface.
type Chain struct {
	url       string
	eth       *ethclient.Client
	contracts abi.ABI
}

// DialChain connects to the JSON-RPC interface of a chain.
func DialChain(ctx context.Context, rpcURL string) (*Chain, error) {
	contracts, err := abi.JSON(strings.NewReader(contractsABI))
	if err != nil {
		return nil, fmt.Errorf("read interface of the contracts: %w", err)
	}
	eth, err := ethclient.DialContext(ctx, rpcURL)
	if err != nil {
		return nil, fmt.Errorf("chain RPC %q: %w", rpcURL, err)
	}
	return &Chain{url: rpcURL, eth: eth, contracts: contracts}, nil
}

// Close releases the connection.
func (c *Chain) Close() { c.eth.Close() }

// ID returns the chain id.
func (c *Chain) ID(ctx context.Context) (*big.Int, error) {
	id, err := c.eth.ChainID(ctx)
	if err != nil {
		return nil, &UnreachableError{URL: c.url, Err: err}
	}
	return id, nil
}

// PermitDomain returns the domain of the token's permits, and the next permit
// nonce of an owner.
func (c *Chain) PermitDomain(ctx context.Context, token, owner common.Address) (job.Domain, *big.Int, error) {
	var d job.Domain
	out, err := c.view(ctx, nil, token, "eip712Domain")
	if err != nil {
		return d, nil, err
	}
	name, ok1 := out[1].(string)
	version, ok2 := out[2].(string)
	id, ok3 := out[3].(*big.Int)
	contract, ok4 := out[4].(common.Address)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return d, nil, fmt.Errorf("token %s answers in an unknown form", token)
	}
	nonce, err := c.number(ctx, token, "nonces", owner)
	return job.Domain{Name: name, Version: version, ChainID: id, Contract: contract}, nonce, err
}

// Allowance returns what a spender may take of an owner's tokens.
func (c *Chain) Allowance(ctx context.Context, token, owner, spender common.Address) (Wei, error) {
	v, err := c.number(ctx, token, "allowance", owner, spender)
	return Wei{v}, err
}

// number asks a view of the token for one number.
func (c *Chain) number(ctx context.Context, token common.Address, method string, args ...any) (*big.Int, error) {
	out, err := c.view(ctx, nil, token, method, args...)
	if err != nil {
		return nil, err
	}
	v, ok := out[0].(*big.Int)
	if !ok {
		return nil, fmt.Errorf("token %s answers %s in an unknown form", token, method)
	}
	return v, nil
}

// view asks a contract as it was after a block, nil for the newest.
func (c *Chain) view(ctx context.Context, block *big.Int, to common.Address, method string, args ...any) ([]any, error) {
	data, err := c.contracts.Pack(method, args...)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", method, err)
	}
	raw, err := c.eth.CallContract(ctx, ethereum.CallMsg{To: &to, Data: data}, block)
	if err != nil {
		return nil, c.failed(err, "ask %s of %s", method, to)
	}
	out, err := c.contracts.Unpack(method, raw)
	if err != nil {
		return nil, fmt.Errorf("ask %s of %s at %s: %w", method, to, c.url, err)
	}
	return out, nil
}

// sameAs reports an RPC that serves another chain than the node follows.
func (c *Chain) sameAs(node *Client, info *Info, id *big.Int) error {
	if id.Cmp(big.NewInt(info.Chain.ID)) != 0 {
		return fmt.Errorf("RPC %s is chain %s, but node %s follows chain %d", c.url, id, node.URL(), info.Chain.ID)
	}
	return nil
}

// Granted is a permit on its way to the chain.
type Granted struct {
	Intent  string
	Token   common.Address
	Owner   common.Address
	Spender common.Address
	Nonce   *big.Int // of the permit
}

// Grant signs a permit of the token for the payment contract and relays it
// through the node. It returns once the node has taken it; WaitGranted waits
// for the chain.
func Grant(ctx context.Context, node *Client, chain *Chain, a *Account, value Wei) (*Granted, error) {
	info, err := node.Info(ctx)
	if err != nil {
		return nil, err
	}
	domain, nonce, err := chain.PermitDomain(ctx, info.Contracts.AlephToken, a.Address())
	if err != nil {
		return nil, err
	}
	if err := chain.sameAs(node, info, domain.ChainID); err != nil {
		return nil, err
	}
	deadline := info.Chain.Time + uint64(offerWindow/time.Second)
	permit, err := a.SignPermit(domain, info.Contracts.PaymentManager, value, nonce, deadline)
	if err != nil {
		return nil, err
	}
	relayed, err := node.Permit(ctx, permit)
	if err != nil {
		return nil, err
	}
	return &Granted{
		Intent: relayed.Intent, Token: info.Contracts.AlephToken, Owner: a.Address(), Spender: info.Contracts.PaymentManager, Nonce: nonce,
	}, nil
}

// WaitGranted waits until a permit is used and the node knows the allowance
// that the chain has: running jobs may have taken of it already.
func WaitGranted(ctx context.Context, node *Client, chain *Chain, g *Granted) (*AccountView, error) {
	return wait(ctx, fmt.Sprintf("permit of %s", g.Owner), func() (*AccountView, bool, error) {
		next, err := chain.number(ctx, g.Token, "nonces", g.Owner)
		if err != nil || next.Cmp(g.Nonce) <= 0 {
			return nil, false, err
		}
		allowance, err := chain.Allowance(ctx, g.Token, g.Owner, g.Spender)
		if err != nil {
			return nil, false, err
		}
		v, err := node.Account(ctx, g.Owner)
		if err != nil {
			return nil, false, err
		}
		return v, v.Allowance.Cmp(allowance) == 0, nil
	})
}

// SendETH sends ether and waits until it is mined.
func (c *Chain) SendETH(ctx context.Context, from *ecdsa.PrivateKey, to common.Address, value Wei) (common.Hash, error) {
	r, err := c.send(ctx, from, ethereum.CallMsg{To: &to, Value: value.Big()})
	return hashOf(r), err
}

// SendToken sends tokens and waits until they are mined.
func (c *Chain) SendToken(ctx context.Context, from *ecdsa.PrivateKey, token, to common.Address, value Wei) (common.Hash, error) {
	data, err := c.contracts.Pack("transfer", to, value.Big())
	if err != nil {
		return common.Hash{}, fmt.Errorf("encode transfer: %w", err)
	}
	r, err := c.send(ctx, from, ethereum.CallMsg{To: &token, Data: data})
	return hashOf(r), err
}

func hashOf(r *types.Receipt) common.Hash {
	if r == nil {
		return common.Hash{}
	}
	return r.TxHash
}

// send signs a transaction, sends it and waits until it is mined. A contract
// that refuses it gives a *RefusedError, an account that cannot pay for it a
// *FundsError; both are known before anything is sent, as a rule.
func (c *Chain) send(ctx context.Context, from *ecdsa.PrivateKey, m ethereum.CallMsg) (*types.Receipt, error) {
	m.From = crypto.PubkeyToAddress(from.PublicKey)
	unsigned, err := c.prepare(ctx, m)
	if err != nil {
		return nil, err
	}
	tx, err := types.SignNewTx(from, types.LatestSignerForChainID(unsigned.ChainID), unsigned)
	if err != nil {
		return nil, fmt.Errorf("sign transaction to %s: %w", m.To, err)
	}
	if err := c.eth.SendTransaction(ctx, tx); err != nil {
		return nil, c.failed(err, "send transaction from %s to %s", m.From, m.To)
	}
	r, err := c.waitMined(ctx, tx.Hash())
	if err != nil || r.Status == types.ReceiptStatusSuccessful {
		return r, err
	}
	// Something changed between the estimate and the block: the state after
	// the block tells what.
	_, err = c.eth.CallContract(ctx, m, r.BlockNumber)
	refused := c.refusal(err)
	if refused == nil {
		refused = &RefusedError{Kind: Conflict, Reason: "the contract refused for a reason that is gone"}
	}
	refused.Tx = &r.TxHash
	return nil, refused
}

// prepare returns the transaction of a call that the chain would take now from
// an account that can pay for it.
func (c *Chain) prepare(ctx context.Context, m ethereum.CallMsg) (*types.DynamicFeeTx, error) {
	id, err := c.ID(ctx)
	if err != nil {
		return nil, err
	}
	nonce, err := c.eth.PendingNonceAt(ctx, m.From)
	if err != nil {
		return nil, c.failed(err, "read nonce of %s", m.From)
	}
	tip, err := c.eth.SuggestGasTipCap(ctx)
	if err != nil {
		return nil, c.failed(err, "read gas price")
	}
	head, err := c.eth.HeaderByNumber(ctx, nil)
	if err != nil {
		return nil, c.failed(err, "read head")
	}
	if head.BaseFee == nil {
		return nil, fmt.Errorf("chain %s has no base fee; transactions there are not supported", id)
	}
	have, err := c.eth.BalanceAt(ctx, m.From, nil)
	if err != nil {
		return nil, c.failed(err, "read ether of %s", m.From)
	}
	gas, err := c.eth.EstimateGas(ctx, m)
	if err != nil {
		return nil, c.failed(err, "estimate transaction from %s to %s", m.From, m.To)
	}
	if len(m.Data) > 0 {
		gas += gas / 4 // what a call takes may grow until it is mined
	}
	tx := &types.DynamicFeeTx{
		ChainID: id, Nonce: nonce, GasTipCap: tip, Gas: gas, To: m.To, Value: m.Value, Data: m.Data,
		GasFeeCap: new(big.Int).Add(tip, new(big.Int).Lsh(head.BaseFee, 1)), // stays valid while the base fee doubles
	}
	if need := types.NewTx(tx).Cost(); have.Cmp(need) < 0 {
		return nil, &FundsError{Account: m.From, Need: Wei{need}, Have: Wei{have}}
	}
	return tx, nil
}

// failed is a request that the chain did not serve: refused by a contract or by
// the RPC, or not answered.
func (c *Chain) failed(err error, format string, args ...any) error {
	if refused := c.refusal(err); refused != nil {
		return refused
	}
	err = fmt.Errorf(format+": %w", append(args, err)...)
	var answer rpc.Error
	if errors.As(err, &answer) {
		return err
	}
	return &UnreachableError{URL: c.url, Err: err}
}

func (c *Chain) waitMined(ctx context.Context, tx common.Hash) (*types.Receipt, error) {
	return wait(ctx, fmt.Sprintf("transaction %s", tx), func() (*types.Receipt, bool, error) {
		r, err := c.eth.TransactionReceipt(ctx, tx)
		if errors.Is(err, ethereum.NotFound) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, c.failed(err, "read receipt of %s", tx)
		}
		return r, true, nil
	})
}
