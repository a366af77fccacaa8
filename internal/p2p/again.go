package p2p

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// againSoon is how soon something is done again for the first time; each time after that
	// takes twice as long to come.
	againSoon = time.Second
	// lookAgainMax is how often the table is asked for peers while few are connected.
	lookAgainMax = 30 * time.Second
	// tellAgainMax is how often peers are told how this node is reached. Receivers let a whole
	// /24 tell them something each five seconds, so sixty nodes behind one may.
	tellAgainMax = 5 * time.Minute
)

// pace spaces out what is done again and again, soon at first.
type pace struct {
	wait, most time.Duration
	next       time.Time
}

func (p *pace) start(now time.Time, wait time.Duration) { p.wait, p.next = wait, now.Add(wait) }

// due reports whether it is time, and if so says when it is the next time.
func (p *pace) due(now time.Time) bool {
	if now.Before(p.next) {
		return false
	}
	p.start(now, min(2*p.wait, p.most))
	return true
}

// again does again what may have come to nothing without this node knowing. The library looks
// for peers when it has met the first, which may not have the others in its table yet, and
// then not for minutes. And it tells peers once of each change of how this node is reached,
// who may drop that, as too much comes from one network, or read what came before it after it.
type again struct {
	h       *Host
	changed event.Emitter
	look    pace
	looking <-chan error // ends when the look that was begun last does; nil before
	tell    pace
	told    []ma.Multiaddr // own addresses when tell was started
}

// newAgain begins now. Close what it returns.
func (h *Host) newAgain(now time.Time) (*again, error) {
	changed, err := h.host.EventBus().Emitter(new(event.EvtLocalProtocolsUpdated))
	if err != nil {
		return nil, fmt.Errorf("tell how this node is reached: %w", err)
	}
	a := &again{h: h, changed: changed, look: pace{most: lookAgainMax}, tell: pace{most: tellAgainMax}}
	a.look.start(now, againSoon)
	a.tell.start(now, tellAgainMax)
	// An address at a relay that is there already may just have been told.
	a.told = slices.DeleteFunc(h.host.Addrs(), func(addr ma.Multiaddr) bool { return transportOf(addr) == transportRelay })
	return a, nil
}

func (a *again) close() error { return a.changed.Close() }

// lookForPeers asks the table for peers if few are connected and it is time.
func (a *again) lookForPeers(now time.Time) {
	if a.looking != nil {
		select {
		case err := <-a.looking:
			if err != nil {
				a.h.log.Debug("table not asked for peers", "err", err)
			}
			a.looking = nil
		default:
			return // Whoever is at a relay only is waited for seconds.
		}
	}
	if len(a.h.host.Network().Peers()) < knownWanted && a.look.due(now) {
		a.looking = a.h.dht.RefreshRoutingTable()
	}
}

// tellPeers tells all peers how this node is reached if it is time, which is soon after that
// has changed.
func (a *again) tellPeers(now time.Time) error {
	if addrs := a.h.host.Addrs(); !sameAddrs(addrs, a.told) {
		a.told = addrs
		a.tell.start(now, againSoon)
	}
	if !a.tell.due(now) {
		return nil
	}
	if err := a.h.renewRecord(); err != nil {
		return fmt.Errorf("tell how this node is reached: %w", err)
	}
	// Nothing has changed but the record, which the library looks at when this comes.
	if err := a.changed.Emit(event.EvtLocalProtocolsUpdated{}); err != nil {
		return fmt.Errorf("tell how this node is reached: %w", err)
	}
	return nil
}

// renewRecord signs the record of this node's addresses once more. One that the library signs
// meanwhile has a much higher number, and stays.
func (h *Host) renewRecord() error {
	store, ok := peerstore.GetCertifiedAddrBook(h.host.Peerstore())
	if !ok {
		return errors.New("the library keeps no signed addresses")
	}
	old := store.GetPeerRecord(h.self)
	if old == nil {
		return nil // None was told yet.
	}
	body, err := old.Record()
	if err != nil {
		return fmt.Errorf("read own addresses: %w", err)
	}
	was, ok := body.(*peer.PeerRecord)
	if !ok {
		return fmt.Errorf("own addresses are a %T", body)
	}
	signed, err := record.Seal(&peer.PeerRecord{PeerID: h.self, Addrs: was.Addrs, Seq: was.Seq + 1}, h.host.Peerstore().PrivKey(h.self))
	if err != nil {
		return fmt.Errorf("sign own addresses: %w", err)
	}
	if _, err := store.ConsumePeerRecord(signed, peerstore.PermanentAddrTTL); err != nil {
		return fmt.Errorf("keep own addresses: %w", err)
	}
	return nil
}

// sameAddrs reports whether two sets of addresses are the same, in whatever order.
func sameAddrs(a, b []ma.Multiaddr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(addr ma.Multiaddr) bool { return !slices.ContainsFunc(b, addr.Equal) })
}
