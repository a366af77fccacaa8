package crn

import (
	"bytes"
	"html/template"
	"net/http"
)

// page is what people see of the node. Who rates nodes reads the header Server of
// it.
var page = template.Must(template.New("").Parse(`<!DOCTYPE html>
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
`)) //nolint:gochecknoglobals // A constant.

func (s *Server) index(c *call) {
	var b bytes.Buffer
	if err := page.Execute(&b, s.self.Config); err != nil {
		s.fail(c, err)
		return
	}
	c.w.Header().Set("Content-Security-Policy", "default-src 'none'")
	s.write(c, http.StatusOK, "text/html; charset=utf-8", b.Bytes())
}
