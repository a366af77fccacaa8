package node

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/domains"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// Add adds a part.
func (n *Node) Add(name string, run func(context.Context) error) { n.add(name, run) }

// DB returns the node's database.
func (n *Node) DB() *state.DB { return n.db }

// Listeners returns the peers that listen to messages.
func (n *Node) Listeners() []p2p.PeerID { return n.host.Listeners(wire.TopicMessages) }

// Host returns the node's host.
func (n *Node) Host() *p2p.Host { return n.host }

// Blobs returns the node's blobs.
func (n *Node) Blobs() *blob.Store { return n.blobs }

// Messages returns what gets messages for an executor.
func (n *Node) Messages() executor.Messages { return found{pipeline: n.ingest} }

// Images returns what gets files for an executor.
func (n *Node) Images() executor.Images { return images{n.storage, n.blobs} }

// Contents returns what has the bytes that messages name.
func (n *Node) Contents() ingest.Files { return n.contents() }

// Content returns the IPFS content of a coordinator.
func (n *Node) Content() *ipfs.Store { return n.content }

// Files returns what a coordinator keeps, if uses tells which blobs its IPFS
// content needs.
func Files(db *state.DB, uses func(message.ItemHash) (bool, error)) storage.Room {
	return files{db, user(uses), slog.New(slog.DiscardHandler)}
}

type user func(message.ItemHash) (bool, error)

// Uses implements what files asks of content.
func (u user) Uses(hash message.ItemHash) (bool, error) { return u(hash) }

// NewBook returns what keeps peers in db.
func NewBook(db *state.DB) p2p.Book { return book{db} }

// NewDirectory returns what tells p2p of nodes in db, whose list is the authority's.
func NewDirectory(db *state.DB, authority string) p2p.Directory { return directory{db, authority} }

// NewAsker returns what asks others for a scheduler.
func NewAsker(h *p2p.Host) scheduler.Asker { return asker{h} }

// NewPublisher returns what spreads a node's capacity.
func NewPublisher(h *p2p.Host) executor.Publisher { return publisher{h} }

// TrimProgram unmaps the unchanged pages of the program.
func TrimProgram() error { return trimProgram() }

// ProgramMaps returns the start and end of the mappings that are trimmed.
func ProgramMaps(maps []byte, exe string) [][2]uintptr {
	var out [][2]uintptr
	for _, m := range programMaps(maps, exe) {
		out = append(out, [2]uintptr{m.start, m.end})
	}
	return out
}

// FailureOf is what clients are told of a call that failed.
func FailureOf(err error) error { return failureOf(err) }

// Identity is how the network knows a node.
type Identity = identity

// NewIdentity returns what finds out under which hash a node is known; hash is what the
// file has.
func NewIdentity(core registry, file string) *Identity {
	i := &identity{core: core, file: file, domain: "node.example", owners: [2]string{"authority", "receiver"}, log: slog.New(slog.DiscardHandler)}
	i.read()
	return i
}

// Find looks once, as if it had not looked for long.
func (i *identity) Find(ctx context.Context) error {
	i.asked = time.Time{}
	return i.find(ctx)
}

// AwaitsOwner reports whether a machine waits for the session of its owner.
func AwaitsOwner(vm state.VM, l *state.Lease) bool { return awaitsOwner(vm, l) }

// MachineProxy returns what passes requests on to machines, of which each may have so
// many.
func MachineProxy(idle, quiet time.Duration, each int) func(http.ResponseWriter, *http.Request, domains.Way) {
	return (&machineProxy{slog.New(slog.DiscardHandler), domains.NewCrowd[message.ItemHash](each, visitsMax), idle, quiet}).pass
}

// PlaceOf returns where a machine is by its row.
func PlaceOf(ctx context.Context, db *state.DB, network interface {
	Place(vm state.VM) (vmnet.Device, error)
}, spec message.ItemHash,
) (domains.Place, error) {
	return reached{db, network}.place(ctx, spec)
}
