// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobManager} from "../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {IPaymentManager} from "../src/interfaces/IPaymentManager.sol";
import {ISLAManager} from "../src/interfaces/ISLAManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {EndReason} from "../src/libraries/EndReason.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Suite} from "./utils/Suite.sol";
import {Wallet} from "./utils/Wallet.sol";

contract JobManagerTest is Suite {
    uint128 internal constant RATE = uint128(1e12 * Q);
    bytes32 internal constant JOB = "job";

    function _refuse(Opening memory o, bytes memory err) private {
        vm.expectRevert(err);
        _send(o);
    }

    /// @dev Signs again after a change and expects the opening to be refused.
    function _refuseSigned(Opening memory o, bytes memory err) private {
        _signOpening(o, payerKey, workers[0], 3);
        _refuse(o, err);
    }

    /* OPENING */

    function test_open_storesAndEmits() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        o.offer.maxUntil = START + 1 days;
        o.offer.nodeHint = workers[0].id;
        _signOpening(o, payerKey, workers[0], 3);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobAssigned(
            JOB, workers[0].id, payer, RATE, ALEPH, 0, coordinators[0].id, START + 1 days, 3600
        );
        _send(o);
        IJobManager.JobView memory j = jobs.job(JOB);
        assertEq(j.payer, payer);
        assertEq(j.changedAt, START);
        assertEq(j.nodeId, workers[0].id);
        assertEq(uint8(j.status), uint8(IJobManager.Status.Assigned));
        assertEq(j.token, ALEPH);
        assertEq(j.attempt, 0);
        assertEq(j.rateQ32, RATE);
        assertEq(j.maxUntil, START + 1 days);
        assertEq(j.startedAt, 0);
        assertEq(j.coordId, coordinators[0].id);
        assertEq(j.reservedMinutes, 60);
        assertEq(jobs.activeJobs(workers[0].id), 1);
        assertEq(jobs.nonceBitmap(payer, 0), 0, "the spec is used up, not the nonce");
        assertEq(payments.account(payer, ALEPH).reserved, 1e12 * 3600);
        assertEq(payments.account(payer, ALEPH).rateQ32, 0, "nothing accrues before the node confirms");
    }

    function test_open_refusesBadTerms() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        o.offer.spec = 0;
        _refuse(o, abi.encodeWithSelector(AlephErrors.ZeroHash.selector));
        o = _opening(JOB, RATE, workers[0]);
        o.offer.payer = address(0);
        _refuse(o, abi.encodeWithSelector(AlephErrors.ZeroAddress.selector));
        o = _opening(JOB, RATE, workers[0]);
        o.assignment.spec = "other";
        _refuse(o, abi.encodeWithSelector(IJobManager.SpecMismatch.selector, JOB, bytes32("other")));
        o = _opening(JOB, RATE, workers[0]);
        o.assignment.attempt = 1;
        _refuse(o, abi.encodeWithSelector(IJobManager.WrongAttempt.selector, 1, 0));
        o = _opening(JOB, RATE, workers[0]);
        o.offer.deadline = START - 1;
        _refuse(o, abi.encodeWithSelector(IJobManager.OfferExpired.selector, START - 1));
        o = _opening(JOB, RATE, workers[0]);
        o.assignment.deadline = START - 1;
        _refuse(o, abi.encodeWithSelector(IJobManager.OfferExpired.selector, START - 1));
        o = _opening(JOB, RATE, workers[0]);
        o.offer.maxUntil = START;
        _refuse(o, abi.encodeWithSelector(AlephErrors.TooLate.selector, START));
        o = _opening(JOB, RATE, workers[0]);
        o.offer.nodeHint = workers[1].id;
        _refuse(o, abi.encodeWithSelector(IJobManager.WrongNode.selector, workers[0].id, workers[1].id));
        o = _opening(JOB, RATE, workers[0]);
        o.assignment.rateQ32 = RATE + 1;
        _refuse(o, abi.encodeWithSelector(IJobManager.RateTooHigh.selector, RATE + 1, RATE));
        o.assignment.rateQ32 = 0;
        _refuse(o, abi.encodeWithSelector(AlephErrors.ZeroAmount.selector));
    }

    function test_open_refusesTheSameSpecTwice() public {
        _open(JOB, RATE, workers[0]);
        _refuse(_opening(JOB, RATE, workers[1]), abi.encodeWithSelector(AlephErrors.Duplicate.selector, JOB));
        _stop(JOB);
        _refuse(_opening(JOB, RATE, workers[1]), abi.encodeWithSelector(AlephErrors.Duplicate.selector, JOB));
    }

    function test_open_refusesAnOfferThatWasCalledOff() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        vm.expectEmit(address(jobs));
        emit IJobManager.NoncesInvalidated(payer, 1, type(uint256).max);
        vm.prank(payer);
        jobs.invalidateNonces(1, type(uint256).max);
        o.offer.nonce = 300;
        _refuseSigned(o, abi.encodeWithSelector(IJobManager.NonceUsed.selector, 300));
    }

    function test_open_inTheLastSecond() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        skip(600);
        _send(o);
        assertEq(uint8(_statusOf(JOB)), uint8(IJobManager.Status.Assigned));
    }

    function test_open_refusesWrongSignatures() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        bytes memory good = o.payerSig;
        o.payerSig = o.nodeSig;
        _refuse(o, abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        o.payerSig = good;
        good = o.nodeSig;
        // The coordinators' type does not serve as the node's.
        o.nodeSig = _sign(workers[0].key, jobs.assignmentDigest(o.assignment));
        _refuse(o, abi.encodeWithSelector(AlephErrors.BadSignature.selector, 1));
        o.nodeSig = good;
        bytes32 digest = jobs.acceptDigest(o.assignment);
        o.coordSigs = abi.encodePacked(coordinators[0].id, _sign(coordinators[0].key, digest));
        _refuse(o, abi.encodeWithSelector(INodeRegistry.QuorumLow.selector, 1, 3));
        digest = jobs.assignmentDigest(o.assignment);
        o.coordSigs = abi.encodePacked(
            coordinators[0].id,
            _sign(coordinators[0].key, digest),
            coordinators[1].id,
            _sign(coordinators[1].key, digest),
            coordinators[2].id,
            _sign(coordinators[1].key, digest)
        );
        _refuse(o, abi.encodeWithSelector(AlephErrors.BadSignature.selector, 4));
    }

    function test_open_refusesBadCoordinatorEntries() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        bytes memory entry =
            abi.encodePacked(coordinators[1].id, _sign(coordinators[1].key, jobs.assignmentDigest(o.assignment)));
        o.coordSigs = abi.encodePacked(entry, hex"00");
        _refuse(o, abi.encodeWithSelector(INodeRegistry.SignaturesLength.selector, 70));
        o.coordSigs = new bytes(65 * 69);
        _refuse(o, abi.encodeWithSelector(INodeRegistry.SignaturesLength.selector, 65 * 69));
        o.coordSigs = new bytes(64 * 69);
        _refuse(o, abi.encodeWithSelector(INodeRegistry.CoordinatorOrder.selector, 0, 0));
        o.coordSigs = abi.encodePacked(entry, entry, entry);
        _refuse(
            o, abi.encodeWithSelector(INodeRegistry.CoordinatorOrder.selector, coordinators[1].id, coordinators[1].id)
        );
        o.coordSigs = "";
        _refuse(o, abi.encodeWithSelector(INodeRegistry.QuorumLow.selector, 0, 3));
        // Enough, but not the one that proposed it.
        o.assignment.coordId = coordinators[0].id + 100;
        _signOpening(o, payerKey, workers[0], 3);
        _refuse(o, abi.encodeWithSelector(INodeRegistry.CoordinatorMissing.selector, coordinators[0].id + 100));
    }

    function test_open_quorumIsWhatThereIsBelowThree() public {
        for (uint256 i = 1; i < 3; ++i) {
            vm.prank(coordinators[i].owner);
            nodes.drain(coordinators[i].id);
        }
        Opening memory o = _opening(JOB, RATE, workers[0]);
        _signOpening(o, payerKey, workers[0], 1);
        _send(o);
        vm.prank(coordinators[0].owner);
        nodes.drain(coordinators[0].id);
        o = _opening("second", RATE, workers[0]);
        _signOpening(o, payerKey, workers[0], 1);
        _refuse(
            o,
            abi.encodeWithSelector(
                INodeRegistry.NodeNotActive.selector, coordinators[0].id, INodeRegistry.Status.Draining
            )
        );
    }

    function test_open_refusesANodeThatDrains() public {
        vm.prank(workers[0].owner);
        nodes.drain(workers[0].id);
        _refuse(
            _opening(JOB, RATE, workers[0]),
            abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, workers[0].id, INodeRegistry.Status.Draining)
        );
    }

    function test_open_refusesWithoutFunds() public {
        vm.prank(payer);
        token.approve(address(payments), 1e12 * 3600 - 1);
        _refuse(
            _opening(JOB, RATE, workers[0]),
            abi.encodeWithSelector(AlephErrors.Insufficient.selector, 1e12 * 3600 - 1, 1e12 * 3600)
        );
    }

    function test_open_pausedByGuardian() public {
        jobs.pause(Pausing.ENTRY, 1 days);
        _refuse(_opening(JOB, RATE, workers[0]), abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
    }

    function test_open_byAContractWallet() public {
        (address keyHolder, uint256 key) = makeAddrAndKey("wallet key");
        Wallet wallet = new Wallet(keyHolder);
        gateway.mint(token, address(wallet), 1 ether);
        wallet.approve(token, address(payments));
        Opening memory o = _opening(JOB, RATE, workers[0]);
        o.offer.payer = address(wallet);
        _signOpening(o, key, workers[0], 3);
        _send(o);
        assertEq(jobs.job(JOB).payer, address(wallet));
        bytes memory sig = _sign(key, jobs.stopDigest(JOB, START + 1));
        wallet.setMode(Wallet.Mode.Garbage);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        jobs.stopBySig(JOB, START + 1, sig);
        wallet.setMode(Wallet.Mode.BurnGas);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        jobs.stopBySig(JOB, START + 1, sig);
        wallet.setMode(Wallet.Mode.Honest);
        jobs.stopBySig(JOB, START + 1, sig);
    }

    function test_open_keyWithCode() public {
        // ERC-7702: a payer whose key has code signs with the key still.
        vm.etch(payer, hex"fe");
        _open(JOB, RATE, workers[0]);
    }

    /* RUNNING */

    function test_confirmRunning_startsBilling() public {
        _open(JOB, RATE, workers[0]);
        skip(600);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobRunning(JOB, workers[0].id, START + 600);
        assertEq(_confirm(JOB, workers[0]), 1);
        assertEq(jobs.job(JOB).startedAt, START + 600);
        IPaymentManager.AccountView memory a = payments.account(payer, ALEPH);
        assertEq(a.rateQ32, RATE);
        assertEq(a.paidUntil, START + 600 + 3600);
        assertEq(a.reserved, 0);
        skip(10);
        _stop(JOB);
        assertEq(_claim(workers[0].id), 10 * 1e12, "the boot is free");
    }

    function test_confirmRunning_tellsOfEachItem() public {
        _open("mine", RATE, workers[0]);
        _open("late", RATE, workers[0]);
        _open("other's", RATE, workers[1]);
        bytes32[] memory specs = new bytes32[](4);
        (specs[0], specs[1], specs[2], specs[3]) = ("unknown", "other's", "mine", "mine");
        bytes4 call = IJobManager.confirmRunning.selector;
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused("unknown", call, IJobManager.Refusal.WrongStatus);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused("other's", call, IJobManager.Refusal.NotSigner);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused("mine", call, IJobManager.Refusal.WrongStatus);
        vm.prank(workers[0].signer);
        assertEq(jobs.confirmRunning(specs), 4);
        skip(15 minutes + 1);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused("late", call, IJobManager.Refusal.StartTooLate);
        assertEq(_confirm("late", workers[0]), 0);
    }

    function test_confirmRunning_failsInArrears() public {
        _run("first", RATE, workers[0]);
        _open(JOB, RATE, workers[1]);
        vm.prank(payer);
        token.approve(address(payments), 0);
        skip(10 minutes);
        assertEq(payments.account(payer, ALEPH).refund, 0);
        // The window of the first ends before the second is confirmed.
        vm.warp(START + 3600 + 1);
        _openLate();
    }

    function _openLate() private {
        // The job was assigned an hour ago, so it is refused as late; one assigned just now fails in arrears.
        assertEq(_confirm(JOB, workers[1]), 0);
        vm.warp(START + 3599);
        vm.prank(payer);
        token.approve(address(payments), 1e12 * 3600);
        _open("second", RATE, workers[1]);
        vm.warp(START + 3601);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobStopped(
            "second",
            workers[1].id,
            workers[1].signer,
            IJobManager.Status.Failed,
            EndReason.ARREARS_AT_START,
            0,
            START + 3601,
            RATE
        );
        assertEq(_confirm("second", workers[1]), 0);
        assertEq(payments.account(payer, ALEPH).refund, 1e12 * 3600, "the reserve is free");
    }

    function test_batches_areBounded() public {
        bytes32[] memory none = new bytes32[](0);
        bytes32[] memory many = new bytes32[](201);
        bytes memory err = abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 200);
        vm.expectRevert(err);
        jobs.confirmRunning(none);
        vm.expectRevert(err);
        jobs.expire(none);
        vm.expectRevert(err);
        jobs.closeForArrears(none);
        err = abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 201, 1, 200);
        vm.expectRevert(err);
        jobs.confirmRunning(many);
        vm.expectRevert(err);
        jobs.expire(many);
        vm.expectRevert(err);
        jobs.closeForArrears(many);
        many = new bytes32[](200);
        assertEq(jobs.confirmRunning(many) + jobs.expire(many) + jobs.closeForArrears(many), 0, "none of 200");
    }

    /* ENDING */

    function _expectStopped(address by, IJobManager.Status status, uint8 reason, uint40 started) private {
        vm.expectEmit(address(jobs));
        emit IJobManager.JobStopped(JOB, workers[0].id, by, status, reason, started, uint40(block.timestamp), RATE);
    }

    function test_stop_byThePayer() public {
        _run(JOB, RATE, workers[0]);
        skip(100);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        jobs.stop(JOB);
        _expectStopped(payer, IJobManager.Status.Stopped, EndReason.PAYER, START);
        _stop(JOB);
        assertEq(jobs.activeJobs(workers[0].id), 0);
        assertEq(payments.account(payer, ALEPH).refund, 3500 * 1e12);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.AlreadyTerminal.selector, IJobManager.Status.Stopped));
        vm.prank(payer);
        jobs.stop(JOB);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadState.selector, 0, 2));
        jobs.stop("unknown");
    }

    function test_stop_beforeItRuns() public {
        _open(JOB, RATE, workers[0]);
        _expectStopped(payer, IJobManager.Status.Stopped, EndReason.PAYER, 0);
        _stop(JOB);
        assertEq(payments.account(payer, ALEPH).refund, 3600 * 1e12);
        assertEq(payments.account(payer, ALEPH).reserved, 0);
    }

    function test_stopBySig_needsThePayersSignatureInTime() public {
        _run(JOB, RATE, workers[0]);
        bytes memory sig = _sign(payerKey, jobs.stopDigest(JOB, START + 60));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        jobs.stopBySig(JOB, START + 61, sig);
        skip(61);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Expired.selector, START + 60));
        jobs.stopBySig(JOB, START + 60, sig);
        vm.warp(START + 60);
        _expectStopped(payer, IJobManager.Status.Stopped, EndReason.PAYER, START);
        jobs.stopBySig(JOB, START + 60, sig);
    }

    function test_nodeStop_endsBillingAtOnce() public {
        _run(JOB, RATE, workers[0]);
        skip(5);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        jobs.nodeStop(JOB, 16);
        vm.startPrank(workers[0].signer);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 15, 16, 255));
        jobs.nodeStop(JOB, 15);
        _expectStopped(workers[0].signer, IJobManager.Status.Failed, 16, START);
        jobs.nodeStop(JOB, 16);
        vm.stopPrank();
        skip(100);
        assertEq(_claim(workers[0].id), 5 * 1e12);
    }

    function test_failStart_afterTheWindow() public {
        _open(JOB, RATE, workers[0]);
        vm.warp(START + 15 minutes);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, START + 15 minutes + 1));
        jobs.failStart(JOB);
        // An outage counts only when the time is over.
        vm.mockCall(slaAt, abi.encodeWithSelector(ISLAManager.outage.selector), abi.encode(60));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, START + 15 minutes + 1));
        jobs.failStart(JOB);
        skip(60);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, START + 16 minutes + 1));
        jobs.failStart(JOB);
        skip(1);
        _expectStopped(address(this), IJobManager.Status.Failed, EndReason.START_TIMEOUT, 0);
        jobs.failStart(JOB);
        assertEq(payments.account(payer, ALEPH).refund, 3600 * 1e12);
        _run("running", RATE, workers[0]);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadState.selector, 3, 2));
        jobs.failStart("running");
    }

    function test_closeForArrears_afterTheHardGrace() public {
        _run(JOB, RATE, workers[0]);
        vm.prank(payer);
        token.approve(address(payments), 0);
        bytes4 call = IJobManager.closeForArrears.selector;
        vm.warp(START + 3600 + 24 hours);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused(JOB, call, IJobManager.Refusal.NotOverdue);
        assertEq(jobs.closeForArrears(_list(JOB)), 0);
        skip(1);
        _expectStopped(address(this), IJobManager.Status.Expired, EndReason.ARREARS, START);
        assertEq(jobs.closeForArrears(_list(JOB)), 1);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused(JOB, call, IJobManager.Refusal.WrongStatus);
        assertEq(jobs.closeForArrears(_list(JOB)), 0);
        assertEq(_claim(workers[0].id), 3600 * 1e12, "the node gets what was prepaid, no unpaid tail");
        assertEq(payments.pair(payer, ALEPH, workers[0].id).debt, (24 hours + 1) * 1e12);
    }

    function test_expire_afterMaxUntil() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        o.offer.maxUntil = START + 100;
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
        _confirm(JOB, workers[0]);
        _open("endless", RATE, workers[0]);
        bytes32[] memory specs = new bytes32[](3);
        (specs[0], specs[1], specs[2]) = (JOB, "endless", "unknown");
        bytes4 call = IJobManager.expire.selector;
        vm.warp(START + 100);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused(JOB, call, IJobManager.Refusal.NotExpired);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused("endless", call, IJobManager.Refusal.NotExpired);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused("unknown", call, IJobManager.Refusal.WrongStatus);
        assertEq(jobs.expire(specs), 0);
        skip(1);
        _expectStopped(address(this), IJobManager.Status.Expired, EndReason.MAX_UNTIL, START);
        assertEq(jobs.expire(specs), 1);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.AlreadyTerminal.selector, IJobManager.Status.Expired));
        vm.prank(payer);
        jobs.stop(JOB);
    }

    function test_stop_whateverTheTokenDoes() public {
        _run(JOB, RATE, workers[0]);
        skip(2 hours);
        vm.mockCallRevert(address(token), bytes(""), bytes("broken"));
        vm.mockCallRevert(address(token), abi.encodeWithSelector(token.balanceOf.selector), "broken");
        _stop(JOB);
        assertEq(uint8(_statusOf(JOB)), uint8(IJobManager.Status.Stopped), "PM-10");
        assertEq(payments.pair(payer, ALEPH, workers[0].id).debt, 3600 * 1e12);
    }
}
