//go:build conformance

package conformance_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
	"github.com/aleph-onchain/aleph-onchain/test/nodes"
)

const (
	// machinesMax bounds tests in which machines boot, by translation and beside others.
	machinesMax = 20 * time.Minute
	// nodeHash is what the message network calls the compute node.
	nodeHash = "c0de000000000000000000000000000000000000000000000000000000000001"
)

// code is a program, in the file that clients bring.
const code = `
import json

async def app(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/raise":
        raise ValueError("on purpose")
    out = {"path": scope["path"], "query": scope["query_string"].decode(), "method": scope["method"], "body": body.decode()}
    await send({"type": "http.response.start", "status": 404 if scope["path"] == "/none" else 200, "headers": [[b"content-type", b"application/json"]]})
    await send({"type": "http.response.body", "body": json.dumps(out).encode()})
`

// machines is a compute node with real machines and functions, and the coordinator that
// its clients write to.
type machines struct {
	client         // Of the coordinator.
	compute string // Base URL of the compute node, by the name that clients sign for.
	image   string // STORE of what instances boot, and
	runtime string // of what programs run on.
	list    string // URL of a list of compute nodes, as their aggregator publishes it.
	sshKey  string // Path of a private key; the public one is beside it.
	code    string // Path of an archive of code.
}

func runMachines(t *testing.T) *machines {
	t.Helper()
	functions := nodes.FunctionImage(t)
	pair := nodes.StartPair(t, func(core, compute *config.Config) {
		believe(core)
		compute.CoreNode.StandingTTL = time.Second
		compute.Executor.NodeHash, compute.Executor.BackupMiBPerSecond = nodeHash, 0 // Here nobody notices.
		compute.Functions.Image = functions
		compute.Functions.InitTimeout, compute.Functions.ConfigTimeout, compute.Functions.RestoreTimeout = machinesMax, machinesMax, machinesMax
	})
	home := devnet.CLI{Home: t.TempDir()}
	path, err := home.SSHKey()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := vmm.OpenImage(t.Context(), functions, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := &machines{client: visit(t, pair.Core), compute: strings.Replace(pair.Compute, "127.0.0.1", "localhost", 1), sshKey: path}
	m.tokens(addressOf(key("operator")), 1e6)
	m.image, m.runtime = m.publish(nodes.GuestImage(t)), m.publish(opened.Rootfs)
	list := m.encode(fields{"crns": []any{m.entry()}})
	aggregator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(list)
	}))
	t.Cleanup(aggregator.Close)
	m.list, m.code = aggregator.URL, filepath.Join(t.TempDir(), "code.zip")
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	w, err := z.Create("main.py")
	if err == nil {
		_, err = io.WriteString(w, code)
	}
	if err = errors.Join(err, z.Close()); err == nil {
		err = os.WriteFile(m.code, archive.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// publish brings a file that is larger than what clients may bring, and returns the
// STORE that names it.
func (m *machines) publish(path string) string {
	m.Helper()
	f, err := os.Open(path)
	if err != nil {
		m.Fatal(err)
	}
	defer f.Close()
	a := m.do(http.MethodPost, "/api/v1/blobs", f, "Content-Type", "application/octet-stream")
	if a.status != http.StatusCreated {
		m.Fatalf("blob = %d %s", a.status, a.body)
	}
	return m.send("processed", key("operator"), message.TypeStore, fields{"item_type": "storage", "item_hash": a.field("hash")})
}

// entry is the compute node in the list that clients read: what it says of itself, and
// what its owner registered.
func (m *machines) entry() fields {
	m.Helper()
	at := visit(m.T, m.compute)
	settings := at.ok("/status/config")
	return fields{
		"hash": nodeHash, "name": "here", "owner": addressOf(key("operator")), "address": m.compute, "parent": nil, "status": "linked",
		"score": 0.9, "reward": addressOf(key("operator")), "terms_and_conditions": nil, "compatible_available_gpus": []any{},
		"ipv6_check": fields{"host": true, "vm": true}, "system_usage": at.ok("/about/usage/system").field(),
		"version": settings.field("version"), "payment_receiver_address": settings.field("payment", "PAYMENT_RECEIVER_ADDRESS"),
		"qemu_support": settings.field("computing", "ENABLE_QEMU_SUPPORT"), "gpu_support": settings.field("computing", "ENABLE_GPU_SUPPORT"),
		"confidential_support": settings.field("computing", "ENABLE_CONFIDENTIAL_COMPUTING"),
	}
}

// environ is what the tests of clients are told.
func (m *machines) environ(more ...string) []string {
	secret := func(name string) string { return hex.EncodeToString(crypto.FromECDSA(key(name))) }
	return append([]string{
		"CONFORMANCE_NODE=" + m.url, "CONFORMANCE_CRN=" + m.compute, "CONFORMANCE_CRN_HASH=" + nodeHash,
		"CONFORMANCE_IMAGE=" + m.image, "CONFORMANCE_RUNTIME=" + m.runtime, "CONFORMANCE_SSH_KEY=" + m.sshKey + ".pub", "CONFORMANCE_CODE=" + m.code,
		"CONFORMANCE_CREDITS=" + secret(credits), "CONFORMANCE_BALANCES=" + secret(balances),
	}, more...)
}

// login runs a command in a machine, as soon as it lets in.
func (m *machines) login(vm, command string) string {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), machinesMax)
	defer cancel()
	for tick := time.NewTicker(time.Second); ; {
		port, _ := visit(m.T, m.compute).ok("/v2/about/executions/list").field(vm, "networking", "mapped_ports", "22", "host").(json.Number)
		number, _ := port.Int64()
		try, done := context.WithTimeout(ctx, waitMax)
		out, err := devnet.Login(try, "127.0.0.1", int(number), m.sshKey, command)
		done()
		if err == nil {
			return strings.TrimSpace(string(out))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.Fatalf("ssh into %s: %v", vm, err)
		}
	}
}

