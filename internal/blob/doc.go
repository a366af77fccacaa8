// Package blob keeps bytes on this machine's disk under the hash of their
// content.
//
// A blob is visible once all its bytes are there, hash to its name and are on
// the disk for good; before that they are in a file that the next Open sweeps.
// The store is bounded: bytes that do not fit give errs.Exhausted and leave
// nothing behind. Files that come in pieces, over restarts too, are beside it and
// count to the same bound: see Partials, for files whose length is known, and
// Store.Stage, for blobs that grow until their writer has all.
package blob
