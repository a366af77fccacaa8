// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {ISLAManager} from "../src/interfaces/ISLAManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Bitmaps} from "./utils/Bitmaps.sol";
import {HeartbeatSuite} from "./utils/HeartbeatSuite.sol";

/// @dev Takes no ether.
contract Refuser {
    function demand(INodeRegistry nodes, uint32 epoch, uint32 id, bytes32 root, bytes calldata bitmap)
        external
        payable
    {
        nodes.demandLeaf{value: msg.value}(epoch, id, root, Bitmaps.pageOf(bitmap, id));
    }

    function answer(INodeRegistry nodes, uint32 epoch, uint32 id, bytes32 leaf, bytes32[] calldata proof) external {
        nodes.answerLeaf(epoch, id, leaf, proof);
    }
}

/// @title NodeExtension
/// @notice Heartbeats, and what nodes and coordinators are held to.
contract NodeExtensionTest is HeartbeatSuite {
    uint256 internal constant FEE = 0.0002 ether;

    struct Report {
        uint32[] epochs;
        bytes32[] roots;
        bytes[] bitmaps;
    }

    function setUp() public override {
        super.setUp();
        _toEpoch(_now() + 1);
    }

    /// @dev Posts `count` epochs from the current one on in which only the coordinators were alive.
    function _silence(uint256 count) internal returns (Report memory r) {
        (r.epochs, r.roots, r.bitmaps) = (new uint32[](count), new bytes32[](count), new bytes[](count));
        for (uint256 i; i < count; ++i) {
            r.epochs[i] = _now();
            r.roots[i] = keccak256(abi.encode(i));
            r.bitmaps[i] = new bytes(1);
            r.bitmaps[i][0] = 0x0e;
            _toEpoch(_now() + 1);
            _post(r.epochs[i], r.roots[i], r.bitmaps[i]);
        }
    }

    function _report(uint32 id, Report memory r) internal {
        nodes.reportMissed(id, r.epochs, r.roots, Bitmaps.pagesOf(r.bitmaps, id));
    }

    function _refusesReport(uint32 id, Report memory r, bytes memory err) internal {
        vm.expectRevert(err);
        _report(id, r);
    }

    function _notMissed(uint32 epoch) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(INodeRegistry.NotMissed.selector, epoch);
    }

    function _window(uint32 epoch) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(INodeRegistry.EpochWindow.selector, epoch);
    }

    function _notActive(uint32 id, INodeRegistry.Status status) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, id, status);
    }

    function _badState(INodeRegistry.DemandState have, INodeRegistry.DemandState want)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(AlephErrors.BadState.selector, have, want);
    }

    function _expectRecord(ISLAManager.Kind kind, uint32 id, uint32 ref, uint32 occurrence, uint16 severity, address by)
        internal
    {
        vm.expectCall(
            slaAt,
            abi.encodeCall(
                ISLAManager.recordViolation, (kind, id, bytes32(uint256(ref)), occurrence, severity, by, address(0))
            )
        );
    }

    /* POSTING */

    function test_submitHeartbeats_storesOneCommitment() public {
        uint32 epoch = _now() - 1;
        bytes memory bitmap = hex"0e01";
        bytes memory sigs = _heartbeatSigs(epoch, ROOT, bitmap, 0, 3);
        assertEq(nodes.heartbeatOf(epoch), 0);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.Heartbeats(epoch, ROOT, bitmap, 7);
        vm.prank(payer);
        nodes.submitHeartbeats(epoch, ROOT, bitmap, sigs);
        assertEq(nodes.heartbeatOf(epoch), keccak256(abi.encode(ROOT, Bitmaps.hashOf(bitmap))));
        (uint24 day,,) = nodes.coordinatorSet();
        assertEq(day, block.timestamp / 1 days, "takes the snapshot");
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256("Heartbeat(uint32 epoch,bytes32 statsRoot,bytes32 bitmapHash)"),
                epoch,
                ROOT,
                Bitmaps.hashOf(bitmap)
            )
        );
        assertEq(
            nodes.heartbeatDigest(epoch, ROOT, Bitmaps.hashOf(bitmap)),
            _digest("AlephNodes", address(nodes), structHash)
        );
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.EpochPosted.selector, epoch));
        nodes.submitHeartbeats(epoch, ROOT, bitmap, sigs);
    }

    function test_submitHeartbeats_hasSixEpochs() public {
        uint32 now_ = _now();
        uint32[3] memory bad = [now_, now_ + 1, now_ - 7];
        for (uint256 i; i < 3; ++i) {
            vm.expectRevert(_window(bad[i]));
            nodes.submitHeartbeats(bad[i], ROOT, hex"00", "");
        }
        _post(now_ - 6, ROOT, hex"00");
        _toEpoch(now_ + 1);
        vm.warp(block.timestamp - 1);
        vm.expectRevert(_window(now_));
        nodes.submitHeartbeats(now_, ROOT, hex"00", "");
        skip(1);
        _post(now_, ROOT, hex"00");
    }

    function test_submitHeartbeats_refusesBadInput() public {
        uint32 epoch = _now() - 1;
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        nodes.submitHeartbeats(epoch, 0, hex"00", "");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 16_384));
        nodes.submitHeartbeats(epoch, ROOT, "", "");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 16_385, 1, 16_384));
        nodes.submitHeartbeats(epoch, ROOT, new bytes(16_385), "");
        _post(epoch, ROOT, new bytes(16_384));
        bytes memory sigs = _heartbeatSigs(epoch - 1, ROOT, hex"00", 0, 3);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        nodes.submitHeartbeats(epoch - 1, ROOT, hex"01", sigs);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        nodes.submitHeartbeats(epoch - 2, ROOT, hex"00", sigs);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.LowWeight.selector, 0, 2 * WEIGHT + 1));
        nodes.submitHeartbeats(epoch - 1, ROOT, hex"00", "");
        sigs = _heartbeatSigs(epoch - 1, ROOT, hex"00", 1, 2);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.LowWeight.selector, 2 * WEIGHT, 2 * WEIGHT + 1));
        nodes.submitHeartbeats(epoch - 1, ROOT, hex"00", sigs);
    }

    function test_submitHeartbeats_needsCoordinators() public {
        nodes.snapshotCoordinators();
        for (uint256 i; i < 3; ++i) {
            vm.prank(coordinators[i].owner);
            nodes.drain(coordinators[i].id);
        }
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.LowWeight.selector, 0, 1));
        nodes.submitHeartbeats(_now() - 1, ROOT, hex"00", "");
        skip(1 days);
        uint32 epoch = _now() - 1;
        vm.expectRevert(INodeRegistry.NoCoordinators.selector);
        nodes.submitHeartbeats(epoch, ROOT, hex"00", "");
    }

    /// @dev More than two thirds of the weight, neither more nor less.
    function testFuzz_submitHeartbeats_needsTwoThirds(uint128[3] memory more, uint256 first, uint256 n) public {
        first = bound(first, 0, 2);
        n = bound(n, 0, 3 - first);
        uint256 total;
        uint256 weight;
        for (uint256 i; i < 3; ++i) {
            uint128 extra = uint128(bound(more[i], 1, 1e24));
            _stake(coordinators[i], extra);
            total += WEIGHT + extra / 1 ether;
            if (i >= first && i < first + n) weight += WEIGHT + extra / 1 ether;
        }
        uint32 epoch = _now() - 1;
        bytes memory sigs = _heartbeatSigs(epoch, ROOT, hex"00", first, n);
        if (3 * weight <= 2 * total) {
            vm.expectRevert(abi.encodeWithSelector(INodeRegistry.LowWeight.selector, weight, 2 * total / 3 + 1));
        }
        nodes.submitHeartbeats(epoch, ROOT, hex"00", sigs);
    }

    /* SELF HEARTBEATS */

    function test_selfHeartbeat_ofThisAndTheLastEpoch() public {
        Party memory p = workers[0];
        uint32 now_ = _now();
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, p.owner));
        vm.prank(p.owner);
        nodes.selfHeartbeat(p.id, now_);
        vm.startPrank(p.signer);
        vm.expectRevert(_window(now_ + 1));
        nodes.selfHeartbeat(p.id, now_ + 1);
        vm.expectRevert(_window(now_ - 2));
        nodes.selfHeartbeat(p.id, now_ - 2);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.SelfHeartbeat(p.id, now_);
        nodes.selfHeartbeat(p.id, now_);
        assertFalse(nodes.hasSelfHeartbeat(p.id, now_ - 1));
        nodes.selfHeartbeat(p.id, now_ - 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.EpochPosted.selector, now_));
        nodes.selfHeartbeat(p.id, now_);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.EpochPosted.selector, now_ - 1));
        nodes.selfHeartbeat(p.id, now_ - 1);
        assertTrue(nodes.hasSelfHeartbeat(p.id, now_));
        assertTrue(nodes.hasSelfHeartbeat(p.id, now_ - 1));
        assertFalse(nodes.hasSelfHeartbeat(p.id, now_ + 1));
        assertFalse(nodes.hasSelfHeartbeat(workers[1].id, now_));
    }

    /// @dev The word of a node holds its last 224 epochs, whatever it left out.
    function testFuzz_selfHeartbeat_remembers(uint256 seed) public {
        Party memory p = workers[0];
        uint32 base = _now();
        bool[] memory told = new bool[](3100);
        uint32 last = base;
        for (uint256 i; i < 12; ++i) {
            uint256 pick = uint256(keccak256(abi.encode(seed, i)));
            _toEpoch(_now() + uint32(pick % 4 == 0 ? pick >> 8 & 0xff : pick >> 8 & 3));
            uint32 epoch = _now();
            if (pick >> 32 & 1 == 1 && epoch > base) epoch -= 1;
            if (told[epoch - base]) continue;
            vm.prank(p.signer);
            nodes.selfHeartbeat(p.id, epoch);
            told[epoch - base] = true;
            if (epoch > last) last = epoch;
        }
        for (uint32 e = base; e <= last; ++e) {
            assertEq(nodes.hasSelfHeartbeat(p.id, e), told[e - base] && last - e < 224);
        }
    }

    /* MISSED EPOCHS */

    function test_reportMissed_suspends() public {
        uint32 id = workers[0].id;
        Report memory r = _silence(24);
        _expectRecord(ISLAManager.Kind.Offline, id, r.epochs[0], r.epochs[23], 0, payer);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.MissedReported(id, r.epochs[0], r.epochs[23], 24, payer);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeStatusChanged(
            id, INodeRegistry.Status.Active, INodeRegistry.Status.Suspended, INodeRegistry.StatusReason.Offline
        );
        vm.prank(payer);
        _report(id, r);
        assertTrue(nodes.node(id).offline);
        assertFalse(nodes.isActive(id));
        _refusesReport(id, r, _notActive(id, INodeRegistry.Status.Suspended));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.HeartbeatsNeeded.selector, id));
        nodes.activate(id);
    }

    function test_reportMissed_upTo48WithGaps() public {
        uint32 id = workers[0].id;
        Report memory r = _silence(48);
        uint256 start = vm.snapshotState();
        _report(id, r);
        vm.revertToState(start);
        Report memory half = Report(new uint32[](24), new bytes32[](24), new bytes[](24));
        for (uint256 i; i < 24; ++i) {
            (half.epochs[i], half.roots[i], half.bitmaps[i]) = (r.epochs[2 * i], r.roots[2 * i], r.bitmaps[2 * i]);
        }
        _report(id, half);
    }

    function test_reportMissed_refusesBadLists() public {
        uint32 id = workers[0].id;
        Report memory r = _silence(24);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 23, 24, 48));
        nodes.reportMissed(id, new uint32[](23), r.roots, Bitmaps.pagesOf(r.bitmaps, id));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 49, 24, 48));
        nodes.reportMissed(id, new uint32[](49), r.roots, Bitmaps.pagesOf(r.bitmaps, id));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 23, 24, 24));
        nodes.reportMissed(id, r.epochs, new bytes32[](23), Bitmaps.pagesOf(r.bitmaps, id));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 25, 24, 24));
        nodes.reportMissed(id, r.epochs, r.roots, new INodeRegistry.BitmapPage[](25));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, 99));
        _report(99, r);
        nodes.pause(Pausing.PENALTY, 1);
        _refusesReport(id, r, abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.PENALTY));
    }

    function test_reportMissed_refusesWhatWasNotSaid() public {
        uint32 id = workers[0].id;
        Report memory r = _silence(24);
        r.roots[5] = "other";
        _refusesReport(id, r, abi.encodeWithSelector(INodeRegistry.WrongHeartbeat.selector, r.epochs[5]));
        r.roots[5] = keccak256(abi.encode(uint256(5)));
        r.bitmaps[7] = hex"0f";
        _refusesReport(id, r, abi.encodeWithSelector(INodeRegistry.WrongHeartbeat.selector, r.epochs[7]));
        r.bitmaps[7] = hex"0e";
        (r.epochs[3], r.epochs[4]) = (r.epochs[4], r.epochs[3]);
        _refusesReport(id, r, abi.encodeWithSelector(INodeRegistry.WrongHeartbeat.selector, r.epochs[3]));
        (r.roots[3], r.roots[4]) = (r.roots[4], r.roots[3]);
        _refusesReport(id, r, abi.encodeWithSelector(INodeRegistry.EpochOrder.selector, r.epochs[3], r.epochs[4]));
        (r.epochs[4], r.roots[4]) = (r.epochs[3], r.roots[3]);
        _refusesReport(id, r, abi.encodeWithSelector(INodeRegistry.EpochOrder.selector, r.epochs[3], r.epochs[3]));
    }

    function test_reportMissed_refusesAnEpochThatWasNotPosted() public {
        uint32 id = workers[0].id;
        Report memory r = _silence(23);
        Report memory more = Report(new uint32[](24), new bytes32[](24), new bytes[](24));
        for (uint256 i; i < 23; ++i) {
            (more.epochs[i], more.roots[i], more.bitmaps[i]) = (r.epochs[i], r.roots[i], r.bitmaps[i]);
        }
        (more.epochs[23], more.roots[23], more.bitmaps[23]) = (_now(), ROOT, hex"00");
        skip(2 hours);
        _refusesReport(id, more, abi.encodeWithSelector(INodeRegistry.WrongHeartbeat.selector, more.epochs[23]));
    }

    function test_reportMissed_onlyTheLast48() public {
        uint32 id = workers[0].id;
        Report memory r = _silence(24);
        _toEpoch(r.epochs[0] + 49);
        _refusesReport(id, r, _window(r.epochs[0]));
        vm.warp(block.timestamp - 1);
        _report(id, r);
    }

    function test_reportMissed_notWhenAlive() public {
        Report memory r = _silence(24);
        // Coordinators are set in the bitmap; ids from 8 on are not in it.
        _refusesReport(coordinators[0].id, r, _notMissed(r.epochs[0]));
        Party memory late = _join(INodeRegistry.Kind.Compute, "late");
        assertEq(late.id, 8);
        r = _silence(24);
        _refusesReport(late.id, r, _notMissed(r.epochs[0]));
    }

    function test_reportMissed_notWhenItSaysSo() public {
        Party memory p = workers[0];
        _silence(3);
        vm.prank(p.signer);
        nodes.selfHeartbeat(p.id, _now());
        Report memory r = _silence(24);
        _refusesReport(p.id, r, _notMissed(r.epochs[0]));
        // Of another node it says nothing.
        _report(workers[1].id, r);
    }

    function test_reportMissed_onlyOnDuty() public {
        skip(1);
        Party memory p = _register(INodeRegistry.Kind.Compute, "late");
        _stake(p, 10_000 ether);
        nodes.activate(p.id);
        vm.warp(block.timestamp - 1);
        Report memory r = Report(new uint32[](25), new bytes32[](25), new bytes[](25));
        for (uint256 i; i < 25; ++i) {
            (r.epochs[i], r.roots[i], r.bitmaps[i]) = (_now(), ROOT, new bytes(2));
            _toEpoch(_now() + 1);
            _post(r.epochs[i], ROOT, r.bitmaps[i]);
        }
        // It was activated a second after the first epoch began.
        _refusesReport(p.id, r, _notMissed(r.epochs[0]));
        r = _tail(r, 24);
        _report(p.id, r);
    }

    function _tail(Report memory r, uint256 n) private pure returns (Report memory t) {
        t = Report(new uint32[](n), new bytes32[](n), new bytes[](n));
        uint256 skipped = r.epochs.length - n;
        for (uint256 i; i < n; ++i) {
            (t.epochs[i], t.roots[i], t.bitmaps[i]) =
            (r.epochs[i + skipped], r.roots[i + skipped], r.bitmaps[i + skipped]);
        }
    }

    function _head(Report memory r, uint256 n) private pure returns (Report memory t) {
        t = Report(new uint32[](n), new bytes32[](n), new bytes[](n));
        for (uint256 i; i < n; ++i) {
            (t.epochs[i], t.roots[i], t.bitmaps[i]) = (r.epochs[i], r.roots[i], r.bitmaps[i]);
        }
    }

    function test_reportMissed_outagesAreNeutral() public {
        uint32 id = workers[0].id;
        Report memory r = _silence(24);
        uint40 from = uint40(r.epochs[0]) * 1 hours;
        vm.mockCall(slaAt, abi.encodeCall(ISLAManager.outage, (from, from + 24 hours)), abi.encode(uint32(60)));
        uint40 bad = from + 9 hours;
        vm.mockCall(slaAt, abi.encodeCall(ISLAManager.outage, (bad, bad + 1 hours)), abi.encode(uint32(60)));
        _refusesReport(id, r, _notMissed(r.epochs[9]));
        // An outage between the epochs that are shown does not matter.
        vm.mockCall(slaAt, abi.encodeCall(ISLAManager.outage, (bad, bad + 1 hours)), abi.encode(uint32(0)));
        _report(id, r);
    }

    function test_reportMissed_holdsADrainingNodeOnce() public {
        Party memory p = workers[0];
        Report memory r = _silence(26);
        vm.prank(p.owner);
        nodes.drain(p.id);
        Report memory more = _silence(1);
        Report memory past = _tail(r, 24);
        past.epochs[23] = more.epochs[0];
        past.roots[23] = more.roots[0];
        past.bitmaps[23] = more.bitmaps[0];
        _refusesReport(p.id, past, _notMissed(more.epochs[0]));
        r = _head(r, 24);
        _expectRecord(ISLAManager.Kind.Offline, p.id, r.epochs[0], r.epochs[23], 0, address(this));
        _report(p.id, r);
        assertEq(uint8(_status(p.id)), uint8(INodeRegistry.Status.Draining));
        _refusesReport(p.id, r, _notMissed(r.epochs[0]));
    }

    function test_reportMissed_notADrainingNodeThatWasSuspended() public {
        Party memory p = workers[0];
        Report memory r = _silence(24);
        _report(p.id, r);
        vm.prank(p.owner);
        nodes.drain(p.id);
        _refusesReport(p.id, r, _notMissed(r.epochs[0]));
    }

    function test_reportMissed_takesACoordinatorsSay() public {
        uint32 id = coordinators[2].id;
        Report memory r = Report(new uint32[](24), new bytes32[](24), new bytes[](24));
        for (uint256 i; i < 24; ++i) {
            (r.epochs[i], r.roots[i], r.bitmaps[i]) = (_now(), ROOT, hex"06");
            _toEpoch(_now() + 1);
            _post(r.epochs[i], ROOT, hex"06");
        }
        _report(id, r);
        assertEq(nodes.activeCoordinators(), 2);
        uint32 epoch = _now();
        _toEpoch(epoch + 1);
        bytes memory sigs = _heartbeatSigs(epoch, ROOT, hex"06", 0, 2);
        nodes.submitHeartbeats(epoch, ROOT, hex"06", sigs);
    }

    /* COMING BACK */

    struct Comeback {
        uint32 first;
        bytes32[3] roots;
        bytes[3] bitmaps;
    }

    function _comeback(uint32 id) internal returns (Comeback memory c) {
        c.first = _now();
        for (uint256 i; i < 3; ++i) {
            (c.roots[i], c.bitmaps[i]) = (ROOT, _aliveOnly(id));
            _toEpoch(_now() + 1);
            _post(c.first + uint32(i), ROOT, c.bitmaps[i]);
        }
    }

    function _return(Party memory p, Comeback memory c) internal {
        vm.prank(p.signer);
        nodes.reactivate(p.id, c.first, c.roots, Bitmaps.threeOf(c.bitmaps, p.id));
    }

    function _suspend(uint32 id) internal {
        _report(id, _silence(24));
    }

    function test_reactivate_afterThreeEpochs() public {
        Party memory p = workers[0];
        _suspend(p.id);
        Comeback memory c = _comeback(p.id);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, payer));
        vm.prank(payer);
        nodes.reactivate(p.id, c.first, c.roots, Bitmaps.threeOf(c.bitmaps, p.id));
        uint256 start = vm.snapshotState();
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeStatusChanged(
            p.id, INodeRegistry.Status.Suspended, INodeRegistry.Status.Active, INodeRegistry.StatusReason.Online
        );
        _return(p, c);
        assertFalse(nodes.node(p.id).offline);
        vm.expectRevert(_notActive(p.id, INodeRegistry.Status.Active));
        _return(p, c);
        vm.revertToState(start);
        vm.prank(p.owner);
        nodes.reactivate(p.id, c.first, c.roots, Bitmaps.threeOf(c.bitmaps, p.id));
        assertTrue(nodes.isActive(p.id));
    }

    function test_reactivate_refuses() public {
        Party memory p = workers[0];
        _suspend(p.id);
        skip(1);
        uint32 id = p.id;
        Comeback memory c = _comeback(id);
        c.first -= 1;
        vm.expectRevert(_window(c.first));
        _return(p, c);
        c.first += 2;
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongHeartbeat.selector, c.first + 2));
        _return(p, c);
        c.first = _now();
        vm.expectRevert(_window(c.first));
        _return(p, c);
        c.first -= 3;
        uint256 start = vm.snapshotState();
        _toEpoch(c.first + 49);
        vm.expectRevert(_window(c.first));
        _return(p, c);
        vm.revertToState(start);
        nodes.pause(Pausing.ENTRY, 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        _return(p, c);
        vm.revertToState(start);
        staking.setRequirement(INodeRegistry.Kind.Compute, 20_000 ether);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeTooLow.selector, id));
        _return(p, c);
        vm.revertToState(start);
        c.roots[1] = "other";
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongHeartbeat.selector, c.first + 1));
        _return(p, c);
    }

    function test_reactivate_notBeforeTheSuspension() public {
        Party memory p = workers[0];
        _suspend(p.id);
        // The epoch that begins with the suspension counts.
        uint32 epoch = _now();
        Comeback memory c = _comeback(p.id);
        assertEq(c.first, epoch);
        uint256 start = vm.snapshotState();
        _return(p, c);
        vm.revertToState(start);
        // In jail and out again: what was before does not count.
        vm.prank(slaAt);
        nodes.jail(p.id, 1);
        skip(1);
        nodes.unjail(p.id);
        assertEq(uint8(_status(p.id)), uint8(INodeRegistry.Status.Suspended), "still offline");
        vm.expectRevert(_window(c.first));
        _return(p, c);
    }

    function test_reactivate_notWithoutTheBit() public {
        Party memory p = workers[0];
        _suspend(p.id);
        Comeback memory c = _comeback(workers[1].id);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotAlive.selector, c.first));
        _return(p, c);
    }

    function test_reactivate_afterLowStakeToo() public {
        Party memory p = workers[0];
        _starve(p.id);
        assertEq(uint8(_status(p.id)), uint8(INodeRegistry.Status.Suspended));
        Comeback memory c = _comeback(p.id);
        _return(p, c);
        assertTrue(nodes.isActive(p.id));
    }

    /* JAIL AND BAN */

    function test_jail_onlyTheSla() public {
        bytes memory err = abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this));
        vm.expectRevert(err);
        nodes.jail(1, 1);
        vm.expectRevert(err);
        nodes.ban(1);
        vm.startPrank(slaAt);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 365 days));
        nodes.jail(1, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 365 days + 1, 1, 365 days));
        nodes.jail(1, 365 days + 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, 99));
        nodes.jail(99, 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, 99));
        nodes.ban(99);
    }

    function test_jail_endsAndIsProlonged() public {
        Party memory p = workers[0];
        uint40 now_ = uint40(block.timestamp);
        vm.startPrank(slaAt);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeJailed(p.id, now_ + 100);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeStatusChanged(
            p.id, INodeRegistry.Status.Active, INodeRegistry.Status.Jailed, INodeRegistry.StatusReason.Jailed
        );
        nodes.jail(p.id, 100);
        vm.recordLogs();
        nodes.jail(p.id, 99);
        nodes.jail(p.id, 100);
        assertEq(vm.getRecordedLogs().length, 0);
        assertEq(nodes.node(p.id).jailedUntil, now_ + 100);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeJailed(p.id, now_ + 101);
        nodes.jail(p.id, 101);
        vm.stopPrank();
        vm.warp(now_ + 100);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, now_ + 101));
        nodes.unjail(p.id);
        skip(1);
        nodes.pause(Pausing.ENTRY, 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        nodes.unjail(p.id);
        nodes.unpause();
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeStatusChanged(
            p.id, INodeRegistry.Status.Jailed, INodeRegistry.Status.Active, INodeRegistry.StatusReason.Released
        );
        nodes.unjail(p.id);
        vm.expectRevert(_notActive(p.id, INodeRegistry.Status.Active));
        nodes.unjail(p.id);
        // A shorter term later on is a term of its own.
        vm.prank(slaAt);
        nodes.jail(p.id, 1);
        assertEq(nodes.node(p.id).jailedUntil, now_ + 102);
    }

    function test_unjail_withLowStakeIsSuspended() public {
        Party memory p = workers[0];
        staking.setRequirement(INodeRegistry.Kind.Compute, 20_000 ether);
        vm.prank(slaAt);
        nodes.jail(p.id, 1);
        vm.expectRevert(_notActive(p.id, INodeRegistry.Status.Jailed));
        vm.prank(p.owner);
        nodes.drain(p.id);
        skip(1);
        nodes.unjail(p.id);
        assertEq(uint8(_status(p.id)), uint8(INodeRegistry.Status.Suspended));
        vm.startPrank(p.owner);
        nodes.drain(p.id);
        nodes.exit(p.id);
    }

    function test_jail_sparesWhoLeft() public {
        Party memory p = workers[0];
        Party memory pending = _register(INodeRegistry.Kind.Compute, "pending");
        vm.startPrank(p.owner);
        nodes.drain(p.id);
        vm.startPrank(slaAt);
        nodes.jail(pending.id, 1);
        assertEq(uint8(_status(pending.id)), uint8(INodeRegistry.Status.Pending));
        uint256 start = vm.snapshotState();
        nodes.jail(p.id, 1);
        assertEq(uint8(_status(p.id)), uint8(INodeRegistry.Status.Jailed), "a node that drains is in reach");
        vm.revertToState(start);
        vm.startPrank(p.owner);
        nodes.exit(p.id);
        vm.startPrank(slaAt);
        nodes.jail(p.id, 1);
        nodes.ban(p.id);
        assertEq(uint8(_status(p.id)), uint8(INodeRegistry.Status.Exited));
        vm.expectEmit(address(nodes));
        emit INodeRegistry.NodeStatusChanged(
            pending.id, INodeRegistry.Status.Pending, INodeRegistry.Status.Banned, INodeRegistry.StatusReason.Banned
        );
        nodes.ban(pending.id);
        vm.recordLogs();
        nodes.ban(pending.id);
        nodes.jail(pending.id, 1);
        assertEq(vm.getRecordedLogs().length, 0);
        assertEq(uint8(_status(pending.id)), uint8(INodeRegistry.Status.Banned));
    }

    /* EQUIVOCATION */

    function _two(Party memory c, uint32 epoch) internal view returns (bytes memory a, bytes memory b) {
        a = _sign(c.key, nodes.heartbeatDigest(epoch, "a", "map"));
        b = _sign(c.key, nodes.heartbeatDigest(epoch, "b", "map"));
    }

    function test_equivocation_isRecorded() public {
        Party memory c = coordinators[1];
        uint32 epoch = _now();
        (bytes memory a, bytes memory b) = _two(c, epoch);
        _expectRecord(ISLAManager.Kind.Equivocation, c.id, epoch, epoch, 3, payer);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.EquivocationShown(c.id, epoch, payer);
        uint256 start = vm.snapshotState();
        vm.prank(payer);
        nodes.equivocation(c.id, epoch, "a", "map", a, "b", "map", b);
        // Another bitmap is another word, too.
        vm.revertToState(start);
        b = _sign(c.key, nodes.heartbeatDigest(epoch, "a", "other"));
        nodes.equivocation(c.id, epoch, "a", "map", a, "a", "other", b);
    }

    function _refusesTwo(uint32 id, uint32 epoch, bytes memory a, bytes memory b, bytes memory err) internal {
        vm.expectRevert(err);
        nodes.equivocation(id, epoch, "a", "map", a, "b", "map", b);
    }

    function test_equivocation_refuses() public {
        Party memory c = coordinators[1];
        uint32 epoch = _now();
        (bytes memory a, bytes memory b) = _two(c, epoch);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.SameHeartbeat.selector, epoch));
        nodes.equivocation(c.id, epoch, "a", "map", a, "a", "map", a);
        _refusesTwo(c.id, epoch, b, a, abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        _refusesTwo(c.id, epoch, a, a, abi.encodeWithSelector(AlephErrors.BadSignature.selector, 1));
        _refusesTwo(c.id, epoch, "", b, abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        _refusesTwo(coordinators[0].id, epoch, a, b, abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        _refusesTwo(99, epoch, a, b, abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, 99));
        _refusesTwo(
            workers[0].id,
            epoch,
            a,
            b,
            abi.encodeWithSelector(
                INodeRegistry.WrongKind.selector,
                workers[0].id,
                INodeRegistry.Kind.Compute,
                INodeRegistry.Kind.Coordinator
            )
        );
        _refusesTwo(c.id, epoch + 1, a, b, _window(epoch + 1));
        nodes.pause(Pausing.PENALTY, 1);
        _refusesTwo(c.id, epoch, a, b, abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.PENALTY));
        _toEpoch(epoch + 14 * 24 + 1);
        _refusesTwo(c.id, epoch, a, b, _window(epoch));
        vm.warp(block.timestamp - 1);
        nodes.equivocation(c.id, epoch, "a", "map", a, "b", "map", b);
    }

    function test_equivocation_followsTheKeys() public {
        Party memory c = coordinators[1];
        uint32 epoch = _now();
        (bytes memory a, bytes memory b) = _two(c, epoch);
        (bytes memory lateA, bytes memory lateB) = _two(c, epoch + 1);
        (address fresh, uint256 key) = makeAddrAndKey("fresh");
        bytes memory sig = _setSignerSig(key, c.id, c.owner);
        vm.prank(c.owner);
        nodes.setSigner(c.id, fresh, sig);
        _toEpoch(epoch + 2);
        // The old key counts for what it signed, and so do the old and the new one together.
        uint256 start = vm.snapshotState();
        nodes.equivocation(c.id, epoch, "a", "map", a, "b", "map", b);
        vm.revertToState(start);
        b = _sign(key, nodes.heartbeatDigest(epoch, "b", "map"));
        nodes.equivocation(c.id, epoch, "a", "map", a, "b", "map", b);
        // Whoever has the old key now harms nobody.
        _refusesTwo(c.id, epoch + 1, lateA, lateB, abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        // Leaving does not help either.
        vm.revertToState(start);
        vm.startPrank(c.owner);
        nodes.drain(c.id);
        nodes.exit(c.id);
        nodes.equivocation(c.id, epoch, "a", "map", a, "b", "map", b);
    }

    /* STATS */

    function testFuzz_verifyStat_provesEachLeaf(uint8 count, uint8 pick, uint256 wrong) public {
        uint32 n = uint32(bound(count, 1, 40));
        uint32 id = uint32(bound(pick, 1, n));
        bytes memory bitmap = hex"0e";
        (bytes32 root, bytes32[] memory proof) = _stats(n, id, bitmap);
        uint32 epoch = _now() - 1;
        _post(epoch, root, bitmap);
        assertTrue(nodes.verifyStat(epoch, _leaf(id), id, proof));
        assertFalse(nodes.verifyStat(epoch - 1, _leaf(id), id, proof), "another epoch");
        assertFalse(nodes.verifyStat(epoch, _leaf(id) ^ bytes32(uint256(1)), id, proof), "another leaf");
        assertFalse(nodes.verifyStat(epoch, _leaf(id), id + 1, proof), "another index");
        assertFalse(nodes.verifyStat(epoch, _leaf(id), id + (1 << (proof.length - 1)), proof), "index beyond the tree");
        proof[bound(wrong, 0, proof.length - 1)] ^= bytes32(uint256(1));
        assertFalse(nodes.verifyStat(epoch, _leaf(id), id, proof), "another sibling");
    }

    /// @dev An inner node is no leaf, nor is the stored value.
    function test_verifyStat_isSafeAgainstOtherDepths() public {
        bytes memory bitmap = hex"0e";
        (bytes32 root, bytes32[] memory proof) = _stats(7, 1, bitmap);
        uint32 epoch = _now() - 1;
        _post(epoch, root, bitmap);
        bytes32[] memory short = new bytes32[](proof.length - 1);
        for (uint256 i; i < short.length; ++i) {
            short[i] = proof[i + 1];
        }
        bytes32 inner = _inner(keccak256(bytes.concat(bytes32(0))), keccak256(bytes.concat(_leaf(1))));
        assertFalse(nodes.verifyStat(epoch, inner, 0, short));
        assertFalse(nodes.verifyStat(epoch, inner, uint256(inner) >> 224, short));
        assertFalse(nodes.verifyStat(epoch, root, uint256(root) >> 224, new bytes32[](0)));
        assertFalse(nodes.verifyStat(epoch, _leaf(1), 1, new bytes32[](0)));
        assertFalse(nodes.verifyStat(epoch, _leaf(1), 1, new bytes32[](22)));
        // There is no node 0, though the leaf is there.
        (root, proof) = _stats(7, 0, bitmap);
        assertFalse(nodes.verifyStat(epoch, 0, 0, proof));
    }

    function test_verifyStat_atTheGreatestDepth() public {
        uint32 id = (1 << 20) - 1;
        bytes32[] memory proof = new bytes32[](21);
        bytes32 h = keccak256(bytes.concat(_leaf(id)));
        for (uint256 i; i < 20; ++i) {
            proof[i] = bytes32(i);
            h = _inner(bytes32(i), h);
        }
        proof[20] = Bitmaps.hashOf(hex"00");
        uint32 epoch = _now() - 1;
        _post(epoch, h, hex"00");
        assertTrue(nodes.verifyStat(epoch, _leaf(id), id, proof));
    }

    /* LEAVES */

    struct Said {
        uint32 epoch;
        bytes32 root;
        bytes bitmap;
        bytes32[] proof;
    }

    function _said(uint32 id) internal returns (Said memory s) {
        s.bitmap = _aliveOnly(id);
        (s.root, s.proof) = _stats(10, id, s.bitmap);
        s.epoch = _now() - 1;
        _post(s.epoch, s.root, s.bitmap);
    }

    function _demand(Said memory s, uint32 id) internal {
        nodes.demandLeaf{value: FEE}(s.epoch, id, s.root, Bitmaps.pageOf(s.bitmap, id));
    }

    function test_demandLeaf_isAnswered() public {
        uint32 id = workers[0].id;
        Said memory s = _said(id);
        vm.deal(payer, FEE);
        vm.expectEmit(address(nodes));
        emit INodeRegistry.LeafDemanded(s.epoch, id, payer, uint40(block.timestamp) + 24 hours);
        vm.prank(payer);
        _demand(s, id);
        (address by, uint40 opened, INodeRegistry.DemandState state) = nodes.leafDemand(s.epoch, id);
        assertEq(by, payer);
        assertEq(opened, block.timestamp);
        assertEq(uint8(state), uint8(INodeRegistry.DemandState.Open));
        assertEq(address(nodes).balance, FEE);
        assertEq(nodes.leafFee(), FEE);
        vm.expectRevert(_badState(INodeRegistry.DemandState.Open, INodeRegistry.DemandState.None));
        _demand(s, id);
        vm.expectRevert(INodeRegistry.BadProof.selector);
        nodes.answerLeaf(s.epoch, id, _leaf(id) ^ bytes32(uint256(1)), s.proof);
        address helper = makeAddr("helper");
        vm.expectEmit(address(nodes));
        emit INodeRegistry.LeafAnswered(s.epoch, id, _leaf(id), helper);
        vm.prank(helper);
        nodes.answerLeaf(s.epoch, id, _leaf(id), s.proof);
        assertEq(helper.balance, FEE);
        assertEq(address(nodes).balance, 0);
        vm.expectRevert(_badState(INodeRegistry.DemandState.Answered, INodeRegistry.DemandState.Open));
        nodes.answerLeaf(s.epoch, id, _leaf(id), s.proof);
        vm.expectRevert(_badState(INodeRegistry.DemandState.Answered, INodeRegistry.DemandState.None));
        _demand(s, id);
        skip(2 days);
        _expire(s, id, coordinators[0], _badState(INodeRegistry.DemandState.Answered, INodeRegistry.DemandState.Open));
    }

    function test_demandLeaf_refuses() public {
        uint32 id = workers[0].id;
        Said memory s = _said(id);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongFee.selector, FEE - 1, FEE));
        nodes.demandLeaf{value: FEE - 1}(s.epoch, id, s.root, Bitmaps.pageOf(s.bitmap, id));
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotAlive.selector, s.epoch));
        _demand(s, workers[1].id);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NotAlive.selector, s.epoch));
        _demand(s, 999);
        bytes memory bitmap = s.bitmap;
        s.bitmap = hex"ffff";
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.WrongHeartbeat.selector, s.epoch));
        _demand(s, id);
        s.bitmap = bitmap;
        vm.expectRevert(_badState(INodeRegistry.DemandState.None, INodeRegistry.DemandState.Open));
        nodes.answerLeaf(s.epoch, id, _leaf(id), s.proof);
        _toEpoch(s.epoch + 49);
        vm.expectRevert(_window(s.epoch));
        _demand(s, id);
        vm.warp(block.timestamp - 1);
        _demand(s, id);
    }

    function test_answerLeaf_failsWhenTheEtherIsRefused() public {
        uint32 id = workers[0].id;
        Said memory s = _said(id);
        _demand(s, id);
        Refuser refuser = new Refuser();
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.PaymentFailed.selector, address(refuser)));
        refuser.answer(nodes, s.epoch, id, _leaf(id), s.proof);
    }

    function _expire(Said memory s, uint32 id, Party memory c) internal {
        _expire(s, id, c, "");
    }

    /// @dev Reverts with `err` unless that is empty.
    function _expire(Said memory s, uint32 id, Party memory c, bytes memory err) internal {
        bytes32 map = Bitmaps.hashOf(s.bitmap);
        bytes memory sig = _sign(c.key, nodes.heartbeatDigest(s.epoch, s.root, map));
        if (err.length != 0) vm.expectRevert(err);
        nodes.expireLeaf(s.epoch, id, c.id, s.root, map, sig);
    }

    function test_expireLeaf_holdsEachSigner() public {
        uint32 id = workers[0].id;
        Said memory s = _said(id);
        vm.deal(payer, FEE);
        vm.prank(payer);
        _demand(s, id);
        uint40 end = uint40(block.timestamp) + 24 hours;
        vm.warp(end - 1);
        _expire(s, id, coordinators[0], abi.encodeWithSelector(AlephErrors.TooSoon.selector, end));
        vm.warp(end);
        _expectRecord(ISLAManager.Kind.BadAttestation, coordinators[0].id, s.epoch, s.epoch, 1, address(this));
        vm.expectEmit(address(nodes));
        emit INodeRegistry.LeafWithheld(s.epoch, id, coordinators[0].id, address(this));
        _expire(s, id, coordinators[0]);
        assertEq(payer.balance, FEE, "the fee goes back");
        _expire(s, id, coordinators[1]);
        assertEq(payer.balance, FEE, "once");
        assertEq(address(nodes).balance, 0);
        vm.expectRevert(_badState(INodeRegistry.DemandState.Withheld, INodeRegistry.DemandState.Open));
        nodes.answerLeaf(s.epoch, id, _leaf(id), s.proof);
    }

    function test_expireLeaf_refuses() public {
        uint32 id = workers[0].id;
        Said memory s = _said(id);
        _expire(s, id, coordinators[0], _badState(INodeRegistry.DemandState.None, INodeRegistry.DemandState.Open));
        _demand(s, id);
        skip(1 days);
        bytes32 root = s.root;
        s.root = "other";
        _expire(s, id, coordinators[0], abi.encodeWithSelector(INodeRegistry.WrongHeartbeat.selector, s.epoch));
        s.root = root;
        Party memory thief = coordinators[0];
        thief.key = workers[0].key;
        _expire(s, id, thief, abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        nodes.pause(Pausing.PENALTY, 1);
        _expire(s, id, coordinators[0], abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.PENALTY));
    }

    function test_expireLeaf_waitsForTheSequencer() public {
        uint32 id = workers[0].id;
        Said memory s = _said(id);
        uint40 from = uint40(block.timestamp);
        _demand(s, id);
        skip(24 hours);
        vm.mockCall(
            slaAt, abi.encodeCall(ISLAManager.outage, (from, uint40(block.timestamp))), abi.encode(uint32(2 hours))
        );
        _expire(s, id, coordinators[0], abi.encodeWithSelector(AlephErrors.TooSoon.selector, from + 26 hours));
        skip(2 hours);
        vm.mockCall(
            slaAt, abi.encodeCall(ISLAManager.outage, (from, uint40(block.timestamp))), abi.encode(uint32(2 hours))
        );
        _expire(s, id, coordinators[0]);
    }

    function test_expireLeaf_cannotBePrevented() public {
        uint32 id = workers[0].id;
        Said memory s = _said(id);
        Refuser refuser = new Refuser();
        refuser.demand{value: FEE}(nodes, s.epoch, id, s.root, s.bitmap);
        skip(1 days);
        _expire(s, id, coordinators[0]);
        assertEq(address(nodes).balance, FEE, "what is refused stays");
    }
}
