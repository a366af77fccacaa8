package ccn

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// topic is what those who listen live listen to.
type topic uint8

const (
	toMessages topic = iota
	toStatus
	topics
)

const (
	// messageSocketsMax and statusSocketsMax bound those who listen live.
	messageSocketsMax, statusSocketsMax = 10_000, 1_000
	// wordsMax bounds the values of all filters together: each new message is
	// compared with them.
	wordsMax = 1 << 17
	// pingEvery is how often a client must show that it is there.
	pingEvery = 30 * time.Second
	// statusEvery is how often the numbers of the node are looked at.
	statusEvery = 10 * time.Second
	// liveBatch is how many new messages are held at once.
	liveBatch = 64
	// historiesMax bounds the sockets that look for older messages at once.
	historiesMax = 8
)

// hub tells those who listen of what is new. It reads the messages in the order in
// which they were processed, each once however many listen, whichever process has
// processed them. Who does not read what is sent is let go, so that nobody waits
// for anybody else.
type hub struct {
	db      *state.DB
	numbers func(context.Context) ([]byte, error) // What those who listen to the status get.
	log     *slog.Logger
	limits  [topics]int

	histories chan struct{}
	at        int64          // The last message that was told of. Of run.
	work      sync.WaitGroup // The goroutines of sockets.

	mu       sync.Mutex
	open     bool                 // guarded by mu
	sockets  map[*socket]struct{} // guarded by mu
	active   [topics]int          // guarded by mu
	rejected [topics]int64        // guarded by mu
	words    int                  // guarded by mu
	sent     int64                // guarded by mu
	seq      int                  // guarded by mu
}

func newHub(db *state.DB, numbers func(context.Context) ([]byte, error), log *slog.Logger) *hub {
	return &hub{
		db: db, numbers: numbers, log: log, limits: [topics]int{toMessages: messageSocketsMax, toStatus: statusSocketsMax},
		histories: make(chan struct{}, historiesMax), sockets: map[*socket]struct{}{},
	}
}

// Run tells those who listen of what is new until ctx ends, and lets them go then.
// Nobody can listen before.
func (s *Server) Run(ctx context.Context) error { return s.live.run(ctx) }

