package ccn_test

import (
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// resuming is a node that takes files in pieces.
func resuming(t *testing.T) *keeper {
	t.Helper()
	return keeping(t, 1e9, func(st *ccn.Storage) {
		var err error
		if st.Partials, err = blob.OpenPartials(st.Blobs, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
	})
}

const uploads = "/api/v0/storage/uploads"

// planned is the header that says what comes.
func planned(pairs ...string) string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, pairs[i]+" "+base64.StdEncoding.EncodeToString([]byte(pairs[i+1])))
	}
	return strings.Join(out, ",")
}

func (k *keeper) tus(method, target string, body string, header ...string) answer {
	k.t.Helper()
	return k.do(method, target, []byte(body), append([]string{"Tus-Resumable", "1.0.0"}, header...)...)
}

func (k *keeper) begin(size int, plan string) string {
	k.t.Helper()
	a := k.tus(http.MethodPost, uploads, "", "Upload-Length", strconv.Itoa(size), "Upload-Metadata", plan)
	if a.status != http.StatusCreated || !strings.HasPrefix(a.header.Get("Location"), uploads+"/") {
		k.t.Fatalf("begin: %d %s %v", a.status, a.body, a.header)
	}
	return a.header.Get("Location")
}

func (k *keeper) patch(at string, offset int, body string) answer {
	k.t.Helper()
	return k.tus(http.MethodPatch, at, body, "Upload-Offset", strconv.Itoa(offset), "Content-Type", "application/offset+octet-stream")
}

func TestUploadInPiecesIsStoredAsOneInOne(t *testing.T) {
	k := resuming(t)
	signer := key(t, "owner")
	car, root := carOf(t, map[string]string{"a": "a"})
	order := func(hash message.ItemHash) string {
		_, raw := k.signed(signer, message.TypeStore, fields{"item_type": hash.Type(), "item_hash": hash})
		return string(encode(t, fields{"message": raw, "sync": true}))
	}
	for _, tt := range []struct {
		name, data string
		hash       message.ItemHash
		plan       []string
	}{
		{"without a message", "some bytes", message.HashOf([]byte("some bytes")), nil},
		{"storage", "other bytes", message.HashOf([]byte("other bytes")), []string{"metadata", order(message.HashOf([]byte("other bytes"))), "filename", "x"}},
		{"ipfs", "ipfs bytes", cidOf(t, []byte("ipfs bytes")), []string{"engine", "ipfs", "metadata", order(cidOf(t, []byte("ipfs bytes")))}},
		{"car", string(car), root, []string{"engine", "car", "metadata", order(root)}},
		{"nothing", "", message.HashOf(nil), nil},
	} {
		at, half := k.begin(len(tt.data), planned(tt.plan...)), len(tt.data)/2
		if half > 0 {
			if a := k.patch(at, 0, tt.data[:half]); a.status != http.StatusNoContent || a.header.Get("Upload-Offset") != strconv.Itoa(half) {
				t.Errorf("%s: %d %s %v", tt.name, a.status, a.body, a.header)
			}
			a := k.tus(http.MethodHead, at, "")
			if a.status != 200 || a.header.Get("Upload-Offset") != strconv.Itoa(half) || a.header.Get("Upload-Length") != strconv.Itoa(len(tt.data)) || a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s: HEAD %d %v", tt.name, a.status, a.header)
			}
		}

		a := k.patch(at, half, tt.data[half:])

		if a.status != http.StatusNoContent || a.header.Get("Aleph-Item-Hash") != string(tt.hash) || a.header.Get("Aleph-Status") != "200" {
			t.Errorf("%s: %d %s %v, want %s", tt.name, a.status, a.body, a.header, tt.hash)
		}
		k.ok("/api/v0/storage/metadata/" + string(tt.hash))
		if a := k.tus(http.MethodHead, at, ""); a.status != 404 {
			t.Errorf("%s: it is still there: %d", tt.name, a.status)
		}
	}
}

