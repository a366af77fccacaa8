package node

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
)

// serveMessages makes the interface of the message network, beside that of the
// node's role.
func (n *Node) serveMessages() error {
	partials, err := blob.OpenPartials(n.blobs, n.part("blob"))
	if err != nil {
		return err
	}
	n.add("partials", partials.Run)
	n.messages = ccn.New(ccn.Self(n.cfg.CCN), ccn.Parts{
		DB: n.db, Intake: n.ingest, Purse: n.ingest, Prices: n.ingest, Heights: n.mirror, Peers: peersOf{n.host}, Storage: &ccn.Storage{
			Config: n.cfg.Files, Blobs: n.blobs, IPFS: n.content, Room: n.storage, Uploads: n.ingest, Till: n.ingest, Partials: partials,
		},
	}, n.part("ccn"))
	n.add("ccn", n.messages.Run)
	return nil
}

// peersOf is what the message network is told of the node's peers.
type peersOf struct{ host *p2p.Host }

// Addresses implements ccn.Peers.
func (p peersOf) Addresses() []string { return p.host.Addrs() }

// Count implements ccn.Peers.
func (p peersOf) Count() int { return len(p.host.Connected()) }

// ServeHTTP implements http.Handler: two interfaces share one origin, as clients of
// the message network know only one.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if n.domains.serve(w, r) {
		return
	}
	switch {
	case n.machines != nil && (n.machines.Serves(r) || !isProducts(r.URL.Path) || n.machines.LeadsToFunction(r, !isWatched(r.URL.Path))):
		n.machines.ServeHTTP(w, r)
	case n.messages == nil:
		n.handler.ServeHTTP(w, r)
	case r.URL.Path == "/metrics" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		n.serveMetrics(w, r)
	case n.owners != nil && isOwners(r.URL.Path):
		n.owners.ServeHTTP(w, r)
	case n.messages.Serves(r):
		n.messages.Handler().ServeHTTP(w, r)
	case n.owners != nil && strings.HasPrefix(r.URL.Path, "/api/v1/"):
		n.owners.ServeHTTP(w, r)
	default:
		n.handler.ServeHTTP(w, r)
	}
}

// serveMetrics answers with the numbers of both interfaces.
func (n *Node) serveMetrics(w http.ResponseWriter, r *http.Request) {
	plain := r.Clone(r.Context())
	plain.Header.Del("Accept-Encoding")
	own := &held{header: http.Header{}, status: http.StatusOK}
	n.handler.ServeHTTP(own, plain)
	body, err := n.messages.AppendMetrics(r.Context(), own.body.Bytes())
	if err != nil {
		n.log.Error("numbers of the message network not read", "err", err)
	}
	ccn.AllowOrigin(w.Header(), r)
	for name, values := range own.header {
		w.Header()[name] = values
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(own.status)
	if _, err := w.Write(body); err != nil {
		n.log.Debug("answer not written", "path", r.URL.Path, "err", err)
	}
}

// held is an answer that is not sent yet.
type held struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (h *held) Header() http.Header { return h.header }

// Write implements io.Writer.
func (h *held) Write(p []byte) (int, error) { return h.body.Write(p) }

// WriteHeader implements http.ResponseWriter.
func (h *held) WriteHeader(status int) { h.status = status }
