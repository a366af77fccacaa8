package crn

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/disk"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

// diskFilesMax bounds the files of an import.
const diskFilesMax = 64

// migrating is a machine on its way, in short.
type migrating struct {
	State   MigrationState   `json:"state"`
	VM      message.ItemHash `json:"vm_hash"`
	Started *string          `json:"started_at"`
	URL     string           `json:"status_url"`
	Error   string           `json:"error,omitempty"`
}

// findForScheduler returns a machine that a scheduler asks for, nil if it is not
// here.
func (s *Server) findForScheduler(ctx context.Context, vm message.ItemHash) (*Execution, error) {
	e, err := s.parts.Executions.Find(ctx, vm)
	if errs.KindOf(err) == errs.NotFound {
		return nil, nil //nolint:nilnil // There is none, which is no failure.
	}
	return e, err
}

// scheduledRef returns which machine a scheduler asks for, if it is one that asks.
func (s *Server) scheduledRef(c *call) (message.ItemHash, error) {
	if _, err := s.scheduled(c); err != nil {
		return "", err
	}
	return c.ref()
}

// export lets another node take a machine.
func (s *Server) export(c *call) error {
	vm, err := s.scheduledRef(c)
	if err != nil {
		return err
	}
	e, err := s.findForScheduler(c.r.Context(), vm)
	if err != nil {
		return err
	}
	// One that is being exported runs no more, and is asked for again.
	job, err := s.exporting(c.r.Context(), vm)
	if err != nil {
		return err
	}
	begun := job != nil && job.State != ExportFailed
	switch {
	case begun:
	case e == nil:
		return refuse(http.StatusNotFound, "VM not found")
	case !e.Running:
		return refuse(http.StatusBadRequest, "VM is not running")
	case e.Hypervisor != message.QEMU || e.Kind != Instance || s.parts.Migrations == nil:
		return refuse(http.StatusBadRequest, "Migration only supported for QEMU instances")
	case e.Confidential:
		return refuse(http.StatusBadRequest, "Migration is not supported for confidential VMs")
	}
	if !begun {
		if job, err = s.parts.Migrations.Export(c.r.Context(), vm); err != nil {
			return err
		}
	}
	status := http.StatusAccepted
	if job.State == Exported {
		status = http.StatusConflict
	}
	return s.json(c, status, migrating{job.State, vm, isoOf(job.Started), "/control/machine/" + string(vm) + "/migration/export/status", job.Error})
}

// exporting returns an export, nil if there is none.
func (s *Server) exporting(ctx context.Context, vm message.ItemHash) (*Export, error) {
	if s.parts.Migrations == nil {
		return nil, nil //nolint:nilnil // There is none, which is no failure.
	}
	job, err := s.parts.Migrations.Exporting(ctx, vm)
	if errs.KindOf(err) == errs.NotFound {
		return nil, nil //nolint:nilnil // The same.
	}
	return job, err
}

