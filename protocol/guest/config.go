package guest

import (
	"bufio"
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Versions of the protocol that guests announce.
const (
	Version1 = "1.0.0" // A Config without IPv6 and keys; announced by an empty Ready.
	Version2 = "2.0.0"
)

// Features that guests of this product announce.
const (
	// FeatureStream is that a Run may be streamed.
	FeatureStream = "stream"
	// FeatureConcurrent is that calls may run at the same time.
	FeatureConcurrent = "concurrent"
	// FeatureReseed is that the guest listens on PortReseed.
	FeatureReseed = "reseed"
)

// Ready is the first that a guest says, on the host's PortRun. A guest whose
// streams are multiplexed says it again in each session.
type Ready struct {
	Version  string
	Features []string
	// Configured is that the guest has taken its Config in an earlier session:
	// there is none to be sent, calls may begin.
	Configured bool
}

// Has reports whether the guest announced the feature.
func (r Ready) Has(feature string) bool { return slices.Contains(r.Features, feature) }

// Encode returns the bytes of the stream.
func (r Ready) Encode() ([]byte, error) {
	return encode("ready", MaxReady, func(w *writer) {
		n := 1
		if len(r.Features) > 0 {
			n++
		}
		if r.Configured {
			n++
		}
		w.mapOf(n)
		w.text("version")
		w.text(r.Version)
		if len(r.Features) > 0 {
			w.text("features")
			w.strings(r.Features)
		}
		if r.Configured {
			w.text("configured")
			w.boolean(true)
		}
	})
}

// ReadReady reads what a guest says on a stream, up to its end. A stream that
// ends at once is one of a guest of Version1.
func ReadReady(r *bufio.Reader) (Ready, error) {
	if _, err := r.Peek(1); errors.Is(err, io.EOF) {
		return Ready{Version: Version1}, nil
	}
	var ready Ready
	err := decode("ready", r, MaxReady, fields{
		"version": text(&ready.Version), "features": texts(&ready.Features), "configured": boolean(&ready.Configured),
	})
	return ready, err
}

// Interface is how a program is spoken to.
type Interface string

// The interfaces.
const (
	ASGI       Interface = "asgi"
	Executable Interface = "executable"
)

// Encoding is how the code of a program comes.
type Encoding string

// The encodings. Code of a squashfs is the first of the volumes.
const (
	Plain    Encoding = "plain"
	Zip      Encoding = "zip"
	Squashfs Encoding = "squashfs"
)

// CodeMount is where a squashfs of code is mounted.
const CodeMount = "/opt/code"

// Volume is a file system for the guest to mount. Volumes are mounted in their
// order, so that one may lie in another.
type Volume struct {
	Mount    string // Absolute.
	Device   string // Such as "vdb".
	ReadOnly bool   // A squashfs; what is not is of any type.
}

// Config is what a machine is for.
type Config struct {
	InputData  []byte // A zip for /data, or nil.
	Interface  Interface
	VMHash     string
	Encoding   Encoding
	Entrypoint string
	Code       []byte // For Plain and Zip.
	// IP is the IPv4 address of the guest, and Route the host's. Both are "" for a guest
	// without a network. A guest with FeatureReseed takes the address with the length of
	// its prefix; without, and for other guests, the network is a /24.
	IP, Route  string
	DNSServers []string
	Volumes    []Volume
	Variables  map[string]string
	// IPv6 is an address with the length of its prefix. It, the gateway and the
	// keys are not told to a guest of Version1.
	IPv6, IPv6Gateway string
	AuthorizedKeys    []string // Or nil.
}

// Encode returns what is said on the stream to a guest of the version: the
// length of a msgpack value in a line of its own, and the value.
func (c Config) Encode(version string) ([]byte, error) {
	for what, data := range map[string][]byte{"code": c.Code, "input": c.InputData} {
		if len(data) > MaxInline {
			return nil, fmt.Errorf("encode config: %s has %d bytes, at most %d go into a config", what, len(data), MaxInline)
		}
	}
	body, err := encode("config", MaxConfig, func(w *writer) { c.write(w, version) })
	if err != nil {
		return nil, err
	}
	return append([]byte(strconv.Itoa(len(body))+"\n"), body...), nil
}

func (c Config) write(w *writer, version string) {
	n := 11
	if version != Version1 {
		n = 14
	}
	w.mapOf(n)
	w.text("input_data")
	w.binary(c.InputData)
	for _, f := range []struct{ key, value string }{
		{"interface", string(c.Interface)}, {"vm_hash", c.VMHash}, {"encoding", string(c.Encoding)}, {"entrypoint", c.Entrypoint},
	} {
		w.text(f.key)
		w.text(f.value)
	}
	w.text("code")
	w.bytes(c.Code)
	w.text("ip")
	w.optional(c.IP)
	w.text("route")
	w.optional(c.Route)
	w.text("dns_servers")
	w.strings(c.DNSServers)
	w.text("volumes")
	w.arrayOf(len(c.Volumes))
	for _, v := range c.Volumes {
		w.mapOf(3)
		w.text("mount")
		w.text(v.Mount)
		w.text("device")
		w.text(v.Device)
		w.text("read_only")
		w.boolean(v.ReadOnly)
	}
	w.text("variables")
	w.variables(c.Variables)
	if version == Version1 {
		return
	}
	w.text("ipv6")
	w.optional(c.IPv6)
	w.text("ipv6_gateway")
	w.optional(c.IPv6Gateway)
	w.text("authorized_keys")
	if c.AuthorizedKeys == nil {
		w.null()
		return
	}
	w.strings(c.AuthorizedKeys)
}

func (w *writer) variables(v map[string]string) {
	if v == nil {
		w.null()
		return
	}
	w.mapOf(len(v))
	for _, name := range slices.Sorted(maps.Keys(v)) {
		w.text(name)
		w.text(v[name])
	}
}

// lengthDigits is how long the line before a Config may be.
const lengthDigits = 9

// ReadConfig reads a Config from the stream and no byte behind it.
func ReadConfig(r *bufio.Reader) (Config, error) {
	size, err := readLength(r)
	if err != nil {
		return Config{}, err
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return Config{}, fmt.Errorf("decode config: %w", err)
	}
	var c Config
	err = decode("config", bufio.NewReader(bytes.NewReader(body)), size, fields{
		"input_data": binaryTo(&c.InputData), "interface": text((*string)(&c.Interface)), "vm_hash": text(&c.VMHash),
		"encoding": text((*string)(&c.Encoding)), "entrypoint": text(&c.Entrypoint), "code": binaryTo(&c.Code),
		"ip": text(&c.IP), "route": text(&c.Route), "dns_servers": texts(&c.DNSServers), "volumes": volumes(&c.Volumes),
		"variables": variables(&c.Variables), "ipv6": text(&c.IPv6), "ipv6_gateway": text(&c.IPv6Gateway),
		"authorized_keys": texts(&c.AuthorizedKeys),
	})
	return c, err
}

// readLength reads the line before a Config.
func readLength(r *bufio.Reader) (int, error) {
	var digits []byte
	for {
		b, err := r.ReadByte()
		if err != nil {
			return 0, fmt.Errorf("decode config: length: %w", err)
		}
		if b == '\n' {
			break
		}
		if digits = append(digits, b); b < '0' || b > '9' || len(digits) > lengthDigits {
			return 0, fmt.Errorf("decode config: length is %q, want at most %d digits", digits, lengthDigits)
		}
	}
	size, err := strconv.Atoi(string(digits))
	if err != nil {
		return 0, fmt.Errorf("decode config: length: %w", err)
	}
	if size > MaxConfig {
		return 0, fmt.Errorf("decode config: %d bytes, at most %d are taken", size, MaxConfig)
	}
	return size, nil
}

func volumes(to *[]Volume) func(*reader) error {
	return func(d *reader) error {
		return d.list(func() error {
			var v Volume
			err := d.object(fields{"mount": text(&v.Mount), "device": text(&v.Device), "read_only": boolean(&v.ReadOnly)})
			*to = append(*to, v)
			return err
		})
	}
}

func variables(to *map[string]string) func(*reader) error {
	return func(d *reader) error {
		n, err := d.dec.DecodeMapLen()
		if err != nil || n < 0 {
			return err
		}
		if n > maxElements {
			return fmt.Errorf("map of %d keys, want at most %d", n, maxElements)
		}
		*to = make(map[string]string, n)
		for range n {
			name, err := d.dec.DecodeString()
			if err != nil {
				return err
			}
			value, err := d.dec.DecodeString()
			if err != nil {
				return err
			}
			(*to)[name] = value
		}
		return nil
	}
}

// Result is the guest's answer to a Config or a Reseed.
type Result struct {
	Success          bool
	Error, Traceback string
}

// Encode returns the bytes of the answer. A failure is cut to what a host reads.
func (r Result) Encode() ([]byte, error) {
	return encode("result", MaxResult, func(w *writer) {
		if r.Success {
			w.mapOf(1)
			w.text("success")
			w.boolean(true)
			return
		}
		w.mapOf(3)
		w.text("success")
		w.boolean(false)
		w.text("error")
		w.text(head(r.Error, MaxResult/4))
		w.text("traceback")
		w.text(tail(r.Traceback, MaxResult/2))
	})
}

// head is the beginning of s.
func head(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// tail is the end of s, where a traceback says what happened.
func tail(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[len(s)-limit:], "")
	}
	return s
}

