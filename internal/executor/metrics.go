package executor

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Bounds of a scrape: what is not measured in time is left out of it, and there
// are never more machines in it.
const (
	scrapeMax         = 2 * time.Second
	scrapeMachinesMax = 1000
)

// labelDigits is how much of a spec names its machine in metrics.
const labelDigits = 12

// usage measures the VM's machine. It gives errs.NotFound when none runs.
func (s *Supervisor) usage(ctx context.Context, vm *state.VM) (*job.Usage, error) {
	s.mu.Lock()
	w := s.workers[vm.Spec]
	s.mu.Unlock()
	if w == nil {
		return nil, errs.New(errs.NotFound, "machine %s does not run", vm.Spec)
	}
	m := w.current()
	if m == nil {
		return nil, errs.New(errs.NotFound, "machine %s does not run", vm.Spec)
	}
	stats, err := m.Stats(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure machine %s: %w", vm.Spec, err)
	}
	u := &job.Usage{AtMS: time.Now().UnixMilli(), CPUMS: stats.CPU.Milliseconds(), RSSBytes: stats.RSSBytes}
	if u.DiskBytes, err = allocated(vm.Dir); err != nil {
		return nil, err
	}
	if t, err := s.parts.Network.Traffic(lease(*vm)); err == nil { // Else nobody counts.
		u.RxBytes, u.TxBytes = &t.Received, &t.Sent
	}
	return u, nil
}

// machineMetrics collects what each machine uses, when it is asked.
type machineMetrics struct {
	s                                 *Supervisor
	cpu, memory, disk, received, sent *prometheus.Desc
}

func newMachineMetrics(s *Supervisor) *machineMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("aleph_vm_"+name, help, []string{"spec"}, nil)
	}
	return &machineMetrics{
		s:        s,
		cpu:      desc("cpu_seconds_total", "CPU time of the machine's process since it started."),
		memory:   desc("memory_bytes", "Memory of the host that the machine's process holds."),
		disk:     desc("disk_bytes", "Bytes of the host's disk that the machine's directory takes."),
		received: desc("network_receive_bytes_total", "Bytes that the machine received; not counted in user mode."),
		sent:     desc("network_transmit_bytes_total", "Bytes that the machine sent; not counted in user mode."),
	}
}

// Describe implements prometheus.Collector.
func (c *machineMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.cpu, c.memory, c.disk, c.received, c.sent} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *machineMetrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeMax) //nolint:forbidigo // A Collector is given none.
	defer cancel()
	vms, err := c.s.db.VMs(ctx, state.VMBooting, state.VMRunning, state.VMStopping)
	if err != nil {
		c.s.log.Debug("machines not measured", "err", err)
		return
	}
	named := map[string]bool{}
	for i := range vms[:min(len(vms), scrapeMachinesMax)] {
		if ctx.Err() != nil {
			c.s.log.Warn("machines left out of metrics: measuring them takes too long", "machines", len(vms), "measured", i)
			return
		}
		u, err := c.s.usage(ctx, &vms[i])
		if err != nil {
			continue // It has just ended, or has not begun.
		}
		label := labelOf(vms[i].Spec, named)
		send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64) {
			out <- prometheus.MustNewConstMetric(d, kind, v, label)
		}
		send(c.cpu, prometheus.CounterValue, float64(u.CPUMS)/1000) //nolint:mnd // milliseconds of a second
		send(c.memory, prometheus.GaugeValue, float64(u.RSSBytes))
		send(c.disk, prometheus.GaugeValue, float64(u.DiskBytes))
		if u.RxBytes != nil && u.TxBytes != nil {
			send(c.received, prometheus.CounterValue, float64(*u.RxBytes))
			send(c.sent, prometheus.CounterValue, float64(*u.TxBytes))
		}
	}
}

// labelOf returns the name of a machine in a scrape. Somebody may make messages
// whose hashes begin alike, and two series of one name would spoil all metrics of
// the node: the second has its whole hash.
func labelOf(spec message.ItemHash, named map[string]bool) string {
	label := string(spec[:min(len(spec), labelDigits)])
	if named[label] {
		return string(spec)
	}
	named[label] = true
	return label
}
