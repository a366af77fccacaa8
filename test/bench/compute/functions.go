package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

const (
	groupFunctions = "A function that is called and has no machine"

	coldMedianAim = 400 // ms
	coldHighAim   = 800
	functionMiB   = 256
	// bootEvery is which of the calls has a twin that boots: those take longest.
	bootEvery = 4
)

// program is what is called. At /hold it takes its time, so that its machine can be
// looked at.
const program = `
import time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/hold":
        time.sleep(3)
    await send({"type": "http.response.start", "status": 200, "headers": [[b"content-type", b"text/plain"]]})
    await send({"type": "http.response.body", "body": b"hello"})
`

// functionWorld is a world with a program.
type functionWorld struct {
	*world
	function message.ItemHash
	image    vmm.Image // Of functions; its disk is the runtime.
	runtime  message.ItemHash
	code     message.ItemHash
}

// newFunctionWorld makes a world whose compute node stops a machine that was not called
// for so long.
func (b *bench) newFunctionWorld(ctx context.Context, reuse string) (_ *functionWorld, err error) {
	path, err := filepath.Abs(b.functionImage)
	if err != nil {
		return nil, fmt.Errorf("find image of functions: %w", err)
	}
	w, err := b.newWorld(ctx, map[string]fields{"functions": {
		"image": path, "reuse_timeout": reuse, "init_timeout": "2m", "config_timeout": "2m", "restore_timeout": "2m",
	}})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(context.WithoutCancel(ctx)))
		}
	}()
	f := &functionWorld{world: w}
	if f.image, err = vmm.OpenImage(ctx, path, filepath.Join(w.dir, "images")); err != nil {
		return nil, fmt.Errorf("%w; 'make function-image' makes it", err)
	}
	if f.runtime, err = w.storeFile(ctx, f.image.Rootfs); err != nil {
		return nil, err
	}
	if f.code, err = w.store(ctx, []byte(program)); err != nil {
		return nil, err
	}
	f.function, err = f.publish(ctx, "program")
	return f, err
}

// publish publishes the program, with snapshots of a level.
func (f *functionWorld) publish(ctx context.Context, snapshot string) (message.ItemHash, error) {
	return f.send(ctx, f.owner, message.TypeProgram, fields{
		"type": "vm-function", "allow_amend": false, "variables": fields{}, "volumes": []fields{}, "metadata": fields{"snapshot": snapshot},
		"environment": fields{"reproducible": false, "internet": true, "aleph_api": false, "shared_cache": false},
		"resources":   fields{"vcpus": 1, "memory": functionMiB, "seconds": 60},
		"code":        fields{"encoding": "plain", "entrypoint": "app", "interface": "asgi", "ref": f.code, "use_latest": false},
		"runtime":     fields{"ref": f.runtime, "use_latest": false, "comment": "bench"},
		"on":          fields{"http": true, "persistent": false},
	}, "")
}

// call calls a program through the node, and returns the milliseconds.
func (f *functionWorld) call(ctx context.Context, fn message.ItemHash, path string) (float64, error) {
	began := time.Now()
	status, body, err := request(ctx, http.MethodGet, f.compute.url+"/vm/"+string(fn)+path, nil)
	took := milliseconds(time.Since(began))
	if err := want("call of a program", status, body, err, http.StatusOK); err != nil {
		return 0, err
	}
	if string(body) != "hello" {
		return 0, fmt.Errorf("a program answered %.100q", body)
	}
	return took, nil
}

// machineDir is where the machine of a program works.
func (f *functionWorld) machineDir(fn message.ItemHash) string {
	return filepath.Join(f.compute.dir, "functions", "programs", string(fn), "machine")
}

// awaitGone waits until the machine of a program has ended, and nothing is left of it.
func (f *functionWorld) awaitGone(ctx context.Context, fn message.ItemHash) error {
	return until(ctx, "the end of a machine", 5*time.Millisecond, func() (bool, error) {
		_, err := os.Stat(f.machineDir(fn))
		return errors.Is(err, os.ErrNotExist), nil
	})
}

// awaitSnapshot waits until a snapshot was made, and returns its directory.
func (f *functionWorld) awaitSnapshot(ctx context.Context) (dir string, err error) {
	err = until(ctx, "a snapshot", 20*time.Millisecond, func() (bool, error) {
		found, err := filepath.Glob(filepath.Join(f.compute.dir, "functions", "snapshots", "*", "vm", "snapshot.json"))
		if err != nil || len(found) == 0 {
			return false, err
		}
		dir = filepath.Dir(found[0])
		_, err = os.Stat(filepath.Join(f.compute.dir, "functions", "template"))
		return errors.Is(err, os.ErrNotExist), nil
	})
	return dir, err
}

// commandOf returns how the node runs the machine of the program.
func (f *functionWorld) commandOf(ctx context.Context) (c *command, err error) {
	done := make(chan error, 1)
	go func() {
		_, err := f.call(ctx, f.function, "/hold")
		done <- err
	}()
	var last error
	err = until(ctx, "the process of a machine", 10*time.Millisecond, func() (bool, error) {
		select {
		case err := <-done:
			return false, errors.Join(errors.New("the call ended before its machine was seen"), err, last)
		default:
		}
		c, last = commandIn(f.machineDir(f.function))
		return last == nil && !strings.HasSuffix(c.args[0], "sh"), nil
	})
	if err != nil {
		return nil, err
	}
	return c, <-done
}

// started counts starts of machines by how they were started, as the node does.
func (f *functionWorld) started(ctx context.Context, how string) (int, error) {
	status, body, err := request(ctx, http.MethodGet, f.compute.url+"/metrics", nil)
	if err := want("metrics", status, body, err, http.StatusOK); err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, `aleph_functions_starts_total{how="`+how+`"} `); ok {
			return strconv.Atoi(strings.TrimSpace(rest))
		}
	}
	return 0, nil
}

