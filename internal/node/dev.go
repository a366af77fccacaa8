package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/api/ccn"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/ipfs"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/storage"
	"github.com/aleph-onchain/aleph-onchain/internal/storage/content"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// DevOptions says what a node for developers begins with.
type DevOptions struct {
	Bind     string   // Address and port to listen on.
	Dir      string   // Directory of everything that it keeps.
	StateURL string   // Of a PostgreSQL database; "" is the embedded one. It cannot be reset.
	Accounts []string // Addresses that are given something.
	Balance  int64    // Credits and tokens of each; 0 gives nothing.
}

// Dev is a core channel node for developers: one process without a chain or peers, that
// can be put back to its beginning. Use NewDev, then Run, then Close.
type Dev struct {
	o   DevOptions
	log *slog.Logger
	api *api.Server

	mu    sync.Mutex // Of changes of the world.
	world atomic.Pointer[devWorld]
}

// NewDev opens the node. What Dir has from before is still there.
func NewDev(ctx context.Context, o DevOptions, log *slog.Logger) (_ *Dev, err error) {
	d := &Dev{o: o, log: log}
	if d.api, err = api.Listen(ctx, api.Config{Bind: o.Bind}, log); err != nil {
		return nil, err
	}
	w, err := d.open(ctx)
	if err != nil {
		return nil, errors.Join(err, d.api.Close())
	}
	d.world.Store(w)
	return d, nil
}

// URL returns the base URL of the node.
func (d *Dev) URL() string { return d.api.URL() }

// Run answers until ctx ends; it returns ctx's cause.
func (d *Dev) Run(ctx context.Context) error { return d.api.Serve(ctx, d) }

// Close ends the node.
func (d *Dev) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.world.Swap(nil)
	if w == nil {
		return nil
	}
	return errors.Join(w.close(), d.api.Close())
}

// ServeHTTP implements http.Handler.
func (d *Dev) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/api/dev/") && r.Header.Get("Origin") != "" {
		// No page that a browser shows may throw away what is here.
		api.Refuse(d.log, w, r, errs.New(errs.Denied, "a page may not do this; use a command line"))
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /api/dev/reset":
		d.answer(w, r, d.Reset(r.Context(), r.URL.Query().Get("snapshot")))
	case "POST /api/dev/snapshot":
		d.answer(w, r, d.Snapshot(r.Context(), r.URL.Query().Get("name")))
	default:
		d.within(w, r)
	}
}

// within answers a request in the world that there is.
func (d *Dev) within(w http.ResponseWriter, r *http.Request) {
	world := d.world.Load()
	if world == nil || !world.enter() {
		api.Refuse(d.log, w, r, errAnew)
		return
	}
	defer world.requests.Done()
	ctx, done := world.during(r.Context())
	defer done()
	world.ccn.Handler().ServeHTTP(w, r.WithContext(ctx))
}

// errAnew is said to who asks while the world changes, or was not answered before.
var errAnew = errs.New(errs.Unavailable, "the node begins anew; ask again")

func (d *Dev) answer(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		api.Refuse(d.log, w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// devWorld is all that is behind one beginning.
type devWorld struct {
	dir      string
	ccn      *ccn.Server
	pipe     *ingest.Pipeline
	closers  []io.Closer
	stop     context.CancelFunc
	cut      context.CancelCauseFunc // Ends the requests.
	during   func(context.Context) (_ context.Context, done context.CancelFunc)
	loops    sync.WaitGroup
	mu       sync.Mutex
	over     bool // guarded by mu
	requests sync.WaitGroup
}

// enter counts a request, unless the world is over.
func (w *devWorld) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.requests.Add(1)
	}
	return !w.over
}

// requestsMax is how long requests may take to end when a world does.
const requestsMax = 500 * time.Millisecond

func (w *devWorld) close() error {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.stop()
	done := make(chan struct{})
	go func() { w.requests.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(requestsMax): // Who streams finds the database closed, and the reason.
	}
	w.cut(errAnew)
	w.loops.Wait()
	var all error
	for i := len(w.closers) - 1; i >= 0; i-- {
		all = errors.Join(all, w.closers[i].Close())
	}
	return all
}

// current is the directory of the world.
func (d *Dev) current() string { return filepath.Join(d.o.Dir, "current") }

