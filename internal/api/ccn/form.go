package ccn

import (
	"cmp"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// metadataMax bounds the part of a form that has the message, as with messages
	// that are handed in.
	metadataMax = bodyMax
	// partsMax bounds the parts of a form, and strayMax the bytes of those that
	// nobody asked for.
	partsMax, strayMax = 64, bodyMax
	// formMax is how much longer than its file a form may say that it is.
	formMax = metadataMax + strayMax + 64<<10
	// uploadsMax bounds the clients that bring files at the same time: each has some
	// buffers, and is slow at will.
	uploadsMax = 128
	// uploadWait is how long one may wait for its turn, before anything of it is read,
	// and uploadsWaitingMax bounds those who do.
	uploadWait        = 30 * time.Second
	uploadsWaitingMax = 128
	// uploadBuffer is how much of a file is read at a time.
	uploadBuffer = 256 << 10
	// roomStep is for how many bytes room is made at a time, if the client does not
	// say how many come.
	roomStep = 16 << 20
)

// errUploads is said to who brings a file while too many do.
var errUploads = errs.New(errs.Unavailable, "%d files are being brought already; try again", uploadsMax)

// errTooLarge refuses a file in the words of the reference's server.
func errTooLarge(limit int64) error {
	return &refusal{status: http.StatusRequestEntityTooLarge, text: "Maximum request body size " + strconv.FormatInt(limit, 10) + " exceeded"}
}

// inTurn serves as many requests that bring files as there is memory for. The others
// wait for their turn.
func inTurn(handle func(*Server, http.ResponseWriter, *http.Request) error) func(*Server, http.ResponseWriter, *http.Request) error {
	return func(s *Server, w http.ResponseWriter, r *http.Request) error {
		if err := s.uploads.take(r.Context()); err != nil {
			return err
		}
		defer s.uploads.leave()
		return handle(s, w, r)
	}
}

// upload is a body that brings a file.
type upload struct {
	st   *Storage
	body *api.PatientBody
	size int64 // As the client says; -1 if it does not.
	form *multipart.Reader
}

// begin begins to read a body that may bring so many bytes of a file. form is nil
// if the body is not one.
func (st *Storage) begin(w http.ResponseWriter, r *http.Request, limit int64) (*upload, error) {
	u := &upload{st: st, body: api.NewPatientBody(w, r.Body), size: r.ContentLength}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	extra := int64(0)
	if err == nil && kind == "multipart/form-data" {
		if params["boundary"] == "" {
			return nil, refuse(http.StatusBadRequest)
		}
		u.form, extra = multipart.NewReader(u.body, params["boundary"]), formMax
	}
	if u.size > limit+extra {
		return nil, errTooLarge(limit)
	}
	if u.size > 0 {
		if err := st.Room.MakeRoom(r.Context(), min(u.size, limit)); err != nil {
			return nil, full(err)
		}
	}
	return u, nil
}

// failed is what a failure to read the body means: if it is the client's, nothing
// was wrong here.
func (u *upload) failed(err error) error {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return err
	case u.body.Err() != nil:
		return errs.New(errs.Invalid, "upload broke off: %w", u.body.Err())
	}
	return full(err)
}

// nextPart is the next part of the form, or io.EOF.
func (u *upload) nextPart() (*multipart.Part, error) {
	part, err := u.form.NextRawPart()
	switch {
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, io.EOF
	case err != nil && u.body.Err() != nil:
		return nil, u.failed(err)
	case err != nil:
		return nil, refuseReason(http.StatusBadRequest, "Malformed multipart form: "+err.Error())
	}
	return part, nil
}

// bounded reads up to limit bytes of a file; one more is a refusal, and nothing
// that comes after is read.
type bounded struct {
	ctx   context.Context //nolint:containedctx // It lives for one request.
	u     *upload
	r     io.Reader
	limit int64
	n     int64
	room  int64 // Up to here there is room.
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, context.Cause(b.ctx)
	}
	if b.u.size < 0 && b.n >= b.room {
		b.room += roomStep
		// If there is no room for all of a step, there may be for what comes of it.
		if err := b.u.st.Room.MakeRoom(b.ctx, min(roomStep, b.limit-b.n)); err != nil && errs.KindOf(err) != errs.Exhausted {
			return 0, err
		}
	}
	n, err := b.r.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errs.New(errs.Invalid, "upload broke off") // To others that is the end of a file.
	}
	b.n += int64(n)
	if b.n > b.limit {
		return 0, errTooLarge(b.limit)
	}
	return n, err
}

// received is what a form brought. Somebody must end it.
type received struct {
	file     *taken
	metadata []byte // nil if there was none.
}

// unnamed is what the reference calls a file that has no name.
const unnamed = "file"

// taken is a file that was read and is not kept yet.
type taken struct {
	name  string // As the client calls it.
	bytes int64
	err   error  // What is wrong with it, to be told when its time comes.
	root  string // What an archive says its root is.
	draft draft  // nil if there is an err.
}

// receive reads a form whose parts come in any order; those that nobody asked for,
// and second ones, are skipped. Nothing is left of a form with an error.
func (u *upload) receive(ctx context.Context, limit int64, take func(ctx context.Context, r io.Reader) (*taken, error)) (_ *received, err error) {
	in := &received{}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.end())
		}
	}()
	stray := int64(0)
	for range partsMax {
		part, err := u.nextPart()
		if errors.Is(err, io.EOF) {
			return in, nil
		}
		if err != nil {
			return nil, err
		}
		switch name := part.FormName(); {
		case name == "file" && in.file == nil:
			in.file, err = u.takePart(ctx, part, limit, take)
		case name == "metadata" && in.metadata == nil:
			in.metadata, err = io.ReadAll(&bounded{ctx: ctx, u: u, r: part, limit: metadataMax, room: metadataMax})
		default:
			skipped := &bounded{ctx: ctx, u: u, r: part, limit: strayMax - stray, room: strayMax}
			_, err = io.Copy(io.Discard, skipped)
			stray += skipped.n
		}
		if err != nil {
			return nil, u.failed(err)
		}
	}
	return nil, refuseReason(http.StatusBadRequest, "Malformed multipart form: more than "+strconv.Itoa(partsMax)+" parts")
}

// takePart takes a file that is a part of a form. What comes after is in reach only
// when all of it was read.
func (u *upload) takePart(ctx context.Context, part *multipart.Part, limit int64, take func(ctx context.Context, r io.Reader) (*taken, error)) (*taken, error) {
	in := &bounded{ctx: ctx, u: u, r: part, limit: limit}
	file, err := take(ctx, in)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, errors.Join(err, file.end())
	}
	file.name, file.bytes = cmp.Or(part.FileName(), unnamed), in.n
	return file, nil
}

// end drops the file unless it was kept.
func (in *received) end() error {
	if in == nil || in.file == nil {
		return nil
	}
	return in.file.end()
}

func (f *taken) end() error {
	if f.draft == nil {
		return nil
	}
	return f.draft.Abort()
}
