package corechannel

import (
	"encoding/json"
	"slices"
)

// Scores is what the scoring service says of nodes.
type Scores struct {
	Nodes         []Score // CCNs
	ResourceNodes []Score // CRNs
}

// Score is what it says of one node, all of 0 to 1.
type Score struct {
	NodeID           string // its hash
	Total            float64
	Performance      float64
	Decentralization float64
}

func readScores(m Message, s Settings) (Body, error) {
	if !slices.Contains(s.ScoreSenders, m.Sender) {
		return nil, Stranger
	}
	content, err := tagged(m, s)
	if err != nil {
		return nil, err
	}
	scores, ok := object(content["scores"])
	if !ok {
		return nil, Ignored("the scores are not an object")
	}
	ccn, okNodes := scores.list("ccn")
	crn, okResources := scores.list("crn")
	if !okNodes && !okResources {
		return nil, Ignored("there are no scores")
	}
	return Scores{Nodes: readScoreRows(ccn), ResourceNodes: readScoreRows(crn)}, nil
}

// readScoreRows leaves out what is not a score.
func readScoreRows(rows []json.RawMessage) []Score {
	var out []Score
	for _, raw := range rows {
		row, ok := object(raw)
		if !ok {
			continue
		}
		id, hasID := row.text("node_id")
		total, hasTotal := row.number("total_score")
		if !hasID || !hasTotal {
			continue
		}
		performance, _ := row.number("performance")
		decentralization, _ := row.number("decentralization")
		out = append(out, Score{NodeID: id, Total: share(total), Performance: share(performance), Decentralization: share(decentralization)})
	}
	return out
}

// share brings a number into 0 to 1.
func share(f float64) float64 { return max(0, min(1, f)) }

func (Scores) rank() int { return rankScores }

func (s Scores) apply(f *Fold, e *Event) error {
	if f.settings.discards(e.Height) {
		return Ignored("scores of this height are void")
	}
	for _, row := range s.Nodes {
		if c := f.cores[f.resolve(row.NodeID)]; c != nil {
			f.score(&c.Standing, row, e.Height)
		}
	}
	for _, row := range s.ResourceNodes {
		r := f.resources[f.resolve(row.NodeID)]
		if r == nil {
			continue
		}
		f.score(&r.Standing, row, e.Height)
		if r.Parent == nil && r.chain == 0 && f.forgotten(&r.Standing, e.Height) {
			f.removeResource(r)
		}
	}
	f.lastScore = max(f.lastScore, e.Height)
	return nil
}

// score takes a score over. Several locations measure and post at about the
// same height; the best of them counts.
func (f *Fold) score(s *Standing, row Score, height uint64) {
	if f.lastScore+f.settings.ScoreWindow > height {
		s.Score, s.Performance = max(s.Score, row.Total), max(s.Performance, row.Performance)
	} else {
		s.Score, s.Performance = row.Total, row.Performance
	}
	s.Decentralization, s.ScoreUpdated = row.Decentralization, true
	switch {
	case row.Total >= f.settings.InactiveScore:
		s.InactiveSince = nil
	case s.InactiveSince == nil:
		s.InactiveSince = &height
	}
}

// forgotten reports whether a node has been inactive for so long that nobody
// misses it.
func (f *Fold) forgotten(s *Standing, height uint64) bool {
	return s.InactiveSince != nil && height > f.settings.DropFrom && height-*s.InactiveSince > f.settings.DropAfter
}
