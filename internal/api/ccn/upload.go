package ccn

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// draft is a file whose bytes are here and not visible yet.
type draft interface {
	// Info is the file as it will be.
	Info() state.FileInfo
	// Commit makes it visible.
	Commit() error
	// Abort drops it. It does nothing after a Commit.
	Abort() error
}

// blobDraft is a file of the storage engine.
type blobDraft struct{ *blob.Writer }

// Info implements draft.
func (d blobDraft) Info() state.FileInfo {
	return state.FileInfo{Hash: d.Sum(), SizeBytes: d.Size()}
}

// Commit implements draft.
func (d blobDraft) Commit() error {
	_, err := d.Writer.Commit("")
	return err
}

// contentDraft is a file or directory of the ipfs engine.
type contentDraft struct{ *ipfs.Draft }

// Info implements draft.
func (d contentDraft) Info() state.FileInfo {
	return state.FileInfo{Hash: message.ItemHash(d.Root.CID.String()), Directory: d.Root.Kind == ipfs.KindDirectory, SizeBytes: d.Root.Size}
}

// Commit implements draft.
func (d contentDraft) Commit() error {
	_, err := d.Draft.Commit()
	return err
}

// takeBlob reads a file of the storage engine.
func (st *Storage) takeBlob(_ context.Context, r io.Reader) (*taken, error) {
	w, err := st.Blobs.Create()
	if err != nil {
		return nil, err
	}
	// The wrapper hides ReadFrom: each piece must pass the quota.
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, uploadBuffer)); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return &taken{bytes: w.Size(), draft: blobDraft{w}}, nil
}

// takeContent reads a file of the ipfs engine.
func (st *Storage) takeContent(ctx context.Context, r io.Reader) (*taken, error) {
	d, err := st.IPFS.Draft(ctx, r, ipfs.V0)
	if err != nil {
		return nil, err
	}
	return &taken{bytes: d.Root.Size, draft: contentDraft{d}}, nil
}

// takeCAR reads an archive. What is wrong with it is told after what is wrong with
// its message.
func (st *Storage) takeCAR(ctx context.Context, r io.Reader) (*taken, error) {
	car, err := ipfs.OpenCAR(r)
	if errs.KindOf(err) == errs.Invalid {
		return &taken{err: refuseReason(http.StatusUnprocessableEntity, "Invalid CAR file: "+err.Error())}, nil
	}
	if err != nil {
		return nil, err
	}
	d, err := st.IPFS.DraftCAR(ctx, car)
	if errs.KindOf(err) == errs.Invalid {
		return &taken{root: car.Root.String(), err: refuseReason(http.StatusBadGateway, "Failed to import CAR into IPFS: "+err.Error())}, nil
	}
	if err != nil {
		return nil, err
	}
	return &taken{root: car.Root.String(), draft: contentDraft{d}}, nil
}

// order is the message that comes with a file.
type order struct {
	raw   json.RawMessage
	env   *message.Envelope
	store *message.Store
	sync  bool
}

// readOrder checks what comes with a file, in the order of the reference: its form,
// the signature, the content. It is nil if nothing came.
func readOrder(metadata []byte) (*order, error) {
	if len(metadata) == 0 {
		return nil, nil
	}
	o, err := decodeOrder(metadata)
	if err != nil {
		return nil, refuseReason(http.StatusUnprocessableEntity, "Could not decode metadata: "+err.Error())
	}
	if err := signature.Verify(o.env); err != nil {
		return nil, refuse(http.StatusForbidden)
	}
	if o.store, err = o.env.Store(); err != nil {
		return nil, refuseReason(http.StatusUnprocessableEntity, "Invalid store message content: "+err.Error())
	}
	return o, nil
}