// cold is one start. Times are milliseconds.
type cold struct {
	took, nodeCPU, qemuCPU float64
}

// coldCall calls a program that has no machine, and waits for the end of the one that
// it gets.
func (f *functionWorld) coldCall(ctx context.Context, fn message.ItemHash) (c cold, err error) {
	pid := f.compute.cmd.Process.Pid
	use := func() (own, children time.Duration, err error) {
		if own, err = measure.CPUOf(pid); err != nil {
			return 0, 0, err
		}
		children, err = measure.CPUOfChildren(pid)
		return own, children, err
	}
	own, children, err := use()
	if err != nil {
		return c, err
	}
	if c.took, err = f.call(ctx, fn, "/"); err != nil {
		return c, err
	}
	if err := f.awaitGone(ctx, fn); err != nil {
		return c, err
	}
	ownAfter, childrenAfter, err := use()
	c.nodeCPU, c.qemuCPU = milliseconds(ownAfter-own), milliseconds(childrenAfter-children)
	return c, err
}

// measureFunctions starts a function from its snapshot again and again; in turns with
// it, a bare QEMU restores that snapshot, and the same function boots.
func (b *bench) measureFunctions(ctx context.Context) (err error) {
	f, err := b.newFunctionWorld(ctx, "0s")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close(context.WithoutCancel(ctx))) }()
	boots, err := f.publish(ctx, "none")
	if err != nil {
		return err
	}
	b.say("calling each program once, and waiting for a snapshot")
	for _, fn := range []message.ItemHash{boots, f.function} {
		if _, err := f.coldCall(ctx, fn); err != nil {
			return err
		}
	}
	snapshot, err := f.awaitSnapshot(ctx)
	if err != nil {
		return err
	}
	c, err := f.commandOf(ctx)
	if err != nil {
		return err
	}
	if err := f.awaitGone(ctx, f.function); err != nil {
		return err
	}
	before, err := f.started(ctx, "snapshot")
	if err != nil {
		return err
	}
	n := b.times(60, 4)
	b.say("starting the function %d times, and a bare QEMU as often", n)
	var fromSnapshot, booted []cold
	var raws, rawCPUs []float64
	for i := range n {
		one, err := f.coldCall(ctx, f.function)
		if err != nil {
			return fmt.Errorf("start %d: %w", i+1, err)
		}
		raw, rawCPU, err := c.restore(ctx, filepath.Join(f.dir, "raw"), snapshot)
		if err != nil {
			return err
		}
		fromSnapshot, raws, rawCPUs = append(fromSnapshot, one), append(raws, raw), append(rawCPUs, rawCPU)
		if i%bootEvery == 0 {
			one, err := f.coldCall(ctx, boots)
			if err != nil {
				return fmt.Errorf("boot %d: %w", i+1, err)
			}
			booted = append(booted, one)
			b.say("start %d of %d: %.0f ms, bare QEMU %.0f ms, by a boot %.0f ms", i+1, n, fromSnapshot[i].took, raw, one.took)
		}
	}
	after, err := f.started(ctx, "snapshot")
	if err != nil {
		return err
	}
	if after-before != n {
		return fmt.Errorf("%d of %d starts were from the snapshot", after-before, n)
	}
	b.addFunctions(fromSnapshot, booted, raws, rawCPUs)
	return nil
}

func (b *bench) addFunctions(fromSnapshot, booted []cold, raws, rawCPUs []float64) {
	took := func(c cold) float64 { return c.took }
	b.note(groupFunctions, fmt.Sprintf("The call is HTTP to the node, and waits for a machine of %d MiB, which ends after it. The bare QEMU has the command line and the snapshot of such a\n"+
		"machine, and is timed from its process to the first word of its guest: what no node can do without. The aims are %d ms for the median and %d ms for the\n"+
		"95th percentile, under translation. Processor time of QEMU is until it has ended.", functionMiB, coldMedianAim, coldHighAim))
	raw := measure.Quantile(raws, 0.5)
	start := b.report.Add(groupFunctions, "first call, from a snapshot", "ms", column(fromSnapshot, took)...)
	start.Aim = coldMedianAim
	start.Against("bare QEMU restoring it", raw)
	high := b.report.Add(groupFunctions, "the same, 95th percentile", "ms", measure.Quantile(column(fromSnapshot, took), 0.95)) //nolint:mnd // as it says
	high.Aim = coldHighAim
	high.Against("bare QEMU restoring it", measure.Quantile(raws, 0.95)) //nolint:mnd // as it says
	b.report.Add(groupFunctions, "bare QEMU: process to the first word of the guest", "ms", raws...)
	b.report.Add(groupFunctions, "first call, by a boot", "ms", column(booted, took)...)
	for _, part := range []struct {
		name    string
		of      func(cold) float64
		against []float64
	}{
		{"of the node's process", func(c cold) float64 { return c.nodeCPU }, nil},
		{"of the machine's QEMU", func(c cold) float64 { return c.qemuCPU }, rawCPUs},
	} {
		// The means: one start takes the node less than the clock of processor time tells.
		one := b.report.Add(groupFunctions, "processor time "+part.name+", mean, from a snapshot", "ms", mean(column(fromSnapshot, part.of)))
		if part.against != nil {
			one.Against(bareQEMU, mean(part.against))
		}
		b.report.Add(groupFunctions, "processor time "+part.name+", mean, by a boot", "ms", mean(column(booted, part.of)))
	}
}

func mean(values []float64) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(1, len(values)))
}
