package executor

import (
	"context"
	"errors"
	"fmt"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// What the chain is told of a machine can get lost, and is then told again under
// another key: the first try is named by its base, the n-th after it by base/n.

// runningBase names the word that a machine runs.
func runningBase(spec message.ItemHash, attempt uint8) string {
	return fmt.Sprintf("running/%s/%d", spec, attempt)
}

// nodeStopBase names the word that the node cannot run a job.
func nodeStopBase(spec message.ItemHash) string { return "nodestop/" + string(spec) }

// tryKey names the n-th try to tell the chain something.
func tryKey(base string, n int) string {
	if n == 0 {
		return base
	}
	return fmt.Sprintf("%s/%d", base, n)
}

// tries returns the intents of the tries so far, the first one first.
func tries(ctx context.Context, r interface {
	Intent(ctx context.Context, key string) (*state.Intent, error)
}, base string,
) ([]state.Intent, error) {
	var told []state.Intent
	for {
		i, err := r.Intent(ctx, tryKey(base, len(told)))
		if errors.Is(err, errs.NotFound) {
			return told, nil
		}
		if err != nil {
			return nil, err
		}
		told = append(told, *i)
	}
}

// lost reports whether the intent never will have an effect.
func lost(i state.Intent) bool {
	return i.Status == state.IntentReverted || i.Status == state.IntentExpired
}
