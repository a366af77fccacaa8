package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// power is how a machine ends.
type power int

const (
	powerOffNow power = iota
	rebootNow
)

const (
	// stopGrace is how long processes have to end after they were asked.
	stopGrace = 5 * time.Second
	stopPoll  = 10 * time.Millisecond
)

// shutDown ends the machine in good order. It does not return.
func (g *guest) shutDown(how power) {
	g.logf("shutting down")
	g.stopServices()
	unix.Sync()
	// Read-only closes the journal; what cannot be is at least written.
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		g.logf("remount root read-only: %v", err)
	}
	g.powerOff(how)
}

// powerOff ends the machine at once. It does not return. A machine without buses
// has nothing that takes its power away; its hypervisor ends when it resets.
func (g *guest) powerOff(how power) {
	cmd := unix.LINUX_REBOOT_CMD_POWER_OFF
	if how == rebootNow || busOf("/sys") == busMMIO {
		cmd = unix.LINUX_REBOOT_CMD_RESTART
	}
	unix.Sync()
	if err := unix.Reboot(cmd); err != nil {
		g.logf("power off: %v", err)
	}
	select {}
}
