package functions

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/guest"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// File is a file of the network on this host.
type File struct {
	Path string           // Its bytes were verified, and stay while they are in use.
	Hash message.ItemHash // The STORE message that was meant in the end.
}

// drivesMax is how many volumes package vmm takes.
const drivesMax = 24

// Levels of snapshots.
const (
	levelNone    = "none"
	levelRuntime = "runtime" // Before the program is in it.
	levelProgram = "program" // After its start.
)

// plan is everything that a machine of a program is made of.
type plan struct {
	spec    message.ItemHash
	program *message.Program
	runtime File
	code    File
	drives  []drive
	config  guest.Config // But for addresses.
	level   string       // Of its snapshots.
	// key names the version: two plans with one key make the same machine.
	key string
}

// drive is a volume of a plan.
type drive struct {
	Kind    message.VolumeKind
	Path    string // Immutable: of the file. Persistent: below the program's own directory.
	Hash    message.ItemHash
	SizeMiB int64
}

func (d drive) writable() bool { return d.Kind != message.Immutable }

// writes reports whether the program has files that it writes to beside its
// machine's memory.
func (p *plan) writes() bool {
	for _, d := range p.drives {
		if d.writable() {
			return true
		}
	}
	return false
}

// uses reports whether a file of the host is part of the plan.
func (p *plan) uses(path string) bool {
	return p.runtime.Path == path || p.code.Path == path || slices.ContainsFunc(p.drives, func(d drive) bool { return d.Path == path })
}

// resources are what a machine of the plan takes.
func (p *plan) resources() state.Resources {
	r := state.Resources{VCPUs: p.program.Resources.VCPUs, MemoryMiB: p.program.Resources.MemoryMiB}
	for _, d := range p.drives {
		r.DiskMiB += d.SizeMiB
	}
	return r
}

// planner resolves what programs refer to.
type planner struct {
	messages Messages
	files    Files
}

// plan brings the files of a program. Its errors are Faults.
func (p planner) plan(ctx context.Context, spec message.ItemHash) (*plan, error) {
	prog, err := p.messages.Program(ctx, spec)
	if err != nil {
		return nil, missing(spec, err)
	}
	out := &plan{spec: spec, program: prog, level: levelOf(prog)}
	if out.runtime, err = p.file(ctx, prog, prog.Runtime.Ref, prog.Runtime.UseLatest); err != nil {
		return nil, err
	}
	if out.code, err = p.file(ctx, prog, prog.Code.Ref, prog.Code.UseLatest); err != nil {
		return nil, err
	}
	out.config = guest.Config{
		Interface: interfaceOf(prog.Code), VMHash: string(spec), Encoding: guest.Encoding(prog.Code.Encoding),
		Entrypoint: prog.Code.Entrypoint, Variables: prog.Variables, AuthorizedKeys: prog.AuthorizedKeys,
	}
	if out.config.Encoding == guest.Squashfs {
		out.add(drive{Kind: message.Immutable, Path: out.code.Path, Hash: out.code.Hash}, guest.CodeMount)
	} else if out.config.Code, err = inline("Program", out.code.Path); err != nil {
		return nil, err
	}
	if err := p.data(ctx, out); err != nil {
		return nil, err
	}
	for i, v := range prog.Volumes {
		if err := p.volume(ctx, out, i, v); err != nil {
			return nil, err
		}
	}
	if out.level == levelProgram && out.writes() {
		// A file system that is mounted in a snapshot would be one of another
		// disk in each machine.
		out.level = levelRuntime
	}
	if len(out.drives) > drivesMax {
		return nil, fault(http.StatusBadRequest, fmt.Sprintf("Program has %d volumes, at most %d are supported", len(out.drives), drivesMax), nil)
	}
	out.key, err = out.digest()
	return out, err
}

func (p planner) file(ctx context.Context, prog *message.Program, ref message.ItemHash, latest bool) (File, error) {
	f, err := p.files.File(ctx, prog.Address, ref, latest)
	if err != nil {
		return File{}, fault(http.StatusBadRequest, textMissing, fmt.Errorf("file %s: %w", ref, err))
	}
	return f, nil
}

// data adds the data of a program: a squashfs as a volume, a zip or a plain
// file for /data.
func (p planner) data(ctx context.Context, out *plan) error {
	d := out.program.Data
	if d == nil || d.Ref == nil {
		return nil
	}
	f, err := p.file(ctx, out.program, *d.Ref, d.UseLatest != nil && *d.UseLatest)
	if err != nil {
		return err
	}
	switch guest.Encoding(d.Encoding) {
	case guest.Squashfs:
		out.add(drive{Kind: message.Immutable, Path: f.Path, Hash: f.Hash}, mountPoint(d.Mount, "data"))
	case guest.Zip:
		out.config.InputData, err = inline("Data", f.Path)
	case guest.Plain:
		// Guests unpack input; a plain file goes as the one of a zip.
		var raw []byte
		if raw, err = inline("Data", f.Path); err == nil {
			out.config.InputData, err = zipOf(path.Base(mountPoint(d.Mount, "data")), raw)
		}
	}
	return err
}

