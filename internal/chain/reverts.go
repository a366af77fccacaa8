package chain

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/accounts/abi"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/internal/errs"
)

// Revert is a contract's refusal of a call. As an error it is of its Kind:
// Invalid can never succeed, Unavailable may succeed later by itself, and the
// other kinds may succeed when somebody changes something.
type Revert struct {
	Name string    // "InArrears"; "" when the contract gave no error of ours.
	Kind errs.Kind // What the caller can do about it.
	Data []byte    // As the contract gave it.
	text string
}

// Error implements error.
func (r *Revert) Error() string { return r.text }

// Unwrap makes errors.Is find the kind.
func (r *Revert) Unwrap() error { return r.Kind }

// dataMax bounds how much of unknown revert data goes into a text.
const dataMax = 64

// DecodeRevert makes data that a contract reverted with readable.
func DecodeRevert(data []byte) *Revert {
	r := &Revert{Kind: errs.Conflict, Data: data}
	if text, err := abi.UnpackRevert(data); err == nil {
		r.text = "the contract refused: " + text
		return r
	}
	if known, ok := findError(data); ok {
		values, err := known.Inputs.UnpackValues(data[4:])
		if err == nil {
			r.Name = known.Name
			r.Kind, r.text = explain(known, values)
			return r
		}
	}
	switch {
	case len(data) == 0:
		r.text = "the contract refused without a reason"
	default:
		r.text = fmt.Sprintf("the contract refused with %s", hexutil.Encode(data[:min(len(data), dataMax)]))
	}
	return r
}

// revertOf returns the refusal in an RPC's error, or nil.
func revertOf(err error) *Revert {
	var answer rpc.Error
	if !errors.As(err, &answer) {
		return nil
	}
	const executionReverted = 3
	var withData rpc.DataError
	if errors.As(err, &withData) {
		if text, ok := withData.ErrorData().(string); ok {
			if data, err := hexutil.Decode(text); err == nil {
				return DecodeRevert(data)
			}
		}
	}
	if answer.ErrorCode() == executionReverted || strings.HasPrefix(answer.Error(), "execution reverted") {
		r := DecodeRevert(nil)
		if rest := strings.TrimPrefix(answer.Error(), "execution reverted"); len(rest) > len(": ") {
			r.text = "the contract refused" + rest
		}
		return r
	}
	if strings.HasPrefix(answer.Error(), "out of gas") || strings.Contains(answer.Error(), "gas required exceeds") {
		return &Revert{Kind: errs.Conflict, text: "the contract refused: " + answer.Error()}
	}
	return nil
}

// findError returns the error of our contracts with which data begins.
func findError(data []byte) (*abi.Error, bool) {
	if len(data) < 4 {
		return nil, false
	}
	for _, name := range Names() {
		parsed, err := ABI(name)
		if err != nil {
			continue // A test parses every one.
		}
		for _, e := range parsed.Errors {
			if bytes.Equal(e.ID[:4], data[:4]) {
				return &e, true
			}
		}
	}
	return nil, false
}

// explain returns the kind of an error and a sentence about it.
func explain(e *abi.Error, values []any) (errs.Kind, string) {
	m, ok := meanings()[e.Name]
	if !ok {
		m = meaning{errs.Conflict, "the contract refused"}
	}
	var pairs, facts []string
	for i, in := range e.Inputs {
		if i >= len(values) {
			break
		}
		name := in.Name
		if name == "" {
			name = fmt.Sprintf("arg%d", i)
		}
		text := show(values[i])
		pairs = append(pairs, "{"+name+"}", text)
		facts = append(facts, name+" "+text)
	}
	text := strings.NewReplacer(pairs...).Replace(m.text)
	if text == m.text && len(facts) > 0 {
		text += ": " + strings.Join(facts, ", ")
	}
	return m.kind, fmt.Sprintf("%s (%s)", text, e.Name)
}

func show(v any) string {
	switch v := v.(type) {
	case [32]byte:
		return hexutil.Encode(v[:])
	case [4]byte:
		return hexutil.Encode(v[:])
	case []byte:
		return hexutil.Encode(v)
	case common.Address:
		return v.Hex()
	}
	return fmt.Sprint(v)
}

// meaning is what an error of a contract means for who sent the transaction.
type meaning struct {
	kind errs.Kind
	text string // {name} stands for a value of the error.
}

