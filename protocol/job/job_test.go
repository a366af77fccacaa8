package job_test

import (
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/math"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/signer/core/apitypes"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const (
	devKey = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
	spec   = message.ItemHash("6e30de68c6cedfa6b45240c2b51e52495ac6fb1bd4b36457b3d5ca307594d595")
)

var (
	payer    = common.HexToAddress("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
	contract = common.HexToAddress("0x5FbDB2315678afecb367f032d93F642f64180aa3")
	jobs     = job.Jobs(big.NewInt(31337), contract)
	nodes    = job.Nodes(big.NewInt(31337), contract)
	sla      = job.SLA(big.NewInt(31337), contract)
	hash     = common.HexToHash("0x1234")
	rate     = new(big.Int).Lsh(big.NewInt(15277777777778), 32)
)

func offer() *job.Offer {
	return &job.Offer{
		Spec: spec, Payer: payer, Token: job.TokenALEPH, MaxRateQ32: new(big.Int).Set(rate), NodeHint: 3,
		MaxUntil: 1<<40 - 1, Deadline: 1700000300, Nonce: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)),
	}
}

func terms() job.Terms {
	return job.Terms{Spec: spec, NodeID: 3, RateQ32: new(big.Int).Set(rate), Attempt: 1, CoordID: 1, Deadline: 1700000300}
}

func accept() *job.Accept         { a := job.Accept(terms()); return &a }
func assignment() *job.Assignment { a := job.Assignment(terms()); return &a }

func permit() *job.Permit {
	return &job.Permit{Owner: payer, Spender: contract, Value: big.NewInt(1e18), Nonce: new(big.Int), Deadline: big.NewInt(1700000300)}
}

// TestDigestsAgreeWithAnIndependentEncoder compares with the EIP-712 encoder
// of go-ethereum, which reads the types from their text.
func TestDigestsAgreeWithAnIndependentEncoder(t *testing.T) {
	token := job.Domain{Name: "Aleph", Version: "1", ChainID: big.NewInt(42161), Contract: contract}
	specHex, rateText := "0x"+string(spec), rate.String()
	termValues := map[string]any{"spec": specHex, "nodeId": "3", "rateQ32": rateText, "attempt": "1", "coordId": "1", "statsEpoch": "0", "reqHash": common.Hash{}.Hex(), "deadline": "1700000300"}
	peer := []byte("\x00\x24\x08\x01peer")
	tests := []struct {
		typ    string
		domain job.Domain
		word   job.Signable
		values map[string]any
	}{
		{job.OfferType, jobs, offer(), map[string]any{
			"spec": specHex, "payer": payer.Hex(), "token": "1", "maxRateQ32": rateText, "nodeHint": "3",
			"slaClass": "0", "imageSeq": "0", "reqHash": common.Hash{}.Hex(),
			"maxUntil": strconv.Itoa(1<<40 - 1), "deadline": "1700000300", "nonce": offer().Nonce.String(),
		}},
		{job.AcceptType, jobs, accept(), termValues},
		{job.AssignmentType, jobs, assignment(), termValues},
		{job.StopType, jobs, &job.Stop{Spec: spec, Deadline: 7}, map[string]any{"spec": specHex, "deadline": "7"}},
		{job.ResizeType, jobs, &job.Resize{Offer: hash, NodeID: 3, RateQ32: rate}, map[string]any{
			"offer": hash.Hex(), "nodeId": "3", "rateQ32": rateText,
		}},
		{job.DeclineType, jobs, &job.Decline{Spec: spec, NodeID: 3, Attempt: 2, Reason: 17}, map[string]any{
			"spec": specHex, "nodeId": "3", "attempt": "2", "reason": "17",
		}},
		{job.SilenceType, jobs, &job.Silence{Spec: spec, NodeID: 3, Attempt: 2}, map[string]any{
			"spec": specHex, "nodeId": "3", "attempt": "2",
		}},
		{job.AccusationType, sla, &job.Accusation{Kind: 9, NodeID: 3, Ref: hash, Occurrence: 7, Severity: 2, Evidence: hash}, map[string]any{
			"kind": "9", "nodeId": "3", "ref": hash.Hex(), "occurrence": "7", "severity": "2", "evidence": hash.Hex(),
		}},
		{job.VerdictType, sla, &job.Verdict{CaseID: hash, Guilty: true}, map[string]any{"caseId": hash.Hex(), "guilty": true}},
		{job.RegisterType, nodes, &job.Register{Owner: payer, Kind: job.KindCompute, PeerID: peer}, map[string]any{
			"owner": payer.Hex(), "kind": "2", "peerIdHash": crypto.Keccak256Hash(peer).Hex(),
		}},
		{job.SetSignerType, nodes, &job.SetSigner{NodeID: 9, Owner: payer}, map[string]any{"nodeId": "9", "owner": payer.Hex()}},
		{job.PermitType, token, permit(), map[string]any{
			"owner": payer.Hex(), "spender": contract.Hex(), "value": "1000000000000000000", "nonce": "0", "deadline": "1700000300",
		}},
	}
	for _, tt := range tests {
		name, _, _ := strings.Cut(tt.typ, "(")
		t.Run(name, func(t *testing.T) {
			typed := apitypes.TypedData{
				Types:       apitypes.Types{"EIP712Domain": fields("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"), name: fields(tt.typ)},
				PrimaryType: name,
				Domain: apitypes.TypedDataDomain{
					Name: tt.domain.Name, Version: tt.domain.Version, ChainId: (*math.HexOrDecimal256)(tt.domain.ChainID),
					VerifyingContract: tt.domain.Contract.Hex(),
				},
				Message: tt.values,
			}
			want, _, err := apitypes.TypedDataAndHash(typed)
			if err != nil {
				t.Fatal(err)
			}

			if got := job.Digest(tt.domain, tt.word); got != common.BytesToHash(want) {
				t.Errorf("digest %s, want %x", got, want)
			}
		})
	}
}

