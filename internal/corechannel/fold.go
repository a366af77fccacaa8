package corechannel

import (
	"cmp"
	"context"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	core "github.com/aleph-onchain/aleph-onchain/protocol/corechannel"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// markEvery is after how many events there is a checkpoint, and marksMax how many
	// are kept: the later, the closer together.
	markEvery, marksMax = 500, 12
	// loadBatch bounds the posts that are read at once.
	loadBatch = 50
)

// key is the place of an event in the order, and what tells it from all others
// there. Of a post it is all that the event is made of besides its content.
type key struct {
	height  uint64 // 0 = not confirmed
	at      int64  // content.time in microseconds; 0 of what a chain says
	hash    message.ItemHash
	index   uint32 // Of what a chain says of a node.
	version string // Of the same.
}

// entry is an event.
type entry struct {
	key
	id           int64 // Of the post.
	balances     bool  // It tells balances as of a height, so its time and hash only order it among its like.
	fixed        bool  // Its height does not depend on confirmations.
	registration *core.Registration
	chainAt      int64 // Chain time of it, in microseconds.
}

// rank orders what is of one height: balances, then nodes on chain, then posts.
func (e *entry) rank() int {
	switch {
	case e.balances:
		return 0
	case e.registration != nil:
		return 1
	}
	return 2
}

// compare orders events as the fold does.
func compare(a, b *entry) int {
	return cmp.Or(cmp.Compare(a.height, b.height), cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.at, b.at),
		strings.Compare(string(a.hash), string(b.hash)), cmp.Compare(a.index, b.index))
}

// line is the order in which events were folded, and checkpoints of the fold.
type line struct {
	keys    []key
	marks   []mark
	content []byte // What all of them come to; nil if that is not known.
}

// mark is the fold of the first n events.
type mark struct {
	n    int
	fold *core.Fold
}

// order are all events in the order of the fold. What is not confirmed counts at
// the greatest height.
func (k *Keeper) order() []*entry {
	current := k.newest()
	all := make([]*entry, 0, len(k.posts)+len(k.changes))
	add := func(e *entry) {
		placed := *e
		if placed.height == 0 {
			placed.height = current
		}
		all = append(all, &placed)
	}
	for _, e := range k.posts {
		add(e)
	}
	for _, e := range k.changes {
		add(e)
	}
	slices.SortFunc(all, compare)
	return all
}

// fold folds all events, from the last checkpoint before which they are those of
// the last time, and returns the list that they make.
func (k *Keeper) fold(ctx context.Context) ([]byte, error) {
	all := k.order()
	keys := make([]key, len(all))
	for i, e := range all {
		keys[i] = e.key
	}
	same := 0
	for same < min(len(keys), len(k.line.keys)) && keys[same] == k.line.keys[same] {
		same++
	}
	if same == len(keys) && same == len(k.line.keys) && k.line.content != nil {
		return k.line.content, nil
	}
	k.line.keys, k.line.content = keys[:same:same], nil
	k.line.marks = slices.DeleteFunc(k.line.marks, func(m mark) bool { return m.n > same })
	from, f := 0, core.New(k.settings)
	if n := len(k.line.marks); n > 0 {
		from, f = k.line.marks[n-1].n, k.line.marks[n-1].fold.Clone()
	}
	// What is at the greatest height may have more before it the next time.
	settled := len(all)
	for settled > 0 && all[settled-1].height == all[len(all)-1].height {
		settled--
	}
	for at := from; at < len(all); {
		end := min(at+loadBatch, len(all))
		if at < settled {
			end = min(end, settled)
		}
		if err := k.apply(ctx, f, all[at:end], indexOf(all, at)); err != nil {
			return nil, err
		}
		if at = end; at == settled || at < settled && at-k.line.end() >= k.every {
			k.line.put(mark{at, f.Clone()})
		}
	}
	list := f.State()
	content, err := list.Content()
	if err != nil {
		return nil, err
	}
	k.line.keys, k.line.content = keys, content
	k.nodes.WithLabelValues("ccn").Set(float64(len(list.Nodes)))
	k.nodes.WithLabelValues("crn").Set(float64(len(list.ResourceNodes)))
	k.log.Debug("list of nodes folded", "count", len(all)-from, "bytes", len(content))
	return content, nil
}

