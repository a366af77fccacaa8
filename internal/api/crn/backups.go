package crn

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

// linkLife is how long a backup may be downloaded by its link.
const linkLife = 24 * time.Hour

type backupView struct {
	ID          string           `json:"backup_id"`
	Bytes       int64            `json:"size"`
	Volumes     []string         `json:"volumes"`
	Expires     *string          `json:"expires_at"`
	Checksum    string           `json:"checksum"`
	SourceBytes map[string]int64 `json:"source_sizes"`
	URL         string           `json:"download_url"`
}

func errUnsupported() error {
	return refuse(http.StatusBadRequest, "Backup only supported for QEMU VMs")
}

// beginBackup begins a backup, or shows one that is fresh.
func (s *Server) beginBackup(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	switch {
	case !e.Running:
		return refuse(http.StatusBadRequest, "VM must be running to create backup")
	case e.Hypervisor != message.QEMU || e.Kind != Instance || s.parts.Backups == nil:
		return errUnsupported()
	case e.Confidential:
		return refuse(http.StatusBadRequest, "Backup is not supported for confidential VMs")
	case e.RootfsBytes == 0:
		return refuse(http.StatusBadRequest, "VM has no disk image")
	}
	q := c.r.URL.Query()
	b, err := s.parts.Backups.Begin(c.r.Context(), e.Hash, BackupOptions{Volumes: q.Get("include_volumes") == "true", SkipFreeze: q.Get("skip_fsfreeze") == "true"})
	switch errs.KindOf(err) {
	case "":
		return s.showBackup(c, e.Hash, b)
	case errs.Exhausted:
		return &Failure{Status: http.StatusInsufficientStorage, Text: "Insufficient disk space: " + errs.Public(err), Plain: true}
	case errs.Internal:
		s.log.Error("backup not begun", "job_id", e.Hash, "err", err)
		return refuse(http.StatusInternalServerError, "Backup creation failed")
	default:
		return err
	}
}

// latestBackup shows how far a backup is.
func (s *Server) latestBackup(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	var b *Backup
	err = errs.New(errs.NotFound, "no backups here")
	if s.parts.Backups != nil {
		b, err = s.parts.Backups.Latest(c.r.Context(), e.Hash)
	}
	switch errs.KindOf(err) {
	case "":
		return s.showBackup(c, e.Hash, b)
	case errs.NotFound:
		return refuse(http.StatusNotFound, "No backup found for this VM")
	case errs.Internal:
		s.log.Error("backup failed", "job_id", e.Hash, "err", err)
		return &Failure{Status: http.StatusInternalServerError, Text: "Backup failed: internal error", Plain: true}
	default:
		return &Failure{Status: http.StatusInternalServerError, Text: "Backup failed: " + errs.Public(err), Plain: true}
	}
}

func (s *Server) showBackup(c *call, vm message.ItemHash, b *Backup) error {
	if b == nil {
		return s.json(c, http.StatusAccepted, map[string]string{"status": "in_progress"})
	}
	return s.json(c, http.StatusOK, backupView{
		ID: b.ID, Bytes: b.Bytes, Volumes: append([]string{}, b.Volumes...), Expires: isoOf(b.Expires),
		Checksum: "sha256:" + b.SHA256, SourceBytes: b.SourceBytes, URL: s.link(c, vm, b.ID),
	})
}

// link is where anybody may download a backup for a day. It leads to the host and
// port that the client has asked, which may be others than the node's own. The node's
// own name is reached by TLS, which a proxy ends; nothing ends it on localhost.
func (s *Server) link(c *call, vm message.ItemHash, id string) string {
	expires := s.now().Add(linkLife).Unix()
	u := url.URL{
		Scheme: "https", Host: s.self.Domain, Path: "/control/machine/" + string(vm) + "/backup/" + id,
		RawQuery: "signature=" + operator.SignBackup([]byte(s.self.Secret), id, vm, expires) + "&expires=" + strconv.FormatInt(expires, 10),
	}
	if host := c.r.Host; host != "" && !strings.EqualFold(host, s.self.Domain) {
		u.Host = host
		own := strings.EqualFold(hostname(c.r), s.self.Domain) && !strings.EqualFold(s.self.Domain, DefaultConfig().Domain)
		if !own && c.r.TLS == nil && c.r.Header.Get("X-Forwarded-Proto") != "https" {
			u.Scheme = "http"
		}
	}
	return u.String()
}

// downloadBackup gives a backup to who has its link, in pieces too.
func (s *Server) downloadBackup(c *call) error {
	vm, err := c.ref()
	if err != nil {
		return err
	}
	id, q := c.params["backup_id"], c.r.URL.Query()
	if err := operator.VerifyBackup([]byte(s.self.Secret), id, vm, q.Get("signature"), q.Get("expires"), s.now()); err != nil {
		return refusedBy(err, http.StatusForbidden)
	}
	if s.parts.Backups == nil {
		return errNoBackup(id)
	}
	b, f, err := s.parts.Backups.Open(c.r.Context(), vm, id)
	if errs.KindOf(err) == errs.NotFound {
		return errNoBackup(id)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	total := int64(0)
	for _, n := range b.SourceBytes {
		total += n
	}
	h := c.w.Header()
	h.Set("Content-Disposition", `attachment; filename="`+id+`.tar"`)
	h.Set("X-Backup-Checksum", "sha256:"+b.SHA256)
	if total > 0 {
		h.Set("X-Source-Size", strconv.FormatInt(total, 10))
	}
	return s.serveFile(c, f, "application/x-tar", b.SHA256)
}

func errNoBackup(id string) error {
	return refuse(http.StatusNotFound, fmt.Sprintf("Backup %s not found", id))
}

// serveFile gives a file, or the part of it that is asked for.
func (s *Server) serveFile(c *call, f io.ReadSeeker, kind, sha256 string) error {
	if err := c.stream(); err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", kind)
	c.w.Header().Set("ETag", `"`+sha256+`"`)
	http.ServeContent(c.w, c.r, "", time.Time{}, f)
	return nil
}

func (s *Server) deleteBackup(c *call) error {
	e, err := s.owned(c)
	if err != nil {
		return err
	}
	id := c.params["backup_id"]
	switch {
	case strings.ContainsAny(id, `/\`) || strings.Contains(id, ".."):
		return refuse(http.StatusBadRequest, "Invalid backup_id")
	case !strings.HasPrefix(id, string(e.Hash)+"-"):
		return refuse(http.StatusForbidden, "Backup does not belong to this VM")
	case s.parts.Backups == nil:
		return errNoBackup(id)
	}
	err = s.parts.Backups.Delete(c.r.Context(), e.Hash, id)
	if errors.Is(err, errs.NotFound) {
		return errNoBackup(id)
	}
	return s.done(c, err, "Deleted backup ", message.ItemHash(id))
}
