package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/domains"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// addDomains adds what leads custom domains to machines of the message network; without
// core channel nodes nobody says which.
func (n *Node) addDomains(ctx context.Context, exec *executor.Supervisor, core *corenode.Client) error {
	if core == nil {
		return nil
	}
	wake := make(chan struct{}, 1)
	names := []string{n.cfg.CRN.Domain}
	if u, err := url.Parse(n.cfg.Node.PublicURL); err == nil {
		names = append(names, u.Hostname())
	}
	here, log := reached{n.db, exec}, n.part("domains")
	keeper := domains.New(n.cfg.Domains, domains.Parts{
		Machines: here.list, Place: here.place, Aggregate: core.Aggregate, Texts: net.DefaultResolver.LookupTXT, Wake: wake,
	}, names, log)
	n.domains = &byDomain{keeper, newMachineProxy(log), wake}
	n.add("domains", keeper.Run)
	if n.cfg.Domains.TLSBind == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", n.cfg.Domains.TLSBind)
	if err != nil {
		return errs.New(errs.Unavailable, "take in TLS for machines: %w; set [domains] tls_bind to another address, or to none", err)
	}
	n.opened("domains", closing{func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}})
	n.add("tls", func(ctx context.Context) error { return keeper.ServeTLS(ctx, l) })
	return nil
}

// reached are the machines that domains can lead to.
type reached struct {
	db   *state.DB
	exec interface {
		Place(vm state.VM) (vmnet.Device, error)
	}
}

// list is domains.Parts.Machines.
func (r reached) list(ctx context.Context) ([]domains.Machine, error) {
	var out []domains.Machine
	err := r.db.View(ctx, func(v *state.View) error {
		leases, err := v.Leases(ctx)
		if err != nil {
			return err
		}
		for _, l := range leases {
			if !l.Open() {
				continue
			}
			_, err := v.VM(ctx, l.Spec)
			if errors.Is(err, errs.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			out = append(out, domains.Machine{Spec: l.Spec, Owner: l.Owner})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	return out, nil
}

// place is domains.Parts.Place.
func (r reached) place(ctx context.Context, spec message.ItemHash) (domains.Place, error) {
	var vm *state.VM
	err := r.db.View(ctx, func(v *state.View) (err error) {
		vm, err = v.VM(ctx, spec)
		return err
	})
	if err != nil {
		return domains.Place{}, fmt.Errorf("find machine %s: %w", spec, err)
	}
	if vm.State != state.VMRunning && (vm.State != state.VMBooting || vm.PID == 0) {
		return domains.Place{}, errs.New(errs.Unavailable, "machine %s is %s", spec, vm.State)
	}
	d, err := r.exec.Place(*vm)
	if err != nil {
		return domains.Place{}, err
	}
	return domains.Place{IP: d.Address.Addr(), Ports: portsOf(d, *vm)}, nil
}

// portsOf are the ports of a machine that this host reaches: all of one on a TAP device,
// and those that are forwarded of another.
func portsOf(d vmnet.Device, vm state.VM) map[uint16]netip.AddrPort {
	out := map[uint16]netip.AddrPort{}
	for _, port := range []uint16{domains.PortHTTP, domains.PortTLS} {
		if d.Mode == vmnet.Tap {
			out[port] = netip.AddrPortFrom(d.Address.Addr(), port)
			continue
		}
		for _, p := range vm.Ports {
			if p.Protocol != string(vmnet.TCP) || p.Guest != port {
				continue
			}
			host := d.Bind
			if !host.IsValid() || host.IsUnspecified() {
				host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			}
			out[port] = netip.AddrPortFrom(host, p.Host)
		}
	}
	return out
}

// byDomain leads HTTP to machines, and tells of it.
type byDomain struct {
	keeper *domains.Keeper
	proxy  *machineProxy
	wake   chan<- struct{}
}

// look has the domains looked at soon; d may be nil.
func (d *byDomain) look() {
	if d == nil {
		return
	}
	select {
	case d.wake <- struct{}{}:
	default: // It is about to.
	}
}

// serve answers a request if its host leads to a machine, and reports whether it does;
// d may be nil.
func (d *byDomain) serve(w http.ResponseWriter, r *http.Request) bool {
	if d == nil {
		return false
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	way, err := d.keeper.Find(r.Context(), host, domains.PortHTTP)
	switch {
	case errors.Is(err, errs.NotFound):
		return false
	case err != nil:
		api.Refuse(d.proxy.log, w, r, err)
	default:
		d.proxy.pass(w, r, way)
	}
	return true
}

// Mappings implements crn.Proxy, in the words of the proxy of published nodes.
func (d *byDomain) Mappings(ctx context.Context) (map[string]map[string]string, error) {
	to := map[string]string{}
	for name, ip := range d.keeper.Routes(ctx) {
		to[name] = ip.String()
	}
	return map[string]map[string]string{"bk_http": to, "bk_ssl": to, "bk_ssh": {}}, nil
}

// Regenerate implements crn.Proxy.
func (d *byDomain) Regenerate(ctx context.Context) error { return d.keeper.Look(ctx) }
