// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IStorageRegistry
/// @notice What storage nodes have committed to keep.
interface IStorageRegistry {
    /// @notice How many commitments of a node have not ended.
    function activeCommitments(uint32 nodeId) external view returns (uint32);
}
