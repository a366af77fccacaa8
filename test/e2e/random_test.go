//go:build e2e

package e2e_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	randv2 "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

const (
	// What a run is made of, unless the environment says otherwise.
	seedVar, stepsVar = "ALEPH_E2E_SEED", "ALEPH_E2E_STEPS"
	stepsUsual        = 1000
	// hands do steps at the same time, of which one begins every pace, so that
	// machines live long enough to be killed.
	hands = 4
	pace  = 50 * time.Millisecond
	// liveMax bounds the jobs that may be alive at once.
	liveMax = 24
	// A node that was killed killsMax times without running for steadyAfter in
	// between is left alone for so long: who starts it again would give it up.
	killsMax    = 4
	steadyAfter = 30 * time.Second
)

// step is one random thing to do, and a number to choose whom to do it to.
type step struct {
	what   string
	choice uint64
}

// usuals are the steps, each as often as it is likely.
func usuals() []string {
	var all []string
	for what, weight := range map[string]int{
		"create": 40, "create and stop": 6, "stop": 18, "post again": 7, "publish again": 3,
		"kill machine": 12, "kill node": 3, "look": 11,
	} {
		all = append(all, slices.Repeat([]string{what}, weight)...)
	}
	slices.Sort(all)
	return all
}

// opened is a job that was offered, or at least may have been.
type opened struct {
	user    *user
	request aleph.JobRequest
}

// chaos is the state of a run.
type chaos struct {
	*network
	users []*user
	image message.ItemHash
	rate  aleph.Wei

	mu    sync.Mutex
	all   []*opened         // guarded by mu
	over  map[*opened]bool  // what was stopped; guarded by mu
	did   map[string]int    // by step and outcome; guarded by mu
	kills map[string]*kills // by node; guarded by mu
	lost  bool              // The network is gone; guarded by mu.
}

// kills are those of a node.
type kills struct {
	all, inARow int
	last        time.Time
}

// TestThousandRandomStepsLeaveNothing starts, stops and kills at random, several
// things at once, and then looks for anything that is left. The machines are
// real but their disk is blank: they are up when their process is.
func TestThousandRandomStepsLeaveNothing(t *testing.T) {
	t.Parallel()
	seed, count := uint64(number(t, seedVar, time.Now().UnixNano())), int(number(t, stepsVar, stepsUsual))
	t.Logf("%s=%d %s=%d do these steps again", seedVar, seed, stepsVar, count)
	c := newChaos(t)

	c.play(t, steps(seed, count))

	c.mu.Lock()
	t.Logf("%d jobs, %d steps: %v", len(c.all), count, c.did)
	if killed := c.did["kill machine: done"]; killed < count/50 {
		t.Errorf("%d machines were killed, want more", killed)
	}
	for _, node := range c.Nodes {
		if c.kills[node.Name].all == 0 && count >= stepsUsual {
			t.Errorf("%s was never killed", node.Name)
		}
	}
	c.mu.Unlock()
	for _, node := range c.Nodes {
		c.ready(t, node.Name)
	}
	c.finish(t)
	c.checkChain(t, count)
	c.checkMoney(t)
	for _, node := range c.Nodes[1:] {
		c.checkHost(t, node)
	}
}

