package operator

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/mr-tron/base58"

	"github.com/aleph-onchain/aleph-onchain/protocol/message"
)

// The headers with which the owner of a machine proves to a compute node that a
// request is theirs. The wallet signs a key of a browser or a command line, and
// that key signs each request.
const (
	PubKeyHeader    = "X-SignedPubKey"
	OperationHeader = "X-SignedOperation"
)

const (
	// OperationWindow is how far the time of an operation may be from that of
	// the node, either way.
	OperationWindow = 2 * time.Minute

	ownerHeaderMax   = 8 << 10 // characters of one header
	ownerAddressMax  = 128     // characters
	es256Bytes       = 64      // r and s
	p256Bytes        = 32      // of a coordinate
	solanaAddressMax = 44      // characters of base58

	solana message.Chain = "SOL"
)

// Proof is what the two headers hold, "" for one that was not sent.
type Proof struct {
	PubKey, Operation string
}

// Target is what an owner signs for.
type Target struct {
	Domain string // Name of the node, without port.
	Method string
	Path   string // Without query.
}

// Owner is who has proved a request to be theirs.
type Owner struct {
	Address string // As it was signed: 0x and hex, or base58.
	// Operation is the sha256 of what was signed: the same again is a replay.
	Operation [sha256.Size]byte
}

// Verify returns who signed for the request at now. The error is always a
// *Refusal; what is wrong first, in the order of the reference, is told.
func (p Proof) Verify(want Target, now time.Time) (*Owner, error) {
	if p.PubKey == "" {
		return nil, malformed("Missing X-SignedPubKey header")
	}
	key, err := parseWalletKey(p.PubKey, now)
	if err != nil {
		return nil, err
	}
	if p.Operation == "" {
		return nil, malformed("Missing X-SignedOperation header")
	}
	op, err := parseOperation(p.Operation, now)
	if err != nil {
		return nil, err
	}
	switch {
	case op.Domain != want.Domain:
		return nil, wrongDomain(op.Domain, want.Domain)
	case op.Path != want.Path:
		return nil, refused(fmt.Sprintf("Invalid path. Signed: '%s' !=  requested path: '%s'", op.Path, want.Path))
	case op.Method != want.Method:
		return nil, refused(fmt.Sprintf("Invalid method. Signed: '%s' !=  request:'%s", op.Method, want.Method))
	}
	return op.by(key)
}

// VerifySocket returns who signed the first message of a WebSocket at now.
// Browsers sign a method and a path there that are not those of the request, so
// that only the domain is compared. The error is always a *Refusal.
func (p Proof) VerifySocket(domain string, now time.Time) (*Owner, error) {
	key, err := parseWalletKey(p.PubKey, now)
	if err != nil {
		return nil, err
	}
	op, err := parseOperation(p.Operation, now)
	if err != nil {
		return nil, err
	}
	if op.Domain != domain {
		return nil, wrongDomain(op.Domain, domain)
	}
	return op.by(key)
}

func wrongDomain(signed, want string) error {
	return refused(fmt.Sprintf("Invalid domain: Signed: '%s' != Request: '%s'", signed, want))
}

// ParseSocketProof reads the proof in the first message of a WebSocket, whose
// parts are objects rather than texts. The error is always a *Refusal.
func ParseSocketProof(frame []byte) (Proof, error) {
	var first struct {
		Auth json.RawMessage `json:"auth"`
	}
	if len(frame) > 2*ownerHeaderMax {
		return Proof{}, malformed(fmt.Sprintf("first message has %d bytes, at most %d are allowed", len(frame), 2*ownerHeaderMax))
	}
	if err := json.Unmarshal(frame, &first); err != nil {
		return Proof{}, malformed("first message is not a JSON object")
	}
	if string(first.Auth) == "" || string(first.Auth) == "null" {
		return Proof{}, malformed("missing 'auth' key in message")
	}
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(first.Auth, &parts); err != nil {
		return Proof{}, malformed("Invalid format for auth packet, see /doc/operator_auth.md")
	}
	return Proof{PubKey: text(parts[PubKeyHeader]), Operation: text(parts[OperationHeader])}, nil
}

// text is a value as a header has it: some clients send the text of the header.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// signed is the form of both headers: what is signed, in hex, and the signature.
type signed struct {
	Payload   *string `json:"payload"`
	Signature *string `json:"signature"`
}

var errField = errors.New("payload or signature is missing or not hex")

// read returns the bytes of a header's two fields.
func (s *signed) read() (payload, signature []byte, err error) {
	if s.Payload == nil || s.Signature == nil {
		return nil, nil, errField
	}
	if signature, err = hex.DecodeString(strings.TrimPrefix(*s.Signature, "0x")); err != nil {
		return nil, nil, errField
	}
	if payload, err = hex.DecodeString(*s.Payload); err != nil {
		return nil, nil, errField
	}
	return payload, signature, nil
}

