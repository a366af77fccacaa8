package firecrackertest

import (
	"encoding/json"
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// fields are the fields of a body of the API, by name, in short:
//
//	string, boolean, integer, map     the type; ! behind it: required
//	string! A|B                       one of these
//	integer 1..32                     within these; 1.. has no upper bound
//	@Name                             another body
//	[]@Name, []string                 a list
//
// No body takes a field that is not here.
type fields map[string]string

// definitions are the facts of Firecracker's published description of its API
// (1.17), as far as requests go.
var definitions = map[string]fields{ //nolint:gochecknoglobals // A table.
	"Balloon": {
		"amount_mib": "integer!", "deflate_on_oom": "boolean!", "stats_polling_interval_s": "integer",
		"free_page_hinting": "boolean", "free_page_reporting": "boolean",
	},
	"BalloonUpdate": {"amount_mib": "integer!"},
	"BootSource":    {"kernel_image_path": "string!", "initrd_path": "string", "boot_args": "string"},
	"CpuConfig": {
		"kvm_capabilities": "[]string", "cpuid_modifiers": "[]map", "msr_modifiers": "[]map", "reg_modifiers": "[]map", "vcpu_features": "[]map",
	},
	"Drive": {
		"drive_id": "string!", "is_root_device": "boolean!", "partuuid": "string", "cache_type": "string Unsafe|Writeback",
		"is_read_only": "boolean", "path_on_host": "string", "rate_limiter": "@RateLimiter", "io_engine": "string Sync|Async", "socket": "string",
	},
	"EntropyDevice": {"rate_limiter": "@RateLimiter"},
	"FullVmConfiguration": {
		"balloon": "@Balloon", "drives": "[]@Drive", "boot-source": "@BootSource", "cpu-config": "@CpuConfig", "logger": "@Logger",
		"machine-config": "@MachineConfiguration", "metrics": "@Metrics", "memory-hotplug": "@MemoryHotplugConfig",
		"mmds-config": "@MmdsConfig", "network-interfaces": "[]@NetworkInterface", "pmem": "[]@Pmem", "vsock": "@Vsock", "entropy": "@EntropyDevice",
	},
	"InstanceActionInfo": {"action_type": "string! FlushMetrics|InstanceStart|SendCtrlAltDel"},
	"Logger": {
		"level": "string Error|Warning|Info|Debug|Trace|Off", "log_path": "string", "show_level": "boolean", "show_log_origin": "boolean", "module": "string",
	},
	"MachineConfiguration": {
		"cpu_template": "string C3|T2|T2S|T2CL|T2A|V1N1|None", "smt": "boolean", "mem_size_mib": "integer!", "track_dirty_pages": "boolean",
		"vcpu_count": "integer! 1..32", "huge_pages": "string None|Transparent|2M",
	},
	"MemoryBackend": {"backend_type": "string! File|Uffd", "backend_path": "string!"},
	"MemoryHotplugConfig": {
		"total_size_mib": "integer ..4294967295", "slot_size_mib": "integer 128..4294967295", "block_size_mib": "integer 2..4294967295",
	},
	"Metrics":            {"metrics_path": "string!", "emit_id": "boolean", "properties": "map"},
	"MmdsConfig":         {"version": "string V1|V2", "network_interfaces": "[]string!", "ipv4_address": "string", "imds_compat": "boolean"},
	"MmdsContentsObject": nil, // Anything.
	"NetworkInterface": {
		"guest_mac": "string", "host_dev_name": "string!", "iface_id": "string!", "mtu": "integer 68..65535",
		"rx_rate_limiter": "@RateLimiter", "tx_rate_limiter": "@RateLimiter",
	},
	"NetworkOverride": {"iface_id": "string!", "host_dev_name": "string!"},
	"Pmem": {
		"id": "string!", "path_on_host": "string!", "root_device": "boolean", "read_only": "boolean", "rate_limiter": "@RateLimiter",
	},
	"RateLimiter":          {"bandwidth": "@TokenBucket", "ops": "@TokenBucket"},
	"SerialDevice":         {"serial_out_path": "string", "rate_limiter": "@TokenBucket"},
	"SnapshotCreateParams": {"mem_file_path": "string!", "snapshot_path": "string!", "snapshot_type": "string Full|Diff"},
	"SnapshotLoadParams": {
		"enable_diff_snapshots": "boolean", "track_dirty_pages": "boolean", "mem_file_path": "string", "mem_backend": "@MemoryBackend",
		"snapshot_path": "string!", "resume_vm": "boolean", "network_overrides": "[]@NetworkOverride", "vsock_override": "@VsockOverride",
		"clock_realtime": "boolean", "huge_pages": "string Snapshot|None|Transparent|2M",
	},
	"TokenBucket":   {"one_time_burst": "integer 0..", "refill_time": "integer! 0..", "size": "integer! 0.."},
	"Vm":            {"state": "string! Paused|Resumed"},
	"Vsock":         {"guest_cid": "integer! 3..", "uds_path": "string!", "vsock_id": "string"},
	"VsockOverride": {"uds_path": "string!"},
}

// bodies are the definitions of the bodies of calls; {} is a name that the body
// has too.
var bodies = map[string]string{ //nolint:gochecknoglobals // A table.
	"PUT /actions":                       "InstanceActionInfo",
	"PUT /balloon":                       "Balloon",
	"PATCH /balloon":                     "BalloonUpdate",
	"PUT /boot-source":                   "BootSource",
	"PUT /cpu-config":                    "CpuConfig",
	"PUT /drives/{drive_id}":             "Drive",
	"PUT /entropy":                       "EntropyDevice",
	"PUT /logger":                        "Logger",
	"PUT /machine-config":                "MachineConfiguration",
	"PUT /metrics":                       "Metrics",
	"PUT /mmds":                          "MmdsContentsObject",
	"PUT /mmds/config":                   "MmdsConfig",
	"PUT /network-interfaces/{iface_id}": "NetworkInterface",
	"PUT /serial":                        "SerialDevice",
	"PUT /snapshot/create":               "SnapshotCreateParams",
	"PUT /snapshot/load":                 "SnapshotLoadParams",
	"PATCH /vm":                          "Vm",
	"PUT /vsock":                         "Vsock",
}

// field is one of fields, read.
type field struct {
	kind     string // string, boolean, integer, map; "" for a ref.
	ref      string
	list     bool
	required bool
	enum     []string
	min, max int64
}

var fieldSyntax = regexp.MustCompile(`^(\[\])?(@?)(\w+)(!?)(?: (.+))?$`)

func parseField(s string) field {
	m := fieldSyntax.FindStringSubmatch(s)
	f := field{list: m[1] != "", required: m[4] != "", min: math.MinInt64, max: math.MaxInt64}
	if m[2] != "" {
		f.ref = m[3]
	} else {
		f.kind = m[3]
	}
	low, high, ranged := strings.Cut(m[5], "..")
	switch {
	case ranged:
		if n, err := strconv.ParseInt(low, 10, 64); err == nil {
			f.min = n
		}
		if n, err := strconv.ParseInt(high, 10, 64); err == nil {
			f.max = n
		}
	case m[5] != "":
		f.enum = strings.Split(m[5], "|")
	}
	return f
}

// CheckCall reports the first thing in a call's body that the API does not take.
func CheckCall(method, where string, raw []byte) error {
	pattern := where
	if field, named := names[path.Dir(where)]; named {
		pattern = path.Dir(where) + "/{" + field + "}"
	}
	definition, known := bodies[method+" "+pattern]
	if !known {
		return fmt.Errorf("invalid request method and/or path: %s %s", method, where)
	}
	return Check(definition, raw)
}

// Check reports the first thing in a body that its definition does not have. A
// null is a field that is left out.
func Check(definition string, raw []byte) error {
	want, known := definitions[definition]
	if !known {
		return fmt.Errorf("no body %s", definition)
	}
	var body map[string]json.RawMessage
	if err := json.Unmarshal(raw, &body); err != nil {
		return fmt.Errorf("%s: %w", definition, err)
	}
	if want == nil {
		return nil
	}
	for name, value := range body {
		rule, known := want[name]
		if !known {
			return fmt.Errorf("%s: unknown field `%s`", definition, name)
		}
		if string(value) == "null" {
			delete(body, name)
			continue
		}
		if err := parseField(rule).check(value); err != nil {
			return fmt.Errorf("%s: %s: %w", definition, name, err)
		}
	}
	for name, rule := range want {
		if _, given := body[name]; !given && parseField(rule).required {
			return fmt.Errorf("%s: missing field `%s`", definition, name)
		}
	}
	return nil
}

func (f field) check(raw json.RawMessage) error {
	if f.list {
		var all []json.RawMessage
		if err := json.Unmarshal(raw, &all); err != nil {
			return fmt.Errorf("no list: %w", err)
		}
		one := f
		one.list = false
		for _, raw := range all {
			if err := one.check(raw); err != nil {
				return err
			}
		}
		return nil
	}
	if f.ref != "" {
		return Check(f.ref, raw)
	}
	var err error
	switch f.kind {
	case "boolean":
		var v bool
		err = json.Unmarshal(raw, &v)
	case "map":
		var v map[string]any
		err = json.Unmarshal(raw, &v)
	case "integer":
		var v int64
		if err = json.Unmarshal(raw, &v); err == nil && (v < f.min || v > f.max) {
			err = fmt.Errorf("%d is not within %d and %d", v, f.min, f.max)
		}
	default:
		var v string
		if err = json.Unmarshal(raw, &v); err == nil && f.enum != nil && !slices.Contains(f.enum, v) {
			err = fmt.Errorf("unknown variant `%s`, want one of %q", v, f.enum)
		}
	}
	return err
}
