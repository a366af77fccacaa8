package signature

import (
	"crypto/ecdsa"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/mr-tron/base58"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The chain ids of NULS 2.0, of which the protocol knows no more.
const (
	NULS2MainNet uint16 = 1
	NULS2TestNet uint16 = 2
)

// nuls2Header is the recovery id 0 before r and s; 4 more say that the key is
// compressed, which all keys of the chain are.
const (
	nuls2Header     = 27
	nuls2HeaderLast = nuls2Header + 7
)

// verifyNULS2 checks the secp256k1 signature of an account of NULS 2.0. A high
// s holds, as in the reference: NULS is not known to refuse one.
func verifyNULS2(e *message.Envelope) error {
	chainID, ok := nuls2ChainID(e.Sender)
	if !ok {
		return fmt.Errorf("sender %.80q begins with neither %s nor %s", e.Sender, nuls2Prefix(NULS2MainNet), nuls2Prefix(NULS2TestNet))
	}
	raw, err := decodeBase64(e.Signature, crypto.SignatureLength)
	if err != nil {
		return err
	}
	header := raw[0]
	if header < nuls2Header || header > nuls2HeaderLast {
		return fmt.Errorf("signature has the header %d, want %d to %d", header, nuls2Header, nuls2HeaderLast)
	}
	key, err := recoverKey(nulsDigest(nulsText(e.SigningBytes())), append(raw[1:], (header-nuls2Header)&recoveryIDMax))
	if err != nil {
		return err
	}
	return wantSender(nuls2Address(chainID, key), e)
}

// nuls2Prefix begins the addresses of a chain: its name and, in lower case, the
// letter whose place in the alphabet is the length of the name.
func nuls2Prefix(chainID uint16) string {
	if chainID == NULS2MainNet {
		return "NULSd"
	}
	return "tNULSe"
}

func nuls2ChainID(sender string) (chainID uint16, ok bool) {
	for _, id := range []uint16{NULS2MainNet, NULS2TestNet} {
		if strings.HasPrefix(sender, nuls2Prefix(id)) {
			return id, true
		}
	}
	return 0, false
}

// nuls2Address returns the address of a compressed key.
func nuls2Address(chainID uint16, key []byte) string {
	return nuls2Prefix(chainID) + base58.Encode(nulsHash(chainID, key))
}

// NewNULS2 returns the account of a secp256k1 key of 32 bytes on NULS 2.0.
func NewNULS2(chainID uint16, key []byte) (*Signer, error) {
	if chainID != NULS2MainNet && chainID != NULS2TestNet {
		return nil, fmt.Errorf("NULS chain id %d is neither %d nor %d", chainID, NULS2MainNet, NULS2TestNet)
	}
	k, err := crypto.ToECDSA(key)
	if err != nil {
		return nil, fmt.Errorf("read NULS key: %w", err)
	}
	address := nuls2Address(chainID, crypto.CompressPubkey(&k.PublicKey))
	return &Signer{NULS2, address, func(e *message.Envelope) (string, error) { return signNULS2(k, e) }}, nil
}

func signNULS2(k *ecdsa.PrivateKey, e *message.Envelope) (string, error) {
	digest := nulsDigest(nulsText(e.SigningBytes()))
	sig, err := crypto.Sign(digest[:], k)
	if err != nil {
		return "", err
	}
	raw := append([]byte{nuls2Header + sig[compactLen]}, sig[:compactLen]...)
	return base64.StdEncoding.EncodeToString(raw), nil
}
