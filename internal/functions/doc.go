// Package functions runs the programs of PROGRAM messages when they are called:
// by a request, by a message that comes in, or by the clock.
//
// There is one machine for each program. It is started by the first call, from
// a snapshot where there is one, answers several calls at the same time, and is
// stopped when nobody has called for a while. Calls that come meanwhile wait for
// it in a bounded queue. A machine that is held, since the program runs for
// good, is neither stopped nor left to its end.
//
// A snapshot is made behind the first call, by a template that nobody calls and
// that has no network: of the program right after its start, or, where it has
// files that it writes to, of its runtime before that. It stands for exactly one
// version of the program, with everything that it consists of; see plan. Each
// machine that starts from one is told its own randomness, time, name and
// addresses before it is called.
package functions
