// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title StorageProof
/// @notice Proofs of storage, format ASP-1. docs/protocol/asp1.md and the Go package protocol/commitment say the same.
///
/// Object: leaf i is sha256 of the bytes 256*i to 256*i+255, the last leaf filled up with zeros. An inner node is
/// keccak256(left, right). The depth is ceil(log2(leaves)); what is missing on the right is Z(0) = 0,
/// Z(j+1) = keccak256(Z(j), Z(j)). A proof of one leaf is its 256 bytes and the siblings from the bottom, 32 bytes each.
///
/// Bundle: a leaf is keccak256(0x02, root of the object, leaves of the object as 8 bytes), its sum the object's leaves. An
/// inner node is keccak256(left, sum of left as 8 bytes, right, sum of right), its sum both sums. A missing object is zero
/// with sum zero. A proof of one leaf is: depth in the bundle (1 byte), depth of the object (1), leaves of the object (8),
/// bit i: the i-th step from the bottom comes from the right (8), the siblings with their sums (40 each), and the proof in
/// the object.
///
/// @dev The two trees hash 256, 64, 41 and 80 bytes, and object leaves with another function: nothing of one kind passes for
/// another. All functions revert on anything but a valid proof.
library StorageProof {
    /// @dev The proof of challenge `index` does not lead to the root, or says something that no bundle can have.
    error BadProof(uint256 index);

    /// @dev The proofs have `have` bytes; they need `need`.
    error BadLength(uint256 have, uint256 need);

    /// @dev The bytes of a leaf.
    uint256 internal constant LEAF = 256;

    /// @dev The most leaves an object may have: 256 TiB.
    uint256 internal constant MAX_LEAVES = 1 << 40;

    /// @dev The most steps in a bundle: four billion objects.
    uint256 internal constant MAX_SUM_DEPTH = 32;

    /// @dev The bytes before the siblings of a bundle's proof, and the bytes of a sibling.
    uint256 private constant _HEAD = 18;
    uint256 private constant _SIBLING = 40;

    /// @notice How many leaves so many bytes make.
    function leavesOf(uint256 size) internal pure returns (uint256) {
        return (size + LEAF - 1) / LEAF;
    }

    /// @notice The depth of an object's tree: ceil(log2(leaves)).
    function depthOf(uint256 leaves) internal pure returns (uint256 depth) {
        assembly ("memory-safe") {
            // The bits of leaves-1, found by halving.
            let rest := sub(leaves, 1)
            depth := shl(5, lt(0xffffffff, rest))
            depth := or(depth, shl(4, lt(0xffff, shr(depth, rest))))
            depth := or(depth, shl(3, lt(0xff, shr(depth, rest))))
            depth := or(depth, shl(2, lt(0xf, shr(depth, rest))))
            depth := or(depth, shl(1, lt(0x3, shr(depth, rest))))
            depth := or(depth, lt(0x1, shr(depth, rest)))
            depth := add(depth, iszero(iszero(rest)))
        }
    }

    /// @notice Which of `range` leaves challenge `j` of a seed asks for. The bias is below 2^-190.
    function indexOf(bytes32 seed, uint128 id, uint256 j, uint256 range) internal pure returns (uint256 index) {
        assembly ("memory-safe") {
            mstore(0x00, seed)
            mstore(0x20, or(shl(128, id), j))
            index := mod(keccak256(0x00, 0x40), range)
        }
    }

    /// @notice What binds a bundle's root to its number of leaves.
    function bind(bytes32 root, uint256 leaves) internal pure returns (bytes30 binding) {
        assembly ("memory-safe") {
            mstore(0x00, root)
            mstore(0x20, leaves)
            // The lowest 16 bits make room for a day.
            binding := and(keccak256(0x00, 0x40), not(0xffff))
        }
    }

    /// @notice Checks the proofs of `k` challenges to one object.
    function checkObject(bytes calldata proofs, bytes32 root, uint256 leaves, bytes32 seed, uint128 id, uint256 k)
        internal
        view
    {
        uint256 depth = depthOf(leaves);
        uint256 size = LEAF + 32 * depth;
        if (proofs.length != k * size) revert BadLength(proofs.length, k * size);
        uint256 ptr;
        assembly ("memory-safe") {
            ptr := proofs.offset
        }
        for (uint256 j; j < k; ++j) {
            if (_objectRoot(ptr, depth, indexOf(seed, id, j, leaves)) != root) revert BadProof(j);
            ptr += size;
        }
    }

    /// @notice Checks the proofs of `k` challenges to a bundle of `total` leaves.
    function checkBundle(bytes calldata proofs, bytes30 binding, uint256 total, bytes32 seed, uint128 id, uint256 k)
        internal
        view
    {
        uint256 start;
        assembly ("memory-safe") {
            start := proofs.offset
        }
        uint256 ptr = start;
        for (uint256 j; j < k; ++j) {
            bytes32 root;
            (root, ptr) = _bundleRoot(ptr, j, total, indexOf(seed, id, j, total));
            if (bind(root, total) != binding) revert BadProof(j);
        }
        // A proof that reaches beyond the last byte reads something else, and ends here.
        if (ptr - start != proofs.length) revert BadLength(proofs.length, ptr - start);
    }

    /// @notice What binds the bundle of `total` leaves that an object is in: `path` is the head and the siblings of a
    /// bundle's proof.
    function inclusion(bytes calldata path, uint256 total, bytes32 objectRoot, uint256 leaves)
        internal
        pure
        returns (bytes30)
    {
        uint256 ptr;
        assembly ("memory-safe") {
            ptr := path.offset
        }
        if (path.length < _HEAD) revert BadLength(path.length, _HEAD);
        (uint256 end, uint256 have, uint256 bits) = _head(ptr, 0);
        if (path.length != end - ptr) revert BadLength(path.length, end - ptr);
        if (have != leaves) revert BadProof(0);
        (bytes32 root, uint256 sum) = _climbSums(objectLeaf(objectRoot, leaves), leaves, ptr + _HEAD, end, bits);
        if (sum != total) revert BadProof(0);
        return bind(root, total);
    }

    /// @notice An object as a leaf of a bundle.
    function objectLeaf(bytes32 root, uint256 leaves) internal pure returns (bytes32 leaf) {
        assembly ("memory-safe") {
            let m := mload(0x40)
            mstore8(m, 0x02)
            mstore(add(m, 1), root)
            mstore(add(m, 33), shl(192, leaves))
            leaf := keccak256(m, 41)
        }
    }

    /// @dev The root that a leaf at `ptr` and the siblings behind it lead to.
    function _objectRoot(uint256 ptr, uint256 depth, uint256 index) private view returns (bytes32 node) {
        assembly ("memory-safe") {
            let m := mload(0x40)
            calldatacopy(m, ptr, 256)
            // It fails only for want of gas; then nothing after it has gas, either.
            if iszero(staticcall(gas(), 0x02, m, 256, 0x00, 0x20)) { revert(0, 0) }
            node := mload(0x00)
            ptr := add(ptr, 256)
            // `side` is 0x20 for a node that is a right child, else 0.
            index := shl(5, index)
            let end := add(ptr, shl(5, depth))
            // The levels that do not make four, then four in one go: the loop costs as much as the hash.
            for { let odd := add(ptr, and(shl(5, depth), 0x60)) } lt(ptr, odd) { ptr := add(ptr, 0x20) } {
                let side := and(index, 0x20)
                mstore(side, node)
                mstore(xor(side, 0x20), calldataload(ptr))
                node := keccak256(0x00, 0x40)
                index := shr(1, index)
            }
            for {} lt(ptr, end) { ptr := add(ptr, 0x80) } {
                let side := and(index, 0x20)
                mstore(side, node)
                mstore(xor(side, 0x20), calldataload(ptr))
                node := keccak256(0x00, 0x40)
                side := and(shr(1, index), 0x20)
                mstore(side, node)
                mstore(xor(side, 0x20), calldataload(add(ptr, 0x20)))
                node := keccak256(0x00, 0x40)
                side := and(shr(2, index), 0x20)
                mstore(side, node)
                mstore(xor(side, 0x20), calldataload(add(ptr, 0x40)))
                node := keccak256(0x00, 0x40)
                side := and(shr(3, index), 0x20)
                mstore(side, node)
                mstore(xor(side, 0x20), calldataload(add(ptr, 0x60)))
                node := keccak256(0x00, 0x40)
                index := shr(4, index)
            }
        }
    }

    /// @dev The root that challenge `j`, which asks for leaf `t`, leads to, and where the next proof starts.
    function _bundleRoot(uint256 ptr, uint256 j, uint256 total, uint256 t)
        private
        view
        returns (bytes32 root, uint256 next)
    {
        (uint256 path, uint256 leaves, uint256 bits) = _head(ptr, j);
        ptr += _HEAD;
        {
            uint256 before = _sumBefore(ptr, path, bits);
            if (t < before || t - before >= leaves) revert BadProof(j);
            uint256 depth = depthOf(leaves);
            root = _objectRoot(path, depth, t - before);
            next = path + LEAF + 32 * depth;
        }
        uint256 sum;
        (root, sum) = _climbSums(objectLeaf(root, leaves), leaves, ptr, path, bits);
        // Sums only grow on the way up, so none of them was above the total, which fits 8 bytes.
        if (sum != total) revert BadProof(j);
    }

    /// @dev The head of a bundle's proof, and where its siblings end. Nothing in it is free: the depth of the object
    /// follows from its leaves, and there are no bits above the path.
    function _head(uint256 ptr, uint256 j) private pure returns (uint256 end, uint256 leaves, uint256 bits) {
        uint256 sumDepth;
        uint256 objectDepth;
        assembly ("memory-safe") {
            let word := calldataload(ptr)
            sumDepth := byte(0, word)
            objectDepth := byte(1, word)
            leaves := and(shr(176, word), 0xffffffffffffffff)
            bits := and(shr(112, word), 0xffffffffffffffff)
        }
        if (
            sumDepth > MAX_SUM_DEPTH || bits >> sumDepth != 0 || leaves == 0 || leaves > MAX_LEAVES
                || objectDepth != depthOf(leaves)
        ) revert BadProof(j);
        end = ptr + _HEAD + _SIBLING * sumDepth;
    }

    /// @dev How many leaves lie left of a path. Two steps in one go, after the one that does not make two.
    function _sumBefore(uint256 ptr, uint256 end, uint256 bits) private pure returns (uint256 before) {
        assembly ("memory-safe") {
            // From here on at the sums.
            ptr := add(ptr, 0x20)
            if mod(sub(add(end, 0x20), ptr), 80) {
                before := mul(and(bits, 1), shr(192, calldataload(ptr)))
                bits := shr(1, bits)
                ptr := add(ptr, _SIBLING)
            }
            for {} lt(ptr, end) { ptr := add(ptr, 80) } {
                before := add(before, mul(and(bits, 1), shr(192, calldataload(ptr))))
                before := add(before, mul(and(shr(1, bits), 1), shr(192, calldataload(add(ptr, _SIBLING)))))
                bits := shr(2, bits)
            }
        }
    }

    /// @dev Climbs from a leaf of a bundle to the root, with the sums. Two steps in one go, after the one that does not
    /// make two.
    function _climbSums(bytes32 node, uint256 sum, uint256 ptr, uint256 end, uint256 bits)
        private
        pure
        returns (bytes32, uint256)
    {
        assembly ("memory-safe") {
            let m := mload(0x40)
            if mod(sub(end, ptr), 80) {
                let side := mul(and(bits, 1), _SIBLING)
                mstore(add(m, side), node)
                mstore(add(add(m, side), 0x20), shl(192, sum))
                // Last, because the sum's word reaches into a right sibling.
                calldatacopy(add(m, sub(_SIBLING, side)), ptr, _SIBLING)
                node := keccak256(m, 80)
                sum := add(sum, shr(192, calldataload(add(ptr, 0x20))))
                bits := shr(1, bits)
                ptr := add(ptr, _SIBLING)
            }
            for {} lt(ptr, end) { ptr := add(ptr, 80) } {
                let side := mul(and(bits, 1), _SIBLING)
                let place := add(m, side)
                mstore(place, node)
                mstore(add(place, 0x20), shl(192, sum))
                calldatacopy(sub(add(m, _SIBLING), side), ptr, _SIBLING)
                node := keccak256(m, 80)
                sum := add(sum, shr(192, calldataload(add(ptr, 0x20))))
                side := mul(and(shr(1, bits), 1), _SIBLING)
                place := add(m, side)
                mstore(place, node)
                mstore(add(place, 0x20), shl(192, sum))
                calldatacopy(sub(add(m, _SIBLING), side), add(ptr, _SIBLING), _SIBLING)
                node := keccak256(m, 80)
                sum := add(sum, shr(192, calldataload(add(ptr, 72))))
                bits := shr(2, bits)
            }
        }
        return (node, sum);
    }
}
