package v1

import (
	"context"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/ethereum/go-ethereum/common"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/scheduler"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// Role is what the node does, and decides which endpoints it has.
type Role string

// The roles.
const (
	Coordinator Role = "coordinator"
	Compute     Role = "compute"
	API         Role = "api" // Serves the database of another process.
)

// Intake takes in messages and offers; ingest.Pipeline is one.
type Intake interface {
	Submit(ctx context.Context, s ingest.Submission) (*ingest.Verdict, error)
	SubmitOffer(ctx context.Context, raw []byte, o job.Offer, sig job.Signature, now time.Time) (*state.Offer, error)
}

// Planner says what an instance would cost and where it would run;
// scheduler.Planner is one.
type Planner interface {
	Quote(ctx context.Context, i *message.Instance, spec message.ItemHash, nodeHint uint32) (*scheduler.Quote, error)
}

// Peers asks other nodes; p2p.Host is one.
type Peers interface {
	Ask(ctx context.Context, id p2p.PeerID, request, reply any) error
	AskStream(ctx context.Context, id p2p.PeerID, request, reply any) (io.ReadCloser, error)
}

// Funds reads what an address can pay with, as of the newest block, in the
// token's smallest unit, and asks the token whether it would take a permit to
// the payment contract, which it denies with errs.Denied; mirror.Syncer is one.
type Funds interface {
	Funds(ctx context.Context, owner common.Address, token uint8) (balance, allowance, refund *big.Int, err error)
	CheckPermit(ctx context.Context, owner common.Address, value *big.Int, deadline uint64, sig job.Signature) error
}

// Ether reads how much ether an account has, in wei; chain.Client is one.
type Ether interface {
	Balance(ctx context.Context, account common.Address) (*big.Int, error)
}

// Console gives the console of a machine on this host to its owner;
// executor.Supervisor is one.
type Console interface {
	Logs(ctx context.Context, r executor.LogRequest) (io.ReadCloser, error)
}

// Machines tells of the machines on this host, also of those that are gone but
// whose history is kept; executor.Supervisor is one.
type Machines interface {
	Status(ctx context.Context, spec message.ItemHash) (*job.VM, error)
}

// Check is one part's word on whether it can do its work.
type Check struct {
	Name  string
	Ready func(ctx context.Context) error // nil when it can.
}

// Connections tells of the peers that are connected; p2p.Host is one.
type Connections interface {
	Peers() []p2p.Connection
}

// Self is who the node is.
type Self struct {
	Role      Role
	NodeID    uint32
	Version   string
	PeerID    p2p.PeerID
	Domain    job.Domain // Of JobManager; holds the chain's id.
	Contracts map[string]common.Address
}

// Parts are what the endpoints work with. A coordinator needs all but Console,
// Machines and Drainer, a compute node DB, Console, Machines, Drainer, Connections,
// Gatherer and Checks, an API process Gatherer and Checks.
type Parts struct {
	DB          *state.DB
	Intake      Intake
	Planner     Planner
	Peers       Peers
	Connections Connections
	Funds       Funds
	Ether       Ether
	Blobs       *blob.Store
	Room        Room
	Console     Console
	Machines    Machines
	Drainer     Drainer
	Gatherer    prometheus.Gatherer
	Checks      []Check
}

// Server answers for a node. Use New.
type Server struct {
	self    Self
	parts   Parts
	log     *slog.Logger
	mux     *http.ServeMux
	api     huma.API
	nonces  *nonces
	readers readers
	waits   sync.Map // What each part waited for when it was asked last; "" for nothing.
}

// New returns the interface of a node in its role.
func New(self Self, parts Parts, log *slog.Logger) *Server {
	s := &Server{self: self, parts: parts, log: log, mux: http.NewServeMux(), nonces: newNonces()}
	s.api = humago.New(s.mux, humaConfig(self.Version))
	s.registerOperation()
	switch self.Role {
	case API:
	case Coordinator:
		s.registerShared()
		s.registerCoordinator()
	case Compute:
		s.registerShared()
		s.registerCompute()
	}
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A path that nobody serves is a problem like any other.
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.refuseUnknown(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) refuseUnknown(w http.ResponseWriter, r *http.Request) {
	rec := &statusOnly{header: http.Header{}}
	s.mux.ServeHTTP(rec, r)
	if allow := rec.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		api.Refuse(s.log, w, r, &api.Problem{
			Title: http.StatusText(http.StatusMethodNotAllowed), Status: http.StatusMethodNotAllowed,
			Detail: "method " + r.Method + " is not for this path, only " + allow,
		})
		return
	}
	api.Refuse(s.log, w, r, &api.Problem{
		Title: http.StatusText(http.StatusNotFound), Status: http.StatusNotFound,
		Detail: "there is nothing at this path; /openapi.json lists what there is",
	})
}

// statusOnly takes the headers of an answer and drops its body.
type statusOnly struct{ header http.Header }

// Header implements http.ResponseWriter.
func (s *statusOnly) Header() http.Header { return s.header }

// Write implements io.Writer.
func (s *statusOnly) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader implements http.ResponseWriter.
func (s *statusOnly) WriteHeader(int) {}

//go:generate go test . -run ^TestDocumentIsCommitted$ -update

// Document returns the OpenAPI 3.1 document of the whole interface as YAML,
// the endpoints of both roles together.
func Document() ([]byte, error) {
	s := &Server{self: Self{Version: "1"}, log: slog.New(slog.DiscardHandler), mux: http.NewServeMux(), nonces: newNonces()}
	s.api = humago.New(s.mux, humaConfig("1"))
	s.registerOperation()
	s.registerShared()
	s.registerCoordinator()
	s.registerMachines()
	return s.api.OpenAPI().YAML()
}

func humaConfig(version string) huma.Config {
	cfg := huma.DefaultConfig("aleph-onchain", version)
	cfg.Info.Description = "The HTTP interface of a node. Amounts are decimal texts of wei, times are Unix seconds of chain time."
	cfg.CreateHooks = nil // they add a $schema field to every answer
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "/openapi", "", ""
	cfg.Transformers = []huma.Transformer{plainProblem}
	return cfg
}

// plainProblem turns the framework's refusal of a request into the form of all
// others: the first thing that is wrong in words, nothing echoed.
func plainProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := &api.Problem{Title: http.StatusText(m.Status), Status: m.Status, Detail: m.Detail}
	if len(m.Errors) > 0 {
		e := m.Errors[0]
		if e.Location != "" {
			p.Detail += ": " + e.Location
		}
		p.Detail += ": " + e.Message
	}
	return p, nil
}

// handle registers a typed endpoint. Its errors are answered as problems.
func handle[I, O any](s *Server, op huma.Operation, fn func(context.Context, *I) (*O, error)) {
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err != nil {
			p := api.ProblemOf(err)
			api.LogInternal(s.log, op.Method, op.Path, p, err)
			return nil, p
		}
		return out, nil
	})
}

// stream registers an endpoint that reads or writes bytes as they come.
func stream[I any](s *Server, op huma.Operation, fn func(http.ResponseWriter, *http.Request, *I) error) {
	op.BodyReadTimeout = -1 // moved by the handler, as bytes come
	huma.Register(s.api, op, func(_ context.Context, in *I) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hctx huma.Context) {
			r, w := humago.Unwrap(hctx)
			if err := fn(w, r, in); err != nil {
				api.Refuse(s.log, w, r, err)
			}
		}}, nil
	})
}

// metrics is the endpoint of the registry, in Prometheus's text form.
func (s *Server) metrics() http.Handler {
	return promhttp.HandlerFor(s.parts.Gatherer, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)})
}
