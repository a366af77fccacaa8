package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"time"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/domains"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/executor"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

// How long machines may take to be reached and to answer, and idle connections to them
// are kept.
const (
	machineDial = 5 * time.Second
	machineMax  = 10 * time.Minute
	machineIdle = time.Minute
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
	keeper := domains.New(n.cfg.Domains, domains.Parts{
		Machines: reached{n.db, exec}.list, Aggregate: core.Aggregate, Texts: net.DefaultResolver.LookupTXT, Wake: wake,
	}, names, n.part("domains"))
	n.domains = &byDomain{keeper, wake}
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
	exec *executor.Supervisor
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
			vm, err := v.VM(ctx, l.Spec)
			if errors.Is(err, errs.NotFound) {
				continue
			}
			if err != nil {
				return err
			}
			d, err := r.exec.Place(*vm)
			if err != nil {
				continue // It has no place yet.
			}
			out = append(out, domains.Machine{Spec: l.Spec, Owner: l.Owner, IP: d.Address.Addr(), Ports: portsOf(d, *vm)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	return out, nil
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

// find returns what answers requests of a host that leads to a machine; d may be nil.
func (d *byDomain) find(r *http.Request, n *Node) (http.Handler, bool) {
	if d == nil {
		return nil, false
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	to, ok := d.keeper.Find(host, domains.PortHTTP)
	if !ok {
		return nil, false
	}
	log := n.part("domains")
	pass := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: to.String()})
			p.Out.Host = p.In.Host
			p.SetXForwarded()
		},
		Transport:     toMachines,
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			log.Debug("machine does not answer", "domain", host, "err", err)
			api.Refuse(log, w, r, errs.New(errs.Unavailable, "the machine of this domain does not answer"))
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = struct {
			*api.PatientBody
			closing
		}{api.NewPatientBody(w, r.Body), closing{r.Body.Close}}
		pass.ServeHTTP(api.NewPatientWriter(w), r)
	}), true
}

// toMachines connects to machines, directly and by no proxy.
var toMachines = &http.Transport{ //nolint:gochecknoglobals // Connections that are kept, for all requests.
	DialContext: (&net.Dialer{Timeout: machineDial}).DialContext, ResponseHeaderTimeout: machineMax, MaxIdleConnsPerHost: 4, IdleConnTimeout: machineIdle,
	DisableCompression: true,
}

// Mappings implements crn.Proxy, in the words of the proxy of published nodes.
func (d *byDomain) Mappings(context.Context) (map[string]map[string]string, error) {
	to := map[string]string{}
	for name, ip := range d.keeper.Routes() {
		to[name] = ip.String()
	}
	return map[string]map[string]string{"bk_http": to, "bk_ssl": to, "bk_ssh": {}}, nil
}

// Regenerate implements crn.Proxy.
func (d *byDomain) Regenerate(ctx context.Context) error { return d.keeper.Look(ctx) }
