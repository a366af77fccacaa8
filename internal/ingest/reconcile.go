package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/reconcile"
)

const (
	// answerRowsMax is after how many rows an answer about ranges ends; a row takes
	// about a microsecond.
	answerRowsMax = 250_000
	// answersMax bounds the answers about ranges that are made at the same time.
	answersMax = 2
	// rowsSecond is how many rows are read for a peer in a second, and rowsBurst how many
	// at once if it did not ask for a while: a comparison with a difference everywhere in a million messages.
	rowsSecond, rowsBurst = 200_000, 6_000_000
	// allowancesMax bounds the peers of which it is known what was read for them.
	allowancesMax = 4096
)

// answerReconcile tells a peer in what of some ranges this node differs from it.
func (p *Pipeline) answerReconcile(ctx context.Context, from p2p.PeerID, raw []byte) (p2p.Answer, error) {
	ask, err := job.ParseAsk(raw)
	if err != nil {
		return p2p.Answer{}, errs.New(errs.Invalid, "%w", err)
	}
	q, err := reconcile.ParseQuestion(ask.Ranges)
	if err != nil {
		return p2p.Answer{}, errs.New(errs.Invalid, "%w", err)
	}
	if err := p.answers.begin(from, time.Now()); err != nil {
		return p2p.Answer{}, err
	}
	rows := 0
	defer func() { p.answers.end(from, rows) }()
	var out reconcile.Answer
	err = p.db.View(ctx, func(v *state.View) error {
		s := v.MessageSet(ctx)
		defer func() { rows = s.Rows }()
		var err error
		out, err = reconcile.Reply(s, q, func() bool { return s.Rows >= answerRowsMax })
		return err
	})
	if err != nil {
		return p2p.Answer{}, err
	}
	return p2p.Answer{Reply: job.Reply{Ranges: out.Encode(q)}}, nil
}

// allowances are what may still be read for peers. It is ready when zero.
type allowances struct {
	mu      sync.Mutex
	running int                       // guarded by mu; answers that are being made.
	of      map[p2p.PeerID]*allowance // guarded by mu
}

// allowance is what may be read for one peer.
type allowance struct {
	rows int
	at   time.Time
}

var errBusy = errs.New(errs.Exhausted, "enough was answered; ask again later")

// begin takes a place among the answers that are being made. A peer with any
// allowance left may ask; what its answer costs is known after.
func (a *allowances) begin(from p2p.PeerID, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running >= answersMax {
		return errBusy
	}
	one := a.of[from]
	if one == nil {
		if len(a.of) >= allowancesMax {
			a.of = nil // All begin anew; few are so many.
		}
		if a.of == nil {
			a.of = map[p2p.PeerID]*allowance{}
		}
		one = &allowance{rowsBurst, now}
		a.of[from] = one
	}
	since := min(now.Sub(one.at), rowsBurst/rowsSecond*time.Second)
	one.rows, one.at = min(one.rows+int(since.Seconds()*rowsSecond), rowsBurst), now
	if one.rows <= 0 {
		return errBusy
	}
	a.running++
	return nil
}

func (a *allowances) end(from p2p.PeerID, rows int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
	if one := a.of[from]; one != nil {
		one.rows -= rows
	}
}
