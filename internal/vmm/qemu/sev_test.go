package qemu_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/vmmtest"
)

// sevCase is an exchange between an owner and a platform, all of it known.
type sevCase struct {
	APIMajor, APIMinor, BuildID      byte
	Policy                           uint32
	PDHKey, Firmware, Nonce          []byte
	PDH, GODH, Session               []byte
	TEK, TIK                         []byte
	Measure                          []byte // With the nonce.
	Secret                           string
	SecretIV, PacketHeader, Ciphered []byte
}

func readSEVCase() (*sevCase, error) {
	raw, err := os.ReadFile(os.Getenv(caseVar))
	if err != nil {
		return nil, err
	}
	var f map[string]any
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	var failed error
	decode := func(name string, fn func(string) ([]byte, error)) []byte {
		out, err := fn(fmt.Sprint(f[name]))
		failed = errors.Join(failed, err)
		return out
	}
	ofHex := func(name string) []byte { return decode(name, hex.DecodeString) }
	of64 := func(name string) []byte { return decode(name, base64.StdEncoding.DecodeString) }
	number := func(name string) byte { n, _ := f[name].(float64); return byte(n) }
	return &sevCase{
		APIMajor: number("api_major"), APIMinor: number("api_minor"), BuildID: number("build_id"), Policy: uint32(number("policy")),
		PDHKey: ofHex("platform_pdh_private_key_hex_P384"), Firmware: ofHex("firmware_sha256_hex"), Nonce: ofHex("mnonce_hex"),
		PDH: of64("platform_pdh_cert_b64"), GODH: of64("vm_godh_b64"), Session: of64("vm_session_b64"), TEK: ofHex("tek_hex"), TIK: ofHex("tik_hex"),
		Measure: of64("launch_measure_b64"), Secret: fmt.Sprint(f["secret"]), SecretIV: ofHex("secret_iv_hex"),
		PacketHeader: of64("packet_header_b64"), Ciphered: of64("secret_b64"),
	}, failed
}

// caseVar names the file of the exchange.
const caseVar = "ALEPH_QEMU_TEST_SEV"

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func le32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// measure is what a platform measures of a firmware, and what an owner expects
// (SEV API specification, LAUNCH_MEASURE).
func (c *sevCase) measure(tik []byte, policy uint32, firmware [32]byte) []byte {
	return mac(tik, []byte{4, c.APIMajor, c.APIMinor, c.BuildID}, le32(policy), firmware[:], c.Nonce)
}

func stream(key, iv, data []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // The keys have 16 bytes.
	}
	out := make([]byte, len(data))
	cipher.NewCTR(block, iv).XORKeyStream(out, data)
	return out
}

// packet is a secret for a guest that was measured so, as the published clients make it.
func (c *sevCase) packet(secret string, measure []byte) (header, ciphered []byte) {
	guid := func(text string) []byte {
		raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
		if err != nil {
			panic(err)
		}
		slices.Reverse(raw[:4])
		slices.Reverse(raw[4:6])
		slices.Reverse(raw[6:8])
		return raw
	}
	entry := append(guid("736869e5-84f0-4973-92ec-06879ce3da0b"), le32(uint32(20+len(secret)+1))...)
	entry = append(append(entry, secret...), 0)
	size := (20 + len(entry) + 15) / 16 * 16
	table := append(guid("1e74f542-71dd-4d66-963e-ef4287ff173b"), le32(uint32(size))...)
	table = append(table, entry...)
	table = append(table, make([]byte, size-len(table))...)
	ciphered = stream(c.TEK, c.SecretIV, table)
	header = append(le32(0), c.SecretIV...)
	n := le32(uint32(len(table)))
	return append(header, mac(c.TIK, []byte{1}, le32(0), c.SecretIV, n, n, ciphered, measure)...), ciphered
}

