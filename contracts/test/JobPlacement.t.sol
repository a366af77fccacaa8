// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IImageMarketplace} from "../src/interfaces/IImageMarketplace.sol";
import {IJobManager} from "../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {ISLAManager} from "../src/interfaces/ISLAManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {EndReason} from "../src/libraries/EndReason.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Payees} from "../src/libraries/Payees.sol";
import {PlacementSuite} from "./utils/PlacementSuite.sol";

/// @title JobPlacement
/// @notice Jobs offered on the chain, in batches, with classes, with images, on another node, at another rate.
contract JobPlacementTest is PlacementSuite {
    uint128 internal constant RATE = uint128(1e12 * Q);
    bytes32 internal constant JOB = "job";
    uint32 internal class;

    function setUp() public override {
        super.setUp();
        _listen();
        class = _class(2 hours, 500);
        _optIn(workers[0], class);
        _optIn(workers[1], class);
        nodes.snapshotCoordinators();
    }

    function _assertStatus(IJobManager.Status want) private view {
        assertEq(uint8(_statusOf(JOB)), uint8(want));
    }

    function _expectState(IJobManager.Status have, IJobManager.Status want) private {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadState.selector, have, want));
    }

    function _opened(uint32 slaClass) private returns (Opening memory o) {
        o = _openingOf(JOB, RATE, workers[0], slaClass, 0);
        _send(o);
    }

    function _running(uint32 slaClass) private returns (Opening memory o) {
        o = _opened(slaClass);
        assertEq(_confirm(JOB, workers[0]), 1);
    }

    /// @dev The same offer for another node and attempt.
    function _next(Opening memory o, Party memory worker, uint8 attempt) private view {
        (o.assignment.nodeId, o.assignment.attempt) = (worker.id, attempt);
        o.assignment.deadline = uint40(block.timestamp) + 600;
    }

    /* THE PAYER'S OWN CHOICE */

    function test_openSelf_needsNoCoordinator() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        o.assignment.coordId = 0;
        _signOpening(o, payerKey, workers[0], 0);
        vm.expectRevert(IJobManager.NoNodeHint.selector);
        jobs.openSelf(o.offer, o.payerSig, o.assignment, o.nodeSig);
        // Without a node of its own choice, open asks the coordinators.
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.QuorumLow.selector, 0, 3));
        _send(o);
        o.offer.nodeHint = workers[0].id;
        o.assignment.coordId = coordinators[0].id;
        _signOpening(o, payerKey, workers[0], 0);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.CoordinatorMissing.selector, coordinators[0].id));
        jobs.openSelf(o.offer, o.payerSig, o.assignment, o.nodeSig);
        o.assignment.coordId = 0;
        _signOpening(o, payerKey, workers[1], 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 1));
        jobs.openSelf(o.offer, o.payerSig, o.assignment, o.nodeSig);
        _signOpening(o, payerKey, workers[0], 0);
        jobs.openSelf(o.offer, o.payerSig, o.assignment, o.nodeSig);
        _assertStatus(IJobManager.Status.Assigned);
        assertEq(jobs.job(JOB).coordId, 0);
    }

    /* BATCHES */

    function test_batch_emits_outcome_per_item() public {
        // curio #1214
        bytes[] memory calls = new bytes[](4);
        calls[0] = _openCall(_opening("a", RATE, workers[0]));
        Opening memory bad = _opening("b", RATE, workers[0]);
        bad.nodeSig = bad.payerSig;
        calls[1] = _openCall(bad);
        calls[2] = _openCall(_opening("c", RATE, workers[1]));
        calls[3] = calls[0];
        vm.expectEmit(address(jobs));
        emit IJobManager.OpenRefused("b", AlephErrors.BadSignature.selector);
        vm.expectEmit(address(jobs));
        emit IJobManager.OpenRefused("a", AlephErrors.Duplicate.selector);
        assertEq(jobs.openBatch(calls), 5);
        assertEq(uint8(_statusOf("c")), uint8(IJobManager.Status.Assigned));
        assertEq(jobs.activeJobs(workers[0].id), 1);
    }

    function test_batch_refusesWhatIsNoOpening() public {
        bytes[] memory calls = new bytes[](0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 32));
        jobs.openBatch(calls);
        calls = new bytes[](33);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 33, 1, 32));
        jobs.openBatch(calls);
        calls = new bytes[](32);
        for (uint256 i; i < 32; ++i) {
            calls[i] = abi.encodePacked(IJobManager.open.selector, bytes32(0));
        }
        assertEq(jobs.openBatch(calls), 0, "none of 32");
        calls = new bytes[](1);
        calls[0] = new bytes(35);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 35, 36, type(uint256).max));
        jobs.openBatch(calls);
        calls[0] = abi.encodeCall(IJobManager.stop, ("abc"));
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NoOpening.selector, IJobManager.stop.selector));
        jobs.openBatch(calls);
        jobs.pause(Pausing.ENTRY, 1 days);
        calls[0] = _openCall(_opening("a", RATE, workers[0]));
        vm.expectEmit(address(jobs));
        emit IJobManager.OpenRefused("a", AlephErrors.Paused.selector);
        assertEq(jobs.openBatch(calls), 0);
    }

    /* OFFERS ON THE CHAIN */

    function _create(Opening memory o) private {
        vm.prank(payer);
        jobs.createJob(o.offer);
    }

    function test_createJob_storesTheOffer() public {
        Opening memory o = _openingOf(JOB, RATE, workers[0], class, 0);
        o.offer.maxUntil = START + 1 days;
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        jobs.createJob(o.offer);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobOffered(JOB, payer, o.offer, _offerHash(o.offer));
        _create(o);
        IJobManager.JobView memory j = jobs.job(JOB);
        assertEq(uint8(j.status), uint8(IJobManager.Status.Offered));
        assertEq(j.payer, payer);
        assertEq(j.slaClass, class);
        assertEq(jobs.offerHash(JOB), _offerHash(o.offer));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, JOB));
        _create(o);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, JOB));
        _send(o);
    }

    /// @dev Whoever reads a spec can offer it first, and must not keep it from its owner so.
    function _squat(bool stop) private {
        address squatter = makeAddr("squatter");
        IJobManager.JobOffer memory bad = _offer(JOB, RATE);
        (bad.payer, bad.slaClass, bad.maxUntil, bad.imageSeq) = (squatter, class, START + 9, 7);
        vm.startPrank(squatter);
        jobs.createJob(bad);
        if (stop) jobs.stop(JOB);
        vm.stopPrank();
    }

    function testFuzz_open_takesWhatAnotherOffered(bool stopped, bool elapsed) public {
        _squat(stopped);
        if (elapsed) skip(60);
        Opening memory o = _opening(JOB, RATE, workers[0]);
        _send(o);
        IJobManager.JobView memory j = jobs.job(JOB);
        assertEq(j.payer, payer);
        assertEq(j.nodeId, workers[0].id);
        assertEq(j.slaClass, 0);
        assertEq(j.maxUntil, 0);
        assertEq(j.imageSeq, 0);
        assertEq(uint8(j.status), uint8(IJobManager.Status.Assigned));
        assertEq(_confirm(JOB, workers[0]), 1);
        _stop(JOB);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, JOB));
        _send(o);
    }

    function test_open_doesNotTakeItsPayersOwnOffer() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        vm.prank(payer);
        jobs.createJob(o.offer);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, JOB));
        _send(o);
    }

    function test_createJob_takesTheHighestClass() public {
        Opening memory o = _openingOf(JOB, RATE, workers[0], type(uint24).max, 0);
        _create(o);
        assertEq(jobs.job(JOB).slaClass, type(uint24).max);
    }

    function test_assign_refusesWrongSignatures() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        _create(o);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 1));
        jobs.assign(o.offer, "", o.assignment, o.payerSig, o.coordSigs);
        bytes memory coordSigs = abi.encodePacked(coordinators[0].id, o.nodeSig);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.QuorumLow.selector, 1, 3));
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, coordSigs);
        coordSigs = abi.encodePacked(
            coordinators[0].id, o.nodeSig, coordinators[1].id, o.nodeSig, coordinators[2].id, o.nodeSig
        );
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 2));
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, coordSigs);
    }

    function test_assign_revertsWhenTheOfferWasCalledOff() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        _create(o);
        vm.prank(payer);
        jobs.invalidateNonces(o.offer.nonce >> 8, 1 << (o.offer.nonce & 0xff));
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NonceUsed.selector, o.offer.nonce));
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
    }

    function test_createJob_refusesBadOffers() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        o.offer.spec = 0;
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        _create(o);
        o.offer.spec = JOB;
        o.offer.maxRateQ32 = 0;
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        _create(o);
        o.offer.maxRateQ32 = RATE;
        o.offer.slaClass = 1 << 24;
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NotOptedIn.selector, 0, 1 << 24));
        _create(o);
        o.offer.slaClass = 0;
        o.offer.deadline = START - 1;
        vm.expectRevert(abi.encodeWithSelector(IJobManager.OfferExpired.selector, START - 1));
        _create(o);
        jobs.pause(Pausing.ENTRY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        _create(o);
    }

    function test_assign_takesTheOfferOfTheChain() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        _create(o);
        o.payerSig = "";
        // The one with the duty may be any: the day has no seed.
        vm.expectEmit(address(jobs));
        emit IJobManager.JobAssigned(JOB, workers[0].id, payer, RATE, ALEPH, 0, coordinators[0].id, 0, 3600);
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
        _assertStatus(IJobManager.Status.Assigned);
        assertEq(_confirm(JOB, workers[0]), 1);
        _stop(JOB);
        _expectState(IJobManager.Status.Stopped, IJobManager.Status.Reassign);
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
    }

    function test_assign_anotherOfferNeedsASignature() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        _create(o);
        o.offer.maxRateQ32 = 2 * RATE;
        o.assignment.rateQ32 = 2 * RATE;
        _signOpening(o, payerKey, workers[0], 3);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
        jobs.assign(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs);
        assertEq(jobs.job(JOB).rateQ32, 2 * RATE);
    }

    function test_assign_refusesOtherTermsAndLateOnes() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        _create(o);
        o.offer.token = 2;
        _mismatch(o);
        (o.offer.token, o.offer.slaClass) = (ALEPH, class);
        _mismatch(o);
        (o.offer.slaClass, o.offer.imageSeq) = (0, 1);
        _mismatch(o);
        (o.offer.imageSeq, o.offer.payer) = (0, address(this));
        _mismatch(o);
        o.offer.payer = payer;
        o.assignment.rateQ32 = RATE + 1;
        vm.expectRevert(abi.encodeWithSelector(IJobManager.RateTooHigh.selector, RATE + 1, RATE));
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
        skip(601);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.OfferExpired.selector, START + 600));
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
    }

    function _mismatch(Opening memory o) private {
        vm.expectRevert(abi.encodeWithSelector(IJobManager.OfferMismatch.selector, JOB));
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
    }

    function test_offered_endsByStopAndByItself() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        _create(o);
        skip(600);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused(JOB, IJobManager.expire.selector, IJobManager.Refusal.NotExpired);
        assertEq(jobs.expire(_list(JOB)), 0);
        skip(1);
        uint256 snapshot = vm.snapshotState();
        vm.expectEmit(address(jobs));
        emit IJobManager.JobStopped(
            JOB, 0, address(this), IJobManager.Status.Expired, EndReason.NOT_PLACED, 0, uint40(block.timestamp), 0
        );
        assertEq(jobs.expire(_list(JOB)), 1);
        vm.revertToState(snapshot);
        _stop(JOB);
        _assertStatus(IJobManager.Status.Stopped);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.AlreadyTerminal.selector, IJobManager.Status.Stopped));
        jobs.finalize(JOB);
    }

    function test_assign_onDuty() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        o.offer.deadline = START + 1 days;
        _create(o);
        uint24 day = uint24(START / 1 days);
        vm.mockCall(_at("StorageRegistry"), abi.encodeWithSignature("seedOf(uint24)", day), abi.encode(SEED));
        uint32 duty = jobs.dutyCoordinator(JOB, day, 0);
        uint256[3] memory rank;
        for (uint256 i; i < 3; ++i) {
            o.assignment.coordId = coordinators[i].id;
            rank[i] = _rankOf(o, coordinators[i].id);
            assertEq(rank[i] == 0, coordinators[i].id == duty);
        }
        assertEq(rank[0] + rank[1] + rank[2], 3, "a race has one of each rank");
        // After ten minutes the second, after twenty the third.
        for (uint256 i; i < 3; ++i) {
            if (rank[i] != 2) continue;
            o.assignment.coordId = coordinators[i].id;
            skip(20 minutes - 1);
            o.assignment.deadline = uint40(block.timestamp) + 600;
            _signOpening(o, payerKey, workers[0], 3);
            vm.expectRevert(abi.encodeWithSelector(IJobManager.WrongDuty.selector, coordinators[i].id, 2));
            jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
            skip(1);
            jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
        }
        _assertStatus(IJobManager.Status.Assigned);
        assertEq(jobs.dutyCoordinator(JOB, day + 1, 0), 0, "no seed");
    }

    function _rankOf(Opening memory o, uint32 coordId) private returns (uint256) {
        uint256 snapshot = vm.snapshotState();
        _signOpening(o, payerKey, workers[0], 3);
        try jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs) {
            vm.revertToState(snapshot);
            return 0;
        } catch (bytes memory err) {
            vm.revertToState(snapshot);
            for (uint256 i = 1; i < 3; ++i) {
                if (keccak256(err) == keccak256(abi.encodeWithSelector(IJobManager.WrongDuty.selector, coordId, i))) {
                    return i;
                }
            }
            revert("another error");
        }
    }

    /* CLASSES */

    function test_class_needsTheNodesOptIn() public {
        Opening memory o = _openingOf(JOB, RATE, workers[2], class, 0);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NotOptedIn.selector, workers[2].id, class));
        _send(o);
        o = _openingOf(JOB, RATE, workers[0], class, 0);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobTerms(JOB, 0, class, 0, 0, 0, 0, 0, o.assignment.deadline);
        _send(o);
    }

    function test_class_shorterStart() public {
        Opening memory o = _opened(class);
        vm.warp(START + 5 minutes);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, START + 5 minutes + 1));
        jobs.failStart(JOB);
        skip(1);
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused(JOB, IJobManager.confirmRunning.selector, IJobManager.Refusal.StartTooLate);
        assertEq(_confirm(JOB, workers[0]), 0);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobUnplaced(
            JOB, workers[0].id, address(this), EndReason.START_TIMEOUT, 1, 0, uint40(block.timestamp), RATE
        );
        jobs.failStart(JOB);
        _assertStatus(IJobManager.Status.Reassign);
        assertEq(jobs.activeJobs(workers[0].id), 0);
        assertEq(payments.account(payer, ALEPH).reserved, 0);
        bytes32 caseId = sla.caseIdOf(ISLAManager.Kind.StartTimeout, workers[0].id, JOB, 0);
        ISLAManager.CaseView memory c = sla.caseOf(caseId);
        assertEq(uint8(c.state), uint8(ISLAManager.State.Proven));
        assertEq(c.bps, 5, "the class asks for more than the kind");
        assertEq(c.tenantBps, 4_000);
        assertEq(c.reporter, address(this));
        assertEq(c.tenant, payer);
        _next(o, workers[1], 1);
        _assign(o, workers[1]);
        assertEq(_confirm(JOB, workers[1]), 1);
        assertEq(jobs.job(JOB).attempt, 1);
    }

    function test_failStart_withoutAClassHasFailed() public {
        _opened(0);
        skip(15 minutes + 1);
        jobs.failStart(JOB);
        _assertStatus(IJobManager.Status.Failed);
        bytes32 caseId = sla.caseIdOf(ISLAManager.Kind.StartTimeout, workers[0].id, JOB, 0);
        assertEq(sla.caseOf(caseId).bps, 2);
    }

    function test_start_anOutageMakesItLonger() public {
        _opened(0);
        skip(5 minutes);
        sla.recordOutage(_outage(30 minutes));
        // 95 minutes have passed, of which 30 do not count.
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused(JOB, IJobManager.confirmRunning.selector, IJobManager.Refusal.StartTooLate);
        assertEq(_confirm(JOB, workers[0]), 0);
        vm.warp(START + 45 minutes);
        assertEq(_confirm(JOB, workers[0]), 1);
    }

    function test_notice_runsUntilItIsOver() public {
        _running(class);
        vm.prank(workers[0].signer);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobStopping(JOB, workers[0].id, 17, START + 2 hours);
        jobs.nodeStop(JOB, 17);
        _assertStatus(IJobManager.Status.Stopping);
        assertEq(payments.account(payer, ALEPH).rateQ32, RATE, "it runs and is paid still");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, START + 2 hours));
        jobs.finalize(JOB);
        skip(2 hours);
        uint256 snapshot = vm.snapshotState();
        vm.expectEmit(address(jobs));
        emit IJobManager.JobStopped(
            JOB,
            workers[0].id,
            address(this),
            IJobManager.Status.Stopped,
            EndReason.NOTICE,
            START,
            START + 2 hours,
            RATE
        );
        jobs.finalize(JOB);
        vm.revertToState(snapshot);
        vm.prank(workers[0].signer);
        jobs.nodeStop(JOB, 17);
        _assertStatus(IJobManager.Status.Stopped);
        (, uint16 executed, uint16 filed) = sla.points(workers[0].id);
        assertEq(executed + filed, 0, "no violation");
    }

    function test_notice_thePayerStopsAtOnce() public {
        _running(class);
        _expectState(IJobManager.Status.Running, IJobManager.Status.Stopping);
        jobs.finalize(JOB);
        vm.prank(workers[0].signer);
        jobs.nodeStop(JOB, 17);
        _stop(JOB);
        _assertStatus(IJobManager.Status.Stopped);
    }

    function test_notice_endingBeforeIsAViolation() public {
        _running(class);
        skip(10 hours);
        payments.pull(payer, ALEPH);
        _claim(workers[0].id);
        vm.startPrank(workers[0].signer);
        jobs.nodeStop(JOB, 17);
        skip(30 minutes);
        bytes32 caseId = sla.caseIdOf(ISLAManager.Kind.EarlyStop, workers[0].id, JOB, 0);
        _expectFiled(caseId);
        jobs.nodeStop(JOB, 17);
        vm.stopPrank();
        _assertStatus(IJobManager.Status.Reassign);
        ISLAManager.CaseView memory c = sla.caseOf(caseId);
        assertEq(c.severity, 2, "three quarters of the notice are missing");
        assertEq(c.bps, 50);
        // 5 % a point, three points, of ten and a half hours.
        uint128 most = uint128(uint256(1e12) * 10.5 hours * 15 / 100);
        assertEq(c.credit, most);
        vm.expectEmit(address(sla));
        emit ISLAManager.ServiceCredited(caseId, payer, ALEPH, most);
        uint256 refund = payments.account(payer, ALEPH).refund;
        sla.finalize(caseId);
        assertEq(payments.account(payer, ALEPH).refund, refund + most);
        assertGt(sla.creditOf(payer), 0, "and the tenant's part of the stake");
    }

    /// @dev The event tells what the class of the job gives the tenant.
    function _expectFiled(bytes32 caseId) private {
        vm.expectEmit(address(sla));
        emit ISLAManager.CaseFiled(
            caseId,
            workers[0].id,
            ISLAManager.Kind.EarlyStop,
            2,
            50,
            uint40(block.timestamp),
            address(0),
            payer,
            JOB,
            0,
            4_000,
            ALEPH,
            uint128(uint256(1e12) * 10.5 hours * 15 / 100)
        );
    }

    function test_nodeStop_beforeItRunsWaitsForAnother() public {
        _opened(class);
        vm.prank(workers[0].signer);
        jobs.nodeStop(JOB, 17);
        _assertStatus(IJobManager.Status.Reassign);
        _expectState(IJobManager.Status.Reassign, IJobManager.Status.Assigned);
        jobs.nodeStop(JOB, 17);
    }

    function test_nodeStop_ofAClassWithoutNotice() public {
        class = _class(0, 0);
        _optIn(workers[0], class);
        _running(class);
        vm.prank(workers[0].signer);
        jobs.nodeStop(JOB, 17);
        _assertStatus(IJobManager.Status.Reassign);
    }

    /* COMPLETING */

    function test_complete_without_callback() public {
        // PoCo #15: nobody's code runs when a job is done.
        _running(0);
        vm.etch(payer, hex"fe");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        jobs.complete(JOB, "result");
        skip(60);
        vm.startPrank(workers[0].signer);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobCompleted(JOB, workers[0].id, "result");
        vm.expectEmit(address(jobs));
        emit IJobManager.JobStopped(
            JOB,
            workers[0].id,
            workers[0].signer,
            IJobManager.Status.Completed,
            EndReason.COMPLETED,
            START,
            START + 60,
            RATE
        );
        jobs.complete(JOB, "result");
        vm.expectRevert(abi.encodeWithSelector(IJobManager.AlreadyTerminal.selector, IJobManager.Status.Completed));
        jobs.complete(JOB, "result");
        vm.stopPrank();
    }

    function test_complete_notInsteadOfNotice() public {
        _opened(class);
        _expectState(IJobManager.Status.Assigned, IJobManager.Status.Running);
        jobs.complete(JOB, "result");
        _confirm(JOB, workers[0]);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NoticeNeeded.selector, 2 hours));
        vm.prank(workers[0].signer);
        jobs.complete(JOB, "result");
    }

    /* ANOTHER NODE */

    function test_reassign_byThePayer() public {
        Opening memory o = _running(0);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NodeAvailable.selector, workers[0].id));
        jobs.reassign(JOB);
        skip(60);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobUnplaced(JOB, workers[0].id, payer, EndReason.MOVED, 1, START, START + 60, RATE);
        vm.prank(payer);
        jobs.reassign(JOB);
        assertEq(payments.account(payer, ALEPH).rateQ32, 0);
        assertEq(jobs.job(JOB).startedAt, 0);
        _next(o, workers[1], 0);
        _signOpening(o, payerKey, workers[1], 3);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.WrongAttempt.selector, 0, 1));
        jobs.assign(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs);
        _next(o, workers[1], 1);
        _assign(o, workers[1]);
        _confirm(JOB, workers[1]);
        assertEq(jobs.activeJobs(workers[1].id), 1);
        assertEq(payments.account(payer, ALEPH).rateQ32, RATE);
        _stop(JOB);
    }

    function test_reassign_whenTheNodeIsGone() public {
        _running(0);
        vm.prank(address(sla));
        nodes.jail(workers[0].id, 1 days);
        jobs.reassign(JOB);
        _assertStatus(IJobManager.Status.Reassign);
    }

    function test_reassign_keepsThePayersCeiling() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        o.assignment.rateQ32 = RATE / 2;
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
        vm.prank(payer);
        jobs.reassign(JOB);
        // While the offer is good its ceiling holds, later what was paid before.
        _next(o, workers[1], 1);
        o.assignment.rateQ32 = RATE;
        uint256 snapshot = vm.snapshotState();
        _assign(o, workers[1]);
        vm.revertToState(snapshot);
        skip(601);
        _next(o, workers[1], 1);
        _signOpening(o, payerKey, workers[1], 3);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.RateTooHigh.selector, RATE, RATE / 2));
        jobs.assign(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs);
        o.assignment.rateQ32 = RATE / 2;
        _assign(o, workers[1]);
    }

    function test_reassign_notForever() public {
        Opening memory o = _running(0);
        for (uint8 i = 1; i <= 16; ++i) {
            vm.prank(payer);
            jobs.reassign(JOB);
            _next(o, workers[i % 2], i);
            _assign(o, workers[i % 2]);
        }
        vm.prank(payer);
        jobs.reassign(JOB);
        _assertStatus(IJobManager.Status.Failed);
    }

    function test_reassign_waitsForADay() public {
        _running(0);
        vm.prank(payer);
        jobs.reassign(JOB);
        skip(1 days);
        assertEq(jobs.expire(_list(JOB)), 0);
        skip(1);
        assertEq(jobs.expire(_list(JOB)), 1);
        _assertStatus(IJobManager.Status.Expired);
    }

    /* ANOTHER RATE */

    function test_resize_changesRateAndEnd() public {
        _running(0);
        skip(60);
        IJobManager.JobOffer memory offer = _offer(JOB, 3 * RATE);
        offer.maxUntil = START + 1 days;
        bytes memory sig = _sign(payerKey, jobs.offerDigest(offer));
        bytes memory nodeSig = _resizeSig(offer, workers[0], 2 * RATE);
        vm.expectEmit(address(jobs));
        emit IJobManager.NoncesInvalidated(payer, offer.nonce >> 8, 1 << (offer.nonce & 0xff));
        vm.expectEmit(address(jobs));
        emit IJobManager.JobResized(JOB, workers[0].id, 2 * RATE, 0, START + 1 days);
        jobs.resize(offer, sig, 2 * RATE, nodeSig);
        assertEq(jobs.job(JOB).rateQ32, 2 * RATE);
        assertEq(jobs.job(JOB).maxUntil, START + 1 days);
        assertEq(payments.account(payer, ALEPH).rateQ32, 2 * RATE);
        // Once only.
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NonceUsed.selector, offer.nonce));
        jobs.resize(offer, sig, 2 * RATE, nodeSig);
        _stop(JOB);
        assertEq(payments.account(payer, ALEPH).rateQ32, 0);
        _expectState(IJobManager.Status.Stopped, IJobManager.Status.Running);
        jobs.resize(offer, sig, 2 * RATE, nodeSig);
    }

    function test_assign_inTheLastSecondAtANewRate() public {
        Opening memory o = _opening(JOB, RATE, workers[0]);
        o.offer.maxRateQ32 = 2 * RATE;
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
        vm.prank(payer);
        jobs.reassign(JOB);
        o.assignment.nodeId = workers[1].id;
        (o.assignment.attempt, o.assignment.rateQ32) = (1, 2 * RATE);
        vm.warp(o.offer.deadline + 1);
        o.assignment.deadline = uint40(block.timestamp);
        _signOpening(o, payerKey, workers[1], 3);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.RateTooHigh.selector, 2 * RATE, RATE));
        jobs.assign(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs);
        vm.warp(o.offer.deadline);
        _assign(o, workers[1]);
        assertEq(jobs.job(JOB).rateQ32, 2 * RATE);
    }

    function test_resize_notWhilePaused() public {
        _running(0);
        IJobManager.JobOffer memory offer = _offer(JOB, 2 * RATE);
        bytes memory sig = _sign(payerKey, jobs.offerDigest(offer));
        bytes memory nodeSig = _resizeSig(offer, workers[0], 2 * RATE);
        jobs.pause(Pausing.ENTRY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        jobs.resize(offer, sig, 2 * RATE, nodeSig);
    }

    function test_resize_toWhatThePayerPaysAtMost() public {
        _running(0);
        IJobManager.JobOffer memory offer = _offer(JOB, 2 * RATE);
        bytes memory sig = _sign(payerKey, jobs.offerDigest(offer));
        jobs.resize(offer, sig, 2 * RATE, _resizeSig(offer, workers[0], 2 * RATE));
        assertEq(jobs.job(JOB).rateQ32, 2 * RATE);
    }

    function test_resize_refuses() public {
        _running(0);
        IJobManager.JobOffer memory offer = _offer(JOB, RATE);
        bytes memory sig = _sign(payerKey, jobs.offerDigest(offer));
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        jobs.resize(offer, sig, 0, "");
        vm.expectRevert(abi.encodeWithSelector(IJobManager.RateTooHigh.selector, RATE + 1, RATE));
        jobs.resize(offer, sig, RATE + 1, "");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        jobs.resize(offer, "", RATE / 2, "");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 1));
        jobs.resize(offer, sig, RATE / 2, sig);
        offer.nodeHint = workers[1].id;
        vm.expectRevert(abi.encodeWithSelector(IJobManager.WrongNode.selector, workers[0].id, workers[1].id));
        jobs.resize(offer, sig, RATE / 2, sig);
        (offer.nodeHint, offer.slaClass) = (0, class);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.OfferMismatch.selector, JOB));
        jobs.resize(offer, sig, RATE / 2, sig);
        offer.deadline = START - 1;
        vm.expectRevert(abi.encodeWithSelector(IJobManager.OfferExpired.selector, START - 1));
        jobs.resize(offer, sig, RATE / 2, sig);
    }

    /* IMAGES */

    uint32 private constant _IMAGE = 9;

    function _mockImage(uint128 rate, uint128 extraQ32, uint128 once) private {
        vm.mockCall(
            _at("ImageMarketplace"),
            abi.encodeWithSignature("quote(uint32,uint8,uint128)", _IMAGE, ALEPH, rate),
            abi.encode(Payees.ofImage(_IMAGE), extraQ32, once)
        );
    }

    function _mockKept(uint128 rate, uint128 extraQ32) private {
        vm.mockCall(
            _at("ImageMarketplace"),
            abi.encodeWithSignature("quoteKept(uint32,uint8,uint128)", _IMAGE, ALEPH, rate),
            abi.encode(Payees.ofImage(_IMAGE), extraQ32, 0)
        );
    }

    function _imageJob(uint128 once) private returns (Opening memory o) {
        _mockImage(RATE, RATE / 10, once);
        o = _openingOf(JOB, RATE, workers[0], 0, _IMAGE);
        o.offer.maxRateQ32 = RATE + RATE / 10;
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
    }

    function test_image_flowsWithTheJob() public {
        _imageJob(0);
        assertEq(payments.account(payer, ALEPH).reserved, 1e12 * 3600 * 11 / 10);
        assertEq(jobs.job(JOB).imageSeq, _IMAGE);
        assertEq(jobs.job(JOB).imageRateQ32, RATE / 10);
        assertEq(_confirm(JOB, workers[0]), 1);
        assertEq(payments.pair(payer, ALEPH, Payees.ofImage(_IMAGE)).rateQ32, RATE / 10);
        skip(100);
        _stop(JOB);
        assertEq(payments.account(payer, ALEPH).rateQ32, 0);
        assertEq(_claim(Payees.ofImage(_IMAGE)), 100 * 1e11);
    }

    function test_image_reserveIsFreedWithTheJobs() public {
        _imageJob(0);
        _stop(JOB);
        assertEq(payments.account(payer, ALEPH).reserved, 0);
        assertEq(payments.account(payer, ALEPH).refund, 1e12 * 3600 * 11 / 10);
    }

    function test_image_withTheMachineAtMostWhatThePayerSigned() public {
        _mockImage(RATE, 1, 0);
        Opening memory o = _openingOf(JOB, RATE, workers[0], 0, _IMAGE);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.RateTooHigh.selector, RATE + 1, RATE));
        _send(o);
    }

    function test_image_chargedOnceWhenItRuns() public {
        Opening memory o = _imageJob(5 ether);
        uint256 before = token.balanceOf(payer);
        assertEq(_confirm(JOB, workers[0]), 1);
        assertEq(before - token.balanceOf(payer), 5 ether);
        assertEq(payments.creditOf(Payees.ofImage(_IMAGE), ALEPH), 5 ether);
        vm.prank(payer);
        jobs.reassign(JOB);
        _next(o, workers[1], 1);
        _mockKept(RATE, RATE / 10);
        _assign(o, workers[1]);
        before = token.balanceOf(payer);
        assertEq(_confirm(JOB, workers[1]), 1);
        assertEq(before, token.balanceOf(payer), "once for the job, not for each node");
    }

    function test_image_thatCannotBePaidFailsTheJob() public {
        _imageJob(5 ether);
        vm.prank(payer);
        token.approve(address(payments), 1 ether);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobStopped(
            JOB, workers[0].id, workers[0].signer, IJobManager.Status.Failed, EndReason.ARREARS_AT_START, 0, START, RATE
        );
        assertEq(_confirm(JOB, workers[0]), 0);
        assertEq(payments.account(payer, ALEPH).reserved, 0);
    }

    function test_image_resizesWithTheMachine() public {
        _imageJob(0);
        _confirm(JOB, workers[0]);
        _mockKept(2 * RATE, RATE / 5);
        IJobManager.JobOffer memory offer = _offer(JOB, 3 * RATE);
        offer.imageSeq = _IMAGE;
        jobs.resize(offer, _sign(payerKey, jobs.offerDigest(offer)), 2 * RATE, _resizeSig(offer, workers[0], 2 * RATE));
        assertEq(payments.pair(payer, ALEPH, Payees.ofImage(_IMAGE)).rateQ32, RATE / 5);
        assertEq(payments.account(payer, ALEPH).rateQ32, 2 * RATE + RATE / 5);
        _stop(JOB);
        assertEq(payments.account(payer, ALEPH).rateQ32, 0);
    }

    function test_image_endsWithArrears() public {
        _imageJob(0);
        _confirm(JOB, workers[0]);
        vm.prank(payer);
        token.approve(address(payments), 0);
        vm.warp(START + 3600 + 24 hours + 1);
        assertEq(jobs.closeForArrears(_list(JOB)), 1);
        assertEq(payments.account(payer, ALEPH).rateQ32, 0);
    }

    function _takeDown(bool paying) private {
        vm.mockCall(_at("ImageMarketplace"), abi.encodeCall(IImageMarketplace.isPaying, (_IMAGE)), abi.encode(paying));
    }

    function test_endRoyalties_ofAnImageThatWasTakenDown() public {
        _imageJob(0);
        _confirm(JOB, workers[0]);
        skip(100);
        _takeDown(false);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobResized(JOB, workers[0].id, RATE, 0, 0);
        assertEq(jobs.endRoyalties(_list(JOB)), 1);
        assertEq(jobs.job(JOB).imageRateQ32, 0);
        assertEq(payments.account(payer, ALEPH).rateQ32, RATE);
        skip(100);
        assertEq(_claim(Payees.ofImage(_IMAGE)), 100 * 1e11, "what it earned before");
        _stop(JOB);
        assertEq(payments.account(payer, ALEPH).rateQ32, 0);
        assertEq(_claim(workers[0].id), 200 * 1e12);
    }

    function test_endRoyalties_whileTheJobStops() public {
        _mockImage(RATE, RATE / 10, 0);
        Opening memory o = _openingOf(JOB, RATE, workers[0], class, _IMAGE);
        o.offer.maxRateQ32 = RATE + RATE / 10;
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
        _confirm(JOB, workers[0]);
        vm.prank(workers[0].signer);
        jobs.nodeStop(JOB, EndReason.NODE_MIN);
        _takeDown(false);
        assertEq(jobs.endRoyalties(_list(JOB)), 1);
        _assertStatus(IJobManager.Status.Stopping);
        assertEq(payments.account(payer, ALEPH).rateQ32, RATE);
    }

    function test_endRoyalties_refuses() public {
        _imageJob(0);
        _takeDown(false);
        _refusesRoyaltyEnd(JOB, IJobManager.Refusal.WrongStatus);
        _confirm(JOB, workers[0]);
        _takeDown(true);
        _refusesRoyaltyEnd(JOB, IJobManager.Refusal.ImagePays);
        _takeDown(false);
        assertEq(jobs.endRoyalties(_list(JOB)), 1);
        _refusesRoyaltyEnd(JOB, IJobManager.Refusal.WrongStatus);
        _run("plain", RATE, workers[1]);
        _refusesRoyaltyEnd("plain", IJobManager.Refusal.WrongStatus);
        _refusesRoyaltyEnd("none", IJobManager.Refusal.WrongStatus);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 201, 1, 200));
        jobs.endRoyalties(new bytes32[](201));
    }

    function _refusesRoyaltyEnd(bytes32 spec, IJobManager.Refusal refusal) private {
        vm.expectEmit(address(jobs));
        emit IJobManager.ItemRefused(spec, IJobManager.endRoyalties.selector, refusal);
        assertEq(jobs.endRoyalties(_list(spec)), 0);
    }

    function test_image_activationInArrears() public {
        _run("first", RATE, workers[1]);
        vm.warp(START + 3599);
        _imageJob(0);
        vm.prank(payer);
        token.approve(address(payments), 0);
        vm.warp(START + 3601);
        assertEq(_confirm(JOB, workers[0]), 0);
        _assertStatus(IJobManager.Status.Failed);
        assertEq(payments.account(payer, ALEPH).reserved, 0);
    }
}
