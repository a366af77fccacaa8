package crn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

func errNotJSON() error { return refuse(http.StatusBadRequest, "Body is not valid JSON") }

// allocation is what becomes of machines that somebody wants to run.
type allocation struct {
	Success    bool                        `json:"success"`
	Successful []message.ItemHash          `json:"successful"`
	Failing    []message.ItemHash          `json:"failing"`
	Stopped    []message.ItemHash          `json:"stopped"`
	Errors     map[message.ItemHash]string `json:"errors"`
}

// allocate makes run what a scheduler wants, and nothing else of what is its.
func (s *Server) allocate(c *call) error {
	o, err := s.scheduled(c)
	if err != nil {
		return err
	}
	want, wrong, err := parseAllocation(o.body)
	if err != nil {
		return err
	}
	if len(wrong) > 0 {
		return s.json(c, http.StatusBadRequest, wrong)
	}
	c.unhurried()
	s.lists.Lock()
	defer s.lists.Unlock()
	if err := s.isNewest(c.r.Context(), o); err != nil {
		return err
	}
	done, err := s.parts.Machines.Allocate(c.r.Context(), want)
	if err != nil {
		return err
	}
	return s.json(c, status(want, done), answer(want, done))
}

func answer(want Allocation, done *Allocated) allocation {
	out := allocation{
		Success: len(done.Failed) == 0, Successful: []message.ItemHash{}, Failing: []message.ItemHash{},
		Stopped: append([]message.ItemHash{}, done.Stopped...), Errors: map[message.ItemHash]string{},
	}
	for _, vm := range slices.Concat(want.Programs, want.Instances) {
		switch err := done.Failed[vm]; {
		case slices.Contains(out.Successful, vm) || slices.Contains(out.Failing, vm):
		case err == nil:
			out.Successful = append(out.Successful, vm)
		default:
			out.Failing = append(out.Failing, vm)
			out.Errors[vm] = exceptionOf(err)
		}
	}
	return out
}

func status(want Allocation, done *Allocated) int {
	switch all := answer(want, done); {
	case len(all.Failing) == 0:
		return http.StatusOK
	case len(all.Successful) == 0:
		return http.StatusServiceUnavailable
	default:
		return http.StatusMultiStatus
	}
}

// parseAllocation reads the body of a scheduler, and what is wrong with its fields.
func parseAllocation(body []byte) (want Allocation, wrong []fieldError, err error) {
	if !json.Valid(body) {
		return want, nil, errNotJSON()
	}
	in := objectOf(body)
	if in == nil {
		return want, []fieldError{{
			Type: "model_type", Loc: []any{}, Msg: "Input should be a valid dictionary or instance of Allocation", Input: json.RawMessage(body), URL: pydanticURL + "model_type",
		}}, nil
	}
	sets := map[string]*[]message.ItemHash{"persistent_vms": &want.Programs, "instances": &want.Instances, "on_demand_vms": nil, "jobs": nil}
	for _, name := range []string{"persistent_vms", "instances", "on_demand_vms", "jobs"} {
		hashes, bad := parseHashes(in[name], name)
		wrong = append(wrong, bad...)
		if set := sets[name]; set != nil {
			*set = hashes
		}
	}
	return want, wrong, nil
}

// objectOf reads an object, and returns nil for any other document.
func objectOf(document []byte) map[string]json.RawMessage {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(document, &in); err != nil {
		return nil
	}
	return in
}

