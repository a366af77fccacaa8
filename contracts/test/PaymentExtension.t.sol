// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PaymentManager} from "../src/PaymentManager.sol";
import {IPaymentExtension} from "../src/interfaces/IPaymentExtension.sol";
import {IPaymentManager} from "../src/interfaces/IPaymentManager.sol";
import {IPermit2} from "../src/interfaces/IPermit2.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Payees} from "../src/libraries/Payees.sol";
import {Permit2Suite} from "./utils/Permit2Suite.sol";
import {TestToken} from "./utils/TestToken.sol";

contract PaymentExtensionTest is Permit2Suite {
    uint128 internal constant R = uint128(1000 * Q);
    uint64 internal node;

    function setUp() public override {
        super.setUp();
        _deployPermit2();
        node = workers[0].id;
    }

    function _flow(uint64 payee, int256 delta) private {
        _asJobs().setFlow(payer, ALEPH, payee, delta);
    }

    function _account() private view returns (IPaymentManager.AccountView memory) {
        return payments.account(payer, ALEPH);
    }

    function _approve(uint256 amount) private {
        vm.prank(payer);
        token.approve(address(payments), amount);
    }

    function _asPayer() private returns (IPaymentExtension) {
        vm.prank(payer);
        return extension;
    }

    /* REVOCATION */

    function test_revokeAll_endsEverythingAtOnce() public {
        _flow(node, int256(uint256(R)));
        _flow(workers[1].id, int256(2 * uint256(R)));
        _asJobs().reserve(payer, ALEPH, workers[2].id, R);
        skip(600);
        vm.expectEmit(address(payments));
        emit IPaymentManager.FlowsRevoked(payer, ALEPH, START + 600, START + 600, 3_000 * 3_000);
        _asPayer().revokeAll(ALEPH);
        IPaymentManager.AccountView memory a = _account();
        assertEq(a.rateQ32, 0);
        assertEq(a.flows, 2, "what is not closed is still counted");
        assertEq(a.revokedAt, START + 600);
        assertEq(a.arrearsSince, 0);

        skip(30 days);
        (uint256 pulled,) = payments.pull(payer, ALEPH);
        assertEq(pulled, 0, "nothing is pulled any more");
        assertEq(_claim(node), 600_000, "what ran before is paid, and no more");
        assertEq(_claim(workers[1].id), 1_200_000);
        assertEq(_claim(workers[1].id), 0);
    }

    function test_revokeAll_closesLazily() public {
        test_revokeAll_endsEverythingAtOnce();
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.Revoked.selector, START + 600));
        _asJobs().reserve(payer, ALEPH, node, R);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.Revoked.selector, START + 600));
        _flow(node, 1);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.Revoked.selector, START + 600));
        _asJobs().chargeOnce(payer, ALEPH, node, 1, 0);
        vm.expectRevert(IPaymentManager.NothingToRevoke.selector);
        _asPayer().revokeAll(ALEPH);

        uint256 refund = _account().refund;
        assertTrue(_asJobs().closeOverdue(payer, ALEPH, node, R), "anyone may close at once");
        assertFalse(_asJobs().activate(payer, ALEPH, workers[2].id, R, 60), "what has not started never does");
        assertEq(_account().refund, refund + 3_600_000, "the reserve comes back, nothing else");
        _flow(workers[1].id, -int256(uint256(R)));
        assertEq(_account().flows, 1);
        vm.expectEmit(address(payments));
        emit IPaymentManager.RevocationEnded(payer, ALEPH);
        _flow(workers[1].id, -int256(uint256(R)));
        assertEq(_account().revokedAt, 0);
        assertEq(_account().debts, 0);
        _flow(node, int256(uint256(R)));
        assertEq(_account().rateQ32, R, "a new start");
        (uint256 held, uint256 owes) = lens.solvency(ALEPH, _payers(), _everyone());
        assertEq(held, owes);
    }

    function test_revokeAll_endsWithTheLastReserve() public {
        _asJobs().reserve(payer, ALEPH, node, R);
        _asPayer().revokeAll(ALEPH);
        vm.expectEmit(address(payments));
        emit IPaymentManager.RevocationEnded(payer, ALEPH);
        _asJobs().release(payer, ALEPH, node, R, 60);
        vm.expectRevert(IPaymentManager.NothingToRevoke.selector);
        _asPayer().revokeAll(ALEPH);
    }

    function test_revokeAll_inArrearsLeavesDebtsUntilThen() public {
        _flow(node, int256(uint256(R)));
        _flow(workers[1].id, int256(uint256(R)));
        _approve(0);
        skip(3600 + 500);
        _asPayer().revokeAll(ALEPH);
        assertEq(_account().paidUntil, START + 3600);
        skip(10 days);
        vm.expectEmit(address(payments));
        emit IPaymentManager.DebtRecorded(payer, node, ALEPH, 500_000, 500_000);
        _flow(node, -int256(uint256(R)));
        assertEq(_claim(node), 3_600_000);
        assertEq(_account().debts, 1);
        assertEq(payments.pair(payer, ALEPH, workers[1].id).debt, 0);
        assertTrue(_asJobs().closeOverdue(payer, ALEPH, workers[1].id, R));
        assertEq(payments.pair(payer, ALEPH, workers[1].id).debt, 500_000);
        assertEq(_account().revokedAt, 0);
    }

    function test_revokeAll_triesToPayFirst() public {
        _flow(node, int256(uint256(R)));
        skip(3600 + 500);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Pulled(payer, ALEPH, 4_100_000, 0, 0, uint40(block.timestamp) + 3600, false);
        _asPayer().revokeAll(ALEPH);
        assertEq(_account().refund, 3_600_000, "all but what has run");
        assertEq(_claim(node), 4_100_000);
    }

    function test_revokeAll_costsTheSameForManyFlows() public {
        _flow(1, int256(uint256(R)));
        uint256 state = vm.snapshotState();
        vm.prank(payer);
        uint256 gas = gasleft();
        extension.revokeAll(ALEPH);
        gas -= gasleft();
        vm.revertToState(state);
        for (uint64 i = 2; i <= 100; ++i) {
            _flow(i, int256(uint256(R)));
        }
        vm.prank(payer);
        uint256 more = gasleft();
        extension.revokeAll(ALEPH);
        more -= gasleft();
        assertLe(more, gas + 500);
    }

    /// @dev Whatever the gap, what was taken from the wallet is what was earned, and the rest comes back.
    function testFuzz_revokeAll_isExact(uint64 rateA, uint64 rateB, uint32 first, uint32 second) public {
        uint256 a = bound(rateA, 1, 1e15);
        uint256 b = bound(rateB, 1, 1e15);
        uint256 before = token.balanceOf(payer);
        _flow(node, int256(a * Q / 7));
        skip(bound(first, 1, 3 hours));
        _flow(workers[1].id, int256(b * Q / 3));
        skip(bound(second, 1, 3 hours));
        _asPayer().revokeAll(ALEPH);
        skip(1 days);
        uint256 claimed = _claim(node) + _claim(workers[1].id);
        if (_account().refund != 0) payments.withdrawRefund(payer, ALEPH);
        uint256 paid = before - token.balanceOf(payer);
        assertGe(paid, claimed);
        assertLe(paid - claimed, 8, "only roundings");
    }

    function _everyone() private view returns (uint64[] memory list) {
        list = new uint64[](6);
        (list[0], list[1], list[2]) = (node, workers[1].id, workers[2].id);
        (list[3], list[4], list[5]) = (Payees.STAKERS, Payees.COORDINATORS, Payees.DEVELOPMENT);
    }

    /* DEPOSITS */

    function test_deposit_paysFirst() public {
        vm.expectEmit(address(payments));
        emit IPaymentManager.Deposited(payer, ALEPH, 5_000_000, 5_000_000);
        _asPayer().deposit(ALEPH, 5_000_000);
        _flow(node, int256(uint256(R)));
        assertEq(_account().refund, 1_400_000);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 1_400_000, 1_400_001));
        _asPayer().withdrawDeposit(ALEPH, 1_400_001);
        vm.expectEmit(address(payments));
        emit IPaymentManager.DepositWithdrawn(payer, ALEPH, 1_000_000, 400_000);
        _asPayer().withdrawDeposit(ALEPH, 1_000_000);
        assertEq(token.balanceOf(payer), 1_000_000 ether - 4_000_000);
    }

    function test_deposit_asTheOnlySource() public {
        _asPayer().deposit(ALEPH, 5_000_000);
        vm.expectEmit(address(payments));
        emit IPaymentManager.SourceSet(payer, ALEPH, 2);
        _asPayer().setSource(ALEPH, 2);
        assertEq(_account().source, 2);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        payments.withdrawRefund(payer, ALEPH);
        _flow(node, int256(uint256(R)));
        (, uint40 until,,) = lens.runway(payer, ALEPH);
        assertEq(until, START + 5000, "the wallet does not count");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 0, 2_200_000));
        _flow(node, int256(uint256(R)));
        skip(6000);
        payments.pull(payer, ALEPH);
        assertEq(_account().paidUntil, START + 5000);
        assertEq(_account().arrearsSince, START + 5000);
        _asPayer().setSource(ALEPH, 0);
        payments.pull(payer, ALEPH);
        assertEq(_account().arrearsSince, 0);
        _flow(node, -int256(uint256(R)));
        _asPayer().setSource(ALEPH, 2);
        vm.prank(payer);
        assertEq(payments.withdrawRefund(payer, ALEPH), 3_600_000, "the payer may");
    }

    function test_deposit_refuses() public {
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        _asPayer().deposit(ALEPH, 0);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TokenDisabled.selector, 9));
        _asPayer().deposit(9, 1);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        _asPayer().withdrawDeposit(ALEPH, 0);
        _approve(3);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 3, 4));
        _asPayer().deposit(ALEPH, 4);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 3, 0, 2));
        _asPayer().setSource(ALEPH, 3);
        payments.pause(Pausing.ENTRY | Pausing.EXIT, 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        _asPayer().deposit(ALEPH, 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.EXIT));
        _asPayer().withdrawDeposit(ALEPH, 1);
    }

    /* PERMIT2 */

    function _permit2(uint160 amount, uint48 expiration, uint48 nonce, uint256 key) private {
        bytes memory sig = _sign(
            key,
            _permit2Digest(
                IPermit2.PermitSingle({
                    details: IPermit2.PermitDetails(address(token), amount, expiration, nonce),
                    spender: address(payments),
                    sigDeadline: START
                })
            )
        );
        extension.permit2(payer, ALEPH, amount, expiration, nonce, START, sig);
    }

    function _usePermit2() private {
        _approve(0);
        vm.prank(payer);
        token.approve(address(PERMIT2), type(uint256).max);
        _asPayer().setSource(ALEPH, 1);
    }

    function test_permit2_isASource() public {
        _usePermit2();
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 0, 3_600_000));
        _flow(node, int256(uint256(R)));
        _permit2(4_000_000, START + 1 days, 0, payerKey);
        _flow(node, int256(uint256(R)));
        assertEq(token.balanceOf(address(payments)), 3_600_000);
        assertEq(_account().source, 1);
        (uint160 left,,) = PERMIT2.allowance(payer, address(token), address(payments));
        assertEq(left, 400_000);
        (, uint40 until,,) = lens.runway(payer, ALEPH);
        assertEq(until, START + 4_000);
        skip(1000);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Pulled(payer, ALEPH, 400_000, 0, 0, START + 4_000, true);
        payments.pull(payer, ALEPH);
    }

    function test_permit2_ends() public {
        _usePermit2();
        _permit2(type(uint160).max, START + 100, 0, payerKey);
        _flow(node, int256(uint256(R)));
        skip(101);
        (uint256 pulled,) = payments.pull(payer, ALEPH);
        assertEq(pulled, 0, "the allowance is over");
        (, uint40 until,,) = lens.runway(payer, ALEPH);
        assertEq(until, START + 3600);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 0, 3_701_000));
        _flow(node, int256(uint256(R)));
    }

    function test_permit2_countsInItsLastSecond() public {
        _usePermit2();
        _permit2(3_650_000, START + 100, 0, payerKey);
        _flow(node, int256(uint256(R)));
        skip(100);
        (, uint40 until,,) = lens.runway(payer, ALEPH);
        assertEq(until, START + 3_650);
        (uint256 pulled,) = payments.pull(payer, ALEPH);
        assertEq(pulled, 50_000);
    }

    function test_permit2_worksWhenFrontRun() public {
        _permit2(5, START + 1 days, 0, payerKey);
        _permit2(5, START + 1 days, 0, payerKey);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 5, 6));
        _permit2(6, START + 1 days, 1, payerKey + 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, START + 1 days, START + 2 days));
        _permit2(5, START + 2 days, 1, payerKey + 1);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TokenDisabled.selector, 9));
        extension.permit2(payer, 9, 6, START, 0, START, "");
    }

    /* LIMITS */

    function test_setLimits_boundsTheRate() public {
        vm.expectEmit(address(payments));
        emit IPaymentManager.LimitSet(payer, ALEPH, address(jobs), 2 * R, START + 1 days, type(uint88).max);
        _asPayer().setLimits(ALEPH, address(jobs), 2 * R, START + 1 days, type(uint88).max);
        _flow(node, int256(2 * uint256(R)));
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.LimitExceeded.selector, 2 * R + 1, 2 * R));
        _flow(node, 1);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.LimitExceeded.selector, 3 * R, 2 * R));
        _asJobs().reserve(payer, ALEPH, node, R);
        _asStorages().setFlow(payer, ALEPH, Payees.ofStorage(1), int256(uint256(R)));
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.LimitExceeded.selector, 3 * R, 2 * R));
        _asJobs().chargeOnce(payer, ALEPH, node, 1, 0);
        _flow(node, -int256(uint256(R)));
        _asJobs().chargeOnce(payer, ALEPH, node, 1, 0);
        vm.warp(START + 1 days);
        _asJobs().chargeOnce(payer, ALEPH, node, 1, 0);
        vm.warp(START + 1 days + 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Expired.selector, START + 1 days));
        _asJobs().chargeOnce(payer, ALEPH, node, 1, 0);
        _flow(node, -int256(uint256(R)));
        _asPayer().setLimits(ALEPH, address(jobs), 0, 0, 0);
        _flow(node, int256(3 * uint256(R)));
    }

    function test_setLimits_boundsADay() public {
        // Noon, so that the day does not end on the way.
        vm.warp(START - START % 1 days + 1.5 days);
        _asPayer().setLimits(ALEPH, address(jobs), type(uint128).max, type(uint40).max, 10_000_000);
        _asJobs().reserve(payer, ALEPH, node, R);
        _flow(node, int256(uint256(R)));
        assertEq(extension.limitOf(payer, ALEPH, address(jobs)).spent, 7_200_000);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.LimitExceeded.selector, 10_000_001, 10_000_000));
        _asJobs().chargeOnce(payer, ALEPH, node, 2_800_001, 0);
        vm.expectEmit(address(payments));
        emit IPaymentManager.LimitUsed(payer, ALEPH, address(jobs), uint24(block.timestamp / 1 days), 10_000_000);
        _asJobs().chargeOnce(payer, ALEPH, node, 2_800_000, 0);
        skip(1 days);
        assertEq(extension.limitOf(payer, ALEPH, address(jobs)).spent, 0);
        _asJobs().chargeOnce(payer, ALEPH, node, 10_000_000, 0);
        IPaymentExtension.LimitView memory l = extension.limitOf(payer, ALEPH, address(jobs));
        assertEq(l.spent, 10_000_000);
        assertEq(l.maxRateQ32, type(uint104).max);
        assertEq(l.validUntil, type(uint40).max);
    }

    function test_setLimits_holdAtActivation() public {
        _asPayer().setLimits(ALEPH, address(jobs), R, type(uint40).max, type(uint88).max);
        _asJobs().reserve(payer, ALEPH, node, R);
        _asJobs().reserve(payer, ALEPH, workers[1].id, R);
        assertTrue(_asJobs().activate(payer, ALEPH, node, R, 60));
        assertFalse(_asJobs().activate(payer, ALEPH, workers[1].id, R, 60), "each was within the limit, both are not");
        assertEq(_account().refund, 3_600_000);
        _flow(node, -int256(uint256(R)));
        _asJobs().reserve(payer, ALEPH, node, R);
        _asPayer().setLimits(ALEPH, address(jobs), R, START, 0);
        skip(1);
        assertFalse(_asJobs().activate(payer, ALEPH, node, R, 60), "the limit has ended");
    }

    function test_setLimits_onlyForControllers() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(staking)));
        _asPayer().setLimits(ALEPH, address(staking), 0, 1, 0);
        _asPayer().setLimits(ALEPH, storagesAt, 0, 1, 0);
        _asPayer().setLimits(ALEPH, imagesAt, 0, 1, 0);
        assertEq(extension.limitOf(payer, ALEPH, imagesAt).validUntil, 1);
    }

    /* SPONSORS */

    address internal patron = makeAddr("patron");

    function _sponsor(uint128 rate, uint40 until) private {
        vm.prank(patron);
        extension.sponsor(payer, ALEPH, rate, until);
    }

    function test_sponsor_paysWhatKeepsFlowsGoing() public {
        _fund(patron, 1 ether);
        vm.expectEmit(address(payments));
        emit IPaymentManager.SponsorSet(payer, ALEPH, patron, R, START + 1 days);
        _sponsor(R, START + 1 days);
        _flow(node, int256(uint256(R)));
        assertEq(token.balanceOf(patron), 1 ether, "the first window is the payer's");
        skip(600);
        vm.expectEmit(address(payments));
        emit IPaymentManager.SponsorPaid(patron, payer, ALEPH, 600_000);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Pulled(payer, ALEPH, 600_000, 0, 0, START + 4200, false);
        payments.pull(payer, ALEPH);
        assertEq(token.balanceOf(patron), 1 ether - 600_000);
        // Stopping gives the payer no more than it paid itself.
        _flow(node, -int256(uint256(R)));
        assertEq(_account().refund, 3_600_000);
        (address by, uint128 rate, uint40 until) = extension.sponsorOf(payer, ALEPH);
        assertEq(by, patron);
        assertEq(rate, R);
        assertEq(until, START + 1 days);
    }

    function test_sponsor_paysWhatTheRefundDoesNot() public {
        _fund(patron, 1 ether);
        _asPayer().deposit(ALEPH, 3_900_000);
        _sponsor(R, START + 1 days);
        _flow(node, int256(uint256(R)));
        assertEq(_account().refund, 300_000);
        skip(600);
        payments.pull(payer, ALEPH);
        assertEq(1 ether - token.balanceOf(patron), 300_000);
        assertEq(_account().refund, 0);
    }

    function test_sponsor_paysItsRateOnly() public {
        _fund(patron, 1 ether);
        _sponsor(R / 4, type(uint40).max);
        _flow(node, int256(uint256(R)));
        skip(600);
        uint256 before = token.balanceOf(payer);
        payments.pull(payer, ALEPH);
        assertEq(1 ether - token.balanceOf(patron), 150_000);
        assertEq(before - token.balanceOf(payer), 450_000);
    }

    function test_sponsor_fallsBackToThePayer() public {
        _fund(patron, 599_999);
        _sponsor(R, START + 700);
        _flow(node, int256(uint256(R)));
        skip(600);
        payments.pull(payer, ALEPH);
        assertEq(token.balanceOf(patron), 599_999, "all or nothing");
        assertEq(_account().paidUntil, block.timestamp + 3600);
        skip(101);
        payments.pull(payer, ALEPH);
        assertEq(token.balanceOf(patron), 599_999, "its time is over");
        assertEq(_account().paidUntil, block.timestamp + 3600);
        _sponsor(0, type(uint40).max);
        skip(1);
        payments.pull(payer, ALEPH);
        assertEq(_account().paidUntil, block.timestamp + 3600);
    }

    function test_sponsor_paysInItsLastSecond() public {
        _fund(patron, 1 ether);
        _sponsor(R, START + 600);
        _flow(node, int256(uint256(R)));
        skip(600);
        payments.pull(payer, ALEPH);
        assertEq(1 ether - token.balanceOf(patron), 600_000);
    }

    function test_sponsor_doesNotPayTwiceForATime() public {
        _fund(patron, 1 ether);
        _flow(node, int256(uint256(R)));
        _approve(0);
        skip(10 hours);
        _sponsor(R, type(uint40).max);
        payments.pull(payer, ALEPH);
        assertEq(token.balanceOf(patron), 1 ether, "nor for the time before it came");
        skip(100);
        for (uint256 i; i < 3; ++i) {
            payments.pull(payer, ALEPH);
            assertEq(token.balanceOf(patron), 1 ether - 100_000);
        }
        assertEq(_account().paidUntil, START + 3700);
    }

    function test_sponsor_isReplacedByItselfThePayerAndTime() public {
        _sponsor(R, START + 100);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        extension.sponsor(payer, ALEPH, R, START + 100);
        _sponsor(2 * R, START + 200);
        _asPayer().sponsor(payer, ALEPH, 0, START + 300);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, patron));
        _sponsor(R, START + 100);
        skip(300);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, patron));
        _sponsor(R, START + 400);
        skip(1);
        _sponsor(R, START + 400);
        skip(100);
        extension.sponsor(payer, ALEPH, R, START + 500);
        (address by,,) = extension.sponsorOf(payer, ALEPH);
        assertEq(by, address(this));
    }

    /// @dev A payer with a sponsor cannot get the sponsor's money out, whatever it opens, closes and pulls.
    function testFuzz_sponsor_paysNoMoreThanItsRateAndTime(uint256 seed) public {
        _fund(patron, 1 ether);
        _sponsor(R, type(uint40).max);
        uint256 rate;
        for (uint256 i; i < 20; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            if (seed % 4 == 0) {
                _flow(node, int256(uint256(R)));
                rate += R;
            } else if (seed % 4 == 1 && rate != 0) {
                _flow(node, -int256(rate));
                rate = 0;
            } else if (seed % 4 == 2) {
                payments.pull(payer, ALEPH);
            }
            skip((seed >> 8) % 2 hours);
            assertLe(1 ether - token.balanceOf(patron), 1000 * (block.timestamp - START));
        }
    }

    /* WINDOWS AND BOUNTIES */

    function test_window_isAsLongAsADollarLasts() public {
        extension.setTokenTerms(ALEPH, 0, 7_200_000, 0);
        _flow(node, int256(uint256(R)));
        assertEq(_account().window, 7200);
        assertEq(_account().paidUntil, START + 7200);
        _flow(node, int256(uint256(R)));
        assertEq(_account().window, 3600, "never below the parameter");
        assertEq(_account().paidUntil, START + 3600);
        _flow(node, -int256(2 * uint256(R)));
        _flow(node, int256(Q));
        assertEq(_account().window, 1 days, "never above a day");
        _flow(node, -int256(Q));
        _flow(node, int256(990 * Q));
        assertEq(_account().window, 7260, "whole minutes");
        assertEq(_asJobs().reserve(payer, ALEPH, node, uint128(10 * Q)), 120);
    }

    function testFuzz_window_isInBounds(uint104 rate, uint80 dollar) public {
        rate = uint104(bound(rate, 1, type(uint96).max));
        gateway.mint(token, payer, 1e28);
        extension.setTokenTerms(ALEPH, 0, dollar, 0);
        _flow(node, int256(uint256(rate)));
        uint256 window = _account().window;
        assertGe(window, 1 hours);
        assertLe(window, 1 days);
        assertEq(window % 60, 0);
        if (window > 1 hours) assertLe(window * rate >> 32, dollar);
    }

    function test_bounty_goesToWhoKeepsAnAccountFromRunningDry() public {
        extension.setTokenTerms(ALEPH, 0, 0, 600);
        _flow(node, int256(uint256(R)));
        skip(2699);
        payments.pull(payer, ALEPH);
        assertEq(payments.account(address(this), ALEPH).refund, 0, "there was nothing to pay it from");
        _claim(node);
        skip(2700);
        payments.pull(payer, ALEPH);
        assertEq(payments.account(address(this), ALEPH).refund, 0, "a quarter of the window was left");
        uint128 credit = payments.creditOf(Payees.DEVELOPMENT, ALEPH);
        skip(2701);
        vm.expectEmit(address(payments));
        emit IPaymentManager.BountyPaid(address(this), ALEPH, 540, 540, credit - 540);
        payments.pull(payer, ALEPH);
        skip(3500);
        vm.expectEmit(address(payments));
        emit IPaymentManager.BountyPaid(address(this), ALEPH, 600, 1140, credit - 1140);
        payments.pullMany(_payers(), ALEPH);
        assertEq(payments.withdrawRefund(address(this), ALEPH), 1140);
        skip(3500);
        _asPayer().revokeAll(ALEPH);
        assertEq(payments.account(address(payments), ALEPH).refund, 0);
    }

    /* CALLS */

    function test_multicall_doesSeveral() public {
        bytes[] memory calls = new bytes[](3);
        calls[0] = abi.encodeCall(IPaymentExtension.deposit, (ALEPH, 100));
        calls[1] = abi.encodeCall(IPaymentExtension.setSource, (ALEPH, 2));
        calls[2] = abi.encodeCall(IPaymentManager.creditOf, (node, ALEPH));
        bytes[] memory results = _asPayer().multicall(calls);
        assertEq(_account().refund, 100);
        assertEq(_account().source, 2);
        assertEq(results[2], abi.encode(0));
        calls[1] = abi.encodeCall(IPaymentExtension.setSource, (ALEPH, 3));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 3, 0, 2));
        _asPayer().multicall(calls);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 200));
        extension.multicall(new bytes[](0));
    }

    function test_fallback_unknownFunctionsRevert() public {
        (bool ok,) = address(payments).call(abi.encodeWithSignature("nothing()"));
        assertFalse(ok);
    }

    /* PARAMETERS */

    function test_setTokenTerms_andRefusals() public {
        vm.expectEmit(address(payments));
        emit IPaymentManager.TokenTermsSet(ALEPH, true, false, 5, 7);
        extension.setTokenTerms(ALEPH, 2, 5, 7);
        IPaymentManager.TokenView memory t = payments.tokenOf(ALEPH);
        assertTrue(t.swapIn && !t.swapOut && t.enabled);
        assertEq(t.minWindowAmount, 5);
        assertEq(t.bountyCap, 7);
        payments.delistToken(ALEPH);
        extension.setTokenTerms(ALEPH, 6, 0, 0);
        assertFalse(payments.tokenOf(ALEPH).enabled, "terms do not list");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 1, 0, 6));
        extension.setTokenTerms(ALEPH, 1, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TokenDisabled.selector, 2));
        extension.setTokenTerms(2, 0, 0, 0);
    }

    function test_listToken_beginsWithAleph() public {
        bytes memory init = abi.encodeWithSignature("initialize()");
        bytes memory code = abi.encodePacked(_code("ERC1967Proxy"), abi.encode(_implementation("PaymentManager"), init));
        PaymentManager other = PaymentManager(deployer.deploy("another", code));
        TestToken t = new TestToken("other", 18);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.NotAleph.selector, address(t)));
        other.listToken(address(t));
        assertEq(other.listToken(address(token)), 1);
        assertEq(other.listToken(address(t)), 2);
    }
}
