package corechannel

// MarkEvery sets how many events are between two checkpoints.
func (k *Keeper) MarkEvery(n int) { k.every = n }

// Marks is how many checkpoints there are.
func (k *Keeper) Marks() int { return len(k.line.marks) }

// MarksMax bounds them.
const MarksMax = marksMax
