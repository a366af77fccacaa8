// Package crn is the HTTP interface of a compute node of the Aleph network:
// what schedulers, owners of machines, callers of functions and those who rate
// nodes ask of one. Paths, bodies, error texts and quirks are those of the
// reference, aleph-vm, since its clients take nothing else.
//
// The door decides who may ask and how answers look. What is asked for is done
// by the parts that it is given; see parts.go for what each must be able to do.
package crn