func number(t *testing.T, name string, fallback int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// steps are the steps of a seed.
func steps(seed uint64, count int) []step {
	r := randv2.New(randv2.NewPCG(seed, 0))
	known := usuals()
	out := make([]step, count)
	for i := range out {
		out[i] = step{known[r.IntN(len(known))], r.Uint64()}
	}
	return out
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	c := &chaos{
		network: startNetwork(t, devnet.Options{DataDir: t.TempDir()}),
		over:    map[*opened]bool{}, did: map[string]int{}, kills: map[string]*kills{},
	}
	for _, node := range c.Nodes {
		c.kills[node.Name] = &kills{}
	}
	for _, node := range c.Nodes[1:] {
		// What has ended goes soon, so that its going is part of the run.
		c.reconfigure(t, node, "[executor]\n", "[executor]\nvcpus = 64\nretention = '1s'\nstop_grace = '500ms'\n")
		*c.kills[node.Name] = kills{inARow: 1, last: time.Now()}
	}
	for range hands {
		c.users = append(c.users, c.user(t, enough, enough))
	}
	blank := filepath.Join(t.TempDir(), "blank.raw")
	if err := os.WriteFile(blank, append([]byte("not bootable"), make([]byte, 1<<20-12)...), 0o600); err != nil {
		t.Fatal(err)
	}
	c.image = c.upload(t, c.users[0].Account, blank)
	content, err := c.blank("quote").Content(c.users[0].Address(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	q, err := c.node.Quote(t.Context(), aleph.QuoteRequest{Content: content})
	if err != nil {
		t.Fatal(err)
	}
	c.rate = q.RateQ32
	return c
}

// blank is a machine that does nothing.
func (c *chaos) blank(name string) aleph.InstanceSpec {
	return aleph.InstanceSpec{Image: c.image, Name: name, VCPUs: 1, MemoryMiB: 64, DiskMiB: 16}
}

// play does the steps, some at a time, in their order.
func (c *chaos) play(t *testing.T, all []step) {
	t.Helper()
	next := make(chan step)
	var working sync.WaitGroup
	for hand := range hands {
		working.Go(func() {
			for s := range next {
				outcome := c.do(t, hand, s)
				if outcome == "away" {
					c.awaitCoordinator(t)
				}
				c.mu.Lock()
				c.did[s.what+": "+outcome]++
				c.mu.Unlock()
			}
		})
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for _, s := range all {
		<-tick.C
		c.mu.Lock()
		lost := c.lost
		c.mu.Unlock()
		if lost {
			break
		}
		next <- s
	}
	close(next)
	working.Wait()
}

// awaitCoordinator waits, as a user would, for the coordinator to be back.
func (c *chaos) awaitCoordinator(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for c.node.Ready(ctx) != nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.lost {
				t.Errorf("the coordinator is not back: %v", context.Cause(ctx))
			}
			c.lost = true
			return
		}
	}
}

// do does one step and says in a word how it went. Nothing that a step meets
// is wrong, except for what no user should ever see.
func (c *chaos) do(t *testing.T, hand int, s step) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	switch s.what {
	case "create", "create and stop":
		if c.living() >= liveMax {
			err = c.end(ctx, c.pick(s.choice, true))
			break
		}
		var o *opened
		o, err = c.create(ctx, c.users[hand], s.choice)
		if err == nil && s.what == "create and stop" {
			err = c.end(ctx, o)
		}
	case "stop":
		err = c.end(ctx, c.pick(s.choice, true))
	case "post again", "publish again":
		o := c.pick(s.choice, false)
		if o == nil {
			return "nobody there"
		}
		if s.what == "post again" {
			_, err = c.node.OpenJob(ctx, o.request)
		} else {
			_, err = c.node.PublishMessage(ctx, o.request.Message)
		}
	case "kill machine":
		return c.killMachine(t, s.choice)
	case "kill node":
		return c.killNode(ctx, t, s.choice)
	case "look":
		return c.look(t)
	}
	return outcome(t, s.what, err)
}

// outcome names how a request went.
func outcome(t *testing.T, what string, err error) string {
	t.Helper()
	var refused *aleph.Error
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, errNobody):
		return err.Error()
	case errors.Is(err, aleph.Unavailable):
		return "away" // The coordinator was killed.
	case errors.Is(err, aleph.Conflict), errors.Is(err, aleph.NotFound):
		return "refused"
	case errors.As(err, &refused):
		t.Errorf("%s: %v", what, err)
		return "wrong"
	default:
		return "cut off" // The coordinator was killed while it answered.
	}
}

var errNobody = errors.New("nobody there")

// pick chooses a job, or nil if there is none: one that was not stopped yet, if
// it is to be alive.
func (c *chaos) pick(choice uint64, alive bool) *opened {
	c.mu.Lock()
	defer c.mu.Unlock()
	var from []*opened
	for _, o := range c.all {
		if !alive || !c.over[o] {
			from = append(from, o)
		}
	}
	if len(from) == 0 {
		return nil
	}
	return from[choice%uint64(len(from))]
}

func (c *chaos) living() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all) - len(c.over)
}

// create offers a job. It is remembered before it is sent, because whoever is
// killed may have taken it all the same.
func (c *chaos) create(ctx context.Context, u *user, choice uint64) (*opened, error) {
	info, err := c.node.Info(ctx)
	if err != nil {
		return nil, err
	}
	content, err := c.blank(strconv.FormatUint(choice, 16)).Content(u.Address(), time.Now())
	if err != nil {
		return nil, err
	}
	e, err := u.SignContent(message.TypeInstance, content, content.Time)
	if err != nil {
		return nil, err
	}
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 256))
	if err != nil {
		return nil, err
	}
	hints := []uint32{0, 0, c.Nodes[1].NodeID, c.Nodes[2].NodeID}
	offer := &job.Offer{
		Spec: e.ItemHash, Payer: u.Address(), Token: job.TokenALEPH, MaxRateQ32: c.rate.Big(),
		NodeHint: hints[choice%uint64(len(hints))], Deadline: info.Chain.Time + 300, Nonce: nonce,
	}
	sig, err := u.SignOffer(info.Jobs(), offer)
	if err != nil {
		return nil, err
	}
	o := &opened{u, aleph.JobRequest{Message: e, Offer: offer, Signature: sig}}
	c.mu.Lock()
	c.all = append(c.all, o)
	c.mu.Unlock()
	_, err = c.node.OpenJob(ctx, o.request)
	return o, err
}

