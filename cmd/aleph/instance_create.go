package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

// machine holds the flags of instance create.
type machine struct {
	image, name, maxUntil string
	keyFiles, ports, env  []string
	vcpus, memory         int
	disk                  int64
	hours                 float64
	node                  uint32
	yes, noWait           bool
	timeout               time.Duration
}

// created is the result of instance create.
type created struct {
	Quote *aleph.Quote `json:"quote"`
	Job   *aleph.Job   `json:"job"`
	SSH   string       `json:"ssh,omitempty"`
}

func instanceCreate(a *app) *cobra.Command {
	var m machine
	cmd := &cobra.Command{
		Use: "create --image HASH --ssh-key FILE", Short: "Create an instance and wait until it runs", Args: args(cobra.NoArgs),
		Long: "Create an instance and wait until it runs. The price and the nodes that could run it are shown first.\n" +
			"You sign a message that describes the machine, and an offer to pay for it at that price; the node\nsends both, so you need no ether.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.create(cmd.Context(), m) },
	}
	f := cmd.Flags()
	f.StringVar(&m.image, "image", "", "hash that 'aleph image upload' printed")
	f.StringArrayVar(&m.keyFiles, "ssh-key", nil, "file with public SSH keys that may log in; may be repeated")
	f.StringVar(&m.name, "name", "", "name of the instance")
	f.IntVar(&m.vcpus, "vcpus", 1, "virtual processors")
	f.IntVar(&m.memory, "memory", 512, "memory in MiB")
	f.Int64Var(&m.disk, "disk", 2048, "disk in MiB")
	f.StringArrayVar(&m.ports, "port", nil, "port to forward, such as 80 or 53/udp; 22 always is; may be repeated")
	f.StringArrayVar(&m.env, "env", nil, "variable for the machine, as NAME=VALUE; may be repeated")
	f.Float64Var(&m.hours, "hours", 0, "end after this many hours; 0 runs until it is stopped")
	f.StringVar(&m.maxUntil, "max-until", "", "end at this time, such as 2027-01-31T12:00:00Z")
	f.Uint32Var(&m.node, "node-id", 0, "node to run on; 0 leaves the choice to the network")
	f.BoolVarP(&m.yes, "yes", "y", false, "do not ask before paying")
	f.BoolVar(&m.noWait, "no-wait", false, "do not wait until it runs")
	f.DurationVar(&m.timeout, "timeout", 10*time.Minute, "how long to wait until it runs")
	return cmd
}

func (a *app) create(ctx context.Context, m machine) error {
	spec, err := m.spec()
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return err
	}
	until, err := m.until(info.Chain.Time)
	if err != nil {
		return err
	}
	owner, err := a.addressOf()
	if err != nil {
		return err
	}
	content, err := spec.Content(owner, time.Now())
	if err != nil {
		return usageError{err}
	}
	quote, err := a.quote(ctx, c, content, m.node)
	if err != nil {
		return err
	}
	if !m.yes {
		ok, err := a.confirm("Create it at this price?")
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("nothing was created; answer y, or give --yes, to go on")
		}
	}
	account, err := a.unlock()
	if err != nil {
		return err
	}
	j, err := c.CreateInstance(ctx, account, content, aleph.Limits{MaxRateQ32: quote.RateQ32, NodeHint: m.node, MaxUntil: until})
	if err != nil {
		return err
	}
	a.say("Instance %s is offered to the network.", j.Spec)
	if !m.noWait {
		if j, err = a.waitRunning(ctx, c, j.Spec, m.timeout); err != nil {
			return err
		}
	}
	return a.printCreated(&created{Quote: quote, Job: j})
}

// spec reads the flags that describe the machine.
func (m *machine) spec() (aleph.InstanceSpec, error) {
	s := aleph.InstanceSpec{Name: m.name, VCPUs: m.vcpus, MemoryMiB: m.memory, DiskMiB: m.disk}
	if m.image == "" {
		return s, usagef("give the image with --image HASH; 'aleph image upload FILE' prints one")
	}
	var err error
	if s.Image, err = message.ParseItemHash(m.image); err != nil {
		return s, usageError{fmt.Errorf("--image: %w", err)}
	}
	if s.SSHKeys, err = readSSHKeys(m.keyFiles); err != nil {
		return s, err
	}
	for _, text := range m.ports {
		p, err := parsePort(text)
		if err != nil {
			return s, err
		}
		s.Ports = append(s.Ports, p)
	}
	for _, text := range m.env {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return s, usagef("--env %q: want NAME=VALUE", text)
		}
		if s.Variables == nil {
			s.Variables = map[string]string{}
		}
		s.Variables[name] = value
	}
	return s, nil
}

