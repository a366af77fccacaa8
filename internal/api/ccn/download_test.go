package ccn_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// random are bytes that are the same in each run.
func random(n int) []byte {
	out := make([]byte, n)
	src := rand.NewChaCha8([32]byte{7})
	if _, err := src.Read(out); err != nil {
		panic(err)
	}
	return out
}

func TestFilesAreServedWholeAndInParts(t *testing.T) {
	k := keeping(t, 1e9)
	data := random(700_000)
	for _, target := range []string{"/api/v0/storage/add_file", "/api/v0/ipfs/add_file"} {
		up := k.form(target, filePart("f", data))
		hash, _ := up.field("hash").(string)
		raw := "/api/v0/storage/raw/" + hash

		for _, path := range []string{raw, raw + "?find"} {
			if a := k.ok(path); a.body != string(data) || a.header.Get("Content-Length") != "700000" || a.header.Get("Content-Type") != "application/octet-stream" ||
				a.header.Get("Accept-Ranges") != "bytes" || a.header.Get("ETag") != strconv.Quote(hash) || !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
				t.Errorf("GET %s: %d bytes, %v", path, len(a.body), a.header)
			}
		}
		if a := k.do(http.MethodHead, raw, nil); a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "700000" {
			t.Errorf("HEAD: %d, %d bytes, %v", a.status, len(a.body), a.header)
		}
		for header, want := range map[string][]byte{"bytes=0-0": data[:1], "bytes=262100-262200": data[262100:262201], "bytes=-10": data[len(data)-10:], "bytes=699999-": data[699_999:]} {
			if a := k.get(raw, "Range", header); a.status != http.StatusPartialContent || a.body != string(want) {
				t.Errorf("%s of %s: %d, %d bytes", header, hash, a.status, len(a.body))
			}
		}
		if a := k.get(raw, "Range", "bytes=700000-"); a.status != http.StatusRequestedRangeNotSatisfiable {
			t.Errorf("a range beyond the end: %d", a.status)
		}
		if a := k.get(raw, "If-None-Match", strconv.Quote(hash)); a.status != http.StatusNotModified {
			t.Errorf("with its tag: %d", a.status)
		}
	}
}

func TestFileInJSONHasLinesOf76Characters(t *testing.T) {
	k := keeping(t, 1e9)
	for _, n := range []int{0, 1, 2, 3, 56, 57, 58, 57 * 1024, 57*1024 + 1, 200_000} {
		data := random(n)
		hash, _ := k.form("/api/v0/storage/add_file", filePart("f", data)).field("hash").(string)

		a := k.ok("/api/v0/storage/" + hash)

		content, _ := a.field("content").(string)
		if a.header.Get("Content-Length") != strconv.Itoa(len(a.body)) || a.field("engine") != "storage" || a.field("hash") != hash || a.field("status") != "success" {
			t.Fatalf("%d bytes: %v %.200s", n, a.header, a.body)
		}
		got, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(content, "\n", ""))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: it decodes to %d bytes, %v", n, len(got), err)
		}
		lines := strings.Split(content, "\n")
		for i, line := range lines {
			last, end := i == len(lines)-1, i == len(lines)-2
			if last && line != "" || !last && !end && len(line) != 76 || end && (len(line) == 0 || len(line) > 76) {
				t.Errorf("%d bytes: line %d has %d characters", n, i, len(line))
			}
		}
		if head := k.do(http.MethodHead, "/api/v0/storage/"+hash, nil); head.body != "" || head.header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
			t.Errorf("HEAD: %d bytes, %v", len(head.body), head.header)
		}
	}
}

