package node

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/build"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// buildAPI builds a process that serves the message network from the database of a
// coordinator, which owns it. It keeps nothing: there may be many.
func (n *Node) buildAPI(ctx context.Context) (err error) {
	cfg := n.cfg
	if n.db, err = state.OpenAs(ctx, state.Options{URL: cfg.State.URL, Replica: true}); err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	n.opened("state", n.db)
	// Offers, which are signed for a domain, are for the owner.
	if n.ingest, err = ingest.New(cfg.Ingest, job.Domain{}, n.db, nil, noContents{}, nil, n.metrics, n.part("ingest")); err != nil {
		return fmt.Errorf("build ingest: %w", err)
	}
	if n.api, err = api.Listen(ctx, cfg.API, n.part("api")); err != nil {
		return err
	}
	n.opened("api", n.api)
	if n.owners, err = n.askOwner(cfg.Node.OwnerURL); err != nil {
		return err
	}
	n.add("state", n.db.Run)
	n.messages = ccn.New(ccn.Self(cfg.CCN), ccn.Parts{DB: n.db, Intake: n.ingest, Purse: n.ingest, Prices: n.ingest}, n.part("ccn"))
	n.add("ccn", n.messages.Run)
	n.handler = v1.New(v1.Self{Role: v1.API, Version: build.Version},
		v1.Parts{DB: n.db, Gatherer: n.metrics, Checks: []v1.Check{{Name: "owner", Ready: n.ownerIsHere}}}, n.part("api"))
	return nil
}

// ownerIsHere reports whether somebody looks after what this process takes in.
// Messages are taken in without an owner too, but wait for it if they lack
// something, and nobody else hears of them.
func (n *Node) ownerIsHere(ctx context.Context) error {
	held, err := n.db.Owned(ctx)
	if err == nil && !held {
		err = errs.New(errs.Unavailable, "no process owns the database: start its coordinator")
	}
	return err
}

// noContents are the files of a process that has none: messages that need one wait
// for the owner to look.
type noContents struct{}

// Stat implements ingest.Files.
func (noContents) Stat(_ context.Context, hash message.ItemHash) (state.FileInfo, error) {
	return state.FileInfo{}, errs.New(errs.NotFound, "this process has no files, so not %s", hash)
}

// Fetch implements ingest.Files.
func (c noContents) Fetch(ctx context.Context, hash message.ItemHash) error {
	_, err := c.Stat(ctx, hash)
	return err
}

// Read implements ingest.Files.
func (c noContents) Read(ctx context.Context, hash message.ItemHash, _ int64) ([]byte, error) {
	_, err := c.Stat(ctx, hash)
	return nil, err
}

// isOwners reports whether what is at a path needs files, a chain or peers, which
// only the owner of the database has.
func isOwners(path string) bool {
	for _, prefix := range []string{"/api/v0/storage/", "/api/v0/ipfs/add_", "/ipfs/"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return path == "/api/v0/add"
}

// askOwner answers what only the owner can, by asking it, or with the reason why
// not if its URL is not known.
func (n *Node) askOwner(owner string) (http.Handler, error) {
	log := n.part("api")
	if owner == "" {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			api.Refuse(log, w, r, errs.New(errs.Unavailable, "only the node that owns the database can answer this: ask it, or set [node] owner_url here"))
		}), nil
	}
	to, err := url.Parse(owner)
	if err != nil {
		return nil, fmt.Errorf("read [node] owner_url: %w", err)
	}
	pass := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(to)
			p.Out.Host = p.In.Host // What clients sign may name it.
			p.SetXForwarded()
		},
		FlushInterval: -1, // Consoles are followed.
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			api.Refuse(log, w, r, errs.New(errs.Unavailable, "the node that owns the database does not answer: %w", err))
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = struct {
			*api.PatientBody
			closing
		}{api.NewPatientBody(w, r.Body), closing{r.Body.Close}}
		pass.ServeHTTP(api.NewPatientWriter(w), r)
	}), nil
}

// closing closes something.
type closing struct{ fn func() error }

// Close implements io.Closer.
func (c closing) Close() error { return c.fn() }
