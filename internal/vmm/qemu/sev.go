package qemu

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/process"
)

// What of AMD SEV is where.
const (
	sessionFile = "sev-session.b64"
	godhFile    = "sev-godh.b64"
	sevDevice   = "dev/sev"
	sevModule   = "sys/module/kvm_amd/parameters/"

	// certBytes is the length of a certificate of SEV, chainCerts how many a platform has
	// for owners.
	certBytes  = 2084
	chainCerts = 4
	// platformMax bounds a question to the platform.
	platformMax = 20 * time.Second
	// ownerFileMax bounds what an owner's session and certificate have, in base64.
	ownerFileMax = 64 << 10
)

// States of a guest, in QEMU's words; see its qapi/misc-target.json.
const (
	sevSecret  = "launch-secret" // It was measured, and takes a secret.
	sevRunning = "running"
)

// Platform implements vmm.Guard. What the host has not is asked for again each time, as
// it may come: a module can be loaded.
func (d *Driver) Platform(ctx context.Context) (*vmm.Platform, error) {
	d.platformMu.Lock()
	defer d.platformMu.Unlock()
	if d.platform != nil {
		return d.platform, nil
	}
	p, err := d.findPlatform(ctx)
	if err != nil {
		return nil, errs.New(errs.Unavailable, "no confidential machines: %w", err)
	}
	d.platform = p
	d.log.Info("host runs confidential machines", "sev_es", p.ES)
	return p, nil
}

// findPlatform looks at the host first, as QEMU says less of what is missing.
func (d *Driver) findPlatform(ctx context.Context) (*vmm.Platform, error) {
	at := func(name string) string { return d.host + name }
	if _, err := os.Stat(at(sevDevice)); err != nil {
		return nil, fmt.Errorf("this host has no AMD SEV: %w", err)
	}
	on := func(name string) bool {
		raw, err := os.ReadFile(at(sevModule + name))
		return err == nil && strings.ContainsAny(strings.TrimSpace(string(raw)), "Y1")
	}
	if !on("sev") {
		return nil, errors.New("the module kvm_amd has SEV turned off: load it with sev=1")
	}
	binary, err := d.binary()
	if err != nil {
		return nil, err
	}
	p, err := askPlatform(ctx, binary)
	if err != nil {
		return nil, err
	}
	p.ES = on("sev_es")
	return p, nil
}

// askPlatform has a QEMU without a machine tell what the platform can.
func askPlatform(ctx context.Context, binary string) (_ *vmm.Platform, err error) {
	ctx, cancel := context.WithTimeout(ctx, platformMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, platformArgs()...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("ask QEMU for SEV: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("ask QEMU for SEV: %w", err)
	}
	said := &process.Head{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("ask QEMU for SEV: %w", err)
	}
	q := newQMP(struct {
		io.Reader
		io.Writer
	}{out, in}, func(event) {})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = q.run() // It ends with the process.
	}()
	p, err := platformOf(ctx, q)
	_ = in.Close() // QEMU ends by itself, or by force.
	cancel()
	<-ended
	_ = cmd.Wait() // It was ended.
	if text := strings.TrimSpace(said.String()); err != nil && text != "" {
		err = fmt.Errorf("%w: %.300s", err, text)
	}
	return p, err
}

