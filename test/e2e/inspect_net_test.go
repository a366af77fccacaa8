//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	_ "modernc.org/sqlite" // the nodes' engine

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

// database names the database of a node that may run, to read from it.
func database(node devnet.Node) string {
	return "file:" + filepath.Join(node.DataDir, "state.db") + "?mode=ro&_pragma=busy_timeout(10000)"
}

// rows reads the rows of a table of a node that may run, in the order of their
// keys. With like, only those whose key is like it.
func rows[T any](t *testing.T, node devnet.Node, table, like string) []T {
	t.Helper()
	db, err := sql.Open("sqlite", database(node))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if like == "" {
		like = "%"
	}
	found, err := db.QueryContext(context.WithoutCancel(t.Context()), "SELECT doc FROM "+table+" WHERE pk LIKE ? ORDER BY pk", like)
	if err != nil {
		t.Fatalf("read %s of %s: %v", table, node.Name, err)
	}
	defer found.Close()
	var out []T
	for found.Next() {
		var doc string
		var row T
		err := found.Scan(&doc)
		if err == nil {
			err = json.Unmarshal([]byte(doc), &row)
		}
		if err != nil {
			t.Fatalf("read %s of %s: %v", table, node.Name, err)
		}
		out = append(out, row)
	}
	if err := found.Err(); err != nil {
		t.Fatalf("read %s of %s: %v", table, node.Name, err)
	}
	return out
}

// vm returns the row of a job's machine on a node, nil when there is none.
func vm(t *testing.T, node devnet.Node, spec message.ItemHash) *state.VM {
	t.Helper()
	found := rows[state.VM](t, node, "vms", string(spec))
	if len(found) == 0 {
		return nil
	}
	return &found[0]
}

// logs are the events of a contract on the chain as it is now.
func (n *network) logs(t *testing.T, contract common.Address) []types.Log {
	t.Helper()
	out, err := n.eth.FilterLogs(t.Context(), ethereum.FilterQuery{FromBlock: big.NewInt(0), Addresses: []common.Address{contract}})
	if err != nil {
		t.Fatalf("read events: %v", err)
	}
	return out
}

// events are the events of one kind about a job. unpack is a method of the
// bindings, such as (*bindings.JobManager).UnpackJobAssignedEvent.
func events[T any](t *testing.T, n *network, unpack func(*bindings.JobManager, *types.Log) (*T, error), spec message.ItemHash) []T {
	t.Helper()
	var out []T
	for _, l := range n.logs(t, n.Contracts.JobManager) {
		e, err := unpack(bindings.NewJobManager(), &l)
		if err == nil && len(l.Topics) > 1 && l.Topics[1] == common.HexToHash(string(spec)) {
			out = append(out, *e)
		}
	}
	return out
}

// assignments are the openings of a job.
func (n *network) assignments(t *testing.T, spec message.ItemHash) []bindings.JobManagerJobAssigned {
	t.Helper()
	return events(t, n, (*bindings.JobManager).UnpackJobAssignedEvent, spec)
}

// starts are the beginnings of a job's billing.
func (n *network) starts(t *testing.T, spec message.ItemHash) []bindings.JobManagerJobRunning {
	t.Helper()
	return events(t, n, (*bindings.JobManager).UnpackJobRunningEvent, spec)
}

// ends are the ends of a job.
func (n *network) ends(t *testing.T, spec message.ItemHash) []bindings.JobManagerJobStopped {
	t.Helper()
	return events(t, n, (*bindings.JobManager).UnpackJobStoppedEvent, spec)
}

// balance is what a user has: tokens, and prepayments that came back.
func (n *network) balance(t *testing.T, u *user) *big.Int {
	t.Helper()
	v, err := n.node.Account(t.Context(), u.Address())
	if err != nil {
		t.Fatalf("account: %v", err)
	}
	return new(big.Int).Add(v.TokenBalance.Big(), v.Refund.Big())
}

// checkReceipt compares a complete receipt with the chain: the job was assigned,
// started and stopped once, and it cost the rate times its seconds.
func (n *network) checkReceipt(t *testing.T, r *aleph.Receipt) {
	t.Helper()
	assigned, started, ended := n.assignments(t, r.Spec), n.starts(t, r.Spec), n.ends(t, r.Spec)
	if len(assigned) != 1 || len(started) != 1 || len(ended) != 1 {
		t.Fatalf("the chain has %d assignments, %d starts, %d ends of the job, want one of each", len(assigned), len(started), len(ended))
	}
	from, to := started[0].StartedAt.Int64(), ended[0].StoppedAt.Int64()
	if r.StartedAt != from || r.StoppedAt != to || r.Seconds != to-from || r.Seconds < 1 {
		t.Errorf("receipt is for %d s from %d to %d, the chain has %d to %d", r.Seconds, r.StartedAt, r.StoppedAt, from, to)
	}
	if want := price(assigned[0].RateQ32, to-from); r.SettledWei.Big().Cmp(want) != 0 || r.QuotedWei.Big().Cmp(want) != 0 {
		t.Errorf("settled %s wei, quoted %s wei, want %s", r.SettledWei, r.QuotedWei, want)
	}
	if sum := r.Split.Sum(); sum.Cmp(r.SettledWei) != 0 {
		t.Errorf("shares add up to %s wei of %s", sum, r.SettledWei)
	}
	claimed := new(big.Int)
	for _, c := range r.Claims {
		claimed.Add(claimed, c.Amount.Big())
	}
	if claimed.Cmp(r.SettledWei.Big()) != 0 {
		t.Errorf("claims add up to %s wei of %s", claimed, r.SettledWei)
	}
}

