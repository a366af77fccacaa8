package keystore_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
	"golang.org/x/sys/unix"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
)

// digits is a key that is good for both purposes.
const digits = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func open(t *testing.T, dir, identity, signer string) *keystore.Keys {
	t.Helper()
	keys, err := keystore.Open(dir, identity, signer)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// write makes a file for its user alone.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func same(a, b *keystore.Keys) bool { return a.Identity.Equal(b.Identity) && a.Signer.Equal(b.Signer) }

func TestKeysAreMadeOnceAndForTheUserAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "dir")

	first := open(t, dir, "", "")
	second := open(t, dir, "", "")

	if !same(first, second) {
		t.Error("the keys are others after a restart")
	}
	if other := open(t, t.TempDir(), "", ""); first.Identity.Equal(other.Identity) || first.Signer.Equal(other.Signer) {
		t.Error("two nodes have the same key")
	}
	if bytes.Equal(first.Identity.Seed(), crypto.FromECDSA(first.Signer)) {
		t.Error("identity and signer are the same secret")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got != 0o600 {
			t.Errorf("mode of %s is %v, want 0600", e.Name(), got)
		}
	}
	if want := []string{"identity.key", "signer.key"}; !slices.Equal(names, want) {
		t.Errorf("files are %q, want %q", names, want)
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("mode of the directory is %v, want 0700", got)
	}
}

func TestSeveralProcessesMakeTheSameKeys(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	got := make([]*keystore.Keys, 16)
	for i := range got {
		wg.Go(func() {
			keys, err := keystore.Open(dir, "", "")
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = keys
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i := range got {
		if !same(got[0], got[i]) {
			t.Errorf("the keys of process %d are others", i)
		}
	}
}

func TestGivenPathsAreUsedAsTheyAre(t *testing.T) {
	for _, text := range []string{digits, digits + "\n", "0x" + digits, "  0x" + strings.ToUpper(digits) + "\r\n"} {
		path, dir := write(t, text), t.TempDir()

		keys := open(t, dir, path, path)

		if got := hex.EncodeToString(keys.Identity.Seed()); got != digits {
			t.Errorf("identity of %q is another", text)
		}
		if !keys.Identity.Equal(ed25519.NewKeyFromSeed(keys.Identity.Seed())) {
			t.Errorf("identity of %q is no key of ed25519", text)
		}
		if got := hex.EncodeToString(crypto.FromECDSA(keys.Signer)); got != digits {
			t.Errorf("signer of %q is another", text)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("keys were made although they were given: %v, %v", entries, err)
		}
	}
}

func TestLeftoversOfACrashAreHarmless(t *testing.T) {
	dir := t.TempDir()
	before := open(t, dir, "", "")
	for _, name := range []string{".identity.key-1234", ".signer.key-1234"} { // Cut off before the text, or after the link.
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if after := open(t, dir, "", ""); !same(before, after) {
		t.Error("the keys are others")
	}

	// Cut off between the two keys: the first stays, the second is made.
	if err := os.Remove(filepath.Join(dir, "signer.key")); err != nil {
		t.Fatal(err)
	}
	after := open(t, dir, "", "")
	if !before.Identity.Equal(after.Identity) || before.Signer.Equal(after.Signer) {
		t.Error("want the identity of before and a new signer")
	}
}

func TestRefusals(t *testing.T) {
	wide := write(t, digits)
	if err := os.Chmod(wide, 0o640); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	missing := filepath.Join(t.TempDir(), "none.key")
	empty, short, long, odd := write(t, ""), write(t, digits[:62]), write(t, digits+"00"), write(t, digits[:63])
	junk := write(t, "zz"+digits[2:])
	huge := write(t, strings.Repeat(digits, 1000))
	tests := []struct {
		name, path string
		kind       errs.Kind
		want       string
	}{
		{"others may read it", wide, errs.Invalid, "can be read by other users: run chmod 600 " + wide},
		{"a directory", folder, errs.Invalid, folder + " is no file"},
		{"missing", missing, errs.Invalid, "there is no key file " + missing},
		{"below a file", filepath.Join(junk, "a.key"), errs.Internal, junk},
		{"empty", empty, errs.Invalid, empty + " holds 0 characters, want 64 hex digits"},
		{"too short", short, errs.Invalid, "holds 62 characters"},
		{"odd", odd, errs.Invalid, "holds 63 characters"},
		{"too long", long, errs.Invalid, "holds 66 characters"},
		{"much too long", huge, errs.Invalid, "holds 4096 characters"},
		{"not hex", junk, errs.Invalid, junk + " holds other characters than 64 hex digits"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for what, paths := range map[string][2]string{"identity": {tt.path, ""}, "signer": {"", tt.path}} {
				_, err := keystore.Open(t.TempDir(), paths[0], paths[1])
				if errs.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), what+" key") {
					t.Errorf("%s: got %v (%v), want %v with %q", what, err, errs.KindOf(err), tt.kind, tt.want)
				}
				checkSilent(t, err)
			}
		})
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was made where one was given: %v", err)
	}
}

// checkSilent fails if an error holds a part of the key.
func checkSilent(t *testing.T, err error) {
	t.Helper()
	for i := range len(digits) - 8 {
		if err != nil && strings.Contains(err.Error(), digits[i:i+8]) {
			t.Errorf("error %q holds a part of the key", err)
			return
		}
	}
}

func TestNumbersThatAreNoSignersAreRefused(t *testing.T) {
	for _, text := range []string{strings.Repeat("0", 64), strings.Repeat("f", 64)} {
		path := write(t, text)

		_, err := keystore.Open(t.TempDir(), path, path)

		if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "the number in "+path+" is no key") || strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want invalid and the path", err)
		}
	}
}

func TestUnreadableFileNamesTheUser(t *testing.T) {
	path := write(t, digits)
	if err := errors.Join(os.Chmod(path, 0), os.Chmod(filepath.Dir(filepath.Dir(path)), 0o755)); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		_, err := keystore.Read(path)
		if !errors.Is(err, errs.Denied) || !strings.Contains(err.Error(), path+" may not be read by this user") {
			t.Errorf("got %v, want denied and the path", err)
		}
	})
}

func TestDirectoryThatCannotBeMadeOrWritten(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o555), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		for _, sub := range []string{"", "sub"} {
			if _, err := keystore.Open(filepath.Join(dir, sub), "", ""); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("got %v, want that it is not permitted", err)
			}
		}
	})
}

// asNobody runs fn without the rights of root, which may read everything.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		fn()
		return
	}
	const nobody = 65534
	done := make(chan struct{})
	go func() { // Its thread is not used again.
		defer close(done)
		runtime.LockOSThread()
		if _, err := unix.SetfsuidRetUid(nobody); err != nil {
			t.Error(err)
			return
		}
		fn()
	}()
	<-done
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", digits, "0x" + digits + "\n", "0x", "0x0x" + digits, digits[:63] + "g", "\xff" + digits[1:]} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		raw, err := keystore.Parse("PATH", text)
		if err != nil {
			rest := strings.Replace(err.Error(), "PATH", "", 1)
			if !errors.Is(err, errs.Invalid) || len(text) > 8 && strings.Contains(rest, string(text)) {
				t.Errorf("error is %q (%v)", err, errs.KindOf(err))
			}
			return
		}
		again, err := keystore.Parse("PATH", []byte(hex.EncodeToString(raw)))
		if err != nil || !bytes.Equal(raw, again) || len(raw) != 32 {
			t.Errorf("%d bytes, read again %v: %v", len(raw), bytes.Equal(raw, again), err)
		}
	})
}
