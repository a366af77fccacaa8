// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../../src/interfaces/INodeRegistry.sol";
import {IStakingManager} from "../../../src/interfaces/IStakingManager.sol";
import {Bitmaps} from "../../utils/Bitmaps.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleNodes
/// @notice The NodeRegistry and its other half. What coordinators say of an hour is as long as for 100,000 nodes in both
/// networks: its length is the caller's and has a bound.
abstract contract ScaleNodes is ScaleWorld {
    uint256 private constant _MAP = 12_504;
    uint256 private constant _DEPTH = 17;

    function test_scale_nodes() public {
        _scale("NodeRegistry", address(nodes), _nodes);
    }

    function _nodes() private {
        _nodeLife();
        _signs();
        _missed();
        _leaves();
        _nodePenalties();
        _upkeep("NodeRegistry", address(nodes));
    }

    function _nodeLife() private {
        Party memory p = _party("scale");
        INodeRegistry.Kind kind = INodeRegistry.Kind.Compute;
        bytes memory sig = _registerSig(p, kind, "scale");
        address at = address(nodes);
        bytes memory data =
            abi.encodeCall(INodeRegistry.registerNode, (kind, "scale", p.signer, bytes32("meta"), 1, 1, sig));
        p.id = abi.decode(_call("registerNode", p.owner, at, data), (uint32));
        _stake(p, 20_000 ether);
        _call("activate", address(this), at, abi.encodeCall(INodeRegistry.activate, (p.id)));
        _call("updateMeta", p.owner, at, abi.encodeCall(INodeRegistry.updateMeta, (p.id, "new", 2, 3)));
        _call("setLocked", p.owner, at, abi.encodeCall(INodeRegistry.setLocked, (p.id, true)));
        vm.prank(p.owner);
        nodes.setLocked(p.id, false);
        _call("setPayout", p.owner, at, abi.encodeCall(INodeRegistry.setPayout, (p.id, landlord)));
        _call("transferNode", p.owner, at, abi.encodeCall(INodeRegistry.transferNode, (p.id, crowd)));
        skip(24 hours);
        _call("applyPayout", address(this), at, abi.encodeCall(INodeRegistry.applyPayout, (p.id)));
        _call("acceptNode, by the owner of all others", crowd, at, abi.encodeCall(INodeRegistry.acceptNode, (p.id)));
        (address next, uint256 key) = makeAddrAndKey("next");
        sig = _setSignerSig(key, p.id, crowd);
        _call("setSigner", crowd, at, abi.encodeCall(INodeRegistry.setSigner, (p.id, next, sig)));
        Party memory c = coordinators[1];
        _call("link", c.owner, at, abi.encodeCall(INodeRegistry.link, (c.id, p.id)));
        _call("unlink", c.owner, at, abi.encodeCall(INodeRegistry.unlink, (c.id, p.id)));
        _call("drain", crowd, at, abi.encodeCall(INodeRegistry.drain, (p.id)));
        _call("exit", crowd, at, abi.encodeCall(INodeRegistry.exit, (p.id)));
    }

    function _signs() private {
        address at = address(nodes);
        _call("snapshotCoordinators", address(this), at, abi.encodeCall(INodeRegistry.snapshotCoordinators, ()));
        uint32 epoch = _now() - 1;
        bytes memory bitmap = _map(0);
        bytes memory sigs = _heartbeatSigs(epoch, ROOT, bitmap, 0, 8);
        bytes memory data = abi.encodeCall(INodeRegistry.submitHeartbeats, (epoch, ROOT, bitmap, sigs));
        _call("submitHeartbeats, 100,000 nodes, 8 signatures", address(this), at, data);
        data = abi.encodeCall(INodeRegistry.selfHeartbeat, (busyNode.id, _now()));
        _call("selfHeartbeat", busyNode.signer, at, data);
        vm.startPrank(address(timelock));
        staking.setRequirement(INodeRegistry.Kind.Compute, 1_000_000 ether);
        vm.stopPrank();
        data = abi.encodeCall(INodeRegistry.onStakeChanged, (busyNode.id));
        _call("onStakeChanged", address(staking), at, data);
        vm.prank(address(timelock));
        staking.setRequirement(INodeRegistry.Kind.Compute, 10_000 ether);
        _call("activate, suspended", address(this), at, abi.encodeCall(INodeRegistry.activate, (busyNode.id)));
    }

    /// @dev A bitmap in which all are alive but the node.
    function _map(uint32 without) private pure returns (bytes memory map) {
        map = new bytes(_MAP);
        for (uint256 i; i < map.length; i += 32) {
            assembly ("memory-safe") {
                mstore(add(add(map, 0x20), i), not(0))
            }
        }
        // A part of a word may have been written behind the end.
        map[without / 8] &= ~bytes1(uint8(1 << (without % 8)));
    }

    function _missed() private {
        uint32[] memory epochs = new uint32[](24);
        bytes32[] memory roots = new bytes32[](24);
        bytes[] memory maps = new bytes[](24);
        uint32 id = busyNode.id;
        skip(1 hours);
        bytes memory map = _map(id);
        for (uint256 i; i < 24; ++i) {
            (epochs[i], roots[i], maps[i]) = (_now(), ROOT, map);
            skip(1 hours);
            _post(epochs[i], ROOT, map);
        }
        bytes memory data = abi.encodeCall(INodeRegistry.reportMissed, (id, epochs, roots, Bitmaps.pagesOf(maps, id)));
        _call("reportMissed, 24 epochs of 100,000 nodes", address(this), address(nodes), data);
        bytes32[3] memory three = [ROOT, ROOT, ROOT];
        map = _map(0);
        uint32 first = _now() + 1;
        for (uint32 i; i < 3; ++i) {
            _toEpoch(first + i + 1);
            _post(first + i, ROOT, map);
        }
        data = abi.encodeCall(INodeRegistry.reactivate, (id, first, three, Bitmaps.threeOf([map, map, map], id)));
        _call("reactivate, 100,000 nodes", busyNode.signer, address(nodes), data);
    }

    function _leaves() private {
        (uint32 id, uint32 epoch) = (busyNode.id, _now());
        Party memory c = coordinators[1];
        address at = address(nodes);
        skip(1 hours);
        bytes memory map = _map(0);
        (bytes32 root, bytes32[] memory proof) = _deep(id, map);
        _post(epoch, root, map);
        bytes memory data = abi.encodeCall(INodeRegistry.demandLeaf, (epoch, id, root, Bitmaps.pageOf(map, id)));
        _callFor("demandLeaf, 100,000 nodes", address(this), at, data, 0.0002 ether, 0);
        data = abi.encodeCall(INodeRegistry.answerLeaf, (epoch, id, _leaf(id), proof));
        _call("answerLeaf, depth 17", c.owner, at, data);
        nodes.demandLeaf{value: 0.0002 ether}(epoch, accused.id, root, Bitmaps.pageOf(map, accused.id));
        skip(24 hours);
        bytes memory sig = _sign(c.key, nodes.heartbeatDigest(epoch, root, Bitmaps.hashOf(map)));
        data = abi.encodeCall(INodeRegistry.expireLeaf, (epoch, accused.id, c.id, root, Bitmaps.hashOf(map), sig));
        _call("expireLeaf", address(this), at, data);
    }

    /// @dev The root of a tree of which all siblings of one leaf are known.
    function _deep(uint32 id, bytes memory map) private pure returns (bytes32 h, bytes32[] memory proof) {
        proof = new bytes32[](_DEPTH + 1);
        h = keccak256(bytes.concat(_leaf(id)));
        for (uint256 i; i < _DEPTH; ++i) {
            proof[i] = keccak256(abi.encode(i));
            h = (id >> i) & 1 == 0 ? _inner(h, proof[i]) : _inner(proof[i], h);
        }
        proof[_DEPTH] = Bitmaps.hashOf(map);
    }

    receive() external payable {}

    function _nodePenalties() private {
        Party memory c = coordinators[7];
        address at = address(nodes);
        uint32 epoch = _now();
        bytes memory sigA = _heartbeatSigs(epoch, "a", "", 7, 1);
        bytes memory sigB = _heartbeatSigs(epoch, "b", "", 7, 1);
        bytes32 none = keccak256("");
        bytes memory data = abi.encodeCall(INodeRegistry.equivocation, (c.id, epoch, "a", none, sigA, "b", none, sigB));
        _call("equivocation", address(this), at, data);
        _call("jail", slaAt, at, abi.encodeCall(INodeRegistry.jail, (c.id, 1 hours)));
        skip(1 hours);
        _call("unjail", address(this), at, abi.encodeCall(INodeRegistry.unjail, (c.id)));
        _call("ban", slaAt, at, abi.encodeCall(INodeRegistry.ban, (c.id)));
    }
}
