package rehearse

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// roomFor is chain time for a row of blocks at once.
	roomFor = 10 * time.Second
	// weiPerSecond is what the rehearsal's jobs cost.
	weiPerSecond = 1_000_000_000_000
	// jobLife is how long they run: well within what is prepaid.
	jobLife = 10 * time.Minute
	// offerLife is how long signatures for one hold.
	offerLife = 600
	// statusStopped is IJobManager.Status.Stopped.
	statusStopped = 5
)

// life is a job of the rehearsal.
type life struct {
	name string
	spec common.Hash
}

// begin opens a job and reports it running.
func (r *rehearsal) begin(ctx context.Context, name string) (*life, error) {
	l := &life{name: name, spec: crypto.Keccak256Hash([]byte(name))}
	open, err := r.open(ctx, l.spec)
	if err != nil {
		return nil, err
	}
	jobs, to := bindings.NewJobManager(), r.old.Contracts.JobManager
	opened, err := r.do(ctx, r.company.coords[0].signer, call{to, open})
	if err != nil {
		return nil, fmt.Errorf("open a job %s: %w", name, err)
	}
	r.step(fmt.Sprintf("open a job %s", name), opened...)
	running, err := r.do(ctx, r.company.compute.signer, call{to, jobs.PackConfirmRunning([][32]byte{l.spec})})
	if err != nil {
		return nil, fmt.Errorf("confirm that the job %s runs: %w", name, err)
	}
	r.step(fmt.Sprintf("confirm that the job %s runs", name), running...)
	return l, nil
}

// open returns the call that opens a job, signed by all that it takes.
func (r *rehearsal) open(ctx context.Context, spec common.Hash) ([]byte, error) {
	head, err := r.client.Head(ctx)
	if err != nil {
		return nil, err
	}
	c, rate, deadline := r.company, new(big.Int).Lsh(big.NewInt(weiPerSecond), 32), head.Time+offerLife
	offer := job.Offer{
		Spec: message.ItemHash(spec.Hex()[2:]), Payer: address(c.payer), Token: job.TokenALEPH, MaxRateQ32: rate,
		Deadline: deadline, Nonce: big.NewInt(c.offers),
	}
	c.offers++
	assignment := job.Assignment{
		Spec: offer.Spec, NodeID: c.compute.id, RateQ32: rate, CoordID: c.coords[0].id, Deadline: deadline,
	}
	d := job.Jobs(r.client.ChainID(), r.old.Contracts.JobManager)
	accept := job.Accept(assignment)
	offerSig, errOffer := job.Sign(c.payer, d, &offer)
	acceptSig, errAccept := job.Sign(c.compute.signer, d, &accept)
	all := errors.Join(errOffer, errAccept)
	var quorum []job.CoordSignature
	for _, m := range c.coords {
		sig, err := job.Sign(m.signer, d, &assignment)
		all = errors.Join(all, err)
		quorum = append(quorum, job.CoordSignature{CoordID: m.id, Signature: sig})
	}
	packed, err := job.PackQuorum(quorum)
	if err := errors.Join(all, err); err != nil {
		return nil, fmt.Errorf("sign a job: %w", err)
	}
	until := new(big.Int).SetUint64(deadline)
	return bindings.NewJobManager().PackOpen(
		bindings.IJobManagerJobOffer{
			Spec: spec, Payer: offer.Payer, Token: offer.Token, MaxRateQ32: rate, MaxUntil: new(big.Int), Deadline: until, Nonce: offer.Nonce,
		}, offerSig,
		bindings.IJobManagerAssignment{
			Spec: spec, NodeId: assignment.NodeID, RateQ32: rate, CoordId: assignment.CoordID, Deadline: until,
		}, acceptSig, packed), nil
}

// work lets the job that ran during the upgrade end, and another one live from
// its opening to its end, and checks what they cost.
func (r *rehearsal) work(ctx context.Context, across *life) error {
	if err := r.end(ctx, across); err != nil {
		return err
	}
	after, err := r.begin(ctx, "after the upgrade")
	if err != nil {
		return err
	}
	return r.end(ctx, after)
}

// end lets a job run, settles it while it runs, stops it and pays everybody out.
func (r *rehearsal) end(ctx context.Context, l *life) error {
	c, at := r.company, r.old.Contracts
	payments, jobs := bindings.NewPaymentManager(), bindings.NewJobManager()
	token, payer, payee := uint8(job.TokenALEPH), address(r.company.payer), uint64(r.company.compute.id)
	claim := call{at.PaymentManager, payments.PackClaim(payee, token, []common.Address{payer})}
	r.chain.IncreaseTime(jobLife)
	settled, err := r.do(ctx, c.coords[0].signer, call{at.PaymentManager, payments.PackPull(payer, token)}, claim)
	if err != nil {
		return fmt.Errorf("settle the job %s: %w", l.name, err)
	}
	r.step(fmt.Sprintf("settle the job %s", l.name), settled...)
	stopped, err := r.do(ctx, c.payer, call{at.JobManager, jobs.PackStop(l.spec)})
	if err != nil {
		return fmt.Errorf("stop the job %s: %w", l.name, err)
	}
	r.step(fmt.Sprintf("stop the job %s", l.name), stopped...)
	paid, err := r.do(ctx, c.compute.signer, claim,
		call{at.PaymentManager, payments.PackWithdraw(payee, token, big.NewInt(1))}, call{at.PaymentManager, payments.PackWithdrawRefund(payer, token)})
	if err != nil {
		return fmt.Errorf("pay out the job %s: %w", l.name, err)
	}
	r.step(fmt.Sprintf("pay out the job %s", l.name), paid...)
	return r.check(ctx, l, append(settled, paid...))
}

// check compares what a job cost with its seconds.
func (r *rehearsal) check(ctx context.Context, l *life, receipts []*chain.Receipt) error {
	jobs, payments := bindings.NewJobManager(), bindings.NewPaymentManager()
	out, err := r.client.Call(ctx, chain.Call{To: r.old.Contracts.JobManager, Data: jobs.PackJob(l.spec)})
	if err != nil {
		return fmt.Errorf("ask for the job %s: %w", l.name, err)
	}
	view, err := jobs.UnpackJob(out)
	if err != nil {
		return errs.New(errs.Internal, "read the job %s: %w", l.name, err)
	}
	if view.Status != statusStopped {
		return errs.New(errs.Conflict, "the job %s has status %d after it was stopped, want %d", l.name, view.Status, statusStopped)
	}
	claimed := new(big.Int)
	for _, receipt := range receipts {
		for i := range receipt.Logs {
			if e, err := payments.UnpackClaimedEvent(&receipt.Logs[i]); err == nil && receipt.Logs[i].Address == r.old.Contracts.PaymentManager {
				claimed.Add(claimed, e.Gross)
			}
		}
	}
	seconds := new(big.Int).Sub(view.ChangedAt, view.StartedAt)
	if want := new(big.Int).Mul(seconds, big.NewInt(weiPerSecond)); claimed.Cmp(want) != 0 || seconds.Sign() <= 0 {
		return errs.New(errs.Conflict, "the job %s cost %s wei for %s seconds, want %s", l.name, claimed, seconds, want)
	}
	r.report.Jobs = append(r.report.Jobs, fmt.Sprintf("a job %s ran for %s s and cost %s wei, to the wei", l.name, seconds, claimed))
	return nil
}
