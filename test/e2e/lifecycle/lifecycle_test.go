//go:build e2e

// Package lifecycle_test does thousands of random things to a compute node and to what
// it needs, and compares after each batch of them what is on the host with what should
// be: processes, devices, rules, files, locks and rows.
package lifecycle_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// What a run is made of, unless the environment says otherwise.
	seedVar, stepsVar = "ALEPH_STEPSEED", "ALEPH_STEPS"
	stepsUsual        = 300
	realSteps         = 60
	// batch is how many steps come between two looks, done by so many hands.
	batch, hands = 50, 4
	// settleMax bounds how long it takes until all is as it should be.
	settleMax = 90 * time.Second
	owners    = 3
	// backMax is how long steps wait for a node that was killed.
	backMax = 3 * time.Second
)

// TestRandomLifecyclesLeaveNothing does steps from a seed. Machines are processes
// that play QEMU; the daemon, the chain, the disks and the network are real.
func TestRandomLifecyclesLeaveNothing(t *testing.T) {
	if !apart(t) {
		return
	}
	seed, count := uint64(number(t, seedVar, time.Now().UnixNano())), int(number(t, stepsVar, stepsUsual))
	t.Logf("%s=%d %s=%d do these steps again", seedVar, seed, stepsVar, count)
	bins, stub := builds(t)
	image := bootable(t, stub)
	c := newChaos(newWorld(t, owners, bins, stub, func(cfg *config.Config) { cfg.Functions.Image = image }))
	c.play(seed, count, usual())
	c.finish()
}

// TestRandomLifecyclesOfRealMachines is the same with QEMU, and few steps. The disks
// are blank, so the machines are up when their process is, and no guest does anything
// by itself.
func TestRandomLifecyclesOfRealMachines(t *testing.T) {
	if !apart(t) {
		return
	}
	seed := uint64(number(t, seedVar, time.Now().UnixNano()))
	t.Logf("%s=%d does these steps again", seedVar, seed)
	bins, _ := builds(t)
	c := newChaos(newWorld(t, owners, bins, "", func(*config.Config) {}))
	steps := usual()
	for _, what := range []string{"call", "forget program", "power off", "panic", "reset"} {
		delete(steps, what)
	}
	c.play(seed, realSteps, steps)
	c.finish()
}

func newChaos(w *world) *chaos {
	return &chaos{world: w, did: map[string]int{}, took: map[string]time.Duration{}}
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

// bootable makes an image with a kernel, which nobody will execute: any program is one.
func bootable(t *testing.T, program string) string {
	t.Helper()
	kernel, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/function.aleph"
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	manifest := []byte(`{"version": 1, "name": "stub", "kernel": "vmlinuz", "initrd": "initrd", "rootfs": "root.raw", "format": "raw", "cmdline": "console=ttyS0", "agent": true}`)
	for _, f := range []struct {
		name string
		raw  []byte
	}{{"manifest.json", manifest}, {"vmlinuz", kernel}, {"initrd", make([]byte, 4096)}, {"root.raw", make([]byte, 1<<20)}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.raw)), Mode: 0o600, Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

// member returns a file of a tar.
func member(archive []byte, name string) (io.Reader, error) {
	files := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := files.Next()
		if err != nil {
			return nil, fmt.Errorf("archive without %s: %w", name, err)
		}
		if h.Name == name {
			return files, nil
		}
	}
}

// play does steps of a seed, each as often as said, and looks after each batch.
func (c *chaos) play(seed uint64, count int, usual map[string]int) {
	c.Helper()
	c.settle()
	r := rand.New(rand.NewPCG(seed, 0))
	var known []string
	for _, what := range slices.Sorted(maps.Keys(usual)) {
		known = append(known, slices.Repeat([]string{what}, usual[what])...)
	}
	began := time.Now()
	for n := 0; n < count && !c.Failed(); {
		steps := make([]step, min(batch, count-n))
		for i := range steps {
			if n == 0 && i < hands*2 { // So that there is something to do something with.
				steps[i] = step{"create", r.Uint64()}
				continue
			}
			steps[i] = step{known[r.IntN(len(known))], r.Uint64()}
		}
		c.playSome(steps)
		n += len(steps)
		played := time.Since(began)
		c.settle()
		c.Logf("%d steps after %v, the last batch was settled in %v", n, time.Since(began).Round(time.Second), (time.Since(began) - played).Round(10*time.Millisecond))
	}
}

