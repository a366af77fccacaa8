//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/pelletier/go-toml/v2"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/sdk/go/aleph"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
)

// nobody is a user that owns nothing.
const nobody = 65534

// TestBadInput gives a network and its programs what they cannot use.
func TestBadInput(t *testing.T) { //nolint:tparallel // its tests are short and share one network
	t.Parallel()
	n := startNetwork(t, devnet.Options{DataDir: t.TempDir()})
	t.Run("Node", func(t *testing.T) { nodeRefuses(t, n) })
	t.Run("UnreadableKey", func(t *testing.T) { keyRefused(t, n) })
	t.Run("Clock", func(t *testing.T) { clockRefused(t, n) })
	t.Run("Devnet", func(t *testing.T) { devnetRefuses(t, n) })
	t.Run("CommandLine", commandLineRefused)
	t.Run("Messages", func(t *testing.T) { messagesRefused(t, n) })
}

// settings is a configuration file by section.
type settings map[string]map[string]any

// like returns the settings of a node of the network for a second one with the
// same signer, which has its own directory and ports.
func (n *network) like(t *testing.T, name string) settings {
	t.Helper()
	node, err := n.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	var s settings
	if err := toml.Unmarshal(readFile(t, node.DataDir, "config.toml"), &s); err != nil {
		t.Fatal(err)
	}
	s["node"]["data_dir"] = filepath.Join(t.TempDir(), "data")
	s["chain"]["private_key_path"] = filepath.Join(node.DataDir, "signer.key")
	s["network"]["identity_path"] = filepath.Join(node.DataDir, "identity.key")
	s["api"]["bind"], s["network"]["listen_addr"] = "127.0.0.1:0", "/ip4/127.0.0.1/tcp/0"
	return s
}

// write writes the settings and returns the path of the file.
func (s settings) write(t *testing.T, dir string) string {
	t.Helper()
	raw, err := toml.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// program is a program that is to fail.
type program struct {
	path     string
	args     []string
	search   string // PATH, if not the test's own.
	user     uint32 // 0 = this one.
	coverage string // Directory for what another user covers.
}

// refuses runs a program and wants it to end with the code and one sentence of
// its own that has all of the words.
func (p program) refuses(t *testing.T, code int, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		switch {
		case strings.HasPrefix(name, "ALEPH_") || name == "PATH" && p.search != "":
			continue
		case name == "GOCOVERDIR" && p.user != 0:
			pair = "GOCOVERDIR=" + p.coverage // The other one is closed to that user.
		}
		cmd.Env = append(cmd.Env, pair)
	}
	if p.search != "" {
		cmd.Env = append(cmd.Env, "PATH="+p.search)
	}
	if p.user != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: p.user, Gid: p.user}}
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code || out.Len() > 0 {
		t.Fatalf("%s %s: %v, wrote %q, want exit code %d and no result; it said: %s", p.path, strings.Join(p.args, " "), err, out.String(), code, said.String())
	}
	var own []string
	for line := range strings.Lines(said.String()) {
		if !strings.HasPrefix(line, "time=") { // The log.
			own = append(own, strings.TrimSpace(line))
		}
	}
	hint := 0
	if code == 2 && len(own) > 1 && strings.HasPrefix(own[1], "Run '") {
		hint = 1 // Wrong command lines are told where the right ones are.
	}
	if len(own) != 1+hint || !strings.HasPrefix(own[0], filepath.Base(p.path)+": ") {
		t.Fatalf("it said %q, want one sentence", own)
	}
	for _, word := range words {
		if !strings.Contains(own[0], word) {
			t.Errorf("it said %q, want %q in it", own[0], word)
		}
	}
}

// node is a node with the settings.
func node(t *testing.T, s settings) program {
	t.Helper()
	return program{path: filepath.Join(binaries(t), "aleph-node"), args: []string{"--config", s.write(t, t.TempDir())}}
}

