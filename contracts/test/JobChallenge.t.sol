// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobManager} from "../src/interfaces/IJobManager.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {ISLAManager} from "../src/interfaces/ISLAManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Rendezvous} from "../src/libraries/Rendezvous.sol";
import {PlacementSuite} from "./utils/PlacementSuite.sol";

/// @title JobChallenge
/// @notice Assignments that can be shown to be wrong.
contract JobChallengeTest is PlacementSuite {
    uint128 internal constant RATE = uint128(1e12 * Q);
    bytes32 internal constant JOB = "job";

    address internal watcher = makeAddr("watcher");
    uint32 internal epoch;
    bytes32[] internal leaves;
    bytes internal bitmap;

    function setUp() public override {
        super.setUp();
        _listen();
        nodes.snapshotCoordinators();
        epoch = _now() + 1;
        _toEpoch(epoch + 1);
        leaves = new bytes32[](8);
        for (uint256 i; i < 4; ++i) {
            leaves[workers[i].id] = _statOf(workers[i].id, 8_000);
        }
        bitmap = hex"ff";
        (bytes32 root,) = _statTree(leaves, 1, bitmap);
        _post(epoch, root, bitmap);
        _mockSeed(SEED);
        _bondOf(watcher, 3);
    }

    function _mockSeed(bytes32 seed) private {
        vm.mockCall(
            _at("StorageRegistry"), abi.encodeWithSignature("seedOf(uint24)", uint24(epoch / 24)), abi.encode(seed)
        );
    }

    /// @dev The workers from the first in the race to the last.
    function _race() private view returns (uint256[4] memory order) {
        Rendezvous.Runner[4] memory all;
        for (uint256 i; i < 4; ++i) {
            all[i] = Rendezvous.run(SEED, JOB, 0, workers[i].id, 8_000 ** 2);
            order[i] = i;
        }
        for (uint256 i; i < 4; ++i) {
            for (uint256 j = i + 1; j < 4; ++j) {
                if (Rendezvous.before(all[order[j]], all[order[i]])) (order[i], order[j]) = (order[j], order[i]);
            }
        }
    }

    function _checked(uint256 worker) private returns (Opening memory o) {
        o = _opening(JOB, RATE, workers[worker]);
        o.offer.reqHash = o.assignment.reqHash = keccak256(abi.encode(_needs()));
        o.assignment.statsEpoch = epoch;
        _signOpening(o, payerKey, workers[worker], 3);
    }

    function _given(uint256 worker) private returns (Opening memory o) {
        o = _checked(worker);
        _send(o);
    }

    function _proof(uint256 given, uint256 better) private view returns (IJobManager.StatProof memory p) {
        p.needs = _needs();
        (p.given, p.givenIndex) = (leaves[workers[given].id], workers[given].id);
        (, p.givenProof) = _statTree(leaves, workers[given].id, bitmap);
        (p.better, p.betterIndex) = (leaves[workers[better].id], workers[better].id);
        (, p.betterProof) = _statTree(leaves, workers[better].id, bitmap);
    }

    function _challenge(Opening memory o, IJobManager.StatProof memory p) private {
        vm.prank(watcher);
        jobs.challengeAssignment(o.assignment, p);
    }

    /* OPENING */

    function test_open_withNeedsIsPutOnRecord() public {
        Opening memory o = _checked(0);
        vm.expectEmit(address(jobs));
        emit IJobManager.JobTerms(JOB, 0, 0, 0, 0, 0, epoch, o.offer.reqHash, o.assignment.deadline);
        _send(o);
        assertNotEq(jobs.placement(JOB, 0), 0);
    }

    function test_open_withNeedsNeedsTheNumbersOfARecentHour() public {
        Opening memory o = _checked(0);
        o.assignment.reqHash = 0;
        _signOpening(o, payerKey, workers[0], 3);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.WrongNeeds.selector, 0, o.offer.reqHash));
        _send(o);
        o.assignment.reqHash = o.offer.reqHash;
        // An hour of which nothing was posted, one to come, and one too long ago.
        _refuseEpoch(o, epoch - 1);
        _refuseEpoch(o, epoch + 2);
        vm.warp(uint256(epoch + 27) * 1 hours);
        o.offer.deadline = o.assignment.deadline = uint40(block.timestamp) + 600;
        _refuseEpoch(o, epoch);
        vm.warp(uint256(epoch + 26) * 1 hours);
        o.assignment.statsEpoch = epoch;
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
    }

    function _refuseEpoch(Opening memory o, uint32 hour) private {
        o.assignment.statsEpoch = hour;
        _signOpening(o, payerKey, workers[0], 3);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.WrongEpoch.selector, hour, _now()));
        _send(o);
    }

    function test_open_onTheNodeThePayerChoseCannotBeChallenged() public {
        Opening memory o = _checked(0);
        (o.offer.nodeHint, o.assignment.statsEpoch) = (workers[0].id, 0);
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
        assertEq(jobs.placement(JOB, 0), 0);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.WrongAssignment.selector, JOB));
        _challenge(o, _proof(0, 1));
    }

    /* CHALLENGES */

    function test_challenge_theWinnerIsNotBeaten() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[0]);
        for (uint256 i = 1; i < 4; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IJobManager.NotBetter.selector, workers[order[i]].id));
            _challenge(o, _proof(order[0], order[i]));
        }
    }

    function test_challenge_upheldIsAViolation() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[2]);
        uint32 better = workers[order[0]].id;
        uint40 now_ = uint40(block.timestamp);
        vm.expectEmit(address(jobs));
        emit IJobManager.AssignmentChallenged(JOB, 0, coordinators[0].id, better, watcher, now_ + 24 hours);
        _challenge(o, _proof(order[2], order[0]));
        assertEq(uint8(jobs.challenge(JOB, 0, better).state), uint8(IJobManager.ChallengeState.Open));
        assertEq(token.balanceOf(address(sla)), 100 ether);
        vm.expectRevert(
            abi.encodeWithSelector(AlephErrors.Duplicate.selector, keccak256(abi.encode(JOB, uint8(0), better)))
        );
        _challenge(o, _proof(order[2], order[0]));
        skip(24 hours);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, now_ + 24 hours + 1));
        jobs.settleChallenge(JOB, 0, better);
        skip(1);
        bytes32 caseId = sla.caseIdOf(ISLAManager.Kind.WrongAssignment, coordinators[0].id, JOB, 0);
        vm.expectEmit(address(jobs));
        emit IJobManager.ChallengeUpheld(JOB, 0, better, caseId);
        jobs.settleChallenge(JOB, 0, better);
        ISLAManager.CaseView memory c = sla.caseOf(caseId);
        assertEq(uint8(c.state), uint8(ISLAManager.State.Proven));
        assertEq(c.reporter, watcher);
        assertEq(c.tenant, payer);
        assertEq(c.bps, 100);
        assertEq(sla.creditOf(watcher), 100 ether, "the bond is back");
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NoChallenge.selector, JOB, 0, better));
        jobs.settleChallenge(JOB, 0, better);
        assertEq(uint8(_statusOf(JOB)), uint8(IJobManager.Status.Assigned), "the job goes on");
    }

    function test_challenge_twoBetterNodesAreOneViolation() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[3]);
        _challenge(o, _proof(order[3], order[0]));
        _challenge(o, _proof(order[3], order[1]));
        skip(24 hours + 1);
        jobs.settleChallenge(JOB, 0, workers[order[0]].id);
        jobs.settleChallenge(JOB, 0, workers[order[1]].id);
        assertEq(sla.creditOf(watcher), 200 ether, "R23");
        (,, uint16 filed) = sla.points(coordinators[0].id);
        assertEq(filed, 100);
    }

    function test_challenge_answeredByTheNodesRefusal() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[1]);
        Party memory better = workers[order[0]];
        _challenge(o, _proof(order[1], order[0]));
        bytes memory sig = _declineSig(better, JOB, 0, 3);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        jobs.answerDecline(JOB, 0, better.id, 4, sig);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NoChallenge.selector, JOB, 1, better.id));
        jobs.answerDecline(JOB, 1, better.id, 3, _declineSig(better, JOB, 1, 3));
        vm.expectEmit(address(jobs));
        emit IJobManager.ChallengeAnswered(JOB, 0, better.id, 3);
        jobs.answerDecline(JOB, 0, better.id, 3, sig);
        assertEq(sla.creditOf(coordinators[0].owner), 100 ether, "the loser pays");
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NoChallenge.selector, JOB, 0, better.id));
        jobs.settleChallenge(JOB, 0, better.id);
    }

    function test_challenge_answeredByTheCoordinatorsWord() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[1]);
        uint32 better = workers[order[0]].id;
        _challenge(o, _proof(order[1], order[0]));
        bytes32 digest = _silenceDigest(JOB, better, 0);
        bytes memory one = _coordSigs(digest, 0, 1);
        INodeRegistry.Quorum memory q = nodes.quorum(digest, one);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.QuorumLow.selector, q.weight, q.total / 2 + 1));
        jobs.answerSilence(JOB, 0, better, one);
        // Half is not more than half.
        (q.weight, q.total) = (5, 10);
        vm.mockCall(address(nodes), abi.encodeCall(nodes.quorum, (digest, one)), abi.encode(q));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.QuorumLow.selector, 5, 6));
        jobs.answerSilence(JOB, 0, better, one);
        vm.expectEmit(address(jobs));
        emit IJobManager.ChallengeAnswered(JOB, 0, better, 255);
        jobs.answerSilence(JOB, 0, better, _coordSigs(digest, 0, 2));
    }

    function test_challenge_anOutageMakesTheAnswerTimeLonger() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[1]);
        _challenge(o, _proof(order[1], order[0]));
        uint40 since = uint40(block.timestamp);
        skip(20 hours);
        sla.recordOutage(_outage(5 hours));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, since + 29 hours + 1));
        jobs.settleChallenge(JOB, 0, workers[order[0]].id);
        vm.warp(since + 29 hours + 1);
        jobs.settleChallenge(JOB, 0, workers[order[0]].id);
    }

    function test_challenge_aNodeThatDoesNotMeetTheNeedsLosesToAny() public {
        uint256[4] memory order = _race();
        // The winner has one vCPU only.
        uint32 id = workers[order[0]].id;
        leaves[id] = bytes32(uint256(_statOf(id, 8_000)) & ~(uint256(0xffff) << 176) | uint256(1) << 176);
        _repost();
        Opening memory o = _given(order[0]);
        _challenge(o, _proof(order[0], order[3]));
    }

    function test_challenge_aNodeThatDoesNotMeetTheNeedsIsNotBetter() public {
        uint256[4] memory order = _race();
        uint32 id = workers[order[0]].id;
        leaves[id] = _statOf(id, 0);
        _repost();
        Opening memory o = _given(order[1]);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NotBetter.selector, id));
        _challenge(o, _proof(order[1], order[0]));
    }

    /// @dev Posts the next hour with the leaves as they are.
    function _repost() private {
        ++epoch;
        _toEpoch(epoch + 1);
        (bytes32 root,) = _statTree(leaves, 1, bitmap);
        _post(epoch, root, bitmap);
        _mockSeed(SEED);
    }

    function test_challenge_refusesBadProofs() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[1]);
        IJobManager.StatProof memory p = _proof(order[1], order[0]);
        p.needs = 0;
        bytes32 hash = keccak256(abi.encode(bytes32(0)));
        vm.expectRevert(abi.encodeWithSelector(IJobManager.WrongNeeds.selector, hash, o.offer.reqHash));
        _challenge(o, p);
        p = _proof(order[0], order[1]);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.BadProof.selector, p.given));
        _challenge(o, p);
        p = _proof(order[1], order[0]);
        p.given = bytes32(uint256(p.given) ^ 1);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.BadProof.selector, p.given));
        _challenge(o, p);
        p = _proof(order[1], order[0]);
        p.better = bytes32(uint256(p.better) | uint256(1) << 208);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.BadProof.selector, p.better));
        _challenge(o, p);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NotBetter.selector, workers[order[1]].id));
        _challenge(o, _proof(order[1], order[1]));
    }

    function test_challenge_inTimeWithASeedAndANodeThatCould() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[1]);
        _mockSeed(0);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NoSeed.selector, epoch / 24));
        _challenge(o, _proof(order[1], order[0]));
        _mockSeed(SEED);
        jobs.pause(1, 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, 1));
        _challenge(o, _proof(order[1], order[0]));
        jobs.unpause();
        uint256 snapshot = vm.snapshotState();
        vm.prank(workers[order[0]].owner);
        nodes.drain(workers[order[0]].id);
        vm.expectRevert(abi.encodeWithSelector(IJobManager.NotBetter.selector, workers[order[0]].id));
        _challenge(o, _proof(order[1], order[0]));
        vm.revertToState(snapshot);
        uint256 until = (uint256(epoch) + 51) * 1 hours;
        vm.warp(until + 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooLate.selector, until));
        _challenge(o, _proof(order[1], order[0]));
        vm.warp(until);
        _challenge(o, _proof(order[1], order[0]));
    }

    function test_challenge_anotherAssignmentIsNotTheOneInForce() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[1]);
        o.assignment.coordId = coordinators[1].id;
        vm.expectRevert(abi.encodeWithSelector(IJobManager.WrongAssignment.selector, JOB));
        _challenge(o, _proof(order[1], order[0]));
    }

    function test_challenge_ofAnAttemptThatIsOver() public {
        uint256[4] memory order = _race();
        Opening memory o = _given(order[1]);
        bytes32 first = jobs.placement(JOB, 0);
        vm.prank(payer);
        jobs.reassign(JOB);
        IJobManager.Assignment memory wrong = o.assignment;
        o.assignment = _assignment(JOB, RATE, workers[order[2]].id);
        (o.assignment.attempt, o.assignment.reqHash, o.assignment.statsEpoch) = (1, o.offer.reqHash, epoch);
        o.assignment.coordId = jobs.dutyCoordinator(JOB, uint24(block.timestamp / 1 days), 1);
        _signOpening(o, payerKey, workers[order[2]], 3);
        jobs.assign(o.offer, o.payerSig, o.assignment, o.nodeSig, o.coordSigs);
        assertEq(jobs.placement(JOB, 0), first);
        assertNotEq(jobs.placement(JOB, 1), first);
        // What the first coordinator did is not forgotten because the job has moved on.
        o.assignment = wrong;
        _challenge(o, _proof(order[1], order[0]));
        assertEq(uint8(jobs.challenge(JOB, 0, workers[order[0]].id).state), uint8(IJobManager.ChallengeState.Open));
    }
}
