package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/keystore"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

// orderMax is how long an order to the node is good.
const orderMax = time.Minute

func (a *app) drainCommand() *cobra.Command {
	var url, until string
	var off, asJSON bool
	cmd := &cobra.Command{
		Use: "drain", Short: "Have the compute node that runs on this machine take nothing new", Args: noArgs,
		Long: "Have the compute node that runs on this machine take no new jobs and machines, and tell those that are here\n" +
			"by when they should be elsewhere: owners see it in the detail and the history of their machines, coordinators in\n" +
			"the node's ads. No machine is stopped, neither now nor at that time; each ends when its job or its lease does. The\n" +
			"order holds, also when the node is started again and after that time, until --off. Without a flag it is told how\n" +
			"things stand.\n\n" +
			"The order is signed with the node's signer, so this needs its configuration. 'aleph node drain', signed by the\n" +
			"owner, says in the registry on chain that the node goes for good; this does not touch the chain.",
		Example: "aleph-node --config node.toml drain --until 2027-03-01T06:00:00Z\naleph-node --config node.toml drain --until 72h",
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if off && until != "" {
			return usageError{errors.New("--until and --off contradict each other")}
		}
		var deadline int64
		if until != "" {
			at, err := parseDeadline(until, time.Now())
			if err != nil {
				return usageError{err}
			}
			deadline = at.Unix()
		}
		cfg, err := config.Load(a.configPath, a.environ)
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		if url == "" {
			if url, err = nodeURL(cfg.API); err != nil {
				return err
			}
		}
		view, err := orderDrain(cmd.Context(), cfg, url, deadline, off)
		if err != nil {
			return err
		}
		if asJSON {
			enc := json.NewEncoder(a.out)
			enc.SetIndent("", "  ")
			return enc.Encode(view)
		}
		_, err = fmt.Fprintln(a.out, drainText(view))
		return err
	}
	cmd.Flags().StringVar(&until, "until", "", "by when the machines should be elsewhere: a time such as 2027-03-01T06:00:00Z, or from now, such as 72h")
	cmd.Flags().BoolVar(&off, "off", false, "take machines again")
	cmd.Flags().StringVar(&url, "url", "", "base URL of the node's HTTP interface (default: that of [api] bind)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// parseDeadline reads a time, or how long it is until then.
func parseDeadline(text string, now time.Time) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if d, derr := time.ParseDuration(text); derr == nil {
		at, err = now.Add(d), nil
	}
	if err != nil {
		return at, fmt.Errorf("--until %q: want a time such as 2027-03-01T06:00:00Z, or a time from now such as 72h", text)
	}
	if !at.After(now) {
		return at, fmt.Errorf("--until %q: that time has passed", text)
	}
	return at, nil
}

// orderDrain has the node drain until the deadline, or end it, or, with neither,
// tell how things stand.
func orderDrain(ctx context.Context, cfg config.Config, url string, deadline int64, off bool) (*v1.DrainView, error) {
	view := new(v1.DrainView)
	if deadline == 0 && !off {
		return view, askNode(ctx, http.MethodGet, url, v1.DrainPath, "", view)
	}
	var info struct {
		NodeID uint32 `json:"node_id"`
	}
	if err := askNode(ctx, http.MethodGet, url, "/api/v1/info", "", &info); err != nil {
		return nil, err
	}
	method := http.MethodPut
	if off {
		method = http.MethodDelete
	}
	keys, err := keystore.Open(cfg.Node.DataDir, cfg.Network.IdentityPath, cfg.Chain.PrivateKeyPath)
	if err != nil {
		return nil, err
	}
	target := v1.DrainTarget(info.NodeID, deadline)
	header, err := operator.Sign(keys.Signer, method, target, time.Now().Add(orderMax), rand.Text())
	if err != nil {
		return nil, err
	}
	return view, askNode(ctx, method, url, target, header, view)
}

func drainText(v *v1.DrainView) string {
	if !v.Draining {
		return fmt.Sprintf("The node does not drain. %d machines are here.", v.Machines)
	}
	return fmt.Sprintf("The node takes nothing new until 'drain --off'. %d machines are here, and should be elsewhere by %s.",
		v.Machines, time.Unix(v.Until, 0).UTC().Format(time.RFC3339))
}
