//go:build e2e

package machines_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/nodes"
)

// The ports at which the machines of the two nodes are reached.
const (
	portsOfSource = 29_000
	portsOfTarget = 29_100
	portsOfEach   = 100
)

// mover is a compute node as a process of its own, which can be killed.
type mover struct {
	*world
	path string // Of its settings.
	file map[string]fields
	root string // Directory of its machines.
	cmd  *exec.Cmd
}

// newMover starts a compute node with the program that was built.
func (w *world) newMover(cfg config.Config, ports int, executor fields) *mover {
	w.Helper()
	at := *w
	m := &mover{world: &at, root: filepath.Join(cfg.Node.DataDir, "vms"), path: filepath.Join(cfg.Node.DataDir, "config.toml")}
	at.compute = "http://" + freeAddress(w.T)
	contracts := fields{}
	for name, address := range cfg.Chain.Contracts.ByName() {
		contracts[name] = address.Hex()
	}
	m.file = map[string]fields{
		"node": {"role": "compute", "data_dir": cfg.Node.DataDir},
		"chain": {
			"rpc_url": cfg.Chain.RPCURL, "chain_id": cfg.Chain.ChainID, "from_block": cfg.Chain.FromBlock, "poll_interval": "50ms", "contracts": contracts,
		},
		"network": {"bootstrap_peers": cfg.Network.BootstrapPeers}, "corenode": {"servers": cfg.CoreNode.Servers},
		"crn": {"allocation_signers": cfg.CRN.AllocationSigners}, "api": {"bind": strings.TrimPrefix(at.compute, "http://")},
		"vmnet": {"mode": "user", "port_min": ports, "port_max": ports + portsOfEach - 1}, "qemu": {"probe_image": cfg.QEMU.ProbeImage},
		"executor": executor,
	}
	w.Cleanup(func() {
		m.kill()
		nodes.EndMachines(w.T, m.root)
	})
	m.start()
	return m
}

// freeAddress is an address of this host where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the process and waits until it answers.
func (m *mover) start() {
	m.Helper()
	raw, err := toml.Marshal(m.file)
	if err == nil {
		err = os.WriteFile(m.path, raw, 0o600)
	}
	if err != nil {
		m.Fatal(err)
	}
	bin, err := filepath.Abs(filepath.Join(cmp.Or(os.Getenv("ALEPH_BIN"), "../../../bin"), "aleph-node"))
	if err != nil {
		m.Fatal(err)
	}
	m.cmd = exec.Command(bin, "--config", m.path)
	m.cmd.Stdout, m.cmd.Stderr = m.Output(), m.Output()
	if err := m.cmd.Start(); err != nil {
		m.Fatalf("%v; 'make build' makes it, or set ALEPH_BIN", err)
	}
	m.until("the node to answer", func() bool {
		r, err := http.Get(m.compute + "/v2/about/executions/list")
		if err != nil {
			return false
		}
		return r.Body.Close() == nil && r.StatusCode == http.StatusOK
	})
}

// kill ends the process with SIGKILL.
func (m *mover) kill() {
	_ = m.cmd.Process.Kill() // It may have ended.
	_ = m.cmd.Wait()         // It was killed.
}

// locked reports whether somebody has the machine's directory: its process, or who
// copies its disks.
func (m *mover) locked(vm message.ItemHash) bool {
	locked, err := vmm.Running(filepath.Join(m.root, string(vm)))
	return err != nil || locked
}

// runs reports whether a process of the machine lives on the node, whatever the
// node says.
func (m *mover) runs(vm message.ItemHash) bool {
	if !m.locked(vm) {
		return false
	}
	dir := filepath.Join(m.root, string(vm))
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	for _, path := range all {
		line, err := os.ReadFile(filepath.Join(path, "cmdline"))
		if err != nil || !bytes.Contains(line, []byte("qemu-system")) {
			continue // Another one, or it has ended.
		}
		at, err := os.Readlink(filepath.Join(path, "cwd"))
		if err == nil && at == dir || bytes.Contains(line, []byte(dir)) {
			return true
		}
	}
	return false
}

// moveFile is what the machine's directory says of its move; the zero Move for
// nothing.
func (m *mover) moveFile(vm message.ItemHash) disk.Move {
	move, err := disk.MoveOf(filepath.Join(m.root, string(vm)))
	if err != nil {
		return disk.Move{}
	}
	return move
}

