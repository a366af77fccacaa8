package reconcile

// listMax is how many items a range has at most that is listed and not cut: about as
// many bytes are written either way.
const listMax = 24

// Reply answers a question from a source. After each range enough says whether to
// stop, as the rest may be asked for again; nil never stops. An answer is never larger
// than AnswerMax.
func Reply(s Source, q Question, enough func() bool) (Answer, error) {
	var out Answer
	const head = 1 + 3 // The version and the number of answers.
	room := AnswerMax - head
	for i := range q {
		if i > 0 && (room < toldMax || enough != nil && enough()) {
			break
		}
		t, err := tell(s, &q[i], room)
		if err != nil {
			return nil, err
		}
		room -= len(t.append(nil, q[i].Range))
		out = append(out, t)
	}
	return out, nil
}

// toldMax bounds the answer to a range that is equal, cut, or has few items.
const toldMax = 8 + listMax*(pointMax+len(Print{}))

// tell answers one range.
func tell(s Source, a *Asked, room int) (Told, error) {
	sums, err := s.Sums([]Point{a.From, a.To})
	if err != nil {
		return Told{}, err
	}
	n := sums[0].N
	if n == a.N && (n == 0 || sums[0].Print() == a.Print) {
		return Told{Kind: Equal}, nil
	}
	if a.N > 0 && n > listMax {
		parts, err := s.Parts(a.Range, PartsMax)
		if err != nil {
			return Told{}, err
		}
		if len(parts) > 1 {
			t := Told{Kind: Cut, Parts: make([]Claim, len(parts))}
			for i, p := range parts {
				t.Parts[i] = Claim{p.To, p.Sum.N, p.Sum.Print()}
			}
			return t, nil
		}
	}
	// One more than there is room for, which tells whether there are more.
	const least = 1 + 1 + 32
	items, err := s.List(a.Range, room/least+1)
	if err != nil {
		return Told{}, err
	}
	t := Told{Kind: Listed}
	size, base := toldHead, a.From.At
	for i, p := range items {
		size += len(appendPoint(nil, p, base))
		if i > 0 && size > room {
			t.Kind, items = Begun, items[:i]
			break
		}
		base = p.At
	}
	t.Items = items
	return t, nil
}

// toldHead bounds the kind and the number of items.
const toldHead = 1 + 4
