package ccn_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ipfs/go-cid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Bootstrap and the others are the rest of a network for storage.
func (silence) Bootstrap() []p2p.PeerID { return nil }

func (silence) OpenBlob(context.Context, p2p.PeerID, message.ItemHash, int64) (io.ReadCloser, int64, error) {
	return nil, 0, errs.New(errs.Unavailable, "nobody is here")
}
func (silence) HandleBlob(p2p.BlobHandler) {}

// contents has the bytes that messages name.
type contents struct {
	blobs *blob.Store
	ipfs  *ipfs.Store
}

func (c contents) root(hash message.ItemHash) (ipfs.Root, error) {
	id, err := ipfs.ParseCID(string(hash))
	if err != nil {
		return ipfs.Root{}, err
	}
	return c.ipfs.Root(id)
}

func (c contents) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	if hash.Type() == message.IPFS {
		r, err := c.root(hash)
		return state.FileInfo{Hash: hash, Directory: r.Kind == ipfs.KindDirectory, SizeBytes: r.Size}, err
	}
	info, err := c.blobs.Stat(hash)
	return state.FileInfo{Hash: hash, SizeBytes: info.Size}, err
}

func (c contents) Fetch(ctx context.Context, hash message.ItemHash) error {
	_, err := c.Stat(ctx, hash)
	return err
}

func (c contents) Read(_ context.Context, hash message.ItemHash, limit int64) ([]byte, error) {
	if hash.Type() == message.IPFS {
		return nil, errs.New(errs.NotFound, "not asked for here")
	}
	r, err := c.blobs.Open(hash)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}

// keeper is an interface with real storage behind it.
type keeper struct {
	*node
	dir   string
	blobs *blob.Store
	ipfs  *ipfs.Store
}

