//go:build conformance

package conformance_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const (
	// waitMax bounds what a test waits for, on a busy machine too.
	waitMax = 20 * time.Second
	// pollEvery is how often it looks.
	pollEvery = 20 * time.Millisecond
)

// fields are those of a JSON object.
type fields = map[string]any

// client talks to a node over HTTP.
type client struct {
	*testing.T
	url string
	at  *atomic.Int64 // Unix seconds of the next message.
}

// open starts a node of its own for a test, which may run beside others.
func open(t *testing.T) client {
	t.Helper()
	t.Parallel()
	return visit(t, start(t))
}

// visit talks to a node that runs.
func visit(t *testing.T, url string) client {
	t.Helper()
	var at atomic.Int64
	at.Store(1_780_000_000)
	return client{t, url, &at}
}

// answer is what a request got.
type answer struct {
	client
	status int
	header http.Header
	body   string
}

func (c client) do(method, path string, body io.Reader, header ...string) answer {
	c.Helper()
	r, err := http.NewRequestWithContext(c.Context(), method, c.url+path, body)
	if err != nil {
		c.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.Fatal(err)
	}
	return answer{c, resp.StatusCode, resp.Header, string(raw)}
}

func (c client) get(path string) answer {
	c.Helper()
	return c.do(http.MethodGet, path, nil)
}

// ok is get for an answer that must be one.
func (c client) ok(path string) answer {
	c.Helper()
	a := c.get(path)
	if a.status != http.StatusOK {
		c.Fatalf("GET %s = %d %s", path, a.status, a.body)
	}
	return a
}

func (c client) post(path string, body any) answer {
	c.Helper()
	return c.do(http.MethodPost, path, bytes.NewReader(c.encode(body)), "Content-Type", "application/json")
}

func (c client) encode(v any) []byte {
	c.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		c.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// field is what is at a path of the answer, like "message.content.time" or
// "errors.0".
func (a answer) field(path ...any) any {
	a.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(a.body)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		a.Fatalf("answer %.500q: %v", a.body, err)
	}
	for _, step := range path {
		switch step := step.(type) {
		case string:
			object, _ := v.(map[string]any)
			v = object[step]
		case int:
			list, _ := v.([]any)
			if step >= len(list) {
				return nil
			}
			v = list[step]
		}
	}
	return v
}

// column are the values of a field in a list of the answer.
func (a answer) column(list, name string) []string {
	a.Helper()
	out := []string{}
	items, ok := a.field(list).([]any)
	if !ok {
		a.Fatalf("answer has no list %s: %.500s", list, a.body)
	}
	for _, item := range items {
		text, _ := item.(map[string]any)[name].(string)
		out = append(out, text)
	}
	return out
}

// envelope is a message that is not signed yet. Its content gets an owner and a time
// if it has none, and it is a second younger than the one before.
func (c client) envelope(k *ecdsa.PrivateKey, typ message.Type, content fields, change ...func(*message.Envelope)) *message.Envelope {
	c.Helper()
	at := time.Unix(c.at.Add(1), 0).UTC()
	if content["address"] == nil {
		content["address"] = addressOf(k)
	}
	if content["time"] == nil {
		content["time"] = at.Unix()
	}
	raw := c.encode(content)
	e := &message.Envelope{Chain: message.Ethereum, Type: typ, Time: at, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw)}
	for _, fn := range change {
		fn(e)
	}
	return e
}

// signed is a message that is.
func (c client) signed(k *ecdsa.PrivateKey, typ message.Type, content fields, change ...func(*message.Envelope)) (string, json.RawMessage) {
	c.Helper()
	e := c.envelope(k, typ, content, change...)
	if err := signature.SignEVM(k, e); err != nil {
		c.Fatal(err)
	}
	return string(e.ItemHash), c.encode(e)
}

func on(channel string) func(*message.Envelope) {
	return func(e *message.Envelope) { e.Channel = &channel }
}

// submit hands in an envelope and waits for what becomes of it.
func (c client) submit(raw json.RawMessage) answer {
	c.Helper()
	return c.post("/api/v0/messages", fields{"sync": true, "message": raw})
}

