package crn

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/flight"
	"github.com/aleph-onchain/aleph-onchain/internal/hostinfo"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

const (
	// bodyMax bounds the bodies of requests that are not said to be longer.
	bodyMax = 1 << 20
	// replaysMax bounds the signed requests that are remembered, and
	// replaysPerSignerMax those of one signer.
	replaysMax, replaysPerSignerMax = 100_000, 2_000
	// slowest is how long an answer that waits for machines may take.
	slowest = 15 * time.Minute
	// looksMax bounds the machines that strangers have looked at at the same time,
	// and greetingsMax those who have not said yet who they are.
	looksMax, greetingsMax = 64, 64
	// secretBytes is how long the node's secret is.
	secretBytes = 32
)

// Config says how the node names itself to the network, and whom it obeys.
type Config struct {
	Domain               string   `toml:"domain"`                  // Name under which clients reach the node by HTTPS, without port: owners sign for it.
	Version              string   `toml:"version"`                 // Release of the reference whose interface this is; who rates nodes compares it with the newest one.
	AllocationSigners    []string `toml:"allocation_signers"`      // Addresses of the only schedulers that may allocate; none = those of the network's settings.
	AllocationTokenHash  string   `toml:"allocation_token_hash"`   // SHA-256, in hex, of the token of an older scheduler; "" = no token is good.
	CheckProgram         string   `toml:"check_program"`           // Item hash of the program with which the node checks itself.
	CheckProgramLegacy   string   `toml:"check_program_legacy"`    // The same, on the runtime before.
	FunctionBodyMaxBytes int64    `toml:"function_body_max_bytes"` // Longest body of a call of a function.
}

// DefaultConfig is that of the public network.
func DefaultConfig() Config {
	return Config{ //nolint:gosec // G101: the hash of a token, and names of programs.
		Domain: "localhost", Version: "1.13.0",
		AllocationTokenHash:  "151ba92f2eb90bce67e912af2f7a5c17d8654b3d29895b042107ea312a7eebda",
		CheckProgram:         "d2b74aa29898457bde0560e47f7cdd4e77287e9f1f7a1456161d2fd7d5c855d7",
		CheckProgramLegacy:   "ad67c6857d6319486794ec2a3d14b584ac7e6c27593f3172148e486dbd1e0e21",
		FunctionBodyMaxBytes: 100 << 20,
	}
}

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	if c.Domain == "" || strings.ContainsAny(c.Domain, ":/ ") {
		return fmt.Errorf("domain is %q, want a name without port", c.Domain)
	}
	if c.Version == "" || strings.ContainsAny(c.Version, "\r\n") {
		return errors.New("version may not be empty")
	}
	for _, signer := range c.AllocationSigners {
		if !common.IsHexAddress(signer) {
			return fmt.Errorf("allocation_signers has %q, want 0x and 40 hex digits", signer)
		}
	}
	if raw, err := hex.DecodeString(c.AllocationTokenHash); err != nil || len(raw) != 0 && len(raw) != 32 {
		return fmt.Errorf("allocation_token_hash is %q, want 64 hex digits or nothing", c.AllocationTokenHash)
	}
	for name, ref := range map[string]string{"check_program": c.CheckProgram, "check_program_legacy": c.CheckProgramLegacy} {
		if _, err := message.ParseItemHash(ref); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if c.FunctionBodyMaxBytes < 1 {
		return fmt.Errorf("function_body_max_bytes is %d, want at least 1", c.FunctionBodyMaxBytes)
	}
	return nil
}

// Self is who the node is.
type Self struct {
	Config
	// Secret signs the links of backups and is the token of the operator's pages;
	// see ReadSecret.
	Secret string
	// Public is what everybody may know of the node's settings.
	Public PublicConfig
	// Names are further names of the node's host, which are no function's.
	Names []string
}

// ReadSecret returns the secret in a file, which is made if it is not there. It
// outlives the process, so that links do.
func ReadSecret(file string) (string, error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeSecret(file)
	}
	if err != nil {
		return "", fmt.Errorf("read secret of the compute interface: %w", err)
	}
	secret := strings.TrimSpace(string(raw))
	if len(secret) < secretBytes {
		return "", fmt.Errorf("secret in %s has %d characters, want at least %d: delete the file to have one made", file, len(secret), secretBytes)
	}
	return secret, nil
}

func makeSecret(file string) (string, error) {
	raw := make([]byte, secretBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("make secret of the compute interface: %w", err)
	}
	secret := base64.RawURLEncoding.EncodeToString(raw)
	draft := file + ".new"
	if err := os.Remove(draft); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("make secret of the compute interface: %w", err)
	}
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return "", fmt.Errorf("make secret of the compute interface: %w", err)
	}
	_, err = io.WriteString(f, secret+"\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(draft, file)
	}
	if err != nil {
		return "", fmt.Errorf("make secret of the compute interface: %w", err)
	}
	return secret, nil
}

// Server answers requests. Use New.
type Server struct {
	self  Self
	parts Parts
	log   *slog.Logger
	table []route
	page  []byte
	now   func() time.Time

	tokenHash   [32]byte
	signers     []common.Address
	owners      *operator.Replays
	allocations *operator.Replays
	strangers   *operator.Replays
	looks       chan struct{}
	greetings   chan struct{}
	readers     readers
	domains     domains

	// What strangers may ask for is done once for all who ask.
	starts  flight.Group[message.ItemHash, *notification]
	updates flight.Group[message.ItemHash, struct{}]
	checks  flight.Group[check, map[string]bool]
	reaches flight.Group[string, *hostinfo.Connectivity]

	draining atomic.Bool

	lists sync.Mutex // Held while a list of a scheduler is obeyed.

	mu        sync.Mutex
	restoring map[message.ItemHash]bool // guarded by mu
}

