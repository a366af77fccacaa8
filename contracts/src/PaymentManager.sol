// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Payees} from "./libraries/Payees.sol";
import {Q32} from "./libraries/Q32.sol";
import {TokenCalls} from "./libraries/TokenCalls.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title PaymentManager
/// @notice See {IPaymentManager}. docs/contracts/payment.md explains the arithmetic.
/// @dev R is the rate of an account, P its paidUntil, W the prepay window. The prepaid money of an account is R*(P-now);
/// whatever does not make whole seconds of R goes to the refund, so that no wei is lost when rates change.
contract PaymentManager is IPaymentManager, Base, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /* TYPES */

    /// @dev What flows from an account, one slot.
    struct Flow {
        uint128 rateQ32;
        uint40 paidUntil;
        uint40 arrearsSince;
        uint24 flows;
        uint24 debts;
    }

    /// @dev What is kept for an account, one slot. `used` keeps the slot from becoming zero, which makes every later
    /// write four times cheaper.
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

    struct Token {
        address erc20;
        uint8 decimals;
        bool enabled;
        uint40 listedAt;
    }

    /// @dev Whose money a call moves and in which token, with the account in memory.
    struct Context {
        address payer;
        uint8 token;
        uint40 now_;
        uint32 window;
        Flow flow;
        Purse purse;
    }

    /// @custom:storage-location erc7201:aleph.storage.PaymentManager.v1
    struct PaymentManagerStorage {
        uint8 lastToken;
        mapping(uint8 token => Token) tokens;
        mapping(uint8 class => Split) splits;
        mapping(address payer => mapping(uint8 token => Account)) accounts;
        mapping(address payer => mapping(uint8 token => mapping(uint64 payee => Pair))) pairs;
        mapping(address payer => mapping(uint8 token => mapping(uint64 payee => uint256))) debts;
        mapping(uint64 payee => mapping(uint8 token => uint128)) credits;
        mapping(uint64 payee => address) poolPayouts;
        mapping(address erc20 => uint8) tokenIds;
    }

    /* CONSTANTS */

    /// @dev The highest rate of an account and of a pair: 4 billion and 66,000 whole tokens of 18 decimals per hour.
    uint256 private constant _MAX_RATE = type(uint112).max;
    uint256 private constant _MAX_PAIR_RATE = type(uint96).max;

    /// @dev The largest batch, so that one always fits into a block and into a bitmap.
    uint256 private constant _MAX_BATCH = 200;

    uint16 private constant _BPS = 10_000;

    /// @dev No part of the revenue may be above this.
    uint16 private constant _MAX_PART = 8_000;

    uint32 private constant _PREPAY = 1 hours;
    uint32 private constant _PREPAY_MIN = 5 minutes;
    uint32 private constant _PREPAY_MAX = 24 hours;

    uint32 private constant _SOFT = 1 hours;
    uint32 private constant _SOFT_MAX = 72 hours;
    uint32 private constant _HARD = 24 hours;
    uint32 private constant _HARD_MIN = 1 hours;
    uint32 private constant _HARD_MAX = 168 hours;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.PaymentManager.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xcaeb06e6c10a6e782173a1b69686639d30e8f971eec267570983cebf43cd8500;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) {}

    /// @notice Sets up a new proxy: the default window, graces and split.
    function initialize() external initializer {
        _initBase();
        _setParams(_PREPAY, _SOFT, _HARD);
        emit PrepaySet(_PREPAY);
        emit GraceSet(_SOFT, _HARD);
        _setSplit(Payees.COMPUTE, Split(6_000, 1_500, 2_000, 500));
        _setSplit(Payees.STORAGE, Split(7_500, 0, 2_000, 500));
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
        if (_late(c)) {
            _pull(c);
            _saveFlow(c);
        }
        if (rateQ32 == 0) revert AlephErrors.ZeroAmount();
        if (rateQ32 > _MAX_PAIR_RATE) revert RateOverflow(rateQ32);
        address erc20 = _checkNew(c, payee);
        reservedMinutes = uint16(c.window / 60);
        uint256 amount = Q32.ceilWei(rateQ32, uint256(reservedMinutes) * 60);
        uint256 fromRefund = Math.min(c.purse.refund, amount);
        c.purse.refund -= uint120(fromRefund);
        c.purse.reserved = (uint256(c.purse.reserved) + amount).toUint120();
        _savePurse(c);
        emit Reserved(payer, payee, token, amount, fromRefund, c.purse.reserved, c.purse.refund);
        _take(erc20, payer, amount - fromRefund);
    }

    /// @inheritdoc IPaymentManager
    function release(address payer, uint8 token, uint64 payee, uint128 rateQ32, uint16 reservedMinutes)
        external
        onlyController(payee)
        nonReentrant
    {
        Context memory c = _load(payer, token);
        _release(c, payee, Q32.ceilWei(rateQ32, uint256(reservedMinutes) * 60));
        _savePurse(c);
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
        ok = !_late(c);
        if (ok) {
            c.purse.reserved -= uint120(amount);
            emit Activated(payer, payee, token, amount, c.purse.reserved);
            uint256 value = _prepaid(c) + (amount << 32);
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
        (,, uint32 hard) = params();
        closed = _late(c) && c.now_ > uint256(c.flow.paidUntil) + hard;
        if (closed) {
            _decrease(c, payee, rateQ32);
        } else {
            _save(c);
        }
    }

    /* CHARGES AND COMPENSATION */

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
        address erc20 = _checkNew(c, payee);
        uint256 fromRefund = Math.min(c.purse.refund, amount);
        c.purse.refund -= uint120(fromRefund);
        _save(c);
        emit Charged(payer, payee, token, amount, fromRefund, c.purse.refund, ref);
        _credit(payee, token, amount);
        _take(erc20, payer, amount - fromRefund);
    }

    /// @inheritdoc IPaymentManager
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
        Context memory c = _load(payer, token);
        c.purse.refund = (uint256(c.purse.refund) + paid).toUint120();
        _savePurse(c);
        emit Compensated(payer, payee, token, paid, credit, c.purse.refund, ref);
    }

    /// @inheritdoc IPaymentManager
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
            emit Withdrawn(payee, token, to[i], amounts[i], credit);
            // One recipient that the token refuses does not keep the others from theirs.
            if (!TokenCalls.trySend($.tokens[token].erc20, to[i], amounts[i])) {
                Context memory c = _load(to[i], token);
                _refund(c, amounts[i]);
                _savePurse(c);
            }
        }
    }

    /* SETTLEMENT */

    /// @inheritdoc IPaymentManager
    function pull(address payer, uint8 token) external nonReentrant returns (uint256 pulled, uint40 paidUntil) {
        Context memory c = _load(payer, token);
        pulled = _pull(c);
        _save(c);
        paidUntil = c.flow.paidUntil;
    }

    /// @inheritdoc IPaymentManager
    function pullMany(address[] calldata payers, uint8 token) external nonReentrant returns (uint256 okBitmap) {
        _checkBatch(payers.length);
        for (uint256 i; i < payers.length; ++i) {
            Context memory c = _load(payers[i], token);
            _pull(c);
            _save(c);
            if (c.flow.rateQ32 == 0 || c.flow.paidUntil >= c.now_ + c.window) okBitmap |= 1 << i;
        }
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
        if (amount == 0) revert AlephErrors.ZeroAmount();
        address to = payoutOf(payee);
        if (to == address(0)) revert NoPayout(payee);
        if (msg.sender != to && (!Payees.isNode(payee) || msg.sender != INodeRegistry(NODES).signerOf(uint32(payee)))) {
            revert AlephErrors.NotAuthorized(msg.sender);
        }
        PaymentManagerStorage storage $ = _storage();
        uint128 credit = $.credits[payee][token];
        if (credit < amount) revert AlephErrors.Insufficient(credit, amount);
        credit -= amount;
        $.credits[payee][token] = credit;
        emit Withdrawn(payee, token, to, amount, credit);
        IERC20($.tokens[token].erc20).safeTransfer(to, amount);
    }

    /// @inheritdoc IPaymentManager
    function withdrawRefund(address payer, uint8 token)
        external
        nonReentrant
        unpaused(Pausing.EXIT)
        returns (uint256 amount)
    {
        PaymentManagerStorage storage $ = _storage();
        Purse storage purse = $.accounts[payer][token].purse;
        amount = purse.refund;
        if (amount == 0) revert AlephErrors.ZeroAmount();
        purse.refund = 0;
        emit RefundPaid(payer, token, amount);
        IERC20($.tokens[token].erc20).safeTransfer(payer, amount);
    }

    /// @inheritdoc IPaymentManager
    function payDebt(address payer, uint8 token, uint64 payee) external nonReentrant returns (uint256 amount) {
        PaymentManagerStorage storage $ = _storage();
        amount = $.debts[payer][token][payee];
        if (amount == 0) revert NoDebt(payer, payee);
        delete $.debts[payer][token][payee];
        --$.accounts[payer][token].flow.debts;
        emit DebtPaid(payer, payee, token, amount, msg.sender);
        _credit(payee, token, amount);
        _take($.tokens[token].erc20, msg.sender, amount);
    }

    /// @inheritdoc IPaymentManager
    function permit(address owner, uint8 token, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
    {
        address erc20 = _storage().tokens[token].erc20;
        if (erc20 == address(0)) revert TokenDisabled(token);
        // Somebody may have sent the permit already; then the allowance is there.
        try IERC20Permit(erc20).permit(owner, address(this), value, deadline, v, r, s) {}
        catch {
            uint256 have = IERC20(erc20).allowance(owner, address(this));
            if (have < value) revert AlephErrors.Insufficient(have, value);
        }
    }

    /* PARAMETERS */

    /// @inheritdoc IPaymentManager
    function listToken(address erc20) external restricted returns (uint8 token) {
        if (erc20 == address(0)) revert AlephErrors.ZeroAddress();
        PaymentManagerStorage storage $ = _storage();
        if ($.tokenIds[erc20] != 0) revert AlephErrors.Duplicate(bytes32(uint256(uint160(erc20))));
        uint8 decimals = IERC20Metadata(erc20).decimals();
        token = ++$.lastToken;
        $.tokenIds[erc20] = token;
        $.tokens[token] = Token(erc20, decimals, true, uint40(block.timestamp));
        emit TokenListed(token, erc20, decimals);
        emit TokenEnabled(token, true);
    }

    /// @inheritdoc IPaymentManager
    function delistToken(uint8 token) external restricted {
        _setEnabled(token, false);
    }

    /// @inheritdoc IPaymentManager
    function relistToken(uint8 token) external restricted {
        _setEnabled(token, true);
    }

    /// @inheritdoc IPaymentManager
    function setSplit(uint8 class, uint16 nodeBps, uint16 coordinatorBps, uint16 stakerBps, uint16 developmentBps)
        external
        restricted
    {
        if (class != Payees.COMPUTE && class != Payees.STORAGE) revert UnknownClass(class);
        uint256 sum = uint256(nodeBps) + coordinatorBps + stakerBps + developmentBps;
        uint256 most = Math.max(Math.max(nodeBps, coordinatorBps), Math.max(stakerBps, developmentBps));
        if (sum != _BPS || most > _MAX_PART) revert BadSplit();
        _setSplit(class, Split(nodeBps, coordinatorBps, stakerBps, developmentBps));
    }

    /// @inheritdoc IPaymentManager
    function setPrepay(uint32 duration) external restricted {
        if (duration < _PREPAY_MIN || duration > _PREPAY_MAX || duration % 60 != 0) {
            revert AlephErrors.OutOfBounds(duration, _PREPAY_MIN, _PREPAY_MAX);
        }
        (, uint32 soft, uint32 hard) = params();
        _setParams(duration, soft, hard);
        emit PrepaySet(duration);
    }

    /// @inheritdoc IPaymentManager
    function setGrace(uint32 soft, uint32 hard) external restricted {
        if (soft > _SOFT_MAX) revert AlephErrors.OutOfBounds(soft, 0, _SOFT_MAX);
        uint32 low = soft > _HARD_MIN ? soft : _HARD_MIN;
        if (hard < low || hard > _HARD_MAX) revert AlephErrors.OutOfBounds(hard, low, _HARD_MAX);
        (uint32 prepay,,) = params();
        _setParams(prepay, soft, hard);
        emit GraceSet(soft, hard);
    }

    /// @inheritdoc IPaymentManager
    function setPoolPayout(uint64 payee, address payout) external restricted {
        if (payee < Payees.TREASURY || payee > Payees.DEVELOPMENT) {
            revert AlephErrors.OutOfBounds(payee, Payees.TREASURY, Payees.DEVELOPMENT);
        }
        if (payout == address(0)) revert AlephErrors.ZeroAddress();
        _storage().poolPayouts[payee] = payout;
        emit PoolPayoutSet(payee, payout);
    }

    /* VIEWS */

    /// @inheritdoc IPaymentManager
    function account(address payer, uint8 token) external view nonReentrantView returns (AccountView memory) {
        Account storage a = _storage().accounts[payer][token];
        return AccountView({
            rateQ32: a.flow.rateQ32,
            paidUntil: a.flow.paidUntil,
            arrearsSince: a.flow.arrearsSince,
            flows: a.flow.flows,
            debts: a.flow.debts,
            refund: a.purse.refund,
            reserved: a.purse.reserved
        });
    }

    /// @inheritdoc IPaymentManager
    function pair(address payer, uint8 token, uint64 payee) external view nonReentrantView returns (PairView memory) {
        PaymentManagerStorage storage $ = _storage();
        Pair storage p = $.pairs[payer][token][payee];
        return PairView({
            rateQ32: p.rateQ32,
            since: p.since,
            pendingQ32: p.pendingQ32,
            claimable: _claimable(payer, token, payee),
            debt: $.debts[payer][token][payee]
        });
    }

    /// @inheritdoc IPaymentManager
    function runway(address payer, uint8 token)
        external
        view
        returns (uint40 paidUntil, uint40 allowanceUntil, uint40 softStop, uint40 hardStop)
    {
        PaymentManagerStorage storage $ = _storage();
        Account storage a = $.accounts[payer][token];
        (, uint32 soft, uint32 hard) = params();
        paidUntil = a.flow.paidUntil;
        uint256 until = type(uint40).max;
        if (a.flow.rateQ32 != 0) {
            uint256 more =
                a.purse.refund + Math.min(TokenCalls.available($.tokens[token].erc20, payer), type(uint128).max);
            until = Math.min(until, paidUntil + (more << 32) / a.flow.rateQ32);
        }
        allowanceUntil = uint40(until);
        softStop = paidUntil + soft;
        hardStop = paidUntil + hard;
    }

    /// @inheritdoc IPaymentManager
    function owed(uint64 payee, uint8 token, address[] calldata payers)
        external
        view
        nonReentrantView
        returns (uint256 sum)
    {
        for (uint256 i; i < payers.length; ++i) {
            sum += _claimable(payers[i], token, payee);
        }
    }

    /// @inheritdoc IPaymentManager
    function solvency(uint8 token, address[] calldata payers, uint64[] calldata payees)
        external
        view
        nonReentrantView
        returns (uint256 held, uint256 owes)
    {
        PaymentManagerStorage storage $ = _storage();
        held = IERC20($.tokens[token].erc20).balanceOf(address(this));
        for (uint256 i; i < payers.length; ++i) {
            Account storage a = $.accounts[payers[i]][token];
            owes += uint256(a.purse.refund) + a.purse.reserved;
            uint256 until = a.flow.paidUntil;
            if (until > block.timestamp) owes += Q32.floorWei(a.flow.rateQ32, until - block.timestamp);
            for (uint256 j; j < payees.length; ++j) {
                owes += _claimable(payers[i], token, payees[j]);
            }
        }
        for (uint256 j; j < payees.length; ++j) {
            owes += $.credits[payees[j]][token];
        }
    }

    /// @inheritdoc IPaymentManager
    function creditOf(uint64 payee, uint8 token) external view returns (uint128) {
        return _storage().credits[payee][token];
    }

    /// @inheritdoc IPaymentManager
    function payoutOf(uint64 payee) public view returns (address) {
        if (!Payees.isNode(payee)) return _storage().poolPayouts[payee];
        return INodeRegistry(NODES).payoutOf(uint32(payee));
    }

    /// @inheritdoc IPaymentManager
    function tokenOf(uint8 token) external view returns (TokenView memory) {
        Token storage t = _storage().tokens[token];
        return TokenView(t.erc20, t.decimals, t.enabled, t.listedAt);
    }

    /// @inheritdoc IPaymentManager
    function lastToken() external view returns (uint8) {
        return _storage().lastToken;
    }

    /// @inheritdoc IPaymentManager
    function splitOf(uint8 class) public view returns (Split memory) {
        // An image's own recipients share its revenue in the ImageMarketplace.
        if (class == Payees.IMAGE) return Split(_BPS, 0, 0, 0);
        return _storage().splits[class];
    }

    /// @inheritdoc IPaymentManager
    function params() public view returns (uint32 prepay, uint32 soft, uint32 hard) {
        uint96 packed = _base().params;
        return (uint32(packed), uint32(packed >> 32), uint32(packed >> 64));
    }

    /* INTERNAL: FLOWS */

    /// @dev Starts or raises a flow; the whole first window of the new rate is prepaid now.
    function _increase(Context memory c, uint64 payee, uint256 delta) private {
        _checkUnpaused(Pausing.ENTRY);
        _pullIfLate(c);
        address erc20 = _checkNew(c, payee);
        uint256 value = _prepaid(c);
        Pair memory p = _changePair(c, payee, int256(delta));
        uint256 whole = uint256(c.flow.rateQ32) * c.window;
        uint256 need = whole > value ? Q32.ceil(whole - value) : 0;
        uint256 fromRefund = Math.min(c.purse.refund, need);
        c.purse.refund -= uint120(fromRefund);
        _spread(c, value + (need << 32));
        _save(c);
        if (need != 0) {
            emit Pulled(c.payer, c.token, need - fromRefund, fromRefund, c.purse.refund, c.flow.paidUntil, false);
        }
        _emitFlow(c, payee, p);
        _take(erc20, c.payer, need - fromRefund);
    }

    /// @dev Lowers or ends a flow. Never fails for a reason that lies with the payer's token.
    function _decrease(Context memory c, uint64 payee, uint256 delta) private {
        _pullIfLate(c);
        bool late = _late(c);
        uint256 value = _prepaid(c);
        uint40 paidUntil = c.flow.paidUntil;
        Pair memory p = _changePair(c, payee, -int256(delta));
        if (late) {
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

    function _checkController(uint64 payee) private view {
        bool image = payee > Payees.IMAGES && payee <= Payees.LAST_IMAGE;
        if (msg.sender == JOBS) {
            if (!image && (payee == 0 || payee > Payees.LAST_NODE)) {
                revert AlephErrors.OutOfBounds(payee, 1, Payees.LAST_IMAGE);
            }
        } else if (msg.sender == STORAGES) {
            if (payee <= Payees.STORAGES || payee > Payees.LAST_STORAGE) {
                revert AlephErrors.OutOfBounds(payee, Payees.STORAGES + 1, Payees.LAST_STORAGE);
            }
        } else {
            _onlyPeer(IMAGES);
            if (!image) revert AlephErrors.OutOfBounds(payee, Payees.IMAGES + 1, Payees.LAST_IMAGE);
        }
    }

    /// @dev New obligations need an enabled token, a payer without arrears and no debt between the two.
    function _checkNew(Context memory c, uint64 payee) private view returns (address erc20) {
        PaymentManagerStorage storage $ = _storage();
        Token storage t = $.tokens[c.token];
        erc20 = t.erc20;
        if (!t.enabled) revert TokenDisabled(c.token);
        if (_late(c)) revert InArrears(c.flow.paidUntil);
        if (c.flow.debts != 0) {
            uint256 debt = $.debts[c.payer][c.token][payee];
            if (debt != 0) revert HasDebt(c.payer, payee, debt);
        }
    }

    /// @dev Settles a pair until now, or until the money ended, and changes its rate and the account's.
    function _changePair(Context memory c, uint64 payee, int256 delta) private returns (Pair memory p) {
        PaymentManagerStorage storage $ = _storage();
        p = $.pairs[c.payer][c.token][payee];
        if (p.rateQ32 == 0) p.since = c.now_;
        else _settle(p, c.flow.paidUntil);
        uint256 pairRate = uint256(int256(uint256(p.rateQ32)) + delta);
        uint256 rate = uint256(int256(uint256(c.flow.rateQ32)) + delta);
        // A decrease below zero wraps around and ends here, too.
        if (pairRate > _MAX_PAIR_RATE) revert RateOverflow(pairRate);
        if (rate > _MAX_RATE) revert RateOverflow(rate);
        if (p.rateQ32 == 0) ++c.flow.flows;
        if (pairRate == 0) --c.flow.flows;
        p.rateQ32 = uint96(pairRate);
        c.flow.rateQ32 = uint128(rate);
        $.pairs[c.payer][c.token][payee] = p;
    }

    /// @dev Spreads a scaled value over the account's rate: whole seconds, at most one window; the rest is refunded.
    function _spread(Context memory c, uint256 value) private {
        uint256 rate = c.flow.rateQ32;
        uint256 time = rate == 0 ? 0 : Math.min(value / rate, c.window);
        c.flow.paidUntil = uint40(c.now_ + time);
        _refund(c, (value - rate * time) >> 32);
    }

    /// @dev What is prepaid and not used up, scaled.
    function _prepaid(Context memory c) private pure returns (uint256) {
        if (c.flow.rateQ32 == 0 || c.flow.paidUntil <= c.now_) return 0;
        return uint256(c.flow.rateQ32) * (c.flow.paidUntil - c.now_);
    }

    /// @dev Whether time has passed that is not paid for.
    function _late(Context memory c) private pure returns (bool) {
        return c.flow.rateQ32 != 0 && c.flow.paidUntil < c.now_;
    }

    /* INTERNAL: SETTLEMENT */

    /// @dev A last attempt before an account is treated as one in arrears.
    function _pullIfLate(Context memory c) private {
        if (_late(c)) _pull(c);
    }

    /// @dev Fills the window as far as refund and allowance go. Never reverts because of the token.
    function _pull(Context memory c) private returns (uint256 got) {
        if (c.flow.rateQ32 == 0) return 0;
        uint256 from = c.flow.paidUntil;
        uint256 target = uint256(c.now_) + c.window;
        if (from < target) {
            uint256 need = Q32.ceilWei(c.flow.rateQ32, target - from);
            uint256 refund = Math.min(c.purse.refund, need);
            if (refund < need) got = _tryTake(c, refund, need);
            _buy(c, from, target, need, refund, got);
        }
        _noteArrears(c);
    }

    /// @dev Takes what is missing to `need`; when that fails, what makes whole seconds of what refund and wallet have.
    function _tryTake(Context memory c, uint256 refund, uint256 need) private returns (uint256 got) {
        address erc20 = _storage().tokens[c.token].erc20;
        got = TokenCalls.tryTake(erc20, c.payer, need - refund);
        if (got != 0) return got;
        uint256 have = refund + Math.min(TokenCalls.available(erc20, c.payer), need - refund);
        uint256 part = Q32.ceilWei(c.flow.rateQ32, (have << 32) / c.flow.rateQ32);
        // With enough in the wallet the token itself fails, and asking again helps nothing.
        if (have < need && part > refund) got = TokenCalls.tryTake(erc20, c.payer, part - refund);
    }

    /// @dev Buys whole seconds with `refund` of the refund and `got`; what is left of both is the new refund.
    function _buy(Context memory c, uint256 from, uint256 target, uint256 need, uint256 refund, uint256 got) private {
        uint256 time = target - from;
        if (refund + got < need) {
            time = ((refund + got) << 32) / c.flow.rateQ32;
            need = Q32.ceilWei(c.flow.rateQ32, time);
        }
        if (time == 0 && got == 0) return;
        uint256 fromRefund = need > got ? need - got : 0;
        c.purse.refund = (uint256(c.purse.refund) + got - need).toUint120();
        c.flow.paidUntil = uint40(from + time);
        emit Pulled(c.payer, c.token, got, fromRefund, c.purse.refund, c.flow.paidUntil, c.flow.paidUntil < target);
    }

    function _noteArrears(Context memory c) private {
        if (!_late(c)) {
            _clearArrears(c);
        } else if (c.flow.arrearsSince == 0) {
            c.flow.arrearsSince = c.flow.paidUntil;
            emit ArrearsStarted(c.payer, c.token, c.flow.paidUntil);
        }
    }

    function _clearArrears(Context memory c) private {
        if (c.flow.arrearsSince == 0) return;
        c.flow.arrearsSince = 0;
        emit ArrearsCleared(c.payer, c.token);
    }

    /// @dev Moves what a pair has earned to pending, until now or until the money ended.
    function _settle(Pair memory p, uint256 paidUntil) private view {
        uint256 until = Math.min(paidUntil, block.timestamp);
        if (until <= p.since) return;
        p.pendingQ32 = (p.pendingQ32 + uint256(p.rateQ32) * (until - p.since)).toUint120();
        p.since = uint40(until);
    }

    function _claimable(address payer, uint8 token, uint64 payee) private view returns (uint256) {
        PaymentManagerStorage storage $ = _storage();
        Pair memory p = $.pairs[payer][token][payee];
        _settle(p, $.accounts[payer][token].flow.paidUntil);
        return p.pendingQ32 >> 32;
    }

    /// @dev Splits `gross` over the payee and the pools; development gets what rounding leaves.
    function _credit(uint64 payee, uint8 token, uint256 gross) private {
        uint8 class = Payees.classOf(payee);
        Split memory s = splitOf(class);
        uint256 node = gross * s.nodeBps / _BPS;
        uint256 coordinator = gross * s.coordinatorBps / _BPS;
        uint256 staker = gross * s.stakerBps / _BPS;
        uint256 development = gross - node - coordinator - staker;
        uint128 credit = _addCredit(payee, token, node);
        _addCredit(Payees.COORDINATORS, token, coordinator);
        _addCredit(Payees.STAKERS, token, staker);
        _addCredit(Payees.DEVELOPMENT, token, development);
        emit RevenueSplit(payee, token, class, gross, node, coordinator, staker, development, credit);
    }

    function _addCredit(uint64 payee, uint8 token, uint256 amount) private returns (uint128 credit) {
        mapping(uint8 => uint128) storage credits = _storage().credits[payee];
        credit = (uint256(credits[token]) + amount).toUint128();
        if (amount != 0) credits[token] = credit;
    }

    function _recordDebt(Context memory c, uint64 payee, uint256 amount) private {
        mapping(uint64 => uint256) storage debts = _storage().debts[c.payer][c.token];
        uint256 debt = debts[payee];
        if (debt == 0) ++c.flow.debts;
        debts[payee] = debt + amount;
        emit DebtRecorded(c.payer, payee, c.token, amount, debt + amount);
    }

    function _refund(Context memory c, uint256 amount) private {
        if (amount == 0) return;
        c.purse.refund = (uint256(c.purse.refund) + amount).toUint120();
        emit Refunded(c.payer, c.token, amount, c.purse.refund);
    }

    function _release(Context memory c, uint64 payee, uint256 amount) private {
        c.purse.reserved -= uint120(amount);
        c.purse.refund = (uint256(c.purse.refund) + amount).toUint120();
        emit Released(c.payer, payee, c.token, amount, c.purse.reserved, c.purse.refund);
    }

    /// @dev Takes exactly `amount` from `owner`, or reverts.
    function _take(address erc20, address owner, uint256 amount) private {
        if (amount == 0) return;
        uint256 before = IERC20(erc20).balanceOf(address(this));
        if (!IERC20(erc20).trySafeTransferFrom(owner, address(this), amount)) {
            revert AlephErrors.Insufficient(TokenCalls.available(erc20, owner), amount);
        }
        uint256 got = IERC20(erc20).balanceOf(address(this)) - before;
        if (got < amount) revert FeeOnTransfer(got, amount);
    }

    /* INTERNAL: STATE */

    function _load(address payer, uint8 token) private view returns (Context memory c) {
        Account storage a = _storage().accounts[payer][token];
        (c.payer, c.token, c.now_, c.window) = (payer, token, uint40(block.timestamp), uint32(_base().params));
        (c.flow, c.purse) = (a.flow, a.purse);
    }

    function _saveFlow(Context memory c) private {
        _storage().accounts[c.payer][c.token].flow = c.flow;
    }

    function _savePurse(Context memory c) private {
        c.purse.used = true;
        _storage().accounts[c.payer][c.token].purse = c.purse;
    }

    function _save(Context memory c) private {
        _saveFlow(c);
        _savePurse(c);
    }

    function _emitFlow(Context memory c, uint64 payee, Pair memory p) private {
        emit FlowChanged(c.payer, payee, c.token, p.rateQ32, p.since, p.pendingQ32, c.flow.rateQ32, c.flow.paidUntil);
    }

    function _setEnabled(uint8 token, bool enabled) private {
        Token storage t = _storage().tokens[token];
        if (t.erc20 == address(0)) revert TokenDisabled(token);
        t.enabled = enabled;
        emit TokenEnabled(token, enabled);
    }

    function _setParams(uint32 prepay, uint32 soft, uint32 hard) private {
        _base().params = uint96(prepay) | uint96(soft) << 32 | uint96(hard) << 64;
    }

    function _setSplit(uint8 class, Split memory s) private {
        _storage().splits[class] = s;
        emit SplitSet(class, s.nodeBps, s.coordinatorBps, s.stakerBps, s.developmentBps);
    }

    function _checkBatch(uint256 length) private pure {
        if (length == 0 || length > _MAX_BATCH) revert AlephErrors.OutOfBounds(length, 1, _MAX_BATCH);
    }

    function _storage() private pure returns (PaymentManagerStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
