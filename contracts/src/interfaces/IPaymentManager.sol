// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IPaymentManager
/// @notice Streams of tokens from payers to nodes, pulled from the payers' allowance. No deposit is needed: a payer has at
/// most one prepay window in here, plus what is reserved for jobs that have not started.
/// @dev Rates are token wei per second scaled by 2^32. Payee ids: 1 to 2^32-1 are nodes for what they compute, 3*2^32 plus
/// the node id is the same node for what it stores, 2^32 plus a sequence number is an image; the pools are in Payees.
/// Flow controllers are the JobManager (nodes and images), the StorageRegistry (storage) and the ImageMarketplace (images).
interface IPaymentManager {
    /// @notice A payer's account in one token. `revokedAt` is zero unless the payer has revoked all and what ran is being
    /// closed; `window` is how many seconds a full prepay window lasts; `source` is 0 for the allowance of the wallet, 1 for
    /// Permit2, 2 for what was deposited.
    struct AccountView {
        uint128 rateQ32;
        uint40 paidUntil;
        uint40 arrearsSince;
        uint24 flows;
        uint24 debts;
        uint128 refund;
        uint128 reserved;
        uint40 revokedAt;
        uint32 window;
        uint8 source;
    }

    /// @notice What one payer pays one payee in one token. `pendingQ32` was earned before
    /// `since`, in wei scaled by 2^32; `claimable` is the wei that a claim now would give.
    struct PairView {
        uint128 rateQ32;
        uint40 since;
        uint128 pendingQ32;
        uint256 claimable;
        uint256 debt;
    }

    /// @notice A token that can be paid in.
    /// @param minWindowAmount What is worth a dollar; a window costs about that at least, see {setTokenTerms}.
    /// @param bountyCap The most that one pull of an account that is nearly dry earns.
    struct TokenView {
        address erc20;
        uint8 decimals;
        bool enabled;
        uint40 listedAt;
        bool swapIn;
        bool swapOut;
        uint80 minWindowAmount;
        uint88 bountyCap;
    }

    /// @notice How revenue is shared, in 1/10,000; the parts make 10,000.
    struct Split {
        uint16 nodeBps;
        uint16 coordinatorBps;
        uint16 stakerBps;
        uint16 developmentBps;
    }

    /// @notice A rate changed. All values are the new ones.
    event FlowChanged(
        address indexed payer,
        uint64 indexed payee,
        uint8 indexed token,
        uint128 pairRateQ32,
        uint40 pairSince,
        uint128 pairPendingQ32,
        uint128 accountRateQ32,
        uint40 paidUntil
    );

    /// @notice `amount` was reserved for a flow that has not started; `fromRefund` of it came from the refund.
    event Reserved(
        address indexed payer,
        uint64 indexed payee,
        uint8 indexed token,
        uint256 amount,
        uint256 fromRefund,
        uint128 reserved,
        uint128 refund
    );

    /// @notice A reserve was given back as a refund.
    event Released(
        address indexed payer,
        uint64 indexed payee,
        uint8 indexed token,
        uint256 amount,
        uint128 reserved,
        uint128 refund
    );

    /// @notice A reserve became prepaid time of a flow that starts now.
    event Activated(address indexed payer, uint64 indexed payee, uint8 indexed token, uint256 amount, uint128 reserved);

    /// @notice Prepaid time was bought with `amount` of the wallet and `fromRefund` of the refund. `short`: the account
    /// holds less than a whole window still.
    event Pulled(
        address indexed payer,
        uint8 indexed token,
        uint256 amount,
        uint256 fromRefund,
        uint128 refund,
        uint40 paidUntil,
        bool short
    );

    /// @notice The account's prepaid time ran out at `since`.
    event ArrearsStarted(address indexed payer, uint8 indexed token, uint40 since);

    /// @notice The account is no longer in arrears.
    event ArrearsCleared(address indexed payer, uint8 indexed token);

    /// @notice Prepaid money went to the refund, which is `refund` now.
    event Refunded(address indexed payer, uint8 indexed token, uint256 amount, uint128 refund);

    /// @notice The whole refund was paid to the payer.
    event RefundPaid(address indexed payer, uint8 indexed token, uint256 amount);

    /// @notice A flow ended in arrears: its unpaid time is the payer's debt to the payee, `debt` now.
    event DebtRecorded(address indexed payer, uint64 indexed payee, uint8 indexed token, uint256 amount, uint256 debt);

