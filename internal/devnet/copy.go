package devnet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
)

// chainDir is the directory of the chain in the data directory.
const chainDir = "chain"

// CopyChain copies the chain of a network that does not run into the directory
// to, and returns what is deployed on it. Only the copy is opened. A network
// that runs gives errs.Conflict, none errs.NotFound.
func CopyChain(dataDir, to string) (_ *deploy.Deployment, err error) {
	// Looked for first: the lock would make the directory.
	d, err := deploy.Read(filepath.Join(dataDir, deploymentFile))
	if errors.Is(err, errs.NotFound) {
		return nil, errs.New(errs.NotFound, "no local network is kept in %s; run 'aleph-node devnet' once, without --ephemeral", dataDir)
	}
	if err != nil {
		return nil, err
	}
	lock, err := vmm.LockDir(dataDir)
	if errors.Is(err, errs.Conflict) {
		return nil, errs.New(errs.Conflict,
			"a local network runs in %s, and its chain cannot be copied while it is written: stop the network with Ctrl-C, then try again; it goes on from there when it is started", dataDir)
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := copyTree(filepath.Join(dataDir, chainDir), to); err != nil {
		return nil, fmt.Errorf("copy chain: %w", err)
	}
	return d, nil
}

// copyTree copies a directory with the files and directories in it.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o700)
		case entry.Type().IsRegular():
			return copyFile(path, target)
		}
		return nil
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
