// Package rendezvous is the race that chooses who gets a job, and which
// coordinator decides it: weighted, by a hash, so that anybody can repeat it.
//
// Each runner draws
//
//	u = the top 128 bits of keccak256(seed ‖ spec ‖ attempt ‖ id), at least 1
//
// (32, 32, 1 and 4 bytes, big-endian) and the smallest key wins:
//
//	key = floor((128·2^64 - log2(u)·2^64) · 2^32 / weight)
//
// This is an exponential race: -ln(u/2^128) is exponentially distributed, so a
// runner wins with a probability proportional to its weight; the base of the
// logarithm scales all keys alike. The logarithm is taken bit by bit with
// integer squaring, so any language with 256-bit integers gets the same bits:
// contracts/src/libraries/Rendezvous.sol does, and
// testdata/vectors/rendezvous.json keeps it so. Of equal keys the greater u
// wins, then the smaller id.
package rendezvous
