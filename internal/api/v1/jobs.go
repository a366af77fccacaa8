package v1

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

const (
	// jobsMax bounds a list of jobs.
	jobsMax = 200
	// statusMax bounds the time in which a node says how a machine is; the
	// answer goes out without it then.
	statusMax = 3 * time.Second
	// attempt numbers the tries to place a job; there is one.
	attempt = 0
)

// The statuses of a job before the chain has it; after, state.JobStatus.
const (
	statusOffered = "offered"
	statusDecided = "decided"
	statusRefused = "refused"
)

type offerBody struct {
	Spec       string `json:"spec"`
	Payer      string `json:"payer"`
	Token      uint8  `json:"token"`
	MaxRateQ32 string `json:"max_rate_q32"`
	NodeHint   uint32 `json:"node_hint" doc:"Node to run on; 0 leaves the choice to the coordinator."`
	MaxUntil   uint64 `json:"max_until" doc:"0 means open end."`
	Deadline   uint64 `json:"deadline"`
	Nonce      string `json:"nonce"`
}

// offer checks the fields.
func (b offerBody) offer() (o job.Offer, err error) {
	o = job.Offer{Token: b.Token, NodeHint: b.NodeHint, MaxUntil: b.MaxUntil, Deadline: b.Deadline}
	if o.Spec, err = parseSpec(b.Spec); err != nil {
		return o, err
	}
	if o.Payer, err = parseAddress("offer.payer", b.Payer); err != nil {
		return o, err
	}
	if o.MaxRateQ32, err = parseAmount("offer.max_rate_q32", b.MaxRateQ32); err != nil {
		return o, err
	}
	if o.Nonce, err = parseAmount("offer.nonce", b.Nonce); err != nil {
		return o, err
	}
	if err := o.Check(); err != nil {
		return o, errs.New(errs.Invalid, "%w", err)
	}
	return o, nil
}

type createJobInput struct {
	Body struct {
		Message   json.RawMessage `json:"message" doc:"The signed INSTANCE envelope."`
		Offer     offerBody       `json:"offer"`
		Signature string          `json:"signature" doc:"The payer's EIP-712 signature of the offer, 0x and hex."`
	}
}

type portView struct {
	Guest    int    `json:"guest"`
	Protocol string `json:"protocol" enum:"tcp,udp"`
	Host     int    `json:"host"`
	HostIP   string `json:"host_ip"`
}

type stepView struct {
	At    int64  `json:"at" doc:"Unix seconds of the node's clock."`
	From  string `json:"from" doc:"Empty for the first state."`
	To    string `json:"to" doc:"The same as from where something was said and nothing changed."`
	Cause string `json:"cause"`
}

type usageView struct {
	AtMS      int64  `json:"at_ms" doc:"Unix milliseconds of the node's clock at which this was so."`
	CPUMS     int64  `json:"cpu_ms" doc:"CPU time since the machine was started."`
	RSSBytes  int64  `json:"rss_bytes" doc:"Memory of the host."`
	DiskBytes int64  `json:"disk_bytes" doc:"What its files take of the host's disk."`
	RxBytes   *int64 `json:"rx_bytes,omitempty" doc:"Received; absent where nobody counts."`
	TxBytes   *int64 `json:"tx_bytes,omitempty" doc:"Sent; absent where nobody counts."`
}

type vmView struct {
	State       string           `json:"state" doc:"unknown when its node cannot be reached."`
	Driver      string           `json:"driver"`
	Accelerator string           `json:"accelerator"`
	Detail      string           `json:"detail"`
	TimingsMS   map[string]int64 `json:"timings_ms,omitempty" doc:"Milliseconds by stage of the start."`
	History     []stepView       `json:"history,omitempty" maxItems:"50" doc:"Its newest steps, oldest first."`
	Usage       *usageView       `json:"usage,omitempty" doc:"Absent while it does not run."`
}

