package domains

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/loop"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/domain"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The ports of a machine that domains lead to.
const (
	PortHTTP = 80
	PortTLS  = 443
)

const (
	// aggregateKey is the key of the aggregate in which owners name their domains.
	aggregateKey = "domains"
	// ownerMax bounds the domains of one owner, machineMax those of one machine, nameMax
	// the letters of a domain.
	ownerMax, machineMax, nameMax = 256, 32, 253
	// rest is the time between two looks that somebody asks for: whose machine is here
	// can ask as often as they like, and each look asks the network.
	rest = 30 * time.Second
	// lookups bounds the questions to the domain name system at one time, lookupMax how
	// long one takes.
	lookups, lookupMax = 8, 5 * time.Second
)

// Machine is a machine that is here, whether or not it runs.
type Machine struct {
	Spec  message.ItemHash
	Owner string
}

// Place is where a machine is that runs.
type Place struct {
	IP netip.Addr // Of the machine, as others are shown it.
	// Ports are where ports of the machine are reached from this host.
	Ports map[uint16]netip.AddrPort
}

// Way is where a domain leads to.
type Way struct {
	Spec message.ItemHash // The machine.
	To   netip.AddrPort   // Where its port is reached from this host.
}

// Parts are what a Keeper asks.
type Parts struct {
	// Machines returns the machines that are here.
	Machines func(ctx context.Context) ([]Machine, error)
	// Place returns where a machine is, or an error if it does not run. It is asked for
	// each request: the next machine may have the addresses of one that is gone.
	Place func(ctx context.Context, spec message.ItemHash) (Place, error)
	// Aggregate returns the value of a key of an address's aggregate, or errs.NotFound.
	Aggregate func(ctx context.Context, address, key string) (json.RawMessage, error)
	// Texts returns the text records of a name, which ends in a dot;
	// net.Resolver.LookupTXT does.
	Texts func(ctx context.Context, name string) ([]string, error)
	// Wake has the domains looked at sooner; nil never does.
	Wake <-chan struct{}
}

// Keeper knows which domain leads to which machine. Use New, then Run.
type Keeper struct {
	cfg   Config
	parts Parts
	own   []string // Names of the node itself.
	log   *slog.Logger

	looking sync.Mutex // held over a look

	mu     sync.Mutex
	routes map[string]message.ItemHash // Machines by domain; guarded by mu
}

// New returns a Keeper that leads nothing yet. The names are those of the node itself,
// which lead to no machine.
func New(cfg Config, parts Parts, names []string, log *slog.Logger) *Keeper {
	k := &Keeper{cfg: cfg, parts: parts, log: log, routes: map[string]message.ItemHash{}}
	for _, name := range names {
		if name, ok := normal(name); ok {
			k.own = append(k.own, name)
		}
	}
	return k
}

// Run looks again and again who has which domain.
func (k *Keeper) Run(ctx context.Context) error {
	return loop.Spaced(ctx, k.log, loop.Pace{Interval: k.cfg.Interval, MaxDelay: k.cfg.Interval, Rest: rest}, k.parts.Wake, k.Look)
}

// Find returns where a port of the machine is reached that a domain leads to.
// errs.NotFound means that the domain leads to no machine, errs.Unavailable that its
// machine is not reached now.
func (k *Keeper) Find(ctx context.Context, name string, port uint16) (Way, error) {
	name, ok := normal(name)
	k.mu.Lock()
	spec, known := k.routes[name]
	k.mu.Unlock()
	if !ok || !known {
		return Way{}, errs.New(errs.NotFound, "nothing is at %.253q", name)
	}
	place, err := k.parts.Place(ctx, spec)
	if err != nil {
		k.log.Debug("domain leads to a machine that has no place", "domain", name, "job_id", spec, "err", err)
		return Way{}, errs.New(errs.Unavailable, "the machine of this domain does not run")
	}
	to, ok := place.Ports[port]
	if !ok {
		return Way{}, errs.New(errs.Unavailable, "port %d of the machine of this domain is not forwarded", port)
	}
	return Way{Spec: spec, To: to}, nil
}

// Routes returns the addresses of the machines that run by the domains that lead to them.
func (k *Keeper) Routes(ctx context.Context) map[string]netip.Addr {
	k.mu.Lock()
	routes := maps.Clone(k.routes)
	k.mu.Unlock()
	out := make(map[string]netip.Addr, len(routes))
	for name, spec := range routes {
		if place, err := k.parts.Place(ctx, spec); err == nil {
			out[name] = place.IP
		}
	}
	return out
}

