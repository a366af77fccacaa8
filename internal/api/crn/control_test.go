package crn_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/api/crn"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The golden proofs are those that published clients make.
func TestPublishedClientsAreUnderstood(t *testing.T) {
	raw, err := os.ReadFile("testdata/owner.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		ByEthereum string `json:"x_signed_pubkey_eth"`
		BySolana   string `json:"x_signed_pubkey_sol"`
		Ethereum   string `json:"eth_address"`
		Solana     string `json:"sol_address"`
		Expired    string `json:"x_signed_pubkey_eth_expired"`
		Operations []struct {
			Method    string `json:"method"`
			Path      string `json:"path"`
			Operation string `json:"x_signed_operation"`
		} `json:"operations"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	for _, by := range []struct{ key, owner string }{{v.ByEthereum, strings.ToLower(v.Ethereum)}, {v.BySolana, v.Solana}} {
		for _, op := range v.Operations {
			w := newWorld(t)
			w.here[deca] = instance(by.owner)
			r := request(op.Method, op.Path, "")
			r.Header.Set("X-SignedPubKey", by.key)
			r.Header.Set("X-SignedOperation", op.Operation)
			if rec := w.do(r); rec.Code == 400 && strings.Contains(rec.Body.String(), "X-Signed") || rec.Code == 401 || rec.Code == 403 || rec.Code == 404 && strings.Contains(rec.Body.String(), "Not Found") {
				t.Errorf("%s %s: %d %s", op.Method, op.Path, rec.Code, rec.Body)
			}
		}
	}

	w := newWorld(t)
	w.here[deca] = instance(v.Ethereum)
	bodies, _ := golden(t, "jwk_error_bodies.json").(map[string]any)
	refused := func(status int, key, op string) {
		t.Helper()
		r := request("POST", machine+"/stop", "")
		for name, value := range map[string]string{"X-SignedPubKey": key, "X-SignedOperation": op} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		rec := w.do(r)
		got := document(t, rec.Body.Bytes())
		known := false
		list, _ := bodies[strconv.Itoa(status)].([]any)
		for _, body := range list {
			known = known || body.(map[string]any)["error"] == got.(map[string]any)["error"]
		}
		if rec.Code != status || !known {
			t.Errorf("%d %s, want %d and a body of the golden ones", rec.Code, rec.Body, status)
		}
	}
	refused(400, "", "")
	refused(400, "x", "")
	refused(400, "{}", "")
	refused(400, v.ByEthereum, "")
	refused(400, v.ByEthereum, "{}")
	refused(401, v.Expired, "{}")
	refused(401, strings.Replace(v.ByEthereum, `"signature": "0xef`, `"signature": "0xee`, 1), "{}")
	refused(401, v.ByEthereum, strings.Replace(v.Operations[0].Operation, `"signature": "2`, `"signature": "3`, 1))
}

func TestOwnersOperate(t *testing.T) {
	const ref = string(deca)
	stopped := func(e *crn.Execution) { e.Running, e.Times.Stopped = false, clock(); e.Times.Stopping = clock() }
	fetches := func(e *crn.Execution) {
		e.Running, e.Times = false, crn.Times{Defined: clock(), Preparing: clock()}
	}
	tests := []struct {
		name, method, path, body string
		change                   func(*crn.Execution)
		status                   int
		answer, asked            string
	}{
		{"stop", "POST", "/stop", "", nil, 200, "Stopped VM with ref " + ref, "stop " + ref},
		{"stop before its disks are here", "POST", "/stop", "", fetches, 200, "Stopped VM with ref " + ref, "stop " + ref},
		{"stop again", "POST", "/stop", "", stopped, 200, "Already stopped, nothing to do", ""},
		{"start", "POST", "/start", "", stopped, 200, "Started VM with ref " + ref, "resume " + ref},
		{"start of one that runs", "POST", "/start", "", nil, 200, "Already running, nothing to do", ""},
		{"reboot", "POST", "/reboot", "", nil, 200, "Rebooted VM with ref " + ref, "reboot " + ref},
		{"reboot of one that is stopped", "POST", "/reboot", "", stopped, 200, "Starting VM (was not running) with ref " + ref, "resume " + ref},
		{"erase", "POST", "/erase", "", nil, 200, "Erased VM with ref " + ref, "erase " + ref},
		{"reinstall", "POST", "/reinstall", "", nil, 200, "Reinstalled VM with ref " + ref, "reinstall all"},
		{"reinstall of the root disk", "POST", "/reinstall?erase_volumes=false", "", nil, 200, "Reinstalled VM with ref " + ref, "reinstall root"},
		{"expire", "POST", "/expire", `{"timeout": 90}`, nil, 200, "Expiring VM with ref " + ref + " in 90.0 seconds", "expire 1m30s"},
		{"expire by query", "POST", "/expire?timeout=0.5", "", nil, 200, "Expiring VM with ref " + ref + " in 0.5 seconds", "expire 500ms"},
		{"expire never", "POST", "/expire", `{"timeout": 864000}`, nil, 400, `{"error":"Invalid timeout duration"}`, ""},
		{"expire before", "POST", "/expire", `{"timeout": -1}`, nil, 400, `{"error":"Invalid timeout duration"}`, ""},
		{"expire not a number", "POST", "/expire?timeout=NaN", "", nil, 400, `{"error":"Invalid timeout duration"}`, ""},
		{"expire without time", "POST", "/expire", ``, nil, 400, `{"error":"Invalid timeout duration"}`, ""},
		{"backup of one that is stopped", "POST", "/backup", "", stopped, 400, `{"error":"VM must be running to create backup"}`, ""},
		{"backup of another kind", "POST", "/backup", "", func(e *crn.Execution) { e.Hypervisor = message.Firecracker }, 400, `{"error":"Backup only supported for QEMU VMs"}`, ""},
		{"backup without disk", "POST", "/backup", "", func(e *crn.Execution) { e.RootfsBytes = 0 }, 400, `{"error":"VM has no disk image"}`, ""},
		{"backup", "POST", "/backup?include_volumes=true&skip_fsfreeze=true", "", nil, 202, `{"status":"in_progress"}`, "backup volumes unfrozen"},
		{"measurement of a plain one", "GET", "/confidential/measurement", "", nil, 400, `{"code":"not_confidential","description":"Instance is not a confidential instance"}`, ""},
		{"another machine's backup", "DELETE", "/backup/x", "", nil, 403, `{"error":"Backup does not belong to this VM"}`, ""},
		{"deletion of a backup", "DELETE", "/backup/" + ref + "-1", "", nil, 200, "Deleted backup " + ref + "-1", "delete " + ref + "-1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, owner := newWorld(t), newWallet(t)
			w.here[deca] = instance(owner.address)
			if tt.change != nil {
				tt.change(w.here[deca])
			}
			w.want(owner.sign(t, request(tt.method, machine+tt.path, tt.body)), tt.status, tt.answer)
			if got := w.asked(); got != tt.asked {
				t.Errorf("asked to %q, want %q", got, tt.asked)
			}
		})
	}
}

func TestWhoMayOperate(t *testing.T) {
	w, owner, other := newWorld(t), newWallet(t), newWallet(t)
	e := instance(strings.ToUpper(owner.address[2:]))
	e.Owner = "0x" + e.Owner
	w.here[deca] = e
	stop := func() *http.Request { return request("POST", machine+"/stop", "") }
	w.want(owner.sign(t, stop()), 200, "Stopped VM with ref "+string(deca))

	const denied = "Unauthorized sender"
	if rec := w.want(other.sign(t, stop()), 403, denied); rec.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("a stranger gets %s", rec.Header().Get("Content-Type"))
	}
	channel := "A"
	for text, status := range map[string]int{
		`{"authorizations":[{"address":"` + strings.ToLower(other.address) + `"}]}`:                          200,
		`{"authorizations":[{"address":"` + other.address + `","types":["STORE","INSTANCE"]}]}`:              200,
		`{"authorizations":[{"address":"` + other.address + `","types":["STORE"]}]}`:                         403,
		`{"authorizations":[{"address":"` + other.address + `","types":["INSTANCE"],"channels":["B"]}]}`:     403,
		`{"authorizations":[{"address":"` + other.address + `","types":["INSTANCE"],"channels":["A","B"]}]}`: 200,
		`{"authorizations":[{"address":"` + other.address + `","chain":"SOL"}]}`:                             200,
		`{"authorizations":[{"address":"` + owner.address + `"}]}`:                                           403,
	} {
		w.security, e.Channel = authz.Parse([]byte(text)), &channel
		if rec := w.do(other.sign(t, stop())); rec.Code != status {
			t.Errorf("%s: %d %s, want %d", text, rec.Code, rec.Body, status)
		}
	}
	w.rightsErr = errors.New("away")
	w.want(other.sign(t, stop()), 403, denied)
	w.want(owner.sign(t, request("POST", "/control/machine/"+string(cafe)+"/stop", "")), 404, `{"error":"No virtual machine with ref `+string(cafe)+`"}`)
	w.want(owner.sign(t, request("POST", "/control/machine/x/stop", "")), 400, `{"error":"Invalid ref: 'x'"}`)
	w.want(request("POST", "/control/machine/x/stop", ""), 400, `{"error":"Missing X-SignedPubKey header"}`)
	// A key is good for every node of its owner, an operation for one.
	r := owner.sign(t, stop())
	r.Header.Set("X-SignedOperation", owner.operation(t, "POST", machine+"/erase"))
	w.want(r, 401, `{"error":"Invalid path. Signed: '`+machine+`/erase' !=  requested path: '`+machine+`/stop'"}`)
}

func TestOperationsAreGoodOnce(t *testing.T) {
	w, owner := newWorld(t), newWallet(t)
	w.here[deca] = instance(owner.address)
	r := owner.sign(t, request("POST", machine+"/reboot", ""))
	w.want(r.Clone(t.Context()), 200, "Rebooted VM with ref "+string(deca))
	w.want(r.Clone(t.Context()), 401, `{"error":"Operation was used before, sign a new one"}`)
	if got := w.asked(); got != "reboot "+string(deca) {
		t.Errorf("asked to %q", got)
	}
	// What only reads may be asked for again, as when an answer was lost.
	w.backup = &crn.Backup{ID: string(deca) + "-1"}
	r = owner.sign(t, request("GET", machine+"/backup", ""))
	for range 2 {
		if rec := w.do(r.Clone(t.Context())); rec.Code != 200 {
			t.Errorf("%d %s", rec.Code, rec.Body)
		}
	}
}

// allocate returns a request of a scheduler that has a token.
func byToken(method, path, body string) *http.Request {
	r := request(method, path, body)
	r.Header.Set("X-Auth-Signature", "token")
	return r
}

func withToken(me *crn.Self, _ *crn.Parts) {
	sum := sha256.Sum256([]byte("token"))
	me.AllocationTokenHash = hex.EncodeToString(sum[:])
}

func TestAllocationsAreThoseOfClients(t *testing.T) {
	answers, _ := golden(t, "allocations_responses.json").(map[string]any)
	resources := errs.New(errs.Exhausted, "Insufficient capacity to create VM. ...")
	tests := []struct {
		status int
		body   string
		done   crn.Allocated
	}{
		{200, `{"persistent_vms": [], "instances": ["` + string(deca) + `","` + string(deca) + `"], "on_demand_vms": null}`, crn.Allocated{}},
		{207, `{"persistent_vms": ["` + string(deca) + `"], "instances": ["` + string(cafe) + `"]}`, crn.Allocated{
			Stopped: []message.ItemHash{beef}, Failed: map[message.ItemHash]error{cafe: errs.New(errs.Invalid, "it's \"bad\"\n")},
		}},
		{503, `{"instances": ["` + string(deca) + `"]}`, crn.Allocated{Failed: map[message.ItemHash]error{deca: resources}}},
	}
	for _, tt := range tests {
		w := newWorld(t, withToken)
		w.allocated = tt.done
		rec := w.do(byToken("POST", "/control/allocations", tt.body))
		want, _ := answers[strconv.Itoa(tt.status)].(map[string]any)
		if tt.status == 207 {
			want["errors"] = map[string]any{string(cafe): `VmSetupError('it\'s "bad"\n')`}
		}
		if rec.Code != tt.status {
			t.Errorf("%d, want %d", rec.Code, tt.status)
		}
		same(t, rec.Body.Bytes(), want)
	}
	w := newWorld(t, withToken)
	w.allocated.Failed = map[message.ItemHash]error{deca: errors.New("/secret/place")}
	if got := w.do(byToken("POST", "/control/allocations", `{"instances": ["`+string(deca)+`"]}`)).Body.String(); !strings.Contains(got, `Exception('Unhandled Error')`) || strings.Contains(got, "secret") {
		t.Errorf("a failure of the node is told as %s", got)
	}

	w.want(byToken("POST", "/control/allocations", `{`), 400, `{"error":"Body is not valid JSON"}`)
	w.want(byToken("POST", "/control/allocations", `{"persistent_vms": ["x", 1]}`), 400,
		`[{"type":"value_error","loc":["persistent_vms",0],"msg":"Value error, Could not determine hash type: 'x'","input":"x",`+
			`"ctx":{"error":"Could not determine hash type: 'x'"},"url":"https://errors.pydantic.dev/2.12/v/value_error"},`+
			`{"type":"string_type","loc":["persistent_vms",1],"msg":"Input should be a valid string","input":1,"url":"https://errors.pydantic.dev/2.12/v/string_type"}]`)
	for _, body := range []string{`[]`, `null`, `{"instances": 1}`, `{"instances": null}`} {
		if rec := w.do(byToken("POST", "/control/allocations", body)); rec.Code != 400 || rec.Body.Bytes()[0] != '[' {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
}

func TestSchedulersProveWhoTheyAre(t *testing.T) {
	raw, err := os.ReadFile("testdata/allocation.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Authorization string `json:"authorization"`
		Malleated     string `json:"malleated_signature_same_payload"`
		Body          string `json:"body"`
		Clock         int64  `json:"clock_unix"`
		Path          string `json:"path"`
		Signer        string `json:"signer"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	const denied = `{"error":"Authentication token received is invalid"}`
	signed := func(header, body string) *http.Request {
		r := request("POST", v.Path, body)
		r.Header.Set("Authorization", header)
		return r
	}
	known := func(me *crn.Self, _ *crn.Parts) { me.AllocationSigners = []string{v.Signer} }
	w := newWorld(t, withToken, known)
	w.srv.SetClock(time.Unix(v.Clock, 0))
	w.want(signed(v.Authorization, v.Body+" "), 401, denied)
	r := signed(v.Authorization, v.Body)
	r.ContentLength = -1
	w.want(r, 401, denied)
	r = signed(v.Authorization, v.Body)
	r.URL.RawQuery = "a=1"
	w.want(r, 401, denied)
	if rec := w.do(signed(v.Authorization, v.Body)); rec.Code != 200 || len(w.wanted.Instances) != 1 {
		t.Errorf("%d %s, %v", rec.Code, rec.Body, w.wanted)
	}
	w.want(signed(v.Authorization, v.Body), 401, denied)
	w.want(signed(v.Malleated, v.Body), 401, denied)
	// Who signs has no token.
	r = byToken("POST", v.Path, "{}")
	r.Header.Set("Authorization", "Bearer x")
	w.want(r, 401, denied)
	r = byToken("POST", v.Path, "{}")
	r.Header.Set("X-Auth-Signature", "")
	w.want(r, 401, denied)

	// Of the network's settings, and if there are none, the one that is built in.
	for _, named := range []struct {
		of     signers
		status int
	}{{signers{crypto.PubkeyToAddress(mustKey(t).PublicKey)}, 401}, {nil, 401}} {
		w := newWorld(t, func(_ *crn.Self, parts *crn.Parts) { parts.Schedulers = named.of })
		w.srv.SetClock(time.Unix(v.Clock, 0))
		if rec := w.do(signed(v.Authorization, v.Body)); rec.Code != named.status {
			t.Errorf("signers %v: %d", named.of, rec.Code)
		}
	}
	w = newWorld(t, func(_ *crn.Self, parts *crn.Parts) { parts.Schedulers = signers{addressOf(v.Signer)} })
	w.srv.SetClock(time.Unix(v.Clock, 0))
	if rec := w.do(signed(v.Authorization, v.Body)); rec.Code != 200 {
		t.Errorf("a scheduler of the network: %d %s", rec.Code, rec.Body)
	}
}

// instanceMessage is one that may ask for a node.
func instanceMessage(t *testing.T, node string) *crn.Message {
	t.Helper()
	requirements := ""
	if node != "" {
		requirements = `,"requirements":{"node":{"node_hash":"` + node + `"}}`
	}
	raw := instanceJSON(requirements)
	content, err := message.ParseInstance([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return &crn.Message{Hash: deca, Sender: content.Address, Content: content}
}

func instanceJSON(more string) string {
	return `{"address":"0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F","time":1700000000,"allow_amend":false,"environment":{"internet":true,"aleph_api":true,"hypervisor":"qemu","reproducible":false,"shared_cache":false},` +
		`"resources":{"vcpus":1,"memory":2048,"seconds":30},"payment":{"chain":"ETH","type":"credit"},"volumes":[],` +
		`"rootfs":{"parent":{"ref":"` + string(beef) + `","use_latest":true},"persistence":"host","size_mib":20480}` + more + `}`
}

func TestNotifyDecidesInOrder(t *testing.T) {
	answers, _ := golden(t, "notify_responses.json").(map[string]any)
	body := `{"instance":"` + string(deca) + `"}`
	const bad, pay, away = 400, 402, 503
	tests := []struct {
		name   string
		body   string
		change func(*world)
		status int
		answer string // "" takes the golden one of the name.
	}{
		{"200", body, nil, 200, ""},
		{"not JSON", "x", nil, bad, `{"error":"Body is not valid JSON"}`},
		{"no instance", "{}", nil, bad, `"[{\"type\":\"missing\",\"loc\":[\"instance\"],\"msg\":\"Field required\",\"input\":{},\"url\":\"https://errors.pydantic.dev/2.12/v/missing\"}]"`},
		{"network away", body, func(w *world) { w.fail["find"] = errs.New(errs.Unavailable, "x") }, away, `{"error":"503: Aleph Connector unavailable"}`},
		{"nobody knows it", body, func(w *world) { w.messages = nil }, 404, `{"error":"Hash not found: ` + string(deca) + `"}`},
		{"400_not_instance", body, func(w *world) { w.messages[deca].Content = &message.Store{} }, bad, ""},
		{"node not known", body, func(w *world) { w.messages[deca] = instanceMessage(t, string(self)); w.nodeHash = "" }, away, `{"error":"503: Node hash not yet discovered, cannot accept targeted allocations"}`},
		{"another node", body, func(w *world) { w.messages[deca] = instanceMessage(t, string(cafe)) }, bad, `{"error":"400: Instance is allocated to a different node"}`},
		{"this node", body, func(w *world) { w.messages[deca] = instanceMessage(t, string(self)) }, 200, `{"success":true,"successful":true,"failing":[],"errors":{}}`},
		{"503_admission", body, func(w *world) { w.fail["admit"] = errs.New(errs.Exhausted, "x") }, away, ""},
		{"402_empty_stream", body, func(w *world) { w.fail["check"] = &crn.Unpaid{Why: crn.NoStream} }, pay, ""},
		{"holder", body, func(w *world) { w.fail["check"] = &crn.Unpaid{Why: crn.WrongMethod} }, bad, `{"error":"400: Invalid payment method"}`},
		{"another receiver", body, func(w *world) { w.fail["check"] = &crn.Unpaid{Why: crn.WrongReceiver} }, bad, `{"error":"400: Message is not for this instance"}`},
		{"bad address", body, func(w *world) { w.fail["check"] = &crn.Unpaid{Why: crn.WrongAddress, Detail: "0x"} }, bad, `{"error":"Invalid address 0x"}`},
		{"bad chain", body, func(w *world) { w.fail["check"] = &crn.Unpaid{Why: crn.WrongChain, Detail: "ETH"} }, bad, `{"error":"Invalid Chain ETH"}`},
		{"few tokens", body, func(w *world) { w.fail["check"] = &crn.Unpaid{Why: crn.LowBalance, Required: "2", Available: "1"} }, pay, `{"error":"Insufficient balance for this instance\n\nRequired: 2 token \nCurrent user balance: 1"}`},
		{"few credits", body, func(w *world) { w.fail["check"] = &crn.Unpaid{Why: crn.LowCredits, Required: "2", Available: "1"} }, pay, `{"error":"Insufficient credits for this instance\n\nRequired: 2 credits \nCurrent user credits: 1"}`},
		{"thin stream", body, func(w *world) {
			w.fail["check"] = &crn.Unpaid{Why: crn.LowStream, Required: "0.000001", Available: "0"}
		}, pay, `{"error":"Insufficient payment stream for this instance\n\nRequired: 2.628000 / month (flow = 0.000001)\nPresent: 0.000000 / month (flow = 0)"}`},
		{"503_start", body, func(w *world) { w.fail["start"] = errs.New(errs.Invalid, "...") }, away, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.messages[deca] = instanceMessage(t, "")
			if tt.change != nil {
				tt.change(w)
			}
			rec := w.do(request("POST", "/control/allocation/notify", tt.body))
			if rec.Code != tt.status {
				t.Errorf("%d, want %d", rec.Code, tt.status)
			}
			if tt.answer == "" {
				same(t, rec.Body.Bytes(), answers[tt.name])
			} else if rec.Body.String() != tt.answer {
				t.Errorf("%s, want %s", rec.Body, tt.answer)
			}
			started := strings.Contains(w.asked(), "start ")
			if want := tt.status == 200 || tt.name == "503_start"; started != want {
				t.Errorf("started: %v, want %v", started, want)
			}
		})
	}
}

func TestReserve(t *testing.T) {
	const path = "/control/reserve_resources"
	w, owner := newWorld(t), newWallet(t)
	ask := func() *http.Request { return owner.sign(t, request("POST", path, instanceJSON(""))) }
	w.want(ask(), 200, `{"expires":"2030-01-01 00:02:00+00:00","status":"reserved"}`)
	if got := w.asked(); got != "reserve "+owner.address {
		t.Errorf("asked to %q", got)
	}
	w.want(request("POST", path, instanceJSON("")), 400, `{"error":"Missing X-SignedPubKey header"}`)
	w.fail["reserve"] = errs.New(errs.Exhausted, "x")
	w.want(ask(), 503, `{"error":"This CRN cannot reserve the requested resources at this time."}`)
	w.fail["reserve"] = errs.New(errs.Conflict, "Failed to find available GPU matching spec x")
	w.want(ask(), 400, `{"error":"Failed to reserves all resources","reason":"Failed to find available GPU matching spec x","status":"error"}`)
	if rec := w.do(owner.sign(t, request("POST", path, "{}"))); rec.Code != 400 || rec.Body.Bytes()[0] != '"' {
		t.Errorf("not an instance: %d %s", rec.Code, rec.Body)
	}
}

func TestUpdate(t *testing.T) {
	w := newWorld(t)
	w.want(request("POST", machine+"/update", ""), 200, `{}`)
	w.want(request("POST", "/control/"+string(deca)+"/update", ""), 200, `{}`)
	w.fail["update"] = errs.New(errs.Unavailable, "x")
	w.want(request("POST", machine+"/update", ""), 200, `{"msg":"VM not starting yet","status":"ok"}`)
	w.fail["update"] = errs.New(errs.NotFound, "x")
	w.want(request("POST", machine+"/update", ""), 404, `{"error":"404: VM not found"}`)
}

func TestMaintenance(t *testing.T) {
	w := newWorld(t, withToken)
	w.want(request("POST", "/control/network/recreate", ""), 401, `{"error":"Authentication token received is invalid"}`)
	w.want(byToken("POST", "/control/network/recreate", ""), 207, `{"failed_count":1,"failed_vms":[{"vm_hash":"`+string(cafe)+`","error":"no tap"}],"recreated_count":1,"recreated_vms":["`+string(deca)+
		`"],"removed_chains":["a"],"removed_chains_count":1,"success":false}`)
	w.fail["recreate"] = errors.New("/secret/place")
	w.want(byToken("POST", "/control/network/recreate", ""), 500, `{"error":"internal error","success":false}`)
	w.want(byToken("POST", "/control/proxy/regenerate", ""), 500, `{"error":"Failed to regenerate HAProxy configuration: there is no proxy","success":false}`)
}

func TestFailuresOfTheNodeAreNotTold(t *testing.T) {
	w, owner := newWorld(t), newWallet(t)
	w.here[deca] = instance(owner.address)
	w.fail["stop"] = errors.New("/secret/place")
	w.want(owner.sign(t, request("POST", machine+"/stop", "")), 500, `{"error":"internal error"}`)
}

func TestBodiesAreBounded(t *testing.T) {
	w := newWorld(t)
	w.want(request("POST", "/control/allocation/notify", strings.Repeat(" ", 2<<20)), 413, `{"error":"Maximum request body size 1048576 exceeded"}`)
}