// parseSigned reads a header. Whether it is JSON at all and whether it is of this
// form are two questions.
func parseSigned(header string) (payload, signature []byte, isJSON bool, err error) {
	if len(header) > ownerHeaderMax {
		return nil, nil, true, fmt.Errorf("header has %d characters, at most %d are allowed", len(header), ownerHeaderMax)
	}
	if !json.Valid([]byte(header)) {
		return nil, nil, false, errField
	}
	var s signed
	if err := json.Unmarshal([]byte(header), &s); err != nil {
		return nil, nil, true, errField
	}
	payload, signature, err = s.read()
	return payload, signature, true, err
}

// walletKey is a key that a wallet lets sign for it.
type walletKey struct {
	address string
	key     *ecdsa.PublicKey
}

func parseWalletKey(header string, now time.Time) (*walletKey, error) {
	bad := malformed("Invalid X-SignedPubKey data")
	payload, signature, isJSON, err := parseSigned(header)
	switch {
	case !isJSON:
		return nil, malformed("Invalid X-SignedPubKey format")
	case err != nil:
		return nil, bad
	}
	var in struct {
		PubKey  *jwk           `json:"pubkey"`
		Address string         `json:"address"`
		Expires string         `json:"expires"`
		Chain   *message.Chain `json:"chain"`
	}
	if err := json.Unmarshal(payload, &in); err != nil || in.PubKey == nil || in.Address == "" || len(in.Address) > ownerAddressMax {
		return nil, bad
	}
	expires, ok := parseTime(in.Expires)
	if !ok {
		return nil, bad
	}
	if !expires.After(now) {
		return nil, refused("Token expired")
	}
	chain := message.Ethereum
	if in.Chain != nil {
		chain = *in.Chain
	}
	switch chain {
	case message.Ethereum:
		ok = signedByEthereum(in.Address, payload, signature)
	case solana:
		ok = signedBySolana(in.Address, payload, signature)
	default:
		return nil, bad
	}
	if !ok {
		return nil, refused("Invalid signature")
	}
	key, err := in.PubKey.publicKey()
	if err != nil {
		return nil, bad
	}
	return &walletKey{address: in.Address, key: key}, nil
}

func signedByEthereum(address string, payload, signature []byte) bool {
	signer, err := message.RecoverDigest(message.TextDigest(payload), signature)
	return err == nil && strings.EqualFold(signer.Hex(), address)
}

// signedBySolana checks the signature of the text of the payload in hex: wallets
// there sign texts only.
func signedBySolana(address string, payload, signature []byte) bool {
	if len(address) > solanaAddressMax {
		return false
	}
	key, err := base58.Decode(address)
	return err == nil && len(key) == ed25519.PublicKeySize && ed25519.Verify(key, []byte(hex.EncodeToString(payload)), signature)
}

// jwk is a JSON Web Key (RFC 7517) of an elliptic curve; further members are
// ignored.
type jwk struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	X     string `json:"x"`
	Y     string `json:"y"`
}

func (k *jwk) publicKey() (*ecdsa.PublicKey, error) {
	if k.Type != "EC" || k.Curve != "P-256" {
		return nil, fmt.Errorf("key is of %.20q on %.20q, want EC on P-256", k.Type, k.Curve)
	}
	point := make([]byte, 1, 1+2*p256Bytes)
	point[0] = 4 // Not compressed.
	for _, coordinate := range []string{k.X, k.Y} {
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(coordinate, "="))
		if err != nil || len(raw) > p256Bytes {
			return nil, errors.New("coordinate of key is not 32 bytes in base64url")
		}
		point = append(append(point, make([]byte, p256Bytes-len(raw))...), raw...)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
}

// operation is a request that the key signed.
type operation struct {
	Time   string `json:"time"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Domain string `json:"domain"`

	payload, signature []byte
}

func parseOperation(header string, now time.Time) (*operation, error) {
	bad := malformed("Invalid X-SignedOperation fields")
	payload, signature, isJSON, err := parseSigned(header)
	switch {
	case !isJSON:
		return nil, malformed("Invalid X-SignedOperation format")
	case err != nil:
		return nil, bad
	}
	op := operation{payload: payload, signature: signature}
	if err := json.Unmarshal(payload, &op); err != nil {
		return nil, bad
	}
	at, ok := parseTime(op.Time)
	if !ok || now.Sub(at).Abs() > OperationWindow {
		return nil, bad
	}
	switch op.Method {
	case "GET", "POST", "DELETE": //nolint:usestdlibvars // Words do not import net/http.
		return &op, nil
	default:
		return nil, bad
	}
}

// by returns whose operation it is if the key signed it, by ES256.
func (op *operation) by(key *walletKey) (*Owner, error) {
	digest := sha256.Sum256(op.payload)
	if len(op.signature) != es256Bytes {
		return nil, refused("Signature could not verified")
	}
	r, s := new(big.Int).SetBytes(op.signature[:es256Bytes/2]), new(big.Int).SetBytes(op.signature[es256Bytes/2:])
	if !ecdsa.Verify(key.key, digest[:], r, s) {
		return nil, refused("Signature could not verified")
	}
	return &Owner{Address: key.address, Operation: digest}, nil
}

// parseTime reads a time of ISO 8601 that says of which zone it is.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999Z0700"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