    /// @notice `by` paid the payer's whole debt to the payee.
    event DebtPaid(address indexed payer, uint64 indexed payee, uint8 indexed token, uint256 amount, address by);

    /// @notice A payer paid `amount` at once, `fromRefund` of it from the refund; {RevenueSplit} follows.
    event Charged(
        address indexed payer,
        uint64 indexed payee,
        uint8 indexed token,
        uint256 amount,
        uint256 fromRefund,
        uint128 refund,
        bytes32 ref
    );

    /// @notice `amount` went from a payee's credit to a payer's refund; both are given as they are now.
    event Compensated(
        address indexed payer,
        uint64 indexed payee,
        uint8 indexed token,
        uint256 amount,
        uint128 credit,
        uint128 refund,
        bytes32 ref
    );

    /// @notice What a payer owed a payee until `since` was taken; {RevenueSplit} follows for the sum.
    event Claimed(address indexed payer, uint64 indexed payee, uint8 indexed token, uint256 gross, uint40 since);

    /// @notice `gross` was credited: the parts to the payee and to the pools. `credit` is the payee's new credit.
    event RevenueSplit(
        uint64 indexed payee,
        uint8 indexed token,
        uint8 class,
        uint256 gross,
        uint256 node,
        uint256 coordinator,
        uint256 staker,
        uint256 development,
        uint128 credit
    );

    /// @notice A payee was paid; `credit` is left.
    event Withdrawn(uint64 indexed payee, uint8 indexed token, address to, uint256 amount, uint128 credit);

    /// @notice A payer ended everything at `revokedAt`. What was paid ahead is in the refund; what is unpaid until then becomes a
    /// debt of each flow when it is closed.
    event FlowsRevoked(address indexed payer, uint8 indexed token, uint40 revokedAt, uint40 paidUntil, uint128 refund);

    /// @notice All that the payer had revoked is closed; new obligations are possible.
    event RevocationEnded(address indexed payer, uint8 indexed token);

    /// @notice The payer deposited `amount`; `refund` is what the payer has in here now.
    event Deposited(address indexed payer, uint8 indexed token, uint256 amount, uint128 refund);

    /// @notice The payer took `amount` back; `refund` is left.
    event DepositWithdrawn(address indexed payer, uint8 indexed token, uint256 amount, uint128 refund);

    /// @notice The payer pays from there: 0 the allowance of the wallet, 1 Permit2, 2 what was deposited.
    event SourceSet(address indexed payer, uint8 indexed token, uint8 source);

    /// @notice A controller has taken so much of an account with a limit on `day` (since 1970).
    event LimitUsed(address indexed payer, uint8 indexed token, address indexed controller, uint24 day, uint88 spent);

    /// @notice The payer allows a controller that much; a `validUntil` of zero means that there is no limit.
    event LimitSet(
        address indexed payer,
        uint8 indexed token,
        address indexed controller,
        uint128 maxRateQ32,
        uint40 validUntil,
        uint88 dailyCap
    );

    /// @notice `by` pays for the payer until then, at most at this rate.
    event SponsorSet(address indexed payer, uint8 indexed token, address indexed by, uint128 maxRateQ32, uint40 until);

    /// @notice A sponsor paid `amount`, which the next {Pulled} contains.
    event SponsorPaid(address indexed by, address indexed payer, uint8 indexed token, uint256 amount);

    /// @notice Who pulled an account that was nearly dry earned `amount`, which is in its refund; `credit` is what
    /// development has left.
    event BountyPaid(address indexed by, uint8 indexed token, uint256 amount, uint128 refund, uint128 credit);

    /// @notice The payer lets anyone swap `payToken` for `settleToken` when the account needs it; zero: no more.
    event AutoSwapSet(address indexed payer, uint8 indexed payToken, uint8 indexed settleToken, uint16 maxSlipBps);

    /// @notice `amountIn` was swapped for `amountOut`, for a payer or a payee's payout address. `quote` is what it should
    /// cost by the mean price; zero when the payee named the price.
    event Swapped(
        address indexed by,
        uint8 indexed tokenIn,
        uint8 indexed tokenOut,
        uint256 amountIn,
        uint256 amountOut,
        uint256 quote
    );

    /// @notice Tokens are swapped so from now on.
    event RouteSet(
        uint8 indexed tokenIn,
        uint8 indexed tokenOut,
        bytes path,
        uint16 slipBps,
        uint32 twapSec,
        uint16 minCardinality,
        uint128 maxPerSwap
    );

