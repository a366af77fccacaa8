package signature

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// avalancheHRP is the prefix of main-net addresses, the only one of the
// protocol.
const avalancheHRP = "avax"

// verifyAvalanche checks the signature of a secp256k1 key. The sender is an
// address of the X-chain, such as X-avax1..., or one of the C-chain in the form
// of EVM addresses. The reference implementation knows the first kind only, but
// its SDKs make both.
func verifyAvalanche(e *message.Envelope) error {
	if isHexSender(e) {
		return verifyCChain(e)
	}
	alias, _, ok := strings.Cut(e.Sender, "-")
	if !ok || !isAlias(alias) {
		return fmt.Errorf("sender %.80q is neither an alias, - and an address nor a 0x address", e.Sender)
	}
	key, err := recoverAvalanche(e)
	if err != nil {
		return err
	}
	return wantSender(avalancheAddress(alias, key), e)
}

// verifyCChain takes what wallets of the C-chain make: EIP-191 as for every EVM
// chain, or, from accounts that hold the key themselves, the form of the
// X-chain.
func verifyCChain(e *message.Envelope) error {
	if len(e.Signature) >= evmDigits {
		return verifyEVM(e)
	}
	key, err := recoverAvalanche(e)
	if err != nil {
		return err
	}
	point, err := crypto.DecompressPubkey(key)
	if err != nil {
		return fmt.Errorf("recover signer: %w", err)
	}
	if address := crypto.PubkeyToAddress(*point).Hex(); !strings.EqualFold(address, e.Sender) {
		return fmt.Errorf("signed by %s, but sender is %.80q", address, e.Sender)
	}
	return nil
}

// isAlias says whether a text can name a chain of Avalanche: X, P, C or the
// identifier of a subnet's chain.
func isAlias(s string) bool {
	const charsMax = 64
	notAlnum := func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}
	return s != "" && len(s) <= charsMax && strings.IndexFunc(s, notAlnum) < 0
}

// recoverAvalanche returns the compressed key that signed. A high s is refused,
// as Avalanche's nodes and its own client do: wallets make none.
func recoverAvalanche(e *message.Envelope) ([]byte, error) {
	raw, err := decodeBase58Exact(e.Signature, crypto.SignatureLength+checksumLen)
	if err != nil {
		return nil, err
	}
	sig, ok := cutChecksum(raw, cb58Sum)
	if !ok {
		return nil, fmt.Errorf("checksum of the signature is wrong")
	}
	if highS(sig) {
		return nil, fmt.Errorf("signature has a high s")
	}
	return recoverKey(avalancheDigest(e.SigningBytes()), sig)
}

// cb58Sum is the checksum of Avalanche's cb58: the end of one sha256.
func cb58Sum(body []byte) []byte {
	sum := sha256.Sum256(body)
	return sum[sha256.Size-checksumLen:]
}

func avalancheDigest(text []byte) [sha256.Size]byte {
	b := []byte("\x1aAvalanche Signed Message:\n")
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	return sha256.Sum256(append(b, text...))
}

// avalancheAddress returns the address of a compressed key.
func avalancheAddress(alias string, key []byte) string {
	return alias + "-" + bech32(avalancheHRP, hash160(key))
}

// NewAvalanche returns the X-chain account of a secp256k1 key of 32 bytes. For
// the C-chain, take [NewEVM].
func NewAvalanche(key []byte) (*Signer, error) {
	k, err := crypto.ToECDSA(key)
	if err != nil {
		return nil, fmt.Errorf("read Avalanche key: %w", err)
	}
	address := avalancheAddress("X", crypto.CompressPubkey(&k.PublicKey))
	return &Signer{Avalanche, address, func(e *message.Envelope) (string, error) {
		return signAvalanche(k, e)
	}}, nil
}

func signAvalanche(k *ecdsa.PrivateKey, e *message.Envelope) (string, error) {
	digest := avalancheDigest(e.SigningBytes())
	sig, err := crypto.Sign(digest[:], k)
	if err != nil {
		return "", err
	}
	return encodeBase58(sig, cb58Sum), nil
}
