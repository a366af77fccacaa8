package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapRoom is how much is allocated at least between two collections of garbage.
const heapRoom = 32 << 20

// sentinel is an object that nobody uses. It is large enough to be collected by
// itself.
type sentinel [4]uint64

// paceCollector makes the collector leave at least heapRoom: what a node holds is
// small, and it would collect each time that this little has doubled. A heap that is
// larger than heapRoom is collected at the usual pace. GOGC in the environment
// stands.
func paceCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := 100
	var pace func(*sentinel)
	pace = func(*sentinel) {
		metrics.Read(live)
		want := 100
		if n := live[0].Value.Uint64(); n < heapRoom {
			want = int(100 * heapRoom / max(n, heapRoom/8))
		}
		if want != percent {
			percent = want
			debug.SetGCPercent(want)
		}
		// It is found unused by the next collection, which this follows.
		runtime.SetFinalizer(new(sentinel), pace)
	}
	pace(nil)
}
