package crn

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/authz"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
	"github.com/aleph-onchain/aleph-onchain/protocol/operator"
)

// builtInSigner is the scheduler of the public network, as the reference knows it.
const builtInSigner = "0x2937f62e5F81A88e921f883f8fE56ceCf4A4A44A"

func errStranger() error {
	return &Failure{Status: http.StatusForbidden, Text: "Unauthorized sender", Plain: true}
}

// ref returns the item hash in the path of a request.
func (c *call) ref() (message.ItemHash, error) {
	vm, err := message.ParseItemHash(c.params["ref"])
	if err != nil {
		return "", refuse(http.StatusBadRequest, fmt.Sprintf("Invalid ref: '%.80s'", c.params["ref"]))
	}
	return vm, nil
}

// authenticate returns who signed a request.
func (s *Server) authenticate(c *call) (*operator.Owner, error) {
	proof := operator.Proof{PubKey: c.r.Header.Get(operator.PubKeyHeader), Operation: c.r.Header.Get(operator.OperationHeader)}
	owner, err := proof.Verify(operator.Target{Domain: s.self.Domain, Method: c.r.Method, Path: c.r.URL.Path}, s.now())
	if err != nil {
		return nil, refusedBy(err, http.StatusUnauthorized)
	}
	return owner, nil
}

// use uses up a signed request that changes something. One that only reads may be
// sent again, as clients do when an answer is lost.
func (s *Server) use(c *call, owner *operator.Owner) error {
	if c.r.Method == http.MethodGet {
		return nil
	}
	return s.spend(c.r.Context(), s.owners, owner.Address, owner.Operation)
}

// spend uses up what a signer has signed. Memory bounds it, and the node's state keeps
// it over a restart, before anything is done.
func (s *Server) spend(ctx context.Context, memory *operator.Replays, signer string, operation [sha256.Size]byte) error {
	now := s.now()
	err := memory.Take(signer, operation, now)
	switch {
	case errors.Is(err, operator.ErrReplay):
		return errReplayed()
	case err != nil:
		return errs.New(errs.Unavailable, "%w", err)
	}
	good, err := s.parts.Used.Use(ctx, strings.ToLower(signer)+"/"+hex.EncodeToString(operation[:]), now, now.Add(memory.Life()))
	switch {
	case err != nil:
		return notNoted(err)
	case !good:
		return errReplayed()
	}
	return nil
}

// notNoted is of a request that is not obeyed because a restart would forget it.
func notNoted(err error) error {
	return errs.Placed(errs.New(errs.Unavailable, "note that a request was used: %w", err), "the request cannot be noted, try again later")
}

func errReplayed() error {
	return refuse(http.StatusUnauthorized, "Operation was used before, sign a new one")
}

// owned returns the machine of a request that its owner, or who may act for them,
// has signed.
func (s *Server) owned(c *call) (*Execution, error) {
	return s.ownedBy(c, func(ctx context.Context, vm message.ItemHash) (*Execution, error) {
		e, err := s.parts.Executions.Find(ctx, vm)
		if errs.KindOf(err) == errs.NotFound {
			err = refuse(http.StatusNotFound, "No virtual machine with ref "+string(vm))
		}
		return e, err
	})
}

func (s *Server) ownedBy(c *call, find func(context.Context, message.ItemHash) (*Execution, error)) (*Execution, error) {
	owner, err := s.authenticate(c)
	if err != nil {
		return nil, err
	}
	vm, err := c.ref()
	if err != nil {
		return nil, err
	}
	e, err := find(c.r.Context(), vm)
	if err != nil {
		return nil, err
	}
	if !s.mayAct(c.r.Context(), owner.Address, e) {
		return nil, errStranger()
	}
	return e, s.use(c, owner)
}

// mayAct reports whether an address may act for the owner of a machine. Rights are
// those to write an INSTANCE message, for programs too. The chain of a right is that
// of messages; this is none, and the address has signed. Who cannot be asked allows
// nothing.
func (s *Server) mayAct(ctx context.Context, address string, e *Execution) bool {
	if authz.Same(address, e.Owner) {
		return true
	}
	security, err := s.parts.Rights.Security(ctx, e.Owner)
	if err != nil {
		s.log.Warn("rights not known", "owner", e.Owner, "err", err)
		return false
	}
	security.Grants = slices.Clone(security.Grants)
	for i := range security.Grants {
		security.Grants[i].Chain = ""
	}
	return authz.Allowed(security, e.Owner, address, authz.Facts{Channel: e.Channel, Type: message.TypeInstance})
}

