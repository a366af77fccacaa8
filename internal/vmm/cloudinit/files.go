package cloudinit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// The files of a seed, and the label of the volume that holds them.
const (
	UserDataFile = "user-data"
	MetaDataFile = "meta-data"
	NetworkFile  = "network-config"
	Label        = "cidata"
)

// Bounds of a Seed, those of an INSTANCE message with room to spare.
const (
	keysMax      = 256
	keyBytes     = 8192
	variablesMax = 256
	nameBytes    = 128
	valueBytes   = 4096
	// fileBytes bounds each file: keysMax keys and variablesMax variables,
	// escaped.
	fileBytes = 8 << 20
)

const cloudConfig = "#cloud-config\n"

// userData is the part of cloud-config that we use.
type userData struct {
	Hostname       string      `json:"hostname"`
	DisableRoot    bool        `json:"disable_root"`
	PasswordAuth   bool        `json:"ssh_pwauth"`
	AuthorizedKeys []string    `json:"ssh_authorized_keys"`
	ResizeRoot     bool        `json:"resize_rootfs"`
	WriteFiles     []writeFile `json:"write_files,omitempty"`
}

type writeFile struct {
	Path        string `json:"path"`
	Owner       string `json:"owner"`
	Permissions string `json:"permissions"`
	Content     string `json:"content"`
}

type metaData struct {
	InstanceID string `json:"instance-id"`
	Hostname   string `json:"local-hostname"`
}

type networkConfig struct {
	Version   int                 `json:"version"`
	Ethernets map[string]ethernet `json:"ethernets"`
}

type ethernet struct {
	Match       match        `json:"match"`
	SetName     string       `json:"set-name,omitempty"`
	Addresses   []string     `json:"addresses"`
	Gateway4    string       `json:"gateway4,omitempty"`
	Gateway6    string       `json:"gateway6,omitempty"`
	Nameservers *nameservers `json:"nameservers,omitempty"`
}

type match struct {
	MAC    string `json:"macaddress,omitempty"`
	Driver string `json:"driver,omitempty"`
}

type nameservers struct {
	Addresses []string `json:"addresses"`
}

// variableName is what a shell takes as the name of a variable.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// hostName is what RFC 1123 allows as one label.
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Validate reports the first thing that cannot be seeded, as errs.Invalid.
func (s Seed) Validate() error {
	if !hostName.MatchString(s.Hostname) {
		return errs.New(errs.Invalid, "hostname %q is not a host name", s.Hostname)
	}
	if len(s.AuthorizedKeys) > keysMax {
		return errs.New(errs.Invalid, "%d authorized keys, at most %d", len(s.AuthorizedKeys), keysMax)
	}
	for i, k := range s.AuthorizedKeys {
		if len(k) > keyBytes || strings.ContainsAny(k, "\r\n\x00") {
			return errs.New(errs.Invalid, "authorized key %d is not one line of at most %d bytes", i, keyBytes)
		}
	}
	if len(s.Variables) > variablesMax {
		return errs.New(errs.Invalid, "%d variables, at most %d", len(s.Variables), variablesMax)
	}
	for name, value := range s.Variables {
		if len(name) > nameBytes || !variableName.MatchString(name) {
			return errs.New(errs.Invalid, "variable name %q is not letters, digits and _ of at most %d bytes", name, nameBytes)
		}
		if len(value) > valueBytes || strings.ContainsRune(value, 0) {
			return errs.New(errs.Invalid, "value of variable %s has %d bytes, at most %d and no NUL", name, len(value), valueBytes)
		}
	}
	return nil
}

// Files returns the files of the seed by their names. The same seed gives the
// same bytes.
func (s Seed) Files() (map[string][]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	user := userData{Hostname: s.Hostname, AuthorizedKeys: s.AuthorizedKeys, ResizeRoot: true}
	if len(s.Variables) > 0 {
		user.WriteFiles = []writeFile{{VariablesPath, "root:root", "0600", shellLines(s.Variables)}}
	}
	files := map[string]any{
		UserDataFile: user,
		MetaDataFile: metaData{s.InstanceID, s.Hostname},
	}
	if s.Network != nil {
		files[NetworkFile] = s.Network.config()
	}
	out := map[string][]byte{}
	for name, v := range files {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", name, err)
		}
		if name == UserDataFile {
			raw = append([]byte(cloudConfig), raw...)
		}
		out[name] = append(raw, '\n')
	}
	return out, nil
}

func (n *Network) config() networkConfig {
	e := ethernet{SetName: "eth0", Addresses: []string{n.Address.String()}}
	if e.Match.MAC = n.MAC; n.MAC == "" {
		e.Match.Driver = "virtio_net"
	}
	if n.Gateway.IsValid() {
		e.Gateway4 = n.Gateway.String()
	}
	if n.Address6.IsValid() {
		e.Addresses = append(e.Addresses, n.Address6.String())
		if n.Gateway6.IsValid() {
			e.Gateway6 = n.Gateway6.String()
		}
	}
	if len(n.Nameservers) > 0 {
		e.Nameservers = &nameservers{}
		for _, a := range n.Nameservers {
			e.Nameservers.Addresses = append(e.Nameservers.Addresses, a.String())
		}
	}
	return networkConfig{Version: 2, Ethernets: map[string]ethernet{"eth0": e}}
}