// begin is LAUNCH_START: the keys of the guest come out of what its owner sent, if it
// was made for this platform and this policy.
func (c *sevCase) begin(session, godh []byte, policy uint32) (tek, tik []byte, err error) {
	own, err := ecdh.P384().NewPrivateKey(c.PDHKey)
	if err != nil {
		return nil, nil, err
	}
	if len(session) != 128 || len(godh) != 2084 {
		return nil, nil, fmt.Errorf("session of %d bytes, certificate of %d", len(session), len(godh))
	}
	point := []byte{4}
	for _, at := range []int{20, 92} { // Of the public key: x and y, lowest byte first.
		n := slices.Clone(godh[at : at+48])
		slices.Reverse(n)
		point = append(point, n...)
	}
	theirs, err := ecdh.P384().NewPublicKey(point)
	if err != nil {
		return nil, nil, err
	}
	shared, err := own.ECDH(theirs)
	if err != nil {
		return nil, nil, err
	}
	derive := func(key []byte, bytes uint32, label string, context []byte) []byte {
		return mac(key, le32(1), []byte(label), []byte{0}, context, le32(8*bytes))[:bytes]
	}
	master := derive(shared, 16, "sev-master-secret", session[:16])
	kek, kik := derive(master, 16, "sev-kek", nil), derive(master, 16, "sev-kik", nil)
	if !hmac.Equal(mac(kik, session[16:48]), session[64:96]) {
		return nil, nil, errors.New("the keys are not wrapped for this platform")
	}
	keys := stream(kek, session[48:64], session[16:48])
	if !hmac.Equal(mac(keys[16:], le32(policy)), session[96:]) {
		return nil, nil, errors.New("the session is for another policy")
	}
	return keys[:16], keys[16:], nil
}

