package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

func TestFramesReadBack(t *testing.T) {
	var buf bytes.Buffer
	for _, v := range []any{map[string]int{"a": 1}, "x", 5} {
		if err := wire.WriteFrame(&buf, v); err != nil {
			t.Fatal(err)
		}
	}

	for _, want := range []string{`{"a":1}`, `"x"`, `5`} {
		got, err := wire.ReadFrame(&buf)
		if err != nil || string(got) != want {
			t.Errorf("frame %s, %v; want %s", got, err, want)
		}
	}
	if _, err := wire.ReadFrame(&buf); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v, want io.EOF", err)
	}
}

func TestBadFramesAreRefused(t *testing.T) {
	tests := []struct {
		name string
		raw  string
		want error
	}{
		{"short header", "\x00\x00", io.ErrUnexpectedEOF},
		{"short body", "\x00\x00\x00\x05{}", io.ErrUnexpectedEOF},
		{"no body", "\x00\x00\x00\x05", io.ErrUnexpectedEOF},
		{"empty", "\x00\x00\x00\x00", wire.ErrFrame},
		{"too big", "\x00\x10\x00\x01", wire.ErrFrame},
		{"not JSON", "\x00\x00\x00\x01{", wire.ErrFrame},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := wire.ReadFrame(strings.NewReader(tt.raw)); !errors.Is(err, tt.want) {
				t.Errorf("ReadFrame: %v, want %v", err, tt.want)
			}
		})
	}
	if err := wire.WriteFrame(io.Discard, strings.Repeat("x", wire.MaxFrame)); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("WriteFrame of too much: %v, want %v", err, wire.ErrFrame)
	}
	if err := wire.WriteFrame(io.Discard, func() {}); err == nil {
		t.Error("WriteFrame of a function: nil, want an error")
	}
	if err := wire.WriteFrame(broken{}, 1); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("WriteFrame to a closed pipe: %v, want %v", err, io.ErrClosedPipe)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

const blobHash = "6e30de68c6cedfa6b45240c2b51e52495ac6fb1bd4b36457b3d5ca307594d595"

func TestBulkWords(t *testing.T) {
	r, err := wire.ParseBulkRequest([]byte(`{"kind":"blob","name":"` + blobHash + `","offset":7}`))
	if err != nil || r.Kind != wire.BulkBlob || r.Name != blobHash || r.Offset != 7 {
		t.Errorf("request %+v, %v; want %s from 7", r, err, blobHash)
	}
	for _, raw := range []string{
		`{`, `{"name":"x"}`, `{"kind":"x"}`, `{}`, `{"kind":"x","name":"y","offset":-1}`, `{"kind":"x","name":"y","offset":99999999999999}`,
		`{"kind":"` + strings.Repeat("x", wire.MaxBulkKind+1) + `","name":"y"}`, `{"kind":"x","name":"` + strings.Repeat("y", wire.MaxBulkName+1) + `"}`,
	} {
		if _, err := wire.ParseBulkRequest([]byte(raw)); err == nil {
			t.Errorf("request %.80s accepted, want an error", raw)
		}
	}
	if hash, err := wire.ParseBlobName(blobHash); err != nil || hash != blobHash {
		t.Errorf("blob %s, %v; want %s", hash, err, blobHash)
	}
	for _, name := range []string{"", "x", "../../etc/passwd", "QmYULJoNGPDmoRq4WNWTDTUvJGJv1hosox8H6vVd1kCsY8", strings.ToUpper(blobHash)} {
		if _, err := wire.ParseBlobName(name); err == nil {
			t.Errorf("blob name %q accepted, want an error", name)
		}
	}
	h, err := wire.ParseBulkHeader([]byte(`{"size":9}`))
	if err != nil || h.Size != 9 {
		t.Errorf("header %+v, %v; want size 9", h, err)
	}
	for _, raw := range []string{`[`, `{"size":-1}`, `{"size":99999999999999}`} {
		if _, err := wire.ParseBulkHeader([]byte(raw)); err == nil {
			t.Errorf("header %s accepted, want an error", raw)
		}
	}
}

