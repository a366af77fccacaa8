//go:build conformance

package conformance_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

func TestCase19VersionsOfAFile(t *testing.T) {
	c := open(t)
	a := key("a")
	v1, _ := c.stored(a, "one", nil)
	v2, hash := c.stored(a, "two", fields{"ref": v1})
	c.send("rejected 201", a, message.TypeStore, fields{"item_type": "storage", "item_hash": c.file("three"), "ref": v2})
	c.same("the newest", c.ok("/api/v0/storage/by-ref/"+v1).field("file_hash"), hash)
	c.send("pending", a, message.TypeStore, fields{"item_type": "storage", "item_hash": hash, "ref": strings.Repeat("0", 64)})
	c.send("rejected 2", key("b"), message.TypeStore, fields{"item_type": "storage", "item_hash": hash, "ref": v1})
}

func TestCase20NamesThatOwnersGive(t *testing.T) {
	c := open(t)
	a := key("a")
	path := "/api/v0/storage/by-ref/" + addressOf(a) + "/site"
	c.stored(a, "one", fields{"ref": "site", "time": 1_780_000_100})
	_, newest := c.stored(a, "two", fields{"ref": "site", "time": 1_780_000_200})
	c.same("the newer", c.ok(path).field("file_hash"), newest)
	c.stored(a, "late", fields{"ref": "site", "time": 1_780_000_150})
	c.same("after one that came late", c.ok(path).field("file_hash"), newest)
	c.same("without an address", c.get("/api/v0/storage/by-ref/site").status, 400)
}

func TestCase21AProgramWhoseCodeComesLater(t *testing.T) {
	c := open(t)
	a := key("a")
	c.credits(addressOf(a), 1e12)
	runtime, _ := c.stored(a, "runtime", nil)
	code, store := c.signed(a, message.TypeStore, fields{"item_type": "storage", "item_hash": c.file("code")})
	program := c.send("pending", a, message.TypeProgram, fields{
		"type": "vm-function", "allow_amend": false, "environment": fields{"internet": false}, "resources": fields{"vcpus": 1, "memory": 128, "seconds": 30},
		"code":    fields{"encoding": "zip", "entrypoint": "main:app", "ref": code, "use_latest": false},
		"runtime": fields{"ref": runtime, "use_latest": true, "comment": ""}, "on": fields{"http": true},
		"payment": fields{"type": "credit", "chain": "ETH"}, "volumes": []fields{},
	})
	if a := c.submit(store); a.status != http.StatusOK {
		t.Fatalf("STORE: %d %s", a.status, a.body)
	}
	c.eventually(program, "processed")
}

func TestCase22ADiskThatIsSmallerThanItsImage(t *testing.T) {
	c := open(t)
	a := key("a")
	c.credits(addressOf(a), 1e12)
	parent, hash := c.stored(a, strings.Repeat("x", 2<<20), nil)
	small := instance(parent, nil)
	small["rootfs"].(fields)["size_mib"] = 1
	got := c.ok("/api/v0/messages/" + c.send("rejected 304", a, message.TypeInstance, small))
	e := func(name string) any { return got.field("details", "errors", 0, name) }
	c.same("details", []any{e("parent_ref"), e("parent_file"), e("parent_size"), e("volume_size")}, []any{parent, hash, 2 << 20, 1 << 20})
	exact := instance(parent, nil)
	exact["rootfs"].(fields)["size_mib"] = 2
	c.send("processed", a, message.TypeInstance, exact)
}

