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

    /// @dev It was offered on the chain, or left its node, and was not placed in time.
    uint8 internal constant NOT_PLACED = 6;

    /// @dev The node did all of it.
    uint8 internal constant COMPLETED = 7;

    /// @dev The node gave notice and the time of it is over.
    uint8 internal constant NOTICE = 8;

    /// @dev The node is suspended, in jail or gone.
    uint8 internal constant NODE_GONE = 9;

    /// @dev The payer wants another node.
    uint8 internal constant MOVED = 10;

    /// @dev The smallest number that a node may give.
    uint8 internal constant NODE_MIN = 16;
}
