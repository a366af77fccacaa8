package crn

import (
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// recordsMax bounds how many records are shown.
const recordsMax = 1000

// textOf is a time as Python writes it, nil for none.
func textOf(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format("2006-01-02 15:04:05")
	if micros := t.Nanosecond() / 1000; micros != 0 {
		text = t.UTC().Format("2006-01-02 15:04:05.000000")
	}
	text += "+00:00"
	return &text
}

// isoOf is a time as isoformat writes it, nil for none.
func isoOf(t time.Time) *string {
	text := textOf(t)
	if text != nil {
		*text = (*text)[:10] + "T" + (*text)[11:]
	}
	return text
}

func prefixText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

type executionV1 struct {
	Networking struct {
		IPv4 string `json:"ipv4"`
		IPv6 string `json:"ipv6"`
	} `json:"networking"`
	Kind     Kind `json:"vm_type"`
	Awaiting bool `json:"awaiting_confidential_init"`
}

// listV1 shows what runs.
func (s *Server) listV1(c *call) error {
	all, err := s.parts.Executions.List(c.r.Context())
	if err != nil {
		return err
	}
	out := map[message.ItemHash]executionV1{}
	for i := range all {
		e := &all[i]
		if !e.Running && !e.AwaitingOwner || e.Network == nil {
			continue
		}
		v := executionV1{Kind: e.Kind, Awaiting: e.AwaitingOwner}
		v.Networking.IPv4, v.Networking.IPv6 = prefixText(e.Network.IPv4Network), prefixText(e.Network.IPv6Network)
		out[e.Hash] = v
	}
	return s.json(c, http.StatusOK, out)
}

type executionV2 struct {
	Networking networkV2 `json:"networking"`
	Status     timesV2   `json:"status"`
	Running    bool      `json:"running"`
	Awaiting   bool      `json:"awaiting_confidential_init"`
	Kind       Kind      `json:"vm_type"`
}

type networkV2 struct {
	IPv4Network string            `json:"ipv4_network"`
	HostIPv4    string            `json:"host_ipv4"`
	IPv6Network string            `json:"ipv6_network"`
	IPv6        string            `json:"ipv6_ip"`
	IPv4        string            `json:"ipv4_ip"`
	Ports       map[string]portV2 `json:"mapped_ports"`
}

type portV2 struct {
	Host uint16 `json:"host"`
	TCP  bool   `json:"tcp"`
	UDP  bool   `json:"udp"`
}

type timesV2 struct {
	Defined   *string `json:"defined_at"`
	Preparing *string `json:"preparing_at"`
	Prepared  *string `json:"prepared_at"`
	Starting  *string `json:"starting_at"`
	Started   *string `json:"started_at"`
	Stopping  *string `json:"stopping_at"`
	Stopped   *string `json:"stopped_at"`
}

func (e *Execution) viewV2() executionV2 {
	t, n := e.Times, e.Network
	v := executionV2{
		Running: e.Running, Awaiting: e.AwaitingOwner, Kind: e.Kind,
		Status: timesV2{textOf(t.Defined), textOf(t.Preparing), textOf(t.Prepared), textOf(t.Starting), textOf(t.Started), textOf(t.Stopping), textOf(t.Stopped)},
	}
	v.Networking.Ports = map[string]portV2{}
	if n == nil {
		return v
	}
	v.Networking = networkV2{
		IPv4Network: prefixText(n.IPv4Network), HostIPv4: addrText(n.HostIPv4), IPv4: addrText(n.IPv4),
		IPv6Network: prefixText(n.IPv6Network), IPv6: addrText(n.IPv6), Ports: v.Networking.Ports,
	}
	for port, to := range n.Ports {
		v.Networking.Ports[strconv.Itoa(int(port))] = portV2(to)
	}
	return v
}

// listV2 shows what is here.
func (s *Server) listV2(c *call) error {
	all, err := s.parts.Executions.List(c.r.Context())
	if err != nil {
		return err
	}
	out := map[message.ItemHash]executionV2{}
	for i := range all {
		if all[i].Network != nil {
			out[all[i].Hash] = all[i].viewV2()
		}
	}
	return s.json(c, http.StatusOK, out)
}

// details shows the operator what is here.
func (s *Server) details(c *call) error {
	if err := s.operatorOnly(c); err != nil {
		return err
	}
	all, err := s.parts.Executions.List(c.r.Context())
	if err != nil {
		return err
	}
	type detail struct {
		executionV2
		Owner        string `json:"address"`
		Persistent   bool   `json:"persistent"`
		Hypervisor   string `json:"hypervisor"`
		Confidential bool   `json:"is_confidential"`
	}
	out := map[message.ItemHash]detail{}
	for i := range all {
		e := &all[i]
		out[e.Hash] = detail{e.viewV2(), e.Owner, e.Persistent, e.Hypervisor, e.Confidential}
	}
	return s.json(c, http.StatusOK, []any{out})
}

type record struct {
	ID           string           `json:"uuid"`
	Hash         message.ItemHash `json:"vm_hash"`
	Number       *int             `json:"vm_id"`
	Defined      *string          `json:"time_defined"`
	Prepared     *string          `json:"time_prepared"`
	Started      *string          `json:"time_started"`
	Stopping     *string          `json:"time_stopping"`
	CPUUser      float64          `json:"cpu_time_user"`
	CPUSystem    float64          `json:"cpu_time_system"`
	Reads        uint64           `json:"io_read_count"`
	Writes       uint64           `json:"io_write_count"`
	BytesRead    uint64           `json:"io_read_bytes"`
	BytesWritten uint64           `json:"io_write_bytes"`
	VCPUs        int              `json:"vcpus"`
	Memory       int              `json:"memory"`
	Tap          *string          `json:"network_tap"`
	Message      *string          `json:"message"`
	Original     *string          `json:"original_message"`
	Persistent   bool             `json:"persistent"`
	GPUs         *string          `json:"gpus"`
	Ports        *string          `json:"mapped_ports"`
}

// records shows what ran. The messages, which may hold secrets in variables, and
// the names of this host are left out: the reference tells everybody.
func (s *Server) records(c *call) error {
	all, err := s.parts.Executions.Records(c.r.Context(), recordsMax)
	if err != nil {
		return err
	}
	out := make([]record, len(all))
	for i := range all {
		r := &all[i]
		out[i] = record{
			ID: r.ID, Hash: r.Hash, Defined: textOf(r.Times.Defined), Prepared: textOf(r.Times.Prepared), Started: textOf(r.Times.Started), Stopping: textOf(r.Times.Stopping),
			CPUUser: r.Use.CPUUser.Seconds(), CPUSystem: r.Use.CPUSystem.Seconds(), Reads: r.Use.Reads, Writes: r.Use.Writes,
			BytesRead: r.Use.BytesRead, BytesWritten: r.Use.BytesWritten, VCPUs: r.VCPUs, Memory: r.Memory, Persistent: r.Persistent,
		}
	}
	return s.json(c, http.StatusOK, out)
}
