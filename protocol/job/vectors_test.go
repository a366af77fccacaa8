package job_test

import (
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/commitment"
	names "github.com/aleph-onchain/aleph-onchain/protocol/domain"
	"github.com/aleph-onchain/aleph-onchain/protocol/heartbeat"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
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
	PrivateKey  string
	Signer      common.Address
	Signature   job.Signature
}

// registeredPeer is the peer id whose hash the case of Register holds.
const registeredPeer = "002408011220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// word reads the case's values into the Go word; nil when no program here
// signs or reads such a word.
func (c *typedCase) word(t *testing.T) job.Signable {
	t.Helper()
	text := func(key string) string {
		v, _ := c.Message[key].(string)
		return v
	}
	num := func(key string) uint64 {
		v, err := strconv.ParseUint(text(key), 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		return v
	}
	wide := func(key string) *big.Int {
		v, ok := new(big.Int).SetString(text(key), 10)
		if !ok {
			t.Fatalf("%s is %q", key, text(key))
		}
		return v
	}
	sum := func(key string) common.Hash { return common.HexToHash(text(key)) }
	object := func() (id commitment.ID) {
		wide("id").FillBytes(id[:])
		return id
	}
	hash := message.ItemHash(strings.TrimPrefix(text("spec"), "0x"))
	agreed := func() job.Terms {
		return job.Terms{
			Spec: hash, NodeID: uint32(num("nodeId")), RateQ32: wide("rateQ32"), Attempt: uint8(num("attempt")),
			CoordID: uint32(num("coordId")), StatsEpoch: uint32(num("statsEpoch")), ReqHash: common.HexToHash(text("reqHash")),
			Deadline: num("deadline"),
		}
	}
	switch c.PrimaryType {
	case "JobOffer":
		return &job.Offer{
			Spec: hash, Payer: common.HexToAddress(text("payer")), Token: uint8(num("token")), MaxRateQ32: wide("maxRateQ32"),
			SLAClass: uint32(num("slaClass")), ImageSeq: uint32(num("imageSeq")), NodeHint: uint32(num("nodeHint")),
			ReqHash: common.HexToHash(text("reqHash")), MaxUntil: num("maxUntil"), Deadline: num("deadline"), Nonce: wide("nonce"),
		}
	case "Accept":
		a := job.Accept(agreed())
		return &a
	case "Assignment":
		a := job.Assignment(agreed())
		return &a
	case "Stop":
		return &job.Stop{Spec: hash, Deadline: num("deadline")}
	case "Resize":
		return &job.Resize{Offer: common.HexToHash(text("offer")), NodeID: uint32(num("nodeId")), RateQ32: wide("rateQ32")}
	case "Decline":
		return &job.Decline{Spec: hash, NodeID: uint32(num("nodeId")), Attempt: uint8(num("attempt")), Reason: uint8(num("reason"))}
	case "Silence":
		return &job.Silence{Spec: hash, NodeID: uint32(num("nodeId")), Attempt: uint8(num("attempt"))}
	case "Accusation":
		return &job.Accusation{
			Kind: uint8(num("kind")), NodeID: uint32(num("nodeId")), Ref: common.HexToHash(text("ref")),
			Occurrence: uint32(num("occurrence")), Severity: uint8(num("severity")), Evidence: common.HexToHash(text("evidence")),
		}
	case "Verdict":
		return &job.Verdict{CaseID: common.HexToHash(text("caseId")), Guilty: c.Message["guilty"] == true}
	case "Register":
		peer, err := hex.DecodeString(registeredPeer)
		if err != nil {
			t.Fatal(err)
		}
		return &job.Register{Owner: common.HexToAddress(text("owner")), Kind: job.NodeKind(num("kind")), PeerID: peer}
	case "SetSigner":
		return &job.SetSigner{NodeID: uint32(num("nodeId")), Owner: common.HexToAddress(text("owner"))}
	case "Heartbeat":
		return &heartbeat.Word{Epoch: heartbeat.Epoch(num("epoch")), StatsRoot: sum("statsRoot"), BitmapHash: sum("bitmapHash")}
	case "StoreRequest":
		return &commitment.Request{
			Payer: common.HexToAddress(text("payer")), NodeID: uint32(num("nodeId")), Root: sum("root"), Size: num("size"),
			ItemHash: sum("itemHash"), Until: commitment.Day(num("untilDay")), K: uint8(num("k")), Token: uint8(num("token")),
			RateQ32: wide("rateQ32"), Deadline: num("deadline"),
		}
	case "StoreExtension":
		return &commitment.Extension{ID: object(), Until: commitment.Day(num("untilDay"))}
	case "StoreRepair":
		return &commitment.Repair{ID: object(), NodeID: uint32(num("nodeId"))}
	case "StorageReceipt":
		return &commitment.Receipt{
			NodeID: uint32(num("nodeId")), Root: sum("root"), Leaves: num("leaves"), Since: commitment.Day(num("sinceDay")),
			Until: commitment.Day(num("untilDay")), Holder: common.HexToAddress(text("holder")),
		}
	case "DayAttestation":
		return &commitment.Attestation{
			Day: commitment.Day(num("day")), Seed: sum("seed"), BitmapRoot: sum("bitmapRoot"),
		}
	case "DnsAttestation":
		return &names.Attestation{
			Key: sum("key"), Owner: common.HexToAddress(text("owner")), Nonce: uint32(num("nonce")),
			Method: names.Method(num("method")), SeenAt: num("seenAt"),
		}
	case "Revocation":
		return &names.Revocation{
			Key: sum("key"), Nonce: uint32(num("nonce")), SPKIHash: sum("spkiHash"), Evidence: sum("evidence"),
		}
	case "Takedown", "Delegation": // Wallets sign these; the test of protocol/typeddata holds their cases to their types.
		return nil
	}
	t.Fatalf("no word for %s", c.PrimaryType)
	return nil
}

// TestTypedVectors holds the words to what the contracts compute and sign.
func TestTypedVectors(t *testing.T) {
	raw, err := os.ReadFile("../testdata/vectors/eip712.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []typedCase
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	types := map[string]string{
		"JobOffer": job.OfferType, "Accept": job.AcceptType, "Assignment": job.AssignmentType, "Stop": job.StopType,
		"Resize": job.ResizeType, "Decline": job.DeclineType, "Silence": job.SilenceType,
		"Accusation": job.AccusationType, "Verdict": job.VerdictType,
		"Register": job.RegisterType, "SetSigner": job.SetSignerType, "Heartbeat": heartbeat.Type,
		"StoreRequest": commitment.RequestType, "StoreExtension": commitment.ExtensionType, "StoreRepair": commitment.RepairType,
		"StorageReceipt": commitment.ReceiptType, "DayAttestation": commitment.AttestationType,
		"DnsAttestation": names.AttestationType, "Revocation": names.RevocationType,
	}
	seen := map[string]bool{}
	for _, tt := range cases {
		seen[tt.PrimaryType] = true
		t.Run(tt.PrimaryType, func(t *testing.T) {
			word := tt.word(t)
			if word == nil {
				return
			}
			domain := job.Domain{
				Name: tt.Domain.Name, Version: tt.Domain.Version, ChainID: big.NewInt(tt.Domain.ChainID), Contract: tt.Domain.VerifyingContract,
			}
			key, err := crypto.HexToECDSA(strings.TrimPrefix(tt.PrivateKey, "0x"))
			if err != nil {
				t.Fatal(err)
			}

			if got := types[tt.PrimaryType]; got != tt.EncodeType {
				t.Errorf("type %s, want %s", got, tt.EncodeType)
			}
			if got := crypto.Keccak256Hash([]byte(tt.EncodeType)); got != tt.TypeHash {
				t.Errorf("type hash %s, want %s", got, tt.TypeHash)
			}
			if got := word.StructHash(); got != tt.StructHash {
				t.Errorf("struct hash %s, want %s", got, tt.StructHash)
			}
			if got := job.Digest(domain, word); got != tt.Digest {
				t.Errorf("digest %s, want %s", got, tt.Digest)
			}
			if got, err := job.Sign(key, domain, word); err != nil || got.String() != tt.Signature.String() {
				t.Errorf("signature %s, %v; want %s", got, err, tt.Signature)
			}
			if got, err := job.Recover(domain, word, tt.Signature); err != nil || got != tt.Signer {
				t.Errorf("signer %s, %v; want %s", got, err, tt.Signer)
			}
		})
	}
	for name := range types {
		if !seen[name] {
			t.Errorf("no case for %s", name)
		}
	}
}
