package corenode_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/corenode"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// TestTheLatestVersionIsItsOwners: of what servers list, what strangers have made of the
// file does not count, and what nobody has signed makes the answer none.
func TestTheLatestVersionIsItsOwners(t *testing.T) {
	owner, stranger := key(t, "owner"), key(t, "stranger")
	store := func(who string, ref message.ItemHash, file string) *message.Envelope {
		k := owner
		if who == "stranger" {
			k = stranger
		}
		return signed(t, k, message.TypeStore, fields{"item_type": "storage", "item_hash": message.HashOf([]byte(file)), "ref": ref})
	}
	listed := func(all ...*message.Envelope) http.HandlerFunc {
		var parts []string
		for _, e := range all {
			whole := shown(t, e, "processed")
			_, inner, _ := strings.Cut(whole, `"message":`)
			inner, _, _ = strings.Cut(inner, `,"reception_time"`)
			parts = append(parts, inner)
		}
		return says(`{"messages":[` + strings.Join(parts, ",") + `]}`)
	}
	theirs, other := store("stranger", hash, "theirs"), store("owner", message.HashOf([]byte("else")), "other")
	second, first := store("owner", hash, "second"), store("owner", hash, "first")
	forged := store("owner", hash, "forged")
	forged.Signature = first.Signature
	for name, c := range map[string]struct {
		server http.HandlerFunc
		want   *message.Envelope
		kind   errs.Kind
	}{
		"the newest":     {listed(theirs, other, second, first), second, ""},
		"none":           {listed(), nil, ""},
		"none of theirs": {listed(theirs), nil, ""},
		"forged":         {listed(forged), nil, errs.Unavailable},
		"no list":        {says(`{}`), nil, errs.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			n := &network{servers: map[string]http.HandlerFunc{"a": c.server}}
			client := open(t, n, func(cfg *corenode.Config) { cfg.Servers = []string{"https://a"} })
			got, err := client.Latest(t.Context(), addressOf(owner), hash)
			if errs.KindOf(err) != c.kind || (got == nil) != (c.want == nil) || got != nil && got.ItemHash != c.want.ItemHash {
				t.Errorf("got %v, %v", got, err)
			}
			n.hosts()
			if _, err := client.Latest(t.Context(), addressOf(owner), hash); c.kind == "" && (err != nil || n.hosts() != "") {
				t.Errorf("asked again at once, %v", err)
			}
		})
	}
}
