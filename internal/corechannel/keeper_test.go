package corechannel_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/aleph-onchain/aleph-onchain/internal/corechannel"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	core "github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const start = 1_700_000_000

func key(tb testing.TB, name string) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("corechannel test " + name)))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

// alone is the network of a node that has no peers.
type alone struct{}

func (alone) Publish(context.Context, string, []byte) error { return nil }
func (alone) Subscribe(string, p2p.Validator, func(context.Context, p2p.Gossip)) error {
	return nil
}
func (alone) Connected() []p2p.PeerID       { return nil }
func (alone) Listeners(string) []p2p.PeerID { return nil }
func (alone) Ask(context.Context, p2p.PeerID, any, any) error {
	return errs.New(errs.NotFound, "no peers")
}
func (alone) HandleAsk(string, p2p.AskHandler) {}

// shelf has the contents that are not in their messages.
type shelf map[message.ItemHash][]byte

func (s shelf) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	if s[hash] == nil {
		return state.FileInfo{}, errs.New(errs.NotFound, "no file %s", hash)
	}
	return state.FileInfo{Hash: hash, SizeBytes: int64(len(s[hash]))}, nil
}

func (s shelf) Fetch(_ context.Context, hash message.ItemHash) error {
	return errs.New(errs.NotFound, "no file %s", hash)
}

func (s shelf) Read(_ context.Context, hash message.ItemHash, _ int64) ([]byte, error) {
	if s[hash] == nil {
		return nil, errs.New(errs.NotFound, "no file %s", hash)
	}
	return s[hash], nil
}

// net is a node that takes in messages, and the keys of all.
type net struct {
	t      testing.TB
	db     *state.DB
	pipe   *ingest.Pipeline
	files  shelf
	rules  credit.Rules
	cfg    corechannel.Config
	keeper *corechannel.Keeper
	key    *ecdsa.PrivateKey
	second int64
	all    []message.ItemHash // Of all that was ever said.
}

