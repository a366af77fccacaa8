package ccn

import (
	"context"
	"html/template"
	"net/http"
	"strings"
)

// DefaultVersion is that of the reference whose interface this is.
const DefaultVersion = "0.10.2"

// version answers with the version of the interface.
func (s *Server) version(w http.ResponseWriter, r *http.Request) error {
	o := newObject(nil)
	o.text("version", s.self.Version)
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// publicInfo answers with the addresses at which other nodes reach this one.
func (s *Server) publicInfo(w http.ResponseWriter, r *http.Request) error {
	var addresses []string
	if s.parts.Peers != nil {
		addresses = s.parts.Peers.Addresses()
	}
	o := newObject(nil)
	o.texts("node_multi_addresses", addresses)
	return s.answerJSON(w, r, http.StatusOK, o.end())
}

// index answers people who look at the node with a browser.
func (s *Server) index(w http.ResponseWriter, r *http.Request) error {
	m, err := s.metrics(context.WithoutCancel(r.Context()))
	if err != nil {
		return err
	}
	page, err := template.New("index").Parse(indexPage)
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := page.Execute(&b, map[string]any{"Version": s.self.Version, "Numbers": m.all}); err != nil {
		return err
	}
	s.write(w, r, http.StatusOK, "text/html; charset=utf-8", []byte(b.String()))
	return nil
}

const indexPage = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Aleph node</title></head>
<body>
<h1>Aleph node</h1>
<p>This is a core channel node. Its interface is version {{.Version}}; <a href="/api/ccn/openapi.json">a document</a> says what it answers.</p>
<table>
{{range .Numbers}}{{if .Known}}<tr><td>{{.Name}}</td><td>{{.Value}}</td></tr>
{{end}}{{end}}</table>
</body>
</html>
`
