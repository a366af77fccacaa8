package ccn

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Uploads that are gone on with after a connection broke, or the node was started
// again: tus 1.0 with its extensions creation and termination. What an upload is of
// is told when it begins, in Upload-Metadata: engine (storage, ipfs or car),
// filename, and metadata as in a form. All that can be checked then is; the rest is
// when the last byte is here, and the answer to that names the file.
const (
	tusVersion, tusExtensions = "1.0.0", "creation,termination"
	// offsetType is the type of a body that goes on with an upload.
	offsetType = "application/offset+octet-stream"
	// uploadsPath is where uploads begin; each is below it.
	uploadsPath = "/api/v0/storage/uploads"
	// engineCAR is the engine of archives.
	engineCAR = "car"
	// hashHeader and statusHeader tell what became of an upload: the name of the
	// file, and the status that an upload in one piece would have got.
	hashHeader, statusHeader = "Aleph-Item-Hash", "Aleph-Status"
)

// plan is what is kept of the beginning of an upload.
type plan struct {
	Engine   string `json:"engine"`
	Name     string `json:"name"`
	Metadata []byte `json:"metadata,omitempty"`
}

// partials is where uploads are that come in pieces.
func (s *Server) partials(w http.ResponseWriter, r *http.Request) (*Storage, error) {
	st, err := s.storage()
	if err != nil {
		return nil, err
	}
	if st.Partials == nil {
		return nil, refuse(http.StatusNotFound)
	}
	w.Header().Set("Tus-Resumable", tusVersion)
	if got := r.Header.Get("Tus-Resumable"); got != tusVersion && (got != "" || r.Method != http.MethodGet) {
		w.Header().Set("Tus-Version", tusVersion)
		return nil, refuse(http.StatusPreconditionFailed)
	}
	return st, nil
}

// beginUpload begins an upload that comes in pieces.
func (s *Server) beginUpload(w http.ResponseWriter, r *http.Request) error {
	st, err := s.partials(w, r)
	if err != nil {
		return err
	}
	w.Header().Set("Tus-Extension", tusExtensions)
	size, err := strconv.ParseInt(r.Header.Get("Upload-Length"), 10, 64)
	if err != nil || size < 0 {
		return refuseReason(http.StatusBadRequest, "Upload-Length must be the number of bytes of the file")
	}
	p, err := readPlan(r.Header.Get("Upload-Metadata"))
	if err != nil {
		return err
	}
	if err := st.mayBegin(r.Context(), p, size); err != nil {
		return err
	}
	note, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := st.Room.MakeRoom(r.Context(), size); err != nil {
		return full(err)
	}
	part, err := st.Partials.Begin(size, note, time.Now())
	if err != nil {
		return full(err)
	}
	w.Header().Set("Location", uploadsPath+"/"+part.ID)
	w.Header().Set("Upload-Offset", "0")
	w.WriteHeader(http.StatusCreated)
	return nil
}

// readPlan reads Upload-Metadata: keys and values in base64, with commas between.
func readPlan(header string) (*plan, error) {
	p := &plan{Engine: string(message.Storage)}
	for pair := range strings.SplitSeq(header, ",") {
		name, encoded, _ := strings.Cut(strings.TrimSpace(pair), " ")
		value, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
		if err != nil {
			return nil, refuseReason(http.StatusBadRequest, "Upload-Metadata must be keys and values in base64")
		}
		switch name {
		case "engine":
			p.Engine = string(value)
		case "filename":
			p.Name = string(value)
		case "metadata":
			p.Metadata = value
		}
	}
	switch p.Engine {
	case string(message.Storage), string(message.IPFS), engineCAR:
		return p, nil
	}
	return nil, refuseReason(http.StatusBadRequest, "engine must be storage, ipfs or car")
}

// mayBegin checks what can be checked before any byte is here, in the order of
// uploads in one piece.
func (st *Storage) mayBegin(ctx context.Context, p *plan, size int64) error {
	c := st.Config
	limit, anonymous := c.MaxFileMiB, c.MaxAnonymousMiB
	switch {
	case p.Engine == string(message.Storage):
	case st.IPFS == nil:
		return refuseReason(http.StatusForbidden, "IPFS is disabled on this node")
	case p.Engine == engineCAR:
		limit, anonymous = c.MaxCARMiB, 0
		if len(p.Metadata) == 0 {
			return refuseReason(http.StatusUnprocessableEntity, "Missing 'metadata' in Upload-Metadata.")
		}
	default:
		limit, anonymous = c.MaxIPFSFileMiB, c.MaxIPFSAnonymousMiB
	}
	if len(p.Metadata) == 0 {
		limit = anonymous
	}
	if size > limit*mib {
		return errTooLarge(limit * mib)
	}
	o, err := readOrder(p.Metadata)
	if err != nil || o == nil {
		return err
	}
	if p.Engine != string(message.Storage) {
		if err := o.forIPFS(); err != nil {
			return err
		}
	}
	return st.canPay(ctx, o, size)
}

