package crn_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestBackupsAreDownloadedByLink(t *testing.T) {
	w, owner := newWorld(t), newWallet(t)
	w.here[deca] = instance(owner.address)
	w.tar = []byte("0123456789")
	w.backup = &crn.Backup{
		ID: string(deca) + "-20300101T000000Z", Bytes: 10, Volumes: []string{"rootfs.qcow2"}, Expires: clock().Add(time.Hour), SHA256: "ab",
		SourceBytes: map[string]int64{"rootfs.qcow2": 30, "data.qcow2": 12},
	}
	rec := w.do(owner.sign(t, request("POST", machine+"/backup", "")))
	var got struct {
		ID       string `json:"backup_id"`
		Size     int64
		Checksum string
		Expires  string `json:"expires_at"`
		URL      string `json:"download_url"`
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if rec.Code != 200 || got.ID != w.backup.ID || got.Size != 10 || got.Checksum != "sha256:ab" || got.Expires != "2030-01-01T01:01:00+00:00" {
		t.Errorf("%d %+v", rec.Code, got)
	}
	path, ok := strings.CutPrefix(got.URL, "https://"+domain)
	if !ok {
		t.Fatalf("the link is %s", got.URL)
	}
	rec = w.want(request("GET", path, ""), 200, "0123456789")
	for name, want := range map[string]string{
		"Content-Type": "application/x-tar", "Content-Disposition": `attachment; filename="` + w.backup.ID + `.tar"`, "Content-Length": "10",
		"X-Backup-Checksum": "sha256:ab", "X-Source-Size": "42",
	} {
		if got := rec.Header().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	r := request("GET", path, "")
	r.Header.Set("Range", "bytes=7-")
	w.want(r, 206, "789")

	w.want(request("GET", strings.Replace(path, "signature=", "signature=0", 1), ""), 403, `{"error":"Invalid signature"}`)
	w.want(request("GET", machine+"/backup/"+w.backup.ID, ""), 403, `{"error":"Missing signature or expires parameter"}`)
	w.want(request("GET", machine+"/backup/a%2Fb", ""), 400, `{"error":"Invalid backup_id"}`)
	w.want(request("GET", machine+"/backup/"+string(cafe)+"-1?signature=0&expires=1", ""), 403, `{"error":"Backup does not belong to this VM"}`)
	w.srv.SetClock(clock().Add(25 * time.Hour))
	w.want(request("GET", path, ""), 403, `{"error":"Download link has expired"}`)
	w.srv.SetClock(clock())
	id := w.backup.ID
	w.backup = nil
	w.want(request("GET", path, ""), 404, `{"error":"Backup `+id+` not found"}`)

	// Behind another name or port the link leads there.
	w.backup = &crn.Backup{ID: id}
	for host, want := range map[string]string{domain: "https://" + domain, domain + ":4020": "https://" + domain + ":4020", "127.0.0.1:4020": "http://127.0.0.1:4020"} {
		r = owner.sign(t, request("GET", machine+"/backup", ""))
		r.Host = host
		if body := w.do(r).Body.String(); !strings.Contains(body, `"download_url":"`+want+`/control/`) {
			t.Errorf("of %s the link is in %s", host, body)
		}
	}
	local := newWorld(t, func(me *crn.Self, _ *crn.Parts) { me.Domain = "localhost" })
	local.here[deca], local.backup = instance(owner.address), w.backup
	owner.domain = "localhost"
	r = owner.sign(t, request("GET", machine+"/backup", ""))
	r.Host = "localhost:4020"
	if body := local.do(r).Body.String(); !strings.Contains(body, `"download_url":"http://localhost:4020/control/`) {
		t.Errorf("of a local node the link is in %s", body)
	}
}

func TestBackupsThatAreNot(t *testing.T) {
	w, owner := newWorld(t), newWallet(t)
	w.here[deca] = instance(owner.address)
	begin := func() *http.Request { return owner.sign(t, request("POST", machine+"/backup", "")) }
	look := func() *http.Request { return owner.sign(t, request("GET", machine+"/backup", "")) }
	w.want(look(), 202, `{"status":"in_progress"}`)
	w.fail["backup"], w.fail["latest"] = errs.New(errs.Exhausted, "need 2, have 1"), errs.New(errs.NotFound, "x")
	w.want(begin(), 507, "Insufficient disk space: need 2, have 1")
	w.want(look(), 404, `{"error":"No backup found for this VM"}`)
	w.fail["backup"], w.fail["latest"] = errs.New(errs.Internal, "/secret"), errs.New(errs.Internal, "/secret")
	w.want(begin(), 500, `{"error":"Backup creation failed"}`)
	w.want(look(), 500, "Backup failed: internal error")
	w.fail["delete"] = errs.New(errs.NotFound, "x")
	w.want(owner.sign(t, request("DELETE", machine+"/backup/"+string(deca)+"-1", "")), 404, `{"error":"Backup `+string(deca)+`-1 not found"}`)
}

// upload returns the request of a client that restores from a file.
func upload(t *testing.T, owner *wallet, field string, image []byte) *http.Request {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := form.WriteField("comment", "x"); err != nil {
		t.Fatal(err)
	}
	part, err := form.CreateFormFile(field, "rootfs.qcow2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(image); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	r := owner.sign(t, request("POST", machine+"/restore", body.String()))
	r.Header.Set("Content-Type", form.FormDataContentType())
	return r
}

func TestRestore(t *testing.T) {
	w, owner := newWorld(t), newWallet(t)
	w.here[deca] = instance(owner.address)
	good := bytes.Repeat([]byte("disk"), 100_000)
	w.want(upload(t, owner, "rootfs", good), 200, `{"status":"restored","vm_hash":"`+string(deca)+`"}`)
	if !bytes.Equal(w.restored, good) {
		t.Error("another image was restored")
	}
	w.asked()
	refused := func(r *http.Request, status int, answer string) {
		t.Helper()
		rec := w.do(r)
		if rec.Code != status || !strings.Contains(rec.Body.String(), answer) {
			t.Errorf("%d %s, want %d %s", rec.Code, rec.Body, status, answer)
		}
	}
	refused(upload(t, owner, "other", good), 400, "Missing 'rootfs' field in multipart upload")
	w.here[deca].RootfsBytes = 1 << 16
	long := make([]byte, 17<<20)
	refused(upload(t, owner, "rootfs", long), 413, "Maximum request body size 65536 exceeded")
	r := upload(t, owner, "rootfs", long)
	r.ContentLength = -1
	refused(r, 413, "Maximum request body size 65536 exceeded")
	r = upload(t, owner, "rootfs", good)
	r.Body = io.NopCloser(io.LimitReader(r.Body, 1000))
	refused(r, 400, "upload broke off")
	w.here[deca].RootfsBytes = 1 << 30

	ref := func(body string) *http.Request {
		r := owner.sign(t, request("POST", machine+"/restore", body))
		r.Header.Set("Content-Type", "application/json")
		return r
	}
	refused(ref("x"), 400, "Expected multipart upload or JSON with volume_ref")
	refused(ref("{}"), 400, "Missing volume_ref in JSON body")
	refused(ref(`{"volume_ref":"../x"}`), 400, "Invalid volume_ref format")
	if got := w.asked(); got != "" {
		t.Errorf("what was refused led to %q", got)
	}
	w.want(ref(`{"volume_ref":"`+string(cafe)+`"}`), 200, `{"status":"restored","vm_hash":"`+string(deca)+`"}`)
	w.fail["restore"] = errs.New(errs.Invalid, "it needs another file")
	refused(upload(t, owner, "rootfs", good), 400, "Uploaded file is not a valid QCOW2 disk image: it needs another file")
	w.fail["restore"] = errs.New(errs.Conflict, "x")
	refused(upload(t, owner, "rootfs", good), 409, "A backup or restore is already in progress for this VM")
	w.fail["restore"] = errs.New(errs.Exhausted, "x")
	refused(upload(t, owner, "rootfs", good), 507, "Insufficient disk space")
	w.fail["restore"] = errs.New(errs.Internal, "/secret")
	refused(upload(t, owner, "rootfs", good), 500, `{"error":"Restore failed"}`)
	w.here[deca].Hypervisor = message.Firecracker
	refused(upload(t, owner, "rootfs", good), 400, "Restore only supported for QEMU VMs")
}

func TestConfidential(t *testing.T) {
	w, owner := newWorld(t), newWallet(t)
	e := instance(owner.address)
	e.Confidential, e.AwaitingOwner, e.Running = true, true, false
	w.here[deca] = e
	form := func(fields map[string]string) *http.Request {
		var body bytes.Buffer
		f := multipart.NewWriter(&body)
		for name, text := range fields {
			part, err := f.CreateFormFile(name, name+".b64")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := part.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
		r := owner.sign(t, request("POST", machine+"/confidential/initialize", body.String()))
		r.Header.Set("Content-Type", f.FormDataContentType())
		return r
	}
	w.want(request("GET", "/about/certificates", ""), 200, "chain")
	w.want(form(map[string]string{"godh": "g"}), 400, `{"code":"field_missing","description":"Session field is missing"}`)
	w.want(form(map[string]string{"session": "s"}), 400, `{"code":"field_missing","description":"godh field is missing. Please provide a GODH file"}`)
	if rec := w.do(form(map[string]string{"session": strings.Repeat("s", 70_000), "godh": "g"})); rec.Code != 413 {
		t.Errorf("an endless session: %d", rec.Code)
	}
	look := func() *http.Request { return owner.sign(t, request("GET", machine+"/confidential/measurement", "")) }
	w.want(look(), 403, `{"error":"Operation not running"}`)
	w.want(owner.sign(t, request("POST", machine+"/confidential/inject_secret", `{"packet_header":"aA==","secret":"cw=="}`)), 403, `{"error":"Operation not running"}`)
	w.want(form(map[string]string{"session": "s", "godh": "g"}), 200, "Started VM with ref "+string(deca))
	if w.session != "s|g" {
		t.Errorf("initialized with %q", w.session)
	}
	times := e.Times
	e.AwaitingOwner, e.Times = false, crn.Times{Defined: times.Defined, Preparing: times.Preparing}
	w.want(look(), 425, `{"error":"VM is starting, try again shortly"}`)
	e.Times.Stopping = time.Now()
	w.want(look(), 403, `{"error":"Operation not running"}`)
	e.Times, e.Running = times, true
	w.want(form(map[string]string{"session": "s", "godh": "g"}), 400, `{"code":"vm_running","description":"Operation not allowed, instance already running"}`)
	w.want(owner.sign(t, request("POST", machine+"/backup", "")), 400, `{"error":"Backup is not supported for confidential VMs"}`)
	w.want(look(), 425, `{"error":"VM is starting, try again shortly"}`)
	w.measured = &crn.Measurement{SEVInfo: crn.SEVInfo{Enabled: true, APIMajor: 1, APIMinor: 55, BuildID: 24, Policy: 1, State: "launch-secret", Handle: 1}, Launch: "bQ=="}
	w.want(look(), 200, `{"sev_info":{"enabled":true,"api_major":1,"api_minor":55,"build_id":24,"policy":1,"state":"launch-secret","handle":1},"launch_measure":"bQ=="}`)
	inject := func(body string) *http.Request {
		return owner.sign(t, request("POST", machine+"/confidential/inject_secret", body))
	}
	w.want(inject(`{"packet_header":"aA==","secret":"cw=="}`), 200, `{"status":{"status":"running","singlestep":false,"running":true}}`)
	w.want(inject(`x`), 400, `{"error":"Body is not valid JSON"}`)
	for _, body := range []string{`{}`, `{"packet_header":"aA=="}`, `{"packet_header":1,"secret":"cw=="}`, `{"packet_header":"!","secret":"cw=="}`} {
		if rec := w.do(inject(body)); rec.Code != 400 || rec.Body.Bytes()[0] != '"' {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	plain := newWorld(t, func(_ *crn.Self, parts *crn.Parts) { parts.Confidential = nil })
	plain.want(request("GET", "/about/certificates", ""), 503, `{"error":"Confidential computing setting not enabled on that server"}`)
}

func TestMigrations(t *testing.T) {
	const export, files = machine + "/migration/export", machine + "/migration/disk/"
	w := newWorld(t, withToken)
	w.want(request("POST", export, ""), 401, `{"error":"Authentication token received is invalid"}`)
	w.want(byToken("POST", export, ""), 404, `{"error":"VM not found"}`)
	w.want(byToken("GET", export+"/status", ""), 404, `{"error":"No export job"}`)
	w.want(request("GET", files+"rootfs.qcow2?token=", ""), 401, `{"error":"Invalid or missing export token"}`)
	w.want(byToken("POST", machine+"/migration/cleanup", ""), 409, `{"error":"No completed export to clean up"}`)
	e := instance("0xA")
	w.here[deca] = e
	e.Running = false
	w.want(byToken("POST", export, ""), 400, `{"error":"VM is not running"}`)
	e.Running, e.Confidential = true, true
	w.want(byToken("POST", export, ""), 400, `{"error":"Migration is not supported for confidential VMs"}`)
	e.Confidential, e.Hypervisor = false, message.Firecracker
	w.want(byToken("POST", export, ""), 400, `{"error":"Migration only supported for QEMU instances"}`)
	e.Hypervisor = message.QEMU
	const begun = `"vm_hash":"` + string(deca) + `","started_at":"2030-01-01T00:01:00+00:00","status_url":"` + export + `/status"}`
	w.want(byToken("POST", export, ""), 202, `{"state":"exporting",`+begun)
	e.Running = false
	w.want(byToken("POST", export, ""), 202, `{"state":"exporting",`+begun)
	w.want(byToken("GET", export+"/status", ""), 200, `{"vm_hash":"`+string(deca)+`","state":"exporting","started_at":"2030-01-01T00:01:00+00:00","finished_at":null,"error":null,"disk_files":null,"export_token":null}`)
	w.want(byToken("POST", machine+"/migration/cleanup", ""), 409, `{"error":"No completed export to clean up"}`)

	w.tar = []byte("0123456789")
	w.export = &crn.Export{State: crn.Exported, Started: clock(), Finished: clock(), Token: "t", Files: []crn.DiskFile{
		{Name: "rootfs.qcow2", Bytes: 10, SHA256: "ab", DownloadPath: files + "rootfs.qcow2"}, {Name: "data.raw.qcow2", Bytes: 10, SHA256: "cd", DownloadPath: files + "data.raw.qcow2"},
	}}
	w.want(byToken("POST", export, ""), 409, `{"state":"exported",`+begun)
	w.want(request("GET", files+"rootfs.qcow2?token=x", ""), 401, `{"error":"Invalid or missing export token"}`)
	w.want(request("GET", files+"other?token=t", ""), 404, `{"error":"Disk file not found: other"}`)
	r := request("GET", files+"rootfs.qcow2?token=t", "")
	r.Header.Set("Range", "bytes=8-")
	w.want(r, 206, "89")
	// Software that knows no volumes would lose them.
	if rec := w.do(request("GET", files+"data.raw.qcow2?token=t", "")); rec.Code != 409 || !strings.Contains(rec.Body.String(), "would be lost") {
		t.Errorf("a volume for who does not take volumes: %d %s", rec.Code, rec.Body)
	}
	r = request("GET", files+"data.raw.qcow2?token=t", "")
	r.Header.Set("X-Aleph-Volumes", "yes")
	w.want(r, 200, "0123456789")
	w.fail["cleanup"] = errs.New(errs.Conflict, "x")
	w.want(byToken("POST", machine+"/migration/cleanup", ""), 409, `{"error":"Cannot clean up while disk download in progress"}`)
	w.fail["cleanup"] = nil
	w.want(byToken("POST", machine+"/migration/cleanup", ""), 200, `{"status":"completed","vm_hash":"`+string(deca)+`"}`)
}

func TestImports(t *testing.T) {
	w := newWorld(t, withToken)
	body := func(host, file string) string {
		return `{"vm_hash":"` + string(deca) + `","source_host":"` + host + `","export_token":"t","disk_files":[` + file + `]}`
	}
	const file = `{"name":"rootfs.qcow2","size_bytes":10,"sha256":"` + string(cafe) + `","download_path":"/x"}`
	status := "/control/migrate/" + string(deca) + "/status"
	w.want(byToken("GET", status, ""), 404, `{"error":"No import job"}`)
	for _, bad := range []string{
		`{}`, `[]`, body("", file), body("localhost", file), body("LOCALHOST.", file), body("127.0.0.1", file), body("::1", file), body("[::1]", file), body("::ffff:127.0.0.1", file), body("169.254.1.1", file),
		body("0.0.0.0", file), body("224.0.0.1", file), body("255.255.255.255", file), body("a/b", file), body("a@b", file), body("b.example", ""),
		body("b.example", strings.Replace(file, "rootfs", "../rootfs", 1)), body("b.example", strings.Replace(file, "cafe", "x", 1)), body("b.example", strings.Replace(file, "10", "-1", 1)),
		strings.Replace(body("b.example", file), string(deca), "x", 1),
	} {
		if rec := w.do(byToken("POST", "/control/migrate", bad)); rec.Code != 400 || rec.Body.Bytes()[0] != '"' {
			t.Errorf("%s: %d %s", bad, rec.Code, rec.Body)
		}
	}
	if got := w.asked(); got != "" {
		t.Errorf("what was refused led to %q", got)
	}
	w.want(byToken("POST", "/control/migrate", body("10.0.0.1", file)), 202, `{"state":"importing","vm_hash":"`+string(deca)+`","started_at":"2030-01-01T00:01:00+00:00","status_url":"`+status+`"}`)
	if w.importOf.Port != 443 || w.importOf.Host != "10.0.0.1" || len(w.importOf.Files) != 1 {
		t.Errorf("asked for %+v", w.importOf)
	}
	w.want(byToken("GET", status, ""), 200, `{"vm_hash":"`+string(deca)+`","state":"importing","started_at":"2030-01-01T00:01:00+00:00","finished_at":null,"bytes_downloaded":0,"total_bytes_expected":5,`+
		`"current_step":"downloading_disks","error":null,"transfer_time_ms":null}`)
	w.here[deca] = instance("0xA")
	w.want(byToken("POST", "/control/migrate", body("10.0.0.1", file)), 409, `{"error":"VM already running on this host"}`)
}
