//go:build e2e

package lifecycle_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

// step is one random thing to do, and a number to choose whom to do it to.
type step struct {
	what   string
	choice uint64
}

// usual are the steps, each with how often it comes among all.
func usual() map[string]int {
	return map[string]int{
		"create": 9, "start": 7, "stop": 7, "reboot": 6, "reinstall": 4, "erase": 6, "expire": 3, "forget": 2,
		"list": 7, "call": 12, "forget program": 1, "ports": 4, "backup": 4, "restore": 3,
		"job": 3, "stop job": 3, "broke": 1, "paid": 2,
		"kill machine": 6, "power off": 3, "panic": 3, "reset": 1,
		"kill node": 2, "other build": 1, "core away": 2, "core back": 3, "rpc away": 2, "rpc back": 3, "disk full": 2,
	}
}

// Bounds of what lives at once.
const (
	leasesMax   = 16
	jobsMax     = 4
	programsMax = 4
	// fullFor is for how long a disk is full.
	fullFor = time.Second
	// offerSeconds is for how long an offer holds.
	offerSeconds = 60
)

// want is what should become of a machine.
type want int

const (
	up want = iota
	down
	gone
)

// machine is one of the message network, or a program.
type machine struct {
	hash  message.ItemHash
	owner *owner

	mu        sync.Mutex // Held while something is done with it.
	want      want       // guarded by mu
	unsure    bool       // Nobody said what became of the last order; guarded by mu
	forgotten bool       // guarded by mu
	listed    bool       // The scheduler's list names it; guarded by chaos.list
	scheduled bool       // It is paid by what is held, so that the list decides.
	backup    string     // Path of its newest backup; guarded by mu
}

// opened is a job that was offered, or may have been.
type opened struct {
	spec message.ItemHash
	over bool
}

// chaos is the state of a run.
type chaos struct {
	*world

	list sync.RWMutex // Held to write while the scheduler's list is sent.

	mu       sync.Mutex
	machines []*machine     // guarded by mu
	programs []*machine     // guarded by mu
	jobs     []*opened      // guarded by mu
	did      map[string]int // Steps, and those that were done; guarded by mu
	took     map[string]time.Duration
	trace    []string // Of the steps since the last look; guarded by mu
	ending   bool     // Nothing is started any more.
}

func (c *chaos) note(s step, outcome string, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.did[s.what]++
	if strings.HasSuffix(outcome, done) {
		c.did[s.what+": "+done]++
	}
	c.took[s.what] += took.Round(time.Millisecond)
	c.trace = append(c.trace, time.Now().Format("15:04:05.000 ")+s.what+": "+outcome+" ("+took.Round(time.Millisecond).String()+")")
}

// What steps say of themselves beside what the node said.
const (
	done   = "done"
	nobody = "nobody there"
	cutOff = "cut off"
)

// do does a step, and says in a word how it went. Whatever the node answers is no
// failure: it is killed, and what it needs is taken from it.
func (c *chaos) do(ctx context.Context, s step) string {
	ctx, cancel := context.WithTimeout(ctx, requestMax)
	defer cancel()
	if f, ok := map[string]func(context.Context, uint64) string{
		"create": c.create, "list": c.sendList, "call": c.call, "forget program": c.forgetProgram, "job": c.openJob, "stop job": c.stopJob,
		"broke": c.ruin, "paid": c.enrich, "other build": func(context.Context, uint64) string { return yes(c.node.upgrade()) },
		"kill node": func(context.Context, uint64) string { return yes(c.node.end(syscall.SIGKILL)) },
	}[s.what]; ok {
		return f(ctx, s.choice)
	}
	if sig, ok := map[string]syscall.Signal{
		"kill machine": syscall.SIGKILL, "power off": syscall.SIGUSR1, "panic": syscall.SIGUSR2, "reset": syscall.SIGHUP,
	}[s.what]; ok {
		all := processes(c.dir)
		if len(all) == 0 {
			return nobody
		}
		return yes(syscall.Kill(all[s.choice%uint64(len(all))].pid, sig) == nil)
	}
	switch s.what {
	case "core away", "core back":
		c.ccn.set(s.what == "core away")
		return done
	case "rpc away", "rpc back":
		c.rpc.set(s.what == "rpc away")
		return done
	case "disk full":
		return c.fillDisk()
	}
	return c.order(ctx, s)
}