    /// @notice The terms of a token.
    event TokenTermsSet(uint8 indexed token, bool swapIn, bool swapOut, uint80 minWindowAmount, uint88 bountyCap);

    /// @notice A token was listed.
    event TokenListed(uint8 indexed token, address indexed erc20, uint8 decimals);

    /// @notice New obligations in this token are possible, or not.
    event TokenEnabled(uint8 indexed token, bool enabled);

    /// @notice Revenue of a class is shared so from now on.
    event SplitSet(uint8 indexed class, uint16 nodeBps, uint16 coordinatorBps, uint16 stakerBps, uint16 developmentBps);

    /// @notice The prepay window is this many seconds.
    event PrepaySet(uint32 duration);

    /// @notice In arrears a node may pause after `soft` seconds and anyone may close after `hard` seconds.
    event GraceSet(uint32 soft, uint32 hard);

    /// @notice A pool is paid to this address.
    event PoolPayoutSet(uint64 indexed payee, address payout);

    /// @dev The payer has been in arrears since then; no new obligations.
    error InArrears(uint40 since);

    /// @dev The payer owes this payee from a flow that ended in arrears; no new flow between the two until paid.
    error HasDebt(address payer, uint64 payee, uint256 debt);

    /// @dev The token is not listed or takes no new obligations.
    error TokenDisabled(uint8 token);

    /// @dev The first token that is listed is the ALEPH token.
    error NotAleph(address erc20);

    /// @dev The token does not pay this account.
    error TransferRefused(address to, uint256 amount);

    /// @dev The token delivered less than it said.
    error FeeOnTransfer(uint256 got, uint256 want);

    /// @dev The parts do not make 10,000, or one of them is above its bound.
    error BadSplit();

    /// @dev The rate of a pair is above 2^96 - 1, or that of an account above 2^112 - 1.
    error RateOverflow(uint256 rateQ32);

    /// @dev The payee has no debt to be paid.
    error NoDebt(address payer, uint64 payee);

    /// @dev Nobody can withdraw for this payee: it is no node and no pool with a payout address.
    error NoPayout(uint64 payee);

    /// @dev The payer has revoked all flows; nothing new before they are closed.
    error Revoked(uint40 since);

    /// @dev The payer has nothing that could be revoked, or has revoked it.
    error NothingToRevoke();

    /// @dev The payer allows this controller no more: a rate, or an amount a day.
    error LimitExceeded(uint256 value, uint256 limit);

    /// @dev The payer has not allowed this swap.
    error NoAutoSwap(address payer, uint8 payToken, uint8 settleToken);

    /// @dev There is no way to swap these, or one of them may not be swapped.
    error NoRoute(uint8 tokenIn, uint8 tokenOut);

    /// @dev The sequencer is down, or was until recently; swaps are possible from this time on.
    error SequencerGrace(uint256 until);

    /// @dev This controller does not pay such a payee.
    error WrongPayee(uint64 payee);

    /// @dev The class of revenue is unknown.
    error UnknownClass(uint8 class);

    /// @notice Takes one prepay window at a rate from the payer and keeps it for a flow that has not started. The refund
    /// is used before the allowance. Only a flow controller.
    /// @return reservedMinutes The window in minutes; {activate} and {release} are called with it.
    function reserve(address payer, uint8 token, uint64 payee, uint128 rateQ32)
        external
        returns (uint16 reservedMinutes);

    /// @notice Gives a reserve back to the payer's refund. Only a flow controller.
    function release(address payer, uint8 token, uint64 payee, uint128 rateQ32, uint16 reservedMinutes) external;

    /// @notice Starts the flow a reserve was made for. Only a flow controller.
    /// @return ok False when the payer is in arrears: then the reserve was released and nothing flows.
    function activate(address payer, uint8 token, uint64 payee, uint128 rateQ32, uint16 reservedMinutes)
        external
        returns (bool ok);

    /// @notice Changes the rate between a payer and a payee by `deltaQ32`. An increase must be prepaid in full and
    /// reverts otherwise; a decrease always succeeds. Only a flow controller.
    function setFlow(address payer, uint8 token, uint64 payee, int256 deltaQ32) external;

    /// @notice Decreases a rate when the payer has been in arrears for longer than the hard grace, after a last attempt to
    /// pull. Only a flow controller.
    /// @return closed Whether the rate was decreased.
    function closeOverdue(address payer, uint8 token, uint64 payee, uint128 rateQ32) external returns (bool closed);

