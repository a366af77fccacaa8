package ledger

import (
	"math"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
)

// recordPeriod is the length of the periods that SLAManager sums up over, in
// seconds; recordPeriods is how many it keeps.
const (
	recordPeriod  = 10 * 24 * 60 * 60
	recordPeriods = 4
)

// sums are those of the periods, the newest first. A full one stays as it is.
type sums [recordPeriods]uint16

func (s *sums) add(n uint16) { s[0] = uint16(min(uint32(s[0])+uint32(n), math.MaxUint16)) }

func (s *sums) total() uint16 {
	all := uint32(0)
	for _, n := range s {
		all += uint32(n)
	}
	return uint16(min(all, math.MaxUint16))
}

// age moves the sums by periods in which nothing happened.
func (s *sums) age(periods uint64) {
	var moved sums
	if periods < recordPeriods {
		copy(moved[periods:], s[:])
	}
	*s = moved
}

// record is what was held against a node of late.
type record struct {
	period                  uint64
	executed, filed, points sums
}

// at returns the record with the periods moved to a time.
func (r record) at(now uint64) record {
	period := now / recordPeriod
	for _, s := range []*sums{&r.executed, &r.filed, &r.points} {
		s.age(period - r.period)
	}
	r.period = period
	return r
}

// Points is SLAManager.points at a time.
func (l *Ledger) Points(nodeID uint32, now uint64) bindings.SLAManagerPointsOutput {
	r := l.records[nodeID].at(now)
	return bindings.SLAManagerPointsOutput{Points: r.points.total(), ExecutedBps: r.executed.total(), FiledBps: r.filed.total()}
}

// proven counts what a case that is proven would take.
func (l *Ledger) proven(c *Case, now uint64) {
	r := l.records[c.NodeId].at(now)
	r.filed.add(c.Bps)
	l.records[c.NodeId] = r
}

// executed counts what was carried out. What is fatal does not count against the
// most that can be taken in a month.
func (l *Ledger) executed(c *Case, now uint64, bps uint16) {
	r := l.records[c.NodeId].at(now)
	if !l.cases.penalties[c.Kind].Fatal {
		r.executed.add(bps)
	}
	r.points.add(uint16(c.Severity) + 1)
	l.records[c.NodeId] = r
}
