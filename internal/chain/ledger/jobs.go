package ledger

import (
	"math/big"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Numbers of IJobManager.Status.
const (
	jobOffered  = 1
	jobAssigned = 2
	jobRunning  = 3
	jobStopping = 4
	jobReassign = 9
)

// word names 256 nonces of a payer.
type word struct {
	payer common.Address
	word  string // Decimal.
}

type jobs struct {
	bySpec map[[32]byte]*bindings.IJobManagerJobView
	offers map[[32]byte][32]byte
	// Said of an assignment that is about to be told.
	terms      map[[32]byte]*bindings.JobManagerJobTerms
	placements map[Try][32]byte
	active     map[uint32]uint32
	nonces     map[word]*big.Int
}

func newJobs() jobs {
	return jobs{
		bySpec: map[[32]byte]*bindings.IJobManagerJobView{}, offers: map[[32]byte][32]byte{},
		terms: map[[32]byte]*bindings.JobManagerJobTerms{}, placements: map[Try][32]byte{}, active: map[uint32]uint32{}, nonces: map[word]*big.Int{},
	}
}

// Jobs returns the specs of all jobs.
func (l *Ledger) Jobs() (specs [][32]byte) {
	for spec := range l.jobs.bySpec {
		specs = append(specs, spec)
	}
	return specs
}

// Job is JobManager.job.
func (l *Ledger) Job(spec [32]byte) bindings.IJobManagerJobView {
	if j := l.jobs.bySpec[spec]; j != nil {
		return *j
	}
	return *newJob()
}

// ActiveJobs is JobManager.activeJobs.
func (l *Ledger) ActiveJobs(nodeID uint32) uint32 { return l.jobs.active[nodeID] }

// OfferHash is JobManager.offerHash.
func (l *Ledger) OfferHash(spec [32]byte) [32]byte { return l.jobs.offers[spec] }

// Try names an attempt to place a job.
type Try struct {
	Spec    [32]byte
	Attempt uint8
}

// Placements is JobManager.placement of every attempt, zero for one that cannot be
// challenged.
func (l *Ledger) Placements() map[Try][32]byte { return l.jobs.placements }

// NonceBitmap is JobManager.nonceBitmap.
func (l *Ledger) NonceBitmap(payer common.Address, at *big.Int) *big.Int {
	if bits := l.jobs.nonces[word{payer, at.String()}]; bits != nil {
		return bits
	}
	return big0()
}

// placement is the struct hash of an assignment that can be challenged.
func placement(e *bindings.JobManagerJobAssigned, terms *bindings.JobManagerJobTerms) [32]byte {
	if terms == nil || terms.StatsEpoch == 0 {
		return [32]byte{}
	}
	a := job.Assignment{
		Spec: message.ItemHashOf(e.Spec), NodeID: e.NodeId, RateQ32: e.RateQ32, Attempt: e.Attempt, CoordID: e.CoordId,
		StatsEpoch: terms.StatsEpoch, ReqHash: terms.ReqHash, Deadline: terms.Deadline.Uint64(),
	}
	return a.StructHash()
}

func newJob() *bindings.IJobManagerJobView {
	return &bindings.IJobManagerJobView{ChangedAt: big0(), RateQ32: big0(), MaxUntil: big0(), StartedAt: big0(), ImageRateQ32: big0()}
}

func (l *Ledger) job(spec [32]byte) *bindings.IJobManagerJobView {
	return entry(l.jobs.bySpec, spec, newJob)
}

// leave counts a job less for its node.
func (l *Ledger) leave(nodeID uint32) error {
	if l.jobs.active[nodeID] == 0 {
		return contradiction("node %d has no job that could end", nodeID)
	}
	l.jobs.active[nodeID]--
	return nil
}

func jobHandlers() map[string]handler {
	c := bindings.NewJobManager()
	return map[string]handler{
		"JobCompleted": nil, // JobStopped follows.
		"OpenRefused":  nil, // Nothing changed.
		"ItemRefused":  nil, // Nothing changed.
		"JobOffered": on(c.UnpackJobOfferedEvent, func(l *Ledger, now uint64, e *bindings.JobManagerJobOffered) error {
			j := l.job(e.Spec)
			j.Payer, j.Status, j.ChangedAt, j.Token = e.Payer, jobOffered, seconds(now), e.Offer.Token
			j.SlaClass, j.ImageSeq, j.MaxUntil = e.Offer.SlaClass, e.Offer.ImageSeq, e.Offer.MaxUntil
			l.jobs.offers[e.Spec] = e.OfferHash
			return nil
		}),
		"JobTerms": on(c.UnpackJobTermsEvent, func(l *Ledger, _ uint64, e *bindings.JobManagerJobTerms) error {
			j := l.job(e.Spec)
			j.SlaClass, j.ImageSeq, j.ImageRateQ32 = e.SlaClass, e.ImageSeq, e.ImageRateQ32
			l.jobs.terms[e.Spec] = e
			return nil
		}),
		"JobAssigned": on(c.UnpackJobAssignedEvent, func(l *Ledger, now uint64, e *bindings.JobManagerJobAssigned) error {
			j := l.job(e.Spec)
			terms := l.jobs.terms[e.Spec]
			if j.Payer != e.Payer && terms == nil {
				j.SlaClass, j.ImageSeq = 0, 0 // Those were of an offer that nobody took, by another payer.
			}
			l.jobs.placements[Try{e.Spec, e.Attempt}] = placement(e, terms)
			delete(l.jobs.terms, e.Spec)
			j.Payer, j.NodeId, j.CoordId, j.Token, j.Attempt = e.Payer, e.NodeId, e.CoordId, e.Token, e.Attempt
			j.RateQ32, j.MaxUntil, j.ReservedMinutes = e.RateQ32, e.MaxUntil, uint16(e.ReservedSeconds/60)
			j.Status, j.ChangedAt, j.StartedAt = jobAssigned, seconds(now), big0()
			l.jobs.active[e.NodeId]++
			return nil
		}),
		"JobRunning": on(c.UnpackJobRunningEvent, func(l *Ledger, _ uint64, e *bindings.JobManagerJobRunning) error {
			j := l.job(e.Spec)
			j.Status, j.ChangedAt, j.StartedAt = jobRunning, e.StartedAt, e.StartedAt
			return nil
		}),
		"JobStopping": on(c.UnpackJobStoppingEvent, func(l *Ledger, now uint64, e *bindings.JobManagerJobStopping) error {
			j := l.job(e.Spec)
			j.Status, j.ChangedAt = jobStopping, seconds(now)
			return nil
		}),
		"JobUnplaced": on(c.UnpackJobUnplacedEvent, func(l *Ledger, _ uint64, e *bindings.JobManagerJobUnplaced) error {
			j := l.job(e.Spec)
			j.Status, j.ChangedAt, j.StartedAt, j.Attempt = jobReassign, e.StoppedAt, big0(), e.Attempt
			return l.leave(e.NodeId)
		}),
		"JobResized": on(c.UnpackJobResizedEvent, func(l *Ledger, _ uint64, e *bindings.JobManagerJobResized) error {
			j := l.job(e.Spec)
			j.RateQ32, j.ImageRateQ32, j.MaxUntil = e.RateQ32, e.ImageRateQ32, e.MaxUntil
			return nil
		}),
		"JobStopped": on(c.UnpackJobStoppedEvent, func(l *Ledger, _ uint64, e *bindings.JobManagerJobStopped) error {
			j := l.job(e.Spec)
			placed := j.Status != jobOffered && j.Status != jobReassign
			j.Status, j.ChangedAt = e.Status, e.StoppedAt
			if j.StartedAt.Cmp(e.StartedAt) != 0 {
				return contradiction("job %x started at %s, not %s", e.Spec, j.StartedAt, e.StartedAt)
			}
			if !placed {
				return nil
			}
			return l.leave(e.NodeId)
		}),
		"NoncesInvalidated": on(c.UnpackNoncesInvalidatedEvent, func(l *Ledger, _ uint64, e *bindings.JobManagerNoncesInvalidated) error {
			at := word{e.Payer, e.Word.String()}
			l.jobs.nonces[at] = new(big.Int).Or(l.NonceBitmap(e.Payer, e.Word), e.Mask)
			return nil
		}),
	}
}
