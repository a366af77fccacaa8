package ingest

import (
	"context"
	"errors"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
)

// part is a file that a machine is made of: the STORE message that names it, and
// the disk that it must fit on.
type part struct {
	ref       message.ItemHash
	useLatest bool
	disk      string // Name of the disk that starts from it, "" if there is none.
	sizeMiB   int64
}

// machine judges and enters an INSTANCE, a PROGRAM or a V-PROGRAM.
func (b *batch) machine(ctx context.Context, it *item, m *state.Message) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	if err := b.permit(ctx, m); err != nil {
		return err
	}
	parts := partsOf(m.Parsed)
	sizes, err := b.findParts(ctx, parts)
	if err != nil {
		return err
	}
	if err := b.mayReplace(ctx, it, m); err != nil {
		return err
	}
	table, err := b.p.pricesAt(ctx, b.tx, m.MadeAt)
	if err != nil {
		return err
	}
	cost, err := table.Cost(m.Parsed, sizes)
	if err != nil {
		return message.Reject(message.CodeInternal, "%v", err)
	}
	if err := b.afford(ctx, it, m, bill{payment: paymentOf(m.Parsed), cost: cost, onDemand: isOnDemand(m.Parsed), offered: !it.origin.MustPay}); err != nil {
		return err
	}
	if err := b.delegated(ctx, m); err != nil {
		return err
	}
	if err := b.add(ctx, m); err != nil {
		return err
	}
	refs := make([]message.ItemHash, len(parts))
	for i, p := range parts {
		refs[i] = p.ref
	}
	if err := b.tx.PutUses(ctx, m.Envelope.ItemHash, refs); err != nil {
		return err
	}
	return b.putCost(ctx, m, paymentOf(m.Parsed), cost)
}

// paymentOf returns how a machine is paid for.
func paymentOf(c message.Content) message.PaymentType {
	switch c := c.(type) {
	case *message.Instance:
		return c.PaymentType()
	case *message.Program:
		return c.PaymentType()
	case *message.VerifiableProgram:
		return c.PaymentType()
	default:
		return message.PayHold
	}
}

// isOnDemand reports whether a machine runs only when it is asked for.
func isOnDemand(c message.Content) bool {
	p, ok := c.(*message.Program)
	return ok && !p.IsPersistent()
}

// partsOf returns the files that a machine is made of.
func partsOf(c message.Content) (out []part) {
	switch c := c.(type) {
	case *message.Instance:
		root := c.Rootfs
		out = []part{{root.Parent.Ref, root.Parent.UseLatest, "Rootfs", root.SizeMiB}}
		return append(out, volumeParts(c.Volumes)...)
	case *message.Program:
		out = []part{{ref: c.Code.Ref, useLatest: c.Code.UseLatest}, {ref: c.Runtime.Ref, useLatest: c.Runtime.UseLatest}}
		if c.Data != nil && c.Data.Ref != nil {
			out = append(out, part{ref: *c.Data.Ref, useLatest: c.Data.UseLatest != nil && *c.Data.UseLatest})
		}
		return append(out, volumeParts(c.Volumes)...)
	case *message.VerifiableProgram:
		out = []part{{ref: c.Runtime.Ref}}
		for _, d := range append([]message.VerifiedDisk{c.Workload}, c.Volumes...) {
			out = append(out, part{ref: d.Ref}, part{ref: d.HashTree})
		}
	}
	return out
}

func volumeParts(all []message.Volume) (out []part) {
	for _, v := range all {
		switch {
		case v.Kind == message.Immutable:
			out = append(out, part{ref: v.Ref, useLatest: v.UseLatest})
		case v.Parent != nil:
			name := "PersistentVolume"
			if v.Name != nil {
				name = *v.Name
			}
			out = append(out, part{v.Parent.Ref, v.Parent.UseLatest, name, v.SizeMiB})
		}
	}
	return out
}

