package process

import "bytes"

// Marker is a writer that looks for a text.
type Marker struct {
	Want  []byte
	Found bool
	tail  []byte
}

func (m *Marker) Write(p []byte) (int, error) {
	m.tail = append(m.tail, p...)
	m.Found = m.Found || bytes.Contains(m.tail, m.Want)
	m.tail = m.tail[max(0, len(m.tail)-len(m.Want)):]
	return len(p), nil
}

// Head keeps the first bytes that are written to it. It embeds nothing, or io.Copy
// would find another way in.
type Head struct{ kept []byte }

func (b *Head) Write(p []byte) (int, error) {
	const keepBytes = 1024
	b.kept = append(b.kept, p[:min(len(p), keepBytes-len(b.kept))]...)
	return len(p), nil
}

func (b *Head) String() string { return string(b.kept) }
