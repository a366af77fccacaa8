// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentManager} from "../../src/interfaces/IPaymentManager.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {Suite} from "../utils/Suite.sol";
import {PaymentHandler} from "./PaymentHandler.sol";

/// @title Payments
/// @notice What holds of the PaymentManager whatever happens in whatever order; the names are those of
/// docs/contracts/payment.md.
contract PaymentsInvariantTest is Suite {
    uint256 internal constant WINDOW = 3600;

    PaymentHandler internal handler;
    address[] internal payers;
    uint64[] internal payees;
    uint64[] internal everyPayee;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < 3; ++i) {
            address p = makeAddr(string.concat("payer", vm.toString(i)));
            payers.push(p);
            // The third payer is poor: its wallet runs dry within hours.
            _fund(p, i == 2 ? 100 ether : 10_000_000 ether);
        }
        for (uint256 i; i < 4; ++i) {
            payees.push(workers[i].id);
            everyPayee.push(workers[i].id);
        }
        for (uint64 pool = Payees.STAKERS; pool <= Payees.DEVELOPMENT; ++pool) {
            everyPayee.push(pool);
            payments.setPoolPayout(pool, makeAddr("pool"));
        }
        handler = new PaymentHandler(payments, address(jobs), token, payers, payees);
        targetContract(address(handler));
    }

    /// @dev One payer after each call, everything after every eighth: a violation stays, so nothing is missed, and the
    /// suite takes a third of the time.
    function invariant_payments() public view {
        uint256 step = handler.steps();
        _checkPayer(payers[step % 3]);
        if (step % 8 == 0) _checkSolvency();
    }

    /// @dev PM-10 and G-3: from any state every flow can be ended even though the token fails, and then everybody can
    /// take what is theirs.
    function afterInvariant() public {
        _checkSolvency();
        vm.mockCallRevert(address(token), abi.encodeWithSelector(token.transferFrom.selector), "token fails");
        vm.startPrank(address(jobs));
        for (uint256 n = handler.openReserves(); n > 0; --n) {
            (address p, uint64 payee, uint128 rateQ32, uint16 reservedMinutes) = handler.reserves(n - 1);
            payments.release(p, ALEPH, payee, rateQ32, reservedMinutes);
        }
        for (uint256 i; i < payers.length; ++i) {
            for (uint256 j; j < payees.length; ++j) {
                uint256 rate = payments.pair(payers[i], ALEPH, payees[j]).rateQ32;
                if (rate != 0) payments.setFlow(payers[i], ALEPH, payees[j], -int256(rate));
            }
        }
        vm.stopPrank();
        vm.clearMockedCalls();
        _unwind();
        assertLe(token.balanceOf(address(payments)), handler.roundings() + 32, "G-3: nothing left behind");
    }

    function _unwind() private {
        for (uint256 j; j < payees.length; ++j) {
            payments.claim(payees[j], ALEPH, payers);
        }
        for (uint256 j; j < everyPayee.length; ++j) {
            uint128 credit = payments.creditOf(everyPayee[j], ALEPH);
            if (credit == 0) continue;
            vm.prank(payments.payoutOf(everyPayee[j]));
            payments.withdraw(everyPayee[j], ALEPH, credit);
        }
        for (uint256 i; i < payers.length; ++i) {
            IPaymentManager.AccountView memory a = payments.account(payers[i], ALEPH);
            assertEq(a.rateQ32, 0, "PM-10: every flow ended");
            assertEq(a.reserved, 0, "G-3: no reserve left");
            assertEq(a.arrearsSince, 0, "G-3: no arrears left");
            if (a.refund != 0) payments.withdrawRefund(payers[i], ALEPH);
        }
    }

    function _checkSolvency() private view {
        uint256 owes = _creditsAndCheckSum();
        for (uint256 i; i < payers.length; ++i) {
            owes += _checkPayer(payers[i]);
        }
        uint256 held = token.balanceOf(address(payments));
        assertGe(held, owes, "PM-1: solvent");
        assertLe(held - owes, handler.roundings(), "PM-1: nothing stranded but roundings");
        (uint256 heldView, uint256 owesView) = lens.solvency(ALEPH, payers, everyPayee);
        assertEq(heldView, held, "solvency view: held");
        assertEq(owesView, owes, "solvency view: owes");
    }

    /// @dev PM-8 and PM-1's part of payees.
    function _creditsAndCheckSum() private view returns (uint256 sum) {
        for (uint256 j; j < everyPayee.length; ++j) {
            sum += payments.creditOf(everyPayee[j], ALEPH);
        }
        assertEq(sum + handler.withdrawn(), handler.credited(), "PM-8: parts make the gross");
    }

    /// @dev Everything that must hold of one payer; gives what the contract owes on the payer's account.
    function _checkPayer(address p) private view returns (uint256) {
        IPaymentManager.AccountView memory a = payments.account(p, ALEPH);
        (uint256 rates, uint256 claimable, uint256 flows, uint256 debts) = _checkPairs(p, a);
        assertEq(a.rateQ32, rates, "PM-2: account rate is the sum of pair rates");
        assertEq(a.flows, flows, "PM-2: flows are counted");
        assertEq(a.debts, debts, "debts are counted");
        assertLe(a.paidUntil, block.timestamp + WINDOW + 1, "PM-3: at most a window ahead");
        if (a.rateQ32 == 0) assertEq(flows, 0, "PM-9: idle");
        if (a.arrearsSince != 0) {
            assertGt(a.rateQ32, 0, "PM-9: arrears only with a flow");
            assertLt(a.paidUntil, block.timestamp, "arrears only when late");
        }
        uint256 prepaid =
            a.paidUntil > block.timestamp ? (uint256(a.rateQ32) * (a.paidUntil - block.timestamp)) >> 32 : 0;
        uint256 kept = uint256(a.refund) + a.reserved + prepaid + claimable;
        _checkBooks(p, kept, a);
        return kept;
    }

    /// @dev What went in and did not come back is still there or was claimed; and it is no more than was agreed.
    function _checkBooks(address p, uint256 kept, IPaymentManager.AccountView memory a) private view {
        uint256 net = handler.taken(p) - handler.repaid(p);
        uint256 used = kept + handler.claimedOf(p);
        assertGe(net, used, "PM-1 per payer: nobody pays for another");
        assertLe(net - used, handler.roundings(), "PM-1 per payer: nothing lost but roundings");
        uint256 bound = (handler.agreedQ32(p) >> 32) + ((handler.highestRate(p) * WINDOW) >> 32) + a.reserved + a.refund
            + handler.roundings();
        assertLe(net, bound, "PM-5: never more than agreed and a window");
    }

    function _checkPairs(address p, IPaymentManager.AccountView memory a)
        private
        view
        returns (uint256 rates, uint256 claimable, uint256 flows, uint256 debts)
    {
        for (uint256 j; j < payees.length; ++j) {
            IPaymentManager.PairView memory pair = payments.pair(p, ALEPH, payees[j]);
            rates += pair.rateQ32;
            if (pair.rateQ32 != 0) ++flows;
            if (pair.debt != 0) ++debts;
            assertEq(pair.rateQ32, handler.rateOf(p, payees[j]), "PM-2: pair rate is what was agreed");
            uint256 until = a.paidUntil < block.timestamp ? a.paidUntil : block.timestamp;
            uint256 latest = a.paidUntil > block.timestamp ? a.paidUntil : block.timestamp;
            assertLe(pair.since, latest, "PM-4: since is not ahead");
            uint256 earned = pair.pendingQ32;
            if (until > pair.since) earned += uint256(pair.rateQ32) * (until - pair.since);
            assertEq(pair.claimable, earned >> 32, "claimable is what was earned");
            claimable += earned >> 32;
        }
    }
}