// fields reads the members of a type from its EIP-712 text.
func fields(typ string) []apitypes.Type {
	_, list, _ := strings.Cut(strings.TrimSuffix(typ, ")"), "(")
	var out []apitypes.Type
	for f := range strings.SplitSeq(list, ",") {
		kind, name, _ := strings.Cut(f, " ")
		out = append(out, apitypes.Type{Name: name, Type: kind})
	}
	return out
}

func TestSignedWordsVerifyInTheirDomainOnly(t *testing.T) {
	key, err := crypto.HexToECDSA(devKey)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := job.Jobs(big.NewInt(42161), contract)
	for _, word := range []job.Signable{
		offer(), accept(), assignment(), &job.Stop{Spec: spec, Deadline: 7}, permit(), &job.Resize{RateQ32: rate},
		&job.Decline{Spec: spec}, &job.Silence{Spec: spec}, &job.Accusation{Evidence: hash}, &job.Verdict{CaseID: hash},
		&job.Register{Owner: payer, Kind: job.KindCoordinator, PeerID: []byte{1}}, &job.SetSigner{NodeID: 1},
	} {
		sig, err := job.Sign(key, jobs, word)
		if err != nil {
			t.Fatalf("%T: %v", word, err)
		}
		if err := job.Verify(jobs, word, sig, payer); err != nil {
			t.Errorf("%T: %v, want valid", word, err)
		}
		if err := job.Verify(elsewhere, word, sig, payer); err == nil {
			t.Errorf("%T: a signature for one chain is valid on another", word)
		}
		if read, err := job.ParseSignature(sig.String()); err != nil || read.String() != sig.String() {
			t.Errorf("%T: signature reads back as %s, %v", word, read, err)
		}
	}
	sig, err := job.Sign(key, jobs, accept())
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Verify(jobs, assignment(), sig, payer); err == nil {
		t.Error("an Accept is valid as an Assignment")
	}
}

