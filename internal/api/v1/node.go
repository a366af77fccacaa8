package v1

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/job"
	"github.com/aleph-onchain/aleph-onchain/protocol/wire"
)

// readyMax bounds the time in which the parts say whether they are ready.
const readyMax = 3 * time.Second

type healthOutput struct {
	Body struct {
		Status string `json:"status" enum:"ok"`
	}
}

func (s *Server) health(context.Context, *struct{}) (*healthOutput, error) {
	out := new(healthOutput)
	out.Body.Status = "ok"
	return out, nil
}

type readyOutput struct {
	Status int `json:"-"`
	Body   struct {
		Ready bool              `json:"ready"`
		Parts map[string]string `json:"parts" doc:"Each part, with ok or what it waits for."`
	}
}

// ready answers 503 until every part can do its work.
func (s *Server) ready(ctx context.Context, _ *struct{}) (*readyOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	out := &readyOutput{Status: http.StatusOK}
	out.Body.Ready, out.Body.Parts = true, map[string]string{}
	for _, c := range s.parts.Checks {
		err := c.Ready(ctx)
		out.Body.Parts[c.Name] = "ok"
		if err != nil {
			out.Body.Parts[c.Name] = errs.Public(err)
			out.Body.Ready, out.Status = false, http.StatusServiceUnavailable
		}
		if ctx.Err() == nil { // Who asked is still there: it is not that they went away.
			s.sayWaits(c.Name, err)
		}
	}
	return out, nil
}

// sayWaits writes into the log what a part waits for, once for each reason: there it may say
// what strangers are not told.
func (s *Server) sayWaits(part string, err error) {
	reason := ""
	if err != nil {
		reason = errs.Public(err)
	}
	if was, _ := s.waits.Swap(part, reason); was == reason || was == nil && err == nil {
		return
	}
	if err == nil {
		s.log.Info("ready", "part", part)
		return
	}
	s.log.Warn("not ready", "part", part, "err", err)
}

type chainView struct {
	ID   uint64 `json:"id"`
	Head uint64 `json:"head" doc:"Number of the newest block whose effects are here."`
	Time uint64 `json:"time" doc:"Time of that block."`
}

type tokenView struct {
	Index    uint8  `json:"index"`
	Symbol   string `json:"symbol"`
	Decimals int    `json:"decimals"`
}

type infoView struct {
	Role      Role                      `json:"role" enum:"coordinator,compute"`
	NodeID    uint32                    `json:"node_id"`
	Version   string                    `json:"version"`
	PeerID    string                    `json:"peer_id"`
	Chain     chainView                 `json:"chain"`
	Contracts map[string]common.Address `json:"contracts" doc:"Address by contract name."`
	Token     tokenView                 `json:"token"`
}

type infoOutput struct{ Body infoView }

// info answers before the chain was read too: with head and time 0.
func (s *Server) info(ctx context.Context, _ *struct{}) (*infoOutput, error) {
	v := infoView{
		Role: s.self.Role, NodeID: s.self.NodeID, Version: s.self.Version, PeerID: string(s.self.PeerID),
		Contracts: s.self.Contracts, Token: tokenView{Index: job.TokenALEPH, Symbol: "ALEPH", Decimals: 18},
	}
	if s.self.Domain.ChainID != nil {
		v.Chain.ID = s.self.Domain.ChainID.Uint64()
	}
	switch head, err := s.parts.DB.Head(ctx); {
	case err == nil:
		v.Chain.Head, v.Chain.Time = head.Number, head.Time
	case !errors.Is(err, errs.NotFound):
		return nil, err
	}
	return &infoOutput{v}, nil
}

type capacityView struct {
	VCPUsTotal     int   `json:"vcpus_total"`
	VCPUsFree      int   `json:"vcpus_free"`
	MemoryTotalMiB int64 `json:"memory_total_mib"`
	MemoryFreeMiB  int64 `json:"memory_free_mib"`
	DiskTotalMiB   int64 `json:"disk_total_mib"`
	DiskFreeMiB    int64 `json:"disk_free_mib"`
}