func parseHashes(raw json.RawMessage, name string) (hashes []message.ItemHash, wrong []fieldError) {
	if raw == nil || name != "persistent_vms" && name != "instances" && string(raw) == "null" {
		return nil, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil || string(raw) == "null" {
		return nil, []fieldError{wrongType("set_type", "set", raw, name)}
	}
	seen := map[message.ItemHash]bool{}
	for i, item := range items {
		var text string
		if err := json.Unmarshal(item, &text); err != nil || string(item) == "null" {
			wrong = append(wrong, wrongType("string_type", "string", item, name, i))
			continue
		}
		hash, err := message.ParseItemHash(text)
		if err != nil {
			wrong = append(wrong, wrongHash(text, name, i))
			continue
		}
		if !seen[hash] {
			seen[hash] = true
			hashes = append(hashes, hash)
		}
	}
	return hashes, wrong
}

func wrongHash(text string, loc ...any) fieldError {
	return wrongValue(fmt.Sprintf("Could not determine hash type: '%s'", text), text, loc...)
}

// wrongBody answers with what is wrong with a body, as a text within a document: so
// does the reference, in all places but one.
func (s *Server) wrongBody(c *call, wrong ...fieldError) error {
	raw, err := json.Marshal(wrong)
	if err != nil {
		return fmt.Errorf("encode errors of fields: %w", err)
	}
	return s.json(c, http.StatusBadRequest, string(raw))
}

type notification struct {
	Success    bool                        `json:"success"`
	Successful bool                        `json:"successful"`
	Failing    []message.ItemHash          `json:"failing"`
	Errors     map[message.ItemHash]string `json:"errors"`
}

// notify starts an instance that is paid for. Anybody may ask.
func (s *Server) notify(c *call) error {
	body, err := readBody(c)
	if err != nil {
		return err
	}
	var in struct {
		Instance *string `json:"instance"`
	}
	switch {
	case !json.Valid(body):
		return errNotJSON()
	case json.Unmarshal(body, &in) != nil:
		return s.wrongBody(c, wrongType("string_type", "string", json.RawMessage(body), "instance"))
	case in.Instance == nil:
		return s.wrongBody(c, missingField(json.RawMessage(body), "instance"))
	}
	vm, err := message.ParseItemHash(*in.Instance)
	if err != nil {
		return s.wrongBody(c, wrongHash(*in.Instance, "instance"))
	}
	c.unhurried()
	done, err := s.starts.Do(c.r.Context(), vm, func(ctx context.Context) (*notification, error) { return s.startPaid(ctx, vm) })
	switch {
	case err != nil:
		return err
	case done.Success:
		return s.json(c, http.StatusOK, done)
	default:
		return s.json(c, http.StatusServiceUnavailable, done)
	}
}

// startPaid starts an instance if it may start here.
func (s *Server) startPaid(ctx context.Context, vm message.ItemHash) (*notification, error) {
	leave, err := s.look()
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.admit(ctx, vm); err != nil {
		return nil, err
	}
	if err := s.parts.Machines.Start(ctx, vm); err != nil {
		if errs.KindOf(err) == errs.Internal {
			s.log.Error("machine not started", "job_id", vm, "err", err)
		}
		return &notification{Failing: []message.ItemHash{vm}, Errors: map[message.ItemHash]string{vm: exceptionOf(err)}}, nil
	}
	return &notification{Success: true, Successful: true, Failing: []message.ItemHash{}, Errors: map[message.ItemHash]string{}}, nil
}

// look bounds how many machines strangers have looked at, until leave is called.
func (s *Server) look() (leave func(), err error) {
	select {
	case s.looks <- struct{}{}:
		return func() { <-s.looks }, nil
	default:
		return nil, errs.New(errs.Unavailable, "%d machines are being looked at already; try again", looksMax)
	}
}

// admit refuses an instance that may not start here, for the first reason in the
// order of the reference.
func (s *Server) admit(ctx context.Context, vm message.ItemHash) error {
	m, err := s.parts.Messages.Find(ctx, vm)
	switch errs.KindOf(err) {
	case "":
	case errs.NotFound:
		return refuse(http.StatusNotFound, "Hash not found: "+string(vm))
	case errs.Unavailable:
		return refuseReason(http.StatusServiceUnavailable, "Aleph Connector unavailable")
	default:
		return err
	}
	want, isInstance := m.Content.(*message.Instance)
	if !isInstance {
		return refuseReason(http.StatusBadRequest, "Message is not an instance")
	}
	if r := want.Requirements; r != nil && r.Node != nil && r.Node.NodeHash != nil {
		own, known := s.parts.Identity.NodeHash()
		switch {
		case !known:
			return refuseReason(http.StatusServiceUnavailable, "Node hash not yet discovered, cannot accept targeted allocations")
		case own != *r.Node.NodeHash:
			return refuseReason(http.StatusBadRequest, "Instance is allocated to a different node")
		}
	}
	err = s.parts.Machines.Admit(ctx, vm, want)
	if errs.KindOf(err) == errs.Exhausted {
		return refuse(http.StatusServiceUnavailable, "This CRN cannot host the requested instance at this time.")
	}
	if err != nil {
		return err
	}
	return s.parts.Payments.Check(ctx, m, want)
}

// reserve keeps what a machine needs for who signed, for a minute or so.
func (s *Server) reserve(c *call) error {
	owner, err := s.authenticate(c)
	if err != nil {
		return err
	}
	body, err := readBody(c)
	if err != nil {
		return err
	}
	if !json.Valid(body) {
		return errNotJSON()
	}
	want, err := message.ParseInstance(body)
	if err != nil {
		return s.wrongBody(c, wrongValue(strings.TrimPrefix(err.Error(), "content."), json.RawMessage(body)))
	}
	// Anybody has a wallet, and may fill neither the memory of those who have machines,
	// nor the node's disk.
	switch err := s.strangers.Take(owner.Address, owner.Operation, s.now()); {
	case errors.Is(err, operator.ErrReplay):
		return errReplayed()
	case err != nil:
		return errs.New(errs.Unavailable, "%w", err)
	}
	until, err := s.parts.Machines.Reserve(c.r.Context(), owner.Address, want)
	switch errs.KindOf(err) {
	case "":
		return s.json(c, http.StatusOK, map[string]any{"status": "reserved", "expires": textOf(until)})
	case errs.Exhausted:
		return refuse(http.StatusServiceUnavailable, "This CRN cannot reserve the requested resources at this time.")
	case errs.Conflict:
		return s.json(c, http.StatusBadRequest, map[string]string{"status": "error", "error": "Failed to reserves all resources", "reason": errs.Public(err)})
	default:
		return err
	}
}