// ReadResult reads the answer.
func ReadResult(r *bufio.Reader) (Result, error) {
	var res Result
	err := decode("result", r, MaxResult, fields{
		"success": boolean(&res.Success), "error": text(&res.Error), "traceback": text(&res.Traceback),
	})
	return res, err
}

// Reseed makes a copy of a machine its own: copies of one snapshot have the same
// randomness, clock, name and addresses until they are told. A host sends it to
// a guest with FeatureReseed on its PortReseed before anything else, and waits
// for the Result.
type Reseed struct {
	Seed     []byte // SeedBytes from the host's generator.
	Time     int64  // The host's, in nanoseconds of Unix time.
	Hostname string
	// MAC is the new address of the only network device, in the usual form. As
	// with the addresses, which are as in Config, "" is to leave what is.
	MAC               string
	IP, Route         string
	DNSServers        []string
	IPv6, IPv6Gateway string
	// Rehearsal is for the machine that copies are made of: the guest also does
	// once what it does for a call, all but the program, so that copies have it
	// behind them. Guests that do not know it pass over it.
	Rehearsal bool
}

// SeedBytes is the length of a Reseed's seed.
const SeedBytes = 64

// Encode returns the bytes of the stream.
func (r Reseed) Encode() ([]byte, error) {
	if len(r.Seed) != SeedBytes {
		return nil, fmt.Errorf("encode reseed: seed has %d bytes, want %d", len(r.Seed), SeedBytes)
	}
	return encode("reseed", MaxReseed, func(w *writer) {
		n := 9
		if r.Rehearsal {
			n = 10
		}
		w.mapOf(n)
		w.text("seed")
		w.binary(r.Seed)
		w.text("time")
		w.integer(r.Time)
		for _, f := range []struct{ key, value string }{
			{"hostname", r.Hostname}, {"mac", r.MAC}, {"ip", r.IP}, {"route", r.Route}, {"ipv6", r.IPv6}, {"ipv6_gateway", r.IPv6Gateway},
		} {
			w.text(f.key)
			w.optional(f.value)
		}
		w.text("dns_servers")
		w.strings(r.DNSServers)
		if r.Rehearsal {
			w.text("rehearsal")
			w.boolean(true)
		}
	})
}

// ReadReseed reads the message.
func ReadReseed(r *bufio.Reader) (Reseed, error) {
	var s Reseed
	err := decode("reseed", r, MaxReseed, fields{
		"seed": binaryTo(&s.Seed), "hostname": text(&s.Hostname), "mac": text(&s.MAC), "ip": text(&s.IP), "route": text(&s.Route),
		"dns_servers": texts(&s.DNSServers), "ipv6": text(&s.IPv6), "ipv6_gateway": text(&s.IPv6Gateway),
		"rehearsal": boolean(&s.Rehearsal),
		"time": func(d *reader) (err error) {
			s.Time, err = d.dec.DecodeInt64()
			return err
		},
	})
	if err == nil && len(s.Seed) != SeedBytes {
		err = fmt.Errorf("decode reseed: seed has %d bytes, want %d", len(s.Seed), SeedBytes)
	}
	return s, err
}

// Hostname is the name of the machine of an item hash: its bytes in lower-case
// base32. A hash that is not hexadecimal names its machine itself.
func Hostname(vmHash string) string {
	raw, err := hex.DecodeString(vmHash)
	if err != nil {
		return strings.ToLower(vmHash)
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))
}