// playSome does steps, some at a time, and sees to it meanwhile that no machine runs
// twice.
func (c *chaos) playSome(steps []step) {
	c.Helper()
	c.trace = nil
	next, over := make(chan step), make(chan struct{})
	var working, watching sync.WaitGroup
	watching.Go(func() {
		for {
			for _, dir := range twice(c.dir) {
				c.Errorf("two processes run in %s", dir)
			}
			select {
			case <-over:
				return
			case <-time.After(poll):
			}
		}
	})
	for range hands {
		working.Go(func() {
			for s := range next {
				began := time.Now()
				said := c.do(c.Context(), s)
				c.note(s, said, time.Since(began))
				if strings.HasSuffix(said, cutOff) { // As whoever asks waits for a node that is away.
					c.awaitBack()
				}
			}
		})
	}
	for _, s := range steps {
		next <- s
	}
	close(next)
	working.Wait()
	close(over)
	watching.Wait()
}

// awaitBack waits a while until the node is back, which it may not be on a full disk.
func (c *chaos) awaitBack() {
	ctx, cancel := context.WithTimeout(c.Context(), backMax)
	defer cancel()
	_ = c.node.awaitReady(ctx) // What is asked next says so.
}

// settle gives the node what it needs, lets time pass, and waits until all is as it
// should be.
func (c *chaos) settle() {
	c.Helper()
	c.ccn.set(false)
	c.rpc.set(false)
	ctx, cancel := context.WithTimeout(c.Context(), settleMax)
	defer cancel()
	if err := c.node.awaitReady(ctx); err != nil {
		c.fail(err)
	}
	patient, end := context.WithTimeout(ctx, backMax)
	defer end()
	poor := false
	for _, o := range c.owners {
		poor = poor || o.broke
	}
	if poor { // Once the node has been told that they do not pay, and once more after the grace.
		c.passGrace(ctx)
	}
	for {
		err := c.resolve(ctx)
		var want expected
		if err == nil {
			want, err = c.expect(ctx, patient)
		}
		if err == nil {
			err = c.compare(want)
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			c.fail(fmt.Errorf("not as it should be for %v: %w", settleMax, err))
		case <-time.After(2 * poll):
		}
	}
}

// passGrace lets so much time pass on the chain that who did not pay before is late.
func (c *chaos) passGrace(ctx context.Context) {
	const grace = 65 * time.Second
	select {
	case <-ctx.Done():
	case <-time.After(2500 * time.Millisecond): // Two looks at who pays.
	}
	c.chain.Chain.IncreaseTime(grace)
}

func (c *chaos) fail(err error) {
	c.Helper()
	if errors.Is(err, context.Canceled) {
		return
	}
	c.Fatalf("%v\nsteps:\n%s\nthe node:\n%s", err, strings.Join(c.trace, "\n"), c.node.tail())
}

// resolve orders something definite of the machines about which nobody knows.
func (c *chaos) resolve(ctx context.Context) error {
	c.list.Lock()
	defer c.list.Unlock()
	var failed error
	list := false
	for _, m := range append(slices.Clone(c.machines), c.programs...) {
		switch {
		case !m.unsure || m.forgotten:
		case m.scheduled:
			list = true
		default:
			what := "start"
			if c.ending || m.owner.broke || m.hash[0] < '8' {
				what = "erase"
			}
			if c.tell(ctx, what, m); m.unsure {
				failed = errors.Join(failed, fmt.Errorf("%s %.8s", what, m.hash))
			}
		}
	}
	if list {
		failed = errors.Join(failed, c.allocateAll(ctx))
	}
	return failed
}

// expect says what should be there. A job that has no node when patient ends is stopped.
func (c *chaos) expect(ctx, patient context.Context) (expected, error) {
	e := expected{map[message.ItemHash]bool{}, map[message.ItemHash]bool{}, map[message.ItemHash]bool{}}
	for _, m := range c.machines {
		switch {
		case m.unsure && !m.forgotten:
			return e, fmt.Errorf("nobody knows of %.8s", m.hash)
		case m.want == up && m.owner.broke && !m.scheduled, m.want == down:
			e.down[m.hash] = true
		case m.want == up:
			e.up[m.hash] = true
		}
	}
	for _, m := range c.programs {
		if m.listed && !m.forgotten {
			e.programs[m.hash] = true
		}
	}
	for _, o := range c.jobs {
		if o.over {
			continue
		}
		j, err := c.client.Job(ctx, o.spec)
		switch {
		case err != nil:
			return e, fmt.Errorf("job %.8s: %w", o.spec, err)
		case j.Status.Ended():
			o.over = true
		case j.Status == "running":
			e.up[o.spec] = true
		default:
			if patient.Err() != nil { // Its node was away when it was offered: whoever wants it offers it again.
				_, _ = c.client.Stop(ctx, c.payer, o.spec)
			}
			return e, fmt.Errorf("job %.8s is %s", o.spec, j.Status)
		}
	}
	return e, nil
}

