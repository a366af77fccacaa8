// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IImages
/// @notice What the JobManager asks the ImageMarketplace for.
interface IImages {
    /// @notice What an image costs on top of a machine of this rate. Reverts when it cannot be used in new jobs.
    function quote(uint32 seq, uint8 token, uint128 computeRateQ32)
        external
        view
        returns (uint64 payee, uint128 extraRateQ32, uint128 once);
}
