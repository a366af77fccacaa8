package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph/alephtest"
)

func TestTopGoesOnOnATerminal(t *testing.T) {
	node := alephtest.New()
	defer node.Close()
	c, err := aleph.New(node.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	looks := 0
	err = newApp(nil, &out, nil, nil).top(ctx, c, func(context.Context) ([]message.ItemHash, error) {
		if looks++; looks == 4 {
			cancel()
		}
		return nil, nil
	}, time.Millisecond, true)
	if !errors.Is(err, context.Canceled) || strings.Count(out.String(), clearScreen+"ID") != 3 {
		t.Errorf("%v after %d looks, shown %q; want three tables until it is told to end", err, looks, out.String())
	}
}

func TestRatesNeedTwoLooksAtOneProcess(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	f := func(v float64) *float64 { return &v }
	jobs := func(of map[message.ItemHash]*job.Usage) map[message.ItemHash]*aleph.Job {
		out := map[message.ItemHash]*aleph.Job{}
		for spec, u := range of {
			out[spec] = &aleph.Job{Spec: spec, Status: aleph.JobRunning, NodeID: 2, VM: &job.VM{State: "running", Usage: u}}
		}
		return out
	}
	before := jobs(map[message.ItemHash]*job.Usage{
		"idle":      {AtMS: 1000, CPUMS: 50},
		"busy":      {AtMS: 1000, CPUMS: 50, RxBytes: n(5), TxBytes: n(7)},
		"restarted": {AtMS: 1000, CPUMS: 9000, RxBytes: n(500), TxBytes: n(700)},
		"old":       {AtMS: 3000, CPUMS: 50},
		"away":      {AtMS: 1000},
	})
	now := jobs(map[message.ItemHash]*job.Usage{
		"idle":      {AtMS: 3000, CPUMS: 50, RSSBytes: 1, DiskBytes: 2},
		"busy":      {AtMS: 3000, CPUMS: 3050, RxBytes: n(25), TxBytes: n(7)},
		"restarted": {AtMS: 3000, CPUMS: 10, RxBytes: n(1), TxBytes: n(800)},
		"old":       {AtMS: 3000, CPUMS: 50},
		"new":       {AtMS: 3000, CPUMS: 50},
		"away":      nil,
	})
	now["offered"] = &aleph.Job{Spec: "offered", Status: aleph.JobOffered}
	use := func(spec message.ItemHash) machineUse {
		return machineUse{Spec: spec, Status: aleph.JobRunning, State: "running", NodeID: 2, MemoryBytes: n(0), DiskBytes: n(0)}
	}
	busy, idle, restarted, away := use("busy"), use("idle"), use("restarted"), use("away")
	busy.CPUPercent, busy.RxPerSecond, busy.TxPerSecond = f(150), f(10), f(0)
	idle.CPUPercent, idle.MemoryBytes, idle.DiskBytes = f(0), n(1), n(2)
	restarted.TxPerSecond = f(50)
	away.MemoryBytes, away.DiskBytes = nil, nil
	want := []machineUse{busy, idle, away, use("new"), {Spec: "offered", Status: aleph.JobOffered}, use("old"), restarted}
	if diff := cmp.Diff(want, usesOf(before, now), cmp.AllowUnexported(machineUse{})); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
}
