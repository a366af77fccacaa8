package executor_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
)

// exporterAt is the node at the server's address, with the token.
func exporterAt(t *testing.T, server *httptest.Server, token string) executor.Exporter {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return executor.Exporter{Host: u.Hostname(), Port: uint16(port), Token: token}
}

func TestFilesOfAnExportAreFetchedFromAnOffset(t *testing.T) {
	content := []byte("0123456789")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Get("token") != "good":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/ranges":
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		case r.URL.Path == "/whole":
			_, _ = w.Write(content)
		case r.URL.Path == "/elsewhere":
			http.Redirect(w, r, "/whole?token=good", http.StatusFound)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	e := executor.NewExportsTo(func(netip.Addr) bool { return true })
	for _, path := range []string{"/ranges", "/whole"} {
		for _, offset := range []int64{0, 4, 9} {
			for _, end := range []int64{offset + 1, 10} {
				r, whole, err := e.Open(t.Context(), exporterAt(t, server, "good"), path, offset, end)
				if err != nil {
					t.Fatal(err)
				}
				want := content[offset:end]
				if whole {
					want = content[offset:]
				}
				got, err := io.ReadAll(r)
				if err := errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, want) || whole != (path == "/whole") {
					t.Errorf("%s from %d to %d: %q, to its end %v (%v), want %q", path, offset, end, got, whole, err, want)
				}
			}
		}
	}
	for path, want := range map[string]errs.Kind{"/no": errs.NotFound, "/elsewhere": errs.Unavailable, "no path": errs.Invalid} {
		if _, _, err := e.Open(t.Context(), exporterAt(t, server, "good"), path, 0, 1); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	if _, _, err := e.Open(t.Context(), exporterAt(t, server, "bad"), "/whole", 0, 1); !errors.Is(err, errs.Denied) {
		t.Errorf("a wrong token: %v, want denied", err)
	}
}

// TestNoExportLeadsToThisHost: a name may lead to an address that a scheduler
// could not name.
func TestNoExportLeadsToThisHost(t *testing.T) {
	asked := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer server.Close()
	from := exporterAt(t, server, "secret")
	for _, host := range []string{from.Host, "localhost", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0", "240.0.0.1", "fe80::1"} {
		from.Host = host
		_, _, err := executor.NewExports().Open(t.Context(), from, "/x", 0, 1)
		if err == nil || asked || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want it refused, without the token in the text", host, err)
		}
	}
}
