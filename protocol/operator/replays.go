package operator

import (
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"time"
)

// The errors of Replays.
var (
	// ErrReplay is given of what was used before.
	ErrReplay = errors.New("this signed request was used before; sign a new one")
	// ErrReplaysFull is given when more is used than is remembered.
	ErrReplaysFull = errors.New("too many signed requests within minutes; try again later")
)

// Replays remembers which signed requests were used for as long as they could be
// used again. It is safe for concurrent use.
type Replays struct {
	life      time.Duration
	max       int // Of all signers.
	perSigner int

	mu         sync.Mutex
	begun      time.Time // Of young; guarded by mu.
	young, old used      // guarded by mu
}

// used is what signers have used.
type used struct {
	by map[string]map[[sha256.Size]byte]struct{}
	n  int
}

// NewReplays returns a memory of so many requests, of which one signer may have a
// part, and which are worth nothing once they are as old as life.
func NewReplays(life time.Duration, limit, perSigner int) *Replays {
	return &Replays{life: life, max: limit, perSigner: perSigner}
}

// Life is how old a request may be that is worth something.
func (r *Replays) Life() time.Duration { return r.life }

// Take uses up a signed request at now. Signers are compared without regard to
// case.
func (r *Replays) Take(signer string, operation [sha256.Size]byte, now time.Time) error {
	signer = strings.ToLower(signer)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(now)
	if r.young.has(signer, operation) || r.old.has(signer, operation) {
		return ErrReplay
	}
	if r.young.n+r.old.n >= r.max || len(r.young.by[signer])+len(r.old.by[signer]) >= r.perSigner {
		return ErrReplaysFull
	}
	mine := r.young.by[signer]
	if mine == nil {
		mine = map[[sha256.Size]byte]struct{}{}
		r.young.by[signer] = mine
	}
	mine[operation] = struct{}{}
	r.young.n++
	return nil
}

// turn forgets what is old: a request is remembered for one life at least, and
// for two at most. The caller holds mu.
func (r *Replays) turn(now time.Time) {
	age := now.Sub(r.begun)
	if r.young.by != nil && age < r.life {
		return
	}
	r.old = r.young
	if age >= 2*r.life {
		r.old = used{}
	}
	r.young, r.begun = used{by: map[string]map[[sha256.Size]byte]struct{}{}}, now
}

func (u *used) has(signer string, operation [sha256.Size]byte) bool {
	_, ok := u.by[signer][operation]
	return ok
}