// verdict is what became of a message: its status, and for one that was refused the
// code.
func (c client) verdict(hash string) string {
	c.Helper()
	a := c.get("/api/v0/messages/" + hash)
	if a.status != http.StatusOK {
		return fmt.Sprint(a.status)
	}
	if code := a.field("error_code"); code != nil {
		return fmt.Sprintf("%v %v", a.field("status"), code)
	}
	return fmt.Sprint(a.field("status"))
}

// send hands in a message whose verdict must be the wanted one, and returns its hash.
func (c client) send(want string, k *ecdsa.PrivateKey, typ message.Type, content fields, change ...func(*message.Envelope)) string {
	c.Helper()
	hash, raw := c.signed(k, typ, content, change...)
	a := c.submit(raw)
	if got := c.verdict(hash); got != want {
		c.Errorf("%s %s: %s, want %s; handed in it was answered %d %s, and later %s", typ, hash, got, want, a.status, a.body, c.get("/api/v0/messages/"+hash).body)
	}
	return hash
}

// note sends a POST that is processed.
func (c client) note(k *ecdsa.PrivateKey, more fields, change ...func(*message.Envelope)) string {
	c.Helper()
	content := fields{"type": "note", "content": fields{}}
	for name, value := range more {
		content[name] = value
	}
	return c.send("processed", k, message.TypePost, content, change...)
}

// eventually waits until a message has the verdict.
func (c client) eventually(hash, want string) {
	c.Helper()
	c.until(fmt.Sprintf("message %s to be %s", hash, want), func() bool { return c.verdict(hash) == want })
}

func (c client) until(what string, done func() bool) {
	c.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for end := time.Now().Add(waitMax); time.Now().Before(end); <-tick.C {
		if done() {
			return
		}
	}
	c.Fatalf("waited %v for %s", waitMax, what)
}

// part is one of a form.
type part struct {
	name, filename string
	data           io.Reader
}

// form brings the parts of a form, as they are read.
func (c client) form(path string, parts ...part) answer {
	c.Helper()
	in, out := io.Pipe()
	w := multipart.NewWriter(out)
	go func() {
		out.CloseWithError(func() error {
			for _, p := range parts {
				disposition := mime.FormatMediaType("form-data", map[string]string{"name": p.name})
				if p.filename != "" {
					disposition = mime.FormatMediaType("form-data", map[string]string{"name": p.name, "filename": p.filename})
				}
				to, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {disposition}})
				if err != nil {
					return err
				}
				if _, err := io.Copy(to, p.data); err != nil {
					return err
				}
			}
			return w.Close()
		}())
	}()
	defer in.Close()
	return c.do(http.MethodPost, path, in, "Content-Type", w.FormDataContentType())
}

// file brings a file without a message and returns its hash.
func (c client) file(data string) string {
	c.Helper()
	a := c.form("/api/v0/storage/add_file", part{"file", "f", bytes.NewReader([]byte(data))})
	if a.status != http.StatusOK {
		c.Fatalf("add_file = %d %s", a.status, a.body)
	}
	return a.field("hash").(string)
}

// stored brings a file and the STORE message that names it, and returns both hashes.
func (c client) stored(k *ecdsa.PrivateKey, data string, more fields) (ref, hash string) {
	c.Helper()
	hash = c.file(data)
	content := fields{"item_type": "storage", "item_hash": hash}
	for name, value := range more {
		content[name] = value
	}
	return c.send("processed", k, message.TypeStore, content), hash
}

// metadata is the part of an upload with the message that names the file.
func (c client) metadata(k *ecdsa.PrivateKey, content fields, change ...func(*message.Envelope)) part {
	c.Helper()
	_, raw := c.signed(k, message.TypeStore, content, change...)
	return part{"metadata", "", bytes.NewReader(c.encode(fields{"sync": true, "message": raw}))}
}

func (c client) same(what string, got, want any) {
	c.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		c.Errorf("%s = %.2000s, want %.2000s", what, g, w)
	}
}

func sorted(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return out
}