func (s *Server) exportStatus(c *call) error {
	vm, err := s.scheduledRef(c)
	if err != nil {
		return err
	}
	job, err := s.exporting(c.r.Context(), vm)
	if err != nil {
		return err
	}
	if job == nil {
		return refuse(http.StatusNotFound, "No export job")
	}
	var files []DiskFile
	for _, f := range job.Files {
		f.DownloadPath = "/control/machine/" + string(vm) + "/migration/disk/" + url.PathEscape(f.Name)
		files = append(files, f)
	}
	return s.json(c, http.StatusOK, struct {
		VM       message.ItemHash `json:"vm_hash"`
		State    MigrationState   `json:"state"`
		Started  *string          `json:"started_at"`
		Finished *string          `json:"finished_at"`
		Error    *string          `json:"error"`
		Files    []DiskFile       `json:"disk_files"`
		Token    *string          `json:"export_token"`
	}{vm, job.State, isoOf(job.Started), isoOf(job.Finished), orNull(job.Error), files, orNull(job.Token)})
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// exportedDisk gives a file of an export to who has its token, in pieces too.
func (s *Server) exportedDisk(c *call) error {
	vm, err := c.ref()
	if err != nil {
		return err
	}
	job, err := s.exporting(c.r.Context(), vm)
	if err != nil {
		return err
	}
	token := c.r.URL.Query().Get("token")
	if job == nil || job.Token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(job.Token)) != 1 {
		return refuse(http.StatusUnauthorized, "Invalid or missing export token")
	}
	name := c.params["filename"]
	at := slices.IndexFunc(job.Files, func(f DiskFile) bool { return f.Name == name })
	if at < 0 {
		return errNoDisk(name)
	}
	if name != disk.RootMember && c.r.Header.Get(operator.VolumesHeader) == "" {
		return refuse(http.StatusConflict, fmt.Sprintf("%s is of a volume, which the node that fetches must say to take (header %s): else it would be lost", name, operator.VolumesHeader))
	}
	f, err := s.parts.Migrations.OpenExport(c.r.Context(), vm, name)
	if errs.KindOf(err) == errs.NotFound {
		return errNoDisk(name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return s.serveFile(c, f, "application/octet-stream", job.Files[at].SHA256)
}

func errNoDisk(name string) error {
	return refuse(http.StatusNotFound, fmt.Sprintf("Disk file not found: %.200s", name))
}

// cleanExport ends a machine that another node has taken.
func (s *Server) cleanExport(c *call) error {
	vm, err := s.scheduledRef(c)
	if err != nil {
		return err
	}
	job, err := s.exporting(c.r.Context(), vm)
	if err != nil {
		return err
	}
	if job == nil || job.State != Exported {
		return refuse(http.StatusConflict, "No completed export to clean up")
	}
	err = s.parts.Migrations.Cleanup(c.r.Context(), vm)
	switch errs.KindOf(err) {
	case "":
		return s.json(c, http.StatusOK, map[string]string{"status": "completed", "vm_hash": string(vm)})
	case errs.Conflict:
		return refuse(http.StatusConflict, "Cannot clean up while disk download in progress")
	case errs.Internal:
		s.log.Error("export not cleaned up", "job_id", vm, "err", err)
		return refuse(http.StatusInternalServerError, "Cleanup failed: internal error")
	default:
		return refuse(http.StatusInternalServerError, "Cleanup failed: "+errs.Public(err))
	}
}

// importVM takes the machine of another node.
func (s *Server) importVM(c *call) error {
	o, err := s.scheduled(c)
	if err != nil {
		return err
	}
	want, wrong, err := parseImport(o.body)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return s.wrongBody(c, wrong...)
	}
	if s.parts.Migrations == nil {
		return refuse(http.StatusBadRequest, "Migration only supported for QEMU instances")
	}
	e, err := s.findForScheduler(c.r.Context(), want.VM)
	if err != nil {
		return err
	}
	if e != nil && e.Running {
		return refuse(http.StatusConflict, "VM already running on this host")
	}
	job, err := s.parts.Migrations.Import(c.r.Context(), want)
	if err != nil {
		return err
	}
	status := http.StatusAccepted
	if job.State == Imported {
		status = http.StatusConflict
	}
	return s.json(c, status, migrating{job.State, want.VM, isoOf(job.Started), "/control/migrate/" + string(want.VM) + "/status", job.Error})
}

// parseImport reads the body of a scheduler, and what is wrong with its fields.
func parseImport(body []byte) (want ImportRequest, wrong []fieldError, err error) {
	var in struct {
		VM    *string     `json:"vm_hash"`
		Host  *string     `json:"source_host"`
		Port  *uint16     `json:"source_port"`
		Token *string     `json:"export_token"`
		Files *[]DiskFile `json:"disk_files"`
	}
	if !json.Valid(body) {
		return want, nil, errNotJSON()
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return want, []fieldError{wrongValue(err.Error(), json.RawMessage(body))}, nil
	}
	missing := map[string]bool{"vm_hash": in.VM == nil, "source_host": in.Host == nil, "export_token": in.Token == nil, "disk_files": in.Files == nil}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		if missing[name] {
			wrong = append(wrong, missingField(json.RawMessage(body), name))
		}
	}
	if len(wrong) > 0 {
		return want, wrong, nil
	}
	want = ImportRequest{Host: *in.Host, Port: 443, Token: *in.Token, Files: *in.Files}
	if in.Port != nil {
		want.Port = *in.Port
	}
	if want.VM, err = message.ParseItemHash(*in.VM); err != nil {
		wrong = append(wrong, wrongHash(*in.VM, "vm_hash"))
	}
	if reason := unsafeHost(want.Host); reason != "" {
		wrong = append(wrong, wrongValue(reason, want.Host, "source_host"))
	}
	return want, append(wrong, wrongFiles(want.Files)...), nil
}

