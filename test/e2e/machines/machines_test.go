//go:build e2e

// Package machines_test drives a compute node as clients of the Aleph network do: a
// coordinator, a compute node beside it and real machines, with requests signed the
// way the published SDKs sign them.
package machines_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
	"github.com/aleph-onchain/aleph-onchain/test/devnet"
	"github.com/aleph-onchain/aleph-onchain/test/nodes"
)

// long bounds every wait: machines boot by translation.
const long = 4 * time.Minute

type fields = map[string]any

// key is a key of ours, the same for the same name.
func key(name string) *ecdsa.PrivateKey {
	k, err := crypto.ToECDSA(crypto.Keccak256([]byte("machines " + name)))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return k
}

func addressOf(k *ecdsa.PrivateKey) string { return crypto.PubkeyToAddress(k.PublicKey).Hex() }

// world is a coordinator, a compute node and an owner.
type world struct {
	*testing.T
	core, compute string // Base URLs.
	owner         *ecdsa.PrivateKey
	session       *ecdsa.PrivateKey // The owner's for a while, of P-256.
	signed        int
	at            int64 // Of the next message.
	home          *devnet.CLI
	restart       func() // Of the compute node.
}

// newWorld makes a world whose compute node has settings that change adds to.
func newWorld(t *testing.T, change func(*config.Config)) *world {
	t.Helper()
	pair := nodes.StartPair(t, func(core, compute *config.Config) {
		trust(core, compute)
		change(compute)
	})
	w := newOwner(t, pair.Core)
	w.compute, w.restart = pair.Compute, pair.Restart
	return w
}

// newCore makes a world without a compute node, with the settings of one.
func newCore(t *testing.T) (*world, *nodes.Core) {
	t.Helper()
	core := nodes.StartCore(t, trust)
	return newOwner(t, core.URL), core
}

// trust makes the keys of the test those that the network believes.
func trust(core, compute *config.Config) {
	core.Ingest.CreditAuthority = addressOf(key("credits"))
	core.Ingest.BalanceAuthority = []string{addressOf(key("balances"))}
	compute.CRN.AllocationSigners = []string{addressOf(key("scheduler"))}
}

// newOwner makes a world of a coordinator and an owner with credits and tokens.
func newOwner(t *testing.T, core string) *world {
	t.Helper()
	w := &world{T: t, core: core, owner: key("owner"), at: time.Now().Add(-time.Hour).Unix(), home: &devnet.CLI{Home: t.TempDir()}}
	var err error
	if w.session, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	w.credits(1_000_000_000_000)
	w.send(key("balances"), message.TypePost, fields{"type": "balances-update", "content": fields{
		"chain": "ETH", "main_height": 1, "balances": fields{addressOf(w.owner): 1_000_000},
	}}, "")
	return w
}

// request asks one of the nodes and returns status and body.
func (w *world) request(method, url string, body any, header ...string) (int, string) {
	w.Helper()
	var in io.Reader
	switch body := body.(type) {
	case nil:
	case io.Reader:
		in = body
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			w.Fatal(err)
		}
		in = bytes.NewReader(raw)
		header = append(header, "Content-Type", "application/json")
	}
	r, err := http.NewRequestWithContext(w.Context(), method, url, in)
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
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
	return resp.StatusCode, string(raw)
}

// send hands a message to the coordinator, which must take it.
func (w *world) send(k *ecdsa.PrivateKey, typ message.Type, content fields, channel string) message.ItemHash {
	w.Helper()
	w.at++
	content["address"], content["time"] = addressOf(k), w.at
	raw := encode(w.T, content)
	e := &message.Envelope{Chain: message.Ethereum, Type: typ, Time: time.Unix(w.at, 0).UTC(), ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw)}
	if channel != "" {
		e.Channel = &channel
	}
	if err := signature.SignEVM(k, e); err != nil {
		w.Fatal(err)
	}
	if status, body := w.request("POST", w.core+"/api/v0/messages", fields{"sync": true, "message": e}); status != http.StatusOK {
		w.Fatalf("%s: %d %s", typ, status, body)
	}
	return e.ItemHash
}

