package node_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/node"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// registrations are what is said of a node: by the list, and by its owner's operations.
type registrations struct {
	listed, operated       message.ItemHash
	listedErr, operatedErr error
}

func (r *registrations) ListedNode(_ context.Context, authority, domain, reward string) (message.ItemHash, error) {
	if authority != "authority" || domain != "node.example" || reward != "receiver" {
		return "", errs.New(errs.Invalid, "asked for %s, %s, %s", authority, domain, reward)
	}
	return r.listed, r.listedErr
}

func (r *registrations) NodeHash(context.Context, string, string) (message.ItemHash, error) {
	return r.operated, r.operatedErr
}

// TestWhatIsKnownOfTheNodeStaysWhileNobodyCanSayMore: one step after the other.
func TestWhatIsKnownOfTheNodeStaysWhileNobodyCanSayMore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node_hash")
	one, other := message.HashOf([]byte("one")), message.HashOf([]byte("other"))
	none, several, away := errs.New(errs.NotFound, "none"), errs.New(errs.Conflict, "several"), errs.New(errs.Unavailable, "away")
	for _, step := range []struct {
		name  string
		says  registrations
		want  message.ItemHash
		fails bool
	}{
		{"nobody answers", registrations{listedErr: away}, "", true},
		{"not registered", registrations{listedErr: none, operatedErr: none}, "", false},
		{"two at the domain", registrations{listedErr: several}, "", false},
		{"not listed yet", registrations{listedErr: none, operated: one}, one, false},
		{"listed", registrations{listed: one}, one, false},
		{"nobody answers any more", registrations{listedErr: away}, one, true},
		{"somebody else claims it", registrations{listedErr: several}, one, false},
		{"registered anew", registrations{listed: other}, other, false},
		{"not in one list", registrations{listedErr: none, operatedErr: none}, other, false},
	} {
		i := node.NewIdentity(&step.says, file) // As after a restart.
		if err := i.Find(t.Context()); (err != nil) != step.fails {
			t.Errorf("%s: error %v, want one: %v", step.name, err, step.fails)
		}
		if got, known := i.NodeHash(); got != step.want || known != (step.want != "") {
			t.Errorf("%s: %q, %v, want %q", step.name, got, known, step.want)
		}
	}
	says := &registrations{listedErr: none, operatedErr: none}
	i := node.NewIdentity(says, file)
	for n, want := range []message.ItemHash{other, other, other, other, other, ""} {
		if n == 2 { // What is between two begins the count anew.
			says.listed, says.listedErr = other, nil
		}
		if err := i.Find(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, _ := i.NodeHash(); got != want {
			t.Errorf("list %d: %q, want %q", n, got, want)
		}
		says.listed, says.listedErr = "", none
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("what is kept of a node that was dropped: %v", err)
	}
}