// until returns the chain time at which the instance ends, 0 for open end.
func (m *machine) until(now uint64) (uint64, error) {
	const hoursMax = 10 * 365 * 24 // ten years, as for any machine
	switch {
	case m.maxUntil != "" && m.hours != 0:
		return 0, usagef("give --hours or --max-until, not both")
	case m.hours < 0 || m.hours > hoursMax:
		return 0, usagef("--hours is %g, want 0 to %d", m.hours, hoursMax)
	case m.hours > 0:
		return now + uint64(m.hours*3600), nil
	case m.maxUntil == "":
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339, m.maxUntil)
	if err != nil {
		return 0, usagef("--max-until %q: want a time such as 2027-01-31T12:00:00Z", m.maxUntil)
	}
	if at.Unix() <= int64(now) {
		return 0, usagef("--max-until %s has passed: chain time is %s", m.maxUntil, when(int64(now)))
	}
	return uint64(at.Unix()), nil
}

// quote asks for the price and shows it.
func (a *app) quote(ctx context.Context, c *aleph.Client, content *message.Instance, nodeHint uint32) (*aleph.Quote, error) {
	hash, err := aleph.SpecOf(content)
	if err != nil {
		return nil, err
	}
	q, err := c.Quote(ctx, aleph.QuoteRequest{Spec: hash, NodeHint: nodeHint, Content: content})
	if err != nil {
		return nil, err
	}
	t := newTable(a.err)
	for _, l := range q.Lines {
		t.row(l.Name, l.WeiPerHour.Tokens()+" ALEPH per hour")
	}
	t.row("per hour", q.WeiPerHour.Tokens()+" ALEPH")
	t.row("per month (730 h)", q.WeiPerMonth.Tokens()+" ALEPH")
	t.row("prepaid", fmt.Sprintf("%s ALEPH for %s; what is not used comes back", q.PrepayWei.Tokens(), time.Duration(q.PrepaySeconds)*time.Second))
	t.flush()
	showCandidates(a.err, q.Candidates)
	if q.NodeID == 0 {
		return nil, fmt.Errorf("no node can run it now: %s; 'aleph node list' shows what is free", q.Reason)
	}
	return q, nil
}

// waitRunning tells each stage on the way.
func (a *app) waitRunning(ctx context.Context, c *aleph.Client, spec message.ItemHash, timeout time.Duration) (*aleph.Job, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("it does not run after %s; 'aleph instance show %s' tells where it stands", timeout, spec[:12]))
	defer cancel()
	start := time.Now()
	var last string
	return c.WaitRunning(ctx, spec, func(j *aleph.Job) {
		stage := string(j.Status)
		if j.VM != nil && j.VM.State != "" && j.Status != aleph.JobRunning {
			stage += ", machine " + j.VM.State
		}
		if j.NodeID != 0 {
			stage += fmt.Sprintf(" on node %d", j.NodeID)
		}
		if stage != last {
			a.say("%5.1f s  %s", time.Since(start).Seconds(), stage)
			last = stage
		}
	})
}

func (a *app) printCreated(out *created) error {
	j := out.Job
	p, ok := j.Port("tcp", sshPort)
	if ok {
		out.SSH = sshText(p.HostIP, p.Host)
	}
	return a.print(out, func(w io.Writer) {
		t := newTable(w)
		t.row("instance", j.Spec)
		t.row("status", statusText(j))
		if j.NodeID != 0 {
			t.row("node", fmt.Sprintf("%d %s", j.NodeID, j.NodeEndpoint))
		}
		for _, p := range j.Ports {
			t.row("port", fmt.Sprintf("%d/%s at %s:%d", p.Guest, p.Protocol, p.HostIP, p.Host))
		}
		if out.SSH != "" {
			t.row("ssh", out.SSH)
		}
		t.flush()
	})
}
