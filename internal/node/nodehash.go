package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// identityFile keeps what was found, so that a start does not wait for servers.
	identityFile = "node_hash"
	// identityEvery is how often the list of nodes is read while it does not have this
	// node, and identityLife how often after that.
	identityEvery = 5 * time.Minute
	identityLife  = time.Hour
	// identityMisses is how many lists in a row must lack the node before its hash is
	// forgotten: one that was just made anew may lack any node.
	identityMisses = 3
)

// identity is the message under which the message network knows this node: that of the
// settings, or else the one that the list of nodes has for the node's domain.
type identity struct {
	core   registry
	file   string
	domain string
	owners [2]string // Whose the list of nodes is; to whom streams flow, "" for nobody.
	log    *slog.Logger

	mu     sync.Mutex
	hash   message.ItemHash // "" while it is not known; guarded by mu
	asked  time.Time        // When it was found last; guarded by mu
	missed int              // How often in a row it was not found; guarded by mu
}

// registry tells which nodes are registered; corenode.Client does.
type registry interface {
	ListedNode(ctx context.Context, authority, domain, reward string) (message.ItemHash, error)
	NodeHash(ctx context.Context, owner, domain string) (message.ItemHash, error)
}

// findIdentity returns what is known of the node, and has more found out.
func (n *Node) findIdentity(core *corenode.Client) *identity {
	i := &identity{
		core: core, file: n.cfg.Dir(identityFile), domain: n.cfg.CRN.Domain, owners: [2]string{n.cfg.Nodes.Authority, n.cfg.Executor.Receiver},
		log: n.part("identity"), hash: message.ItemHash(n.cfg.Executor.NodeHash),
	}
	// The default is the domain of no node.
	if i.hash != "" || core == nil || i.domain == crn.DefaultConfig().Domain {
		return i
	}
	i.read()
	n.add("identity", func(ctx context.Context) error {
		return loop.Every(ctx, i.log, identityEvery, identityEvery, nil, i.find)
	})
	return i
}

// NodeHash implements crn.Identity and executor.Identity.
func (i *identity) NodeHash() (message.ItemHash, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.hash, i.hash != ""
}

// read takes what an earlier run has found. It may be out of date, which the first look
// finds out; without it machines that name this node would be refused until then.
func (i *identity) read() {
	raw, err := os.ReadFile(i.file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	hash, perr := message.ParseItemHash(strings.TrimSpace(string(raw)))
	if err = errors.Join(err, perr); err != nil {
		i.log.Warn("what was known of the node's registration is not read", "err", err)
		return
	}
	i.hash = hash
}

// find looks once. What was found without doubt stays while nobody can say more, also
// when somebody else claims the same domain later.
func (i *identity) find(ctx context.Context) error {
	i.mu.Lock()
	known, fresh := i.hash, time.Since(i.asked) < identityLife
	i.mu.Unlock()
	if known != "" && fresh {
		return nil
	}
	authority, receiver := i.owners[0], i.owners[1]
	hash, err := i.core.ListedNode(ctx, authority, i.domain, receiver)
	if errors.Is(err, errs.NotFound) && receiver != "" { // The list is made from time to time.
		hash, err = i.core.NodeHash(ctx, receiver, i.domain)
	}
	switch {
	case errors.Is(err, errs.NotFound):
		if i.misses() < identityMisses && known != "" {
			i.log.Warn("the message network does not show this node", "domain", i.domain, "node_hash", known)
			return nil
		}
		hash = ""
	case errors.Is(err, errs.Conflict):
		i.log.Warn("several nodes are registered at this node's domain: set [executor] node_hash", "domain", i.domain, "node_hash", known, "err", err)
		return nil
	case err != nil:
		return fmt.Errorf("look for this node in the list of nodes: %w", err)
	}
	i.mu.Lock()
	i.hash, i.asked = hash, time.Now()
	if hash != "" {
		i.missed = 0
	}
	i.mu.Unlock()
	if hash == known {
		return nil
	}
	if hash == "" {
		i.log.Warn("the message network does not know this node any more: machines that name a node are refused", "domain", i.domain, "was", known)
		err = os.Remove(i.file)
	} else {
		i.log.Info("found under which hash the message network knows this node", "domain", i.domain, "node_hash", hash)
		err = os.WriteFile(i.file, []byte(hash+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep hash of the node: %w", err)
	}
	return nil
}

// misses counts that the node was not found, and returns how often in a row it was not.
func (i *identity) misses() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.missed++
	return i.missed
}
