package crn

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"net/netip"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/hostinfo"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Kind is what runs, in the words of clients.
type Kind string

// The kinds.
const (
	MicroVM           Kind = "microvm" // A function that is started when it is called.
	PersistentProgram Kind = "persistent_program"
	Instance          Kind = "instance"
)

// Execution is a machine or a function that is, or was, on this node.
type Execution struct {
	Hash  message.ItemHash
	Kind  Kind
	Owner string // content.address of its message.
	// Channel is that of its message: rights may be bound to it.
	Channel *string

	Times   Times
	Running bool
	// Persistent machines run until they are stopped, and outlive the daemon.
	Persistent bool
	// Hypervisor is message.QEMU or message.Firecracker.
	Hypervisor string
	// Confidential machines wait for a secret of their owner before they boot.
	Confidential, AwaitingOwner bool
	// RootfsBytes is the size of the root disk as the message declares it.
	RootfsBytes int64
	// Network is nil as long as no addresses are kept for it. Such an execution
	// is not listed: some clients cannot read a list in which one has none.
	Network *Network
}

// Starting reports whether it is asked to run and does not yet.
func (e *Execution) Starting() bool {
	return !e.Times.Starting.IsZero() && e.Times.Started.IsZero() && !e.stopped()
}

// comesUp reports whether it will run, though its process may not be there yet.
func (e *Execution) comesUp() bool {
	return e.Starting() || !e.Times.Preparing.IsZero() && e.Times.Started.IsZero() && !e.stopped()
}

// stopped reports whether it was stopped since it was last asked to run.
func (e *Execution) stopped() bool { return !e.Times.Stopping.IsZero() }

// Times is when an execution came to a stage, zero if it did not.
type Times struct {
	Defined, Preparing, Prepared, Starting, Started, Stopping, Stopped time.Time
}

// Network is where an execution is reached. Those of IPv6 may be missing.
type Network struct {
	IPv4Network netip.Prefix
	HostIPv4    netip.Addr // Of the node, where ports are forwarded from.
	IPv4        netip.Addr
	IPv6Network netip.Prefix
	IPv6        netip.Addr
	Ports       map[uint16]Port // By port of the guest.
}

// Port is a port of the node that is forwarded to one of a guest.
type Port struct {
	Host     uint16
	TCP, UDP bool
}

// Executions knows what runs here, and what did.
type Executions interface {
	// List returns all that are here.
	List(ctx context.Context) ([]Execution, error)
	// Find returns one that is here, or gives errs.NotFound.
	Find(ctx context.Context, vm message.ItemHash) (*Execution, error)
	// Past returns the last that was here, or is, while its logs are kept, or
	// gives errs.NotFound.
	Past(ctx context.Context, vm message.ItemHash) (*Execution, error)
	// Records returns what ran, the newest first, so many at most.
	Records(ctx context.Context, limit int) ([]Record, error)
}

// Record is what is kept of an execution.
type Record struct {
	Execution
	ID     string // Of this run.
	VCPUs  int
	Memory int // MiB
	// Use is what it has used so far.
	Use Use
}

// Use is what an execution has used.
type Use struct {
	CPUUser, CPUSystem      time.Duration
	Reads, Writes           uint64
	BytesRead, BytesWritten uint64
}

// Machines starts, changes and ends machines. An error that is not of a kind
// that a method names is the node's fault.
type Machines interface {
	// Allocate makes run what a scheduler wants, and ends what it wants no more
	// of what is its to end. It returns once each is up or has failed.
	Allocate(ctx context.Context, want Allocation) (*Allocated, error)
	// Admit gives errs.Exhausted if there is no room for a machine that is not
	// here yet.
	Admit(ctx context.Context, vm message.ItemHash, want *message.Instance) error
	// Start starts a machine whose message asks for it, and returns once it is
	// up. One that runs is left alone. The context bounds the waiting only: who
	// asked may go away.
	Start(ctx context.Context, vm message.ItemHash) error
	// Resume is Start for an owner who has stopped the machine: it gives an
	// *Unpaid if nobody pays for it.
	Resume(ctx context.Context, vm message.ItemHash) error
	// Reserve keeps what a machine needs for an address, or gives errs.Exhausted
	// if there is no room, and errs.Conflict if a device is not free.
	Reserve(ctx context.Context, by string, want *message.Instance) (until time.Time, err error)
	// UpdatePorts reads anew which ports are to be forwarded, and gives
	// errs.Unavailable for a machine that is not up yet.
	UpdatePorts(ctx context.Context, vm message.ItemHash) error
	Stop(ctx context.Context, vm message.ItemHash) error
	Reboot(ctx context.Context, vm message.ItemHash) error
	// Expire stops a machine after a time.
	Expire(ctx context.Context, vm message.ItemHash, after time.Duration) error
	// Erase stops a machine and deletes its disks.
	Erase(ctx context.Context, vm message.ItemHash) error
	// Reinstall starts a machine from its image again, and its volumes too or not.
	Reinstall(ctx context.Context, vm message.ItemHash, volumes bool) error
	// RecreateNetwork makes all rules of the firewall anew.
	RecreateNetwork(ctx context.Context) (*Recreated, error)
}

