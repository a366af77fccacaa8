package storage

import "github.com/aleph-onchain/aleph-onchain/protocol/message"

// Waiters returns how many wait for the transfer of the blob.
func (k *Keeper) Waiters(hash message.ItemHash) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f, ok := k.flights[hash]; ok {
		return f.waiters
	}
	return 0
}
