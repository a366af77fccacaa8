package signature

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// cosmosKeyType is the only kind of key that the protocol takes.
const cosmosKeyType = "tendermint/PubKeySecp256k1"

// cosmosSignature is the JSON text that accounts of the Cosmos SDK sign with.
type cosmosSignature struct {
	Signature     string    `json:"signature"` // base64 of r and s
	PubKey        cosmosKey `json:"pub_key"`
	AccountNumber string    `json:"account_number"`
	Sequence      string    `json:"sequence"`
}

type cosmosKey struct {
	Type  string `json:"type"`
	Value string `json:"value"` // base64 of the compressed point
}

// verifyCosmos checks the secp256k1 signature of an amino document that holds
// the text. A high s is refused, as the Cosmos SDK does for transactions: its
// wallets make none.
func verifyCosmos(e *message.Envelope) error {
	o, err := parseObject(e.Signature)
	if err != nil {
		return err
	}
	key, err := cosmosKeyOf(o)
	if err != nil {
		return err
	}
	hrp, _, ok := strings.Cut(e.Sender, "1")
	if !ok || !isHRP(hrp) {
		return fmt.Errorf("sender %.80q is not a bech32 address", e.Sender)
	}
	if err := wantSender(bech32(hrp, hash160(key)), e); err != nil {
		return err
	}
	text, err := o.text("signature")
	if err != nil {
		return err
	}
	sig, err := decodeBase64(text, compactLen)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	digest, err := cosmosDigest(e)
	if err != nil {
		return err
	}
	if !crypto.VerifySignature(key, digest[:], sig) {
		return fmt.Errorf("the secp256k1 signature does not hold, or has a high s")
	}
	return nil
}

// cosmosKeyOf returns the compressed key of a signature.
func cosmosKeyOf(o object) ([]byte, error) {
	var key object
	if err := json.Unmarshal(o["pub_key"], &key); err != nil {
		return nil, fmt.Errorf("signature's pub_key is not an object: %w", err)
	}
	kind, err := key.text("type")
	if err != nil {
		return nil, err
	}
	if kind != cosmosKeyType {
		return nil, fmt.Errorf("signature's pub_key is of type %.80q, want %s", kind, cosmosKeyType)
	}
	value, err := key.text("value")
	if err != nil {
		return nil, err
	}
	b, err := decodeBase64(value, compressedLen)
	if err != nil {
		return nil, fmt.Errorf("pub_key: %w", err)
	}
	return b, nil
}

// isHRP says whether a text may stand before the 1 of an address: BIP-173 wants
// 1 to 83 visible characters, and of the cases the lower one.
func isHRP(s string) bool {
	const charsMax = 83
	bad := func(c rune) bool { return c < '!' || c > '~' || c >= 'A' && c <= 'Z' }
	return s != "" && len(s) <= charsMax && strings.IndexFunc(s, bad) < 0
}

// decodeBase64 decodes a text of exactly size bytes.
func decodeBase64(text string, size int) ([]byte, error) {
	if want := base64.StdEncoding.EncodedLen(size); len(text) != want {
		return nil, fmt.Errorf("base64 text has %d characters, want %d", len(text), want)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("decode base64 text: %w", err)
	}
	if len(b) != size {
		return nil, fmt.Errorf("base64 text has %d bytes, want %d", len(b), size)
	}
	return b, nil
}

// The amino document of a text, its keys in the order of the alphabet.
type (
	cosmosDoc struct {
		AccountNumber string      `json:"account_number"`
		ChainID       string      `json:"chain_id"`
		Fee           cosmosFee   `json:"fee"`
		Memo          string      `json:"memo"`
		Msgs          []cosmosMsg `json:"msgs"`
		Sequence      string      `json:"sequence"`
	}
	cosmosFee struct {
		Amount []string `json:"amount"`
		Gas    string   `json:"gas"`
	}
	cosmosMsg struct {
		Type  string      `json:"type"`
		Value cosmosValue `json:"value"`
	}
	cosmosValue struct {
		Message string `json:"message"`
		Signer  string `json:"signer"`
	}
)

// cosmosDigest returns the sha256 of the document. The reference writes
// characters outside ASCII as escapes; a sender whose address was compared has
// none, nor has any other value that is signed.
func cosmosDigest(e *message.Envelope) (sum [sha256.Size]byte, err error) {
	doc, err := marshalText(cosmosDoc{
		AccountNumber: "0", ChainID: "signed-message-v1", Fee: cosmosFee{Amount: []string{}, Gas: "0"}, Sequence: "0",
		Msgs: []cosmosMsg{{Type: "signutil/MsgSignText", Value: cosmosValue{Message: string(e.SigningBytes()), Signer: e.Sender}}},
	})
	if err != nil {
		return sum, err
	}
	return sha256.Sum256([]byte(doc)), nil
}

// NewCosmos returns the account of a secp256k1 key of 32 bytes on the chain
// whose addresses begin with the prefix, such as cosmos.
func NewCosmos(hrp string, key []byte) (*Signer, error) {
	if !isHRP(hrp) || strings.Contains(hrp, "1") {
		return nil, fmt.Errorf("prefix %.80q is not one of bech32 addresses", hrp)
	}
	k, err := crypto.ToECDSA(key)
	if err != nil {
		return nil, fmt.Errorf("read Cosmos key: %w", err)
	}
	address := bech32(hrp, hash160(crypto.CompressPubkey(&k.PublicKey)))
	return &Signer{Cosmos, address, func(e *message.Envelope) (string, error) { return signCosmos(k, e) }}, nil
}

func signCosmos(k *ecdsa.PrivateKey, e *message.Envelope) (string, error) {
	digest, err := cosmosDigest(e)
	if err != nil {
		return "", err
	}
	sig, err := crypto.Sign(digest[:], k)
	if err != nil {
		return "", err
	}
	enc := base64.StdEncoding
	return marshalText(cosmosSignature{
		Signature:     enc.EncodeToString(sig[:compactLen]),
		PubKey:        cosmosKey{cosmosKeyType, enc.EncodeToString(crypto.CompressPubkey(&k.PublicKey))},
		AccountNumber: "0", Sequence: "0",
	})
}
