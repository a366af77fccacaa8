package swarm

import (
	"context"
	"sync"
	"time"

	bsmsg "github.com/ipfs/boxo/bitswap/message"
	pb "github.com/ipfs/boxo/bitswap/message/pb"
	bsnetwork "github.com/ipfs/boxo/bitswap/network"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// shunMax is how long a peer is not asked that owes too much: it may be slow, and be
// the only one that has something.
const shunMax = 10 * time.Second

// debts are the blocks that peers were asked for and have not sent. Bitswap asks one
// peer at a time for a block, and waits for one that says it has it for as long as it
// goes on to say so.
type debts struct {
	mu      sync.Mutex
	peers   map[peer.ID]*debtor   // guarded by mu
	shunned map[peer.ID]time.Time // until when; guarded by mu
}

// debtor is a peer that was asked for blocks.
type debtor struct {
	owes map[cid.Cid]struct{}
	paid time.Time // when it sent the last block, or was asked for the first
}

func newDebts() *debts { return &debts{peers: map[peer.ID]*debtor{}, shunned: map[peer.ID]time.Time{}} }

// asked notes what a message asks a peer for, and what it does not want any more.
func (d *debts) asked(p peer.ID, msg bsmsg.BitSwapMessage, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range msg.Wantlist() {
		of := d.peers[p]
		switch {
		case e.Cancel && of != nil:
			delete(of.owes, e.Cid)
			if len(of.owes) == 0 {
				delete(d.peers, p)
			}
		case !e.Cancel && e.WantType == pb.Message_Wantlist_Block:
			if of == nil {
				of = &debtor{owes: map[cid.Cid]struct{}{}, paid: now}
				d.peers[p] = of
			}
			of.owes[e.Cid] = struct{}{}
		}
	}
}

// got notes what a peer sent, or said that it does not have.
func (d *debts) got(p peer.ID, msg bsmsg.BitSwapMessage, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if of := d.peers[p]; of != nil {
		for _, c := range msg.DontHaves() {
			if delete(of.owes, c); len(of.owes) == 0 {
				delete(d.peers, p)
			}
		}
		for _, b := range msg.Blocks() {
			if _, ok := of.owes[b.Cid()]; ok {
				of.paid = now
			}
		}
	}
	for _, b := range msg.Blocks() {
		for id, of := range d.peers {
			if delete(of.owes, b.Cid()); len(of.owes) == 0 {
				delete(d.peers, id)
			}
		}
	}
}

// due returns the peers that sent nothing of what they owe for answerMax, which are
// shunned from then on, and those that were shunned for long enough.
func (d *debts) due(now time.Time) (shun, forgive []peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, until := range d.shunned {
		if !now.Before(until) {
			delete(d.shunned, p)
			forgive = append(forgive, p)
		}
	}
	for p, of := range d.peers {
		if now.Sub(of.paid) >= answerMax {
			delete(d.peers, p)
			d.shunned[p] = now.Add(shunMax)
			shun = append(shun, p)
		}
	}
	return shun, forgive
}

// isShunned says whether the peer owes too much.
func (d *debts) isShunned(p peer.ID, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return now.Before(d.shunned[p])
}

// debtNetwork notes what peers are asked for.
type debtNetwork struct {
	bsnetwork.BitSwapNetwork
	debts *debts
}

// NewMessageSender implements bsnetwork.BitSwapNetwork.
func (n debtNetwork) NewMessageSender(ctx context.Context, p peer.ID, opts *bsnetwork.MessageSenderOpts) (bsnetwork.MessageSender, error) {
	s, err := n.BitSwapNetwork.NewMessageSender(ctx, p, opts)
	if err != nil {
		return nil, err
	}
	return debtSender{s, n.debts, p}, nil
}

type debtSender struct {
	bsnetwork.MessageSender
	debts *debts
	to    peer.ID
}

// SendMsg implements bsnetwork.MessageSender.
func (s debtSender) SendMsg(ctx context.Context, msg bsmsg.BitSwapMessage) error {
	s.debts.asked(s.to, msg, time.Now())
	return s.MessageSender.SendMsg(ctx, msg)
}

// Start implements bsnetwork.BitSwapNetwork.
func (n debtNetwork) Start(to ...bsnetwork.Receiver) {
	for i := range to {
		to[i] = debtReceiver{to[i], n.debts}
	}
	n.BitSwapNetwork.Start(to...)
}

// debtReceiver is not told what peers say to have that owe too much.
type debtReceiver struct {
	bsnetwork.Receiver
	debts *debts
}

// ReceiveMessage implements bsnetwork.Receiver.
func (r debtReceiver) ReceiveMessage(ctx context.Context, p peer.ID, msg bsmsg.BitSwapMessage) {
	if r.debts.isShunned(p, time.Now()) {
		silent := bsmsg.New(msg.Full())
		for _, e := range msg.Wantlist() {
			if e.Cancel {
				silent.Cancel(e.Cid)
			} else {
				silent.AddEntry(e.Cid, e.Priority, e.WantType, e.SendDontHave)
			}
		}
		for _, b := range msg.Blocks() {
			silent.AddBlock(b)
		}
		msg = silent
	}
	r.Receiver.ReceiveMessage(ctx, p, msg)
}

// dun asks others for what peers owe for too long, until ctx ends: for a while it is
// as if those were not connected, but for what they want and for blocks that they send
// after all.
func (x *exchange) dun(ctx context.Context) {
	tick := time.NewTicker(answerMax / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if len(x.host.Network().Peers()) < 2 {
				continue // There is nobody else to ask.
			}
			shun, forgive := x.debts.due(now)
			for _, p := range shun {
				x.bitswap.Client.PeerDisconnected(p)
			}
			for _, p := range forgive {
				if x.host.Network().Connectedness(p) == network.Connected {
					x.bitswap.Client.PeerConnected(p)
				}
			}
		}
	}
}