func openNet(t testing.TB, dir string, change func(*net)) *net {
	t.Helper()
	n := &net{t: t, files: shelf{}, cfg: corechannel.DefaultConfig(), rules: credit.Network(), second: start}
	n.rules.BalanceOwners = []string{addressOf(key(t, "balances"))}
	n.cfg.Serve, n.cfg.ScoreAuthority, n.cfg.MetricsAuthority = corechannel.ServeOwn, []string{addressOf(key(t, "scores"))}, addressOf(key(t, "scores"))
	if change != nil {
		change(n)
	}
	var err error
	if n.db, err = state.Open(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	cfg := ingest.DefaultConfig()
	cfg.BalanceAuthority = n.rules.BalanceOwners
	domain := job.Jobs(big.NewInt(31337), common.HexToAddress("0xA1"))
	if n.pipe, err = ingest.New(cfg, domain, n.db, alone{}, n.files, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	n.restart()
	return n
}

func (n *net) close() {
	n.t.Helper()
	if err := n.db.Close(); err != nil {
		n.t.Error(err)
	}
}

// restart begins with another Keeper.
func (n *net) restart() {
	n.t.Helper()
	var err error
	if n.keeper, err = corechannel.New(n.cfg, n.rules, n.db, n.key, n, prometheus.NewRegistry(), slog.New(slog.DiscardHandler)); err != nil {
		n.t.Fatal(err)
	}
	n.keeper.MarkEvery(3)
}

// Keep implements corechannel.Publisher.
func (n *net) Keep(_ context.Context, content []byte) error {
	n.files[message.HashOf(content)] = slices.Clone(content)
	return nil
}

// Publish implements corechannel.Publisher.
func (n *net) Publish(ctx context.Context, raw json.RawMessage) error {
	v, err := n.pipe.Submit(ctx, ingest.Submission{Raw: raw, At: time.Now()})
	if err == nil && v.Status != state.MessageProcessed {
		return fmt.Errorf("message is %s: %w", v.Status, v.Refusal)
	}
	return err
}

func (n *net) pass() {
	n.t.Helper()
	if err := n.keeper.Pass(n.t.Context(), time.Unix(n.second, 0)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *net) update(fn func(ctx context.Context, tx *state.Tx) error) {
	n.t.Helper()
	if err := n.db.Update(n.t.Context(), func(tx *state.Tx) error { return fn(n.t.Context(), tx) }); err != nil {
		n.t.Fatal(err)
	}
}

// say hands in a content of some time.
func (n *net) say(k *ecdsa.PrivateKey, typ message.Type, channel string, at int64, content map[string]any) message.ItemHash {
	n.t.Helper()
	content["address"], content["time"] = addressOf(k), at
	raw, err := json.Marshal(content)
	if err != nil {
		n.t.Fatal(err)
	}
	e := &message.Envelope{
		Chain: message.Ethereum, Type: typ, Channel: &channel, Time: time.Unix(at, 0), ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	if err := signature.SignEVM(k, e); err != nil {
		n.t.Fatal(err)
	}
	out, err := json.Marshal(e)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.pipe.Submit(n.t.Context(), ingest.Submission{Raw: out, At: time.Now()}); err != nil {
		n.t.Fatal(err)
	}
	n.all = append(n.all, e.ItemHash)
	return e.ItemHash
}

func (n *net) post(k *ecdsa.PrivateKey, kind, ref string, at int64, content map[string]any) message.ItemHash {
	n.t.Helper()
	c := map[string]any{"type": kind, "content": content}
	if ref != "" {
		c["ref"] = ref
	}
	channel := "FOUNDATION"
	if kind == core.MetricsType {
		channel = "aleph-scoring"
	}
	return n.say(k, message.TypePost, channel, at, c)
}

// now is a time after all others.
func (n *net) now() int64 { n.second += 10; return n.second }

func (n *net) operate(k *ecdsa.PrivateKey, action core.Action, ref string, at int64, details map[string]any) message.ItemHash {
	n.t.Helper()
	return n.post(k, core.OperationType, ref, at, map[string]any{"action": action, "tags": []any{string(action), "mainnet"}, "details": details})
}

func (n *net) hold(owner string, height, at, tokens int64) message.ItemHash {
	n.t.Helper()
	return n.post(key(n.t, "balances"), "balances-update", "", at, map[string]any{"chain": "ETH", "main_height": height, "balances": map[string]any{owner: tokens}})
}

func (n *net) confirm(hash message.ItemHash, tx string, chain message.Chain, height, at int64) {
	n.t.Helper()
	m, err := n.db.Message(n.t.Context(), hash)
	if err != nil {
		return // It is not here any more.
	}
	n.update(func(ctx context.Context, t *state.Tx) error {
		_, err := t.PutConfirmation(ctx, m, state.Transaction{Chain: chain, Hash: tx, Height: height, At: time.Unix(at, 0)})
		return err
	})
}

// list is what this node serves; "" if nothing.
func (n *net) list() string {
	n.t.Helper()
	all, err := n.db.OwnAggregates(n.t.Context(), n.cfg.Authority)
	if err != nil {
		n.t.Fatal(err)
	}
	if len(all) == 0 {
		return ""
	}
	return string(all[0].Content)
}

// replay is what all that is in state comes to, folded at once.
func (n *net) replay() string {
	n.t.Helper()
	ctx := n.t.Context()
	s := core.DefaultSettings()
	s.ScoreSenders = n.cfg.ScoreAuthority
	var events []core.Event
	type told struct {
		*credit.Balances
		at int64
	}
	balances := map[int64][]told{}
	current := uint64(1)
	all, err := n.db.MessagesAfter(ctx, -1, 10_000)
	if err != nil {
		n.t.Fatal(err)
	}
	confirmations, err := n.db.Confirmations(ctx, n.all)
	if err != nil {
		n.t.Fatal(err)
	}
	heightAt := func(at time.Time) (height uint64) {
		first := time.Time{}
		for _, all := range confirmations {
			for _, c := range all {
				if c.Chain == message.Ethereum && !c.At.Before(at) && (first.IsZero() || c.At.Before(first)) {
					first, height = c.At, uint64(c.Height)
				}
			}
		}
		return height
	}
	for _, m := range all {
		body, err := m.Body()
		if err != nil {
			n.t.Fatal(err)
		}
		post, ok := body.(*message.Post)
		if !ok {
			continue
		}
		if b, err := n.rules.Balances(credit.PostOf(&m.Envelope, post)); err == nil && b != nil {
			balances[b.Height] = append(balances[b.Height], told{b, m.MadeAt.Unix()})
			current = max(current, uint64(b.Height))
			continue
		}
		height := uint64(0)
		for i, c := range slices.Backward(confirmations[m.Envelope.ItemHash]) { // The last to write is the first on Ethereum.
			if c.Chain == message.Ethereum {
				height = uint64(c.Height)
			} else if i == 0 && height == 0 {
				height = heightAt(c.At)
			}
		}
		e, err := core.Read(core.Message{Hash: m.Envelope.ItemHash, Sender: m.Envelope.Sender, Channel: *m.Envelope.Channel, Height: height, Post: post}, s)
		if err == nil {
			events, current = append(events, e), max(current, height)
		}
	}
	for height, all := range balances {
		slices.SortFunc(all, func(a, b told) int {
			return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(string(a.Hash), string(b.Hash)))
		})
		for i, b := range all {
			for _, one := range b.Of {
				wei, err := core.Wei(one.Tokens.String())
				if err != nil {
					n.t.Fatal(err)
				}
				events = append(events, core.Event{Height: uint64(height), Index: uint32(i), Body: core.Balance{Address: one.Address, Source: "ETH", Wei: wei}})
			}
		}
	}
	changes, err := n.db.RegistryChanges(ctx)
	if err != nil {
		n.t.Fatal(err)
	}
	var registrations []core.Event
	for i, c := range changes {
		e := core.Event{Height: heightAt(time.Unix(int64(c.At), 0)), Index: uint32(i), Body: core.Registration{
			ID: c.Node.ID, Kind: core.Kind(c.Node.Kind), Status: core.ChainStatus(c.Node.Status), Owner: c.Node.Owner.Hex(), Payout: c.Node.Payout.Hex(),
			Meta: message.ItemHash(fmt.Sprintf("%064x", c.Node.MetaHash)), Stake: c.Node.SelfStake, Locked: c.Node.Locked, Linked: c.Node.Linked, At: time.Unix(int64(c.Node.MadeAt), 0).UTC(),
		}}
		registrations, current = append(registrations, e), max(current, e.Height)
	}
	for _, e := range registrations {
		e.Height = cmp.Or(e.Height, current)
		events = append(events, e)
	}
	content, err := core.Replay(s, current, events).State().Content()
	if err != nil {
		n.t.Fatal(err)
	}
	return string(content)
}

// TestTheListIsThatOfAllEvents: whatever comes in whatever order, is confirmed late,
// on another chain or no more, is forgotten or taken back, the list is what a replay
// of all there is makes, also after a restart.
func TestTheListIsThatOfAllEvents(t *testing.T) {
	dir, checks, marks := t.TempDir(), 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		checks++
		n := openNet(t, filepath.Join(dir, strconv.Itoa(checks)), nil)
		defer n.close()
		w := &walk{net: n, rt: rt, block: 10}
		for range rapid.IntRange(5, 30).Draw(rt, "steps") {
			w.step()
			if rapid.IntRange(0, 3).Draw(rt, "look") > 0 {
				continue
			}
			n.pass()
			marks += n.keeper.Marks()
			if diff := gocmp.Diff(n.replay(), n.list()); diff != "" {
				rt.Fatalf("list (-replay +kept):\n%s", diff)
			}
		}
		n.restart()
		n.pass()
		if diff := gocmp.Diff(n.replay(), n.list()); diff != "" {
			rt.Fatalf("list after a restart (-replay +kept):\n%s", diff)
		}
	})
	if marks == 0 {
		t.Error("no checkpoint was ever made, which proves little")
	}
}

// walk is a random history.
type walk struct {
	*net
	rt     *rapid.T
	said   []message.ItemHash
	owners []string // Names of who said them.
	txs    int
	block  uint64
}

func (w *walk) step() {
	rt := w.rt
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "who")
	k := key(w.t, name)
	at := start + rapid.Int64Range(1, 300).Draw(rt, "time")
	ref := core.ChainHash(rapid.Uint32Range(1, 3).Draw(rt, "node on chain"))
	if len(w.said) > 0 && rapid.Bool().Draw(rt, "node of a message") {
		ref = string(rapid.SampledFrom(w.said).Draw(rt, "ref"))
	}
	note := func(hash message.ItemHash) { w.said, w.owners = append(w.said, hash), append(w.owners, name) }
	switch rapid.IntRange(0, 9).Draw(rt, "what") {
	case 0, 1:
		note(w.operate(k, rapid.SampledFrom([]core.Action{core.CreateNode, core.CreateResourceNode}).Draw(rt, "creates"), "", at,
			map[string]any{"name": fmt.Sprint(at, "<&>"), "type": "compute"}))
	case 2, 3:
		note(w.operate(k, rapid.SampledFrom([]core.Action{core.Link, core.Unlink, core.DropNode, core.Stake, core.StakeSplit, core.Unstake}).Draw(rt, "does"), ref, at, nil))
	case 4:
		w.hold(addressOf(k), rapid.Int64Range(1, 25).Draw(rt, "height"), at, rapid.SampledFrom([]int64{0, 10_000, 200_000, 700_000}).Draw(rt, "tokens"))
	case 5:
		row := []any{map[string]any{"node_id": ref, "total_score": rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(rt, "score"), "performance": 1, "decentralization": 1}}
		w.post(key(w.t, "scores"), core.ScoresType, "", at, map[string]any{"tags": []any{"mainnet"}, "scores": map[string]any{"ccn": row, "crn": row}})
	case 6, 7:
		w.confirmSome()
	case 8:
		w.chain(rapid.Uint32Range(1, 3).Draw(rt, "node"), common.HexToAddress(addressOf(k)), at)
	case 9:
		if len(w.said) == 0 {
			return
		}
		i := rapid.IntRange(0, len(w.said)-1).Draw(rt, "forgotten")
		w.say(key(w.t, w.owners[i]), message.TypeForget, "FOUNDATION", w.now(), map[string]any{"hashes": []any{w.said[i]}})
	}
}

