// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {IStorageRegistry} from "../src/interfaces/IStorageRegistry.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {HeartbeatSuite} from "./utils/HeartbeatSuite.sol";

contract NodeRegistryTest is HeartbeatSuite {
    INodeRegistry.Kind internal constant COMPUTE = INodeRegistry.Kind.Compute;

    /* REGISTRATION */

    function test_registerNode_storesAndEmits() public {
        Party memory p = _party("new");
        bytes memory sig = _registerSig(p, COMPUTE, "peer");
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeRegistered(8, p.owner, COMPUTE, p.signer, "peer", "meta", 5, 6);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeStatusChanged(
            8, INodeRegistry.Status.None, INodeRegistry.Status.Pending, INodeRegistry.StatusReason.Registered
        );
        vm.prank(p.owner);
        uint32 id = nodes.registerNode(COMPUTE, "peer", p.signer, "meta", 5, 6, sig);
        INodeRegistry.NodeView memory n = nodes.node(id);
        assertEq(n.owner, p.owner);
        assertEq(n.signer, p.signer);
        assertEq(uint8(n.kind), uint8(COMPUTE));
        assertEq(uint8(n.status), uint8(INodeRegistry.Status.Pending));
        assertEq(n.statusSince, block.timestamp);
        assertEq(n.peerIdHash, keccak256("peer"));
        assertEq(n.metaHash, "meta");
        assertEq(n.features, 5);
        assertEq(n.region, 6);
        assertEq(n.payout, p.owner);
        assertEq(nodes.nodeOfPeer(keccak256("peer")), id);
        assertEq(nodes.nodeOfSigner(p.signer), id);
        assertEq(nodes.lastNodeId(), id);
        assertFalse(nodes.isActive(id));
    }

    function _refuse(INodeRegistry.Kind kind, bytes memory peer, address signer, bytes32 meta, bytes memory err)
        private
    {
        Party memory p = _party("new");
        bytes memory sig = _registerSig(p, kind, peer);
        vm.expectRevert(err);
        vm.prank(p.owner);
        nodes.registerNode(kind, peer, signer, meta, 0, 0, sig);
    }

    function test_registerNode_refusesBadInput() public {
        address s = _party("new").signer;
        bytes memory long = new bytes(65);
        _refuse(INodeRegistry.Kind.None, "p", s, "m", abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 3));
        _refuse(COMPUTE, "", s, "m", abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 64));
        _refuse(COMPUTE, long, s, "m", abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 65, 1, 64));
        _refuse(COMPUTE, "p", s, 0, abi.encodeWithSelector(AlephErrors.ZeroHash.selector));
        _refuse(COMPUTE, "p", address(0), "m", abi.encodeWithSelector(AlephErrors.ZeroAddress.selector));
        address owner = _party("new").owner;
        _refuse(COMPUTE, "p", owner, "m", abi.encodeWithSelector(INodeRegistry.SignerIsOwner.selector, owner));
        address taken = workers[0].signer;
        _refuse(COMPUTE, "p", taken, "m", abi.encodeWithSelector(INodeRegistry.SignerTaken.selector, taken));
        _refuse(
            COMPUTE, "worker0", s, "m", abi.encodeWithSelector(INodeRegistry.PeerIdTaken.selector, keccak256("worker0"))
        );
        _refuse(COMPUTE, "p", address(77), "m", abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
    }

    function testFuzz_registerNode_signatureBindsOwnerKindAndPeer(address thief, bytes32 peer) public {
        Party memory p = _party("new");
        vm.assume(thief != p.owner && thief != p.signer && peer != "peer");
        bytes memory sig = _registerSig(p, COMPUTE, "peer");
        bytes memory err = abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0);
        vm.prank(thief);
        vm.expectRevert(err);
        nodes.registerNode(COMPUTE, "peer", p.signer, "m", 0, 0, sig);
        vm.startPrank(p.owner);
        vm.expectRevert(err);
        nodes.registerNode(INodeRegistry.Kind.Storage, "peer", p.signer, "m", 0, 0, sig);
        vm.expectRevert(err);
        nodes.registerNode(COMPUTE, abi.encode(peer), p.signer, "m", 0, 0, sig);
    }

    function test_registerNode_pausedByGuardian() public {
        nodes.pause(Pausing.ENTRY, 1 days);
        Party memory p = _party("new");
        bytes memory sig = _registerSig(p, COMPUTE, "peer");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        vm.prank(p.owner);
        nodes.registerNode(COMPUTE, "peer", p.signer, "m", 0, 0, sig);
    }

    /* CHANGES */

    function test_updateMeta_changesAndEmits() public {
        Party memory p = workers[0];
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeMetaUpdated(p.id, "new", 1, 2);
        vm.startPrank(p.owner);
        nodes.updateMeta(p.id, "new", 1, 2);
        assertEq(nodes.node(p.id).metaHash, "new");
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        nodes.updateMeta(p.id, 0, 1, 2);
    }

    function test_ownersCalls_revertForAnyoneElse() public {
        uint32 id = workers[0].id;
        bytes memory err = abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, payer);
        vm.startPrank(payer);
        vm.expectRevert(err);
        nodes.updateMeta(id, "m", 0, 0);
        vm.expectRevert(err);
        nodes.setSigner(id, payer, "");
        vm.expectRevert(err);
        nodes.setPayout(id, payer);
        vm.expectRevert(err);
        nodes.drain(id);
        vm.expectRevert(err);
        nodes.exit(id);
        vm.expectRevert(err);
        nodes.onStakeChanged(id);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, 99));
        nodes.drain(99);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, 99));
        nodes.activate(99);
    }

    function test_setSigner_freesTheOldOne() public {
        Party memory p = workers[0];
        (address fresh, uint256 key) = makeAddrAndKey("fresh");
        bytes memory sig = _setSignerSig(key, p.id, p.owner);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeSignerChanged(p.id, p.signer, fresh);
        vm.prank(p.owner);
        nodes.setSigner(p.id, fresh, sig);
        assertEq(nodes.nodeOfSigner(p.signer), 0);
        assertEq(nodes.nodeOfSigner(fresh), p.id);
        assertEq(nodes.signerOf(p.id), fresh);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        vm.prank(p.owner);
        nodes.setSigner(p.id, p.signer, sig);
    }

    function test_setPayout_takesADay() public {
        Party memory p = workers[0];
        uint40 at = uint40(block.timestamp) + 24 hours;
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NoPayoutScheduled.selector, p.id));
        nodes.applyPayout(p.id);
        vm.startPrank(p.owner);
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        nodes.setPayout(p.id, address(0));
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodePayoutScheduled(p.id, payer, at);
        nodes.setPayout(p.id, payer);
        vm.stopPrank();
        vm.warp(at - 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, at));
        nodes.applyPayout(p.id);
        assertEq(nodes.payoutOf(p.id), p.owner, "NR-6");
        assertEq(nodes.node(p.id).pendingPayout, payer);
        vm.warp(at);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodePayoutChanged(p.id, payer);
        nodes.applyPayout(p.id);
        assertEq(nodes.payoutOf(p.id), payer);
        assertEq(nodes.node(p.id).pendingPayoutAt, 0);
    }

    /* STATUS */

    function test_activate_needsTheStake() public {
        Party memory p = _register(COMPUTE, "new");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeTooLow.selector, p.id));
        nodes.activate(p.id);
        _stake(p, 10_000 ether);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeStatusChanged(
            p.id, INodeRegistry.Status.Pending, INodeRegistry.Status.Active, INodeRegistry.StatusReason.StakeMet
        );
        nodes.activate(p.id);
        assertTrue(nodes.isActive(p.id));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, p.id, INodeRegistry.Status.Active));
        nodes.activate(p.id);
    }

    function test_activate_pausedByGuardian() public {
        nodes.pause(Pausing.ENTRY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        nodes.activate(1);
    }

    function test_drainAndExit_freeTheNode() public {
        Party memory p = workers[0];
        _open("job", 1, p);
        vm.startPrank(p.owner);
        bytes memory notActive =
            abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, p.id, INodeRegistry.Status.Active);
        vm.expectRevert(notActive);
        nodes.exit(p.id);
        nodes.drain(p.id);
        vm.expectRevert(
            abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, p.id, INodeRegistry.Status.Draining)
        );
        nodes.drain(p.id);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.JobsRunning.selector, p.id, 1));
        nodes.exit(p.id);
        vm.stopPrank();
        _stop("job");
        vm.prank(p.owner);
        nodes.exit(p.id);
        assertEq(nodes.nodeOfPeer(keccak256("worker0")), 0, "NR-1: peer id is free");
        assertEq(nodes.nodeOfSigner(p.signer), 0, "NR-1: signer is free");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, p.id, INodeRegistry.Status.Exited));
        vm.prank(p.owner);
        nodes.setPayout(p.id, payer);
        // The same peer may come back under a new number.
        assertEq(_register(COMPUTE, "worker0").id, 8);
    }

    function test_activeCoordinators_areCounted() public {
        assertEq(nodes.activeCoordinators(), 3);
        vm.prank(coordinators[0].owner);
        nodes.drain(coordinators[0].id);
        assertEq(nodes.activeCoordinators(), 2);
        vm.prank(coordinators[0].owner);
        nodes.exit(coordinators[0].id);
        assertEq(nodes.activeCoordinators(), 2);
    }

    function test_onStakeChanged_suspendsBelowTheRequirement() public {
        Party memory p = coordinators[1];
        vm.startPrank(address(staking));
        vm.recordLogs();
        nodes.onStakeChanged(p.id);
        assertEq(vm.getRecordedLogs().length, 0, "it has enough");
        vm.stopPrank();
        staking.setRequirement(INodeRegistry.Kind.Coordinator, 600_000 ether);
        assertTrue(nodes.isActive(p.id), "a higher requirement alone changes nothing");
        vm.startPrank(address(staking));
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeStatusChanged(
            p.id, INodeRegistry.Status.Active, INodeRegistry.Status.Suspended, INodeRegistry.StatusReason.StakeTooLow
        );
        nodes.onStakeChanged(p.id);
        nodes.onStakeChanged(p.id);
        vm.stopPrank();
        assertEq(nodes.activeCoordinators(), 2);
        _stake(p, 100_000 ether);
        nodes.activate(p.id);
        assertEq(nodes.activeCoordinators(), 3);
    }

    function test_checkAssignment_needsActiveNodesOfTheKind() public {
        bytes32[2] memory digests = [bytes32("digest"), "digest"];
        uint32 id = coordinators[0].id;
        vm.expectRevert(
            abi.encodeWithSelector(
                INodeRegistry.WrongKind.selector, id, INodeRegistry.Kind.Coordinator, INodeRegistry.Kind.Compute
            )
        );
        nodes.checkAssignment(id, 0, 0, digests, "", "");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, 99, INodeRegistry.Status.None));
        nodes.checkAssignment(99, 0, 0, digests, "", "");
        // A worker's own signature does not count as a coordinator's.
        bytes memory sig = _sign(workers[0].key, "digest");
        bytes memory entry = abi.encodePacked(workers[0].id, sig);
        vm.expectRevert(
            abi.encodeWithSelector(
                INodeRegistry.WrongKind.selector,
                workers[0].id,
                INodeRegistry.Kind.Compute,
                INodeRegistry.Kind.Coordinator
            )
        );
        entry = abi.encodePacked(entry, new bytes(2 * 69));
        nodes.checkAssignment(workers[0].id, id, 3, digests, sig, entry);
    }

    function test_exit_needsNoCommitments() public {
        Party memory p = workers[0];
        vm.prank(p.owner);
        nodes.drain(p.id);
        vm.mockCall(storagesAt, abi.encodeCall(IStorageRegistry.activeCommitments, (p.id)), abi.encode(uint32(3)));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.CommitmentsHeld.selector, p.id, 3));
        vm.prank(p.owner);
        nodes.exit(p.id);
    }

    function test_ended_ownerCanDoNothing() public {
        Party memory p = workers[0];
        vm.prank(slaAt);
        nodes.ban(p.id);
        bytes memory err =
            abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, p.id, INodeRegistry.Status.Banned);
        vm.startPrank(p.owner);
        vm.expectRevert(err);
        nodes.updateMeta(p.id, "m", 0, 0);
        vm.expectRevert(err);
        nodes.setLocked(p.id, true);
        vm.expectRevert(err);
        nodes.transferNode(p.id, payer);
        vm.expectRevert(err);
        nodes.drain(p.id);
        vm.expectRevert(err);
        nodes.exit(p.id);
        vm.expectRevert(err);
        nodes.acceptNode(p.id);
        vm.expectRevert(err);
        nodes.activate(p.id);
        assertEq(nodes.nodeOfPeer(keccak256("worker0")), p.id, "NR-1: the peer id stays taken");
        assertEq(nodes.nodeOfSigner(p.signer), p.id, "NR-1: the signer stays taken");
    }

    /* TRANSFER */

    function test_transferNode_takesADayAndTheEarnings() public {
        Party memory p = workers[0];
        address next = makeAddr("next");
        uint40 eta = uint40(block.timestamp) + 24 hours;
        vm.startPrank(p.owner);
        nodes.setPayout(p.id, payer);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeTransferScheduled(p.id, next, eta);
        nodes.transferNode(p.id, next);
        vm.stopPrank();
        assertEq(nodes.node(p.id).pendingOwner, next);
        assertEq(nodes.node(p.id).pendingOwnerAt, eta);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, p.owner));
        vm.prank(p.owner);
        nodes.acceptNode(p.id);
        vm.warp(eta - 1);
        vm.startPrank(next);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, eta));
        nodes.acceptNode(p.id);
        assertEq(nodes.payoutOf(p.id), p.owner, "NR-6");
        vm.warp(eta);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeOwnerChanged(p.id, p.owner, next);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodePayoutChanged(p.id, next);
        nodes.acceptNode(p.id);
        INodeRegistry.NodeView memory n = nodes.node(p.id);
        assertEq(n.owner, next);
        assertEq(n.payout, next);
        assertEq(n.pendingPayoutAt, 0, "what the old owner scheduled is void");
        assertEq(n.pendingOwner, address(0));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NoPayoutScheduled.selector, p.id));
        nodes.applyPayout(p.id);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, next));
        nodes.acceptNode(p.id);
    }

    function test_transferNode_canBeTakenBack() public {
        Party memory p = workers[0];
        address next = makeAddr("next");
        vm.startPrank(p.owner);
        nodes.transferNode(p.id, next);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeTransferScheduled(p.id, address(0), 0);
        nodes.transferNode(p.id, address(0));
        vm.stopPrank();
        skip(2 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, next));
        vm.prank(next);
        nodes.acceptNode(p.id);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, payer));
        vm.prank(payer);
        nodes.transferNode(p.id, payer);
    }

    function test_acceptNode_notByNobody() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(0)));
        vm.prank(address(0));
        nodes.acceptNode(workers[0].id);
    }

    function test_acceptNode_notByTheSigner() public {
        Party memory p = workers[0];
        vm.prank(p.owner);
        nodes.transferNode(p.id, p.signer);
        skip(1 days);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.SignerIsOwner.selector, p.signer));
        vm.prank(p.signer);
        nodes.acceptNode(p.id);
    }

    /* KEYS OF COORDINATORS */

    function test_setSigner_oldKeyOfACoordinatorStaysItsOwn() public {
        Party memory c = coordinators[0];
        (address fresh, uint256 key) = makeAddrAndKey("fresh");
        bytes memory sig = _setSignerSig(key, c.id, c.owner);
        vm.prank(c.owner);
        nodes.setSigner(c.id, fresh, sig);
        Party memory p = _party("new");
        (p.signer, p.key) = (c.signer, c.key);
        sig = _registerSig(p, COMPUTE, "peer");
        vm.startPrank(p.owner);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.SignerTaken.selector, c.signer));
        nodes.registerNode(COMPUTE, "peer", c.signer, "m", 0, 0, sig);
        // The coordinator itself may return to it, and anybody once it cannot be held to it any more.
        _toEpoch(_now() + 14 * 24);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.SignerTaken.selector, c.signer));
        nodes.registerNode(COMPUTE, "peer", c.signer, "m", 0, 0, sig);
        uint256 before = vm.snapshotState();
        vm.stopPrank();
        sig = _setSignerSig(c.key, c.id, c.owner);
        vm.prank(c.owner);
        nodes.setSigner(c.id, c.signer, sig);
        assertEq(nodes.nodeOfSigner(c.signer), c.id);
        vm.revertToState(before);
        _toEpoch(_now() + 1);
        sig = _registerSig(p, COMPUTE, "peer");
        vm.prank(p.owner);
        nodes.registerNode(COMPUTE, "peer", c.signer, "m", 0, 0, sig);
    }

    /* LINKS */

    function _link(uint32 coordId, uint256 worker) private {
        vm.prank(coordId == coordinators[0].id ? coordinators[0].owner : coordinators[1].owner);
        nodes.link(coordId, workers[worker].id);
    }

    function test_link_keepsTheOrderAndPaysFive() public {
        Party memory c = coordinators[0];
        for (uint256 i; i < 6; ++i) {
            workers.push(
                _register(i % 2 == 0 ? COMPUTE : INodeRegistry.Kind.Storage, string.concat("w", vm.toString(i)))
            );
        }
        for (uint256 i; i < 8; ++i) {
            vm.expectEmit(address(nodes));
            emit INodeRegistry.NodeLinked(workers[i].id, c.id);
            _link(c.id, i);
            assertEq(nodes.node(workers[i].id).linkedTo, c.id);
            assertEq(nodes.isPaidLink(workers[i].id), i < 5);
        }
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.LinkLimit.selector, c.id));
        _link(c.id, 8);
        assertFalse(nodes.isPaidLink(workers[8].id));
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeUnlinked(workers[2].id, c.id);
        vm.prank(workers[2].owner);
        nodes.unlink(c.id, workers[2].id);
        assertEq(nodes.node(workers[2].id).linkedTo, 0);
        assertTrue(nodes.isPaidLink(workers[5].id), "the sixth moves up");
        _link(c.id, 8);
        uint32[] memory ids = nodes.linksOf(c.id);
        assertEq(ids.length, 8);
        uint256[8] memory order = [uint256(0), 1, 3, 4, 5, 6, 7, 8];
        for (uint256 i; i < 8; ++i) {
            assertEq(ids[i], workers[order[i]].id);
        }
        vm.prank(c.owner);
        nodes.unlink(c.id, workers[8].id);
        assertEq(nodes.linksOf(c.id).length, 7);
    }

    function test_link_refuses() public {
        uint32 c = coordinators[0].id;
        uint32 w = workers[0].id;
        vm.startPrank(workers[0].owner);
        vm.expectRevert(
            abi.encodeWithSelector(INodeRegistry.WrongKind.selector, w, COMPUTE, INodeRegistry.Kind.Coordinator)
        );
        nodes.link(w, workers[1].id);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, workers[0].owner));
        nodes.link(c, w);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeLockSet(w, true);
        nodes.setLocked(w, true);
        assertTrue(nodes.node(w).locked);
        vm.stopPrank();
        vm.startPrank(coordinators[0].owner);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeIsLocked.selector, w));
        nodes.link(c, w);
        vm.expectRevert(
            abi.encodeWithSelector(
                INodeRegistry.WrongKind.selector, coordinators[1].id, INodeRegistry.Kind.Coordinator, COMPUTE
            )
        );
        nodes.link(c, coordinators[1].id);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, 99));
        nodes.link(c, 99);
        vm.stopPrank();
        vm.prank(workers[0].owner);
        nodes.setLocked(w, false);
        _link(c, 0);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.AlreadyLinked.selector, w, c));
        _link(coordinators[1].id, 0);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotLinked.selector, w, coordinators[1].id));
        nodes.unlink(coordinators[1].id, w);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotLinked.selector, workers[1].id, 0));
        nodes.unlink(0, workers[1].id);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        nodes.unlink(c, w);
        vm.prank(slaAt);
        nodes.ban(workers[2].id);
        vm.expectRevert(
            abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, workers[2].id, INodeRegistry.Status.Banned)
        );
        _link(c, 2);
    }

    function test_links_endWithTheNodes() public {
        uint32 c = coordinators[0].id;
        for (uint256 i; i < 4; ++i) {
            _link(c, i);
        }
        vm.startPrank(workers[1].owner);
        nodes.drain(workers[1].id);
        assertEq(nodes.linksOf(c).length, 4, "a node that drains keeps its place");
        nodes.exit(workers[1].id);
        vm.stopPrank();
        vm.prank(slaAt);
        nodes.ban(workers[3].id);
        uint32[] memory ids = nodes.linksOf(c);
        assertEq(ids.length, 2);
        assertEq(ids[1], workers[2].id);
        vm.startPrank(coordinators[0].owner);
        nodes.drain(c);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeUnlinked(workers[0].id, c);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeUnlinked(workers[2].id, c);
        nodes.exit(c);
        vm.stopPrank();
        assertEq(nodes.linksOf(c).length, 0);
        assertEq(nodes.node(workers[0].id).linkedTo, 0);
        assertFalse(nodes.isPaidLink(workers[0].id));
        _link(coordinators[1].id, 0);
    }

    /// @dev NR-3: any order of links and unlinks leaves the nodes that are linked, in the order of linking.
    function testFuzz_links_areAQueueWithHoles(uint256 seed) public {
        for (uint256 i; i < 6; ++i) {
            workers.push(_register(COMPUTE, string.concat("w", vm.toString(i))));
        }
        uint32 c = coordinators[0].id;
        uint32[] memory want = new uint32[](8);
        uint256 n;
        for (uint256 step; step < 24; ++step) {
            uint256 pick = uint256(keccak256(abi.encode(seed, step)));
            if (n > 0 && pick % 3 == 0) {
                uint256 k = (pick >> 8) % n;
                vm.prank(coordinators[0].owner);
                nodes.unlink(c, want[k]);
                --n;
                for (; k < n; ++k) {
                    want[k] = want[k + 1];
                }
            } else {
                uint256 w = (pick >> 8) % workers.length;
                if (n == 8 || nodes.node(workers[w].id).linkedTo != 0) continue;
                _link(c, w);
                want[n++] = workers[w].id;
            }
            uint32[] memory have = nodes.linksOf(c);
            assertEq(have.length, n);
            for (uint256 k; k < n; ++k) {
                assertEq(have[k], want[k]);
                assertEq(nodes.isPaidLink(want[k]), k < 5);
            }
        }
    }
}
