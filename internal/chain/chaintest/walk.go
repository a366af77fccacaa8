package chaintest

import (
	"cmp"
	"crypto/ecdsa"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
)

// Walk is a random sequence of real calls on the contracts of a net, of all kinds
// that parties make. The same seed draws the same; what comes of it depends on the
// clock, too. Calls that the contracts would refuse are left out, so what happens
// is what can happen.
type Walk struct {
	Done    map[string]int // How often each kind of call was made.
	Refused map[string]int // How often it would have been refused.

	tb     testing.TB
	net    *Net
	rng    *rand.Rand
	keys   map[common.Address]*ecdsa.PrivateKey
	people []*ecdsa.PrivateKey // Payers, delegators, publishers and owners of names.
	spare  []*ecdsa.PrivateKey // Of nodes' signers.
	specs  [][32]byte
	cases  [][32]byte
	count  uint64
	then   string   // What follows at once; "" = anything.
	placed [32]byte // The job that was given to a node last; zero when it is not to be told again.
	terms  map[string]objectTerms
	ids    []string // Of terms, in order.

	challenges [][32]byte
	hour       *hour // The newest whose numbers are known; nil before.
	placements []placement
	disputes   []dispute
	operations []operation
	voter      *ecdsa.PrivateKey // Has nearly all votes; nil before anybody has any.
	proposals  []*proposal
	focus      focus
}

// focus is what draws are narrowed to; zeros are for anything.
type focus struct {
	node   uint32
	name   string
	caseID [32]byte
}

// objectTerms are what was committed for an object.
type objectTerms struct {
	id    *big.Int
	terms bindings.IStorageWordsTerms
}

// move is a call that somebody makes.
type move struct {
	key      *ecdsa.PrivateKey
	contract string
	data     []byte
	after    func(*chain.Receipt) // May be nil.
}

const (
	walkPeople  = 4
	walkSigners = 8
	drawsMax    = 50
	rarest      = 25
	walkToken   = uint8(job.TokenALEPH)
	// statusAssigned is IJobManager.Status.Assigned.
	statusAssigned = 2
	// statusActive is INodeRegistry.Status.Active.
	statusActive = 2
	// caseVetoed is ISLAManager.State.Vetoed.
	caseVetoed = 8
	// kindBadAttestation is ISLAManager.Kind.BadAttestation.
	kindBadAttestation = 9
)

// NewWalk prepares a walk: people with money who have approved all contracts.
func NewWalk(tb testing.TB, n *Net, seed uint64) *Walk {
	tb.Helper()
	w := &Walk{
		Done: map[string]int{}, Refused: map[string]int{}, tb: tb, net: n, rng: rand.New(rand.NewPCG(seed, seed)), //nolint:gosec // For a test.
		keys: map[common.Address]*ecdsa.PrivateKey{}, terms: map[string]objectTerms{},
	}
	var grants []deploy.Grant
	fresh := func(label string, i int, aleph int64) *ecdsa.PrivateKey {
		key := w.keyOf(fmt.Sprintf("%s %d", label, i))
		w.keys[crypto.PubkeyToAddress(key.PublicKey)] = key
		grants = append(grants, deploy.Grant{To: crypto.PubkeyToAddress(key.PublicKey), AlephWei: Aleph(aleph), EtherWei: Aleph(10)})
		return key
	}
	for i := range walkPeople {
		w.people = append(w.people, fresh("person", i, 1_000_000))
	}
	for i := range walkSigners {
		w.spare = append(w.spare, fresh("signer", i, 0))
	}
	for _, key := range []*ecdsa.PrivateKey{n.Admin.Key, n.Owner.Key, n.Payer.Key, n.Coord.Signer, n.Compute.Signer} {
		w.keys[crypto.PubkeyToAddress(key.PublicKey)] = key
	}
	for _, owner := range []common.Address{n.Owner.Address, n.Admin.Address} {
		grants = append(grants, deploy.Grant{To: owner, AlephWei: Aleph(100_000)})
	}
	stop := n.Run(tb)
	err := deploy.Give(tb.Context(), n.Client, n.Admin.Key, n.Deployment, grants...)
	stop()
	if err != nil {
		tb.Fatal(err)
	}
	for _, key := range append([]*ecdsa.PrivateKey{n.Owner.Key, n.Admin.Key}, w.people...) {
		for _, contract := range []string{"PaymentManager", "StakingManager", "ImageMarketplace", "SLAManager", "StorageRegistry"} {
			w.approve(key, contract, Aleph(100_000_000))
		}
	}
	w.furnish()
	return w
}

