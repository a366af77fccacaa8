package hostinfo

import (
	"context"
	"encoding/binary"
	"io/fs"
	"runtime"
)

// Capability is what the host is made of.
type Capability struct {
	CPU    CPUCapability    `json:"cpu"`
	Memory MemoryCapability `json:"memory"`
}

// CPUCapability is what its processors are.
type CPUCapability struct {
	CPUProperties
	Model     string `json:"model"`
	Frequency int64  `json:"frequency"` // Hz, the highest.
	Count     int    `json:"count"`     // Logical.
}

// MemoryCapability is what its memory is. What only root may know is nil for
// others.
type MemoryCapability struct {
	Size       int64   `json:"size"`
	Units      string  `json:"units"`
	Type       *string `json:"type"`  // Like DDR4.
	Clock      *int64  `json:"clock"` // Hz
	ClockUnits *string `json:"clock_units"`
}

// Capability returns what the host is made of, as it was when it was first asked.
func (h *Host) Capability(context.Context) (*Capability, error) {
	h.once.Do(func() {
		c := h.cpuInfo()
		total, _ := h.memory()
		kind, clock := memoryDevice(h.tables())
		h.capability = Capability{
			CPU: CPUCapability{
				CPUProperties: CPUProperties{Architecture: architecture(), Vendor: c.vendor, Features: h.features()},
				Model:         c.model, Frequency: int64(h.frequencies(c).Max * 1e6), Count: runtime.NumCPU(),
			},
			Memory: MemoryCapability{Size: total, Units: "bytes", Type: kind, Clock: clock},
		}
	})
	v := h.capability
	return &v, nil
}

func (h *Host) stat(name string) (fs.FileInfo, error) { return fs.Stat(h.root, name) }

// tables returns what the firmware says of the hardware; the kernel shows it to
// root only.
func (h *Host) tables() []byte {
	raw, err := fs.ReadFile(h.root, "sys/firmware/dmi/tables/DMI")
	if err != nil {
		return nil
	}
	return raw
}

// Of the SMBIOS specification, 7.18.
const (
	typeMemoryDevice = 17
	headerBytes      = 4
	memoryTypeAt     = 0x12
	speedAt          = 0x15 // MT/s
)

// memoryTypes are the numbers of kinds that there are in use.
func memoryType(n byte) string {
	switch n {
	case 0x13:
		return "DDR2"
	case 0x18:
		return "DDR3"
	case 0x1a:
		return "DDR4"
	case 0x1b:
		return "LPDDR"
	case 0x1c:
		return "LPDDR2"
	case 0x1d:
		return "LPDDR3"
	case 0x1e:
		return "LPDDR4"
	case 0x20:
		return "HBM"
	case 0x21:
		return "HBM2"
	case 0x22:
		return "DDR5"
	case 0x23:
		return "LPDDR5"
	default:
		return ""
	}
}

// memoryDevice returns the kind and the clock of the first memory that is fitted,
// nil for what is not told.
func memoryDevice(tables []byte) (kind *string, clock *int64) {
	for len(tables) >= headerBytes {
		length := int(tables[1])
		if length < headerBytes || length > len(tables) {
			return nil, nil
		}
		entry := tables[:length]
		if entry[0] == typeMemoryDevice && length > speedAt+1 {
			if name := memoryType(entry[memoryTypeAt]); name != "" {
				if mts := binary.LittleEndian.Uint16(entry[speedAt:]); mts != 0 && mts != 0xffff {
					hz := int64(mts) * 1_000_000
					clock = &hz
				}
				return &name, clock
			}
		}
		// Texts follow, and two zeros.
		rest := tables[length:]
		end := 0
		for end+1 < len(rest) && (rest[end] != 0 || rest[end+1] != 0) {
			end++
		}
		if end+2 > len(rest) {
			return nil, nil
		}
		tables = rest[end+2:]
	}
	return nil, nil
}
