package guestapi

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

const (
	// keyChars bounds the name of an entry, patternChars a pattern of names.
	keyChars, patternChars = 256, 256
	// messageBytes bounds a message to be signed or published: inline contents
	// have 200,000 bytes at most.
	messageBytes = 1 << 20
	// headerBytes bounds the headers of a question.
	headerBytes = 64 << 10
	// headerMax and idleMax bound how long a connection says nothing.
	headerMax = 30 * time.Second
	idleMax   = 2 * time.Minute
	// askMax bounds a question of the network's interface.
	askMax = 60 * time.Second
)

// Publisher takes in messages.
type Publisher interface {
	// Publish takes in a signed message of a program, as a client's.
	Publish(ctx context.Context, program message.ItemHash, envelope json.RawMessage) error
}

// Account signs for programs. It is an account of its own: what it signs is
// chosen by strangers, so it is no key of the node's.
type Account struct {
	Signer    *signature.Signer // Of Ethereum.
	PublicKey []byte            // Compressed.
}

// Server answers programs.
type Server struct {
	cfg       Config
	cache     *Cache
	account   Account
	publisher Publisher
	network   http.Handler
	log       *slog.Logger
}

// New returns a server that asks network, the interface of a node of the message
// network, what programs read of that.
func New(cfg Config, cache *Cache, account Account, publisher Publisher, network http.Handler, log *slog.Logger) *Server {
	return &Server{cfg, cache, account, publisher, network, log}
}

// ServeProgram answers one program, until the listener is closed.
func (s *Server) ServeProgram(spec message.ItemHash, program *message.Program, l net.Listener) error {
	srv := &http.Server{
		Handler: s.Handler(spec, program), ReadHeaderTimeout: headerMax, IdleTimeout: idleMax, MaxHeaderBytes: headerBytes,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	defer srv.Close()
	if err := srv.Serve(l); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve program: %w", err)
	}
	return nil
}

