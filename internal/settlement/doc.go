// Package settlement keeps the money of jobs moving.
//
// On a coordinator it is the keeper that the contracts leave to anybody: it
// refills prepaid time before it runs out, ends jobs whose start window, whose
// signed end or whose grace is over, and pays refunds out to payers that have
// no job left. On a compute node it claims what was earned, when a job has
// ended and from time to time before, and withdraws it to the node's payout
// address.
//
// All it does is to commit intents. Chain time decides what is due. An intent's
// key names what it is about, so nothing is done twice; when it was mined and
// the reason for it still stands, it is done again under the next key.
package settlement
