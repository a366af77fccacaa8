package message

import "bytes"

// Canonical writes a JSON document as the reference does before it hashes one that
// a client hands in: keys sorted, the last of equal ones, no spaces, texts in
// UTF-8, and each number in one form. The error says what is wrong with the
// document.
func Canonical(raw []byte) ([]byte, error) {
	t, err := scan(raw)
	if err != nil {
		return nil, err
	}
	return t.appendFree(make([]byte, 0, len(raw)), 0, bytes.Compare), nil
}
