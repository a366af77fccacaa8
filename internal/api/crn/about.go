package crn

import (
	"crypto/subtle"
	"net/http"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// login lets the operator see the pages that are theirs alone. Who rates nodes
// measures how long the refusal takes.
func (s *Server) login(c *call) error {
	if subtle.ConstantTimeCompare([]byte(c.r.URL.Query().Get("token")), []byte(s.self.Secret)) != 1 {
		return s.json(c, http.StatusUnauthorized, map[string]bool{"success": false})
	}
	//nolint:gosec // G124: TLS may end in front of the node, or there is none on the loopback.
	http.SetCookie(c.w, &http.Cookie{Name: "token", Value: s.self.Secret, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	c.w.Header().Set("Location", "/about/config")
	s.text(c, http.StatusFound, "302: Found")
	return nil
}

func (s *Server) usage(c *call) error {
	u, err := s.parts.Host.Usage(c.r.Context())
	if err != nil {
		return err
	}
	return s.json(c, http.StatusOK, u)
}

func (s *Server) capability(c *call) error {
	v, err := s.parts.Host.Capability(c.r.Context())
	if err != nil {
		return err
	}
	return s.json(c, http.StatusOK, v)
}

// certificates gives the chain of the platform to owners of confidential machines.
func (s *Server) certificates(c *call) error {
	if s.parts.Confidential == nil {
		return refuse(http.StatusServiceUnavailable, "Confidential computing setting not enabled on that server")
	}
	raw, err := s.parts.Confidential.Certificates(c.r.Context())
	if err != nil {
		return err
	}
	s.write(c, http.StatusOK, "application/octet-stream", raw)
	return nil
}

// aboutConfig shows the operator how the node is set up. The reference shows all
// settings, secrets too.
func (s *Server) aboutConfig(c *call) error {
	if err := s.operatorOnly(c); err != nil {
		return err
	}
	return s.publicConfig(c)
}

// mappings shows where the names of domains lead.
func (s *Server) mappings(c *call) error {
	const none = `{"status": "no socket"}`
	if s.parts.Proxy == nil {
		return refuse(http.StatusNotFound, none)
	}
	all, err := s.parts.Proxy.Mappings(c.r.Context())
	if errs.KindOf(err) == errs.Unavailable {
		return refuse(http.StatusNotFound, none)
	}
	if err != nil {
		return err
	}
	for _, backend := range []string{"bk_http", "bk_ssl", "bk_ssh"} {
		if all[backend] == nil {
			all[backend] = map[string]string{}
		}
	}
	return s.json(c, http.StatusOK, map[string]any{"status": "ok", "mappings": all})
}
