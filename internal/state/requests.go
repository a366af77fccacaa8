package state

import (
	"context"
	"errors"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// usedSweep bounds the requests that are forgotten with one that is used.
const usedSweep = 64

// UsedRequest is a signed request that is good no more.
type UsedRequest struct {
	ID    string `json:"id"`    // Of what was signed, and by whom.
	Until int64  `json:"until"` // Unix seconds from which it would be refused for its age.
}

func usedRequests() table[UsedRequest] {
	return table[UsedRequest]{
		name: "used_requests", noun: "used request",
		key:  func(u *UsedRequest) string { return u.ID },
		cols: []column[UsedRequest]{{"until", func(u *UsedRequest) any { return u.Until }}},
	}
}

// UseRequest uses a signed request up, until it is too old at until, and reports whether
// it was good still. What is too old at now is forgotten.
func (tx *Tx) UseRequest(ctx context.Context, id string, now, until time.Time) (fresh bool, err error) {
	switch _, err := usedRequests().one(ctx, tx.reader, id); {
	case err == nil:
		return false, nil
	case !errors.Is(err, errs.NotFound):
		return false, err
	}
	old, err := usedRequests().list(ctx, tx.reader, "until < ? ORDER BY until LIMIT ?", now.Unix(), usedSweep)
	if err != nil {
		return false, err
	}
	for _, u := range old {
		if err := usedRequests().remove(ctx, tx, u.ID); err != nil {
			return false, err
		}
	}
	return true, usedRequests().put(ctx, tx, &UsedRequest{ID: id, Until: until.Unix()})
}

// NewestList is when the newest list of a scheduler was signed that this node obeyed.
type NewestList struct {
	Signer   string `json:"signer"`
	IssuedAt int64  `json:"issued_at"` // Unix seconds, by the signer's clock.
}

func newestLists() table[NewestList] {
	return table[NewestList]{name: "newest_lists", noun: "newest list", key: func(n *NewestList) string { return n.Signer }}
}

// TakeList notes when a list was signed, and reports whether none that is newer was
// taken of its signer. Those of one second are of one age.
func (tx *Tx) TakeList(ctx context.Context, signer string, issuedAt int64) (newest bool, err error) {
	last, err := newestLists().one(ctx, tx.reader, signer)
	switch {
	case err == nil && last.IssuedAt > issuedAt:
		return false, nil
	case err != nil && !errors.Is(err, errs.NotFound):
		return false, err
	}
	return true, newestLists().put(ctx, tx, &NewestList{Signer: signer, IssuedAt: issuedAt})
}
