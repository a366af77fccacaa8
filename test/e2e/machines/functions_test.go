//go:build e2e

package machines_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/nodes"
)

// program is the code of a function: it tells of itself, and asks its host.
const program = `
import json, random, socket
born = random.random()
calls = 0

def ask(line):
    s = socket.socket(socket.AF_UNIX)
    s.connect("/tmp/socat-socket")
    s.sendall((line + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").encode())
    out = b""
    while True:
        piece = s.recv(65536)
        if not piece:
            return out.decode()
        out += piece

async def app(scope, receive, send):
    global calls
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    calls += 1
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/raise":
        raise ValueError("on purpose")
    out = {"version": "VERSION", "born": born, "calls": calls, "path": scope["path"], "method": scope["method"], "body": body.decode()}
    if scope["path"] == "/ask":
        out["answer"] = ask(body.decode())
    await send({"type": "http.response.start", "status": 201, "headers": [[b"content-type", b"application/json"]]})
    await send({"type": "http.response.body", "body": json.dumps(out).encode()})
`

// told is what the function tells.
type told struct {
	Version      string
	Born         float64
	Calls        int
	Path, Method string
	Body, Answer string
}

// newFunctionWorld is a world whose compute node runs functions, and the file of a
// runtime for them.
func newFunctionWorld(t *testing.T) (w *world, runtime string) {
	t.Helper()
	image := nodes.FunctionImage(t)
	opened, err := vmm.OpenImage(t.Context(), image, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w = newWorld(t, func(compute *config.Config) {
		compute.CoreNode.StandingTTL = time.Second
		compute.Functions.Image, compute.Functions.Refresh = image, time.Second
		compute.Functions.InitTimeout, compute.Functions.ConfigTimeout, compute.Functions.RestoreTimeout = long, long, long
	})
	return w, opened.Rootfs
}

// code brings a version of the program, in place of the one before if there is one.
func (w *world) code(version string, before message.ItemHash) message.ItemHash {
	w.Helper()
	path := filepath.Join(w.TempDir(), "code")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(program, "VERSION", version)), 0o600); err != nil {
		w.Fatal(err)
	}
	if before == "" {
		return w.store(path, nil)
	}
	return w.store(path, fields{"ref": before})
}

// function publishes a PROGRAM that is paid by what its owner holds.
func (w *world) function(code, runtime message.ItemHash) message.ItemHash {
	w.Helper()
	return w.send(w.owner, message.TypeProgram, fields{
		"type": "vm-function", "allow_amend": false, "variables": fields{}, "volumes": []fields{},
		"environment": fields{"reproducible": false, "internet": true, "aleph_api": true, "shared_cache": false},
		"resources":   fields{"vcpus": 1, "memory": 256, "seconds": 120},
		"code":        fields{"encoding": "plain", "entrypoint": "app", "interface": "asgi", "ref": code, "use_latest": true},
		"runtime":     fields{"ref": runtime, "use_latest": true, "comment": "test"},
		"on":          fields{"http": true, "persistent": false},
	}, "")
}