func TestSignaturesHaveOneForm(t *testing.T) {
	key, err := crypto.HexToECDSA(devKey)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := job.Sign(key, jobs, offer())
	if err != nil {
		t.Fatal(err)
	}
	n := crypto.S256().Params().N
	high := append(job.Signature{}, sig...)
	new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:64])).FillBytes(high[32:64])
	high[64] = 55 - high[64] // 27 <-> 28
	recovery := append(job.Signature{}, sig...)
	recovery[64] -= 27

	for name, bad := range map[string]job.Signature{
		"high s": high, "recovery id from 0": recovery, "truncated": sig[:64], "zero": make(job.Signature, 65), "none": nil,
	} {
		if got, err := job.Recover(jobs, offer(), bad); err == nil {
			t.Errorf("%s: recovered %s, want an error", name, got)
		}
	}
	for _, text := range []string{"", "0x", "0x12", "zz" + sig.String()[4:], sig.String() + "00"} {
		if _, err := job.ParseSignature(text); err == nil {
			t.Errorf("signature text %q accepted, want an error", text)
		}
	}
}

func TestValuesBeyondTheContractsTypesAreRefused(t *testing.T) {
	key, err := crypto.HexToECDSA(devKey)
	if err != nil {
		t.Fatal(err)
	}
	big128 := new(big.Int).Lsh(big.NewInt(1), 128)
	big256 := new(big.Int).Lsh(big.NewInt(1), 256)
	change := func(f func(*job.Offer)) *job.Offer { o := offer(); f(o); return o }
	alter := func(f func(*job.Terms)) *job.Accept { a := terms(); f(&a); return (*job.Accept)(&a) }
	grant := func(f func(*job.Permit)) *job.Permit { p := permit(); f(p); return p }
	for n, word := range []job.Signable{
		change(func(o *job.Offer) { o.Spec = "QmYULJoNGPDmoRq4WNWTDTUvJGJv1hosox8H6vVd1kCsY8" }),
		change(func(o *job.Offer) { o.MaxRateQ32 = big128 }),
		change(func(o *job.Offer) { o.MaxRateQ32 = nil }),
		change(func(o *job.Offer) { o.MaxRateQ32 = big.NewInt(-1) }),
		change(func(o *job.Offer) { o.Nonce = big256 }),
		change(func(o *job.Offer) { o.MaxUntil = 1 << 40 }),
		change(func(o *job.Offer) { o.Deadline = 1 << 40 }),
		alter(func(a *job.Terms) { a.Spec = "" }),
		alter(func(a *job.Terms) { a.RateQ32 = big128 }),
		alter(func(a *job.Terms) { a.Deadline = 1 << 40 }),
		&job.Stop{Spec: spec, Deadline: 1 << 40},
		&job.Stop{},
		grant(func(p *job.Permit) { p.Value = big256 }),
		grant(func(p *job.Permit) { p.Nonce = nil }),
		grant(func(p *job.Permit) { p.Deadline = big256 }),
		&job.Resize{}, &job.Decline{}, &job.Silence{}, &job.Verdict{},
		&job.Accusation{}, &job.Accusation{Evidence: hash, Severity: 4},
		&job.Register{Kind: 4, PeerID: []byte{1}},
		&job.Register{Kind: job.KindCompute},
		&job.Register{Kind: job.KindCompute, PeerID: make([]byte, 65)},
		&job.SetSigner{},
	} {
		if _, err := job.Sign(key, jobs, word); err == nil {
			t.Errorf("case %d: %T %+v was signed, want an error", n, word, word)
		}
		if _, err := job.Recover(jobs, word, make(job.Signature, 65)); err == nil {
			t.Errorf("case %d: %T was recovered, want an error", n, word)
		}
	}
}

