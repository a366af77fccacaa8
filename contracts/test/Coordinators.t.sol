// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {HeartbeatSuite} from "./utils/HeartbeatSuite.sol";

/// @title Coordinators
/// @notice The set of coordinators of a day and who of them signed.
contract CoordinatorsTest is HeartbeatSuite {
    INodeRegistry.Kind internal constant COORDINATOR = INodeRegistry.Kind.Coordinator;
    bytes32 internal constant DIGEST = keccak256("digest");
    bytes32 internal constant ACCEPTED = "accepted";

    function _today() private view returns (uint24) {
        return uint24(block.timestamp / 1 days);
    }

    function _more(uint256 n) private {
        for (uint256 i; i < n; ++i) {
            coordinators.push(_join(COORDINATOR, string.concat("more", vm.toString(i))));
        }
    }

    function _sigs(uint64 mask) private view returns (bytes memory sigs) {
        for (uint256 i; i < coordinators.length; ++i) {
            if ((mask >> i) & 1 != 0) sigs = abi.encodePacked(sigs, _sign(coordinators[i].key, DIGEST));
        }
    }

    function _drain(Party memory p) private {
        vm.prank(p.owner);
        nodes.drain(p.id);
    }

    /* SNAPSHOTS */

    function test_snapshot_takesTheActiveOnesOnceADay() public {
        _stake(coordinators[1], 5 ether + 1);
        uint32[] memory ids = new uint32[](3);
        uint96[] memory weights = new uint96[](3);
        for (uint256 i; i < 3; ++i) {
            (ids[i], weights[i]) = (coordinators[i].id, i == 1 ? WEIGHT + 5 : WEIGHT);
        }
        vm.expectEmit(address(nodes));
        emit INodeRegistry.CoordinatorsSnapshot(_today(), ids, weights);
        assertEq(nodes.snapshotCoordinators(), _today());
        _more(1);
        vm.recordLogs();
        assertEq(nodes.snapshotCoordinators(), _today());
        assertEq(vm.getRecordedLogs().length, 0, "once a day");
        (uint24 day, uint32[] memory have, uint96[] memory w) = nodes.coordinatorSet();
        assertEq(day, _today());
        assertEq(have.length, 3);
        for (uint256 i; i < 3; ++i) {
            assertEq(have[i], ids[i]);
            assertEq(w[i], weights[i]);
        }
        skip(1 days);
        nodes.snapshotCoordinators();
        (, have, w) = nodes.coordinatorSet();
        assertEq(have.length, 4);
        assertEq(have[3], coordinators[3].id);
        (have, w) = nodes.coordinatorsOn(_today() - 1);
        assertEq(have.length, 3);
        assertEq(w[1], WEIGHT + 5);
        (have,) = nodes.coordinatorsOn(_today() + 1);
        assertEq(have.length, 0);
    }

    function test_snapshot_ofTheSameSetIsNotWrittenAgain() public {
        nodes.snapshotCoordinators();
        uint64 nonce = vm.getNonce(address(nodes));
        skip(1 days);
        nodes.snapshotCoordinators();
        assertEq(vm.getNonce(address(nodes)), nonce, "no contract is created");
        (uint24 day, uint32[] memory ids,) = nodes.coordinatorSet();
        assertEq(day, _today());
        assertEq(ids.length, 3);
        _stake(coordinators[0], 1 ether);
        skip(1 days);
        nodes.snapshotCoordinators();
        assertEq(vm.getNonce(address(nodes)), nonce + 1);
    }

    function test_snapshot_needsACoordinator() public {
        for (uint256 i; i < 3; ++i) {
            _drain(coordinators[i]);
        }
        vm.expectRevert(INodeRegistry.NoCoordinators.selector);
        nodes.snapshotCoordinators();
        (uint24 day, uint32[] memory ids,) = nodes.coordinatorSet();
        assertEq(day, 0);
        assertEq(ids.length, 0);
    }

    function testFuzz_snapshot_isWhatTheNodesAre(uint96[3] memory more, uint16[3] memory regions) public {
        for (uint256 i; i < 3; ++i) {
            Party memory c = coordinators[i];
            _stake(c, uint128(bound(more[i], 1, 1e26)));
            vm.prank(c.owner);
            nodes.updateMeta(c.id, "m", 0, regions[i]);
        }
        nodes.snapshotCoordinators();
        (, uint32[] memory ids, uint96[] memory weights) = nodes.coordinatorSet();
        uint256 total;
        for (uint256 i; i < 3; ++i) {
            assertEq(ids[i], coordinators[i].id);
            assertEq(weights[i], staking.weight(ids[i]) / 1 ether);
            total += weights[i];
        }
        INodeRegistry.Quorum memory q = nodes.quorum(DIGEST, _sigs(7));
        assertEq(q.total, total);
        assertEq(q.weight, total);
        uint256 groups = 1;
        if (regions[1] != regions[0]) ++groups;
        if (regions[2] != regions[0] && regions[2] != regions[1]) ++groups;
        assertEq(q.groups, groups);
    }

    /* THE SET */

    function test_set_holds64() public {
        _more(61);
        assertEq(nodes.activeCoordinators(), 64);
        Party memory p = _register(COORDINATOR, "one too many");
        _stake(p, staking.totalRequirement());
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.CoordinatorsFull.selector, 64));
        nodes.activate(p.id);
        nodes.snapshotCoordinators();
        INodeRegistry.Quorum memory q = nodes.quorum(DIGEST, _sigs(type(uint64).max));
        assertEq(q.count, 64);
        assertEq(q.signers, type(uint64).max);
        assertEq(q.weight, 64 * uint256(WEIGHT));
        assertEq(q.groups, 1);
        // One leaves, the other comes, the first cannot come back.
        vm.startPrank(slaAt);
        nodes.jail(coordinators[5].id, 1);
        nodes.activate(p.id);
        skip(1);
        nodes.unjail(coordinators[5].id);
        assertEq(uint8(_status(coordinators[5].id)), uint8(INodeRegistry.Status.Suspended));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.CoordinatorsFull.selector, 64));
        nodes.activate(coordinators[5].id);
    }

    /// @dev The live set is the Active coordinators, ascending, whoever comes and goes.
    function testFuzz_set_isSorted(uint256 seed) public {
        _more(7);
        for (uint256 step; step < 12; ++step) {
            uint256 pick = uint256(keccak256(abi.encode(seed, step)));
            uint32 id = coordinators[pick % 10].id;
            INodeRegistry.Status status = _status(id);
            if (status == INodeRegistry.Status.Active) {
                vm.prank(slaAt);
                nodes.jail(id, 1);
            } else {
                skip(1);
                nodes.unjail(id);
            }
            uint32[] memory ids = nodes.activeCoordinatorIds();
            assertEq(ids.length, nodes.activeCoordinators());
            uint256 k;
            for (uint256 i; i < 10; ++i) {
                if (_status(coordinators[i].id) != INodeRegistry.Status.Active) continue;
                assertEq(ids[k++], coordinators[i].id);
            }
            assertEq(k, ids.length);
        }
    }

    /* QUORUM */

    function testFuzz_quorum_countsTheSigners(uint8 mask) public {
        _more(5);
        for (uint256 i; i < 8; ++i) {
            _stake(coordinators[i], uint128(i + 1) * 1000 ether);
            vm.prank(coordinators[i].owner);
            nodes.updateMeta(coordinators[i].id, "m", 0, uint16(i / 2 * 256));
        }
        nodes.snapshotCoordinators();
        uint256 weight;
        uint256 count;
        uint256 groups;
        for (uint256 i; i < 8; ++i) {
            if (mask >> i & 1 == 0) continue;
            weight += WEIGHT + (i + 1) * 1000;
            ++count;
            if (i % 2 == 0 || mask >> (i - 1) & 1 == 0) ++groups;
        }
        INodeRegistry.Quorum memory q = nodes.quorum(DIGEST, _sigs(mask));
        assertEq(q.weight, weight);
        assertEq(q.total, 8 * uint256(WEIGHT) + 36_000);
        assertEq(q.count, count);
        assertEq(q.signers, mask);
        assertEq(q.groups, groups);
    }

    function _refuses(bytes memory sigs, bytes memory err) private {
        vm.expectRevert(err);
        nodes.quorum(DIGEST, sigs);
    }

    function _bad(uint8 index) private pure returns (bytes memory) {
        return abi.encodeWithSelector(AlephErrors.BadSignature.selector, index);
    }

    function test_quorum_refusesBadSignatures() public {
        nodes.snapshotCoordinators();
        bytes memory a = _sigs(1);
        bytes memory b = _sigs(2);
        _refuses(bytes.concat(b, a), _bad(1));
        _refuses(bytes.concat(a, a), _bad(1));
        _refuses(_sign(workers[0].key, DIGEST), _bad(0));
        _refuses(_sign(coordinators[0].key, "other"), _bad(0));
        _refuses(bytes.concat(a, new bytes(65)), _bad(1));
        _refuses(bytes.concat(a, hex"00"), abi.encodeWithSelector(INodeRegistry.SignaturesLength.selector, 66));
        _refuses(new bytes(65 * 65), abi.encodeWithSelector(INodeRegistry.SignaturesLength.selector, 65 * 65));
        // The other form of the same signature.
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(coordinators[0].key, DIGEST);
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        _refuses(abi.encodePacked(r, bytes32(order - uint256(s)), v == 27 ? 28 : 27), _bad(0));
        INodeRegistry.Quorum memory q = nodes.quorum(DIGEST, "");
        assertEq(q.count, 0);
        assertEq(q.weight, 0);
        assertEq(q.total, 3 * WEIGHT);
    }

    function test_quorum_needsAFreshSnapshot() public {
        bytes memory sigs = _sigs(7);
        _refuses(sigs, abi.encodeWithSelector(INodeRegistry.SnapshotStale.selector, 0));
        uint24 day = nodes.snapshotCoordinators();
        vm.warp(uint256(day) * 1 days + 8 days - 1);
        assertEq(nodes.quorum(DIGEST, sigs).count, 3);
        skip(1);
        _refuses(sigs, abi.encodeWithSelector(INodeRegistry.SnapshotStale.selector, day));
    }

    function test_quorum_forgetsWhoLeft() public {
        nodes.snapshotCoordinators();
        uint32 id = coordinators[1].id;
        uint256 start = vm.snapshotState();
        for (uint256 way; way < 5; ++way) {
            if (way < 2) vm.startPrank(slaAt);
            else vm.startPrank(coordinators[1].owner);
            if (way == 0) nodes.jail(id, 1);
            if (way == 1) nodes.ban(id);
            if (way == 2) nodes.drain(id);
            if (way == 3) {
                (address fresh, uint256 key) = makeAddrAndKey("fresh");
                nodes.setSigner(id, fresh, _setSignerSig(key, id, coordinators[1].owner));
                _refuses(_sign(key, DIGEST), _bad(0));
            }
            vm.stopPrank();
            if (way == 4) {
                _starve(id);
                assertEq(uint8(_status(id)), uint8(INodeRegistry.Status.Suspended));
            }
            _refuses(_sigs(7), _bad(1));
            INodeRegistry.Quorum memory q = nodes.quorum(DIGEST, _sigs(5));
            assertEq(q.count, 2);
            assertEq(q.total, 2 * WEIGHT, "it is not waited for");
            assertEq(q.signers, 5);
            vm.revertToState(start);
        }
    }

    function test_quorum_returnsWithTheNextSnapshot() public {
        nodes.snapshotCoordinators();
        vm.prank(slaAt);
        nodes.jail(coordinators[1].id, 1);
        skip(1);
        nodes.unjail(coordinators[1].id);
        _refuses(_sigs(2), _bad(0));
        skip(1 days);
        nodes.snapshotCoordinators();
        assertEq(nodes.quorum(DIGEST, _sigs(2)).count, 1);
    }

    /* ASSIGNMENTS */

    /// @dev Entries of coordinators' signatures of DIGEST.
    function _entries(uint256[3] memory members) private view returns (bytes memory sigs) {
        for (uint256 i; i < 3; ++i) {
            Party memory c = coordinators[members[i]];
            sigs = abi.encodePacked(sigs, c.id, _sign(c.key, DIGEST));
        }
    }

    function _checkAssignment(bytes memory sigs) private view {
        bytes memory sig = _sign(workers[0].key, ACCEPTED);
        nodes.checkAssignment(workers[0].id, coordinators[0].id, 3, [ACCEPTED, DIGEST], sig, sigs);
    }

    function test_checkAssignment_withASnapshot() public {
        nodes.snapshotCoordinators();
        // One that comes after the snapshot.
        _more(1);
        _checkAssignment(_entries([uint256(0), 1, 2]));
        _checkAssignment(_entries([uint256(0), 2, 3]));
        vm.expectRevert(_bad(5));
        _checkAssignment(
            abi.encodePacked(_entries([uint256(0), 1, 2]), coordinators[3].id, _sign(coordinators[2].key, DIGEST))
        );
    }

    function test_checkAssignment_refusesWhoLeftToday() public {
        nodes.snapshotCoordinators();
        bytes memory sigs = _entries([uint256(0), 1, 2]);
        uint32 id = coordinators[1].id;
        vm.prank(slaAt);
        nodes.jail(id, 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, id, INodeRegistry.Status.Jailed));
        _checkAssignment(sigs);
        // Out of jail it may assign at once, by its own slot.
        skip(1);
        nodes.unjail(id);
        _checkAssignment(sigs);
        vm.prank(slaAt);
        nodes.ban(id);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, id, INodeRegistry.Status.Banned));
        _checkAssignment(sigs);
    }

    function test_checkAssignment_followsTheKey() public {
        nodes.snapshotCoordinators();
        bytes memory sigs = _entries([uint256(0), 1, 2]);
        Party memory c = coordinators[1];
        (address fresh, uint256 key) = makeAddrAndKey("fresh");
        bytes memory sig = _setSignerSig(key, c.id, c.owner);
        vm.prank(c.owner);
        nodes.setSigner(c.id, fresh, sig);
        vm.expectRevert(_bad(3));
        _checkAssignment(sigs);
        coordinators[1].key = key;
        _checkAssignment(_entries([uint256(0), 1, 2]));
    }

    function test_checkAssignment_withoutCoordinators() public {
        bytes memory sig = _sign(workers[0].key, ACCEPTED);
        bytes memory sigs = _entries([uint256(0), 1, 2]);
        nodes.checkAssignment(workers[0].id, 0, 0, [ACCEPTED, DIGEST], sig, "");
        vm.expectRevert(_bad(1));
        nodes.checkAssignment(workers[0].id, 0, 0, [DIGEST, DIGEST], sig, "");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.QuorumLow.selector, 0, 3));
        nodes.checkAssignment(workers[0].id, 0, 3, [ACCEPTED, DIGEST], sig, "");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.CoordinatorMissing.selector, 0));
        nodes.checkAssignment(workers[0].id, 0, 3, [ACCEPTED, DIGEST], sig, sigs);
    }
}