    /// @notice Takes a single payment, from the refund first, and credits it to the payee and the pools at once. Reverts
    /// unless the whole amount is there. Only a flow controller.
    /// @param ref What it is for; the contract only repeats it.
    function chargeOnce(address payer, uint8 token, uint64 payee, uint128 amount, bytes32 ref) external;

    /// @notice Moves at most `most` of a payee's credit to a payer's refund, or less when there is less. Only the
    /// SLAManager and the StorageRegistry.
    /// @return paid What was moved; 0 for a payer of zero.
    function compensate(uint64 payee, uint8 token, address payer, uint128 most, bytes32 ref)
        external
        returns (uint128 paid);

    /// @notice Pays an image's credit to its recipients. A recipient that the token refuses gets a refund instead. Only
    /// the ImageMarketplace.
    function payOut(uint64 payee, uint8 token, address[] calldata to, uint128[] calldata amounts) external;

    /// @notice Fills the payer's prepay window from the refund, then from the allowance, as far as both go. Anyone may
    /// call; a token that fails counts as an empty allowance.
    /// @return pulled What came from the allowance.
    /// @return paidUntil Until when all flows of the account are paid now.
    function pull(address payer, uint8 token) external returns (uint256 pulled, uint40 paidUntil);

    /// @notice {pull} for many payers.
    /// @return okBitmap Bit i is set when payer i has a full window now.
    function pullMany(address[] calldata payers, uint8 token) external returns (uint256 okBitmap);

    /// @notice Credits a payee and the pools with what these payers have paid for so far. Anyone may call.
    /// @return gross The sum, before the split.
    function claim(uint64 payee, uint8 token, address[] calldata payers) external returns (uint256 gross);

    /// @notice Pays a credit to the payee's payout address. Only the payout address or the node's signer.
    function withdraw(uint64 payee, uint8 token, uint128 amount) external;

    /// @notice Pays a payer's whole refund to the payer. Anyone may call, unless the payer pays from what was deposited.
    /// @return amount What was paid.
    function withdrawRefund(address payer, uint8 token) external returns (uint256 amount);

    /// @notice Pays the whole debt of a payer to a payee, from the caller's allowance. Anyone may call.
    /// @return amount What was paid.
    function payDebt(address payer, uint8 token, uint64 payee) external returns (uint256 amount);

    /// @notice Gives an ERC-2612 allowance to this contract. A permit that fails, for instance because somebody sent it
    /// already, is ignored when the allowance suffices.
    function permit(address owner, uint8 token, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Lists a token. It must move exactly what it is told to.
    /// @return token Its number; number 1 is the ALEPH token.
    function listToken(address erc20) external returns (uint8 token);

    /// @notice Ends new obligations in a token. Running flows and payouts go on.
    function delistToken(uint8 token) external;

    /// @notice Allows new obligations in a listed token again.
    function relistToken(uint8 token) external;

    /// @notice Sets how revenue of compute (0) or storage (1) is shared; each part at most 8,000. All that images (2) earn
    /// is theirs.
    function setSplit(uint8 class, uint16 nodeBps, uint16 coordinatorBps, uint16 stakerBps, uint16 developmentBps)
        external;

    /// @notice Sets the prepay window: 300 to 86,400 seconds, whole minutes. An account gets it when its rate is next raised.
    function setPrepay(uint32 duration) external;

    /// @notice Sets the graces: soft at most 72 hours, hard 1 hour to 168 hours and not less than soft.
    function setGrace(uint32 soft, uint32 hard) external;

    /// @notice Sets where a pool is paid.
    function setPoolPayout(uint64 payee, address payout) external;

    /// @notice A payer's account.
    function account(address payer, uint8 token) external view returns (AccountView memory);

    /// @notice What a payer pays a payee.
    function pair(address payer, uint8 token, uint64 payee) external view returns (PairView memory);

    /// @notice What a payee can withdraw.
    function creditOf(uint64 payee, uint8 token) external view returns (uint128);

    /// @notice Where a payee is paid; zero when nowhere.
    function payoutOf(uint64 payee) external view returns (address);

    /// @notice A listed token.
    function tokenOf(uint8 token) external view returns (TokenView memory);

    /// @notice The highest number of a listed token.
    function lastToken() external view returns (uint8);

    /// @notice How revenue of a class is shared.
    function splitOf(uint8 class) external view returns (Split memory);

    /// @notice The prepay window and the graces, in seconds.
    function params() external view returns (uint32 prepay, uint32 soft, uint32 hard);
}
