package corechannel

// The types of the posts that this package reads, besides message.PostAmend.
const (
	OperationType = "corechan-operation"
	ScoresType    = "aleph-scoring-scores"
	MetricsType   = "aleph-network-metrics"
)

// AggregateKey is the key of the aggregate whose content [State] is.
const AggregateKey = "corechannel"

// Settings is what the networks differ in. Two folds agree only when they have
// the same. Amounts are whole tokens, times are blocks.
type Settings struct {
	Tag string // what an operation must be tagged with

	NodeTokens   int64 // least an owner of a CCN holds
	StakeTokens  int64 // least a staker holds
	ActiveTokens int64 // least that is staked on an active CCN
	LinksMax     int   // most CRNs of a CCN
	BonusBefore  uint64

	ScoreSenders  []string // whose scores count
	ScoreWindow   uint64   // scores that are closer than this to those before only raise
	InactiveScore float64  // a node below this is inactive
	// An unlinked CRN that is inactive for longer than DropAfter is removed, from
	// height DropFrom on.
	DropAfter uint64
	DropFrom  uint64
	Discarded []Span // whose scores are void

	MetricsOwner   string // whose metrics count
	MetricsChannel string
}

// Span is the heights from one to another, both included.
type Span struct{ From, To uint64 }

// DefaultSettings returns the settings of the public network.
func DefaultSettings() Settings {
	const blocksPerDay = 7130
	return Settings{
		Tag: "mainnet",
		// Each is one token less than is told to people, for those who round.
		NodeTokens: 199_999, StakeTokens: 9_999, ActiveTokens: 499_999,
		LinksMax: 8, BonusBefore: 12_020_360,
		ScoreSenders: []string{"0x4D52380D3191274a04846c89c069E6C3F2Ed94e4", "0x4Ec8b55e73F5f32118a90B8FD555706bD5dd42e7"},
		ScoreWindow:  10, InactiveScore: 0.01,
		DropAfter: 90 * blocksPerDay, DropFrom: 20_840_959,
		Discarded:    []Span{{23_579_375, 23_631_694}},
		MetricsOwner: "0x4D52380D3191274a04846c89c069E6C3F2Ed94e4", MetricsChannel: "aleph-scoring",
	}
}

// discards reports whether scores of a height are void.
func (s *Settings) discards(height uint64) bool {
	for _, d := range s.Discarded {
		if d.From <= height && height <= d.To {
			return true
		}
	}
	return false
}