// Handler answers one program.
func (s *Server) Handler(spec message.ItemHash, program *message.Program) http.Handler {
	g := &guest{Server: s, spec: spec, aleph: program.Environment.AlephAPI}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cache/{$}", g.listKeys)
	mux.HandleFunc("GET /cache/{key}", g.getKey)
	mux.HandleFunc("PUT /cache/{key}", g.putKey)
	mux.HandleFunc("DELETE /cache/{key}", g.deleteKey)
	mux.HandleFunc("GET /properties", g.properties)
	mux.HandleFunc("POST /sign", g.sign)
	mux.HandleFunc("POST /api/v0/ipfs/pubsub/pub", g.publish)
	mux.HandleFunc("POST /api/v0/p2p/pubsub/pub", g.publish)
	mux.HandleFunc("/", g.ask)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.spend(&g.requests, 1, int64(s.cfg.RequestsPerMinute)) {
			tell(w, http.StatusTooManyRequests, "too many requests")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// guest is one program that asks.
type guest struct {
	*Server
	spec  message.ItemHash
	aleph bool // It may ask the network.

	mu       sync.Mutex
	minute   time.Time // That the counts are of; guarded by mu
	requests int64     // guarded by mu
	signs    int64     // guarded by mu
	answered int64     // Bytes; guarded by mu
}

// spend takes n of what a program has each minute, if it has it.
func (g *guest) spend(count *int64, n, most int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now().Truncate(time.Minute); !now.Equal(g.minute) {
		g.minute, g.requests, g.signs, g.answered = now, 0, 0, 0
	}
	if *count+n > most {
		return false
	}
	*count += n
	return true
}

// tell answers with an error.
func tell(w http.ResponseWriter, status int, text string) {
	answer(w, status, map[string]string{"error": text})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // Whoever asked may be gone.
}

// fail answers with what went wrong, and tells nothing of the host.
func (g *guest) fail(w http.ResponseWriter, err error) {
	switch errs.KindOf(err) {
	case errs.Invalid:
		tell(w, http.StatusRequestEntityTooLarge, err.Error())
	case errs.Exhausted:
		tell(w, http.StatusInsufficientStorage, err.Error())
	default:
		g.log.Warn("question of a program failed", "item_hash", g.spec, "err", err)
		tell(w, http.StatusInternalServerError, "internal error")
	}
}

var (
	keyForm     = regexp.MustCompile(`^[\p{L}\p{N}_]+$`)
	patternForm = regexp.MustCompile(`^[\p{L}\p{N}_?*^\-]+$`)
)

func (g *guest) listKeys(w http.ResponseWriter, r *http.Request) {
	pattern := r.URL.Query().Get("pattern")
	if pattern == "" {
		pattern = "*"
	}
	if len(pattern) > patternChars || !patternForm.MatchString(pattern) {
		plain(w, http.StatusBadRequest, "Invalid key")
		return
	}
	answer(w, http.StatusOK, g.cache.Keys(g.spec, pattern, time.Now()))
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // Whoever asked may be gone.
}

// key returns the key of a question, unless it was refused.
func key(w http.ResponseWriter, r *http.Request) (string, bool) {
	k := r.PathValue("key")
	if len(k) > keyChars || !keyForm.MatchString(k) {
		plain(w, http.StatusBadRequest, "Invalid key")
		return "", false
	}
	return k, true
}

func (g *guest) getKey(w http.ResponseWriter, r *http.Request) {
	k, ok := key(w, r)
	if !ok {
		return
	}
	value, err := g.cache.Get(g.spec, k, time.Now())
	switch {
	case errors.Is(err, errs.NotFound):
		plain(w, http.StatusNotFound, "No such key in cache")
	case err != nil:
		g.fail(w, err)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(value) //nolint:gosec // Its own bytes, to the program itself, and no page. Whoever asked may be gone.
	}
}

func (g *guest) putKey(w http.ResponseWriter, r *http.Request) {
	k, ok := key(w, r)
	if !ok {
		return
	}
	value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, g.cfg.ValueKiB<<10))
	if err != nil {
		tell(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("an entry has at most %d KiB", g.cfg.ValueKiB))
		return
	}
	if err := g.cache.Put(g.spec, k, value, time.Now()); err != nil {
		g.fail(w, err)
		return
	}
	answer(w, http.StatusOK, true)
}

func (g *guest) deleteKey(w http.ResponseWriter, r *http.Request) {
	k, ok := key(w, r)
	if !ok {
		return
	}
	was, err := g.cache.Delete(g.spec, k, time.Now())
	if err != nil {
		g.fail(w, err)
		return
	}
	n := 0
	if was {
		n = 1
	}
	answer(w, http.StatusOK, n)
}

func (g *guest) properties(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]string{
		"chain": string(message.Ethereum), "curve": "secp256k1", "address": g.account.Signer.Address(),
		"public_key": hex.EncodeToString(g.account.PublicKey),
	})
}

// maySign reports whether a program may have its messages signed, now.
func (g *guest) maySign(w http.ResponseWriter) bool {
	if !g.aleph {
		tell(w, http.StatusForbidden, "environment.aleph_api is not set")
		return false
	}
	if !g.spend(&g.signs, 1, int64(g.cfg.SignsPerMinute)) {
		tell(w, http.StatusTooManyRequests, "too many messages")
		return false
	}
	return true
}