// confirmSome confirms a message, or takes back a transaction.
func (w *walk) confirmSome() {
	if len(w.said) == 0 {
		return
	}
	if w.txs > 0 && rapid.IntRange(0, 5).Draw(w.rt, "taken back") == 0 {
		tx := fmt.Sprint("0x", rapid.IntRange(1, w.txs).Draw(w.rt, "tx"))
		w.update(func(ctx context.Context, t *state.Tx) error {
			return errors.Join(t.DropConfirmations(ctx, message.Ethereum, tx), t.DropConfirmations(ctx, "TEZOS", tx))
		})
		return
	}
	w.txs++
	height := rapid.Int64Range(1, 30).Draw(w.rt, "confirmed at")
	chain := rapid.SampledFrom([]message.Chain{message.Ethereum, message.Ethereum, "TEZOS"}).Draw(w.rt, "chain")
	w.confirm(rapid.SampledFrom(w.said).Draw(w.rt, "confirmed"), fmt.Sprint("0x", w.txs), chain, height, start+height*10)
}

// chain changes a node on chain, or takes changes back.
func (w *walk) chain(id uint32, owner common.Address, at int64) {
	if w.block > 11 && rapid.IntRange(0, 3).Draw(w.rt, "reorganised") == 0 {
		w.block = rapid.Uint64Range(10, w.block).Draw(w.rt, "to block")
		w.update(func(ctx context.Context, t *state.Tx) error { return t.Rollback(ctx, w.block) })
		return
	}
	w.block++
	kind := state.KindCoordinator
	if id == 2 {
		kind = state.KindCompute
	}
	node := state.Node{
		ID: id, Kind: kind, Status: rapid.SampledFrom([]state.NodeStatus{state.NodePending, state.NodeActive, state.NodeExited}).Draw(w.rt, "status"),
		Owner: owner, Payout: owner, SelfStake: new(big.Int), MadeAt: uint64(at), Linked: rapid.SampledFrom([]uint32{0, 1}).Draw(w.rt, "linked"),
	}
	if len(w.said) > 0 {
		node.MetaHash = common.HexToHash(string(rapid.SampledFrom(w.said).Draw(w.rt, "meta")))
	}
	c := state.RegistryChange{Block: w.block, At: uint64(at), Node: node}
	w.update(func(ctx context.Context, t *state.Tx) error {
		return t.AtBlock(w.block, func() error { return t.PutRegistryChange(ctx, c) })
	})
}

