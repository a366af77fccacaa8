// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Asp1
/// @notice Trees and proofs of storage for tests, written without the contracts' library and without care for gas. A
/// sparse tree has any number of leaves, of which only those asked for exist.
library Asp1 {
    uint256 internal constant LEAF = 256;

    /* CHALLENGES */

    function indexOf(bytes32 seed, uint128 id, uint256 j, uint256 range) internal pure returns (uint256) {
        return uint256(keccak256(abi.encodePacked(seed, id, uint128(j)))) % range;
    }

    function leavesOf(bytes memory object) internal pure returns (uint256) {
        return (object.length + LEAF - 1) / LEAF;
    }

    function depthOf(uint256 leaves) internal pure returns (uint256 depth) {
        while (1 << depth < leaves) ++depth;
    }

    /* OBJECTS */

    function leaf(bytes memory object, uint256 index) internal pure returns (bytes memory out) {
        out = new bytes(LEAF);
        uint256 from = index * LEAF;
        if (from >= object.length) return out;
        uint256 size = object.length - from < LEAF ? object.length - from : LEAF;
        assembly ("memory-safe") {
            mcopy(add(out, 0x20), add(add(object, 0x20), from), size)
        }
    }

    function node(bytes memory object, uint256 level, uint256 index) internal pure returns (bytes32) {
        if (index << level >= leavesOf(object)) return missing(level);
        if (level == 0) return sha256(leaf(object, index));
        return keccak256(abi.encode(node(object, level - 1, 2 * index), node(object, level - 1, 2 * index + 1)));
    }

    function missing(uint256 level) internal pure returns (bytes32) {
        if (level == 0) return 0;
        return keccak256(abi.encode(missing(level - 1), missing(level - 1)));
    }

    function root(bytes memory object) internal pure returns (bytes32) {
        return node(object, depthOf(leavesOf(object)), 0);
    }

    function proveLeaf(bytes memory object, uint256 index) internal pure returns (bytes memory proof) {
        proof = leaf(object, index);
        uint256 depth = depthOf(leavesOf(object));
        for (uint256 level; level < depth; ++level) {
            proof = bytes.concat(proof, node(object, level, (index >> level) ^ 1));
        }
    }

    function prove(bytes memory object, bytes32 seed, uint128 id, uint256 k)
        internal
        pure
        returns (bytes memory proofs)
    {
        for (uint256 j; j < k; ++j) {
            proofs = bytes.concat(proofs, proveLeaf(object, indexOf(seed, id, j, leavesOf(object))));
        }
    }

    /* BUNDLES */

    function bundleNode(bytes[] memory objects, uint256 level, uint256 index)
        internal
        pure
        returns (bytes32 hash, uint64 sum)
    {
        if (index << level >= objects.length) return (0, 0);
        if (level == 0) {
            sum = uint64(leavesOf(objects[index]));
            return (keccak256(abi.encodePacked(uint8(2), root(objects[index]), sum)), sum);
        }
        (bytes32 left, uint64 leftSum) = bundleNode(objects, level - 1, 2 * index);
        (bytes32 right, uint64 rightSum) = bundleNode(objects, level - 1, 2 * index + 1);
        return (keccak256(abi.encodePacked(left, leftSum, right, rightSum)), leftSum + rightSum);
    }

    function bundle(bytes[] memory objects) internal pure returns (bytes32, uint64) {
        return bundleNode(objects, depthOf(objects.length), 0);
    }

    function path(bytes[] memory objects, uint256 which) internal pure returns (bytes memory out) {
        uint64 leaves = uint64(leavesOf(objects[which]));
        uint256 depth = depthOf(objects.length);
        out = abi.encodePacked(uint8(depth), uint8(depthOf(leaves)), leaves, uint64(which));
        for (uint256 level; level < depth; ++level) {
            (bytes32 hash, uint64 sum) = bundleNode(objects, level, (which >> level) ^ 1);
            out = abi.encodePacked(out, hash, sum);
        }
    }

    function proveBundle(bytes[] memory objects, bytes32 seed, uint128 id, uint256 k)
        internal
        pure
        returns (bytes memory proofs)
    {
        (, uint64 total) = bundle(objects);
        for (uint256 j; j < k; ++j) {
            uint256 t = indexOf(seed, id, j, total);
            uint256 which;
            while (t >= leavesOf(objects[which])) {
                t -= leavesOf(objects[which]);
                ++which;
            }
            proofs = bytes.concat(proofs, path(objects, which), proveLeaf(objects[which], t));
        }
    }

    /* SPARSE TREES of 2^depth leaves, of which those in `asked` exist */

    function sparseLeaf(uint256 index) internal pure returns (bytes memory out) {
        for (uint256 i; i < 8; ++i) {
            out = bytes.concat(out, keccak256(abi.encode("leaf", index, i)));
        }
    }

    function sparseNode(uint256[] memory asked, uint256 level, uint256 index) internal pure returns (bytes32) {
        if (!_any(asked, level, index)) return keccak256(abi.encode("node", level, index));
        if (level == 0) return sha256(sparseLeaf(index));
        return
            keccak256(abi.encode(sparseNode(asked, level - 1, 2 * index), sparseNode(asked, level - 1, 2 * index + 1)));
    }

    /// @dev The proof of a leaf in the subtree of 2^depth leaves that has it.
    function sparseProof(uint256[] memory asked, uint256 depth, uint256 index)
        internal
        pure
        returns (bytes memory proof)
    {
        proof = sparseLeaf(index);
        for (uint256 level; level < depth; ++level) {
            proof = bytes.concat(proof, sparseNode(asked, level, (index >> level) ^ 1));
        }
    }

    /// @dev A bundle of 2^depth objects of 2^inner leaves each; leaf t of the bundle is leaf t of the sparse tree.
    function sparseBundle(uint256[] memory asked, uint256 inner, uint256 level, uint256 index)
        internal
        pure
        returns (bytes32)
    {
        if (!_any(asked, inner + level, index)) return keccak256(abi.encode("bundle", level, index));
        uint64 half = uint64(1 << (inner + level) >> 1);
        if (level == 0) return keccak256(abi.encodePacked(uint8(2), sparseNode(asked, inner, index), 2 * half));
        return keccak256(
            abi.encodePacked(
                sparseBundle(asked, inner, level - 1, 2 * index),
                half,
                sparseBundle(asked, inner, level - 1, 2 * index + 1),
                half
            )
        );
    }

    function sparseBundleProof(uint256[] memory asked, uint256 inner, uint256 depth, uint256 t)
        internal
        pure
        returns (bytes memory proof)
    {
        uint256 which = t >> inner;
        proof = abi.encodePacked(uint8(depth), uint8(inner), uint64(1 << inner), uint64(which));
        for (uint256 level; level < depth; ++level) {
            bytes32 sibling = sparseBundle(asked, inner, level, (which >> level) ^ 1);
            proof = abi.encodePacked(proof, sibling, uint64(1 << (inner + level)));
        }
        proof = bytes.concat(proof, sparseProof(asked, inner, t));
    }

    function _any(uint256[] memory asked, uint256 level, uint256 index) private pure returns (bool) {
        for (uint256 i; i < asked.length; ++i) {
            if (asked[i] >> level == index) return true;
        }
        return false;
    }
}