// fillDisk leaves the node no room on its disk for a while.
func (c *chaos) fillDisk() string {
	c.node.excuse(1)
	defer time.AfterFunc(fullFor, func() { c.node.excuse(-1) })
	err := fill(c.dir)
	<-time.After(fullFor)
	if err = errors.Join(err, free(c.dir)); err != nil {
		c.Errorf("fill the disk: %v", err)
	}
	return done
}

func yes(did bool) string {
	if did {
		return done
	}
	return nobody
}

// pick takes a machine for which fits, and nobody does anything with.
func (c *chaos) pick(choice uint64, fits func(*machine) bool) (m *machine, release func()) {
	c.mu.Lock()
	all := slices.Clone(c.machines)
	c.mu.Unlock()
	for i := range all {
		m := all[(choice+uint64(i))%uint64(len(all))]
		if !m.mu.TryLock() {
			continue
		}
		if !m.owner.mu.TryRLock() {
			m.mu.Unlock()
			continue
		}
		if fits(m) {
			return m, func() { m.owner.mu.RUnlock(); m.mu.Unlock() }
		}
		m.owner.mu.RUnlock()
		m.mu.Unlock()
	}
	return nil, nil
}

// order gives an order about a machine.
func (c *chaos) order(ctx context.Context, s step) string {
	c.list.RLock()
	defer c.list.RUnlock()
	sure := func(m *machine) bool { return m.want == up && !m.unsure }
	runs := func(m *machine) bool { return sure(m) && !m.owner.broke }
	fits, ok := map[string]func(*machine) bool{
		"start": func(m *machine) bool { return !m.scheduled && !m.forgotten && !m.owner.broke },
		"stop":  sure, "erase": func(m *machine) bool { return m.want != gone },
		"forget": func(m *machine) bool { return !m.forgotten }, "ports": sure,
		"reboot": runs, "reinstall": runs, "expire": runs, "backup": runs,
		"restore": func(m *machine) bool { return runs(m) && m.backup != "" },
	}[s.what]
	if !ok {
		panic("BUG: no step is " + s.what)
	}
	m, release := c.pick(s.choice, fits)
	if m == nil {
		return nobody
	}
	defer release()
	return fmt.Sprintf("%.8s %s", m.hash, c.tell(ctx, s.what, m))
}

// tell orders something of a machine. The caller holds it.
func (c *chaos) tell(ctx context.Context, what string, m *machine) string {
	path := "/control/machine/" + string(m.hash)
	wants := map[string]want{"start": up, "stop": down, "reboot": up, "reinstall": up, "erase": gone, "restore": up, "expire": down}
	var status int
	var body []byte
	var err error
	switch what {
	case "start":
		status, body, err = c.ask(ctx, http.MethodPost, c.node.url+"/control/allocation/notify", fields{"instance": m.hash})
	case "forget":
		if err := c.forget(m.owner, m.hash); err != nil {
			c.Errorf("forget %s: %v", m.hash, err)
			return err.Error()
		}
		m.want, m.forgotten, m.unsure = gone, true, false
		return done
	case "ports":
		return c.changePorts(ctx, m)
	case "backup":
		return c.backUp(ctx, m)
	case "restore":
		status, body, err = c.restore(ctx, m)
	case "expire":
		if status, body, err = c.owned(ctx, m.owner, http.MethodPost, path+"/expire?timeout=1", nil); err == nil && status == http.StatusOK {
			err = c.awaitDown(ctx, m)
		}
	default:
		status, body, err = c.owned(ctx, m.owner, http.MethodPost, path+"/"+what, nil)
	}
	switch {
	case err == nil && status == http.StatusOK:
		m.want, m.unsure = wants[what], false
		return done
	case what == "erase" && err == nil && status == http.StatusNotFound:
		m.want, m.unsure = gone, false
		return "not there"
	}
	m.unsure = true
	if err != nil {
		return cutOff
	}
	return fmt.Sprintf("%d %.100s", status, body)
}

