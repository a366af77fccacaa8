package crn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"syscall"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// partsMax bounds the parts of a form.
const partsMax = 16

// uploadMax bounds an upload, in bytes: an image has tables beside the bytes of its
// disk, less than an eighth of them.
func uploadMax(disk int64) int64 { return disk + disk/8 + 16<<20 }

// errBusy is a machine that is being restored or copied already.
func errBusy() error {
	return refuse(http.StatusConflict, "A backup or restore is already in progress for this VM")
}

// restore replaces the root disk of a machine by one that its owner uploads, or by
// a file of the network.
func (s *Server) restore(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	switch {
	case e.Hypervisor != message.QEMU || e.Kind != Instance || s.parts.Backups == nil:
		return refuse(http.StatusBadRequest, "Restore only supported for QEMU VMs")
	case e.RootfsBytes == 0:
		return refuse(http.StatusBadRequest, "VM has no rootfs")
	}
	if !s.beginRestore(e.Hash) {
		return errBusy()
	}
	defer s.endRestore(e.Hash)
	if err := s.restoreFrom(c, e); err != nil {
		return s.restoreFailed(e, err)
	}
	return s.json(c, http.StatusOK, map[string]string{"status": "restored", "vm_hash": string(e.Hash)})
}

func (s *Server) beginRestore(vm message.ItemHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.restoring[vm] {
		return false
	}
	s.restoring[vm] = true
	return true
}

func (s *Server) endRestore(vm message.ItemHash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.restoring, vm)
}

// restoreFailed is what a client hears of a restore that failed.
func (s *Server) restoreFailed(e *Execution, err error) error {
	var f *Failure
	switch {
	case errors.As(err, &f):
		return err
	case errors.Is(err, syscall.ENOSPC) || errs.KindOf(err) == errs.Exhausted:
		return &Failure{Status: http.StatusInsufficientStorage, Text: "Insufficient disk space", Plain: true}
	case errs.KindOf(err) == errs.Conflict:
		return errBusy()
	case errs.KindOf(err) != errs.Internal:
		return err
	}
	s.log.Error("machine not restored", "job_id", e.Hash, "err", err)
	return refuse(http.StatusInternalServerError, "Restore failed")
}

func (s *Server) restoreFrom(c *call, e *Execution) error {
	limit := uploadMax(e.RootfsBytes)
	if c.r.ContentLength > limit {
		return errTooLarge(e.RootfsBytes, c.r.ContentLength)
	}
	kind, params, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		return s.restoreRef(c, e)
	}
	if params["boundary"] == "" {
		return refuse(http.StatusBadRequest, "Expected multipart upload or JSON with volume_ref")
	}
	if err := api.BeginStream(c.w); err != nil {
		return err
	}
	body := api.NewPatientBody(c.w, http.MaxBytesReader(c.w, c.r.Body, limit))
	image := &upload{c: c}
	image.r, err = rootfsOf(multipart.NewReader(body, params["boundary"]))
	if err == nil {
		// What was uploaded to the end is restored to the end.
		err = s.parts.Backups.Restore(context.WithoutCancel(c.r.Context()), e.Hash, image)
	}
	switch {
	case body.Err() != nil:
		return uploadBrokeOff(body.Err(), e.RootfsBytes)
	case image.err != nil:
		return uploadBrokeOff(image.err, e.RootfsBytes)
	case errs.KindOf(err) == errs.Invalid:
		return refuse(http.StatusBadRequest, "Uploaded file is not a valid QCOW2 disk image: "+errs.Public(err))
	}
	return err
}

// upload is an image that comes. After its last byte the machine has its time.
type upload struct {
	c   *call
	r   io.Reader
	err error // Why it did not come to its end.
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil {
		u.c.unhurried()
		if !errors.Is(err, io.EOF) {
			u.err = err
		}
	}
	return n, err
}

// uploadBrokeOff is what it means that an upload could not be read.
func uploadBrokeOff(err error, disk int64) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return errTooLarge(disk, tooLarge.Limit+1)
	}
	return errs.New(errs.Invalid, "upload broke off: %w", err)
}

func errTooLarge(limit, actual int64) error {
	return refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("Maximum request body size %d exceeded, actual body size %d", limit, actual))
}

// restoreRef restores from a file of the network.
func (s *Server) restoreRef(c *call, e *Execution) error {
	var in struct {
		Ref string `json:"volume_ref"`
	}
	err := json.NewDecoder(http.MaxBytesReader(c.w, c.r.Body, bodyMax)).Decode(&in)
	switch {
	case err != nil:
		return refuse(http.StatusBadRequest, "Expected multipart upload or JSON with volume_ref")
	case in.Ref == "":
		return refuse(http.StatusBadRequest, "Missing volume_ref in JSON body")
	}
	ref, err := message.ParseItemHash(in.Ref)
	if err != nil || ref.Type() != message.Storage {
		return refuse(http.StatusBadRequest, "Invalid volume_ref format")
	}
	c.unhurried()
	err = s.parts.Backups.RestoreRef(c.r.Context(), e.Hash, ref)
	if errs.KindOf(err) == errs.NotFound {
		return refuse(http.StatusNotFound, errs.Public(err))
	}
	return err
}

// rootfsOf returns the part of a form that is the root disk.
func rootfsOf(form *multipart.Reader) (io.Reader, error) {
	for range partsMax {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "Malformed multipart upload")
		}
		if part.FormName() == "rootfs" {
			return part, nil
		}
	}
	return nil, refuse(http.StatusBadRequest, "Missing 'rootfs' field in multipart upload")
}
