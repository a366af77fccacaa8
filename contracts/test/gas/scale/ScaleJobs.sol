// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobManager} from "../../../src/interfaces/IJobManager.sol";
import {ISLAManager} from "../../../src/interfaces/ISLAManager.sol";
import {Bitmaps} from "../../utils/Bitmaps.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleJobs
/// @notice The JobManager: jobs of the payer who has half of all jobs, on the node that has the other half.
abstract contract ScaleJobs is ScaleWorld {
    function test_scale_jobs() public {
        _scale("JobManager", address(jobs), _jobs);
    }

    function _jobs() private {
        vm.prank(busyNode.owner);
        token.approve(address(staking), type(uint256).max);
        _stake(busyNode, 100_000 ether);
        payments.pull(payer, ALEPH);
        nodes.snapshotCoordinators();
        _opens();
        _runs();
        _moves();
        _jobEnds();
        _overdue();
        _jobChallenges();
        _upkeep("JobManager", address(jobs));
    }

    function _opens() private {
        _do("open", address(this), _openCall(_opening("1", RATE, busyNode)));
        _do("open, with the image of all others", address(this), _openCall(_withImage("2")));
        Opening memory o = _opening("3", RATE, busyNode);
        _do("createJob", payer, abi.encodeCall(IJobManager.createJob, (o.offer)));
        _do(
            "assign",
            address(this),
            abi.encodeCall(IJobManager.assign, (o.offer, "", o.assignment, o.nodeSig, o.coordSigs))
        );
        o = _opening("4", RATE, busyNode);
        (o.offer.nodeHint, o.assignment.coordId) = (busyNode.id, 0);
        _signOpening(o, payerKey, busyNode, 0);
        _do(
            "openSelf",
            address(this),
            abi.encodeCall(IJobManager.openSelf, (o.offer, o.payerSig, o.assignment, o.nodeSig))
        );
        bytes[] memory calls = new bytes[](4);
        for (uint256 i; i < 4; ++i) {
            calls[i] = _openCall(_opening(keccak256(abi.encode("batch", i)), RATE, busyNode));
        }
        bytes memory out = _do("openBatch, 4", address(this), abi.encodeCall(IJobManager.openBatch, (calls)));
        assertEq(abi.decode(out, (uint256)), 15);
        _do("invalidateNonces", payer, abi.encodeCall(IJobManager.invalidateNonces, (9, 1)));
    }

    function _withImage(bytes32 spec) private returns (Opening memory o) {
        o = _opening(spec, RATE, busyNode);
        (o.offer.imageSeq, o.offer.maxRateQ32) = (busyImage, 2 * RATE);
        _signOpening(o, payerKey, busyNode, 3);
    }

    function _runs() private {
        bytes32[] memory specs = new bytes32[](3);
        (specs[0], specs[1], specs[2]) = ("1", "3", "4");
        bytes memory out =
            _do("confirmRunning, 3", busyNode.signer, abi.encodeCall(IJobManager.confirmRunning, (specs)));
        assertEq(abi.decode(out, (uint256)), 7);
        out = _do(
            "confirmRunning, with the image", busyNode.signer, abi.encodeCall(IJobManager.confirmRunning, (_list("2")))
        );
        assertEq(abi.decode(out, (uint256)), 1);
        skip(60);
        IJobManager.JobOffer memory offer = _offer("1", 4 * RATE);
        bytes memory sig = _sign(payerKey, jobs.offerDigest(offer));
        bytes memory nodeSig = _resizeSig(offer, busyNode, 2 * RATE);
        _do("resize", address(this), abi.encodeCall(IJobManager.resize, (offer, sig, 2 * RATE, nodeSig)));
    }

    function _moves() private {
        _do("reassign", payer, abi.encodeCall(IJobManager.reassign, ("1")));
        vm.prank(address(timelock));
        uint32 class = _class(1 hours, 0);
        _optIn(busyNode, class);
        Opening memory o = _openingOf("class", RATE, busyNode, class, 0);
        _send(o);
        assertEq(_confirm("class", busyNode), 1);
        _do("nodeStop, with notice", busyNode.signer, abi.encodeCall(IJobManager.nodeStop, ("class", 16)));
        skip(1 hours);
        _do("finalize", address(this), abi.encodeCall(IJobManager.finalize, ("class")));
    }

    function _jobEnds() private {
        payments.pull(payer, ALEPH);
        _do("stop, with the image", payer, abi.encodeCall(IJobManager.stop, ("2")));
        uint40 end = uint40(block.timestamp) + 60;
        bytes memory sig = _sign(payerKey, jobs.stopDigest("3", end));
        _do("stopBySig", address(this), abi.encodeCall(IJobManager.stopBySig, ("3", end, sig)));
        _do("complete", busyNode.signer, abi.encodeCall(IJobManager.complete, ("4", "result")));
        _run("5", RATE, busyNode);
        _do("nodeStop", busyNode.signer, abi.encodeCall(IJobManager.nodeStop, ("5", 16)));
        // One of those that the network was made with.
        _do("stop, of a crowd", payer, abi.encodeCall(IJobManager.stop, (_jobOf(0))));
        _do("nodeStop, of a crowd", busyNode.signer, abi.encodeCall(IJobManager.nodeStop, (_jobOf(1), 16)));
        _open("6", RATE, busyNode);
        Opening memory o = _opening("7", RATE, busyNode);
        vm.prank(payer);
        jobs.createJob(o.offer);
        skip(901);
        _do("failStart", address(this), abi.encodeCall(IJobManager.failStart, ("6")));
        _do("expire", address(this), abi.encodeCall(IJobManager.expire, (_list("7"))));
        _send(_withImage("9"));
        assertEq(_confirm("9", busyNode), 1);
        vm.prank(address(timelock));
        images.takedown(busyImage, "reason");
        bytes memory out = _do("endRoyalties", address(this), abi.encodeCall(IJobManager.endRoyalties, (_list("9"))));
        assertEq(abi.decode(out, (uint256)), 1);
    }

    /// @dev A payer with the money for an hour.
    function _overdue() private {
        (address rich, uint256 key) = (payer, payerKey);
        (payer, payerKey) = makeAddrAndKey("poor");
        _fund(payer, 4e15);
        _run("8", RATE, busyNode);
        skip(26 hours);
        bytes memory out =
            _do("closeForArrears", address(this), abi.encodeCall(IJobManager.closeForArrears, (_list("8"))));
        assertEq(abi.decode(out, (uint256)), 1);
        (payer, payerKey) = (rich, key);
    }

    /* CHALLENGES */

    /// @dev Three nodes were better: one declined, one was silent, one wins.
    function _jobChallenges() private {
        payments.pull(payer, ALEPH);
        nodes.snapshotCoordinators();
        _bondOf(watcher, 3);
        _toEpoch(_now() / 24 * 24 + 26);
        _publish();
        uint32 epoch = _now() - 1;
        bytes memory map = hex"ff";
        _post(epoch, _root(map), map);
        Opening memory o = _opening("wrong", RATE, busyNode);
        o.offer.reqHash = o.assignment.reqHash = keccak256(abi.encode(_needs()));
        o.assignment.statsEpoch = epoch;
        _signOpening(o, payerKey, busyNode, 3);
        _do("open with needs", address(this), _openCall(o));
        _challenge("challengeAssignment, 100,000 nodes", o, pool.id, map);
        _challenge("challengeAssignment, the second", o, busyStore.id, map);
        _challenge("challengeAssignment, the third", o, accused.id, map);
        bytes memory sig = _declineSig(pool, "wrong", 0, 3);
        _do("answerDecline", address(this), abi.encodeCall(IJobManager.answerDecline, ("wrong", 0, pool.id, 3, sig)));
        sig = _coordSigs(_silenceDigest("wrong", busyStore.id, 0), 0, 8);
        _do("answerSilence", address(this), abi.encodeCall(IJobManager.answerSilence, ("wrong", 0, busyStore.id, sig)));
        skip(25 hours);
        _do("settleChallenge", address(this), abi.encodeCall(IJobManager.settleChallenge, ("wrong", 0, accused.id)));
    }

    function _challenge(string memory name, Opening memory o, uint32 better, bytes memory map) private {
        IJobManager.StatProof memory p;
        p.needs = _needs();
        (p.given, p.givenIndex) = (_scored(busyNode.id), busyNode.id);
        (, p.givenProof) = _proof(busyNode.id, map);
        (p.better, p.betterIndex) = (_scored(better), better);
        (, p.betterProof) = _proof(better, map);
        _do(name, watcher, abi.encodeCall(IJobManager.challengeAssignment, (o.assignment, p)));
    }

    function _scored(uint32 id) private view returns (bytes32) {
        return _statOf(id, id == busyNode.id ? 1 : 9_999);
    }

    function _root(bytes memory map) private view returns (bytes32 root) {
        (root,) = _proof(pool.id, map);
    }

    /// @dev A tree of depth 17 of which the first eight leaves are known.
    function _proof(uint32 id, bytes memory map) private view returns (bytes32 root, bytes32[] memory proof) {
        bytes32[] memory leaves = new bytes32[](8);
        for (uint32 i = 4; i < 8; ++i) {
            leaves[i] = _scored(i);
        }
        bytes32[] memory low;
        (root, low) = _tree(leaves, id);
        proof = new bytes32[](18);
        for (uint256 i; i < 17; ++i) {
            proof[i] = i < 3 ? low[i] : keccak256(abi.encode(i));
            if (i >= 3) root = _inner(root, proof[i]);
        }
        proof[17] = Bitmaps.hashOf(map);
    }
}