// platformArgs start a QEMU that answers on its standard input and output.
func platformArgs() []string {
	return []string{"-machine", "none", "-accel", "kvm", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-qmp", "stdio"}
}

// platformOf asks what the platform can, and for its certificates.
func platformOf(ctx context.Context, q *qmp) (*vmm.Platform, error) {
	if err := q.negotiate(ctx); err != nil {
		return nil, fmt.Errorf("ask QEMU for SEV: %w", err)
	}
	var a struct {
		PDH      []byte `json:"pdh"`
		Chain    []byte `json:"cert-chain"`
		CBit     int    `json:"cbitpos"`
		PhysBits int    `json:"reduced-phys-bits"`
	}
	if err := q.do(ctx, "query-sev-capabilities", nil, &a); err != nil {
		return nil, fmt.Errorf("ask QEMU for SEV: %w", err)
	}
	if len(a.PDH) != certBytes || len(a.Chain) != (chainCerts-1)*certBytes {
		return nil, fmt.Errorf("the platform has certificates of %d and %d bytes, want %d and %d", len(a.PDH), len(a.Chain), certBytes, (chainCerts-1)*certBytes)
	}
	return &vmm.Platform{Certificates: append(a.PDH, a.Chain...), CBit: a.CBit, PhysBits: a.PhysBits}, nil
}

// sevArgs replace a chipset that knows no such guests, and the firmware: that of the
// owner's choice is measured, and the machine waits. Devices go through memory that is
// shared with the host, which QEMU sees to by itself.
func sevArgs(c *vmm.Confidential, p *vmm.Platform) []string {
	return []string{
		"-object", fmt.Sprintf("sev-guest,id=sev0,policy=%#x,cbitpos=%d,reduced-phys-bits=%d,dh-cert-file=%s,session-file=%s",
			c.Policy, p.CBit, p.PhysBits, godhFile, sessionFile),
		"-blockdev", "driver=raw,node-name=firmware,read-only=on,file.driver=file,file.filename=" + c.Firmware,
		"-machine", "q35,usb=off,vmport=off,hpet=off,graphics=off,confidential-guest-support=sev0,pflash0=firmware",
		"-cpu", "host,host-phys-bits-limit=40", // What the firmware of such guests can address.
		"-no-reboot", "-S",
	}
}

// checkConfidential refuses what this host cannot start, and returns its platform; nil
// for a machine that is not confidential.
func (d *Driver) checkConfidential(ctx context.Context, spec vmm.Spec) (*vmm.Platform, error) {
	if spec.Confidential == nil {
		return nil, nil //nolint:nilnil // It needs none.
	}
	p, err := d.Platform(ctx)
	if err != nil {
		return nil, err
	}
	if spec.Confidential.Policy&vmm.PolicyES != 0 && !p.ES {
		return nil, errs.New(errs.Invalid, "guest policy %#x asks for SEV-ES, which this host has not", spec.Confidential.Policy)
	}
	return p, nil
}

// writeOwnerFiles writes what the platform begins the guest with.
func writeOwnerFiles(dir string, c *vmm.Confidential) error {
	for name, text := range map[string][]byte{sessionFile: c.Session, godhFile: c.GODH} {
		if len(text) > ownerFileMax {
			return errs.New(errs.Invalid, "%s has %d bytes, at most %d", name, len(text), ownerFileMax)
		}
		if err := process.ReplaceFile(dir+string(os.PathSeparator)+name, text); err != nil {
			return fmt.Errorf("write what the owner sent: %w", err)
		}
	}
	return nil
}

// guardedMachine is a confidential machine. It has no more abilities: its disks are
// not copied, and its memory is not written down.
type guardedMachine struct {
	vmm.Machine
	qmp *qmp
}

// Measurement implements vmm.Guarded.
func (m guardedMachine) Measurement(ctx context.Context) (*vmm.Measurement, error) {
	return measurementOf(ctx, m.qmp)
}

// Inject implements vmm.Guarded.
func (m guardedMachine) Inject(ctx context.Context, header, secret string) (json.RawMessage, error) {
	return inject(ctx, m.qmp, header, secret)
}

// sevInfo is the answer of query-sev.
type sevInfo struct {
	Enabled  bool   `json:"enabled"`
	APIMajor int    `json:"api-major"`
	APIMinor int    `json:"api-minor"`
	BuildID  int    `json:"build-id"`
	Policy   uint32 `json:"policy"`
	State    string `json:"state"`
	Handle   int    `json:"handle"`
}

func infoOf(ctx context.Context, q *qmp) (sevInfo, error) {
	var info sevInfo
	err := q.do(ctx, "query-sev", nil, &info)
	return info, err
}

func measurementOf(ctx context.Context, q *qmp) (*vmm.Measurement, error) {
	info, err := infoOf(ctx, q)
	if err != nil {
		return nil, err
	}
	var launch struct {
		Data string `json:"data"`
	}
	if err := q.do(ctx, "query-sev-launch-measure", nil, &launch); err != nil {
		return nil, err
	}
	return &vmm.Measurement{
		Enabled: info.Enabled, APIMajor: info.APIMajor, APIMinor: info.APIMinor, BuildID: info.BuildID, Policy: info.Policy, State: info.State,
		Handle: info.Handle, Launch: launch.Data,
	}, nil
}

// inject gives the guest its secret. A guest that runs takes none: whoever asks twice
// must not believe that the second one was taken.
func inject(ctx context.Context, q *qmp, header, secret string) (json.RawMessage, error) {
	for name, text := range map[string]string{"packet header": header, "secret": secret} {
		if raw, err := base64.StdEncoding.DecodeString(text); err != nil || len(raw) == 0 {
			return nil, errs.New(errs.Invalid, "%s is no base64", name)
		}
	}
	info, err := infoOf(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case info.State == sevRunning:
		return nil, errs.New(errs.Conflict, "the machine runs already")
	case info.State != sevSecret:
		return nil, errs.New(errs.Unavailable, "the machine is not measured yet: it is in the state %s", info.State)
	}
	if err := q.do(ctx, "sev-inject-launch-secret", map[string]any{"packet-header": header, "secret": secret}, nil); err != nil {
		if q.closed() {
			return nil, err
		}
		return nil, errs.New(errs.Invalid, "the platform refused the secret: %w", err)
	}
	if err := q.do(ctx, "cont", nil, nil); err != nil {
		return nil, err
	}
	var status json.RawMessage
	if err := q.do(ctx, "query-status", nil, &status); err != nil {
		return nil, err
	}
	return status, nil
}
