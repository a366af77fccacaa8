package ipfs_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// crashDir tells the test binary to be the process that is killed.
const crashDir = "ALEPH_IPFS_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		addForever(dir)
	}
	if dir := os.Getenv(killedDir); dir != "" {
		fmt.Println(arriveUntilKilled(dir, os.Getenv(killedArchive)))
		os.Exit(1)
	}
	if dir := os.Getenv(killedCommit); dir != "" {
		fmt.Println(commitUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// addForever adds and deletes, and says so after each, until it is killed.
func addForever(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
	}
	b, err := blob.Open(filepath.Join(dir, "blobs"), blob.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	fail(err)
	s, err := ipfs.Open(filepath.Join(dir, "ipfs"), content.Blobs(b), ipfs.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	fail(err)
	ctx := context.Background()
	random := rand.New(rand.NewPCG(uint64(os.Getpid()), 0))
	for i := 0; ; i++ {
		tree, err := s.NewTree(ipfs.Version(i % 2))
		fail(err)
		for j := range 1 + random.IntN(1500) {
			fail(tree.Add(ctx, fmt.Sprintf("%d", j), strings.NewReader(fmt.Sprint(random.Uint64()))))
		}
		fail(tree.Add(ctx, "long", bytes.NewReader(noise(byte(i), random.IntN(3*chunk)))))
		root, err := tree.Commit()
		fail(err)
		fmt.Println("added", root.CID)
		if random.IntN(3) == 0 {
			fmt.Println("deleting", root.CID)
			_, err := s.Delete(root.CID)
			fail(err)
			fmt.Println("deleted", root.CID)
		}
	}
}

// TestKilledProcessKeepsWhatItSaid kills a process again and again and looks
// whether all that it acknowledged is there, whole, and nothing half.
func TestKilledProcessKeepsWhatItSaid(t *testing.T) {
	if testing.Short() {
		t.Skip("kills processes for seconds")
	}
	dir := t.TempDir()
	state := map[string]string{}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 6 {
		for _, line := range runAndKill(t, dir, 3+random.IntN(12)) {
			verb, c, _ := strings.Cut(line, " ")
			if verb == "failed" {
				t.Fatal(line)
			}
			state[c] = verb
		}
		n := openNode(t, dir, 8e9)
		for c, verb := range state {
			id, err := ipfs.ParseCID(c)
			if err != nil {
				t.Fatal(err)
			}
			_, err = n.Root(id)
			there := err == nil
			if verb == "added" != there && verb != "deleting" {
				t.Errorf("round %d: %s was %s, root: %v", round, c, verb, err)
			}
			if there {
				if err := n.Verify(t.Context(), id); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			}
		}
		if left, err := n.Leftovers(); err != nil || left != 0 {
			t.Errorf("round %d: %d entries without a root, %v", round, left, err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(state) < 10 {
		t.Errorf("only %d roots were added", len(state))
	}
}

// runAndKill starts the process, kills it once it said so many lines, and
// returns all that it said.
func runAndKill(t *testing.T, dir string, count int) (lines []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(out)
	for in.Scan() {
		lines = append(lines, in.Text())
		if len(lines) == count {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process ended by itself")
	}
	return lines
}

// TestPowerLoss takes the index as the disk has it when the power fails: all
// that was synced, and by chance some of the rest.
func TestPowerLoss(t *testing.T) {
	dir := t.TempDir()
	b, err := blob.Open(dir, blob.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	disk := vfs.NewCrashableMem()
	s, err := ipfs.OpenOn("ipfs", disk, content.Blobs(b))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	old, err := s.Add(t.Context(), bytes.NewReader(noise(1, 2*chunk)), ipfs.V0)
	if err != nil {
		t.Fatal(err)
	}

	// after opens what is left of the disk, where old must be as said and whole.
	after := func(when string, oldStays bool) {
		t.Helper()
		for _, percent := range []int{0, 30, 100} {
			copied := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: random})
			again, err := ipfs.OpenOn("ipfs", copied, content.Blobs(b))
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			count := 0
			for r, err := range again.Roots(t.Context()) {
				count++
				if err != nil || again.Verify(t.Context(), r.CID) != nil {
					t.Errorf("%s: %s is damaged, %v", when, r.CID, err)
				}
			}
			if oldStays != (count == 1) {
				t.Errorf("%s, %d%% of the unsynced: %d roots", when, percent, count)
			}
			if left, err := again.Leftovers(); err != nil || left != 0 {
				t.Errorf("%s: %d entries without a root, %v", when, left, err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		}
	}

	after("after an add", true)
	tree, err := s.NewTree(ipfs.V1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * ipfs.IndexEntries {
		if err := tree.Add(t.Context(), fmt.Sprint(i), strings.NewReader(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if i == 1 || i == 2*ipfs.IndexEntries {
			after("in the middle of an add", true)
		}
	}
	if err := tree.Abort(); err != nil {
		t.Fatal(err)
	}
	after("after an abort", true)

	second := func() (root ipfs.Root) {
		tree, err := s.NewTree(ipfs.V1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2*ipfs.IndexEntries + 5 {
			if err := tree.Add(t.Context(), fmt.Sprint(i), strings.NewReader(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		if root, err = tree.Commit(); err != nil {
			t.Fatal(err)
		}
		return root
	}()
	after("with a second root", false)
	if err := s.Unlink(second.CID); err != nil {
		t.Fatal(err)
	}
	after("before the blocks go", true)
	if err := s.DropSome(); err != nil {
		t.Fatal(err)
	}
	after("while the blocks go", true)
	if has, err := s.Has(second.CID); err != nil || has {
		t.Errorf("a block of a half deleted root is there: %t, %v", has, err)
	}
	if _, err := s.Delete(old.CID); err != nil {
		t.Fatal(err)
	}
	after("after a delete", false)
}

// brokenBlobs fails when it is told to.
type brokenBlobs struct {
	ipfs.Blobs
	create, write, commit error
	opening               func() // called before a blob is opened
}

func (b *brokenBlobs) Open(hash message.ItemHash) (ipfs.BlobReader, error) {
	if b.opening != nil {
		b.opening()
	}
	return b.Blobs.Open(hash)
}

func (b *brokenBlobs) Create() (ipfs.BlobWriter, error) {
	if b.create != nil {
		return nil, b.create
	}
	w, err := b.Blobs.Create()
	return brokenWriter{w, b}, err
}

type brokenWriter struct {
	ipfs.BlobWriter
	b *brokenBlobs
}

func (w brokenWriter) Write(p []byte) (int, error) {
	if w.b.write != nil {
		return 0, w.b.write
	}
	return w.BlobWriter.Write(p)
}

func (w brokenWriter) Commit() error {
	if w.b.commit != nil {
		return w.b.commit
	}
	return w.BlobWriter.Commit()
}

func TestBlobsThatFailLeaveNothing(t *testing.T) {
	b, err := blob.Open(t.TempDir(), blob.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	full := errs.New(errs.Exhausted, "disk is full")
	broken := &brokenBlobs{Blobs: content.Blobs(b)}
	s, err := ipfs.OpenOn(t.TempDir(), vfs.Default, broken)
	if err != nil {
		t.Fatal(err)
	}
	n := node{Store: s, blobs: b}
	defer n.Close()
	archive := car(raw("x"))
	for _, set := range []*error{&broken.create, &broken.write, &broken.commit} {
		*set = full
		if _, err := n.Add(t.Context(), strings.NewReader("x"), ipfs.V0); errs.KindOf(err) != errs.Exhausted {
			t.Errorf("file: %v, want exhausted", err)
		}
		if _, err := n.addCAR(t, archive); errs.KindOf(err) != errs.Exhausted {
			t.Errorf("archive: %v, want exhausted", err)
		}
		*set = nil
		n.isEmpty(t)
		if used, err := n.Uses(message.HashOf([]byte("x"))); err != nil || used {
			t.Errorf("a blob of nothing is in use: %t, %v", used, err)
		}
	}
}

// fullDisk has no room for the index once it is told to.
type fullDisk struct {
	vfs.FS
	full atomic.Bool
}

var errFull = &os.PathError{Op: "write", Path: "disk", Err: syscall.ENOSPC}

func (d *fullDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return fullFile{f, d}, err
}

func (d *fullDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, c)
	return fullFile{f, d}, err
}

// Remove makes room, if it is the ballast that goes.
func (d *fullDisk) Remove(name string) error {
	if strings.HasSuffix(name, "ballast") {
		d.full.Store(false)
	}
	return d.FS.Remove(name)
}

func (d *fullDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	if _, err := d.Stat("ipfs/index/ballast"); err != nil && !d.full.Load() {
		return vfs.DiskUsage{AvailBytes: 1 << 40}, nil
	}
	return vfs.DiskUsage{AvailBytes: 100 << 20}, nil
}

type fullFile struct {
	vfs.File
	d *fullDisk
}

func (f fullFile) Write(p []byte) (int, error) {
	if f.d.full.Load() {
		return 0, errFull
	}
	return f.File.Write(p)
}

// TestFullDiskIsSurvived fills the disk under the index: its engine would end
// the process, and the ballast saves it.
func TestFullDiskIsSurvived(t *testing.T) {
	b, err := blob.Open(t.TempDir(), blob.DefaultConfig(), prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	disk := &fullDisk{FS: vfs.NewMem()}
	s, err := ipfs.OpenOn("ipfs", disk, content.Blobs(b))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	add := func(data string) error {
		_, err := s.Add(t.Context(), strings.NewReader(data), ipfs.V0)
		return err
	}
	if err := add("first"); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Stat("ipfs/index/ballast"); err != nil {
		t.Fatalf("there is no ballast: %v", err)
	}
	in, out := io.Pipe()
	added := make(chan error, 1)
	go func() {
		_, err := s.Add(t.Context(), in, ipfs.V0)
		added <- err
	}()
	if _, err := out.Write([]byte("second")); err != nil {
		t.Fatal(err)
	}
	disk.full.Store(true) // after the add has looked
	if err := errors.Join(out.Close(), <-added); err != nil {
		t.Errorf("an add that the ballast made room for: %v", err)
	}
	if _, err := disk.Stat("ipfs/index/ballast"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ballast is still there: %v", err)
	}
	if err := add("third"); err != nil {
		t.Errorf("after there is room again: %v", err)
	}
	if _, err := disk.Stat("ipfs/index/ballast"); err != nil {
		t.Errorf("the ballast is not back: %v", err)
	}
	disk.full.Store(true)
	if err := disk.FS.Remove("ipfs/index/ballast"); err != nil {
		t.Fatal(err)
	}
	if err := add("fourth"); errs.KindOf(err) != errs.Exhausted {
		t.Errorf("without ballast and room: %v, want exhausted", err)
	}
	disk.full.Store(false)
	if left, err := s.Leftovers(); err != nil || left != 0 {
		t.Errorf("%d entries without a root, %v", left, err)
	}
}

// TestPacksNeverShareANumber ends two adds in another order than they began in.
// What is added after a restart must not take the place of one of them.
func TestPacksNeverShareANumber(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, dir, 8e9)
	slow, err := n.NewTree(ipfs.V1)
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Add(t.Context(), "slow", strings.NewReader("slow")); err != nil {
		t.Fatal(err)
	}
	quick := n.add(t, noise(1, 2*chunk), ipfs.V1)
	last, err := slow.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	n = openNode(t, dir, 8e9)
	defer n.Close()
	next := n.add(t, noise(2, 2*chunk), ipfs.V1)

	for _, r := range []ipfs.Root{quick, last, next} {
		if err := n.Verify(t.Context(), r.CID); err != nil {
			t.Errorf("after a restart and one add more: %v", err)
		}
	}
	n.remove(t, next)
	for _, r := range []ipfs.Root{quick, last} {
		if err := n.Verify(t.Context(), r.CID); err != nil {
			t.Errorf("after the newest was deleted: %v", err)
		}
	}
}
