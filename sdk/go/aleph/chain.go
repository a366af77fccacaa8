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

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// tokenABI is what the client asks of the token.
const tokenABI = `[
{"type":"function","name":"nonces","stateMutability":"view","inputs":[{"name":"owner","type":"address"}],"outputs":[{"name":"","type":"uint256"}]},
{"type":"function","name":"allowance","stateMutability":"view","inputs":[{"name":"owner","type":"address"},{"name":"spender","type":"address"}],"outputs":[{"name":"","type":"uint256"}]},
{"type":"function","name":"eip712Domain","stateMutability":"view","inputs":[],"outputs":[{"name":"fields","type":"bytes1"},{"name":"name","type":"string"},{"name":"version","type":"string"},{"name":"chainId","type":"uint256"},{"name":"verifyingContract","type":"address"},{"name":"salt","type":"bytes32"},{"name":"extensions","type":"uint256[]"}]},
{"type":"function","name":"transfer","stateMutability":"nonpayable","inputs":[{"name":"to","type":"address"},{"name":"value","type":"uint256"}],"outputs":[{"name":"","type":"bool"}]}]`

// Chain reads and writes a chain by its JSON-RPC interface.
type Chain struct {
	url   string
	eth   *ethclient.Client
	token abi.ABI
}

// DialChain connects to the JSON-RPC interface of a chain.
func DialChain(ctx context.Context, rpcURL string) (*Chain, error) {
	token, err := abi.JSON(strings.NewReader(tokenABI))
	if err != nil {
		return nil, fmt.Errorf("read token interface: %w", err)
	}
	eth, err := ethclient.DialContext(ctx, rpcURL)
	if err != nil {
		return nil, fmt.Errorf("chain RPC %q: %w", rpcURL, err)
	}
	return &Chain{url: rpcURL, eth: eth, token: token}, nil
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
	out, err := c.view(ctx, token, "eip712Domain")
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
	out, err := c.view(ctx, token, method, args...)
	if err != nil {
		return nil, err
	}
	v, ok := out[0].(*big.Int)
	if !ok {
		return nil, fmt.Errorf("token %s answers %s in an unknown form", token, method)
	}
	return v, nil
}

func (c *Chain) view(ctx context.Context, to common.Address, method string, args ...any) ([]any, error) {
	data, err := c.token.Pack(method, args...)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", method, err)
	}
	raw, err := c.eth.CallContract(ctx, ethereum.CallMsg{To: &to, Data: data}, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s of %s at %s: %w", method, to, c.url, err)
	}
	out, err := c.token.Unpack(method, raw)
	if err != nil {
		return nil, fmt.Errorf("ask %s of %s at %s: %w", method, to, c.url, err)
	}
	return out, nil
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
	if domain.ChainID.Cmp(big.NewInt(info.Chain.ID)) != 0 {
		return nil, fmt.Errorf("RPC %s is chain %s, but node %s follows chain %d", chain.url, domain.ChainID, node.URL(), info.Chain.ID)
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
	return c.send(ctx, from, to, value.Big(), nil)
}

// SendToken sends tokens and waits until they are mined.
func (c *Chain) SendToken(ctx context.Context, from *ecdsa.PrivateKey, token, to common.Address, value Wei) (common.Hash, error) {
	data, err := c.token.Pack("transfer", to, value.Big())
	if err != nil {
		return common.Hash{}, fmt.Errorf("encode transfer: %w", err)
	}
	return c.send(ctx, from, token, new(big.Int), data)
}

func (c *Chain) send(ctx context.Context, from *ecdsa.PrivateKey, to common.Address, value *big.Int, data []byte) (common.Hash, error) {
	sender := crypto.PubkeyToAddress(from.PublicKey)
	id, err := c.ID(ctx)
	if err != nil {
		return common.Hash{}, err
	}
	nonce, err := c.eth.PendingNonceAt(ctx, sender)
	if err != nil {
		return common.Hash{}, fmt.Errorf("read nonce of %s: %w", sender, err)
	}
	tip, err := c.eth.SuggestGasTipCap(ctx)
	if err != nil {
		return common.Hash{}, fmt.Errorf("read gas price: %w", err)
	}
	head, err := c.eth.HeaderByNumber(ctx, nil)
	if err != nil {
		return common.Hash{}, fmt.Errorf("read head: %w", err)
	}
	if head.BaseFee == nil {
		return common.Hash{}, fmt.Errorf("chain %s has no base fee; transfers there are not supported", id)
	}
	gas, err := c.eth.EstimateGas(ctx, ethereum.CallMsg{From: sender, To: &to, Value: value, Data: data})
	if err != nil {
		return common.Hash{}, fmt.Errorf("estimate transfer from %s to %s: %w", sender, to, err)
	}
	fee := new(big.Int).Add(tip, new(big.Int).Lsh(head.BaseFee, 1)) // stays valid while the base fee doubles
	tx, err := types.SignNewTx(from, types.LatestSignerForChainID(id), &types.DynamicFeeTx{
		ChainID: id, Nonce: nonce, GasTipCap: tip, GasFeeCap: fee, Gas: gas, To: &to, Value: value, Data: data,
	})
	if err != nil {
		return common.Hash{}, fmt.Errorf("sign transfer: %w", err)
	}
	if err := c.eth.SendTransaction(ctx, tx); err != nil {
		return common.Hash{}, fmt.Errorf("send transfer from %s to %s: %w", sender, to, err)
	}
	return tx.Hash(), c.waitMined(ctx, tx.Hash())
}

func (c *Chain) waitMined(ctx context.Context, tx common.Hash) error {
	_, err := wait(ctx, fmt.Sprintf("transaction %s", tx), func() (*types.Receipt, bool, error) {
		r, err := c.eth.TransactionReceipt(ctx, tx)
		switch {
		case errors.Is(err, ethereum.NotFound):
			return nil, false, nil
		case err != nil:
			return nil, false, fmt.Errorf("read receipt of %s: %w", tx, err)
		case r.Status != types.ReceiptStatusSuccessful:
			return nil, false, fmt.Errorf("transaction %s was reverted", tx)
		}
		return r, true, nil
	})
	return err
}
