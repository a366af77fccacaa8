package ledger

import (
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

const (
	// Numbers of IStorageWords.ChallengeState.
	challengeOpen     = 1
	challengeArmed    = 2
	challengeAnswered = 3

	// challengeInclusion is IStorageWords.ChallengeKind.Inclusion, which needs no
	// randomness.
	challengeInclusion = 4
)

// Challenge is IStorageWords.ChallengeView.
type Challenge = bindings.IStorageWordsChallengeView

// Challenges returns the ids of all challenges.
func (l *Ledger) Challenges() (ids [][32]byte) {
	for id := range l.challenges {
		ids = append(ids, id)
	}
	return ids
}

// Challenge is StorageRegistry.challengeOf.
func (l *Ledger) Challenge(id [32]byte) Challenge {
	if c := l.challenges[id]; c != nil {
		return *c
	}
	return Challenge{Id: big0(), Bond: big0(), OpenedAt: big0(), Deadline: big0()}
}

// challenge returns a challenge that has not ended.
func (l *Ledger) challenge(id [32]byte) (*Challenge, error) {
	c := l.challenges[id]
	if c == nil || c.State != challengeOpen && c.State != challengeArmed {
		return nil, contradiction("there is no challenge %x, or it has ended", id)
	}
	return c, nil
}

func challengeHandlers() map[string]handler {
	c := bindings.NewStorageRegistry()
	return map[string]handler{
		"Challenged": on(c.UnpackChallengedEvent, func(l *Ledger, now uint64, e *bindings.StorageRegistryChallenged) error {
			v := &Challenge{
				Id: e.Id, Challenger: e.Challenger, Kind: e.Kind, State: challengeOpen, Bond: e.Bond, OpenedAt: seconds(now), Deadline: e.Deadline,
			}
			if e.Kind == challengeInclusion {
				v.State = challengeArmed
			}
			l.challenges[e.ChallengeId] = v
			return nil
		}),
		"ChallengeArmed": on(c.UnpackChallengeArmedEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryChallengeArmed) error {
			v, err := l.challenge(e.ChallengeId)
			if err != nil {
				return err
			}
			v.State, v.Round, v.Seed, v.Deadline = challengeArmed, e.Round, e.Seed, e.Deadline
			return nil
		}),
		"ChallengeAnswered": on(c.UnpackChallengeAnsweredEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryChallengeAnswered) error {
			v, err := l.challenge(e.ChallengeId)
			if err != nil {
				return err
			}
			v.State = challengeAnswered
			return nil
		}),
		"ChallengeExpired": on(c.UnpackChallengeExpiredEvent, func(l *Ledger, _ uint64, e *bindings.StorageRegistryChallengeExpired) error {
			v, err := l.challenge(e.ChallengeId)
			if err != nil {
				return err
			}
			v.State = e.State
			return nil
		}),
	}
}
