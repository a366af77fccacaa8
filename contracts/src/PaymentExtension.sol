// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PaymentBase} from "./PaymentBase.sol";
import {Peers} from "./Peers.sol";
import {Wiring} from "./Wiring.sol";
import {IPaymentExtension} from "./interfaces/IPaymentExtension.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {IPermit2} from "./interfaces/IPermit2.sol";
import {ISequencerFeed} from "./interfaces/ISequencerFeed.sol";
import {IUniswapAdapter} from "./interfaces/IUniswapAdapter.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Payees} from "./libraries/Payees.sol";
import {Q32} from "./libraries/Q32.sol";
import {TokenCalls} from "./libraries/TokenCalls.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title PaymentExtension
/// @notice The half of the PaymentManager that does what is done rarely. It has no money and no state of its own: the
/// PaymentManager calls it with its own storage, so that both halves together may be larger than one contract can be. What
/// it does for functions of the PaymentManager is said in {IPaymentManager}.
contract PaymentExtension is IPaymentExtension, PaymentBase {
    using SafeCast for uint256;

    /* TYPES */

    /// @dev What a swap should cost, what it may cost, and how much the route lets through.
    struct Deal {
        bytes path;
        uint256 quote;
        uint256 most;
        uint256 level;
    }

    /* CONSTANTS */

    /// @dev No part of the revenue may be above this.
    uint16 private constant _MAX_PART = 8_000;

    uint32 private constant _PREPAY_MIN = 5 minutes;
    uint32 private constant _PREPAY_MAX = 24 hours;
    uint32 private constant _SOFT_MAX = 72 hours;
    uint32 private constant _HARD_MIN = 1 hours;
    uint32 private constant _HARD_MAX = 168 hours;

    uint16 private constant _SLIP_MAX = 300;
    uint32 private constant _TWAP_MIN = 5 minutes;
    uint32 private constant _TWAP_MAX = 2 hours;

    /// @dev A path of 1 to 3 hops: a token, and 23 bytes more for each hop.
    uint256 private constant _HOP = 23;
    uint256 private constant _PATH_MIN = 20 + _HOP;
    uint256 private constant _PATH_MAX = 20 + 3 * _HOP;

    /// @dev In which time what may be swapped is there again, and how long no price counts after the sequencer was down.
    uint256 private constant _REFILL = 1 hours;
    uint256 private constant _SEQUENCER_GRACE = 1 hours;

    /* SETUP */

    constructor(Peers memory p) Wiring(p) {}

    /* PAYERS */

    function withdrawRefund(address payer, uint8 token)
        external
        nonReentrant
        unpaused(Pausing.EXIT)
        returns (uint256 amount)
    {
        Account storage a = _storage().accounts[token][payer];
        if (a.flow.flags & DEPOSIT != 0 && msg.sender != payer) revert AlephErrors.NotAuthorized(msg.sender);
        amount = a.purse.refund;
        if (amount == 0) revert AlephErrors.ZeroAmount();
        a.purse.refund = 0;
        emit IPaymentManager.RefundPaid(payer, token, amount);
        _send(token, payer, amount);
    }

    function payDebt(address payer, uint8 token, uint64 payee) external nonReentrant returns (uint256 amount) {
        PaymentManagerStorage storage $ = _storage();
        amount = $.debts[payer][token][payee];
        if (amount == 0) revert IPaymentManager.NoDebt(payer, payee);
        delete $.debts[payer][token][payee];
        --$.accounts[token][payer].flow.debts;
        emit IPaymentManager.DebtPaid(payer, payee, token, amount, msg.sender);
        _credit(payee, token, amount);
        _takeFromCaller(token, amount);
    }

    /// @inheritdoc IPaymentExtension
    function revokeAll(uint8 token) external {
        // A last attempt before what is unpaid counts as unpaid.
        if (_late(_load(msg.sender, token))) IPaymentManager(address(this)).pull(msg.sender, token);
        _revokeAll(token);
    }

    function _revokeAll(uint8 token) private nonReentrant {
        Context memory c = _load(msg.sender, token);
        if (c.flags & REVOKED != 0 || (c.flows == 0 && c.reserved == 0)) {
            revert IPaymentManager.NothingToRevoke();
        }
        // What is unpaid until now stays unpaid; else nothing is owed and nothing more is paid.
        if (!_late(c)) {
            _refund(c, _prepaid(c) >> 32);
            c.paidUntil = c.now_;
        }
        _clearArrears(c);
        (c.rateQ32, c.since, c.flags) = (0, c.now_, c.flags | REVOKED);
        _save(c);
        emit IPaymentManager.FlowsRevoked(msg.sender, token, uint40(c.now_), uint40(c.paidUntil), uint128(c.refund));
    }

    /// @inheritdoc IPaymentExtension
    function deposit(uint8 token, uint128 amount) external nonReentrant unpaused(Pausing.ENTRY) {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        if (_storage().tokens[token].flags & ENABLED == 0) revert IPaymentManager.TokenDisabled(token);
        emit IPaymentManager.Deposited(msg.sender, token, amount, _give(msg.sender, token, amount));
        _takeFromCaller(token, amount);
    }

    /// @inheritdoc IPaymentExtension
    function withdrawDeposit(uint8 token, uint128 amount) external nonReentrant unpaused(Pausing.EXIT) {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        Purse storage purse = _storage().accounts[token][msg.sender].purse;
        uint120 refund = purse.refund;
        if (refund < amount) revert AlephErrors.Insufficient(refund, amount);
        refund -= uint120(amount);
        purse.refund = refund;
        emit IPaymentManager.DepositWithdrawn(msg.sender, token, amount, refund);
        _send(token, msg.sender, amount);
    }

    /// @inheritdoc IPaymentExtension
    function setSource(uint8 token, uint8 source) external nonReentrant {
        if (source > 2) revert AlephErrors.OutOfBounds(source, 0, 2);
        Flow storage f = _storage().accounts[token][msg.sender].flow;
        // PERMIT2 and DEPOSIT are neighbouring bits.
        f.flags = (f.flags & ~(PERMIT2 | DEPOSIT)) | (source * PERMIT2);
        emit IPaymentManager.SourceSet(msg.sender, token, source);
    }

    /// @inheritdoc IPaymentExtension
    function setLimits(uint8 token, address controller, uint128 maxRateQ32, uint40 validUntil, uint88 dailyCap)
        external
        nonReentrant
    {
        if (controller != JOBS && controller != STORAGES && controller != IMAGES) {
            revert AlephErrors.NotAuthorized(controller);
        }
        PaymentManagerStorage storage $ = _storage();
        $.limits[msg.sender][token][controller] = Limit(uint104(Math.min(maxRateQ32, MAX_RATE)), validUntil, dailyCap);
        $.accounts[token][msg.sender].flow.flags |= LIMITED;
        emit IPaymentManager.LimitSet(msg.sender, token, controller, maxRateQ32, validUntil, dailyCap);
    }

    /// @inheritdoc IPaymentExtension
    function sponsor(address payer, uint8 token, uint128 maxRateQ32, uint40 until) external nonReentrant {
        PaymentManagerStorage storage $ = _storage();
        Sponsor storage s = $.sponsors[payer][token];
        if (msg.sender != s.by && msg.sender != payer && block.timestamp <= s.until) {
            revert AlephErrors.NotAuthorized(msg.sender);
        }
        (s.by, s.until, s.from) = (msg.sender, until, uint40(block.timestamp));
        s.maxRateQ32 = uint104(Math.min(maxRateQ32, MAX_RATE));
        Flow storage f = $.accounts[token][payer].flow;
        // A payer as its own sponsor pays nothing, and keeps others from it.
        f.flags = msg.sender == payer ? f.flags & ~SPONSORED : f.flags | SPONSORED;
        emit IPaymentManager.SponsorSet(payer, token, msg.sender, maxRateQ32, until);
    }

    /* PEERS */

    function compensate(uint64 payee, uint8 token, address payer, uint128 most, bytes32 ref)
        external
        nonReentrant
        returns (uint128 paid)
    {
        if (msg.sender != SLA) _onlyPeer(STORAGES);
        Payees.classOf(payee);
        PaymentManagerStorage storage $ = _storage();
        uint128 credit = $.credits[payee][token];
        paid = credit < most ? credit : most;
        if (paid == 0 || payer == address(0)) return 0;
        credit -= paid;
        $.credits[payee][token] = credit;
        emit IPaymentManager.Compensated(payer, payee, token, paid, credit, _give(payer, token, paid), ref);
    }

    function payOut(uint64 payee, uint8 token, address[] calldata to, uint128[] calldata amounts)
        external
        nonReentrant
        unpaused(Pausing.EXIT)
    {
        _onlyPeer(IMAGES);
        if (Payees.classOf(payee) != Payees.IMAGE) {
            revert AlephErrors.OutOfBounds(payee, Payees.IMAGES + 1, Payees.LAST_IMAGE);
        }
        _checkBatch(to.length);
        if (to.length != amounts.length) revert AlephErrors.OutOfBounds(amounts.length, to.length, to.length);
        PaymentManagerStorage storage $ = _storage();
        uint128 credit = $.credits[payee][token];
        uint256 sum;
        for (uint256 i; i < to.length; ++i) {
            if (to[i] == address(0)) revert AlephErrors.ZeroAddress();
            sum += amounts[i];
        }
        if (credit < sum) revert AlephErrors.Insufficient(credit, sum);
        $.credits[payee][token] = credit - uint128(sum);
        for (uint256 i; i < to.length; ++i) {
            credit -= amounts[i];
            emit IPaymentManager.Withdrawn(payee, token, to[i], amounts[i], credit);
            // One recipient that the token refuses does not keep the others from theirs.
            if (!TokenCalls.trySend(_erc20(token), to[i], amounts[i])) {
                emit IPaymentManager.Refunded(to[i], token, amounts[i], _give(to[i], token, amounts[i]));
            }
        }
    }

    /* SWAPS */

    /// @inheritdoc IPaymentExtension
    function setAutoSwap(uint8 payToken, uint8 settleToken, uint16 maxSlipBps) external nonReentrant {
        if (maxSlipBps > _SLIP_MAX) revert AlephErrors.OutOfBounds(maxSlipBps, 0, _SLIP_MAX);
        _storage().autoSwaps[msg.sender][payToken][settleToken] = maxSlipBps;
        emit IPaymentManager.AutoSwapSet(msg.sender, payToken, settleToken, maxSlipBps);
    }

    /// @inheritdoc IPaymentExtension
    function pullSwap(address payer, uint8 payToken, uint8 settleToken)
        external
        unpaused(Pausing.SWAP)
        returns (uint256 amountIn, uint256 amountOut)
    {
        // What the payer has of the token itself comes first.
        IPaymentManager(address(this)).pull(payer, settleToken);
        return _pullSwap(payer, payToken, settleToken);
    }

    function _pullSwap(address payer, uint8 payToken, uint8 settleToken)
        private
        nonReentrant
        returns (uint256 amountIn, uint256 amountOut)
    {
        Context memory c = _load(payer, settleToken);
        uint256 target = _target(c);
        if (c.rateQ32 == 0 || c.paidUntil >= target) revert AlephErrors.ZeroAmount();
        uint256 need = Q32.ceilWei(c.rateQ32, target - c.paidUntil);
        // The pull left less than what a second costs.
        uint256 fromRefund = Math.min(c.refund, need);
        amountOut = need - fromRefund;
        amountIn = settleToken == ALEPH
            ? _buyFor(payer, payToken, settleToken, amountOut)
            : _buyWatched(payer, payToken, settleToken, amountOut);
        _setRefund(c, c.refund - fromRefund);
        c.paidUntil = target;
        emit IPaymentManager.Pulled(payer, settleToken, amountOut, fromRefund, uint128(c.refund), uint40(target), false);
        _clearArrears(c);
        _save(c);
    }

    /// @inheritdoc IPaymentExtension
    function withdrawSwapped(uint64 payee, uint8 tokenIn, uint8 tokenOut, uint128 amountIn, uint128 minOut)
        external
        nonReentrant
        unpaused(Pausing.SWAP)
        returns (uint256 amountOut)
    {
        _checkUnpaused(Pausing.EXIT);
        if (minOut == 0) revert AlephErrors.ZeroAmount();
        bytes memory path = _route(tokenIn, tokenOut).path;
        (address to,) = _debit(payee, tokenIn, amountIn);
        _send(tokenIn, SWAPS, amountIn);
        amountOut = IUniswapAdapter(SWAPS).sell(path, amountIn, minOut, to);
        emit IPaymentManager.Swapped(to, tokenIn, tokenOut, amountIn, amountOut, 0);
    }

    /* PERMITS */

    function permit(address owner, uint8 token, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
    {
        address erc20 = _listed(token);
        // Somebody may have sent the permit already; then the allowance is there.
        try IERC20Permit(erc20).permit(owner, address(this), value, deadline, v, r, s) {}
        catch {
            uint256 have = IERC20(erc20).allowance(owner, address(this));
            if (have < value) revert AlephErrors.Insufficient(have, value);
        }
    }

    /// @inheritdoc IPaymentExtension
    function permit2(
        address owner,
        uint8 token,
        uint160 amount,
        uint48 expiration,
        uint48 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external nonReentrant {
        address erc20 = _listed(token);
        IPermit2.PermitSingle memory single = IPermit2.PermitSingle({
            details: IPermit2.PermitDetails(erc20, amount, expiration, nonce),
            spender: address(this),
            sigDeadline: deadline
        });
        try IPermit2(TokenCalls.PERMIT2).permit(owner, single, signature) {}
        catch {
            (uint160 have, uint48 until,) = IPermit2(TokenCalls.PERMIT2).allowance(owner, erc20, address(this));
            if (have < amount) revert AlephErrors.Insufficient(have, amount);
            if (until < expiration) revert AlephErrors.Insufficient(until, expiration);
        }
    }

    /// @inheritdoc IPaymentExtension
    function multicall(bytes[] calldata calls) external returns (bytes[] memory results) {
        _checkBatch(calls.length);
        results = new bytes[](calls.length);
        for (uint256 i; i < calls.length; ++i) {
            bool ok;
            (ok, results[i]) = address(this).delegatecall(calls[i]);
            if (ok) continue;
            bytes memory err = results[i];
            assembly ("memory-safe") {
                revert(add(err, 0x20), mload(err))
            }
        }
    }

    /* PARAMETERS */

    function listToken(address erc20) external restricted returns (uint8 token) {
        if (erc20 == address(0)) revert AlephErrors.ZeroAddress();
        PaymentManagerStorage storage $ = _storage();
        if ($.tokenIds[erc20] != 0) revert AlephErrors.Duplicate(bytes32(uint256(uint160(erc20))));
        uint8 decimals = IERC20Metadata(erc20).decimals();
        token = ++$.lastToken;
        if (token == 1 && erc20 != TOKEN) revert IPaymentManager.NotAleph(erc20);
        $.tokenIds[erc20] = token;
        $.tokens[token] = Token(erc20, decimals, ENABLED, 0);
        $.terms[token].listedAt = uint40(block.timestamp);
        emit IPaymentManager.TokenListed(token, erc20, decimals);
        emit IPaymentManager.TokenEnabled(token, true);
    }

    function delistToken(uint8 token) external restricted {
        _setEnabled(token, false);
    }

    function relistToken(uint8 token) external restricted {
        _setEnabled(token, true);
    }

    /// @inheritdoc IPaymentExtension
    function setTokenTerms(uint8 token, uint8 swaps, uint80 minWindowAmount, uint88 bountyCap) external restricted {
        _listed(token);
        uint8 all = SWAP_IN | SWAP_OUT;
        if (swaps & ~all != 0) revert AlephErrors.OutOfBounds(swaps, 0, all);
        PaymentManagerStorage storage $ = _storage();
        Token storage t = $.tokens[token];
        t.flags = (t.flags & ENABLED) | swaps | (bountyCap == 0 ? 0 : BOUNTY);
        t.minWindowAmount = minWindowAmount;
        $.terms[token].bountyCap = bountyCap;
        emit IPaymentManager.TokenTermsSet(
            token, swaps & SWAP_IN != 0, swaps & SWAP_OUT != 0, minWindowAmount, bountyCap
        );
    }

    /// @inheritdoc IPaymentExtension
    function setRoute(
        uint8 tokenIn,
        uint8 tokenOut,
        bytes calldata path,
        uint16 slipBps,
        uint32 twapSec,
        uint16 minCardinality,
        uint128 maxPerSwap
    ) external restricted {
        _checkPath(tokenIn, tokenOut, path);
        if (slipBps > _SLIP_MAX) revert AlephErrors.OutOfBounds(slipBps, 0, _SLIP_MAX);
        if (twapSec < _TWAP_MIN || twapSec > _TWAP_MAX) {
            revert AlephErrors.OutOfBounds(twapSec, _TWAP_MIN, _TWAP_MAX);
        }
        _storage().routes[tokenIn][tokenOut] = Route({
            slipBps: slipBps,
            twapSec: twapSec,
            minCardinality: minCardinality,
            maxPerSwap: maxPerSwap,
            filledAt: uint40(block.timestamp),
            level: maxPerSwap,
            path: path
        });
        emit IPaymentManager.RouteSet(tokenIn, tokenOut, path, slipBps, twapSec, minCardinality, maxPerSwap);
    }

    function setSplit(uint8 class, uint16 nodeBps, uint16 coordinatorBps, uint16 stakerBps, uint16 developmentBps)
        external
        restricted
    {
        if (class != Payees.COMPUTE && class != Payees.STORAGE) revert IPaymentManager.UnknownClass(class);
        uint256 sum = uint256(nodeBps) + coordinatorBps + stakerBps + developmentBps;
        uint256 most = Math.max(Math.max(nodeBps, coordinatorBps), Math.max(stakerBps, developmentBps));
        if (sum != BPS || most > _MAX_PART) revert IPaymentManager.BadSplit();
        _setSplit(class, IPaymentManager.Split(nodeBps, coordinatorBps, stakerBps, developmentBps));
    }

    function setPrepay(uint32 duration) external restricted {
        if (duration < _PREPAY_MIN || duration > _PREPAY_MAX || duration % 60 != 0) {
            revert AlephErrors.OutOfBounds(duration, _PREPAY_MIN, _PREPAY_MAX);
        }
        (, uint32 soft, uint32 hard) = _params();
        _setParams(duration, soft, hard);
        emit IPaymentManager.PrepaySet(duration);
    }

    function setGrace(uint32 soft, uint32 hard) external restricted {
        if (soft > _SOFT_MAX) revert AlephErrors.OutOfBounds(soft, 0, _SOFT_MAX);
        uint32 low = soft > _HARD_MIN ? soft : _HARD_MIN;
        if (hard < low || hard > _HARD_MAX) revert AlephErrors.OutOfBounds(hard, low, _HARD_MAX);
        (uint32 prepay,,) = _params();
        _setParams(prepay, soft, hard);
        emit IPaymentManager.GraceSet(soft, hard);
    }

    function setPoolPayout(uint64 payee, address payout) external restricted {
        if (payee < Payees.TREASURY || payee > Payees.DEVELOPMENT) {
            revert AlephErrors.OutOfBounds(payee, Payees.TREASURY, Payees.DEVELOPMENT);
        }
        if (payout == address(0)) revert AlephErrors.ZeroAddress();
        _storage().poolPayouts[payee] = payout;
        emit IPaymentManager.PoolPayoutSet(payee, payout);
    }

    /* VIEWS */

    function account(address payer, uint8 token)
        external
        view
        nonReentrantView
        returns (IPaymentManager.AccountView memory)
    {
        Account storage a = _storage().accounts[token][payer];
        Flow memory f = a.flow;
        bool revoked = f.flags & REVOKED != 0;
        return IPaymentManager.AccountView({
            rateQ32: f.rateQ32,
            paidUntil: f.paidUntil,
            arrearsSince: revoked ? 0 : f.since,
            flows: f.flows,
            debts: f.debts,
            refund: a.purse.refund,
            reserved: a.purse.reserved,
            revokedAt: revoked ? f.since : 0,
            window: uint32(f.window) * 60,
            source: (f.flags & (PERMIT2 | DEPOSIT)) / PERMIT2
        });
    }

    function pair(address payer, uint8 token, uint64 payee)
        external
        view
        nonReentrantView
        returns (IPaymentManager.PairView memory)
    {
        PaymentManagerStorage storage $ = _storage();
        Pair storage p = $.pairs[token][payee][payer];
        return IPaymentManager.PairView({
            rateQ32: p.rateQ32,
            since: p.since,
            pendingQ32: p.pendingQ32,
            claimable: _claimable(payer, token, payee),
            debt: $.debts[payer][token][payee]
        });
    }

    /// @inheritdoc IPaymentExtension
    function limitOf(address payer, uint8 token, address controller) external view returns (LimitView memory) {
        PaymentManagerStorage storage $ = _storage();
        Limit storage l = $.limits[payer][token][controller];
        Spending storage s = $.spendings[payer][token][controller];
        uint88 spent = s.day == uint24(block.timestamp / 1 days) ? s.amount : 0;
        return LimitView(l.maxRateQ32, l.validUntil, l.dailyCap, spent);
    }

    /// @inheritdoc IPaymentExtension
    function sponsorOf(address payer, uint8 token)
        external
        view
        returns (address by, uint128 maxRateQ32, uint40 until)
    {
        Sponsor storage s = _storage().sponsors[payer][token];
        return (s.by, s.maxRateQ32, s.until);
    }

    /// @inheritdoc IPaymentExtension
    function routeOf(uint8 tokenIn, uint8 tokenOut) external view returns (RouteView memory) {
        Route storage r = _storage().routes[tokenIn][tokenOut];
        return RouteView(r.path, r.slipBps, r.twapSec, r.minCardinality, r.maxPerSwap, uint128(_level(r)));
    }

    /// @inheritdoc IPaymentExtension
    function autoSwapOf(address payer, uint8 payToken, uint8 settleToken) external view returns (uint16) {
        return _storage().autoSwaps[payer][payToken][settleToken];
    }

    function tokenOf(uint8 token) external view returns (IPaymentManager.TokenView memory) {
        Token storage t = _storage().tokens[token];
        TokenTerms storage terms = _storage().terms[token];
        return IPaymentManager.TokenView({
            erc20: t.erc20,
            decimals: t.decimals,
            enabled: t.flags & ENABLED != 0,
            listedAt: terms.listedAt,
            swapIn: t.flags & SWAP_IN != 0,
            swapOut: t.flags & SWAP_OUT != 0,
            minWindowAmount: t.minWindowAmount,
            bountyCap: terms.bountyCap
        });
    }

    function lastToken() external view returns (uint8) {
        return _storage().lastToken;
    }

    /* INTERNAL */

    function _claimable(address payer, uint8 token, uint64 payee) private view returns (uint256) {
        Earning memory e = _loadPair(payer, token, payee);
        uint256 until = Math.min(_storage().accounts[token][payer].flow.paidUntil, block.timestamp);
        return _earned(e.rateQ32, e.since, e.pendingQ32, until) >> 32;
    }

    function _listed(uint8 token) private view returns (address erc20) {
        erc20 = _storage().tokens[token].erc20;
        if (erc20 == address(0)) revert IPaymentManager.TokenDisabled(token);
    }

    function _setEnabled(uint8 token, bool enabled) private {
        _listed(token);
        Token storage t = _storage().tokens[token];
        t.flags = enabled ? t.flags | ENABLED : t.flags & ~ENABLED;
        emit IPaymentManager.TokenEnabled(token, enabled);
    }

    /// @dev The caller pays with the allowance of its wallet, or through Permit2 when it has chosen that.
    function _takeFromCaller(uint8 token, uint256 amount) private {
        _take(token, msg.sender, amount, _storage().accounts[token][msg.sender].flow.flags & PERMIT2);
    }

    /// @dev The path leads from one token to the other over listed tokens.
    function _checkPath(uint8 tokenIn, uint8 tokenOut, bytes calldata path) private view {
        uint256 length = path.length;
        if (length == 0) return;
        if (length < _PATH_MIN || length > _PATH_MAX || (length - 20) % _HOP != 0) {
            revert IUniswapAdapter.BadPath(length);
        }
        PaymentManagerStorage storage $ = _storage();
        for (uint256 i; i < length; i += _HOP) {
            uint8 token = $.tokenIds[address(bytes20(path[i:i + 20]))];
            if (token == 0 || (i == 0 && token != tokenIn) || (i + 20 == length && token != tokenOut)) {
                revert IPaymentManager.NoRoute(tokenIn, tokenOut);
            }
        }
    }

    function _route(uint8 tokenIn, uint8 tokenOut) private view returns (Route storage r) {
        PaymentManagerStorage storage $ = _storage();
        r = $.routes[tokenIn][tokenOut];
        if ($.tokens[tokenIn].flags & SWAP_IN == 0 || $.tokens[tokenOut].flags & SWAP_OUT == 0 || r.path.length == 0) {
            revert IPaymentManager.NoRoute(tokenIn, tokenOut);
        }
    }

    /// @dev What may be sold now.
    function _level(Route storage r) private view returns (uint256) {
        uint256 grown = uint256(r.maxPerSwap) * (block.timestamp - r.filledAt) / _REFILL;
        return Math.min(r.maxPerSwap, r.level + grown);
    }

    /// @dev The same for a token that may deliver less than it says.
    function _buyWatched(address payer, uint8 payToken, uint8 settleToken, uint256 amountOut)
        private
        returns (uint256 amountIn)
    {
        IERC20 erc20 = IERC20(_erc20(settleToken));
        uint256 before = erc20.balanceOf(address(this));
        amountIn = _buyFor(payer, payToken, settleToken, amountOut);
        uint256 got = erc20.balanceOf(address(this)) - before;
        if (got < amountOut) revert IPaymentManager.FeeOnTransfer(got, amountOut);
    }

    /// @dev Buys exactly `amountOut` with the payer's other token, at a price near the mean price.
    function _buyFor(address payer, uint8 payToken, uint8 settleToken, uint256 amountOut)
        private
        returns (uint256 amountIn)
    {
        Route storage r = _route(payToken, settleToken);
        uint256 slip = _storage().autoSwaps[payer][payToken][settleToken];
        if (slip == 0) revert IPaymentManager.NoAutoSwap(payer, payToken, settleToken);
        Deal memory d = _deal(r, amountOut, slip);
        _moveToAdapter(payer, payToken, d.most);
        amountIn = IUniswapAdapter(SWAPS).buy(d.path, amountOut, d.most, address(this), payer);
        (r.level, r.filledAt) = (uint128(d.level - amountIn), uint40(block.timestamp));
        emit IPaymentManager.Swapped(payer, payToken, settleToken, amountIn, amountOut, d.quote);
    }

    /// @dev What the swap should cost and what it may cost, which is still to be had of the route.
    function _deal(Route storage r, uint256 amountOut, uint256 slip) private view returns (Deal memory d) {
        _checkSequencer();
        d.path = r.path;
        d.quote = IUniswapAdapter(SWAPS).quoteIn(d.path, amountOut, r.twapSec, r.minCardinality);
        d.most = d.quote + Math.ceilDiv(d.quote * Math.min(slip, r.slipBps), BPS);
        d.level = _level(r);
        if (d.most > d.level) revert IPaymentManager.LimitExceeded(d.most, d.level);
    }

    function _moveToAdapter(address payer, uint8 payToken, uint256 amount) private {
        bool viaPermit2 = _storage().accounts[payToken][payer].flow.flags & PERMIT2 != 0;
        uint256 got = _tryMove(payToken, payer, SWAPS, amount, viaPermit2);
        if (got < amount) revert AlephErrors.Insufficient(got, amount);
    }

    /// @dev After the sequencer was down nobody could trade for a while, and the mean price is an old one.
    function _checkSequencer() private view {
        if (UPTIME_FEED == address(0)) return;
        (, int256 answer, uint256 startedAt,,) = ISequencerFeed(UPTIME_FEED).latestRoundData();
        uint256 from = answer == 0 ? startedAt + _SEQUENCER_GRACE : type(uint256).max;
        if (block.timestamp < from) revert IPaymentManager.SequencerGrace(from);
    }
}
