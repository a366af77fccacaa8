// Package pricing computes what machines, functions and files cost.
//
// [Table.Cost] is the network's own price model: the decimal arithmetic of the
// reference implementation (28 significant digits, half to even after each
// operation, results cut to 18 decimals toward minus infinity), in its three
// columns: tokens held, tokens per second, credits per second.
//
// [Table.Flow] is what a job pays on chain: the exact hourly price of the
// per-second column, times the node's multiplier, rounded up to whole wei per
// second. Since the rate is a whole number of wei, every amount that follows
// from it is exact to the wei.
package pricing
