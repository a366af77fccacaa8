// Package rehearse carries out an upgrade of the contracts before it happens: on
// a copy of a local network's chain, with its state, by the votes and delays
// that an upgrade takes.
//
// Run compares the storage layouts, puts the new code on the chain, asks every
// view of every contract with old and new code, lets stakers announce the
// upgrade, waits, lets them carry it out, compares again, verifies what is
// deployed then, and runs jobs: one that was running during the upgrade and one
// that begins after it. Whatever is not as it was ends the rehearsal.
//
// It makes money, nodes and votes of its own, so a network's real keys are not
// needed, and it changes the chain that it is given beyond use.
package rehearse

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Release is what an upgrade is to.
type Release struct {
	Suite   []bindings.Contract
	Layouts bindings.Layouts
}

// ThisRelease returns the release that this program carries.
func ThisRelease() (Release, error) {
	layouts, err := bindings.StorageLayouts()
	return Release{Suite: bindings.Suite(), Layouts: layouts}, err
}

// rehearsal is a rehearsal under way.
type rehearsal struct {
	chain   *devchain.Chain
	client  *chain.Client
	rpc     *rpc.Client
	params  deploy.Params
	release Release
	founder *ecdsa.PrivateKey
	support uint8 // What the voter says of proposals.
	company *company
	old     *deploy.Deployment
	next    *deploy.Deployment
	names   []string // Of the contracts that are upgraded.
	report  *Report
}

// Run rehearses the upgrade of a deployment to a release on a chain that nobody
// else uses, and returns what it did and saw, also when it ends with an error: a
// breaking layout, a lost vote, an answer that changed and a job that does not
// run give errs.Conflict.
func Run(
	ctx context.Context, c *devchain.Chain, d *deploy.Deployment, params deploy.Params, release Release, log *slog.Logger,
) (*Report, error) {
	return run(ctx, c, d, params, release, voteFor, log)
}

func run(
	ctx context.Context, c *devchain.Chain, d *deploy.Deployment, params deploy.Params, release Release, support uint8, log *slog.Logger,
) (_ *Report, err error) {
	r := &rehearsal{chain: c, params: params, release: release, support: support, old: d, report: &Report{Deployed: d.Version}}
	if d.ChainID != devchain.ChainID || params.ChainID != devchain.ChainID {
		return r.report, errs.New(errs.Invalid, "the deployment is of chain %d, the parameters of chain %d: upgrades are rehearsed on a local network, %d",
			d.ChainID, params.ChainID, devchain.ChainID)
	}
	if r.founder, err = keyOf(d.Founder); err != nil {
		return r.report, err
	}
	if r.client, err = chain.Dial(ctx, chain.Config{RPCURL: c.URL(), ChainID: devchain.ChainID}, log); err != nil {
		return r.report, err
	}
	defer r.client.Close()
	if r.rpc, err = rpc.DialContext(ctx, c.URL()); err != nil {
		return r.report, errs.New(errs.Unavailable, "dial the copy of the chain: %w", err)
	}
	defer r.rpc.Close()
	ctx, stop := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		stop(c.Run(ctx)) // A chain that makes no block ends the rehearsal, and says why.
	}()
	defer func() {
		stop(errors.New("the rehearsal is over"))
		<-done
	}()
	return r.report, r.run(ctx)
}

// keyOf returns the key of one of the accounts whose keys everybody knows.
func keyOf(account common.Address) (*ecdsa.PrivateKey, error) {
	for _, a := range devchain.Accounts() {
		if a.Address == account {
			return a.Key, nil
		}
	}
	return nil, errs.New(errs.Invalid,
		"the contracts were deployed by %s, which is none of the accounts of a local network: a rehearsal makes money, and only those can", account)
}

