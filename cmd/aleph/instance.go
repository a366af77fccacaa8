package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
)

const (
	// prefixMin is the least part of a job's hash that names it.
	prefixMin = 4
	// sshPort is always forwarded.
	sshPort = 22
)

func instanceCommand(a *app) *cobra.Command {
	return newGroup("instance", "Run virtual machines",
		instanceCreate(a), instanceList(a), instanceShow(a), instanceTop(a), instanceLogs(a), instanceSSH(a), instanceStop(a), instanceReceipt(a))
}

const idHelp = "\n\nID is the job's hash or the first digits of it."

// find returns the hash of a job from the whole of it or its beginning.
func (a *app) find(ctx context.Context, c *aleph.Client, id string) (message.ItemHash, error) {
	if h, err := message.ParseItemHash(id); err == nil && h.Type() == message.Storage {
		return h, nil
	}
	if len(id) < prefixMin || strings.Trim(id, "0123456789abcdef") != "" {
		return "", usagef("instance %q: want the job's hash or at least its first %d digits", id, prefixMin)
	}
	s, err := a.chosen()
	if err != nil {
		return "", err
	}
	jobs, err := c.Jobs(ctx, s.Address)
	if err != nil {
		return "", err
	}
	var found []message.ItemHash
	for _, j := range jobs {
		if strings.HasPrefix(string(j.Spec), id) {
			found = append(found, j.Spec)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("no instance of account %s begins with %s; 'aleph instance list' lists them", s.Name, id)
	default:
		return "", fmt.Errorf("%d instances begin with %s; give more digits", len(found), id)
	}
}

// withJob runs a command on the job that its first argument names.
func (a *app) withJob(action func(ctx context.Context, c *aleph.Client, spec message.ItemHash) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		spec, err := a.find(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		return action(cmd.Context(), c, spec)
	}
}

func instanceList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List your instances", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.chosen()
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			jobs, err := c.Jobs(cmd.Context(), s.Address)
			if err != nil {
				return err
			}
			if len(jobs) == 0 {
				a.say("Account %s has no instance; 'aleph instance create' makes one.", s.Name)
			}
			return a.print(jobs, func(w io.Writer) {
				t := newTable(w)
				if len(jobs) > 0 {
					t.row("ID", "STATUS", "NODE", "ALEPH/HOUR", "STARTED")
				}
				for _, j := range jobs {
					t.row(j.Spec[:12], j.Status, node(j.NodeID), perHour(j.RateQ32), when(j.StartedAt))
				}
				t.flush()
			})
		},
	}
}

func node(id uint32) string {
	if id == 0 {
		return "-"
	}
	return strconv.FormatUint(uint64(id), 10)
}

func instanceShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show an instance: where it runs, why there, what it costs, what happened to it", Args: args(cobra.ExactArgs(1)),
		Long: "Show an instance: where it runs, why there, how to reach it, what it costs, and what happened to its\nmachine and why." + idHelp,
		RunE: a.withJob(func(ctx context.Context, c *aleph.Client, spec message.ItemHash) error {
			j, err := c.Job(ctx, spec)
			if err != nil {
				return err
			}
			return a.print(j, func(w io.Writer) { showJob(w, j) })
		}),
	}
}

func showJob(w io.Writer, j *aleph.Job) {
	t := newTable(w)
	t.row("instance", j.Spec)
	t.row("owner", j.Owner.Hex())
	t.row("status", statusText(j))
	t.row("node", strings.TrimSpace(node(j.NodeID)+" "+j.NodeEndpoint))
	if d := j.Decision; d != nil {
		t.row("chosen for", d.Reason)
	}
	if j.VM != nil {
		t.row("machine", machineText(j))
	}
	for _, p := range j.Ports {
		t.row("port", fmt.Sprintf("%d/%s at %s:%d", p.Guest, p.Protocol, p.HostIP, p.Host))
	}
	if p, ok := j.Port("tcp", sshPort); ok && !j.Status.Ended() {
		t.row("ssh", sshText(p.HostIP, p.Host))
	}
	t.row("price", perHour(j.RateQ32)+" ALEPH per hour")
	t.row("metered", fmt.Sprintf("%d s, %s ALEPH", j.MeteredSeconds, j.MeteredWei.Tokens()))
	t.row("offered", when(j.OfferedAt))
	t.row("started", when(j.StartedAt))
	t.row("stopped", when(j.StoppedAt))
	t.row("paid until", when(j.PaidUntil))
	if j.ArrearsSince != 0 {
		t.row("in arrears since", when(j.ArrearsSince))
	}
	t.flush()
	if j.Decision != nil {
		showCandidates(w, j.Decision.Candidates)
	}
	if j.VM != nil {
		showHistory(w, j.VM.History)
	}
}

