package executor_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// sev is a platform that believes in secrets.
type sev struct {
	host *vmmtest.Host

	mu       sync.Mutex
	injected map[string]bool // By id; guarded by mu
}

func (s *sev) isGuarded(id string) bool {
	spec, ok := s.host.Spec(id)
	return ok && spec.Confidential != nil
}

// Platform implements vmm.Guard.
func (d *driver) Platform(context.Context) (*vmm.Platform, error) {
	if d.sev == nil {
		return nil, errs.New(errs.Unavailable, "no confidential machines: this host has no AMD SEV")
	}
	return &vmm.Platform{Certificates: []byte("chain"), CBit: 51, PhysBits: 1}, nil
}

// guarded is a confidential machine of it.
type guarded struct {
	vmm.Machine
	sev *sev
}

func (g guarded) Measurement(context.Context) (*vmm.Measurement, error) {
	return &vmm.Measurement{Enabled: true, Policy: 1, State: "launch-secret", Launch: "measured"}, nil
}

func (g guarded) Inject(_ context.Context, _, secret string) (json.RawMessage, error) {
	if secret != "good" {
		return nil, errs.New(errs.Invalid, "refused")
	}
	g.sev.mu.Lock()
	defer g.sev.mu.Unlock()
	g.sev.injected[g.ID()] = true
	return json.RawMessage(`{"status":"running"}`), nil
}

// confidential returns the nth message of a confidential machine.
func (s *source) confidential(n int, trusted string) message.ItemHash {
	s.t.Helper()
	return s.content(fmt.Sprintf(`{"address":%q,"time":%d,"allow_amend":false,
		"environment":{"internet":true,"aleph_api":false,"hypervisor":"qemu","trusted_execution":%s},
		"resources":{"vcpus":1,"memory":512,"seconds":30},"payment":{"chain":"ETH","type":"credit"},"volumes":[],
		"rootfs":{"parent":{"ref":"%s"},"persistence":"host","size_mib":1000}}`,
		address(s.t, payerKey).Hex(), 1_700_000_000+n, trusted, s.image().ItemHash)).ItemHash
}

// firmware names the image, which is a file as good as another.
func (s *source) firmware(policy int) string {
	return fmt.Sprintf(`{"firmware":"%s","policy":%d}`, s.image().ItemHash, policy)
}

func ofOwner(n int) []byte { return []byte(base64.StdEncoding.EncodeToString(make([]byte, n)) + "\n") }

func guarding(t *testing.T) (*world, *executor.Supervisor, func()) {
	t.Helper()
	w := newWorld(t)
	w.core, w.sev = newCore(), &sev{host: w.host, injected: map[string]bool{}}
	w.cfg.LeaseRetention = time.Minute
	s := w.supervisor()
	return w, s, w.run(s)
}

