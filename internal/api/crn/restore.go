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
	"os"
	"strings"
	"syscall"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qcow2"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	uploadPattern = "restore-*.qcow2"
	// uploadExtra is what an image may have beside the bytes of its disk, and one
	// part in 1024 of them: tables, and the form around it.
	uploadExtra = 1 << 20
	// partsMax bounds the parts of a form.
	partsMax = 16
)

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
	limit := e.RootfsBytes + e.RootfsBytes/1024 + uploadExtra
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
	file, err := s.receive(multipart.NewReader(body, params["boundary"]), e.RootfsBytes)
	if body.Err() != nil {
		err = uploadBrokeOff(body.Err(), e.RootfsBytes)
	}
	if file != "" {
		defer os.Remove(file) // Unless it was taken.
	}
	if err != nil {
		return err
	}
	c.unhurried()
	// What was uploaded to the end is restored to the end.
	return s.parts.Backups.Restore(context.WithoutCancel(c.r.Context()), e.Hash, file)
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

// receive writes the root disk in a form to a file and checks it. Whoever gets a
// name deletes the file.
func (s *Server) receive(form *multipart.Reader, disk int64) (file string, err error) {
	for range partsMax {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", refuse(http.StatusBadRequest, "Malformed multipart upload")
		}
		if part.FormName() != "rootfs" {
			continue
		}
		f, err := os.CreateTemp(s.self.Staging, uploadPattern)
		if err != nil {
			return "", fmt.Errorf("make file for upload: %w", err)
		}
		err = receiveInto(f, part, disk)
		return f.Name(), errors.Join(err, f.Close())
	}
	return "", refuse(http.StatusBadRequest, "Missing 'rootfs' field in multipart upload")
}

// receiveInto writes an image to a file and checks that it is one that needs no
// other file and is no larger than the disk.
func receiveInto(f *os.File, image io.Reader, disk int64) error {
	const notQCOW2 = "Uploaded file is not a valid QCOW2 disk image"
	n, err := io.Copy(f, image)
	if err != nil {
		return fmt.Errorf("write upload: %w", err)
	}
	h, err := qcow2.Read(f, n)
	switch {
	case err != nil:
		return refuse(http.StatusBadRequest, notQCOW2)
	case h.Backing != "" || h.DataFile || h.Encrypted:
		return refuse(http.StatusBadRequest, notQCOW2+": it needs another file or a key")
	case h.VirtualBytes > disk:
		return refuse(http.StatusBadRequest, fmt.Sprintf("Uploaded image has a virtual size of %d bytes, the disk is declared with %d", h.VirtualBytes, disk))
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write upload: %w", err)
	}
	return nil
}
