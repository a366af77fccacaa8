package chain

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/aleph-onchain/aleph-onchain/internal/chain/bindings"
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
	known, err := bindings.DecodeRevert(data)
	switch {
	case err == nil && known.Name == "Error":
		r.text = "the contract refused: " + fmt.Sprint(known.Args...)
	case err == nil:
		r.Name = known.Name
		r.Kind, r.text = explain(known)
	case len(data) == 0:
		r.text = "the contract refused without a reason"
	default:
		r.text = fmt.Sprintf("the contract refused with %s", hexutil.Encode(data[:min(len(data), dataMax)]))
	}
	return r
}

// NewRevert returns a refusal that a contract expresses in another way than by
// reverting.
func NewRevert(kind errs.Kind, text string) *Revert { return &Revert{Kind: kind, text: text} }

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

// explain returns the kind of an error and a sentence about it that ends with
// the error as the contract knows it.
func explain(r *bindings.Revert) (errs.Kind, string) {
	m, ok := meanings()[r.Name]
	if !ok {
		return errs.Conflict, "the contract refused: " + r.String()
	}
	var pairs []string
	for i, arg := range r.Args {
		pairs = append(pairs, fmt.Sprintf("{%d}", i), show(arg))
	}
	return m.kind, fmt.Sprintf("%s (%s)", strings.NewReplacer(pairs...).Replace(m.text), r.Name)
}

func show(arg any) string {
	switch arg := arg.(type) {
	case [32]byte:
		return hexutil.Encode(arg[:])
	case common.Address:
		return arg.Hex()
	}
	return fmt.Sprint(arg)
}