// end stops a job.
func (c *chaos) end(ctx context.Context, o *opened) error {
	if o == nil {
		return errNobody
	}
	_, err := c.node.Stop(ctx, o.user.Account, o.request.Message.ItemHash)
	if err == nil {
		c.mu.Lock()
		c.over[o] = true
		c.mu.Unlock()
	}
	return err
}

// killMachine ends a hypervisor as the kernel does when memory is out.
func (c *chaos) killMachine(t *testing.T, choice uint64) string {
	t.Helper()
	all := hypervisors(t, c.DataDir)
	if len(all) == 0 {
		return errNobody.Error()
	}
	if err := syscall.Kill(all[choice%uint64(len(all))], syscall.SIGKILL); err != nil {
		return "gone"
	}
	return "done"
}

// killNode kills a node, unless that was done too often of late.
func (c *chaos) killNode(ctx context.Context, t *testing.T, choice uint64) string {
	t.Helper()
	node := c.Nodes[choice%uint64(len(c.Nodes))].Name
	c.mu.Lock()
	k := c.kills[node]
	if time.Since(k.last) > steadyAfter {
		k.inARow = 0
	}
	may := k.inARow < killsMax
	if may {
		k.all, k.inARow, k.last = k.all+1, k.inARow+1, time.Now()
	}
	c.mu.Unlock()
	if !may {
		return "spared"
	}
	if err := c.Kill(ctx, node); err != nil {
		return "gone" // It has not been started again since it was killed last.
	}
	return "done"
}

// look checks what must hold at any moment: no machine runs twice, no port or
// subnet is given twice.
func (c *chaos) look(t *testing.T) string {
	t.Helper()
	for _, node := range c.Nodes[1:] {
		dirs := map[string]int{}
		for _, pid := range hypervisors(t, node.DataDir) {
			dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
			if err != nil {
				continue // It has just ended.
			}
			if other, twice := dirs[dir]; twice {
				t.Errorf("processes %d and %d run the machine in %s", other, pid, dir)
			}
			dirs[dir] = pid
		}
		ports, slots := map[string]message.ItemHash{}, map[int]message.ItemHash{}
		for _, v := range rows[state.VM](t, node, "vms", "") {
			if len(v.Ports) == 0 || v.State == state.VMStopped || v.State == state.VMFailed {
				continue
			}
			if other, twice := slots[v.Net]; twice {
				t.Errorf("%s gave subnet %d to %s and to %s", node.Name, v.Net, other, v.Spec)
			}
			slots[v.Net] = v.Spec
			for _, p := range v.Ports {
				key := fmt.Sprint(p.Protocol, " ", p.Host)
				if other, twice := ports[key]; twice {
					t.Errorf("%s gave port %s to %s and to %s", node.Name, key, other, v.Spec)
				}
				ports[key] = v.Spec
			}
		}
	}
	return "done"
}

// finish stops every job and waits until all are over.
func (c *chaos) finish(t *testing.T) {
	t.Helper()
	lastTry := map[message.ItemHash]time.Time{}
	eventually(t, "every job is over", func() error {
		var alive []string
		for _, u := range c.users {
			jobs, err := c.node.Jobs(t.Context(), u.Address())
			if err != nil {
				return err
			}
			for _, j := range jobs {
				if j.Status.Ended() {
					continue
				}
				alive = append(alive, fmt.Sprintf("%s %s", j.Spec[:8], j.Status))
				if time.Since(lastTry[j.Spec]) > 2*time.Second {
					lastTry[j.Spec] = time.Now()
					_, _ = c.node.Stop(t.Context(), u.Account, j.Spec) // It may be over, or not on chain yet: there is a next time.
				}
			}
		}
		if len(alive) > 0 {
			return fmt.Errorf("%d are not: %v", len(alive), alive)
		}
		return nil
	})
	eventually(t, "every transaction is through", func() error {
		for _, node := range c.Nodes {
			for _, i := range rows[state.Intent](t, node, "intents", "") {
				if i.Status == state.IntentPending || i.Status == state.IntentSent {
					return fmt.Errorf("%s has %s, %s", node.Name, i.Key, i.Status)
				}
			}
		}
		return nil
	})
}

