// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Suite} from "./utils/Suite.sol";

contract NodeRegistryTest is Suite {
    INodeRegistry.Kind internal constant COMPUTE = INodeRegistry.Kind.Compute;

    function _setSignerSig(uint256 key, uint32 id, address owner) private view returns (bytes memory) {
        bytes32 structHash = keccak256(abi.encode(keccak256("SetSigner(uint32 nodeId,address owner)"), id, owner));
        return _sign(key, _digest("AlephNodes", address(nodes), structHash));
    }

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
        staking.setRequirement(INodeRegistry.Kind.Coordinator, 300_000 ether);
        assertTrue(nodes.isActive(p.id), "a higher requirement alone changes nothing");
        gateway.mint(token, p.owner, 1 ether);
        vm.startPrank(p.owner);
        token.approve(address(staking), 1 ether);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeStatusChanged(
            p.id, INodeRegistry.Status.Active, INodeRegistry.Status.Suspended, INodeRegistry.StatusReason.StakeTooLow
        );
        staking.stake(p.id, 1 ether);
        vm.stopPrank();
        assertEq(nodes.activeCoordinators(), 2);
        _stake(p, 99_999 ether);
        nodes.activate(p.id);
        assertEq(nodes.activeCoordinators(), 3);
    }

    function test_assignmentSigners_needActiveNodesOfTheKind() public {
        uint32[] memory ids = new uint32[](1);
        ids[0] = coordinators[0].id;
        (address signer, address[] memory signers, uint32 active) = nodes.assignmentSigners(workers[0].id, ids);
        assertEq(signer, workers[0].signer);
        assertEq(signers[0], coordinators[0].signer);
        assertEq(active, 3);
        vm.expectRevert(
            abi.encodeWithSelector(
                INodeRegistry.WrongKind.selector, ids[0], INodeRegistry.Kind.Coordinator, INodeRegistry.Kind.Compute
            )
        );
        nodes.assignmentSigners(ids[0], ids);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, 99, INodeRegistry.Status.None));
        nodes.assignmentSigners(99, ids);
    }
}
