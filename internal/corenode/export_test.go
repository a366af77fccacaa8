package corenode

import "net/http"

// Through lets requests pass through rt.
func (c *Client) Through(rt http.RoundTripper) { c.http.Transport = rt }
