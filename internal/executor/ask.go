package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

// Answers are the handlers of the questions that other nodes ask about jobs,
// by kind.
func (s *Supervisor) Answers() map[job.AskKind]p2p.AskHandler {
	return map[job.AskKind]p2p.AskHandler{
		job.AskAccept: s.answerAccept, job.AskStatus: s.answerStatus, job.AskLogs: s.answerLogs,
	}
}

func parseAsk(raw []byte) (*job.Ask, error) {
	ask, err := job.ParseAsk(raw)
	if err != nil {
		return nil, errs.New(errs.Invalid, "%w", err)
	}
	return ask, nil
}

func (s *Supervisor) answerAccept(ctx context.Context, from p2p.PeerID, raw []byte) (p2p.Answer, error) {
	ask, err := parseAsk(raw)
	if err != nil {
		return p2p.Answer{}, err
	}
	return p2p.Answer{Reply: s.Accept(ctx, from, ask)}, nil
}

func (s *Supervisor) answerStatus(ctx context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
	ask, err := parseAsk(raw)
	if err != nil {
		return p2p.Answer{}, err
	}
	vm, err := s.Status(ctx, ask.Spec)
	if err != nil {
		return p2p.Answer{}, err
	}
	return p2p.Answer{Reply: job.Reply{VM: vm}}, nil
}

// answerLogs checks the owner's signature before the reply, so that a refusal
// has its kind, and streams the console after it.
func (s *Supervisor) answerLogs(ctx context.Context, _ p2p.PeerID, raw []byte) (p2p.Answer, error) {
	ask, err := parseAsk(raw)
	if err != nil {
		return p2p.Answer{}, err
	}
	r := LogRequest{Spec: ask.Spec, Follow: ask.Follow, Authorization: ask.Authorization, Method: ask.Method, Target: ask.Target}
	if err := s.authorize(ctx, r, time.Now()); err != nil {
		return p2p.Answer{}, err
	}
	if _, err := s.db.VM(ctx, r.Spec); err != nil {
		return p2p.Answer{}, err
	}
	stream := func(ctx context.Context, w io.Writer) error {
		console, err := s.console(ctx, r)
		if err != nil {
			return err
		}
		defer console.Close()
		if _, err := io.Copy(w, console); err != nil && ctx.Err() == nil {
			return fmt.Errorf("stream console of %s: %w", r.Spec, err)
		}
		return nil
	}
	return p2p.Answer{Reply: job.Reply{}, Body: stream}, nil
}

// stateGone is what is said of a machine of which only the history is left.
const stateGone = "gone"

// Status returns the machine of a job with its history, or errs.NotFound. A
// machine that is removed is gone for as long as its history is kept.
func (s *Supervisor) Status(ctx context.Context, spec message.ItemHash) (*job.VM, error) {
	out := &job.VM{State: stateGone, Detail: "the node has cleaned up"}
	var vm *state.VM
	err := s.db.View(ctx, func(v *state.View) error {
		events, err := v.VMEvents(ctx, spec)
		if err != nil {
			return err
		}
		out.History = steps(events)
		vm, err = v.VM(ctx, spec)
		if errors.Is(err, errs.NotFound) && len(events) > 0 {
			return nil
		}
		if err != nil {
			return err
		}
		out.State, out.Driver, out.Accelerator, out.Detail, out.TimingsMS = string(vm.State), vm.Driver, vm.Accelerator, vm.Detail, vm.TimingsMs
		d, err := drains(ctx, v)
		if err != nil {
			return err
		}
		if d != nil && !ends(vm.State) {
			out.Detail += "; " + drainText(d)
		}
		for _, p := range vm.Ports {
			out.Ports = append(out.Ports, job.Port{Guest: int(p.Guest), Protocol: p.Protocol, Host: int(p.Host), HostIP: p.HostIP})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if vm != nil {
		if out.Usage, err = s.usage(ctx, vm); err != nil {
			s.log.Debug("machine not measured", "job_id", spec, "err", err) // It has just ended, or has not begun.
		}
	}
	return out, nil
}

// LogRequest is an owner's signed request for the console of a job.
type LogRequest struct {
	Spec          message.ItemHash
	Follow        bool
	Authorization string // Header value, see protocol/operator.
	Method        string // As signed.
	Target        string // Path and query, as signed.
}

// Logs returns the console of a job's machine to the job's owner: what is kept,
// and with Follow what comes, until ctx or the machine ends. A request that is
// not the owner's gives errs.Denied.
func (s *Supervisor) Logs(ctx context.Context, r LogRequest) (io.ReadCloser, error) {
	if err := s.authorize(ctx, r, time.Now()); err != nil {
		return nil, err
	}
	return s.console(ctx, r)
}

// console opens what the machine has written, and with Follow what comes.
func (s *Supervisor) console(ctx context.Context, r LogRequest) (io.ReadCloser, error) {
	dir := s.keptLogs(r.Spec)
	vm, err := s.db.VM(ctx, r.Spec)
	switch {
	case err == nil:
		dir = vm.Dir
	case !errors.Is(err, errs.NotFound):
		return nil, err
	default:
		if _, serr := os.Stat(dir); serr != nil {
			return nil, err
		}
	}
	logs, err := vmm.Console(ctx, dir, 0, r.Follow)
	if err != nil {
		return nil, fmt.Errorf("open console of %s: %w", r.Spec, err)
	}
	return logs, nil
}

// authorize checks that the payer of the job signed the request.
func (s *Supervisor) authorize(ctx context.Context, r LogRequest, now time.Time) error {
	target, err := url.ParseRequestURI(r.Target)
	if err != nil || r.Method != http.MethodGet || target.Path != "/api/v1/jobs/"+string(r.Spec)+"/logs" {
		return errs.New(errs.Denied, "the signed request is not for the logs of job %s", r.Spec)
	}
	req, err := operator.Parse(r.Authorization)
	if err != nil {
		return errs.New(errs.Denied, "%w", err)
	}
	if err := req.Verify(r.Method, r.Target, now); err != nil {
		return errs.New(errs.Denied, "%w", err)
	}
	payer, err := s.payer(ctx, r.Spec)
	if err != nil {
		return err
	}
	if req.Address != payer {
		return errs.New(errs.Denied, "job %s belongs to %s, the request is signed by %s", r.Spec, payer, req.Address)
	}
	return nil
}

// payer returns who pays for the job, also while the chain does not show it.
func (s *Supervisor) payer(ctx context.Context, spec message.ItemHash) (payer common.Address, err error) {
	err = s.db.View(ctx, func(v *state.View) error {
		j, err := v.Job(ctx, spec)
		if err == nil {
			payer = j.Payer
			return nil
		}
		if !errors.Is(err, errs.NotFound) {
			return err
		}
		kept, aerr := v.Acceptances(ctx)
		for _, a := range kept {
			if a.Spec == spec {
				payer = a.Payer
				return aerr
			}
		}
		return errors.Join(aerr, err)
	})
	return payer, err
}