// exported is an export as its status has it.
type exported struct {
	State string
	Error *string
	Token *string `json:"export_token"`
	Files []struct {
		Name   string `json:"name"`
		Bytes  int64  `json:"size_bytes"`
		SHA256 string `json:"sha256"`
		Path   string `json:"download_path"`
	} `json:"disk_files"`
}

// imported is an import as its status has it.
type imported struct {
	State string
	Error *string
	Done  int64   `json:"bytes_downloaded"`
	Step  *string `json:"current_step"`
}

// status reads a status of the scheduler's.
func status[T any](m *mover, path string) (got T) {
	m.Helper()
	code, body := m.scheduled("GET", path, nil)
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK {
		m.Fatalf("%s: %d %s (%v)", path, code, body, err)
	}
	return got
}

// line is the way from the target to the source, in which the test stands.
type line struct {
	host string
	port int

	mu      sync.Mutex
	spoil   func(io.ReadCloser) io.ReadCloser // Of a file that is fetched; nil for none. Guarded by mu.
	offsets []string                          // What was asked for: the ranges. Guarded by mu.
}

// newLine listens at an address of this host from which nodes fetch.
func newLine(t *testing.T, source string) *line {
	t.Helper()
	to, err := url.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(ownAddress(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	l := &line{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) } // The source is away.
	proxy.ModifyResponse = func(r *http.Response) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.offsets = append(l.offsets, r.Request.Header.Get("Range"))
		if l.spoil != nil {
			r.Body = l.spoil(r.Body)
		}
		return nil
	}
	server := &httptest.Server{Listener: ln, Config: &http.Server{Handler: proxy, ReadHeaderTimeout: long}}
	server.Start()
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(ln.Addr().String())
	if err == nil {
		l.port, err = strconv.Atoi(port)
	}
	if err != nil {
		t.Fatal(err)
	}
	l.host = host
	return l
}

// ownAddress is an address of this host that is none of the loopback: from that no
// node fetches.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	t.Skip("this host has no address but those of the loopback, and from that no node fetches")
	return ""
}

// set decides what becomes of files from now on.
func (l *line) set(spoil func(io.ReadCloser) io.ReadCloser) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spoil, l.offsets = spoil, nil
}

func (l *line) asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.offsets...)
}

// spoiled is a body with a hand in it at a byte.
type spoiled struct {
	io.ReadCloser

	left int64        // Bytes before the spot.
	at   func([]byte) // Called once with what begins at the spot.
}

// Read implements io.Reader.
func (s *spoiled) Read(p []byte) (int, error) {
	if s.left > 0 && int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.ReadCloser.Read(p)
	if s.left == 0 && n > 0 && s.at != nil {
		s.at(p[:n])
		s.at = nil
	}
	s.left -= min(int64(n), s.left)
	return n, err
}

// pair is two nodes and a machine.
type pair struct {
	*testing.T
	a, b *mover
	line *line
	vm   message.ItemHash
}

// one checks that the machine does not run on both nodes, all the time until the
// test ends.
func (p *pair) one() {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if p.a.locked(p.vm) && p.b.locked(p.vm) && p.a.runs(p.vm) && p.b.runs(p.vm) {
				p.Error("the machine runs on both nodes")
				return
			}
		}
	}()
	p.Cleanup(func() {
		close(stop)
		<-done
	})
}

// nowhere checks that the machine runs on neither node.
func (p *pair) nowhere(when string) {
	p.Helper()
	if a, b := p.a.runs(p.vm), p.b.runs(p.vm); a || b {
		p.Fatalf("%s: it runs on the source %v, on the target %v; want neither", when, a, b)
	}
}

// fetch asks the target for the machine.
func (p *pair) fetch(e exported) (int, string) {
	p.Helper()
	return p.b.scheduled("POST", "/control/migrate", encode(p.T, fields{
		"vm_hash": p.vm, "source_host": p.line.host, "source_port": p.line.port, "export_token": *e.Token, "disk_files": e.Files,
	}))
}

// arrives waits until the import has ended.
func (p *pair) arrives() (got imported) {
	p.Helper()
	p.b.until("the end of the import", func() bool {
		got = status[imported](p.b, "/control/migrate/"+string(p.vm)+"/status")
		return got.State != "importing"
	})
	return got
}