func nodeRefuses(t *testing.T, n *network) {
	t.Helper()
	free := n.like(t, "compute-1")
	taken := portOf(t, n.Nodes[0].URL)
	var running settings
	if err := toml.Unmarshal(readFile(t, n.Nodes[1].DataDir, "config.toml"), &running); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		edit  func(s settings)
		path  string
		words []string
	}{
		{
			"its API port is in use", func(s settings) { s["api"]["bind"] = "127.0.0.1:" + taken }, "",
			[]string{"another process already listens on 127.0.0.1:" + taken, "stop it or set another [api] bind"},
		},
		{
			"its peer-to-peer port is in use", func(s settings) { s["network"]["listen_addr"] = running["network"]["listen_addr"] }, "",
			[]string{"another process already listens on " + fmt.Sprint(running["network"]["listen_addr"]), "stop it or set another [network] listen_addr"},
		},
		{"its directory is in use", func(s settings) { s["node"]["data_dir"] = n.Nodes[1].DataDir }, "", []string{n.Nodes[1].DataDir, "another"}},
		{"QEMU is missing", func(settings) {}, "/nonexistent", []string{"QEMU (qemu-system-x86_64) is not installed", "apt-get install qemu-system-x86"}},
		{
			"the chain is another one", func(s settings) { s["chain"]["chain_id"] = 31338 }, "",
			[]string{"it serves chain 31337, but chain_id is 31338", "correct rpc_url or chain_id"},
		},
		{"there is no chain", func(s settings) { s["chain"]["rpc_url"] = "http://127.0.0.1:1" }, "", []string{"chain", "connection refused"}},
		{
			"nobody registered it", func(s settings) { delete(s["chain"], "private_key_path") }, "",
			[]string{"no node is registered with signer 0x", "let its owner register it", "with peer id 12D3Koo"},
		},
		{
			"a key is misspelt", func(s settings) { s["storage"] = map[string]any{"max_size_bg": 1} }, "",
			[]string{"unknown key [storage] max_size_bg", "did you mean max_size_gb?"},
		},
		{
			"a section is misspelt", func(s settings) { s["storag"] = map[string]any{"max_size_gb": 1} }, "",
			[]string{"unknown section [storag]", "did you mean [storage]?"},
		},
		{
			"a value is out of bounds", func(s settings) { s["storage"] = map[string]any{"max_size_gb": -1} }, "",
			[]string{"[storage] max_size_gb is -1, want more than 0"},
		},
		{"its role is unknown", func(s settings) { s["node"]["role"] = "miner" }, "", []string{`[node] role is "miner", want coordinator, compute or api`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := settings{}
			for section, keys := range free {
				s[section] = maps.Clone(keys)
			}
			s["node"]["data_dir"] = filepath.Join(t.TempDir(), "data")
			tt.edit(s)
			p := node(t, s)
			p.search = tt.path

			p.refuses(t, 1, tt.words...)
		})
	}
}

// keyRefused gives a node keys that others can read and that it cannot.
func keyRefused(t *testing.T, n *network) {
	t.Helper()
	// Another user must be able to get here.
	dir, err := os.MkdirTemp("", "aleph-e2e-") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := n.like(t, "compute-1")
	key := filepath.Join(dir, "signer.key")
	if err := os.WriteFile(key, readFile(t, fmt.Sprint(s["chain"]["private_key_path"])), 0o600); err != nil {
		t.Fatal(err)
	}
	s["chain"]["private_key_path"], s["node"]["data_dir"] = key, filepath.Join(dir, "data")
	delete(s["network"], "identity_path") // The other user may not read that one.
	// The image may be where another user cannot get.
	delete(s["qemu"], "probe_image")
	p := program{path: filepath.Join(binaries(t), "aleph-node"), args: []string{"--config", s.write(t, dir)}}
	for _, mode := range []os.FileMode{0o644, 0o640, 0o604} {
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
		p.refuses(t, 1, key+" can be read by other users", "run chmod 600 "+key)
	}

	if os.Geteuid() == 0 {
		// Root reads everything, so somebody else has to try.
		p.user, p.path, p.coverage = nobody, copied(t, p.path, dir), filepath.Join(dir, "data")
		if err := errors.Join(os.Chmod(key, 0o600), os.RemoveAll(filepath.Join(dir, "data")), os.Mkdir(filepath.Join(dir, "data"), 0o700),
			os.Chown(filepath.Join(dir, "data"), nobody, nobody)); err != nil {
			t.Fatal(err)
		}
	} else if err := os.Chmod(key, 0); err != nil {
		t.Fatal(err)
	}
	p.refuses(t, 1, key+" may not be read by this user", "give it to the user that runs the node")
}

