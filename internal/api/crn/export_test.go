package crn

import "time"

// SetClock sets what time it is.
func (s *Server) SetClock(now time.Time) { s.now = func() time.Time { return now } }

// CompareVersions orders versions, and shows the first in its normal form.
func CompareVersions(a, b string) (order int, normal string, err error) {
	v, err := parseVersion(a)
	if err != nil {
		return 0, "", err
	}
	w, err := parseVersion(b)
	if err != nil {
		return 0, "", err
	}
	return v.compare(w), v.String(), nil
}

// Route is an endpoint.
type Route struct{ Method, Path string }

// Routes is every endpoint but the functions'.
func Routes() []Route {
	var out []Route
	for _, r := range routes() {
		out = append(out, Route{r.method, r.path})
	}
	return out
}
