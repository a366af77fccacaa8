package hostinfo

import "time"

// MemoryDevice reads tables of a firmware.
func MemoryDevice(tables []byte) (kind *string, clock *int64) { return memoryDevice(tables) }

// SetClock sets what time it is.
func (h *Host) SetClock(now time.Time) { h.now = func() time.Time { return now } }
