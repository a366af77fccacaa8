package crn

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
)

// pageText is what people see of the node. Who rates nodes reads the header Server
// of it.
const pageText = `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Aleph compute node {{.Domain}}</title></head>
<body>
<h1>Aleph compute node</h1>
<p>{{.Domain}} runs functions and instances of the Aleph network. Version {{.Version}}.</p>
<ul>
<li><code>/dns4/{{.Domain}}/tcp/443/https</code></li>
<li><code>/dns6/{{.Domain}}/tcp/443/https</code></li>
</ul>
<h2>Diagnostics</h2>
<ul>
<li><a href="/vm/{{.CheckProgram}}">The program with which the node checks itself</a></li>
<li><a href="/status/check/fastapi">Functions</a></li>
<li><a href="/status/check/host">Connections of the host</a></li>
<li><a href="/status/check/ipv6">IPv6</a></li>
<li><a href="/status/config">Settings</a></li>
<li><a href="/about/usage/system">Use of the host</a></li>
<li><a href="/v2/about/executions/list">What runs here</a></li>
</ul>
</body>
</html>
`

// newPage writes the page of a node.
func newPage(cfg Config) ([]byte, error) {
	page, err := template.New("").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("read page of the node: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, cfg); err != nil {
		return nil, fmt.Errorf("write page of the node: %w", err)
	}
	return b.Bytes(), nil
}

func (s *Server) index(c *call) {
	c.w.Header().Set("Content-Security-Policy", "default-src 'none'")
	s.write(c, http.StatusOK, "text/html; charset=utf-8", s.page)
}