// TestTheExchangeIsThatOfTheSpecification: what the tests below believe is what the
// published vectors say.
func TestTheExchangeIsThatOfTheSpecification(t *testing.T) {
	t.Setenv(caseVar, "testdata/sev_session.json")
	c, err := readSEVCase()
	if err != nil {
		t.Fatal(err)
	}
	tek, tik, err := c.begin(c.Session, c.GODH, c.Policy)
	if err != nil || !bytes.Equal(tek, c.TEK) || !bytes.Equal(tik, c.TIK) {
		t.Errorf("keys %x, %x, %v, want %x, %x", tek, tik, err, c.TEK, c.TIK)
	}
	if _, _, err := c.begin(c.Session, c.GODH, c.Policy|4); err == nil {
		t.Error("a session is good for another policy")
	}
	if got := c.measure(c.TIK, c.Policy, [32]byte(c.Firmware)); !bytes.Equal(got, c.Measure[:32]) {
		t.Errorf("measured %x, want %x", got, c.Measure[:32])
	}
	header, ciphered := c.packet(c.Secret, c.Measure[:32])
	if !bytes.Equal(header, c.PacketHeader) || !bytes.Equal(ciphered, c.Ciphered) {
		t.Errorf("packet %x\n%x, want %x\n%x", header, ciphered, c.PacketHeader, c.Ciphered)
	}
	// Of the published clients' own tests.
	python := &sevCase{APIMajor: 1, APIMinor: 55, BuildID: 24, Nonce: unbase(t, "URQNqJAqh/2ep4drjx/XvA==")}
	firmware := unhex(t, "d06471f485c0a61aba5a431ec136b947be56907acf6ed96afb11788ae4525aeb")
	want := unbase(t, "ls2jv10V3HVShVI/RHCo/a43WO0soLZf0huU9ZZstIw=")
	if got := python.measure(unhex(t, "9e939311ce26b5119f5df07e1ba10177"), 1, [32]byte(firmware)); !bytes.Equal(got, want) {
		t.Errorf("measured %x, want %x", got, want)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func unbase(t *testing.T, s string) []byte {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// playedMachine is a QEMU whose guest is confidential: its platform is software.
type playedMachine struct {
	*sevCase
	name      string
	state     string // In QEMU's words.
	policy    uint32
	tek, tik  []byte
	measured  []byte
	secretGot string
}

// playQEMU is the process that is started for QEMU.
func playQEMU(args []string) error {
	c, err := readSEVCase()
	if err != nil {
		return err
	}
	has := func(flag string) string {
		if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	if slices.Contains(args, "--version") {
		fmt.Println("QEMU emulator version 7.2.22 (played)")
		return nil
	}
	m := &playedMachine{sevCase: c, name: has("-name"), state: "uninit"}
	if has("-qmp") == "stdio" {
		return m.serve(struct {
			io.Reader
			io.Writer
		}{os.Stdin, os.Stdout})
	}
	if err := m.launch(has("-object"), strings.Join(args, " ")); err != nil {
		return err
	}
	l, err := net.Listen("unix", "qmp.sock")
	if err != nil {
		return err
	}
	for { // One after the other, as QEMU does.
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if err := m.serve(conn); errors.Is(err, errQuit) {
			return nil
		}
		conn.Close()
	}
}

// launch begins the guest, and measures its firmware.
func (m *playedMachine) launch(object, all string) error {
	of := map[string]string{}
	for part := range strings.SplitSeq(object, ",") {
		key, value, _ := strings.Cut(part, "=")
		of[key] = value
	}
	_, rest, ok := strings.Cut(all, "node-name=firmware,read-only=on,file.driver=file,file.filename=")
	firmware, _, _ := strings.Cut(rest, " ")
	if !ok || !strings.HasPrefix(object, "sev-guest,") || !strings.Contains(all, "confidential-guest-support=sev0,pflash0=firmware") || !strings.Contains(all, " -S") {
		return errors.New("it is no confidential guest that waits")
	}
	policy, err := strconv.ParseUint(of["policy"], 0, 32)
	if err != nil {
		return err
	}
	var owner [2][]byte
	for i, name := range []string{"session-file", "dh-cert-file"} {
		text, err := os.ReadFile(of[name])
		if err != nil {
			return fmt.Errorf("%s: sev_read_file_base64: %w", name, err)
		}
		if owner[i], err = base64.StdEncoding.DecodeString(strings.TrimSpace(string(text))); err != nil {
			return fmt.Errorf("%s: sev_read_file_base64: %w", name, err)
		}
	}
	m.policy = uint32(policy)
	if m.tek, m.tik, err = m.begin(owner[0], owner[1], m.policy); err != nil {
		return fmt.Errorf("sev_launch_start: LAUNCH_START ret=1 fw_error=11 'Bad measurement': %w", err)
	}
	bytes, err := os.ReadFile(firmware)
	if err != nil {
		return err
	}
	m.measured, m.state = m.measure(m.tik, m.policy, sha256.Sum256(bytes)), "launch-secret"
	return nil
}

var errQuit = errors.New("told to quit")

// serve answers one client.
func (m *playedMachine) serve(rw io.ReadWriter) error {
	fmt.Fprintln(rw, `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "played"}, "capabilities": ["oob"]}}`)
	lines := bufio.NewScanner(rw)
	for lines.Scan() {
		var q struct {
			Execute   string            `json:"execute"`
			Arguments map[string]string `json:"arguments"`
			ID        string            `json:"id"`
		}
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			return err
		}
		out, err := m.answer(q.Execute, q.Arguments)
		reply := map[string]any{"id": q.ID, "return": out}
		if err != nil && !errors.Is(err, errQuit) {
			reply = map[string]any{"id": q.ID, "error": map[string]string{"class": "GenericError", "desc": err.Error()}}
		}
		raw, merr := json.Marshal(reply)
		if merr != nil {
			return merr
		}
		fmt.Fprintf(rw, "%s\n", raw)
		if errors.Is(err, errQuit) {
			return err
		}
	}
	return lines.Err()
}

// answer keeps the states of a guest of SEV.
func (m *playedMachine) answer(command string, args map[string]string) (any, error) {
	none := map[string]any{}
	switch command {
	case "qmp_capabilities":
		return none, nil
	case "query-name":
		return map[string]string{"name": m.name}, nil
	case "query-sev-capabilities":
		return map[string]any{"pdh": m.PDH, "cert-chain": bytes.Repeat(m.PDH, 3), "cpu0-id": []byte("cpu"), "cbitpos": 51, "reduced-phys-bits": 1}, nil
	case "query-sev":
		return map[string]any{
			"enabled": m.state != "uninit", "api-major": m.APIMajor, "api-minor": m.APIMinor, "build-id": m.BuildID, "policy": m.policy, "state": m.state, "handle": 1,
		}, nil
	case "query-sev-launch-measure":
		if m.measured == nil {
			return nil, errors.New("SEV launch measurement is not available")
		}
		return map[string][]byte{"data": append(slices.Clone(m.measured), m.Nonce...)}, nil
	case "sev-inject-launch-secret":
		return none, m.inject(args["packet-header"], args["secret"])
	case "cont":
		if m.state == "launch-secret" {
			m.state = "running"
		}
		return none, nil
	case "query-status":
		running := m.state == "running"
		return map[string]any{"status": map[bool]string{true: "running", false: "prelaunch"}[running], "singlestep": false, "running": running}, nil
	case "quit", "system_powerdown":
		return none, errQuit
	}
	return nil, fmt.Errorf("The command %s has not been found", command)
}

func (m *playedMachine) inject(header, secret string) error {
	if m.state != "launch-secret" {
		return errors.New("SEV: Not in correct state. (LSECRET) 3")
	}
	h, err1 := base64.StdEncoding.DecodeString(header)
	s, err2 := base64.StdEncoding.DecodeString(secret)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	n := le32(uint32(len(s)))
	if len(h) != 52 || !hmac.Equal(h[20:], mac(m.tik, []byte{1}, h[:20], n, n, s, m.measured)) {
		return errors.New("SEV: failed to inject secret ret=-5 fw_error=11 'Bad measurement'")
	}
	m.secretGot = string(stream(m.tek, h[4:20], s))
	return os.WriteFile("secret", []byte(m.secretGot), 0o600) // For the test to see.
}

// sevHost returns a driver of a host with SEV, whose QEMU is played.
func sevHost(t *testing.T) *qemu.Driver {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"dev/sev": "", "sys/module/kvm_amd/parameters/sev": "Y\n", "sys/module/kvm_amd/parameters/sev_es": "N\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	vectors, err := filepath.Abs("testdata/sev_session.json")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n%s=%s %s=%s exec %s \"$@\"\n", roleVar, played, caseVar, vectors, self)
	binary := filepath.Join(dir, "qemu")
	if err := os.WriteFile(binary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv(caseVar, vectors)
	d := qemu.New(qemu.Config{Binary: binary, CacheDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	d.SetHost(dir + "/")
	t.Cleanup(func() { d.Close() })
	return d
}

// guarded returns the spec of a confidential machine, and what its owner knows.
func guarded(t *testing.T) (vmm.Spec, *sevCase, [32]byte) {
	t.Helper()
	c, err := readSEVCase()
	if err != nil {
		t.Fatal(err)
	}
	disk, firmware := filepath.Join(t.TempDir(), "disk.raw"), filepath.Join(t.TempDir(), "OVMF.fd")
	text := bytes.Repeat([]byte("firmware"), 512)
	if err := errors.Join(os.WriteFile(disk, make([]byte, 1<<20), 0o600), os.WriteFile(firmware, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	img, err := vmm.OpenImage(t.Context(), disk, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	spec := vmmtest.NewSpec(t, img)
	spec.Confidential = &vmm.Confidential{
		Policy: c.Policy, Firmware: firmware, Session: []byte(base64.StdEncoding.EncodeToString(c.Session)), GODH: []byte(base64.StdEncoding.EncodeToString(c.GODH)),
	}
	return spec, c, sha256.Sum256(text)
}

// TestAConfidentialMachineWaitsForItsOwner goes the way of an owner: the certificates of
// the platform, a session, the measurement, the secret.
func TestAConfidentialMachineWaitsForItsOwner(t *testing.T) {
	d := sevHost(t)
	spec, c, firmware := guarded(t)
	p, err := d.Platform(bounded(t))
	if err != nil || len(p.Certificates) != 8336 || !bytes.HasPrefix(p.Certificates, c.PDH) || p.CBit != 51 || p.PhysBits != 1 || p.ES {
		t.Fatalf("platform %+v, %v", p, err)
	}
	m, err := d.Start(bounded(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Kill(context.Background()) })
	g, ok := m.(vmm.Guarded)
	if _, copied := m.(vmm.Backuper); !ok || copied {
		t.Fatalf("machine %T: confidential %v, copied %v", m, ok, copied)
	}
	if err := m.Ready(bounded(t)); err != nil {
		t.Error(err)
	}

	got, err := g.Measurement(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	want := append(c.measure(c.TIK, c.Policy, firmware), c.Nonce...)
	if !got.Enabled || got.State != "launch-secret" || got.Policy != c.Policy || got.APIMinor != 55 || got.BuildID != 24 || !bytes.Equal(unbase(t, got.Launch), want) {
		t.Errorf("measurement %+v, want %x", got, want)
	}

	// Another driver, as after a restart, goes on.
	again := qemu.New(qemu.Config{CacheDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { again.Close() })
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	adopted, err := again.Adopt(bounded(t), spec.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if g, ok = adopted.(vmm.Guarded); !ok {
		t.Fatalf("adopted machine is a %T", adopted)
	}
	header, secret := c.packet("the key", want[:32])
	encode := base64.StdEncoding.EncodeToString
	for name, packet := range map[string][2]string{
		"another measurement": func() [2]string {
			h, s := c.packet("the key", make([]byte, 32))
			return [2]string{encode(h), encode(s)}
		}(),
		"no base64": {"?", encode(secret)},
		"nothing":   {encode(header), ""},
	} {
		if _, err := g.Inject(bounded(t), packet[0], packet[1]); errs.KindOf(err) != errs.Invalid {
			t.Errorf("secret for %s: %v, want it refused", name, err)
		}
	}
	status, err := g.Inject(bounded(t), encode(header), encode(secret))
	if err != nil || !strings.Contains(string(status), `"status":"running"`) {
		t.Fatalf("status %s, %v", status, err)
	}
	table, err := os.ReadFile(filepath.Join(spec.Dir, "secret"))
	if err != nil || !bytes.Contains(table, []byte("the key\x00")) {
		t.Errorf("the guest got %q, %v", table, err)
	}
	if _, err := g.Inject(bounded(t), encode(header), encode(secret)); errs.KindOf(err) != errs.Conflict {
		t.Errorf("a second secret: %v, want it refused", err)
	}
	if got, err := g.Measurement(bounded(t)); err != nil || got.State != "running" {
		t.Errorf("measurement of a machine that runs: %+v, %v", got, err)
	}
	if err := adopted.Stop(bounded(t), time.Second); err != nil {
		t.Error(err)
	}
}

func TestConfidentialMachinesThatCannotStart(t *testing.T) {
	d := sevHost(t)
	spec, c, _ := guarded(t)
	for name, tt := range map[string]struct {
		change func(*vmm.Confidential)
		kind   errs.Kind
		says   string
	}{
		"registers encrypted":   {func(c *vmm.Confidential) { c.Policy |= vmm.PolicyES }, errs.Invalid, "SEV-ES"},
		"a policy of its own":   {func(c *vmm.Confidential) { c.Policy |= 0x40 }, errs.Invalid, "policy"},
		"another policy":        {func(c *vmm.Confidential) { c.Policy |= 2 }, errs.Unavailable, "another policy"},
		"a session of nobody":   {func(c *vmm.Confidential) { c.Session = []byte(base64.StdEncoding.EncodeToString(make([]byte, 128))) }, errs.Unavailable, "LAUNCH_START"},
		"no base64":             {func(c *vmm.Confidential) { c.GODH = []byte("???") }, errs.Unavailable, "base64"},
		"no session":            {func(c *vmm.Confidential) { c.Session = nil }, errs.Invalid, "session"},
		"firmware with a comma": {func(c *vmm.Confidential) { c.Firmware = "/a,readonly=off" }, errs.Invalid, "firmware"},
	} {
		conf := *spec.Confidential
		tt.change(&conf)
		bad := spec
		bad.Confidential, bad.Dir = &conf, filepath.Join(t.TempDir(), "vm")
		_, err := d.Start(bounded(t), bad)
		if errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %s that says %q", name, err, tt.kind, tt.says)
		}
		if _, err := os.Stat(bad.Dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the directory stayed: %v", name, err)
		}
	}
	if len(c.Session) != 128 {
		t.Errorf("session of %d bytes", len(c.Session))
	}
}

// TestAHostWithoutSEVSaysWhy asks the real host, which is none of AMD's or has it
// turned off, and QEMU itself.
func TestAHostWithoutSEVSaysWhy(t *testing.T) {
	if _, err := os.Stat("/dev/sev"); err == nil {
		t.Skip("this host has SEV")
	}
	real := qemu.New(qemu.Config{CacheDir: t.TempDir()}, slog.New(slog.DiscardHandler))
	defer real.Close()
	if _, err := real.Platform(bounded(t)); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "no AMD SEV") {
		t.Errorf("platform of this host: %v", err)
	}
	host := t.TempDir() + "/"
	if err := os.MkdirAll(host+"dev", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(host+"sys/module/kvm_amd/parameters", 0o700); err != nil {
		t.Fatal(err)
	}
	real.SetHost(host)
	for _, step := range []struct{ file, text, says string }{
		{"dev/sev", "", "turned off"},
		{"sys/module/kvm_amd/parameters/sev", "N\n", "turned off"},
		{"sys/module/kvm_amd/parameters/sev", "1\n", "ask QEMU for SEV"},
	} {
		if err := os.WriteFile(host+step.file, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := real.Platform(bounded(t)); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), step.says) {
			t.Errorf("after %s: %v, want it to say %q", step.file, err, step.says)
		}
	}
}

// TestWhatIsAskedIsInTheSchemaOfTheRealQEMU: the commands, their arguments and answers,
// and the properties of the objects.
func TestWhatIsAskedIsInTheSchemaOfTheRealQEMU(t *testing.T) {
	s := readSchema(t)
	none := map[string]any{}
	for _, c := range []struct {
		name    string
		args    map[string]any
		answers []string
	}{
		{"query-sev-capabilities", none, []string{"pdh", "cert-chain", "cbitpos", "reduced-phys-bits"}},
		{"query-sev", none, []string{"enabled", "api-major", "api-minor", "build-id", "policy", "state", "handle"}},
		{"query-sev-launch-measure", none, []string{"data"}},
		{"sev-inject-launch-secret", map[string]any{"packet-header": "", "secret": ""}, nil},
		{"cont", none, nil},
		{"query-status", none, []string{"status", "running"}},
		{"query-name", none, []string{"name"}},
	} {
		s.check(t, c.name, c.args, c.answers)
	}
	if states := s.valuesOf("query-sev", "state"); !slices.Contains(states, "launch-secret") || !slices.Contains(states, "running") {
		t.Errorf("states are %v", states)
	}
	spec, _, _ := guardedOf(t)
	args, _ := qemu.Confidential(spec, &vmm.Platform{CBit: 51, PhysBits: 1})
	object := args[slices.Index(args, "-object")+1]
	kind, props, _ := strings.Cut(object, ",")
	for prop := range strings.SplitSeq(props, ",") {
		name, _, _ := strings.Cut(prop, "=")
		if name != "id" && !slices.Contains(s.properties[kind], name) {
			t.Errorf("%s has no property %s: %v", kind, name, s.properties[kind])
		}
	}
	machine := args[slices.Index(args, "-machine")+1]
	for prop := range strings.SplitSeq(machine, ",") {
		if name, _, ok := strings.Cut(prop, "="); ok && !slices.Contains(s.properties["pc-q35-7.2-machine"], name) && len(s.properties["pc-q35-7.2-machine"]) > 0 {
			t.Errorf("the machine has no property %s", name)
		}
	}
}

// guardedOf is guarded, with the case of the vectors.
func guardedOf(t *testing.T) (vmm.Spec, *sevCase, [32]byte) {
	t.Helper()
	t.Setenv(caseVar, "testdata/sev_session.json")
	return guarded(t)
}

// schema is what a QEMU says of its own protocol.
type schema struct {
	entities   map[string]schemaEntity
	properties map[string][]string // By type of object.
}

type schemaEntity struct {
	Name    string         `json:"name"`
	Meta    string         `json:"meta-type"`
	ArgType string         `json:"arg-type"`
	RetType string         `json:"ret-type"`
	Members []schemaMember `json:"members"`
	Values  []string       `json:"values"`
}

type schemaMember struct {
	Name    string          `json:"name"`
	Type    string          `json:"type"`
	Default json.RawMessage `json:"default"` // nil of one that is needed.
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	binary, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("QEMU is not installed")
	}
	ask := `{"execute":"qmp_capabilities"}
{"execute":"query-qmp-schema","id":"schema"}
{"execute":"qom-list-properties","arguments":{"typename":"sev-guest"},"id":"sev-guest"}
{"execute":"qom-list-properties","arguments":{"typename":"pc-q35-7.2-machine"},"id":"pc-q35-7.2-machine"}
{"execute":"quit"}
`
	cmd := exec.CommandContext(bounded(t), binary, "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-qmp", "stdio")
	cmd.Stdin = strings.NewReader(ask)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := &schema{entities: map[string]schemaEntity{}, properties: map[string][]string{}}
	for line := range bytes.SplitSeq(out, []byte("\n")) {
		var a struct {
			ID     string          `json:"id"`
			Return json.RawMessage `json:"return"`
		}
		if json.Unmarshal(line, &a) != nil || a.ID == "" || a.Return == nil {
			continue
		}
		var all []schemaEntity
		if err := json.Unmarshal(a.Return, &all); err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if a.ID == "schema" {
				s.entities[e.Name] = e
			} else {
				s.properties[a.ID] = append(s.properties[a.ID], e.Name)
			}
		}
	}
	if len(s.entities) == 0 || len(s.properties["sev-guest"]) == 0 {
		t.Fatalf("QEMU has %d entities and knows %v of sev-guest", len(s.entities), s.properties["sev-guest"])
	}
	return s
}

// valuesOf returns what a member of an answer may be.
func (s *schema) valuesOf(command, member string) []string {
	for _, m := range s.entities[s.entities[command].RetType].Members {
		if m.Name == member {
			return s.entities[m.Type].Values
		}
	}
	return nil
}

// check wants a command with the arguments, all that it needs, and at least the answers.
func (s *schema) check(t *testing.T, command string, args map[string]any, answers []string) {
	t.Helper()
	c, ok := s.entities[command]
	if !ok || c.Meta != "command" {
		t.Errorf("there is no command %s", command)
		return
	}
	left := len(args)
	for _, m := range s.entities[c.ArgType].Members {
		_, given := args[m.Name]
		if !given && m.Default == nil {
			t.Errorf("%s lacks its argument %s", command, m.Name)
		}
		if given {
			left--
		}
	}
	if left > 0 {
		t.Errorf("%s knows %d of its arguments %v not", command, left, args)
	}
	for _, want := range answers {
		if !slices.ContainsFunc(s.entities[c.RetType].Members, func(m schemaMember) bool { return m.Name == want }) {
			t.Errorf("%s does not answer %s", command, want)
		}
	}
}
