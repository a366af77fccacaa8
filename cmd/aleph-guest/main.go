// Command aleph-guest is what runs first inside a virtual machine. It is the
// init of the machine's initrd, and stays process 1 of the machine.
//
// In the order of a boot: it loads the drivers that the machine's devices
// need, mounts the root disk and makes it the root, grows its file system to
// the size of the disk, reads the NoCloud seed, sets name, network, keys and
// variables, starts the services of /etc/aleph/services.d and answers SSH and
// the host's agent channel. It has no other job than that and to end the
// machine in good order.
//
// With aleph.function=1 on the kernel's command line the machine is one of a
// function: the root disk is a squashfs under a layer in memory, there is no
// seed, and the host says by streams what the machine is for and calls its
// program. See docs/protocol/guest.md. A guest that is built with the tag machine
// cannot do that, and is half as large.
package main

import (
	"fmt"
	"os"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "aleph-guest: this is the init of a virtual machine and runs as process 1 only")
		os.Exit(2)
	}
	boot()
}
