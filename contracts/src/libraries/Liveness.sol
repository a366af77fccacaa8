// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Liveness
/// @notice What the coordinators say about an epoch: a bitmap of the nodes that were alive, and a Merkle tree of what each
/// can do. Go's protocol/heartbeat is the same.
/// @dev Bit i of the bitmap, from the low end of byte i / 8, and leaf i of the tree are those of node i. The tree is as wide
/// as a power of two; a node without a leaf has a zero leaf. A leaf's hash is the keccak256 of its 32 bytes, and an inner
/// node's that of the 64 bytes of its children, so that neither passes for the other. What is stored of an epoch is one more
/// inner node: the root of the tree and, to its right, the hash of the bitmap.
library Liveness {
    /// @dev The deepest tree: a million nodes.
    uint256 internal constant MAX_DEPTH = 20;

    /// @notice What is stored of an epoch.
    function commitment(bytes32 statsRoot, bytes32 bitmapHash) internal pure returns (bytes32 h) {
        assembly ("memory-safe") {
            mstore(0x00, statsRoot)
            mstore(0x20, bitmapHash)
            h := keccak256(0x00, 0x40)
        }
    }

    /// @notice The hash of a bitmap.
    function hash(bytes calldata bitmap) internal pure returns (bytes32 h) {
        assembly ("memory-safe") {
            let data := mload(0x40)
            calldatacopy(data, bitmap.offset, bitmap.length)
            h := keccak256(data, bitmap.length)
        }
    }

    /// @notice Whether the bitmap says that the node was alive. One that does not reach to the node does not.
    function isSet(bytes calldata bitmap, uint32 nodeId) internal pure returns (bool) {
        return _bit(bitmap, nodeId, 0xff);
    }

    /// @notice Whether the bitmap says that the node was not alive. One that does not reach to the node does not.
    function isClear(bytes calldata bitmap, uint32 nodeId) internal pure returns (bool) {
        return _bit(bitmap, nodeId, 0);
    }

    /// @dev Whether the bitmap reaches to the node and has the bit that `ones` has.
    function _bit(bytes calldata bitmap, uint32 nodeId, uint256 ones) private pure returns (bool is_) {
        assembly ("memory-safe") {
            let place := shr(3, nodeId)
            let bits := xor(byte(0, calldataload(add(bitmap.offset, place))), xor(ones, 0xff))
            is_ := and(lt(place, bitmap.length), and(shr(and(nodeId, 7), bits), 1))
        }
    }

    /// @notice The node id in a leaf.
    function nodeOf(bytes32 leaf) internal pure returns (uint256) {
        return uint256(leaf) >> 224;
    }

    /// @notice Whether `leaf` is the leaf of node `index` under the commitment.
    /// @param proof The siblings from the leaf up, and the hash of the bitmap.
    function verify(bytes32 commitment_, bytes32 leaf, uint256 index, bytes32[] calldata proof)
        internal
        pure
        returns (bool)
    {
        if (proof.length == 0 || proof.length > MAX_DEPTH + 1) return false;
        // There is no node 0, and a leaf stands in one place only.
        if (index == 0 || index >> (proof.length - 1) != 0 || nodeOf(leaf) != index) return false;
        bytes32 h = keccak256(abi.encode(leaf));
        for (uint256 i; i < proof.length; ++i) {
            h = (index >> i) & 1 == 0 ? commitment(h, proof[i]) : commitment(proof[i], h);
        }
        return h == commitment_;
    }
}