// TestAConfidentialMachineStartsWithTheSessionOfItsOwner from the request to the secret,
// over a restart of the node, a crash of its process, and a stop.
func TestAConfidentialMachineStartsWithTheSessionOfItsOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := guarding(t)
		defer func() { stop() }()
		spec := w.src.confidential(1, w.src.firmware(1))
		ctx := t.Context()
		awaits := func(want bool) {
			t.Helper()
			time.Sleep(5 * time.Second)
			vm := w.vm(spec)
			if vm == nil || vm.AwaitsOwner != want {
				t.Fatalf("machine is %+v, want it to wait for its owner: %v", vm, want)
			}
			if want && (vm.PID != 0 && vm.State == state.VMRunning || len(vm.Ports) == 0) {
				t.Errorf("machine that waits is %+v", vm)
			}
		}
		if err := s.Request(ctx, spec); err != nil {
			t.Fatal(err)
		}
		awaits(true)
		if _, err := s.Measurement(ctx, spec); errs.KindOf(err) != errs.Unavailable {
			t.Errorf("measurement of a machine that waits: %v", err)
		}
		stop()
		s = w.supervisor()
		stop = w.run(s)
		awaits(true)
		for name, parts := range map[string][2][]byte{
			"a short session": {ofOwner(127), ofOwner(2084)}, "a short certificate": {ofOwner(128), ofOwner(2083)}, "no base64": {[]byte("?"), ofOwner(2084)},
		} {
			if err := s.Initialize(ctx, spec, parts[0], parts[1]); errs.KindOf(err) != errs.Invalid {
				t.Errorf("%s: %v, want it refused", name, err)
			}
		}

		w.host.Set(vmmtest.Faults{Start: errs.New(errs.Unavailable, "QEMU did not start: LAUNCH_START")})
		if err := s.Initialize(ctx, spec, ofOwner(128), ofOwner(2084)); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "LAUNCH_START") {
			t.Errorf("a session that the platform does not take: %v", err)
		}
		w.host.Set(vmmtest.Faults{})
		awaits(true)

		if err := s.Initialize(ctx, spec, ofOwner(128), ofOwner(2084)); err != nil {
			t.Fatal(err)
		}
		awaits(false)
		if vm := w.wantState(spec, state.VMRunning); !strings.Contains(vm.Detail, "measured") {
			t.Errorf("detail is %q", vm.Detail)
		}
		got, ok := w.host.Spec(string(spec))
		if c := got.Confidential; !ok || c == nil || c.Policy != 1 || c.Firmware == "" || len(c.Session) != len(ofOwner(128))-1 {
			t.Errorf("started with %+v", got.Confidential)
		}
		if m, err := s.Measurement(ctx, spec); err != nil || m.Launch != "measured" {
			t.Errorf("measurement %+v, %v", m, err)
		}
		if _, err := s.Inject(ctx, spec, "header", "bad"); errs.KindOf(err) != errs.Invalid {
			t.Errorf("a bad secret: %v", err)
		}
		if status, err := s.Inject(ctx, spec, "header", "good"); err != nil || !strings.Contains(string(status), "running") {
			t.Errorf("status %s, %v", status, err)
		}
		if vm := w.vm(spec); vm.Detail != "runs" {
			t.Errorf("detail is %q", vm.Detail)
		}
		// The firmware stays as long as the machine.
		needed, err := s.Needed(ctx)
		if err != nil || !needed(w.vm(spec).Files[w.src.image().ItemHash], time.Time{}) {
			t.Errorf("the firmware is not needed: %v", err)
		}

		if _, err := s.BeginBackup(ctx, spec, executor.BackupOptions{}); errs.KindOf(err) != errs.Invalid {
			t.Errorf("a backup: %v, want it refused", err)
		}
		if _, err := s.BeginExport(ctx, spec); errs.KindOf(err) != errs.Invalid {
			t.Errorf("an export: %v, want it refused", err)
		}

		// A crash starts it again, paused, for its owner to inject the secret again.
		w.host.Die(string(spec), "crash")
		time.Sleep(10 * time.Second)
		if vm := w.wantState(spec, state.VMRunning); vm.AwaitsOwner || w.host.Starts(string(spec)) != 2 || !strings.Contains(vm.Detail, "measured") {
			t.Errorf("after a crash it was started %d times and %q", w.host.Starts(string(spec)), vm.Detail)
		}

		// Who stops it starts it with another session.
		if _, err := s.Stop(ctx, spec, "its owner"); err != nil {
			t.Fatal(err)
		}
		if err := s.Initialize(ctx, spec, ofOwner(128), ofOwner(2084)); errs.KindOf(err) != errs.Conflict {
			t.Errorf("a session for a machine that is stopped: %v", err)
		}
		if err := s.Request(ctx, spec); err != nil {
			t.Fatal(err)
		}
		awaits(true)
		if err := s.Erase(ctx, spec, "its owner"); err != nil {
			t.Fatal(err)
		}
		if l, err := w.db.Lease(ctx, spec); err == nil && l.Open() {
			t.Errorf("erased, and its lease is %+v", l)
		}
	})
}

func TestConfidentialMachinesThatTheHostCannotRunAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, stop := guarding(t)
		for name, trusted := range map[string]string{
			"registers encrypted": w.src.firmware(5),
			"a bit of its own":    w.src.firmware(0x41),
			"another platform": fmt.Sprintf(`{"mode":"sev_snp","runtime":"%s","policy":196608,"measurements":[{"platform":"sev_snp","registers":{"launch":"%s"}}]}`,
				w.src.image().ItemHash, strings.Repeat("0", 96)),
		} {
			err := s.Request(t.Context(), w.src.confidential(len(name), trusted))
			w.wantRefusal(err, executor.CannotRun)
			if _, err := w.db.Lease(t.Context(), w.src.confidential(len(name), trusted)); !errors.Is(err, errs.NotFound) {
				t.Errorf("%s: there is a lease: %v", name, err)
			}
		}
		if chain, err := s.Certificates(t.Context()); err != nil || string(chain) != "chain" {
			t.Errorf("certificates %q, %v", chain, err)
		}
		stop()
		w.sev = nil
		s = w.supervisor()
		stop = w.run(s)
		defer stop()
		err := s.Request(t.Context(), w.src.confidential(1, w.src.firmware(1)))
		w.wantRefusal(err, executor.CannotRun)
		if !strings.Contains(err.Error(), "AMD SEV") {
			t.Errorf("the reason is %v", err)
		}
		if _, err := s.Certificates(t.Context()); errs.KindOf(err) != errs.Unavailable {
			t.Errorf("certificates: %v", err)
		}
	})
}
