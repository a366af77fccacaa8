// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title IUptimeFeed
/// @notice The part of Chainlink's L2 sequencer uptime feed that is used. `answer` is 0 while the sequencer is up and 1
/// while it is down; `startedAt` is when that began.
interface IUptimeFeed {
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);

    function getRoundData(uint80 roundId)
        external
        view
        returns (uint80 round, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
}

/// @title L2Guard
/// @notice Whether those who must answer in time could: the sequencer decides whose transactions are taken in.
library L2Guard {
    /// @dev For so long after the sequencer is back nobody is late: there is a queue.
    uint256 private constant _GRACE = 1 hours;

    /// @notice Until when nobody may be called late; 0 when everybody may. A feed that fails says nothing: it could
    /// otherwise end all penalties for good, and a penalty that matters can be vetoed.
    function graceUntil(address feed) internal view returns (uint256 until) {
        if (feed == address(0)) return 0;
        try IUptimeFeed(feed).latestRoundData() returns (uint80, int256 answer, uint256 startedAt, uint256, uint80) {
            // Round 0 of a new feed has no start.
            if (answer != 0) return block.timestamp + _GRACE;
            if (startedAt != 0 && block.timestamp < startedAt + _GRACE) return startedAt + _GRACE;
        } catch {}
    }

    /// @notice The outage that began with `roundId` and was over with the next round; zeros when there is none.
    function outageOf(address feed, uint80 roundId) internal view returns (uint40 from, uint40 to) {
        if (feed == address(0)) return (0, 0);
        try IUptimeFeed(feed).getRoundData(roundId) returns (
            uint80, int256 answer, uint256 startedAt, uint256, uint80
        ) {
            if (answer == 0 || startedAt == 0) return (0, 0);
            from = uint40(startedAt);
        } catch {
            return (0, 0);
        }
        try IUptimeFeed(feed).getRoundData(roundId + 1) returns (
            uint80, int256 answer, uint256 startedAt, uint256, uint80
        ) {
            if (answer == 0 && startedAt > from) return (from, uint40(startedAt));
        } catch {}
        return (0, 0);
    }
}
