// Package operator holds the signed request of an owner: how the owner of a
// job proves to a node that the request comes from them. The proof is one
// header, good for one method and target and for five minutes at most.
//
//	Authorization: Aleph base64url({"address","expires","nonce","signature"})
//
// The signature is EIP-191 over "aleph-request", the method, the target (path
// and query), the expiry and the nonce, one per line.
//
// The clients of the Aleph network prove the same to a compute node in other
// ways: an owner with a key that their wallet signed (Proof), a scheduler with
// its own key or a token (Allocation), and who may download a backup with a
// signed link (VerifyBackup).
package operator

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// HeaderName is the header that carries a signed request.
	HeaderName = "Authorization"
	// MaxAhead bounds how far ahead a request may expire: a captured header
	// is worth nothing soon after.
	MaxAhead = 5 * time.Minute

	scheme    = "Aleph "
	headerMax = 1024 // characters; four short fields in base64
	nonceMax  = 128  // characters
	nonceMin  = 8    // characters; below, two requests of one second may share it
	signature = 132  // characters of 0x and 65 bytes in hex
)

// Request is the proof in a header.
type Request struct {
	Address   common.Address
	Expires   int64  // Unix seconds
	Nonce     string // makes two equal requests of one second different
	Signature string // 0x and hex
}

type requestJSON struct {
	Address   string `json:"address"`
	Expires   int64  `json:"expires"`
	Nonce     string `json:"nonce"`
	Signature string `json:"signature"`
}

// signingBytes returns the text that is signed.
func (r *Request) signingBytes(method, target string) []byte {
	return []byte(strings.Join([]string{"aleph-request", method, target, strconv.FormatInt(r.Expires, 10), r.Nonce}, "\n"))
}

// Sign returns the header value for a request by the key's address. The target
// is the path and the query exactly as they are sent.
func Sign(key *ecdsa.PrivateKey, method, target string, expires time.Time, nonce string) (string, error) {
	if err := checkNonce(nonce); err != nil {
		return "", err
	}
	r := Request{Address: crypto.PubkeyToAddress(key.PublicKey), Expires: expires.Unix(), Nonce: nonce}
	sig, err := message.SignText(key, r.signingBytes(method, target))
	if err != nil {
		return "", fmt.Errorf("sign request: %w", err)
	}
	raw, err := json.Marshal(requestJSON{r.Address.Hex(), r.Expires, r.Nonce, sig})
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	return scheme + base64.RawURLEncoding.EncodeToString(raw), nil
}

// Parse reads the value of the header. It proves nothing yet: Verify does.
func Parse(header string) (*Request, error) {
	encoded, ok := strings.CutPrefix(header, scheme)
	if !ok {
		return nil, fmt.Errorf("authorization is not of the form %q", scheme+"<base64url>")
	}
	if len(header) > headerMax {
		return nil, fmt.Errorf("authorization has %d characters, at most %d are allowed", len(header), headerMax)
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return nil, fmt.Errorf("authorization is not base64url: %w", err)
	}
	var in requestJSON
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("authorization does not hold a request: %w", err)
	}
	if !common.IsHexAddress(in.Address) {
		return nil, fmt.Errorf("authorization: address %.80q is not 0x and 40 hex digits", in.Address)
	}
	if err := checkNonce(in.Nonce); err != nil {
		return nil, err
	}
	if len(in.Signature) > signature {
		return nil, fmt.Errorf("authorization: signature has %d characters, at most %d are allowed", len(in.Signature), signature)
	}
	return &Request{Address: common.HexToAddress(in.Address), Expires: in.Expires, Nonce: in.Nonce, Signature: in.Signature}, nil
}

func checkNonce(nonce string) error {
	if len(nonce) < nonceMin || len(nonce) > nonceMax || strings.ContainsAny(nonce, "\n\r") {
		return fmt.Errorf("authorization: nonce has %d characters, want one line of %d to %d", len(nonce), nonceMin, nonceMax)
	}
	return nil
}

// Verify checks that the request was signed by its address for this method and
// target, has not expired at now, and does not expire too far ahead.
func (r *Request) Verify(method, target string, now time.Time) error {
	expires := time.Unix(r.Expires, 0)
	switch ahead := expires.Sub(now); {
	case ahead <= 0:
		return fmt.Errorf("authorization expired at %s, it is %s", expires.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case ahead > MaxAhead:
		return fmt.Errorf("authorization expires at %s, more than %s ahead of %s", expires.UTC().Format(time.RFC3339), MaxAhead, now.UTC().Format(time.RFC3339))
	}
	signer, err := message.RecoverText(r.signingBytes(method, target), r.Signature)
	if err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	if signer != r.Address {
		return fmt.Errorf("authorization is signed by %s, not by %s", signer, r.Address)
	}
	return nil
}
