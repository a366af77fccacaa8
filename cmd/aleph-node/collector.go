package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// heapRoom is how much a busy node allocates at least between two collections
	// of garbage.
	heapRoom = 32 << 20
	// busyWithin is how soon collections follow each other in a node that is busy.
	busyWithin = 2 * time.Second
)

// sentinel is an object that nobody uses. It is large enough to be collected by
// itself.
type sentinel [4]uint64

// paceCollector makes the collector leave heapRoom while the node is busy: what it
// holds is small, and the collector would run each time that this little has doubled.
// A node that is idle, or holds more than heapRoom, is collected at the usual pace.
// GOGC in the environment stands.
func paceCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent, last := 100, time.Now()
	var pace func(*sentinel)
	pace = func(*sentinel) {
		metrics.Read(live)
		want, now := 100, time.Now()
		if n := live[0].Value.Uint64(); n < heapRoom && now.Sub(last) < busyWithin {
			want = int(100 * heapRoom / max(n, heapRoom/8))
		}
		last = now
		if want != percent {
			percent = want
			debug.SetGCPercent(want)
		}
		// It is found unused by the next collection, which this follows.
		runtime.SetFinalizer(new(sentinel), pace)
	}
	pace(nil)
}