func TestDelegationsOnChainAreStakes(t *testing.T) {
	n := openNet(t, t.TempDir(), nil)
	defer n.close()
	owner, other := common.HexToAddress(addressOf(key(t, "a"))), common.HexToAddress(addressOf(key(t, "b")))
	wei := func(tokens int64) *big.Int {
		return new(big.Int).Mul(big.NewInt(tokens), new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil))
	}
	node := state.Node{ID: 1, Kind: state.KindCoordinator, Status: state.NodeActive, Owner: owner, Payout: owner, SelfStake: wei(1), PoolTokens: wei(300), PoolShares: wei(100)}
	changes := []state.RegistryChange{
		{Block: 1, Node: node},
		{Block: 2, Index: 1, Node: node, Delegator: other, Shares: wei(70)},
		{Block: 2, Index: 2, Node: node, Delegator: owner, Shares: wei(30)},
		{Block: 3, Node: node, Delegator: owner, Shares: new(big.Int).Neg(wei(30))},
	}
	put := func(all ...state.RegistryChange) {
		n.update(func(ctx context.Context, tx *state.Tx) (err error) {
			for _, c := range all {
				err = errors.Join(err, tx.AtBlock(c.Block, func() error { return tx.PutRegistryChange(ctx, c) }))
			}
			return err
		})
	}
	put(changes...)
	n.pass()
	list, err := core.ParseState([]byte(n.list()))
	if err != nil || len(list.Nodes) != 1 || len(list.Nodes[0].Stakers) != 1 || math.Abs(list.Nodes[0].Stakers[other.Hex()]-210) > 0.001 {
		t.Errorf("the list is %s, %v, want one node with 210 tokens of one staker", n.list(), err)
	}
	empty := node
	empty.PoolTokens, empty.PoolShares = new(big.Int), new(big.Int)
	put(state.RegistryChange{Block: 4, Node: empty, Void: true})
	n.pass()
	if list, err := core.ParseState([]byte(n.list())); err != nil || len(list.Nodes) != 1 || len(list.Nodes[0].Stakers) != 0 {
		t.Errorf("after a slash took all the list is %s, %v", n.list(), err)
	}
}

