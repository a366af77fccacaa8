package api

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// StreamIdle is how long a client may leave bytes unread, or send none of those it
// has announced.
const StreamIdle = 60 * time.Second

// PatientBody reads a body and gives the client StreamIdle for each piece, however
// long it takes in all. It keeps the error that is the client's.
type PatientBody struct {
	r   io.Reader
	rc  *http.ResponseController
	err error
}

// NewPatientBody returns the body of the request that w answers.
func NewPatientBody(w http.ResponseWriter, body io.Reader) *PatientBody {
	return &PatientBody{r: body, rc: http.NewResponseController(w)}
}

// Read implements io.Reader. The answer gets its time anew too, as it comes after.
func (p *PatientBody) Read(b []byte) (int, error) {
	deadline := time.Now().Add(StreamIdle)
	if err := errors.Join(p.rc.SetReadDeadline(deadline), p.rc.SetWriteDeadline(deadline)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := p.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		p.err = err
	}
	return n, err
}

// Err is why the client could not be read to the end, nil if it could.
func (p *PatientBody) Err() error { return p.err }

// PatientWriter gives the client StreamIdle for each piece of an answer.
type PatientWriter struct {
	http.ResponseWriter
	rc *http.ResponseController
}

// NewPatientWriter returns what writes to w.
func NewPatientWriter(w http.ResponseWriter) *PatientWriter {
	return &PatientWriter{ResponseWriter: w, rc: http.NewResponseController(w)}
}

// Write implements io.Writer.
func (p *PatientWriter) Write(b []byte) (int, error) {
	if err := p.rc.SetWriteDeadline(time.Now().Add(StreamIdle)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (p *PatientWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }
