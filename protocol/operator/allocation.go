package operator

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

const (
	// AllocationHeader carries the proof of a scheduler.
	AllocationHeader = "Authorization"
	// VolumesHeader says that who fetches the files of a move makes volumes of them.
	// Other software takes what it does not know for disks over the image, or leaves
	// it out, and the owner's data would be lost.
	VolumesHeader = "X-Aleph-Volumes"
	// AllocationTokenHeader carries the token of an older scheduler.
	AllocationTokenHeader = "X-Auth-Signature" //nolint:gosec // G101: a name.
	// AllocationWindow is how far the time of a proof may be from that of the
	// node, either way.
	AllocationWindow = 5 * time.Minute
	// AllocationBodyMax bounds the body of a request with such a proof, in bytes.
	AllocationBodyMax = 1 << 20

	allocationScheme    = "aleph-eip191-v1" // Of any case.
	allocationHeaderMax = 4 << 10           // characters
)

// Allocation is a scheduler's proof that a request is its own: an EIP-191
// signature of the method, the path, the time and the hash of the body.
//
//	Authorization: Aleph-EIP191-V1 sig=0x<hex>,payload=0x<hex>
type Allocation struct {
	Method     string
	Path       string
	BodySHA256 string // Lower-case hex.
	IssuedAt   int64  // Unix seconds.

	payload   []byte
	signature []byte
}

// ParseAllocation reads the value of the header. It proves nothing yet.
func ParseAllocation(header string) (*Allocation, error) {
	if len(header) > allocationHeaderMax {
		return nil, fmt.Errorf("authorization has %d characters, at most %d are allowed", len(header), allocationHeaderMax)
	}
	scheme, params, _ := strings.Cut(strings.TrimSpace(header), " ")
	if !strings.EqualFold(scheme, allocationScheme) {
		return nil, fmt.Errorf("authorization is of the scheme %.40q, want Aleph-EIP191-V1", scheme)
	}
	found := map[string][]byte{}
	for param := range strings.SplitSeq(params, ",") {
		name, value, _ := strings.Cut(param, "=")
		name, value = strings.TrimSpace(name), strings.TrimPrefix(strings.TrimSpace(value), "0x")
		if name != "sig" && name != "payload" || found[name] != nil {
			return nil, fmt.Errorf("authorization: parameter %.40q, want sig and payload, once each", name)
		}
		raw, err := hex.DecodeString(value)
		if err != nil || len(raw) == 0 {
			return nil, fmt.Errorf("authorization: %s is not hex", name)
		}
		found[name] = raw
	}
	if len(found) != 2 {
		return nil, errors.New("authorization lacks sig or payload")
	}
	a := &Allocation{payload: found["payload"], signature: found["sig"]}
	return a, a.readPayload()
}

func (a *Allocation) readPayload() error {
	var in struct {
		Method     *string         `json:"method"`
		Path       *string         `json:"path"`
		BodySHA256 *string         `json:"body_sha256"`
		IssuedAt   json.RawMessage `json:"iat"`
	}
	if err := json.Unmarshal(a.payload, &in); err != nil {
		return fmt.Errorf("authorization: payload is not of the form: %w", err)
	}
	if in.Method == nil || in.Path == nil || in.BodySHA256 == nil {
		return errors.New("authorization: payload lacks method, path or body_sha256")
	}
	// Only a whole number is one: neither true, nor 1.0, nor "1".
	issued, err := strconv.ParseInt(string(in.IssuedAt), 10, 64)
	if err != nil {
		return fmt.Errorf("authorization: iat is %.40q, want Unix seconds", in.IssuedAt)
	}
	a.Method, a.Path, a.BodySHA256, a.IssuedAt = *in.Method, *in.Path, *in.BodySHA256, issued
	return nil
}

// AllocationRequest is what of a request is known before its body is read.
type AllocationRequest struct {
	Method, Path string
	Query        string // Without the question mark; there may be none.
	Length       int64  // Content-Length; negative if it was not sent.
}

// Verify returns who signed for the request at now. What its body must be says
// VerifyBody.
func (a *Allocation) Verify(want AllocationRequest, now time.Time) (common.Address, error) {
	switch {
	case now.Sub(time.Unix(a.IssuedAt, 0)).Abs() > AllocationWindow:
		return common.Address{}, fmt.Errorf("authorization is of %d, which is more than %s away", a.IssuedAt, AllocationWindow)
	case a.Method != want.Method || a.Path != want.Path:
		return common.Address{}, fmt.Errorf("authorization is for %.20q %.200q", a.Method, a.Path)
	case want.Query != "":
		return common.Address{}, errors.New("the request has a query, which nobody signed")
	case want.Length < 0 || want.Length > AllocationBodyMax:
		return common.Address{}, fmt.Errorf("the request says that its body has %d bytes, want at most %d", want.Length, AllocationBodyMax)
	}
	signer, err := message.RecoverDigest(message.TextDigest(a.payload), a.signature)
	if err != nil {
		return common.Address{}, fmt.Errorf("authorization: %w", err)
	}
	return signer, nil
}

// VerifyBody checks that the body is the one that was signed for.
func (a *Allocation) VerifyBody(body []byte) error {
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != a.BodySHA256 {
		return fmt.Errorf("authorization is for a body with the hash %.64q", a.BodySHA256)
	}
	return nil
}

// Operation is the sha256 of what was signed: the same again is a replay, and
// so is the same with another signature, of which there are two to each.
func (a *Allocation) Operation() [sha256.Size]byte { return sha256.Sum256(a.payload) }

// AllocationToken reports whether an older scheduler's token is the one with
// that sha256.
func AllocationToken(token string, hash [sha256.Size]byte) bool {
	sum := sha256.Sum256([]byte(token))
	return token != "" && subtle.ConstantTimeCompare(sum[:], hash[:]) == 1
}
