// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Payees
/// @notice The numbers of payees that are not nodes, and of classes of revenue. A node's payee number is its node id.
library Payees {
    /// @dev The highest number a node can have.
    uint64 internal constant LAST_NODE = type(uint32).max;

    /// @dev The first pool.
    uint64 internal constant TREASURY = 1 << 33;

    /// @dev The part of stakers.
    uint64 internal constant STAKERS = TREASURY + 1;

    /// @dev The part of coordinators.
    uint64 internal constant COORDINATORS = TREASURY + 2;

    /// @dev The part of development.
    uint64 internal constant DEVELOPMENT = TREASURY + 3;

    /// @dev Revenue of compute nodes.
    uint8 internal constant COMPUTE = 0;
}