// decodeOrder reads {"message": {...}, "sync": ...}, of which both must be there.
func decodeOrder(raw []byte) (*order, error) {
	if !json.Valid(raw) || tooDeep(raw) {
		return nil, errs.New(errs.Invalid, "it is no JSON document")
	}
	fields, ok := fieldsOf(raw)
	o := &order{raw: fields["message"]}
	switch {
	case !ok || !isObject(o.raw):
		return nil, errs.New(errs.Invalid, "message: Field required")
	case fields["sync"] == nil:
		return nil, errs.New(errs.Invalid, "sync: Field required")
	}
	var text string
	if json.Unmarshal(fields["sync"], &text) != nil {
		text = string(fields["sync"])
	}
	asked := &params{values: map[string][]string{"sync": {text}}}
	if o.sync = asked.boolean(false, "sync"); asked.err() != nil {
		return nil, errs.New(errs.Invalid, "sync: Input should be a valid boolean")
	}
	o.env = new(message.Envelope) // Its content comes after its signature.
	if err := o.env.UnmarshalJSON(o.raw); err != nil {
		return nil, err
	}
	switch got := message.HashOf([]byte(o.env.ItemContent)); {
	case o.env.Type != message.TypeStore || o.env.ItemType != message.Inline:
		return nil, errs.New(errs.Invalid, "message: it must be an inline STORE message")
	case o.env.Signature == "":
		return nil, errs.New(errs.Invalid, "message.signature: Field required")
	case got != o.env.ItemHash:
		return nil, errs.New(errs.Invalid, "message.item_hash is %s, but the content hashes to %s", o.env.ItemHash, got)
	}
	return o, nil
}

// wants refuses a file that is not the one of the message.
func (o *order) wants(hash message.ItemHash) error {
	if o.store.ItemHash == hash {
		return nil
	}
	return refuseReason(http.StatusUnprocessableEntity, "File hash does not match ("+string(hash)+" != "+string(o.store.ItemHash)+")")
}

// forIPFS wants the message to name content of IPFS.
func (o *order) forIPFS() error {
	if o.store.ItemType == message.IPFS {
		return nil
	}
	return refuseReason(http.StatusUnprocessableEntity, "Invalid store message content: item_type must be ipfs")
}

// canPay wants the owner of the message to be able to pay for the file.
func (st *Storage) canPay(ctx context.Context, o *order, sizeBytes int64) error {
	if st.Till == nil {
		return nil
	}
	err := st.Till.CanPay(ctx, o.env, o.store, sizeBytes)
	var rejected *message.RejectError
	if errors.As(err, &rejected) {
		return refuseReason(http.StatusPaymentRequired, rejected.Error())
	}
	return err
}

// addFile takes a file of the storage engine. The bytes come first, since parts may
// be in any order; whether they are kept is decided when all was read.
func (s *Server) addFile(w http.ResponseWriter, r *http.Request) error {
	st, err := s.storage()
	if err != nil {
		return err
	}
	u, err := st.begin(w, r, st.Config.MaxFileMiB*mib)
	if err != nil {
		return err
	}
	if u.form == nil {
		return s.addBody(w, r, u)
	}
	in, err := u.receive(r.Context(), st.Config.MaxFileMiB*mib, st.takeBlob)
	if err != nil {
		return err
	}
	defer s.drop(in)
	o, err := in.check(st.Config.MaxAnonymousMiB * mib)
	if err != nil {
		return err
	}
	if o != nil {
		if err := o.wants(in.file.draft.Info().Hash); err != nil {
			return err
		}
		if err := st.canPay(r.Context(), o, in.file.bytes); err != nil {
			return err
		}
	}
	return s.keep(w, r, in.file, o, answerHash)
}

// addBody takes a body that is the file itself.
func (s *Server) addBody(w http.ResponseWriter, r *http.Request, u *upload) error {
	limit := u.st.Config.MaxAnonymousMiB * mib
	if u.size > limit {
		return errTooLarge(limit)
	}
	file, err := u.st.takeBlob(r.Context(), &bounded{ctx: r.Context(), u: u, r: u.body, limit: limit})
	if err != nil {
		return u.failed(err)
	}
	in := &received{file: file}
	defer s.drop(in)
	return s.keep(w, r, file, nil, answerHash)
}

// check wants a form to have a file that is not too large for what comes with it.
func (in *received) check(anonymousMax int64) (*order, error) {
	if in.file == nil {
		return nil, refuseReason(http.StatusUnprocessableEntity, "Missing 'file' in multipart form.")
	}
	if len(in.metadata) == 0 && in.file.bytes > anonymousMax {
		return nil, errTooLarge(anonymousMax)
	}
	return readOrder(in.metadata)
}

