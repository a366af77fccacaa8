package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

const (
	webPort          = 8080
	createTarget     = 8 // seconds, p95
	addedTargetMs    = 300
	addedTargetPart  = 0.05
	poll             = 10 * time.Millisecond
	tryEvery         = 25 * time.Millisecond
	tryMax           = 400 * time.Millisecond // so at most 16 tries at a time
	jobMax           = 2 * time.Minute
	groupCreate      = "From 'aleph instance create' to the first page out of the machine"
	accountAllowance = "900"
)

// stages are the milliseconds of one job.
type stages struct {
	total     float64 // From the command to the first page.
	offered   float64 // The command: price, signatures, offer taken in.
	assigned  float64 // Decision, acceptance, transaction, block, mirror.
	fetched   float64 // Message and image are on the node.
	prepared  float64 // Ports, rules, unpacked image.
	booted    float64 // From the process to the guest's word that it is up.
	page      float64 // From assigned to the first page.
	confirmed float64 // From the first page to running on chain.
	cpu       float64
}

// measureJobs creates machines one after another, and boots the same image by a
// bare QEMU in between.
func (b *bench) measureJobs(ctx context.Context) (err error) {
	home, err := os.MkdirTemp("", "aleph-bench-")
	if err != nil {
		return fmt.Errorf("make home: %w", err)
	}
	defer os.RemoveAll(home)
	n, err := devnet.Start(ctx, devnet.Options{Bin: b.bin, Image: b.image, Log: os.Stderr})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Stop(context.WithoutCancel(ctx))) }()
	if err := b.measureIdle(ctx, n); err != nil {
		return err
	}
	u, err := newUser(ctx, b, filepath.Join(home, "user"), n)
	if err != nil {
		return err
	}
	b.say("creating %d machines, and booting as many by a bare QEMU", b.creates)
	var all []stages
	var raws []float64
	// Whether a node has the image matters: the first job of each brings it.
	for i := -2; i < b.creates; i++ {
		s, raw, err := u.create(ctx, filepath.Join(home, "raw"), uint32(0))
		if err != nil {
			return fmt.Errorf("machine %d: %w", i+1, err)
		}
		if i < 0 {
			continue
		}
		all, raws = append(all, *s), append(raws, raw)
	}
	b.addJobs(all, raws)
	return nil
}

// addJobs adds the results of jobs.
func (b *bench) addJobs(all []stages, raws []float64) {
	column := func(of func(stages) float64) []float64 {
		out := make([]float64, len(all))
		for i, s := range all {
			out[i] = of(s)
		}
		return out
	}
	const bareQEMU = "bare QEMU"
	raw := measure.Quantile(raws, 0.5)
	whole := b.report.Add(groupCreate, "all of it (the aim is for p95)", "ms", column(func(s stages) float64 { return s.total })...)
	whole.Against(bareQEMU, raw)
	whole.Aim, whole.CPUUS = createTarget*1000, 1000*measure.Quantile(column(func(s stages) float64 { return s.cpu }), 0.5)
	for _, c := range []struct {
		name string
		of   func(stages) float64
	}{
		{"1. command: price, signatures, offer taken in", func(s stages) float64 { return s.offered }},
		{"2. decision, acceptance, transaction, block", func(s stages) float64 { return s.assigned }},
		{"3. message and image on the node", func(s stages) float64 { return s.fetched }},
		{"4. ports, firewall, disk", func(s stages) float64 { return s.prepared }},
		{"5. boot, to the guest's word that it is up", func(s stages) float64 { return s.booted }},
		{"after the page: running on chain, and billed", func(s stages) float64 { return s.confirmed }},
	} {
		b.report.Add(groupCreate, c.name, "ms", column(c.of)...)
	}
	const group = "What the node adds to a bare QEMU with the same image and arguments"
	b.report.Add(group, "bare QEMU: process to first page", "ms", raws...)
	b.report.Add(group, "node: assigned on chain to first page", "ms", column(func(s stages) float64 { return s.page })...).Against(bareQEMU, raw)
	var added []float64
	for i, s := range all {
		added = append(added, s.page-raws[i])
	}
	b.report.Add(group, "added by the node, pair by pair", "ms", added...).Aim = addedTargetMs
	for i := range added {
		added[i] = 100 * added[i] / raws[i]
	}
	b.report.Add(group, "the same, of the bare QEMU's time", "%", added...).Aim = 100 * addedTargetPart
}

// user is who creates the machines.
type user struct {
	*devnet.CLI
	client *aleph.Client
	net    *devnet.Network
	key    string
	image  string
}

