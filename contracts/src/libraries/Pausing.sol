// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @title Pausing
/// @notice The kinds of calls that can be paused, as bits.
library Pausing {
    /// @dev New registrations, stakes, offers and listings.
    uint8 internal constant ENTRY = 1;

    /// @dev Money leaving the contracts. Stopping a job is never paused.
    uint8 internal constant EXIT = 8;

    /// @dev Every bit that has a meaning.
    uint8 internal constant ALL = ENTRY | EXIT;
}
