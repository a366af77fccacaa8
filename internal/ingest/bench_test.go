package ingest_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/p2p"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// alone is a network without anybody else.
type alone struct{}

func (alone) Publish(context.Context, string, []byte) error { return nil }
func (alone) Subscribe(string, p2p.Validator, func(context.Context, p2p.Gossip)) error {
	return nil
}
func (alone) Connected() []p2p.PeerID                         { return nil }
func (alone) Listeners(string) []p2p.PeerID                   { return nil }
func (alone) Ask(context.Context, p2p.PeerID, any, any) error { return nil }
func (alone) HandleAsk(string, p2p.AskHandler)                {}

// signed are posts of some senders.
func signed(b *testing.B, n int) [][]byte {
	b.Helper()
	out := make([][]byte, n)
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := w; i < n; i += 2 {
				k, err := crypto.ToECDSA(crypto.Keccak256([]byte(fmt.Sprint("bench ", i%500))))
				if err != nil {
					b.Error(err)
					return
				}
				now := float64(time.Now().UnixMicro()) / 1e6
				content := fmt.Sprintf(`{"address":"%s","time":%f,"content":{"body":"%0400d","tags":["bench","t%d"]},"ref":"thread-%d","type":"chat"}`, addressOf(k), now, i, i%50, i%1000)
				channel := "BENCH"
				e := &message.Envelope{
					Chain: message.Ethereum, Type: message.TypePost, Channel: &channel, Time: time.UnixMicro(int64(now * 1e6)), ItemType: message.Inline,
					ItemContent: content, ItemHash: message.HashOf([]byte(content)),
				}
				if err := signature.SignEVM(k, e); err != nil {
					b.Error(err)
					return
				}
				if out[i], err = e.MarshalJSON(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return out
}

// BenchmarkSubmit takes in signed posts from 64 senders at a time, each durable and
// in every list before the next of its sender.
func BenchmarkSubmit(b *testing.B) {
	db, err := state.Open(b.Context(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	pipe, err := ingest.New(ingest.DefaultConfig(), domain(), db, alone{}, contents{}, &funds{new(big.Int), new(big.Int), new(big.Int), nil}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	all := signed(b, b.N)
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return
				}
				v, err := pipe.Submit(b.Context(), ingest.Submission{Raw: all[i], At: time.Now()})
				if err != nil || v.Status != state.MessageProcessed {
					b.Errorf("%+v, %v", v, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
