// Package typeddata holds the EIP-712 types of everything that owners, payers,
// nodes and coordinators sign for the contracts. They come from one file,
// contracts/eip712.json, as do those of the contracts and of TypeScript.
package typeddata
