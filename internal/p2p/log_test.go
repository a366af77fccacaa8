package p2p_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p/p2ptest"
)

// record is a log in memory.
type record struct {
	mu  sync.Mutex
	all bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.Write(p)
}

// line returns the first line with a text, "" if there is none.
func (r *record) line(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(r.all.String()) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

func TestAFrameThatIsNoneIsNoWarning(t *testing.T) {
	var log record
	h, err := p2p.Open(t.Context(), p2ptest.Config(), p2ptest.Key("told"), nil, prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	liar, err := libp2p.New(libp2p.NoListenAddrs)
	must(t, err)
	t.Cleanup(func() { must(t, liar.Close()) })
	at, err := peer.AddrInfoFromString(h.Addrs()[0])
	must(t, err)
	must(t, liar.Connect(t.Context(), *at))

	s, err := liar.NewStream(t.Context(), at.ID, pubsub.GossipSubID_v11)
	must(t, err)
	_, err = s.Write([]byte{3, 0xff, 0xff, 0xff})
	must(t, err)

	const junk = "control message is too large" // So the library calls what it cannot read.
	p2ptest.Wait(t, "the frame is logged", func() bool { return log.line(junk) != "" })
	if line := log.line(junk); !strings.Contains(line, "level=DEBUG") {
		t.Errorf("got %q, want it for who debugs only", line)
	}
}
