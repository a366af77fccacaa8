package guest_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
)

func vectors(t testing.TB) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/vsock_messages.json")
	if err != nil {
		t.Fatal(err)
	}
	v := map[string]string{}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func stream(raw []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(raw)) }

func vectorConfig(hash string) guest.Config {
	return guest.Config{
		Interface: guest.ASGI, VMHash: hash, Encoding: guest.Squashfs, Entrypoint: "main:app", Code: []byte{},
		IP: "172.16.4.2", Route: "172.16.4.1", DNSServers: []string{"1.1.1.1", "2606:4700:4700::1111"},
		Volumes: []guest.Volume{
			{Mount: guest.CodeMount, Device: "vdb", ReadOnly: true},
			{Mount: "/opt/packages", Device: "vdc", ReadOnly: true},
			{Mount: "/var/lib/example", Device: "vdd"},
		},
		Variables: map[string]string{"VM_CUSTOM_NUMBER": "32"}, IPv6: "fc00:1:2:3:1:deca:deca:dec1/124", IPv6Gateway: "fc00:1:2:3:1:deca:deca:dec0",
	}
}

// The words of the published guests and hosts, byte for byte, both ways.
func TestVectors(t *testing.T) {
	v := vectors(t)
	config := vectorConfig(v["vm_hash"])
	wire := append([]byte(strings.TrimPrefix(v["config_v2_wire_prefix"], "CONNECT 52\n")), unhex(t, v["config_v2_msgpack_hex"])...)
	tests := []struct {
		name   string
		bytes  []byte
		value  any
		encode func() ([]byte, error)
		read   func(*bufio.Reader) (any, error)
	}{
		{
			"ready", unhex(t, v["guest_ready_hex"]),
			guest.Ready{Version: guest.Version2},
			guest.Ready{Version: guest.Version2}.Encode,
			func(r *bufio.Reader) (any, error) { return guest.ReadReady(r) },
		},
		{
			"config", wire, config,
			func() ([]byte, error) { return config.Encode(guest.Version2) },
			func(r *bufio.Reader) (any, error) { return guest.ReadConfig(r) },
		},
		{
			"result", unhex(t, v["config_ok_response_hex"]),
			guest.Result{Success: true},
			guest.Result{Success: true}.Encode,
			func(r *bufio.Reader) (any, error) { return guest.ReadResult(r) },
		},
		{
			"run", unhex(t, v["run_http_msgpack_hex"]), vectorRun(), vectorRun().Encode,
			func(r *bufio.Reader) (any, error) { return guest.ReadRun(r) },
		},
		{
			"reply", unhex(t, v["run_http_response_msgpack_hex"]), vectorReply(), vectorReply().Encode,
			func(r *bufio.Reader) (any, error) { return guest.ReadReply(r) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.encode()
			if err != nil || !bytes.Equal(got, tt.bytes) {
				t.Errorf("encoded %x, %v\nwant    %x", got, err, tt.bytes)
			}
			// However the bytes arrive, the value is read whole, and nothing more.
			r := bufio.NewReaderSize(iotest.OneByteReader(io.MultiReader(bytes.NewReader(tt.bytes), strings.NewReader("next"))), 16)
			value, err := tt.read(r)
			if err != nil || !reflect.DeepEqual(value, tt.value) {
				t.Errorf("read %+v, %v\nwant %+v", value, err, tt.value)
			}
			if rest, _ := io.ReadAll(r); string(rest) != "next" {
				t.Errorf("%q is left behind the value, want what was sent behind it", rest)
			}
			for cut := range tt.bytes {
				if _, err := tt.read(stream(tt.bytes[:cut])); err == nil && (tt.name != "ready" || cut > 0) {
					t.Fatalf("%d of %d bytes were taken for a value", cut, len(tt.bytes))
				}
			}
		})
	}
	if got := guest.Hostname(v["vm_hash"]); got != v["hostname_for_vm_hash"] {
		t.Errorf("Hostname = %s, want %s", got, v["hostname_for_vm_hash"])
	}
	if got := guest.Hostname("QmX"); got != "qmx" {
		t.Errorf("Hostname of a CID = %s, want it in lower case", got)
	}
}

