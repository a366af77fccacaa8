// Package tidy holds tests about the code itself: which way imports point,
// that every package says what it is for, that the map in ARCHITECTURE.md is
// true, and the few rules of CONTRIBUTING.md that a machine can check. They
// read every Go file of the module, whatever its build tags.
package tidy
