package executor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// exporterAt is the node at the server's address, with the token.
func exporterAt(t *testing.T, server *httptest.Server, token string) executor.Exporter {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return executor.Exporter{Host: u.Hostname(), Port: uint16(port), Token: token}
}

func TestFilesOfAnExportAreFetchedFromAnOffset(t *testing.T) {
	content := []byte("0123456789")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Get("token") != "good":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/ranges":
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		case r.URL.Path == "/whole":
			_, _ = w.Write(content)
		case r.URL.Path == "/elsewhere":
			http.Redirect(w, r, "/whole?token=good", http.StatusFound)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	e := executor.NewExportsTo(func(netip.Addr) bool { return true })
	for _, path := range []string{"/ranges", "/whole"} {
		for _, offset := range []int64{0, 4, 9} {
			for _, end := range []int64{offset + 1, 10} {
				r, whole, err := e.Open(t.Context(), exporterAt(t, server, "good"), path, offset, end)
				if err != nil {
					t.Fatal(err)
				}
				want := content[offset:end]
				if whole {
					want = content[offset:]
				}
				got, err := io.ReadAll(r)
				if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) || whole != (path == "/whole") {
					t.Errorf("%s from %d to %d: %q, to its end %v (%v), want %q", path, offset, end, got, whole, err, want)
				}
			}
		}
	}
	for path, want := range map[string]errs.Kind{"/no": errs.NotFound, "/elsewhere": errs.Unavailable, "no path": errs.Invalid} {
		if _, _, err := e.Open(t.Context(), exporterAt(t, server, "good"), path, 0, 1); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	if _, _, err := e.Open(t.Context(), exporterAt(t, server, "bad"), "/whole", 0, 1); !errors.Is(err, errs.Denied) {
		t.Errorf("a wrong token: %v, want denied", err)
	}
}

// alephVM plays a node of aleph-vm (views/migration.py) that exports a machine: it
// sends files whole, whatever range is asked for, and with them what lay beside the
// machine's disk.
type alephVM struct {
	spec  message.ItemHash
	files map[string][]byte // By name.

	mu    sync.Mutex
	asked []string // guarded by mu
}

// status is the body of an export's status.
func (a *alephVM) status() string {
	var files []string
	for _, name := range slices.Sorted(maps.Keys(a.files)) {
		files = append(files, fmt.Sprintf(`{"name":%q,"size_bytes":%d,"sha256":%q,"download_path":"/control/machine/%s/migration/disk/%s"}`,
			name, len(a.files[name]), message.HashOf(a.files[name]), a.spec, name))
	}
	return fmt.Sprintf(`{"vm_hash":%q,"state":"exported","started_at":"2026-08-07T15:29:48.123456+00:00","finished_at":"2026-08-07T15:30:02.654321+00:00",`+
		`"error":null,"disk_files":[%s],"export_token":"m3zJ5QkAbc_-defGhIjKlMnOpQrStUvWxYz01234567"}`, a.spec, strings.Join(files, ","))
}

