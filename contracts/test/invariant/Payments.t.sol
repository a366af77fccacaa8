// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentManager} from "../../src/interfaces/IPaymentManager.sol";
import {Payees} from "../../src/libraries/Payees.sol";
import {BadToken} from "../utils/BadToken.sol";
import {Suite} from "../utils/Suite.sol";
import {PaymentHandler} from "./PaymentHandler.sol";

/// @title Payments
/// @notice What holds of the PaymentManager whatever happens in whatever order; the names are those of
/// docs/contracts/payment.md.
contract PaymentsInvariantTest is Suite {
    uint256 internal constant WINDOW = 3600;

    PaymentHandler internal handler;
    BadToken internal bad;
    address[] internal payers;
    uint64[] internal payees;
    uint64[] internal everyPayee;
    /// @dev Allows the contract everything and never asks for anything.
    address internal bystander = makeAddr("bystander");

    function setUp() public override {
        super.setUp();
        bad = new BadToken(6);
        payments.listToken(address(bad));
        for (uint256 i; i < 3; ++i) {
            address p = makeAddr(string.concat("payer", vm.toString(i)));
            payers.push(p);
            // The third payer is poor: its wallet runs dry within hours.
            _fund(p, i == 2 ? 100 ether : 10_000_000 ether);
            bad.mint(p, 1e18);
            vm.prank(p);
            bad.approve(address(payments), type(uint256).max);
        }
        _fund(bystander, 1 ether);
        // A node that computes, one that computes and stores, and an image.
        payees = [uint64(workers[0].id), workers[1].id, Payees.ofStorage(workers[1].id), Payees.ofImage(1)];
        everyPayee = payees;
        for (uint64 pool = Payees.STAKERS; pool <= Payees.DEVELOPMENT; ++pool) {
            everyPayee.push(pool);
            payments.setPoolPayout(pool, makeAddr("pool"));
        }
        extension.setTokenTerms(ALEPH, 0, 0, 1e12);
        address patron = makeAddr("patron");
        _fund(patron, 1_000_000 ether);
        handler = new PaymentHandler(payments, token, bad, patron, payers, payees);
        targetContract(address(handler));
    }

    /* PROPERTIES */

    function invariant_PM1_solvent() public view {
        uint256 owes = _bounties();
        for (uint256 j; j < everyPayee.length; ++j) {
            owes += payments.creditOf(everyPayee[j], ALEPH);
        }
        for (uint256 i; i < payers.length; ++i) {
            owes += _kept(payers[i]);
        }
        uint256 held = token.balanceOf(address(payments));
        assertGe(held, owes, "PM-1: solvent");
        assertLe(held - owes, handler.roundings(), "PM-1: nothing stranded but roundings");
        (uint256 heldView, uint256 owesView) = lens.solvency(ALEPH, payers, everyPayee);
        assertEq(heldView, held, "solvency view: held");
        assertEq(owesView + _bounties(), owes, "solvency view: owes");
    }

    /// @dev What went in for a payer and did not come back is still there or was claimed or charged.
    function invariant_PM1_nobodyPaysForAnother() public view {
        for (uint256 i; i < payers.length; ++i) {
            address p = payers[i];
            uint256 net = handler.taken(p) + handler.given(p) - handler.repaid(p);
            uint256 used = _kept(p) + handler.claimedOf(p) + handler.chargedOf(p);
            assertGe(net, used, "PM-1 per payer: nobody pays for another");
            assertLe(net - used, handler.roundings(), "PM-1 per payer: nothing lost but roundings");
        }
    }

    function invariant_PM2_ratesAddUp() public view {
        for (uint256 i; i < payers.length; ++i) {
            IPaymentManager.AccountView memory a = payments.account(payers[i], ALEPH);
            (uint256 rates, uint256 flows, uint256 debts) = (0, 0, 0);
            for (uint256 j; j < payees.length; ++j) {
                IPaymentManager.PairView memory pair = payments.pair(payers[i], ALEPH, payees[j]);
                assertEq(pair.rateQ32, handler.rateOf(payers[i], payees[j]), "PM-2: pair rate is what was agreed");
                rates += pair.rateQ32;
                if (pair.rateQ32 != 0) ++flows;
                if (pair.debt != 0) ++debts;
            }
            // After a revocation the pairs are what is to be closed, and nothing flows.
            assertEq(a.rateQ32, a.revokedAt == 0 ? rates : 0, "PM-2: account rate is the sum of pair rates");
            assertEq(a.flows, flows, "PM-2: flows are counted");
            assertEq(a.debts, debts, "PM-2: debts are counted");
            if (a.revokedAt != 0) assertTrue(flows != 0 || a.reserved != 0, "PM-2: a revocation ends");
        }
    }

    function invariant_PM3_atMostAWindowAhead() public view {
        for (uint256 i; i < payers.length; ++i) {
            IPaymentManager.AccountView memory a = payments.account(payers[i], ALEPH);
            assertLe(a.window, WINDOW);
            assertLe(a.paidUntil, block.timestamp + a.window, "PM-3: at most a window ahead");
        }
    }

    function invariant_PM4_sinceIsNotAhead() public view {
        for (uint256 i; i < payers.length; ++i) {
            uint256 paidUntil = payments.account(payers[i], ALEPH).paidUntil;
            uint256 latest = paidUntil > block.timestamp ? paidUntil : block.timestamp;
            uint256 until = paidUntil < block.timestamp ? paidUntil : block.timestamp;
            for (uint256 j; j < payees.length; ++j) {
                IPaymentManager.PairView memory pair = payments.pair(payers[i], ALEPH, payees[j]);
                assertLe(pair.since, latest, "PM-4: since is not ahead");
                uint256 earned = pair.pendingQ32;
                if (until > pair.since) earned += uint256(pair.rateQ32) * (until - pair.since);
                assertEq(pair.claimable, earned >> 32, "claimable is what was earned");
            }
        }
    }

    function invariant_PM5_neverMoreThanAgreed() public view {
        for (uint256 i; i < payers.length; ++i) {
            address p = payers[i];
            IPaymentManager.AccountView memory a = payments.account(p, ALEPH);
            uint256 net = handler.taken(p) + handler.given(p) - handler.repaid(p);
            uint256 most = (handler.agreedQ32(p) >> 32) + ((handler.highestRate(p) * WINDOW) >> 32) + a.reserved
                + a.refund + handler.chargedOf(p) + handler.roundings();
            assertLe(net, most, "PM-5: never more than agreed and a window");
        }
        uint256 gave = 1_000_000 ether - token.balanceOf(handler.patron());
        uint256 time = block.timestamp - handler.started();
        assertLe(gave, (uint256(handler.PATRON_RATE()) * time) >> 32, "PM-5: a sponsor pays its rate and time");
    }

    function invariant_PM6_onlyWhoAgreed() public view {
        assertEq(token.balanceOf(bystander), 1 ether, "PM-6");
    }

    /// @dev PM-7, a second claim in a block gives nothing, is checked by the handler after each claim.
    function invariant_PM8_partsMakeTheGross() public view {
        uint256 sum = handler.withdrawn() + handler.compensated() + _bounties();
        for (uint256 j; j < everyPayee.length; ++j) {
            sum += payments.creditOf(everyPayee[j], ALEPH);
        }
        assertEq(sum, handler.credited(), "PM-8");
    }

    function invariant_PM9_idleAccounts() public view {
        for (uint256 i; i < payers.length; ++i) {
            IPaymentManager.AccountView memory a = payments.account(payers[i], ALEPH);
            if (a.rateQ32 == 0 && a.revokedAt == 0) assertEq(a.flows, 0, "PM-9: idle");
            if (a.arrearsSince != 0) {
                assertGt(a.rateQ32, 0, "PM-9: arrears only with a flow");
                assertLt(a.paidUntil, block.timestamp, "PM-9: arrears only when late");
            }
        }
    }

    /// @dev The account in the other token is consistent, too; that ALEPH's is, the other properties say.
    function invariant_PM11_aBadTokenIsAlone() public view {
        for (uint256 i; i < payers.length; ++i) {
            IPaymentManager.AccountView memory a = payments.account(payers[i], 2);
            uint256 rates;
            for (uint256 j; j < payees.length; ++j) {
                rates += handler.badRateOf(payers[i], payees[j]);
            }
            assertEq(a.rateQ32, rates, "PM-11: rates");
            assertLe(a.paidUntil, block.timestamp + a.window, "PM-11: window");
        }
    }

    /* UNWINDING */

    /// @dev PM-10 and G-3: from any state every flow can be ended even though the token fails, and then everybody can
    /// take what is theirs.
    function afterInvariant() public {
        vm.mockCallRevert(address(token), abi.encodeWithSelector(token.transferFrom.selector), "token fails");
        for (uint256 n = handler.openReserves(); n > 0; --n) {
            (address p, uint64 payee, uint128 rateQ32, uint16 reservedMinutes) = handler.reserves(n - 1);
            vm.prank(_controllerOf(payee));
            payments.release(p, ALEPH, payee, rateQ32, reservedMinutes);
        }
        for (uint256 i; i < payers.length; ++i) {
            for (uint256 j; j < payees.length; ++j) {
                uint256 rate = payments.pair(payers[i], ALEPH, payees[j]).rateQ32;
                if (rate == 0) continue;
                vm.prank(_controllerOf(payees[j]));
                payments.setFlow(payers[i], ALEPH, payees[j], -int256(rate));
            }
        }
        vm.clearMockedCalls();
        _unwind();
        assertLe(token.balanceOf(address(payments)), handler.roundings() + 32, "G-3: nothing left behind");
    }

    function _unwind() private {
        for (uint256 j; j < payees.length; ++j) {
            payments.claim(payees[j], ALEPH, payers);
        }
        for (uint256 j; j < everyPayee.length; ++j) {
            uint64 payee = everyPayee[j];
            uint128 credit = payments.creditOf(payee, ALEPH);
            if (credit == 0) continue;
            if (payee >> 32 == 1) {
                (address[] memory to, uint128[] memory amounts) = (new address[](1), new uint128[](1));
                (to[0], amounts[0]) = (address(0xbeef), credit);
                _asImages().payOut(payee, ALEPH, to, amounts);
            } else {
                vm.prank(payments.payoutOf(payee));
                payments.withdraw(payee, ALEPH, credit);
            }
        }
        for (uint256 i; i < payers.length; ++i) {
            IPaymentManager.AccountView memory a = payments.account(payers[i], ALEPH);
            assertEq(a.rateQ32, 0, "PM-10: every flow ended");
            assertEq(a.flows, 0, "PM-10: every flow ended");
            assertEq(a.reserved, 0, "G-3: no reserve left");
            assertEq(a.arrearsSince, 0, "G-3: no arrears left");
            assertEq(a.revokedAt, 0, "G-3: no revocation left");
            vm.prank(payers[i]);
            if (a.refund != 0) payments.withdrawRefund(payers[i], ALEPH);
        }
        if (_bounties() != 0) payments.withdrawRefund(address(handler), ALEPH);
    }

    /* INTERNAL */

    function _controllerOf(uint64 payee) private view returns (address) {
        return payee > Payees.STORAGES ? storagesAt : address(jobs);
    }

    /// @dev What the handler has earned by pulling.
    function _bounties() private view returns (uint256) {
        return payments.account(address(handler), ALEPH).refund;
    }

    /// @dev What the contract owes on a payer's account.
    function _kept(address p) private view returns (uint256 kept) {
        IPaymentManager.AccountView memory a = payments.account(p, ALEPH);
        kept = uint256(a.refund) + a.reserved;
        if (a.paidUntil > block.timestamp) kept += (uint256(a.rateQ32) * (a.paidUntil - block.timestamp)) >> 32;
        for (uint256 j; j < payees.length; ++j) {
            kept += payments.pair(p, ALEPH, payees[j]).claimable;
        }
    }
}