// checkChain counts what the chain has of every job.
func (c *chaos) checkChain(t *testing.T, steps int) {
	t.Helper()
	jobs := bindings.NewJobManager()
	type story struct{ assigned, started, ended int }
	stories, started := map[common.Hash]*story{}, 0
	for _, l := range c.logs(t, c.Contracts.JobManager) {
		if len(l.Topics) < 2 {
			continue
		}
		s := stories[l.Topics[1]]
		if s == nil {
			s = &story{}
			stories[l.Topics[1]] = s
		}
		if _, err := jobs.UnpackJobAssignedEvent(&l); err == nil {
			s.assigned++
		} else if _, err := jobs.UnpackJobRunningEvent(&l); err == nil {
			s.started++
			started++
		} else if _, err := jobs.UnpackJobStoppedEvent(&l); err == nil {
			s.ended++
		}
	}
	known := 0
	for _, o := range c.all {
		s := stories[common.HexToHash(string(o.request.Message.ItemHash))]
		if s == nil {
			continue // It never came on chain.
		}
		known++
		if s.assigned != 1 || s.started > 1 || s.ended != 1 {
			t.Errorf("job %s was assigned %d times, started %d, ended %d", o.request.Message.ItemHash, s.assigned, s.started, s.ended)
		}
	}
	t.Logf("%d jobs came on chain, %d machines were billed", known, started)
	if started < steps/40 {
		t.Errorf("%d machines were billed in %d steps, want more", started, steps)
	}
}

// checkMoney adds up what every payer paid: all of it went to nodes or came
// back.
func (c *chaos) checkMoney(t *testing.T) {
	t.Helper()
	for _, u := range c.users {
		eventually(t, "the money of "+u.Address().Hex()+" is settled", func() error {
			claimed := new(big.Int)
			payments := bindings.NewPaymentManager()
			for _, l := range c.logs(t, c.Contracts.PaymentManager) {
				if e, err := payments.UnpackClaimedEvent(&l); err == nil && e.Payer == u.Address() {
					claimed.Add(claimed, e.Gross)
				}
			}
			for _, node := range c.Nodes[1:] {
				m := c.money(t, u, node)
				if m.account.RateQ32.Sign() != 0 || m.account.Reserved.Sign() != 0 || m.account.Flows.Sign() != 0 || m.pair.RateQ32.Sign() != 0 || m.pair.Claimable.Sign() != 0 || m.pair.Debt.Sign() != 0 {
					return fmt.Errorf("with %s: %+v of %+v", node.Name, m.pair, m.account)
				}
			}
			spent := new(big.Int).Sub(parseTokens(t, enough).Big(), c.balance(t, u))
			if spent.Cmp(claimed) != 0 {
				return fmt.Errorf("%s wei were spent, nodes claimed %s", spent, claimed)
			}
			return nil
		})
	}
}

// checkHost looks, while the node runs, for what jobs that are over have left on
// it.
func (c *chaos) checkHost(t *testing.T, node devnet.Node) {
	t.Helper()
	c.advance(t, c.now(t)+1000) // Past the end of every promise.
	eventually(t, node.Name+" has nothing left of any job", func() error {
		if pids := hypervisors(t, node.DataDir); len(pids) > 0 {
			return fmt.Errorf("processes %v", pids)
		}
		if err := empty(node.DataDir, "vms"); err != nil {
			return err
		}
		if vms := rows[state.VM](t, node, "vms", ""); len(vms) > 0 {
			return fmt.Errorf("%d VM rows, such as %+v", len(vms), vms[0])
		}
		if promises := rows[state.Acceptance](t, node, "acceptances", ""); len(promises) > 0 {
			return fmt.Errorf("%d promises, such as %+v", len(promises), promises[0])
		}
		return noNetwork(t, node)
	})
}

// noNetwork reports devices and rules of machines.
func noNetwork(t *testing.T, node devnet.Node) error {
	t.Helper()
	name := vmnet.NameOf(node.DataDir)
	devices, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, d := range devices {
		alias, _ := os.ReadFile(filepath.Join("/sys/class/net", d.Name, "ifalias"))
		if strings.HasPrefix(string(alias), "aleph:"+name+":") {
			return fmt.Errorf("device %s, %s", d.Name, alias)
		}
	}
	if os.Geteuid() != 0 {
		return nil
	}
	out, err := exec.CommandContext(t.Context(), "nft", "list", "tables").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "aleph_"+name) {
		return err
	}
	if out, err = exec.CommandContext(t.Context(), "nft", "list", "table", "inet", "aleph_"+name).CombinedOutput(); err != nil {
		return err
	}
	if strings.Contains(string(out), "elements = {") {
		return fmt.Errorf("rules of machines: %s", out)
	}
	if out, err = exec.CommandContext(t.Context(), "nft", "list", "table", "netdev", "aleph_"+name).CombinedOutput(); err == nil && strings.Contains(string(out), "hook ingress") {
		return fmt.Errorf("rules at devices of machines: %s", out)
	}
	return nil
}

// now is the chain's time.
func (n *network) now(t *testing.T) int64 {
	t.Helper()
	head, err := n.eth.HeaderByNumber(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return int64(head.Time)
}