// TestMachines lets accounts of the TypeScript packages make machines and programs, and
// asks the compute node for them as the console's pages do.
func TestMachines(t *testing.T) {
	m := runMachines(t)
	nodeTests(t, ".", machinesMax, m.environ(), "crn/instance.test.js", "crn/program.test.js")
}

// TestPythonMachines runs the Python client and command line against a compute node.
func TestPythonMachines(t *testing.T) {
	bin := os.Getenv("CONFORMANCE_PYTHON")
	if bin == "" {
		t.Skip("without Python's packages; make test-conformance-python has them")
	}
	m := runMachines(t)
	k := key("python's machines")
	m.credits(addressOf(k), 1e12)
	secret := hex.EncodeToString(crypto.FromECDSA(k))
	env := m.environ("CONFORMANCE_ACCOUNT="+secret, "CONFORMANCE_PRICES="+hex.EncodeToString(crypto.FromECDSA(key(prices))), "CONFORMANCE_BIN="+bin+"/bin",
		"ALEPH_API_HOST="+m.url, "ALEPH_CRN_LIST_URL="+m.list, "ALEPH_ALEPH_AGGREGATE_ADDRESS="+addressOf(key(prices)),
		"ALEPH_CONFIG_HOME="+t.TempDir(), "HOME="+t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), machinesMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin+"/bin/python", "python/machines.py")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("machines.py: %v", err)
	}
	t.Logf("%s", out)
}

// TestRustMachines runs the commands of the Rust command line that ask a compute node.
func TestRustMachines(t *testing.T) {
	program := os.Getenv("CONFORMANCE_RUST")
	if program == "" {
		t.Skip("without the Rust client; make test-conformance-rust has it")
	}
	m := runMachines(t)
	k, stranger, dir := key("rust's machines"), key("a stranger"), t.TempDir()
	m.credits(addressOf(k), 1e12)
	public, err := os.ReadFile(m.sshKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	vm := m.send("processed", k, message.TypeInstance, fields{
		"allow_amend": false, "authorized_keys": []string{strings.TrimSpace(string(public))}, "variables": fields{},
		"environment": fields{"internet": true, "aleph_api": false, "hypervisor": "qemu", "reproducible": false, "shared_cache": false},
		"resources":   fields{"vcpus": 1, "memory": 256, "seconds": 30}, "payment": fields{"type": "credit", "chain": "ETH"}, "volumes": []fields{},
		"requirements": fields{"node": fields{"node_hash": nodeHash}},
		"rootfs":       fields{"parent": fields{"ref": m.image, "use_latest": true}, "persistence": "host", "size_mib": 1024},
	})
	run := func(by string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), machinesMax)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, append(append([]string{"--ccn", m.url, "instance"}, args...), "--crn", m.compute, "--chain", "eth")...)
		cmd.Env = append(os.Environ(), "ALEPH_PRIVATE_KEY="+by, "XDG_CONFIG_HOME="+dir)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	mine := hex.EncodeToString(crypto.FromECDSA(k))
	says := func(part string, args ...string) {
		t.Helper()
		if out, err := run(mine, args...); err != nil || !strings.Contains(out, part) {
			t.Fatalf("%v: %v, want %q in\n%.4000s", args, err, part, out)
		}
	}
	fails := func(part, by string, args ...string) {
		t.Helper()
		if out, err := run(by, args...); err == nil || !strings.Contains(out, part) {
			t.Errorf("%v: %v, want it to fail with %q:\n%.4000s", args, err, part, out)
		}
	}
	theirs := hex.EncodeToString(crypto.FromECDSA(stranger))
	nobody := strings.Repeat("0", 64)

	fails("Hash not found: "+nobody, mine, "start", nobody)
	fails("not found", mine, "stop", nobody)
	says("started on", "start", vm) // The node does not have it yet, so the client notifies.
	m.login(vm, "echo kept > /root/mark; sync")
	fails("Unauthorized", theirs, "stop", vm)
	fails("Unauthorized", theirs, "backup", "create", vm)

	says("Backup complete for "+vm, "backup", "create", vm, "--follow", "--skip-fsfreeze")
	says("backup_id", "backup", "info", vm)
	archive := filepath.Join(dir, "backup.tar")
	says("", "backup", "download", vm, "--output", archive)
	m.login(vm, "rm /root/mark; sync")
	says("", "backup", "restore", vm, "--file", archive)
	m.same("mark after the restore", m.login(vm, "cat /root/mark"), "kept")

	boot := m.login(vm, "cat /proc/sys/kernel/random/boot_id")
	says("", "reboot", vm)
	if again := m.login(vm, "cat /proc/sys/kernel/random/boot_id"); again == boot {
		t.Errorf("after a reboot the boot is %s, as before", boot)
	}
	says("", "stop", vm)
	says("past logs sent", "logs", vm)
	says("started on", "start", vm)
	says("", "reinstall", vm, "--yes")
	m.same("what is left of the mark", m.login(vm, "ls /root/mark 2>/dev/null; echo done"), "done")
	says("", "erase", vm)
	if left := visit(t, m.compute).ok("/v2/about/executions/list").body; strings.Contains(left, vm) {
		t.Errorf("an erased machine is listed: %s", left)
	}
	fails("not found", mine, "reboot", vm)
}