// uploadStatus answers how far an upload has come. One that is whole and was not
// ended, since the node was killed at that moment, is ended now.
func (s *Server) uploadStatus(w http.ResponseWriter, r *http.Request) error {
	st, err := s.partials(w, r)
	if err != nil {
		return err
	}
	part, err := st.Partials.Look(r.PathValue("id"))
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	if part.Offset == part.SizeBytes {
		if err := s.endUpload(w, r, st, part); err != nil {
			return err
		}
	}
	uploadHeaders(w.Header(), part)
	w.WriteHeader(http.StatusOK)
	return nil
}

func uploadHeaders(h http.Header, part blob.Partial) {
	h.Set("Upload-Offset", strconv.FormatInt(part.Offset, 10))
	h.Set("Upload-Length", strconv.FormatInt(part.SizeBytes, 10))
}

// goOn takes the next bytes of an upload. What came before a connection broke stays.
func (s *Server) goOn(w http.ResponseWriter, r *http.Request) error {
	st, err := s.partials(w, r)
	if err != nil {
		return err
	}
	if r.Header.Get("Content-Type") != offsetType {
		return refuse(http.StatusUnsupportedMediaType)
	}
	offset, err := strconv.ParseInt(r.Header.Get("Upload-Offset"), 10, 64)
	if err != nil || offset < 0 {
		return refuseReason(http.StatusBadRequest, "Upload-Offset must be how many bytes are here")
	}
	body := api.NewPatientBody(w, r.Body)
	part, err := st.Partials.Append(r.PathValue("id"), offset, body)
	switch {
	case body.Err() != nil:
		return errs.New(errs.Invalid, "upload broke off: %w", body.Err())
	case err != nil:
		return full(err)
	}
	if part.Offset == part.SizeBytes {
		if err := s.endUpload(w, r, st, part); err != nil {
			return err
		}
	}
	uploadHeaders(w.Header(), part)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// dropUpload ends an upload that is not wanted any more.
func (s *Server) dropUpload(w http.ResponseWriter, r *http.Request) error {
	st, err := s.partials(w, r)
	if err != nil {
		return err
	}
	if _, err := st.Partials.Look(r.PathValue("id")); err != nil {
		return err
	}
	if err := st.Partials.Drop(r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// endUpload stores an upload that is whole, as one that came in one piece. If it is
// refused it is dropped too, but not for want of something of this node.
func (s *Server) endUpload(w http.ResponseWriter, r *http.Request, st *Storage, part blob.Partial) error {
	ctx := context.WithoutCancel(r.Context()) // The client may be gone, and need not come back.
	err := st.Partials.Read(part.ID, func(part blob.Partial, in io.Reader) error {
		var p plan
		if err := json.Unmarshal(part.Note, &p); err != nil {
			return err
		}
		hash, status, err := s.storeWhole(ctx, st, &p, in)
		if err == nil {
			w.Header().Set(hashHeader, string(hash))
			w.Header().Set(statusHeader, strconv.Itoa(status))
		}
		return err
	})
	var refused *refusal
	if err == nil || errors.As(err, &refused) && refused.status != http.StatusInsufficientStorage {
		return errors.Join(err, st.Partials.Drop(part.ID))
	}
	return err
}

// storeWhole checks and stores the bytes of an upload.
func (s *Server) storeWhole(ctx context.Context, st *Storage, p *plan, in io.Reader) (hash message.ItemHash, status int, err error) {
	take := st.takeBlob
	switch p.Engine {
	case string(message.IPFS):
		take = st.takeContent
	case engineCAR:
		take = st.takeCAR
	}
	file, err := take(ctx, in)
	if err != nil {
		return "", 0, full(err)
	}
	defer s.drop(&received{file: file})
	o, err := readOrder(p.Metadata)
	if err != nil {
		return "", 0, err
	}
	if p.Engine == engineCAR {
		err = st.checkCAR(ctx, file, o)
	} else if o != nil {
		err = o.wants(file.draft.Info().Hash)
	}
	if err != nil {
		return "", 0, err
	}
	info := file.draft.Info()
	status, err = s.store(ctx, file.draft, info, o)
	return info.Hash, status, err
}