// end is how many events the last checkpoint has.
func (l *line) end() int {
	if len(l.marks) == 0 {
		return 0
	}
	return l.marks[len(l.marks)-1].n
}

// put adds a checkpoint. When there are too many, of the two neighbours that are
// closest together for their age the older one goes.
func (l *line) put(m mark) {
	if l.end() == m.n && len(l.marks) > 0 {
		return
	}
	if l.marks = append(l.marks, m); len(l.marks) <= marksMax {
		return
	}
	drop, least := 0, 2.0
	for i := range l.marks[:len(l.marks)-2] {
		before := 0
		if i > 0 {
			before = l.marks[i-1].n
		}
		age := m.n - l.marks[i].n
		if share := float64(l.marks[i+1].n-before) / float64(age+1); share < least || i == 0 {
			drop, least = i, share
		}
	}
	l.marks = slices.Delete(l.marks, drop, drop+1)
}

// indexOf is the place of an event among those before it that tell balances as of
// the same height.
func indexOf(all []*entry, at int) (n uint32) {
	for at > 0 && all[at-1].height == all[at].height && all[at-1].balances {
		at--
		n++
	}
	return n
}

// apply folds some events, the first of which has an index among its like.
func (k *Keeper) apply(ctx context.Context, f *core.Fold, some []*entry, index uint32) error {
	var ids []int64
	for _, e := range some {
		if e.registration == nil {
			ids = append(ids, e.id)
		}
	}
	found, err := k.db.MessagesByID(ctx, ids)
	if err != nil {
		return err
	}
	for i, e := range some {
		if i > 0 && some[i-1].height != e.height {
			index = 0
		}
		events, err := k.eventsOf(found[e.id], e, index)
		if err != nil {
			return err
		}
		for _, event := range events {
			if err := f.Apply(event); err == core.ErrLate { //nolint:errorlint // It comes as it is.
				return errs.New(errs.Internal, "BUG: event %s at height %d is out of order", e.hash, e.height)
			} // What is ignored changes nothing, on all nodes.
		}
		if e.balances {
			index++
		}
	}
	return nil
}

// eventsOf are the events that an entry stands for.
func (k *Keeper) eventsOf(m *state.Message, e *entry, index uint32) ([]core.Event, error) {
	if e.registration != nil {
		return []core.Event{{Height: e.height, Index: e.index, Body: *e.registration}}, nil
	}
	if m == nil {
		k.check = true // It went just now; the next look finds out.
		return nil, errs.New(errs.Unavailable, "post %s went while it was read", e.hash)
	}
	body, err := m.Body()
	if err != nil {
		return nil, err
	}
	post, ok := body.(*message.Post)
	if !ok {
		return nil, errs.New(errs.Internal, "BUG: message %s is no POST", e.hash)
	}
	if e.balances {
		told, err := k.rules.Balances(credit.PostOf(&m.Envelope, post))
		if err != nil {
			return nil, err
		}
		return balancesOf(told, index), nil
	}
	event, err := core.Read(k.messageOf(m, post, e.height), k.settings)
	if err != nil {
		return nil, err
	}
	event.At = time.UnixMicro(e.at)
	return []core.Event{event}, nil
}

// balancesOf are the events of a post that tells balances. They are as of a height,
// so the post's own time and hash do not count.
func balancesOf(b *credit.Balances, index uint32) []core.Event {
	source := string(b.Chain)
	if b.Dapp != "" {
		source += "/" + b.Dapp
	}
	out := make([]core.Event, len(b.Of))
	for i, one := range b.Of {
		out[i] = core.Event{Height: uint64(b.Height), Index: index, Body: core.Balance{Address: one.Address, Source: source, Wei: weiOf(one.Tokens)}}
	}
	slices.SortFunc(out, core.Compare)
	return out
}

func weiOf(tokens credit.Decimal) *big.Int {
	const decimals = 18
	r := tokens.Rat()
	wei := new(big.Int).Mul(r.Num(), new(big.Int).Exp(big.NewInt(10), big.NewInt(decimals), nil))
	return wei.Quo(wei, r.Denom())
}