// Look asks once. What nobody could say stays as it was.
func (k *Keeper) Look(ctx context.Context) error {
	k.looking.Lock()
	defer k.looking.Unlock()
	machines, err := k.parts.Machines(ctx)
	if err != nil {
		return fmt.Errorf("list machines for domains: %w", err)
	}
	k.mu.Lock()
	had := maps.Clone(k.routes)
	k.mu.Unlock()
	claims := k.claims(ctx, machines, had)
	routes := k.confirmed(ctx, claims, had)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	k.mu.Lock()
	k.routes = routes
	k.mu.Unlock()
	for name, spec := range routes {
		if had[name] != spec {
			k.log.Info("domain leads to a machine", "domain", name, "job_id", spec)
		}
	}
	for name, spec := range had {
		if _, ok := routes[name]; !ok {
			k.log.Info("domain leads to no machine any more", "domain", name, "job_id", spec)
		}
	}
	return nil
}

// claim is a domain that an owner says leads to a machine.
type claim struct {
	name    string
	machine Machine
}

// claims reads what the owners of machines say. Of one who cannot be asked what was
// known counts.
func (k *Keeper) claims(ctx context.Context, machines []Machine, had map[string]message.ItemHash) []claim {
	of := map[string][]Machine{}
	for _, m := range machines {
		owner := strings.ToLower(m.Owner)
		of[owner] = append(of[owner], m)
	}
	var out []claim
	for _, owner := range slices.Sorted(maps.Keys(of)) {
		raw, err := k.parts.Aggregate(ctx, of[owner][0].Owner, aggregateKey)
		switch {
		case errors.Is(err, errs.NotFound):
			continue
		case err != nil:
			k.log.Debug("nobody said which domains an owner has", "owner", owner, "err", err)
			for name, was := range had {
				for _, m := range of[owner] {
					if m.Spec == was {
						out = append(out, claim{name, m})
					}
				}
			}
			continue
		}
		out = append(out, k.claimed(raw, of[owner])...)
	}
	return out
}

// claimed reads an owner's aggregate. What it says of others' machines, of names that are
// none, and of what is no machine counts for nothing.
func (k *Keeper) claimed(raw json.RawMessage, machines []Machine) []claim {
	var all map[string]json.RawMessage
	if json.Unmarshal(raw, &all) != nil {
		return nil
	}
	var out []claim
	of := map[message.ItemHash]int{}
	for _, text := range slices.Sorted(maps.Keys(all)) {
		var entry *struct {
			Type    string           `json:"type"`
			Program string           `json:"programType"`
			Target  message.ItemHash `json:"message_id"`
		}
		name, ok := normal(text)
		if !ok || json.Unmarshal(all[text], &entry) != nil || entry == nil || slices.Contains(k.own, name) {
			continue
		}
		if entry.Type != "instance" && entry.Program != "instance" {
			continue
		}
		i := slices.IndexFunc(machines, func(m Machine) bool { return m.Spec == entry.Target })
		if i < 0 || of[entry.Target] == machineMax {
			continue
		}
		of[entry.Target]++
		if out = append(out, claim{name, machines[i]}); len(out) == ownerMax {
			break
		}
	}
	return out
}

// confirmed are the claims that the domain itself confirms. One that was confirmed
// stays while the domain name system does not answer.
func (k *Keeper) confirmed(ctx context.Context, claims []claim, had map[string]message.ItemHash) map[string]message.ItemHash {
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]message.ItemHash{}
	slots := make(chan struct{}, lookups)
	for _, c := range claims {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ok, err := k.isOwner(ctx, c)
			if err != nil {
				k.log.Debug("domain not confirmed", "domain", c.name, "err", err)
				was, known := had[c.name]
				ok = known && was == c.machine.Spec
			}
			if ok {
				mu.Lock()
				defer mu.Unlock()
				out[c.name] = c.machine.Spec
			}
		})
	}
	wg.Wait()
	return out
}

// isOwner reports whether a text record of a domain names the owner of the machine, and
// nobody else: two owners cannot both have it.
func (k *Keeper) isOwner(ctx context.Context, c claim) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupMax)
	defer cancel()
	texts, err := k.parts.Texts(ctx, "_control."+c.name+".")
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask who has %s: %w", c.name, err)
	}
	own := false
	for _, text := range texts {
		r, err := domain.ParseRecord(text)
		same := authz.Same(strings.TrimSpace(text), c.machine.Owner) || err == nil && common.IsHexAddress(c.machine.Owner) && r.Owner == common.HexToAddress(c.machine.Owner)
		if !same && err == nil {
			return false, nil
		}
		own = own || same
	}
	return own, nil
}

// normal is the name of a domain in one form.
func normal(name string) (string, bool) {
	name = strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), ".")
	if len(name) > nameMax || !strings.Contains(name, ".") || strings.ContainsFunc(name, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && r != '-' && r != '.' && r != '_'
	}) {
		return "", false
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", false
	}
	return name, true
}
