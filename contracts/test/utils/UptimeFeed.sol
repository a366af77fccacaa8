// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title UptimeFeed
/// @notice A sequencer uptime feed that says what it is told.
contract UptimeFeed {
    struct Round {
        int256 answer;
        uint256 startedAt;
    }

    mapping(uint80 id => Round) public rounds;
    uint80 public latest;
    bool public broken;

    function push(int256 answer, uint256 startedAt) external returns (uint80 id) {
        id = ++latest;
        rounds[id] = Round(answer, startedAt);
    }

    function setBroken(bool to) external {
        broken = to;
    }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return getRoundData(latest);
    }

    function getRoundData(uint80 id) public view returns (uint80, int256, uint256, uint256, uint80) {
        require(!broken && id != 0 && id <= latest, "no data");
        Round memory r = rounds[id];
        return (id, r.answer, r.startedAt, r.startedAt, id);
    }
}