// keyOf returns the key of somebody, the same for the same name.
func (w *Walk) keyOf(name string) *ecdsa.PrivateKey {
	key, err := crypto.ToECDSA(crypto.Keccak256([]byte(name)))
	if err != nil {
		w.tb.Fatal(err)
	}
	return key
}

// furnish makes what else would come too late for jobs: a class of service that
// the compute node takes, and an image of each model. Where contracts alone hold
// roles there are images only.
func (w *Walk) furnish() {
	sla, images := bindings.NewSLAManager(), bindings.NewImageMarketplace()
	moves := []move{
		{key: w.net.Admin.Key, contract: "SLAManager", data: sla.PackDefineClass(bindings.ISLAManagerSlaClass{
			UptimeBps: 9900, StartTimeout: 600, Notice: 24 * 3600, MaxGap: 7200, CreditBpsPerPoint: 100, SlashBps: [4]uint16{10, 50, 100, 200}, TenantBps: 1000,
		})},
		{key: w.net.Owner.Key, contract: "SLAManager", data: sla.PackNodeOptIn(w.net.Compute.ID, 1)},
		{key: w.net.Admin.Key, contract: "ImageMarketplace", data: images.PackSetUsdUnit(walkToken, big.NewInt(1))},
	}
	for model := range uint8(4) {
		moves = append(moves, move{key: w.people[model], contract: "ImageMarketplace", data: images.PackPublish(w.listing(model))})
	}
	for _, m := range moves {
		if w.refusal(m) == "" {
			w.net.Do(w.tb, m.key, m.contract, m.data)
		}
	}
}

// listing returns what somebody may publish.
func (w *Walk) listing(model uint8) bindings.IImageMarketplaceListing {
	l := bindings.IImageMarketplaceListing{ImageId: w.hash(), ManifestHash: w.hash(), Model: model, Price: new(big.Int)}
	switch model {
	case 1: // A part of what the machine costs.
		l.RoyaltyBps = uint16(1 + w.rng.IntN(2000))
	case 2: // By time.
		l.Token, l.Price = walkToken, RateQ32(1+w.rng.Int64N(1_000_000))
	case 3: // Once.
		l.Token, l.Price = walkToken, big.NewInt(1+w.rng.Int64N(1e18))
	}
	return l
}

func (w *Walk) approve(key *ecdsa.PrivateKey, contract string, wei *big.Int) {
	w.net.Do(w.tb, key, "AlephToken", bindings.NewAlephToken().PackApprove(w.net.Address(w.tb, contract), wei))
}

// Specs returns the jobs that were opened, also those that a reorganisation took
// back.
func (w *Walk) Specs() [][32]byte { return w.specs }

// People returns the accounts of payers and delegators.
func (w *Walk) People() (all []common.Address) {
	for _, key := range w.people {
		all = append(all, crypto.PubkeyToAddress(key.PublicKey))
	}
	return all
}

// Step lets some time pass and makes one call, the first of those drawn that is
// possible. It makes two blocks.
func (w *Walk) Step() {
	w.count++
	if w.then == "" {
		w.net.Chain.IncreaseTime(w.pause())
	}
	w.net.Mine(w.tb)
	kinds := w.kinds()
	names := w.names(kinds)
	for range drawsMax {
		name := names[w.rng.IntN(len(names))]
		if w.then != "" {
			name, w.then = w.then, ""
		}
		m, ok := kinds[name]()
		if !ok || m.key == nil {
			w.Refused[name]++
			continue
		}
		if w.make(name, m) {
			w.follow(name)
			return
		}
	}
}

// Make lets some time pass and makes a call of a kind, if one of those drawn is
// possible, and reports whether it was.
func (w *Walk) Make(kind string, after time.Duration) bool {
	w.count++
	w.net.Chain.IncreaseTime(after)
	w.net.Mine(w.tb)
	draw := w.kinds()[kind]
	for range drawsMax {
		m, ok := draw()
		if !ok || m.key == nil {
			w.Refused[kind]++
			continue
		}
		if w.make(kind, m) {
			return true
		}
	}
	return false
}

// make makes a call if the contract takes it.
func (w *Walk) make(kind string, m move) bool {
	if why := w.refusal(m); why != "" {
		w.Refused[kind+" "+why]++
		return false
	}
	w.do(kind, m)
	return true
}

