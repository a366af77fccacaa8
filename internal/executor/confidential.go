package executor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// defaultFirmware is the STORE message of the firmware that published clients name.
	defaultFirmware message.ItemHash = "ba5bb13f3abca960b101a759be162b229e2b7e93ecad9d1307e54de887f177ff"
	// sessionBytes and godhBytes are what an owner sends, by the SEV API specification.
	sessionBytes, godhBytes = 128, 2084
	// ownerPoll is how often is looked whether an owner has come.
	ownerPoll = time.Second

	detailAwaits   = "waits for the session of its owner"
	detailMeasured = "is measured, and runs once its owner has injected a secret"
)

// mayGuard refuses a confidential machine that this host cannot run.
func (s *Supervisor) mayGuard(ctx context.Context, t *message.TrustedExecution) error {
	if t == nil {
		return nil
	}
	if t.Mode != nil && *t.Mode != message.ModeSEV {
		return refuse(CannotRun, "the node runs confidential machines of AMD SEV, not of %s", *t.Mode)
	}
	guard, ok := s.parts.Driver.(vmm.Guard)
	if !ok {
		return refuse(CannotRun, "the node runs no confidential machines: its driver is %s", s.parts.Driver.Name())
	}
	p, err := guard.Platform(ctx)
	if err != nil {
		return refuse(CannotRun, "the node runs %v", err)
	}
	if t.Policy > math.MaxUint32 {
		return refuse(CannotRun, "guest policy %#x has more than 32 bits", t.Policy)
	}
	if err := vmm.CheckPolicy(uint32(t.Policy)); err != nil {
		return refuse(CannotRun, "%v", err)
	}
	if t.Policy&vmm.PolicyES != 0 && !p.ES {
		return refuse(CannotRun, "guest policy %#x asks for SEV-ES, which this host has not", t.Policy)
	}
	return nil
}

// firmwareRef is the STORE message of a confidential machine's firmware.
func firmwareRef(t *message.TrustedExecution) message.ItemHash {
	if t.Firmware == nil {
		return defaultFirmware
	}
	return *t.Firmware
}

// firmwareFile adds the file of a confidential machine's firmware to those of its
// volumes. What is known stays: another firmware measures otherwise.
func (s *Supervisor) firmwareFile(
	ctx context.Context, i *message.Instance, known, files map[message.ItemHash]message.ItemHash,
) (map[message.ItemHash]message.ItemHash, error) {
	t := i.Environment.TrustedExecution
	if t == nil {
		return files, nil
	}
	ref := firmwareRef(t)
	hash := known[ref]
	if hash == "" {
		var err error
		if hash, err = s.imageHash(ctx, ref); err != nil {
			return nil, fmt.Errorf("firmware: %w", err)
		}
	}
	if files == nil {
		files = map[message.ItemHash]message.ItemHash{}
	}
	files[ref] = hash
	return files, nil
}

// fetchFirmware gets the firmware of a confidential machine; "" for others.
func (w *worker) fetchFirmware(ctx context.Context, i *message.Instance, files map[message.ItemHash]message.ItemHash) (string, error) {
	t := i.Environment.TrustedExecution
	if t == nil {
		return "", nil
	}
	hash := files[firmwareRef(t)]
	path, err := w.s.parts.Images.Fetch(ctx, hash, w.progress(ctx, hash))
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("fetch firmware %s: %w", hash, err)
	}
	return path, nil
}

// bringUpGuarded prepares a confidential machine, waits for its owner, and starts it.
// A session with which it does not start is of no use: its owner sends another.
func (w *worker) bringUpGuarded(ctx context.Context, f *fetched) (vmm.Machine, error) {
	s := w.s
	var took time.Duration
	prepared := func() (vmm.Spec, error) {
		if err := acquire(ctx, s.starting); err != nil {
			return vmm.Spec{}, err
		}
		defer release(s.starting)
		started := time.Now()
		defer func() { took = time.Since(started) }()
		return w.prepare(ctx, f)
	}
	spec, err := prepared()
	if err != nil {
		return nil, err
	}
	session, err := w.awaitOwner(ctx)
	if err != nil {
		return nil, err
	}
	spec.Confidential = &vmm.Confidential{
		Policy: uint32(f.instance.Environment.TrustedExecution.Policy), Firmware: f.firmware, Session: session.Session, GODH: session.GODH,
	}
	if err := acquire(ctx, s.starting); err != nil {
		return nil, err
	}
	defer release(s.starting)
	m, err := w.boot(ctx, spec, took)
	if err != nil && ctx.Err() == nil {
		// What its owner hears of the session is in the row.
		err = errors.Join(err, s.dropSession(ctx, w.spec, session))
	}
	return m, err
}

