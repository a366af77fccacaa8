package rehearse_test

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/chain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/chaintest"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/deploy"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/devchain"
	"github.com/aleph-onchain/aleph-onchain/internal/chain/rehearse"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

var quiet = slog.New(slog.DiscardHandler)

// network returns a network with a job that runs and one that has ended.
func network(t *testing.T) (*chaintest.Net, deploy.Params) {
	t.Helper()
	n := chaintest.StartGoverned(t, "")
	n.Open(t, chaintest.Spec("ended"), chaintest.RateQ32(7))
	n.Confirm(t, chaintest.Spec("ended"))
	n.Stop(t, chaintest.Spec("ended"))
	n.Open(t, chaintest.Spec("runs"), chaintest.RateQ32(1000))
	n.Confirm(t, chaintest.Spec("runs"))
	params, err := deploy.ParamsOf(devchain.ChainID)
	if err != nil {
		t.Fatal(err)
	}
	return n, params
}

// release returns this release with code in which a text, of hex digits, is
// another. It must be there in the code of each of the contracts.
func release(t *testing.T, was, is string, contracts ...string) rehearse.Release {
	t.Helper()
	r, err := rehearse.ThisRelease()
	if err != nil {
		t.Fatal(err)
	}
	r.Suite = slices.Clone(r.Suite)
	for i, c := range r.Suite {
		if !slices.Contains(contracts, c.Name) {
			continue
		}
		changed := strings.ReplaceAll(c.Meta.Bin, was, is)
		if changed == c.Meta.Bin {
			t.Fatalf("the code of %s does not have %s: find out how it says that now", c.Name, was)
		}
		r.Suite[i].Meta = &bind.MetaData{ABI: c.Meta.ABI, Bin: changed, ID: c.Meta.ID}
	}
	return r
}

// The version is in the code as "1.0.0" without its last four bits, which are
// zero; so a later one is 2.0.0.
const (
	versionIs   = "0312e302e3"
	versionNext = "0322e302e3"
	// Where JobManager keeps everything.
	namespaceIs   = "ff6e7bbf3911cb4fa6973688f63ff39a83c3192ed61c928e5f1efa0494e7e7"
	namespaceNext = "ff6e7bbf3911cb4fa6973688f63ff39a83c3192ed61c928e5f1efa0494e7e8"
)

// proxied returns the names of the contracts behind proxies.
func proxied() (names []string) {
	for _, c := range bindings.Suite() {
		if c.Role == bindings.Proxied {
			names = append(names, c.Name)
		}
	}
	return names
}

func TestAnUpgradeKeepsTheState(t *testing.T) {
	n, params := network(t)
	w := chaintest.NewWalk(t, n, 3)
	for range 150 { // Delegations, names, images, stored objects and what comes of them.
		w.Step()
	}
	next := release(t, versionIs, versionNext, proxied()...)

	report, err := rehearse.Run(t.Context(), n.Chain, n.Deployment, params, next, quiet)
	if err != nil {
		t.Fatalf("%v, after %+v", err, report.Steps)
	}
	if report.Deployed != "1.0.0" || report.Release != "2.0.0" || report.Same || len(report.Jobs) != 2 || len(report.Grown) != 0 {
		t.Errorf("report is %+v", report)
	}
	changed := map[string]bool{}
	for _, c := range report.Changes {
		changed[c.Contract] = true
		of, err := bindings.Find(c.Contract)
		if err != nil {
			t.Fatal(err)
		}
		// The second half of a contract goes with the first, changed or not.
		if c.Old.CodeHash == c.New.CodeHash && of.Role == bindings.Proxied || c.Old.Address == c.New.Address {
			t.Errorf("%s is the same as before: %+v", c.Contract, c)
		}
	}
	for _, name := range proxied() {
		if !changed[name] {
			t.Errorf("%s was not upgraded", name)
		}
	}
	asked := map[string]int{}
	for i, c := range report.Before {
		asked[c.Contract] = c.Questions
		if after := report.After[i]; c.Questions != after.Questions || c.Views < 5 || len(c.New)+len(after.New) != 0 {
			t.Errorf("compared %+v before and %+v after", c, after)
		}
	}
	// Everybody and everything there was were asked about.
	for contract, least := range map[string]int{
		"JobManager": 40, "NodeRegistry": 60, "StakingManager": 300, "PaymentManager": 300, "StorageRegistry": 50, "DomainRegistry": 20,
		"ImageMarketplace": 40, "SLAManager": 40, "AlephLens": 100, "AlephToken": 100,
	} {
		if asked[contract] < least {
			t.Errorf("%s was asked %d times, want at least %d", contract, asked[contract], least)
		}
	}
	var text bytes.Buffer
	if err := report.Print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"release 1.0.0", "All layouts are as they were", "carry out \"Upgrade 9 contracts\"", "A job across the upgrade ran for", "as released, 2.0.0"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report does not say %q:\n%s", want, &text)
		}
	}
	running, err := n.Client.Call(t.Context(), chain.Call{
		To: n.Deployment.Contracts.JobManager, Data: bindings.NewJobManager().PackJob(chaintest.Bytes(chaintest.Spec("runs"))),
	})
	if err != nil {
		t.Fatal(err)
	}
	if view, err := bindings.NewJobManager().UnpackJob(running); err != nil || view.Payer != n.Payer.Address || view.NodeId != n.Compute.ID {
		t.Errorf("the job that ran is %+v, %v", view, err)
	}
}

