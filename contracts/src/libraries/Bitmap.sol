// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Bitmap
/// @notice A tree over the parts of a bitmap, so that one bit can be shown without the others. A part is 256 bytes.
/// @dev Leaf i is keccak256(i, part i), an inner node keccak256(left, right), what is missing on the right is zero. A leaf's
/// preimage is longer than an inner node's: no inner node passes for a leaf, so the depth need not be known.
library Bitmap {
    /// @dev The bytes of a part, and the bits.
    uint256 internal constant PART = 256;
    uint256 internal constant BITS = 2_048;

    /// @notice The root of a bitmap of whole parts, of which there is at least one.
    function root(bytes calldata bitmap) internal pure returns (bytes32 node) {
        assembly ("memory-safe") {
            let count := div(bitmap.length, PART)
            let m := mload(0x40)
            let nodes := add(m, 0x120)
            for { let i := 0 } lt(i, count) { i := add(i, 1) } {
                mstore(m, i)
                calldatacopy(add(m, 0x20), add(bitmap.offset, mul(i, PART)), PART)
                mstore(add(nodes, shl(5, i)), keccak256(m, 0x120))
            }
            for {} gt(count, 1) {} {
                // One that is missing on the right is written behind the last.
                if and(count, 1) { mstore(add(nodes, shl(5, count)), 0) }
                count := shr(1, add(count, 1))
                for { let i := 0 } lt(i, count) { i := add(i, 1) } {
                    mstore(add(nodes, shl(5, i)), keccak256(add(nodes, shl(6, i)), 0x40))
                }
            }
            node := mload(nodes)
        }
    }

    /// @notice The root that part `index` leads to.
    function climb(bytes32[8] calldata part, uint256 index, bytes32[] calldata path)
        internal
        pure
        returns (bytes32 node)
    {
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore(m, index)
            calldatacopy(add(m, 0x20), part, PART)
            node := keccak256(m, 0x120)
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