// Allocation is what a scheduler wants to run here, and nothing else.
type Allocation struct {
	Programs, Instances []message.ItemHash
}

// Allocated is what became of an allocation. Programs and instances that are not
// among Failed run.
type Allocated struct {
	Stopped []message.ItemHash
	Failed  map[message.ItemHash]error
}

// Recreated is what became of the rules of a firewall.
type Recreated struct {
	Removed []string // Names of chains.
	VMs     []message.ItemHash
	Failed  map[message.ItemHash]error
}

// Message is a message that machines are made from.
type Message struct {
	Hash    message.ItemHash
	Sender  string
	Content message.Content
}

// Messages finds messages.
type Messages interface {
	// Find returns a message that counts. It gives errs.NotFound if nobody knows
	// it, and errs.Unavailable if those who might do not answer.
	Find(ctx context.Context, hash message.ItemHash) (*Message, error)
}

// Payments knows what is paid for.
type Payments interface {
	// Check gives *Unpaid for a machine that may not start.
	Check(ctx context.Context, m *Message, want *message.Instance) error
}

// Rights knows who may act for an owner.
type Rights interface {
	// Security returns the aggregate "security" of an owner, empty if there is none.
	Security(ctx context.Context, owner string) (authz.Security, error)
}

// Schedulers knows who may allocate.
type Schedulers interface {
	// Signers are those whom the network's settings name; there may be none.
	Signers(ctx context.Context) ([]common.Address, error)
}

// Identity is how the network knows the node.
type Identity interface {
	// NodeHash is the item hash of the message that registered the node, and
	// false as long as it is not known.
	NodeHash() (message.ItemHash, bool)
}

// Functions calls programs.
type Functions interface {
	// Call passes a request on, whose path is that after the name of the program,
	// and returns the answer as it comes. Errors say as *Failure what callers are
	// told, or are of a kind.
	Call(ctx context.Context, program message.ItemHash, r *http.Request) (*http.Response, error)
}

// Line is a line of a log.
type Line struct {
	At     time.Time
	Stream string // stdout or stderr
	Text   string
}

// LogQuery says which lines of a log are wanted.
type LogQuery struct {
	Follow bool // Wait for more until the machine ends.
	Tail   int  // Only so many of the past, the newest; negative for all.
}

// Logs reads what machines and functions have written.
type Logs interface {
	// Lines returns the lines in order. Who breaks off the loop ends the reading.
	Lines(ctx context.Context, vm message.ItemHash, q LogQuery) iter.Seq2[Line, error]
}

// Host knows the machine that the node runs on; hostinfo.Host is one.
type Host interface {
	Usage(ctx context.Context) (*hostinfo.Usage, error)
	Capability(ctx context.Context) (*hostinfo.Capability, error)
	Connectivity(ctx context.Context) *hostinfo.Connectivity
	// IPv6 reports whether the host reaches the Internet by IPv6.
	IPv6(ctx context.Context) bool
}

// Confidential starts machines whose memory the host cannot read.
type Confidential interface {
	// Certificates is the chain of the platform, for owners to check.
	Certificates(ctx context.Context) ([]byte, error)
	// Initialize starts a machine with its owner's session, paused.
	Initialize(ctx context.Context, vm message.ItemHash, session, godh []byte) error
	// Measurement is what the platform measured, or errs.Unavailable while the
	// machine comes up.
	Measurement(ctx context.Context, vm message.ItemHash) (*Measurement, error)
	// Inject gives the machine its secret and lets it run. It returns the status
	// of the hypervisor.
	Inject(ctx context.Context, vm message.ItemHash, s Secret) (json.RawMessage, error)
}

// Measurement is what a platform measured of a machine.
type Measurement struct {
	SEVInfo SEVInfo `json:"sev_info"`
	Launch  string  `json:"launch_measure"` // Base64 of measure and nonce.
}

// SEVInfo is what the hypervisor says of the platform.
type SEVInfo struct {
	Enabled  bool   `json:"enabled"`
	APIMajor int    `json:"api_major"`
	APIMinor int    `json:"api_minor"`
	BuildID  int    `json:"build_id"`
	Policy   int    `json:"policy"`
	State    string `json:"state"`
	Handle   int    `json:"handle"`
}

// Secret is what an owner encrypted for a machine, in base64.
type Secret struct {
	PacketHeader string `json:"packet_header"`
	Secret       string `json:"secret"`
}

