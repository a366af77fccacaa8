package v1

import (
	"context"
	"math/big"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// pairJobsMax bounds the jobs of one payer that a receipt looks at to tell them
// apart.
const pairJobsMax = 10_000

type splitView struct {
	Node        string `json:"node"`
	Coordinator string `json:"coordinator"`
	Staker      string `json:"staker"`
	Development string `json:"development"`
}

type claimView struct {
	Tx     string `json:"tx"`
	Gross  string `json:"gross" doc:"What the transaction took from the payer for all jobs on this node."`
	Amount string `json:"amount" doc:"What of it is this job's; node, coordinator, staker and development add up to it."`
	At     uint64 `json:"at"`
	splitView
}

type receiptView struct {
	Spec       string      `json:"spec"`
	RateQ32    string      `json:"rate_q32"`
	StartedAt  uint64      `json:"started_at"`
	StoppedAt  uint64      `json:"stopped_at"`
	Seconds    uint64      `json:"seconds" doc:"Billed, up to now while the job runs."`
	QuotedWei  string      `json:"quoted_wei" doc:"The rate times the seconds."`
	SettledWei string      `json:"settled_wei" doc:"What was taken from the payer for this job."`
	Split      splitView   `json:"split" doc:"Who got it; the parts add up to settled_wei."`
	Claims     []claimView `json:"claims"`
	RefundWei  string      `json:"refund_wei" doc:"Prepaid money that was given back when the job ended."`
	Complete   bool        `json:"complete" doc:"The job is over and exactly what was quoted is settled."`
}

type receiptOutput struct{ Body receiptView }

func (s *Server) receipt(ctx context.Context, in *specInput) (*receiptOutput, error) {
	spec, err := parseSpec(in.Spec)
	if err != nil {
		return nil, err
	}
	rows, err := s.readJob(ctx, spec)
	if err != nil {
		return nil, err
	}
	if rows.job == nil {
		status, _ := rows.status()
		v := newReceipt(rows)
		v.Complete = status == statusRefused
		return &receiptOutput{v}, nil
	}
	var pair []state.Job
	var payments, returned []state.Payment
	err = s.parts.DB.View(ctx, func(view *state.View) error {
		all, err := view.JobsOfPayer(ctx, rows.job.Payer, pairJobsMax)
		if err != nil {
			return err
		}
		for _, j := range all {
			if j.NodeID == rows.job.NodeID && j.Token == rows.job.Token && j.StartedAt != 0 {
				pair = append(pair, j)
			}
		}
		if payments, err = view.Payments(ctx, rows.job.Payer, uint64(rows.job.NodeID)); err != nil {
			return err
		}
		returned, err = view.PaymentsOf(ctx, rows.job.Payer, pairJobsMax)
		return err
	})
	if err != nil {
		return nil, err
	}
	v := newReceipt(rows)
	settle(&v, rows, incomes(payments, rows.job.Token, pair, rows.now))
	v.RefundWei = decimal(refundOf(rows.job, returned))
	return &receiptOutput{v}, nil
}

func newReceipt(r *jobRows) receiptView {
	v := receiptView{
		Spec: string(r.spec), RateQ32: decimal(r.rate()), Seconds: r.metered(), QuotedWei: decimal(cost(r.rate(), r.metered())),
		SettledWei: "0", RefundWei: "0", Claims: []claimView{}, Split: splitView{"0", "0", "0", "0"},
	}
	if r.job != nil {
		v.StartedAt, v.StoppedAt = r.job.StartedAt, r.job.StoppedAt
	}
	return v
}

// settle fills in what was taken for the job, and who got it.
func settle(v *receiptView, r *jobRows, all []income) {
	total, shares := new(big.Int), make(split)
	for _, in := range all {
		amount := in.of[string(r.spec)]
		if amount == nil || amount.Sign() == 0 {
			continue
		}
		parts := in.payment.Split
		mine := divideSplit(parts, in.gross(), amount)
		total.Add(total, amount)
		shares.add(mine)
		v.Claims = append(v.Claims, claimView{
			Tx: in.payment.Tx.Hex(), Gross: decimal(in.gross()), Amount: decimal(amount), At: in.payment.At, splitView: mine.view(),
		})
	}
	v.SettledWei, v.Split = decimal(total), shares.view()
	v.Complete = r.job.Status.Ended() && total.Cmp(cost(r.rate(), r.metered())) == 0
}

// income is a payment of the payer to the node, and which job it was for.
type income struct {
	payment state.Payment
	of      map[string]*big.Int // by spec; adds up to the payment
}

// gross returns what was paid. The row of a paid debt is a debt below zero.
func (i income) gross() *big.Int { return new(big.Int).Abs(i.payment.Amount) }

// incomes attributes every payment between a payer and a node to the jobs that
// they had with each other. A claim covers the time from the one before it to
// its own end, and each job's part of that time costs exactly its rate times
// its seconds. Where arrears left a hole, the parts do not make the sum, which
// is then divided by them.
func incomes(payments []state.Payment, token uint8, jobs []state.Job, now uint64) []income {
	var out []income
	var since uint64
	for _, p := range payments {
		isClaim := p.Kind == state.PaymentClaimed
		isDebtPaid := p.Kind == state.PaymentDebt && p.Amount.Sign() < 0
		if p.Token != token || (!isClaim && !isDebtPaid) {
			continue
		}
		from, to := since, p.PaidUntil
		if isClaim {
			since = max(since, p.PaidUntil)
		} else {
			from, to = 0, p.At
		}
		in := income{payment: p, of: map[string]*big.Int{}}
		weights := earned(jobs, from, to, now)
		if sum(weights).Sign() == 0 {
			weights = earned(jobs, 0, p.At, now)
		}
		for i, part := range divide(in.gross(), weights) {
			in.of[string(jobs[i].Spec)] = part
		}
		out = append(out, in)
	}
	return out
}

// earned returns what each job costs in the time after from, up to to.
func earned(jobs []state.Job, from, to, now uint64) []*big.Int {
	out := make([]*big.Int, len(jobs))
	for i, j := range jobs {
		end := min(to, now)
		if j.StoppedAt != 0 {
			end = min(to, j.StoppedAt)
		}
		begin := max(from, j.StartedAt)
		out[i] = new(big.Int)
		if end > begin {
			out[i] = cost(j.RateQ32, end-begin)
		}
	}
	return out
}

func sum(parts []*big.Int) *big.Int {
	total := new(big.Int)
	for _, p := range parts {
		total.Add(total, p)
	}
	return total
}

// divide gives each its part of total by weight, to the last wei: what rounding
// leaves goes one by one to those that lost most by it, the first of equals
// first. When the weights make the total, each gets its weight. Without any
// weight the first gets all.
func divide(total *big.Int, weights []*big.Int) []*big.Int {
	out := make([]*big.Int, len(weights))
	if len(weights) == 0 {
		return out
	}
	all := sum(weights)
	if all.Sign() == 0 {
		for i := range out {
			out[i] = new(big.Int)
		}
		out[0].Set(total)
		return out
	}
	lost := make([]*big.Int, len(weights))
	rest := new(big.Int).Set(total)
	for i, w := range weights {
		out[i], lost[i] = new(big.Int).QuoRem(new(big.Int).Mul(total, w), all, new(big.Int))
		rest.Sub(rest, out[i])
	}
	for ; rest.Sign() > 0; rest.Sub(rest, big.NewInt(1)) {
		most := 0
		for i := range lost {
			if lost[i].Cmp(lost[most]) > 0 {
				most = i
			}
		}
		out[most].Add(out[most], big.NewInt(1))
		lost[most] = big.NewInt(-1)
	}
	return out
}

// split is who got money, by share.
type split map[string]*big.Int

// shareNames are the keys of a payment's split, in the order of the answer.
func shareNames() []string { return []string{"node", "coordinator", "staker", "development"} }

func (s split) add(o split) {
	for name, v := range o {
		if s[name] == nil {
			s[name] = new(big.Int)
		}
		s[name].Add(s[name], v)
	}
}

func (s split) view() splitView {
	return splitView{Node: decimal(s["node"]), Coordinator: decimal(s["coordinator"]), Staker: decimal(s["staker"]), Development: decimal(s["development"])}
}

// divideSplit returns the shares of a part of a payment: the payment's own when
// the part is all of it.
func divideSplit(whole map[string]*big.Int, gross, part *big.Int) split {
	weights := make([]*big.Int, len(shareNames()))
	for i, name := range shareNames() {
		if weights[i] = whole[name]; weights[i] == nil {
			weights[i] = new(big.Int)
		}
	}
	if sum(weights).Cmp(gross) != 0 {
		// The split of this payment has not been seen: nothing is made up.
		return split{}
	}
	out := split{}
	for i, v := range divide(part, weights) {
		out[shareNames()[i]] = v
	}
	return out
}

// refundOf returns what the payer got back in the block that ended the job.
func refundOf(j *state.Job, payments []state.Payment) *big.Int {
	total := new(big.Int)
	if !j.Status.Ended() {
		return total
	}
	for _, p := range payments {
		ours := p.Payee == 0 || p.Payee == uint64(j.NodeID)
		if p.Kind == state.PaymentRefunded && p.Block == j.Block && p.Token == j.Token && ours {
			total.Add(total, p.Amount)
		}
	}
	return total
}
