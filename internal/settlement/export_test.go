package settlement

// PageRows bounds the rows of history that are read at a time, and FinalBlocks
// is how deep a block must be for what it did to stay.
const (
	PageRows    = pageRows
	FinalBlocks = finalBlocks
)

// Ended returns how many ended jobs the settler remembers. It must not run.
func (s *Settler) Ended() int { return len(s.book.ended) }
