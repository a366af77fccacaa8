//go:build e2e

package mesh_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// skewVariable says by how much the clock of a skewed process is wrong, as a duration.
const skewVariable = "CLOCK_SKEW"

// skewedNow is what is put in place of the first lines of time.Now. Everything in a process
// asks that function, libraries and the database too, so the process lives in another hour, as
// on a machine whose clock is wrong. How fast time passes is right, as it is there.
const (
	plainNow  = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	skewedNow = plainNow + "\tsec += skew\n"
	readsSkew = `
var skew = readSkew()

func readSkew() int64 {
	text, ok := syscall.Getenv("` + skewVariable + `")
	if !ok {
		return 0
	}
	d, err := ParseDuration(text)
	if err != nil {
		panic("` + skewVariable + `: " + err.Error())
	}
	return int64(d / Second)
}
`
)

// skewed builds a node whose clock is wrong. Of the kernel's clocks none can be set for one
// process, and a program in Go asks no library that could be replaced, so the standard library
// is: nothing of the node's own code is different.
func skewed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	raw, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	if strings.Count(text, plainNow) != 1 || strings.Count(text, "import (\n") != 1 {
		t.Fatalf("%s of %s does not read the clock as it did: adapt plainNow", source, runtime.Version())
	}
	text = strings.Replace(text, plainNow, skewedNow, 1) + readsSkew
	text = strings.Replace(text, "import (\n", "import (\n\t\"syscall\"\n", 1)
	changed, overlay, out := filepath.Join(dir, "time.go.txt"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "aleph-node")
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string][]byte{changed: []byte(text), overlay: replace} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", overlay, "-o", out, "github.com/aleph-onchain/aleph-onchain/cmd/aleph-node")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	return out
}

// tells checks by how much the clock of the process is off, as its answers over HTTP tell it.
func (n *node) tells(t *testing.T, skew string) {
	t.Helper()
	want, err := time.ParseDuration(skew)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/api/v0/version", apiPort), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := n.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	at, err := http.ParseTime(res.Header.Get("Date"))
	if off := time.Until(at.Add(-want)).Abs(); err != nil || off > want.Abs()/2 {
		t.Fatalf("the clock of %s says %v (%v), want it %v off", n.name, at, err, want)
	}
}

// TestClocks gives two of four nodes clocks that are an hour off, one each way, then right
// ones again.
func TestClocks(t *testing.T) {
	binary := skewed(t)
	w := newWorld(t)
	w.network(t, "right", "ahead", "behind", "other")
	ahead, behind := w.nodes[1], w.nodes[2]
	w.talk(t, w.nodes, 2)
	w.converge(t, w.nodes)
	for n, skew := range map[*node]string{ahead: "1h", behind: "-1h"} {
		n.kill(t)
		right := n.binary
		n.binary, n.env = binary, []string{skewVariable + "=" + skew}
		n.start(t)
		n.waitUp(t)
		n.binary = right
		n.tells(t, skew)
	}

	t.Run("messages are the same on nodes whose clocks are an hour ahead and behind", func(t *testing.T) {
		w.waitMet(t, w.nodes)
		w.talk(t, w.nodes, 4)
		w.converge(t, w.nodes)
	})
	t.Run("what they missed they find", func(t *testing.T) {
		about := w.subjects(t)
		w.part([]*node{w.nodes[0], ahead}, []*node{behind, w.nodes[3]})
		w.quarrel(t, ahead, behind, about)
		w.talk(t, w.nodes, 2)
		w.heal()
		w.converge(t, w.nodes)
	})
	t.Run("a node with an empty database and a wrong clock finds all", func(t *testing.T) {
		behind.kill(t)
		if err := os.RemoveAll(behind.dir); err != nil {
			t.Fatal(err)
		}
		right := behind.binary
		behind.binary = binary
		behind.start(t)
		behind.waitUp(t)
		behind.binary = right
		w.converge(t, w.nodes)
	})
	t.Run("clocks are set right, and the databases are as good as before", func(t *testing.T) {
		for _, n := range []*node{ahead, behind} {
			n.stop(t)
			n.env = nil
			n.start(t)
			n.waitUp(t)
		}
		w.waitMet(t, w.nodes)
		w.talk(t, w.nodes, 2)
		w.converge(t, w.nodes)
	})
	t.Run("a message from the future is taken by all", func(t *testing.T) {
		a := w.authors[3]
		a.last = time.Now().Add(time.Hour) // Its author's clock is wrong.
		s := w.aggregate(t, w.nodes[0], a, "future")
		known(t, s, w.nodes...)
	})
	check(t, w.nodes)
}
