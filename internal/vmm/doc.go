// Package vmm says what a virtual machine is and how to drive one.
//
// A Driver starts machines and takes running ones back after a restart of the
// node. A machine is a process of its own, in its own session, so it outlives
// the daemon; everything it needs or writes is in its own directory, and a
// file lock that the process inherits tells whether it still lives. The lock
// is what keeps two processes from ever writing to one disk.
//
// What is in a machine's directory:
//
//	machine.json   what was started: identity, sizes, accelerator, host boot
//	process        the process's own /proc/PID/stat line, written before it
//	               becomes the hypervisor: its number and its start time
//	lock           held by the process for as long as it lives
//	disk.qcow2     the machine's disk, an overlay over the image
//	seed.iso       the NoCloud seed
//	backup.json    a copy of its disks that is under way
//	console.log    serial console, newest bytes; console.log.1 older ones
//	memory         the memory of a template, until it is a snapshot
//	qemu.log       what the hypervisor itself said
//	*.sock         control sockets
//
// Package disk keeps more there: volumes, and what moves between nodes.
//
// The serial console is written by the hypervisor itself, so it keeps working
// while the daemon is dead. It is a ring of two files: whoever watches the
// machine moves console.log to console.log.1 when it passes ConsoleMax; while
// nobody watches, a file size limit on the process bounds it.
//
// Drivers are in the subpackages; vmmtest holds the suite that each of them
// passes, and a driver in memory for the tests of others.
package vmm
