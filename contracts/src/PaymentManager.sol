// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Extensible} from "./Extensible.sol";
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
/// {PaymentExtension}, whose address every implementation is given, and to which it lends its storage.
contract PaymentManager is IPaymentManager, Base, PaymentBase, Extensible {
    using SafeCast for uint256;

    /* CONSTANTS */

    uint32 private constant _PREPAY = 1 hours;
    uint32 private constant _SOFT = 1 hours;
    uint32 private constant _HARD = 24 hours;

    /// @dev The longest window of an account that pays little.
    uint256 private constant _LONG_WINDOW = 24 hours;

    /// @dev The part of a pull that its caller gets when the account was nearly dry.
    uint256 private constant _BOUNTY_BPS = 2;

    /* SETUP */

    /// @param extension_ The PaymentExtension for the same peers; the code of both together is above what a contract may have.
    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p, address extension_) Base(p) Extensible(extension_) {}

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
        uint256 minWindowAmount = _checkNew(c, payee);
        if (rateQ32 == 0) revert AlephErrors.ZeroAmount();
        if (rateQ32 > MAX_PAIR_RATE) revert RateOverflow(rateQ32);
        uint256 rate = c.rateQ32 + rateQ32;
        reservedMinutes = _windowFor(minWindowAmount, rate);
        uint256 amount = Q32.ceilWei(rateQ32, uint256(reservedMinutes) * 60);
        _checkLimit(c, rate, amount);
        uint256 fromRefund = _useRefund(c, amount);
        c.reserved = (c.reserved + amount).toUint120();
        c.dirty = true;
        _save(c);
        emit Reserved(payer, payee, token, amount, fromRefund, uint128(c.reserved), uint128(c.refund));
        _take(token, payer, amount - fromRefund, c.flags);
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
        ok = !_late(c) && c.flags & REVOKED == 0 && _withinLimit(c, c.rateQ32 + rateQ32);
        if (ok) {
            c.reserved -= amount;
            c.dirty = true;
            emit Activated(payer, payee, token, amount, uint128(c.reserved));
            uint256 value = _prepaid(c) + (amount << 32);
            // The reserve pays for its own window and no longer.
            if (c.rateQ32 == 0 || c.window > reservedMinutes) c.window = reservedMinutes;
            Earning memory e = _changePair(c, payee, int256(uint256(rateQ32)));
            _spread(c, value);
            _emitFlow(c, payee, e);
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
        closed = c.flags & REVOKED != 0 || _overdue(c);
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
        _checkNew(c, payee);
        _checkLimit(c, c.rateQ32, amount);
        uint256 fromRefund = _useRefund(c, amount);
        _save(c);
        emit Charged(payer, payee, token, amount, fromRefund, uint128(c.refund), ref);
        _credit(payee, token, amount);
        _take(token, payer, amount - fromRefund, c.flags);
    }

    /* SETTLEMENT */

    /// @inheritdoc IPaymentManager
    function pull(address payer, uint8 token) external nonReentrant returns (uint256 pulled, uint40 paidUntil) {
        Context memory c = _load(payer, token);
        uint256 low = _low(c);
        pulled = _pull(c);
        _save(c);
        paidUntil = uint40(c.paidUntil);
        _payBounty(token, low * pulled, low);
    }

    /// @inheritdoc IPaymentManager
    function pullMany(address[] calldata payers, uint8 token) external nonReentrant returns (uint256 okBitmap) {
        _checkBatch(payers.length);
        uint256 sum;
        uint256 count;
        Context memory c;
        (c.token, c.now_) = (token, block.timestamp);
        mapping(address => Account) storage accounts = _storage().accounts[token];
        for (uint256 i; i < payers.length; ++i) {
            _fill(c, payers[i], accounts[payers[i]]);
            uint256 low = _low(c);
            uint256 got = _pull(c);
            _save(c);
            unchecked {
                (sum, count) = (sum + low * got, count + low);
            }
            if (c.rateQ32 == 0 || c.paidUntil >= _target(c)) okBitmap |= 1 << i;
        }
        _payBounty(token, sum, count);
    }

    /// @inheritdoc IPaymentManager
    function claim(uint64 payee, uint8 token, address[] calldata payers) external nonReentrant returns (uint256 gross) {
        _checkBatch(payers.length);
        mapping(address => Pair) storage pairs = _storage().pairs[token][payee];
        mapping(address => Account) storage accounts = _storage().accounts[token];
        for (uint256 i; i < payers.length; ++i) {
            address payer = payers[i];
            Pair storage p;
            Account storage a;
            // The members of both mappings, without the masking of what is clean.
            assembly ("memory-safe") {
                mstore(0x00, payer)
                mstore(0x20, pairs.slot)
                p.slot := keccak256(0x00, 0x40)
                mstore(0x20, accounts.slot)
                a.slot := keccak256(0x00, 0x40)
            }
            (uint256 amount, uint256 since) = _claim(p, a.flow.paidUntil);
            if (amount == 0) continue;
            unchecked {
                gross += amount;
            }
            emit Claimed(payer, payee, token, amount, uint40(since));
        }
        if (gross != 0) _credit(payee, token, gross);
    }

    /// @inheritdoc IPaymentManager
    function withdraw(uint64 payee, uint8 token, uint128 amount) external nonReentrant unpaused(Pausing.EXIT) {
        (address to,) = _debit(payee, token, amount);
        _send(token, to, amount);
    }

    /* THE EXTENSION'S */

    /// @notice What is in {IPaymentExtension} only.
    /// @dev Each function that is named here makes every call dearer: the compiler compares one selector after the other.
    fallback() external {
        _extend();
    }

    // The arguments and results have names for who reads the ABI; they go to the extension and come back as they are.
    // solhint-disable no-unused-vars

    /// @inheritdoc IPaymentManager
    function withdrawRefund(address payer, uint8 token) external returns (uint256 amount) {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function payDebt(address payer, uint8 token, uint64 payee) external returns (uint256 amount) {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function compensate(uint64 payee, uint8 token, address payer, uint128 most, bytes32 ref)
        external
        returns (uint128 paid)
    {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function payOut(uint64 payee, uint8 token, address[] calldata to, uint128[] calldata amounts) external {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function permit(address owner, uint8 token, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function listToken(address erc20) external returns (uint8 token) {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function delistToken(uint8 token) external {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function relistToken(uint8 token) external {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function setSplit(uint8 class, uint16 nodeBps, uint16 coordinatorBps, uint16 stakerBps, uint16 developmentBps)
        external
    {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function setPrepay(uint32 duration) external {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function setGrace(uint32 soft, uint32 hard) external {
        _extend();
    }

    /// @inheritdoc IPaymentManager
    function setPoolPayout(uint64 payee, address payout) external {
        _extend();
    }

    /* VIEWS */

    /// @inheritdoc IPaymentManager
    function account(address payer, uint8 token) external view returns (AccountView memory) {
        _extendView();
    }

    /// @inheritdoc IPaymentManager
    function pair(address payer, uint8 token, uint64 payee) external view returns (PairView memory) {
        _extendView();
    }

    /// @inheritdoc IPaymentManager
    function tokenOf(uint8 token) external view returns (TokenView memory) {
        _extendView();
    }

    /// @inheritdoc IPaymentManager
    function lastToken() external view returns (uint8) {
        _extendView();
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
        uint256 minWindowAmount = _checkNew(c, payee);
        uint256 value = _prepaid(c);
        Earning memory e = _changePair(c, payee, int256(delta));
        c.window = _windowFor(minWindowAmount, c.rateQ32);
        uint256 whole = c.rateQ32 * c.window * 60;
        uint256 need = whole > value ? Q32.ceil(whole - value) : 0;
        _checkLimit(c, c.rateQ32, need);
        uint256 fromRefund = _useRefund(c, need);
        _spread(c, value + (need << 32));
        _save(c);
        if (need != 0) {
            emit Pulled(c.payer, c.token, need - fromRefund, fromRefund, uint128(c.refund), uint40(c.paidUntil), false);
        }
        _emitFlow(c, payee, e);
        _take(c.token, c.payer, need - fromRefund, c.flags);
    }

    /// @dev Lowers or ends a flow. Never fails for a reason that lies with the payer's token. What is unpaid for until now,
    /// or until the payer revoked, becomes a debt.
    function _decrease(Context memory c, uint64 payee, uint256 delta) private {
        _pullIfLate(c);
        bool late = _late(c);
        uint256 value = _prepaid(c);
        uint256 paidUntil = c.paidUntil;
        Earning memory e = _changePair(c, payee, -int256(delta));
        if (c.flags & REVOKED != 0) {
            if (c.since > paidUntil) _recordDebt(c, payee, Q32.ceilWei(delta, c.since - paidUntil));
            _endRevocation(c);
        } else if (late) {
            _recordDebt(c, payee, Q32.ceilWei(delta, c.now_ - paidUntil));
            if (c.rateQ32 == 0) {
                c.paidUntil = c.now_;
                _clearArrears(c);
            }
        } else {
            _spread(c, value);
        }
        _save(c);
        _emitFlow(c, payee, e);
    }

    /// @dev Whether the account has been in arrears for longer than the hard grace, not counting when nobody could pay.
    function _overdue(Context memory c) private view returns (bool) {
        unchecked {
            if (!_late(c)) return false;
            (,, uint32 hard) = _params();
            uint256 end = c.paidUntil + hard;
            if (c.now_ > end && UPTIME_FEED != address(0)) {
                end += ISLAManager(SLA).outage(uint40(c.paidUntil), uint40(c.now_));
            }
            return c.now_ > end;
        }
    }

    /// @dev The JobManager pays nodes for computing and images, the ImageMarketplace images, the StorageRegistry nodes for
    /// storing.
    function _checkController(uint64 payee) private view {
        uint256 range = payee >> 32;
        bool ok;
        if (msg.sender == JOBS) {
            ok = range <= Payees.IMAGES >> 32;
        } else if (msg.sender == STORAGES) {
            ok = range == Payees.STORAGES >> 32;
        } else {
            _onlyPeer(IMAGES);
            ok = range == Payees.IMAGES >> 32;
        }
        if (!ok || uint32(payee) == 0) revert WrongPayee(payee);
    }

    /// @dev New obligations need an enabled token, a payer without arrears who has not revoked, and no debt between the two.
    /// @return minWindowAmount The token's.
    function _checkNew(Context memory c, uint64 payee) private view returns (uint256 minWindowAmount) {
        PaymentManagerStorage storage $ = _storage();
        Token storage t = $.tokens[c.token];
        if (t.flags & ENABLED == 0) revert TokenDisabled(c.token);
        if (_late(c)) revert InArrears(uint40(c.paidUntil));
        if (c.flags & REVOKED != 0) revert Revoked(uint40(c.since));
        if (c.debts != 0) {
            uint256 debt = $.debts[c.payer][c.token][payee];
            if (debt != 0) revert HasDebt(c.payer, payee, debt);
        }
        return t.minWindowAmount;
    }

    /// @dev The payer's own bounds for this controller: the rate that it may raise the account to, and what it may take in
    /// a day.
    function _checkLimit(Context memory c, uint256 rate, uint256 amount) private {
        if (c.flags & LIMITED == 0) return;
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
        emit LimitUsed(c.payer, c.token, msg.sender, day, uint88(spent));
    }

    function _withinLimit(Context memory c, uint256 rate) private view returns (bool) {
        if (c.flags & LIMITED == 0) return true;
        Limit memory l = _storage().limits[c.payer][c.token][msg.sender];
        return l.validUntil == 0 || (c.now_ <= l.validUntil && rate <= l.maxRateQ32);
    }

    /// @dev The window in minutes of an account with this rate: as long as a dollar lasts, between the parameter and a day,
    /// so that small accounts are not pulled for less than a pull costs.
    function _windowFor(uint256 minWindowAmount, uint256 rate) private view returns (uint16) {
        unchecked {
            uint256 prepay = uint32(_base().params);
            if (minWindowAmount != 0) {
                uint256 long = (minWindowAmount << 32) / rate;
                prepay = Math.max(prepay, Math.min(long, _LONG_WINDOW));
            }
            return uint16(prepay / 60);
        }
    }

    /// @dev Settles a pair until now, or until the money ended, and changes its rate and the account's.
    function _changePair(Context memory c, uint64 payee, int256 delta) private returns (Earning memory e) {
        e = _loadPair(c.payer, c.token, payee);
        if (e.rateQ32 == 0) {
            e.since = c.now_;
            c.flows = (c.flows + 1).toUint24();
        } else {
            uint256 until = Math.min(c.paidUntil, c.now_);
            e.pendingQ32 = _earned(e.rateQ32, e.since, e.pendingQ32, until).toUint120();
            e.since = Math.max(e.since, until);
        }
        // A decrease below zero wraps around and ends here, too.
        e.rateQ32 = _add(e.rateQ32, delta, MAX_PAIR_RATE);
        // After a revocation the account has no rate to be lowered.
        if (c.flags & REVOKED == 0) c.rateQ32 = _add(c.rateQ32, delta, MAX_RATE);
        if (e.rateQ32 == 0) --c.flows;
        _savePair(e);
    }

    function _savePair(Earning memory e) private {
        uint256 slot = e.slot;
        uint256 word = e.rateQ32 | e.since << 96 | e.pendingQ32 << 136;
        assembly ("memory-safe") {
            sstore(slot, word)
        }
    }

    /// @dev Settles a pair until now, or until the money ended, and takes its whole wei.
    function _claim(Pair storage p, uint256 paidUntil) private returns (uint256 amount, uint256 since) {
        uint256 word;
        assembly ("memory-safe") {
            word := sload(p.slot)
        }
        uint256 until = paidUntil < block.timestamp ? paidUntil : block.timestamp;
        since = uint40(word >> 96);
        uint256 earned = _earned(uint96(word), since, word >> 136, until);
        amount = earned >> 32;
        if (amount == 0) return (0, 0);
        if (until > since) since = until;
        word = uint96(word) | since << 96 | uint256(uint32(earned)) << 136;
        assembly ("memory-safe") {
            sstore(p.slot, word)
        }
    }

    function _add(uint256 rate, int256 delta, uint256 most) private pure returns (uint256) {
        unchecked {
            rate += uint256(delta);
        }
        if (rate > most) revert RateOverflow(rate);
        return rate;
    }

    /// @dev Spreads a scaled value over the account's rate: whole seconds, at most one window; the rest is refunded.
    function _spread(Context memory c, uint256 value) private {
        unchecked {
            uint256 rate = c.rateQ32;
            uint256 time = rate == 0 ? 0 : Math.min(value / rate, c.window * 60);
            c.paidUntil = c.now_ + time;
            _refund(c, (value - rate * time) >> 32);
        }
    }

    function _recordDebt(Context memory c, uint64 payee, uint256 amount) private {
        mapping(uint64 => uint256) storage debts = _storage().debts[c.payer][c.token];
        uint256 debt = debts[payee];
        if (debt == 0) c.debts = (c.debts + 1).toUint24();
        debts[payee] = debt + amount;
        emit DebtRecorded(c.payer, payee, c.token, amount, debt + amount);
    }

    /// @dev Takes from the refund what there is of `amount`.
    function _useRefund(Context memory c, uint256 amount) private pure returns (uint256 used) {
        unchecked {
            used = Math.min(c.refund, amount);
            if (used != 0) _setRefund(c, c.refund - used);
        }
    }

    function _release(Context memory c, uint64 payee, uint256 amount) private {
        c.reserved -= amount;
        _setRefund(c, c.refund + amount);
        emit Released(c.payer, payee, c.token, amount, uint128(c.reserved), uint128(c.refund));
        _endRevocation(c);
    }

    function _emitFlow(Context memory c, uint64 payee, Earning memory e) private {
        emit FlowChanged(
            c.payer,
            payee,
            c.token,
            uint128(e.rateQ32),
            uint40(e.since),
            uint128(e.pendingQ32),
            uint128(c.rateQ32),
            uint40(c.paidUntil)
        );
    }

    /* INTERNAL: SETTLEMENT */

    /// @dev A last attempt before an account is treated as one in arrears.
    function _pullIfLate(Context memory c) private {
        if (_late(c)) _pull(c);
    }

    /// @dev Fills the window as far as refund, sponsor and wallet go. Never reverts because of the token.
    function _pull(Context memory c) private returns (uint256 got) {
        unchecked {
            uint256 rate = c.rateQ32;
            if (rate == 0) return 0;
            (uint256 from, uint256 target) = (c.paidUntil, _target(c));
            if (from < target) {
                uint256 need = Q32.ceilWei(rate, target - from);
                uint256 refund = Math.min(c.refund, need);
                if (refund < need) got = _fetch(c, refund, need, target - from);
                _buy(c, from, target, need, refund, got);
            }
            _noteArrears(c);
        }
    }

    /// @dev Takes what is missing to `need` from the sponsor and the wallet.
    function _fetch(Context memory c, uint256 refund, uint256 need, uint256 time) private returns (uint256 got) {
        unchecked {
            uint256 flags = c.flags;
            if (flags & SPONSORED != 0) got = _fetchFromSponsor(c, need - refund, time);
            refund += got;
            if (refund == need || flags & DEPOSIT != 0) return got;
            uint256 own = _tryTake(c.token, c.payer, need - refund, flags);
            if (own == 0) {
                // As much as makes whole seconds. With enough in the wallet the token itself fails, and asking again
                // helps nothing.
                uint256 have = TokenCalls.available(_erc20(c.token), c.payer, flags & PERMIT2 != 0);
                have = refund + Math.min(have, need - refund);
                uint256 part = Q32.ceilWei(c.rateQ32, (have << 32) / c.rateQ32);
                if (have < need && part > refund) own = _tryTake(c.token, c.payer, part - refund, flags);
            }
            got += own;
        }
    }

    /// @dev The sponsor pays at most its own rate for the time that has passed since it last did, all of it or nothing. So
    /// whatever is pulled, started and stopped, it never pays more than its rate for its time.
    function _fetchFromSponsor(Context memory c, uint256 most, uint256 time) private returns (uint256 got) {
        Sponsor storage s = _storage().sponsors[c.payer][c.token];
        if (c.now_ > s.until) {
            c.flags &= ~uint256(SPONSORED);
            return 0;
        }
        (address by, uint256 from, uint256 rate) = (s.by, s.from, s.maxRateQ32);
        uint256 part = Math.min(most, Q32.floorWei(rate, Math.min(time, c.now_ - from)));
        if (part == 0) return 0;
        got = _tryTake(c.token, by, part, 0);
        if (got == 0) return 0;
        s.from = uint40(from + Math.ceilDiv(got << 32, rate));
        emit SponsorPaid(by, c.payer, c.token, got);
    }

    /// @dev Buys whole seconds with `refund` of the refund and `got`; what is left of both is the new refund.
    function _buy(Context memory c, uint256 from, uint256 target, uint256 need, uint256 refund, uint256 got) private {
        unchecked {
            uint256 time = target - from;
            if (refund + got < need) {
                time = ((refund + got) << 32) / c.rateQ32;
                need = Q32.ceilWei(c.rateQ32, time);
            }
            if (time == 0 && got == 0) return;
            uint256 fromRefund = need > got ? need - got : 0;
            if (need != got) _setRefund(c, c.refund + got - need);
            c.paidUntil = from + time;
            emit Pulled(c.payer, c.token, got, fromRefund, uint128(c.refund), uint40(c.paidUntil), from + time < target);
        }
    }

    function _noteArrears(Context memory c) private {
        if (!_late(c)) {
            _clearArrears(c);
        } else if (c.since == 0) {
            c.since = c.paidUntil;
            emit ArrearsStarted(c.payer, c.token, uint40(c.paidUntil));
        }
    }

    /* INTERNAL: BOUNTIES */

    /// @dev 1 when the account has less than a quarter of its window left, else 0.
    function _low(Context memory c) private pure returns (uint256) {
        unchecked {
            return c.paidUntil < c.now_ + c.window * 15 ? 1 : 0;
        }
    }

    /// @dev Who keeps an account from running dry is paid from development's part, into a refund of its own.
    function _payBounty(uint8 token, uint256 pulled, uint256 accounts) private {
        PaymentManagerStorage storage $ = _storage();
        // The extension pulls in this contract's own name.
        if (pulled == 0 || $.tokens[token].flags & BOUNTY == 0 || msg.sender == address(this)) return;
        uint128 credit = $.credits[Payees.DEVELOPMENT][token];
        uint256 amount = Math.min(Math.min(pulled * _BOUNTY_BPS / BPS, accounts * $.terms[token].bountyCap), credit);
        if (amount == 0) return;
        $.credits[Payees.DEVELOPMENT][token] = credit - uint128(amount);
        emit BountyPaid(msg.sender, token, amount, _give(msg.sender, token, amount), credit - uint128(amount));
    }
}
