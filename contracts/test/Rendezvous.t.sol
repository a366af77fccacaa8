// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AssignmentRules} from "../src/libraries/AssignmentRules.sol";
import {Rendezvous} from "../src/libraries/Rendezvous.sol";
import {Stats} from "../src/libraries/Stats.sol";
import {Test} from "forge-std/Test.sol";

/// @title Rendezvous
/// @notice The race is bit by bit that of Go: protocol/testdata/vectors/rendezvous.json is what the package
/// protocol/rendezvous computes.
contract RendezvousTest is Test {
    uint256 private constant _MEMBERS = 8;

    string private _json;

    function setUp() public {
        _json = vm.readFile("../protocol/testdata/vectors/rendezvous.json");
    }

    function _hashes(string memory path) private view returns (bytes32[] memory) {
        return vm.parseJsonBytes32Array(_json, path);
    }

    function _numbers(string memory path) private view returns (uint256[] memory) {
        return vm.parseJsonUintArray(_json, path);
    }

    function test_vectors_runs() public view {
        bytes32[] memory seeds = _hashes(".runs.seeds");
        bytes32[] memory specs = _hashes(".runs.specs");
        uint256[] memory attempts = _numbers(".runs.attempts");
        uint256[] memory ids = _numbers(".runs.ids");
        uint256[] memory weights = _numbers(".runs.weights");
        uint256[] memory us = _numbers(".runs.us");
        uint256[] memory keys = _numbers(".runs.keys");
        assertEq(keys.length, 1_500);
        for (uint256 i; i < keys.length; ++i) {
            Rendezvous.Runner memory r =
                Rendezvous.run(seeds[i], specs[i], uint8(attempts[i]), uint32(ids[i]), weights[i]);
            assertEq(r.u, us[i], "what it drew");
            assertEq(r.key, keys[i], "its key");
        }
    }

    function test_vectors_keys() public view {
        uint256[] memory us = _numbers(".keys.us");
        uint256[] memory weights = _numbers(".keys.weights");
        uint256[] memory logs = _numbers(".keys.logs");
        uint256[] memory keys = _numbers(".keys.keys");
        for (uint256 i; i < keys.length; ++i) {
            assertEq(Rendezvous.log2(us[i]), logs[i], "logarithm");
            assertEq(Rendezvous.key(us[i], weights[i]), keys[i], "key");
        }
    }

    function test_vectors_ties() public view {
        bool[] memory before = vm.parseJsonBoolArray(_json, ".ties.before");
        uint256[] memory keysA = _numbers(".ties.keys_a");
        uint256[] memory keysB = _numbers(".ties.keys_b");
        uint256[] memory usA = _numbers(".ties.us_a");
        uint256[] memory usB = _numbers(".ties.us_b");
        uint256[] memory idsA = _numbers(".ties.ids_a");
        uint256[] memory idsB = _numbers(".ties.ids_b");
        for (uint256 i; i < before.length; ++i) {
            Rendezvous.Runner memory a = Rendezvous.Runner(uint32(idsA[i]), usA[i], keysA[i]);
            Rendezvous.Runner memory b = Rendezvous.Runner(uint32(idsB[i]), usB[i], keysB[i]);
            assertEq(Rendezvous.before(a, b), before[i]);
        }
    }

    function test_vectors_duties() public view {
        bytes32[] memory seeds = _hashes(".duties.seeds");
        bytes32[] memory specs = _hashes(".duties.specs");
        uint256[] memory all = _numbers(".duties.ids");
        uint256[] memory stakes = _numbers(".duties.stakes");
        uint256[] memory duties = _numbers(".duties.duties");
        uint256[] memory ranks = _numbers(".duties.ranks");
        for (uint256 i; i < seeds.length; ++i) {
            uint32[] memory ids = new uint32[](_MEMBERS);
            uint96[] memory weights = new uint96[](_MEMBERS);
            for (uint256 n; n < _MEMBERS; ++n) {
                (ids[n], weights[n]) = (uint32(all[i * _MEMBERS + n]), uint96(stakes[i * _MEMBERS + n]));
            }
            assertEq(AssignmentRules.duty(seeds[i], specs[i], 0, ids, weights), duties[i], "duty");
            for (uint256 n; n < _MEMBERS; ++n) {
                assertEq(
                    AssignmentRules.rank(seeds[i], specs[i], 0, ids[n], ids, weights), ranks[i * _MEMBERS + n], "rank"
                );
            }
            assertEq(AssignmentRules.rank(seeds[i], specs[i], 0, 999, ids, weights), _MEMBERS, "no member");
        }
    }

    function testFuzz_log2_isBetweenItsNeighbours(uint128 u) public pure {
        vm.assume(u != 0);
        uint256 log = Rendezvous.log2(u);
        uint256 whole = log >> 64;
        assertLe(1 << whole, u);
        assertGt(uint256(1) << (whole + 1), u);
        if (u > 1) assertLe(Rendezvous.log2(u - 1), log, "it grows");
    }

    function testFuzz_key_fallsAsTheDrawGrows(uint128 a, uint128 b, uint64 weight) public pure {
        vm.assume(a != 0 && b != 0 && weight != 0);
        (a, b) = a < b ? (a, b) : (b, a);
        assertGe(Rendezvous.key(a, weight), Rendezvous.key(b, weight));
    }

    function testFuzz_key_fallsAsTheWeightGrows(uint128 u, uint64 a, uint64 b) public pure {
        vm.assume(u != 0 && a != 0 && b != 0);
        (a, b) = a < b ? (a, b) : (b, a);
        assertGe(Rendezvous.key(u, a), Rendezvous.key(u, b));
    }

    /* NEEDS */

    struct Numbers {
        uint16 score;
        uint16 uptime;
        uint16 vcpus;
        uint16 memory_;
        uint32 disk;
        uint8 gpus;
        uint16 tier;
        uint16 bandwidth;
        uint32 flags;
        uint16 region;
        uint32 asn;
    }

    function _pack(uint32 node, Numbers memory n) private pure returns (bytes32) {
        bytes memory first = abi.encodePacked(node, n.score, n.uptime, n.vcpus, n.memory_, n.disk);
        return
            bytes32(
                bytes.concat(first, abi.encodePacked(n.gpus, n.tier, n.bandwidth, n.flags, n.region, n.asn, uint8(0)))
            );
    }

    function _satisfies(Numbers memory want) private pure returns (bool) {
        Numbers memory have = Numbers(100, 100, 100, 100, 100, 100, 100, 100, 0x64, 100, 100);
        return Stats.satisfies(_pack(7, have), _pack(0, want));
    }

    /// @dev Equal numbers are enough, and one more of any is too much.
    function test_needs_atTheLimits() public pure {
        Numbers memory want = Numbers(100, 100, 100, 100, 100, 100, 100, 100, 0x64, 100, 100);
        assertTrue(_satisfies(want));
        want.score = 101;
        assertFalse(_satisfies(want), "score");
        (want.score, want.uptime) = (100, 101);
        assertFalse(_satisfies(want), "uptime");
        (want.uptime, want.vcpus) = (100, 101);
        assertFalse(_satisfies(want), "vcpus");
        (want.vcpus, want.memory_) = (100, 101);
        assertFalse(_satisfies(want), "memory");
        (want.memory_, want.disk) = (100, 101);
        assertFalse(_satisfies(want), "disk");
        (want.disk, want.gpus) = (100, 101);
        assertFalse(_satisfies(want), "gpus");
        (want.gpus, want.tier) = (100, 99);
        assertFalse(_satisfies(want), "tier");
        (want.tier, want.bandwidth) = (100, 101);
        assertFalse(_satisfies(want), "bandwidth");
        (want.bandwidth, want.flags) = (100, 0x65);
        assertFalse(_satisfies(want), "flags");
        (want.flags, want.region) = (0x64, 99);
        assertFalse(_satisfies(want), "region");
        (want.region, want.asn) = (100, 99);
        assertFalse(_satisfies(want), "asn");
        (want.asn, want.tier, want.region) = (0, 0, 0);
        assertTrue(_satisfies(want), "what is not asked for");
    }

    function testFuzz_needs_areMetWhenEachIs(Numbers memory have, Numbers memory want, uint16 mask) public pure {
        // Half of the needs are what the node has, or nearly all cases would fail.
        if (mask & 1 != 0) want.score = have.score;
        if (mask & 2 != 0) want.uptime = have.uptime;
        if (mask & 4 != 0) want.vcpus = have.vcpus;
        if (mask & 8 != 0) want.memory_ = have.memory_;
        if (mask & 16 != 0) want.disk = have.disk;
        if (mask & 32 != 0) want.gpus = have.gpus;
        if (mask & 64 != 0) want.tier = have.tier;
        if (mask & 128 != 0) want.bandwidth = have.bandwidth;
        if (mask & 256 != 0) want.flags = have.flags;
        if (mask & 512 != 0) want.region = have.region;
        if (mask & 1024 != 0) want.asn = have.asn;
        bool met = have.score != 0 && have.score >= want.score && have.uptime >= want.uptime && have.vcpus >= want.vcpus
            && have.memory_ >= want.memory_ && have.disk >= want.disk && have.gpus >= want.gpus
            && (want.tier == 0 || have.tier <= want.tier);
        met = met && have.bandwidth >= want.bandwidth && (have.flags & want.flags) == want.flags
            && (want.region == 0 || want.region == have.region) && (want.asn == 0 || want.asn == have.asn);
        bytes32 leaf = _pack(7, have);
        assertEq(Stats.satisfies(leaf, _pack(0, want)), met);
        assertEq(Stats.nodeOf(leaf), 7);
        assertEq(Stats.scoreOf(leaf), have.score);
        have.score = have.score == 0 ? 1 : have.score;
        assertTrue(Stats.satisfies(_pack(7, have), 0), "who needs nothing gets any");
    }
}
