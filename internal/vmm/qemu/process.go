package qemu

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// processFile holds the /proc/PID/stat line of the hypervisor.
const processFile = "process"

// launcher becomes the hypervisor. Before that it writes down which process
// it is, so that there is no moment in which a machine runs and nothing says
// so; joins the control group; and bounds the size of the files that it
// writes, so that a console cannot fill the disk while nobody trims it. A
// write beyond that fails, instead of killing the process by SIGXFSZ.
const launcher = `read -r line < /proc/$$/stat && echo "$line" > process || exit 70
if [ -n "$ALEPH_CGROUP" ]; then echo $$ > "$ALEPH_CGROUP/cgroup.procs" || exit 71; fi
trap '' XFSZ
ulimit -f "$ALEPH_FILE_BLOCKS" || exit 72
exec "$0" "$@"`

// launch is what a process is started with.
type launch struct {
	binary    string
	args      []string
	dir       string
	lock      *os.File // Inherited: held until the process ends.
	cgroup    string   // "" for none.
	fileBytes int64    // Size limit of what it writes.
	log       string   // Name of the file for its own output, in dir.
	state     *os.File // Inherited as inheritedState; nil for none.
}

// start starts a process of its own session.
func (l launch) start() (*os.Process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open null device: %w", err)
	}
	defer null.Close()
	out, err := os.OpenFile(filepath.Join(l.dir, l.log), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make hypervisor log: %w", err)
	}
	defer out.Close()
	const blockBytes = 512 // Of ulimit -f.
	argv := append([]string{"sh", "-c", launcher, l.binary}, l.args...)
	files := []*os.File{null, out, out, l.lock}
	if l.state != nil {
		files = append(files, l.state)
	}
	p, err := os.StartProcess("/bin/sh", argv, &os.ProcAttr{
		Dir:   l.dir,
		Env:   []string{"PATH=/usr/bin:/bin", "ALEPH_CGROUP=" + l.cgroup, fmt.Sprintf("ALEPH_FILE_BLOCKS=%d", l.fileBytes/blockBytes)},
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start hypervisor: %w", err)
	}
	return p, nil
}
