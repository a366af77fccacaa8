package devchain

import (
	"crypto/ecdsa"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/params"
)

// Account is a funded account whose key everybody knows.
type Account struct {
	Address common.Address
	KeyHex  string // 64 hex digits, as wallets import it.
	Key     *ecdsa.PrivateKey
}

// fundsEther is what each account has in the first block.
const fundsEther = 10_000

func fundsWei() *big.Int {
	return new(big.Int).Mul(big.NewInt(fundsEther), big.NewInt(params.Ether))
}

// Accounts returns the ten funded accounts: those of the mnemonic "test test
// test test test test test test test test test junk", in the order of anvil and
// hardhat.
func Accounts() []Account {
	keys := []string{
		"ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
		"59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
		"5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
		"7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
		"47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
		"8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
		"92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
		"4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
		"dbda1821b80551c9d65939329250298aa3472ba22feea921c0cf5d620ea67b97",
		"2a871d0798f97d79848a013d4936a73bf4cc922c825d33c1cf7073dff6d409c6",
	}
	out := make([]Account, len(keys))
	for i, hex := range keys {
		key, err := crypto.HexToECDSA(hex)
		if err != nil {
			panic("BUG: a development key is no key: " + err.Error())
		}
		out[i] = Account{Address: crypto.PubkeyToAddress(key.PublicKey), KeyHex: hex, Key: key}
	}
	return out
}
