// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Bitmap
/// @notice A tree over the 32-byte words of a bitmap, so that one bit can be shown without the others.
/// @dev Leaf i is keccak256(i, word i), an inner node keccak256(left, right), what is missing on the right is zero. A leaf's
/// first half is a small number, which no hash is: no inner node passes for a leaf, so the depth need not be known.
library Bitmap {
    /// @notice The root of a bitmap of whole words, of which there is at least one.
    function root(bytes calldata bitmap) internal pure returns (bytes32 node) {
        assembly ("memory-safe") {
            let words := shr(5, bitmap.length)
            let nodes := mload(0x40)
            for { let i := 0 } lt(i, words) { i := add(i, 1) } {
                mstore(0x00, i)
                mstore(0x20, calldataload(add(bitmap.offset, shl(5, i))))
                mstore(add(nodes, shl(5, i)), keccak256(0x00, 0x40))
            }
            // One that is missing on the right is written where nothing is needed any more.
            for {} gt(words, 1) {} {
                if and(words, 1) { mstore(add(nodes, shl(5, words)), 0) }
                words := shr(1, add(words, 1))
                for { let i := 0 } lt(i, words) { i := add(i, 1) } {
                    mstore(add(nodes, shl(5, i)), keccak256(add(nodes, shl(6, i)), 0x40))
                }
            }
            node := mload(nodes)
        }
    }

    /// @notice The root that word `index` leads to.
    function climb(bytes32 word, uint256 index, bytes32[] calldata path) internal pure returns (bytes32 node) {
        assembly ("memory-safe") {
            mstore(0x00, index)
            mstore(0x20, word)
            node := keccak256(0x00, 0x40)
            let ptr := path.offset
            for { let end := add(ptr, shl(5, path.length)) } lt(ptr, end) { ptr := add(ptr, 0x20) } {
                let side := shl(5, and(index, 1))
                mstore(side, node)
                mstore(xor(side, 0x20), calldataload(ptr))
                node := keccak256(0x00, 0x40)
                index := shr(1, index)
            }
        }
    }
}