// call asks a function, and reads what it tells.
func (w *world) call(method, url, host, body string) told {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, url, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	if host != "" {
		r.Host = host
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	var out told
	if err := json.Unmarshal(raw, &out); err != nil || resp.StatusCode != http.StatusCreated {
		w.Fatalf("%s %s: %d %s, want what the program tells", method, url, resp.StatusCode, raw)
	}
	return out
}

// TestAFunctionOfTheAlephNetwork is called by its path and by its name, asks its host,
// fails, follows a new version of its code, and ends when it is forgotten.
func TestAFunctionOfTheAlephNetwork(t *testing.T) {
	w, runtime := newFunctionWorld(t)
	code := w.code("one", "")
	fn := w.function(code, w.store(runtime, nil))
	url := w.compute + "/vm/" + string(fn)

	first := w.call("GET", url+"/", "", "")
	if first.Calls != 1 || first.Path != "/" || first.Version != "one" {
		t.Errorf("the first call: %+v", first)
	}
	second := w.call("POST", url+"/a/b", "", "hello")
	if second.Born != first.Born || second.Calls != 2 || second.Path != "/a/b" || second.Body != "hello" || second.Method != http.MethodPost {
		t.Errorf("the second call: %+v, want it of the machine of the first: %+v", second, first)
	}
	raw, err := hex.DecodeString(string(fn))
	if err != nil {
		t.Fatal(err)
	}
	label := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))
	if named := w.call("GET", w.compute+"/named", label+".functions.example", ""); named.Born != first.Born || named.Path != "/named" {
		t.Errorf("a call by name: %+v", named)
	}
	status, body := w.request("GET", url+"/raise", nil)
	w.want("a call that raises", status, body, http.StatusInternalServerError, "ValueError: on purpose")
	status, body = w.request("GET", w.compute+"/vm/"+string(message.HashOf([]byte("nobody's")))+"/", nil)
	w.want("a call of nothing", status, body, http.StatusNotFound, "not found")

	for _, q := range []struct{ line, want string }{
		{"GET /cache/nothing", "No such key"},
		{"GET /properties", `"chain":"ETH"`},
		{"GET /api/v0/messages/" + string(fn), `"processed"`},
		{"GET /metrics", "/api/v0/"},
	} {
		if got := w.call("POST", url+"/ask", "", q.line).Answer; !strings.Contains(got, q.want) {
			t.Errorf("%s: %q, want %q", q.line, got, q.want)
		}
	}

	w.code("two", code)
	w.until("the new version", func() bool { return w.call("GET", url+"/", "", "").Version == "two" })
	w.restart()
	if again := w.call("GET", url+"/", "", ""); again.Version != "two" || again.Calls != 1 {
		t.Errorf("after a restart of the node: %+v, want another machine", again)
	}
	w.send(w.owner, message.TypeForget, fields{"hashes": []message.ItemHash{fn}, "aggregates": []string{}, "reason": "done"}, "")
	w.until("the end of a program that was forgotten", func() bool {
		status, _ := w.request("GET", url+"/", nil)
		return status == http.StatusNotFound
	})
}

// hold asks the compute node, as the scheduler does, to run these programs for good.
func (w *world) hold(programs ...message.ItemHash) (int, string) {
	w.Helper()
	body := encode(w.T, fields{"persistent_vms": append([]message.ItemHash{}, programs...), "instances": []string{}})
	sum := sha256.Sum256(body)
	w.signed++
	payload := encode(w.T, fields{
		"method": "POST", "path": "/control/allocations", "body_sha256": hex.EncodeToString(sum[:]), "iat": time.Now().Unix(), "n": w.signed,
	})
	sig, err := message.SignText(key("scheduler"), payload)
	if err != nil {
		w.Fatal(err)
	}
	return w.request("POST", w.compute+"/control/allocations", bytes.NewReader(body),
		"Authorization", fmt.Sprintf("Aleph-EIP191-V1 sig=%s,payload=0x%x", sig, payload), "Content-Type", "application/json")
}

// TestAFunctionThatASchedulerHolds runs on while its node does not, until the list
// does not name it any more.
func TestAFunctionThatASchedulerHolds(t *testing.T) {
	w, runtime := newFunctionWorld(t)
	fn := w.function(w.code("one", ""), w.store(runtime, nil))
	url := w.compute + "/vm/" + string(fn) + "/"

	nobody := message.HashOf([]byte("nobody's"))
	status, body := w.hold(fn, nobody)
	w.want("a list with what is not there", status, body, http.StatusMultiStatus, `"failing":["`+string(nobody)+`"]`)
	if !w.list()[fn].Running {
		t.Errorf("list has %+v, want the program running", w.list())
	}
	before := w.call("GET", url, "", "")
	machine := "/control/machine/" + string(fn)
	if status, body := w.owned("GET", machine+"/logs", nil); status != http.StatusOK || !strings.Contains(body, "aleph-guest") {
		t.Errorf("logs: %d %.2000s, want the guest's", status, body)
	}
	w.restart()
	if after := w.call("GET", url, "", ""); after.Born != before.Born || after.Calls != 2 {
		t.Errorf("after a restart of the node: %+v, want the machine of before: %+v", after, before)
	}
	status, body = w.hold()
	w.want("an empty list", status, body, http.StatusOK, `"stopped":["`+string(fn)+`"]`)
	if _, there := w.list()[fn]; there {
		t.Error("a program that was stopped is listed")
	}
	if again := w.call("GET", url, "", ""); again.Born == before.Born {
		t.Error("a program that was stopped still runs")
	}
	status, body = w.owned("POST", machine+"/erase", nil)
	w.want("erase", status, body, http.StatusOK, "Erased VM with ref "+string(fn))
	if _, there := w.list()[fn]; there {
		t.Error("an erased program is listed")
	}
}
