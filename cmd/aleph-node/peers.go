package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/aleph-onchain/aleph-onchain/internal/api"
	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/config"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

const (
	// answerMax bounds the time in which the node answers.
	answerMax = 10 * time.Second
	// answerBytesMax bounds its answer: far more than for all connections it may have.
	answerBytesMax = 8 << 20
)

func (a *app) peersCommand() *cobra.Command {
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "peers", Short: "List the peers of the node that runs on this machine", Args: noArgs,
		Long: "Ask the node that runs on this machine which peers are connected, and print for each its number in the\n" +
			"registry, who opened the connection, its transport, the round trip, the standing in gossip, bytes in and\n" +
			"out, for how long, the topics it listens to, and its addresses.",
		Example: "aleph-node --config node.toml peers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if url == "" {
				cfg, err := config.Load(a.configPath, a.environ)
				if err != nil {
					return fmt.Errorf("configuration: %w", err)
				}
				if url, err = nodeURL(cfg.API); err != nil {
					return err
				}
			}
			view, err := askPeers(cmd.Context(), url)
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(a.out)
				enc.SetIndent("", "  ")
				return enc.Encode(view.Peers)
			}
			return writePeers(a.out, view.Peers, time.Now())
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "base URL of the node's HTTP interface (default: that of [api] bind)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// nodeURL returns where the node of these settings answers its own machine.
func nodeURL(cfg api.Config) (string, error) {
	host, port, err := net.SplitHostPort(cfg.Bind)
	if err != nil {
		return "", errs.New(errs.Invalid, "[api] bind %q is no address with a port; say --url", cfg.Bind)
	}
	if port == "0" {
		return "", errs.New(errs.Invalid, "[api] bind %q leaves the port to the system; say --url", cfg.Bind)
	}
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

func askPeers(ctx context.Context, url string) (*v1.PeersView, error) {
	view := new(v1.PeersView)
	return view, askNode(ctx, http.MethodGet, url, "/api/v1/peers", "", view)
}

// askNode asks the node that runs here, with a signed header if one is given, and
// decodes its answer.
func askNode(ctx context.Context, method, url, target, signed string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(url, "/")+target, http.NoBody)
	if err != nil {
		return errs.New(errs.Invalid, "url %q: %w", url, err)
	}
	if signed != "" {
		req.Header.Set(operator.HeaderName, signed)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return errs.New(errs.Unavailable, "no node answers at %s; is it running, and with this configuration? %w", url, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if err != nil {
		return errs.New(errs.Unavailable, "answer of %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		var p api.Problem
		if json.Unmarshal(raw, &p) == nil && p.Detail != "" {
			return errs.New(errs.Unavailable, "%s says: %s", url, p.Detail)
		}
		return errs.New(errs.Unavailable, "%s answers %s", url, resp.Status)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return errs.New(errs.Unavailable, "answer of %s: %w", url, err)
	}
	return nil
}

// writePeers writes a table, one peer a line.
func writePeers(out io.Writer, peers []v1.PeerView, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0) //nolint:mnd // two spaces between columns
	fmt.Fprintln(w, "PEER\tNODE\tDIR\tVIA\tRTT\tSCORE\tIN\tOUT\tSINCE\tTOPICS\tADDRESSES")
	for _, p := range peers {
		node, rtt := "-", "-"
		if p.Node != 0 {
			node = strconv.FormatUint(uint64(p.Node), 10)
		}
		if p.LatencyMS > 0 {
			rtt = fmt.Sprintf("%.1fms", p.LatencyMS)
		}
		since := now.Sub(time.Unix(p.Since, 0)).Round(time.Second)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.1f\t%s\t%s\t%s\t%s\t%s\n", p.ID, node, p.Direction, p.Transport, rtt, p.Score,
			bytesText(p.BytesIn), bytesText(p.BytesOut), since, orDash(strings.Join(p.Topics, ",")), strings.Join(p.Addrs, ","))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write peers: %w", err)
	}
	return nil
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// bytesText writes a number of bytes in the greatest unit of which there is one.
func bytesText(n int64) string {
	const step = 1024
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= step && i < len(units)-1 {
		v, i = v/step, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
