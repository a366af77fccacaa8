package executor

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The model is a machine, its node and the world around them, in coarse steps of
// time. What the node decides is decided by the code that decides in earnest:
// decide, watched and dropped. Every state that can be reached from the first one
// is visited. Checked is, in words that know nothing of that code:
//
//   - safety: a step that takes a machine down has evidence: the owner's order, the
//     end on the chain, the list that does not name it, three answers that its
//     message is gone, or a payment that was missing at the first and at the last
//     answer, with more than the grace between them and none that it was there;
//   - progress: whatever has happened, once the world answers again, the machine
//     is down if nothing gives it a right to run, and up if something does.

// Times are steps; what has lasted modelLong or longer looks the same.
const (
	modelStep  = 1000 // seconds
	modelGrace = 1    // steps
	modelKeep  = 1    // steps
	modelLong  = 2
	modelNow   = 100_000_000
	modelSelf  = 7
	modelSpec  = message.ItemHash("aa")
)

// What the chain says of the job.
const (
	jobNone  uint8 = iota // It was dropped, and cannot be opened again.
	jobRuns               // It is billed and paid.
	jobLate               // Its payer is late, and the chain has tried to pull.
	jobEnded              // Or another node has it.
	jobKinds
)

// What gives the machine a lease.
const (
	leaseNone    uint8 = iota
	leaseHeld          // A list; tokens are held for it.
	leaseCredits       // Credits.
	leaseOver          // It has ended.
)

// The owner's orders.
const (
	haltNone uint8 = iota
	haltStop
	haltAgain
)

// model is a state. vm is an index of modelVMs.
type model struct {
	job, jobAge, seen, seenAge              uint8 // The truth, for how long the payer is late, and the same as the rows have it.
	lease, unpaid, watchFor, watchAsk, gone uint8 // watchFor: steps since the first answer that it is unpaid, and one; 0 = paid. watchAsk: since the last.
	vm, halt                                uint8
	// Flags: the message is gone; core channel nodes and the RPC cannot be reached;
	// the daemon runs; the process runs. A scheduler that cannot be reached is one
	// whose lists do not come, which is possible in every state.
	lost, coreAway, rpcAway, daemon, process bool
}

// modelVMs are the rows of a machine that are told apart.
var modelVMs = []struct {
	state state.VMState
	down  bool // StoppedAt is set.
}{
	{state.VMWanted, false},
	{state.VMBooting, false},
	{state.VMRunning, false},
	{state.VMPaused, false},
	{state.VMPaused, true},
	{state.VMHalted, false},
	{state.VMHalted, true},
	{state.VMStopping, false},
	{state.VMStopped, true},
	{state.VMFailed, true},
}

func vmIs(st state.VMState, down bool) uint8 {
	for i, v := range modelVMs {
		if v.state == st && v.down == down {
			return uint8(i)
		}
	}
	panic("no such row")
}

// pack gives every state a number of its own.
func (m model) pack() uint64 {
	var n uint64
	put := func(v uint8, bits uint) { n = n<<bits | uint64(v) }
	flag := func(b bool) {
		n <<= 1
		if b {
			n |= 1
		}
	}
	for _, v := range []uint8{m.job, m.jobAge, m.seen, m.seenAge, m.lease, m.unpaid, m.watchFor, m.watchAsk, m.gone, m.halt} {
		put(v, 3)
	}
	put(m.vm, 4)
	for _, b := range []bool{m.lost, m.coreAway, m.rpcAway, m.daemon, m.process} {
		flag(b)
	}
	return n
}

// row is the machine's row, and look what a pass reads.
func (m model) row() state.VM {
	v := modelVMs[m.vm]
	vm := state.VM{Spec: modelSpec, State: v.state, Until: modelNow - 1}
	if v.down {
		vm.StoppedAt = time.Unix(1, 0)
	}
	if m.halt != haltNone {
		vm.Halt = &state.Halt{By: "owner", Again: m.halt == haltAgain}
	}
	return vm
}