// viewMachine composes what a node says of a machine, without its ports.
func viewMachine(vm *job.VM) *vmView {
	v := &vmView{State: vm.State, Driver: vm.Driver, Accelerator: vm.Accelerator, Detail: vm.Detail, TimingsMS: vm.TimingsMS}
	for _, h := range vm.History {
		v.History = append(v.History, stepView(h))
	}
	if vm.Usage != nil {
		u := usageView(*vm.Usage)
		v.Usage = &u
	}
	return v
}

func viewPorts(vm *job.VM) []portView {
	out := []portView{}
	for _, p := range vm.Ports {
		out = append(out, portView{p.Guest, p.Protocol, p.Host, p.HostIP})
	}
	return out
}

type decisionView struct {
	NodeID     uint32          `json:"node_id"`
	Reason     string          `json:"reason"`
	Candidates []candidateView `json:"candidates"`
}

type jobView struct {
	Spec           string        `json:"spec"`
	Owner          string        `json:"owner"`
	Status         string        `json:"status" enum:"offered,decided,assigned,running,stopped,completed,failed,expired,refused"`
	StatusReason   string        `json:"status_reason"`
	NodeID         uint32        `json:"node_id"`
	NodeEndpoint   string        `json:"node_endpoint"`
	RateQ32        string        `json:"rate_q32"`
	WeiPerSecond   string        `json:"wei_per_second"`
	Attempt        uint8         `json:"attempt"`
	OfferedAt      int64         `json:"offered_at" doc:"Unix seconds of the coordinator's clock."`
	AssignedAt     uint64        `json:"assigned_at"`
	StartedAt      uint64        `json:"started_at" doc:"Billing starts; 0 before."`
	StoppedAt      uint64        `json:"stopped_at"`
	MeteredSeconds uint64        `json:"metered_seconds"`
	MeteredWei     string        `json:"metered_wei"`
	Ports          []portView    `json:"ports"`
	VM             *vmView       `json:"vm,omitempty" doc:"How its node says it is; not in a list."`
	Decision       *decisionView `json:"decision,omitempty"`
	PaidUntil      uint64        `json:"paid_until" doc:"Until when all of the payer's machines are paid."`
	ArrearsSince   uint64        `json:"arrears_since"`
}

type jobOutput struct{ Body jobView }

func (s *Server) createJob(ctx context.Context, in *createJobInput) (*jobOutput, error) {
	o, err := in.Body.Offer.offer()
	if err != nil {
		return nil, err
	}
	sig, err := job.ParseSignature(in.Body.Signature)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	if _, err := s.parts.Intake.SubmitOffer(ctx, in.Body.Message, o, sig, time.Now()); err != nil {
		return nil, err
	}
	rows, err := s.readJob(ctx, o.Spec)
	if err != nil {
		return nil, err
	}
	return &jobOutput{rows.view()}, nil
}

type specInput struct {
	Spec string `path:"spec" doc:"Item hash of the job's INSTANCE message."`
}

func (s *Server) job(ctx context.Context, in *specInput) (*jobOutput, error) {
	spec, err := parseSpec(in.Spec)
	if err != nil {
		return nil, err
	}
	rows, err := s.readJob(ctx, spec)
	if err != nil {
		return nil, err
	}
	v := rows.view()
	s.addMachine(ctx, rows, &v)
	return &jobOutput{v}, nil
}

type jobsInput struct {
	Owner string `query:"owner" required:"true" doc:"Address of the payer."`
}

type jobsOutput struct{ Body []jobView }

// jobs lists from what is known here. A list is anybody's for the asking, so no
// node is asked about a machine for it.
func (s *Server) jobs(ctx context.Context, in *jobsInput) (*jobsOutput, error) {
	owner, err := parseAddress("owner", in.Owner)
	if err != nil {
		return nil, err
	}
	specs, err := s.specsOf(ctx, owner)
	if err != nil {
		return nil, err
	}
	out := &jobsOutput{Body: make([]jobView, 0, len(specs))}
	for _, spec := range specs {
		rows, err := maybe(s.readJob(ctx, spec))
		if err != nil {
			return nil, err
		}
		if rows != nil { // A reorganisation may have just taken it back.
			out.Body = append(out.Body, rows.view())
		}
	}
	return out, nil
}