// keeping returns a node that keeps files in a store of so many bytes, with small
// limits unless they are changed.
func keeping(t testing.TB, maxBytes int64, change ...func(*ccn.Storage)) *keeper {
	t.Helper()
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	k := &keeper{node: &node{t: t, at: time.Unix(1_750_000_000, 500_000_000).UTC()}, dir: t.TempDir()}
	var err error
	if k.db, err = state.Open(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if k.blobs, err = blob.Open(k.dir+"/blobs", blob.Config{MaxSizeGB: float64(maxBytes) / 1e9}, reg, log); err != nil {
		t.Fatal(err)
	}
	if k.ipfs, err = ipfs.Open(k.dir+"/ipfs", content.Blobs(k.blobs), ipfs.DefaultConfig(), reg, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []io.Closer{k.ipfs, k.blobs, k.db} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	domain := job.Jobs(big.NewInt(31337), common.HexToAddress("0xA1"))
	if k.pipe, err = ingest.New(ingest.DefaultConfig(), domain, k.db, silence{}, contents{k.blobs, k.ipfs}, nil, reg, log); err != nil {
		t.Fatal(err)
	}
	room, err := storage.New(k.blobs, silence{}, reg, log)
	if err != nil {
		t.Fatal(err)
	}
	cfg := ccn.FilesConfig{MaxFileMiB: 3, MaxIPFSFileMiB: 4, MaxCARMiB: 5, MaxAnonymousMiB: 1, MaxIPFSAnonymousMiB: 2, KuboAdd: true, MaxAddMiB: 2, Gateway: true}
	st := &ccn.Storage{Config: cfg, Blobs: k.blobs, IPFS: k.ipfs, Room: room, Uploads: k.pipe, Till: k.pipe}
	for _, fn := range change {
		fn(st)
	}
	k.srv = ccn.New(ccn.Self{Version: ccn.DefaultVersion, Topic: "TESTNET"}, ccn.Parts{DB: k.db, Intake: k.pipe, Storage: st}, log)
	return k
}

const boundary = "------a-boundary"

// partOf is a part of a form as it is written.
func partOf(name string, body []byte, header ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=%q", boundary, name)
	for _, line := range header {
		b.WriteString(line)
	}
	b.WriteString("\r\n\r\n")
	b.Write(body)
	b.WriteString("\r\n")
	return b.String()
}

// filePart is a part as browsers write it.
func filePart(name string, body []byte) string {
	return partOf("file", body, fmt.Sprintf("; filename=%q", name), "\r\nContent-Type: application/octet-stream")
}

func (k *keeper) form(target string, parts ...string) answer {
	k.t.Helper()
	body := strings.Join(parts, "") + "--" + boundary + "--\r\n"
	return k.do(http.MethodPost, target, []byte(body), "Content-Type", "multipart/form-data; boundary="+boundary)
}

// store is a STORE message and the part of a form that brings it.
func (k *keeper) store(signer *ecdsa.PrivateKey, hash message.ItemHash, sync bool, more fields) (message.ItemHash, string) {
	k.t.Helper()
	c := fields{"item_type": hash.Type(), "item_hash": hash}
	for key, value := range more {
		c[key] = value
	}
	ref, raw := k.signed(signer, message.TypeStore, c)
	return ref, partOf("metadata", encode(k.t, fields{"message": raw, "sync": sync}))
}

// empty wants nothing to be here.
func (k *keeper) empty(what string) {
	k.t.Helper()
	if blobs, err := k.blobs.List(); err != nil || len(blobs) > 0 || k.blobs.Used() != 0 {
		k.t.Errorf("%s left %d blobs and %d bytes, %v", what, len(blobs), k.blobs.Used(), err)
	}
	for r, err := range k.ipfs.Roots(k.t.Context()) {
		k.t.Errorf("%s left content %v, %v", what, r.CID, err)
	}
	if left, err := os.ReadDir(k.dir + "/blobs/tmp"); err != nil || len(left) > 0 {
		k.t.Errorf("%s left %d unfinished files, %v", what, len(left), err)
	}
}

func cidOf(t testing.TB, data []byte) message.ItemHash {
	t.Helper()
	// What the network calls these bytes, made by a store of its own.
	blobs, err := blob.Open(t.TempDir(), blob.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ipfs.Open(t.TempDir(), content.Blobs(blobs), ipfs.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Add(t.Context(), bytes.NewReader(data), ipfs.V0)
	if err != nil {
		t.Fatal(err)
	}
	return message.ItemHash(r.CID.String())
}

func TestAnonymousUploadsAreKeptForAWhile(t *testing.T) {
	k := keeping(t, 1e9)
	data := []byte("bytes \r\n--of a file\x00\xff")
	hash, id := message.HashOf(data), cidOf(t, data)
	tests := []struct {
		name string
		post func() answer
		hash message.ItemHash
		body string
	}{
		{"form", func() answer { return k.form("/api/v0/storage/add_file", filePart("a.bin", data)) }, hash, `{"status":"success","hash":"` + string(hash) + `"}`},
		{"form without a name", func() answer { return k.form("/api/v0/storage/add_file", partOf("file", data)) }, hash, ""},
		{"form with other parts", func() answer {
			return k.form("/api/v0/storage/add_file", partOf("x", []byte("1")), partOf("metadata", nil), partOf("file", data), partOf("file", []byte("second")))
		}, hash, ""},
		{"body", func() answer { return k.do(http.MethodPost, "/api/v0/storage/add_file", data) }, hash, ""},
		{"ipfs", func() answer { return k.form("/api/v0/ipfs/add_file", filePart("a.bin", data)) }, id, fmt.Sprintf(`{"status":"success","hash":%q,"name":"a.bin","size":%d}`, id, len(data))},
		{"ipfs without a name", func() answer { return k.form("/api/v0/ipfs/add_file", partOf("file", data)) }, id, fmt.Sprintf(`{"status":"success","hash":%q,"name":"file","size":%d}`, id, len(data))},
	}
	for _, tt := range tests {
		before := time.Now()
		a := tt.post()
		if a.status != http.StatusOK || a.field("hash") != string(tt.hash) || tt.body != "" && a.body != tt.body {
			t.Fatalf("%s: %d %s, want 200 %s", tt.name, a.status, a.body, tt.hash)
		}
		pin, err := k.db.Pin(t.Context(), state.GraceKey(tt.hash))
		if err != nil || pin.Kind != state.PinGrace || pin.Until.Before(before.Add(23*time.Hour)) {
			t.Errorf("%s: pin %+v, %v; want a grace pin of a day", tt.name, pin, err)
		}
		if got := k.ok("/api/v0/storage/raw/" + string(tt.hash)); got.body != string(data) {
			t.Errorf("%s: it reads %q", tt.name, got.body)
		}
		same(t, tt.name, k.ok("/api/v0/storage/count/"+string(tt.hash)).body, "1")
	}
}

func TestUploadWithAMessageEntersBoth(t *testing.T) {
	k := keeping(t, 1e9)
	signer := key(t, "owner")
	for i, tt := range []struct {
		name      string
		sync      bool
		fileFirst bool
		ipfs      bool
		want      int
	}{
		{"waits, file first", true, true, false, 200},
		{"waits, message first", true, false, false, 200},
		{"does not wait", false, true, false, 202},
		{"ipfs", true, true, true, 200},
		{"ipfs, message first", false, false, true, 202},
	} {
		data := fmt.Appendf(nil, "file %d", i)
		hash, target := message.HashOf(data), "/api/v0/storage/add_file"
		if tt.ipfs {
			hash, target = cidOf(t, data), "/api/v0/ipfs/add_file"
		}
		ref, metadata := k.store(signer, hash, tt.sync, nil)
		parts := []string{metadata, filePart("f", data)}
		if tt.fileFirst {
			parts[0], parts[1] = parts[1], parts[0]
		}

		a := k.form(target, parts...)

		if a.status != tt.want || a.field("hash") != string(hash) || a.field("status") != "success" {
			t.Errorf("%s: %d %s, want %d and %s", tt.name, a.status, a.body, tt.want, hash)
		}
		same(t, tt.name, k.ok("/api/v0/messages/"+string(ref)).field("status"), any("processed"))
		if _, err := k.db.Pin(t.Context(), string(ref)); err != nil {
			t.Errorf("%s: the message pins nothing: %v", tt.name, err)
		}
		same(t, tt.name+": count", k.ok("/api/v0/storage/count/"+string(hash)).body, "1")
	}
}

func TestUploadWakesMessagesThatWaitForTheFile(t *testing.T) {
	k := keeping(t, 1e9)
	data := []byte("it comes later")
	hash, raw := k.signed(key(t, "owner"), message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf(data)})
	if a := k.post("/api/v0/messages", fields{"message": raw}); a.status != http.StatusAccepted {
		t.Fatalf("the message: %d %s", a.status, a.body)
	}
	k.run()

	k.form("/api/v0/storage/add_file", filePart("f", data))

	wait(t, "the message is processed", func() bool {
		return k.ok("/api/v0/messages/"+string(hash)).field("status") == any("processed")
	})
}

func TestRefusedUploadsLeaveNothing(t *testing.T) {
	k := keeping(t, 1e9)
	signer := key(t, "owner")
	data := []byte("the file")
	hash, id := message.HashOf(data), cidOf(t, data)
	car, carRoot := carOf(t, map[string]string{"a.txt": "a"})
	_, good := k.store(signer, hash, true, nil)
	_, goodIPFS := k.store(signer, id, true, nil)
	_, credit := k.store(signer, hash, true, fields{"payment": fields{"chain": "ETH", "type": "credit"}})
	_, creditIPFS := k.store(signer, id, true, fields{"payment": fields{"chain": "ETH", "type": "credit"}})
	_, creditCAR := k.store(signer, carRoot, true, fields{"payment": fields{"chain": "ETH", "type": "credit"}})
	_, goodCAR := k.store(signer, carRoot, true, nil)
	wrongSignature := strings.Replace(good, `"signature":"0x`, `"signature":"0x00`, 1)
	_, post := k.signed(signer, message.TypePost, fields{"type": "note", "content": fields{}})
	other := message.HashOf([]byte("another"))
	_, elsewhere := k.store(signer, other, true, nil)
	_, otherCID := k.store(signer, cidOf(t, []byte("another")), true, nil)
	_, noContent := k.signed(signer, message.TypeStore, fields{"item_type": "storage"})
	file, add, addIPFS, addCAR := filePart("f", data), "/api/v0/storage/add_file", "/api/v0/ipfs/add_file", "/api/v0/ipfs/add_car"
	metadata := func(v any) string { return partOf("metadata", encode(t, v)) }
	large := func(n int) string { return partOf("file", bytes.Repeat([]byte("x"), n)) }
	noMetadata := []string{"not JSON", "[]", "{}", `{"sync":true}`, `{"message":{}}`, `{"message":{},"sync":true}`, `{"message":3,"sync":true}`, "\xff"}
	tests := []struct {
		name, target string
		parts        []string
		status       int
		text         string
	}{
		{"no file", add, []string{good}, 422, "422: Missing 'file' in multipart form."},
		{"empty form", add, nil, 422, "422: Missing 'file' in multipart form."},
		{"a byte too many without a message", add, []string{large(1<<20 + 1)}, 413, "Maximum request body size 1048576 exceeded"},
		{"a byte too many with one", add, []string{good, large(3<<20 + 1)}, 413, "Maximum request body size 3145728 exceeded"},
		{"too large comes before what is wrong with the message", add, []string{wrongSignature, large(3<<20 + 1)}, 413, ""},
		{"metadata too large", add, []string{file, partOf("metadata", bytes.Repeat([]byte(" "), 1<<20+1))}, 413, ""},
		{"a POST", add, []string{file, metadata(fields{"message": post, "sync": true})}, 422, "422: Could not decode metadata: "},
		{"sync is a word", add, []string{file, metadata(fields{"message": post, "sync": "maybe"})}, 422, "422: Could not decode metadata: "},
		{"signature", add, []string{file, wrongSignature}, 403, "403: Forbidden"},
		{"content", add, []string{file, metadata(fields{"message": noContent, "sync": true})}, 422, "422: Invalid store message content: "},
		{"another file", add, []string{file, elsewhere}, 422, fmt.Sprintf("422: File hash does not match (%s != %s)", hash, other)},
		{"another file comes before the balance", add, []string{partOf("file", []byte("?")), credit}, 422, "File hash does not match"},
		{"balance", add, []string{file, credit}, 402, "402: "},

		{"ipfs no form", addIPFS, nil, 422, "422: Missing 'file' in multipart form."},
		{"ipfs too large without a message", addIPFS, []string{large(2<<20 + 1)}, 413, ""},
		{"ipfs too large with one", addIPFS, []string{large(4<<20 + 1), goodIPFS}, 413, ""},
		{"ipfs signature", addIPFS, []string{file, wrongSignature}, 403, "403: Forbidden"},
		{"ipfs item type", addIPFS, []string{file, good}, 422, "item_type must be ipfs"},
		{"ipfs balance comes before the CID", addIPFS, []string{partOf("file", []byte("?")), creditIPFS}, 402, "402: "},
		{"ipfs another file", addIPFS, []string{file, otherCID}, 422, fmt.Sprintf("422: File hash does not match (%s != ", id)},

		{"CAR without a message", addCAR, []string{partOf("file", car)}, 422, "422: Missing 'metadata' in multipart form."},
		{"CAR without a file", addCAR, []string{goodCAR}, 422, "422: Missing 'file' in multipart form."},
		{"CAR too large", addCAR, []string{goodCAR, large(5<<20 + 1)}, 413, ""},
		{"CAR signature comes before its header", addCAR, []string{file, wrongSignature}, 403, ""},
		{"CAR item type comes before its header", addCAR, []string{file, good}, 422, "item_type must be ipfs"},
		{"CAR header", addCAR, []string{file, goodCAR}, 422, "422: Invalid CAR file: "},
		{"CAR of nothing", addCAR, []string{partOf("file", nil), goodCAR}, 422, "422: Invalid CAR file: malformed varint: truncated"},
		{"CAR of another root", addCAR, []string{partOf("file", car), goodIPFS}, 422, fmt.Sprintf("422: Root CID does not match (%s != %s)", carRoot, id)},
		{"CAR balance", addCAR, []string{partOf("file", car), creditCAR}, 402, "402: "},
		{"CAR cut off", addCAR, []string{partOf("file", car[:len(car)-5]), goodCAR}, 502, "502: Failed to import CAR into IPFS: "},
		{"CAR balance comes before its blocks", addCAR, []string{partOf("file", car[:len(car)-5]), creditCAR}, 402, "402: "},
	}
	for i, raw := range noMetadata {
		tests = append(tests, struct {
			name, target string
			parts        []string
			status       int
			text         string
		}{fmt.Sprintf("metadata %d", i), []string{add, addIPFS}[i%2], []string{partOf("metadata", []byte(raw)), file}, 422, "422: Could not decode metadata: "})
	}
	for _, tt := range tests {
		a := k.form(tt.target, tt.parts...)
		if a.status != tt.status || !strings.Contains(a.body, tt.text) {
			t.Errorf("%s: %d %s, want %d with %q", tt.name, a.status, a.body, tt.status, tt.text)
		}
		k.empty(tt.name)
	}
	for _, target := range []string{addIPFS, addCAR} {
		if a := k.do(http.MethodPost, target, data); a.status != 400 {
			t.Errorf("%s without a form: %d %s, want 400", target, a.status, a.body)
		}
	}
	if a := k.do(http.MethodPost, add, bytes.Repeat([]byte("x"), 1<<20+1)); a.status != 413 {
		t.Errorf("a body of a byte too many: %d %s", a.status, a.body)
	}
	k.empty("what has no form")
}

func TestUploadsOfTheLimitAreTaken(t *testing.T) {
	k := keeping(t, 1e9)
	signer := key(t, "owner")
	fill := func(n int) []byte { return bytes.Repeat([]byte{byte(n >> 20)}, n) }
	if a := k.form("/api/v0/storage/add_file", partOf("file", fill(1<<20))); a.status != 200 {
		t.Errorf("without a message: %d %s", a.status, a.body)
	}
	if a := k.do(http.MethodPost, "/api/v0/storage/add_file", fill(1<<20)); a.status != 200 {
		t.Errorf("a body: %d %s", a.status, a.body)
	}
	if a := k.form("/api/v0/ipfs/add_file", partOf("file", fill(2<<20))); a.status != 200 {
		t.Errorf("ipfs without a message: %d %s", a.status, a.body)
	}
	_, metadata := k.store(signer, message.HashOf(fill(3<<20)), true, nil)
	if a := k.form("/api/v0/storage/add_file", partOf("file", fill(3<<20)), metadata); a.status != 200 {
		t.Errorf("with a message: %d %s", a.status, a.body)
	}
	_, metadata = k.store(signer, cidOf(t, fill(4<<20)), true, nil)
	if a := k.form("/api/v0/ipfs/add_file", partOf("file", fill(4<<20)), metadata); a.status != 200 {
		t.Errorf("ipfs with a message: %d %s", a.status, a.body)
	}
}

func TestDisabledIPFSIsSaidInTheWordsOfClients(t *testing.T) {
	k := keeping(t, 1e9, func(st *ccn.Storage) { st.IPFS = nil })
	for _, target := range []string{"/api/v0/ipfs/add_file", "/api/v0/ipfs/add_car", "/api/v0/ipfs/add_json"} {
		if a := k.form(target, filePart("f", []byte("x"))); a.status != 403 || a.body != "403: IPFS is disabled on this node" {
			t.Errorf("%s: %d %s", target, a.status, a.body)
		}
	}
}

// carOf is an archive of a directory, and its root.
func carOf(t testing.TB, all map[string]string) ([]byte, message.ItemHash) {
	t.Helper()
	blobs, err := blob.Open(t.TempDir(), blob.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ipfs.Open(t.TempDir(), content.Blobs(blobs), ipfs.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tree, err := s.NewTree(ipfs.V1)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range all {
		if err := tree.Add(t.Context(), name, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := tree.Commit()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Export(t.Context(), r.CID, &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), message.ItemHash(r.CID.String())
}

func TestCARIsKeptAsADirectory(t *testing.T) {
	k := keeping(t, 1e9)
	car, root := carOf(t, map[string]string{"index.html": "<h1>hello</h1>", "img/a.txt": "a"})
	ref, metadata := k.store(key(t, "owner"), root, true, fields{"ref": "site"})

	a := k.form("/api/v0/ipfs/add_car", partOf("file", car), metadata)

	if a.status != 200 || a.field("hash") != string(root) || a.field("size") == nil {
		t.Fatalf("got %d %s, want 200 and %s", a.status, a.body, root)
	}
	if got := k.ok("/api/v0/storage/metadata/" + string(root)); got.field("type") != "directory" || got.field("size") != a.field("size") {
		t.Errorf("metadata %s", got.body)
	}
	got := k.ok("/api/v0/storage/by-ref/" + addressOf(key(t, "owner")) + "/site")
	if got.field("file_hash") != string(root) || got.field("ref") != "site" {
		t.Errorf("by ref: %s", got.body)
	}
	same(t, "status", k.ok("/api/v0/messages/"+string(ref)).field("status"), any("processed"))
	id, err := cid.Decode(string(root))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.ipfs.Verify(t.Context(), id); err != nil {
		t.Error(err)
	}
}

func TestDocumentsAreHashedInTheirOneForm(t *testing.T) {
	k := keeping(t, 1e9, func(st *ccn.Storage) { st.Config.MaxAnonymousMiB, st.Config.MaxIPFSAnonymousMiB = 2, 2 })
	raw, plain := ` { "b": 1.50, "a": "\u00e9" } `, `{"a":"é","b":1.5}`
	for target, want := range map[string]message.ItemHash{
		"/api/v0/storage/add_json": message.HashOf([]byte(plain)), "/api/v0/ipfs/add_json": cidOf(t, []byte(plain)),
	} {
		a := k.do(http.MethodPost, target, []byte(raw))
		if a.status != 200 || a.body != `{"status":"success","hash":"`+string(want)+`"}` {
			t.Errorf("%s: %d %s, want %s", target, a.status, a.body, want)
		}
		same(t, target, k.ok("/api/v0/storage/raw/"+string(want)).body, plain)
		if a := k.do(http.MethodPost, target, []byte("{")); a.status != 422 {
			t.Errorf("%s of no document: %d", target, a.status)
		}
		// A document is a file, and may be as large as one that comes without a message.
		if a := k.do(http.MethodPost, target, append(bytes.Repeat([]byte(" "), 3<<19), raw...)); a.status != 200 || !strings.Contains(a.body, string(want)) {
			t.Errorf("%s of a document longer than other bodies: %d %s", target, a.status, a.body)
		}
		if a := k.do(http.MethodPost, target, bytes.Repeat([]byte(" "), 2<<20+1)); a.status != 413 || !strings.Contains(a.body, "size 2097152 exceeded") {
			t.Errorf("%s of a large document: %d", target, a.status)
		}
	}
}

func TestUploadThatHasNoRoomIsRefused(t *testing.T) {
	k := keeping(t, 600_000)
	for _, target := range []string{"/api/v0/storage/add_file", "/api/v0/ipfs/add_file"} {
		a := k.form(target, partOf("file", make([]byte, 700_000)))
		if a.status != http.StatusInsufficientStorage || !strings.HasPrefix(a.body, "507: ") {
			t.Errorf("%s: %d %s, want 507", target, a.status, a.body)
		}
		k.empty(target)
	}
}

func TestWhoCannotPayIsToldBeforeTheFileIsKept(t *testing.T) {
	k := keeping(t, 1e9, func(st *ccn.Storage) { st.Config.MaxFileMiB = 30 })
	signer := key(t, "owner")
	small, large := []byte("small"), make([]byte, 26<<20)
	credit := fields{"payment": fields{"chain": "ETH", "type": "credit"}}
	for _, tt := range []struct {
		name   string
		at     int64
		data   []byte
		more   fields
		status int
		text   string
	}{
		{"a small file by hold", 1_750_000_000, small, nil, 200, ""},
		{"a large file by hold", 1_750_000_001, large, nil, 402, "code 5"},
		{"a small file by credit", 1_750_000_002, small, credit, 402, "code 6"},
		{"by hold when only credit counts", 1_800_000_000, small, nil, 402, "code 202"},
		{"a large file when files were free", 1_700_000_000, large, nil, 200, ""},
	} {
		k.at = time.Unix(tt.at, 0).UTC()
		ref, metadata := k.store(signer, message.HashOf(tt.data), true, tt.more)

		a := k.form("/api/v0/storage/add_file", partOf("file", tt.data), metadata)

		if a.status != tt.status || !strings.Contains(a.body, tt.text) {
			t.Errorf("%s: %d %s, want %d %s", tt.name, a.status, a.body, tt.status, tt.text)
		}
		if a := k.get("/api/v0/messages/" + string(ref)); (a.status == 200) != (tt.status == 200) {
			t.Errorf("%s: the message is answered %d %s", tt.name, a.status, a.body)
		}
	}
}