type nodeView struct {
	NodeID      uint32        `json:"node_id"`
	Kind        string        `json:"kind" enum:"coordinator,compute,storage"`
	Status      string        `json:"status"`
	Owner       string        `json:"owner"`
	Signer      string        `json:"signer"`
	PeerID      string        `json:"peer_id" doc:"Known once the node has advertised itself."`
	Region      uint16        `json:"region"`
	Capacity    *capacityView `json:"capacity,omitempty"`
	PriceBps    int           `json:"price_bps" doc:"Its price in 1/10000 of the table."`
	Accelerator string        `json:"accelerator"`
	Endpoint    string        `json:"endpoint"`
	Draining    bool          `json:"draining" doc:"It takes no new jobs."`
	SeenAt      int64         `json:"seen_at" doc:"Unix seconds of the last advertisement; 0 for none."`
}

type nodesOutput struct{ Body []nodeView }

func (s *Server) nodes(ctx context.Context, _ *struct{}) (*nodesOutput, error) {
	out := &nodesOutput{Body: []nodeView{}}
	err := s.parts.DB.View(ctx, func(v *state.View) error {
		nodes, err := v.Nodes(ctx, "")
		if err != nil {
			return err
		}
		for _, n := range nodes {
			c, err := v.Capacity(ctx, n.ID)
			if err != nil && !errors.Is(err, errs.NotFound) {
				return err
			}
			view, err := viewNode(n, c)
			if err != nil {
				return err
			}
			out.Body = append(out.Body, view)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// viewNode composes a node's row and its last ad, which may be nil.
func viewNode(n state.Node, c *state.Capacity) (nodeView, error) {
	v := nodeView{
		NodeID: n.ID, Kind: string(n.Kind), Status: string(n.Status), Owner: n.Owner.Hex(), Signer: n.Signer.Hex(), Region: n.Region,
	}
	if c == nil {
		return v, nil
	}
	ad, err := wire.ParseCapacityAd(c.Ad)
	if err != nil {
		return v, err
	}
	v.PeerID, v.PriceBps, v.Accelerator, v.Endpoint, v.Draining = ad.PeerID, ad.PriceBps, ad.Accelerator, ad.Endpoint, ad.Draining
	v.SeenAt = c.ReceivedAt.Unix()
	v.Capacity = &capacityView{ad.VCPUsTotal, ad.VCPUsFree, ad.MemoryTotalMiB, ad.MemoryFreeMiB, ad.DiskTotalMiB, ad.DiskFreeMiB}
	return v, nil
}

type machineView struct {
	Spec  string     `json:"spec"`
	State string     `json:"state"`
	PID   int        `json:"pid"`
	Ports []portView `json:"ports"`
}

type machineOutput struct {
	Body struct {
		vmView
		Spec  string     `json:"spec"`
		Ports []portView `json:"ports"`
	}
}

// machine tells of one machine of this host, with its history.
func (s *Server) machine(ctx context.Context, in *specInput) (*machineOutput, error) {
	spec, err := parseSpec(in.Spec)
	if err != nil {
		return nil, err
	}
	vm, err := s.parts.Machines.Status(ctx, spec)
	if err != nil {
		return nil, err
	}
	out := new(machineOutput)
	out.Body.vmView, out.Body.Spec, out.Body.Ports = *viewMachine(vm), string(spec), viewPorts(vm)
	return out, nil
}

type machinesOutput struct{ Body []machineView }

func (s *Server) machines(ctx context.Context, _ *struct{}) (*machinesOutput, error) {
	vms, err := s.parts.DB.VMs(ctx)
	if err != nil {
		return nil, err
	}
	out := &machinesOutput{Body: []machineView{}}
	for _, vm := range vms {
		v := machineView{Spec: string(vm.Spec), State: string(vm.State), PID: vm.PID, Ports: []portView{}}
		for _, p := range vm.Ports {
			v.Ports = append(v.Ports, portView{int(p.Guest), p.Protocol, int(p.Host), p.HostIP})
		}
		out.Body = append(out.Body, v)
	}
	return out, nil
}
