// Package bindings holds the contracts as Go code: ABI, creation bytecode and typed packing and unpacking of calls,
// events and errors, generated from contracts/; who may call what; and the words of a revert.
//
// The bytecode is the release profile's. `make bindings` regenerates the files, `make bindings-check` fails when they
// differ from what the sources give; the package's tests notice sources that changed since without a compiler.
package bindings

//go:generate go run ./gen

// SourceSum returns the hash of the contract sources that the bindings were generated from.
func SourceSum() string { return sourceSum }
