// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IJobManager} from "../../src/interfaces/IJobManager.sol";
import {ISLAManager} from "../../src/interfaces/ISLAManager.sol";
import {PlacementSuite} from "../utils/PlacementSuite.sol";
import {Suite} from "../utils/Suite.sol";
import {GasBench} from "./GasBench.sol";

/// @title JobsGas
/// @notice What is beyond the everyday life of a job: offers on the chain, batches, other nodes, cases, challenges.
contract JobsGasTest is PlacementSuite, GasBench {
    uint128 internal constant RATE = uint128(1e12 * Q);

    address internal keeper = makeAddr("keeper");
    address internal watcher = makeAddr("watcher");

    function setUp() public override {
        super.setUp();
        _listen();
        nodes.snapshotCoordinators();
        for (uint256 i; i < 4; ++i) {
            _stake(workers[i], 100_000 ether);
        }
        _bondOf(watcher, 10);
    }

    function _bench() internal pure override returns (string memory) {
        return "jobs";
    }

    function _code(string memory name) internal view override(Suite, GasBench) returns (bytes memory) {
        return GasBench._code(name);
    }

    function _measure() internal override {
        _open("first", RATE, workers[1]);
        _open("second", RATE, workers[1]);
        _record("open, 3 signatures, coordinators of the day known", 165_000);
        _deposited();
        _offers();
        _batch();
        _moves();
        _cases();
        _challenge();
    }

    /// @dev By a payer whose account has the money already, as the anchors ask for.
    function _deposited() private {
        vm.prank(payer);
        extension.deposit(ALEPH, 1 ether);
        _open("third", RATE, workers[1]);
        _record("open, 3 signatures, out of a deposit", 165_000);
        // What is below comes from the wallet again.
        payments.withdrawRefund(payer, ALEPH);
    }

    function _offers() private {
        Opening memory o = _opening("chain", RATE, workers[0]);
        vm.prank(payer);
        jobs.createJob(o.offer);
        _record("createJob", 0);
        jobs.assign(o.offer, "", o.assignment, o.nodeSig, o.coordSigs);
        _record("assign, 3 signatures", 0);
        _confirm("chain", workers[0]);
        o = _opening("self", RATE, workers[0]);
        (o.offer.nodeHint, o.assignment.coordId) = (workers[0].id, 0);
        _signOpening(o, payerKey, workers[0], 0);
        jobs.openSelf(o.offer, o.payerSig, o.assignment, o.nodeSig);
        _record("openSelf", 0);
    }

    function _batch() private {
        bytes[] memory calls = new bytes[](32);
        for (uint256 i; i < 32; ++i) {
            calls[i] = _openCall(_opening(keccak256(abi.encode("batch", i)), RATE, workers[i % 4]));
        }
        jobs.openBatch(calls);
        _recordEach("openBatch, each of 32", 110_000, 32);
    }

    function _moves() private {
        vm.prank(payer);
        jobs.reassign("chain");
        _record("reassign", 0);
        IJobManager.JobOffer memory offer = _offer("run", 4 * RATE);
        _run("run", RATE, workers[0]);
        skip(60);
        bytes memory sig = _sign(payerKey, jobs.offerDigest(offer));
        bytes memory nodeSig = _resizeSig(offer, workers[0], 2 * RATE);
        jobs.resize(offer, sig, 2 * RATE, nodeSig);
        _record("resize", 70_000);
        vm.prank(workers[0].signer);
        jobs.complete("run", "result");
        _record("complete", 0);
    }

    function _cases() private {
        vm.prank(address(nodes));
        bytes32 id = sla.recordViolation(ISLAManager.Kind.StorageMiss, workers[0].id, "x", 1, 0, watcher, address(0));
        _record("recordViolation", 95_000);
        _finalizeAnother(2);
        vm.prank(keeper);
        sla.finalize(id);
        _record("finalize: slash and shares", 170_000);
        sla.burn();
        _record("burn what penalties left", 0);
        bytes32 digest = _accusationDigest(ISLAManager.Kind.ResourceShortfall, workers[0].id, "job", 1, 0);
        bytes memory sigs = _coordSigs(digest, 0, 3);
        vm.prank(watcher);
        sla.accuse(ISLAManager.Kind.ResourceShortfall, workers[0].id, "job", 1, 0, "evidence", sigs);
        _record("accuse, 3 signatures", 130_000);
        sla.withdraw(watcher);
        _record("withdraw a credit", 0);
    }

    /// @dev As on a live network, something waits to be burned already.
    function _finalizeAnother(uint32 occurrence) private {
        vm.prank(address(nodes));
        bytes32 id = sla.recordViolation(
            ISLAManager.Kind.StorageMiss, workers[3].id, "x", occurrence, 0, address(0), address(0)
        );
        vm.prank(makeAddr("another keeper"));
        sla.finalize(id);
    }

    function _challenge() private {
        uint32 epoch = _now() + 1;
        _toEpoch(epoch + 1);
        bytes32[] memory leaves = new bytes32[](8);
        for (uint256 i; i < 4; ++i) {
            leaves[workers[i].id] = _statOf(workers[i].id, i == 0 ? 1 : 9_999);
        }
        (bytes32 root,) = _statTree(leaves, 1, hex"ff");
        _post(epoch, root, hex"ff");
        vm.mockCall(
            _at("StorageRegistry"), abi.encodeWithSignature("seedOf(uint24)", uint24(epoch / 24)), abi.encode(SEED)
        );
        Opening memory o = _opening("wrong", RATE, workers[0]);
        o.offer.reqHash = o.assignment.reqHash = keccak256(abi.encode(_needs()));
        o.assignment.statsEpoch = epoch;
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
        _record("open with needs", 0);
        IJobManager.StatProof memory p;
        p.needs = _needs();
        (p.given, p.givenIndex) = (leaves[workers[0].id], workers[0].id);
        (, p.givenProof) = _statTree(leaves, workers[0].id, hex"ff");
        (p.better, p.betterIndex) = (leaves[workers[1].id], workers[1].id);
        (, p.betterProof) = _statTree(leaves, workers[1].id, hex"ff");
        vm.prank(watcher);
        jobs.challengeAssignment(o.assignment, p);
        _record("challengeAssignment, 8 nodes", 120_000);
        skip(25 hours);
        jobs.settleChallenge("wrong", 0, workers[1].id);
        _record("settleChallenge", 0);
        vm.clearMockedCalls();
    }
}
