package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

const (
	// headerMax bounds the headers of a request; a signed one has under 2 KiB.
	headerMax = 16 << 10
	// headerTimeout and idleTimeout end connections that send nothing.
	headerTimeout, idleTimeout = 10 * time.Second, 2 * time.Minute
	// answerTimeout bounds requests that do not stream; streams move their own
	// deadlines.
	answerTimeout = 90 * time.Second
	// inFlightMax bounds the requests that are served at the same time, but for
	// the answers that stream, of which there may be streamsMax: fewer than a
	// node may ask its peers for.
	inFlightMax, streamsMax = 1024, 256
	// shutdownMax is how long requests may take to end when the node stops.
	shutdownMax = 5 * time.Second
)

// Config says where the interface is.
type Config struct {
	Bind string `toml:"bind"` // Address and port to listen on; port 0 lets the system choose.
}

// DefaultConfig listens on loopback.
func DefaultConfig() Config { return Config{Bind: "127.0.0.1:4020"} }

// Validate reports the first setting that cannot work.
func (c Config) Validate() error {
	_, port, err := net.SplitHostPort(c.Bind)
	if err != nil {
		return fmt.Errorf("bind is %q, want an address and a port like 127.0.0.1:4020", c.Bind)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("bind is %q: port %q is not a number from 0 to 65535", c.Bind, port)
	}
	return nil
}

// Server is the HTTP server of a node. Use Listen, then Serve.
type Server struct {
	listener net.Listener
	log      *slog.Logger
}

// Listen takes the port that cfg names. Nothing is answered before Serve.
func Listen(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.Bind)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errs.New(errs.Conflict, "another process already listens on %s; stop it or set another [api] bind", cfg.Bind)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Bind, err)
	}
	return &Server{listener: l, log: log}, nil
}

// URL returns the base URL under which the server is reached on this machine.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close gives the port back if Serve was never called.
func (s *Server) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close listener: %w", err)
	}
	return nil
}

// Serve answers requests with h until ctx ends, then lets those that run end;
// it returns ctx's cause.
func (s *Server) Serve(ctx context.Context, h http.Handler) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := &http.Server{
		Handler: s.guard(h), ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return requests },
		MaxHeaderBytes:    headerMax,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: answerTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout,
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", s.URL(), err)
	case <-ctx.Done():
	}
	// Streams that follow end at once, so that the others may end in peace.
	cancel()
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownMax)
	defer stop()
	if err := srv.Shutdown(grace); err != nil {
		if err := srv.Close(); err != nil {
			s.log.Debug("connections closed hard", "err", err)
		}
	}
	<-failed //nolint:errcheck // It says that the server was shut down.
	return context.Cause(ctx)
}

// guard bounds the requests in flight, survives a handler that panics, and
// writes the access log.
func (s *Server) guard(next http.Handler) http.Handler {
	var seq atomic.Uint64
	slots, streams := make(chan struct{}, inFlightMax), make(chan struct{}, streamsMax)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, id := time.Now(), strconv.FormatUint(seq.Add(1), 36)
		rec := &recorder{ResponseWriter: w, status: http.StatusOK, leave: func() { <-slots }, streams: streams}
		rec.Header().Set("X-Request-Id", id)
		rec.Header().Set("X-Content-Type-Options", "nosniff")
		defer func() {
			if v := recover(); v != nil {
				s.recovered(rec, r, v)
			}
			s.log.Debug("request", "id", id, "method", r.Method, "path", r.URL.Path, "status", rec.status,
				"bytes", rec.bytes, "took", time.Since(start), "peer", r.RemoteAddr)
		}()
		select {
		case slots <- struct{}{}:
			defer func() { rec.leave() }()
			next.ServeHTTP(rec, r)
		default:
			Refuse(s.log, rec, r, errs.New(errs.Unavailable, "%d requests are being served already; try again", inFlightMax))
		}
	})
}

// BeginStream says that the answer goes on for as long as the client likes, so
// that it does not count among the requests in flight. It gives errs.Unavailable
// when too many do so already; call it before the answer begins.
func BeginStream(w http.ResponseWriter) error {
	if rec := recorderOf(w); rec != nil {
		return rec.beginStream()
	}
	return nil // Nobody counts.
}

// Move takes a request out of those in flight, once enter has given it a place
// elsewhere, which it leaves when it is answered. Call it before the answer begins.
func Move(w http.ResponseWriter, enter func() (leave func(), err error)) error {
	rec := recorderOf(w)
	if rec == nil {
		return nil // Nobody counts.
	}
	leave, err := enter()
	if err != nil {
		return err
	}
	rec.leave()
	rec.leave = leave
	return nil
}

func recorderOf(w http.ResponseWriter) *recorder {
	for {
		switch t := w.(type) {
		case *recorder:
			return t
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return nil
		}
	}
}

// recovered ends a request whose handler panicked: with an answer if none was
// begun, else by breaking the connection, so that nobody takes it for whole.
func (s *Server) recovered(rec *recorder, r *http.Request, v any) {
	if v == http.ErrAbortHandler { //nolint:errorlint // The very value is the signal.
		panic(v)
	}
	s.log.Error("handler panicked", "method", r.Method, "path", r.URL.Path, "err", v, "stack", string(debug.Stack()))
	if rec.begun {
		panic(http.ErrAbortHandler)
	}
	Refuse(s.log, rec, r, errs.New(errs.Internal, "panic: %v", v))
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	begun  bool

	leave   func()        // Gives up the place that the request has.
	streams chan struct{} // Where one that streams has its place.
	stream  bool          // It does.
}

func (r *recorder) beginStream() error {
	if r.stream {
		return nil
	}
	select {
	case r.streams <- struct{}{}:
		r.leave()
		r.leave, r.stream = func() { <-r.streams }, true
		return nil
	default:
		return errs.New(errs.Unavailable, "%d answers are being streamed already; try again later", streamsMax)
	}
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	if !r.begun {
		r.status, r.begun = status, true
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (r *recorder) Write(p []byte) (int, error) {
	r.begun = true
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
