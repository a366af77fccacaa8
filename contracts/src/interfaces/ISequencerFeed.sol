// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title ISequencerFeed
/// @notice What is used of Chainlink's sequencer uptime feed: an answer of 1 means down since `startedAt`, 0 up since then.
interface ISequencerFeed {
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
}