// drop ends what was received and logs what stays of it.
func (s *Server) drop(in *received) {
	if err := in.end(); err != nil {
		s.log.Error("refused upload not dropped", "err", err)
	}
}

// ipfsForm begins to read a form for the ipfs engine.
func (s *Server) ipfsForm(w http.ResponseWriter, r *http.Request, limit func(FilesConfig) int64) (*upload, error) {
	st, err := s.storage()
	if err != nil {
		return nil, err
	}
	if st.IPFS == nil {
		return nil, refuseReason(http.StatusForbidden, "IPFS is disabled on this node")
	}
	u, err := st.begin(w, r, limit(st.Config)*mib)
	if err == nil && u.form == nil {
		err = refuseReason(http.StatusBadRequest, "Expected Content-Type: multipart/form-data")
	}
	return u, err
}

// addIPFSFile takes a file of the ipfs engine.
func (s *Server) addIPFSFile(w http.ResponseWriter, r *http.Request) error {
	u, err := s.ipfsForm(w, r, func(c FilesConfig) int64 { return c.MaxIPFSFileMiB })
	if err != nil {
		return err
	}
	st := u.st
	in, err := u.receive(r.Context(), st.Config.MaxIPFSFileMiB*mib, st.takeContent)
	if err != nil {
		return err
	}
	defer s.drop(in)
	o, err := in.check(st.Config.MaxIPFSAnonymousMiB * mib)
	if err != nil {
		return err
	}
	if o != nil {
		if err := o.forIPFS(); err != nil {
			return err
		}
		if err := st.canPay(r.Context(), o, in.file.bytes); err != nil {
			return err
		}
		if err := o.wants(in.file.draft.Info().Hash); err != nil {
			return err
		}
	}
	return s.keep(w, r, in.file, o, answerNamed)
}

// addCAR takes a directory as an archive.
func (s *Server) addCAR(w http.ResponseWriter, r *http.Request) error {
	u, err := s.ipfsForm(w, r, func(c FilesConfig) int64 { return c.MaxCARMiB })
	if err != nil {
		return err
	}
	in, err := u.receive(r.Context(), u.st.Config.MaxCARMiB*mib, u.st.takeCAR)
	if err != nil {
		return err
	}
	defer s.drop(in)
	if in.file != nil && len(in.metadata) == 0 {
		return refuseReason(http.StatusUnprocessableEntity, "Missing 'metadata' in multipart form.")
	}
	o, err := in.check(0)
	if err != nil {
		return err
	}
	if err := u.st.checkCAR(r.Context(), in.file, o); err != nil {
		return err
	}
	return s.keep(w, r, in.file, o, answerSized)
}

// checkCAR wants an archive to be that of the message, and whole.
func (st *Storage) checkCAR(ctx context.Context, file *taken, o *order) error {
	if err := o.forIPFS(); err != nil {
		return err
	}
	if file.root == "" {
		return file.err
	}
	if want := string(o.store.ItemHash); file.root != want {
		return refuseReason(http.StatusUnprocessableEntity, "Root CID does not match ("+file.root+" != "+want+")")
	}
	if err := st.canPay(ctx, o, file.bytes); err != nil {
		return err
	}
	return file.err
}

// keep makes a file visible, and hands in its message if it came with one. What is
// begun is done even if the client goes away.
func (s *Server) keep(w http.ResponseWriter, r *http.Request, file *taken, o *order, answer func(*taken, state.FileInfo) []byte) error {
	info := file.draft.Info()
	status, err := s.store(context.WithoutCancel(r.Context()), file.draft, info, o)
	if err != nil {
		return err
	}
	return s.answerJSON(w, r, status, answer(file, info))
}

