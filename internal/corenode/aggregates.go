package corenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
)

// settingsKey is the key of the aggregate with the settings of the network.
const settingsKey = "settings"

// signersMax bounds the schedulers that are named.
const signersMax = 256

// gpusMax bounds the GPUs that are named.
const gpusMax = 1024

// timestampMax bounds the times of settings, in Unix seconds: the year 9999.
const timestampMax = 253_402_300_800

// Aggregate returns the value of a key of an address's aggregate as it is now, or
// errs.NotFound. Nothing is kept of it: an owner who has just changed it means what it
// says now.
func (c *Client) Aggregate(ctx context.Context, address, key string) (json.RawMessage, error) {
	if err := checkName("address", address); err != nil {
		return nil, err
	}
	if err := checkName("key of an aggregate", key); err != nil {
		return nil, err
	}
	var value json.RawMessage
	err := c.ask(ctx, question{
		what: fmt.Sprintf("aggregate %s of %s", key, address), path: []string{"api/v0/aggregates", address + ".json"}, query: url.Values{"keys": {key}},
		read: func(raw []byte) error {
			var a struct {
				Address string                     `json:"address"`
				Data    map[string]json.RawMessage `json:"data"`
			}
			if err := decode(raw, &a); err != nil {
				return err
			}
			if !authz.Same(a.Address, address) {
				return fmt.Errorf("it is about %.*q, not %s", nameMax, a.Address, address)
			}
			if a.Data == nil {
				return fmt.Errorf("it has no data")
			}
			if value = a.Data[key]; len(value) == 0 || string(value) == "null" {
				return absent("there is no key %s", key)
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

// Security returns whom an owner allows to act for it; nobody if its aggregate does not
// exist.
func (c *Client) Security(ctx context.Context, owner string) (authz.Security, error) {
	return c.rights.get(ctx, owner, func(ctx context.Context) (authz.Security, bool, error) {
		raw, err := c.Aggregate(ctx, owner, authz.SecurityKey)
		if errors.Is(err, errs.NotFound) {
			return authz.Security{}, true, nil
		}
		if err != nil {
			return authz.Security{}, false, err
		}
		return authz.Parse(raw), true, nil
	})
}

// settings are what the settings of the network say.
type settings struct {
	signers []common.Address
	wallet  string
	since   time.Time
	gpus    map[string]string // Models, by the id of the device.
	// unclear is why nobody can tell who the community is; nil otherwise.
	unclear error
}

// Signers returns the schedulers that the settings of the network name; there may be none.
func (c *Client) Signers(ctx context.Context) ([]common.Address, error) {
	of, err := c.settingsNow(ctx)
	return of.signers, err
}

// Community returns the address that gets a part of the streams that pay machines, and since
// when: machines that are older pay their node alone. It is "" when the settings of the
// network name nobody, and all flows to the nodes.
func (c *Client) Community(ctx context.Context) (wallet string, since time.Time, err error) {
	of, err := c.settingsNow(ctx)
	if err == nil {
		err = of.unclear
	}
	return of.wallet, of.since, err
}

// GPU returns what the settings of the network call a device, by its id like 10de:27b0,
// and whether they name it; while nobody can tell they do not.
func (c *Client) GPU(ctx context.Context, id string) (model string, compatible bool) {
	of, err := c.settingsNow(ctx)
	if err != nil {
		c.log.Debug("settings of the network not known", "err", err)
	}
	model, compatible = of.gpus[id]
	return model, compatible
}

func (c *Client) settingsNow(ctx context.Context) (settings, error) {
	return c.settings.get(ctx, settingsKey, func(ctx context.Context) (settings, bool, error) {
		raw, err := c.Aggregate(ctx, c.cfg.SettingsAddress, settingsKey)
		if errors.Is(err, errs.NotFound) {
			return settings{}, true, nil
		}
		if err != nil {
			return settings{}, false, err
		}
		of, err := readSettings(raw)
		return of, true, err
	})
}

// readSettings reads the settings. An entry that is no address names nobody, and the
// others still count.
func readSettings(raw []byte) (settings, error) {
	var in struct {
		Signers   []json.RawMessage `json:"authorized_allocation_signers"`
		Wallet    json.RawMessage   `json:"community_wallet_address"`
		Timestamp json.RawMessage   `json:"community_wallet_timestamp"`
		GPUs      []json.RawMessage `json:"compatible_gpus"`
	}
	if err := decode(raw, &in); err != nil {
		return settings{}, errs.New(errs.Unavailable, "settings of the network: %w", err)
	}
	if len(in.Signers) > signersMax {
		return settings{}, errs.New(errs.Unavailable, "settings of the network: they name %d schedulers, at most %d are read", len(in.Signers), signersMax)
	}
	var out settings
	for _, entry := range in.Signers {
		var text string
		if json.Unmarshal(entry, &text) == nil && common.IsHexAddress(text) {
			out.signers = append(out.signers, common.HexToAddress(text))
		}
	}
	out.gpus = map[string]string{}
	for _, entry := range in.GPUs[:min(len(in.GPUs), gpusMax)] {
		var g struct {
			Model string `json:"model"`
			ID    string `json:"device_id"`
		}
		// The first of an id counts, as with those who make prices of the list.
		if json.Unmarshal(entry, &g) != nil {
			continue
		}
		if _, known := out.gpus[g.ID]; !known {
			out.gpus[g.ID] = g.Model
		}
	}
	out.wallet, out.since, out.unclear = readCommunity(in.Wallet, in.Timestamp)
	return out, nil
}

// readCommunity reads who gets a part of streams. Settings that are wrong name nobody, and
// do not say that nobody gets one: who pays its part must not count as one who does not pay.
func readCommunity(wallet, since json.RawMessage) (address string, at time.Time, err error) {
	isNone := func(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }
	if isNone(wallet) || isNone(since) {
		return "", time.Time{}, nil
	}
	var seconds float64
	if json.Unmarshal(wallet, &address) != nil || !common.IsHexAddress(address) || json.Unmarshal(since, &seconds) != nil ||
		seconds < 0 || seconds > timestampMax {
		return "", time.Time{}, errs.New(errs.Unavailable, "settings of the network: community wallet %.80s since %.40s is none", wallet, since)
	}
	return common.HexToAddress(address).Hex(), time.Unix(int64(seconds), 0).UTC(), nil
}
