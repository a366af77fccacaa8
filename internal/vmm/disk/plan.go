package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// plan is a change of several files of a machine's directory. All paths are
// relative to it. Each step can be repeated, so a plan that a crash has cut
// short is carried out again from its start.
type plan struct {
	Remove []string `json:"remove,omitempty"` // Files and folders.
	Place  []place  `json:"place,omitempty"`
}

// place puts the file From to To. What is at To already is kept as Keep,
// unless that is "".
type place struct {
	From string `json:"from"`
	To   string `json:"to"`
	Keep string `json:"keep,omitempty"`
}

// local reports the first path that is not inside the directory.
func (p plan) local() error {
	all := p.Remove
	for _, s := range p.Place {
		all = append(all, s.From, s.To)
		if s.Keep != "" {
			all = append(all, s.Keep)
		}
	}
	for _, name := range all {
		if name == "." || !filepath.IsLocal(name) {
			return errs.New(errs.Invalid, "plan names %q, want a path inside the directory", name)
		}
	}
	return nil
}

// carryOut writes the plan down and does it. The caller holds the lock.
func carryOut(dir string, p plan) error {
	if err := p.local(); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, vmm.PlanFile), p); err != nil {
		return err
	}
	return p.do(dir)
}

// finish does what a crash has left of a plan. The caller holds the lock.
func finish(dir string) error {
	var p plan
	err := readJSON(filepath.Join(dir, vmm.PlanFile), &p)
	if errors.Is(err, errs.NotFound) {
		return nil
	}
	if err == nil {
		err = p.local()
	}
	if err != nil {
		return err
	}
	return p.do(dir)
}

func (p plan) do(dir string) error {
	for _, name := range p.Remove {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	for _, s := range p.Place {
		if err := s.do(dir); err != nil {
			return vmm.DiskError(err)
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, vmm.PlanFile)); err != nil {
		return fmt.Errorf("end plan: %w", err)
	}
	return syncDir(dir)
}

func (s place) do(dir string) error {
	from, to := filepath.Join(dir, s.From), filepath.Join(dir, s.To)
	there, err := isThere(from)
	if err != nil || !there {
		return err // It is in its place already.
	}
	if err := os.MkdirAll(filepath.Dir(to), dirMode); err != nil {
		return fmt.Errorf("make folder of %s: %w", s.To, err)
	}
	if s.Keep != "" {
		// A link, not a rename: there is a disk at every moment.
		err := os.Link(to, filepath.Join(dir, s.Keep))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("keep %s: %w", s.To, err)
		}
	}
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("put %s in place: %w", s.To, err)
	}
	return syncDir(filepath.Dir(to))
}

// Erase deletes disks of a machine that does not run, as chosen: its own with
// what was kept of it, its volumes. They are made anew at its next start. A
// machine that runs gives errs.Conflict. When it has returned, or was cut
// short, the machine never starts with some of them.
func Erase(dir string, root, volumes bool) error {
	lock, err := lockIdle(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	var p plan
	if root {
		kept, err := keptFiles(dir)
		if err != nil {
			return err
		}
		p.Remove = append(p.Remove, vmm.DiskFile, uploadFolder)
		for _, k := range kept {
			p.Remove = append(p.Remove, k.name)
		}
	}
	if volumes {
		p.Remove = append(p.Remove, volumesFolder, ephemeralFolder)
	}
	return carryOut(dir, p)
}

// lockIdle takes the lock of a machine that does not run and does not move,
// and finishes what a crash has left.
func lockIdle(dir string) (*os.File, error) {
	lock, err := vmm.LockDir(dir)
	if err != nil {
		return nil, vmm.DiskError(err)
	}
	err = finish(dir)
	if err == nil {
		err = vmm.CheckStart(dir)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}
