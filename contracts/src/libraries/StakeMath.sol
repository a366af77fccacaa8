// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title StakeMath
/// @notice The arithmetic of the pools. Every conversion rounds down, so that who moves never gains from the others. With
/// tokens below 2^100, shares below 2^128 and times below 2^40 nothing overflows.
library StakeMath {
    /// @dev Shares and tokens that nobody owns. They make the price of an empty pool 1000 shares a token: who gives tokens
    /// to the pool so that a later delegation gets too few shares gives nearly all of it to these. For a delegation of at
    /// least 1 token (1e18) into a pool to which D was given, what rounding takes is below one share's worth: D / 1e21 + 1.
    uint256 internal constant VIRTUAL_SHARES = 1e3;
    uint256 internal constant VIRTUAL_TOKENS = 1;

    /// @notice What `tokens` buy of a pool of delegations.
    function bond(uint256 tokens, uint256 poolTokens, uint256 poolShares) internal pure returns (uint256) {
        unchecked {
            return tokens * (poolShares + VIRTUAL_SHARES) / (poolTokens + VIRTUAL_TOKENS);
        }
    }

    /// @notice What `shares` of a pool of delegations are worth.
    function bonded(uint256 shares, uint256 poolTokens, uint256 poolShares) internal pure returns (uint256) {
        unchecked {
            return shares * (poolTokens + VIRTUAL_TOKENS) / (poolShares + VIRTUAL_SHARES);
        }
    }

    /// @notice What `tokens` buy of a pool of delegations that are being withdrawn. Nobody can give to this pool, so it
    /// needs nothing virtual: a share starts as a token and is never worth more.
    function leave(uint256 tokens, uint256 poolTokens, uint256 poolShares) internal pure returns (uint256) {
        unchecked {
            return poolTokens == 0 ? tokens : tokens * poolShares / poolTokens;
        }
    }

    /// @notice What `shares` of a pool of delegations that are being withdrawn are worth.
    function leaving(uint256 shares, uint256 poolTokens, uint256 poolShares) internal pure returns (uint256) {
        unchecked {
            return poolShares == 0 ? 0 : shares * poolTokens / poolShares;
        }
    }

    /// @notice What of `rest`, which drips evenly until `end`, has dripped since `last`.
    function dripped(uint256 rest, uint256 last, uint256 end, uint256 time) internal pure returns (uint256) {
        unchecked {
            if (time >= end) return rest;
            return rest * (time - last) / (end - last);
        }
    }

    /// @notice How long `rest + more` drips when `rest` had `left` seconds to go and `more` should take `full`: the mean,
    /// weighted, so that a little more does not hold up what was nearly through. Rounds up.
    function dripTime(uint256 rest, uint256 left, uint256 more, uint256 full) internal pure returns (uint256) {
        unchecked {
            uint256 sum = rest + more;
            return (rest * left + more * full + sum - 1) / sum;
        }
    }

    /// @notice The part of `amount` that the first `upTo` of `total` bear, rounded up. Differences of it split an amount
    /// exactly, give nobody more than a unit too much, and never take more than there is.
    function portion(uint256 amount, uint256 upTo, uint256 total) internal pure returns (uint256) {
        unchecked {
            return total == 0 ? 0 : (amount * upTo + total - 1) / total;
        }
    }
}