func (w *world) credits(amount int64) {
	w.Helper()
	w.send(key("credits"), message.TypePost, fields{"type": "aleph_credit_distribution", "content": fields{"distribution": fields{
		"token": "ALEPH", "chain": "ETH",
		"credits": []fields{{"address": addressOf(w.owner), "amount": amount, "price": "1", "tx_hash": "0x1", "provider": "test"}},
	}}}, "ALEPH_CREDIT")
}

// store brings a file and the message that names it. Images are larger than what
// the form of the message network takes.
func (w *world) store(path string, more fields) message.ItemHash {
	w.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		w.Fatal(err)
	}
	status, body := w.request("POST", w.core+"/api/v1/blobs", bytes.NewReader(raw), "Content-Type", "application/octet-stream")
	w.want("upload", status, body, http.StatusCreated, string(message.HashOf(raw)))
	content := fields{"item_type": "storage", "item_hash": message.HashOf(raw)}
	maps.Copy(content, more)
	return w.send(w.owner, message.TypeStore, content, "")
}

// instance publishes an INSTANCE that is paid by credits.
func (w *world) instance(image message.ItemHash) message.ItemHash {
	w.Helper()
	path, err := w.home.SSHKey()
	if err != nil {
		w.Fatal(err)
	}
	public, err := os.ReadFile(path + ".pub")
	if err != nil {
		w.Fatal(err)
	}
	return w.send(w.owner, message.TypeInstance, fields{
		"allow_amend": false, "authorized_keys": []string{strings.TrimSpace(string(public))}, "variables": fields{},
		"environment": fields{"internet": true, "aleph_api": false, "hypervisor": "qemu", "reproducible": false, "shared_cache": false},
		"resources":   fields{"vcpus": 1, "memory": 256, "seconds": 30}, "payment": fields{"type": "credit", "chain": "ETH"}, "volumes": []fields{},
		"rootfs": fields{"parent": fields{"ref": image, "use_latest": true}, "persistence": "host", "size_mib": 1024},
	}, "")
}