func (m model) look() *view {
	v := &view{
		synced: !m.rpcAway, head: state.Block{Time: modelNow}, jobs: map[message.ItemHash]*state.Job{}, leases: map[message.ItemHash]*state.Lease{},
		leaseGrace: modelGrace * modelStep, leaseKeep: modelKeep * modelStep,
		params: &state.Params{GraceSoftSeconds: modelGrace * modelStep, PrepaySeconds: modelGrace * modelStep, GraceHardSeconds: modelLong * modelStep},
	}
	if l := m.leaseRow(); l != nil {
		v.leases[modelSpec] = l
	}
	if m.seen == jobNone {
		return v
	}
	j := &state.Job{Spec: modelSpec, NodeID: modelSelf, Status: state.JobRunning, StartedAt: 1}
	a := &state.Account{RateQ32: big.NewInt(1), PaidUntil: modelNow + 1}
	switch m.seen {
	case jobLate:
		a.PaidUntil = modelNow - uint64(m.seenAge)*modelStep - 1
		a.ArrearsSince = a.PaidUntil
	case jobEnded:
		j.Status = state.JobStopped
	}
	v.jobs[modelSpec], v.accounts = j, map[payer]*state.Account{{common.Address{}, 0}: a}
	return v
}

// leaseRow is the lease's row.
func (m model) leaseRow() *state.Lease {
	l := &state.Lease{Spec: modelSpec, Kind: state.LeaseScheduled}
	switch m.lease {
	case leaseNone:
		return nil
	case leaseCredits:
		l.Sticky = true // A list has named it, as it may: it is not the list that pays it.
	case leaseOver:
		l.End = &state.LeaseEnd{Detail: "over"}
	}
	if m.watchFor > 0 {
		l.Watch.UnpaidSince = modelNow - uint64(m.watchFor-1)*modelStep
		l.Watch.AskedAt = modelNow - uint64(m.watchAsk)*modelStep
	}
	l.Watch.Gone = int(m.gone)
	return l
}

// setLease takes over what has become of the lease's row.
func (m *model) setLease(l state.Lease) {
	if !l.Open() {
		m.lease, m.watchFor, m.watchAsk, m.gone = leaseOver, 0, 0, 0
		return
	}
	m.gone, m.watchFor, m.watchAsk = uint8(l.Watch.Gone), 0, 0
	if l.Watch.UnpaidSince != 0 {
		m.watchFor = 1 + uint8((modelNow-l.Watch.UnpaidSince)/modelStep)
		m.watchAsk = uint8((modelNow - l.Watch.AskedAt) / modelStep)
	}
}

// rights says whether the job and the lease give a right to run, in truth: a payer
// who is late has it for the grace.
func (m model) rights() (job, lease bool) {
	job = m.job == jobRuns || m.job == jobLate && m.jobAge <= modelGrace
	lease = m.lease == leaseHeld || m.lease == leaseCredits && m.unpaid <= modelGrace
	return job, lease && !m.lost
}

// evidence says whether the node knows, by what it has read, that the machine is
// not to run.
func (m model) evidence() bool {
	if m.halt != haltNone {
		return true
	}
	switch m.lease {
	case leaseHeld:
		return false // Its end is a step of its own, whose evidence is checked there.
	case leaseCredits:
		// Unpaid at the first answer and at the last, more than the grace apart,
		// and not paid by the chain either.
		unpaid := m.watchFor > 0 && m.watchFor-1-m.watchAsk > modelGrace
		switch m.seen {
		case jobRuns:
			return false
		case jobLate:
			return unpaid && !m.rpcAway && m.seenAge >= modelGrace
		}
		return unpaid
	}
	switch m.seen {
	case jobEnded:
		return true
	case jobLate:
		return !m.rpcAway && m.seenAge >= modelGrace
	case jobNone:
		return !m.rpcAway || m.lease == leaseOver
	}
	return m.lease == leaseOver && m.seen == jobNone
}

// step is a transition, with its name for a trace.
type step struct {
	name string
	to   model
}