// open opens the world that is in the directory, or makes one.
func (d *Dev) open(ctx context.Context) (_ *devWorld, err error) {
	dir := d.current()
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	serving, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	w := &devWorld{dir: dir, stop: stop, cut: cut, during: func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, end := context.WithCancelCause(ctx)
		off := context.AfterFunc(serving, func() { end(context.Cause(serving)) })
		return ctx, func() { off(); end(nil) }
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	reg := telemetry.NewRegistry()
	db, err := state.OpenAs(ctx, state.Options{Dir: dir, URL: d.o.StateURL})
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	w.closers = append(w.closers, db)
	blobs, err := blob.Open(filepath.Join(dir, "blobs"), blob.DefaultConfig(), reg, d.log)
	if err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	w.closers = append(w.closers, blobs)
	kept, err := ipfs.Open(filepath.Join(dir, "ipfs"), content.Blobs(blobs), ipfs.DefaultConfig(), reg, d.log)
	if err != nil {
		return nil, fmt.Errorf("open ipfs: %w", err)
	}
	w.closers = append(w.closers, kept)
	keeper, err := storage.New(blobs, nobody{}, reg, d.log)
	if err != nil {
		return nil, fmt.Errorf("build storage: %w", err)
	}
	domain := job.Jobs(new(big.Int), common.Address{})
	if w.pipe, err = ingest.New(ingest.DefaultConfig(), domain, db, nobody{}, contents{keeper: keeper, blobs: blobs, ipfs: kept}, nil, reg, d.log); err != nil {
		return nil, fmt.Errorf("build ingest: %w", err)
	}
	partials, err := blob.OpenPartials(blobs, d.log)
	if err != nil {
		return nil, err
	}
	w.ccn = ccn.New(ccn.Self(ccn.DefaultConfig()), ccn.Parts{DB: db, Intake: w.pipe, Purse: w.pipe, Prices: w.pipe, Storage: &ccn.Storage{
		Config: ccn.DefaultFilesConfig(), Blobs: blobs, IPFS: kept, Room: keeper, Uploads: w.pipe, Till: w.pipe, Partials: partials,
	}}, d.log)
	for _, run := range []func(context.Context) error{w.pipe.Run, partials.Run, w.ccn.Run} {
		w.loops.Go(func() { _ = run(life) }) // Ends with the world.
	}
	if last, err := db.LastMessage(ctx); err != nil || last >= 0 {
		return w, err
	}
	return w, w.preset(ctx, d.o, blobs)
}

// nobody is a network without anybody else.
type nobody struct{}

var errNobody = errs.New(errs.Unavailable, "this node has no peers")

func (nobody) Publish(context.Context, string, []byte) error { return nil }
func (nobody) Subscribe(string, p2p.Validator, func(context.Context, p2p.Gossip)) error {
	return nil
}
func (nobody) Listeners(string) []p2p.PeerID                   { return nil }
func (nobody) Connected() []p2p.PeerID                         { return nil }
func (nobody) Bootstrap() []p2p.PeerID                         { return nil }
func (nobody) Ask(context.Context, p2p.PeerID, any, any) error { return errNobody }
func (nobody) HandleAsk(string, p2p.AskHandler)                {}
func (nobody) HandleBlob(p2p.BlobHandler)                      {}
func (nobody) OpenBlob(context.Context, p2p.PeerID, message.ItemHash, int64) (io.ReadCloser, int64, error) {
	return nil, 0, errNobody
}

// Reset puts the node back to its beginning, or to a snapshot.
func (d *Dev) Reset(ctx context.Context, snapshot string) error {
	from, err := d.snapshotDir(snapshot, false)
	if err != nil {
		return err
	}
	return d.change(ctx, func() error {
		if err := os.RemoveAll(d.current()); err != nil {
			return fmt.Errorf("remove state: %w", err)
		}
		if snapshot == "" {
			return nil
		}
		return os.CopyFS(d.current(), os.DirFS(from))
	})
}

// Snapshot keeps what there is now under a name.
func (d *Dev) Snapshot(ctx context.Context, name string) error {
	to, err := d.snapshotDir(name, true)
	if err != nil {
		return err
	}
	return d.change(ctx, func() error {
		if err := os.RemoveAll(to); err != nil {
			return fmt.Errorf("remove snapshot: %w", err)
		}
		return os.CopyFS(to, os.DirFS(d.current()))
	})
}

// change changes the files of the world while it is closed.
func (d *Dev) change(ctx context.Context, fn func() error) error {
	if d.o.StateURL != "" {
		return errs.New(errs.Invalid, "a database of a server is not this program's to replace: begin with an empty one")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.world.Swap(nil)
	if old == nil {
		return errs.New(errs.Unavailable, "the node is ending")
	}
	if err := old.close(); err != nil {
		d.log.Warn("state not closed well", "err", err)
	}
	changed := fn()
	w, err := d.open(context.WithoutCancel(ctx))
	if err == nil {
		d.world.Store(w)
	}
	return errors.Join(changed, err)
}

// snapshotName is what a snapshot may be called.
var snapshotName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (d *Dev) snapshotDir(name string, fresh bool) (string, error) {
	if name == "" && !fresh {
		return "", nil
	}
	if !snapshotName.MatchString(name) {
		return "", errs.New(errs.Invalid, "the name of a snapshot is %.80q, want 1 to 64 letters, digits, - or _", name)
	}
	dir := filepath.Join(d.o.Dir, "snapshots", name)
	if _, err := os.Stat(dir); err != nil && !fresh {
		return "", errs.New(errs.NotFound, "there is no snapshot %s", name)
	}
	return dir, nil
}