// unsafeHost is why a node may not be asked to get files from a host: it could be
// made to ask its own services. A name may still lead there, so who downloads looks
// at the address it got.
func unsafeHost(host string) string {
	switch strings.TrimSuffix(strings.ToLower(host), ".") {
	case "":
		return "source_host must not be empty"
	case "localhost", "localhost.localdomain":
		return "source_host cannot reference loopback"
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		if strings.ContainsAny(host, "/:@?# ") {
			return "source_host is not a name of a host"
		}
		return ""
	}
	addr = addr.Unmap()
	reserved := netip.MustParsePrefix("240.0.0.0/4")
	if addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() || reserved.Contains(addr) {
		return fmt.Sprintf("source_host %s is not a routable address", host)
	}
	return ""
}

// isFileName is what may be a file of an export.
var isFileName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$`)

func wrongFiles(files []DiskFile) (wrong []fieldError) {
	if len(files) == 0 || len(files) > diskFilesMax {
		return []fieldError{{
			Type: "too_short", Loc: []any{"disk_files"}, Msg: fmt.Sprintf("List should have 1 to %d items, not %d", diskFilesMax, len(files)),
			Input: []any{}, URL: pydanticURL + "too_short",
		}}
	}
	for i, f := range files {
		_, isHash := message.ItemHash(f.SHA256).Digest()
		if !isFileName.MatchString(f.Name) || f.Bytes < 0 || !isHash || !strings.HasPrefix(f.DownloadPath, "/") {
			wrong = append(wrong, wrongValue("not a file of an export", f.Name, "disk_files", i))
		}
	}
	return wrong
}

func (s *Server) importStatus(c *call) error {
	vm, err := s.scheduledRef(c)
	if err != nil {
		return err
	}
	var job *Import
	err = errs.New(errs.NotFound, "no migrations here")
	if s.parts.Migrations != nil {
		job, err = s.parts.Migrations.Importing(c.r.Context(), vm)
	}
	if errs.KindOf(err) == errs.NotFound {
		return refuse(http.StatusNotFound, "No import job")
	}
	if err != nil {
		return err
	}
	var took *int64
	if job.TransferTime > 0 {
		ms := job.TransferTime.Milliseconds()
		took = &ms
	}
	return s.json(c, http.StatusOK, struct {
		VM       message.ItemHash `json:"vm_hash"`
		State    MigrationState   `json:"state"`
		Started  *string          `json:"started_at"`
		Finished *string          `json:"finished_at"`
		Done     int64            `json:"bytes_downloaded"`
		Total    int64            `json:"total_bytes_expected"`
		Step     *string          `json:"current_step"`
		Error    *string          `json:"error"`
		Took     *int64           `json:"transfer_time_ms"`
	}{vm, job.State, isoOf(job.Started), isoOf(job.Finished), job.BytesDone, job.BytesTotal, orNull(job.Step), orNull(job.Error), took})
}
