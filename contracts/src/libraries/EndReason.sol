// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title EndReason
/// @notice Why a job ended, the numbers that the contract itself gives.
library EndReason {
    /// @dev The payer stopped it.
    uint8 internal constant PAYER = 1;

    /// @dev It reached the end that the payer signed.
    uint8 internal constant MAX_UNTIL = 2;

    /// @dev The payer was in arrears for longer than the hard grace.
    uint8 internal constant ARREARS = 3;

    /// @dev The node did not confirm it in time.
    uint8 internal constant START_TIMEOUT = 4;

    /// @dev The payer was in arrears when the node confirmed it.
    uint8 internal constant ARREARS_AT_START = 5;

    /// @dev The smallest number that a node may give.
    uint8 internal constant NODE_MIN = 16;
}
