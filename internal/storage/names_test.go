package storage_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The CIDs of a file of 262,145 times x, of the network's vectors: two leaves and what
// links to them, as Kubo lays it out by default and for version 1.
const (
	xV0 = message.ItemHash("QmTSZuGYUpVrhMmC4duxRJbPtKXTUZyx73oebV8oRMiDTs")
	xV1 = message.ItemHash("bafybeigjxpfr7pbb35st2scup3gosnljuw4j3wu5cm7yndynm4asxugtqm")
)

func xs() []byte { return bytes.Repeat([]byte("x"), 262_145) }

func TestFilesOfIPFSComeFromServersAndAreBlobs(t *testing.T) {
	data := xs()
	size, lie := int64(len(data)), bytes.Replace(data, []byte("x"), []byte("y"), 1)
	for name, servers := range map[string][]*web{
		"the first":                     {{name: "a", data: data, size: size}},
		"the second":                    {{name: "a"}, {name: "b", data: data, size: size}},
		"one that breaks off":           {{name: "a", data: data, size: size, end: 100_000}},
		"one that does not say its end": {{name: "a", data: data, size: -1}},
		"after one that lies":           {{name: "a", data: lie, size: size}, {name: "b", data: data, size: size}},
		"after one that cuts it short":  {{name: "a", data: data[:size-1], size: size - 1}, {name: "b", data: data, size: size}},
	} {
		for _, hash := range []message.ItemHash{xV0, xV1} {
			n := open(t, "alone", 1e9)
			if err := n.keep.FetchContent(filepath.Join(t.TempDir(), "cids")); err != nil {
				t.Fatal(err)
			}
			if got := n.keep.Blob(hash); got != hash {
				t.Errorf("%s: before it is here its blob is %s", name, got)
			}
			var all []storage.Server
			for _, s := range servers {
				s.asked = nil
				all = append(all, s)
			}
			n.keep.AskServers(all...)
			info, err := n.keep.Fetch(t.Context(), hash)
			if err != nil || info.Size != size || info.Hash != message.HashOf(data) || n.keep.Blob(hash) != info.Hash {
				t.Errorf("%s: %+v, %v; its blob is %s", name, info, err, n.keep.Blob(hash))
				continue
			}
			if err := n.blobs.Verify(t.Context(), info.Hash); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if s := servers[0]; s.end > 0 && (len(s.asked) != 2 || s.asked[1] != s.end) {
				t.Errorf("%s: asked at %v, want it to be resumed at %d", name, s.asked, s.end)
			}
			asked := len(servers[0].asked)
			if again, err := n.keep.Fetch(t.Context(), hash); err != nil || again != info || len(servers[0].asked) != asked {
				t.Errorf("%s: the second time %+v, %v, and the server was asked again: %v", name, again, err, len(servers[0].asked) != asked)
			}
		}
	}
}

func TestWhatIsNotTheFileOfACIDIsRefused(t *testing.T) {
	n := open(t, "alone", 1e9)
	if _, err := n.keep.Fetch(t.Context(), xV0); errs.KindOf(err) != errs.Invalid {
		t.Errorf("on a node that fetches no content: %v", err)
	}
	if err := n.keep.FetchContent(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.keep.Fetch(t.Context(), xV0); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "[corenode] servers") {
		t.Errorf("without servers: %v", err)
	}
	n.keep.AskServers(&web{name: "a", data: []byte("other"), size: 5})
	if _, err := n.keep.Fetch(t.Context(), xV0); errs.KindOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "256 KiB") {
		t.Errorf("another file: %v", err)
	}
	if all, err := n.blobs.List(); err != nil || len(all) > 0 || n.keep.Blob(xV0) != xV0 {
		t.Errorf("left of it are %v, %v", all, err)
	}
	for _, bad := range []message.ItemHash{"Qm", "../etc/passwd", "bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje"} {
		if _, err := n.keep.Fetch(t.Context(), bad); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v, want invalid", bad, err)
		}
	}
	full := open(t, "full", 200_000)
	if err := full.keep.FetchContent(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	full.keep.AskServers(&web{name: "a", data: xs(), size: 262_145})
	if _, err := full.keep.Fetch(t.Context(), xV0); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("what has no room: %v", err)
	}
}

// After a restart the file is known by its CID, unless its blob or what was noted of it
// is gone; then it is fetched again.
func TestCIDsAreKnownAfterARestart(t *testing.T) {
	n, dir := open(t, "first", 1e9), t.TempDir()
	if err := n.keep.FetchContent(dir); err != nil {
		t.Fatal(err)
	}
	server := &web{name: "a", data: xs(), size: 262_145}
	n.keep.AskServers(server)
	info, err := n.keep.Fetch(t.Context(), xV0)
	if err != nil {
		t.Fatal(err)
	}
	restart := func(name string) *storage.Keeper {
		t.Helper()
		keep, err := storage.New(n.blobs, p2ptest.Open(t, name), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := keep.FetchContent(dir); err != nil {
			t.Fatal(err)
		}
		keep.AskServers(server)
		return keep
	}
	fetch := func(keep *storage.Keeper, what string, asked int) {
		t.Helper()
		got, err := keep.Fetch(t.Context(), xV0)
		if err != nil || got != info || len(server.asked) != asked {
			t.Errorf("%s: %+v, %v, and the server was asked %d times, want %d", what, got, err, len(server.asked), asked)
		}
	}
	second := restart("second")
	fetch(second, "after a restart", 1)
	if err := second.Drop(xV0); err != nil {
		t.Fatal(err)
	}
	fetch(second, "after it was dropped", 2)
	notes, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(notes) != 1 {
		t.Fatalf("notes %v, %v, want one", notes, err)
	}
	if err := os.WriteFile(notes[0], []byte(info.Hash[:20]), 0o600); err != nil {
		t.Fatal(err)
	}
	fetch(restart("third"), "after half a note", 3)
	if err := n.blobs.Delete(info.Hash); err != nil {
		t.Fatal(err)
	}
	fourth := restart("fourth")
	if got := fourth.Blob(xV0); got != xV0 {
		t.Errorf("the blob that is gone is known as %s", got)
	}
	fetch(fourth, "after the blob went", 4)
}