// awaitDown waits until a machine that expires does not run.
func (c *chaos) awaitDown(ctx context.Context, m *machine) error {
	for {
		status, body, err := c.ask(ctx, http.MethodGet, c.node.url+"/v2/about/executions/list", nil)
		var all map[message.ItemHash]struct{ Running bool }
		if err == nil && status == http.StatusOK && json.Unmarshal(body, &all) == nil && !all[m.hash].Running {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(4 * poll):
		}
	}
}

func (c *chaos) changePorts(ctx context.Context, m *machine) string {
	n := c.next()
	ports := fields{fmt.Sprint(1000 + n%3): fields{"tcp": true, "udp": n%2 == 0}, "8080": fields{"tcp": n%5 > 1, "udp": false}}
	_, err := c.send(m.owner.key, message.TypeAggregate, fields{"key": "port-forwarding", "content": fields{string(m.hash): fields{"ports": ports}}}, "")
	if err != nil {
		c.Errorf("ports of %s: %v", m.hash, err)
		return err.Error()
	}
	status, body, err := c.ask(ctx, http.MethodPost, c.node.url+"/control/machine/"+string(m.hash)+"/update", nil)
	if err != nil {
		return cutOff
	}
	return fmt.Sprintf("%d %.60s", status, body)
}

func (c *chaos) backUp(ctx context.Context, m *machine) string {
	path := "/control/machine/" + string(m.hash) + "/backup"
	status, body, err := c.owned(ctx, m.owner, http.MethodPost, path+"?include_volumes=true", nil)
	for err == nil && (status == http.StatusAccepted || status == http.StatusOK) {
		var made struct {
			URL string `json:"download_url"`
		}
		if status == http.StatusOK && json.Unmarshal(body, &made) == nil && made.URL != "" {
			_, rest, _ := strings.Cut(made.URL, "/control/")
			m.backup = "/control/" + rest
			return done
		}
		select {
		case <-ctx.Done():
			return cutOff
		case <-time.After(4 * poll):
		}
		status, body, err = c.owned(ctx, m.owner, http.MethodGet, path, nil)
	}
	if err != nil {
		return cutOff
	}
	return fmt.Sprintf("%d %.100s", status, body)
}

// restore gives a machine the disk of its backup: the archive begins with it.
func (c *chaos) restore(ctx context.Context, m *machine) (int, []byte, error) {
	status, archive, err := c.ask(ctx, http.MethodGet, c.node.url+m.backup, nil)
	if err != nil || status != http.StatusOK {
		m.backup = ""
		return status, archive, err
	}
	disk, err := member(archive, "rootfs.qcow2")
	if err != nil {
		c.Errorf("backup of %s: %v", m.hash, err)
		return 0, nil, err
	}
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, err := parts.CreateFormFile("rootfs", "rootfs.qcow2")
	if err == nil {
		_, err = io.Copy(part, disk)
	}
	if err = errors.Join(err, parts.Close()); err != nil {
		return 0, nil, err
	}
	return c.owned(ctx, m.owner, http.MethodPost, "/control/machine/"+string(m.hash)+"/restore", &form, "Content-Type", parts.FormDataContentType())
}