// meanings is the one table from the contracts' errors to kinds. A test holds it
// against the ABIs.
func meanings() map[string]meaning {
	const (
		invalid, denied, notFound    = errs.Invalid, errs.Denied, errs.NotFound
		conflict, exhausted, waiting = errs.Conflict, errs.Exhausted, errs.Unavailable
		internal                     = errs.Internal
	)
	return map[string]meaning{
		// Shared by our contracts.
		"ZeroAddress":   {invalid, "an address is zero"},
		"ZeroHash":      {invalid, "a hash is zero"},
		"ZeroAmount":    {invalid, "an amount or rate is zero"},
		"NotAuthorized": {denied, "{who} may not do this"},
		"Paused":        {waiting, "the guardian has paused this kind of call"},
		"Expired":       {invalid, "the signature's deadline {deadline} has passed"},
		"BadSignature":  {invalid, "signature {index} is not by the account it must be by"},
		"BadState":      {conflict, "the record is in state {have}, the call needs {want}"},
		"OutOfBounds":   {invalid, "{value} is outside {low} to {high}"},
		"TooSoon":       {waiting, "this is possible from {at} on"},
		"TooLate":       {invalid, "this was possible until {at}"},
		"Duplicate":     {conflict, "there is one with the key {key} already"},
		"Insufficient":  {exhausted, "there is {have}, {need} is needed"},

		// JobManager.
		"OfferExpired":       {invalid, "the offer's or assignment's deadline {deadline} has passed"},
		"RateTooHigh":        {invalid, "the rate {rateQ32} is above the payer's ceiling {maxRateQ32}"},
		"SpecMismatch":       {invalid, "the offer is for {offered}, the assignment for {assigned}"},
		"WrongNode":          {invalid, "the assignment is to node {have}, the payer wants node {want}"},
		"WrongAttempt":       {invalid, "the assignment is attempt {have}, this is attempt {want}"},
		"QuorumLow":          {conflict, "{have} coordinators signed, {need} must"},
		"CoordinatorOrder":   {invalid, "coordinator {next} comes after coordinator {previous}"},
		"CoordinatorMissing": {invalid, "coordinator {coordId} proposed the assignment but did not sign it"},
		"SignaturesLength":   {invalid, "{length} bytes of signatures are not a whole number of them"},
		"NonceUsed":          {invalid, "the payer has used or invalidated the nonce {nonce}"},
		"AlreadyTerminal":    {invalid, "the job has ended"},

		// NodeRegistry and StakingManager.
		"UnknownNode":       {notFound, "there is no node {nodeId}"},
		"PeerIdTaken":       {conflict, "a live node has this peer id"},
		"SignerTaken":       {conflict, "a live node signs with the key {signer}"},
		"SignerIsOwner":     {invalid, "the signing key {signer} is the owner's, which must stay cold"},
		"WrongKind":         {conflict, "node {nodeId} is of kind {have}, the call needs kind {want}"},
		"NodeNotActive":     {conflict, "node {nodeId} is not active, its status is {status}"},
		"StakeTooLow":       {exhausted, "node {nodeId} holds less stake than its kind needs"},
		"JobsRunning":       {conflict, "node {nodeId} still runs {jobs} jobs"},
		"NoPayoutScheduled": {conflict, "node {nodeId} has no change of its payout address scheduled"},
		"RequirementHeld":   {exhausted, "the node holds {have} and must keep {need}"},
		"NotUnlocked":       {waiting, "the stake can be withdrawn at {at}"},

		// PaymentManager.
		"InArrears":      {exhausted, "the payer has been in arrears since {since}"},
		"HasDebt":        {exhausted, "{payer} owes {debt} wei to payee {payee}"},
		"TokenDisabled":  {conflict, "token {token} is not listed or takes no new jobs"},
		"FeeOnTransfer":  {conflict, "the token delivered {got} wei instead of {want}"},
		"BadSplit":       {invalid, "the parts do not make 10,000, or one is above its bound"},
		"RateOverflow":   {invalid, "the rate {rateQ32} is too high"},
		"NoDebt":         {conflict, "{payer} owes nothing to payee {payee}"},
		"NoPayout":       {conflict, "payee {payee} has no payout address"},
		"UnknownClass":   {invalid, "there is no class {class} of revenue"},
		"NothingToClaim": {conflict, "there is nothing to claim"},

		// AlephToken and its libraries.
		"OnlyGateway":                {denied, "{caller} is not the gateway"},
		"ERC20InsufficientAllowance": {exhausted, "the allowance is {allowance} wei, {needed} wei are needed"},
		"ERC20InsufficientBalance":   {exhausted, "{sender} has {balance} wei, {needed} wei are needed"},
		"ERC20InvalidApprover":       {invalid, "{approver} cannot approve"},
		"ERC20InvalidReceiver":       {invalid, "{receiver} cannot receive"},
		"ERC20InvalidSender":         {invalid, "{sender} cannot send"},
		"ERC20InvalidSpender":        {invalid, "{spender} cannot spend"},
		"ERC2612ExpiredSignature":    {invalid, "the permit's deadline {deadline} has passed"},
		"ERC2612InvalidSigner":       {invalid, "the permit is signed by {signer}, not by {owner}"},
		"InvalidAccountNonce":        {conflict, "the permit's nonce is not {currentNonce}"},
		"ECDSAInvalidSignature":      {invalid, "a signature is none"},
		"ECDSAInvalidSignatureS":     {invalid, "a signature is not in its low form"},
		"ECDSAInvalidSignatureLength": {
			invalid, "a signature has {length} bytes",
		},
		"InvalidShortString":       {internal, "a string is no short string"},
		"StringTooLong":            {internal, "a string is too long"},
		"SafeERC20FailedOperation": {conflict, "the token {token} failed"},

		// Proxies, upgrades, roles.
		"UpgradeNotAnnounced":                        {conflict, "the upgrade to {implementation} is not announced"},
		"PeersChanged":                               {invalid, "the implementation was built for other peers"},
		"UUPSUnauthorizedCallContext":                {invalid, "the call must go through the proxy"},
		"UUPSUnsupportedProxiableUUID":               {invalid, "the implementation is of another kind"},
		"ERC1967InvalidImplementation":               {invalid, "{implementation} is no implementation"},
		"ERC1967NonPayable":                          {invalid, "the proxy takes no ether"},
		"InvalidInitialization":                      {conflict, "the contract is set up already"},
		"NotInitializing":                            {invalid, "the contract is not being set up"},
		"AddressEmptyCode":                           {invalid, "{target} is no contract"},
		"AddressInsufficientBalance":                 {exhausted, "{account} has too little ether"},
		"FailedCall":                                 {conflict, "a call inside failed"},
		"FailedInnerCall":                            {conflict, "a call inside failed"},
		"InsufficientBalance":                        {exhausted, "there is {balance}, {needed} is needed"},
		"ReentrancyGuardReentrantCall":               {invalid, "the call came back into the contract"},
		"SafeCastOverflowedUintDowncast":             {invalid, "{value} does not fit in {bits} bits"},
		"SafeCastOverflowedIntToUint":                {invalid, "{value} is negative"},
		"SafeCastOverflowedUintToInt":                {invalid, "{value} is too large"},
		"AccessManagedUnauthorized":                  {denied, "{caller} may not do this"},
		"AccessManagedRequiredDelay":                 {denied, "{caller} must schedule this first"},
		"AccessManagedInvalidAuthority":              {invalid, "{authority} is no authority"},
		"AccessManagerAlreadyScheduled":              {conflict, "the operation is scheduled already"},
		"AccessManagerBadConfirmation":               {invalid, "the confirmation is for another account"},
		"AccessManagerExpired":                       {conflict, "the scheduled operation has expired"},
		"AccessManagerInvalidInitialAdmin":           {invalid, "{initialAdmin} cannot be the admin"},
		"AccessManagerLockedFunction":                {denied, "the function is locked"},
		"AccessManagerLockedRole":                    {denied, "role {roleId} is locked"},
		"AccessManagerNotReady":                      {waiting, "the scheduled operation is not ready"},
		"AccessManagerNotScheduled":                  {conflict, "the operation is not scheduled"},
		"AccessManagerUnauthorizedAccount":           {denied, "{msgsender} has not the role {roleId}"},
		"AccessManagerUnauthorizedCall":              {denied, "{caller} may not call {target}"},
		"AccessManagerUnauthorizedCancel":            {denied, "{msgsender} may not cancel this"},
		"AccessManagerUnauthorizedConsume":           {denied, "{target} may not consume this"},
		"MathOverflowedMulDiv":                       {invalid, "a number is too large"},
		"Create3EmptyBytecode":                       {invalid, "there is no code to deploy"},
		"ERC1967InvalidAdmin":                        {invalid, "{admin} cannot be the admin"},
		"ERC1967InvalidBeacon":                       {invalid, "{beacon} is no beacon"},
		"AccessManagerUnauthorizedScheduleOperation": {denied, "{caller} may not schedule this"},
	}
}

// NewRevert returns a refusal that a contract expresses in another way than by
// reverting.
func NewRevert(kind errs.Kind, text string) *Revert { return &Revert{Kind: kind, text: text} }
