package firecrackertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// playFirecracker does what Firecracker does, until its guest ends.
func playFirecracker(args []string, console io.Writer) error {
	v := &vmmProcess{console: console, jailed: false, ended: make(chan error, 1), drives: map[string]body{}, nets: map[string]body{}}
	var api, config string
	noAPI := false
	for len(args) > 0 {
		flag := args[0]
		args = args[1:]
		switch flag {
		case "--version":
			_, err := fmt.Fprintf(console, "Firecracker v%s\n\nSupported snapshot data format versions: v8.0.0\n", Version)
			return err
		case "--no-api":
			noAPI = true
			continue
		}
		if len(args) == 0 {
			return fmt.Errorf("the argument %q requires a value", flag)
		}
		value := args[0]
		args = args[1:]
		switch flag {
		case "--id":
			v.id = value
		case "--api-sock":
			api = value
		case "--config-file":
			config = value
		case "--log-path":
			v.logPath = value
		case "--level":
		case "--start-time-us", "--start-time-cpu-us":
			v.jailed = true // Only the jailer says that.
		default:
			return fmt.Errorf("found argument %q which wasn't expected", flag)
		}
	}
	if !noAPI && api == "" {
		return errors.New("the test's Firecracker has no default socket")
	}
	v.logf("Running Firecracker v%s", Version)
	if config != "" {
		if err := v.boot(config); err != nil {
			return fmt.Errorf("configuration file: %w", err)
		}
	}
	if !noAPI {
		if err := v.listen(api); err != nil {
			return err
		}
	}
	if err := <-v.ended; err != nil {
		v.logf("Firecracker exiting with error. exit_code=1")
		return err
	}
	v.logf("Firecracker exiting successfully. exit_code=0")
	return nil
}

// body is one of a call.
type body map[string]any

func (b body) text(name string) string {
	s, _ := b[name].(string)
	return s
}

// vmmProcess is a process of Firecracker.
type vmmProcess struct {
	id      string
	jailed  bool
	logPath string
	console io.Writer
	ended   chan error

	mu     sync.Mutex // held over a call
	state  string     // "" before the start, then Running or Paused.
	loaded bool

	machine, bootSource, vsock body
	drives, nets               map[string]body
	order                      []string // Of drives.
	vsockPath                  string
	guest                      *guestMachine
}

// path is where a path of the jail is.
func (v *vmmProcess) path(name string) string {
	if v.jailed {
		return filepath.Join(".", name)
	}
	return name
}

func (v *vmmProcess) logf(format string, args ...any) {
	if v.logPath == "" {
		fmt.Fprintf(v.console, format+"\n", args...)
		return
	}
	f, err := os.OpenFile(v.path(v.logPath), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, "log:", err)
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "2026-01-01T00:00:00.000000000 [%s:main] "+format+"\n", append([]any{v.id}, args...)...)
}

// may reports a file that the machine's user may not use.
func (v *vmmProcess) may(name string, write bool) error {
	info, err := os.Stat(v.path(name))
	if err != nil {
		return err
	}
	if !v.jailed {
		return nil
	}
	root, err := os.Stat(".")
	if err != nil {
		return err
	}
	//nolint:errcheck // Of Linux both are.
	us, file := root.Sys().(*syscall.Stat_t), info.Sys().(*syscall.Stat_t)
	bits := uint32(info.Mode().Perm())
	switch {
	case us.Uid == file.Uid:
		bits >>= 6
	case us.Gid == file.Gid:
		bits >>= 3
	}
	if bits&4 == 0 || write && bits&2 == 0 {
		return fmt.Errorf("%s: Permission denied (os error 13)", name)
	}
	return nil
}

