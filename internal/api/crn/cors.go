package crn

import (
	"net/http"
	"strings"
)

// exposed are the headers of answers that pages may read.
const exposed = "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, Content-Type, Date, ETag, Server, X-Backup-Checksum, X-Source-Size"

// allowOrigin lets a browser's page of any origin read the answer. The one cookie
// there is does not come along from other sites.
func allowOrigin(h http.Header, r *http.Request) {
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", exposed)
}

// preflight answers a page that asks whether it may send a request; false if this
// is no such question about a path that there is.
func (s *Server) preflight(c *call) bool {
	if c.r.Method != http.MethodOptions {
		return false
	}
	path := c.r.URL.EscapedPath()
	var methods []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		if found, _, ok := s.find(method, path); ok && found.cors {
			methods = append(methods, method)
		}
	}
	if len(methods) == 0 {
		return false
	}
	asked := c.r.Header.Get("Access-Control-Request-Method")
	found, _, ok := s.find(asked, path)
	if c.r.Header.Get("Origin") == "" || !ok || !found.cors {
		s.text(c, http.StatusForbidden, "CORS preflight request failed: it needs an Origin and one of the methods "+strings.Join(methods, ", "))
		return true
	}
	h := c.w.Header()
	allowOrigin(h, c.r)
	h.Del("Access-Control-Expose-Headers")
	h.Set("Access-Control-Allow-Methods", asked)
	if headers := c.r.Header.Get("Access-Control-Request-Headers"); headers != "" {
		h.Set("Access-Control-Allow-Headers", headers)
	}
	c.w.WriteHeader(http.StatusOK)
	return true
}