// shellLines writes variables as a shell reads them back, sorted by name.
func shellLines(vars map[string]string) string {
	names := make([]string, 0, len(vars))
	for name := range vars {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		b.WriteString(name + "='" + strings.ReplaceAll(vars[name], "'", `'\''`) + "'\n")
	}
	return b.String()
}

// parseShellLines reads what shellLines wrote.
func parseShellLines(text string) (map[string]string, error) {
	vars := map[string]string{}
	for text != "" {
		name, rest, ok := strings.Cut(text, "='")
		if !ok || !variableName.MatchString(name) {
			return nil, errs.New(errs.Invalid, "variables have %.40q where a name is expected", text)
		}
		var value strings.Builder
		for {
			part, after, ok := strings.Cut(rest, "'")
			if !ok {
				return nil, errs.New(errs.Invalid, "value of variable %s does not end", name)
			}
			value.WriteString(part)
			if rest, ok = strings.CutPrefix(after, `\''`); ok {
				value.WriteByte('\'')
				continue
			}
			if text, ok = strings.CutPrefix(after, "\n"); !ok {
				return nil, errs.New(errs.Invalid, "value of variable %s is followed by %.10q", name, after)
			}
			break
		}
		vars[name] = value.String()
	}
	return vars, nil
}

// Parse reads the files of a seed that Files wrote. It understands the part
// of cloud-config that Files writes and ignores other keys; YAML that is not
// JSON is errs.Invalid.
func Parse(files map[string][]byte) (Seed, error) {
	var (
		s    Seed
		user userData
		meta metaData
	)
	raw, ok := bytes.CutPrefix(files[UserDataFile], []byte(cloudConfig))
	if !ok {
		return s, errs.New(errs.Invalid, "user-data does not start with #cloud-config")
	}
	if err := json.Unmarshal(raw, &user); err != nil {
		return s, errs.New(errs.Invalid, "user-data: %w", err)
	}
	if err := json.Unmarshal(files[MetaDataFile], &meta); err != nil {
		return s, errs.New(errs.Invalid, "meta-data: %w", err)
	}
	s.InstanceID, s.Hostname, s.AuthorizedKeys = meta.InstanceID, user.Hostname, user.AuthorizedKeys
	for _, f := range user.WriteFiles {
		if f.Path != VariablesPath {
			continue
		}
		vars, err := parseShellLines(f.Content)
		if err != nil {
			return s, err
		}
		s.Variables = vars
	}
	if raw, ok := files[NetworkFile]; ok {
		n, err := parseNetwork(raw)
		if err != nil {
			return s, err
		}
		s.Network = n
	}
	return s, s.Validate()
}

func parseNetwork(raw []byte) (*Network, error) {
	var c networkConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, errs.New(errs.Invalid, "network-config: %w", err)
	}
	e, ok := c.Ethernets["eth0"]
	if c.Version != 2 || !ok || len(e.Addresses) < 1 || len(e.Addresses) > 2 {
		return nil, errs.New(errs.Invalid, "network-config is not version 2 with one address of eth0, or one of each family")
	}
	n := &Network{MAC: e.Match.MAC}
	var err error
	if n.Address, err = netip.ParsePrefix(e.Addresses[0]); err != nil || !n.Address.Addr().Is4() {
		return nil, errs.New(errs.Invalid, "network-config has address %q, want an IPv4 network", e.Addresses[0])
	}
	if e.Gateway4 != "" {
		if n.Gateway, err = netip.ParseAddr(e.Gateway4); err != nil || !n.Gateway.Is4() {
			return nil, errs.New(errs.Invalid, "network-config has gateway %q, want an IPv4 address", e.Gateway4)
		}
	}
	if err := n.parseIPv6(e); err != nil {
		return nil, err
	}
	if e.Nameservers != nil {
		for _, text := range e.Nameservers.Addresses {
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, errs.New(errs.Invalid, "network-config has nameserver %q, want an address", text)
			}
			n.Nameservers = append(n.Nameservers, a)
		}
	}
	return n, nil
}

// parseIPv6 reads the second address and its gateway, if there are any.
func (n *Network) parseIPv6(e ethernet) (err error) {
	is6 := func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() && a.Zone() == "" }
	if len(e.Addresses) < 2 {
		if e.Gateway6 != "" {
			return errs.New(errs.Invalid, "network-config has gateway %q, but no IPv6 address", e.Gateway6)
		}
		return nil
	}
	if n.Address6, err = netip.ParsePrefix(e.Addresses[1]); err != nil || !is6(n.Address6.Addr()) {
		return errs.New(errs.Invalid, "network-config has second address %q, want an IPv6 network", e.Addresses[1])
	}
	if e.Gateway6 == "" {
		return nil
	}
	if n.Gateway6, err = netip.ParseAddr(e.Gateway6); err != nil || !is6(n.Gateway6) {
		return errs.New(errs.Invalid, "network-config has gateway %q, want an IPv6 address", e.Gateway6)
	}
	return nil
}

// ShellVariables returns the variables as VariablesPath holds them.
func (s Seed) ShellVariables() string { return shellLines(s.Variables) }
