package firecrackertest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// jailerArgs is the jailer's command line.
type jailerArgs struct {
	id, exec, base   string
	uid, gid         int
	newPIDNS         bool
	extra            []string // For Firecracker.
	cgroups, bounds  []string
	parent, cgroupV2 string
}

var (
	idSyntax     = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
	cgroupSyntax = regexp.MustCompile(`^[a-z]+\.[a-z.]+=.+$`)
	boundSyntax  = regexp.MustCompile(`^(fsize|no-file)=\d+$`)
)

func parseJailer(args []string) (jailerArgs, error) {
	j := jailerArgs{base: "/srv/jailer", uid: -1, gid: -1}
	own := args
	if n := slices.Index(args, "--"); n >= 0 {
		own, j.extra = args[:n], args[n+1:]
	}
	for len(own) > 0 {
		flag := own[0]
		own = own[1:]
		if flag == "--new-pid-ns" {
			j.newPIDNS = true
			continue
		}
		if len(own) == 0 {
			return j, fmt.Errorf("the argument %q requires a value", flag)
		}
		value := own[0]
		own = own[1:]
		var err error
		switch flag {
		case "--id":
			j.id = value
		case "--exec-file":
			j.exec = value
		case "--chroot-base-dir":
			j.base = value
		case "--uid":
			j.uid, err = strconv.Atoi(value)
		case "--gid":
			j.gid, err = strconv.Atoi(value)
		case "--cgroup-version":
			j.cgroupV2 = value
		case "--parent-cgroup":
			j.parent = value
		case "--cgroup":
			j.cgroups = append(j.cgroups, value)
		case "--resource-limit":
			j.bounds = append(j.bounds, value)
		default:
			err = errors.New("found argument which wasn't expected")
		}
		if err != nil {
			return j, fmt.Errorf("argument %q %q: %w", flag, value, err)
		}
	}
	return j, j.validate()
}

func (j jailerArgs) validate() error {
	switch {
	case !idSyntax.MatchString(j.id):
		return fmt.Errorf("invalid instance id %q", j.id)
	case j.uid < 0 || j.gid < 0:
		return errors.New("uid and gid are required")
	case !strings.Contains(filepath.Base(j.exec), firecrackerName):
		return fmt.Errorf("exec file %q must have firecracker in its name", j.exec)
	case slices.ContainsFunc(j.cgroups, func(s string) bool { return !cgroupSyntax.MatchString(s) }):
		return fmt.Errorf("cgroups %q, want file=value", j.cgroups)
	case slices.ContainsFunc(j.bounds, func(s string) bool { return !boundSyntax.MatchString(s) }):
		return fmt.Errorf("resource limits %q, want fsize or no-file", j.bounds)
	case len(j.cgroups) > 0 && j.cgroupV2 != "2":
		return errors.New("control groups of version 1 are asked for")
	}
	for _, name := range []string{j.exec, j.base} {
		if _, err := os.Stat(name); err != nil {
			return fmt.Errorf("canonicalize: %w", err)
		}
	}
	return nil
}

// playJailer does what the jailer does, but for what needs privileges: its
// Firecracker takes paths as below its working directory.
func playJailer(args []string) error {
	j, err := parseJailer(args)
	if err != nil {
		return err
	}
	if j.exec, err = filepath.EvalSymlinks(j.exec); err != nil {
		return err
	}
	exec := filepath.Base(j.exec)
	root := filepath.Join(j.base, exec, j.id, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	program := filepath.Join(root, exec)
	if err := linkOrCopy(j.exec, program); err != nil {
		return err
	}
	// As mknod: it fails when something is there.
	if err := os.Mkdir(filepath.Join(root, "dev"), 0o700); err != nil {
		return err
	}
	if err := os.Chown(root, j.uid, j.gid); err != nil {
		return err
	}
	argv := append([]string{exec, "--id", j.id, "--start-time-us", "1", "--start-time-cpu-us", "1"}, j.extra...)
	if err := os.Chdir(root); err != nil {
		return err
	}
	if !j.newPIDNS {
		return syscall.Exec(program, argv, nil)
	}
	p, err := os.StartProcess(program, argv, &os.ProcAttr{Dir: root, Env: []string{}, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return err
	}
	pidFile, err := os.OpenFile(exec+".pid", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644) //nolint:gosec // As the jailer does.
	if err != nil {
		return err
	}
	if _, err := pidFile.WriteString(strconv.Itoa(p.Pid)); err != nil {
		return err
	}
	return pidFile.Close()
}
