// Package ipfs keeps and reads IPFS content on this machine, without a network:
// files and directories in UnixFS, under the content identifiers (CIDs) that
// Kubo gives the same bytes.
//
// Bytes are kept once. The data of files lies in blobs, which the package does
// not own but asks for through Blobs; the index beside them says which part of
// which blob is a block. Only the nodes above the leaves, which no blob holds,
// are in the index themselves. What a CARv1 brings is written to a blob of its
// own, and its blocks are parts of that.
//
// What others send block by block is an Arrival: an archive that grows, in the order
// in which its blocks can be verified, and that becomes such a blob when all is
// there.
//
// Content is added and deleted by its root. All blocks below a root belong to
// one pack, and a pack never leans on another: two roots that share a block
// each say where it is. So deleting a root cannot take a block from another,
// and needs no count and no sweep over what stays.
//
// Invariants:
//
//   - A root is visible once every block below it is on the disk for good. A
//     pack that was not finished, or whose deletion was not, is invisible, and
//     the next Open drops what it left.
//   - No byte is returned that was not hashed and compared with its CID. A
//     block that rotted is taken from another pack if one has it, else the
//     error is errs.Internal and names the blob.
//   - A blob that Uses reports must stay, and Free keeps it: from before an add
//     first looks at it until after the last root over it is deleted.
//   - Everything that comes from others is bounded: see limits.go.
package ipfs
