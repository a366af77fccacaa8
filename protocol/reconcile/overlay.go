package reconcile

import "slices"

// Overlay is a set as it would be with some items more and some fewer: what another node
// is known to have. It is compared in place of the set, so that nothing is said
// again of what cannot become equal.
type Overlay struct {
	Set
	// More are not in the set, Fewer are. Both are in order.
	More, Fewer []Point
}

// Sums implements Set.
func (o Overlay) Sums(bounds []Point) ([]Sum, error) {
	out, err := o.Set.Sums(bounds)
	if err != nil || len(o.More)+len(o.Fewer) == 0 {
		return out, err
	}
	for i := range out {
		r := Range{bounds[i], bounds[i+1]}
		for _, p := range within(o.More, r) {
			out[i].Add(Of(p.Hash))
		}
		for _, p := range within(o.Fewer, r) {
			out[i].Sub(Of(p.Hash))
		}
	}
	return out, nil
}

// List implements Set.
func (o Overlay) List(r Range, limit int) ([]Point, error) {
	fewer := within(o.Fewer, r)
	out, err := o.Set.List(r, limit+len(fewer))
	if err != nil {
		return nil, err
	}
	out = slices.DeleteFunc(slices.Clone(out), func(p Point) bool {
		_, is := slices.BinarySearchFunc(fewer, p, Point.Compare)
		return is
	})
	if more := within(o.More, r); len(more) > 0 {
		out = append(out, more...)
		slices.SortFunc(out, Point.Compare)
		out = slices.Compact(out)
	}
	return out[:min(len(out), limit)], nil
}

// within are the points of a range, of some that are in order.
func within(points []Point, r Range) []Point {
	from, _ := slices.BinarySearchFunc(points, r.From, Point.Compare)
	to, _ := slices.BinarySearchFunc(points, r.To, Point.Compare)
	return points[from:max(from, to)]
}