func TestJSONForms(t *testing.T) {
	tests := []struct {
		word any
		read any
		want string
	}{
		{*offer(), new(job.Offer), `{"spec":"` + string(spec) + `","payer":"0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266","token":1,"max_rate_q32":"65617555808256256000000","node_hint":3,"max_until":1099511627775,"deadline":1700000300,"nonce":"115792089237316195423570985008687907853269984665640564039457584007913129639935"}`},
		{*accept(), new(job.Accept), `{"spec":"` + string(spec) + `","node_id":3,"rate_q32":"65617555808256256000000","attempt":1,"coord_id":1,"deadline":1700000300}`},
		{*assignment(), new(job.Assignment), `{"spec":"` + string(spec) + `","node_id":3,"rate_q32":"65617555808256256000000","attempt":1,"coord_id":1,"deadline":1700000300}`},
	}
	full, given := offer(), accept()
	full.SLAClass, full.ImageSeq, full.ReqHash = 2, 5, hash
	given.StatsEpoch, given.ReqHash = 486_111, hash
	tests = append(tests, []struct {
		word any
		read any
		want string
	}{
		{*full, new(job.Offer), strings.NewReplacer(`"node_hint":3`, `"sla_class":2,"image_seq":5,"node_hint":3,"req_hash":"`+hash.Hex()+`"`).Replace(tests[0].want)},
		{*given, new(job.Accept), strings.NewReplacer(`"coord_id":1`, `"coord_id":1,"stats_epoch":486111,"req_hash":"`+hash.Hex()+`"`).Replace(tests[1].want)},
	}...)
	for _, tt := range tests {
		raw, err := json.Marshal(tt.word)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.ReplaceAll(tt.want, "65617555808256256000000", rate.String())
		if string(raw) != want {
			t.Errorf("JSON %s, want %s", raw, want)
		}
		if err := json.Unmarshal(raw, tt.read); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(tt.read)
		if err != nil {
			t.Fatal(err)
		}
		if string(again) != want {
			t.Errorf("reads back as %s, want %s", again, want)
		}
	}
}

func TestMalformedJSONIsRefused(t *testing.T) {
	raw, err := json.Marshal(offer())
	if err != nil {
		t.Fatal(err)
	}
	r := strings.NewReplacer
	for _, bad := range []string{
		`[]`, `{}`,
		r(`"`+rate.String()+`"`, rate.String()).Replace(string(raw)), // a number where a text belongs
		r(rate.String(), "-1").Replace(string(raw)),
		r(rate.String(), strings.Repeat("9", 79)).Replace(string(raw)),
		r(rate.String(), "").Replace(string(raw)),
		r(`"token":1`, `"token":256`).Replace(string(raw)),
		r(string(spec), "x").Replace(string(raw)),
	} {
		if err := json.Unmarshal([]byte(bad), new(job.Offer)); err == nil {
			t.Errorf("offer %s accepted, want an error", bad)
		}
	}
	for _, bad := range []string{`[]`, `{"spec":"` + string(spec) + `"}`} {
		if err := json.Unmarshal([]byte(bad), new(job.Accept)); err == nil {
			t.Errorf("accept %s accepted, want an error", bad)
		}
	}
	if raw, err := json.Marshal(job.Offer{}); err != nil || !strings.Contains(string(raw), `"nonce":null`) {
		t.Errorf("an empty offer is %s, %v; want null amounts", raw, err)
	}
}

func TestPackQuorumSortsAndRefusesTwins(t *testing.T) {
	sig := func(b byte) job.Signature { return append(make(job.Signature, 64), b) }

	got, err := job.PackQuorum([]job.CoordSignature{{300, sig(3)}, {1, sig(1)}, {2, sig(2)}})
	if err != nil {
		t.Fatal(err)
	}

	if len(got) != 3*69 {
		t.Fatalf("%d bytes, want %d", len(got), 3*69)
	}
	for i, want := range []uint32{1, 2, 300} {
		entry := got[i*69 : (i+1)*69]
		if id := uint32(entry[0])<<24 | uint32(entry[1])<<16 | uint32(entry[2])<<8 | uint32(entry[3]); id != want || entry[68] != byte(i+1) {
			t.Errorf("entry %d is of coordinator %d with signature %d, want %d with %d", i, id, entry[68], want, i+1)
		}
	}
	if _, err := job.PackQuorum([]job.CoordSignature{{1, sig(1)}, {1, sig(2)}}); err == nil {
		t.Error("two signatures of one coordinator were packed")
	}
	if _, err := job.PackQuorum([]job.CoordSignature{{1, nil}}); err == nil {
		t.Error("an empty signature was packed")
	}
	for active, want := range map[int]int{0: 0, 1: 1, 2: 2, 3: 3, 9: 3} {
		if got := job.Quorum(active); got != want {
			t.Errorf("quorum of %d is %d, want %d", active, got, want)
		}
	}
	for kind, want := range map[job.NodeKind]string{1: "coordinator", 2: "compute", 7: "kind 7"} {
		if got := kind.String(); got != want {
			t.Errorf("kind %d reads %q, want %q", kind, got, want)
		}
	}
}