// zeros are so many bytes.
func zeros(n int64) io.Reader { return io.LimitReader(zero{}, n) }

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCase29WhatUploadsAreRefusedFor(t *testing.T) {
	c := open(t)
	a := key("a")
	limits := c.ok("/api/v0/storage/limits.json")
	limit := func(engine, name string) int64 {
		n, err := limits.field(engine, name).(json.Number).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const storage, ipfs = "/api/v0/storage/add_file", "/api/v0/ipfs/add_file"
	text := func(s string) part { return part{"file", "f", strings.NewReader(s)} }
	store := func(hash string) fields { return fields{"item_type": "storage", "item_hash": hash} }
	hello := string(message.HashOf([]byte("hello")))
	loose := limit("storage", "max_unauthenticated_upload_file_size")
	forged := func(e *message.Envelope) { channel := "forged"; e.Channel = &channel }
	_, raw := c.signed(a, message.TypeStore, store(hello), forged)
	bad := bytes.Replace(raw, []byte(`"signature":"0x`), []byte(`"signature":"0x00`), 1)
	for _, tt := range []struct {
		name, path string
		parts      []part
		status     int
		says       string
	}{
		{"the largest without a message", storage, []part{{"file", "f", zeros(loose)}}, 200, ""},
		{"one byte more", storage, []part{{"file", "f", zeros(loose + 1)}}, 413, ""},
		{"the largest of ipfs without a message", ipfs, []part{{"file", "f", zeros(limit("ipfs", "max_unauthenticated_upload_file_size"))}}, 200, ""},
		{"one byte more of ipfs", ipfs, []part{{"file", "f", zeros(limit("ipfs", "max_unauthenticated_upload_file_size") + 1)}}, 413, ""},
		{"one byte more than any", storage, []part{c.metadata(a, store(hello)), {"file", "f", zeros(limit("storage", "max_file_size") + 1)}}, 413, ""},
		{"metadata that is no JSON", storage, []part{text("hello"), {"metadata", "", strings.NewReader("{")}}, 422, "Could not decode metadata"},
		{"metadata without a message", storage, []part{text("hello"), {"metadata", "", strings.NewReader(`{"sync":true}`)}}, 422, "Could not decode metadata"},
		{"a signature of another", storage, []part{text("hello"), {"metadata", "", bytes.NewReader(c.encode(fields{"sync": true, "message": json.RawMessage(bad)}))}}, 403, ""},
		{"another file", storage, []part{text("hullo"), c.metadata(a, store(hello))}, 422, fmt.Sprintf("File hash does not match (%s != %s)", message.HashOf([]byte("hullo")), hello)},
		{"another file of ipfs", ipfs, []part{text("hullo"), c.metadata(a, fields{"item_type": "ipfs", "item_hash": "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"})}, 422, "!= Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"},
		{"a file of storage at ipfs", ipfs, []part{text("hello"), c.metadata(a, store(hello))}, 422, ""},
		{"nobody pays", storage, []part{{"file", "f", zeros(large)}, c.metadata(a, fields{"item_type": "storage", "item_hash": zeroHash(large), "payment": fields{"type": "credit", "chain": "ETH"}})}, 402, ""},
		{"no file", ipfs, []part{{"other", "", strings.NewReader("x")}}, 422, "Missing 'file' in multipart form."},
		{"a directory without a message", "/api/v0/ipfs/add_car", []part{text("x")}, 422, ""},
		{"no archive", "/api/v0/ipfs/add_car", []part{text("hello"), c.metadata(a, fields{"item_type": "ipfs", "item_hash": "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"})}, 422, "Invalid CAR file"},
		{"with its message", storage, []part{text("hello"), c.metadata(a, store(hello))}, 200, hello},
		{"without the name of a file", storage, []part{{"file", "", zeros(2 << 20)}}, 200, zeroHash(2 << 20)},
		{"without the name of a file, with its message", storage, []part{c.metadata(a, store(zeroHash(2<<20))), {"file", "", zeros(2 << 20)}}, 200, zeroHash(2 << 20)},
		{"message first", storage, []part{c.metadata(a, store(hello)), text("hello")}, 200, hello},
	} {
		if got := c.form(tt.path, tt.parts...); got.status != tt.status || !strings.Contains(got.body, tt.says) {
			t.Errorf("%s: %d %s, want %d and %q", tt.name, got.status, got.body, tt.status, tt.says)
		}
	}
}

// zeroHash is the hash of so many zeros.
func zeroHash(n int64) string {
	data, err := io.ReadAll(zeros(n))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(message.HashOf(data))
}

func TestCase29CIDs(t *testing.T) {
	c := open(t)
	raw, err := os.ReadFile("../../protocol/testdata/vectors/unixfs_cids.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name, Cid  string
		CidVersion int
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, v := range vectors {
		var size int64
		if n, err := fmt.Sscanf(v.Name, "file_x_%d", &size); n != 1 || err != nil || size > 20<<20 {
			continue
		}
		data := strings.Repeat("x", int(size))
		path := fmt.Sprintf("/api/v0/add?cid-version=%d", v.CidVersion)
		if got := c.form(path, part{"file", "f", strings.NewReader(data)}).field("Hash"); got != v.Cid {
			t.Errorf("%s, version %d: %v at %s, want %s", v.Name, v.CidVersion, got, path, v.Cid)
		}
		checked++
		if v.CidVersion == 0 {
			if got := c.form("/api/v0/ipfs/add_file", part{"file", "f", strings.NewReader(data)}).field("hash"); got != v.Cid {
				t.Errorf("%s: %v at add_file, want %s", v.Name, got, v.Cid)
			}
		}
	}
	if checked == 0 {
		t.Error("no vector was checked")
	}
	// A directory, whose files are named by the parts of a form.
	a := c.form("/api/v0/add?cid-version=1&wrap-with-directory=true", part{"file", "hello.txt", strings.NewReader("hello\n")})
	if want := "bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24"; !strings.Contains(a.body, want) {
		t.Errorf("a directory: %s, want %s", a.body, want)
	}
}

func TestCase29ArchivesOfDirectories(t *testing.T) {
	c := open(t)
	a := key("a")
	// An empty directory is one block of two bytes, whose root this is.
	const root = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
	car, err := os.ReadFile("testdata/empty.car")
	if err != nil {
		t.Fatal(err)
	}
	bring := func(declared string, data []byte) answer {
		return c.form("/api/v0/ipfs/add_car", part{"file", "f.car", bytes.NewReader(data)}, c.metadata(a, fields{"item_type": "ipfs", "item_hash": declared}))
	}
	const other = "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"
	if got := bring(other, car); got.status != 422 || !strings.Contains(got.body, fmt.Sprintf("Root CID does not match (%s != %s)", root, other)) {
		t.Errorf("another root: %d %s", got.status, got.body)
	}
	if got := bring(root, car[:len(car)-1]); got.status < 400 {
		t.Errorf("a block that is cut: %d %s", got.status, got.body)
	}
	if got := bring(root, car); got.status != 200 || got.field("hash") != root {
		t.Errorf("the archive: %d %s, want 200 and %s", got.status, got.body, root)
	}
	c.same("type", c.ok("/api/v0/storage/metadata/"+root).field("type"), "directory")
}

func TestCase30Downloads(t *testing.T) {
	c := open(t)
	data := strings.Repeat("0123456789", 1000)
	hash := c.file(data)
	text := c.ok("/api/v0/storage/" + hash).field("content").(string)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if !strings.HasSuffix(text, "\n") || slices.ContainsFunc(lines[:len(lines)-1], func(l string) bool { return len(l) != 76 }) {
		t.Errorf("the lines of the content have not 76 characters each: %.200q", text)
	}
	if raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\n", "")); err != nil || string(raw) != data {
		t.Errorf("the content is another: %v", err)
	}
	head := c.do(http.MethodHead, "/api/v0/storage/raw/"+hash, nil)
	c.same("HEAD", strings.Join([]string{http.StatusText(head.status), head.header.Get("Content-Length"), head.header.Get("Content-Type")}, " "), "OK 10000 application/octet-stream")
	c.same("raw", c.ok("/api/v0/storage/raw/"+hash).body, data)
	for path, want := range map[string]int{
		"/api/v0/storage/" + strings.Repeat("0", 64): 404, "/api/v0/storage/raw/" + strings.Repeat("0", 64): 404,
		"/api/v0/storage/short": 400, "/api/v0/storage/raw/short": 400,
	} {
		c.same(path, c.get(path).status, want)
	}

	a := c.form("/api/v0/add?cid-version=1&wrap-with-directory=true", part{"file", "a.txt", strings.NewReader("a")}, part{"file", "b.txt", strings.NewReader("bb")})
	lines = strings.Split(strings.TrimSpace(a.body), "\n")
	root := answer{c, 200, nil, lines[len(lines)-1]}.field("Hash").(string)
	dir := c.ok("/api/v0/storage/raw/" + root)
	c.same("type of a directory", dir.header.Get("Content-Type"), "application/x-tar")
	var names []string
	for r := tar.NewReader(strings.NewReader(dir.body)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, strings.TrimSuffix(h.Name, "/"))
	}
	c.same("names", names, []string{root, root + "/a.txt", root + "/b.txt"})
}

