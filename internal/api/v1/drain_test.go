package v1_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	v1 "github.com/aleph-onchain/aleph-onchain/internal/api/v1"
	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/internal/state"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

// drainer writes the row that an executor writes.
type drainer struct{ db *state.DB }

func (d *drainer) Drain(ctx context.Context, by string, until time.Time) error {
	if until.Unix() == 1 {
		return errs.New(errs.Invalid, "long ago")
	}
	return d.db.Update(ctx, func(tx *state.Tx) error {
		return tx.PutDrain(ctx, state.Drain{Until: until, By: by, At: time.Now()})
	})
}

func (d *drainer) EndDrain(ctx context.Context, _ string) error {
	return d.db.Update(ctx, func(tx *state.Tx) error { return tx.RemoveDrain(ctx) })
}

func TestOnlyWhoRunsTheNodeDrainsIt(t *testing.T) {
	d := new(drainer)
	n := newNode(t, func(s *v1.Self, p *v1.Parts) { s.Role, s.NodeID, p.Drainer = v1.Compute, 3, d })
	d.db = n.db
	signer, err := crypto.ToECDSA(crypto.Keccak256([]byte("signer")))
	if err != nil {
		t.Fatal(err)
	}
	header := func(method, target, nonce string) string {
		h, err := operator.Sign(n.key, method, target, time.Now().Add(time.Minute), "drain nonce "+nonce)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	until := time.Now().Add(time.Hour).Unix()
	target := v1.DrainTarget(3, until)
	problem(t, n.do(t, http.MethodPut, target, "", "Authorization", header(http.MethodPut, target, "1")), 503, "found itself in the registry")
	n.update(t, func(ctx context.Context, tx *state.Tx) error {
		return tx.PutNode(ctx, state.Node{ID: 3, Kind: state.KindCompute, Status: state.NodeActive, Owner: n.payer(), Signer: crypto.PubkeyToAddress(signer.PublicKey)})
	})
	n.put(t, state.VM{Spec: spec(1), State: state.VMRunning}, state.VM{Spec: spec(2), State: state.VMStopped})

	signed := header(http.MethodPut, target, "2")
	if v := want(t, n.do(t, http.MethodPut, target, "", "Authorization", signed), 200); v["draining"] != true || v["until"] != float64(until) ||
		v["by"] != n.payer().Hex() || v["machines"] != 1.0 {
		t.Errorf("drain = %v", v)
	}
	problem(t, n.do(t, http.MethodPut, target, "", "Authorization", signed), 403, "used before")
	problem(t, n.do(t, http.MethodPut, target, ""), 403, "not signed")
	problem(t, n.do(t, http.MethodPut, v1.DrainTarget(3, until+1), "", "Authorization", header(http.MethodPut, target, "3")), 403, "signed by")
	problem(t, n.do(t, http.MethodDelete, target, "", "Authorization", header(http.MethodPut, target, "4")), 403, "signed by")
	other := v1.DrainTarget(4, until)
	problem(t, n.do(t, http.MethodPut, other, "", "Authorization", header(http.MethodPut, other, "5")), 403, "for node 4")
	past := v1.DrainTarget(3, 1)
	problem(t, n.do(t, http.MethodPut, past, "", "Authorization", header(http.MethodPut, past, "6")), 400, "long ago")
	if v := want(t, n.do(t, http.MethodGet, v1.DrainPath, ""), 200); v["draining"] != true {
		t.Errorf("drain = %v", v)
	}

	off := v1.DrainTarget(3, 0)
	stranger, err := crypto.ToECDSA(crypto.Keccak256([]byte("stranger")))
	if err != nil {
		t.Fatal(err)
	}
	n.key = stranger
	problem(t, n.do(t, http.MethodDelete, off, "", "Authorization", header(http.MethodDelete, off, "7")), 403, "only the node's owner")
	n.key = signer
	if v := want(t, n.do(t, http.MethodDelete, off, "", "Authorization", header(http.MethodDelete, off, "8")), 200); v["draining"] != false || v["until"] != 0.0 {
		t.Errorf("drain = %v", v)
	}
}
