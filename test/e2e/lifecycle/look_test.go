//go:build e2e

package lifecycle_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// process is a hypervisor.
type process struct {
	pid   int
	start string // In ticks since the host was booted.
	dir   string // The machine's.
}

// processes are those that work below a directory.
func processes(root string) []process {
	var out []process
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		dir, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(dir, root+"/") {
			continue // It has ended, or is somebody else's.
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err != nil || pid == os.Getpid() {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(filepath.Dir(link), "stat"))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 19 && f[0] != "Z" {
			out = append(out, process{pid, f[19], strings.TrimSuffix(dir, " (deleted)")})
		}
	}
	return out
}

// twice returns the directories in which two processes run, now and a moment later.
func twice(root string) []string {
	find := func() map[string][]process {
		by := map[string][]process{}
		for _, p := range processes(root) {
			by[p.dir] = append(by[p.dir], p)
		}
		maps.DeleteFunc(by, func(_ string, all []process) bool { return len(all) < 2 })
		return by
	}
	first := find()
	if len(first) == 0 {
		return nil
	}
	<-time.After(poll)
	var out []string
	for dir, all := range find() {
		if slices.Equal(all, first[dir]) {
			out = append(out, fmt.Sprintf("%s: %v", dir, all))
		}
	}
	return out
}

// specOf is the machine of a directory, and whether it is a program's.
func (w *world) specOf(dir string) (spec message.ItemHash, program bool) {
	rest, _ := filepath.Rel(w.dir, dir)
	parts := strings.Split(rest, "/")
	for i, p := range parts {
		if h, err := message.ParseItemHash(p); err == nil {
			return h, i > 0 && parts[i-1] == "programs"
		}
	}
	return message.ItemHash(dir), false
}

// rows reads a table of the node's database.
func rows[T any](w *world, table string) ([]T, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.dir, "state.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	found, err := db.QueryContext(context.WithoutCancel(w.Context()), "SELECT doc FROM "+table+" ORDER BY pk")
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var out []T
	for found.Next() {
		var doc []byte
		var row T
		if err := errors.Join(found.Scan(&doc), json.Unmarshal(doc, &row)); err != nil {
			return nil, err
		}
		out = append(out, row)
	}
	return out, found.Err()
}

// expected is what there should be when nothing is under way: the machines that run,
// those that are down but kept, and the programs that run.
type expected struct {
	up, down, programs map[message.ItemHash]bool
}

// compare returns what on the host is not as expected.
func (w *world) compare(want expected) error {
	all := []error{w.compareRows(want), w.compareProcesses(want), w.compareFiles(want), w.compareNetwork(want)}
	return errors.Join(all...)
}

// differ says in what two sets differ.
func differ(what string, got, want map[message.ItemHash]bool) error {
	var all []error
	for h := range got {
		if !want[h] {
			all = append(all, fmt.Errorf("%s %.8s is too many", what, h))
		}
	}
	for h := range want {
		if !got[h] {
			all = append(all, fmt.Errorf("%s %.8s is missing", what, h))
		}
	}
	return errors.Join(all...)
}

func union(sets ...map[message.ItemHash]bool) map[message.ItemHash]bool {
	out := map[message.ItemHash]bool{}
	for _, s := range sets {
		maps.Copy(out, s)
	}
	return out
}

func (w *world) compareRows(want expected) error {
	vms, err := rows[state.VM](w, "vms")
	if err != nil {
		return err
	}
	up, down, all := map[message.ItemHash]bool{}, map[message.ItemHash]bool{}, []error(nil)
	for _, vm := range vms {
		switch {
		case vm.State == state.VMRunning:
			up[vm.Spec] = true
		case (vm.State == state.VMHalted || vm.State == state.VMPaused) && !vm.StoppedAt.IsZero():
			down[vm.Spec] = true
		default:
			all = append(all, fmt.Errorf("row %.8s is %s: %s", vm.Spec, vm.State, vm.Detail))
		}
		if vm.Halt != nil && up[vm.Spec] {
			all = append(all, fmt.Errorf("row %.8s has an order that was not obeyed", vm.Spec))
		}
	}
	open := map[message.ItemHash]bool{}
	leases, err := rows[state.Lease](w, "leases")
	for _, l := range leases {
		if l.Open() {
			open[l.Spec] = true
		}
	}
	for h := range open {
		if !want.up[h] && !want.down[h] {
			all = append(all, fmt.Errorf("lease %.8s is open", h))
		}
	}
	return errors.Join(append(all, err, differ("row of a running machine", up, want.up), differ("row of a machine that is down", down, want.down))...)
}