// finish ends everything, and nothing may be left.
func (c *chaos) finish() {
	c.Helper()
	if c.Failed() {
		return
	}
	for _, o := range c.owners {
		if o.broke {
			c.must(c.credit(o, plenty))
			o.broke = false
		}
	}
	for _, m := range append(slices.Clone(c.machines), c.programs...) {
		m.listed = false
	}
	_, err := c.allocate(c.Context(), nil, nil)
	c.must(err)
	for _, m := range c.machines {
		if m.scheduled {
			m.want, m.unsure = gone, false
		} else if m.want != gone {
			m.unsure = true
		}
	}
	c.ending = true
	for _, m := range c.programs {
		if !m.forgotten {
			c.must(c.forget(m.owner, m.hash))
			m.forgotten = true
		}
	}
	for _, o := range c.jobs {
		if !o.over {
			_, _ = c.client.Stop(c.Context(), c.payer, o.spec) // It may have ended.
		}
	}
	c.settle()
	c.Logf("%d machines, %d programs, %d jobs; the node ended %d times by itself: %v; %v", len(c.machines), len(c.programs), len(c.jobs), c.node.ends, c.did, c.took)
	for _, m := range c.programs {
		if status, body, err := c.ask(c.Context(), http.MethodGet, c.node.url+"/vm/"+string(m.hash)+"/", nil); status != http.StatusNotFound {
			c.Errorf("a call of a forgotten program: %d %s (%v)", status, body, err)
		}
	}
	if left := processes(c.dir); len(left) > 0 {
		c.Errorf("processes are left: %v", left)
	}
	for kind, n := range c.leaks() {
		if n != 0 {
			c.Errorf("the node counts %d leaks of kind %s", n, kind)
		}
	}
}

// leaks are those that the node itself counts, by kind.
func (c *chaos) leaks() map[string]int {
	c.Helper()
	status, body, err := c.ask(c.Context(), http.MethodGet, c.node.url+"/metrics", nil)
	if err != nil || status != http.StatusOK {
		c.Fatalf("metrics: %d (%v)", status, err)
	}
	out := map[string]int{}
	for line := range strings.Lines(string(body)) {
		var n int
		kind, rest, ok := strings.Cut(strings.TrimPrefix(line, `aleph_executor_leaks{kind="`), `"}`)
		if _, err := fmt.Sscan(rest, &n); ok && strings.HasPrefix(line, "aleph_executor_leaks{") && err == nil {
			out[kind] = n
		}
	}
	if len(out) == 0 {
		c.Errorf("the node counts no leaks")
	}
	return out
}

// TestTheNodeFindsItsLeaks plants some in a node that runs.
func TestTheNodeFindsItsLeaks(t *testing.T) {
	if !apart(t) {
		return
	}
	bins, stub := builds(t)
	c := newChaos(newWorld(t, 1, bins, stub, func(*config.Config) {}))
	c.settle()
	c.tell(t.Context(), "start", c.publish(c.owners[0]))
	c.settle()
	for kind, n := range c.leaks() {
		if n != 0 {
			t.Errorf("%d leaks of kind %s, and there are none", n, kind)
		}
	}
	stray := message.HashOf([]byte("stray"))
	dir := filepath.Join(c.dir, "vms", string(stray))
	vmmtest.Occupy(t, dir)
	lock, err := vmm.LockDir(filepath.Join(c.dir, "vms", string(message.HashOf([]byte("locked")))))
	c.must(err)
	defer lock.Close()
	plantDevice(t, vmnet.NameOf(c.dir), string(stray))

	// The node tells for some seconds what it found last.
	want := map[string]int{"process": 1, "lock": 1, "disk": 2, "device": 1, "rule": 1, "row": 0}
	got, end := c.leaks(), time.After(time.Minute)
	for again, over := time.Tick(time.Second), false; !over && !maps.Equal(got, want); {
		select {
		case <-again:
			got = c.leaks()
		case <-end:
			over = true
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the node counts %v, want %v", got, want)
	}
	if left := processes(c.dir); len(left) != 2 {
		t.Errorf("processes %v, want that of the machine and the planted one", left)
	}
}