func TestNodesOfAnOlderVersionAreInTheList(t *testing.T) {
	n := openNet(t, t.TempDir(), nil)
	defer n.close()
	n.update(func(ctx context.Context, tx *state.Tx) error {
		return tx.PutNode(ctx, state.Node{ID: 7, Kind: state.KindCompute, Status: state.NodeActive, SelfStake: new(big.Int), SinceAt: start, Block: 3})
	})
	n.pass()
	if list, err := core.ParseState([]byte(n.list())); err != nil || len(list.ResourceNodes) != 1 || list.ResourceNodes[0].Hash != core.ChainHash(7) {
		t.Errorf("the list is %s, %v, want the node", n.list(), err)
	}
}

// TestWithTheKeyTheListIsPublished: as a message of the authority, when it has
// changed, and not more often than it may be.
func TestWithTheKeyTheListIsPublished(t *testing.T) {
	authority := key(t, "authority")
	n := openNet(t, t.TempDir(), func(n *net) {
		n.key = authority
		n.cfg.Serve, n.cfg.Authority = corechannel.ServePublished, addressOf(authority)
	})
	defer n.close()
	published := func(want int, when string) string {
		t.Helper()
		all, err := n.db.Elements(t.Context(), n.cfg.Authority, "corechannel")
		if err != nil || len(all) != want {
			t.Fatalf("%s: %d messages, %v, want %d", when, len(all), err, want)
		}
		a, err := n.db.Aggregate(t.Context(), n.cfg.Authority, "corechannel")
		if err != nil {
			t.Fatal(err)
		}
		return string(a.Content)
	}
	n.pass()
	published(1, "at first")
	n.operate(key(t, "a"), core.CreateResourceNode, "", n.now(), map[string]any{"type": "compute", "name": "<one> & more"})
	n.pass()
	published(1, "at once after that")
	n.second += 600
	n.pass()
	if content := published(2, "after the least time"); !strings.Contains(content, "<one> & more") {
		t.Errorf("the list is %s", content)
	}
	n.second += 6000
	n.pass()
	n.restart()
	n.pass()
	published(2, "without a change")
	if n.list() != "" {
		t.Errorf("this node serves its own list %s", n.list())
	}
	// A list that does not fit into a message is in a file.
	n.operate(key(t, "a"), core.CreateResourceNode, "", n.now(), map[string]any{"type": "compute", "description": strings.Repeat("x", 15_000)})
	for i := range 15 {
		n.operate(key(t, "a"), core.CreateResourceNode, "", n.now(), map[string]any{"type": "compute", "description": strings.Repeat("y", 15_000) + strconv.Itoa(i)})
	}
	n.pass()
	all, err := n.db.Elements(t.Context(), n.cfg.Authority, "corechannel")
	if err != nil || len(all) != 3 || all[2].Envelope.ItemType != message.Storage || len(n.files) != 1 {
		t.Errorf("a long list: %d messages, %v, %d files", len(all), err, len(n.files))
	}
}

