package devnet

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Member is a node of a network.
type Member struct{ *member }

// NewMember returns a node that runs the binary, watched by an impatient
// network.
func NewMember(dir, binary string, steadyAfter time.Duration, log *slog.Logger) Member {
	return Member{&member{
		name: "x", dir: dir, binary: binary, log: log, ended: make(chan struct{}), wake: make(chan struct{}),
		pace: pace{restartMin: 5 * time.Millisecond, restartMax: 20 * time.Millisecond, steadyAfter: steadyAfter, endMax: 500 * time.Millisecond},
	}}
}

// Supervise runs the node again and again until it is ended.
func (m Member) Supervise(ctx context.Context) error { return m.supervise(ctx) }

// End ends the node.
func (m Member) End() { m.end() }

// LastWord says how the last run ended.
func (m Member) LastWord(err error) string { return m.lastWord(err) }

// Log is the path of the node's log.
func (m Member) Log() string { return filepath.Join(m.dir, logFile) }

// Process returns the process of the i-th node, nil for none.
func (n *Network) Process(i int) *os.Process {
	m := n.members[i]
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.proc
}

// ChoosePorts finds free ports.
func ChoosePorts(first, count int) (api, p2p []int, err error) {
	p, err := choosePorts(first, count)
	return p.api, p.p2p, err
}

// Environ leaves out the settings of the caller's own nodes.
func Environ(all []string) []string { return environ(all) }

// The bounds that tests reach.
const (
	FailuresMax  = failuresMax
	LogTailBytes = logTailBytes
)
