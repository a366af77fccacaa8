// Package v1 is the node's own HTTP interface: quotes, jobs, accounts, blobs
// and logs for the owners of machines, and health and metrics for operators.
//
// The document of the interface is made from the types in here and committed
// as docs/api/v1.yaml; a test holds the two together. Amounts are decimal texts
// of wei, times are Unix seconds of chain time unless a field says otherwise,
// and failures are answered as RFC 9457 problems.
package v1