// volume adds the i-th volume of a program.
func (p planner) volume(ctx context.Context, out *plan, i int, v message.Volume) error {
	name := fmt.Sprintf("unamed_volume_%d", i) // As published nodes spell it.
	if v.Name != nil && *v.Name != "" {
		name = *v.Name
	}
	mount := ""
	if v.Mount != nil {
		mount = *v.Mount
	}
	mount = mountPoint(mount, name)
	switch v.Kind {
	case message.Immutable:
		f, err := p.file(ctx, out.program, v.Ref, v.UseLatest)
		if err != nil {
			return err
		}
		out.add(drive{Kind: v.Kind, Path: f.Path, Hash: f.Hash}, mount)
	case message.Ephemeral:
		out.add(drive{Kind: v.Kind, Path: fmt.Sprintf("ephemeral-%d.ext4", i), SizeMiB: v.SizeMiB}, mount)
	case message.Persistent:
		if v.Parent != nil || v.Persistence == nil || *v.Persistence != "host" {
			return fault(http.StatusBadRequest, "Only volumes with persistence 'host' and without a parent are supported for programs", nil)
		}
		out.add(drive{Kind: v.Kind, Path: plainName(name) + ".ext4", SizeMiB: v.SizeMiB}, mount)
	}
	return nil
}

// add adds a drive and where the guest mounts it.
func (p *plan) add(d drive, mount string) {
	// vda is the root.
	device := "vd" + string(rune('b'+len(p.drives)))
	p.drives = append(p.drives, d)
	p.config.Volumes = append(p.config.Volumes, guest.Volume{Mount: mount, Device: device, ReadOnly: !d.writable()})
}

// mountPoint makes a mount point absolute.
func mountPoint(mount, name string) string {
	if mount == "" {
		return "/mnt/" + plainName(name)
	}
	return path.Clean("/" + mount)
}

var notPlain = regexp.MustCompile(`[^\w\-]`)

// plainName is a name that is no more than a file of its directory.
func plainName(name string) string {
	if name = notPlain.ReplaceAllString(name, ""); name != "" {
		return name
	}
	return "volume"
}

// interfaceOf is how a program is called.
func interfaceOf(c message.ProgramCode) guest.Interface {
	switch {
	case c.Interface != nil && *c.Interface == "asgi":
		return guest.ASGI
	case c.Interface == nil && strings.Contains(c.Entrypoint, ":"):
		return guest.ASGI
	default:
		return guest.Executable
	}
}

// levelOf is what the program allows to be kept of it: metadata.snapshot, one
// of none, runtime and program.
func levelOf(p *message.Program) string {
	var level string
	if json.Unmarshal(p.Metadata["snapshot"], &level) == nil && (level == levelNone || level == levelRuntime) {
		return level
	}
	return levelProgram
}

// inline reads a file that goes into a Config.
func inline(what, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fault(http.StatusBadRequest, textMissing, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, guest.MaxInline+1))
	if err != nil {
		return nil, fault(http.StatusBadRequest, textMissing, err)
	}
	if len(raw) > guest.MaxInline {
		return nil, fault(http.StatusInternalServerError, fmt.Sprintf(textTooLarge, what), nil)
	}
	return raw, nil
}

// zipOf packs one file.
func zipOf(name string, raw []byte) ([]byte, error) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	w, err := z.Create(name)
	if err == nil {
		_, err = w.Write(raw)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("pack data: %w", err)
	}
	if buf.Len() > guest.MaxInline {
		return nil, fault(http.StatusInternalServerError, fmt.Sprintf(textTooLarge, "Data"), nil)
	}
	return buf.Bytes(), nil
}

// digest names everything that the machine is made of.
func (p *plan) digest() (string, error) {
	drives := make([]drive, len(p.drives))
	for i, d := range p.drives {
		if d.Hash != "" {
			d.Path = "" // The hash says more.
		}
		drives[i] = d
	}
	config := p.config
	config.Code, config.InputData = nil, nil
	var input [sha256.Size]byte
	if p.config.InputData != nil {
		input = sha256.Sum256(p.config.InputData)
	}
	raw, err := json.Marshal(struct {
		Runtime, Code message.ItemHash
		Input         [sha256.Size]byte
		Drives        []drive
		Config        guest.Config
		VCPUs         int
		MemoryMiB     int
		Internet      bool
		Level         string
	}{
		p.runtime.Hash, p.code.Hash, input, drives, config, p.program.Resources.VCPUs, p.program.Resources.MemoryMiB,
		p.program.Environment.Internet, p.level,
	})
	if err != nil {
		return "", fmt.Errorf("encode plan: %w", err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}