// New returns the interface of a node.
func New(self Self, parts Parts, log *slog.Logger) (*Server, error) {
	if len(self.Secret) < secretBytes {
		return nil, fmt.Errorf("secret of the compute interface has %d characters, want at least %d", len(self.Secret), secretBytes)
	}
	s := &Server{
		self: self, parts: parts, log: log, table: routes(), now: time.Now,
		owners:      operator.NewReplays(2*operator.OperationWindow, replaysMax, replaysPerSignerMax),
		allocations: operator.NewReplays(2*operator.AllocationWindow, replaysMax, replaysMax),
		strangers:   operator.NewReplays(2*operator.OperationWindow, replaysMax, replaysPerSignerMax),
		looks:       make(chan struct{}, looksMax), greetings: make(chan struct{}, greetingsMax), restoring: map[message.ItemHash]bool{},
	}
	for _, signer := range self.AllocationSigners {
		s.signers = append(s.signers, common.HexToAddress(signer))
	}
	if _, err := hex.Decode(s.tokenHash[:], []byte(self.AllocationTokenHash)); err != nil {
		return nil, fmt.Errorf("read allocation_token_hash: %w", err)
	}
	var err error
	if s.page, err = newPage(self.Config); err != nil {
		return nil, err
	}
	return s, nil
}

// Drain refuses calls of functions from now on: the node is about to stop.
func (s *Server) Drain() { s.draining.Store(true) }

// Serves reports whether a request is for this interface: its path is one of it,
// or its host names a function. What no other interface of the node has may be
// passed here too: custom domains are found so.
func (s *Server) Serves(r *http.Request) bool {
	if _, _, ok := s.find(r.Method, r.URL.EscapedPath()); ok || strings.HasPrefix(r.URL.Path, functionPrefix) || underOwn(r.URL.Path) {
		return true
	}
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		_, _, ok := s.find(r.Header.Get("Access-Control-Request-Method"), r.URL.EscapedPath())
		return ok
	}
	label, _, _ := strings.Cut(hostname(r), ".")
	_, ok := programOfLabel(label)
	return ok
}

// LeadsToFunction reports whether the host of a request is a custom domain of a
// function: then all paths are the function's. Unless it may ask the domain name
// system, it goes by what is known.
func (s *Server) LeadsToFunction(r *http.Request, ask bool) bool {
	host := hostname(r)
	if s.isOwn(host) {
		return false
	}
	if !ask {
		return s.domains.leads(host)
	}
	_, ok := s.programOfDomain(r.Context(), host)
	return ok
}

// isOwn reports whether a host is the node itself rather than a function's: its
// domain, or an address of the network it is in.
func (s *Server) isOwn(host string) bool {
	own := func(name string) bool { return strings.EqualFold(host, name) }
	return own(s.self.Domain) || slices.ContainsFunc(s.self.Names, own) || strings.EqualFold(host, "localhost") || net.ParseIP(strings.Trim(host, "[]")) != nil
}

// hostname is the host of a request without port.
func hostname(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

// call is a request that is being answered.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	params map[string]string // Of the path.
	body   *callBody         // Of a function's call; nil if it has none.
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "aleph-vm/"+s.self.Version)
	c := &call{w: w, r: r}
	if s.draining.Load() && s.callsFunction(r) {
		s.fail(c, refuse(http.StatusServiceUnavailable, "Server is draining, try another node"))
		return
	}
	if s.preflight(c) {
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	found, params, ok := s.find(method, r.URL.EscapedPath())
	var err error
	switch {
	case ok:
		c.params = params
		if found.cors {
			allowOrigin(w.Header(), r)
		}
		if !found.long {
			r.Body = http.MaxBytesReader(w, r.Body, bodyMax)
		}
		err = found.handle(s, c)
	case method == http.MethodGet && underOwn(r.URL.Path):
		err = errNoPath()
	case strings.HasPrefix(r.URL.Path, functionPrefix) && len(r.URL.Path) > len(functionPrefix):
		err = s.callByPath(r.Context(), c)
	default:
		err = s.callByHost(r.Context(), c)
	}
	if err != nil {
		s.fail(c, err)
	}
}

// underOwn reports whether nothing but the node's own is at a path.
func underOwn(path string) bool {
	for _, prefix := range []string{"/about/", "/control/", "/status/"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// find returns the route of a path, and what its path names.
func (s *Server) find(method, path string) (*route, map[string]string, bool) {
	for i := range s.table {
		if s.table[i].method != method {
			continue
		}
		if params, ok := s.table[i].match(path); ok {
			return &s.table[i], params, true
		}
	}
	return nil, nil, false
}

// unhurried gives an answer that waits for machines its time.
func (c *call) unhurried() {
	rc := http.NewResponseController(c.w)
	until := time.Now().Add(slowest)
	_ = rc.SetReadDeadline(until)  // Where there are no deadlines,
	_ = rc.SetWriteDeadline(until) // none is in the way.
}
