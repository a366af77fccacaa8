package aleph

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// Account is a key and what its owner signs with it.
type Account struct{ key *ecdsa.PrivateKey }

// NewAccount returns the account of a key.
func NewAccount(key *ecdsa.PrivateKey) *Account { return &Account{key} }

// Address returns the address of the account.
func (a *Account) Address() common.Address { return crypto.PubkeyToAddress(a.key.PublicKey) }

// SignContent returns the signed message of a content.
func (a *Account) SignContent(typ message.Type, content any, at time.Time) (*message.Envelope, error) {
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, fmt.Errorf("encode content of %s: %w", typ, err)
	}
	e := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Time: at.UTC().Truncate(time.Microsecond), ItemType: message.Inline,
		ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	if err := signature.SignEVM(a.key, e); err != nil {
		return nil, err
	}
	return e, nil
}

// SignStore returns the signed STORE message of a file that is in the
// network's storage.
func (a *Account) SignStore(file Blob, metadata map[string]string, at time.Time) (*message.Envelope, error) {
	s := message.Store{
		Address: a.Address().Hex(), Time: at, ItemType: message.Storage, ItemHash: file.Hash, Size: &file.Size,
		Payment: creditPayment(),
	}
	if len(metadata) > 0 {
		s.Metadata = message.Metadata{}
	}
	for k, v := range metadata {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode metadata %s: %w", k, err)
		}
		s.Metadata[k] = raw
	}
	return a.SignContent(message.TypeStore, s, at)
}

// SignOffer signs an offer in the payer's name.
func (a *Account) SignOffer(d job.Domain, o *job.Offer) (job.Signature, error) {
	return job.Sign(a.key, d, o)
}

// SignStop signs the end of a job.
func (a *Account) SignStop(d job.Domain, spec message.ItemHash, deadline uint64) (StopRequest, error) {
	sig, err := job.Sign(a.key, d, &job.Stop{Spec: spec, Deadline: deadline})
	if err != nil {
		return StopRequest{}, err
	}
	return StopRequest{Deadline: deadline, Signature: sig}, nil
}

// SignPermit signs an allowance of the token. The domain is the token's own
// and the nonce its next one of this account.
func (a *Account) SignPermit(d job.Domain, spender common.Address, value Wei, nonce *big.Int, deadline uint64) (PermitRequest, error) {
	p := &job.Permit{
		Owner: a.Address(), Spender: spender, Value: value.Big(), Nonce: nonce, Deadline: new(big.Int).SetUint64(deadline),
	}
	sig, err := job.Sign(a.key, d, p)
	if err != nil {
		return PermitRequest{}, err
	}
	return PermitRequest{
		Owner: p.Owner, Spender: spender, Value: value, Deadline: deadline,
		R: common.BytesToHash(sig[:32]), S: common.BytesToHash(sig[32:64]), V: sig[64],
	}, nil
}

// authorize adds the proof that the request is this account's.
func (a *Account) authorize(req *http.Request) error {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("make nonce: %w", err)
	}
	// A minute less than allowed: the node's clock may be behind ours.
	expires := time.Now().Add(operator.MaxAhead - time.Minute)
	header, err := operator.Sign(a.key, req.Method, req.URL.RequestURI(), expires, hex.EncodeToString(nonce))
	if err != nil {
		return err
	}
	req.Header.Set(operator.HeaderName, header)
	return nil
}

func creditPayment() *message.Payment {
	chain := message.Ethereum
	return &message.Payment{Chain: &chain, Type: message.PayCredit}
}
