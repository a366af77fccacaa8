package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/test/bench/measure"
)

const (
	// firstSecond is the time of the first stored message, and perSecond how many
	// there are of each second, in about the order of their coming.
	firstSecond = 1_600_000_000
	perSecond   = 2
	fillBatch   = 2000
	owners      = 20_000

	startAimSeconds, restAimMB = 2, 120
)

// stored is the number-th message: nobody signed it, and nobody asks that of rows.
func stored(number int) (*state.Message, error) {
	second := float64(firstSecond) + float64(number)/perSecond + float64(number%7) // Not quite in order.
	owner := fmt.Sprintf("0x%040x", uint64(number)*0x9E3779B97F4A7C15%owners)
	at := json.Number(strconv.FormatFloat(second, 'f', 3, 64))
	typ, content := message.TypePost, map[string]any{
		"address": owner, "time": at, "type": fmt.Sprint("kind", number%30), "ref": fmt.Sprint("thread-", number%50_000),
		"content": map[string]any{"body": fmt.Sprintf("%0300d", number), "tags": []string{fmt.Sprint("tag", number%200)}},
	}
	switch number % 10 {
	case 7:
		typ, content = message.TypeAggregate, map[string]any{"address": owner, "time": at, "key": fmt.Sprint("key", number%300), "content": map[string]any{fmt.Sprint("n", number%20): number}}
	case 8:
		typ, content = message.TypeStore, map[string]any{
			"address": owner, "time": at, "item_type": "storage", "item_hash": message.HashOf(fmt.Append(nil, number%100_000)), "payment": map[string]any{"type": "credit"},
		}
	}
	raw, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	channel := fmt.Sprint("CHANNEL", number%80)
	e := &message.Envelope{
		Chain: []message.Chain{"ETH", "SOL", "BASE", "AVAX"}[number%11%4], Sender: owner, Type: typ, Channel: &channel, Time: time.UnixMicro(int64(second * 1e6)).UTC(),
		ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw), Signature: fmt.Sprintf("0x%0130x", number),
	}
	body, err := message.ParseContent(e, raw)
	if err != nil {
		return nil, err
	}
	return state.NewMessage(e, raw, body, time.Now()), nil
}

// fill stores messages until there are n.
func (b *bench) fill(ctx context.Context, dir string, from, n int) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	db, err := state.OpenAs(ctx, state.Options{Dir: dir, URL: b.url})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for from < n {
		var all, posts, elements []*state.Message
		for i := from; i < min(from+fillBatch, n); i++ {
			m, err := stored(i)
			if err != nil {
				return err
			}
			all = append(all, m)
			if m.Envelope.Type == message.TypePost {
				posts = append(posts, m)
			}
			if m.Envelope.Type == message.TypeAggregate {
				elements = append(elements, m)
			}
		}
		err := db.Update(ctx, func(tx *state.Tx) error {
			return errors.Join(tx.AddMessages(ctx, all), tx.AddPosts(ctx, posts), tx.AddElements(ctx, elements))
		})
		if err != nil {
			return err
		}
		from += len(all)
	}
	return nil
}

// filledName is the file that tells how many messages a directory is filled with, so
// that one that was kept is used again.
const filledName = "filled"

func filled(dir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dir, filledName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(raw))
}

// query is one kind of read. Its path may differ from read to read.
type query struct {
	name string
	path func(r *rand.Rand, n int) string
}

// queries are a read for each filter, alone and together, for each order, and for
// what else counts.
func queries() []query {
	list := func(format string, values ...func(r *rand.Rand, n int) any) func(*rand.Rand, int) string {
		return func(r *rand.Rand, n int) string {
			args := make([]any, len(values))
			for i, v := range values {
				args[i] = v(r, n)
			}
			return "/api/v0/messages.json?" + fmt.Sprintf(format, args...)
		}
	}
	upTo := func(most int) func(*rand.Rand, int) any {
		return func(r *rand.Rand, _ int) any { return r.IntN(most) }
	}
	owner := func(r *rand.Rand, _ int) any { return fmt.Sprintf("0x%040x", uint64(r.IntN(owners))) }
	second := func(r *rand.Rand, n int) any { return firstSecond + r.IntN(n/perSecond) }
	hash := func(r *rand.Rand, n int) any {
		m, err := stored(r.IntN(n))
		if err != nil {
			panic(err)
		}
		return m.Envelope.ItemHash
	}
	return []query{
		{"all", list("")},
		{"addresses", list("addresses=%s", owner)},
		{"owners", list("owners=%s", owner)},
		{"msgType", list("msgType=STORE")},
		{"msgTypes", list("msgTypes=POST,AGGREGATE")},
		{"msgStatuses", list("msgStatuses=processed")},
		{"refs", list("refs=thread-%d", upTo(50_000))},
		{"contentHashes", list("contentHashes=%s", func(r *rand.Rand, _ int) any { return message.HashOf(fmt.Append(nil, r.IntN(10_000)*10+8)) })},
		{"contentKeys", list("contentKeys=key%d", upTo(300))},
		{"contentTypes", list("contentTypes=kind%d", upTo(30))},
		{"chains", list("chains=SOL")},
		{"channels", list("channels=CHANNEL%d", upTo(80))},
		{"tags", list("tags=tag%d,tag%d", upTo(200), upTo(200))},
		{"hashes", list("hashes=%s,%s", hash, hash)},
		{"paymentTypes", list("paymentTypes=credit")},
		{"startDate", list("startDate=%d", second)},
		{"endDate", list("endDate=%d", second)},
		{"startBlock", list("startBlock=100")},
		{"endBlock", list("endBlock=100")},
		{"oldest first", list("sortOrder=1")},
		{"tx-time", list("sortBy=tx-time")},
		{"type, channel, chain", list("msgType=POST&channels=CHANNEL%d&chains=ETH", upTo(80))},
		{"owner, type, dates", list("owners=%s&msgType=POST&startDate=%d&endDate=%d", owner, func(*rand.Rand, int) any { return firstSecond }, second2)},
		{"tag, content type, channel", list("tags=tag%d&contentTypes=kind%d&channels=CHANNEL%d", upTo(200), upTo(30), upTo(80))},
		{"page 1000", list("page=1000")},
		{"page 100 of a type", list("msgType=POST&page=100")},
		{"cursor", list("cursor=")},
		{"posts of an owner", func(r *rand.Rand, n int) string { return "/api/v1/posts.json?addresses=" + fmt.Sprint(owner(r, n)) }},
		{"posts by tag", func(r *rand.Rand, _ int) string { return fmt.Sprint("/api/v0/posts.json?tags=tag", r.IntN(200)) }},
		{"one message", func(r *rand.Rand, n int) string { return fmt.Sprint("/api/v0/messages/", hash(r, n)) }},
	}
}

