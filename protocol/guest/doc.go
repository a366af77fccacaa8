// Package guest has the words that a host and the first process of a function's
// machine say to each other. See docs/protocol/guest.md.
//
// The words are those of the published runtimes, byte for byte: msgpack values
// on streams of a vsock. What is added for machines of this product is announced
// by a guest in [Ready.Features], and never sent to one that did not announce it.
//
// Each stream between the two goes to a port of the other:
//
//   - the guest says on the host's [PortRun] that it is up: [Ready];
//   - the host says on the guest's [PortRun] what the machine is for: [Config],
//     once, and the guest answers with a [Result];
//   - the host says on the guest's [PortRun] what is to be done: a [Run], which is
//     answered with a [Reply], or [Halt];
//   - programs ask the host on its [PortAPI], which speaks HTTP;
//   - the host gives a copy of a machine its own randomness, time and name on the
//     guest's [PortReseed]: [Reseed].
//
// Both ends are strangers to each other. What is read has a limit of its own for
// each kind of value, unknown keys are passed over, and nothing nests deeper than
// a few levels.
package guest

// Ports of streams.
const (
	// PortRun takes Ready at the host; Config, Run and Halt at the guest.
	PortRun uint32 = 52
	// PortAPI takes HTTP from programs, at the host.
	PortAPI uint32 = 53
	// PortReseed takes Reseed at the guest.
	PortReseed uint32 = 54
)

// Limits of values, in bytes.
const (
	MaxReady  = 4 << 10
	MaxConfig = 32 << 20  // Code and input of 10,000,000 bytes each, and the rest.
	MaxResult = 1_000_000 // What the published host reads.
	MaxRun    = 10_000_000
	MaxReply  = 32 << 20
	MaxReseed = 16 << 10
	// MaxInline is how large code and input in a Config may be.
	MaxInline = 10_000_000
	// MaxFrame bounds a piece of a streamed body.
	MaxFrame = 64 << 10
)

const (
	maxElements = 1024 // Of a list or map.
	maxDepth    = 16   // Of what is passed over.
)