// boot takes a configuration file and starts the guest.
func (v *vmmProcess) boot(name string) error {
	if err := v.may(name, false); err != nil {
		return err
	}
	raw, err := os.ReadFile(v.path(name))
	if err != nil {
		return err
	}
	if err := Check("FullVmConfiguration", raw); err != nil {
		return err
	}
	var all struct {
		Machine body   `json:"machine-config"`
		Boot    body   `json:"boot-source"`
		Drives  []body `json:"drives"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	v.machine, v.bootSource = all.Machine, all.Boot
	for _, d := range all.Drives {
		if err := v.addDrive(d.text("drive_id"), d); err != nil {
			return err
		}
	}
	return v.start()
}

func (v *vmmProcess) listen(api string) error {
	l, err := net.Listen("unix", v.path(api)) //nolint:noctx // It lives as long as the process.
	if err != nil {
		return err
	}
	go func() {
		v.ended <- http.Serve(l, v) //nolint:gosec // As above.
	}()
	return nil
}

// ServeHTTP answers a call.
func (v *vmmProcess) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if r.Method == http.MethodGet && r.URL.Path == "/" {
		state := v.state
		if state == "" {
			state = "Not started"
		}
		//nolint:errcheck // Who asked has gone.
		json.NewEncoder(w).Encode(map[string]string{"app_name": "Firecracker", "id": v.id, "state": state, "vmm_version": Version})
		return
	}
	status := http.StatusNoContent
	if err := v.call(r.Method, r.URL.Path, raw); err != nil { //nolint:contextcheck // A guest outlives the call that starts it.
		status = http.StatusBadRequest
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]string{"fault_message": err.Error()}) //nolint:errcheck // Who asked has gone.
	} else {
		w.WriteHeader(status)
	}
	f, err := os.OpenFile(v.path(CallsFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s %s %d %s\n", r.Method, r.URL.Path, status, raw)
}

// names are the calls with a name in their path, and the field that has it too.
var names = map[string]string{"/drives": "drive_id", "/network-interfaces": "iface_id"} //nolint:gochecknoglobals // A table.

func (v *vmmProcess) call(method, where string, raw []byte) error {
	pattern, name := where, ""
	if field, named := names[path.Dir(where)]; named {
		pattern, name = path.Dir(where)+"/{"+field+"}", path.Base(where)
	}
	if err := CheckCall(method, where, raw); err != nil {
		return fmt.Errorf("an error occurred when deserializing the json body of a request: %w", err)
	}
	var b body
	if err := json.Unmarshal(raw, &b); err != nil {
		return err
	}
	if name != "" && b.text(names[path.Dir(where)]) != name {
		return fmt.Errorf("the id %q of the path is not that of the body", name)
	}
	switch method + " " + pattern {
	case "PUT /actions", "PATCH /vm", "PUT /snapshot/create":
		return v.running(pattern, b)
	}
	if v.state != "" {
		return fmt.Errorf("the requested operation is not supported after starting the microVM: %s", where)
	}
	return v.configure(pattern, name, b)
}

// running does what a guest is needed for, and starts one.
func (v *vmmProcess) running(pattern string, b body) error {
	action := b.text("action_type") + b.text("state")
	if action == "InstanceStart" {
		if v.state != "" {
			return errors.New("the requested operation is not supported after starting the microVM")
		}
		return v.start()
	}
	if v.state == "" {
		return errors.New("the requested operation is not supported before starting the microVM")
	}
	switch {
	case pattern == "/snapshot/create":
		if v.state != "Paused" {
			return errors.New("save/restore is only supported on a paused microVM")
		}
		return v.save(b)
	case action == "SendCtrlAltDel":
		v.guest.keys()
	case action == "FlushMetrics":
	default:
		v.state = map[string]string{"Paused": "Paused", "Resumed": "Running"}[action]
	}
	return nil
}

func (v *vmmProcess) configure(pattern, name string, b body) error {
	if v.loaded && pattern != "/mmds" {
		return errors.New("a snapshot was loaded")
	}
	switch pattern {
	case "/machine-config":
		smt, _ := b["smt"].(bool)
		if n := int(number(b["vcpu_count"])); smt && n > 1 && n%2 == 1 {
			return errors.New("the vCPU number is invalid: with SMT it is 1 or even")
		}
		if number(b["mem_size_mib"]) == 0 {
			return errors.New("the memory size (MiB) is invalid")
		}
		v.machine = b
	case "/boot-source":
		v.bootSource = b
		return v.readable(b, "kernel_image_path", "initrd_path")
	case "/drives/{drive_id}":
		return v.addDrive(name, b)
	case "/network-interfaces/{iface_id}":
		for id, other := range v.nets {
			if id != name && (other.text("host_dev_name") == b.text("host_dev_name") || other.text("guest_mac") != "" && other.text("guest_mac") == b.text("guest_mac")) {
				return fmt.Errorf("the device or the MAC of %s is in use by %s", name, id)
			}
		}
		v.nets[name] = b
	case "/mmds/config":
		all, _ := b["network_interfaces"].([]any)
		for _, id := range all {
			if s, _ := id.(string); v.nets[s] == nil || len(all) == 0 {
				return errors.New("the list of network interface IDs provided contains at least one ID that does not correspond to any existing network interface")
			}
		}
	case "/vsock":
		v.vsock = b
		return v.openVsock(b.text("uds_path"))
	case "/snapshot/load":
		return v.load(b)
	}
	return nil
}

func number(v any) float64 {
	n, _ := v.(float64)
	return n
}

// readable reports files that are named and cannot be read.
func (v *vmmProcess) readable(b body, fields ...string) error {
	for _, f := range fields {
		if name := b.text(f); name != "" {
			if err := v.may(name, false); err != nil {
				return fmt.Errorf("%s cannot be opened: %w", f, err)
			}
		}
	}
	return nil
}

func (v *vmmProcess) addDrive(id string, b body) error {
	readOnly, given := b["is_read_only"].(bool)
	switch {
	case !given || b.text("path_on_host") == "":
		return errors.New("a drive without a socket has is_read_only and path_on_host")
	case b["is_root_device"] == true && v.rootDrive() != "" && v.rootDrive() != id:
		return errors.New("a root block device already exists")
	}
	if err := v.may(b.text("path_on_host"), !readOnly); err != nil {
		return fmt.Errorf("unable to open the block device backing file: %w", err)
	}
	if _, again := v.drives[id]; !again {
		v.order = append(v.order, id)
	}
	v.drives[id] = b
	return nil
}

func (v *vmmProcess) rootDrive() string {
	for id, d := range v.drives {
		if d["is_root_device"] == true {
			return id
		}
	}
	return ""
}

// saved is the state of a snapshot.
type saved struct {
	Machine, Boot, Vsock body
	Drives, Nets         map[string]body
	Order                []string
}

func (v *vmmProcess) save(b body) error {
	if !v.jailed {
		return errors.New("snapshots are made in a jail")
	}
	raw, err := json.Marshal(saved{v.machine, v.bootSource, v.vsock, v.drives, v.nets, v.order})
	if err != nil {
		return err
	}
	memory := v.path(b.text("mem_file_path"))
	return errors.Join(
		os.WriteFile(v.path(b.text("snapshot_path")), raw, 0o600),
		os.WriteFile(memory, []byte("memory"), 0o600),
		os.Truncate(memory, int64(number(v.machine["mem_size_mib"]))<<20),
	)
}

func (v *vmmProcess) load(b body) error {
	if v.machine != nil || v.bootSource != nil || len(v.drives) > 0 || len(v.nets) > 0 || v.vsock != nil {
		return errors.New("loading a microVM snapshot not allowed after configuring boot-specific resources")
	}
	backend, _ := b["mem_backend"].(map[string]any)
	memory := body(backend).text("backend_path")
	if (memory == "") == (b.text("mem_file_path") == "") {
		return errors.New("exactly one of mem_backend and mem_file_path is needed")
	}
	if err := errors.Join(v.may(b.text("snapshot_path"), false), v.may(memory, false)); err != nil {
		return err
	}
	raw, err := os.ReadFile(v.path(b.text("snapshot_path")))
	if err != nil {
		return err
	}
	var s saved
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("failed to get snapshot state: %w", err)
	}
	for _, id := range s.Order {
		if err := v.addDrive(id, s.Drives[id]); err != nil {
			return err
		}
	}
	overrides, _ := b["network_overrides"].([]any)
	for _, o := range overrides {
		one, _ := o.(map[string]any)
		net, known := s.Nets[body(one).text("iface_id")]
		if !known {
			return errors.New("unknown network device")
		}
		net["host_dev_name"] = body(one).text("host_dev_name")
	}
	v.machine, v.bootSource, v.vsock, v.nets, v.loaded = s.Machine, s.Boot, s.Vsock, s.Nets, true
	if err := v.openVsock(v.vsock.text("uds_path")); err != nil {
		return err
	}
	if b["resume_vm"] != true {
		v.state = "Paused"
		return errors.New("the test's guest is resumed at once")
	}
	return v.start()
}

// start starts the guest.
func (v *vmmProcess) start() error {
	switch {
	case v.bootSource == nil:
		return errors.New("cannot start microvm without kernel configuration")
	case v.rootDrive() == "" && v.bootSource.text("initrd_path") == "":
		return errors.New("cannot start microvm without a root device")
	}
	v.state = "Running"
	v.guest = newGuest(v, strings.Fields(v.bootSource.text("boot_args")))
	go v.guest.run()
	return nil
}