// second2 is a time after all starts.
func second2(_ *rand.Rand, n int) any { return firstSecond + n/perSecond }

// read asks once, and returns how long the answer took.
func read(ctx context.Context, client *http.Client, url string) (time.Duration, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s was answered %d %.200s", url, answer.StatusCode, text)
	}
	return time.Since(began), nil
}

// measureReading reads from a node with more and more messages.
func (b *bench) measureReading(ctx context.Context) error {
	dir := filepath.Join(b.dir, "reading")
	from, err := filled(dir)
	if err != nil {
		return err
	}
	for i, n := range b.sizes {
		if from < n {
			began := time.Now()
			if err := b.fill(ctx, filepath.Join(dir, "current"), from, n); err != nil { // Where the node keeps what was not reset.
				return fmt.Errorf("store %d messages: %w", n, err)
			}
			b.say("stored %d messages in %v", n-from, time.Since(began).Round(time.Second))
			b.report.Add(at(n), "stored, without a signature or a network", "us", float64(time.Since(began).Microseconds())/float64(n-from))
			from = n
			if err := os.WriteFile(filepath.Join(dir, filledName), []byte(strconv.Itoa(n)), 0o600); err != nil {
				return err
			}
		}
		if err := b.measureSize(ctx, dir, n, i+1 == len(b.sizes)); err != nil {
			return err
		}
	}
	return nil
}

// restFor is how long a node is idle before its memory is read.
const restFor = 20 * time.Second

func (b *bench) measureSize(ctx context.Context, dir string, n int, last bool) error {
	var starts []float64
	var node *process
	for range 3 {
		if node != nil {
			if err := node.stop(); err != nil {
				return err
			}
		}
		var took time.Duration
		var err error
		if node, took, err = b.startNode(ctx, dir); err != nil {
			return fmt.Errorf("start node with %d messages: %w", n, err)
		}
		starts = append(starts, took.Seconds())
	}
	defer func() { _ = node.stop() }() // It has nothing to lose.
	b.report.Add(at(n), "cold start to the first answer", "s", starts...).Aim = startAimSeconds
	rest := time.NewTimer(restFor)
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	held, err := measure.Memory(node.cmd.Process.Pid, measure.Resident)
	if err != nil {
		return err
	}
	b.report.Add(at(n), "resident memory at rest", "MB", held/1e6).Aim = restAimMB
	for _, q := range queries() {
		times, err := b.readMany(ctx, node, q, n)
		if err != nil {
			return fmt.Errorf("%s with %d messages: %w", q.name, n, err)
		}
		b.recordReads(n, q.name, times)
	}
	if b.only != "" || !last && n != bothAt {
		return nil
	}
	return b.measureBoth(ctx, node, n)
}

func (b *bench) readMany(ctx context.Context, p *process, q query, n int) ([]time.Duration, error) {
	client := &http.Client{}
	defer client.CloseIdleConnections()
	r := rand.New(rand.NewPCG(1, uint64(n))) //nolint:gosec // The same reads each time.
	times := make([]time.Duration, 0, b.reads)
	for i := range b.reads + 5 {
		took, err := read(ctx, client, p.url+q.path(r, n))
		if err != nil {
			return nil, err
		}
		if i >= 5 { // The first warm up.
			times = append(times, took)
		}
	}
	return times, nil
}

// bothAt is a number of messages at which reading and posting at once is measured,
// besides the last.
const bothAt = 1_000_000

// readers read while messages come in.
const readers = 50

// pause is how long a reader waits between two reads.
const pause = 250 * time.Millisecond

// measureBoth posts while others filter and page.
func (b *bench) measureBoth(ctx context.Context, p *process, n int) error {
	all, err := sign(1<<30, b.posts*2)
	if err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	times, failed := make([][]time.Duration, readers), make([]error, readers)
	var wg sync.WaitGroup
	kinds := queries()
	for i := range readers {
		wg.Go(func() {
			client := &http.Client{}
			defer client.CloseIdleConnections()
			r := rand.New(rand.NewPCG(2, uint64(i))) //nolint:gosec // The same reads each time.
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-reading.Done():
					return
				}
				took, err := read(reading, client, p.url+kinds[r.IntN(len(kinds))].path(r, n))
				if err != nil {
					if reading.Err() == nil {
						failed[i] = err
					}
					return
				}
				times[i] = append(times[i], took)
			}
		})
	}
	us, err := post(ctx, p, all)
	stop()
	wg.Wait()
	if err := errors.Join(append(failed, err)...); err != nil {
		return err
	}
	b.say("with %d readers over %d messages: %.0f messages/s", readers, n, us.perSecond)
	b.recordBoth(n, us, times)
	return nil
}