func vectorRun() guest.Run {
	return guest.Run{Scope: guest.Scope{
		Type: guest.TypeHTTP, Path: "/hello", Method: "GET", QueryString: "a=1", Body: []byte{},
		Headers: []guest.Header{{Name: []byte("host"), Value: []byte("crn.example.org")}, {Name: []byte("accept"), Value: []byte("*/*")}},
	}}
}

func vectorReply() guest.Reply {
	return guest.Reply{
		Status: 200, Headers: []guest.Header{{Name: []byte("content-type"), Value: []byte("application/json")}},
		Body: []byte(`{"Example":"example_fastapi"}`), OutputData: []byte{},
	}
}

// A guest of the first version is told neither IPv6 nor keys; a guest without a
// network is told nil.
func TestConfigOfVersion1(t *testing.T) {
	c := guest.Config{Interface: guest.Executable, Encoding: guest.Zip, Entrypoint: "run", Code: []byte("zip"), IPv6: "::1/64", AuthorizedKeys: []string{"k"}}
	raw, err := c.Encode(guest.Version1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := guest.ReadConfig(stream(raw))
	c.IPv6, c.AuthorizedKeys = "", nil
	if err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("read %+v, %v; want %+v", got, err, c)
	}
	if !bytes.Contains(raw, []byte("\xa2ip\xc0\xa5route\xc0")) {
		t.Errorf("config of a guest without a network is %x, want nil for its address", raw)
	}
	if bytes.Contains(raw, []byte("ipv6")) || bytes.Contains(raw, []byte("authorized_keys")) {
		t.Errorf("config of version 1 has keys of version 2: %x", raw)
	}
}

func TestExtensions(t *testing.T) {
	ready := guest.Ready{Version: guest.Version2, Features: []string{guest.FeatureStream}, Configured: true}
	raw, err := ready.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := guest.ReadReady(stream(raw)); err != nil || !reflect.DeepEqual(got, ready) || !got.Has(guest.FeatureStream) || got.Has(guest.FeatureReseed) {
		t.Errorf("ready = %+v, %v", got, err)
	}
	if got, err := guest.ReadReady(stream(nil)); err != nil || got.Version != guest.Version1 {
		t.Errorf("an empty ready = %+v, %v; want version 1", got, err)
	}

	reseed := guest.Reseed{
		Seed: bytes.Repeat([]byte{7}, guest.SeedBytes), Time: 1_893_456_000_000_000_001, Hostname: "h", MAC: "52:54:00:00:00:01",
		IP: "10.0.0.2", Route: "10.0.0.1", DNSServers: []string{"1.1.1.1"}, IPv6: "fc00::2/64", IPv6Gateway: "fc00::1",
	}
	raw, err = reseed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := guest.ReadReseed(stream(raw)); err != nil || !reflect.DeepEqual(got, reseed) {
		t.Errorf("reseed = %+v, %v; want %+v", got, err, reseed)
	}
	reseed.Rehearsal = true
	raw, err = reseed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := guest.ReadReseed(stream(raw)); err != nil || !reflect.DeepEqual(got, reseed) {
		t.Errorf("reseed of a rehearsal = %+v, %v; want %+v", got, err, reseed)
	}
	if _, err := (guest.Reseed{Seed: []byte("short")}).Encode(); err == nil {
		t.Error("a short seed was encoded")
	}

	run := guest.Run{Stream: true, Scope: guest.Scope{Type: guest.TypeHTTP, Path: "/", Method: "POST", Body: []byte{}}}
	raw, err = run.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := guest.ReadRun(stream(raw)); err != nil || !reflect.DeepEqual(got, run) {
		t.Errorf("run = %+v, %v; want %+v", got, err, run)
	}
}

