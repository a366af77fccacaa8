// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Stats
/// @notice What the coordinators say of a node in an hour, packed into 32 bytes, from the highest bits on: nodeId 32,
/// score 16, uptime 16, free vCPUs 16, free memory in GiB 16, free disk in GiB 32, free GPUs 8, price tier 16, bandwidth in
/// Mbit/s 16, flags 32, region 16, autonomous system 32, reserved 8. What a job needs is packed the same way.
library Stats {
    /// @notice The node the leaf is of.
    function nodeOf(bytes32 leaf) internal pure returns (uint32) {
        return uint32(uint256(leaf) >> 224);
    }

    /// @notice The node's score, in 1/10,000.
    function scoreOf(bytes32 leaf) internal pure returns (uint16) {
        return uint16(uint256(leaf) >> 208);
    }

    /// @notice Whether a node has what a job needs: at least as much of everything, all the flags, at most the price tier,
    /// and the region and autonomous system when one is asked for. A node without a score is never chosen.
    function satisfies(bytes32 leaf, bytes32 needs) internal pure returns (bool) {
        (uint256 l, uint256 n) = (uint256(leaf), uint256(needs));
        if (scoreOf(leaf) == 0 || scoreOf(leaf) < scoreOf(needs)) return false;
        if (uint16(l >> 192) < uint16(n >> 192) || uint16(l >> 176) < uint16(n >> 176)) return false;
        if (uint16(l >> 160) < uint16(n >> 160) || uint32(l >> 128) < uint32(n >> 128)) return false;
        if (uint8(l >> 120) < uint8(n >> 120) || uint16(l >> 88) < uint16(n >> 88)) return false;
        if (uint16(n >> 104) != 0 && uint16(l >> 104) > uint16(n >> 104)) return false;
        if (uint32(l >> 56) & uint32(n >> 56) != uint32(n >> 56)) return false;
        if (uint16(n >> 40) != 0 && uint16(l >> 40) != uint16(n >> 40)) return false;
        return uint32(n >> 8) == 0 || uint32(l >> 8) == uint32(n >> 8);
    }
}