// specsOf returns the payer's jobs and offers, newest first.
func (s *Server) specsOf(ctx context.Context, owner common.Address) ([]message.ItemHash, error) {
	type dated struct {
		spec message.ItemHash
		at   int64
	}
	at := map[message.ItemHash]int64{}
	err := s.parts.DB.View(ctx, func(v *state.View) error {
		jobs, err := v.JobsOfPayer(ctx, owner, jobsMax)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			at[j.Spec] = int64(j.AssignedAt)
		}
		offers, err := v.OffersOfPayer(ctx, owner, jobsMax)
		if err != nil {
			return err
		}
		for _, o := range offers {
			if _, ok := at[o.Spec]; !ok {
				at[o.Spec] = o.ReceivedAt.Unix()
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := make([]dated, 0, len(at))
	for spec, t := range at {
		all = append(all, dated{spec, t})
	}
	slices.SortFunc(all, func(a, b dated) int { return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(a.spec, b.spec)) })
	out := make([]message.ItemHash, 0, len(all))
	for _, d := range all[:min(len(all), jobsMax)] {
		out = append(out, d.spec)
	}
	return out, nil
}

// jobRows is everything that state knows about a job; what is not there is nil.
type jobRows struct {
	spec     message.ItemHash
	offer    *state.Offer
	decision *state.Decision
	job      *state.Job
	account  *state.Account
	ad       *wire.CapacityAd // Of the job's node.
	now      uint64           // Chain time.
}

// maybe makes the absence of a row no error.
func maybe[T any](row *T, err error) (*T, error) {
	if errors.Is(err, errs.NotFound) {
		return nil, nil
	}
	return row, err
}

// readJob reads a job's rows on one snapshot; without an offer and a job the
// error is errs.NotFound.
func (s *Server) readJob(ctx context.Context, spec message.ItemHash) (*jobRows, error) {
	r := &jobRows{spec: spec}
	err := s.parts.DB.View(ctx, func(v *state.View) (err error) {
		if r.offer, err = maybe(v.Offer(ctx, spec)); err != nil {
			return err
		}
		if r.job, err = maybe(v.Job(ctx, spec)); err != nil {
			return err
		}
		if r.offer == nil && r.job == nil {
			return errs.New(errs.NotFound, "no job %s", spec)
		}
		if r.decision, err = maybe(v.Decision(ctx, spec, attempt)); err != nil {
			return err
		}
		if r.account, err = maybe(v.Account(ctx, r.payer(), r.token())); err != nil {
			return err
		}
		head, err := maybe(v.Head(ctx))
		if err != nil {
			return err
		}
		if head != nil {
			r.now = head.Time
		}
		c, err := maybe(v.Capacity(ctx, r.nodeID()))
		if err != nil || c == nil {
			return err
		}
		r.ad, err = wire.ParseCapacityAd(c.Ad)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *jobRows) payer() common.Address {
	if r.job != nil {
		return r.job.Payer
	}
	return r.offer.Payer
}

func (r *jobRows) token() uint8 {
	if r.job != nil {
		return r.job.Token
	}
	return r.offer.Token
}

// nodeID returns the node that has the job or will have it, 0 for none yet.
func (r *jobRows) nodeID() uint32 {
	switch {
	case r.job != nil:
		return r.job.NodeID
	case r.decision != nil && r.offer.Status != state.OfferRefused:
		return r.decision.NodeID
	default:
		return 0
	}
}

// rate returns what the job costs, or at most will.
func (r *jobRows) rate() *big.Int {
	switch {
	case r.job != nil:
		return r.job.RateQ32
	case r.decision != nil:
		return r.decision.RateQ32
	default:
		return r.offer.MaxRateQ32
	}
}

// status is the one word for where the job is. The chain's word counts most.
func (r *jobRows) status() (status, reason string) {
	if r.job != nil {
		return string(r.job.Status), r.job.Reason
	}
	switch r.offer.Status {
	case state.OfferRefused:
		return statusRefused, r.offer.Reason
	case state.OfferDecided, state.OfferOpened:
		return statusDecided, cmp.Or(r.offer.Reason, "a node accepted; its transaction is on the way")
	case state.OfferOffered:
	}
	return statusOffered, cmp.Or(r.offer.Reason, "waits for a node")
}

// metered returns the seconds of chain time that are billed, up to now.
func (r *jobRows) metered() uint64 {
	if r.job == nil || r.job.StartedAt == 0 {
		return 0
	}
	end := r.now
	if r.job.Status.Ended() {
		end = r.job.StoppedAt
	}
	if end < r.job.StartedAt {
		return 0
	}
	return end - r.job.StartedAt
}

// view composes the job from its rows, without its machine.
func (r *jobRows) view() jobView {
	v := jobView{
		Spec: string(r.spec), Owner: r.payer().Hex(), NodeID: r.nodeID(), RateQ32: decimal(r.rate()),
		WeiPerSecond: decimal(weiPerSecond(r.rate())), MeteredSeconds: r.metered(), MeteredWei: decimal(cost(r.rate(), r.metered())),
		Ports: []portView{},
	}
	v.Status, v.StatusReason = r.status()
	if r.ad != nil {
		v.NodeEndpoint = r.ad.Endpoint
	}
	if r.offer != nil {
		v.OfferedAt = r.offer.ReceivedAt.Unix()
	}
	if r.job != nil {
		v.Attempt, v.AssignedAt, v.StartedAt, v.StoppedAt = r.job.Attempt, r.job.AssignedAt, r.job.StartedAt, r.job.StoppedAt
	}
	switch {
	case r.decision != nil:
		v.Decision = &decisionView{NodeID: r.decision.NodeID, Reason: r.decision.Reason, Candidates: viewCandidates(r.decision.Candidates)}
	case r.offer != nil && len(r.offer.Candidates) > 0:
		v.Decision = &decisionView{Reason: r.offer.Reason, Candidates: viewCandidates(r.offer.Candidates)}
	}
	if r.account != nil {
		v.PaidUntil, v.ArrearsSince = r.account.PaidUntil, r.account.ArrearsSince
	}
	return v
}

// addMachine asks the job's node how the machine is. A node that cannot say so
// leaves the rest of the view as it is.
func (s *Server) addMachine(ctx context.Context, r *jobRows, v *jobView) {
	if r.job == nil {
		return
	}
	vm, err := s.askMachine(ctx, r)
	switch {
	case err == nil:
	case errors.Is(err, errs.NotFound) && r.job.Status.Ended():
		v.VM = &vmView{State: "gone", Detail: "the node has cleaned up"}
		return
	default:
		v.VM = &vmView{State: "unknown", Detail: errs.Public(err)}
		return
	}
	v.VM, v.Ports = viewMachine(vm), viewPorts(vm)
	if vm.State == string(state.VMPaused) && !r.job.Status.Ended() {
		v.StatusReason = "the machine is paused until it is paid"
	}
}

func (s *Server) askMachine(ctx context.Context, r *jobRows) (*job.VM, error) {
	id, err := r.peer()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, statusMax)
	defer cancel()
	var raw json.RawMessage
	if err := s.parts.Peers.Ask(ctx, id, job.Ask{Kind: job.AskStatus, Spec: r.spec}, &raw); err != nil {
		return nil, errNode(r, err)
	}
	reply, err := job.ParseReply(raw)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "node %d: %w", r.nodeID(), err)
	}
	if reply.VM == nil {
		return nil, errs.New(errs.NotFound, "node %d has no machine for it yet", r.nodeID())
	}
	return reply.VM, nil
}

// peer returns the name of the job's node in the network.
func (r *jobRows) peer() (p2p.PeerID, error) {
	if r.ad == nil {
		return "", errs.New(errs.Unavailable, "node %d has not advertised itself since this coordinator started; it cannot be asked", r.nodeID())
	}
	return p2p.PeerID(r.ad.PeerID), nil
}

// errNode names the node that could not answer.
func errNode(r *jobRows, err error) error {
	if errs.KindOf(err) == errs.Unavailable {
		return errs.New(errs.Unavailable, "node %d cannot be reached: %w", r.nodeID(), err)
	}
	return errs.New(errs.KindOf(err), "node %d: %w", r.nodeID(), err)
}
