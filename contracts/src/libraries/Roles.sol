// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Roles
/// @notice The role numbers in the AccessManager. Numbers are never reused.
library Roles {
    /// @dev Grants and revokes every role.
    uint64 internal constant ADMIN = 0;

    /// @dev Announces and carries out upgrades.
    uint64 internal constant UPGRADER = 1;

    /// @dev Sets parameters within their compiled bounds.
    uint64 internal constant PARAM = 2;

    /// @dev Pauses for at most 14 days, cancels announced upgrades, de-lists a token.
    uint64 internal constant GUARDIAN = 3;

    /// @dev Lists tokens.
    uint64 internal constant LISTER = 7;
}