func statusText(j *aleph.Job) string {
	if j.StatusReason == "" {
		return string(j.Status)
	}
	return fmt.Sprintf("%s (%s)", j.Status, j.StatusReason)
}

func machineText(j *aleph.Job) string {
	parts := []string{j.VM.State}
	for _, s := range []string{j.VM.Driver, j.VM.Accelerator, j.VM.Detail} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	for _, stage := range slices.Sorted(maps.Keys(j.VM.TimingsMS)) {
		parts = append(parts, fmt.Sprintf("%s %d ms", stage, j.VM.TimingsMS[stage]))
	}
	return strings.Join(parts, ", ")
}

func sshText(host string, port int) string { return fmt.Sprintf("ssh -p %d root@%s", port, host) }

func showCandidates(w io.Writer, candidates []aleph.Candidate) {
	if len(candidates) == 0 {
		return
	}
	t := newTable(w)
	t.row("NODE", "FITS", "CHOSEN", "WHY")
	for _, c := range candidates {
		t.row(c.NodeID, yes(c.Eligible), yes(c.Chosen), c.Reason)
	}
	t.flush()
}

// showHistory writes what happened to a machine. What only was said of it has
// no new state.
func showHistory(w io.Writer, history []job.Step) {
	if len(history) == 0 {
		return
	}
	t := newTable(w)
	t.row("WHEN", "STATE", "WHY")
	for _, h := range history {
		to := h.To
		if h.From == h.To {
			to = "-"
		}
		t.row(when(h.At), to, h.Cause)
	}
	t.flush()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// sshCommand is the result of instance ssh --print.
type sshCommand struct {
	Host    string   `json:"host"`
	Port    int      `json:"port"`
	User    string   `json:"user"`
	Command []string `json:"command"`
}

func instanceSSH(a *app) *cobra.Command {
	var user, identity string
	var show bool
	cmd := &cobra.Command{
		Use: "ssh ID [-- COMMAND...]", Short: "Log in to an instance", Args: args(cobra.MinimumNArgs(1)),
		Long: "Log in to an instance with the ssh program of this machine, or run a command there. With --print or\n--json it is only told how." + idHelp,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withJob(func(ctx context.Context, c *aleph.Client, spec message.ItemHash) error {
			j, err := c.Job(ctx, spec)
			if err != nil {
				return err
			}
			p, ok := j.Port("tcp", sshPort)
			if !ok || j.Status != aleph.JobRunning {
				return fmt.Errorf("instance %s is %s; ssh needs a running one", spec, statusText(j))
			}
			s := sshCommand{Host: p.HostIP, Port: p.Host, User: user}
			s.Command = sshArgs(s, identity, args[1:])
			if show || a.json {
				return a.print(s, func(w io.Writer) { fmt.Fprintln(w, strings.Join(s.Command, " ")) })
			}
			return a.exec(ctx, s.Command)
		})(cmd, args[:1])
	}
	cmd.Flags().StringVar(&user, "user", "root", "user to log in as")
	cmd.Flags().StringVarP(&identity, "identity", "i", "", "file with the private SSH key")
	cmd.Flags().BoolVar(&show, "print", false, "print the ssh command instead of running it")
	return cmd
}

// sshArgs is the command line of ssh. Instances come and go on the same ports
// with other host keys, so the known hosts of the user are left alone.
func sshArgs(s sshCommand, identity string, command []string) []string {
	out := []string{"ssh", "-p", strconv.Itoa(s.Port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
	if identity != "" {
		out = append(out, "-i", identity, "-o", "IdentitiesOnly=yes")
	}
	out = append(out, s.User+"@"+s.Host)
	return append(out, command...)
}

func (a *app) exec(ctx context.Context, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("there is no ssh program here; install openssh-client, or use --print and another client")
	}
	if err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	return nil
}

func instanceStop(a *app) *cobra.Command {
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "stop ID", Short: "Stop an instance and its billing", Args: args(cobra.ExactArgs(1)),
		Long: "Stop an instance and its billing. You sign the stop; the node sends it, so you need no ether." + idHelp,
	}
	cmd.RunE = a.withJob(func(ctx context.Context, c *aleph.Client, spec message.ItemHash) error {
		account, err := a.unlock()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		j, err := c.Stop(ctx, account, spec)
		if err != nil {
			return err
		}
		if !noWait {
			a.say("The stop is sent; waiting for the chain.")
			if j, err = c.WaitEnded(ctx, spec, nil); err != nil {
				return err
			}
		}
		return a.print(j, func(w io.Writer) { fmt.Fprintf(w, "%s %s\n", j.Spec, statusText(j)) })
	})
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is stopped")
	cmd.Flags().DurationVar(&timeout, "timeout", chainTimeout, "how long to wait")
	return cmd
}

func instanceReceipt(a *app) *cobra.Command {
	var waitFor bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "receipt ID", Short: "Show what an instance cost and who was paid", Args: args(cobra.ExactArgs(1)),
		Long: "Show what an instance cost and who was paid, and check it: the settled amount must be the price times\nthe metered seconds, and the shares must add up to it, to the last wei." + idHelp,
	}
	cmd.RunE = a.withJob(func(ctx context.Context, c *aleph.Client, spec message.ItemHash) error {
		get := c.Receipt
		if waitFor {
			get = c.WaitReceipt
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		r, err := get(ctx, spec)
		if err != nil {
			return err
		}
		if err := a.print(r, func(w io.Writer) { showReceipt(w, r) }); err != nil {
			return err
		}
		return checkReceipt(r)
	})
	cmd.Flags().BoolVar(&waitFor, "wait", false, "wait until everything is settled")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait")
	return cmd
}

// checkReceipt compares the figures of a complete receipt.
func checkReceipt(r *aleph.Receipt) error {
	if !r.Complete {
		return nil
	}
	if r.SettledWei.Cmp(r.QuotedWei) != 0 {
		return fmt.Errorf("settled %s wei, but the quote comes to %s wei for %d s", r.SettledWei, r.QuotedWei, r.Seconds)
	}
	if sum := r.Split.Sum(); sum.Cmp(r.SettledWei) != 0 {
		return fmt.Errorf("the shares add up to %s wei, but %s wei were settled", sum, r.SettledWei)
	}
	return nil
}

func showReceipt(w io.Writer, r *aleph.Receipt) {
	t := newTable(w)
	t.row("instance", r.Spec)
	t.row("price", perHour(r.RateQ32)+" ALEPH per hour")
	t.row("ran", fmt.Sprintf("%s to %s", when(r.StartedAt), when(r.StoppedAt)))
	t.row("seconds", r.Seconds)
	t.row("quoted", r.QuotedWei.Tokens()+" ALEPH")
	t.row("settled", r.SettledWei.Tokens()+" ALEPH")
	t.row("  node", r.Split.Node.Tokens()+" ALEPH")
	t.row("  coordinator", r.Split.Coordinator.Tokens()+" ALEPH")
	t.row("  staker", r.Split.Staker.Tokens()+" ALEPH")
	t.row("  development", r.Split.Development.Tokens()+" ALEPH")
	t.row("refund", r.RefundWei.Tokens()+" ALEPH")
	t.row("complete", yes(r.Complete))
	for _, c := range r.Claims {
		t.row("claim", c.Tx.Hex()+" "+c.Amount.Tokens()+" ALEPH")
	}
	t.flush()
}

// readSSHKeys reads the public keys in files.
func readSSHKeys(files []string) ([]string, error) {
	var keys []string
	for _, file := range files {
		raw, err := readSmall(file)
		if err != nil {
			return nil, fmt.Errorf("read SSH key: %w", err)
		}
		for line := range strings.Lines(string(raw)) {
			line = strings.TrimSpace(line)
			switch {
			case line == "" || strings.HasPrefix(line, "#"):
			case strings.Contains(line, "PRIVATE KEY"):
				return nil, usagef("%s holds a private SSH key; give the public one, %s.pub", file, file)
			case !strings.HasPrefix(line, "ssh-") && !strings.HasPrefix(line, "ecdsa-") && !strings.HasPrefix(line, "sk-"):
				return nil, usagef("%s does not hold a public SSH key", file)
			default:
				keys = append(keys, line)
			}
		}
	}
	return keys, nil
}

// parsePort reads a port such as 80 or 53/udp.
func parsePort(s string) (message.PublishedPort, error) {
	number, protocol, found := strings.Cut(s, "/")
	if !found {
		protocol = "tcp"
	}
	port, err := strconv.ParseUint(number, 10, 16)
	if err != nil || port == 0 || (protocol != "tcp" && protocol != "udp") {
		return message.PublishedPort{}, usagef("port %q: want a number from 1 to 65535, such as 80 or 53/udp", s)
	}
	return message.PublishedPort{Protocol: protocol, Port: int(port)}, nil
}

// addressOf returns the address of the chosen account, for which no password
// is needed.
func (a *app) addressOf() (common.Address, error) {
	s, err := a.chosen()
	return s.Address, err
}
