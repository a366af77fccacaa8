package crn_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

// FuzzBodies: nothing that a client sends is this node's failure.
func FuzzBodies(f *testing.F) {
	f.Add(uint8(0), `{"persistent_vms": ["x", 1], "instances": null}`)
	f.Add(uint8(1), `{"instance":"`+string(deca)+`"}`)
	f.Add(uint8(2), `{"vm_hash":"`+string(deca)+`","source_host":"a","source_port":1,"export_token":"t","disk_files":[{"name":"a","size_bytes":1,"sha256":"x","download_path":"/"}]}`)
	f.Add(uint8(3), instanceJSON(""))
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		w, owner := newWorld(t, withToken), newWallet(t)
		var r *http.Request
		switch which % 4 {
		case 0:
			r = byToken("POST", "/control/allocations", body)
		case 1:
			r = request("POST", "/control/allocation/notify", body)
		case 2:
			r = byToken("POST", "/control/migrate", body)
		default:
			r = owner.sign(t, request("POST", "/control/reserve_resources", body))
		}
		rec := w.do(r)
		if rec.Code >= 500 || !json.Valid(rec.Body.Bytes()) {
			t.Errorf("%s: %d %s", r.URL, rec.Code, rec.Body)
		}
	})
}

// FuzzPaths: whatever the path and the host are, something is answered.
func FuzzPaths(f *testing.F) {
	f.Add("GET", "33fn5sw6zlpmvxwk33fn5sw6zlpmvxwk33fn5sw6zlpmvxwk33fa.example.org", "/a/%2f/../b")
	f.Add("POST", domain, "/vm/"+string(deca)+"/x")
	f.Add("OPTIONS", "a:b:c", machine+"/backup/%2e%2e")
	f.Fuzz(func(t *testing.T, method, host, path string) {
		r, err := http.NewRequestWithContext(t.Context(), method, path, http.NoBody)
		if err != nil || r.URL.Path == "" {
			return
		}
		r.Host = host
		w := newWorld(t)
		w.call = echo
		rec := httptest.NewRecorder()
		w.srv.ServeHTTP(rec, r)
		if rec.Code == http.StatusInternalServerError {
			t.Errorf("%s http://%s%s: %s", method, host, path, rec.Body)
		}
	})
}
