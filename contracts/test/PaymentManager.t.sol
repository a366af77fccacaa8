// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPaymentManager} from "../src/interfaces/IPaymentManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Payees} from "../src/libraries/Payees.sol";
import {BadToken} from "./utils/BadToken.sol";
import {Suite} from "./utils/Suite.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

contract PaymentManagerTest is Suite {
    uint128 internal constant R = uint128(1000 * Q);
    uint64 internal node;

    function setUp() public override {
        super.setUp();
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

    /* RESERVES */

    function test_reserve_thenRelease() public {
        vm.expectEmit(address(payments));
        emit IPaymentManager.Reserved(payer, node, ALEPH, 3_600_000, 0, 3_600_000, 0);
        assertEq(_asJobs().reserve(payer, ALEPH, node, R), 60);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Released(payer, node, ALEPH, 3_600_000, 0, 3_600_000);
        _asJobs().release(payer, ALEPH, node, R, 60);
        // The next reserve uses the refund first.
        vm.expectEmit(address(payments));
        emit IPaymentManager.Reserved(payer, node, ALEPH, 7_200_000, 3_600_000, 7_200_000, 0);
        _asJobs().reserve(payer, ALEPH, node, 2 * R);
        assertEq(token.balanceOf(address(payments)), 7_200_000);
    }

    function test_reserve_refuses() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TokenDisabled.selector, 9));
        _asJobs().reserve(payer, 9, node, R);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        _asJobs().reserve(payer, ALEPH, node, 0);
        uint128 high = uint128(type(uint96).max) + 1;
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.RateOverflow.selector, high));
        _asJobs().reserve(payer, ALEPH, node, high);
        _approve(5);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 5, 3_600_000));
        _asJobs().reserve(payer, ALEPH, node, R);
        payments.pause(Pausing.ENTRY, 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        _asJobs().reserve(payer, ALEPH, node, R);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        _flow(node, 1);
    }

    function test_reserve_pullsWhatIsLateFirst() public {
        _flow(node, int256(uint256(R)));
        skip(2 hours);
        _asJobs().reserve(payer, ALEPH, node, R);
        assertEq(_account().paidUntil, block.timestamp + 3600);
        _approve(0);
        skip(2 hours);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.InArrears.selector, block.timestamp - 3600));
        _asJobs().reserve(payer, ALEPH, node, R);
    }

    function test_activate_spreadsTheReserveOverAll() public {
        _flow(node, int256(uint256(R)));
        _asJobs().reserve(payer, ALEPH, workers[1].id, 3 * R);
        skip(1800);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Activated(payer, workers[1].id, ALEPH, 10_800_000, 0);
        assertTrue(_asJobs().activate(payer, ALEPH, workers[1].id, 3 * R, 60));
        // 1800 s at 1000 and 3600 s at 3000 are 3150 s at 4000.
        assertEq(_account().paidUntil, block.timestamp + 3150);
        assertEq(_account().flows, 2);
    }

    function test_activate_keepsAtMostAWindow() public {
        _asJobs().reserve(payer, ALEPH, node, R);
        payments.setPrepay(600);
        _asJobs().reserve(payer, ALEPH, workers[1].id, R);
        _asJobs().activate(payer, ALEPH, node, R, 60);
        assertEq(_account().paidUntil, block.timestamp + 3600, "the window of the reserve");
        vm.expectEmit(address(payments));
        emit IPaymentManager.Refunded(payer, ALEPH, 3_000_000, 3_000_000);
        _asJobs().activate(payer, ALEPH, workers[1].id, R, 10);
        assertEq(_account().paidUntil, block.timestamp + 600, "the shorter window of both");
        assertEq(_account().window, 600);
    }

    function test_controllers_haveTheirOwnPayees() public {
        uint64 image = Payees.ofImage(1);
        uint64 store = Payees.ofStorage(uint32(node));
        uint64[5] memory notForJobs = [uint64(0), Payees.TREASURY, Payees.DEVELOPMENT, Payees.STORAGES, store];
        for (uint256 i; i < 5; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IPaymentManager.WrongPayee.selector, notForJobs[i]));
            _asJobs().reserve(payer, ALEPH, notForJobs[i], R);
        }
        uint64[2] memory notStored = [node, image];
        for (uint256 i; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IPaymentManager.WrongPayee.selector, notStored[i]));
            _asStorages().setFlow(payer, ALEPH, notStored[i], 1);
        }
        uint64[2] memory noImage = [node, store];
        for (uint256 i; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IPaymentManager.WrongPayee.selector, noImage[i]));
            _asImages().chargeOnce(payer, ALEPH, noImage[i], 1, 0);
        }
        _asJobs().reserve(payer, ALEPH, image, R);
        _asStorages().setFlow(payer, ALEPH, store, int256(uint256(R)));
        _asImages().setFlow(payer, ALEPH, image, int256(uint256(R)));
        assertEq(_account().flows, 2);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, payer));
        vm.prank(payer);
        payments.setFlow(payer, ALEPH, node, 1);
    }

    function test_classes_splitTheirOwnWay() public {
        _asStorages().setFlow(payer, ALEPH, Payees.ofStorage(uint32(node)), int256(uint256(R)));
        _asJobs().setFlow(payer, ALEPH, Payees.ofImage(7), int256(uint256(R)));
        skip(10);
        vm.expectEmit(address(payments));
        emit IPaymentManager.RevenueSplit(
            Payees.ofStorage(uint32(node)), ALEPH, Payees.STORAGE, 10_000, 7_500, 0, 2_000, 500, 7_500
        );
        _claim(Payees.ofStorage(uint32(node)));
        vm.expectEmit(address(payments));
        emit IPaymentManager.RevenueSplit(Payees.ofImage(7), ALEPH, Payees.IMAGE, 10_000, 10_000, 0, 0, 0, 10_000);
        _claim(Payees.ofImage(7));
        assertEq(payments.splitOf(Payees.IMAGE).nodeBps, 10_000);
        // Storage is paid to the node's payout, by the node's signer or the payout itself.
        uint64 store = Payees.ofStorage(uint32(node));
        vm.prank(workers[0].signer);
        payments.withdraw(store, ALEPH, 7_500);
        assertEq(token.balanceOf(workers[0].owner), 7_500);
        uint64 image = Payees.ofImage(7);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.NoPayout.selector, image));
        payments.withdraw(image, ALEPH, 1);
    }

    /* CHARGES AND COMPENSATION */

    function test_chargeOnce_creditsAtOnce() public {
        _asJobs().reserve(payer, ALEPH, node, R);
        _asJobs().release(payer, ALEPH, node, R, 60);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Charged(payer, node, ALEPH, 5_000_000, 3_600_000, 0, "why");
        vm.expectEmit(address(payments));
        emit IPaymentManager.RevenueSplit(node, ALEPH, 0, 5_000_000, 3_000_000, 750_000, 1_000_000, 250_000, 3_000_000);
        _asJobs().chargeOnce(payer, ALEPH, node, 5_000_000, "why");
        assertEq(token.balanceOf(address(payments)), 5_000_000);
        assertEq(payments.creditOf(node, ALEPH), 3_000_000);
    }

    function test_chargeOnce_refuses() public {
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        _asJobs().chargeOnce(payer, ALEPH, node, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TokenDisabled.selector, 9));
        _asJobs().chargeOnce(payer, 9, node, 1, 0);
        _approve(9);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 9, 10));
        _asJobs().chargeOnce(payer, ALEPH, node, 10, 0);
        _approve(3_600_000);
        _flow(node, int256(uint256(R)));
        skip(3700);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.InArrears.selector, START + 3600));
        _asJobs().chargeOnce(payer, ALEPH, node, 1, 0);
        _flow(node, -int256(uint256(R)));
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.HasDebt.selector, payer, node, 100_000));
        _asJobs().chargeOnce(payer, ALEPH, node, 1, 0);
        payments.pause(Pausing.ENTRY, 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        _asJobs().chargeOnce(payer, ALEPH, node, 1, 0);
    }

    function test_compensate_givesWhatThereIs() public {
        assertEq(_compensate(5), 0);
        _asJobs().chargeOnce(payer, ALEPH, node, 1_000, 0);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Compensated(payer, node, ALEPH, 400, 200, 400, "case");
        assertEq(_compensate(400), 400);
        assertEq(_compensate(400), 200);
        assertEq(_account().refund, 600);
        assertEq(_compensate(1), 0);
        assertEq(_asStorages().compensate(node, ALEPH, address(0), 1, 0), 0);
        vm.expectRevert(_outOfBounds(Payees.STAKERS, 1, Payees.LAST_STORAGE));
        _asSLA().compensate(Payees.STAKERS, ALEPH, payer, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(jobs)));
        _asJobs().compensate(node, ALEPH, payer, 1, 0);
    }

    function _compensate(uint128 most) private returns (uint128) {
        return _asSLA().compensate(node, ALEPH, payer, most, "case");
    }

    function test_payOut_paysTheRecipients() public {
        uint64 image = Payees.ofImage(3);
        _asImages().chargeOnce(payer, ALEPH, image, 1_000, 0);
        (address[] memory to, uint128[] memory amounts) = _recipients();
        vm.expectEmit(address(payments));
        emit IPaymentManager.Withdrawn(image, ALEPH, address(71), 300, 700);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Withdrawn(image, ALEPH, address(72), 600, 100);
        _asImages().payOut(image, ALEPH, to, amounts);
        assertEq(token.balanceOf(address(71)), 300);
        assertEq(token.balanceOf(address(72)), 600);
        assertEq(payments.creditOf(image, ALEPH), 100);
    }

    function test_payOut_turnsARefusedPartIntoARefund() public {
        uint64 image = Payees.ofImage(3);
        _asImages().chargeOnce(payer, ALEPH, image, 1_000, 0);
        (address[] memory to, uint128[] memory amounts) = _recipients();
        bytes memory call_ = abi.encodeCall(token.transfer, (address(71), 300));
        vm.mockCallRevert(address(token), call_, "blocked");
        _asImages().payOut(image, ALEPH, to, amounts);
        vm.clearMockedCalls();
        assertEq(payments.account(address(71), ALEPH).refund, 300);
        assertEq(token.balanceOf(address(72)), 600);
        payments.withdrawRefund(address(71), ALEPH);
        assertEq(token.balanceOf(address(71)), 300);
    }

    function test_payOut_refuses() public {
        uint64 image = Payees.ofImage(3);
        (address[] memory to, uint128[] memory amounts) = _recipients();
        vm.expectRevert(_outOfBounds(node, Payees.IMAGES + 1, Payees.LAST_IMAGE));
        _asImages().payOut(node, ALEPH, to, amounts);
        vm.expectRevert(_outOfBounds(Payees.STAKERS, 1, Payees.LAST_STORAGE));
        _asImages().payOut(Payees.STAKERS, ALEPH, to, amounts);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 0, 900));
        _asImages().payOut(image, ALEPH, to, amounts);
        vm.expectRevert(_outOfBounds(1, 2, 2));
        _asImages().payOut(image, ALEPH, to, new uint128[](1));
        vm.expectRevert(_outOfBounds(0, 1, 200));
        _asImages().payOut(image, ALEPH, new address[](0), new uint128[](0));
        to[1] = address(0);
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        _asImages().payOut(image, ALEPH, to, amounts);
        payments.pause(Pausing.EXIT, 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.EXIT));
        _asImages().payOut(image, ALEPH, to, amounts);
    }

    function _recipients() private pure returns (address[] memory to, uint128[] memory amounts) {
        (to, amounts) = (new address[](2), new uint128[](2));
        (to[0], to[1], amounts[0], amounts[1]) = (address(71), address(72), 300, 600);
    }

    function _outOfBounds(uint256 value, uint256 low, uint256 high) private pure returns (bytes memory) {
        return abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, value, low, high);
    }

    /* FLOWS */

    function test_setFlow_raisesAndLowers() public {
        _flow(node, int256(uint256(R)));
        assertEq(_account().paidUntil, START + 3600);
        skip(100);
        _flow(node, int256(uint256(R)));
        assertEq(_account().paidUntil, START + 3700);
        assertEq(token.balanceOf(address(payments)), 100_000 + 7_200_000, "the window of the new rate");
        skip(100);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Refunded(payer, ALEPH, 3_400_000, 3_400_000);
        vm.expectEmit(address(payments));
        emit IPaymentManager.FlowChanged(
            payer, node, ALEPH, R, START + 200, uint128(300_000 * Q), R, START + 200 + 3600
        );
        _flow(node, -int256(uint256(R)));
        _flow(node, -int256(uint256(R)));
        IPaymentManager.AccountView memory a = _account();
        assertEq(a.rateQ32, 0);
        assertEq(a.flows, 0);
        assertEq(a.refund, 7_000_000);
        assertEq(payments.pair(payer, ALEPH, node).claimable, 300_000);
    }

    function test_setFlow_refuses() public {
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        _flow(node, 0);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.RateOverflow.selector, type(uint256).max));
        _flow(node, -1);
        uint256 most = type(uint96).max;
        gateway.mint(token, payer, 1e27);
        payments.setPrepay(300);
        _flow(node, int256(most));
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.RateOverflow.selector, most + 1));
        _flow(node, 1);
    }

    function test_setFlow_refusesInArrears() public {
        _flow(node, int256(uint256(R)));
        _approve(0);
        skip(3601);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.InArrears.selector, START + 3600));
        _flow(node, 1);
    }

    function test_setFlow_usesTheRefundFirst() public {
        _flow(node, int256(uint256(R)));
        _flow(node, -int256(uint256(R)));
        assertEq(_account().refund, 3_600_000);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Pulled(payer, ALEPH, 0, 3_600_000, 0, START + 3600, false);
        _flow(node, int256(uint256(R)));
    }

    function test_setFlow_shorterWindowGivesBack() public {
        _flow(node, int256(uint256(R)));
        payments.setPrepay(300);
        _flow(node, int256(uint256(R)));
        assertEq(_account().refund, 3_600_000 - 2_000 * 300);
    }

    /* ARREARS */

    function test_close_inArrearsLeavesDebtAndNoClaim() public {
        _flow(node, int256(uint256(R)));
        _flow(node, int256(uint256(R)));
        _approve(0);
        skip(3600 + 500);
        vm.expectEmit(address(payments));
        emit IPaymentManager.ArrearsStarted(payer, ALEPH, START + 3600);
        vm.expectEmit(address(payments));
        emit IPaymentManager.DebtRecorded(payer, node, ALEPH, 500_000, 500_000);
        _flow(node, -int256(uint256(R)));
        assertEq(_account().debts, 1);
        assertEq(_account().paidUntil, START + 3600, "the other flow's gap stays claimable when paid");
        // Money comes: the rest of the pair is made good, the closed flow's gap is not.
        _approve(type(uint256).max);
        vm.expectEmit(address(payments));
        emit IPaymentManager.ArrearsCleared(payer, ALEPH);
        payments.pull(payer, ALEPH);
        assertEq(_claim(node), 7_200_000 + 500_000);
        _flow(node, -int256(uint256(R)));
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.HasDebt.selector, payer, node, 500_000));
        _asJobs().reserve(payer, ALEPH, node, R);
        _asJobs().reserve(payer, ALEPH, workers[1].id, R);
    }

    function test_payDebt_creditsThePayee() public {
        test_close_inArrearsLeavesDebtAndNoClaim();
        uint128 before = payments.creditOf(node, ALEPH);
        _fund(address(this), 500_000);
        vm.expectEmit(address(payments));
        emit IPaymentManager.DebtPaid(payer, node, ALEPH, 500_000, address(this));
        assertEq(payments.payDebt(payer, ALEPH, node), 500_000);
        assertEq(payments.creditOf(node, ALEPH), before + 300_000);
        assertEq(_account().debts, 0);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.NoDebt.selector, payer, node));
        payments.payDebt(payer, ALEPH, node);
        _asJobs().reserve(payer, ALEPH, node, R);
    }

    function test_arrears_partialPaymentMovesTheClock() public {
        _flow(node, int256(uint256(R)));
        _approve(0);
        skip(2 hours);
        payments.pull(payer, ALEPH);
        assertEq(_account().arrearsSince, START + 3600);
        _approve(100_999);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Pulled(payer, ALEPH, 100_000, 0, 0, START + 3700, true);
        payments.pull(payer, ALEPH);
        assertEq(_account().arrearsSince, START + 3600);
        assertFalse(_asJobs().closeOverdue(payer, ALEPH, node, R));
        skip(24 hours);
        assertTrue(_asJobs().closeOverdue(payer, ALEPH, node, R));
        assertEq(_account().arrearsSince, 0);
        assertEq(payments.pair(payer, ALEPH, node).debt, 1000 * (3500 + 24 hours));
    }

    function test_solvency_countsEverything() public {
        _flow(node, int256(uint256(R)));
        _asJobs().reserve(payer, ALEPH, node, R);
        skip(100);
        (uint256 held, uint256 owes) = lens.solvency(ALEPH, _payers(), _nodesAndPools());
        assertEq(held, 7_200_000);
        assertEq(owes, held);
        _claim(node);
        _asJobs().release(payer, ALEPH, node, R, 60);
        (held, owes) = lens.solvency(ALEPH, _payers(), _nodesAndPools());
        assertEq(owes, held);
    }

    function _nodesAndPools() private view returns (uint64[] memory list) {
        list = new uint64[](4);
        (list[0], list[1], list[2], list[3]) = (node, Payees.STAKERS, Payees.COORDINATORS, Payees.DEVELOPMENT);
    }

    function test_runway_tellsTheTimes() public {
        (, uint40 endless,,) = lens.runway(payer, ALEPH);
        assertEq(endless, type(uint40).max);
        _flow(node, int256(uint256(R)));
        _approve(1_000_000);
        (uint40 paidUntil, uint40 allowanceUntil, uint40 softStop, uint40 hardStop) = lens.runway(payer, ALEPH);
        assertEq(paidUntil, START + 3600);
        assertEq(allowanceUntil, START + 4600);
        assertEq(softStop, START + 7200);
        assertEq(hardStop, START + 3600 + 24 hours);
    }

    /* SETTLEMENT */

    function test_pull_neverReverts() public {
        payments.pull(payer, ALEPH);
        _flow(node, int256(uint256(R)));
        (uint256 pulled, uint40 until) = payments.pull(payer, ALEPH);
        assertEq(pulled, 0);
        assertEq(until, START + 3600);
        skip(10);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Pulled(payer, ALEPH, 10_000, 0, 0, START + 3610, false);
        payments.pull(payer, ALEPH);
        uint256 rest = token.balanceOf(payer) - 5_000;
        vm.prank(payer);
        token.transfer(address(1), rest);
        skip(10);
        (pulled, until) = payments.pull(payer, ALEPH);
        assertEq(pulled, 5_000, "as far as the balance goes");
        assertEq(until, START + 3615);
    }

    function test_pullMany_tellsWhoIsFull() public {
        address[] memory list = new address[](2);
        (list[0], list[1]) = (payer, address(77));
        _flow(node, int256(uint256(R)));
        _approve(0);
        skip(10);
        assertEq(payments.pullMany(list, ALEPH), 2);
        _approve(type(uint256).max);
        assertEq(payments.pullMany(list, ALEPH), 3);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 200));
        payments.pullMany(new address[](0), ALEPH);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 201, 1, 200));
        payments.pullMany(new address[](201), ALEPH);
        payments.pullMany(new address[](200), ALEPH);
    }

    function test_reserve_atTheHighestRate() public {
        payments.setPrepay(300);
        gateway.mint(token, payer, 1e27);
        assertEq(_asJobs().reserve(payer, ALEPH, node, type(uint96).max), 5);
        assertEq(_account().reserved, 300 << 64);
    }

    function test_claim_splitsAndLeavesDustToDevelopment() public {
        _flow(node, int256(uint256(R)) / 1000);
        skip(33);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Claimed(payer, node, ALEPH, 33, START + 33);
        vm.expectEmit(address(payments));
        emit IPaymentManager.RevenueSplit(node, ALEPH, 0, 33, 19, 4, 6, 4, 19);
        assertEq(_claim(node), 33);
        assertEq(payments.creditOf(Payees.COORDINATORS, ALEPH), 4);
        assertEq(payments.creditOf(Payees.STAKERS, ALEPH), 6);
        assertEq(payments.creditOf(Payees.DEVELOPMENT, ALEPH), 4);
        assertEq(_claim(node), 0, "PM-7");
        assertEq(lens.owed(node, ALEPH, _payers()), 0);
        skip(1);
        assertEq(lens.owed(node, ALEPH, _payers()), 1);
    }

    function testFuzz_claim_partsMakeTheGross(uint64 gross, uint16 a, uint16 b, uint16 c) public {
        gross = uint64(bound(gross, 1, 1e15));
        a = uint16(bound(a, 0, 8_000));
        b = uint16(bound(b, 0, 10_000 - a > 8_000 ? 8_000 : 10_000 - a));
        c = uint16(bound(c, 0, 10_000 - a - b > 8_000 ? 8_000 : 10_000 - a - b));
        vm.assume(10_000 - a - b - c <= 8_000);
        payments.setSplit(0, a, b, c, 10_000 - a - b - c);
        _flow(node, int256(uint256(gross) * Q));
        skip(1);
        assertEq(_claim(node), gross);
        uint256 sum = payments.creditOf(node, ALEPH) + payments.creditOf(Payees.COORDINATORS, ALEPH)
            + payments.creditOf(Payees.STAKERS, ALEPH) + payments.creditOf(Payees.DEVELOPMENT, ALEPH);
        assertEq(sum, gross, "PM-8");
    }

    function test_withdraw_paysThePayoutOnly() public {
        _flow(node, int256(uint256(R)));
        skip(100);
        _claim(node);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        payments.withdraw(node, ALEPH, 1);
        vm.startPrank(workers[0].signer);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        payments.withdraw(node, ALEPH, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 60_000, 60_001));
        payments.withdraw(node, ALEPH, 60_001);
        vm.expectEmit(address(payments));
        emit IPaymentManager.Withdrawn(node, ALEPH, workers[0].owner, 10_000, 50_000);
        payments.withdraw(node, ALEPH, 10_000);
        vm.stopPrank();
        vm.prank(workers[0].owner);
        payments.withdraw(node, ALEPH, 50_000);
        assertEq(token.balanceOf(workers[0].owner), 60_000);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.NoPayout.selector, 99));
        payments.withdraw(99, ALEPH, 1);
    }

    function test_withdraw_poolsHaveAPayout() public {
        _flow(node, int256(uint256(R)));
        skip(100);
        _claim(node);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.NoPayout.selector, Payees.STAKERS));
        payments.withdraw(Payees.STAKERS, ALEPH, 1);
        vm.expectEmit(address(payments));
        emit IPaymentManager.PoolPayoutSet(Payees.STAKERS, address(77));
        payments.setPoolPayout(Payees.STAKERS, address(77));
        assertEq(payments.payoutOf(Payees.STAKERS), address(77));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        payments.withdraw(Payees.STAKERS, ALEPH, 1);
        vm.prank(address(77));
        payments.withdraw(Payees.STAKERS, ALEPH, 20_000);
        assertEq(token.balanceOf(address(77)), 20_000);
    }

    function test_withdrawRefund_paysThePayer() public {
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        payments.withdrawRefund(payer, ALEPH);
        _asJobs().reserve(payer, ALEPH, node, R);
        _asJobs().release(payer, ALEPH, node, R, 60);
        vm.expectEmit(address(payments));
        emit IPaymentManager.RefundPaid(payer, ALEPH, 3_600_000);
        vm.prank(address(77));
        assertEq(payments.withdrawRefund(payer, ALEPH), 3_600_000);
        assertEq(token.balanceOf(payer), 1_000_000 ether);
    }

    function test_exits_pausedByGuardian() public {
        payments.pause(Pausing.EXIT, 14 days);
        bytes memory err = abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.EXIT);
        vm.expectRevert(err);
        payments.withdraw(node, ALEPH, 1);
        vm.expectRevert(err);
        payments.withdrawRefund(payer, ALEPH);
    }

    function test_permit_worksOnceAndWhenFrontRun() public {
        _approve(0);
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 digest =
            _digest("Aleph", address(token), keccak256(abi.encode(typeHash, payer, address(payments), 5, 0, START)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerKey, digest);
        payments.permit(payer, ALEPH, 5, START, v, r, s);
        assertEq(token.allowance(payer, address(payments)), 5);
        payments.permit(payer, ALEPH, 5, START, v, r, s);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 5, 6));
        payments.permit(payer, ALEPH, 6, START, v, r, s);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TokenDisabled.selector, 9));
        payments.permit(payer, 9, 6, START, v, r, s);
    }

    /* TOKENS */

    function _listBad() private returns (BadToken bad) {
        bad = new BadToken(6);
        assertEq(payments.listToken(address(bad)), 2);
        bad.mint(payer, 1e15);
        vm.prank(payer);
        bad.approve(address(payments), type(uint256).max);
        bad.setCall(address(payments), abi.encodeCall(payments.withdrawRefund, (payer, 2)));
    }

    function test_listToken_andDelist() public {
        BadToken bad = _listBad();
        IPaymentManager.TokenView memory t = payments.tokenOf(2);
        assertEq(t.erc20, address(bad));
        assertEq(t.decimals, 6);
        assertTrue(t.enabled);
        assertEq(payments.lastToken(), 2);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, bytes32(uint256(uint160(address(bad))))));
        payments.listToken(address(bad));
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        payments.listToken(address(0));
        _asJobs().setFlow(payer, 2, node, int256(uint256(R)));
        vm.expectEmit(address(payments));
        emit IPaymentManager.TokenEnabled(2, false);
        payments.delistToken(2);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TokenDisabled.selector, 2));
        _asJobs().setFlow(payer, 2, node, 1);
        _asJobs().setFlow(payer, 2, node, -int256(uint256(R)));
        payments.relistToken(2);
        _asJobs().reserve(payer, 2, node, R);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TokenDisabled.selector, 3));
        payments.delistToken(3);
    }

    function test_token_thatDoesNotMoveWhatItSaysIsRefused() public {
        BadToken bad = _listBad();
        bad.setMode(BadToken.Mode.Fee);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.FeeOnTransfer.selector, 3_564_000, 3_600_000));
        _asJobs().reserve(payer, 2, node, R);
        BadToken.Mode[4] memory none =
            [BadToken.Mode.Silent, BadToken.Mode.No, BadToken.Mode.Reenter, BadToken.Mode.BurnGas];
        for (uint256 i; i < 4; ++i) {
            bad.setMode(none[i]);
            vm.expectRevert(abi.encodeWithSelector(IPaymentManager.FeeOnTransfer.selector, 0, 3_600_000));
            _asJobs().reserve(payer, 2, node, R);
        }
    }

    /// @dev PM-10 and PM-11: whatever the token does, a flow ends, the account is consistent, and ALEPH knows nothing of it.
    function test_token_misbehavingNeverBlocksAStop() public {
        BadToken bad = _listBad();
        bad.setBlocked(payer, true);
        for (uint8 mode = 1; mode <= uint8(type(BadToken.Mode).max); ++mode) {
            bad.setMode(BadToken.Mode.Honest);
            uint64 payee = node + mode;
            _asJobs().setFlow(payer, 2, payee, int256(uint256(R)));
            _asJobs().reserve(payer, 2, payee, R);
            skip(2 hours);
            bad.setMode(BadToken.Mode(mode));
            payments.pull(payer, 2);
            _asJobs().release(payer, 2, payee, R, 60);
            _asJobs().setFlow(payer, 2, payee, -int256(uint256(R)));
            IPaymentManager.AccountView memory a = payments.account(payer, 2);
            assertEq(a.rateQ32, 0, "PM-10");
            assertEq(a.flows, 0);
            assertEq(a.arrearsSince, 0);
            payments.claim(payee, 2, _payers());
            assertEq(keccak256(abi.encode(_account())), keccak256(abi.encode(payments.account(address(1), ALEPH))));
        }
    }

    function test_token_muteWorksLikeAnyOther() public {
        BadToken bad = _listBad();
        bad.setMode(BadToken.Mode.Mute);
        _asJobs().setFlow(payer, 2, node, int256(uint256(R)));
        skip(600);
        payments.pull(payer, 2);
        payments.claim(node, 2, _payers());
        vm.prank(workers[0].owner);
        payments.withdraw(node, 2, 360_000);
        assertEq(bad.balanceOf(workers[0].owner), 360_000);
        _asJobs().setFlow(payer, 2, node, -int256(uint256(R)));
        payments.withdrawRefund(payer, 2);
        assertEq(bad.balanceOf(payer), 1e15 - 600_000);
    }

    function test_token_thatRefusesToPayLeavesTheCredit() public {
        BadToken bad = _listBad();
        _asJobs().chargeOnce(payer, 2, node, 1000, 0);
        bad.setMode(BadToken.Mode.Block);
        address to = workers[0].owner;
        bad.setBlocked(to, true);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TransferRefused.selector, to, 600));
        vm.prank(to);
        payments.withdraw(node, 2, 600);
        assertEq(payments.creditOf(node, 2), 600, "and nobody else is affected");
        bad.setBlocked(to, false);
        vm.prank(to);
        payments.withdraw(node, 2, 600);
        assertEq(bad.balanceOf(to), 600);
    }

    function test_token_reentranceIsRefused() public {
        BadToken bad = _listBad();
        _asJobs().reserve(payer, 2, node, R);
        _asJobs().release(payer, 2, node, R, 60);
        bad.setMode(BadToken.Mode.Reenter);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.FeeOnTransfer.selector, 0, 3_600_000));
        _asJobs().reserve(payer, 2, node, 2 * R);
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TransferRefused.selector, payer, 3_600_000));
        payments.withdrawRefund(payer, 2);
        bytes[5] memory calls = [
            abi.encodeCall(payments.pull, (payer, 2)),
            abi.encodeCall(payments.claim, (node, 2, _payers())),
            abi.encodeCall(payments.account, (payer, 2)),
            abi.encodeCall(payments.pair, (payer, 2, node)),
            abi.encodeCall(extension.deposit, (2, 1))
        ];
        for (uint256 i; i < calls.length; ++i) {
            bad.setCall(address(payments), calls[i]);
            vm.expectRevert(abi.encodeWithSelector(IPaymentManager.TransferRefused.selector, payer, 3_600_000));
            payments.withdrawRefund(payer, 2);
        }
    }

    function test_token_anyDecimals() public {
        uint8[4] memory decimals = [0, 2, 18, 30];
        for (uint8 i; i < 4; ++i) {
            BadToken t = new BadToken(decimals[i]);
            uint8 id = payments.listToken(address(t));
            assertEq(payments.tokenOf(id).decimals, decimals[i]);
            t.mint(payer, 1e30);
            vm.prank(payer);
            t.approve(address(payments), type(uint256).max);
            // 3 units an hour, whatever a unit is; at most what a pair can flow.
            uint256 rate = 3 * 10 ** decimals[i] * Q / 3600;
            if (rate > type(uint96).max) rate = type(uint96).max;
            _asJobs().setFlow(payer, id, node, int256(rate));
            skip(3600);
            assertEq(payments.claim(node, id, _payers()), rate * 3600 >> 32);
            _asJobs().setFlow(payer, id, node, -int256(rate));
        }
    }

    function test_pull_needsEnoughGasForTheToken() public {
        _flow(node, int256(uint256(R)));
        skip(2 hours);
        (bool ok, bytes memory err) =
            address(payments).call{gas: 150_000}(abi.encodeCall(payments.pull, (payer, ALEPH)));
        assertFalse(ok);
        assertEq(bytes4(err), AlephErrors.Insufficient.selector, "nobody makes a pull fail by giving it little gas");
    }

    /* PARAMETERS */

    function test_setSplit_refuses() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentManager.UnknownClass.selector, Payees.IMAGE));
        payments.setSplit(Payees.IMAGE, 6_000, 1_500, 2_000, 500);
        vm.expectRevert(IPaymentManager.BadSplit.selector);
        payments.setSplit(0, 6_000, 1_500, 2_000, 501);
        vm.expectRevert(IPaymentManager.BadSplit.selector);
        payments.setSplit(0, 8_001, 1_999, 0, 0);
        vm.expectRevert(IPaymentManager.BadSplit.selector);
        payments.setSplit(0, 0, 0, 0, 10_000);
        vm.expectEmit(address(payments));
        emit IPaymentManager.SplitSet(0, 8_000, 0, 0, 2_000);
        payments.setSplit(0, 8_000, 0, 0, 2_000);
        assertEq(payments.splitOf(0).nodeBps, 8_000);
    }

    function test_setPrepay_wholeMinutesInBounds() public {
        uint32[3] memory bad = [uint32(240), 86_460, 301];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, bad[i], 300, 86_400));
            payments.setPrepay(bad[i]);
        }
        vm.expectEmit(address(payments));
        emit IPaymentManager.PrepaySet(86_400);
        payments.setPrepay(86_400);
        (uint32 prepay, uint32 soft, uint32 hard) = payments.params();
        assertEq(prepay, 86_400);
        assertEq(soft, 1 hours);
        assertEq(hard, 24 hours);
    }

    function test_setGrace_inBounds() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 73 hours, 0, 72 hours));
        payments.setGrace(73 hours, 80 hours);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 59 minutes, 1 hours, 168 hours));
        payments.setGrace(0, 59 minutes);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 2 hours, 3 hours, 168 hours));
        payments.setGrace(3 hours, 2 hours);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 169 hours, 1 hours, 168 hours));
        payments.setGrace(0, 169 hours);
        vm.expectEmit(address(payments));
        emit IPaymentManager.GraceSet(0, 1 hours);
        payments.setGrace(0, 1 hours);
        payments.setGrace(72 hours, 72 hours);
        payments.setGrace(72 hours, 168 hours);
        (, uint32 soft, uint32 hard) = payments.params();
        assertEq(soft, 72 hours);
        assertEq(hard, 168 hours);
    }

    function test_setPoolPayout_refuses() public {
        vm.expectRevert(
            abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 1, Payees.TREASURY, Payees.DEVELOPMENT)
        );
        payments.setPoolPayout(1, payer);
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        payments.setPoolPayout(Payees.STAKERS, address(0));
    }

    function test_pull_costsTheSameAfterManyRateChanges() public {
        _flow(node, int256(uint256(R)));
        skip(60);
        uint256 first = _gasOfPull();
        for (uint256 i; i < 1000; ++i) {
            _flow(node, int256(1));
        }
        skip(60);
        assertLe(_gasOfPull(), first + 500, "history does not make settlement dearer");
    }

    function _gasOfPull() private returns (uint256) {
        uint256 before = gasleft();
        payments.pull(payer, ALEPH);
        return before - gasleft();
    }
}