func TestAnotherKeyIsRefused(t *testing.T) {
	_, err := corechannel.New(corechannel.DefaultConfig(), credit.Network(), new(state.DB), key(t, "a"), nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "key_path") {
		t.Errorf("New: %v, want it to name key_path", err)
	}
}

// TestWithoutKeyNothingIsMade: nor does the list stay that was made before.
func TestWithoutKeyNothingIsMade(t *testing.T) {
	n := openNet(t, t.TempDir(), nil)
	defer n.close()
	n.pass()
	if n.list() != `{"nodes":[],"resource_nodes":[]}` {
		t.Errorf("the list is %q", n.list())
	}
	n.cfg.Serve = corechannel.ServePublished
	n.restart()
	n.pass()
	n.pass()
	if n.list() != "" {
		t.Errorf("the list is %q, want none", n.list())
	}
}

func TestMetricsBecomeRows(t *testing.T) {
	n := openNet(t, t.TempDir(), nil)
	defer n.close()
	metrics := func(by *ecdsa.PrivateKey, at int64, latency float64) message.ItemHash {
		return n.post(by, core.MetricsType, "", at, map[string]any{"metrics": map[string]any{
			"ccn": []any{map[string]any{"node_id": "x", "measured_at": float64(at) + 0.5, "base_latency": latency, "pending_messages": 3}},
			"crn": []any{map[string]any{"node_id": "y", "measured_at": at, "full_check_latency": latency}, map[string]any{"node_id": 3}},
		}})
	}
	first := metrics(key(t, "scores"), start, 0.25)
	metrics(key(t, "a"), start+1, 9) // Not whose word counts.
	n.post(key(t, "scores"), "other", "", start+2, map[string]any{"aleph-network-metrics": 1})
	second := metrics(key(t, "scores"), start+3600, 0.5)
	n.second = start + 3600
	n.pass()
	rows := func(kind, node string) string {
		t.Helper()
		found, err := n.db.NodeMetrics(t.Context(), kind, node, time.Unix(start, 0), time.Unix(start+9999, 0), false, 10)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, r := range found {
			out = append(out, fmt.Sprintf("%s@%s %s", r.Hash[:4], strconv.FormatInt(r.At.UnixMilli()-start*1000, 10), r.Doc))
		}
		return strings.Join(out, "\n")
	}
	ccn := fmt.Sprintf(`%s@500 {"node_id":"","item_hash":"","measured_at":1700000000.5,"base_latency":0.25,"base_latency_ipv4":null,"metrics_latency":null,"aggregate_latency":null,"file_download_latency":null,"pending_messages":3,"eth_height_remaining":null}`, first[:4])
	if got := rows("ccn", "x"); !strings.HasPrefix(got, ccn+"\n"+string(second[:4])) || strings.Count(got, "\n") != 1 {
		t.Errorf("rows of a CCN:\n%s\nwant\n%s\nand another", got, ccn)
	}
	if got := rows("crn", "y"); strings.Count(got, "\n") != 1 {
		t.Errorf("rows of a CRN:\n%s", got)
	}
	n.restart()
	n.pass()
	if got := rows("ccn", "x"); strings.Count(got, "\n") != 1 {
		t.Errorf("after a restart:\n%s", got)
	}
	n.say(key(t, "scores"), message.TypeForget, "x", n.now(), map[string]any{"hashes": []any{first}})
	if got := rows("ccn", "x"); strings.Contains(got, "\n") || got == "" {
		t.Errorf("after one was forgotten:\n%s", got)
	}
	n.second += 366 * 24 * 3600
	n.pass()
	if got := rows("ccn", "x"); got != "" {
		t.Errorf("after a year:\n%s", got)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	n := openNet(t, t.TempDir(), nil)
	defer n.close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.keeper.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func TestConfigValidate(t *testing.T) {
	if err := corechannel.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for want, change := range map[string]func(*corechannel.Config){
		"serve": func(c *corechannel.Config) { c.Serve = "theirs" }, "authority": func(c *corechannel.Config) { c.Authority = "" },
		"key_path": func(c *corechannel.Config) { c.Serve, c.KeyPath = corechannel.ServeOwn, "a" }, "tag": func(c *corechannel.Config) { c.Tag = "" },
		"interval": func(c *corechannel.Config) { c.Interval = 0 }, "publish_interval": func(c *corechannel.Config) { c.PublishInterval = time.Second },
	} {
		c := corechannel.DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Validate: %v, want it to name %s", err, want)
		}
	}
}