// TestAMachineMovesBetweenTwoNodes moves a machine as a scheduler does, with what can
// go wrong on the way: the source is killed while it copies, the target has no room,
// a byte changes on the way, the target is killed while it fetches, and the source
// is killed before anybody tells it that the machine has arrived.
func TestAMachineMovesBetweenTwoNodes(t *testing.T) {
	w, core := newCore(t)
	first, second := core.Compute, nodes.Settings(t, core.Net, job.KindCompute)
	second.Network.BootstrapPeers, second.CoreNode, second.CRN, second.QEMU = first.Network.BootstrapPeers, first.CoreNode, first.CRN, first.QEMU
	p := &pair{T: t}
	p.a = w.newMover(first, portsOfSource, fields{"interval": "500ms", "memory_mib": 1024})
	p.b = w.newMover(second, portsOfTarget, fields{"interval": "500ms", "memory_mib": 128})
	p.line = newLine(t, p.a.compute)
	p.vm = w.instance(w.store(nodes.GuestImage(t), nil))
	machine := "/control/machine/" + string(p.vm)
	p.one()

	code, body := w.request("POST", p.a.compute+"/control/allocation/notify", fields{"instance": p.vm})
	p.a.want("notify", code, body, http.StatusOK, `"successful":true`)
	boot := p.a.login(p.vm, "cat /proc/sys/kernel/random/boot_id")
	const read = "cat /root/mark && sha256sum /root/data"
	mark := p.a.login(p.vm, "echo kept > /root/mark && dd if=/dev/urandom of=/root/data bs=1M count=8 2>/dev/null && sync && "+read)
	if !strings.HasPrefix(mark, "kept\n") {
		t.Fatalf("the machine has %q, want the mark and a hash", mark)
	}
	if !p.a.runs(p.vm) || p.b.runs(p.vm) {
		t.Fatal("no process of the machine is found on the source alone")
	}

	// The source is killed while it copies, and goes on with it.
	code, body = p.a.scheduled("POST", machine+"/migration/export", nil)
	p.a.want("export", code, body, http.StatusAccepted, `"state":"exporting"`)
	tick, late := time.NewTicker(time.Millisecond), time.After(long) // The copy is made in a moment.
	defer tick.Stop()
	for p.a.moveFile(p.vm).State != disk.Exporting {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("its disks are not copied within %v", long)
		}
	}
	p.a.kill()
	p.nowhere("after the source was killed")
	if s := p.a.moveFile(p.vm).State; s != disk.Exporting {
		t.Fatalf("the source was killed too late: the machine is %q", s)
	}
	p.a.start()
	var e exported
	p.a.until("the export", func() bool {
		e = status[exported](p.a, machine+"/migration/export/status")
		return e.State != "exporting"
	})
	if e.State != "exported" || e.Token == nil || len(e.Files) != 1 || e.Files[0].Bytes < 8<<20 {
		t.Fatalf("export: %+v, want one file of 8 MiB and more", e)
	}
	code, body = p.a.scheduled("POST", machine+"/migration/cleanup", nil)
	p.a.want("cleanup before anybody has it", code, body, http.StatusConflict, "")

	// The target has no room, and asks the source for nothing.
	code, body = p.fetch(e)
	p.b.want("import without room", code, body, http.StatusServiceUnavailable, "MiB of memory")
	if asked := p.line.asked(); len(asked) > 0 {
		t.Errorf("without room it has asked for %q", asked)
	}
	p.b.kill()
	p.b.file["executor"]["memory_mib"] = 1024
	p.b.start()

	// A byte changes on the way: the target refuses, and has not been given the machine.
	p.line.set(func(r io.ReadCloser) io.ReadCloser {
		return &spoiled{r, e.Files[0].Bytes / 2, func(b []byte) { b[0] ^= 1 }}
	})
	code, body = p.fetch(e)
	p.b.want("import of a spoiled file", code, body, http.StatusAccepted, `"state":"importing"`)
	if got := p.arrives(); got.State != "import_failed" || got.Error == nil || !strings.Contains(*got.Error, "hash") {
		t.Fatalf("import of a spoiled file: %+v, want it refused for its hash", got)
	}
	if m := p.a.moveFile(p.vm); m.State != disk.Exported || len(m.Served) != 0 {
		t.Errorf("the source has %+v, want an export that it can still call off", m)
	}
	p.nowhere("after a spoiled file")

	// The target is killed while it fetches, and goes on where it was.
	reached, over := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.line.set(func(r io.ReadCloser) io.ReadCloser {
		return &spoiled{r, e.Files[0].Bytes / 2, func([]byte) {
			once.Do(func() { close(reached) })
			<-over
		}}
	})
	code, body = p.fetch(e)
	p.b.want("import", code, body, http.StatusAccepted, `"state":"importing"`)
	<-reached
	p.b.until("half of it to come", func() bool { return status[imported](p.b, "/control/migrate/"+string(p.vm)+"/status").Done > 1<<20 })
	p.b.kill()
	close(over)
	p.line.set(nil)
	p.b.start()
	if got := status[imported](p.b, "/control/migrate/"+string(p.vm)+"/status"); got.State != "import_failed" {
		t.Errorf("after the target was killed: %+v, want that it is asked for again", got)
	}
	p.nowhere("after the target was killed")
	code, body = p.fetch(e)
	p.b.want("import again", code, body, http.StatusAccepted, "")
	if got := p.arrives(); got.State != "imported" {
		t.Fatalf("import: %+v (%s)", got, text(got.Error))
	}
	asked := p.line.asked()
	if len(asked) != 2 || strings.HasPrefix(asked[0], "bytes=0-") || asked[1] != fmt.Sprintf("bytes=%d-%[1]d", e.Files[0].Bytes-1) {
		t.Errorf("it asked for %q, want the rest, and at last the end", asked)
	}

	// The source is killed before it hears of that, and starts the machine no more.
	p.a.kill()
	p.a.start()
	if got := p.b.login(p.vm, read); got != mark {
		t.Errorf("on the target: %q, want %q", got, mark)
	}
	if now := p.b.login(p.vm, "cat /proc/sys/kernel/random/boot_id"); now == boot {
		t.Error("it has not booted anew")
	}
	code, body = w.request("POST", p.a.compute+"/control/allocation/notify", fields{"instance": p.vm})
	p.a.want("notify of the source", code, body, http.StatusServiceUnavailable, `"successful":false`)
	p.otherSoftware(e)
	code, body = p.a.scheduled("POST", machine+"/migration/cleanup", nil)
	p.a.want("cleanup", code, body, http.StatusOK, `"completed"`)
	if _, err := os.Stat(filepath.Join(p.a.root, string(p.vm))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the source has still its directory (%v)", err)
	}
	if p.a.runs(p.vm) || !p.b.runs(p.vm) {
		t.Error("in the end it does not run on the target alone")
	}
	code, body = p.b.owned("POST", machine+"/erase", nil)
	p.b.want("erase", code, body, http.StatusOK, "Erased VM")
	if running, err := vmm.Running(filepath.Join(p.b.root, string(p.vm))); err != nil || running {
		t.Errorf("it runs after it was erased (%v)", err)
	}
}

