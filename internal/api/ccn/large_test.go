package ccn_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// heap watches how much memory is in use until it is asked for the most.
func heap() (most func() int64) {
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		high := int64(0)
		for {
			select {
			case <-tick.C:
				var now runtime.MemStats
				runtime.ReadMemStats(&now)
				high = max(high, int64(now.HeapAlloc)-int64(before.HeapAlloc))
			case <-stop:
				peak <- high
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-peak }
}

// summed hashes what is read.
func summed(n int64) (io.Reader, hash.Hash) {
	sum := sha256.New()
	return io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), n), sum), sum
}

func TestAFileOfAGibibyteNeedsLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it moves gigabytes")
	}
	const size, heapMax = 1 << 30, 64 << 20
	k := keeping(t, 3e9, func(st *ccn.Storage) {
		st.Config.MaxFileMiB, st.Config.MaxAnonymousMiB, st.Config.MaxIPFSFileMiB, st.Config.MaxIPFSAnonymousMiB = 1024, 1024, 1024, 1024
	})
	web := httptest.NewServer(k.srv.Handler())
	defer web.Close()
	for _, tt := range []struct {
		target string
		form   bool
	}{{"/api/v0/storage/add_file", false}, {"/api/v0/ipfs/add_file", true}} {
		data, sum := summed(size)
		kind := "application/octet-stream"
		if tt.form {
			data = io.MultiReader(strings.NewReader(strings.TrimSuffix(filePart("f", nil), "\r\n")), data, strings.NewReader("\r\n--"+boundary+"--\r\n"))
			kind = "multipart/form-data; boundary=" + boundary
		}
		most := heap()
		a := k.sendAll(web, tt.target, kind, data)
		up := most()
		if a.status != 200 {
			t.Fatalf("%s: %d %s", tt.target, a.status, a.body)
		}
		id, _ := a.field("hash").(string)

		most = heap()
		resp, err := web.Client().Get(web.URL + "/api/v0/storage/raw/" + id)
		if err != nil {
			t.Fatal(err)
		}
		got := sha256.New()
		n, err := io.Copy(got, resp.Body)
		resp.Body.Close()
		down := most()

		if err != nil || n != size || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
			t.Errorf("%s: %d bytes came back, %v; want those that went up", tt.target, n, err)
		}
		if up > heapMax || down > heapMax {
			t.Errorf("%s: %d MiB up and %d MiB down, want at most %d", tt.target, up>>20, down>>20, heapMax>>20)
		}
		t.Logf("%s: %d MiB up, %d MiB down", tt.target, up>>20, down>>20)
	}
}

// sendAll sends a body of unknown length.
func (k *keeper) sendAll(web *httptest.Server, target, kind string, body io.Reader) answer {
	k.t.Helper()
	r, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, web.URL+target, io.NopCloser(body))
	if err != nil {
		k.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	resp, err := web.Client().Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	return answer{k.t, resp.StatusCode, resp.Header, string(raw)}
}

func TestAFileOfUnknownLengthIsReadNoFurtherThanItsLimit(t *testing.T) {
	k := keeping(t, 1e9)
	web := httptest.NewServer(k.srv.Handler())
	defer web.Close()
	sent := 0
	endless := readFunc(func(p []byte) (int, error) {
		sent += len(p)
		if sent > 1<<30 {
			return 0, errors.New("nobody stops it")
		}
		return len(p), nil
	})

	a := k.sendAll(web, "/api/v0/storage/add_file", "application/octet-stream", endless)

	if a.status != http.StatusRequestEntityTooLarge || sent > 64<<20 {
		t.Errorf("%d after %d bytes, want 413 after little more than 1 MiB", a.status, sent)
	}
	k.empty("an endless file")
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestABrokenConnectionLeavesNothing(t *testing.T) {
	k := keeping(t, 1e9)
	served := make(chan struct{}, 8)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { served <- struct{}{} }()
		k.srv.Handler().ServeHTTP(w, r)
	}))
	defer web.Close()
	car, _ := carOf(t, map[string]string{"a": strings.Repeat("a", 300_000)})
	_, metadata := k.store(key(t, "owner"), message.HashOf(nil), true, nil)
	for _, tt := range []struct{ target, kind, body string }{
		{"/api/v0/storage/add_file", "application/octet-stream", strings.Repeat("x", 500_000)},
		{"/api/v0/storage/add_file", "multipart/form-data; boundary=" + boundary, metadata + strings.TrimSuffix(filePart("f", bytes.Repeat([]byte("x"), 500_000)), "\r\n")},
		{"/api/v0/ipfs/add_file", "multipart/form-data; boundary=" + boundary, strings.TrimSuffix(filePart("f", bytes.Repeat([]byte("x"), 500_000)), "\r\n")},
		{"/api/v0/ipfs/add_file", "multipart/form-data; boundary=" + boundary, filePart("f", bytes.Repeat([]byte("x"), 500_000))},
		{"/api/v0/ipfs/add_car", "multipart/form-data; boundary=" + boundary, strings.TrimSuffix(filePart("f", car[:len(car)/2]), "\r\n")},
		{"/api/v0/add", "multipart/form-data; boundary=" + boundary, filePart("d/a", []byte("a")) + strings.TrimSuffix(filePart("d/b", bytes.Repeat([]byte("x"), 500_000)), "\r\n")},
	} {
		for _, length := range []string{"Content-Length: 900000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
			var d net.Dialer
			c, err := d.DialContext(t.Context(), "tcp", web.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			body := tt.body
			if strings.HasPrefix(length, "Transfer") {
				body = fmt.Sprintf("%x\r\n%s\r\n", len(body), body)
			}
			if _, err := io.WriteString(c, "POST "+tt.target+" HTTP/1.1\r\nHost: x\r\nContent-Type: "+tt.kind+"\r\n"+length+body); err != nil {
				t.Fatal(err)
			}
			c.Close()
			<-served
			k.empty(tt.target + " " + length)
		}
	}
}

