package ccn

import (
	"context"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// tokenHeader has the word of the operator.
	tokenHeader = "X-Auth-Token" //nolint:gosec // A name.
	// tokenAge is how old it may be, or how much before its time.
	tokenAge = 300 * time.Second
	// tokenMax bounds it: a time and a signature, encoded twice.
	tokenMax = 512
	// repricesMax is how many may compute costs again at the same time: each keeps
	// the writers of the database busy.
	repricesMax = 1
)

// operator wants a request to come from who has the key of the operator.
func (s *Server) operator(w http.ResponseWriter, r *http.Request) error {
	token := r.Header.Get(tokenHeader)
	text := "Invalid or expired authentication token"
	switch {
	case token == "":
		text = "Missing X-Auth-Token header"
	case validToken(token, s.self.OperatorKey, time.Now()):
		return nil
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	return refuseText(http.StatusUnauthorized, text)
}

// validToken reports whether a token is base64 of "<unix time>:<base64 signature>",
// with the signature that the key has made of the time. What is compared is public:
// how long it takes tells nothing of the key.
func validToken(token, key string, now time.Time) bool {
	if len(token) > tokenMax {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return false
	}
	text, encoded, _ := strings.Cut(string(raw), ":")
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > tokenAge {
		return false
	}
	public, err := hex.DecodeString(key)
	if err != nil {
		return false
	}
	der, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return false
	}
	var sig struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &sig)
	const half = 32
	if err != nil || len(rest) > 0 || sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.BitLen() > 8*half || sig.S.BitLen() > 8*half {
		return false
	}
	flat := make([]byte, 2*half)
	sig.R.FillBytes(flat[:half])
	sig.S.FillBytes(flat[half:])
	sum := sha256.Sum256([]byte(text))
	return crypto.VerifySignature(public, sum[:], flat)
}

// reprice computes costs again by the prices that held when messages were made.
func (s *Server) reprice(w http.ResponseWriter, r *http.Request) error {
	if err := s.operator(w, r); err != nil {
		return err
	}
	var hash message.ItemHash
	if r.PathValue("item_hash") != "" {
		var err error
		if hash, err = itemHash(r); err != nil {
			return err
		}
	}
	if s.parts.Prices == nil {
		return errs.New(errs.Unavailable, "this node computes no costs")
	}
	select {
	case s.repricing <- struct{}{}:
		defer func() { <-s.repricing }()
	default:
		return errs.New(errs.Unavailable, "costs are being computed already; try again later")
	}
	// What is begun is done even if the operator does not wait for it.
	done, err := s.parts.Prices.Reprice(context.WithoutCancel(r.Context()), hash)
	switch {
	case errors.Is(err, errs.NotFound):
		return refuseText(http.StatusNotFound, "Message not found with hash: "+string(hash))
	case errors.Is(err, errs.Invalid):
		return refuseText(http.StatusBadRequest, "Message is not an executable or store message: "+string(hash))
	case err != nil:
		return err
	}
	o := newObject(nil)
	if done.All == 0 {
		o.text("message", "No messages found for cost recalculation")
	} else {
		o.text("message", "Cost recalculation completed with historical pricing")
	}
	o.integer("recalculated_count", int64(done.Done))
	o.integer("total_messages", int64(done.All))
	o.integer("pricing_changes_found", int64(done.Prices))
	if len(done.Failed) > 0 {
		o.key("errors")
		o.buf = append(o.buf, '[')
		for i, f := range done.Failed {
			if i > 0 {
				o.buf = append(o.buf, ',')
			}
			one := newObject(o.buf)
			one.text("item_hash", string(f.Message))
			one.text("error", f.Reason)
			o.buf = one.end()
		}
		o.buf = append(o.buf, ']')
	}
	return s.answerJSON(w, r, http.StatusOK, o.end())
}
