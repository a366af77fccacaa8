// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Wiring} from "./Wiring.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Payees} from "./libraries/Payees.sol";
import {Q32} from "./libraries/Q32.sol";
import {TokenCalls} from "./libraries/TokenCalls.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title PaymentBase
/// @notice What the two halves of the PaymentManager share: its storage, and how an account is settled.
/// @dev R is the rate of an account, P its paidUntil, W the prepay window. The prepaid money of an account is R*(P-now);
/// whatever does not make whole seconds of R goes to the refund, so that no wei is lost when rates change.
abstract contract PaymentBase is Wiring, ReentrancyGuardTransient {
    using SafeCast for uint256;

    /* TYPES */

    /// @dev What flows from an account, one slot, which is all that settling most accounts needs. `since` is when arrears
    /// began; with REVOKED, when the payer revoked. `window` is W in minutes, fixed when the rate was last raised.
    struct Flow {
        uint104 rateQ32;
        uint40 paidUntil;
        uint40 since;
        uint24 flows;
        uint24 debts;
        uint16 window;
        uint8 flags;
    }

    /// @dev What is kept for an account, one slot, read only with PURSE. `used` keeps the slot from becoming zero, which
    /// makes every later write four times cheaper.
    struct Purse {
        uint120 refund;
        uint120 reserved;
        bool used;
    }

    struct Account {
        Flow flow;
        Purse purse;
    }

    /// @dev What flows from a payer to a payee, one slot. `pendingQ32` was earned before `since` and is not claimed; it
    /// is scaled, so that claiming often loses nothing. 2^88 wei can be pending.
    struct Pair {
        uint96 rateQ32;
        uint40 since;
        uint120 pendingQ32;
    }

    /// @dev One slot. `minWindowAmount` is what is worth a dollar, 0 when nobody says.
    struct Token {
        address erc20;
        uint8 decimals;
        uint8 flags;
        uint80 minWindowAmount;
    }

    /// @dev What is rarely asked of a token.
    struct TokenTerms {
        uint40 listedAt;
        uint88 bountyCap;
    }

    /// @dev What a payer allows one controller, one slot.
    struct Limit {
        uint104 maxRateQ32;
        uint40 validUntil;
        uint88 dailyCap;
    }

    /// @dev What a controller took on `day` of what the limit counts.
    struct Spending {
        uint24 day;
        uint88 amount;
    }

    /// @dev Whose wallet pays before the payer's; it has paid for the time until `from`.
    struct Sponsor {
        address by;
        uint40 until;
        uint40 from;
        uint104 maxRateQ32;
    }

    /// @dev How one token is swapped for another. `level` is how much may be swapped since `filledAt`.
    struct Route {
        uint16 slipBps;
        uint32 twapSec;
        uint16 minCardinality;
        uint128 maxPerSwap;
        uint40 filledAt;
        uint128 level;
        bytes path;
    }

    /// @dev Whose money a call moves and in which token, with the account unpacked. Whole words, so that nothing is masked
    /// on the way; `dirty` says that the purse has to be written.
    struct Context {
        address payer;
        uint8 token;
        bool dirty;
        uint256 slot;
        uint256 now_;
        uint256 rateQ32;
        uint256 paidUntil;
        uint256 since;
        uint256 flows;
        uint256 debts;
        uint256 window;
        uint256 flags;
        uint256 refund;
        uint256 reserved;
    }

    /// @dev A pair unpacked, with where it is.
    struct Earning {
        uint256 slot;
        uint256 rateQ32;
        uint256 since;
        uint256 pendingQ32;
    }

    /// @custom:storage-location erc7201:aleph.storage.PaymentManager.v1
    struct PaymentManagerStorage {
        uint8 lastToken;
        mapping(uint8 token => Token) tokens;
        mapping(uint8 token => TokenTerms) terms;
        mapping(uint8 class => IPaymentManager.Split) splits;
        mapping(uint8 token => mapping(address payer => Account)) accounts;
        mapping(uint8 token => mapping(uint64 payee => mapping(address payer => Pair))) pairs;
        mapping(address payer => mapping(uint8 token => mapping(uint64 payee => uint256))) debts;
        mapping(uint64 payee => mapping(uint8 token => uint128)) credits;
        mapping(uint64 payee => address) poolPayouts;
        mapping(address erc20 => uint8) tokenIds;
        mapping(address payer => mapping(uint8 token => mapping(address controller => Limit))) limits;
        mapping(address payer => mapping(uint8 token => mapping(address controller => Spending))) spendings;
        mapping(address payer => mapping(uint8 token => Sponsor)) sponsors;
        mapping(uint8 tokenIn => mapping(uint8 tokenOut => Route)) routes;
        mapping(address payer => mapping(uint8 payToken => mapping(uint8 settleToken => uint16))) autoSwaps;
    }

    /* CONSTANTS */

    /// @dev Flags of an account: there is something in the purse (or was until the payer took it)...
    uint8 internal constant PURSE = 1;

    /// @dev ... the payer has ended everything and what ran is being closed...
    uint8 internal constant REVOKED = 2;

    /// @dev ... somebody else's wallet pays first...
    uint8 internal constant SPONSORED = 4;

    /// @dev ... a controller has a limit...
    uint8 internal constant LIMITED = 8;

    /// @dev ... the wallet is asked through Permit2, or not at all.
    uint8 internal constant PERMIT2 = 16;
    uint8 internal constant DEPOSIT = 32;

    /// @dev Flags of a token: it takes new obligations, may be sold and may be bought. BOUNTY is set while there is one.
    uint8 internal constant ENABLED = 1;
    uint8 internal constant SWAP_IN = 2;
    uint8 internal constant SWAP_OUT = 4;
    uint8 internal constant BOUNTY = 8;

    /// @dev The highest rate of an account and of a pair: 16 million and 66,000 whole tokens of 18 decimals per hour.
    uint256 internal constant MAX_RATE = type(uint104).max;
    uint256 internal constant MAX_PAIR_RATE = type(uint96).max;

    /// @dev The largest batch, so that one always fits into a block and into a bitmap.
    uint256 internal constant MAX_BATCH = 200;

    uint16 internal constant BPS = 10_000;

    /// @dev The number of the ALEPH token.
    uint8 internal constant ALEPH = 1;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.PaymentManager.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xcaeb06e6c10a6e782173a1b69686639d30e8f971eec267570983cebf43cd8500;

    /* INTERNAL: SETTLEMENT */

    function _clearArrears(Context memory c) internal {
        if (c.since == 0) return;
        c.since = 0;
        emit IPaymentManager.ArrearsCleared(c.payer, c.token);
    }

    /// @dev What a pair has earned and not been paid, until `until` or since a time after it; scaled.
    function _earned(uint256 rateQ32, uint256 since, uint256 pendingQ32, uint256 until)
        internal
        pure
        returns (uint256)
    {
        unchecked {
            return until > since ? pendingQ32 + rateQ32 * (until - since) : pendingQ32;
        }
    }

    /// @dev What is prepaid and not used up, scaled.
    function _prepaid(Context memory c) internal pure returns (uint256) {
        uint256 until = c.paidUntil;
        unchecked {
            return until <= c.now_ ? 0 : c.rateQ32 * (until - c.now_);
        }
    }

    /// @dev Whether time has passed that is not paid for.
    function _late(Context memory c) internal pure returns (bool) {
        return c.rateQ32 != 0 && c.paidUntil < c.now_;
    }

    /// @dev Until when a full window pays.
    function _target(Context memory c) internal pure returns (uint256) {
        unchecked {
            return c.now_ + c.window * 60;
        }
    }

    /* INTERNAL: PAYEES */

    /// @dev Splits `gross` over the payee and the pools; development gets what rounding leaves.
    function _credit(uint64 payee, uint8 token, uint256 gross) internal {
        uint8 class = Payees.classOf(payee);
        IPaymentManager.Split memory s = _splitOf(class);
        unchecked {
            // The sum of at most 200 pairs, each below 2^88 wei, or what a debt or a charge is: the products fit.
            uint256 node = gross * s.nodeBps / BPS;
            uint256 coordinator = gross * s.coordinatorBps / BPS;
            uint256 staker = gross * s.stakerBps / BPS;
            uint256 development = gross - node - coordinator - staker;
            uint128 credit = _addCredit(payee, token, node);
            _addCredit(Payees.COORDINATORS, token, coordinator);
            _addCredit(Payees.STAKERS, token, staker);
            _addCredit(Payees.DEVELOPMENT, token, development);
            emit IPaymentManager.RevenueSplit(
                payee, token, class, gross, node, coordinator, staker, development, credit
            );
        }
    }

    function _addCredit(uint64 payee, uint8 token, uint256 amount) private returns (uint128 credit) {
        mapping(uint8 => uint128) storage credits = _storage().credits[payee];
        credit = (uint256(credits[token]) + amount).toUint128();
        if (amount != 0) credits[token] = credit;
    }

    /// @dev Takes `amount` of a payee's credit, for the payee's payout address or the node's signer.
    function _debit(uint64 payee, uint8 token, uint128 amount) internal returns (address to, uint128 credit) {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        to = _payoutOf(payee);
        if (to == address(0)) revert IPaymentManager.NoPayout(payee);
        if (msg.sender != to && (!Payees.isNode(payee) || msg.sender != INodeRegistry(NODES).signerOf(uint32(payee)))) {
            revert AlephErrors.NotAuthorized(msg.sender);
        }
        PaymentManagerStorage storage $ = _storage();
        credit = $.credits[payee][token];
        if (credit < amount) revert AlephErrors.Insufficient(credit, amount);
        unchecked {
            credit -= amount;
        }
        $.credits[payee][token] = credit;
        emit IPaymentManager.Withdrawn(payee, token, to, amount, credit);
    }

    function _payoutOf(uint64 payee) internal view returns (address) {
        if (!Payees.isNode(payee)) return _storage().poolPayouts[payee];
        return INodeRegistry(NODES).payoutOf(uint32(payee));
    }

    function _splitOf(uint8 class) internal view returns (IPaymentManager.Split memory) {
        // An image's own recipients share its revenue in the ImageMarketplace.
        if (class == Payees.IMAGE) return IPaymentManager.Split(BPS, 0, 0, 0);
        return _storage().splits[class];
    }

    /* INTERNAL: MONEY */

    function _setRefund(Context memory c, uint256 refund) internal pure {
        c.refund = refund.toUint120();
        c.dirty = true;
    }

    /// @dev Adds to the refund of an account that is not in memory.
    function _give(address payer, uint8 token, uint256 amount) internal returns (uint120 refund) {
        Account storage a = _storage().accounts[token][payer];
        refund = (a.purse.refund + amount).toUint120();
        (a.purse.refund, a.purse.used) = (refund, true);
        a.flow.flags |= PURSE;
    }

    function _refund(Context memory c, uint256 amount) internal {
        if (amount == 0) return;
        _setRefund(c, c.refund + amount);
        emit IPaymentManager.Refunded(c.payer, c.token, amount, uint128(c.refund));
    }

    /// @dev Pays `amount`, or reverts.
    function _send(uint8 token, address to, uint256 amount) internal {
        if (!TokenCalls.trySend(_erc20(token), to, amount)) {
            revert IPaymentManager.TransferRefused(to, amount);
        }
    }

    /// @dev Tries to take `amount` from a wallet; what came of it. The ALEPH token needs no watching.
    function _tryTake(uint8 token, address owner, uint256 amount, uint256 flags) internal returns (uint256) {
        return _tryMove(token, owner, address(this), amount, flags & PERMIT2 != 0);
    }

    /// @dev Through Permit2 nothing is taken at its word: on a chain without it a call there succeeds and moves nothing.
    function _tryMove(uint8 token, address owner, address to, uint256 amount, bool permit2) internal returns (uint256) {
        return TokenCalls.tryMove(_erc20(token), owner, to, amount, permit2, token == ALEPH && !permit2);
    }

    /// @dev Takes exactly `amount` from a wallet, or reverts. `flags` are those of the wallet's account.
    function _take(uint8 token, address owner, uint256 amount, uint256 flags) internal {
        if (amount == 0) return;
        if (flags & DEPOSIT != 0) revert AlephErrors.Insufficient(0, amount);
        uint256 got = _tryTake(token, owner, amount, flags);
        if (got == amount) return;
        uint256 have = TokenCalls.available(_erc20(token), owner, flags & PERMIT2 != 0);
        if (got == 0 && have < amount) revert AlephErrors.Insufficient(have, amount);
        revert IPaymentManager.FeeOnTransfer(got, amount);
    }

    /* INTERNAL: STATE */

    function _load(address payer, uint8 token) internal view returns (Context memory c) {
        (c.token, c.now_) = (token, block.timestamp);
        _fill(c, payer, _storage().accounts[token][payer]);
    }

    /// @dev Unpacks a payer's account into a context that has its token and the time.
    function _fill(Context memory c, address payer, Account storage a) internal view {
        uint256 slot;
        uint256 word;
        assembly ("memory-safe") {
            slot := a.slot
            word := sload(slot)
        }
        (c.payer, c.slot, c.dirty) = (payer, slot, false);
        (c.rateQ32, c.paidUntil, c.since) = (uint104(word), uint40(word >> 104), uint40(word >> 144));
        (c.flows, c.debts) = (uint24(word >> 184), uint24(word >> 208));
        (c.window, c.flags) = (uint16(word >> 232), word >> 248);
        (c.refund, c.reserved) = word >> 248 & PURSE == 0 ? (0, 0) : (a.purse.refund, a.purse.reserved);
    }

    function _save(Context memory c) internal {
        uint256 slot = c.slot;
        if (c.dirty) {
            Account storage a;
            assembly ("memory-safe") {
                a.slot := slot
            }
            a.purse = Purse(uint120(c.refund), uint120(c.reserved), true);
        }
        uint256 flags = c.refund | c.reserved == 0 ? c.flags & ~uint256(PURSE) : c.flags | PURSE;
        uint256 word = c.rateQ32 | c.paidUntil << 104 | c.since << 144 | c.flows << 184 | c.debts << 208 | c.window
            << 232 | flags << 248;
        assembly ("memory-safe") {
            sstore(slot, word)
        }
    }

    /// @dev The first token is the ALEPH token, whose address is part of the code: no read tells it.
    function _erc20(uint8 token) internal view returns (address) {
        return token == ALEPH ? TOKEN : _storage().tokens[token].erc20;
    }

    function _loadPair(address payer, uint8 token, uint64 payee) internal view returns (Earning memory e) {
        Pair storage p = _storage().pairs[token][payee][payer];
        uint256 slot;
        uint256 word;
        assembly ("memory-safe") {
            slot := p.slot
            word := sload(slot)
        }
        (e.slot, e.rateQ32, e.since, e.pendingQ32) = (slot, uint96(word), uint40(word >> 96), word >> 136);
    }

    /// @dev When all that ran before a revocation is closed, the payer may start anew.
    function _endRevocation(Context memory c) internal {
        if (c.flags & REVOKED == 0 || c.flows != 0 || c.reserved != 0) return;
        c.flags &= ~uint256(REVOKED);
        c.since = 0;
        emit IPaymentManager.RevocationEnded(c.payer, c.token);
    }

    function _setParams(uint32 prepay, uint32 soft, uint32 hard) internal {
        _base().params = uint96(prepay) | uint96(soft) << 32 | uint96(hard) << 64;
    }

    function _params() internal view returns (uint32 prepay, uint32 soft, uint32 hard) {
        uint96 packed = _base().params;
        return (uint32(packed), uint32(packed >> 32), uint32(packed >> 64));
    }

    function _setSplit(uint8 class, IPaymentManager.Split memory s) internal {
        _storage().splits[class] = s;
        emit IPaymentManager.SplitSet(class, s.nodeBps, s.coordinatorBps, s.stakerBps, s.developmentBps);
    }

    function _checkBatch(uint256 length) internal pure {
        if (length == 0 || length > MAX_BATCH) revert AlephErrors.OutOfBounds(length, 1, MAX_BATCH);
    }

    function _storage() internal pure returns (PaymentManagerStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