// Backups makes and restores copies of disks.
type Backups interface {
	// Begin begins a backup. It returns one that is fresh instead, and nil while
	// one is being made. errs.Exhausted means that the disk is full.
	Begin(ctx context.Context, vm message.ItemHash, o BackupOptions) (*Backup, error)
	// Latest returns the newest backup, nil while one is being made, or gives
	// errs.NotFound.
	Latest(ctx context.Context, vm message.ItemHash) (*Backup, error)
	// Open opens a backup for reading, or gives errs.NotFound.
	Open(ctx context.Context, vm message.ItemHash, id string) (*Backup, io.ReadSeekCloser, error)
	// Delete gives errs.NotFound for what is not here.
	Delete(ctx context.Context, vm message.ItemHash, id string) error
	// Restore replaces the root disk of a machine by a qcow2 image, which is read
	// to its end before anything changes. errs.Invalid means that it is none, that
	// it needs another file, or that its disk is larger than the machine's, and
	// errs.Conflict that a backup or a restore is going on.
	Restore(ctx context.Context, vm message.ItemHash, image io.Reader) error
	// RestoreRef does the same with a file of the network.
	RestoreRef(ctx context.Context, vm, ref message.ItemHash) error
}

// BackupOptions is how a backup is made.
type BackupOptions struct {
	Volumes    bool // With the volumes that can be written.
	SkipFreeze bool // Without asking the guest to flush its file systems.
}

// Backup is an archive of the disks of a machine.
type Backup struct {
	ID          string
	Bytes       int64
	Volumes     []string // Its members.
	Expires     time.Time
	SHA256      string           // Hex.
	SourceBytes map[string]int64 // Of the disks, by member.
}

// MigrationState is how far a machine is on its way to another node.
type MigrationState string

// The states.
const (
	Exporting    MigrationState = "exporting"
	Exported     MigrationState = "exported"
	ExportFailed MigrationState = "export_failed"
	Importing    MigrationState = "importing"
	Imported     MigrationState = "imported"
	ImportFailed MigrationState = "import_failed"
)

// Migrations moves machines between nodes.
type Migrations interface {
	// Export begins an export, anew if one has failed. It returns what there is
	// if one is going on or done.
	Export(ctx context.Context, vm message.ItemHash) (*Export, error)
	// Exporting returns an export, or gives errs.NotFound.
	Exporting(ctx context.Context, vm message.ItemHash) (*Export, error)
	// OpenExport opens a file of an export, or gives errs.NotFound. It counts as
	// being downloaded until it is closed.
	OpenExport(ctx context.Context, vm message.ItemHash, name string) (io.ReadSeekCloser, error)
	// Cleanup deletes an export and the machine that was exported. errs.Conflict
	// means that none is done, or that it is being downloaded.
	Cleanup(ctx context.Context, vm message.ItemHash) error
	// Import begins an import, anew if one has failed. It returns what there is if
	// one is going on or done.
	Import(ctx context.Context, want ImportRequest) (*Import, error)
	// Importing returns an import, or gives errs.NotFound.
	Importing(ctx context.Context, vm message.ItemHash) (*Import, error)
}

// Export is a machine whose disks another node may take.
type Export struct {
	State             MigrationState
	Started, Finished time.Time // Finished is zero before.
	Error             string
	Token             string // "" until it is done.
	Files             []DiskFile
}

// DiskFile is a file of an export.
type DiskFile struct {
	Name         string `json:"name"`
	Bytes        int64  `json:"size_bytes"`
	SHA256       string `json:"sha256"`
	DownloadPath string `json:"download_path"` // Of an export it is filled in by the door.
}

// ImportRequest asks for the machine of another node.
type ImportRequest struct {
	VM    message.ItemHash
	Host  string
	Port  uint16
	Token string
	Files []DiskFile
}

// Import is a machine on its way here.
type Import struct {
	State             MigrationState
	Started, Finished time.Time // Finished is zero before.
	Error             string
	Step              string // "" if there is none.
	BytesDone         int64
	BytesTotal        int64
	TransferTime      time.Duration // Zero before it is known.
}

// Proxy leads the names of domains to machines.
type Proxy interface {
	// Mappings are the addresses of machines by domain, for each backend.
	Mappings(ctx context.Context) (map[string]map[string]string, error)
	Regenerate(ctx context.Context) error
}

// Resolver looks up texts of domains; net.Resolver is one.
type Resolver interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Used keeps, over restarts, which signed requests were used.
type Used interface {
	// Use uses a request up until it is worth nothing, and reports whether it was good.
	Use(ctx context.Context, request string, now, until time.Time) (good bool, err error)
	// List notes when a list of a scheduler was signed, in Unix seconds, and reports
	// whether it is no older than all that were noted.
	List(ctx context.Context, signer string, issuedAt int64) (newest bool, err error)
}

// Parts is what the door passes requests to. Those that may be nil say what a
// client then hears.
type Parts struct {
	Machines   Machines
	Executions Executions
	Messages   Messages
	Payments   Payments
	Rights     Rights
	Identity   Identity
	Host       Host
	Logs       Logs

	Used Used

	Functions    Functions    // Without, programs are refused with 503.
	Backups      Backups      // Without, backups are refused as unsupported.
	Migrations   Migrations   // Without, migrations are refused as unsupported.
	Confidential Confidential // Without, no machine is confidential.
	Proxy        Proxy        // Without, there is none.
	Schedulers   Schedulers   // Without, only those of the settings allocate.
	Resolver     Resolver     // Without, custom domains lead nowhere.
}