// create publishes an instance. One that credits pay is asked for at once; one that is
// held for waits for the list.
func (c *chaos) create(ctx context.Context, choice uint64) string {
	c.list.RLock()
	defer c.list.RUnlock()
	c.mu.Lock()
	live := 0
	for _, m := range c.machines {
		if !m.forgotten {
			live++
		}
	}
	c.mu.Unlock()
	o := c.owners[choice%uint64(len(c.owners))]
	if live >= leasesMax || !o.mu.TryRLock() {
		return nobody
	}
	defer o.mu.RUnlock()
	if o.broke {
		return "without credits"
	}
	m := &machine{owner: o, want: gone, scheduled: choice%3 == 0}
	payment := message.PayCredit
	if m.scheduled {
		payment = message.PayHold
	}
	var err error
	if m.hash, err = c.instance(o, payment); err != nil {
		c.Errorf("create: %v", err)
		return err.Error()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.mu.Lock()
	c.machines = append(c.machines, m)
	c.mu.Unlock()
	if m.scheduled {
		return "published"
	}
	return fmt.Sprintf("%.8s %s", m.hash, c.tell(ctx, "start", m))
}

// publish publishes an instance that credits pay.
func (c *chaos) publish(o *owner) *machine {
	c.Helper()
	m := &machine{owner: o, want: gone}
	var err error
	if m.hash, err = c.instance(o, message.PayCredit); err != nil {
		c.Fatal(err)
	}
	c.machines = append(c.machines, m)
	return m
}

// sendList adds something to the scheduler's list or takes something away, and sends it.
func (c *chaos) sendList(ctx context.Context, choice uint64) string {
	c.list.Lock()
	defer c.list.Unlock()
	c.mu.Lock()
	all := slices.DeleteFunc(append(slices.Clone(c.machines), c.programs...), func(m *machine) bool { return !m.scheduled || m.forgotten })
	c.mu.Unlock()
	if len(all) == 0 {
		return nobody
	}
	m := all[choice%uint64(len(all))]
	m.listed = !m.listed
	if err := c.allocateAll(ctx); err != nil {
		return cutOff
	}
	return done
}

// allocateAll sends the list. The caller holds it.
func (c *chaos) allocateAll(ctx context.Context) error {
	var instances, programs []message.ItemHash
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.machines {
		if m.listed && !m.forgotten {
			instances = append(instances, m.hash)
		}
	}
	for _, m := range c.programs {
		if m.listed && !m.forgotten {
			programs = append(programs, m.hash)
		}
	}
	runs, err := c.allocate(ctx, instances, programs)
	for _, m := range append(slices.Clone(c.machines), c.programs...) {
		switch {
		case !m.scheduled || m.forgotten:
		case err != nil:
			m.unsure = true
		case runs[m.hash]:
			m.want, m.unsure = up, false
		case m.listed:
			m.unsure = true
		default:
			m.want, m.unsure = gone, false
		}
	}
	return err
}

// call calls a program, a new one if there are few.
func (c *chaos) call(ctx context.Context, choice uint64) string {
	c.mu.Lock()
	all := slices.DeleteFunc(slices.Clone(c.programs), func(m *machine) bool { return m.forgotten })
	c.mu.Unlock()
	if len(all) < programsMax {
		m := &machine{owner: c.owners[choice%uint64(len(c.owners))], want: gone, scheduled: choice%2 == 0}
		var err error
		if m.hash, err = c.program(m.owner); err != nil {
			c.Errorf("publish program: %v", err)
			return err.Error()
		}
		c.mu.Lock()
		c.programs = append(c.programs, m)
		c.mu.Unlock()
		all = append(all, m)
	}
	m := all[choice%uint64(len(all))]
	path := []string{"/", "/", "/", "/slow", "/die"}[choice>>8%5]
	status, body, err := c.ask(ctx, http.MethodGet, c.node.url+"/vm/"+string(m.hash)+path, nil)
	switch {
	case err != nil:
		return cutOff
	case status == http.StatusOK:
		return done
	}
	return fmt.Sprintf("%d %.60s", status, body)
}

func (c *chaos) forgetProgram(_ context.Context, choice uint64) string {
	c.list.Lock()
	defer c.list.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(c.programs), func(m *machine) bool { return m.forgotten })
	if len(all) == 0 {
		return nobody
	}
	m := all[choice%uint64(len(all))]
	if err := c.forget(m.owner, m.hash); err != nil {
		c.Errorf("forget program: %v", err)
		return err.Error()
	}
	m.forgotten, m.unsure, m.want = true, false, gone
	return done
}

