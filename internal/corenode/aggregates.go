package corenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
)

// settingsKey is the key of the aggregate with the settings of the network.
const settingsKey = "settings"

// signersMax bounds the schedulers that are named.
const signersMax = 256

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

// Signers returns the schedulers that the settings of the network name; there may be none.
func (c *Client) Signers(ctx context.Context) ([]common.Address, error) {
	return c.signers.get(ctx, settingsKey, func(ctx context.Context) ([]common.Address, bool, error) {
		raw, err := c.Aggregate(ctx, c.cfg.SettingsAddress, settingsKey)
		if errors.Is(err, errs.NotFound) {
			return nil, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		signers, err := readSigners(raw)
		return signers, true, err
	})
}

// readSigners reads the settings. An entry that is no address names nobody, and the
// others still count.
func readSigners(raw []byte) ([]common.Address, error) {
	var settings struct {
		Signers []json.RawMessage `json:"authorized_allocation_signers"`
	}
	if err := decode(raw, &settings); err != nil {
		return nil, errs.New(errs.Unavailable, "settings of the network: %w", err)
	}
	if len(settings.Signers) > signersMax {
		return nil, errs.New(errs.Unavailable, "settings of the network: they name %d schedulers, at most %d are read", len(settings.Signers), signersMax)
	}
	var out []common.Address
	for _, entry := range settings.Signers {
		var text string
		if json.Unmarshal(entry, &text) == nil && common.IsHexAddress(text) {
			out = append(out, common.HexToAddress(text))
		}
	}
	return out, nil
}