// order is a request of a scheduler.
type order struct {
	body []byte
	// signer is "" for one that came with a token, which says no time.
	signer   string
	issuedAt int64 // Unix seconds
}

func errDenied() error {
	return refuse(http.StatusUnauthorized, "Authentication token received is invalid")
}

// scheduled returns the order of a scheduler.
func (s *Server) scheduled(c *call) (*order, error) {
	denied := errDenied()
	header := c.r.Header.Get(operator.AllocationHeader)
	if header == "" {
		if s.self.AllocationTokenHash == "" || !operator.AllocationToken(c.r.Header.Get(operator.AllocationTokenHeader), s.tokenHash) {
			return nil, denied
		}
		body, err := readBody(c)
		return &order{body: body}, err
	}
	proof, err := operator.ParseAllocation(header)
	if err != nil {
		s.log.Debug("scheduler refused", "path", c.r.URL.Path, "err", err)
		return nil, denied
	}
	signer, err := proof.Verify(operator.AllocationRequest{
		Method: c.r.Method, Path: c.r.URL.Path, Query: c.r.URL.RawQuery, Length: c.r.ContentLength,
	}, s.now())
	if err != nil || !s.isScheduler(c.r.Context(), signer) {
		s.log.Debug("scheduler refused", "path", c.r.URL.Path, "signer", signer, "err", err)
		return nil, denied
	}
	body, err := readBody(c)
	if err != nil {
		return nil, err
	}
	if err := proof.VerifyBody(body); err != nil {
		s.log.Debug("scheduler refused", "path", c.r.URL.Path, "signer", signer, "err", err)
		return nil, denied
	}
	err = s.spend(c.r.Context(), s.allocations, signer.Hex(), proof.Operation())
	if errs.KindOf(err) == errs.Unavailable {
		return nil, err
	}
	if err != nil {
		return nil, denied
	}
	return &order{body: body, signer: signer.Hex(), issuedAt: proof.IssuedAt}, nil
}

// isNewest refuses a list that is older than one that was obeyed already: what was held up
// on its way, or kept back, undoes nothing. The caller holds lists until it has obeyed.
func (s *Server) isNewest(ctx context.Context, o *order) error {
	if o.signer == "" {
		return nil
	}
	newest, err := s.parts.Used.List(ctx, o.signer, o.issuedAt)
	switch {
	case err != nil:
		return notNoted(err)
	case !newest:
		s.log.Warn("list refused, a newer one was obeyed", "signer", o.signer, "issued_at", o.issuedAt)
		return errDenied()
	}
	return nil
}

// isScheduler reports whether an address may allocate.
func (s *Server) isScheduler(ctx context.Context, signer common.Address) bool {
	signers := s.signers
	if len(signers) == 0 && s.parts.Schedulers == nil {
		return false // A node that belongs to no network obeys nobody unasked.
	}
	if len(signers) == 0 {
		named, err := s.parts.Schedulers.Signers(ctx)
		if err != nil {
			s.log.Warn("schedulers of the network not known", "err", err)
		}
		signers = named
	}
	if len(signers) == 0 {
		signers = []common.Address{common.HexToAddress(builtInSigner)}
	}
	return slices.Contains(signers, signer)
}

// readBody reads a body that the server has bounded.
func readBody(c *call) ([]byte, error) {
	body, err := io.ReadAll(c.r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, err
	case err != nil:
		return nil, errs.New(errs.Invalid, "body broke off: %w", err)
	}
	return body, nil
}

// operatorOnly refuses who has not logged in.
func (s *Server) operatorOnly(c *call) error {
	cookie, err := c.r.Cookie("token")
	if err != nil || subtle.ConstantTimeCompare([]byte(cookie.Value), []byte(s.self.Secret)) != 1 {
		return refuse(http.StatusUnauthorized, "401 Invalid token")
	}
	return nil
}