func (a *alephVM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ours := strings.CutPrefix(r.URL.Path, "/control/machine/"+string(a.spec)+"/migration/disk/")
	a.mu.Lock()
	a.asked = append(a.asked, name)
	a.mu.Unlock()
	switch body, there := a.files[name]; {
	case r.URL.Query().Get("token") != "m3zJ5QkAbc_-defGhIjKlMnOpQrStUvWxYz01234567":
		http.Error(w, "Invalid or missing export token", http.StatusUnauthorized)
	case !ours || !there:
		http.Error(w, "Disk file not found: "+name, http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // Who asks may go.
	}
}

// request is what a scheduler makes of the status.
func (a *alephVM) request(t *testing.T, server *httptest.Server) executor.ImportRequest {
	t.Helper()
	var got struct {
		Token string `json:"export_token"`
		Files []struct {
			disk.File

			Path string `json:"download_path"`
		} `json:"disk_files"`
	}
	if err := json.Unmarshal([]byte(a.status()), &got); err != nil {
		t.Fatal(err)
	}
	want := executor.ImportRequest{Spec: a.spec, From: exporterAt(t, server, got.Token)}
	for _, f := range got.Files {
		want.Files = append(want.Files, executor.ExportedFile{File: f.File, Path: f.Path})
	}
	return want
}

// until waits for what is to happen where time is not virtual: the network is not.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick, over := time.NewTicker(20*time.Millisecond), time.After(2*time.Minute)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestAMachineComesFromAlephVM, in each way in which it exports: flattened, each file
// once, and without what is left of a restore. One whose volumes it does not export
// stays there.
func TestAMachineComesFromAlephVM(t *testing.T) {
	w := newWorld(t)
	w.core, w.cfg.Interval, w.fetches = newCore(), 100*time.Millisecond, executor.NewExportsTo(func(netip.Addr) bool { return true })
	s := w.supervisor()
	defer w.run(s)()
	img := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
	}
	dir := t.TempDir()
	own, flat := filepath.Join(dir, "rootfs.qcow2"), filepath.Join(dir, "flat.qcow2")
	img("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", w.src.path, own, "1000M")
	img("qemu-io", "-f", "qcow2", "-c", "write -P 0x42 512k 1M", own)
	img("qemu-img", "convert", "-c", "-O", "qcow2", own, flat)
	raw, err := os.ReadFile(flat)
	if err != nil {
		t.Fatal(err)
	}
	imported := func(a *alephVM, change func(*executor.ImportRequest)) error {
		t.Helper()
		server := httptest.NewServer(a)
		defer server.Close()
		want := a.request(t, server)
		change(&want)
		job, err := s.BeginImport(t.Context(), want)
		until(t, "the end of the import", func() bool {
			if err == nil {
				job, err = s.ImportOf(t.Context(), a.spec)
			}
			return err != nil || job.State != disk.Importing || job.Err != nil
		})
		if err != nil {
			return err
		}
		return job.Err
	}
	as := func(*executor.ImportRequest) {}
	a := &alephVM{spec: w.src.instance(1).ItemHash, files: map[string][]byte{"rootfs.pre-restore-20260807T152948Z.qcow2": []byte("old"), "rootfs.qcow2": raw}}
	if err := imported(a, func(r *executor.ImportRequest) { r.From.Token = "old" }); !errors.Is(err, errs.Denied) {
		t.Errorf("with a wrong token: %v, want denied", err)
	}
	if err := imported(a, func(r *executor.ImportRequest) { r.Files[1].Path += "x" }); !errors.Is(err, errs.NotFound) {
		t.Errorf("of another file: %v, want not found", err)
	}
	a.asked = nil
	if err := imported(a, as); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(a.asked, []string{"rootfs.qcow2"}) {
		t.Errorf("it was asked for %q, want the machine's disk, once", a.asked)
	}
	until(t, "the machine", func() bool { return w.vm(a.spec).State == state.VMRunning })
	vm := w.wantState(a.spec, state.VMRunning)
	img("qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", own, filepath.Join(vm.Dir, "disk.qcow2"))
	with := &alephVM{spec: w.src.withVolumes(`{"persistence":"host","name":"data","size_mib":3}`), files: map[string][]byte{"rootfs.qcow2": raw}}
	if err := imported(with, as); !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "volume data") {
		t.Errorf("a machine without its volume: %v, want it refused", err)
	}
}

// TestNoExportLeadsToThisHost: a name may lead to an address that a scheduler
// could not name.
func TestNoExportLeadsToThisHost(t *testing.T) {
	asked := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer server.Close()
	from := exporterAt(t, server, "secret")
	for _, host := range []string{from.Host, "localhost", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0", "240.0.0.1", "fe80::1"} {
		from.Host = host
		_, _, err := executor.NewExports().Open(t.Context(), from, "/x", 0, 1)
		if err == nil || asked || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want it refused, without the token in the text", host, err)
		}
	}
}
