package signature

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Cosmos verifies secp256k1 signatures of amino documents, whatever the prefix of
// the account's chain. See section 2.5 of the protocol.
type Cosmos struct{}

const cosmosKeyType = "tendermint/PubKeySecp256k1"

// Verify implements Verifier.
func (Cosmos) Verify(e *message.Envelope) error {
	all, err := fields(e.Signature)
	if err != nil {
		return err
	}
	pub, err := cosmosKey(all["pub_key"])
	if err != nil {
		return err
	}
	sig, err := base64Field(all, "signature")
	if err != nil {
		return err
	}
	prefix, _, ok := strings.Cut(e.Sender, "1")
	if !ok {
		return invalid("sender %.80s is not a bech32 address", e.Sender)
	}
	signer, err := bech32Of(prefix, hash160(pub))
	if err != nil {
		return invalid("%v", err)
	}
	if signer != e.Sender {
		return wrongSender(e, signer)
	}
	return verifySecp(pub, cosmosDigest(e), sig)
}

// SignCosmos makes the key's address with a prefix ("cosmos") the sender of the
// envelope and signs it. Chain, type and item hash must be set.
func SignCosmos(key *ecdsa.PrivateKey, prefix string, e *message.Envelope) (err error) {
	pub := crypto.CompressPubkey(&key.PublicKey)
	if e.Sender, err = bech32Of(prefix, hash160(pub)); err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	sig, err := crypto.Sign(cosmosDigest(e), key)
	if err != nil {
		return fmt.Errorf("sign message %s: %w", e.ItemHash, err)
	}
	return asJSON(e, map[string]any{
		"signature":      base64.StdEncoding.EncodeToString(sig[:len(sig)-1]),
		"pub_key":        map[string]string{"type": cosmosKeyType, "value": base64.StdEncoding.EncodeToString(pub)},
		"account_number": "0", "sequence": "0",
	})
}

// cosmosDigest is the hash of the document that wallets sign, with sorted keys and
// no spaces.
func cosmosDigest(e *message.Envelope) []byte {
	sum := sha256.Sum256([]byte(`{"account_number":"0","chain_id":"signed-message-v1","fee":{"amount":[],"gas":"0"},"memo":"",` +
		`"msgs":[{"type":"signutil/MsgSignText","value":{"message":` + quoteASCII(string(e.SigningBytes())) +
		`,"signer":` + quoteASCII(e.Sender) + `}}],"sequence":"0"}`))
	return sum[:]
}

func cosmosKey(raw json.RawMessage) ([]byte, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, invalid("pub_key is not an object")
	}
	switch kind, err := text(all, "type"); {
	case err != nil:
		return nil, err
	case kind != cosmosKeyType:
		return nil, invalid("pub_key is of type %.80q, want %s", kind, cosmosKeyType)
	}
	return base64Field(all, "value")
}

func base64Field(all map[string]json.RawMessage, name string) ([]byte, error) {
	s, err := text(all, name)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, invalid("%s is not base64", name)
	}
	return raw, nil
}

// scalarBytes is the length of one number of an ECDSA signature.
const scalarBytes = 32

// verifySecp checks a signature r || s. Both forms that every signature has are
// accepted, as by the reference implementation.
func verifySecp(pub, digest, sig []byte) error {
	key, err := secp256k1.ParsePubKey(pub)
	if err != nil {
		return invalid("its key is no point of secp256k1")
	}
	var r, s secp256k1.ModNScalar
	if len(sig) != 2*scalarBytes || r.SetByteSlice(sig[:scalarBytes]) || s.SetByteSlice(sig[scalarBytes:]) {
		return invalid("it is not two numbers of %d bytes below the group's order", scalarBytes)
	}
	if !secp.NewSignature(&r, &s).Verify(digest, key) {
		return invalid("the key did not sign this message")
	}
	return nil
}
