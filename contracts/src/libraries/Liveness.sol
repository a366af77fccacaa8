// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {INodeRegistry} from "../interfaces/INodeRegistry.sol";

/// @title Liveness
/// @notice What the coordinators say about an epoch: a bitmap of the nodes that were alive, and a Merkle tree of what each
/// can do. Go's protocol/heartbeat is the same.
/// @dev Bit i of the bitmap, from the low end of byte i / 8, and leaf i of the tree are those of node i. The tree is as wide
/// as a power of two; a node without a leaf has a zero leaf. A leaf's hash is the keccak256 of its 32 bytes, and an inner
/// node's that of the 64 bytes of its children, so that neither passes for the other. A bitmap is cut into pages of 512 bytes;
/// its hash is the keccak256 of the hashes of its pages, so that who shows one bit needs to show one page, however many nodes
/// there are. What is stored of an epoch is one more inner node: the root of the tree and, to its right, the hash of the
/// bitmap.
library Liveness {
    /// @dev The size of a page in bytes, a power of two.
    uint256 internal constant PAGE = 512;

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
            let page := mload(0x40)
            let hashes := add(page, PAGE)
            let next := hashes
            for { let done := 0 } lt(done, bitmap.length) { done := add(done, PAGE) } {
                let size := sub(bitmap.length, done)
                if gt(size, PAGE) { size := PAGE }
                calldatacopy(page, add(bitmap.offset, done), size)
                mstore(next, keccak256(page, size))
                next := add(next, 0x20)
            }
            h := keccak256(hashes, sub(next, hashes))
        }
    }

    /// @notice The hash of the bitmap that a page is of, and what it says of a node: of one that it does not reach to, nothing.
    /// A page of other bits than its hash gives a hash of zero.
    function look(INodeRegistry.BitmapPage calldata page, uint32 nodeId)
        internal
        pure
        returns (bytes32 h, bool told, bool alive)
    {
        uint256 place = nodeId / 8;
        uint256 at = place / PAGE;
        h = keccak256(abi.encodePacked(page.hashes));
        if (at >= page.hashes.length) return (h, false, false);
        if (keccak256(page.bits) != page.hashes[at]) return (0, false, false);
        place %= PAGE;
        told = place < page.bits.length;
        alive = told && uint8(page.bits[place]) >> (nodeId % 8) & 1 != 0;
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