func FuzzUploadForm(f *testing.F) {
	k := keeping(f, 1e9)
	_, metadata := k.store(key(f, "owner"), message.HashOf([]byte("x")), true, nil)
	end := "--" + boundary + "--\r\n"
	for _, seed := range []string{
		filePart("f", []byte("x")) + end, metadata + filePart("f", []byte("x")) + end, partOf("file", nil) + metadata, end, "", "--" + boundary,
		partOf("metadata", []byte("{}")) + filePart("../x", nil) + end, "--" + boundary + "\r\n\r\nx\r\n" + end,
		"--" + boundary + "\r\nContent-Disposition: form-data; name=file; filename*=UTF-8''d%2Fx\r\n\r\nx\r\n" + end,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		k.t = t
		for _, target := range []string{"/api/v0/storage/add_file", "/api/v0/ipfs/add_file", "/api/v0/ipfs/add_car", "/api/v0/add"} {
			a := k.do(http.MethodPost, target, body, "Content-Type", "multipart/form-data; boundary="+boundary)
			if a.status == 500 || a.status == 503 {
				t.Errorf("%s: %d %s", target, a.status, a.body)
			}
		}
	})
}

func FuzzMetadata(f *testing.F) {
	k := keeping(f, 1e9)
	_, good := k.signed(key(f, "owner"), message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf([]byte("x"))})
	for _, seed := range []string{`{"message":` + string(good) + `,"sync":true}`, `{"message":{},"sync":1}`, `{"sync":"no"}`, `[`, `{"message":` + string(good) + `}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, metadata []byte) {
		k.t = t
		if bytes.Contains(metadata, []byte(boundary)) {
			return
		}
		a := k.form("/api/v0/storage/add_file", partOf("metadata", metadata), filePart("f", []byte("x")))
		if a.status == 500 || a.status == 503 || a.status == 200 && len(metadata) > 0 && !bytes.Contains(metadata, []byte("message")) {
			t.Errorf("%d %s for %q", a.status, a.body, metadata)
		}
	})
}

func TestClientsThatBringFilesAreBounded(t *testing.T) {
	const most = 128
	k := keeping(t, 1e9)
	entered, release := make(chan struct{}, most), make(chan struct{})
	var all sync.WaitGroup
	for range most {
		all.Go(func() {
			first := true
			body := readFunc(func([]byte) (int, error) {
				if first {
					first = false
					entered <- struct{}{}
				}
				<-release
				return 0, io.EOF
			})
			k.srv.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v0/storage/add_file", body))
		})
	}
	for range most {
		<-entered
	}

	k.srv.WaitForUploads(time.Millisecond)
	if a := k.do(http.MethodPost, "/api/v0/storage/add_file", []byte("x")); a.status != http.StatusServiceUnavailable {
		t.Errorf("one more is answered %d %s, want 503", a.status, a.body)
	}
	k.srv.WaitForUploads(time.Minute)
	waited := make(chan answer, 1)
	go func() {
		unread := readFunc(func([]byte) (int, error) {
			select {
			case <-release:
			default:
				t.Error("a body is read before its turn")
			}
			return 0, io.EOF
		})
		w := httptest.NewRecorder()
		k.srv.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v0/storage/add_file", unread))
		waited <- answer{k.t, w.Code, w.Header(), w.Body.String()}
	}()
	select {
	case a := <-waited:
		t.Errorf("one more is answered %d %s at once, want it to wait", a.status, a.body)
	case <-time.After(50 * time.Millisecond):
	}
	if a := k.get("/api/v0/storage/limits.json"); a.status != 200 {
		t.Errorf("what brings no file is answered %d", a.status)
	}
	close(release)
	all.Wait()
	if a := <-waited; a.status != 200 {
		t.Errorf("one that has waited: %d %s", a.status, a.body)
	}
	if a := k.do(http.MethodPost, "/api/v0/storage/add_file", []byte("x")); a.status != 200 {
		t.Errorf("after the others: %d %s", a.status, a.body)
	}
}
