package ccn

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
)

// Self is who the node is.
type Self struct {
	// Version is that of the reference whose interface this is: who rates nodes
	// compares it with the newest release.
	Version string
	// Topic is the one on which messages travel.
	Topic string
	// OperatorKey is the public key of who may have costs computed again.
	OperatorKey string
}

// Config says how the node names itself to the message network.
type Config struct {
	Version     string `toml:"version"`      // Release of the reference whose interface this is; who rates nodes compares it with the newest one.
	Topic       string `toml:"topic"`        // Topic on which the messages of the network travel.
	OperatorKey string `toml:"operator_key"` // Public key, secp256k1 in hex, of who may have costs computed again; "" = nobody.
}

// DefaultConfig is that of the public network.
func DefaultConfig() Config {
	return Config{Version: "0.10.2", Topic: "ALEPH-TEST", OperatorKey: "0209fe82e08ec3c5c3ee4904fa147a11d49c7130579066c8a452d279d539959389"}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if c.Version == "" || c.Topic == "" {
		return errors.New("version and topic may not be empty")
	}
	if c.OperatorKey == "" {
		return nil
	}
	raw, err := hex.DecodeString(c.OperatorKey)
	if err == nil {
		_, err = crypto.DecompressPubkey(raw)
	}
	if err != nil {
		return fmt.Errorf("operator_key is %q, want a compressed public key of secp256k1 in hex: %w", c.OperatorKey, err)
	}
	return nil
}

// Intake takes in messages; ingest.Pipeline is one.
type Intake interface {
	Submit(ctx context.Context, s ingest.Submission) (*ingest.Verdict, error)
}

// Peers knows the network that the node is on.
type Peers interface {
	// Addresses are the multiaddresses under which others reach this node.
	Addresses() []string
	// Count is how many nodes it knows.
	Count() int
}

// Heights knows how far the node has read a chain on which messages are confirmed.
type Heights interface {
	// Heights returns the last block that was read and the newest there is; known
	// is false while nothing was read.
	Heights(ctx context.Context) (read, newest int64, known bool, err error)
}

// Counters are the numbers of those who listen live; see section 5.12 of the
// protocol for what each is.
type Counters struct {
	MessagesActive, MessagesMax, MessagesSent, MessagesRejected int64
	StatusActive, StatusMax, StatusRejected                     int64
}

// Parts are what the endpoints work with. All but DB and Intake may be nil: their
// numbers are then not known.
type Parts struct {
	DB      *state.DB
	Intake  Intake
	Peers   Peers
	Heights Heights
	Purse   Purse
	Prices  Prices
	Storage *Storage // Without it there are no files.
}

// Server answers for a node. Use New, then Run for those who listen live.
type Server struct {
	self  Self
	parts Parts
	log   *slog.Logger
	mux   *http.ServeMux
	table []route

	long      *places       // Lists that are written while they are read.
	waiting   chan struct{} // Senders that wait for what becomes of a message.
	uploads   *places       // Clients that bring files.
	documents *places       // Clients that bring long documents.
	live      *hub
	repricing chan struct{}
	channels  kept[[]byte]
	large     large
	numbers   kept[metrics]
}

// New returns the interface of a node.
func New(self Self, parts Parts, log *slog.Logger) *Server {
	s := &Server{
		self: self, parts: parts, log: log, mux: http.NewServeMux(), table: routes(),
		long: newPlaces(longMax, longWait, errCrowded), uploads: newPlaces(uploadsMax, uploadWait, errUploads), documents: newPlaces(documentsMax, documentWait, errDocuments),
		waiting: make(chan struct{}, waitingMax), repricing: make(chan struct{}, repricesMax),
	}
	s.uploads.waiting = make(chan struct{}, uploadsWaitingMax)
	s.live = newHub(parts.DB, s.Metrics, log)
	s.channels.last, s.numbers.last = channelsKept, numbersKept
	for pattern, same := range patterns(s.table) {
		s.mux.Handle(pattern, s.dispatch(same))
	}
	return s
}

// Handler answers requests, those too for what is not here.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Serves reports whether a request, or one that asks whether it may be sent, is
// for this interface: its paths lie among those of others.
func (s *Server) Serves(r *http.Request) bool { return s.serves(r, r.Method) || s.allowed(r) != "" }

// serves reports whether there is a route for the path of a request.
func (s *Server) serves(r *http.Request, method string) bool {
	asked := *r
	asked.Method = method
	_, pattern := s.mux.Handler(&asked)
	return pattern != ""
}

// allowed are the methods that the path of a request has.
func (s *Server) allowed(r *http.Request) string {
	var out []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if s.serves(r, method) {
			out = append(out, method)
		}
	}
	return strings.Join(out, ", ")
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	AllowOrigin(w.Header(), r)
	switch {
	case s.serves(r, r.Method):
		s.mux.ServeHTTP(w, r)
	case s.allowed(r) == "":
		s.refuse(w, r, refuse(http.StatusNotFound))
	case r.Method == http.MethodOptions:
		preflight(w, r, s.allowed(r))
	default:
		w.Header().Set("Allow", s.allowed(r))
		s.refuse(w, r, refuse(http.StatusMethodNotAllowed))
	}
}

// dispatch answers with the first of the routes that share a pattern whose path is
// that of the request.
func (s *Server) dispatch(same []route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := range same {
			if !same[i].match(r) {
				continue
			}
			handle := same[i].handle
			switch {
			case same[i].takesFiles():
				handle = inTurn(handle)
			case same[i].takesDocuments():
			default:
				r.Body = http.MaxBytesReader(w, r.Body, bodyMax)
			}
			if err := handle(s, w, r); err != nil {
				s.refuse(w, r, err)
			}
			return
		}
		s.refuse(w, r, refuse(http.StatusNotFound))
	}
}
