package ledger

// EventNames returns the events that have a decision, by contract.
func EventNames() map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for contract, events := range handlers() {
		out[contract] = map[string]bool{}
		for name, h := range events {
			out[contract][name] = h != nil
		}
	}
	return out
}