func TestOnlyFilesThatTheNetworkNamesAreServed(t *testing.T) {
	k := keeping(t, 1e9)
	here, err := k.blobs.Put(t.Context(), strings.NewReader("nobody named it"), "")
	if err != nil {
		t.Fatal(err)
	}
	large, gone := message.HashOf([]byte("large")), message.HashOf([]byte("gone"))
	ctx := t.Context()
	err = k.db.Update(ctx, func(tx *state.Tx) error {
		return errors.Join(tx.PutFileInfo(ctx, state.FileInfo{Hash: large, SizeBytes: 100<<20 + 1}), tx.PutFileInfo(ctx, state.FileInfo{Hash: gone, SizeBytes: 1}))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path   string
		status int
		text   string
	}{
		{"/api/v0/storage/" + string(here.Hash), 404, "Not found"},
		{"/api/v0/storage/raw/" + string(here.Hash), 404, "Not found"},
		{"/api/v0/storage/metadata/" + string(here.Hash), 404, "Not found"},
		{"/api/v0/storage/nonsense", 400, "Invalid hash provided"},
		{"/api/v0/storage/raw/nonsense", 400, "Invalid hash provided"},
		{"/api/v0/storage/raw/" + strings.Repeat("z", 64), 404, "Not found"},
		{"/api/v0/storage/" + string(large), 413, ""},
		{"/api/v0/storage/raw/" + string(large), 404, "Not found"},
		{"/api/v0/storage/" + string(gone), 404, "Not found"},
		{"/api/v0/storage/by-ref/mine", 400, ""},
		{"/api/v0/storage/by-ref/" + string(gone), 404, "Not found"},
		{"/api/v0/storage/by-ref/0xA/mine", 404, "Not found"},
		{"/api/v0/storage/by-message-hash/" + string(gone), 404, "Not found"},
		{"/api/v0/storage/by-message-hash/x", 400, ""},
		{"/api/v0/storage/by-message-hash/" + state.GraceKey(gone), 400, ""},
	} {
		if a := k.get(tt.path); a.status != tt.status || !strings.Contains(a.body, tt.text) {
			t.Errorf("GET %s = %d %s, want %d %s", tt.path, a.status, a.body, tt.status, tt.text)
		}
	}
	same(t, "count", k.ok("/api/v0/storage/count/"+string(here.Hash)).body, "0")
}

func TestVersionsOfAFileAreFoundByMessageAndRef(t *testing.T) {
	k := keeping(t, 1e9)
	signer := key(t, "owner")
	put := func(text string, more fields) (ref, hash message.ItemHash) {
		hash = message.HashOf([]byte(text))
		ref, metadata := k.store(signer, hash, true, more)
		if a := k.form("/api/v0/storage/add_file", filePart("f", []byte(text)), metadata); a.status != 200 {
			t.Fatalf("upload: %d %s", a.status, a.body)
		}
		return ref, hash
	}
	want := func(ref string, hash message.ItemHash, size int) string {
		return fmt.Sprintf(`{"ref":%q,"owner":%q,"file_hash":%q,"download_url":"/api/v0/storage/raw/%s","size":%d}`, ref, addressOf(signer), hash, hash, size)
	}
	first, hash1 := put("one", nil)
	second, hash2 := put("second", fields{"ref": first})
	_, tagged := put("tagged", fields{"ref": "my-file"})
	late, _ := put("posted late", fields{"ref": "my-file", "time": 1_600_000_000})

	for path, text := range map[string]string{
		"/api/v0/storage/by-message-hash/" + string(first):                                   want(string(first), hash1, 3),
		"/api/v0/storage/by-message-hash/" + string(second):                                  want(string(first), hash2, 6),
		"/api/v0/storage/by-ref/" + string(first):                                            want(string(first), hash2, 6),
		"/api/v0/storage/by-ref/" + addressOf(signer) + "/" + string(first):                  want(string(first), hash2, 6),
		"/api/v0/storage/by-ref/" + strings.ToLower(addressOf(signer)) + "/" + string(first): want(string(first), hash2, 6), // A hash is enough.
		"/api/v0/storage/by-ref/" + addressOf(signer) + "/my-file":                           want("my-file", tagged, 6),
		"/api/v0/storage/by-message-hash/" + string(late):                                    want("my-file", message.HashOf([]byte("posted late")), 11),
		"/api/v0/storage/metadata/" + string(hash1):                                          fmt.Sprintf(`{"file_hash":%q,"type":"file","size":3,"download_url":"/api/v0/storage/raw/%s"}`, hash1, hash1),
		"/api/v0/storage/limits.json":                                                        `{"storage":{"max_file_size":3145728,"max_unauthenticated_upload_file_size":1048576},"ipfs":{"max_upload_file_size":4194304,"max_upload_car_size":5242880,"max_unauthenticated_upload_file_size":2097152}}`,
		"/api/v0/storage/count/" + string(hash1):                                             "1", // The message's.
	} {
		same(t, path, k.ok(path).body, text)
	}
}

func TestDirectoryIsServedAsATar(t *testing.T) {
	k := keeping(t, 1e9)
	car, root := carOf(t, map[string]string{"a.txt": "a", "sub/b.txt": "bb"})
	_, metadata := k.store(key(t, "owner"), root, true, nil)
	if a := k.form("/api/v0/ipfs/add_car", partOf("file", car), metadata); a.status != 200 {
		t.Fatalf("upload: %d %s", a.status, a.body)
	}
	raw := "/api/v0/storage/raw/" + string(root)

	a := k.ok(raw)

	if a.header.Get("Content-Type") != "application/x-tar" || a.header.Get("Content-Length") != "" || a.header.Get("Accept-Ranges") != "none" {
		t.Errorf("headers %v", a.header)
	}
	got := map[string]string{}
	for tr := tar.NewReader(strings.NewReader(a.body)); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(text)
	}
	same(t, "tar", got, map[string]string{string(root) + "/": "", string(root) + "/a.txt": "a", string(root) + "/sub/": "", string(root) + "/sub/b.txt": "bb"})
	if a := k.do(http.MethodHead, raw, nil); a.status != 200 || a.body != "" || a.header.Get("Content-Type") != "application/x-tar" {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	if a := k.get("/api/v0/storage/" + string(root)); a.status != 404 {
		t.Errorf("a directory in JSON: %d", a.status)
	}
}
