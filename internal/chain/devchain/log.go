package devchain

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"syscall"

	gethlog "github.com/ethereum/go-ethereum/log"
	"github.com/ethereum/go-ethereum/node"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// adopted hides the concrete type of a go-ethereum logger: with it,
// gethlog.SetDefault would replace the logger of the whole process.
type adopted struct{ gethlog.Logger }

// adoptLogs sends what go-ethereum says to log. The library keeps one logger
// per process; the newest chain gets it.
func adoptLogs(log *slog.Logger) { gethlog.SetDefault(adopted{gethLogger(log)}) }

func gethLogger(log *slog.Logger) gethlog.Logger {
	return gethlog.NewLogger(failures{log.Handler()})
}

// failures passes on only what a person may have to act on: the library warns of
// things that a chain without peers and finality always has.
type failures struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h failures) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h failures) WithAttrs(attrs []slog.Attr) slog.Handler {
	return failures{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h failures) WithGroup(name string) slog.Handler { return failures{h.Handler.WithGroup(name)} }

// kindOf says of a failure to start what it means.
func kindOf(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, node.ErrDatadirUsed):
		return errs.New(errs.Conflict, "another process uses the directory: %w", err)
	case errors.As(err, &op) && errors.Is(err, syscall.EADDRINUSE):
		return errs.New(errs.Conflict, "the port is in use: %w", err)
	}
	return err
}
