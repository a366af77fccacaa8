package api

import (
	"log/slog"
	"net/http"
)

// The bounds of what is served at the same time.
const (
	InFlightMax = inFlightMax
	StreamsMax  = streamsMax
)

// Guard is what a server puts around its handler.
func Guard(log *slog.Logger, next http.Handler) http.Handler { return (&Server{log: log}).guard(next) }
