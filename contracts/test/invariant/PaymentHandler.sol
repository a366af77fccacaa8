// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephToken} from "../../src/AlephToken.sol";
import {PaymentManager} from "../../src/PaymentManager.sol";
import {IPaymentExtension} from "../../src/interfaces/IPaymentExtension.sol";
import {IPaymentManager} from "../../src/interfaces/IPaymentManager.sol";
import {AlephErrors} from "../../src/libraries/AlephErrors.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {BadToken} from "../utils/BadToken.sol";
import {CommonBase} from "forge-std/Base.sol";
import {StdUtils} from "forge-std/StdUtils.sol";

/// @title PaymentHandler
/// @notice The flow controllers, the payers, a sponsor and anybody else do anything in any order with 3 payers and 4 payees,
/// in the ALEPH token and in one that misbehaves; with books of its own.
contract PaymentHandler is CommonBase, StdUtils {
    struct Reserve {
        address payer;
        uint64 payee;
        uint128 rateQ32;
        uint16 reservedMinutes;
    }

    uint8 internal constant ALEPH = 1;
    uint8 internal constant BAD = 2;

    PaymentManager internal immutable payments;
    IPaymentExtension internal immutable extension;
    address internal immutable jobs;
    address internal immutable storages;
    address internal immutable images;
    address internal immutable sla;
    AlephToken internal immutable token;
    BadToken internal immutable bad;

    /// @dev Who pays for others, at most at this rate, and since when that has been so.
    address public immutable patron;
    uint128 public constant PATRON_RATE = 1e15 << 32;
    uint256 public immutable started;

    address[] internal _payers;
    uint64[] internal _payees;
    Reserve[] public reserves;

    /// @dev The books: everything a payer's wallet gave and got back, what others gave for it, and what was claimed of it.
    mapping(address payer => uint256) public taken;
    mapping(address payer => uint256) public repaid;
    mapping(address payer => uint256) public given;
    mapping(address payer => uint256) public claimedOf;
    mapping(address payer => uint256) public chargedOf;
    mapping(address payer => uint256) public debtPaidFor;
    /// @dev The integral of the payer's rate over time, scaled: what the payer has agreed to pay so far.
    mapping(address payer => uint256) public agreedQ32;
    mapping(address payer => uint256) public highestRate;
    mapping(address payer => mapping(uint64 payee => uint256)) public rateOf;
    mapping(address payer => mapping(uint64 payee => uint256)) public badRateOf;
    /// @dev What was credited by claims, charges and debts, and what left the credits.
    uint256 public credited;
    uint256 public withdrawn;
    uint256 public compensated;
    /// @dev Roundings: each call loses less than one wei per pair.
    uint256 public roundings;
    uint256 public steps;
    mapping(bytes32 action => uint256) public done;

    constructor(
        PaymentManager payments_,
        AlephToken token_,
        BadToken bad_,
        address patron_,
        address[] memory payers_,
        uint64[] memory payees_
    ) {
        (payments, extension, token, bad) = (payments_, IPaymentExtension(address(payments_)), token_, bad_);
        (jobs, storages) = (payments_.peers().jobs, payments_.peers().storages);
        (images, sla) = (payments_.peers().images, payments_.peers().sla);
        (patron, started, _payers, _payees) = (patron_, block.timestamp, payers_, payees_);
    }

    modifier step() {
        ++steps;
        _;
    }

    /* ACTIONS */

    function reserve(uint256 who, uint256 to, uint256 rate, bool whole) external step {
        (address payer, uint64 payee) = (_payer(who), _payee(to));
        uint128 rateQ32 = _rate(rate, whole);
        (uint256 before, uint256 patrons) = (token.balanceOf(payer), token.balanceOf(patron));
        try _as(payee).reserve(payer, ALEPH, payee, rateQ32) returns (uint16 reservedMinutes) {
            reserves.push(Reserve(payer, payee, rateQ32, reservedMinutes));
            _count("reserve");
        } catch (bytes memory err) {
            _expect(err);
        }
        _book(payer, before, patrons);
    }

    function activate(uint256 which) external step {
        if (reserves.length == 0) return;
        Reserve memory r = _popReserve(which);
        (uint256 before, uint256 patrons) = (token.balanceOf(r.payer), token.balanceOf(patron));
        if (_as(r.payee).activate(r.payer, ALEPH, r.payee, r.rateQ32, r.reservedMinutes)) {
            _raise(r.payer, r.payee, r.rateQ32);
            _count("activate");
        } else {
            _count("activate late");
        }
        _book(r.payer, before, patrons);
    }

    function release(uint256 which) external step {
        if (reserves.length == 0) return;
        Reserve memory r = _popReserve(which);
        _as(r.payee).release(r.payer, ALEPH, r.payee, r.rateQ32, r.reservedMinutes);
        _count("release");
    }

    function open(uint256 who, uint256 to, uint256 rate, bool whole) external step {
        (address payer, uint64 payee) = (_payer(who), _payee(to));
        uint128 rateQ32 = _rate(rate, whole);
        (uint256 before, uint256 patrons) = (token.balanceOf(payer), token.balanceOf(patron));
        try _as(payee).setFlow(payer, ALEPH, payee, int256(uint256(rateQ32))) {
            _raise(payer, payee, rateQ32);
            _count("open");
        } catch (bytes memory err) {
            _expect(err);
        }
        _book(payer, before, patrons);
    }

    function close(uint256 who, uint256 to, uint256 part) external step {
        (address payer, uint64 payee) = (_payer(who), _payee(to));
        uint256 rate = rateOf[payer][payee];
        if (rate == 0) return;
        // Half of the time the whole flow, else a part of it.
        uint256 delta = part % 2 == 0 ? rate : bound(part, 1, rate);
        (uint256 before, uint256 patrons) = (token.balanceOf(payer), token.balanceOf(patron));
        _as(payee).setFlow(payer, ALEPH, payee, -int256(delta));
        rateOf[payer][payee] -= delta;
        _book(payer, before, patrons);
        _count("close");
    }

    function closeOverdue(uint256 who, uint256 to) external step {
        (address payer, uint64 payee) = (_payer(who), _payee(to));
        uint256 rate = rateOf[payer][payee];
        if (rate == 0) return;
        (uint256 before, uint256 patrons) = (token.balanceOf(payer), token.balanceOf(patron));
        if (_as(payee).closeOverdue(payer, ALEPH, payee, uint128(rate))) {
            rateOf[payer][payee] = 0;
            _count("closeOverdue");
        }
        _book(payer, before, patrons);
    }

    function pull(uint256 who) external step {
        address payer = _payer(who);
        (uint256 before, uint256 patrons) = (token.balanceOf(payer), token.balanceOf(patron));
        (uint256 pulled,) = payments.pull(payer, ALEPH);
        require(before + patrons - _wallets(payer) == pulled, "pull reported another amount");
        _book(payer, before, patrons);
        _count("pull");
    }

    function pullMany() external step {
        uint256[3] memory before = [_balance(0), _balance(1), _balance(2)];
        uint256 patrons = token.balanceOf(patron);
        payments.pullMany(_payers, ALEPH);
        for (uint256 i; i < 3; ++i) {
            taken[_payers[i]] += before[i] - _balance(i);
        }
        // Only the first payer has a sponsor.
        given[_payers[0]] += patrons - token.balanceOf(patron);
        _count("pullMany");
    }

    function claim(uint256 to, bool all, uint256 who) external step {
        uint64 payee = _payee(to);
        address[] memory from = _payers;
        if (!all) {
            from = new address[](1);
            from[0] = _payer(who);
        }
        uint256 sum;
        for (uint256 i; i < from.length; ++i) {
            uint256 amount = payments.pair(from[i], ALEPH, payee).claimable;
            claimedOf[from[i]] += amount;
            sum += amount;
        }
        uint256 gross = payments.claim(payee, ALEPH, from);
        require(gross == sum, "claim gave another amount than the view");
        require(payments.claim(payee, ALEPH, from) == 0, "PM-7: claim twice in a block");
        credited += gross;
        if (gross != 0) _count("claim");
    }

    function withdraw(uint256 to, uint256 part) external step {
        uint64 payee = _payee(to);
        uint256 credit = payments.creditOf(payee, ALEPH);
        if (credit == 0) return;
        uint128 amount = uint128(bound(part, 1, credit));
        if (Payees.classOf(payee) == Payees.IMAGE) {
            address[] memory to = new address[](1);
            uint128[] memory amounts = new uint128[](1);
            (to[0], amounts[0]) = (address(0xbeef), amount);
            vm.prank(images);
            payments.payOut(payee, ALEPH, to, amounts);
        } else {
            vm.prank(payments.payoutOf(payee));
            payments.withdraw(payee, ALEPH, amount);
        }
        withdrawn += amount;
        _count("withdraw");
    }

    function withdrawRefund(uint256 who) external step {
        address payer = _payer(who);
        if (payments.account(payer, ALEPH).refund == 0) return;
        vm.prank(payer);
        repaid[payer] += payments.withdrawRefund(payer, ALEPH);
        _count("withdrawRefund");
    }

    function payDebt(uint256 who, uint256 to) external step {
        (address payer, uint64 payee) = (_payer(who), _payee(to));
        uint256 debt = payments.pair(payer, ALEPH, payee).debt;
        if (debt == 0 || token.balanceOf(payer) < debt || token.allowance(payer, address(payments)) < debt) return;
        if (payments.account(payer, ALEPH).source == 1) return;
        vm.prank(payer);
        uint256 amount = payments.payDebt(payer, ALEPH, payee);
        require(amount == debt, "payDebt took another amount");
        debtPaidFor[payer] += amount;
        credited += amount;
        _count("payDebt");
    }

    function chargeOnce(uint256 who, uint256 to, uint256 amount) external step {
        (address payer, uint64 payee) = (_payer(who), _payee(to));
        amount = bound(amount, 1, 1e18);
        (uint256 before, uint256 patrons) = (token.balanceOf(payer), token.balanceOf(patron));
        try _as(payee).chargeOnce(payer, ALEPH, payee, uint128(amount), "charge") {
            chargedOf[payer] += amount;
            credited += amount;
            _count("chargeOnce");
        } catch (bytes memory err) {
            _expect(err);
        }
        _book(payer, before, patrons);
    }

    function compensate(uint256 who, uint256 to, uint256 most) external step {
        (address payer, uint64 payee) = (_payer(who), _payee(to));
        uint128 credit = payments.creditOf(payee, ALEPH);
        vm.prank(sla);
        uint128 paid = payments.compensate(payee, ALEPH, payer, uint128(bound(most, 0, 1e18)), "case");
        require(payments.creditOf(payee, ALEPH) == credit - paid, "compensate took another amount");
        given[payer] += paid;
        compensated += paid;
        if (paid != 0) _count("compensate");
    }

    function revokeAll(uint256 who, uint256 often) external step {
        // Seldom, or nothing would ever run for long.
        if (often % 4 != 0) return;
        address payer = _payer(who);
        (uint256 before, uint256 patrons) = (token.balanceOf(payer), token.balanceOf(patron));
        vm.prank(payer);
        try extension.revokeAll(ALEPH) {
            _count("revokeAll");
        } catch (bytes memory err) {
            require(bytes4(err) == IPaymentManager.NothingToRevoke.selector, "revokeAll failed");
        }
        _book(payer, before, patrons);
    }

    function deposit(uint256 who, uint256 amount) external step {
        address payer = _payer(who);
        amount = bound(amount, 1, 1e20);
        if (payments.account(payer, ALEPH).source == 1) return;
        if (token.balanceOf(payer) < amount || token.allowance(payer, address(payments)) < amount) return;
        vm.prank(payer);
        extension.deposit(ALEPH, uint128(amount));
        taken[payer] += amount;
        _count("deposit");
    }

    function withdrawDeposit(uint256 who, uint256 amount) external step {
        address payer = _payer(who);
        uint256 refund = payments.account(payer, ALEPH).refund;
        if (refund == 0) return;
        amount = bound(amount, 1, refund);
        vm.prank(payer);
        extension.withdrawDeposit(ALEPH, uint128(amount));
        repaid[payer] += amount;
        _count("withdrawDeposit");
    }

    /// @dev Mostly the wallet; a source that has nothing is what Permit2 is here.
    function setSource(uint256 who, uint256 source) external step {
        vm.prank(_payer(who));
        extension.setSource(ALEPH, source % 8 < 2 ? uint8(1 + source % 2) : 0);
        _count("setSource");
    }

    function sponsor(bool on) external step {
        vm.prank(patron);
        extension.sponsor(_payers[0], ALEPH, on ? PATRON_RATE : 0, type(uint40).max);
        _count("sponsor");
    }

    /* A TOKEN THAT MISBEHAVES */

    function badMode(uint256 mode) external step {
        bad.setMode(BadToken.Mode(mode % (uint256(type(BadToken.Mode).max) + 1)));
    }

    function badOpen(uint256 who, uint256 to) external step {
        (address payer, uint64 payee) = (_payer(who), _payee(to));
        try _as(payee).setFlow(payer, BAD, payee, 1000 << 32) {
            badRateOf[payer][payee] += 1000 << 32;
            _count("badOpen");
        } catch {}
    }

    /// @dev PM-10: never fails.
    function badClose(uint256 who, uint256 to) external step {
        (address payer, uint64 payee) = (_payer(who), _payee(to));
        uint256 rate = badRateOf[payer][payee];
        if (rate == 0) return;
        _as(payee).setFlow(payer, BAD, payee, -int256(rate));
        badRateOf[payer][payee] = 0;
        _count("badClose");
    }

    /// @dev Neither does a pull.
    function badPull() external step {
        payments.pullMany(_payers, BAD);
        _count("badPull");
    }

    function warp(uint256 time) external step {
        // Seconds, hours or days, as likely as each other; often exactly to the end of somebody's money.
        uint256 pick = time % 4;
        uint256 span = pick == 0 ? 60 : pick == 1 ? 3600 : 30 hours;
        uint256 to = block.timestamp + bound(time, 1, span);
        if (pick == 3) {
            uint256 end = payments.account(_payer(time >> 8), ALEPH).paidUntil;
            if (end + 1 > block.timestamp) to = end + (time >> 16) % 2;
        }
        for (uint256 i; i < _payers.length; ++i) {
            agreedQ32[_payers[i]] += payments.account(_payers[i], ALEPH).rateQ32 * (to - block.timestamp);
        }
        vm.warp(to);
    }

    function approve(uint256 who, uint256 amount) external step {
        address payer = _payer(who);
        uint256 pick = amount % 4;
        uint256 value = pick == 0 ? 0 : pick == 1 ? bound(amount, 0, 1e20) : type(uint256).max;
        vm.prank(payer);
        token.approve(address(payments), value);
        _count("approve");
    }

    /* VIEWS */

    function payers() external view returns (address[] memory) {
        return _payers;
    }

    function payees() external view returns (uint64[] memory) {
        return _payees;
    }

    function openReserves() external view returns (uint256) {
        return reserves.length;
    }

    /* INTERNAL */

    /// @dev The PaymentManager, for one call by the controller that pays such a payee.
    function _as(uint64 payee) private returns (PaymentManager) {
        vm.prank(payee > Payees.STORAGES ? storages : jobs);
        return payments;
    }

    /// @dev What a payer's wallet and its sponsor have.
    function _wallets(address payer) private view returns (uint256) {
        return token.balanceOf(payer) + token.balanceOf(patron);
    }

    /// @dev Counts what a call took from the wallets; what the sponsor gave was given for the payer.
    function _book(address payer, uint256 ofPayer, uint256 ofPatron) private {
        taken[payer] += ofPayer - token.balanceOf(payer);
        given[payer] += ofPatron - token.balanceOf(patron);
    }

    function _payer(uint256 seed) private view returns (address) {
        return _payers[seed % _payers.length];
    }

    function _payee(uint256 seed) private view returns (uint64) {
        return _payees[seed % _payees.length];
    }

    function _balance(uint256 i) private view returns (uint256) {
        return token.balanceOf(_payers[i]);
    }

    /// @dev From less than a wei per second to 0.01 token per second.
    function _rate(uint256 seed, bool whole) private pure returns (uint128) {
        if (whole) return uint128(bound(seed, 1, 1e16) << 32);
        return uint128(bound(seed, 1, seed % 2 == 0 ? 1e16 << 32 : 10 << 32));
    }

    function _popReserve(uint256 which) private returns (Reserve memory r) {
        uint256 i = which % reserves.length;
        r = reserves[i];
        reserves[i] = reserves[reserves.length - 1];
        reserves.pop();
    }

    function _raise(address payer, uint64 payee, uint256 delta) private {
        rateOf[payer][payee] += delta;
        uint256 rate = payments.account(payer, ALEPH).rateQ32;
        if (rate > highestRate[payer]) highestRate[payer] = rate;
    }

    function _count(bytes32 action) private {
        ++done[action];
        roundings += 4;
    }

    /// @dev The only ways in which a new obligation may be refused here.
    function _expect(bytes memory err) private {
        bytes4 selector = bytes4(err);
        require(
            selector == AlephErrors.Insufficient.selector || selector == IPaymentManager.InArrears.selector
                || selector == IPaymentManager.HasDebt.selector || selector == IPaymentManager.Revoked.selector,
            "unexpected revert"
        );
        _count("refused");
    }
}