// copied copies a program to where everybody can run it.
func copied(t *testing.T, path, dir string) string {
	t.Helper()
	to := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(to, readFile(t, path), 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// clockRefused shows a node the same chain under another number, because a local
// network has a time of its own, and at another time.
func clockRefused(t *testing.T, n *network) {
	t.Helper()
	const other = 31338
	tests := []struct {
		name  string
		shift time.Duration
		words []string
	}{
		{"behind", 10 * time.Minute, []string{"the clock is ", "behind the chain: set the time, for example with systemd-timesyncd"}},
		{"ahead", -10 * time.Minute, []string{"the newest block is ", "old: set the time, or use an RPC that follows the chain"}},
		// It gets past the clock, to what it lacks then.
		{"right", 0, []string{"QEMU (qemu-system-x86_64) is not installed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := n.like(t, "compute-1")
			s["chain"]["rpc_url"], s["chain"]["chain_id"] = disguised(t, n.RPCURL, other, tt.shift), other
			p := node(t, s)
			p.search = "/nonexistent"

			p.refuses(t, 1, tt.words...)
		})
	}
}

// disguised passes a chain on under another number, with the time of its newest
// block moved.
func disguised(t *testing.T, rpcURL string, chainID uint64, shift time.Duration) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		var call struct {
			Method string
			Params []any
		}
		_ = json.Unmarshal(body, &call) // A batch has no method.
		req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, rpcURL, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		var answer map[string]any
		out, err := io.ReadAll(resp.Body)
		if err == nil && call.Method != "" {
			err = json.Unmarshal(out, &answer)
		}
		if err != nil {
			t.Error(err)
			return
		}
		block, isBlock := answer["result"].(map[string]any)
		switch {
		case call.Method == "eth_chainId":
			answer["result"] = hexutil.EncodeUint64(chainID)
		case call.Method == "eth_getBlockByNumber" && isBlock && call.Params[0] == "latest":
			at := hexutil.MustDecodeUint64(fmt.Sprint(block["timestamp"]))
			block["timestamp"] = hexutil.EncodeUint64(uint64(int64(at) + int64(shift.Seconds())))
		}
		if call.Method != "" {
			if out, err = json.Marshal(answer); err != nil {
				t.Error(err)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(out) // The node sees what is missing.
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// devnetRefuses starts networks where there is no room for them.
func devnetRefuses(t *testing.T, n *network) {
	t.Helper()
	rpcPort, apiPort := portOf(t, n.RPCURL), portOf(t, n.Nodes[0].URL)
	tests := []struct {
		name  string
		args  []string
		path  string
		words []string
	}{
		{
			"the RPC's port is in use",
			[]string{"--rpc-port", rpcPort, "--api-port", "0"},
			"",
			[]string{"port " + rpcPort, "in use", "stop the other network, or choose another --rpc-port"},
		},
		{
			"an API's port is in use",
			[]string{"--rpc-port", "0", "--api-port", apiPort},
			"",
			[]string{"another process already listens on 127.0.0.1:" + apiPort, "choose another --api-port"},
		},
		{
			"QEMU is missing",
			[]string{"--rpc-port", "0", "--api-port", "0"},
			"/nonexistent",
			[]string{"QEMU (qemu-system-x86_64) is not installed", "apt-get install qemu-system-x86"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := program{path: filepath.Join(binaries(t), "aleph-node"), args: append([]string{"devnet", "--data-dir", t.TempDir()}, tt.args...), search: tt.path}

			p.refuses(t, 1, tt.words...)
		})
	}
	t.Run("the directory is in use", func(t *testing.T) {
		args := []string{"devnet", "--data-dir", n.DataDir, "--rpc-port", "0", "--api-port", "0"}

		program{path: filepath.Join(binaries(t), "aleph-node"), args: args}.refuses(t, 1, "another local network runs in "+n.DataDir, "choose another --data-dir")
	})
}

// commandLineRefused gives the programs command lines that they do not know.
func commandLineRefused(t *testing.T) {
	t.Helper()
	tests := []struct {
		program string
		args    []string
		code    int
		words   []string
	}{
		{"aleph-node", []string{"--rol", config.Compute}, 2, []string{"unknown flag: --rol"}},
		{"aleph-node", []string{"devnt"}, 2, []string{`unknown command "devnt"`, `did you mean "devnet"?`}},
		{"aleph-node", []string{"--config", "/nonexistent.toml"}, 1, []string{"/nonexistent.toml", "config.example.toml shows what it holds"}},
		{"aleph-node", []string{"devnet", "--ephemeral", "--data-dir", "x"}, 2, []string{"--ephemeral removes its state and --data-dir keeps it", "give one of them"}},
		{"aleph", []string{"instanc"}, 2, []string{`unknown command "instanc"`, `did you mean "instance"?`}},
		{"aleph", []string{"instance", "create"}, 2, []string{"give the image with --image HASH", "aleph image upload"}},
		{"aleph", []string{"instance", "show", "xyz"}, 2, []string{`instance "xyz"`, "want the job's hash"}},
	}
	for _, tt := range tests {
		t.Run(tt.program+" "+strings.Join(tt.args, " "), func(t *testing.T) {
			p := program{path: filepath.Join(binaries(t), tt.program), args: tt.args}
			if tt.program == "aleph" {
				p.args = append(p.args, "--home", t.TempDir())
			}

			p.refuses(t, tt.code, tt.words...)
		})
	}
}

// messagesRefused posts messages that break one rule each, and wants the
// protocol's number of that rule.
func messagesRefused(t *testing.T, n *network) {
	t.Helper()
	u, thief := n.user(t, "1", "1"), n.user(t, "1", "1")
	sign := func(as *user, owner *user, edit func(*message.Instance)) map[string]any {
		t.Helper()
		content, err := n.small("bad").Content(owner.Address(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		edit(content)
		e, err := as.SignContent(message.TypeInstance, content, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return document(t, e)
	}
	good := func() map[string]any { return sign(u, u, func(*message.Instance) {}) }
	with := func(key string, value any) map[string]any {
		e := good()
		e[key] = value
		return e
	}
	absent := message.HashOf([]byte("nobody has it"))
	missing, err := u.SignStore(aleph.Blob{Hash: absent, Size: 1}, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		message any
		code    message.Code // As in the protocol's table.
		waits   bool         // It may succeed later.
		words   string
	}{
		{"no object", "hello", 0, false, ""},
		{"no fields", map[string]any{}, 0, false, ""},
		{"hash of another content", with("item_content", good()["item_content"].(string)+" "), 0, false, "hashes to"},
		{"no hash", with("item_hash", "xyz"), 0, false, "item_hash"},
		{"unknown type", with("type", "FOO"), 0, false, "FOO"},
		{"content of another type", with("type", "POST"), 0, false, "allow_amend"},
		{"unknown chain", with("chain", "MOON"), 0, false, "MOON"},
		{"content that is no JSON", with("item_content", "{"), 0, false, ""},
		{"time that is no time", with("time", "now"), 0, false, "time"},
		{"no signature", with("signature", ""), 1, false, "signature is missing"},
		{"signature of nobody", with("signature", "0x"+strings.Repeat("00", 65)), 1, false, "signature"},
		{"signature of another message", with("signature", sign(u, u, func(i *message.Instance) { i.Resources.MemoryMiB = 512 })["signature"]), 1, false, "signed by"},
		{"signature of another user", with("signature", sign(thief, u, func(*message.Instance) {})["signature"]), 1, false, "signed by"},
		{"in another's name", sign(thief, u, func(*message.Instance) {}), 2, false, "is not authorized to post on behalf of"},
		{"payment that is not taken", sign(u, u, func(i *message.Instance) {
			i.Payment = &message.Payment{Type: message.PayHold}
		}), 202, false, "use credit"},
		{"file that nobody has", document(t, missing), 4, true, string(absent)},
		{"image that nobody published", sign(u, u, func(i *message.Instance) { i.Rootfs.Parent.Ref = absent }), 301, true, string(absent)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := n.post(t, "/api/v1/messages", map[string]any{"message": tt.message})
			if tt.waits {
				if status != http.StatusAccepted && status != http.StatusOK {
					t.Fatalf("status %d, want it taken: %v", status, answer)
				}
				status, answer = http.StatusUnprocessableEntity, n.look(t, fmt.Sprint(answer["item_hash"]))
				if answer["status"] != "pending" {
					t.Errorf("it is %v, want pending", answer)
				}
			}
			if status != http.StatusUnprocessableEntity || answer["error_code"] != float64(tt.code) {
				t.Errorf("status %d, code %v, want 422 and %d: %v", status, answer["error_code"], tt.code, answer)
			}
			if !strings.Contains(fmt.Sprint(answer["detail"]), tt.words) {
				t.Errorf("it says %q, want %q in it", answer["detail"], tt.words)
			}
		})
	}
	if status, answer := n.post(t, "/api/v1/messages", map[string]any{"message": good()}); status != http.StatusAccepted && status != http.StatusOK {
		t.Errorf("a good message: status %d, %v", status, answer)
	}
}

// document is a value as JSON has it.
func document(t *testing.T, v any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// post sends a document to the coordinator and returns its answer.
func (n *network) post(t *testing.T, path string, body any) (int, map[string]any) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.Nodes[0].URL+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatalf("answer of %s: %v", path, err)
	}
	return resp.StatusCode, out
}

// look returns what the coordinator has of a message.
func (n *network) look(t *testing.T, hash string) map[string]any {
	t.Helper()
	raw, err := get(t.Context(), n.Nodes[0].URL+"/api/v1/messages/"+hash)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func portOf(t *testing.T, rawURL string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strconv.Atoi(u.Port()); err != nil {
		t.Fatal(err)
	}
	return u.Port()
}