func TestCase30AFileThatIsTooLargeForJSON(t *testing.T) {
	c := open(t)
	const size = 100<<20 + 1
	k := key("rich")
	c.credits(addressOf(k), 1e15)
	// The CID of so many zeros, as the node itself finds it when the message is wrong.
	wrong := c.form("/api/v0/ipfs/add_file", c.metadata(k, fields{"item_type": "ipfs", "item_hash": "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD", "payment": fields{"type": "credit", "chain": "ETH"}}), part{"file", "f", zeros(size)})
	_, rest, _ := strings.Cut(wrong.body, "(")
	cid, _, _ := strings.Cut(rest, " ")
	got := c.form("/api/v0/ipfs/add_file", c.metadata(k, fields{"item_type": "ipfs", "item_hash": cid, "payment": fields{"type": "credit", "chain": "ETH"}}), part{"file", "f", zeros(size)})
	if got.status != http.StatusOK {
		t.Fatalf("upload: %d %s after %d %s", got.status, got.body, wrong.status, wrong.body)
	}
	c.same("JSON", c.get("/api/v0/storage/"+cid).status, http.StatusRequestEntityTooLarge)
	c.same("raw", c.do(http.MethodHead, "/api/v0/storage/raw/"+cid, nil).header.Get("Content-Length"), size)
}