// owned asks the compute node as the owner does, with a session key that the wallet
// has signed.
func (w *world) owned(method, path string, body any, header ...string) (int, string) {
	w.Helper()
	pub, err := w.session.PublicKey.Bytes()
	if err != nil {
		w.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	wallet := encode(w.T, fields{
		"pubkey": fields{"kty": "EC", "crv": "P-256", "x": b64(pub[1:33]), "y": b64(pub[33:])}, "alg": "ECDSA", "domain": "localhost",
		"address": addressOf(w.owner), "expires": time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "chain": "ETH",
	})
	sig, err := message.SignText(w.owner, wallet)
	if err != nil {
		w.Fatal(err)
	}
	w.signed++
	plain, _, _ := strings.Cut(path, "?")
	operation := encode(w.T, fields{
		"time": time.Now().Add(time.Duration(w.signed) * time.Microsecond).UTC().Format(time.RFC3339Nano), "method": method, "path": plain, "domain": "localhost",
	})
	digest := sha256.Sum256(operation)
	r, s, err := ecdsa.Sign(rand.Reader, w.session, digest[:])
	if err != nil {
		w.Fatal(err)
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return w.request(method, w.compute+path, body, append(header,
		"X-SignedPubKey", string(encode(w.T, fields{"payload": hex.EncodeToString(wallet), "signature": sig})),
		"X-SignedOperation", string(encode(w.T, fields{"payload": hex.EncodeToString(operation), "signature": hex.EncodeToString(raw[:])})))...)
}

// allocate asks the compute node as the scheduler does.
func (w *world) allocate(list ...message.ItemHash) (int, string) {
	w.Helper()
	return w.scheduled("POST", "/control/allocations", encode(w.T, fields{"persistent_vms": []string{}, "instances": append([]message.ItemHash{}, list...)}))
}

// scheduled asks the compute node with the scheduler's signature.
func (w *world) scheduled(method, path string, body []byte) (int, string) {
	w.Helper()
	sum := sha256.Sum256(body)
	w.signed++
	payload := encode(w.T, fields{
		"method": method, "path": path, "body_sha256": hex.EncodeToString(sum[:]), "iat": time.Now().Unix(), "n": w.signed,
	})
	sig, err := message.SignText(key("scheduler"), payload)
	if err != nil {
		w.Fatal(err)
	}
	return w.request(method, w.compute+path, bytes.NewReader(body),
		"Authorization", fmt.Sprintf("Aleph-EIP191-V1 sig=%s,payload=0x%x", sig, payload), "Content-Type", "application/json")
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// listed is a machine as the list of executions has it.
type listed struct {
	Running    bool
	Networking struct {
		MappedPorts map[string]struct {
			Host     int
			TCP, UDP bool
		} `json:"mapped_ports"`
	}
}

func (w *world) list() map[message.ItemHash]listed {
	w.Helper()
	status, body := w.request("GET", w.compute+"/v2/about/executions/list", nil)
	var all map[message.ItemHash]listed
	if err := json.Unmarshal([]byte(body), &all); err != nil || status != http.StatusOK {
		w.Fatalf("list: %d %s (%v)", status, body, err)
	}
	return all
}

// login runs a command in a machine, trying again while it boots.
func (w *world) login(vm message.ItemHash, command string) string {
	w.Helper()
	path, err := w.home.SSHKey()
	if err != nil {
		w.Fatal(err)
	}
	var out []byte
	w.until("ssh into "+string(vm), func() bool {
		port := w.list()[vm].Networking.MappedPorts["22"].Host
		if port == 0 {
			return false
		}
		ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
		defer cancel()
		out, err = devnet.Login(ctx, "127.0.0.1", port, path, command)
		return err == nil
	})
	return strings.TrimSpace(string(out))
}

func (w *world) until(what string, done func() bool) {
	w.Helper()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(long); time.Now().Before(end); <-tick.C {
		if done() {
			return
		}
	}
	w.Fatalf("waited %v for %s", long, what)
}

func (w *world) want(what string, status int, body string, wantStatus int, part string) {
	w.Helper()
	if status != wantStatus || !strings.Contains(body, part) {
		w.Fatalf("%s: %d %s, want %d and %q", what, status, body, wantStatus, part)
	}
}

// backUpAndRestore copies the disk of a machine that has a mark, while it writes, and
// gives it that disk back when the mark is gone.
func (w *world) backUpAndRestore(vm message.ItemHash) {
	w.Helper()
	machine := "/control/machine/" + string(vm)
	w.login(vm, "(while :; do dd if=/dev/zero of=/root/load bs=64k count=16 conv=fsync 2>/dev/null; done) >/dev/null 2>&1 & echo begun")
	status, body := w.owned("POST", machine+"/backup?include_volumes=true&skip_fsfreeze=true", nil)
	w.want("backup", status, body, http.StatusAccepted, "in_progress")
	var made struct {
		ID       string `json:"backup_id"`
		Checksum string
		URL      string `json:"download_url"`
	}
	w.until("the backup", func() bool {
		if status, body = w.owned("GET", machine+"/backup", nil); status != http.StatusOK {
			return false
		}
		return json.Unmarshal([]byte(body), &made) == nil
	})
	_, path, _ := strings.Cut(made.URL, "/control/")
	status, archive := w.request("GET", w.compute+"/control/"+path, nil)
	sum := sha256.Sum256([]byte(archive))
	if status != http.StatusOK || made.Checksum != "sha256:"+hex.EncodeToString(sum[:]) {
		w.Fatalf("download of %+v: %d, %d bytes with sha256 %x", made, status, len(archive), sum)
	}
	files := tar.NewReader(strings.NewReader(archive))
	for {
		member, err := files.Next()
		if err != nil {
			w.Fatalf("archive without rootfs.qcow2: %v", err)
		}
		if member.Name == "rootfs.qcow2" {
			break
		}
	}
	w.login(vm, "rm /root/mark; sync; echo gone")
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, err := parts.CreateFormFile("rootfs", "rootfs.qcow2")
	if err == nil {
		_, err = io.Copy(part, files)
	}
	if err = errors.Join(err, parts.Close()); err != nil {
		w.Fatal(err)
	}
	status, body = w.owned("POST", machine+"/restore", &form, "Content-Type", parts.FormDataContentType())
	w.want("restore", status, body, http.StatusOK, `"restored"`)
	if mark := w.login(vm, "cat /root/mark"); mark != "kept" {
		w.Errorf("after the restore the mark is %q", mark)
	}
}

// TestAnInstanceOfTheAlephNetwork is the life of a machine: started on request as it
// is paid by credits, reached over SSH, stopped, started, rebooted, installed anew,
// kept over a restart of the node and by a scheduler's list, and erased.
func TestAnInstanceOfTheAlephNetwork(t *testing.T) {
	w := newWorld(t, func(*config.Config) {})
	vm := w.instance(w.store(nodes.GuestImage(t), nil))
	machine := "/control/machine/" + string(vm)

	status, body := w.request("POST", w.compute+"/control/allocation/notify", fields{"instance": vm})
	w.want("notify", status, body, http.StatusOK, `"successful":true`)
	boot := w.login(vm, "echo kept > /root/mark; sync; cat /proc/sys/kernel/random/boot_id")
	if at := w.list()[vm]; !at.Running {
		t.Errorf("list has %+v, want it running", at)
	}
	status, body = w.owned("GET", machine+"/logs", nil)
	w.want("logs", status, body, http.StatusOK, "ready after")

	status, body = w.owned("POST", machine+"/reboot", nil)
	w.want("reboot", status, body, http.StatusOK, "Rebooted VM with ref "+string(vm))
	if again := w.login(vm, "cat /proc/sys/kernel/random/boot_id /root/mark"); strings.HasPrefix(again, boot) || !strings.HasSuffix(again, "kept") {
		t.Errorf("after a reboot: %q, want another boot than %q and the mark", again, boot)
	}

	status, body = w.owned("POST", machine+"/stop", nil)
	w.want("stop", status, body, http.StatusOK, "Stopped VM with ref "+string(vm))
	if w.list()[vm].Running {
		t.Error("it runs after it was stopped")
	}
	status, body = w.owned("POST", machine+"/stop", nil)
	w.want("stop again", status, body, http.StatusOK, "Already stopped")
	status, body = w.request("POST", w.compute+"/control/allocation/notify", fields{"instance": vm})
	w.want("notify of a stopped machine", status, body, http.StatusOK, `"successful":true`)
	boot = w.login(vm, "cat /proc/sys/kernel/random/boot_id; grep kept /root/mark")
	if !strings.HasSuffix(boot, "kept") {
		t.Errorf("after a stop: %q, want the mark", boot)
	}

	w.restart()
	if same := w.login(vm, "cat /proc/sys/kernel/random/boot_id; cat /root/mark"); same != boot {
		t.Errorf("after the node's restart: %q, want the same boot: %q", same, boot)
	}
	// A list that does not name it does not end what its owner pays for.
	status, body = w.allocate()
	w.want("an empty list", status, body, http.StatusOK, `"success":true`)
	if !w.list()[vm].Running {
		t.Error("a list ended a machine that credits pay")
	}

	w.backUpAndRestore(vm)

	status, body = w.owned("POST", machine+"/reinstall", nil)
	w.want("reinstall", status, body, http.StatusOK, "Reinstalled VM with ref "+string(vm))
	if clean := w.login(vm, "ls /root/mark 2>/dev/null; echo done"); clean != "done" {
		t.Errorf("after a reinstallation: %q, want no mark", clean)
	}
	status, body = w.request("POST", w.compute+machine+"/erase", nil)
	w.want("erase by a stranger", status, body, http.StatusBadRequest, "Missing X-SignedPubKey header")
	status, body = w.owned("POST", machine+"/erase", nil)
	w.want("erase", status, body, http.StatusOK, "Erased VM with ref "+string(vm))
	if _, there := w.list()[vm]; there {
		t.Error("an erased machine is listed")
	}
}
