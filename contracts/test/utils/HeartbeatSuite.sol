// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {Bitmaps} from "./Bitmaps.sol";
import {Suite} from "./Suite.sol";

/// @title HeartbeatSuite
/// @notice What coordinators say of epochs: bitmaps, trees of leaves and signatures.
abstract contract HeartbeatSuite is Suite {
    bytes32 internal constant ROOT = keccak256("stats");

    /// @dev The weight of each coordinator that the suite makes, in whole ALEPH.
    uint96 internal constant WEIGHT = 500_000;

    function _now() internal view returns (uint32) {
        return uint32(block.timestamp / 1 hours);
    }

    /// @dev To the first second of an epoch.
    function _toEpoch(uint32 epoch) internal {
        vm.warp(uint256(epoch) * 1 hours);
    }

    /* BITMAPS */

    /// @dev A bitmap of the first `nodes_` ids in which nobody was alive.
    function _bitmap(uint256 nodes_) internal pure returns (bytes memory) {
        return new bytes(nodes_ / 8 + 1);
    }

    function _with(bytes memory bitmap, uint32 id) internal pure returns (bytes memory) {
        bitmap[id / 8] |= bytes1(uint8(1 << (id % 8)));
        return bitmap;
    }

    function _aliveOnly(uint32 id) internal pure returns (bytes memory) {
        return _with(_bitmap(id), id);
    }

    /* SIGNATURES */

    function _heartbeatSigs(uint32 epoch, bytes32 root, bytes memory bitmap, uint256 first, uint256 n)
        internal
        view
        returns (bytes memory sigs)
    {
        bytes32 digest = nodes.heartbeatDigest(epoch, root, Bitmaps.hashOf(bitmap));
        for (uint256 i = first; i < first + n; ++i) {
            sigs = abi.encodePacked(sigs, _sign(coordinators[i].key, digest));
        }
    }

    /// @dev Posts an epoch, signed by all coordinators.
    function _post(uint32 epoch, bytes32 root, bytes memory bitmap) internal {
        bytes memory sigs = _heartbeatSigs(epoch, root, bitmap, 0, coordinators.length);
        nodes.submitHeartbeats(epoch, root, bitmap, sigs);
    }

    /* TREES */

    /// @dev A leaf with a node's id and nothing but ones.
    function _leaf(uint32 id) internal pure returns (bytes32) {
        return bytes32(uint256(id) << 224 | type(uint224).max);
    }

    /// @dev The hash of an inner node, written out apart from the contracts.
    function _inner(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return keccak256(bytes.concat(a, b));
    }

    /// @dev The root of the tree of `leaves`, whose length is a power of two, and the siblings of leaf `index`.
    function _tree(bytes32[] memory leaves, uint256 index) internal pure returns (bytes32, bytes32[] memory proof) {
        uint256 depth;
        while (1 << depth < leaves.length) ++depth;
        proof = new bytes32[](depth);
        bytes32[] memory row = new bytes32[](leaves.length);
        for (uint256 i; i < row.length; ++i) {
            row[i] = keccak256(bytes.concat(leaves[i]));
        }
        for (uint256 level; level < depth; ++level) {
            proof[level] = row[(index >> level) ^ 1];
            for (uint256 i; i < row.length >> (level + 1); ++i) {
                row[i] = _inner(row[2 * i], row[2 * i + 1]);
            }
        }
        return (row[0], proof);
    }

    /// @dev The tree of nodes 1 to `count`, and a proof of node `id` with the hash of the bitmap at its end.
    function _stats(uint32 count, uint32 id, bytes memory bitmap)
        internal
        pure
        returns (bytes32 root, bytes32[] memory proof)
    {
        uint256 width = 1;
        while (width <= count) width *= 2;
        bytes32[] memory leaves = new bytes32[](width);
        for (uint32 i = 1; i <= count; ++i) {
            leaves[i] = _leaf(i);
        }
        bytes32[] memory siblings;
        (root, siblings) = _tree(leaves, id);
        proof = new bytes32[](siblings.length + 1);
        for (uint256 i; i < siblings.length; ++i) {
            proof[i] = siblings[i];
        }
        proof[siblings.length] = Bitmaps.hashOf(bitmap);
    }

    /* NODES */

    function _setSignerSig(uint256 key, uint32 id, address owner) internal view returns (bytes memory) {
        bytes32 structHash = keccak256(abi.encode(keccak256("SetSigner(uint32 nodeId,address owner)"), id, owner));
        return _sign(key, _digest("AlephNodes", address(nodes), structHash));
    }

    function _status(uint32 id) internal view returns (INodeRegistry.Status status) {
        (,, status) = nodes.standing(id);
    }

    /// @dev Suspends an Active node as if its stake had become too small.
    function _starve(uint32 id) internal {
        (, INodeRegistry.Kind kind,) = nodes.standing(id);
        uint128 need = staking.requirement(kind);
        staking.setRequirement(kind, 1_000_000 ether);
        vm.prank(address(staking));
        nodes.onStakeChanged(id);
        staking.setRequirement(kind, need);
    }
}
