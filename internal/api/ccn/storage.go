package ccn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// FilesConfig says what is taken from clients that bring files, and what of the
// network's other services this node answers too.
type FilesConfig struct {
	MaxFileMiB          int64 `toml:"max_file_mib"`           // Largest file of the storage engine.
	MaxIPFSFileMiB      int64 `toml:"max_ipfs_file_mib"`      // Largest file of the ipfs engine.
	MaxCARMiB           int64 `toml:"max_car_mib"`            // Largest archive of an IPFS directory.
	MaxAnonymousMiB     int64 `toml:"max_anonymous_mib"`      // Largest file that comes without a message.
	MaxIPFSAnonymousMiB int64 `toml:"max_ipfs_anonymous_mib"` // The same, of the ipfs engine.
	KuboAdd             bool  `toml:"kubo_add"`               // Take files and folders at /api/v0/add, as Kubo does.
	MaxAddMiB           int64 `toml:"max_add_mib"`            // Most that one request brings there, which comes without a message.
	Gateway             bool  `toml:"gateway"`                // Serve IPFS content that this node keeps at /ipfs/.
}

// DefaultFilesConfig has the limits of the public network.
func DefaultFilesConfig() FilesConfig {
	return FilesConfig{
		MaxFileMiB: 100, MaxIPFSFileMiB: 1024, MaxCARMiB: 4096, MaxAnonymousMiB: 25, MaxIPFSAnonymousMiB: 25,
		KuboAdd: true, MaxAddMiB: 100, Gateway: true,
	}
}

// mib is the unit of the limits, and limitMax the most that they may be: a
// tebibyte; more is a slip of the finger.
const mib, limitMax = 1 << 20, 1 << 20

// Validate reports the first setting that cannot work.
func (c FilesConfig) Validate() error {
	for _, l := range []struct {
		name  string
		value int64
	}{
		{"max_file_mib", c.MaxFileMiB},
		{"max_ipfs_file_mib", c.MaxIPFSFileMiB},
		{"max_car_mib", c.MaxCARMiB},
		{"max_anonymous_mib", c.MaxAnonymousMiB},
		{"max_ipfs_anonymous_mib", c.MaxIPFSAnonymousMiB},
		{"max_add_mib", c.MaxAddMiB},
	} {
		if l.value < 0 || l.value > limitMax {
			return fmt.Errorf("%s is %d, want from 0 to %d", l.name, l.value, limitMax)
		}
	}
	return nil
}

// Room makes a blob of a size fit into the store, or returns errs.Exhausted;
// storage.Keeper is one.
type Room interface {
	MakeRoom(ctx context.Context, sizeBytes int64) error
}

// Uploads is told of files that clients bring; ingest.Pipeline is one.
type Uploads interface {
	// Expect keeps a file for a while whose bytes are about to become visible.
	Expect(ctx context.Context, file message.ItemHash, at time.Time) error
	// Uploaded records that a file is here.
	Uploaded(ctx context.Context, f state.FileInfo, at time.Time) error
	// Settled says that the message of a file is taken in, which may keep it from now on.
	Settled(ctx context.Context, ref, file message.ItemHash) error
}

// Till knows who can pay for what; ingest.Pipeline is one.
type Till interface {
	// CanPay returns a *message.RejectError if the owner of a STORE cannot pay for a
	// file of the size.
	CanPay(ctx context.Context, e *message.Envelope, s *message.Store, sizeBytes int64) error
}

// Storage is what the endpoints for files work with.
type Storage struct {
	Config   FilesConfig
	Blobs    *blob.Store
	IPFS     *ipfs.Store // nil disables the engine.
	Room     Room
	Uploads  Uploads
	Till     Till           // nil leaves it to the judgement of the message.
	Partials *blob.Partials // nil takes no file in pieces.
}

// errNoStorage is the answer of a node that keeps no files.
func errNoStorage() error {
	return refuseReason(http.StatusServiceUnavailable, "This node keeps no files")
}

// storage is what the node keeps files with.
func (s *Server) storage() (*Storage, error) {
	if s.parts.Storage == nil {
		return nil, errNoStorage()
	}
	return s.parts.Storage, nil
}

// errNoFile is what clients are told of files that are not here.
func errNoFile() error { return refuseText(http.StatusNotFound, "Not found") }

// full is the answer for a file that this node has no room for: 402 is said of
// senders who cannot pay.
func full(err error) error {
	if errs.KindOf(err) == errs.Exhausted {
		return refuseReason(http.StatusInsufficientStorage, "This node has no room for the file")
	}
	return err
}

// askedHash is the hash in the path of a request.
func askedHash(r *http.Request) (message.ItemHash, error) {
	raw := r.PathValue("hash")
	if _, err := message.InferItemType(raw); err != nil {
		return "", refuseText(http.StatusBadRequest, "Invalid hash provided")
	}
	return message.ItemHash(raw), nil
}

// fileInfo is what is known of a file that the network names: no other is served,
// whatever bytes this node has.
func (s *Server) fileInfo(ctx context.Context, hash message.ItemHash) (*state.FileInfo, error) {
	info, err := s.parts.DB.FileInfo(ctx, hash)
	if errors.Is(err, errs.NotFound) {
		return nil, errNoFile()
	}
	return info, err
}