func (w *world) compareProcesses(want expected) error {
	machines, programs, all := map[message.ItemHash]bool{}, map[message.ItemHash]bool{}, []error(nil)
	for _, p := range processes(w.dir) {
		spec, program := w.specOf(p.dir)
		to := machines
		if program {
			to = programs
		}
		if to[spec] {
			all = append(all, fmt.Errorf("two processes of %.8s", spec))
		}
		to[spec] = true
		if running, err := vmm.Running(p.dir); err != nil || !running {
			all = append(all, fmt.Errorf("process %d has no lock of %s", p.pid, p.dir), err)
		}
	}
	return errors.Join(append(all, differ("process of machine", machines, want.up), differ("process of program", programs, want.programs))...)
}

// compareFiles looks at directories, and at their locks.
func (w *world) compareFiles(want expected) error {
	var all []error
	dirs := func(root string) (map[message.ItemHash]bool, error) {
		out := map[message.ItemHash]bool{}
		entries, err := os.ReadDir(root)
		if errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		for _, e := range entries {
			h, parsed := message.ParseItemHash(e.Name())
			if parsed == nil {
				out[h] = true
			} else if e.IsDir() {
				err = errors.Join(err, fmt.Errorf("directory %s", filepath.Join(root, e.Name())))
			}
		}
		return out, err
	}
	got, err := dirs(filepath.Join(w.dir, "vms"))
	all = append(all, err, differ("directory of machine", got, union(want.up, want.down)))
	for h := range got {
		if running, err := vmm.Running(filepath.Join(w.dir, "vms", string(h))); err != nil || running != want.up[h] {
			all = append(all, fmt.Errorf("lock of %.8s is held: %v, want %v", h, running, want.up[h]), err)
		}
	}
	backups, _ := os.ReadDir(filepath.Join(w.dir, "backups"))
	for _, e := range backups {
		h, _, _ := strings.Cut(e.Name(), "-")
		if spec, err := message.ParseItemHash(h); err == nil && !want.up[spec] && !want.down[spec] {
			all = append(all, fmt.Errorf("backup %s of a machine that is gone", e.Name()))
		}
	}
	of := map[message.ItemHash]bool{}
	machines, _ := filepath.Glob(filepath.Join(w.dir, "functions/programs/*/machine"))
	for _, dir := range machines {
		spec, _ := w.specOf(dir)
		of[spec] = true
	}
	return errors.Join(append(all, differ("directory of a program's machine", of, want.programs))...)
}

// compareNetwork looks at devices, and at the rules that name them.
func (w *world) compareNetwork(want expected) error {
	name := vmnet.NameOf(w.dir)
	placed := union(want.up, want.programs)
	taps, devices, all := map[message.ItemHash]bool{}, map[string]bool{}, []error(nil)
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		a := l.Attrs()
		id, ours := strings.CutPrefix(a.Alias, "aleph:"+name+":")
		switch {
		case ours:
			taps[message.ItemHash(id)], devices[a.Name] = true, true
		case strings.HasPrefix(a.Name, "al"):
			all = append(all, fmt.Errorf("device %s has no mark", a.Name))
		}
	}
	all = append(all, differ("device", taps, placed))
	out, err := exec.CommandContext(context.WithoutCancel(w.Context()), "nft", "-n", "list", "ruleset").Output()
	all = append(all, err)
	for _, word := range strings.FieldsFunc(string(out), func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789*", r) }) {
		if len(word) == 15 && strings.HasPrefix(word, "al") && !devices[word] && !strings.Contains(word, "*") {
			all = append(all, fmt.Errorf("rules name the device %s, which is not there", word))
		}
	}
	var ports int
	vms, err := rows[state.VM](w, "vms")
	for _, vm := range vms {
		if want.up[vm.Spec] {
			ports += len(vm.Ports)
		}
	}
	if got := elements(out, "map ports"); got != ports {
		all = append(all, fmt.Errorf("%d ports are forwarded, want %d", got, ports))
	}
	return errors.Join(append(all, err)...)
}

// elements counts those of a set or map of a ruleset.
func elements(ruleset []byte, of string) int {
	_, rest, found := bytes.Cut(ruleset, []byte(of+" {"))
	if !found {
		return 0
	}
	body, _, _ := bytes.Cut(rest, []byte("\n\t}"))
	_, list, found := bytes.Cut(body, []byte("elements = {"))
	if !found {
		return 0
	}
	return bytes.Count(list, []byte(",")) + 1
}
