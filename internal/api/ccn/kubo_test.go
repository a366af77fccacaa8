package ccn_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// added are the lines of an answer of Kubo's.
func added(t *testing.T, a answer) (names []string, last message.ItemHash) {
	t.Helper()
	if a.status != http.StatusOK || !strings.HasSuffix(a.body, "\n") {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	for line := range strings.Lines(a.body) {
		var e struct{ Name, Hash, Size string }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Size == "" {
			t.Fatalf("line %s: %v", line, err)
		}
		names, last = append(names, e.Name), message.ItemHash(e.Hash)
	}
	return names, last
}

func TestKuboAddTakesFilesAndFolders(t *testing.T) {
	k := keeping(t, 1e9)
	var ten []string
	for c := 'a'; c <= 'j'; c++ {
		ten = append(ten, filePart(string(c)+".txt", []byte(string(c))))
	}
	nested := []string{filePart("top.txt", []byte("top\n")), filePart("sub%2Finner.txt", []byte("inner\n")), filePart("sub/deeper/leaf.txt", []byte("leaf\n"))}
	site := make([]string, len(nested))
	for i, name := range []string{"site/top.txt", "site/sub/inner.txt", "site/sub/deeper/leaf.txt"} {
		site[i] = filePart(name, []byte([]string{"top\n", "inner\n", "leaf\n"}[i]))
	}
	for _, tt := range []struct {
		name, query string
		parts       []string
		names       string
		last        message.ItemHash
	}{
		{"a file", "?to-files=1", []string{filePart("hello.txt", []byte("hello world"))}, "[hello.txt]", "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"},
		{"wrapped", "?wrap-with-directory=true&cid-version=1&pin=true", []string{filePart("hello.txt", []byte("hello\n"))}, "[hello.txt ]", "bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24"},
		{"ten, version 0", "?wrap-with-directory=true&cid-version=0", ten, "[a.txt b.txt c.txt d.txt e.txt f.txt g.txt h.txt i.txt j.txt ]", "QmaVbVDQrEVXH6EAQQExN82Xt44VmrQWkkey4S8eYcTNRs"},
		{"nested", "?wrap-with-directory=true&cid-version=1", nested, "[sub/deeper/leaf.txt sub/deeper sub/inner.txt sub top.txt ]", "bafybeidcclyz24mrl4furbaf4ecb3ks52dbfer7r6dxqavd4wrqg7bp7lu"},
		{"a folder of a browser", "?to-files=1&cid-version=1", site, "[site/sub/deeper/leaf.txt site/sub/deeper site/sub/inner.txt site/sub site/top.txt site]", "bafybeidcclyz24mrl4furbaf4ecb3ks52dbfer7r6dxqavd4wrqg7bp7lu"},
		{"an empty folder", "", []string{partOf("file", nil, `; filename="empty"`, "\r\nContent-Type: application/x-directory")}, "[empty]", "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"},
	} {
		names, last := added(t, k.form("/api/v0/add"+tt.query, tt.parts...))
		if fmt.Sprint(names) != tt.names || last != tt.last {
			t.Errorf("%s: %v and %s, want %s and %s", tt.name, names, last, tt.names, tt.last)
		}
		if _, err := k.db.FileInfo(t.Context(), last); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if pin, err := k.db.Pin(t.Context(), state.GraceKey(last)); err != nil || pin.Kind != state.PinGrace {
			t.Errorf("%s: pin %+v, %v", tt.name, pin, err)
		}
	}
	if names, _ := added(t, k.form("/api/v0/add", filePart("x", []byte("1")), partOf("path", []byte("2")), filePart("d/y", []byte("3")))); len(names) != 4 {
		t.Errorf("files beside each other: %v, want 4 lines", names)
	}
}

func TestKuboAddRefusesWhatItWouldDoOtherwise(t *testing.T) {
	k := keeping(t, 1e9)
	file := filePart("f", []byte("x"))
	for _, tt := range []struct {
		name, query string
		parts       []string
		status      int
	}{
		{"version", "?cid-version=2", []string{file}, 400},
		{"chunker", "?chunker=size-1000", []string{file}, 400},
		{"trickle", "?trickle=true", []string{file}, 400},
		{"raw leaves of version 0", "?raw-leaves=true", []string{file}, 400},
		{"only hash", "?only-hash=true", []string{file}, 400},
		{"hash", "?hash=blake3", []string{file}, 400},
		{"nothing", "", nil, 400},
		{"symlink", "", []string{partOf("file", []byte("to"), `; filename="l"`, "\r\nContent-Type: application/symlink")}, 400},
		{"a file twice", "", []string{filePart("d/f", nil), filePart("d/f", nil)}, 400},
		{"a file that is a folder", "", []string{filePart("d/f", nil), filePart("d/f/g", nil)}, 400},
		{"large", "", []string{filePart("a", make([]byte, 1<<20)), filePart("b", make([]byte, 1<<20+1))}, 413},
	} {
		if a := k.form("/api/v0/add"+tt.query, tt.parts...); a.status != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.name, a.status, a.body, tt.status)
		}
		k.empty(tt.name)
	}
	if a := k.form("/api/v0/add?chunker=size-262144&hash=sha2-256&raw-leaves=false", file); a.status != 200 {
		t.Errorf("what is the default: %d %s", a.status, a.body)
	}
	off := keeping(t, 1e9, func(st *ccn.Storage) { st.Config.KuboAdd, st.Config.Gateway = false, false })
	if a := off.form("/api/v0/add", file); a.status != 404 {
		t.Errorf("turned off: %d", a.status)
	}
	if a := off.get("/ipfs/QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"); a.status != 404 {
		t.Errorf("gateway turned off: %d", a.status)
	}
}