// pass is what the node does in a pass: decide, then the first thing that the
// machine's worker does. It returns what is wrong with it.
func (m model) pass() (model, string) {
	row := m.row()
	o := decide(m.look(), row, modelSelf)
	n, up := m, row.State == state.VMWanted || row.State == state.VMBooting || row.State == state.VMRunning
	// A row that says paused, halted or stopping was written on evidence: what it
	// says is brought to its end.
	if o.wish != wishKeep && up && !m.evidence() {
		return n, fmt.Sprintf("takes the machine down without evidence: %s", o.reason)
	}
	go1 := func(st state.VMState, down bool) {
		if st != row.State && !row.State.CanBecome(st) {
			panic(fmt.Sprintf("%s cannot become %s", row.State, st))
		}
		n.vm = vmIs(st, down)
	}
	switch {
	case o.wish == wishEnd && (row.State == state.VMStopped || row.State == state.VMFailed):
	case row.State == state.VMStopping:
		n.process = false
		go1(state.VMStopped, true)
	case o.wish == wishEnd:
		go1(state.VMStopping, false)
	case o.wish == wishPause && row.State == state.VMPaused, o.wish == wishHalt && row.State == state.VMHalted:
		if !isDown(row) {
			n.process = false
			go1(row.State, true)
		}
	case o.wish != wishKeep && (row.State == state.VMStopped || row.State == state.VMFailed):
	case o.wish == wishPause:
		go1(state.VMPaused, false)
	case o.wish == wishHalt:
		go1(state.VMHalted, false)
	case row.State == state.VMFailed:
	case row.State == state.VMStopped && m.seen == jobNone && (m.lease == leaseNone || m.lease == leaseOver):
	case row.State == state.VMPaused || row.State == state.VMHalted || row.State == state.VMStopped:
		n.process, n.halt = false, haltNone
		go1(state.VMWanted, false)
	case row.State == state.VMWanted:
		go1(state.VMBooting, false)
	case row.State == state.VMBooting && !m.process:
		n.process = true
	case row.State == state.VMBooting:
		go1(state.VMRunning, false)
	case row.State == state.VMRunning && !m.process:
		go1(state.VMBooting, false)
	}
	return n, ""
}

// hear is what the node does when it reads the chain, ask when it asks core
// channel nodes.
func (m model) hear() model {
	if m.rpcAway {
		return m
	}
	m.seen, m.seenAge = m.job, m.jobAge
	return m
}

func (m model) ask() (model, string) {
	l := m.leaseRow()
	if l == nil || !l.Open() || m.rpcAway {
		return m, ""
	}
	a := answer{head: modelNow}
	if !m.coreAway {
		a.standing = standingThere
		if m.lost {
			a.standing = standingGone
		}
		if m.lease == leaseCredits {
			a.paying = payingYes
			if m.unpaid > 0 {
				a.paying = payingNo
			}
		}
	}
	next := watched(*l, a, modelGrace*modelStep, modelKeep*modelStep, time.Unix(0, 0))
	switch {
	case next.Open():
	case m.coreAway:
		return m, "ends a lease although nobody answered"
	case m.lost && m.gone+1 >= 3:
	case m.unpaid > 0 && m.watchFor > 1+modelGrace+modelKeep:
	default:
		return m, "ends a lease that is paid, and whose message is there"
	}
	m.setLease(next)
	return m, ""
}

// list is what the node does with a list of the scheduler.
func (m model) list(named bool) (model, string) {
	if named {
		if m.lease == leaseNone || m.lease == leaseOver {
			if m.lost && !m.coreAway {
				return m, "" // As notGone has it.
			}
			m.lease, m.watchFor, m.watchAsk, m.gone = leaseHeld, 0, 0, 0
		}
		return m.wanted(), ""
	}
	l := m.leaseRow()
	if l == nil {
		return m, ""
	}
	next := dropped(*l, "scheduler", modelNow, time.Unix(0, 0))
	if !next.Open() && m.lease == leaseCredits {
		return m, "a list ends a lease that is paid by credits"
	}
	m.setLease(next)
	return m, ""
}

// wanted is what commit does to the row of a machine that is asked for.
func (m model) wanted() model {
	switch {
	case modelVMs[m.vm].state == state.VMFailed:
		m.vm = vmIs(state.VMWanted, false)
	case m.halt == haltStop && modelVMs[m.vm].state == state.VMHalted:
		m.halt = haltAgain // As startAgain has it.
	case m.halt == haltStop:
		m.halt = haltNone
	}
	return m
}

// tick lets a step of time go by.
func (m model) tick() model {
	older := func(v *uint8, most uint8) {
		if *v > 0 {
			*v = min(*v+1, most)
		}
	}
	older(&m.unpaid, modelLong)
	if m.job == jobLate {
		m.jobAge = min(m.jobAge+1, modelLong)
	}
	if m.seen == jobLate && !m.rpcAway {
		m.seenAge = min(m.seenAge+1, modelLong) // The head goes on, by which what is late gets later.
	}
	if m.watchFor > 0 && m.watchFor <= modelLong+1 { // Both grow alike, or the time between them would shrink.
		m.watchFor++
		m.watchAsk++
	}
	return m
}

