package v1

// How many may read consoles at the same time.
const (
	ReadersPerJobMax    = readersPerJobMax
	ReadersPerCallerMax = readersPerCallerMax
)
