package executor

import (
	"cmp"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// What becomes of a lease is decided here, by functions without effects: they
// are what the model in model_test.go explores. Who calls them is in take.go,
// orders.go and watch.go.

// goneMin is how many answers in a row must say that a message is gone before
// its lease ends: a server that restores its database, or is wrong for a moment,
// stops nothing.
const goneMin = 3

// decideByLease says what an open lease wants. A machine is paused on an answer
// that was given after the grace and says that it is not paid; while nobody
// answers, what is stays.
func decideByLease(v *view, vm state.VM, l *state.Lease) order {
	w := l.Watch
	switch {
	case vm.State == state.VMFailed:
		return order{}
	case l.Until != 0 && v.synced && v.head.Time > l.Until:
		return order{wish: wishHalt, reason: fmt.Sprintf("stopped at %s by the order of %s", chainTime(l.Until), l.UntilBy)}
	case w.UnpaidSince == 0:
		return order{}
	case vm.State == state.VMPaused || w.AskedAt > w.UnpaidSince+v.leaseGrace:
		return order{wish: wishPause, reason: unpaidText(w, v.leaseGrace, v.leaseKeep)}
	default:
		return order{}
	}
}

func unpaidText(w state.Watch, grace, keep uint64) string {
	return fmt.Sprintf("not paid since %s (%s); the machine goes on with its disk when it is paid, which is kept until %s",
		chainTime(w.UnpaidSince), w.Detail, chainTime(w.UnpaidSince+grace+keep))
}

// standing is what the message network says of a message.
type standing int

const (
	standingUnknown standing = iota // Nobody could say.
	standingThere
	standingGone // Forgotten, removed or rejected.
)

// isGone reports whether a message with the status is no reason to run a machine.
// One that is being removed is still there.
func isGone(status string) bool {
	return status == "forgotten" || status == "removed" || status == "rejected"
}

// paying is what the message network says of a payment.
type paying int

const (
	payingUnknown paying = iota // Nobody could say, or it is not for this node to say.
	payingYes
	payingNo
)

// answer is what was said of a lease at a time of the chain.
type answer struct {
	head      uint64
	standing  standing
	paying    paying
	paidUntil uint64 // Of payingYes; 0 = not paid by time.
	detail    string // For people.
}

// watched is the lease after an answer. grace is how long an unpaid machine
// runs, keep how long its disk is kept after that, in seconds of chain time.
func watched(l state.Lease, a answer, grace, keep uint64, now time.Time) state.Lease {
	if !l.Open() {
		return l
	}
	w := &l.Watch
	switch a.standing {
	case standingThere:
		w.Gone = 0
	case standingGone:
		w.Gone++
	case standingUnknown:
	}
	switch a.paying {
	case payingYes:
		w.AskedAt, w.PaidUntil, w.UnpaidSince, w.Detail = a.head, a.paidUntil, 0, a.detail
	case payingNo:
		w.AskedAt, w.Detail = a.head, a.detail
		if w.UnpaidSince == 0 {
			w.UnpaidSince = a.head
		}
	case payingUnknown:
	}
	end := func(cause state.EndCause, detail string) {
		l.End = &state.LeaseEnd{Cause: cause, Detail: detail, At: now.UTC(), Head: a.head}
	}
	switch {
	case w.Gone >= goneMin:
		end(state.EndMessage, fmt.Sprintf("its message is gone from the network: %d answers in a row said so, the last at %s", w.Gone, chainTime(a.head)))
	case a.paying == payingNo && a.head > w.UnpaidSince+grace+keep:
		end(state.EndUnpaid, fmt.Sprintf("not paid from %s to %s (%s)", chainTime(w.UnpaidSince), chainTime(a.head), a.detail))
	}
	return l
}

// dropped is the lease after a signed list that does not name it.
func dropped(l state.Lease, by string, head uint64, now time.Time) state.Lease {
	if !l.Open() || l.Kind != state.LeaseScheduled || l.Sticky {
		return l
	}
	l.End = &state.LeaseEnd{
		Cause: state.EndDropped, Detail: fmt.Sprintf("the scheduler's list of %s, signed by %s, does not name it any more", now.UTC().Format(time.RFC3339), by),
		At: now.UTC(), Head: head,
	}
	return l
}

// claim is a lease whose payment is by balance, and its price.
type claim struct {
	lease state.Lease
	price *big.Rat // In the unit of the balance: per second for credits, held for holders.
}

// share tells for each claim of one owner whether the balance pays it: the oldest
// first, so that a new machine never stops one that ran before. by is whether
// the balance is used up by time.
func share(claims []claim, balance *big.Rat, unit string, by bool, head uint64) map[message.ItemHash]answer {
	claims = slices.Clone(claims)
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(a.lease.TakenAt.Compare(b.lease.TakenAt), cmp.Compare(a.lease.Spec, b.lease.Spec))
	})
	out := map[message.ItemHash]answer{}
	sum, paid := new(big.Rat), new(big.Rat)
	for _, c := range claims {
		sum.Add(sum, c.price)
		text := fmt.Sprintf("%s %s are there, %s are needed by this machine and the older ones of its owner", balance.FloatString(2), unit, sum.FloatString(6))
		if balance.Cmp(sum) < 0 {
			out[c.lease.Spec] = answer{head: head, paying: payingNo, detail: text}
			continue
		}
		paid.Set(sum)
		out[c.lease.Spec] = answer{head: head, paying: payingYes, detail: text}
	}
	if !by || paid.Sign() == 0 {
		return out
	}
	// The paid ones use it up together.
	left := new(big.Rat).Quo(balance, paid)
	seconds := new(big.Int).Quo(left.Num(), left.Denom())
	const secondsMax = 100 * 365 * 86400
	until := head + secondsMax
	if seconds.IsUint64() && seconds.Uint64() < secondsMax {
		until = head + seconds.Uint64()
	}
	for spec, a := range out {
		if a.paying == payingYes {
			a.paidUntil = until
			out[spec] = a
		}
	}
	return out
}