// steps are all that can happen next.
func (m model) steps() (out []step, wrong string) {
	add := func(name string, change func(*model)) {
		n := m
		change(&n)
		if n != m {
			out = append(out, step{name, n})
		}
	}
	with := func(name string, n model, bad string) {
		if bad != "" {
			wrong = name + ": " + bad
		}
		if n != m {
			out = append(out, step{name, n})
		}
	}
	// The world.
	add("core channel nodes", func(n *model) { n.coreAway = !n.coreAway })
	add("rpc", func(n *model) { n.rpcAway = !n.rpcAway })
	add("the message goes or comes back", func(n *model) { n.lost = !n.lost })
	add("credits run out", func(n *model) { n.unpaid = max(n.unpaid, 1) })
	add("credits are paid", func(n *model) { n.unpaid = 0 })
	for job := range jobKinds {
		add(fmt.Sprintf("the chain: job %d", job), func(n *model) {
			if n.job != job && (n.job != jobEnded || job == jobRuns) { // A reorganisation may take an end back.
				n.job, n.jobAge = job, 0
			}
		})
	}
	with("time", m.tick(), "")
	add("the process dies", func(n *model) { n.process = false })
	add("the daemon dies, or starts", func(n *model) { n.daemon = !n.daemon })
	if !m.daemon {
		return out, wrong
	}
	// The node.
	with("hear", m.hear(), "")
	asked, bad := m.ask()
	with("ask", asked, bad)
	for _, named := range []bool{true, false} {
		listed, bad := m.list(named)
		with(fmt.Sprintf("a list that names it: %v", named), listed, bad)
	}
	passed, bad := m.pass()
	with("pass", passed, bad)
	add("the owner asks for it", func(n *model) {
		if n.unpaid == 0 && !n.coreAway && !n.lost {
			if n.lease == leaseNone || n.lease == leaseOver {
				n.lease, n.watchFor, n.watchAsk, n.gone = leaseCredits, 0, 0, 0
			}
			*n = n.wanted()
		}
	})
	if st := modelVMs[m.vm].state; st != state.VMStopped && st != state.VMStopping && st != state.VMFailed {
		add("the owner stops it", func(n *model) { n.halt = haltStop })
		add("the owner reboots it", func(n *model) { n.halt = haltAgain })
	}
	return out, wrong
}

// settle lets the node do its work in a world that answers and stands still.
func (m model) settle() model {
	m.coreAway, m.rpcAway, m.daemon = false, false, true
	for range 8 {
		m = m.hear()
		m, _ = m.ask()
		for range 6 {
			m, _ = m.pass()
		}
		m = m.tick()
	}
	return m
}

func TestNoPaidMachineIsStoppedAndNoUnpaidOneKept(t *testing.T) {
	const least = 1_000_000
	first := model{job: jobRuns, seen: jobRuns, daemon: true}
	type from struct {
		prev uint64
		by   string
	}
	seen := map[uint64]from{first.pack(): {}}
	trace := func(key uint64) (names []string) {
		for key != first.pack() {
			f := seen[key]
			names = append([]string{f.by}, names...)
			key = f.prev
		}
		return names
	}
	queue := []model{first}
	settled := 0
	for i := 0; i < len(queue); i++ {
		m := queue[i]
		key := m.pack()
		next, wrong := m.steps()
		if wrong != "" {
			t.Fatalf("%s\nin %+v\nafter %v", wrong, m, trace(key))
		}
		for _, s := range next {
			k := s.to.pack()
			if _, ok := seen[k]; !ok {
				seen[k] = from{key, s.name}
				queue = append(queue, s.to)
			}
		}
		if i%64 != 0 {
			continue // The way to settle from the others leads through these.
		}
		settled++
		end := m.settle()
		job, lease := end.rights()
		up := end.process && modelVMs[end.vm].state == state.VMRunning
		failed := modelVMs[end.vm].state == state.VMFailed
		switch {
		case !job && !lease && end.process:
			t.Fatalf("nothing gives it a right to run, and it runs in the end\nin %+v\nfrom %+v\nafter %v", end, m, trace(key))
		case (job || lease) && end.halt != haltStop && !up && !failed:
			t.Fatalf("it has a right to run, and is down in the end\nin %+v\nfrom %+v\nafter %v", end, m, trace(key))
		}
	}
	if len(queue) < least {
		t.Errorf("%d states were visited, want %d at least", len(queue), least)
	}
	t.Logf("%d states, settled from %d", len(queue), settled)
}
