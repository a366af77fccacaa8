package aleph

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// offerWindow is how long an offer may be opened, in chain time: enough
	// for a decision and its transaction, too short to surprise the payer.
	offerWindow = 10 * time.Minute
	// pollInterval is how often the Wait methods look: well below the time of
	// a stage, well above the cost of an answer.
	pollInterval = 250 * time.Millisecond
	// nonceBits is the width of a random offer nonce.
	nonceBits = 256
)

// InstanceSpec is a machine to create.
type InstanceSpec struct {
	Image     message.ItemHash // STORE message of the image
	Name      string
	SSHKeys   []string // public keys that may log in
	VCPUs     int
	MemoryMiB int
	DiskMiB   int64
	Ports     []message.PublishedPort // forwarded besides 22
	Variables map[string]string
}

// Content returns the content of the INSTANCE message for an owner.
func (s InstanceSpec) Content(owner common.Address, at time.Time) (*message.Instance, error) {
	i := &message.Instance{
		Executable: message.Executable{
			Address: owner.Hex(), Time: at.UTC().Truncate(time.Microsecond), AuthorizedKeys: s.SSHKeys, Variables: s.Variables,
			Resources: message.Resources{VCPUs: s.VCPUs, MemoryMiB: s.MemoryMiB, Seconds: 1, PublishedPorts: s.Ports},
			Payment:   creditPayment(),
		},
		Environment: message.Environment{Internet: true},
		Rootfs:      message.Rootfs{Parent: message.Parent{Ref: s.Image, UseLatest: true}, Persistence: "host", SizeMiB: s.DiskMiB},
	}
	if s.Name != "" {
		raw, err := json.Marshal(s.Name)
		if err != nil {
			return nil, fmt.Errorf("encode name: %w", err)
		}
		i.Metadata = message.Metadata{"name": raw}
	}
	raw, err := json.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("encode instance: %w", err)
	}
	if _, err := message.ParseInstance(raw); err != nil {
		return nil, fmt.Errorf("instance: %w", err)
	}
	return i, nil
}

// Limits bounds what an offer agrees to.
type Limits struct {
	MaxRateQ32 Wei    // the rate of a quote
	NodeHint   uint32 // node to run on; 0 leaves the choice to the coordinator
	MaxUntil   uint64 // Unix seconds of chain time at which the job ends; 0 means open end
}

// CreateInstance signs the message and the offer for a content and opens the
// job.
func (c *Client) CreateInstance(ctx context.Context, a *Account, content *message.Instance, limits Limits) (*Job, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	e, err := a.SignContent(message.TypeInstance, content, content.Time)
	if err != nil {
		return nil, err
	}
	nonce, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), nonceBits))
	if err != nil {
		return nil, fmt.Errorf("make nonce: %w", err)
	}
	o := &job.Offer{
		Spec: e.ItemHash, Payer: a.Address(), Token: job.TokenALEPH, MaxRateQ32: limits.MaxRateQ32.Big(), NodeHint: limits.NodeHint,
		MaxUntil: limits.MaxUntil, Deadline: info.Chain.Time + uint64(offerWindow/time.Second), Nonce: nonce,
	}
	sig, err := a.SignOffer(info.Jobs(), o)
	if err != nil {
		return nil, err
	}
	return c.OpenJob(ctx, JobRequest{Message: e, Offer: o, Signature: sig})
}

// SpecOf returns the item hash that the message of a content will have.
func SpecOf(content *message.Instance) (message.ItemHash, error) {
	raw, err := json.Marshal(content)
	if err != nil {
		return "", fmt.Errorf("encode instance: %w", err)
	}
	return message.HashOf(raw), nil
}

// Stop signs and sends the end of a job.
func (c *Client) Stop(ctx context.Context, a *Account, spec message.ItemHash) (*Job, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	stop, err := a.SignStop(info.Jobs(), spec, info.Chain.Time+uint64(offerWindow/time.Second))
	if err != nil {
		return nil, err
	}
	return c.StopJob(ctx, spec, stop)
}

// EndedError is a job that ended while something else was waited for.
type EndedError struct{ Job *Job }

// Error implements error.
func (e *EndedError) Error() string {
	if e.Job.StatusReason == "" {
		return fmt.Sprintf("job %s is %s", e.Job.Spec, e.Job.Status)
	}
	return fmt.Sprintf("job %s is %s: %s", e.Job.Spec, e.Job.Status, e.Job.StatusReason)
}

// WaitRunning waits until a job runs and its machine's ports are known. Each
// change of its status is told to progress, if that is not nil. A job that
// ends instead is an *EndedError.
func (c *Client) WaitRunning(ctx context.Context, spec message.ItemHash, progress func(*Job)) (*Job, error) {
	return c.waitJob(ctx, spec, progress, func(j *Job) (bool, error) {
		if j.Status.Ended() {
			return false, &EndedError{j}
		}
		return j.Status == JobRunning && len(j.Ports) > 0, nil
	})
}

// WaitEnded waits until a job has ended.
func (c *Client) WaitEnded(ctx context.Context, spec message.ItemHash, progress func(*Job)) (*Job, error) {
	return c.waitJob(ctx, spec, progress, func(j *Job) (bool, error) { return j.Status.Ended(), nil })
}

func (c *Client) waitJob(ctx context.Context, spec message.ItemHash, progress func(*Job), done func(*Job) (bool, error)) (*Job, error) {
	return wait(ctx, fmt.Sprintf("job %s", spec), func() (*Job, bool, error) {
		j, err := c.Job(ctx, spec)
		if err != nil {
			return nil, false, err
		}
		if progress != nil {
			progress(j)
		}
		ok, err := done(j)
		return j, ok, err
	})
}

// WaitReceipt waits until everything of an ended job is settled.
func (c *Client) WaitReceipt(ctx context.Context, spec message.ItemHash) (*Receipt, error) {
	return wait(ctx, fmt.Sprintf("receipt of %s", spec), func() (*Receipt, bool, error) {
		r, err := c.Receipt(ctx, spec)
		if err != nil {
			return nil, false, err
		}
		return r, r.Complete, nil
	})
}

// WaitMessage waits until a message is processed; a rejection is an *Error.
func (c *Client) WaitMessage(ctx context.Context, hash message.ItemHash) (*MessageView, error) {
	return wait(ctx, fmt.Sprintf("message %s", hash), func() (*MessageView, bool, error) {
		m, err := c.Message(ctx, hash)
		if err != nil {
			return nil, false, err
		}
		if m.Status == message.StatusRejected {
			return nil, false, &Error{Status: 422, Title: "message rejected", Detail: m.Detail, Code: m.ErrorCode}
		}
		return m, m.Status == message.StatusProcessed, nil
	})
}

// wait polls look until it is done. A node that is away is asked again until
// the context ends, because what is waited for goes on without it.
func wait[T any](ctx context.Context, what string, look func() (*T, bool, error)) (*T, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		v, done, err := look()
		switch {
		case err != nil && !errors.Is(err, Unavailable):
			return nil, err
		case done && err == nil:
			return v, nil
		}
		last = err
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", what, errors.Join(context.Cause(ctx), last))
		case <-ticker.C:
		}
	}
}