// findParts wants every file that a machine is made of to be known, and its disks
// to hold what they start from. It returns the sizes of the files.
func (b *batch) findParts(ctx context.Context, parts []part) (pricing.SizeMiB, error) {
	sizes := pricing.SizeMiB{}
	var missing []message.ItemHash
	var things []string
	var small error
	for _, p := range parts {
		file, err := b.findPart(ctx, p)
		if errors.Is(err, errs.NotFound) {
			missing, things = append(missing, p.ref), append(things, thingMessage(p.ref))
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := b.tx.FileInfo(ctx, file)
		if errors.Is(err, errs.NotFound) {
			continue // Kept elsewhere, and of unknown size.
		}
		if err != nil {
			return nil, err
		}
		sizes[p.ref] = pricing.FileSizeMiB(info.SizeBytes)
		if disk := p.sizeMiB << 20; p.disk != "" && disk < info.SizeBytes && small == nil {
			small = message.RejectSmallVolume(message.SmallVolume{Name: p.disk, Ref: p.ref, File: file, FileBytes: info.SizeBytes, VolumeBytes: disk})
		}
	}
	if len(missing) > 0 {
		return nil, waitFor(message.RejectVolumes(missing), things...)
	}
	return sizes, small
}

// findPart returns the file of a part: of its newest version, or of the very
// message that it names.
func (b *batch) findPart(ctx context.Context, p part) (message.ItemHash, error) {
	find := b.tx.Pin
	if p.useLatest {
		find = b.tx.Tagged
	}
	pin, err := find(ctx, string(p.ref))
	if err != nil {
		return "", err
	}
	return pin.File, nil
}

// replacing is what a machine says of the one that it replaces, and whether it may
// be replaced.
func replacing(c message.Content) (replaces *string, allowAmend, ok bool) {
	switch c := c.(type) {
	case *message.Instance:
		return c.Replaces, c.AllowAmend, true
	case *message.Program:
		return c.Replaces, c.AllowAmend, true
	default:
		return nil, false, false
	}
}

// lineOf is the parent of a machine that ended, from which it is known what may replace
// it.
func lineOf(hash message.ItemHash, c message.Content) string {
	replaces, allowAmend, _ := replacing(c)
	switch {
	case replaces != nil:
		return state.ParentMachine(message.ItemHash(*replaces))
	case allowAmend:
		return state.ParentMachine(hash)
	default:
		return ""
	}
}

// mayReplace wants the machine that this one replaces to be the owner's and to
// allow it. It may have ended since, or before this one came here.
func (b *batch) mayReplace(ctx context.Context, it *item, m *state.Message) error {
	replaces, _, _ := replacing(m.Parsed)
	if replaces == nil {
		return nil
	}
	target := message.ItemHash(*replaces)
	old, err := b.tx.Message(ctx, target)
	if errors.Is(err, errs.NotFound) {
		return b.mayReplaceEnded(ctx, it, m, target)
	}
	if err != nil {
		return err
	}
	body, err := old.Body()
	if err != nil {
		return err
	}
	_, _, ok := replacing(body)
	return mayFollow(m, target, old.Owner, lineOf(target, body), ok)
}

// mayReplaceEnded is mayReplace for a target that is not here.
func (b *batch) mayReplaceEnded(ctx context.Context, it *item, m *state.Message, target message.ItemHash) error {
	unknown := waitFor(message.Reject(message.CodeVMRefNotFound, "no machine %.128s is known", target), thingMessage(target))
	s, err := b.tx.Skeleton(ctx, target)
	if errors.Is(err, errs.NotFound) {
		return unknown
	}
	if err != nil {
		return err
	}
	ok := s.Envelope.Type == message.TypeInstance || s.Envelope.Type == message.TypeProgram
	if ok && s.PaymentType == nil { // Another node told of it, and nobody knows what it said.
		if it.origin.Processed && s.Owner == m.Owner {
			return nil
		}
		return unknown
	}
	return mayFollow(m, target, s.Owner, s.Parent, ok)
}

// mayFollow wants a machine to be one that may replace a target, of which the owner and
// the line are, and whether it is a machine at all.
func mayFollow(m *state.Message, target message.ItemHash, owner, line string, ok bool) error {
	switch {
	case !ok:
		return message.Reject(message.CodeVMRefNotFound, "message %s is no machine", target)
	case line == "":
		return message.Reject(message.CodeVMAmendNotAllowed, "machine %s does not allow to be replaced", target)
	case line != state.ParentMachine(target):
		return message.Reject(message.CodeVMUpdateUpdate, "machine %s replaces another itself; name the first one", target)
	case owner != m.Owner:
		return message.Reject(message.CodePermissionDenied, "machine %s belongs to %s, not to %s", target, owner, m.Owner)
	}
	return nil
}

// undoMachine takes back a machine.
func (b *batch) undoMachine(ctx context.Context, hash message.ItemHash) error {
	if err := b.tx.DropUses(ctx, hash); err != nil {
		return err
	}
	return b.tx.DropCost(ctx, hash)
}
