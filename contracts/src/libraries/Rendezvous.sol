// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title Rendezvous
/// @notice The race that chooses who gets a job: an exponential race of weighted runners that anybody can repeat. Bit by
/// bit what the Go package protocol/rendezvous computes, and protocol/testdata/vectors/rendezvous.json keeps it so.
/// @dev A runner draws u from a hash; -ln(u / 2^128) is exponentially distributed, so the smallest logarithm over the weight
/// is its runner's with a probability in proportion to the weight. Of equal keys the greater u wins, then the smaller id.
library Rendezvous {
    /// @notice A runner with what it drew.
    struct Runner {
        uint32 id;
        uint256 u;
        uint256 key;
    }

    /// @notice Lets a runner draw.
    function run(bytes32 seed, bytes32 spec, uint8 attempt, uint32 id, uint256 weight)
        internal
        pure
        returns (Runner memory r)
    {
        r.id = id;
        r.u = draw(seed, spec, attempt, id);
        r.key = key(r.u, weight);
    }

    /// @notice What a runner draws: the top 128 bits of a hash, at least 1.
    function draw(bytes32 seed, bytes32 spec, uint8 attempt, uint32 id) internal pure returns (uint256 u) {
        u = uint256(keccak256(abi.encodePacked(seed, spec, attempt, id))) >> 128;
        if (u == 0) u = 1;
    }

    /// @notice The binary logarithm of u, which has at most 128 bits and is not 0, with 64 bits after the point, rounded
    /// down.
    function log2(uint256 u) internal pure returns (uint256 result) {
        uint256 whole = Math.log2(u);
        assembly ("memory-safe") {
            // The mantissa, 1 to 2, with the point after its top bit, which is bit 127.
            let m := shl(sub(127, whole), u)
            result := whole
            for { let i := 0 } lt(i, 64) { i := add(i, 1) } {
                let square := mul(m, m)
                let two := shr(255, square)
                m := shr(add(127, two), square)
                result := or(shl(1, result), two)
            }
        }
    }

    /// @notice The key of a runner that drew u and has the weight, which is not 0 and below 2^64: floor((128 - log2(u)) *
    /// 2^96 / weight).
    function key(uint256 u, uint256 weight) internal pure returns (uint256) {
        return (((128 << 64) - log2(u)) << 32) / weight;
    }

    /// @notice Whether a runner beats another.
    function before(Runner memory a, Runner memory b) internal pure returns (bool) {
        if (a.key != b.key) return a.key < b.key;
        if (a.u != b.u) return a.u > b.u;
        return a.id < b.id;
    }
}
