// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Q32
/// @notice Arithmetic of rates: a rate is token wei per second scaled by 2^32.
/// @dev Bounds: rate < 2^128 and seconds < 2^40, so a product is below 2^168 and a scaled amount of at most 2^128 wei is
/// below 2^160: nothing here overflows 256 bits.
library Q32 {
    /// @notice The wei that `seconds_` at `rate` are worth, rounded down.
    function floorWei(uint256 rate, uint256 seconds_) internal pure returns (uint256) {
        unchecked {
            return (rate * seconds_) >> 32;
        }
    }

    /// @notice The wei that `seconds_` at `rate` cost, rounded up.
    function ceilWei(uint256 rate, uint256 seconds_) internal pure returns (uint256) {
        unchecked {
            return ceil(rate * seconds_);
        }
    }

    /// @notice A scaled value in wei, rounded up.
    function ceil(uint256 value) internal pure returns (uint256) {
        unchecked {
            return (value + type(uint32).max) >> 32;
        }
    }
}