// ruin takes an owner's credits away, and lets more time pass than machines run unpaid.
func (c *chaos) ruin(_ context.Context, choice uint64) string {
	o := c.owners[choice%uint64(len(c.owners))]
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.broke {
		return nobody
	}
	if err := c.credit(o, -plenty); err != nil {
		c.Errorf("take credits: %v", err)
		return err.Error()
	}
	o.broke = true
	return done
}

func (c *chaos) enrich(_ context.Context, choice uint64) string {
	for i := range c.owners {
		o := c.owners[(choice+uint64(i))%uint64(len(c.owners))]
		o.mu.Lock()
		if !o.broke {
			o.mu.Unlock()
			continue
		}
		err := c.credit(o, plenty)
		o.broke = err != nil
		o.mu.Unlock()
		if err != nil {
			c.Errorf("give credits: %v", err)
			return err.Error()
		}
		return done
	}
	return nobody
}

// openJob offers a job on the chain.
func (c *chaos) openJob(ctx context.Context, choice uint64) string {
	c.mu.Lock()
	live := 0
	for _, o := range c.jobs {
		if !o.over {
			live++
		}
	}
	c.mu.Unlock()
	if live >= jobsMax {
		return nobody
	}
	o, err := c.offer(ctx, choice)
	if o != nil {
		c.mu.Lock()
		c.jobs = append(c.jobs, o)
		c.mu.Unlock()
	}
	return outcome(err)
}

func (c *chaos) offer(ctx context.Context, choice uint64) (*opened, error) {
	spec := aleph.InstanceSpec{Image: c.image, Name: fmt.Sprintf("%x", choice), VCPUs: 1, MemoryMiB: 128, DiskMiB: 16}
	content, err := spec.Content(c.payer.Address(), time.Now())
	if err != nil {
		return nil, err
	}
	info, err := c.client.Info(ctx)
	if err != nil {
		return nil, err
	}
	q, err := c.client.Quote(ctx, aleph.QuoteRequest{Content: content})
	if err != nil {
		return nil, err
	}
	e, err := c.payer.SignContent(message.TypeInstance, content, content.Time)
	if err != nil {
		return nil, err
	}
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 255))
	if err != nil {
		return nil, err
	}
	offer := &job.Offer{Spec: e.ItemHash, Payer: c.payer.Address(), Token: job.TokenALEPH, MaxRateQ32: q.RateQ32.Big(), Deadline: info.Chain.Time + offerSeconds, Nonce: nonce}
	sig, err := c.payer.SignOffer(info.Jobs(), offer)
	if err != nil {
		return nil, err
	}
	_, err = c.client.OpenJob(ctx, aleph.JobRequest{Message: e, Offer: offer, Signature: sig})
	return &opened{spec: e.ItemHash}, err
}

func outcome(err error) string {
	if err == nil {
		return done
	}
	return fmt.Sprintf("%.100s", err)
}

func (c *chaos) stopJob(ctx context.Context, choice uint64) string {
	c.mu.Lock()
	all := slices.DeleteFunc(slices.Clone(c.jobs), func(o *opened) bool { return o.over })
	c.mu.Unlock()
	if len(all) == 0 {
		return nobody
	}
	o := all[choice%uint64(len(all))]
	_, err := c.client.Stop(ctx, c.payer, o.spec)
	return outcome(err)
}