func (r *rehearsal) run(ctx context.Context) error {
	if err := r.choose(ctx); err != nil {
		return err
	}
	fork, err := r.client.Head(ctx)
	if err != nil {
		return err
	}
	found, err := find(ctx, r.client, r.old, fork)
	if err != nil {
		return err
	}
	all, unasked, err := questions(r.old, r.release.Suite, found)
	if err != nil {
		return err
	}
	r.report.Unasked = unasked
	if err := r.implement(ctx); err != nil {
		return err
	}
	if err := r.compareUnder(ctx, all, fork); err != nil {
		return err
	}
	if err := r.gather(ctx); err != nil {
		return fmt.Errorf("prepare votes and nodes: %w", err)
	}
	across, block, err := r.upgrade(ctx)
	if err != nil {
		return err
	}
	if err := r.compareOver(ctx, all, block); err != nil {
		return err
	}
	if err := r.verify(ctx); err != nil {
		return err
	}
	return r.work(ctx, across)
}

// choose decides which contracts the upgrade is of, those whose code is not that
// of the release, and refuses a release that cannot read what they stored.
func (r *rehearsal) choose(ctx context.Context) error {
	found, err := deploy.VerifySuite(ctx, r.client, r.old, r.params, r.release.Suite)
	if err != nil {
		return err
	}
	bad := map[string]string{}
	for _, f := range found {
		bad[f.Contract] = f.Problem
	}
	var every []string
	for _, c := range r.release.Suite {
		switch c.Role {
		case bindings.Proxied:
			if bad[c.Name] != "" {
				return errs.New(errs.Conflict, "%s is not as its deployment says: %s; correct the deployment's file", c.Name, bad[c.Name])
			}
			every = append(every, c.Name)
			second, has := bindings.ExtensionOf(c.Name)
			if bad[c.Name+" (implementation)"] != "" || has && bad[second.Name] != "" {
				r.names = append(r.names, c.Name)
			}
		case bindings.Bare:
			if bad[c.Name] != "" {
				r.report.Fixed = append(r.report.Fixed, c.Name+": "+bad[c.Name])
			}
		case bindings.Tool, bindings.Extension:
		}
	}
	layouts := r.old.Layouts
	if layouts == nil && len(r.names) == 0 {
		layouts = r.release.Layouts // The same code has the same.
	}
	if r.report.Same = len(r.names) == 0; r.report.Same {
		r.names = every
	}
	if layouts == nil {
		return errs.New(errs.Invalid,
			"the deployment does not say how its contracts lay out their storage: put layouts.json of the release that deployed it, %s, into its file as \"layouts\"",
			r.old.Version)
	}
	if breaks := layouts.Breaks(r.release.Layouts); len(breaks) > 0 {
		return errs.New(errs.Conflict,
			"the new code would read wrongly what is stored: %s; members may only be added at the end: correct the contracts",
			strings.Join(breaks, "; "))
	}
	r.report.Readable, r.report.Grown = true, layouts.Grows(r.release.Layouts)
	return nil
}

// implement puts the new code on the chain.
func (r *rehearsal) implement(ctx context.Context) error {
	next, receipts, err := deploy.Implement(ctx, r.client, r.founder, r.old, r.params, r.release.Suite, r.names)
	if err != nil {
		return err
	}
	r.next = next
	r.next.Layouts = r.release.Layouts
	r.step(fmt.Sprintf("put the code of %d contracts on the chain", len(r.names)), receipts...)
	for _, name := range slices.Sorted(maps.Keys(next.Implementations)) {
		was, is := r.old.Implementations[name], next.Implementations[name]
		if was == is {
			continue
		}
		r.report.Changes = append(r.report.Changes, Change{Contract: name, Old: was, New: is})
	}
	return nil
}

// compareUnder asks the state as it was copied, by the old code and by the new
// code put under it.
func (r *rehearsal) compareUnder(ctx context.Context, all []question, fork *chain.Header) error {
	code := map[common.Address]common.Address{}
	for _, name := range r.names {
		proxy, err := r.old.Contracts.Address(name)
		if err != nil {
			return err
		}
		code[proxy] = r.next.Implementations[name].Address
	}
	// The code is on the chain since; nothing else happened.
	head, err := r.client.Head(ctx)
	if err != nil {
		return err
	}
	before, after := moment{block: head.Number, at: fork}, moment{block: head.Number, at: fork, code: code}
	r.report.Before, err = r.compare(ctx, all, before, after)
	if err != nil {
		return fmt.Errorf("the state as it was copied: %w", err)
	}
	return nil
}