func (h *hub) run(ctx context.Context) (err error) {
	wake := h.db.Wake("messages")
	if h.at, err = h.db.LastMessage(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	h.open = true
	h.mu.Unlock()
	lasting := context.WithoutCancel(ctx) // Sockets end by their closing.
	defer h.end(lasting)
	second, status := time.NewTicker(time.Second), time.NewTicker(statusEvery)
	defer second.Stop()
	defer status.Stop()
	for tick := 0; ; {
		if err := h.tail(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("new messages not read, trying again", "err", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-wake:
		case <-second.C:
			tick++
			h.ping(lasting, tick)
		case <-status.C:
			h.tellStatus(ctx)
		}
	}
}

// tail tells of all messages that are new.
func (h *hub) tail(ctx context.Context) error {
	for {
		if !h.heard() {
			return h.skip(ctx)
		}
		all, err := h.db.MessagesAfter(ctx, h.at, liveBatch)
		if err != nil || len(all) == 0 {
			return err
		}
		views, err := viewsOf(ctx, h.db, all)
		if err != nil {
			return err
		}
		for i, m := range all {
			if !m.Quiet {
				h.tell(ctx, &news{m: m, view: &views[i]})
			}
			h.at = m.ID
		}
	}
}

// heard reports whether anybody listens to messages.
func (h *hub) heard() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.active[toMessages] > 0
}

// skip goes past messages that nobody listens to.
func (h *hub) skip(ctx context.Context) error {
	last, err := h.db.LastMessage(ctx)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.active[toMessages] == 0 { // Who came meanwhile may not have the last ones in its history.
		h.at = max(h.at, last)
	}
	return nil
}

// news is a message that was processed just now.
type news struct {
	m      *state.Message
	view   *message.View
	frames [2][]byte // With the content and without; made for the first who wants it.
}

// frame is the message as it is sent live.
func (n *news) frame(brief bool) (_ []byte, err error) {
	form, at := n.view.AppendSingle, 0
	if brief {
		form, at = n.view.AppendBrief, 1
	}
	if n.frames[at] == nil {
		n.frames[at], err = form(nil)
	}
	return n.frames[at], err
}

// tell hands a message to those who want it.
func (h *hub) tell(ctx context.Context, n *news) {
	body, err := n.m.Body()
	if err != nil {
		h.log.Warn("message not told live", "item_hash", n.m.Envelope.ItemHash, "err", err)
		return
	}
	n.m.Parsed = body // So that it is read once, however many filters ask.
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent++
	for k := range h.sockets {
		if k.topic != toMessages {
			continue
		}
		wanted, err := k.want.matches(n)
		var frame []byte
		if err == nil && wanted {
			frame, err = n.frame(k.want.brief)
		}
		if err != nil {
			h.log.Warn("message not told live", "item_hash", n.m.Envelope.ItemHash, "err", err)
			return
		}
		if wanted {
			k.push(context.WithoutCancel(ctx), frame, n.m.ID)
		}
	}
}

// tellStatus hands the numbers of the node to those who have other ones.
func (h *hub) tellStatus(ctx context.Context) {
	h.mu.Lock()
	n := h.active[toStatus]
	h.mu.Unlock()
	if n == 0 {
		return
	}
	numbers, err := h.numbers(ctx)
	if err != nil {
		if ctx.Err() == nil {
			h.log.Warn("numbers of the node not read", "err", err)
		}
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.sockets {
		if k.topic == toStatus && !bytes.Equal(k.told, numbers) {
			k.told = numbers
			k.push(context.WithoutCancel(ctx), numbers, 0)
		}
	}
}

// ping asks the clients whose turn it is whether they are there. Turns are spread
// over the seconds.
func (h *hub) ping(ctx context.Context, tick int) {
	const turns = int(pingEvery / time.Second)
	h.mu.Lock()
	defer h.mu.Unlock()
	for k := range h.sockets {
		if k.turn == tick%turns {
			h.work.Go(func() { k.ping(ctx, pongTimeout) })
		}
	}
}

// join enters a socket, and reports why it may not be, with the code to close it.
func (h *hub) join(k *socket) (refusal farewell, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	words := k.want.words()
	switch {
	case !h.open:
		return leaving(), false
	case h.active[k.topic] >= h.limits[k.topic]:
		h.rejected[k.topic]++
		return farewell{codeBusy, "Too many connections"}, false
	case h.words+words > wordsMax:
		h.rejected[k.topic]++
		return farewell{codeBusy, "Too many values in the filters of all connections"}, false
	}
	h.sockets[k] = struct{}{}
	h.active[k.topic]++
	h.words += words
	h.seq++
	k.turn = h.seq % int(pingEvery/time.Second)
	h.work.Add(2) // One reads, the other writes until there is nothing more.
	return farewell{}, true
}

// leave takes out a socket that is closed.
func (h *hub) leave(k *socket) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sockets, k)
	h.active[k.topic]--
	h.words -= k.want.words()
}

// end lets all sockets go, and waits until the last is closed.
func (h *hub) end(ctx context.Context) {
	h.mu.Lock()
	h.open = false
	all := make([]*socket, 0, len(h.sockets))
	for k := range h.sockets {
		all = append(all, k)
	}
	h.mu.Unlock()
	for _, k := range all {
		k.drop(ctx, leaving())
	}
	h.work.Wait()
}

// counters are the numbers of those who listen.
func (h *hub) counters() Counters {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Counters{
		MessagesActive: int64(h.active[toMessages]), MessagesMax: int64(h.limits[toMessages]), MessagesSent: h.sent, MessagesRejected: h.rejected[toMessages],
		StatusActive: int64(h.active[toStatus]), StatusMax: int64(h.limits[toStatus]), StatusRejected: h.rejected[toStatus],
	}
}
