package v1

import (
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

// noncesMax bounds the signed requests that are remembered until they expire.
const noncesMax = 100_000

// authenticate returns the address that signed the request. A request is good
// once: the same one again is refused until it has expired, and after.
func (s *Server) authenticate(header, method, target string, now time.Time) (common.Address, error) {
	if header == "" {
		return common.Address{}, errs.New(errs.Denied, "the request is not signed; it needs the header %s", operator.HeaderName)
	}
	r, err := operator.Parse(header)
	if err != nil {
		return common.Address{}, errs.New(errs.Denied, "%w", err)
	}
	if err := r.Verify(method, target, now); err != nil {
		return common.Address{}, errs.New(errs.Denied, "%w", err)
	}
	if err := s.nonces.take(nonce{r.Address, r.Nonce}, time.Unix(r.Expires, 0), now); err != nil {
		return common.Address{}, err
	}
	return r.Address, nil
}

type nonce struct {
	address common.Address
	text    string
}

// nonces remembers signed requests until they expire.
type nonces struct {
	mu   sync.Mutex
	seen map[nonce]time.Time // expiry; guarded by mu
}

func newNonces() *nonces { return &nonces{seen: map[nonce]time.Time{}} }

// take uses up a nonce. One that was used gives errs.Denied.
func (n *nonces) take(k nonce, expires, now time.Time) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.seen[k]; ok {
		return errs.New(errs.Denied, "the signed request was used before; sign a new one")
	}
	if len(n.seen) >= noncesMax {
		for old, at := range n.seen {
			if at.Before(now) {
				delete(n.seen, old)
			}
		}
	}
	if len(n.seen) >= noncesMax {
		return errs.New(errs.Unavailable, "too many signed requests within minutes; try again later")
	}
	n.seen[k] = expires
	return nil
}
