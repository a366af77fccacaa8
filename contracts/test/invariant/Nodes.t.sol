// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {NodeRegistry} from "../../src/NodeRegistry.sol";
import {StakingManager} from "../../src/StakingManager.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {NodeHandler} from "./NodeHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @title Nodes
/// @notice What holds of nodes, links, coordinators and epochs whatever happens in whatever order. NR-2, the steps of a
/// status, and NR-6, the payout addresses, are looked at by the handler after each action.
contract NodesInvariantTest is Test {
    NodeHandler internal handler;
    NodeRegistry internal nodes;
    StakingManager internal staking;

    function setUp() public {
        handler = new NodeHandler();
        handler.start();
        (address n, address s) = handler.contracts();
        (nodes, staking) = (NodeRegistry(n), StakingManager(s));
        targetContract(address(handler));
        bytes4[] memory all = new bytes4[](31);
        all[0] = NodeHandler.join.selector;
        all[1] = NodeHandler.activate.selector;
        all[2] = NodeHandler.drain.selector;
        all[3] = NodeHandler.exit.selector;
        all[4] = NodeHandler.rotate.selector;
        all[5] = NodeHandler.starve.selector;
        all[6] = NodeHandler.setPayout.selector;
        all[7] = NodeHandler.applyPayout.selector;
        all[8] = NodeHandler.transfer.selector;
        all[9] = NodeHandler.accept.selector;
        all[10] = NodeHandler.link.selector;
        all[11] = NodeHandler.unlink.selector;
        all[12] = NodeHandler.lock.selector;
        all[13] = NodeHandler.jail.selector;
        all[14] = NodeHandler.unjail.selector;
        all[15] = NodeHandler.ban.selector;
        all[16] = NodeHandler.snapshot.selector;
        all[17] = NodeHandler.post.selector;
        all[18] = NodeHandler.epochsPass.selector;
        all[19] = NodeHandler.selfHeartbeat.selector;
        all[20] = NodeHandler.reportMissed.selector;
        all[21] = NodeHandler.reactivate.selector;
        all[22] = NodeHandler.equivocation.selector;
        all[23] = NodeHandler.demand.selector;
        all[24] = NodeHandler.answer.selector;
        all[25] = NodeHandler.expire.selector;
        all[26] = NodeHandler.warp.selector;
        // Nodes that stopped come back more often than they stop.
        all[27] = NodeHandler.activate.selector;
        all[28] = NodeHandler.reactivate.selector;
        all[29] = NodeHandler.goesDark.selector;
        all[30] = NodeHandler.comesBack.selector;
        targetSelector(FuzzSelector(address(handler), all));
    }

    function _ended(INodeRegistry.Status status) private pure returns (bool) {
        return status == INodeRegistry.Status.Exited;
    }

    /// @dev Peer ids and signers belong to the node that has them, until it exits.
    function invariant_NR1_peersAndSignersAreTheNodes() public view {
        for (uint256 i; i < handler.allNodes(); ++i) {
            NodeHandler.Party memory p = handler.party(i);
            INodeRegistry.NodeView memory n = nodes.node(p.id);
            assertEq(n.owner, p.owner);
            assertEq(n.signer, p.signer);
            if (n.status == INodeRegistry.Status.Exited) {
                assertNotEq(nodes.nodeOfPeer(n.peerIdHash), p.id, "NR-1: an exited node has a peer id");
                assertNotEq(nodes.nodeOfSigner(n.signer), p.id, "NR-1: an exited node has a signer");
            } else {
                assertEq(nodes.nodeOfPeer(n.peerIdHash), p.id, "NR-1: peer ids");
                assertEq(nodes.nodeOfSigner(n.signer), p.id, "NR-1: signers");
            }
        }
    }

    function invariant_NR3_linksAreWhatNodesSay() public view {
        uint256 linked;
        uint256 listed;
        for (uint256 i; i < handler.allNodes(); ++i) {
            uint32 id = handler.party(i).id;
            INodeRegistry.NodeView memory n = nodes.node(id);
            if (n.linkedTo != 0) ++linked;
            uint32[] memory ids = nodes.linksOf(id);
            assertLe(ids.length, 8, "NR-3: at most eight");
            for (uint256 k; k < ids.length; ++k) {
                assertEq(nodes.node(ids[k]).linkedTo, id, "NR-3: the node says so, too");
                assertEq(nodes.isPaidLink(ids[k]), k < 5, "NR-3: the first five are paid");
            }
            listed += ids.length;
            if (_ended(n.status) || n.status == INodeRegistry.Status.Banned) {
                assertEq(n.linkedTo, 0, "NR-3: an ended node is linked");
                assertEq(ids.length, 0, "NR-3: an ended coordinator links");
            }
        }
        assertEq(linked, listed, "NR-3: as many links as nodes linked");
    }

    function invariant_NR4_whatWasSaidStays() public view {
        uint256 n = handler.epochCount();
        // Any that changed stays changed, so the last hundred are looked at.
        for (uint256 i = n > 100 ? n - 100 : 0; i < n; ++i) {
            uint32 epoch = handler.epochs(i);
            assertEq(nodes.heartbeatOf(epoch), handler.commitments(epoch), "NR-4: an epoch was said anew");
        }
    }

    function invariant_NR5_activeNodesHaveTheirStake() public view {
        for (uint256 i; i < handler.allNodes(); ++i) {
            uint32 id = handler.party(i).id;
            (, INodeRegistry.Kind kind, INodeRegistry.Status status) = nodes.standing(id);
            if (status != INodeRegistry.Status.Active) continue;
            assertTrue(staking.meetsRequirement(id, kind), "NR-5: an active node has its stake");
            assertFalse(nodes.node(id).offline, "NR-5: an active node is online");
        }
    }

    function invariant_NR7_liveSetIsTheActiveCoordinators() public view {
        uint32[] memory ids = nodes.activeCoordinatorIds();
        assertEq(ids.length, nodes.activeCoordinators());
        uint256 active;
        for (uint256 i; i < handler.allNodes(); ++i) {
            (, INodeRegistry.Kind kind, INodeRegistry.Status status) = nodes.standing(handler.party(i).id);
            if (kind == INodeRegistry.Kind.Coordinator && status == INodeRegistry.Status.Active) ++active;
        }
        assertEq(ids.length, active, "NR-7: as many as are Active");
        for (uint256 i; i < ids.length; ++i) {
            if (i != 0) assertLt(ids[i - 1], ids[i], "NR-7: ascending");
            (, INodeRegistry.Kind kind, INodeRegistry.Status status) = nodes.standing(ids[i]);
            assertEq(uint8(kind), uint8(INodeRegistry.Kind.Coordinator), "NR-7: a coordinator");
            assertEq(uint8(status), uint8(INodeRegistry.Status.Active), "NR-7: Active");
        }
    }

    /// @dev The snapshot ascends, and its total is the weight of those that have not left since.
    function invariant_NR8_snapshotSumsUp() public view {
        (uint24 day, uint32[] memory ids, uint96[] memory weights) = nodes.coordinatorSet();
        if (day == 0 || block.timestamp / 1 days - day > 7) return;
        uint256 total;
        uint32[] memory one = new uint32[](1);
        for (uint256 i; i < ids.length; ++i) {
            if (i != 0) assertLt(ids[i - 1], ids[i], "NR-8: ascending");
            if (handler.left(ids[i])) continue;
            total += weights[i];
            one[0] = ids[i];
            (, INodeRegistry.Kind kind, INodeRegistry.Status status) = nodes.standing(ids[i]);
            assertEq(uint8(kind), uint8(INodeRegistry.Kind.Coordinator), "NR-8: a coordinator");
            assertEq(uint8(status), uint8(INodeRegistry.Status.Active), "NR-8: a member that has not left is Active");
        }
        assertEq(nodes.quorum(bytes32("x"), "").total, total, "NR-8: the weights sum up");
    }

    /// @dev Whoever was seen offline is flagged until it came back, and nobody else is.
    function invariant_NR9_offlineNeedsEvidence() public view {
        for (uint256 i; i < handler.allNodes(); ++i) {
            uint32 id = handler.party(i).id;
            assertEq(nodes.node(id).offline, handler.offline(id), "NR-9: offline without evidence");
        }
    }

    /// @dev The ether here is the fees of the demands that are open.
    function invariant_NR10_feesAreHeld() public view {
        assertEq(address(nodes).balance, handler.fees(), "NR-10: fees");
        assertEq(handler.fees(), handler.open() * nodes.leafFee(), "NR-10: one fee for each demand");
    }

    /// @dev What the handler is for happens.
    function test_handler_reachesEveryTurn() public {
        uint256 worker = handler.allNodes() - 1;
        handler.goesDark(worker, 24);
        assertEq(handler.reports(), 1);
        handler.comesBack(worker);
        assertEq(handler.returns_(), 1);
        assertEq(handler.posts(), 27);
        handler.demand(worker, 0);
        handler.demand(worker - 1, 0);
        assertEq(handler.open(), 2);
        handler.answer(worker, 0);
        assertEq(handler.open(), 1);
        handler.warp(3 + 5);
        handler.warp(3 + 5);
        handler.expire(worker - 1, 0, 0);
        assertEq(handler.open(), 0);
    }
}
