//go:build conformance

package conformance_test

import (
	"encoding/hex"
	"os"
	"os/exec"
	"testing"

	"github.com/ethereum/go-ethereum/crypto"
)

// TestPython runs the Python client, and commands of the Python command line, where
// CONFORMANCE_PYTHON is the directory of an environment that has them.
func TestPython(t *testing.T) {
	bin := os.Getenv("CONFORMANCE_PYTHON")
	if bin == "" {
		t.Skip("without Python's packages; make test-conformance-python has them")
	}
	c := open(t)
	k := key("python")
	c.credits(addressOf(k), 1e12)
	secret := hex.EncodeToString(crypto.FromECDSA(k))
	python := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), bin+"/bin/"+name, args...)
		cmd.Env = append(os.Environ(), "CONFORMANCE_ACCOUNT="+secret, "ALEPH_API_HOST="+c.url, "ALEPH_CONFIG_HOME="+t.TempDir(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	t.Log(python("python", "python/smoke.py", c.url))
	for _, args := range [][]string{
		{"aggregate", "post", "cli", `{"a": 1}`, "--private-key", secret},
		{"aggregate", "get", "cli", "--private-key", secret},
		{"file", "list", "--json", "--private-key", secret},
		{"account", "balance", "--address", addressOf(k), "--private-key", secret},
		{"message", "find", "--addresses", addressOf(k)},
	} {
		python("aleph", append([]string{"--no-format"}, args...)...)
	}
}