// store is keep without the answer; it returns the status of that.
func (s *Server) store(ctx context.Context, d draft, info state.FileInfo, o *order) (int, error) {
	st := s.parts.Storage
	if err := st.Uploads.Expect(ctx, info.Hash, time.Now()); err != nil {
		return 0, err
	}
	if err := d.Commit(); err != nil {
		return 0, full(err)
	}
	if err := st.Uploads.Uploaded(ctx, info, time.Now()); err != nil {
		return 0, err
	}
	if o == nil {
		return http.StatusOK, nil
	}
	verdict, err := s.submit(ctx, o.raw)
	if err != nil {
		return 0, err
	}
	status := s.standing(ctx, verdict, o.sync)
	return httpStatus(status), st.Uploads.Settled(ctx, verdict.ItemHash, info.Hash)
}

func answerHash(_ *taken, info state.FileInfo) []byte {
	o := newObject(nil)
	o.text("status", "success")
	o.text("hash", string(info.Hash))
	return o.end()
}

func answerNamed(file *taken, info state.FileInfo) []byte {
	o := newObject(nil)
	o.text("status", "success")
	o.text("hash", string(info.Hash))
	o.text("name", file.name)
	o.integer("size", info.SizeBytes)
	return o.end()
}

func answerSized(_ *taken, info state.FileInfo) []byte {
	o := newObject(nil)
	o.text("status", "success")
	o.text("hash", string(info.Hash))
	o.integer("size", info.SizeBytes)
	return o.end()
}

// addJSON takes a document of the storage engine.
func (s *Server) addJSON(w http.ResponseWriter, r *http.Request) error {
	st, err := s.storage()
	if err != nil {
		return err
	}
	return s.takeJSON(w, r, st, st.Config.MaxAnonymousMiB*mib, st.takeBlob)
}

// addIPFSJSON takes a document of the ipfs engine.
func (s *Server) addIPFSJSON(w http.ResponseWriter, r *http.Request) error {
	st, err := s.storage()
	if err != nil {
		return err
	}
	if st.IPFS == nil {
		return refuseReason(http.StatusForbidden, "IPFS is disabled on this node")
	}
	return s.takeJSON(w, r, st, st.Config.MaxIPFSAnonymousMiB*mib, st.takeContent)
}

const (
	// documentsMax bounds the documents longer than other bodies that are held at
	// once: to bring one into its form takes up to twenty times its length.
	documentsMax = 2
	// documentWait is how long one may wait for its turn.
	documentWait = 30 * time.Second
)

// inDocumentTurn lets a document be read to its end, as a file may be that comes
// without a message. One longer than other bodies has to wait for its turn.
func (s *Server) inDocumentTurn(w http.ResponseWriter, r *http.Request, limit int64) (done func(), err error) {
	body, head := http.MaxBytesReader(w, r.Body, max(limit, bodyMax)), new(bytes.Buffer)
	_, err = io.CopyN(head, body, bodyMax+1)
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(head, body), body}
	if err != nil {
		return func() {}, nil //nolint:nilerr // It ends here; who reads it finds out how.
	}
	if err := s.documents.take(r.Context()); err != nil {
		return nil, err
	}
	return s.documents.leave, nil
}

// errDocuments is said to who brings a long document while too many do.
var errDocuments = errs.New(errs.Unavailable, "%d long documents are being brought already; try again", documentsMax)

// takeJSON takes a document. Its hash is not that of the bytes that came, but of
// the one form that the reference gives every document.
func (s *Server) takeJSON(w http.ResponseWriter, r *http.Request, st *Storage, limit int64, take func(context.Context, io.Reader) (*taken, error)) error {
	done, err := s.inDocumentTurn(w, r, limit)
	if err != nil {
		return err
	}
	defer done()
	raw, err := readBody(r)
	if err != nil {
		return err
	}
	plain, err := message.Canonical(raw)
	if err != nil {
		return refuseReason(http.StatusUnprocessableEntity, "Invalid JSON document: "+err.Error())
	}
	if err := st.Room.MakeRoom(r.Context(), int64(len(plain))); err != nil {
		return full(err)
	}
	file, err := take(r.Context(), bytes.NewReader(plain))
	if err != nil {
		return full(err)
	}
	in := &received{file: file}
	defer s.drop(in)
	return s.keep(w, r, file, nil, answerHash)
}
