package main

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
)

// contents returns the hash of every file in a directory.
func contents(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	out := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = sha256.Sum256(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnUpgradeIsRehearsedOnACopy(t *testing.T) {
	dir, tmp := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", tmp)
	n := chaintest.StartGoverned(t, filepath.Join(dir, "chain"))
	n.Open(t, chaintest.Spec("runs"), chaintest.RateQ32(1000))
	n.Confirm(t, chaintest.Spec("runs"))
	if err := n.Deployment.Write(filepath.Join(dir, "deployment.json")); err != nil {
		t.Fatal(err)
	}
	n.Close(t)
	rehearse := func() (code int, out, errs bytes.Buffer) {
		code = (&app{out: &out, err: &errs}).run(t.Context(), []string{"contracts", "rehearse", "--data-dir", dir})
		return code, out, errs
	}
	// The lock is made by the first who looks.
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)

	code, out, errs := rehearse()

	if code != exitOK || !strings.Contains(errs.String(), "The upgrade works") {
		t.Errorf("exit code %d, %s", code, &errs)
	}
	for _, want := range []string{
		"All code is that of this release already", "All layouts are as they were", `carry out "Upgrade 9 contracts"`,
		"A job after the upgrade ran for", "contracts are as released, 1.0.0",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not print %q:\n%s", want, &out)
		}
	}
	if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
		t.Errorf("the network itself changed (-before +after):\n%s", diff)
	}
	if left := contents(t, tmp); len(left) > 0 {
		t.Errorf("%d files of the copy are left", len(left))
	}

	// Who changes the layout in the file changes what was deployed.
	d := *n.Deployment
	d.Layouts = map[string]map[string][]string{"JobManager": {"JobStore.Life": {"0:0 payer address"}}}
	if err := d.Write(filepath.Join(dir, "deployment.json")); err != nil {
		t.Fatal(err)
	}
	code, out, errs = rehearse()
	if code != exitError || !strings.Contains(errs.String(), "JobStore.Life is gone; members may only be added at the end") {
		t.Errorf("a breaking layout: exit code %d, %s%s", code, &out, &errs)
	}
}
