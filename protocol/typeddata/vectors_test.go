package typeddata_test

import (
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/typeddata"
)

// typedCase is a case that the contracts' tests write: what Solidity computes.
type typedCase struct {
	Domain struct {
		Name, Version     string
		ChainID           int64
		VerifyingContract common.Address
	}
	PrimaryType string
	EncodeType  string
	TypeHash    common.Hash
	Message     map[string]any
	StructHash  common.Hash
	Digest      common.Hash
	Signer      common.Address
	Signature   job.Signature
}

// encoded is a case's values, hashed by nothing but the text of their type.
type encoded common.Hash

func (e encoded) StructHash() common.Hash { return common.Hash(e) }
func (encoded) Check() error              { return nil }

// encode hashes the values of a type, each of which is one static field.
func encode(t *testing.T, typ string, message map[string]any) encoded {
	t.Helper()
	_, list, _ := strings.Cut(strings.TrimSuffix(typ, ")"), "(")
	fields := strings.Split(list, ",")
	if len(message) != len(fields) {
		t.Errorf("%d values, want %d", len(message), len(fields))
	}
	data := crypto.Keccak256([]byte(typ))
	for _, field := range fields {
		kind, name, _ := strings.Cut(field, " ")
		text, _ := message[name].(string)
		number := new(big.Int)
		var ok bool
		switch {
		case kind == "bool":
			var set bool
			if set, ok = message[name].(bool); set {
				number.SetUint64(1)
			}
		case strings.HasPrefix(kind, "uint"):
			_, ok = number.SetString(text, 10)
		default: // An address or 32 bytes
			_, ok = number.SetString(text, 0)
		}
		if !ok || number.Sign() < 0 || number.BitLen() > 256 {
			t.Fatalf("%s is %v, want a %s", name, message[name], kind)
		}
		data = append(data, common.BigToHash(number).Bytes()...)
	}
	return encoded(crypto.Keccak256Hash(data))
}

// read decodes a file of JSON.
func read(t *testing.T, file string, to any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, to); err != nil {
		t.Fatal(err)
	}
}

// TestEveryTypeHasAVector holds each type of contracts/eip712.json to what the
// contracts compute of its case.
func TestEveryTypeHasAVector(t *testing.T) {
	var domains map[string][]string
	read(t, "../../contracts/eip712.json", &domains)
	var cases []typedCase
	read(t, "../testdata/vectors/eip712.json", &cases)
	types := typeddata.Types()
	missing := map[string]string{}
	for domain, list := range domains {
		for _, typ := range list {
			name, _, _ := strings.Cut(typ, "(")
			if types[name] != typ {
				t.Errorf("%s is %q here, want %s: run `make contracts-types`", name, types[name], typ)
			}
			missing[name] = domain
		}
	}
	if len(types) != len(missing) {
		t.Errorf("%d types here, want %d: run `make contracts-types`", len(types), len(missing))
	}
	for _, tt := range cases {
		t.Run(tt.PrimaryType, func(t *testing.T) {
			typ := types[tt.PrimaryType]
			if typ != tt.EncodeType || missing[tt.PrimaryType] != tt.Domain.Name {
				t.Fatalf("%s of %s, want %s of %s", tt.EncodeType, tt.Domain.Name, typ, missing[tt.PrimaryType])
			}
			delete(missing, tt.PrimaryType)
			domain := job.Domain{
				Name: tt.Domain.Name, Version: tt.Domain.Version, ChainID: big.NewInt(tt.Domain.ChainID), Contract: tt.Domain.VerifyingContract,
			}
			word := encode(t, typ, tt.Message)

			if got := crypto.Keccak256Hash([]byte(typ)); got != tt.TypeHash {
				t.Errorf("type hash %s, want %s", got, tt.TypeHash)
			}
			if got := word.StructHash(); got != tt.StructHash {
				t.Errorf("struct hash %s, want %s", got, tt.StructHash)
			}
			if got := job.Digest(domain, word); got != tt.Digest {
				t.Errorf("digest %s, want %s", got, tt.Digest)
			}
			if got, err := job.Recover(domain, word, tt.Signature); err != nil || got != tt.Signer {
				t.Errorf("signer %s, %v; want %s", got, err, tt.Signer)
			}
		})
	}
	for name := range missing {
		t.Errorf("no case for %s: add it to contracts/test/Vectors.t.sol", name)
	}
}