func newUser(ctx context.Context, b *bench, home string, n *devnet.Network) (*user, error) {
	cli, err := devnet.NewCLI(b.bin, home, n)
	if err != nil {
		return nil, err
	}
	u := &user{CLI: cli, net: n}
	if u.client, err = aleph.New(cli.Node); err != nil {
		return nil, err
	}
	if u.key, err = cli.SSHKey(); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"account", "create", "bench"}, {"account", "fund"}, {"allowance", "set", accountAllowance}} {
		if _, err := cli.Run(ctx, args...); err != nil {
			return nil, err
		}
	}
	var up struct {
		ItemHash string `json:"item_hash"`
	}
	if err := cli.JSON(ctx, &up, "image", "upload", b.image); err != nil {
		return nil, err
	}
	u.image = up.ItemHash
	return u, nil
}

// create creates a machine, waits for its page, boots its twin by a bare QEMU
// and stops it.
func (u *user) create(ctx context.Context, rawDir string, node uint32) (*stages, float64, error) {
	ctx, cancel := context.WithTimeout(ctx, jobMax)
	defer cancel()
	before, err := cpu(u.net)
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	since := func() float64 { return float64(time.Since(began).Microseconds()) / 1000 }
	var made struct {
		Job *aleph.Job `json:"job"`
	}
	err = u.JSON(ctx, &made, "instance", "create", "--image", u.image, "--ssh-key", u.key+".pub", "--port", strconv.Itoa(webPort),
		"--node-id", strconv.FormatUint(uint64(node), 10), "--yes", "--no-wait")
	if err != nil {
		return nil, 0, err
	}
	s := &stages{offered: since()}
	spec := made.Job.Spec
	_, err = u.until(ctx, spec, func(j *aleph.Job) bool { return j.AssignedAt != 0 })
	if err != nil {
		return nil, 0, err
	}
	assigned := since()
	s.assigned = assigned - s.offered
	j, err := u.until(ctx, spec, func(j *aleph.Job) bool { _, ok := j.Port("tcp", webPort); return ok })
	if err != nil {
		return nil, 0, err
	}
	p, _ := j.Port("tcp", webPort)
	if err := awaitPage(ctx, fmt.Sprintf("http://%s:%d/", p.HostIP, p.Host)); err != nil {
		return nil, 0, err
	}
	s.total = since()
	s.page = s.total - assigned
	if j, err = u.until(ctx, spec, func(j *aleph.Job) bool { return j.Status == aleph.JobRunning }); err != nil {
		return nil, 0, err
	}
	s.confirmed = since() - s.total
	after, err := cpu(u.net)
	if err != nil {
		return nil, 0, err
	}
	s.cpu = float64((after - before).Milliseconds())
	if j.VM != nil {
		t := j.VM.TimingsMS
		s.fetched, s.prepared, s.booted = float64(t["fetch"]), float64(t["prepare"]), float64(t["boot"])
	}
	command, err := machineCommand(u.net, j)
	if err != nil {
		return nil, 0, err
	}
	if _, err := u.Run(ctx, "instance", "stop", string(spec)); err != nil {
		return nil, 0, err
	}
	raw, err := bootRaw(ctx, command, rawDir)
	return s, raw, err
}

// until polls a job until it is as wanted.
func (u *user) until(ctx context.Context, spec message.ItemHash, wanted func(*aleph.Job) bool) (*aleph.Job, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		j, err := u.client.Job(ctx, spec)
		if err != nil {
			return nil, err
		}
		if wanted(j) {
			return j, nil
		}
		if j.Status.Ended() {
			return nil, fmt.Errorf("job %s is %s: %s", spec, j.Status, j.StatusReason)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// awaitPage returns when a GET gives 200. Tries overlap: one that was begun too
// early, and waits for a guest that was not there, must not hide when it came.
func awaitPage(ctx context.Context, url string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := &http.Client{Timeout: tryMax, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: tryMax}).DialContext,
	}}
	tick := time.NewTicker(tryEvery)
	defer tick.Stop()
	there := make(chan struct{}, 1)
	for {
		go func() {
			if try(ctx, client, url) {
				select {
				case there <- struct{}{}:
				default:
				}
			}
		}()
		select {
		case <-there:
			return nil
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("no page at %s: %w", url, context.Cause(ctx))
		}
	}
}

// try reports whether a GET gives 200.
func try(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := client.Do(req)
	if err != nil {
		return false // The machine is not there yet.
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return err == nil && res.StatusCode == http.StatusOK
}