// do makes a call and notes what came of it.
func (w *Walk) do(kind string, m move) {
	r := w.net.Do(w.tb, m.key, m.contract, m.data)
	w.Done[kind]++
	if m.after != nil {
		m.after(r)
	}
	cases := bindings.NewSLAManager()
	for i := range r.Logs {
		if e, err := cases.UnpackCaseFiledEvent(&r.Logs[i]); err == nil {
			w.cases = append(w.cases, e.CaseId)
		}
	}
}

// names returns what is drawn from: now and then only what happened least.
func (w *Walk) names(kinds map[string]func() (move, bool)) (names []string) {
	all := slices.Sorted(maps.Keys(kinds))
	if w.rng.IntN(3) == 0 {
		w.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(w.Done[a], w.Done[b]) })
		return all[:rarest]
	}
	for _, name := range all {
		names = append(names, slices.Repeat([]string{name}, weight(name))...)
	}
	return names
}

// follow decides what comes next, where something has to come soon.
func (w *Walk) follow(name string) {
	if w.rng.IntN(6) == 0 {
		return // Or not.
	}
	switch name {
	case "open":
		w.then = "confirm"
	case "accuse":
		w.then = "defend"
	case "defend":
		w.then = "escalate"
	case "escalate":
		w.then = "resolve"
	}
}

// weight is how often a kind of call is drawn: what a network lives from more
// often, parameters less.
func weight(name string) int {
	switch name {
	case "open", "confirm":
		return 40
	case "resize", "verify", "request", "dispute", "undelegate":
		return 12
	case "activate", "stake":
		return 20
	case "accuse":
		return 2
	case "delegate", "claim", "finalizeCase", "failStart", "commit", "complete", "distribute", "rate", "payDebt", "addRewards":
		return 8
	case "approve", "nodeStop", "reassign":
		return 2
	case "setGrace", "setPrepay", "setSplit", "setTokenTerms", "setUsdUnit", "setImageBond", "setCaseBond", "setStoreParameters", "setUnbonding",
		"defineClass", "drain", "exit", "takedown", "relist", "stop", "expire", "closeForArrears", "createJob", "transferNode", "revokeAll", "releaseName", "snapshot",
		"setLimits", "setAutoSwap", "setRoute", "pause", "unpause", "renewPause",
		"announceUpgrade", "cancelUpgrade", "upgrade", "grantRole", "revokeRole", "renounceRole", "labelRole", "setRoleAdmin", "setRoleGuardian",
		"setGrantDelay", "setFunctionRole", "setTargetDelay", "closeTarget", "schedule", "executeScheduled", "cancelScheduled",
		"propose", "vote", "queue", "execute", "cancelProposal":
		return 1
	}
	return 3
}

// refusal returns why a contract would refuse a call, "" if it would not.
func (w *Walk) refusal(m move) string {
	_, err := w.net.Client.Call(w.tb.Context(), chain.Call{From: addressOf(m.key), To: w.net.Address(w.tb, m.contract), Data: m.data})
	var refusal *chain.Revert
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return "(" + refusal.Name + ")"
	}
	w.tb.Fatal(err)
	return ""
}

// pause is mostly short, now and then of days.
func (w *Walk) pause() time.Duration {
	switch w.rng.IntN(12) {
	case 0:
		return time.Duration(w.rng.IntN(4*24*3600)) * time.Second
	case 1, 2:
		return time.Duration(w.rng.IntN(8*3600)) * time.Second
	}
	return time.Duration(w.rng.IntN(900)) * time.Second
}

func addressOf(key *ecdsa.PrivateKey) common.Address { return crypto.PubkeyToAddress(key.PublicKey) }

func (w *Walk) person() *ecdsa.PrivateKey { return w.people[w.rng.IntN(len(w.people))] }

func (w *Walk) aleph(most int) *big.Int {
	return new(big.Int).Add(Aleph(int64(w.rng.IntN(most))), big.NewInt(1+w.rng.Int64N(1e18)))
}

func (w *Walk) hash() (h [32]byte) {
	for i := 0; i < len(h); i += 8 {
		binary.BigEndian.PutUint64(h[i:], w.rng.Uint64())
	}
	return h
}

func (w *Walk) spec() (spec [32]byte) {
	if spec, w.placed = w.placed, spec; spec != ([32]byte{}) || len(w.specs) == 0 {
		return spec
	}
	return w.specs[max(0, len(w.specs)-1-w.rng.IntN(6))] // Older ones have ended.
}

