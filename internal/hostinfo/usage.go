package hostinfo

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Usage is how much of the host is in use.
type Usage struct {
	CPU        CPUUsage   `json:"cpu"`
	Memory     Bytes      `json:"mem"`
	Disk       Bytes      `json:"disk"`
	Period     Period     `json:"period"`
	Properties Properties `json:"properties"`
	GPU        GPUUsage   `json:"gpu"`
	Active     bool       `json:"active"`
}

// CPUUsage is how busy the processors are.
type CPUUsage struct {
	Count       int         `json:"count"` // Logical.
	Load        Load        `json:"load_average"`
	Frequencies Frequencies `json:"core_frequencies"`
}

// Load is the average of the last minutes.
type Load struct {
	One     float64 `json:"load1"`
	Five    float64 `json:"load5"`
	Fifteen float64 `json:"load15"`
}

// Frequencies is between which the processors run, in MHz.
type Frequencies struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

// Bytes is what there is and what is free, in thousands of bytes.
type Bytes struct {
	Total     int64 `json:"total_kB"`
	Available int64 `json:"available_kB"`
}

// Period is the time that the figures are of.
type Period struct {
	Start   string  `json:"start_timestamp"`
	Seconds seconds `json:"duration_seconds"`
}

// seconds is written with a point, as the reference does.
type seconds float64

// MarshalJSON implements json.Marshaler.
func (s seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(s), 'f', 1, 64), nil
}

// Properties is what kind of processors these are.
type Properties struct {
	CPU CPUProperties `json:"cpu"`
}

// CPUProperties is what schedulers choose by.
type CPUProperties struct {
	Architecture string   `json:"architecture"` // x86_64 or arm64
	Vendor       string   `json:"vendor"`
	Features     []string `json:"features"` // Of sev, sev_es and sev_snp.
}

// GPUUsage is which GPUs there are, and which of them no machine has.
type GPUUsage struct {
	Devices   []GPU `json:"devices"`
	Available []GPU `json:"available_devices"`
}

const minute = time.Minute

// Usage returns how much of the host is in use now.
func (h *Host) Usage(ctx context.Context) (*Usage, error) {
	total, available, err := h.disk(ctx)
	if err != nil {
		return nil, err
	}
	gpus := GPUUsage{Devices: h.GPUs(ctx), Available: []GPU{}}
	var used []string
	if h.o.UsedGPUs != nil {
		if used, err = h.o.UsedGPUs(ctx); err != nil {
			return nil, fmt.Errorf("look which GPUs are used: %w", err)
		}
	}
	for _, g := range gpus.Devices {
		if !slices.Contains(used, g.PCIHost) {
			gpus.Available = append(gpus.Available, g)
		}
	}
	memTotal, memAvailable := h.memory()
	cpu := h.cpuInfo()
	return &Usage{
		CPU:    CPUUsage{Count: runtime.NumCPU(), Load: h.load(), Frequencies: h.frequencies(cpu)},
		Memory: thousands(memTotal, memAvailable), Disk: thousands(total, max(available, 0)),
		Period:     Period{Start: h.now().UTC().Truncate(minute).Format("2006-01-02T15:04:05Z"), Seconds: seconds(minute.Seconds())},
		Properties: Properties{CPU: CPUProperties{Architecture: architecture(), Vendor: cpu.vendor, Features: h.features()}},
		GPU:        gpus, Active: true,
	}, nil
}

func thousands(total, available int64) Bytes {
	return Bytes{Total: (total + 999) / 1000, Available: available / 1000}
}

// memory returns how many bytes there are, and how many a program could have.
func (h *Host) memory() (total, available int64) {
	for line := range strings.Lines(h.read("proc/meminfo")) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "MemTotal":
			total = kib << 10
		case "MemAvailable":
			available = kib << 10
		}
	}
	return total, available
}

func (h *Host) load() Load {
	var l Load
	fields := strings.Fields(h.read("proc/loadavg"))
	for i, to := range []*float64{&l.One, &l.Five, &l.Fifteen} {
		if i >= len(fields) {
			break
		}
		if n, err := strconv.ParseFloat(fields[i], 64); err == nil {
			*to = n
		}
	}
	return l
}

// cpu is what the kernel says of the first processor.
type cpu struct {
	vendor, model string
	mhz           float64 // Now; 0 if not known.
}

func (h *Host) cpuInfo() cpu {
	var c cpu
	for line := range strings.Lines(h.read("proc/cpuinfo")) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(name) {
		case "vendor_id":
			c.vendor = value
		case "model name":
			c.model = value
		case "cpu MHz":
			if n, err := strconv.ParseFloat(value, 64); err == nil && c.mhz == 0 {
				c.mhz = n
			}
		}
	}
	return c
}

const cpufreq = "sys/devices/system/cpu/cpu0/cpufreq/"

// frequencies is between which the processors run; that of now where nothing
// changes it.
func (h *Host) frequencies(c cpu) Frequencies {
	f := Frequencies{Min: h.number(cpufreq+"scaling_min_freq") / 1000, Max: h.number(cpufreq+"scaling_max_freq") / 1000}
	if f.Min == 0 {
		f.Min = c.mhz
	}
	if f.Max == 0 {
		f.Max = c.mhz
	}
	return f
}

// features are those of AMD that keep memory from the host.
func (h *Host) features() []string {
	found := []string{}
	_, err := h.stat("dev/sev")
	for _, name := range []string{"sev", "sev_es", "sev_snp"} {
		on := h.read("sys/module/kvm_amd/parameters/"+name) == "Y"
		if on && (err == nil || name == "sev_snp") {
			found = append(found, name)
		}
	}
	return found
}
