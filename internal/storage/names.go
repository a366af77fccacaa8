package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// names say which blobs the files of IPFS are. Each is a file that is named by the CID
// and holds the blob's hash.
//
// A name is written before its blob is visible, so that who asks which blobs are needed
// under their CIDs misses none. So it may be of a blob that is not here.
type names struct {
	dir string

	mu sync.Mutex
	of map[string]message.ItemHash // guarded by mu
}

// FetchContent has files of IPFS fetched too, by CID, from servers; they become blobs,
// and which they are is remembered in dir. Call it before the Keeper is used.
func (k *Keeper) FetchContent(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory of CIDs: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list CIDs: %w", err)
	}
	n := &names{dir: dir, of: map[string]message.ItemHash{}}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		raw, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read which blob a CID is: %w", err)
		}
		// What a crash has left half written is none, and what is gone needs no name.
		blob := message.ItemHash(strings.TrimSpace(string(raw)))
		if _, err := k.blobs.Stat(blob); err == nil {
			n.of[e.Name()] = blob
			continue
		} else if kind := errs.KindOf(err); kind != errs.NotFound && kind != errs.Invalid {
			return fmt.Errorf("look for the blob of CID %s: %w", e.Name(), err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget a CID: %w", err)
		}
	}
	k.names = n
	return nil
}

// Blob returns the name of the blob that a file is: of a CID that is known the sha256 of
// its bytes, and any other hash as it is.
func (k *Keeper) Blob(hash message.ItemHash) message.ItemHash {
	if k.names == nil || hash.Type() != message.IPFS {
		return hash
	}
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return hash
	}
	k.names.mu.Lock()
	defer k.names.mu.Unlock()
	if blob, ok := k.names.of[spell(id)]; ok {
		return blob
	}
	return hash
}

// spell is the one text of a CID by which it is remembered.
func spell(id cid.Cid) string { return cid.NewCidV1(id.Prefix().Codec, id.Hash()).String() }

// note remembers which blob a file is.
func (n *names) note(id cid.Cid, blob message.ItemHash) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := spell(id)
	if n.of[name] == blob {
		return nil
	}
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(blob+"\n"), 0o600); err != nil {
		return fmt.Errorf("remember which blob CID %s is: %w", id, err)
	}
	n.of[name] = blob
	return nil
}