// meaning is what an error of a contract means for who sent the transaction.
type meaning struct {
	kind errs.Kind
	text string // {0} stands for the first value of the error, and so on.
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
		"NotAuthorized": {denied, "{0} may not do this"},
		"Paused":        {waiting, "the guardian has paused this kind of call"},
		"Expired":       {invalid, "the signature's deadline {0} has passed"},
		"BadSignature":  {invalid, "signature {0} is not by the account it must be by"},
		"BadState":      {conflict, "the record is in state {0}, the call needs {1}"},
		"OutOfBounds":   {invalid, "{0} is outside {1} to {2}"},
		"TooSoon":       {waiting, "this is possible from {0} on"},
		"TooLate":       {invalid, "this was possible until {0}"},
		"Duplicate":     {conflict, "there is one with the key {0} already"},
		"Insufficient":  {exhausted, "there are {0} wei, {1} wei are needed"},

		// JobManager.
		"OfferExpired":       {invalid, "the offer's or assignment's deadline {0} has passed"},
		"RateTooHigh":        {invalid, "the rate {0} is above the payer's ceiling {1}"},
		"SpecMismatch":       {invalid, "the offer is for {0}, the assignment for {1}"},
		"WrongNode":          {invalid, "the assignment is to node {0}, the payer wants node {1}"},
		"WrongAttempt":       {invalid, "the assignment is attempt {0}, this is attempt {1}"},
		"QuorumLow":          {conflict, "{0} coordinators signed, {1} must"},
		"CoordinatorOrder":   {invalid, "coordinator {1} comes after coordinator {0}"},
		"CoordinatorMissing": {invalid, "coordinator {0} proposed the assignment but did not sign it"},
		"SignaturesLength":   {invalid, "{0} bytes of signatures are not a whole number of them"},
		"NonceUsed":          {invalid, "the payer has used or invalidated the nonce {0}"},
		"AlreadyTerminal":    {invalid, "the job has ended"},

		// NodeRegistry and StakingManager.
		"UnknownNode":       {notFound, "there is no node {0}"},
		"PeerIdTaken":       {conflict, "a live node has this peer id"},
		"SignerTaken":       {conflict, "a live node signs with the key {0}"},
		"SignerIsOwner":     {invalid, "the signing key {0} is the owner's, which must stay cold"},
		"WrongKind":         {conflict, "{0} is of a kind that this call is not for"},
		"NodeNotActive":     {conflict, "node {0} is not active, its status is {1}"},
		"StakeTooLow":       {exhausted, "node {0} holds less stake than its kind needs"},
		"JobsRunning":       {conflict, "node {0} still runs {1} jobs"},
		"NoPayoutScheduled": {conflict, "node {0} has no change of its payout address scheduled"},
		"NoCoordinators":    {conflict, "there is no coordinator"},
		"CoordinatorsFull":  {exhausted, "there are {0} coordinators, which is all there can be"},
		"SnapshotStale":     {conflict, "the coordinators were last counted on day {0}, which is too long ago"},
		"FrozenUntil":       {waiting, "the stake is held until {0} while a case is open"},
		"RequirementHeld":   {exhausted, "the node holds {0} and must keep {1}"},
		"NotUnlocked":       {waiting, "the stake can be withdrawn at {0}"},

		// PaymentManager.
		"InArrears":     {exhausted, "the payer has been in arrears since {0}"},
		"HasDebt":       {exhausted, "{0} owes {2} wei to payee {1}"},
		"TokenDisabled": {conflict, "token {0} is not listed or takes no new jobs"},
		"FeeOnTransfer": {conflict, "the token delivered {0} wei instead of {1}"},
		"BadSplit":      {invalid, "the parts do not make 10,000, or one is above its bound"},
		"RateOverflow":  {invalid, "the rate {0} is too high"},
		"NoDebt":        {conflict, "{0} owes nothing to payee {1}"},
		"NoPayout":      {conflict, "payee {0} has no payout address"},
		"UnknownClass":  {invalid, "there is no class {0} of revenue"},

		"AlreadyLinked":    {conflict, "node {0} is linked to coordinator {1}"},
		"NotLinked":        {conflict, "node {0} is not linked to coordinator {1}"},
		"LinkLimit":        {exhausted, "coordinator {0} has as many links as there may be"},
		"NodeIsLocked":     {conflict, "the owner of node {0} allows no links"},
		"NodeAvailable":    {conflict, "node {0} can still run the job"},
		"CommitmentsHeld":  {conflict, "node {0} still holds {1} commitments to store"},
		"EpochOrder":       {invalid, "epoch {1} comes after epoch {0}"},
		"EpochPosted":      {conflict, "the heartbeats of epoch {0} are posted"},
		"EpochWindow":      {invalid, "epoch {0} is not one that can be posted now"},
		"HeartbeatsNeeded": {conflict, "node {0} must show that it is alive, see reactivate"},
		"NotAlive":         {invalid, "the node was not alive in epoch {0}"},
		"NotMissed":        {invalid, "the node did not miss epoch {0}"},
		"SameHeartbeat":    {invalid, "both heartbeats of epoch {0} say the same"},
		"WrongHeartbeat":   {invalid, "these are not the heartbeats that were posted for epoch {0}"},
		"WrongEpoch":       {invalid, "the statistics are of epoch {0}, the newest are of {1}"},
		"LowWeight":        {conflict, "coordinators with a weight of {0} signed, {1} is needed"},
		"WrongFee":         {invalid, "{0} wei were sent, the fee is {1} wei"},
		"PaymentFailed":    {conflict, "{0} does not take ether"},
		"BadProof":         {invalid, "a proof is wrong"},

		// StakingManager, besides the above.
		"BelowMinimum":                 {invalid, "{0} is below the least, {1}"},
		"PoolCap":                      {exhausted, "no more than {0} can be delegated here"},
		"PoolSpent":                    {conflict, "the pool of node {0} takes nothing until it is empty"},
		"Slippage":                     {conflict, "this gives {0}, at least {1} was asked for"},
		"StaleGeneration":              {conflict, "the position is of generation {1}, the pool is at {0}"},
		"TrancheFull":                  {conflict, "part {0} has ended: withdraw it first"},
		"VotesExpiredSignature":        {invalid, "the signature's deadline {0} has passed"},
		"ERC5805FutureLookup":          {invalid, "{0} is not in the past"},
		"ERC6372InconsistentClock":     {internal, "the clock is not the time of blocks"},
		"CheckpointUnorderedInsertion": {internal, "votes are noted out of order"},
		"SafeCastOverflowedUintToInt":  {invalid, "{0} is too large"},

		// JobManager, besides the above.
		"NoChallenge":     {notFound, "nobody challenged this assignment with node {2}"},
		"NoNodeHint":      {invalid, "the offer names no node"},
		"NoOpening":       {invalid, "only openings can be in this batch"},
		"NoSeed":          {waiting, "day {0} has no randomness yet"},
		"NotBetter":       {invalid, "node {0} would not have won"},
		"NotOptedIn":      {conflict, "node {0} has not agreed to the service level {1}"},
		"NoticeNeeded":    {conflict, "the node must give a notice of {0} seconds"},
		"OfferMismatch":   {invalid, "this is not the offer of job {0}"},
		"WrongAssignment": {invalid, "this is not the assignment of job {0}"},
		"WrongDuty":       {conflict, "coordinator {0} has not the duty, coordinator {1} comes first"},
		"WrongNeeds":      {invalid, "what the job needs hashes to {0}, the offer says {1}"},

		// PaymentManager and swaps, besides the above.
		"BadPath":         {invalid, "a path of {0} bytes is none"},
		"LimitExceeded":   {exhausted, "{0} is above the payer's limit {1}"},
		"LowLiquidity":    {waiting, "the pool {0} has a liquidity of {1}, {2} is needed"},
		"NoAutoSwap":      {denied, "{0} has not agreed to pay token {2} with token {1}"},
		"NoPool":          {notFound, "there is no pool of {0} and {1} with fee {2}"},
		"NoRoute":         {notFound, "there is no route from token {0} to token {1}"},
		"NotAleph":        {invalid, "{0} is not the ALEPH token"},
		"NothingToRevoke": {conflict, "the account has no flow"},
		"PriceDeviation":  {waiting, "the price {0} is too far from its mean {1}"},
		"Revoked":         {conflict, "the payer ended all flows at {0}"},
		"RouteStale":      {waiting, "the pool {0} keeps {1} prices, {2} are needed"},
		"SwapBound":       {conflict, "{0} is beyond the bound {1} of a swap"},
		"TransferRefused": {conflict, "the token does not move {1} wei to {0}"},
		"WrongPayee":      {invalid, "{0} is no payee of this caller"},
		"WrongToken":      {invalid, "the token is {0}, it must be {1}"},

		// StorageRegistry and its beacon.
		"AboveCapacity": {exhausted, "{0} leaves are above the node's capacity of {1}"},
		"AlreadyMissed": {conflict, "{0} is reported as missed on day {1}"},
		"AlreadyProven": {conflict, "{0} is proven for day {1}"},
		"Attested":      {conflict, "coordinators attest node {0} for day {1}"},
		"BadLength":     {invalid, "the proofs have {0} bytes, {1} are needed"},
		"BeaconInvalid": {invalid, "the signature is not drand's of round {0}"},
		"BeaconMissing": {waiting, "day {0} has no randomness"},
		"BeforeGenesis": {invalid, "{0} is before drand's first round"},
		"DayClosed":     {invalid, "day {0} is closed"},
		"NoBundle":      {notFound, "node {0} has no bundle"},
		"NotDue":        {invalid, "nothing is due of {0} on day {1}"},
		"NotEnlisted":   {conflict, "the registry does not know the key of node {0}: call enlist"},
		"WrongBitmap":   {invalid, "this is not the bitmap of day {0}"},
		"WrongTarget":   {invalid, "this does not answer the challenge {0}"},
		"WrongTerms":    {invalid, "these are not the terms of {0}"},
		"ZeroRoot":      {invalid, "a root is zero"},

		// DomainRegistry.
		"BadFqdn":            {invalid, "the name is none from its byte {0} on"},
		"BadTarget":          {invalid, "a name cannot point there"},
		"DisputeOpen":        {conflict, "the name is disputed"},
		"KeyRevoked":         {denied, "the key {0} is revoked"},
		"NoCert":             {notFound, "no certificate is pinned"},
		"NoDispute":          {notFound, "the name is not disputed"},
		"NotRequested":       {notFound, "{1} has not asked for this name"},
		"NotVerified":        {conflict, "the name is not verified"},
		"StaleAttestation":   {invalid, "it was seen at {0}, it must be after {1}"},
		"Taken":              {conflict, "the name is {1}'s"},
		"TooFewPerspectives": {conflict, "{0} coordinators of {1} regions signed, which is too few"},
		"TooLittleWeight":    {conflict, "coordinators with {0} of {1} of the weight signed, which is too little"},

		// SLAManager.
		"CapReached":     {exhausted, "node {0} can lose no more now"},
		"NoCredit":       {notFound, "{0} has no credit"},
		"NoOutage":       {notFound, "round {0} tells of no outage"},
		"SequencerGrace": {waiting, "the sequencer was away; this is possible from {0} on"},
		"VetoWindow":     {waiting, "this can be vetoed until {0}"},
		"WrongState":     {conflict, "the case is in state {0}"},

		// ImageMarketplace.
		"BadTerms":       {invalid, "the price does not fit the model {0}"},
		"BondLocked":     {waiting, "the bond is held until {0}"},
		"ImageNotUsable": {conflict, "image {0} cannot be used, its status is {1}"},
		"NoUsdUnit":      {conflict, "token {0} has no worth in dollars here"},
		"NotPaid":        {conflict, "too little was paid for job {0}"},
		"NotPayer":       {denied, "{1} does not pay job {0}"},
		"RoyaltyTooHigh": {invalid, "a royalty of {0} of 10,000 is too high"},
		"SelfRating":     {denied, "{0} earns from the image"},
		"StoreFailed":    {internal, "the data could not be kept"},
		"TooDeep":        {invalid, "image {0} is derived too often"},
		"TooEarly":       {waiting, "the job ran for {0} seconds, {1} are needed"},
		"UnknownImage":   {notFound, "there is no image {0}"},
		"WrongImage":     {invalid, "the job uses image {0}, not {1}"},

		// AlephGovernor and the timelock.
		"GovernorAlreadyCastVote":                        {conflict, "{0} has voted"},
		"GovernorAlreadyQueuedProposal":                  {conflict, "the proposal is queued"},
		"GovernorDisabledDeposit":                        {invalid, "the governor takes nothing"},
		"GovernorInsufficientProposerVotes":              {exhausted, "{0} has {1} votes, {2} are needed"},
		"GovernorInvalidProposalLength":                  {invalid, "the proposal has {0} targets, {1} calls and {2} values"},
		"GovernorInvalidQuorumFraction":                  {invalid, "the quorum is no fraction"},
		"GovernorInvalidSignature":                       {invalid, "the signature is not {0}'s"},
		"GovernorInvalidVoteParams":                      {invalid, "the vote's parameters are none"},
		"GovernorInvalidVoteType":                        {invalid, "there is no such vote"},
		"GovernorInvalidVotingPeriod":                    {invalid, "{0} seconds are no voting period"},
		"GovernorNonexistentProposal":                    {notFound, "there is no such proposal"},
		"GovernorOnlyExecutor":                           {denied, "only a passed proposal may do this"},
		"GovernorPreventLateQuorumVoteExtensionTooLarge": {invalid, "an extension of {0} seconds is above {1}"},
		"GovernorProposalQueueingFailed":                 {conflict, "the proposal could not be queued"},
		"GovernorProposalQueueingNotRequired":            {conflict, "the proposal needs no queue"},
		"GovernorRestrictedProposer":                     {denied, "{0} may not make this proposal"},
		"GovernorUnableToCancel":                         {denied, "{1} may not cancel the proposal"},
		"GovernorUnexpectedProposalState":                {conflict, "the proposal is in state {1}"},
		"AccessControlBadConfirmation":                   {conflict, "the confirmation is for another account"},
		"AccessControlUnauthorizedAccount":               {denied, "{0} has not the role {1}"},
		"TimelockInsufficientDelay":                      {invalid, "a delay of {0} seconds is below {1}"},
		"TimelockInvalidOperationLength":                 {invalid, "the operation has {0} targets, {1} calls and {2} values"},
		"TimelockUnauthorizedCaller":                     {denied, "{0} may not do this"},
		"TimelockUnexecutedPredecessor":                  {conflict, "an operation before is not carried out"},
		"TimelockUnexpectedOperationState":               {conflict, "the operation is not ready"},

		// AlephToken and its libraries.
		"OnlyGateway":                 {denied, "{0} is not the gateway"},
		"ERC20InsufficientAllowance":  {exhausted, "the allowance is {1} wei, {2} wei are needed"},
		"ERC20InsufficientBalance":    {exhausted, "{0} has {1} wei, {2} wei are needed"},
		"ERC20InvalidApprover":        {invalid, "{0} cannot approve"},
		"ERC20InvalidReceiver":        {invalid, "{0} cannot receive"},
		"ERC20InvalidSender":          {invalid, "{0} cannot send"},
		"ERC20InvalidSpender":         {invalid, "{0} cannot spend"},
		"ERC2612ExpiredSignature":     {invalid, "the permit's deadline {0} has passed"},
		"ERC2612InvalidSigner":        {invalid, "the permit is signed by {0}, not by {1}"},
		"InvalidAccountNonce":         {conflict, "the permit's nonce is not {1}"},
		"ECDSAInvalidSignature":       {invalid, "a signature is none"},
		"ECDSAInvalidSignatureS":      {invalid, "a signature is not in its low form"},
		"ECDSAInvalidSignatureLength": {invalid, "a signature has {0} bytes"},
		"InvalidShortString":          {internal, "a string is no short string"},
		"StringTooLong":               {internal, "a string is too long"},
		"SafeERC20FailedOperation":    {conflict, "the token {0} failed"},

		// Proxies, upgrades, roles.
		"UpgradeNotAnnounced":              {conflict, "the upgrade to {0} is not announced"},
		"PeersChanged":                     {invalid, "the implementation was built for other peers"},
		"UUPSUnauthorizedCallContext":      {invalid, "the call must go through the proxy"},
		"UUPSUnsupportedProxiableUUID":     {invalid, "the implementation is of another kind"},
		"ERC1967InvalidImplementation":     {invalid, "{0} is no implementation"},
		"ERC1967NonPayable":                {invalid, "the proxy takes no ether"},
		"InvalidInitialization":            {conflict, "the contract is set up already"},
		"NotInitializing":                  {invalid, "the contract is not being set up"},
		"AddressEmptyCode":                 {invalid, "{0} is no contract"},
		"FailedCall":                       {conflict, "a call inside failed"},
		"InsufficientBalance":              {exhausted, "there is {0}, {1} is needed"},
		"ReentrancyGuardReentrantCall":     {invalid, "the call came back into the contract"},
		"SafeCastOverflowedUintDowncast":   {invalid, "{1} does not fit in {0} bits"},
		"AccessManagerAlreadyScheduled":    {conflict, "the operation is scheduled already"},
		"AccessManagerBadConfirmation":     {invalid, "the confirmation is for another account"},
		"AccessManagerExpired":             {conflict, "the scheduled operation has expired"},
		"AccessManagerInvalidInitialAdmin": {invalid, "{0} cannot be the admin"},
		"AccessManagerLockedFunction":      {denied, "the function is locked"},
		"AccessManagerLockedRole":          {denied, "role {0} is locked"},
		"AccessManagerNotReady":            {waiting, "the scheduled operation is not ready"},
		"AccessManagerNotScheduled":        {conflict, "the operation is not scheduled"},
		"AccessManagerUnauthorizedAccount": {denied, "{0} has not the role {1}"},
		"AccessManagerUnauthorizedCall":    {denied, "{0} may not call {1}"},
		"AccessManagerUnauthorizedCancel":  {denied, "{0} may not cancel this"},
		"AccessManagerUnauthorizedConsume": {denied, "{0} may not consume this"},
		"ERC1967ProxyUninitialized":        {invalid, "the proxy is not set up"},
		"Create2EmptyBytecode":             {invalid, "there is no code to deploy"},
		"Create3EmptyBytecode":             {invalid, "there is no code to deploy"},
		"FailedDeployment":                 {conflict, "the contract could not be made"},
		"NotADevelopmentChain":             {invalid, "chain {0} is no local network"},
	}
}
