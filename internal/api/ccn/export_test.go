package ccn

import (
	"encoding/json"
	"time"
)

// FieldsOf are the fields of a document that is an object.
func FieldsOf(raw []byte) (map[string]json.RawMessage, bool) { return fieldsOf(raw) }

// LongMax bounds the lists that are written while they are read.
const LongMax = longMax

// WaitForLong changes how long a long list may wait for its turn.
func (s *Server) WaitForLong(d time.Duration) { s.long.wait = d }

// WaitForUploads changes how long who brings a file may wait for its turn.
func (s *Server) WaitForUploads(d time.Duration) { s.uploads.wait = d }

// Registered are the methods and paths that the mux of a server has.
func (s *Server) Registered() (out [][2]string) {
	for _, rt := range s.table {
		out = append(out, [2]string{rt.method, rt.path})
	}
	return out
}