// awaitOwner waits for the session of the machine's owner. It is there at once for a
// machine that was started with it before.
func (w *worker) awaitOwner(ctx context.Context) (*state.Session, error) {
	s := w.s
	tick := time.NewTicker(ownerPoll)
	defer tick.Stop()
	waits := false
	for {
		l, err := s.db.Lease(ctx, w.spec)
		if err != nil {
			return nil, err
		}
		if l.Session != nil || !waits {
			waits = l.Session == nil
			_, err := s.edit(ctx, w.spec, func(row *state.VM) {
				if row.AwaitsOwner = waits; waits {
					row.Detail = detailAwaits
				}
			})
			if err != nil || !waits {
				return l.Session, err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// dropSession forgets a session, unless there is another one already.
func (s *Supervisor) dropSession(ctx context.Context, spec message.ItemHash, was *state.Session) error {
	return s.db.Update(ctx, func(tx *state.Tx) error {
		l, err := tx.Lease(ctx, spec)
		if err != nil || l.Session == nil || !l.Session.At.Equal(was.At) {
			return ignoreNotFound(err)
		}
		l.Session = nil
		return tx.PutLease(ctx, *l)
	})
}

// forgetSession has a machine that its owner stopped wait for its owner when it starts
// again: a session is for one start that the owner watches.
func forgetSession(ctx context.Context, tx *state.Tx, spec message.ItemHash) error {
	l, err := tx.Lease(ctx, spec)
	if err != nil || l.Session == nil {
		return ignoreNotFound(err)
	}
	l.Session = nil
	return tx.PutLease(ctx, *l)
}

// Certificates returns the chain of the host's platform, for which owners make their
// sessions, or errs.Unavailable with the reason why there is none.
func (s *Supervisor) Certificates(ctx context.Context) ([]byte, error) {
	guard, ok := s.parts.Driver.(vmm.Guard)
	if !ok {
		return nil, errs.New(errs.Unavailable, "no confidential machines: the driver is %s", s.parts.Driver.Name())
	}
	p, err := guard.Platform(ctx)
	if err != nil {
		return nil, err
	}
	return p.Certificates, nil
}

// Initialize starts a confidential machine with the session of its owner, and waits until
// its process is up. errs.Invalid means that the session is none, or that the platform did
// not take it, and errs.Conflict that the machine is stopped and starts by no session.
func (s *Supervisor) Initialize(ctx context.Context, spec message.ItemHash, session, godh []byte) error {
	for _, part := range []struct {
		name string
		text []byte
		want int
	}{{"session", session, sessionBytes}, {"godh", godh, godhBytes}} {
		raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(part.text)))
		if err != nil || len(raw) != part.want {
			return errs.New(errs.Invalid, "%s is not the base64 of %d bytes", part.name, part.want)
		}
	}
	now := &state.Session{Session: bytes.TrimSpace(session), GODH: bytes.TrimSpace(godh), At: time.Now().UTC()}
	if err := s.setSession(ctx, spec, now); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, upMax)
	defer cancel()
	return s.await(ctx, spec, func(vm *state.VM) (bool, error) {
		if vm == nil {
			return false, errs.New(errs.NotFound, "machine %s has ended", spec)
		}
		if isUp(vm) {
			return true, nil
		}
		l, err := s.db.Lease(ctx, spec)
		if err != nil {
			return false, err
		}
		if l.Session == nil || !l.Session.At.Equal(now.At) || vm.State == state.VMFailed {
			return false, errs.New(errs.Invalid, "the machine did not start with this session: %s", vm.Detail)
		}
		return false, nil
	})
}

// setSession keeps the session of a machine that is to start.
func (s *Supervisor) setSession(ctx context.Context, spec message.ItemHash, session *state.Session) error {
	return s.db.Update(ctx, func(tx *state.Tx) error {
		l, err := tx.Lease(ctx, spec)
		if err != nil {
			return err
		}
		vm, err := tx.VM(ctx, spec)
		switch {
		case err != nil:
			return err
		case !l.Open():
			return errs.New(errs.NotFound, "machine %s has ended", spec)
		case vm.Halt != nil && !vm.Halt.Again:
			return errs.New(errs.Conflict, "machine %s is stopped: start it, then send its session", spec)
		}
		l.Session = session
		return tx.PutLease(ctx, *l)
	})
}

// guarded returns the process of a confidential machine, or errs.Unavailable while it has
// none.
func (s *Supervisor) guarded(spec message.ItemHash) (vmm.Guarded, error) {
	m := s.machine(spec)
	if m == nil {
		return nil, errs.New(errs.Unavailable, "machine %s is not up", spec)
	}
	g, ok := m.(vmm.Guarded)
	if !ok {
		return nil, errs.New(errs.Invalid, "machine %s is not confidential", spec)
	}
	return g, nil
}

// Measurement returns what the platform measured of a machine, or errs.Unavailable while
// it comes up.
func (s *Supervisor) Measurement(ctx context.Context, spec message.ItemHash) (*vmm.Measurement, error) {
	g, err := s.guarded(spec)
	if err != nil {
		return nil, err
	}
	return g.Measurement(ctx)
}

// Inject gives a machine its owner's secret and lets it run. See vmm.Guarded.
func (s *Supervisor) Inject(ctx context.Context, spec message.ItemHash, header, secret string) (json.RawMessage, error) {
	g, err := s.guarded(spec)
	if err != nil {
		return nil, err
	}
	status, err := g.Inject(ctx, header, secret)
	if err != nil {
		return nil, err
	}
	if _, err := s.edit(ctx, spec, func(row *state.VM) {
		if row.Detail == detailMeasured {
			row.Detail = detailRunning
		}
	}); err != nil {
		s.log.Warn("writing that a machine has its secret failed", "job_id", spec, "err", err)
	}
	s.log.Info("secret injected", "job_id", spec)
	return status, nil
}

// notGuarded refuses for confidential machines what copies the disks of others: those
// stay where their owner has put them.
func (s *Supervisor) notGuarded(ctx context.Context, spec message.ItemHash, what string) error {
	l, err := s.db.Lease(ctx, spec)
	if err != nil {
		return ignoreNotFound(err) // A job of the chain is never confidential.
	}
	i, _, err := readLease(*l)
	if err == nil && isConfidential(i) {
		return errs.New(errs.Invalid, "machine %s is confidential, and is not %s", spec, what)
	}
	return err
}
