package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

func TestDrainCommand(t *testing.T) {
	dir := t.TempDir()
	keys, err := keystore.Open(dir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		if r.URL.Path == "/api/v1/info" {
			fmt.Fprint(w, `{"node_id":7}`)
			return
		}
		if r.Method != http.MethodGet {
			req, err := operator.Parse(r.Header.Get(operator.HeaderName))
			if err == nil {
				err = req.Verify(r.Method, r.URL.RequestURI(), time.Now())
			}
			if err != nil || req.Address != crypto.PubkeyToAddress(keys.Signer.PublicKey) {
				t.Errorf("%s is not signed by the node's signer: %v", r.URL, err)
			}
		}
		fmt.Fprintf(w, `{"draining":%v,"until":1803880800,"machines":2}`, r.Method == http.MethodPut)
	}))
	defer srv.Close()
	run := func(args ...string) (code int, out, err string) {
		var stdout, stderr bytes.Buffer
		environ := []string{"ALEPH_API_BIND=" + strings.TrimPrefix(srv.URL, "http://"), "ALEPH_NODE_DATA_DIR=" + dir}
		a := &app{out: &stdout, err: &stderr, environ: environ}
		return a.run(context.Background(), append([]string{"drain"}, args...)), stdout.String(), stderr.String()
	}

	at := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	code, out, _ := run("--until", at.Format(time.RFC3339))
	if want := fmt.Sprintf("PUT /api/v1/drain?node=7&until=%d", at.Unix()); code != exitOK || len(asked) != 2 || asked[1] != want ||
		!strings.Contains(out, "2 machines are here, and should be elsewhere by 2027-03-01T06:00:00Z") {
		t.Errorf("exit %d, asked %q, printed %q; want %s and the answer", code, asked, out, want)
	}
	asked = nil
	if code, out, _ := run("--off", "--url", srv.URL); code != exitOK || asked[1] != "DELETE /api/v1/drain?node=7" || !strings.Contains(out, "does not drain") {
		t.Errorf("exit %d, asked %q, printed %q; want the drain taken back", code, asked, out)
	}
	asked = nil
	if code, out, _ := run("--json"); code != exitOK || len(asked) != 1 || asked[0] != "GET /api/v1/drain" || !strings.Contains(out, `"draining": false`) {
		t.Errorf("exit %d, asked %q, printed %q; want how things stand as JSON", code, asked, out)
	}
	for args, want := range map[string]string{
		"--until soon": "want a time such as", "--until 2020-01-01T00:00:00Z": "has passed", "--until -1h": "has passed", "--until 1h --off": "contradict",
	} {
		if code, _, err := run(strings.Fields(args)...); code != exitUsage || !strings.Contains(err, want) {
			t.Errorf("%s: exit %d with %q, want %d with %q", args, code, err, exitUsage, want)
		}
	}
}
