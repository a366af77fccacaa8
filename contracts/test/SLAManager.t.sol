// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Extensible} from "../src/Extensible.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {ISLAManager} from "../src/interfaces/ISLAManager.sol";
import {IStakingManager} from "../src/interfaces/IStakingManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {CaseSuite} from "./utils/CaseSuite.sol";

contract SLAManagerTest is CaseSuite {
    address internal reporter = makeAddr("reporter");
    address internal keeper = makeAddr("keeper");
    uint32 internal node;

    function setUp() public override {
        super.setUp();
        _listen();
        nodes.snapshotCoordinators();
        node = workers[0].id;
        _bondOf(reporter, 10);
    }

    function _expectState(ISLAManager.State have) private {
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.WrongState.selector, have));
    }

    function _assertState(bytes32 caseId, ISLAManager.State want) private view {
        assertEq(uint8(_stateOf(caseId)), uint8(want));
    }

    function _selfStake(uint32 id) private view returns (uint128 self) {
        (self,,) = staking.totalStake(id);
    }

    function _finalize(bytes32 caseId) private {
        vm.prank(keeper);
        sla.finalize(caseId);
    }

    /* RECORDED VIOLATIONS */

    function test_recordViolation_onlyPeers() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        sla.recordViolation(ISLAManager.Kind.Offline, node, "ref", 1, 1, reporter, address(0));
        address[4] memory peers = [address(nodes), address(jobs), _at("StorageRegistry"), _at("DomainRegistry")];
        for (uint32 i; i < 4; ++i) {
            vm.prank(peers[i]);
            sla.recordViolation(ISLAManager.Kind.StorageMiss, node, "ref", i, 0, reporter, address(0));
        }
    }

    function test_recordViolation_ofAJobHarmsItsPayer() public {
        _run("job", uint128(Q), workers[0]);
        vm.startPrank(address(jobs));
        bytes32 id = sla.recordViolation(ISLAManager.Kind.EarlyStop, node, "job", 1, 1, reporter, address(0));
        assertEq(sla.caseOf(id).tenant, payer);
        // Not of this node.
        id = sla.recordViolation(ISLAManager.Kind.EarlyStop, workers[1].id, "job", 1, 1, reporter, address(0));
        assertEq(sla.caseOf(id).tenant, address(0));
        vm.stopPrank();
    }

    /// @dev The event tells what the view does: the tenant's part and what it gets of the node's earnings.
    function test_accuse_ofAJobTellsTheTermsOfItsClass() public {
        uint32 class = _class(2 hours, 100);
        _optIn(workers[0], class);
        Opening memory o = _opening("job", uint128(1e12 * Q), workers[0]);
        o.offer.slaClass = class;
        _signOpening(o, payerKey, workers[0], 3);
        _send(o);
        _confirm("job", workers[0]);
        skip(1 hours);
        payments.pull(payer, ALEPH);
        _claim(node);
        // 1 % a point, two points, of an hour.
        uint128 most = uint128(uint256(1e12) * 1 hours * 2 / 100);
        bytes32 id = sla.caseIdOf(_SHORT, node, "job", 1);
        bytes memory sigs = _coordSigs(_accusationDigest(_SHORT, node, "job", 1, 1), 0, 2);
        uint40 deadline = uint40(block.timestamp) + 72 hours;
        vm.expectEmit(address(sla));
        emit ISLAManager.CaseFiled(id, node, _SHORT, 1, 50, deadline, reporter, payer, "job", 1, 4_000, ALEPH, most);
        vm.prank(reporter);
        sla.accuse(_SHORT, node, "job", 1, 1, "evidence", sigs);
        ISLAManager.CaseView memory c = sla.caseOf(id);
        assertEq(c.tenantBps, 4_000);
        assertEq(c.token, ALEPH);
        assertEq(c.credit, most);
        skip(72 hours + 1);
        vm.expectEmit(address(sla));
        emit ISLAManager.ServiceCredited(id, payer, ALEPH, most);
        _finalize(id);
    }

    function test_recordViolation_refusesBadInput() public {
        vm.startPrank(address(nodes));
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.WrongKind.selector, ISLAManager.Kind.None));
        sla.recordViolation(ISLAManager.Kind.None, node, "ref", 1, 1, reporter, address(0));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 4, 0, 3));
        sla.recordViolation(ISLAManager.Kind.Offline, node, "ref", 1, 4, reporter, address(0));
        bytes32 id = sla.recordViolation(ISLAManager.Kind.Offline, node, "ref", 1, 1, reporter, address(0));
        assertEq(id, sla.caseIdOf(ISLAManager.Kind.Offline, node, "ref", 1));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, id));
        sla.recordViolation(ISLAManager.Kind.Offline, node, "ref", 1, 1, reporter, address(0));
        vm.stopPrank();
    }

    function test_same_kind_next_occurrence() public {
        // Horizon missed #1: a case of before blocks no later fault of the same kind.
        bytes32 first = _record(ISLAManager.Kind.Offline, node, 1, 1, reporter);
        _finalize(first);
        bytes32 second = _record(ISLAManager.Kind.Offline, node, 2, 1, reporter);
        assertNotEq(first, second);
        _finalize(second);
        _assertState(second, ISLAManager.State.Executed);
        _expectState(ISLAManager.State.Executed);
        sla.finalize(first);
    }

    function test_small_isExecutedAtOnceAndSharedOut() public {
        uint128 stake = staking.slashable(node);
        vm.expectEmit(address(sla));
        emit ISLAManager.CaseFiled(
            sla.caseIdOf(ISLAManager.Kind.Offline, node, "ref", 7),
            node,
            ISLAManager.Kind.Offline,
            2,
            20,
            START,
            reporter,
            address(0),
            "ref",
            7,
            5_000,
            0,
            0
        );
        bytes32 id = _record(ISLAManager.Kind.Offline, node, 7, 2, reporter);
        uint128 slashed = stake * 20 / 10_000;
        uint128 paid = slashed * 2_500 / 10_000;
        uint256 supply = token.totalSupply();
        vm.expectEmit(address(sla));
        emit ISLAManager.PenaltyExecuted(id, node, slashed, paid * 9 / 10, 0, paid - paid * 9 / 10, slashed - paid, 20);
        _finalize(id);
        assertEq(sla.creditOf(reporter), paid * 9 / 10);
        assertEq(sla.creditOf(keeper), paid - paid * 9 / 10);
        assertEq(token.balanceOf(address(sla)), slashed, "SL-6");
        assertEq(sla.toBurn(), slashed - paid, "the rest waits to be burned");
        assertEq(token.totalSupply(), supply);
        assertEq(staking.slashable(node), stake - slashed);
        (uint16 points, uint16 executed, uint16 filed) = sla.points(node);
        assertEq(points, 3);
        assertEq(executed, 20);
        assertEq(filed, 20);
    }

    function test_offline_jailsFromSeverityTwo() public {
        _finalize(_record(ISLAManager.Kind.Offline, node, 1, 1, reporter));
        (,, INodeRegistry.Status status) = nodes.standing(node);
        assertNotEq(uint8(status), uint8(INodeRegistry.Status.Jailed));
        _finalize(_record(ISLAManager.Kind.Offline, node, 2, 2, reporter));
        (,, status) = nodes.standing(node);
        assertEq(uint8(status), uint8(INodeRegistry.Status.Jailed), "SL-7");
    }

    function test_smallOnesTogetherMakeOneThatCanBeVetoed() public {
        uint40 deadline;
        for (uint32 i; i < 5; ++i) {
            deadline = sla.caseOf(_record(ISLAManager.Kind.Offline, node, i, 2, reporter)).deadline;
            // 20, 40, 60, 80: below 1 %; the fifth makes 1 %.
            assertEq(deadline, i < 4 ? START : START + 48 hours);
        }
        // Four periods later they no longer count.
        skip(40 days);
        deadline = sla.caseOf(_record(ISLAManager.Kind.Offline, node, 9, 2, reporter)).deadline;
        assertEq(deadline, block.timestamp);
    }

    function test_large_waitsForTheVeto() public {
        bytes32 id = _record(ISLAManager.Kind.Equivocation, coordinators[0].id, 1, 3, reporter);
        assertEq(sla.caseOf(id).deadline, START + 48 hours);
        assertEq(staking.frozenUntil(coordinators[0].id), START + 7 days);
        skip(48 hours - 1);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.VetoWindow.selector, START + 48 hours));
        sla.finalize(id);
        skip(1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooLate.selector, START + 48 hours));
        sla.veto(id);
        uint128 stake = staking.slashable(coordinators[0].id);
        _finalize(id);
        assertEq(staking.slashable(coordinators[0].id), stake - stake / 10);
        (,, INodeRegistry.Status status) = nodes.standing(coordinators[0].id);
        assertEq(uint8(status), uint8(INodeRegistry.Status.Banned));
    }

    function test_veto_onceAndGovernanceMayBringItBack() public {
        bytes32 id = _record(ISLAManager.Kind.Equivocation, coordinators[0].id, 1, 3, reporter);
        vm.expectEmit(address(sla));
        emit ISLAManager.CaseVetoed(id);
        sla.veto(id);
        assertTrue(sla.caseOf(id).vetoed);
        _expectState(ISLAManager.State.Vetoed);
        sla.finalize(id);
        _expectState(ISLAManager.State.Vetoed);
        sla.veto(id);
        vm.expectEmit(address(sla));
        emit ISLAManager.CaseResolved(id, ISLAManager.State.Proven, START);
        sla.governanceResolve(id, true);
        _expectState(ISLAManager.State.Vetoed);
        sla.veto(id);
        _finalize(id);
        _assertState(id, ISLAManager.State.Executed);
        id = _record(ISLAManager.Kind.Equivocation, coordinators[1].id, 1, 3, reporter);
        sla.veto(id);
        sla.governanceResolve(id, false);
        _assertState(id, ISLAManager.State.Dismissed);
        _expectState(ISLAManager.State.Dismissed);
        sla.finalize(id);
        _expectState(ISLAManager.State.Dismissed);
        sla.governanceResolve(id, true);
    }

    function test_finalize_ownerEarnsNothing() public {
        bytes32 id = _record(ISLAManager.Kind.Offline, node, 1, 2, reporter);
        (address owner,,) = nodes.standing(node);
        vm.prank(owner);
        sla.finalize(id);
        assertEq(sla.creditOf(owner), 0);
        assertGt(sla.creditOf(reporter), 0);
    }

    function test_finalize_pausedAndUnknown() public {
        bytes32 id = _record(ISLAManager.Kind.Offline, node, 1, 1, reporter);
        sla.pause(Pausing.PENALTY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.PENALTY));
        sla.finalize(id);
        sla.unpause();
        _expectState(ISLAManager.State.None);
        sla.finalize("unknown");
        _finalize(id);
    }

    function test_cap_limitsThirtyDays() public {
        // 8 % a time: three fit under 30 %, the fourth in part, the fifth not.
        uint256 base = staking.slashable(node);
        bytes32 id;
        for (uint32 i; i < 4; ++i) {
            id = _record(ISLAManager.Kind.StorageChallengeLost, node, i, 3, reporter);
            skip(48 hours);
            vm.prank(keeper);
            sla.finalize(id);
        }
        (, uint16 executed,) = sla.points(node);
        assertEq(executed, 3_000, "SL-2");
        assertGe(staking.slashable(node), base * 7 / 10);
        id = _record(ISLAManager.Kind.StorageChallengeLost, node, 9, 3, reporter);
        skip(48 hours);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.CapReached.selector, node, 800));
        sla.finalize(id);
        skip(40 days);
        _finalize(id);
        _assertState(id, ISLAManager.State.Executed);
    }

    function testFuzz_cap_noThirtyDaysAboveThirtyPercent(uint256 seed) public {
        // SL-2, whatever the times between: the sums of any 30 days.
        uint256[24] memory times;
        uint256[24] memory done;
        for (uint32 i; i < 24; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            skip(seed % 3 == 0 ? seed % 1 hours : seed % 6 days);
            bytes32 id = _record(ISLAManager.Kind.StorageChallengeLost, node, i, uint16(seed % 4), reporter);
            skip(48 hours);
            (, uint16 before,) = sla.points(node);
            try sla.finalize(id) {
                (, uint16 executed,) = sla.points(node);
                (times[i], done[i]) = (block.timestamp, executed - before);
            } catch (bytes memory err) {
                assertEq(bytes4(err), ISLAManager.CapReached.selector);
            }
            uint256 sum;
            for (uint256 j; j <= i; ++j) {
                if (times[j] + 30 days > block.timestamp) sum += done[j];
            }
            assertLe(sum, 3_000, "SL-2");
        }
    }

    function test_reporterAndTenantOfTheNodeGetNothing() public {
        vm.prank(address(nodes));
        bytes32 id =
            sla.recordViolation(ISLAManager.Kind.Offline, node, "ref", 1, 1, workers[0].owner, workers[0].owner);
        uint128 slashed = staking.slashable(node) / 1_000;
        _finalize(id);
        assertEq(sla.creditOf(workers[0].owner), 0, "ST-10");
        assertEq(sla.creditOf(keeper), slashed * 250 / 10_000);
    }

    function test_tenantGetsItsPart() public {
        address tenant = makeAddr("tenant");
        vm.prank(address(nodes));
        bytes32 id = sla.recordViolation(ISLAManager.Kind.Offline, node, "ref", 1, 1, reporter, tenant);
        uint128 slashed = staking.slashable(node) / 1_000;
        _finalize(id);
        assertEq(sla.creditOf(tenant), slashed / 2);
        vm.expectEmit(address(sla));
        emit ISLAManager.CreditWithdrawn(tenant, slashed / 2);
        assertEq(sla.withdraw(tenant), slashed / 2);
        assertEq(token.balanceOf(tenant), slashed / 2);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.NoCredit.selector, tenant));
        sla.withdraw(tenant);
        sla.pause(Pausing.EXIT, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.EXIT));
        sla.withdraw(reporter);
    }

    function test_burn_takesWhatManyPenaltiesLeft() public {
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        sla.burn();
        uint256 stake = staking.slashable(node);
        for (uint32 i; i < 3; ++i) {
            _finalize(_record(ISLAManager.Kind.Offline, node, i, 1, reporter));
        }
        uint256 credits = sla.creditOf(reporter) + sla.creditOf(keeper);
        uint128 amount = sla.toBurn();
        assertEq(amount, stake - staking.slashable(node) - credits);
        uint256 supply = token.totalSupply();
        // Whatever is paused: it only makes the supply less.
        sla.pause(Pausing.ENTRY | Pausing.PENALTY | Pausing.EXIT, 1 days);
        vm.expectEmit(address(sla));
        emit ISLAManager.PenaltiesBurned(amount);
        vm.prank(keeper);
        assertEq(sla.burn(), amount);
        assertEq(supply - token.totalSupply(), amount);
        assertEq(sla.toBurn(), 0);
        assertEq(token.balanceOf(address(sla)), credits, "SL-6");
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        sla.burn();
    }

    /// @dev A bridge's standard token has no function to burn.
    function test_burn_buriesWhatCannotBeBurned() public {
        _finalize(_record(ISLAManager.Kind.Offline, node, 1, 1, reporter));
        uint128 amount = sla.toBurn();
        vm.mockCallRevert(address(token), abi.encodeWithSignature("burn(uint256)"), "");
        assertEq(sla.burn(), amount);
        assertEq(token.balanceOf(address(0xdEaD)), amount);
        assertEq(token.balanceOf(address(sla)), sla.creditOf(reporter) + sla.creditOf(keeper), "SL-6");
    }

    /// @dev Nobody gains by having a friend slashed, whoever its reporter, its tenant and the caller are.
    function testFuzz_penalty_atLeastAQuarterIsBurned(uint8 severity, uint96 stake, bool reported, bool harmed) public {
        _stake(workers[0], uint128(bound(stake, 1, 400_000_000 ether)));
        vm.prank(address(nodes));
        bytes32 id = sla.recordViolation(
            ISLAManager.Kind.CertMisuse,
            node,
            "ref",
            1,
            severity % 4,
            reported ? reporter : address(0),
            harmed ? makeAddr("tenant") : address(0)
        );
        skip(48 hours);
        uint256 before = staking.slashable(node);
        _finalize(id);
        uint256 slashed = before - staking.slashable(node);
        assertGt(slashed, 0);
        assertGe(uint256(sla.toBurn()) * 4, slashed);
        if (reported && harmed) assertLe(uint256(sla.toBurn()) * 4, slashed + 12, "and no more than need be");
    }

    /// @dev What had not dripped of a pool that starts anew is nobody's share: it is burned besides.
    function test_penalty_burnsTheDust() public {
        gateway.mint(token, keeper, 200 ether);
        vm.startPrank(keeper);
        token.approve(address(staking), 200 ether);
        staking.delegate(node, 100 ether, 0);
        staking.addRewards(node, 70 ether);
        vm.stopPrank();
        bytes32 id = _accuse(reporter, ISLAManager.Kind.AttestationForged, node, "job", 1);
        ISLAManager.Penalty memory p = sla.penaltyOf(ISLAManager.Kind.AttestationForged);
        p.ownerOnly = false;
        sla.setPenalty(ISLAManager.Kind.AttestationForged, p);
        skip(72 hours + 1);
        sla.finalize(id);
        skip(48 hours);
        uint128 slashed = staking.slashable(node);
        (uint128 rest,,,,,) = staking.rewards(node);
        assertGt(rest, 0);
        uint128 toReporter = slashed * 2_250 / 10_000;
        uint128 toCaller = slashed * 250 / 10_000;
        uint128 burned = slashed + rest - toReporter - toCaller;
        vm.expectEmit(address(sla));
        emit ISLAManager.PenaltyExecuted(id, node, slashed + rest, toReporter, 0, toCaller, burned, 10_000);
        _finalize(id);
        assertEq(sla.toBurn(), burned);
        assertEq(token.balanceOf(address(sla)), sla.creditOf(reporter) + sla.creditOf(keeper) + burned, "SL-6");
    }

    function test_aNodeWithoutStakeCostsNothing() public {
        vm.mockCall(address(staking), abi.encodeCall(staking.slashable, (node)), abi.encode(0));
        bytes32 id = _record(ISLAManager.Kind.Offline, node, 1, 1, reporter);
        vm.expectEmit(address(sla));
        emit ISLAManager.PenaltyExecuted(id, node, 0, 0, 0, 0, 0, 10);
        _finalize(id);
        assertEq(sla.toBurn(), 0);
    }

    /* ACCUSATIONS */

    ISLAManager.Kind private constant _SHORT = ISLAManager.Kind.ResourceShortfall;

    function test_accuse_refusesBadInput() public {
        vm.startPrank(reporter);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.WrongKind.selector, ISLAManager.Kind.Offline));
        sla.accuse(ISLAManager.Kind.Offline, node, "job", 1, 0, "evidence", "");
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        sla.accuse(_SHORT, node, "job", 1, 0, 0, "");
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, 999));
        sla.accuse(_SHORT, 999, "job", 1, 0, "evidence", "");
        bytes memory one = _coordSigs(_accusationDigest(_SHORT, node, "job", 1, 0), 0, 1);
        INodeRegistry.Quorum memory q = nodes.quorum(_accusationDigest(_SHORT, node, "job", 1, 0), one);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.QuorumLow.selector, q.weight, q.total / 3 + 1));
        sla.accuse(_SHORT, node, "job", 1, 0, "evidence", one);
        bytes memory two = _coordSigs(_accusationDigest(_SHORT, node, "job", 1, 9), 0, 2);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 9, 0, 3));
        sla.accuse(_SHORT, node, "job", 1, 9, "evidence", two);
        vm.stopPrank();
        sla.pause(Pausing.ENTRY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        sla.accuse(_SHORT, node, "job", 1, 0, "evidence", two);
    }

    function test_accuse_uncontestedIsProven() public {
        uint256 before = token.balanceOf(reporter);
        bytes32 id = _accuse(reporter, _SHORT, node, "job", 1);
        assertEq(before - token.balanceOf(reporter), sla.bondOf());
        ISLAManager.CaseView memory c = sla.caseOf(id);
        assertEq(uint8(c.state), uint8(ISLAManager.State.Open));
        assertEq(c.deadline, START + 72 hours);
        assertEq(c.bond, 100 ether);
        vm.warp(START + 72 hours);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, START + 72 hours + 1));
        sla.finalize(id);
        skip(1);
        _expectLate(START + 72 hours);
        vm.prank(workers[0].owner);
        sla.defend(id, "answer");
        // 20 of 10,000: executed at once.
        _finalize(id);
        _assertState(id, ISLAManager.State.Executed);
        assertGe(sla.creditOf(reporter), 100 ether, "the bond is back");
    }

    function _expectLate(uint256 time) private {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooLate.selector, time));
    }

    function test_defend_onlyTheNode() public {
        bytes32 id = _accuse(reporter, _SHORT, node, "job", 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        sla.defend(id, "answer");
        vm.startPrank(workers[0].signer);
        vm.expectRevert(AlephErrors.ZeroHash.selector);
        sla.defend(id, 0);
        vm.expectEmit(address(sla));
        emit ISLAManager.CaseDefended(id, "answer", START + 72 hours);
        sla.defend(id, "answer");
        _expectState(ISLAManager.State.Defended);
        sla.defend(id, "answer");
        vm.stopPrank();
    }

    function _defended() private returns (bytes32 id) {
        id = _accuse(reporter, _SHORT, node, "job", 1);
        vm.prank(workers[0].owner);
        sla.defend(id, "answer");
    }

    function test_defendedAndNotEscalatedIsDismissed() public {
        bytes32 id = _defended();
        vm.warp(START + 72 hours + 1);
        _expectLate(START + 72 hours);
        sla.escalate(id);
        sla.finalize(id);
        _assertState(id, ISLAManager.State.Dismissed);
        assertEq(sla.creditOf(reporter), 100 ether, "R16: disagreement costs nobody");
    }

    function test_noVerdictIsDismissed() public {
        bytes32 id = _defended();
        _expectState(ISLAManager.State.Defended);
        sla.committeeResolve(id, true, "");
        sla.escalate(id);
        vm.warp(START + 48 hours + 1);
        _expectLate(START + 48 hours);
        sla.committeeResolve(id, true, "");
        uint128 stake = staking.slashable(node);
        sla.finalize(id);
        _assertState(id, ISLAManager.State.Dismissed);
        assertEq(staking.slashable(node), stake, "SL-5");
    }

    function test_verdict_needsTwoThirds() public {
        bytes32 id = _defended();
        sla.escalate(id);
        bytes memory two = _coordSigs(_verdictDigest(id, true), 0, 2);
        INodeRegistry.Quorum memory q = nodes.quorum(_verdictDigest(id, true), two);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.QuorumLow.selector, q.weight, uint256(q.total) * 2 / 3 + 1));
        sla.committeeResolve(id, true, two);
        vm.expectEmit(address(sla));
        emit ISLAManager.CaseJudged(id, true, 7, START + 72 hours);
        _judge(id, true);
        skip(72 hours + 1);
        _finalize(id);
        _assertState(id, ISLAManager.State.Executed);
        assertGe(sla.creditOf(reporter), 100 ether);
    }

    function test_verdict_acquitsAndTheBondIsTheNodes() public {
        bytes32 id = _defended();
        sla.escalate(id);
        _judge(id, false);
        vm.warp(START + 72 hours);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, START + 72 hours + 1));
        sla.finalize(id);
        skip(1);
        sla.finalize(id);
        _assertState(id, ISLAManager.State.Dismissed);
        assertEq(sla.creditOf(workers[0].owner), 100 ether);
        assertEq(sla.creditOf(reporter), 0);
    }

    function test_verdict_withoutTheAccusedCoordinator() public {
        // Two of three agree: two thirds of all is not enough, all of the two others is.
        ISLAManager.Kind kind = ISLAManager.Kind.BadAttestation;
        bytes32 id = _accuse(reporter, kind, coordinators[2].id, "x", 1);
        vm.prank(coordinators[2].owner);
        sla.defend(id, "answer");
        sla.escalate(id);
        bytes32 digest = _verdictDigest(id, false);
        bytes memory sigs = abi.encodePacked(_coordSigs(digest, 1, 2));
        INodeRegistry.Quorum memory q = nodes.quorum(digest, sigs);
        // Its own voice does not count: one of two is left.
        vm.expectRevert(
            abi.encodeWithSelector(ISLAManager.QuorumLow.selector, q.weight / 2, uint256(q.weight) * 2 / 3 + 1)
        );
        sla.committeeResolve(id, false, sigs);
        sla.committeeResolve(id, true, _coordSigs(_verdictDigest(id, true), 0, 2));
        _assertState(id, ISLAManager.State.Judged);
    }

    function _judged(bool guilty) private returns (bytes32 id) {
        id = _defended();
        sla.escalate(id);
        _judge(id, guilty);
        _bondOf(workers[0].owner, 5);
    }

    function test_appeal_onlyTheLoserInTime() public {
        bytes32 id = _judged(true);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, reporter));
        vm.prank(reporter);
        sla.appeal(id);
        vm.warp(START + 72 hours + 1);
        _expectLate(START + 72 hours);
        vm.prank(workers[0].owner);
        sla.appeal(id);
        _expectState(ISLAManager.State.Judged);
        sla.governanceResolve(id, true);
    }

    function test_appeal_byTheNodeWon() public {
        bytes32 id = _judged(true);
        vm.expectEmit(address(sla));
        emit ISLAManager.CaseAppealed(id, true, 500 ether, START + 30 days);
        vm.prank(workers[0].owner);
        sla.appeal(id);
        assertTrue(sla.caseOf(id).appealByNode);
        assertEq(token.balanceOf(address(sla)), 600 ether);
        sla.governanceResolve(id, false);
        assertEq(sla.creditOf(workers[0].owner), 600 ether);
        assertEq(token.balanceOf(address(sla)), 600 ether, "SL-6");
    }

    function test_appeal_byTheNodeLost() public {
        bytes32 id = _judged(true);
        vm.prank(workers[0].owner);
        sla.appeal(id);
        sla.governanceResolve(id, true);
        assertEq(sla.creditOf(reporter), 600 ether);
        _finalize(id);
        _assertState(id, ISLAManager.State.Executed);
    }

    function test_appeal_byTheAccuserWonAndTimedOut() public {
        bytes32 id = _judged(false);
        vm.prank(reporter);
        sla.appeal(id);
        assertFalse(sla.caseOf(id).appealByNode);
        uint256 snapshot = vm.snapshotState();
        sla.governanceResolve(id, true);
        assertEq(sla.creditOf(reporter), 600 ether);
        vm.revertToState(snapshot);
        skip(30 days + 1);
        sla.finalize(id);
        _assertState(id, ISLAManager.State.Dismissed);
        assertEq(sla.creditOf(workers[0].owner), 600 ether, "the verdict stands");
    }

    function test_forgedAttestation_takesTheOwnersStakeAndBans() public {
        bytes32 id = _accuse(reporter, ISLAManager.Kind.AttestationForged, node, "job", 1);
        skip(72 hours + 1);
        sla.finalize(id);
        _assertState(id, ISLAManager.State.Proven);
        skip(48 hours);
        _finalize(id);
        assertEq(_selfStake(node), 0);
        (,, INodeRegistry.Status status) = nodes.standing(node);
        assertEq(uint8(status), uint8(INodeRegistry.Status.Banned));
        (, uint16 executed,) = sla.points(node);
        assertEq(executed, 0, "fatal penalties do not fill the cap");
    }

    /* SEQUENCER */

    function test_graceAfterAnOutage() public {
        bytes32 id = _record(ISLAManager.Kind.Offline, node, 1, 1, reporter);
        feed.push(1, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.SequencerGrace.selector, START + 1 hours));
        sla.finalize(id);
        skip(2 hours);
        feed.push(0, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.SequencerGrace.selector, START + 3 hours));
        sla.finalize(id);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.SequencerGrace.selector, START + 3 hours));
        vm.prank(address(nodes));
        sla.recordViolation(ISLAManager.Kind.Offline, node, "ref", 2, 1, reporter, address(0));
        // What is no lateness can be filed.
        _record(ISLAManager.Kind.Equivocation, node, 2, 1, reporter);
        skip(1 hours - 1);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.SequencerGrace.selector, START + 3 hours));
        sla.finalize(id);
        skip(1);
        _finalize(id);
    }

    function test_aFeedThatFailsSaysNothing() public {
        feed.setBroken(true);
        _finalize(_record(ISLAManager.Kind.Offline, node, 1, 1, reporter));
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.NoOutage.selector, 1));
        sla.recordOutage(1);
    }

    function test_report_after_outage() public {
        // Codex: a window that an outage ate up is as long as it was.
        bytes32 id = _accuse(reporter, _SHORT, node, "job", 1);
        skip(71 hours);
        uint80 round = _outage(5 hours);
        _expectLate(START + 72 hours);
        vm.prank(workers[0].owner);
        sla.defend(id, "answer");
        vm.expectEmit(address(sla));
        emit ISLAManager.OutageRecorded(round, START + 71 hours, START + 76 hours);
        sla.recordOutage(round);
        assertEq(sla.outage(START, uint40(block.timestamp)), 5 hours);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, START + 77 hours + 1));
        sla.finalize(id);
        vm.prank(workers[0].owner);
        sla.defend(id, "answer");
    }

    function test_recordOutage_refuses() public {
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.NoOutage.selector, 1));
        sla.recordOutage(1);
        uint80 round = feed.push(1, block.timestamp);
        feed.push(0, block.timestamp);
        // It took no time.
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.NoOutage.selector, round));
        sla.recordOutage(round);
        round = feed.push(1, block.timestamp);
        // Not over yet.
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.NoOutage.selector, round));
        sla.recordOutage(round);
        skip(60);
        feed.push(1, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.NoOutage.selector, round));
        sla.recordOutage(round);
        skip(60);
        feed.push(0, block.timestamp);
        sla.recordOutage(round + 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, bytes32(uint256(round + 1))));
        sla.recordOutage(round + 1);
        round = _outage(60);
        uint256 until = block.timestamp - 1 hours + 30 days;
        vm.warp(until + 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooLate.selector, until));
        sla.recordOutage(round);
    }

    function testFuzz_outage_isTheOverlap(uint40 from, uint40 to, uint8 count) public {
        from = uint40(bound(from, START - 1 days, START + 20 days));
        to = uint40(bound(to, START - 1 days, START + 20 days));
        uint256 n = bound(count, 1, 40);
        uint256 want;
        uint256[] memory starts = new uint256[](n);
        for (uint256 i; i < n; ++i) {
            starts[i] = block.timestamp;
            sla.recordOutage(_outage(2 hours));
            skip(3 hours);
        }
        // The ring keeps 32.
        for (uint256 i = n > 32 ? n - 32 : 0; i < n; ++i) {
            uint256 a = starts[i] > from ? starts[i] : from;
            uint256 b = starts[i] + 2 hours < to ? starts[i] + 2 hours : to;
            if (b > a) want += b - a;
        }
        assertEq(sla.outage(from, to), want > 48 hours ? 48 hours : want);
    }

    function test_withoutAFeedThereAreNoOutages() public {
        vm.store(
            address(sla),
            0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc,
            bytes32(uint256(uint160(_implementation("SLAManager"))))
        );
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.NoOutage.selector, 1));
        sla.recordOutage(1);
        _finalize(_record(ISLAManager.Kind.Offline, node, 1, 1, reporter));
        assertEq(sla.outage(0, type(uint40).max), 0);
    }

    /* CLASSES AND PARAMETERS */

    function test_classes_neverChange() public {
        assertEq(sla.noticeOf(0), 0);
        assertEq(sla.startTimeoutOf(0), 15 minutes);
        assertTrue(sla.optedIn(node, 0));
        uint32 class = _class(2 hours, 100);
        assertEq(class, 1);
        assertEq(sla.lastClass(), 1);
        assertEq(sla.noticeOf(1), 2 hours);
        assertEq(sla.startTimeoutOf(1), 5 minutes);
        assertEq(sla.classOf(1).slashBps[3], 150);
        assertEq(_class(1 hours, 0), 2);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.UnknownClass.selector, 3));
        sla.noticeOf(3);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.UnknownClass.selector, 0));
        sla.classOf(0);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.UnknownClass.selector, 3));
        sla.startTimeoutOf(3);
    }

    function test_optIn_byTheOwner() public {
        uint32 class = _class(2 hours, 100);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        sla.nodeOptIn(node, class);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.UnknownClass.selector, 9));
        sla.nodeOptIn(node, 9);
        vm.expectEmit(address(sla));
        emit ISLAManager.NodeOptedIn(node, class, true);
        _optIn(workers[0], class);
        assertTrue(sla.optedIn(node, class));
        vm.prank(workers[0].owner);
        sla.nodeOptOut(node, class);
        assertFalse(sla.optedIn(node, class));
    }

    function test_defineClass_bounds() public {
        ISLAManager.SlaClass memory c =
            ISLAManager.SlaClass(10_001, 59, 30 days + 1, 30 days + 1, 2_501, [uint16(3_001), 0, 0, 0], 5_001);
        _bounds(c, 10_001, 0, 10_000);
        c.uptimeBps = 10_000;
        _bounds(c, 59, 60, 1 days);
        c.startTimeout = 60;
        _bounds(c, 30 days + 1, 0, 30 days);
        c.notice = 0;
        _bounds(c, 30 days + 1, 0, 30 days);
        c.maxGap = 0;
        _bounds(c, 2_501, 0, 2_500);
        c.creditBpsPerPoint = 2_500;
        _bounds(c, 5_001, 0, 5_000);
        c.tenantBps = 5_000;
        _bounds(c, 3_001, 0, 3_000);
        c.slashBps[0] = 3_000;
        sla.defineClass(c);
    }

    function _bounds(ISLAManager.SlaClass memory c, uint256 value, uint256 low, uint256 high) private {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, value, low, high));
        sla.defineClass(c);
    }

    function test_setPenalty_bounds() public {
        ISLAManager.Penalty memory p = ISLAManager.Penalty([uint16(1), 2, 3, 3_001], 0, 0, false, false, false);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.WrongKind.selector, ISLAManager.Kind.None));
        sla.setPenalty(ISLAManager.Kind.None, p);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 3_001, 0, 3_000));
        sla.setPenalty(ISLAManager.Kind.Offline, p);
        p.slashBps[3] = 4;
        p.jail = 365 days + 1;
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 365 days + 1, 0, 365 days));
        sla.setPenalty(ISLAManager.Kind.Offline, p);
        (p.jail, p.jailSeverity) = (1 days, 4);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 4, 0, 3));
        sla.setPenalty(ISLAManager.Kind.Offline, p);
        (p.jailSeverity, p.ban) = (0, true);
        vm.expectRevert(abi.encodeWithSelector(ISLAManager.WrongKind.selector, ISLAManager.Kind.Offline));
        sla.setPenalty(ISLAManager.Kind.Offline, p);
        p.fatal = true;
        p.slashBps[3] = 10_001;
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 10_001, 0, 10_000));
        sla.setPenalty(ISLAManager.Kind.CertMisuse, p);
        p.slashBps[3] = 10_000;
        sla.setPenalty(ISLAManager.Kind.CertMisuse, p);
        assertEq(sla.penaltyOf(ISLAManager.Kind.CertMisuse).slashBps[3], 10_000);
        assertTrue(sla.penaltyOf(ISLAManager.Kind.CertMisuse).ban);
    }

    function test_setBond_bounds() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 1, 1 ether, 10_000 ether));
        sla.setBond(1);
        vm.expectEmit(address(sla));
        emit ISLAManager.BondSet(7 ether);
        sla.setBond(7 ether);
        assertEq(sla.bondOf(), 7 ether);
    }

    function test_bondsOfDisputes_onlyTheJobManager() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        sla.postBond("id", reporter);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        sla.settleBond("id", reporter);
        vm.startPrank(address(jobs));
        sla.postBond("id", reporter);
        assertEq(sla.bond("id"), 100 ether);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Duplicate.selector, bytes32("id")));
        sla.postBond("id", reporter);
        sla.settleBond("id", keeper);
        sla.settleBond("id", keeper);
        vm.stopPrank();
        assertEq(sla.creditOf(keeper), 100 ether);
    }

    function test_extension_isOfTheImplementation() public view {
        assertGt(Extensible(address(sla)).extension().code.length, 0);
    }

    function testFuzz_records_areSumsOfFourPeriods(uint8[8] memory gaps, uint8[8] memory severities) public {
        uint256[8] memory periods;
        uint256[8] memory values;
        for (uint32 i; i < 8; ++i) {
            skip(uint256(gaps[i]) * 4 hours);
            uint16 severity = severities[i] % 2;
            _finalize(_record(ISLAManager.Kind.StorageMiss, node, i, severity, reporter));
            (periods[i], values[i]) = (block.timestamp / 10 days, severity + 1);
            uint256 want;
            for (uint256 j; j <= i; ++j) {
                if (periods[j] + 4 > block.timestamp / 10 days) want += values[j];
            }
            (uint16 points,,) = sla.points(node);
            assertEq(points, want);
        }
    }
}
