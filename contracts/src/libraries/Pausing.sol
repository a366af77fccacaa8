// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Pausing
/// @notice The kinds of calls that can be paused, as bits.
library Pausing {
    /// @dev New registrations, stakes, offers and listings.
    uint8 internal constant ENTRY = 1;

    /// @dev Slashes, jailing and the end of cases against nodes.
    uint8 internal constant PENALTY = 2;

    /// @dev Swaps of one token for another.
    uint8 internal constant SWAP = 4;

    /// @dev Money leaving the contracts. Stopping a job is never paused.
    uint8 internal constant EXIT = 8;

    /// @dev Every bit that has a meaning.
    uint8 internal constant ALL = ENTRY | PENALTY | SWAP | EXIT;
}