func (g *guest) sign(w http.ResponseWriter, r *http.Request) {
	if !g.maySign(w) {
		return
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, messageBytes))
	if err != nil {
		tell(w, http.StatusRequestEntityTooLarge, "message is too large")
		return
	}
	signed, err := g.signed(raw)
	if err != nil {
		tell(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(signed) // Whoever asked may be gone.
}

// signed signs a message of the program. It must be about the program, and its
// hash must be that of its content: otherwise it could say anything.
func (g *guest) signed(raw []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	var m struct {
		Chain       message.Chain `json:"chain"`
		Type        message.Type  `json:"type"`
		Sender      *string       `json:"sender"`
		ItemHash    string        `json:"item_hash"`
		ItemContent string        `json:"item_content"`
	}
	if err := errors.Join(json.Unmarshal(raw, &all), json.Unmarshal(raw, &m)); err != nil {
		return nil, errors.New("message is not JSON of the right form")
	}
	// By its exact name: a struct would take "Address" too, which others do not read.
	var content map[string]json.RawMessage
	var address string
	if json.Unmarshal([]byte(m.ItemContent), &content) != nil || json.Unmarshal(content["address"], &address) != nil || address != string(g.spec) {
		return nil, errors.New("Message address does not match VM item_hash") //nolint:staticcheck // The published text.
	}
	if m.Chain == "" {
		m.Chain = message.Ethereum
	}
	hash := message.HashOf([]byte(m.ItemContent))
	switch {
	case m.Chain != message.Ethereum:
		return nil, fmt.Errorf("chain is %.16q, messages are signed on %s", m.Chain, message.Ethereum)
	case m.ItemHash != string(hash):
		return nil, errors.New("item_hash is not that of item_content")
	case m.Sender != nil && *m.Sender != g.account.Signer.Address():
		return nil, errors.New("sender is not the account of this node")
	}
	e := message.Envelope{Chain: m.Chain, Type: m.Type, ItemHash: hash}
	if err := g.account.Signer.Sign(&e); err != nil {
		return nil, errors.New("message cannot be signed")
	}
	for name, v := range map[string]string{"chain": string(e.Chain), "sender": e.Sender, "signature": e.Signature} {
		text, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
		all[name] = text
	}
	return json.Marshal(all)
}

// publish publishes a message of the program. One that is not signed yet is
// signed.
func (g *guest) publish(w http.ResponseWriter, r *http.Request) {
	if !g.maySign(w) {
		return
	}
	var body struct {
		Topic string `json:"topic"`
		Data  string `json:"data"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, messageBytes)).Decode(&body); err != nil {
		tell(w, http.StatusBadRequest, "body is not JSON with topic and data")
		return
	}
	raw := []byte(body.Data)
	var m struct {
		Signature string `json:"signature"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		tell(w, http.StatusBadRequest, "data is not a message")
		return
	}
	if m.Signature == "" {
		var err error
		if raw, err = g.signed(raw); err != nil {
			tell(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	if err := g.publisher.Publish(r.Context(), g.spec, raw); err != nil {
		var rejected *message.RejectError
		if errors.As(err, &rejected) || errs.KindOf(err) == errs.Invalid {
			tell(w, http.StatusUnprocessableEntity, err.Error())
			return
		}
		g.fail(w, err)
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "success"})
}

// ask asks the network's interface for the program.
func (g *guest) ask(w http.ResponseWriter, r *http.Request) {
	switch {
	case !g.aleph:
		tell(w, http.StatusForbidden, "environment.aleph_api is not set")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions:
		tell(w, http.StatusMethodNotAllowed, "programs may only read")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), askMax)
	defer cancel()
	q := r.Clone(ctx)
	// Nothing of the connection or of the program goes further.
	q.Header = http.Header{}
	for _, name := range []string{"Accept", "Range", "If-None-Match"} {
		if v := r.Header.Get(name); v != "" {
			q.Header.Set(name, v)
		}
	}
	q.Body, q.ContentLength, q.Host, q.RemoteAddr = http.NoBody, 0, "localhost", ""
	g.network.ServeHTTP(&metered{ResponseWriter: w, g: g}, q)
}

// metered counts what a program reads.
type metered struct {
	http.ResponseWriter
	g *guest
}

// Write implements io.Writer. An answer that goes beyond what the program may
// read is cut off, so that it cannot be taken for a whole one.
func (m *metered) Write(p []byte) (int, error) {
	if !m.g.spend(&m.g.answered, int64(len(p)), m.g.cfg.AnswerKiB<<10) {
		panic(http.ErrAbortHandler)
	}
	n, err := m.ResponseWriter.Write(p)
	if err != nil {
		return n, fmt.Errorf("answer program: %w", err)
	}
	return n, nil
}
