package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/telemetry"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm"
	"github.com/aleph-onchain/aleph-onchain/internal/vmm/qemu"
	"github.com/aleph-onchain/aleph-onchain/internal/vmnet"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON, noGuest bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Say what keeps this machine from running virtual machines", Args: noArgs,
		Long: "Look at what a compute node needs of this machine: the hypervisor, privileges, the kernel, uplinks, pools of\n" +
			"addresses, IPv6 and its neighbours, rules of other firewalls, nameservers. Then start two guests in network\n" +
			"namespaces, wired as virtual machines are, and try each path: forwarded ports, between machines, to this\n" +
			"machine, to the internet. Each finding has what is so, what it means, and what to do. It needs what the node\n" +
			"needs, and can run beside it; it takes up to a minute and leaves nothing.\n" +
			"The exit code is 1 if something stops machines or takes their network from them.",
		Example: "aleph-node --config node.toml doctor",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(a.configPath, a.environ)
			if err != nil {
				return fmt.Errorf("configuration: %w", err)
			}
			all := a.examine(cmd.Context(), cfg, !noGuest)
			if err := a.writeFindings(all, asJSON); err != nil {
				return err
			}
			fatal := 0
			for _, f := range all {
				if f.Severity == vmnet.Fatal {
					fatal++
				}
			}
			switch fatal {
			case 0:
				return nil
			case 1:
				return errors.New("1 finding stops machines")
			default:
				return fmt.Errorf("%d findings stop machines", fatal)
			}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&noGuest, "no-guest", false, "do not try paths with guests")
	return cmd
}

// examine looks at this machine and tries it.
func (a *app) examine(ctx context.Context, cfg config.Config, guest bool) []vmnet.Finding {
	cfg.Log.Level = "warn" // What is done on the way is nobody's question.
	log := telemetry.NewLogger(cfg.Log, a.err)
	all := hypervisor(ctx, cfg.QEMU)
	all = append(all, vmnet.Check(ctx, cfg.VMNet)...)
	if guest && cfg.VMNet.Validate() == nil {
		all = append(all, vmnet.Prove(ctx, cfg.VMNet, log)...)
	}
	return all
}

// hypervisor finds QEMU and says what it can do here.
func hypervisor(ctx context.Context, cfg qemu.Config) []vmnet.Finding {
	const subject = "hypervisor"
	driver := qemu.New(cfg, slog.New(slog.DiscardHandler))
	caps, err := driver.Probe(ctx, vmm.Image{})
	platform, reason := driver.Platform(ctx)
	if err = errors.Join(err, driver.Close()); err != nil {
		return []vmnet.Finding{{
			Subject: subject, Severity: vmnet.Fatal, What: err.Error(), Why: "No machine can start.",
			Do: "apt-get install --no-install-recommends qemu-system-x86, or set [qemu] binary.",
		}}
	}
	return []vmnet.Finding{{
		Subject: subject, Severity: vmnet.Good,
		What: strings.TrimSpace(fmt.Sprintf("%s %s is installed. %s", caps.Driver, caps.Version, strings.Join(caps.Notes, " "))),
	}, confidential(platform, reason)}
}

// confidential says whether this machine runs guests whose memory it cannot read. Few
// do, so that it does not is no fault.
func confidential(p *vmm.Platform, reason error) vmnet.Finding {
	f := vmnet.Finding{Subject: "confidential", Severity: vmnet.Good}
	switch {
	case reason != nil:
		f.What = reason.Error() + "."
		f.Why = "Machines that ask for trusted execution are refused; all others run."
	case p.ES:
		f.What = "AMD SEV and SEV-ES work: confidential machines run."
	default:
		f.What = "AMD SEV works: confidential machines run. Policies that ask for SEV-ES are refused."
	}
	return f
}

func (a *app) writeFindings(all []vmnet.Finding, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	for _, f := range all {
		text := fmt.Sprintf("%-8s %s: %s\n", f.Severity, f.Subject, f.What)
		if f.Why != "" {
			text += fmt.Sprintf("         so: %s\n", f.Why)
		}
		if f.Do != "" {
			text += fmt.Sprintf("         do: %s\n", f.Do)
		}
		if _, err := io.WriteString(a.out, text); err != nil {
			return err
		}
	}
	return nil
}