// compareOver asks the state before and after the block of the upgrade.
func (r *rehearsal) compareOver(ctx context.Context, all []question, block uint64) error {
	at, err := r.client.Header(ctx, block)
	if err != nil {
		return err
	}
	r.report.After, err = r.compare(ctx, all, moment{block: block - 1, at: at}, moment{block: block, at: at})
	if err != nil {
		return fmt.Errorf("before and after the upgrade: %w", err)
	}
	return nil
}

// verify compares what is deployed after the upgrade with the release.
func (r *rehearsal) verify(ctx context.Context) error {
	version, err := r.versions(ctx)
	if err != nil {
		return err
	}
	r.next.Version, r.report.Release = version, version
	found, err := deploy.VerifySuite(ctx, r.client, r.next, r.params, r.release.Suite)
	if err != nil {
		return err
	}
	r.report.Findings = found
	var bad []string
	for _, f := range found {
		of, err := bindings.Find(f.Contract)
		if f.Problem != "" && (err != nil || of.Role != bindings.Bare) {
			bad = append(bad, f.Contract+": "+f.Problem)
		}
	}
	if len(bad) > 0 {
		return errs.New(errs.Conflict, "after the upgrade the contracts are not those of the release: %s", strings.Join(bad, "; "))
	}
	return nil
}

// versions checks that each upgraded proxy says the version of its new code, and
// returns that of JobManager.
func (r *rehearsal) versions(ctx context.Context) (string, error) {
	jobs := bindings.NewJobManager() // All answer the same question.
	for _, name := range append(slices.Clone(r.names), "JobManager") {
		proxy, err := r.next.Contracts.Address(name)
		if err != nil {
			return "", err
		}
		out, err := r.client.Calls(ctx, []chain.Call{
			{To: proxy, Data: jobs.PackVERSION()}, {To: r.next.Implementations[name].Address, Data: jobs.PackVERSION()},
		})
		if err != nil {
			return "", fmt.Errorf("ask %s for its version: %w", name, err)
		}
		says, errSays := jobs.UnpackVERSION(out[0])
		want, errWant := jobs.UnpackVERSION(out[1])
		if err := errors.Join(errSays, errWant); err != nil || says != want {
			return "", errs.New(errs.Conflict, "after the upgrade %s says it is version %q, its code %q (%w)", name, says, want, err)
		}
		if name == "JobManager" {
			return says, nil
		}
	}
	return "", errs.New(errs.Internal, "BUG: no JobManager")
}

// step notes what was done and what it cost.
func (r *rehearsal) step(what string, receipts ...*chain.Receipt) {
	s := Step{What: what}
	for _, receipt := range receipts {
		s.Gas += receipt.GasUsed
	}
	r.report.Steps = append(r.report.Steps, s)
}

// do sends calls of one account and waits until they are done.
func (r *rehearsal) do(ctx context.Context, key *ecdsa.PrivateKey, calls ...call) ([]*chain.Receipt, error) {
	// Room for a block at once: the chain makes none that is far ahead of its time.
	r.chain.IncreaseTime(2 * time.Second)
	b, err := deploy.NewBatch(ctx, r.client, key)
	if err != nil {
		return nil, err
	}
	for _, c := range calls {
		b.Call(c.to, c.data, gasMax)
	}
	return b.Send(ctx)
}

// call is a call to be sent.
type call struct {
	to   common.Address
	data []byte
}

// gasMax is enough for every call here; all upgrades are one.
const gasMax = 20_000_000

// until lets time pass until a second and makes a block then.
func (r *rehearsal) until(ctx context.Context, second uint64) error {
	head, err := r.client.Head(ctx)
	if err != nil {
		return err
	}
	if second > head.Time {
		r.chain.IncreaseTime(time.Duration(second-head.Time) * time.Second)
	}
	if _, err := r.chain.Mine(); err != nil {
		return fmt.Errorf("let time pass: %w", err)
	}
	return nil
}

// newKey returns the key of a new account.
func newKey() (*ecdsa.PrivateKey, error) {
	key, err := crypto.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}