// view asks a contract; nil when it refuses.
func (w *Walk) view(contract string, data []byte) []byte {
	out, err := w.net.Client.Call(w.tb.Context(), chain.Call{To: w.net.Address(w.tb, contract), Data: data})
	var refusal *chain.Revert
	if err != nil && !errors.As(err, &refusal) {
		w.tb.Fatal(err)
	}
	return out
}

func (w *Walk) nodeCount() uint32 {
	return uint32(new(big.Int).SetBytes(w.view("NodeRegistry", bindings.NewNodeRegistry().PackLastNodeId())).Uint64())
}

// nodeID draws a node.
func (w *Walk) nodeID() uint32 {
	if w.focus.node != 0 {
		return w.focus.node
	}
	return 1 + uint32(w.rng.IntN(int(w.nodeCount())))
}

// node draws a node and returns it with the keys of its owner and its signer.
func (w *Walk) node() (id uint32, owner, signer *ecdsa.PrivateKey, kind uint8) {
	id = w.nodeID()
	c := bindings.NewNodeRegistry()
	v, err := c.UnpackNode(w.view("NodeRegistry", c.PackNode(id)))
	if err != nil {
		w.tb.Fatal(err)
	}
	return id, w.keys[v.Owner], w.keys[v.Signer], v.Kind
}

// coordinators returns the active coordinators with their keys, by id.
func (w *Walk) coordinators() (ids []uint32, keys []*ecdsa.PrivateKey) {
	c := bindings.NewNodeRegistry()
	ids, err := c.UnpackActiveCoordinatorIds(w.view("NodeRegistry", c.PackActiveCoordinatorIds()))
	if err != nil {
		w.tb.Fatal(err)
	}
	for _, id := range ids {
		keys = append(keys, w.keys[common.BytesToAddress(w.view("NodeRegistry", c.PackSignerOf(id)))])
	}
	return ids, keys
}

// sign signs a digest that a contract has made.
func (w *Walk) sign(key *ecdsa.PrivateKey, digest []byte) []byte {
	sig, err := crypto.Sign(digest, key)
	if err != nil {
		w.tb.Fatal(err)
	}
	sig[64] += 27
	return sig
}

// word is somebody's signature of a word.
func (w *Walk) word(key *ecdsa.PrivateKey, d job.Domain, s job.Signable) job.Signature {
	sig, err := job.Sign(key, d, s)
	if err != nil {
		w.tb.Fatal(err)
	}
	return sig
}

// agree is the signatures of all active coordinators, for a word.
func (w *Walk) agree(d job.Domain, s job.Signable) (sigs []byte, ok bool) {
	_, keys := w.coordinators()
	for _, key := range keys {
		if key == nil {
			return nil, false
		}
		sigs = append(sigs, w.word(key, d, s)...)
	}
	return sigs, true
}

// quorum is the signatures of all members of the newest snapshot, for a digest
// that a view makes.
func (w *Walk) quorum(contract string, digest []byte) (sigs []byte, ok bool) {
	c := bindings.NewNodeRegistry()
	set, err := c.UnpackCoordinatorSet(w.view("NodeRegistry", c.PackCoordinatorSet()))
	if err != nil {
		w.tb.Fatal(err)
	}
	hash := w.view(contract, digest)
	if len(hash) != 32 {
		return nil, false
	}
	for _, id := range set.Ids {
		key := w.keys[common.BytesToAddress(w.view("NodeRegistry", c.PackSignerOf(id)))]
		if key == nil {
			return nil, false
		}
		sigs = append(sigs, w.sign(key, hash)...)
	}
	return sigs, true
}

// now is the time of the newest block.
func (w *Walk) now() uint64 {
	return w.net.Head(w.tb).Time
}

func number(n uint64) *big.Int { return new(big.Int).SetUint64(n) }

// kinds is what can happen, by name.
func (w *Walk) kinds() map[string]func() (move, bool) {
	all := map[string]func() (move, bool){}
	for _, some := range []map[string]func() (move, bool){
		w.nodeKinds(), w.stakeKinds(), w.jobKinds(), w.paymentKinds(), w.storeKinds(), w.domainKinds(), w.imageKinds(), w.caseKinds(),
		w.pauseKinds(), w.upgradeKinds(), w.dayKinds(), w.placementKinds(), w.accessKinds(), w.voteKinds(),
	} {
		maps.Copy(all, some)
	}
	return all
}