// otherSoftware takes the export as aleph-vm does: it fetches the file at one go, and
// puts what came over its own image.
func (p *pair) otherSoftware(e exported) {
	p.Helper()
	f := e.Files[0]
	code, body := p.a.request("GET", p.a.compute+f.Path+"?token=x"+*e.Token, nil)
	p.a.want("a wrong token", code, body, http.StatusUnauthorized, "Invalid or missing export token")
	code, body = p.a.request("GET", p.a.compute+f.Path+"?token="+*e.Token, nil)
	sum := sha256.Sum256([]byte(body))
	if code != http.StatusOK || hex.EncodeToString(sum[:]) != f.SHA256 {
		p.Fatalf("%s: %d and %d bytes with sha256 %x, want %+v", f.Path, code, len(body), sum, f)
	}
	path, own := filepath.Join(p.TempDir(), f.Name), filepath.Join(p.a.root, string(p.vm), vmm.DiskFile)
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		p.Fatal(err)
	}
	img := func(args ...string) []byte {
		out, err := exec.CommandContext(p.Context(), "qemu-img", args...).CombinedOutput()
		if err != nil {
			p.Fatalf("qemu-img %s: %v: %s", args[0], err, out)
		}
		return out
	}
	var info struct {
		Backing string `json:"full-backing-filename"`
		Format  string `json:"backing-filename-format"`
	}
	if err := json.Unmarshal(img("info", "--output=json", own), &info); err != nil {
		p.Fatal(err)
	}
	img("rebase", "-u", "-b", info.Backing, "-F", info.Format, path)
	img("compare", "-f", "qcow2", "-F", "qcow2", own, path)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
