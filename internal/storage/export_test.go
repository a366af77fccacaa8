package storage

import "github.com/aleph-onchain/aleph-onchain/protocol/message"

// Waiters returns how many wait for the transfer of the blob.
func (k *Keeper) Waiters(hash message.ItemHash) int { return k.flights.Waiters(hash) }
