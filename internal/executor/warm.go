package executor

import (
	"context"
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// warm gets the images of promised jobs while the chain opens them, so that
// the machine waits for neither. It is a help only: what fails here is done
// again, and told, when the job is there.
func (s *Supervisor) warm(ctx context.Context, v *view) error {
	promised := map[message.ItemHash]bool{}
	for _, a := range v.kept {
		promised[a.Spec] = true
	}
	for _, vm := range v.vms {
		delete(promised, vm.Spec)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for spec := range s.warmed {
		if !promised[spec] {
			delete(s.warmed, spec)
		}
	}
	for spec := range promised {
		if _, asked := s.warmed[spec]; asked {
			continue
		}
		s.warmed[spec] = ""
		s.warming.Go(func() {
			if err := s.warmOne(ctx, spec); err != nil && ctx.Err() == nil {
				s.log.Debug("image not fetched ahead", "job_id", spec, "err", err)
			}
		})
	}
	return nil
}

func (s *Supervisor) warmOne(ctx context.Context, spec message.ItemHash) error {
	if err := acquire(ctx, s.fetching); err != nil {
		return err
	}
	defer release(s.fetching)
	if _, err := s.db.VM(ctx, spec); err == nil {
		return nil // Its worker is at it.
	}
	instance, _, err := s.instance(ctx, spec)
	if err != nil {
		return err
	}
	hash, err := s.imageHash(ctx, instance.Rootfs.Parent.Ref)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if _, promised := s.warmed[spec]; promised {
		s.warmed[spec] = hash
	}
	s.mu.Unlock()
	path, err := s.parts.Images.Fetch(ctx, hash, func(int64, int64) {})
	if err != nil {
		return fmt.Errorf("fetch image %s: %w", hash, err)
	}
	_, err = s.openImage(ctx, hash, path)
	return err
}
