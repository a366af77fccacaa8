package node

import (
	"context"
	"crypto/ecdsa"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/blob"
	"github.com/aleph-onchain/aleph-onchain/internal/ingest"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/credit"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/pricing"
	"github.com/aleph-onchain/aleph-onchain/protocol/signature"
)

// The first byte of the keys that everybody knows: of accounts, and of those who may
// act for the authorities.
const accountByte, authorityByte = 0xac, 0xad

// devKey is a key that everybody knows: a byte, zeros, and a number.
func devKey(first byte, n int) (*ecdsa.PrivateKey, error) {
	var raw [32]byte
	raw[0] = first
	binary.BigEndian.PutUint64(raw[24:], uint64(n))
	k, err := crypto.ToECDSA(raw[:])
	if err != nil {
		return nil, fmt.Errorf("make key %d: %w", n, err)
	}
	return k, nil
}

// DevKeys returns the keys of the first accounts, which everybody knows: 0xac, zeros,
// and the account's number.
func DevKeys(n int) ([]*ecdsa.PrivateKey, error) {
	out := make([]*ecdsa.PrivateKey, n)
	for i := range out {
		var err error
		if out[i], err = devKey(accountByte, i); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// DevAuthority is an address whose words the network follows. Clients have these
// addresses built in and nobody here has their keys, so each lets a key that everybody
// knows sign for it.
type DevAuthority struct {
	What    string // What it says.
	Address string // content.address of its messages.
	Key     *ecdsa.PrivateKey
}

// corechannelAuthority says which nodes there are; clients look there and nowhere else.
const corechannelAuthority = "0xa1B3bb7d2332383D96b7796B908fB7f7F3c2Be10"

// DevAuthorities returns the authorities of a node for developers. The key of the n-th
// is 0xad, zeros, and n.
func DevAuthorities() ([]DevAuthority, error) {
	rules := credit.Network()
	out := []DevAuthority{
		{What: "prices", Address: ingest.DefaultConfig().PricingAuthority},
		{What: "credits", Address: rules.Authority},
		{What: "balances", Address: rules.BalanceOwners[0]},
		{What: "nodes", Address: corechannelAuthority},
	}
	for i := range out {
		var err error
		if out[i].Key, err = devKey(authorityByte, i); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// devAt is when everything begins: at the same time on every node, so that messages
// have the same hashes there, and before those of anybody else.
const devAt = 1_770_000_000

// DevImage is a file that machines and programs can name: clients look for such files
// in the aggregate vm-images, and no machine runs here.
type DevImage struct {
	Kind, Name string           // As clients know it.
	Hash       message.ItemHash // Of its STORE message.
	store      preset
}

// The kinds of images, as the aggregate vm-images has them.
const (
	imageRootfs   = "rootfs"
	imageRuntime  = "runtimes"
	imageFirmware = "firmwares"
)

// DevImages returns the images of a node for developers, which the first account has
// stored. Their STORE messages have no ref: only then is a message's hash the name of
// the latest version too.
func DevImages() ([]DevImage, error) {
	k, err := devKey(accountByte, 0)
	if err != nil {
		return nil, err
	}
	all := []DevImage{
		{Kind: imageRuntime, Name: "python", store: preset{file: "A runtime for programs that never run: name it where a program wants one.\n"}},
		{Kind: imageRootfs, Name: "debian12", store: preset{file: "A disk for machines that never run: name it where a machine wants one.\n"}},
		{Kind: imageFirmware, Name: "ovmf", store: preset{file: "A firmware for confidential machines that never run: name it where one wants one.\n"}},
	}
	for i := range all {
		m := &all[i]
		m.store.owner, m.store.typ, m.store.key = crypto.PubkeyToAddress(k.PublicKey).Hex(), message.TypeStore, k
		m.store.content = map[string]any{"item_type": string(message.Storage), "item_hash": string(message.HashOf([]byte(m.store.file)))}
		e, err := m.store.envelope()
		if err != nil {
			return nil, err
		}
		m.Hash = e.ItemHash
	}
	return all, nil
}

// vmImages is the content of the aggregate vm-images.
func vmImages(all []DevImage) map[string]any {
	kinds := map[string]map[string]any{imageRootfs: {}, imageRuntime: {}, imageFirmware: {}}
	first := map[string]string{}
	for _, m := range all {
		kinds[m.Kind][m.Name] = map[string]any{"hash": m.Hash, "display_name": m.Name}
		if first[m.Kind] == "" {
			first[m.Kind] = m.Name
		}
	}
	defaults := map[string]any{"rootfs": first[imageRootfs], "runtime": first[imageRuntime], "firmware": first[imageFirmware]}
	return map[string]any{imageRootfs: kinds[imageRootfs], imageRuntime: kinds[imageRuntime], imageFirmware: kinds[imageFirmware], "defaults": defaults}
}

// preset is one message that is there at the beginning.
type preset struct {
	owner   string
	typ     message.Type
	channel string
	content map[string]any
	key     *ecdsa.PrivateKey // nil: nobody here can sign it.
	file    string            // Of a STORE message; "" of others.
}

// envelope is the message of a preset.
func (p *preset) envelope() (*message.Envelope, error) {
	at := time.Unix(devAt, 0).UTC()
	p.content["address"], p.content["time"] = p.owner, json.Number(message.FormatTime(at))
	raw, err := json.Marshal(p.content)
	if err != nil {
		return nil, fmt.Errorf("encode preset of %s: %w", p.owner, err)
	}
	e := &message.Envelope{
		Chain: message.Ethereum, Sender: p.owner, Type: p.typ, Time: at, ItemType: message.Inline, ItemContent: string(raw), ItemHash: message.HashOf(raw),
	}
	if p.channel != "" {
		e.Channel = &p.channel
	}
	if p.key == nil {
		return e, nil
	}
	return e, signature.SignEVM(p.key, e)
}

// presets are what a network has that nobody here has made: its prices, an empty list
// of nodes, whom its authorities let sign, images, and what the accounts have.
func presets(o DevOptions) ([]preset, error) {
	authorities, err := DevAuthorities()
	if err != nil {
		return nil, err
	}
	var all []preset
	for _, a := range authorities {
		grant := map[string]any{"authorizations": []any{map[string]any{"address": crypto.PubkeyToAddress(a.Key.PublicKey).Hex()}}}
		all = append(all, preset{owner: a.Address, typ: message.TypeAggregate, channel: "security", content: map[string]any{"key": "security", "content": grant}})
	}
	prices, settings := pricing.DefaultContents()
	say := func(owner, key string, content any) {
		all = append(all, preset{owner: owner, typ: message.TypeAggregate, content: map[string]any{"key": key, "content": content}})
	}
	say(authorities[0].Address, "pricing", prices)
	say(authorities[0].Address, "settings", settings)
	say(corechannelAuthority, "corechannel", map[string]any{"nodes": []any{}, "resource_nodes": []any{}})
	images, err := DevImages()
	if err != nil {
		return nil, err
	}
	for i := range images {
		all = append(all, images[i].store)
	}
	say(authorities[0].Address, "vm-images", vmImages(images))
	return append(all, funds(o)...), nil
}

// funds are what gives every account its tokens and its credits.
func funds(o DevOptions) []preset {
	if o.Balance <= 0 || len(o.Accounts) == 0 {
		return nil
	}
	rules := credit.Network()
	tokens, credits := map[string]int64{}, []map[string]any{}
	for _, address := range o.Accounts {
		tokens[address] = o.Balance
		credits = append(credits, map[string]any{"address": address, "amount": o.Balance, "price": "0", "tx_hash": "dev", "provider": "DEV"})
	}
	return []preset{
		{owner: rules.BalanceOwners[0], typ: message.TypePost, content: map[string]any{
			"type": credit.TypeBalances, "content": map[string]any{"chain": "ETH", "main_height": 1, "balances": tokens},
		}},
		{owner: rules.Authority, typ: message.TypePost, channel: rules.Channel, content: map[string]any{
			"type": credit.TypeDistribution, "content": map[string]any{"distribution": map[string]any{"token": "ALEPH", "chain": "ETH", "credits": credits}},
		}},
	}
}

// preset takes in what is there at the beginning.
func (w *devWorld) preset(ctx context.Context, o DevOptions, blobs *blob.Store) error {
	all, err := presets(o)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].file != "" {
			if _, err := blobs.Put(ctx, strings.NewReader(all[i].file), ""); err != nil {
				return fmt.Errorf("put file of preset: %w", err)
			}
		}
		e, err := all[i].envelope()
		if err != nil {
			return err
		}
		v, err := w.pipe.Preset(ctx, e, time.Now())
		if err != nil {
			return fmt.Errorf("take preset: %w", err)
		}
		if v.Status != state.MessageProcessed {
			return fmt.Errorf("preset of %s is %s: %w", e.Sender, v.Status, v.Refusal)
		}
	}
	return nil
}