func TestWhatMustNotBeUpgradedTo(t *testing.T) {
	n, params := network(t)
	broken := release(t, versionIs, versionNext, "JobManager")
	broken.Layouts = bindings.Layouts{}
	for contract, structs := range n.Deployment.Layouts {
		broken.Layouts[contract] = structs
	}
	broken.Layouts["JobManager"] = map[string][]string{}
	for name, members := range n.Deployment.Layouts["JobManager"] {
		broken.Layouts["JobManager"][name] = members[1:]
	}
	_, err := rehearse.Run(t.Context(), n.Chain, n.Deployment, params, broken, quiet)
	if !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "JobManager: JobStore.") || !strings.Contains(err.Error(), "only be added at the end") {
		t.Errorf("a breaking layout: %v", err)
	}

	unknown := *n.Deployment
	unknown.Layouts = nil
	_, err = rehearse.Run(t.Context(), n.Chain, &unknown, params, release(t, versionIs, versionNext, "JobManager"), quiet)
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "layouts.json of the release") {
		t.Errorf("a deployment without layouts: %v", err)
	}

	foreign := *n.Deployment
	foreign.Founder = n.Deployment.Contracts.AlephToken
	_, err = rehearse.Run(t.Context(), n.Chain, &foreign, params, broken, quiet)
	if !errors.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "none of the accounts of a local network") {
		t.Errorf("a deployment by a stranger: %v", err)
	}

	elsewhere := *n.Deployment
	elsewhere.ChainID = 42161
	if _, err = rehearse.Run(t.Context(), n.Chain, &elsewhere, params, broken, quiet); !errors.Is(err, errs.Invalid) {
		t.Errorf("a deployment on another chain: %v", err)
	}

	lossy := release(t, namespaceIs, namespaceNext, "JobManager", "JobExtension")
	report, err := rehearse.Run(t.Context(), n.Chain, n.Deployment, params, lossy, quiet)
	if !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "JobManager.activeJobs(") || !strings.Contains(err.Error(), "do not announce it") {
		t.Errorf("code that loses the state: %v", err)
	}
	if len(report.Changes) != 2 || len(report.After) != 0 {
		t.Errorf("code that loses the state got as far as %+v", report)
	}

	_, err = rehearse.RunAgainst(t.Context(), n.Chain, n.Deployment, params, release(t, versionIs, versionNext, "DomainRegistry"), quiet)
	if !errors.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "was lost: 0 ALEPH for it, 4") {
		t.Errorf("a lost vote: %v", err)
	}
}

func TestWhatAnUpgradeMayChange(t *testing.T) {
	at := func(b byte) common.Address { return common.Address{19: b} }
	old := map[string]deploy.Implementation{"JobExtension": {Address: at(1)}}
	next := map[string]deploy.Implementation{"JobExtension": {Address: at(2)}}
	word := func(b byte) []byte { return common.LeftPadBytes([]byte{b}, 32) }
	tests := []struct {
		name, view string
		was, is    []byte
		want       bool
	}{
		{"the same", "job", word(1), word(1), true},
		{"another answer", "job", word(7), word(8), false},
		{"no answer any more", "job", word(7), nil, false},
		{"an answer where there was none", "job", nil, word(7), false},
		{"a refusal as before", "job", nil, nil, true},
		{"the version", "VERSION", word(7), word(8), true},
		{"an announcement that is used up", "announcedUpgrade", word(7), word(0), true},
		{"an announcement that is another", "announcedUpgrade", word(7), word(8), false},
		{"where the second half is", "extension", word(1), word(2), true},
		{"a second half that is elsewhere", "extension", word(1), word(3), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rehearse.Agree(tt.view, old, next, tt.was, tt.is); got != tt.want {
				t.Errorf("%t, want %t", got, tt.want)
			}
		})
	}
	if !rehearse.Added([][]byte{nil, nil}, [][]byte{nil, word(1)}) {
		t.Error("a view that only the new code has is not new")
	}
	if rehearse.Added([][]byte{nil, nil}, [][]byte{nil, nil}) || rehearse.Added([][]byte{nil, word(1)}, [][]byte{word(1), word(1)}) {
		t.Error("a view that was there, or is not there, is new")
	}
}