func TestUploadInPiecesIsRefusedBeforeItBegins(t *testing.T) {
	k := resuming(t)
	signer := key(t, "owner")
	_, raw := k.signed(signer, message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf(nil)})
	good := string(encode(t, fields{"message": raw, "sync": true}))
	_, raw = k.signed(signer, message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf(nil), "payment": fields{"chain": "ETH", "type": "credit"}})
	credit := string(encode(t, fields{"message": raw, "sync": true}))
	for _, tt := range []struct {
		name, size, plan string
		status           int
	}{
		{"no length", "", "", 400},
		{"a length below 0", "-1", "", 400},
		{"too large without a message", "1048577", "", 413},
		{"too large with one", "3145729", planned("metadata", good), 413},
		{"no base64", "1", "metadata ???", 400},
		{"engine", "1", planned("engine", "tape"), 400},
		{"archive without a message", "1", planned("engine", "car"), 422},
		{"metadata", "1", planned("metadata", "{}"), 422},
		{"signature", "1", planned("metadata", strings.Replace(good, `"signature":"0x`, `"signature":"0x00`, 1)), 403},
		{"item type", "1", planned("engine", "ipfs", "metadata", good), 422},
		{"balance", "1", planned("metadata", credit), 402},
	} {
		if a := k.tus(http.MethodPost, uploads, "", "Upload-Length", tt.size, "Upload-Metadata", tt.plan); a.status != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.name, a.status, a.body, tt.status)
		}
	}
	if a := k.do(http.MethodPost, uploads, nil, "Upload-Length", "1"); a.status != 412 || a.header.Get("Tus-Version") != "1.0.0" {
		t.Errorf("no version: %d %v", a.status, a.header)
	}
	k.empty("what was refused")
}

func TestUploadInPiecesThatIsRefusedAtItsEndLeavesNothing(t *testing.T) {
	k := resuming(t)
	_, raw := k.signed(key(t, "owner"), message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf([]byte("abc"))})
	at := k.begin(3, planned("metadata", string(encode(t, fields{"message": raw, "sync": true}))))
	for _, tt := range []struct {
		header []string
		status int
	}{
		{[]string{"Upload-Offset", "0"}, 415},
		{[]string{"Content-Type", "application/offset+octet-stream"}, 400},
		{[]string{"Content-Type", "application/offset+octet-stream", "Upload-Offset", "1"}, 409},
	} {
		if a := k.tus(http.MethodPatch, at, "xyz", tt.header...); a.status != tt.status {
			t.Errorf("%v: %d %s, want %d", tt.header, a.status, a.body, tt.status)
		}
	}
	if a := k.patch(at, 0, "xyz"); a.status != 422 || !strings.Contains(a.body, "File hash does not match") {
		t.Errorf("other bytes: %d %s", a.status, a.body)
	}
	k.empty("other bytes")

	at = k.begin(10, "")
	k.patch(at, 0, "abc")
	if a := k.tus(http.MethodDelete, at, ""); a.status != http.StatusNoContent {
		t.Errorf("DELETE: %d %s", a.status, a.body)
	}
	if a := k.tus(http.MethodDelete, at, ""); a.status != 404 {
		t.Errorf("DELETE again: %d", a.status)
	}
	k.empty("what was given up")
	if a := k.do(http.MethodOptions, at, nil, "Origin", "https://x.example", "Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "tus-resumable"); a.status != 200 ||
		!strings.Contains(a.header.Get("Access-Control-Allow-Methods"), "PATCH") || a.header.Get("Access-Control-Allow-Headers") != "tus-resumable" {
		t.Errorf("preflight: %d %v", a.status, a.header)
	}
}

func TestUploadGoesOnAfterABrokenConnection(t *testing.T) {
	k := resuming(t)
	at := k.begin(10, "")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPatch, at, io.MultiReader(strings.NewReader("abcd"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	for name, value := range map[string]string{"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"} {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	k.srv.Handler().ServeHTTP(w, r)
	if w.Code != 400 {
		t.Errorf("a broken connection: %d %s", w.Code, w.Body)
	}

	if a := k.tus(http.MethodHead, at, ""); a.header.Get("Upload-Offset") != "4" {
		t.Fatalf("HEAD: %d %v", a.status, a.header)
	}
	if a := k.patch(at, 4, "efghij"); a.header.Get("Aleph-Item-Hash") != string(message.HashOf([]byte("abcdefghij"))) {
		t.Errorf("the rest: %d %s %v", a.status, a.body, a.header)
	}
}

// A node that is killed after the last byte came has not stored the file yet.
func TestUploadThatIsWholeIsStoredWhenItsClientAsks(t *testing.T) {
	var all *blob.Partials
	k := keeping(t, 1e9, func(st *ccn.Storage) {
		var err error
		if all, err = blob.OpenPartials(st.Blobs, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		st.Partials = all
	})
	at := k.begin(3, "")
	if _, err := all.Append(strings.TrimPrefix(at, uploads+"/"), 0, strings.NewReader("abc")); err != nil {
		t.Fatal(err)
	}

	a := k.tus(http.MethodHead, at, "")

	want := string(message.HashOf([]byte("abc")))
	if a.status != 200 || a.header.Get("Aleph-Item-Hash") != want || a.header.Get("Upload-Offset") != "3" {
		t.Errorf("HEAD: %d %s %v", a.status, a.body, a.header)
	}
	same(t, "the file", k.ok("/api/v0/storage/raw/"+want).body, "abc")
}
