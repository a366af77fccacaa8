// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {PaymentBase} from "./PaymentBase.sol";
import {Peers} from "./Peers.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Payees} from "./libraries/Payees.sol";
import {Q32} from "./libraries/Q32.sol";
import {TokenCalls} from "./libraries/TokenCalls.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title PaymentManager
/// @notice See {IPaymentManager}. docs/contracts/payment.md explains the arithmetic.
/// @dev The half of the contract that runs while jobs run: flows, settlement, claims. What is done rarely is in the
/// {PaymentDesk}, which every implementation creates for itself and lends its storage to.
contract PaymentManager is IPaymentManager, Base, PaymentBase {
    using SafeCast for uint256;

    /* CONSTANTS */

    uint32 private constant _PREPAY = 1 hours;
    uint32 private constant _SOFT = 1 hours;
    uint32 private constant _HARD = 24 hours;

    /// @dev The longest window of an account that pays little.
    uint256 private constant _LONG_WINDOW = 24 hours;

    /// @dev The part of a pull that its caller gets when the account was nearly dry.
    uint256 private constant _BOUNTY_BPS = 2;

    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address private immutable _DESK;

    /* SETUP */

    /// @param extension The PaymentDesk for the same peers; the code of both together is above what a contract may have.
    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p, address extension) Base(p) {
        _checkPeer(extension);
        _DESK = extension;
    }

    /// @notice Sets up a new proxy: the default window, graces and splits.
    function initialize() external initializer {
        _initBase();
        _setParams(_PREPAY, _SOFT, _HARD);
        emit PrepaySet(_PREPAY);
        emit GraceSet(_SOFT, _HARD);
        for (uint8 class = Payees.COMPUTE; class <= Payees.STORAGE; ++class) {
            bool computing = class == Payees.COMPUTE;
            _setSplit(class, Split(computing ? 6_000 : 7_500, computing ? 1_500 : 0, 2_000, 500));
        }
    }

    /// @dev Only a flow controller, and only with a payee of its own kind.
    modifier onlyController(uint64 payee) {
        _checkController(payee);
        _;
    }

    /* RESERVES */

    /// @inheritdoc IPaymentManager
    function reserve(address payer, uint8 token, uint64 payee, uint128 rateQ32)
        external
        onlyController(payee)
        nonReentrant
        unpaused(Pausing.ENTRY)
        returns (uint16 reservedMinutes)
    {
        Context memory c = _load(payer, token);
        _pullIfLate(c);
        Token memory t = _checkNew(c, payee);
        if (rateQ32 == 0) revert AlephErrors.ZeroAmount();
        if (rateQ32 > MAX_PAIR_RATE) revert RateOverflow(rateQ32);
        uint256 rate = uint256(c.flow.rateQ32) + rateQ32;
        reservedMinutes = _windowFor(t, rate);
        uint256 amount = Q32.ceilWei(rateQ32, uint256(reservedMinutes) * 60);
        _checkLimit(c, rate, amount);
        uint256 fromRefund = _useRefund(c, amount);
        c.purse.reserved = (uint256(c.purse.reserved) + amount).toUint120();
        c.dirty = true;
        _save(c);
        emit Reserved(payer, payee, token, amount, fromRefund, c.purse.reserved, c.purse.refund);
        _take(t.erc20, payer, amount - fromRefund, c.flow.flags);
    }

    /// @inheritdoc IPaymentManager
    function release(address payer, uint8 token, uint64 payee, uint128 rateQ32, uint16 reservedMinutes)
        external
        onlyController(payee)
        nonReentrant
    {
        Context memory c = _load(payer, token);
        _release(c, payee, Q32.ceilWei(rateQ32, uint256(reservedMinutes) * 60));
        _save(c);
    }

    /// @inheritdoc IPaymentManager
    function activate(address payer, uint8 token, uint64 payee, uint128 rateQ32, uint16 reservedMinutes)
        external
        onlyController(payee)
        nonReentrant
        returns (bool ok)
    {
        Context memory c = _load(payer, token);
        uint256 amount = Q32.ceilWei(rateQ32, uint256(reservedMinutes) * 60);
        _pullIfLate(c);
        ok = !_late(c) && c.flow.flags & REVOKED == 0 && _withinLimit(c, uint256(c.flow.rateQ32) + rateQ32);
        if (ok) {
            c.purse.reserved -= uint120(amount);
            c.dirty = true;
            emit Activated(payer, payee, token, amount, c.purse.reserved);
            uint256 value = _prepaid(c) + (amount << 32);
            // The reserve pays for its own window and no longer.
            if (c.flow.rateQ32 == 0 || c.flow.window > reservedMinutes) c.flow.window = reservedMinutes;
            Pair memory p = _changePair(c, payee, int256(uint256(rateQ32)));
            _spread(c, value);
            _emitFlow(c, payee, p);
        } else {
            _release(c, payee, amount);
        }
        _save(c);
    }

    /* FLOWS */

    /// @inheritdoc IPaymentManager
    function setFlow(address payer, uint8 token, uint64 payee, int256 deltaQ32)
        external
        onlyController(payee)
        nonReentrant
    {
        Context memory c = _load(payer, token);
        if (deltaQ32 > 0) _increase(c, payee, uint256(deltaQ32));
        else if (deltaQ32 < 0) _decrease(c, payee, uint256(-deltaQ32));
        else revert AlephErrors.ZeroAmount();
    }

    /// @inheritdoc IPaymentManager
    function closeOverdue(address payer, uint8 token, uint64 payee, uint128 rateQ32)
        external
        onlyController(payee)
        nonReentrant
        returns (bool closed)
    {
        Context memory c = _load(payer, token);
        _pullIfLate(c);
        closed = c.flow.flags & REVOKED != 0 || _overdue(c);
        if (closed) _decrease(c, payee, rateQ32);
        else _save(c);
    }

    /// @inheritdoc IPaymentManager
    function chargeOnce(address payer, uint8 token, uint64 payee, uint128 amount, bytes32 ref)
        external
        onlyController(payee)
        nonReentrant
        unpaused(Pausing.ENTRY)
    {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        Context memory c = _load(payer, token);
        _pullIfLate(c);
        address erc20 = _checkNew(c, payee).erc20;
        _checkLimit(c, c.flow.rateQ32, amount);
        uint256 fromRefund = _useRefund(c, amount);
        _save(c);
        emit Charged(payer, payee, token, amount, fromRefund, c.purse.refund, ref);
        _credit(payee, token, amount);
        _take(erc20, payer, amount - fromRefund, c.flow.flags);
    }

    /* SETTLEMENT */

    /// @inheritdoc IPaymentManager
    function pull(address payer, uint8 token) external nonReentrant returns (uint256 pulled, uint40 paidUntil) {
        Context memory c = _load(payer, token);
        uint256 low = _low(c);
        pulled = _pull(c);
        _save(c);
        paidUntil = c.flow.paidUntil;
        _payBounty(token, low * pulled, low);
    }

    /// @inheritdoc IPaymentManager
    function pullMany(address[] calldata payers, uint8 token) external nonReentrant returns (uint256 okBitmap) {
        _checkBatch(payers.length);
        uint256 sum;
        uint256 count;
        for (uint256 i; i < payers.length; ++i) {
            Context memory c = _load(payers[i], token);
            uint256 low = _low(c);
            sum += low * _pull(c);
            count += low;
            _save(c);
            if (c.flow.rateQ32 == 0 || c.flow.paidUntil >= _target(c)) okBitmap |= 1 << i;
        }
        _payBounty(token, sum, count);
    }

    /// @inheritdoc IPaymentManager
    function claim(uint64 payee, uint8 token, address[] calldata payers) external nonReentrant returns (uint256 gross) {
        _checkBatch(payers.length);
        PaymentManagerStorage storage $ = _storage();
        for (uint256 i; i < payers.length; ++i) {
            Pair memory p = $.pairs[payers[i]][token][payee];
            _settle(p, $.accounts[payers[i]][token].flow.paidUntil);
            uint256 amount = p.pendingQ32 >> 32;
            if (amount == 0) continue;
            p.pendingQ32 = uint32(p.pendingQ32);
            $.pairs[payers[i]][token][payee] = p;
            gross += amount;
            emit Claimed(payers[i], payee, token, amount, p.since);
        }
        if (gross != 0) _credit(payee, token, gross);
    }

    /// @inheritdoc IPaymentManager
    function withdraw(uint64 payee, uint8 token, uint128 amount) external nonReentrant unpaused(Pausing.EXIT) {
        (address to,) = _debit(payee, token, amount);
        _send(token, to, amount);
    }

    /* AT THE DESK */

    // The arguments and results have names for who reads the ABI; they go to the desk and come back as they are.
    // solhint-disable no-unused-vars

    /// @inheritdoc IPaymentManager
    function withdrawRefund(address payer, uint8 token) external returns (uint256 amount) {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function payDebt(address payer, uint8 token, uint64 payee) external returns (uint256 amount) {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function compensate(uint64 payee, uint8 token, address payer, uint128 most, bytes32 ref)
        external
        returns (uint128 paid)
    {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function payOut(uint64 payee, uint8 token, address[] calldata to, uint128[] calldata amounts) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function revokeAll(uint8 token) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function deposit(uint8 token, uint128 amount) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function withdrawDeposit(uint8 token, uint128 amount) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function setSource(uint8 token, uint8 source) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function setLimits(uint8 token, address controller, uint128 maxRateQ32, uint40 validUntil, uint88 dailyCap)
        external
    {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function sponsor(address payer, uint8 token, uint128 maxRateQ32, uint40 until) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function setAutoSwap(uint8 payToken, uint8 settleToken, uint16 maxSlipBps) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function pullSwap(address payer, uint8 payToken, uint8 settleToken)
        external
        returns (uint256 amountIn, uint256 amountOut)
    {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function withdrawSwapped(uint64 payee, uint8 tokenIn, uint8 tokenOut, uint128 amountIn, uint128 minOut)
        external
        returns (uint256 amountOut)
    {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function permit(address owner, uint8 token, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function permit2(
        address owner,
        uint8 token,
        uint160 amount,
        uint48 expiration,
        uint48 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function multicall(bytes[] calldata calls) external returns (bytes[] memory results) {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function listToken(address erc20) external returns (uint8 token) {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function delistToken(uint8 token) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function relistToken(uint8 token) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function setTokenTerms(uint8 token, uint8 swaps, uint80 minWindowAmount, uint88 bountyCap) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function setRoute(
        uint8 tokenIn,
        uint8 tokenOut,
        bytes calldata path,
        uint16 slipBps,
        uint32 twapSec,
        uint16 minCardinality,
        uint128 maxPerSwap
    ) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function setSplit(uint8 class, uint16 nodeBps, uint16 coordinatorBps, uint16 stakerBps, uint16 developmentBps)
        external
    {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function setPrepay(uint32 duration) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function setGrace(uint32 soft, uint32 hard) external {
        _desk();
    }

    /// @inheritdoc IPaymentManager
    function setPoolPayout(uint64 payee, address payout) external {
        _desk();
    }

    /* VIEWS */

    /// @inheritdoc IPaymentManager
    function account(address payer, uint8 token) external view returns (AccountView memory) {
        _askDesk();
    }

    /// @inheritdoc IPaymentManager
    function pair(address payer, uint8 token, uint64 payee) external view returns (PairView memory) {
        _askDesk();
    }

    /// @inheritdoc IPaymentManager
    function limitOf(address payer, uint8 token, address controller) external view returns (LimitView memory) {
        _askDesk();
    }

    /// @inheritdoc IPaymentManager
    function sponsorOf(address payer, uint8 token)
        external
        view
        returns (address by, uint128 maxRateQ32, uint40 until)
    {
        _askDesk();
    }

    /// @inheritdoc IPaymentManager
    function routeOf(uint8 tokenIn, uint8 tokenOut) external view returns (RouteView memory) {
        _askDesk();
    }

    /// @inheritdoc IPaymentManager
    function autoSwapOf(address payer, uint8 payToken, uint8 settleToken) external view returns (uint16 maxSlipBps) {
        _askDesk();
    }

    /// @inheritdoc IPaymentManager
    function tokenOf(uint8 token) external view returns (TokenView memory) {
        _askDesk();
    }

    /// @inheritdoc IPaymentManager
    function lastToken() external view returns (uint8) {
        _askDesk();
    }

    // solhint-enable no-unused-vars

    /// @inheritdoc IPaymentManager
    function creditOf(uint64 payee, uint8 token) external view returns (uint128) {
        return _storage().credits[payee][token];
    }

    /// @inheritdoc IPaymentManager
    function payoutOf(uint64 payee) external view returns (address) {
        return _payoutOf(payee);
    }

    /// @inheritdoc IPaymentManager
    function splitOf(uint8 class) external view returns (Split memory) {
        return _splitOf(class);
    }

    /// @inheritdoc IPaymentManager
    function params() external view returns (uint32 prepay, uint32 soft, uint32 hard) {
        return _params();
    }

    /* INTERNAL: FLOWS */

    /// @dev Starts or raises a flow; the whole first window of the new rate is prepaid now.
    function _increase(Context memory c, uint64 payee, uint256 delta) private {
        _checkUnpaused(Pausing.ENTRY);
        _pullIfLate(c);
        Token memory t = _checkNew(c, payee);
        uint256 value = _prepaid(c);
        Pair memory p = _changePair(c, payee, int256(delta));
        c.flow.window = _windowFor(t, c.flow.rateQ32);
        uint256 whole = uint256(c.flow.rateQ32) * c.flow.window * 60;
        uint256 need = whole > value ? Q32.ceil(whole - value) : 0;
        _checkLimit(c, c.flow.rateQ32, need);
        uint256 fromRefund = _useRefund(c, need);
        _spread(c, value + (need << 32));
        _save(c);
        if (need != 0) {
            emit Pulled(c.payer, c.token, need - fromRefund, fromRefund, c.purse.refund, c.flow.paidUntil, false);
        }
        _emitFlow(c, payee, p);
        _take(t.erc20, c.payer, need - fromRefund, c.flow.flags);
    }

    /// @dev Lowers or ends a flow. Never fails for a reason that lies with the payer's token. What is unpaid for until now,
    /// or until the payer revoked, becomes a debt.
    function _decrease(Context memory c, uint64 payee, uint256 delta) private {
        _pullIfLate(c);
        bool late = _late(c);
        uint256 value = _prepaid(c);
        uint256 paidUntil = c.flow.paidUntil;
        Pair memory p = _changePair(c, payee, -int256(delta));
        if (c.flow.flags & REVOKED != 0) {
            if (c.flow.since > paidUntil) _recordDebt(c, payee, Q32.ceilWei(delta, c.flow.since - paidUntil));
            _endRevocation(c);
        } else if (late) {
            _recordDebt(c, payee, Q32.ceilWei(delta, c.now_ - paidUntil));
            if (c.flow.rateQ32 == 0) {
                c.flow.paidUntil = c.now_;
                _clearArrears(c);
            }
        } else {
            _spread(c, value);
        }
        _save(c);
        _emitFlow(c, payee, p);
    }

    /// @dev Whether the account has been in arrears for longer than the hard grace, not counting when nobody could pay.
    function _overdue(Context memory c) private view returns (bool) {
        unchecked {
            if (!_late(c)) return false;
            (,, uint32 hard) = _params();
            uint256 end = uint256(c.flow.paidUntil) + hard;
            if (c.now_ > end && UPTIME_FEED != address(0)) end += ISLAManager(SLA).outage(c.flow.paidUntil, c.now_);
            return c.now_ > end;
        }
    }

    /// @dev The JobManager pays nodes for computing and images, the ImageMarketplace images, the StorageRegistry nodes for
    /// storing.
    function _checkController(uint64 payee) private view {
        bool storing = msg.sender == STORAGES;
        if (msg.sender != JOBS && !storing) _onlyPeer(IMAGES);
        uint8 class = Payees.classOf(payee);
        if ((class == Payees.STORAGE) != storing || (class == Payees.COMPUTE && msg.sender != JOBS)) {
            revert WrongPayee(payee);
        }
    }

    /// @dev New obligations need an enabled token, a payer without arrears who has not revoked, and no debt between the two.
    function _checkNew(Context memory c, uint64 payee) private view returns (Token memory t) {
        PaymentManagerStorage storage $ = _storage();
        t = $.tokens[c.token];
        if (t.flags & ENABLED == 0) revert TokenDisabled(c.token);
        if (_late(c)) revert InArrears(c.flow.paidUntil);
        if (c.flow.flags & REVOKED != 0) revert Revoked(c.flow.since);
        if (c.flow.debts != 0) {
            uint256 debt = $.debts[c.payer][c.token][payee];
            if (debt != 0) revert HasDebt(c.payer, payee, debt);
        }
    }

    /// @dev The payer's own bounds for this controller: the rate that it may raise the account to, and what it may take in
    /// a day.
    function _checkLimit(Context memory c, uint256 rate, uint256 amount) private {
        if (c.flow.flags & LIMITED == 0) return;
        PaymentManagerStorage storage $ = _storage();
        Limit memory l = $.limits[c.payer][c.token][msg.sender];
        if (l.validUntil == 0) return;
        if (c.now_ > l.validUntil) revert AlephErrors.Expired(l.validUntil);
        if (rate > l.maxRateQ32) revert LimitExceeded(rate, l.maxRateQ32);
        Spending storage s = $.spendings[c.payer][c.token][msg.sender];
        uint24 day = uint24(c.now_ / 1 days);
        uint256 spent = s.day == day ? s.amount + amount : amount;
        if (spent > l.dailyCap) revert LimitExceeded(spent, l.dailyCap);
        (s.day, s.amount) = (day, uint88(spent));
    }

    function _withinLimit(Context memory c, uint256 rate) private view returns (bool) {
        if (c.flow.flags & LIMITED == 0) return true;
        Limit memory l = _storage().limits[c.payer][c.token][msg.sender];
        return l.validUntil == 0 || (c.now_ <= l.validUntil && rate <= l.maxRateQ32);
    }

    /// @dev The window in minutes of an account with this rate: as long as a dollar lasts, between the parameter and a day,
    /// so that small accounts are not pulled for less than a pull costs.
    function _windowFor(Token memory t, uint256 rate) private view returns (uint16) {
        unchecked {
            (uint256 prepay,,) = _params();
            if (t.minWindowAmount != 0) {
                uint256 long = (uint256(t.minWindowAmount) << 32) / rate;
                prepay = Math.max(prepay, Math.min(long, _LONG_WINDOW));
            }
            return uint16(prepay / 60);
        }
    }

    /// @dev Settles a pair until now, or until the money ended, and changes its rate and the account's.
    function _changePair(Context memory c, uint64 payee, int256 delta) private returns (Pair memory p) {
        PaymentManagerStorage storage $ = _storage();
        p = $.pairs[c.payer][c.token][payee];
        if (p.rateQ32 == 0) p.since = c.now_;
        else _settle(p, c.flow.paidUntil);
        uint256 pairRate;
        unchecked {
            pairRate = uint256(p.rateQ32) + uint256(delta);
        }
        // A decrease below zero wraps around and ends here, too.
        if (pairRate > MAX_PAIR_RATE) revert RateOverflow(pairRate);
        // After a revocation the account has no rate to be lowered.
        if (c.flow.flags & REVOKED == 0) {
            uint256 rate;
            unchecked {
                rate = uint256(c.flow.rateQ32) + uint256(delta);
            }
            if (rate > MAX_RATE) revert RateOverflow(rate);
            c.flow.rateQ32 = uint104(rate);
        }
        if (p.rateQ32 == 0) ++c.flow.flows;
        if (pairRate == 0) --c.flow.flows;
        p.rateQ32 = uint96(pairRate);
        $.pairs[c.payer][c.token][payee] = p;
    }

    /// @dev Spreads a scaled value over the account's rate: whole seconds, at most one window; the rest is refunded.
    function _spread(Context memory c, uint256 value) private {
        unchecked {
            uint256 rate = c.flow.rateQ32;
            uint256 time = rate == 0 ? 0 : Math.min(value / rate, uint256(c.flow.window) * 60);
            c.flow.paidUntil = uint40(c.now_ + time);
            _refund(c, (value - rate * time) >> 32);
        }
    }

    function _recordDebt(Context memory c, uint64 payee, uint256 amount) private {
        mapping(uint64 => uint256) storage debts = _storage().debts[c.payer][c.token];
        uint256 debt = debts[payee];
        if (debt == 0) ++c.flow.debts;
        debts[payee] = debt + amount;
        emit DebtRecorded(c.payer, payee, c.token, amount, debt + amount);
    }

    /// @dev Takes from the refund what there is of `amount`.
    function _useRefund(Context memory c, uint256 amount) private pure returns (uint256 used) {
        unchecked {
            used = Math.min(c.purse.refund, amount);
            if (used != 0) _setRefund(c, c.purse.refund - used);
        }
    }

    function _release(Context memory c, uint64 payee, uint256 amount) private {
        c.purse.reserved -= uint120(amount);
        _setRefund(c, c.purse.refund + amount);
        emit Released(c.payer, payee, c.token, amount, c.purse.reserved, c.purse.refund);
        _endRevocation(c);
    }

    function _emitFlow(Context memory c, uint64 payee, Pair memory p) private {
        emit FlowChanged(c.payer, payee, c.token, p.rateQ32, p.since, p.pendingQ32, c.flow.rateQ32, c.flow.paidUntil);
    }

    /* INTERNAL: SETTLEMENT */

    /// @dev A last attempt before an account is treated as one in arrears.
    function _pullIfLate(Context memory c) private {
        if (_late(c)) _pull(c);
    }

    /// @dev Fills the window as far as refund, sponsor and wallet go. Never reverts because of the token.
    function _pull(Context memory c) private returns (uint256 got) {
        unchecked {
            uint256 rate = c.flow.rateQ32;
            if (rate == 0) return 0;
            (uint256 from, uint256 target) = (c.flow.paidUntil, _target(c));
            if (from < target) {
                uint256 need = Q32.ceilWei(rate, target - from);
                uint256 refund = Math.min(c.purse.refund, need);
                if (refund < need) got = _fetch(c, refund, need, target - from);
                _buy(c, from, target, need, refund, got);
            }
            _noteArrears(c);
        }
    }

    /// @dev Takes what is missing to `need` from the sponsor and the wallet.
    function _fetch(Context memory c, uint256 refund, uint256 need, uint256 time) private returns (uint256 got) {
        unchecked {
            address erc20 = _storage().tokens[c.token].erc20;
            uint8 flags = c.flow.flags;
            if (flags & SPONSORED != 0) got = _fetchFromSponsor(c, erc20, need - refund, time);
            refund += got;
            if (refund == need || flags & DEPOSIT != 0) return got;
            bool permit2 = flags & PERMIT2 != 0;
            uint256 own = TokenCalls.tryTake(erc20, c.payer, need - refund, permit2);
            if (own == 0) {
                // As much as makes whole seconds. With enough in the wallet the token itself fails, and asking again helps
                // nothing.
                uint256 have = refund + Math.min(TokenCalls.available(erc20, c.payer, permit2), need - refund);
                uint256 part = Q32.ceilWei(c.flow.rateQ32, (have << 32) / c.flow.rateQ32);
                if (have < need && part > refund) own = TokenCalls.tryTake(erc20, c.payer, part - refund, permit2);
            }
            got += own;
        }
    }

    /// @dev The sponsor pays at most its own rate for `time`, all of it or nothing.
    function _fetchFromSponsor(Context memory c, address erc20, uint256 most, uint256 time)
        private
        returns (uint256 got)
    {
        Sponsor memory s = _storage().sponsors[c.payer][c.token];
        if (c.now_ > s.until) {
            c.flow.flags &= ~SPONSORED;
            return 0;
        }
        uint256 part = Math.min(most, Q32.floorWei(s.maxRateQ32, time));
        if (part == 0) return 0;
        got = TokenCalls.tryTake(erc20, s.by, part, false);
        if (got != 0) emit SponsorPaid(s.by, c.payer, c.token, got);
    }

    /// @dev Buys whole seconds with `refund` of the refund and `got`; what is left of both is the new refund.
    function _buy(Context memory c, uint256 from, uint256 target, uint256 need, uint256 refund, uint256 got) private {
        unchecked {
            uint256 time = target - from;
            if (refund + got < need) {
                time = ((refund + got) << 32) / c.flow.rateQ32;
                need = Q32.ceilWei(c.flow.rateQ32, time);
            }
            if (time == 0 && got == 0) return;
            uint256 fromRefund = need > got ? need - got : 0;
            if (need != got) _setRefund(c, uint256(c.purse.refund) + got - need);
            c.flow.paidUntil = uint40(from + time);
            emit Pulled(c.payer, c.token, got, fromRefund, c.purse.refund, c.flow.paidUntil, from + time < target);
        }
    }

    function _noteArrears(Context memory c) private {
        if (!_late(c)) {
            _clearArrears(c);
        } else if (c.flow.since == 0) {
            c.flow.since = c.flow.paidUntil;
            emit ArrearsStarted(c.payer, c.token, c.flow.paidUntil);
        }
    }

    /* INTERNAL: BOUNTIES */

    /// @dev 1 when the account has less than a quarter of its window left, else 0.
    function _low(Context memory c) private pure returns (uint256) {
        unchecked {
            return c.flow.paidUntil < uint256(c.now_) + uint256(c.flow.window) * 15 ? 1 : 0;
        }
    }

    /// @dev Who keeps an account from running dry is paid from development's part, into a refund of its own.
    function _payBounty(uint8 token, uint256 pulled, uint256 accounts) private {
        PaymentManagerStorage storage $ = _storage();
        // The desk pulls in this contract's own name.
        if (pulled == 0 || $.tokens[token].flags & BOUNTY == 0 || msg.sender == address(this)) return;
        uint128 credit = $.credits[Payees.DEVELOPMENT][token];
        uint256 amount = Math.min(Math.min(pulled * _BOUNTY_BPS / BPS, accounts * $.terms[token].bountyCap), credit);
        if (amount == 0) return;
        $.credits[Payees.DEVELOPMENT][token] = credit - uint128(amount);
        emit BountyPaid(msg.sender, token, amount, _give(msg.sender, token, amount), credit - uint128(amount));
    }

    /* INTERNAL: DESK */

    /// @dev Lets the desk do this very call with this contract's storage, and returns what it returns.
    /// @custom:oz-upgrades-unsafe-allow-reachable delegatecall
    function _desk() private {
        address desk = _DESK;
        assembly {
            calldatacopy(0, 0, calldatasize())
            let ok := delegatecall(gas(), desk, 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if ok { return(0, returndatasize()) }
            revert(0, returndatasize())
        }
    }

    /// @dev The same for views. The desk's views only read; the compiler cannot see that of a delegatecall.
    function _askDesk() private view {
        function() internal view ask;
        function() internal desk = _desk;
        assembly ("memory-safe") {
            ask := desk
        }
        ask();
    }
}
