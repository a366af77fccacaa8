package errs

import "errors"

// Placed is an error that names places of this node, such as a path or a server. Its text
// is for whoever operates the node; strangers get another one, by Public.
func Placed(err error, public string) error { return &placed{err, public} }

type placed struct {
	err    error
	public string
}

func (e *placed) Error() string { return e.err.Error() }
func (e *placed) Unwrap() error { return e.err }

// Public returns what strangers may be told of err: its text, but for one that is Placed
// what that says for them, without what was wrapped around it.
func Public(err error) string {
	var p *placed
	if errors.As(err, &p) {
		return p.public
	}
	return err.Error()
}
