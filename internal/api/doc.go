// Package api is what every HTTP interface of a node shares: how an error
// becomes an answer, the server with its limits, and the access log. The
// interfaces themselves are in the folders below.
package api