func signedMessage(t testing.TB) *message.Envelope {
	t.Helper()
	key, err := crypto.HexToECDSA(devKey)
	if err != nil {
		t.Fatal(err)
	}
	e := &message.Envelope{Chain: message.Ethereum, Type: message.TypeInstance, ItemType: message.Storage, ItemHash: spec, Time: time.Unix(1700000000, 0)}
	if err := signature.SignEVM(key, e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestCheckOfferBindsMessagePayerAndSignature(t *testing.T) {
	key, err := crypto.HexToECDSA(devKey)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := job.Sign(key, jobs, offer())
	if err != nil {
		t.Fatal(err)
	}

	if err := job.CheckOffer(jobs, offer(), sig, signedMessage(t)); err != nil {
		t.Errorf("CheckOffer: %v, want valid", err)
	}

	other := signedMessage(t)
	other.ItemHash = message.HashOf(nil)
	if err := job.CheckOffer(jobs, offer(), sig, other); err == nil {
		t.Error("an offer for another message is valid")
	}
	foreign := signedMessage(t)
	foreign.Sender = contract.Hex()
	if err := job.CheckOffer(jobs, offer(), sig, foreign); err == nil {
		t.Error("an offer for another sender's message is valid")
	}
	if err := job.CheckOffer(nodes, offer(), sig, signedMessage(t)); err == nil {
		t.Error("an offer signed for another domain is valid")
	}
}

func acceptAsk(t testing.TB) *job.Ask {
	t.Helper()
	return &job.Ask{
		Kind: job.AskAccept, Message: signedMessage(t), Offer: offer(), OfferSignature: make(job.Signature, 65), Assignment: assignment(),
	}
}

func TestAsksAreCheckedByKind(t *testing.T) {
	change := func(f func(*job.Ask)) *job.Ask { a := acceptAsk(t); f(a); return a }
	logs := job.Ask{Kind: job.AskLogs, Spec: spec, Authorization: "Aleph x", Method: "GET", Target: "/api/v1/jobs/x/logs"}
	tests := []struct {
		name string
		ask  *job.Ask
		want string // a part of the error; "" means accepted
	}{
		{"accept", acceptAsk(t), ""},
		{"status", &job.Ask{Kind: job.AskStatus, Spec: spec}, ""},
		{"logs", &logs, ""},
		{"message", &job.Ask{Kind: job.AskMessage, ItemHash: spec}, ""},
		{"no kind", &job.Ask{}, "unknown kind"},
		{"accept without message", change(func(a *job.Ask) { a.Message = nil }), "message is missing"},
		{"accept without offer", change(func(a *job.Ask) { a.Offer = nil }), "offer is missing"},
		{"accept without assignment", change(func(a *job.Ask) { a.Assignment = nil }), "assignment is missing"},
		{"accept without signature", change(func(a *job.Ask) { a.OfferSignature = nil }), "offer_signature is missing"},
		{"accept of two specs", change(func(a *job.Ask) { a.Assignment.Spec = message.HashOf(nil) }), "want one spec"},
		{"accept above the offered rate", change(func(a *job.Ask) { a.Assignment.RateQ32.Add(rate, big.NewInt(1)) }), "above the offered"},
		{"status without spec", &job.Ask{Kind: job.AskStatus}, "spec"},
		{"logs without authorization", &job.Ask{Kind: job.AskLogs, Spec: spec, Method: "GET", Target: "/"}, "authorization"},
		{"logs without target", &job.Ask{Kind: job.AskLogs, Spec: spec, Method: "GET", Authorization: "x"}, "target"},
		{"message without hash", &job.Ask{Kind: job.AskMessage}, "item_hash is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := json.Marshal(tt.ask)
			if err != nil {
				t.Fatal(err)
			}

			_, err = job.ParseAsk(raw)

			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("ParseAsk: %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := job.ParseAsk([]byte("{")); err == nil {
		t.Error("half an ask was accepted")
	}
}

func TestReplies(t *testing.T) {
	good := job.Reply{VM: &job.VM{State: "running", Ports: []job.Port{{Guest: 22, Protocol: "tcp", Host: 30000, HostIP: "127.0.0.1"}}}}
	raw, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := job.ParseReply(raw); err != nil || r.VM.Ports[0].Host != 30000 {
		t.Errorf("reply %+v, %v; want a machine with port 30000", r, err)
	}
	for _, bad := range []string{
		`[`, `{"accepted":true}`, `{"reason":"` + strings.Repeat("x", 1025) + `"}`, `{"signature":"0x12"}`,
		`{"vm":{"state":"running","history":[` + strings.Repeat(`{"at":1,"to":"running"},`, job.HistoryMax) + `{"at":1,"to":"running"}]}}`,
		`{"vm":{"state":"running","history":[{"at":1,"to":"running","cause":"` + strings.Repeat("x", job.CauseMax+1) + `"}]}}`,
	} {
		if _, err := job.ParseReply([]byte(bad)); err == nil {
			t.Errorf("reply %.60s accepted, want an error", bad)
		}
	}
}

func FuzzAsk(f *testing.F) {
	for _, a := range []*job.Ask{acceptAsk(f), {Kind: job.AskStatus, Spec: spec}, {Kind: job.AskReconcile, Ranges: []byte{1, 2}}, {Kind: job.AskMessages, ItemHashes: []message.ItemHash{spec}}} {
		raw, err := json.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := job.ParseAsk(raw)
		if err != nil {
			return
		}
		own, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := job.ParseAsk(own); err != nil {
			t.Fatalf("own JSON is refused: %v\n%s", err, own)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte(`{"vm":{"state":"running"}}`))
	f.Add([]byte(`{"accepted":true,"signature":"0x12"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := job.ParseReply(raw); err == nil && r.Accepted && len(r.Signature) != crypto.SignatureLength {
			t.Fatalf("accepted with a signature of %d bytes", len(r.Signature))
		}
	})
}

func FuzzSignature(f *testing.F) {
	f.Add("0x" + strings.Repeat("12", 64) + "1b")
	f.Fuzz(func(t *testing.T, text string) {
		sig, err := job.ParseSignature(text)
		if err != nil {
			return
		}
		if signer, err := job.Recover(jobs, offer(), sig); err == nil && signer == (common.Address{}) {
			t.Fatal("recovered the zero address")
		}
	})
}

func TestAnOffersDeadlineIsNear(t *testing.T) {
	for deadline, want := range map[uint64]string{
		1000: "is over", 0: "is over", 1001: "", 1000 + job.OfferSecondsMax: "", 1001 + job.OfferSecondsMax: "ahead", 1<<40 - 1: "ahead",
	} {
		o := offer()
		o.Deadline = deadline
		if err := o.CheckDeadline(1000); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("deadline %d at 1000: %v, want %q", deadline, err, want)
		}
	}
}

// TestRequirementsArePackedAsTheContractReadsThem has the case of the contracts'
// tests: 2 vCPUs, 4 GiB, 10 GiB, at most tier 20.
func TestRequirementsArePackedAsTheContractReadsThem(t *testing.T) {
	r := job.Requirements{VCPUs: 2, MemoryGiB: 4, DiskGiB: 10, PriceTier: 20}
	want := common.HexToHash("0x" + "00000000" + "0000" + "0000" + "0002" + "0004" + "0000000a" + "00" + "0014" + "0000" + "00000000" + "0000" + "00000000" + "00")
	if got := r.Pack(); got != want {
		t.Errorf("packed as %s, want %s", got, want)
	}
	if got := r.Hash(); got != crypto.Keccak256Hash(want[:]) {
		t.Errorf("hash %s is not that of the 32 bytes", got)
	}
	all := job.Requirements{
		ScoreBps: 0x0102, UptimeBps: 0x0304, VCPUs: 0x0506, MemoryGiB: 0x0708, DiskGiB: 0x090a0b0c, GPUs: 0x0d,
		PriceTier: 0x0e0f, BandwidthMbps: 0x1011, Flags: 0x12131415, Region: 0x1617, ASN: 0x18191a1b,
	}
	if got := all.Pack(); got != common.HexToHash("0x000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b00") {
		t.Errorf("packed as %s, want one number after the other", got)
	}
}