func signedAd(t testing.TB) (*wire.CapacityAd, common.Address) {
	t.Helper()
	key, err := crypto.HexToECDSA("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
	if err != nil {
		t.Fatal(err)
	}
	a := &wire.CapacityAd{
		NodeID: 2, PeerID: "12D3KooW", Endpoint: "http://127.0.0.1:4025/?a=1&b=2", PublicIP: "127.0.0.1", VCPUsTotal: 8, VCPUsFree: 7,
		MemoryTotalMiB: 1024, MemoryFreeMiB: 512, DiskTotalMiB: 2048, DiskFreeMiB: 2048, PriceBps: wire.Bps, Accelerator: "tcg",
		Drivers: []string{"qemu"}, ScoreBps: wire.Bps, AtMS: 1700000000000,
	}
	if err := a.Sign(key); err != nil {
		t.Fatal(err)
	}
	return a, crypto.PubkeyToAddress(key.PublicKey)
}

// TestCapacityAdIsAsWritten pins the bytes that are signed.
func TestCapacityAdIsAsWritten(t *testing.T) {
	a, signer := signedAd(t)

	got, err := a.SigningBytes()
	if err != nil {
		t.Fatal(err)
	}

	const want = "aleph-capacity\n" + `{"node_id":2,"peer_id":"12D3KooW","endpoint":"http://127.0.0.1:4025/?a=1&b=2","public_ip":"127.0.0.1",` +
		`"vcpus_total":8,"vcpus_free":7,"memory_total_mib":1024,"memory_free_mib":512,"disk_total_mib":2048,"disk_free_mib":2048,` +
		`"price_bps":10000,"accelerator":"tcg","drivers":["qemu"],"features":0,"score_bps":10000,"draining":false,"at_ms":1700000000000}`
	if string(got) != want {
		t.Errorf("signing bytes\n%s\nwant\n%s", got, want)
	}
	if err := a.Verify(signer); err != nil {
		t.Errorf("Verify: %v, want valid", err)
	}
}

func TestCapacityAdReadsBackAndProvesItsSigner(t *testing.T) {
	a, signer := signedAd(t)
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}

	b, err := wire.ParseCapacityAd(raw)
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("ad (-want +got):\n%s", diff)
	}
	b.VCPUsFree = 1
	if err := b.Verify(signer); err == nil {
		t.Error("a changed ad verifies")
	}
	b.Signature = "0x"
	if err := b.Verify(signer); err == nil {
		t.Error("an ad without signature verifies")
	}
}

func TestCapacityAdBounds(t *testing.T) {
	tests := []struct {
		name   string
		change func(*wire.CapacityAd)
		want   string
	}{
		{"no node", func(a *wire.CapacityAd) { a.NodeID = 0 }, "node_id"},
		{"more free than there is", func(a *wire.CapacityAd) { a.VCPUsFree = 9 }, "vcpus: 9 of 8"},
		{"negative memory", func(a *wire.CapacityAd) { a.MemoryFreeMiB = -1 }, "memory"},
		{"endless disk", func(a *wire.CapacityAd) { a.DiskTotalMiB = 1 << 40 }, "disk"},
		{"price too high", func(a *wire.CapacityAd) { a.PriceBps = 100_001 }, "price_bps"},
		{"negative score", func(a *wire.CapacityAd) { a.ScoreBps = -1 }, "score_bps"},
		{"no time", func(a *wire.CapacityAd) { a.AtMS = 0 }, "at_ms"},
		{"no peer", func(a *wire.CapacityAd) { a.PeerID = "" }, "peer_id"},
		{"long accelerator", func(a *wire.CapacityAd) { a.Accelerator = strings.Repeat("x", 257) }, "accelerator"},
		{"endpoint of another scheme", func(a *wire.CapacityAd) { a.Endpoint = "file:///etc" }, "endpoint"},
		{"public address is a name", func(a *wire.CapacityAd) { a.PublicIP = "localhost" }, "public_ip"},
		{"no drivers", func(a *wire.CapacityAd) { a.Drivers = nil }, "0 drivers"},
		{"nameless driver", func(a *wire.CapacityAd) { a.Drivers = []string{""} }, "driver's name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _ := signedAd(t)
			tt.change(a)
			raw, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}

			if _, err := wire.ParseCapacityAd(raw); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseCapacityAd: %v, want %q", err, tt.want)
			}
		})
	}
	for _, raw := range [][]byte{[]byte("{"), make([]byte, wire.MaxGossip+1)} {
		if _, err := wire.ParseCapacityAd(raw); err == nil {
			t.Errorf("%d bytes accepted, want an error", len(raw))
		}
	}
}

func FuzzCapacityAd(f *testing.F) {
	a, signer := signedAd(f)
	raw, err := json.Marshal(a)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	signed, err := a.SigningBytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := wire.ParseCapacityAd(raw)
		if err != nil || b.Verify(signer) != nil {
			return
		}
		if got, err := b.SigningBytes(); err != nil || !bytes.Equal(got, signed) {
			t.Fatalf("an ad that nobody signed verifies: %s", raw)
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x5c{\"kind\":\"blob\",\"name\":\"" + blobHash + "\"}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		frame, err := wire.ReadFrame(bytes.NewReader(raw))
		if err != nil {
			return
		}
		if len(frame) > wire.MaxFrame || len(frame)+4 > len(raw) {
			t.Fatalf("frame of %d bytes out of %d", len(frame), len(raw))
		}
		if r, err := wire.ParseBulkRequest(frame); err == nil && r.Offset < 0 {
			t.Fatalf("offset %d", r.Offset)
		}
		if h, err := wire.ParseBulkHeader(frame); err == nil && h.Size < 0 {
			t.Fatalf("size %d", h.Size)
		}
	})
}
