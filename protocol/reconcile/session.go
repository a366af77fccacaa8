package reconcile

import (
	"errors"
	"fmt"
)

const (
	// depthMax bounds how often a range is cut. An honest node cuts it so that no part
	// has more than about an eighth.
	depthMax = 24
	// openMax is from how many open ranges on fewer are asked about with one question,
	// so that they become fewer.
	openMax = 1 << 15
	// openHard bounds the open ranges.
	openHard = 2 * openMax
	// rangesFew are asked about where too many are open.
	rangesFew = 16
	// mineMax bounds the items of this node that are compared with a list of another,
	// which is short unless this node has nothing of it.
	mineMax = 4096
)

// ErrEndless reports answers that no honest node gives, so that there would be no end.
var ErrEndless = errors.New("answers without end")

// Session is one comparison with a node, from the first time to the last. What it
// finds depends on nothing but answers: if it ends early, a new one begins with what
// has become equal meanwhile.
type Session struct {
	set  Set
	open []open
	// Uncounted says that the node lacks more than was listed.
	Uncounted bool
}

// open is a range of which it is known that the two differ, or that nobody has
// compared yet.
type open struct {
	Range
	depth int
	asked *Asked // nil if it is not known what this node has.
}

// NewSession returns a session that compares a set. The set may change meanwhile.
func NewSession(s Set) *Session { return &Session{set: s, open: []open{{Range: All()}}} }

// Use goes on with another view of the set.
func (s *Session) Use(set Set) { s.set = set }

// Done reports whether all is compared.
func (s *Session) Done() bool { return len(s.open) == 0 }

// Question is the next question, about the first ranges that are open.
func (s *Session) Question() (Question, error) {
	n := RangesMax
	if len(s.open) > openMax {
		n = rangesFew
	}
	var q Question
	size := 1 + 3
	for i := range s.open[:min(n, len(s.open))] {
		o := &s.open[i]
		if size += rangeMax; size > QuestionMax {
			break
		}
		if o.asked == nil {
			sums, err := s.set.Sums([]Point{o.From, o.To})
			if err != nil {
				return nil, err
			}
			o.asked = asked(o.Range, sums[0])
		}
		q = append(q, *o.asked)
	}
	return q, nil
}

func asked(r Range, s Sum) *Asked {
	a := &Asked{Range: r, N: s.N}
	if s.N > 0 {
		a.Print = s.Print()
	}
	return a
}

// Found is what an answer tells.
type Found struct {
	Lacks []Point // Of the node's items those that are not here, in order.
	Extra []Point // Of the items here those that the node has not.
}

// Take takes the answer to the question that was asked last. An error that is
// not one of the set is ErrEndless.
func (s *Session) Take(q Question, a Answer) (out Found, err error) {
	if len(a) > len(q) || len(q) > len(s.open) || len(a) == 0 {
		return out, fmt.Errorf("%w: %d answers to %d of %d ranges", ErrEndless, len(a), len(q), len(s.open))
	}
	var next []open
	for i := range a {
		o, t := s.open[i], &a[i]
		switch t.Kind {
		case Equal:
		case Listed, Begun:
			if t.Kind == Begun {
				to := t.Items[len(t.Items)-1].After()
				if rest := (Range{to, o.To}); to.Compare(o.To) < 0 {
					next = append(next, open{Range: rest, depth: o.depth})
				}
				o.To = to
			}
			if err := s.compare(o.Range, q[i].N, t.Items, &out); err != nil {
				return out, err
			}
		case Cut:
			parts, err := s.cut(o, t.Parts)
			if err != nil {
				return out, err
			}
			next = append(next, parts...)
		default:
			return out, fmt.Errorf("%w: kind %d", ErrEndless, t.Kind)
		}
	}
	if s.open = append(next, s.open[len(a):]...); len(s.open) > openHard {
		return out, fmt.Errorf("%w: %d ranges are open, at most %d may be", ErrEndless, len(s.open), openHard)
	}
	return out, nil
}

// cut compares the parts of a range.
func (s *Session) cut(o open, parts []Claim) (out []open, err error) {
	if o.depth >= depthMax {
		return nil, fmt.Errorf("%w: a range was cut %d times", ErrEndless, depthMax)
	}
	bounds := []Point{o.From}
	for i := range parts {
		bounds = append(bounds, parts[i].To)
	}
	sums, err := s.set.Sums(bounds)
	if err != nil {
		return nil, err
	}
	for i, sum := range sums {
		a := asked(Range{bounds[i], bounds[i+1]}, sum)
		if a.N != parts[i].N || a.Print != parts[i].Print {
			out = append(out, open{a.Range, o.depth + 1, a})
		}
	}
	return out, nil
}

// compare compares the items of a range, of which this node has about n.
func (s *Session) compare(r Range, n int64, theirs []Point, out *Found) error {
	var mine []Point
	if n > 0 {
		limit := max(mineMax, 2*len(theirs))
		var err error
		if mine, err = s.set.List(r, limit); err == nil && len(mine) == limit {
			s.Uncounted = true
			mine, err = s.here(theirs)
		}
		if err != nil {
			return err
		}
	}
	for len(mine) > 0 || len(theirs) > 0 {
		order := -1
		switch {
		case len(mine) == 0:
			order = 1
		case len(theirs) > 0:
			order = mine[0].Compare(theirs[0])
		}
		if order > 0 {
			out.Lacks = append(out.Lacks, theirs[0])
		} else if order < 0 {
			out.Extra = append(out.Extra, mine[0])
		}
		if order <= 0 {
			mine = mine[1:]
		}
		if order >= 0 {
			theirs = theirs[1:]
		}
	}
	return nil
}

// here are those of a node's items that are here too.
func (s *Session) here(theirs []Point) (out []Point, err error) {
	for _, p := range theirs {
		found, err := s.set.List(Range{p, p.After()}, 1)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}