func TestEventAndFailure(t *testing.T) {
	event := guest.Run{Scope: guest.Scope{Type: guest.TypeEvent, Body: []byte(`{"type":"POST"}`)}}
	raw, err := event.Encode()
	if want := "81a573636f706582a474797065ad616c6570682e6d657373616765a4626f6479af7b2274797065223a22504f5354227d"; err != nil || hex.EncodeToString(raw) != want {
		t.Errorf("event is %x, %v; want %s", raw, err, want)
	}
	if got, err := guest.ReadRun(stream(raw)); err != nil || !reflect.DeepEqual(got, event) {
		t.Errorf("event = %+v, %v", got, err)
	}
	failure := guest.Reply{Failed: true, Traceback: "Traceback", Output: "said"}
	if raw, err = failure.Encode(); err != nil {
		t.Fatal(err)
	}
	if got, err := guest.ReadReply(stream(raw)); err != nil || !reflect.DeepEqual(got, failure) {
		t.Errorf("failure without a text = %+v, %v; want %+v", got, err, failure)
	}
}

// What published guests send in other shapes is taken too.
func TestReplyIsReadLeniently(t *testing.T) {
	tests := []struct {
		name string
		hex  string
		want guest.Reply
	}{
		{"an event", "84a76865616465727380a4626f647981a474797065a178a66f7574707574c0ab6f75747075745f64617461c0", guest.Reply{}},
		{"text for bytes", "82a76865616465727382a6737461747573ccc8a7686561646572739192a161a162a4626f647981a4626f6479a163", guest.Reply{
			Status: 200, Headers: []guest.Header{{Name: []byte("a"), Value: []byte("b")}}, Body: []byte("c"),
		}},
		{"a body of another kind", "81a4626f647981a4626f647993010203", guest.Reply{}},
		{"unknown keys", "82a4787878789281a1610102a66f7574707574a16f", guest.Reply{Output: "o"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := guest.ReadReply(stream(unhex(t, tt.hex)))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("read %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	nested := "81a178" + strings.Repeat("91", 100_000) + "c0"
	read := map[string]func(*bufio.Reader) error{
		"ready":  func(r *bufio.Reader) error { _, err := guest.ReadReady(r); return err },
		"config": func(r *bufio.Reader) error { _, err := guest.ReadConfig(r); return err },
		"run":    func(r *bufio.Reader) error { _, err := guest.ReadRun(r); return err },
		"reply":  func(r *bufio.Reader) error { _, err := guest.ReadReply(r); return err },
		"result": func(r *bufio.Reader) error { _, err := guest.ReadResult(r); return err },
		"reseed": func(r *bufio.Reader) error { _, err := guest.ReadReseed(r); return err },
	}
	tests := []struct{ name, what, bytes, want string }{
		{"depth", "reply", nested, "deeper"},
		{"not a map", "reply", "93", "map"},
		{"keys", "reply", "dfffffffff", "keys"},
		{"status", "reply", "81a76865616465727381a673746174757307", "status is 7"},
		{"header", "reply", "81a76865616465727381a7686561646572739191a161", "parts"},
		{"list", "ready", "81a86665617475726573ddffffffff", "list of"},
		{"length", "ready", "81a776657273696f6edbffffffff", "limit"},
		{"length of config", "config", hex.EncodeToString([]byte("999999999\n")), "at most"},
		{"digits of config", "config", hex.EncodeToString([]byte("1234567890\n")), "digits"},
		{"sign", "config", hex.EncodeToString([]byte("-1\n")), "digits"},
		{"no digits", "config", "0a", "length"},
		{"type of scope", "run", "81a573636f706581a474797065a3667470", "scope is of type"},
		{"streamed event", "run", "82a573636f706581a474797065ad616c6570682e6d657373616765a673747265616dc3", "cannot be streamed"},
		{"seed", "reseed", "81a473656564c40101", "64"},
		{"end", "result", "", "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// A reader that never ends: a limit must end it.
			r := bufio.NewReader(io.MultiReader(bytes.NewReader(unhex(t, tt.bytes)), endless(tt.name == "length")))
			if err := read[tt.what](r); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("read: %v, want an error about %q", err, tt.want)
			}
		})
	}
	big := make([]byte, guest.MaxInline+1)
	if _, err := (guest.Config{Code: big}).Encode(guest.Version2); err == nil {
		t.Error("a config with too much code was encoded")
	}
	if _, err := (guest.Run{Scope: guest.Scope{Type: guest.TypeHTTP, Body: big}}).Encode(); err == nil {
		t.Error("a run with too large a body was encoded")
	}
}

// endless gives zeros for ever, or nothing.
func endless(yes bool) io.Reader {
	if !yes {
		return strings.NewReader("")
	}
	return zeros{}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestLongTracebacksAreCut(t *testing.T) {
	long := strings.Repeat("é", guest.MaxResult)
	raw, err := guest.Result{Error: long, Traceback: long}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if res, err := guest.ReadResult(stream(raw)); err != nil || res.Success || !strings.HasPrefix(long, res.Error) || !strings.HasSuffix(long, res.Traceback) {
		t.Errorf("result cannot be read: %v", err)
	}
}

func TestBodies(t *testing.T) {
	var wire bytes.Buffer
	w := guest.NewBodyWriter(&wire)
	want := bytes.Repeat([]byte("0123456789abcdef"), guest.MaxFrame/8)
	for _, part := range [][]byte{want[:1], {}, want[1:]} {
		if n, err := w.Write(part); err != nil || n != len(part) {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Clone(wire.Bytes())
	wire.WriteString("next")
	r := bufio.NewReader(iotest.HalfReader(&wire))
	got, err := io.ReadAll(guest.NewBodyReader(r))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want the %d that were written", len(got), err, len(want))
	}
	if rest, _ := io.ReadAll(r); string(rest) != "next" {
		t.Errorf("%q is left behind the body", rest)
	}
	for _, cut := range []int{0, 2, 4, 5, len(whole) - 1} {
		if _, err := io.ReadAll(guest.NewBodyReader(stream(whole[:cut]))); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("body cut at %d: %v, want ErrUnexpectedEOF", cut, err)
		}
	}
	if _, err := io.ReadAll(guest.NewBodyReader(stream([]byte{0, 1, 0, 1}))); err == nil {
		t.Error("a frame above the limit was taken")
	}
}

func FuzzRead(f *testing.F) {
	v := vectors(f)
	for _, name := range []string{"guest_ready_hex", "config_ok_response_hex", "run_http_msgpack_hex", "run_http_response_msgpack_hex"} {
		f.Add(unhex(f, v[name]))
	}
	config, err := vectorConfig(v["vm_hash"]).Encode(guest.Version2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(config)
	f.Fuzz(func(t *testing.T, raw []byte) {
		// What was read is written and read again the same.
		if c, err := guest.ReadConfig(stream(raw)); err == nil {
			again(t, c, func() ([]byte, error) { return c.Encode(guest.Version2) }, guest.ReadConfig)
		}
		if v, err := guest.ReadReady(stream(raw)); err == nil {
			again(t, v, v.Encode, guest.ReadReady)
		}
		if v, err := guest.ReadRun(stream(raw)); err == nil {
			again(t, v, v.Encode, guest.ReadRun)
		}
		if v, err := guest.ReadReply(stream(raw)); err == nil {
			again(t, v, v.Encode, guest.ReadReply)
		}
		_, _ = guest.ReadResult(stream(raw))
		_, _ = guest.ReadReseed(stream(raw))
		_, _ = io.Copy(io.Discard, guest.NewBodyReader(stream(raw)))
	})
}

func again[T any](t *testing.T, first T, encode func() ([]byte, error), read func(*bufio.Reader) (T, error)) {
	t.Helper()
	raw, err := encode()
	if err != nil {
		return // What is read may be more than may be sent.
	}
	second, err := read(stream(raw))
	if err != nil {
		t.Fatalf("%x was written of %+v and cannot be read: %v", raw, first, err)
	}
	raw2, err := encode()
	if err != nil || !bytes.Equal(raw, raw2) {
		t.Fatalf("%+v became %+v", first, second)
	}
}
