package v1

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// logBuffer is how much of a console is passed on at a time.
	logBuffer = 32 << 10
	// readersPerJobMax bounds the consoles of one job that are read at the same
	// time, and readersPerCallerMax those of one owner, so that one cannot take
	// what a node streams from all.
	readersPerJobMax, readersPerCallerMax = 4, 8
)

type logsInput struct {
	Spec   string `path:"spec" doc:"Item hash of the job's INSTANCE message."`
	Follow bool   `query:"follow" doc:"Go on with what the machine writes."`
	Signed string `header:"Authorization" doc:"The owner's signed request: Aleph base64url(JSON{address,expires,nonce,signature})."`
}

// logs streams a console to its owner: this host's own, or, on a coordinator,
// the job's node's.
func (s *Server) logs(w http.ResponseWriter, r *http.Request, in *logsInput) error {
	spec, err := parseSpec(in.Spec)
	if err != nil {
		return err
	}
	caller, err := s.authenticate(in.Signed, r.Method, r.URL.RequestURI(), time.Now())
	if err != nil {
		return err
	}
	leave, err := s.readers.enter(spec, caller)
	if err != nil {
		return err
	}
	defer leave()
	body, err := s.openLogs(r.Context(), caller, executor.LogRequest{
		Spec: spec, Follow: in.Follow, Authorization: in.Signed, Method: r.Method, Target: r.URL.RequestURI(),
	})
	if err != nil {
		return err
	}
	defer body.Close()
	if err := api.BeginStream(w); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := pass(w, body); err != nil && r.Context().Err() == nil {
		// The answer has begun: only a broken connection tells of the failure.
		s.log.Debug("logs broke off", "job_id", spec, "err", err)
		panic(http.ErrAbortHandler)
	}
	return nil
}

// readers counts who reads consoles.
type readers struct {
	mu      sync.Mutex
	jobs    map[reading]int        // guarded by mu
	callers map[common.Address]int // guarded by mu
}

// reading is one that reads the console of a job. Who asks for another's job,
// and will be refused, takes no room of its owner.
type reading struct {
	spec   message.ItemHash
	caller common.Address
}

// enter lets one more read, until leave is called.
func (r *readers) enter(spec message.ItemHash, caller common.Address) (leave func(), err error) {
	k := reading{spec, caller}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.jobs[k] >= readersPerJobMax:
		return nil, errs.New(errs.Unavailable, "the console of job %s is read %d times already; end one of these first", spec, readersPerJobMax)
	case r.callers[caller] >= readersPerCallerMax:
		return nil, errs.New(errs.Unavailable, "%s reads %d consoles already; end one of these first", caller, readersPerCallerMax)
	}
	if r.jobs == nil {
		r.jobs, r.callers = map[reading]int{}, map[common.Address]int{}
	}
	r.jobs[k]++
	r.callers[caller]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.jobs[k]--; r.jobs[k] == 0 {
			delete(r.jobs, k)
		}
		if r.callers[caller]--; r.callers[caller] == 0 {
			delete(r.callers, caller)
		}
	}, nil
}

// openLogs opens the console where the machine is.
func (s *Server) openLogs(ctx context.Context, caller common.Address, r executor.LogRequest) (io.ReadCloser, error) {
	if s.parts.Console != nil {
		return s.parts.Console.Logs(ctx, r)
	}
	rows, err := s.readJob(ctx, r.Spec)
	if err != nil {
		return nil, err
	}
	if caller != rows.payer() {
		return nil, errs.New(errs.Denied, "job %s belongs to %s, not to %s", r.Spec, rows.payer(), caller)
	}
	if rows.job == nil {
		return nil, errs.New(errs.NotFound, "job %s has no machine yet", r.Spec)
	}
	id, err := rows.peer()
	if err != nil {
		return nil, err
	}
	var reply job.Reply
	body, err := s.parts.Peers.AskStream(ctx, id, job.Ask{
		Kind: job.AskLogs, Spec: r.Spec, Follow: r.Follow, Authorization: r.Authorization, Method: r.Method, Target: r.Target,
	}, &reply)
	if err != nil {
		return nil, errNode(rows, err)
	}
	return body, nil
}

// pass copies body to the client, each piece at once.
func pass(w http.ResponseWriter, body io.Reader) error {
	rc := http.NewResponseController(w)
	// The request is read: the connection may be silent for as long as the
	// machine is.
	if err := rc.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	// The client learns at once that it may read.
	if err := flush(rc, w, nil); err != nil {
		return err
	}
	buf := make([]byte, logBuffer)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := flush(rc, w, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// flush writes p and sends it on, within api.StreamIdle.
func flush(rc *http.ResponseController, w io.Writer, p []byte) error {
	if err := rc.SetWriteDeadline(time.Now().Add(api.StreamIdle)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := w.Write(p); err != nil {
		return err
	}
	return rc.Flush()
}