// openFile opens the bytes of a file that is no directory.
func (st *Storage) openFile(hash message.ItemHash) (f io.ReadSeekCloser, sizeBytes int64, err error) {
	if hash.Type() == message.IPFS {
		id, err := st.root(hash)
		if err != nil {
			return nil, 0, err
		}
		f, err := st.IPFS.Open(id.CID)
		if err != nil {
			return nil, 0, err
		}
		return f, f.Info.Size, nil
	}
	b, err := st.Blobs.Open(hash)
	if err != nil {
		return nil, 0, err
	}
	return b, b.Info.Size, nil
}

// root finds content of IPFS by the hash of a file.
func (st *Storage) root(hash message.ItemHash) (ipfs.Root, error) {
	if st.IPFS == nil {
		return ipfs.Root{}, errs.New(errs.NotFound, "this node keeps no IPFS content")
	}
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return ipfs.Root{}, err
	}
	return st.IPFS.Root(id)
}

// storageLimits answers what clients may bring.
func (s *Server) storageLimits(w http.ResponseWriter, r *http.Request) error {
	st, err := s.storage()
	if err != nil {
		return err
	}
	c := st.Config
	inner := newObject(nil)
	inner.integer("max_file_size", c.MaxFileMiB*mib)
	inner.integer("max_unauthenticated_upload_file_size", c.MaxAnonymousMiB*mib)
	other := newObject(nil)
	other.integer("max_upload_file_size", c.MaxIPFSFileMiB*mib)
	other.integer("max_upload_car_size", c.MaxCARMiB*mib)
	other.integer("max_unauthenticated_upload_file_size", c.MaxIPFSAnonymousMiB*mib)
	o := newObject(nil)
	o.raw("storage", inner.end())
	o.raw("ipfs", other.end())
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// fileMetadata answers what is known of a file.
func (s *Server) fileMetadata(w http.ResponseWriter, r *http.Request) error {
	hash, err := askedHash(r)
	if err != nil {
		return err
	}
	info, err := s.fileInfo(r.Context(), hash)
	if err != nil {
		return err
	}
	kind := "file"
	if info.Directory {
		kind = "directory"
	}
	o := newObject(nil)
	o.text("file_hash", string(hash))
	o.text("type", kind)
	o.integer("size", info.SizeBytes)
	o.text("download_url", rawPath(hash))
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// countPins answers how many want a file.
func (s *Server) countPins(w http.ResponseWriter, r *http.Request) error {
	hash := message.ItemHash(r.PathValue("hash"))
	n, err := s.parts.DB.CountPins(r.Context(), hash)
	if err != nil {
		return err
	}
	return s.answerJSON(w, r, http.StatusOK, fmt.Appendf(nil, "%d", n))
}

// rawPath is where a file is downloaded.
func rawPath(hash message.ItemHash) string { return "/api/v0/storage/raw/" + string(hash) }

// fileOfMessage answers with the file that a STORE message names.
func (s *Server) fileOfMessage(w http.ResponseWriter, r *http.Request) error {
	hash, err := message.ParseItemHash(r.PathValue("message_hash"))
	if err != nil {
		return refuseText(http.StatusBadRequest, "Invalid message hash provided")
	}
	pin, err := s.parts.DB.Pin(r.Context(), string(hash))
	if err == nil && pin.Kind != state.PinMessage {
		err = errNoFile()
	}
	return s.answerPin(w, r, pin, err)
}

// fileOfRef answers with the latest version of a file that has a hash as its ref.
func (s *Server) fileOfRef(w http.ResponseWriter, r *http.Request) error {
	ref := r.PathValue("ref")
	if _, err := message.ParseItemHash(ref); err != nil {
		return refuseText(http.StatusBadRequest, "A ref of a user's choice needs the address of its owner: /api/v0/storage/by-ref/{address}/{ref}")
	}
	pin, err := s.parts.DB.Tagged(r.Context(), ref)
	return s.answerPin(w, r, pin, err)
}

// fileOfOwnersRef answers with the latest version of a file that has a ref of its
// owner's choice. One that is a hash names the file alone, whosever address is with
// it, as with the reference.
func (s *Server) fileOfOwnersRef(w http.ResponseWriter, r *http.Request) error {
	tag := r.PathValue("ref")
	if _, err := message.ParseItemHash(tag); err != nil {
		tag = r.PathValue("address") + "/" + tag
	}
	pin, err := s.parts.DB.Tagged(r.Context(), tag)
	return s.answerPin(w, r, pin, err)
}

// answerPin answers with the file of a pin.
func (s *Server) answerPin(w http.ResponseWriter, r *http.Request, pin *state.Pin, err error) error {
	if errors.Is(err, errs.NotFound) {
		return errNoFile()
	}
	if err != nil {
		return err
	}
	info, err := s.fileInfo(r.Context(), pin.File)
	if err != nil {
		return err
	}
	ref := pin.Key
	if pin.Ref != nil {
		ref = *pin.Ref
	}
	o := newObject(nil)
	o.text("ref", ref)
	o.text("owner", pin.Owner)
	o.text("file_hash", string(pin.File))
	o.text("download_url", rawPath(pin.File))
	o.integer("size", info.SizeBytes)
	return s.answerJSON(w, r, http.StatusOK, o.end())
}
