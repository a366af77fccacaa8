package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

const (
	// topInterval is the time between two looks.
	topInterval = 2 * time.Second
	// topIntervalMin keeps a node from being asked without a pause.
	topIntervalMin = 100 * time.Millisecond
	// topAsksMax bounds the jobs that are asked about at the same time.
	topAsksMax = 8
	// clearScreen moves to the top left of a terminal and clears what follows.
	clearScreen = "\x1b[H\x1b[J"
	// millis are the milliseconds of a second.
	millis = 1000
)

// machineUse is what a machine uses, from two looks at it. What is not known, as
// its node is away, it does not run, or nobody counts its traffic, is nil.
type machineUse struct {
	Spec        message.ItemHash `json:"spec"`
	Status      aleph.JobStatus  `json:"status"`
	State       string           `json:"state"` // of the machine; "" for none
	NodeID      uint32           `json:"node_id"`
	CPUPercent  *float64         `json:"cpu_percent"` // of one processor
	MemoryBytes *int64           `json:"memory_bytes"`
	DiskBytes   *int64           `json:"disk_bytes"`
	RxPerSecond *float64         `json:"rx_bytes_per_second"`
	TxPerSecond *float64         `json:"tx_bytes_per_second"`
}

func instanceTop(a *app) *cobra.Command {
	var once bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "top [ID]", Short: "Show what your instances use", Args: args(cobra.MaximumNArgs(1)),
		Long: "Show what your instances, or one of them, use: processor time in percent of one processor, memory and\n" +
			"disk of the host, bytes per second received and sent. The machine that uses most processor time is the first.\n" +
			"On a terminal it goes on until Ctrl-C; otherwise, with --once or with --json, it is shown once, after an\n" +
			"interval: rates need two looks. A dash is what the node does not tell: it is away, the machine does not run, or\n" +
			"nobody counts its traffic." + idHelp,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if interval < topIntervalMin {
			return usagef("--interval %v: want at least %v", interval, topIntervalMin)
		}
		ctx := cmd.Context()
		c, err := a.client()
		if err != nil {
			return err
		}
		list := a.ownJobs(c)
		if len(args) == 1 {
			spec, err := a.find(ctx, c, args[0])
			if err != nil {
				return err
			}
			list = func(context.Context) ([]message.ItemHash, error) { return []message.ItemHash{spec}, nil }
		}
		terminal, ok := a.out.(interface{ Fd() uintptr })
		live := ok && !once && !a.json && term.IsTerminal(terminal.Fd())
		err = a.top(ctx, c, list, interval, live)
		if live && errors.Is(err, context.Canceled) {
			return nil // Ctrl-C is how it ends.
		}
		return err
	}
	cmd.Flags().BoolVar(&once, "once", false, "show it once")
	cmd.Flags().DurationVar(&interval, "interval", topInterval, "time between two looks")
	return cmd
}

// ownJobs lists the jobs of the chosen account that have not ended.
func (a *app) ownJobs(c *aleph.Client) func(context.Context) ([]message.ItemHash, error) {
	return func(ctx context.Context) ([]message.ItemHash, error) {
		s, err := a.chosen()
		if err != nil {
			return nil, err
		}
		jobs, err := c.Jobs(ctx, s.Address)
		if err != nil {
			return nil, err
		}
		var out []message.ItemHash
		for _, j := range jobs {
			if !j.Status.Ended() {
				out = append(out, j.Spec)
			}
		}
		return out, nil
	}
}

// top looks at jobs again and again, or twice, and shows what their machines use.
func (a *app) top(ctx context.Context, c *aleph.Client, list func(context.Context) ([]message.ItemHash, error), interval time.Duration, live bool) error {
	before, err := lookAt(ctx, c, list)
	if err != nil {
		return err
	}
	for {
		if err := sleep(ctx, interval); err != nil {
			return err
		}
		now, err := lookAt(ctx, c, list)
		if err != nil {
			return err
		}
		uses := usesOf(before, now)
		if live {
			fmt.Fprint(a.out, clearScreen)
		}
		if err := a.print(uses, func(w io.Writer) { showUses(w, uses) }); err != nil || !live {
			return err
		}
		before = now
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lookAt asks about each job of the list.
func lookAt(ctx context.Context, c *aleph.Client, list func(context.Context) ([]message.ItemHash, error)) (map[message.ItemHash]*aleph.Job, error) {
	specs, err := list(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	out := map[message.ItemHash]*aleph.Job{}
	slots := make(chan struct{}, topAsksMax)
	for _, spec := range specs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			j, err := c.Job(ctx, spec)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				out[spec] = j
			case failed == nil:
				failed = err
			}
		})
	}
	wg.Wait()
	return out, failed
}

// usesOf compares two looks. The machine that uses most processor time comes
// first, those of which nothing is known last.
func usesOf(before, now map[message.ItemHash]*aleph.Job) []machineUse {
	out := []machineUse{}
	for spec, j := range now {
		u := machineUse{Spec: spec, Status: j.Status, NodeID: j.NodeID}
		if j.VM != nil {
			u.State = j.VM.State
			var last *job.Usage
			if b := before[spec]; b != nil && b.VM != nil {
				last = b.VM.Usage
			}
			u.add(last, j.VM.Usage)
		}
		out = append(out, u)
	}
	percent := func(u machineUse) float64 {
		if u.CPUPercent == nil {
			return -1
		}
		return *u.CPUPercent
	}
	slices.SortFunc(out, func(x, y machineUse) int {
		return cmp.Or(cmp.Compare(percent(y), percent(x)), cmp.Compare(x.Spec, y.Spec))
	})
	return out
}

// add takes over what a look saw, and the rates since the last one.
func (u *machineUse) add(last, now *job.Usage) {
	if now == nil {
		return
	}
	u.MemoryBytes, u.DiskBytes = &now.RSSBytes, &now.DiskBytes
	if last == nil || now.AtMS <= last.AtMS {
		return
	}
	seconds := float64(now.AtMS-last.AtMS) / millis
	// A counter that went back belongs to another process of the machine.
	rate := func(last, now *int64) *float64 {
		if last == nil || now == nil || *now < *last {
			return nil
		}
		r := float64(*now-*last) / seconds
		return &r
	}
	u.RxPerSecond, u.TxPerSecond = rate(last.RxBytes, now.RxBytes), rate(last.TxBytes, now.TxBytes)
	if busy := rate(&last.CPUMS, &now.CPUMS); busy != nil {
		percent := *busy / millis * 100
		u.CPUPercent = &percent
	}
}

func showUses(w io.Writer, uses []machineUse) {
	t := newTable(w)
	t.row("ID", "STATE", "NODE", "CPU", "MEMORY", "DISK", "RECEIVED", "SENT")
	for _, u := range uses {
		t.row(u.Spec[:12], cmp.Or(u.State, string(u.Status)), node(u.NodeID), percentText(u.CPUPercent), sizeText(u.MemoryBytes), sizeText(u.DiskBytes),
			rateText(u.RxPerSecond), rateText(u.TxPerSecond))
	}
	t.flush()
}

func percentText(v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", *v)
}

func sizeText(v *int64) string {
	if v == nil {
		return "-"
	}
	return size(*v)
}

func rateText(v *float64) string {
	if v == nil {
		return "-"
	}
	return size(int64(*v)) + "/s"
}