func TestGatewayServesWhatIsKept(t *testing.T) {
	k := keeping(t, 1e9)
	page, style := "<h1>hello</h1>", "body {}"
	_, root := added(t, k.form("/api/v0/add", filePart("s/index.html", []byte(page)), filePart("s/a.css", []byte(style)), filePart("s/sub/<b>&.txt", []byte("bb"))))
	_, file := added(t, k.form("/api/v0/add", filePart("x", []byte("just text"))))
	v1 := "/ipfs/" + spelled(t, root)
	at := "/ipfs/" + string(root)
	for _, tt := range []struct {
		path   string
		status int
		kind   string
		body   string
	}{
		{at + "/", 200, "text/html", page},
		{v1 + "/", 200, "text/html", page},
		{at + "/index.html", 200, "text/html", page},
		{at + "/a.css", 200, "text/css", style},
		{at + "/sub/", 200, "text/html", `<a href="./%3Cb%3E&amp;.txt">&lt;b&gt;&amp;.txt</a>`},
		{"/ipfs/" + string(file), 200, "text/plain", "just text"},
		{at, 302, "", ""},
		{at + "/sub", 302, "", ""},
		{at + "/nothing", 404, "", "Not found"},
		{at + "/a.css/deeper", 404, "", "Not found"},
		{"/ipfs/nonsense", 400, "", ""},
		{"/ipfs/bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24", 404, "", "Not found"},
	} {
		a := k.get(tt.path)
		if a.status != tt.status || !strings.Contains(a.body, tt.body) || !strings.HasPrefix(a.header.Get("Content-Type"), tt.kind) {
			t.Errorf("GET %s = %d %s %s, want %d %s", tt.path, a.status, a.header.Get("Content-Type"), a.body, tt.status, tt.body)
		}
		if tt.status == 200 && (!strings.HasPrefix(a.header.Get("Content-Security-Policy"), "sandbox") || a.header.Get("ETag") == "") {
			t.Errorf("GET %s: headers %v", tt.path, a.header)
		}
	}
	if a := k.get(at); a.header.Get("Location") != at+"/" {
		t.Errorf("a folder leads to %s", a.header.Get("Location"))
	}
	if a := k.get(at+"/a.css", "Range", "bytes=1-3"); a.status != 206 || a.body != style[1:4] {
		t.Errorf("a range: %d %q", a.status, a.body)
	}
	if a := k.do(http.MethodHead, at+"/a.css", nil); a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "7" {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	// Content that is here and that the network does not name.
	here, err := k.ipfs.Add(t.Context(), strings.NewReader("nobody named it"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if a := k.get("/ipfs/" + here.CID.String()); a.status != 404 {
		t.Errorf("content that nobody named: %d", a.status)
	}
}

// TestGatewaySendsWhatCanBeVerified serves blocks and archives, to who asks for them
// by a query or by a header.
func TestGatewaySendsWhatCanBeVerified(t *testing.T) {
	k := keeping(t, 1e9)
	data := strings.Repeat("verified ", 100_000)
	_, file := added(t, k.form("/api/v0/add", filePart("x", []byte(data))))
	id, err := ipfs.ParseCID(string(file))
	if err != nil {
		t.Fatal(err)
	}
	block, err := k.ipfs.Block(id)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := k.ipfs.Export(t.Context(), id, &archive); err != nil {
		t.Fatal(err)
	}
	at := "/ipfs/" + string(file)
	for _, tt := range []struct{ path, accept, kind, body string }{
		{at + "?format=raw", "", "application/vnd.ipld.raw", string(block)},
		{at, "application/vnd.ipld.raw", "application/vnd.ipld.raw", string(block)},
		{at + "?format=car&dag-scope=all", "", "application/vnd.ipld.car", archive.String()},
		{at, "text/html, application/vnd.ipld.car; version=1", "application/vnd.ipld.car", archive.String()},
		{at + "?format=other", "", "text/plain", data},
	} {
		a := k.get(tt.path, "Accept", tt.accept)
		if a.status != 200 || a.body != tt.body || !strings.HasPrefix(a.header.Get("Content-Type"), tt.kind) {
			t.Errorf("GET %s, %q = %d %s with %d bytes, want %s with %d", tt.path, tt.accept, a.status, a.header.Get("Content-Type"), len(a.body), tt.kind, len(tt.body))
		}
	}
	if a := k.do(http.MethodHead, at+"?format=car", nil); a.status != 200 || a.body != "" {
		t.Errorf("HEAD: %d with %d bytes", a.status, len(a.body))
	}
	for _, form := range []string{"raw", "car"} {
		if a := k.get("/ipfs/bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24?format=" + form); a.status != 404 {
			t.Errorf("%s of what is not here: %d", form, a.status)
		}
	}
}

// spelled is the other version of a CID.
func spelled(t *testing.T, id message.ItemHash) string {
	t.Helper()
	c, err := ipfsCID(string(id))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ipfsCID(text string) (string, error) {
	c, err := ipfs.ParseCID(text)
	if err != nil {
		return "", err
	}
	return ipfs.Spellings(c)[1], nil
}
