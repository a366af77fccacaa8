package v1

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// hashHeader names the sha256 that an upload must have.
const hashHeader = "X-Aleph-Sha256"

// Room makes a blob of a size fit into the store, or returns errs.Exhausted;
// storage.Keeper is one.
type Room interface {
	MakeRoom(ctx context.Context, sizeBytes int64) error
}

type uploadInput struct {
	Hash string `header:"X-Aleph-Sha256" doc:"The sha256 that the bytes must have, in hex; optional."`
}

type blobView struct {
	Hash string `json:"hash"`
	Size int64  `json:"size" doc:"Bytes."`
}

// upload stores a body as it comes. Nothing is kept of one that breaks off.
func (s *Server) upload(w http.ResponseWriter, r *http.Request, in *uploadInput) error {
	want := message.ItemHash(in.Hash)
	if _, ok := want.Digest(); in.Hash != "" && !ok {
		return errs.New(errs.Invalid, "header %s is %.80q, want 64 lower-case hex digits", hashHeader, in.Hash)
	}
	if r.ContentLength > 0 {
		if err := s.parts.Room.MakeRoom(r.Context(), r.ContentLength); err != nil {
			return err
		}
	}
	body := api.NewPatientBody(w, r.Body)
	info, err := s.parts.Blobs.Put(r.Context(), body, want)
	if body.Err() != nil {
		return errs.New(errs.Invalid, "upload broke off: %w", body.Err())
	}
	if err != nil {
		return err
	}
	raw, err := json.Marshal(blobView{Hash: string(info.Hash), Size: info.Size})
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", "/api/v1/blobs/"+string(info.Hash))
	w.WriteHeader(http.StatusCreated)
	if _, err := w.Write(raw); err != nil {
		s.log.Debug("answer not written", "path", r.URL.Path, "err", err)
	}
	return nil
}

type blobInput struct {
	Hash string `path:"hash" doc:"The sha256 of the bytes, in hex."`
}

// download serves a blob, whole or in ranges. Its hash is its tag: what has one
// name never changes.
func (s *Server) download(w http.ResponseWriter, r *http.Request, in *blobInput) error {
	b, err := s.parts.Blobs.Open(message.ItemHash(in.Hash))
	if err != nil {
		return err
	}
	defer b.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", strconv.Quote(in.Hash))
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(api.NewPatientWriter(w), r, "", time.Time{}, b)
	return nil
}

// jsonResponse describes an answer that a stream endpoint writes itself.
func (s *Server) jsonResponse(status int, description string, body any) map[string]*huma.Response {
	schema := huma.SchemaFromType(s.api.OpenAPI().Components.Schemas, typeOf(body))
	return map[string]*huma.Response{strconv.Itoa(status): {
		Description: description, Content: map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}}
}