// checkUsage compares what the node has metered with the receipt: one stretch of
// chain time without gap or overlap.
func (n *network) checkUsage(t *testing.T, host devnet.Node, r *aleph.Receipt) {
	t.Helper()
	eventually(t, "usage is metered to the end", func() error {
		used := rows[state.Usage](t, host, "usages", string(r.Spec)+"/%")
		at := uint64(r.StartedAt)
		for _, u := range used {
			if u.From != at || u.To <= u.From || u.NodeID != host.NodeID {
				return fmt.Errorf("usage %d to %d does not follow on from %d: %+v", u.From, u.To, at, used)
			}
			at = u.To
		}
		if at != uint64(r.StoppedAt) {
			return fmt.Errorf("usage ends at %d, want %d: %+v", at, r.StoppedAt, used)
		}
		return nil
	})
}

// hypervisors are the processes that run a machine in a directory, or in one
// below it.
func hypervisors(t *testing.T, dir string) []int {
	t.Helper()
	var out []int
	for _, p := range processes(t, dir) {
		if strings.Contains(p.name, "qemu-system") {
			out = append(out, p.pid)
		}
	}
	return out
}

// process is a process of this host.
type process struct {
	pid  int
	name string // Its program.
	line string
}

// processes are those that name a directory in their command line or work below
// it.
func processes(t *testing.T, dir string) []process {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var out []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil || pid == os.Getpid() {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(entry, "cmdline"))
		if err != nil || len(raw) == 0 {
			continue // It has ended, or is a thread of the kernel.
		}
		cwd, _ := os.Readlink(filepath.Join(entry, "cwd"))
		line := strings.ReplaceAll(strings.TrimRight(string(raw), "\x00"), "\x00", " ")
		if !strings.Contains(line, dir) && cwd != dir && !strings.HasPrefix(cwd, dir+"/") {
			continue
		}
		program, _, _ := strings.Cut(line, " ")
		out = append(out, process{pid: pid, name: filepath.Base(program), line: line})
	}
	return out
}

// startedAt tells one process from a later one with the same number: ticks after
// the boot of the host.
func startedAt(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	const start = 22 - 3 // Fields are counted from 3 behind the name.
	return fields[start]
}

// checkNothingLeft looks on the host for what a network that has stopped could
// have left behind. The rows of one that is kept are looked at too.
func checkNothingLeft(t *testing.T, n *devnet.Network, kept bool) {
	t.Helper()
	for _, p := range processes(t, n.DataDir) {
		t.Errorf("left: process %d: %.200s", p.pid, p.line)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(mounts, []byte(n.DataDir)) {
		t.Errorf("left: a mount in %s (%v)", n.DataDir, err)
	}
	for _, node := range n.Nodes {
		checkNoNetworkLeft(t, node)
	}
	if !kept {
		if _, err := os.Stat(n.DataDir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left: directory %s (%v)", n.DataDir, err)
		}
		return
	}
	for _, node := range n.Nodes {
		checkNoLockLeft(t, node)
		checkNoMachineLeft(t, node)
	}
}

// checkNoNetworkLeft looks for TAP devices and nftables tables of a node.
func checkNoNetworkLeft(t *testing.T, node devnet.Node) {
	t.Helper()
	name := vmnet.NameOf(node.DataDir)
	devices, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		alias, _ := os.ReadFile(filepath.Join("/sys/class/net", d.Name, "ifalias"))
		if strings.HasPrefix(string(alias), "aleph:"+name+":") {
			t.Errorf("left: device %s of %s", d.Name, node.Name)
		}
	}
	if os.Geteuid() == 0 {
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "nft", "list", "tables").CombinedOutput()
		if err != nil {
			t.Errorf("tables cannot be looked at: nft: %v: %s", err, out)
		}
		if strings.Contains(string(out), "aleph_"+name) {
			t.Errorf("left: nftables table aleph_%s of %s", name, node.Name)
		}
	}
}

// checkNoLockLeft looks whether somebody still holds a node's directory.
func checkNoLockLeft(t *testing.T, node devnet.Node) {
	t.Helper()
	db, err := state.Open(context.WithoutCancel(t.Context()), node.DataDir)
	if err != nil {
		t.Errorf("left: %s cannot be opened: %v", node.Name, err)
		return
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// checkNoMachineLeft looks for machines, in files or rows, that no live job
// wants.
func checkNoMachineLeft(t *testing.T, node devnet.Node) {
	t.Helper()
	live := map[string]bool{}
	for _, j := range rows[state.Job](t, node, "jobs", "") {
		live[string(j.Spec)] = !j.Status.Ended() && j.NodeID == node.NodeID
	}
	known := map[string]bool{}
	for _, v := range rows[state.VM](t, node, "vms", "") {
		known[string(v.Spec)] = true
		if !live[string(v.Spec)] && v.State != state.VMStopped && v.State != state.VMFailed {
			t.Errorf("left: %s has VM %s, %s, for a job that has ended", node.Name, v.Spec, v.State)
		}
		group := filepath.Join("/sys/fs/cgroup/aleph", string(v.Spec))
		if _, err := os.Stat(group); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left: control group %s of a machine that does not run (%v)", group, err)
		}
	}
	dirs, err := filepath.Glob(filepath.Join(node.DataDir, "vms", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if !known[filepath.Base(dir)] {
			t.Errorf("left: %s has no row", dir)
		}
	}
}
