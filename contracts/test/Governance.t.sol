// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephGovernor} from "../src/AlephGovernor.sol";
import {IAlephGovernor} from "../src/interfaces/IAlephGovernor.sol";
import {IBase} from "../src/interfaces/IBase.sol";
import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {IStakingManager} from "../src/interfaces/IStakingManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {GovernanceSuite, Multisig} from "./utils/GovernanceSuite.sol";
import {
    TimelockControllerUpgradeable
} from "@openzeppelin/contracts-upgradeable/governance/TimelockControllerUpgradeable.sol";
import {IGovernor} from "@openzeppelin/contracts/governance/IGovernor.sol";
import {IVotes} from "@openzeppelin/contracts/governance/utils/IVotes.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts/proxy/utils/UUPSUpgradeable.sol";

/// @title Governance
/// @notice Proposals from their making to their execution, and that nobody but the governance decides.
contract GovernanceTest is GovernanceSuite {
    function setUp() public override {
        vm.recordLogs();
        super.setUp();
        _govern();
        _noteGrants(vm.getRecordedLogs());
    }

    function _state(uint256 id) private view returns (uint8) {
        return uint8(governor.state(id));
    }

    function _setUnbonding(uint32 time) private pure returns (bytes memory) {
        return abi.encodeCall(IStakingManager.setUnbonding, (time));
    }

    /* ROLES */

    function test_roles_areHeldByContractsOnly() public view {
        uint256 held;
        for (uint256 i; i < grantees.length; ++i) {
            if (!_holds(i)) continue;
            ++held;
            assertGt(grantees[i].code.length, 0, "an account without code holds a role");
            assertNotEq(grantees[i], address(this), "the deployer holds a role");
        }
        // On the AccessManager ADMIN, UPGRADER, PARAM, LISTER and GUARDIAN; on the timelock its own administration and
        // the governor's three.
        assertEq(held, 9);
    }

    /// @dev GV-1.
    function test_roles_onlyTheTimelockIsAdmin() public view {
        for (uint256 i; i < grantees.length; ++i) {
            if (ofTimelock[i] || granted[i] != 0) continue;
            (bool holds,) = authority.hasRole(0, grantees[i]);
            assertEq(holds, grantees[i] == address(timelock));
        }
        assertTrue(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), address(timelock)));
        assertFalse(timelock.hasRole(timelock.DEFAULT_ADMIN_ROLE(), address(this)));
    }

    /// @dev GV-5.
    function test_guardian_cannotQueueOrExecute() public view {
        assertFalse(timelock.hasRole(timelock.PROPOSER_ROLE(), address(guardian)));
        assertFalse(timelock.hasRole(timelock.EXECUTOR_ROLE(), address(guardian)));
        assertFalse(timelock.hasRole(timelock.EXECUTOR_ROLE(), address(0)));
    }

    function test_deployer_canDoNothing() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        staking.setUnbonding(8 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        staking.announceUpgrade(address(governor));
        vm.expectRevert(abi.encodeWithSelector(IGovernor.GovernorOnlyExecutor.selector, address(this)));
        governor.setVotingDelay(1 days);
    }

    function test_guardian_pausesAndCancelsUpgrades() public {
        guardian.run(address(staking), abi.encodeCall(IBase.pause, (Pausing.ENTRY, 1 days)));
        (uint8 bits,,) = staking.pauseState();
        assertEq(bits, Pausing.ENTRY);
        guardian.run(address(staking), abi.encodeCall(IBase.cancelUpgrade, ()));
    }

    /* PARAMETERS AT THE START */

    function test_governor_startsAsDesigned() public view {
        assertEq(governor.name(), "AlephGovernor");
        assertEq(governor.VERSION(), "1.0.0");
        assertEq(governor.votingDelay(), 2 days);
        assertEq(governor.votingPeriod(), 5 days);
        assertEq(governor.proposalThreshold(), 100_000 ether);
        assertEq(governor.quorumNumerator(), 4);
        assertEq(governor.lateQuorumVoteExtension(), 1 days);
        assertEq(governor.timelock(), address(timelock));
        assertEq(address(governor.token()), address(staking));
        assertEq(governor.proposalGuardian(), address(guardian));
        assertEq(governor.CLOCK_MODE(), "mode=timestamp");
        assertEq(governor.clock(), block.timestamp);
        assertTrue(governor.proposalNeedsQueuing(0));
    }

    function test_quorum_hasAFloor() public {
        // 4 % of 5.5 million votes are 220,000.
        assertEq(governor.quorum(block.timestamp - 1), 2_000_000 ether);
        _stake(coordinators[0], 94_500_000 ether);
        skip(1);
        assertEq(governor.quorum(block.timestamp - 1), 4_000_000 ether);
    }

    function test_initialize_onceAndWithContracts() public {
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        governor.initialize(staking, TimelockControllerUpgradeable(payable(address(timelock))), address(0));
        bytes memory proxy = _code("ERC1967Proxy");
        address implementation = _create(_code("AlephGovernor"));
        vm.expectRevert(Initializable.InvalidInitialization.selector);
        AlephGovernor(payable(implementation))
            .initialize(staking, TimelockControllerUpgradeable(payable(address(timelock))), address(0));
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        this.make(proxy, implementation, IVotes(address(0)), address(timelock));
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        this.make(proxy, implementation, staking, address(0));
    }

    function make(bytes memory proxy, address implementation, IVotes votes, address timelock_) external {
        bytes memory init = abi.encodeCall(
            AlephGovernor.initialize, (votes, TimelockControllerUpgradeable(payable(timelock_)), address(0))
        );
        bytes memory code = abi.encodePacked(proxy, abi.encode(implementation, init));
        assembly ("memory-safe") {
            if iszero(create(0, add(code, 0x20), mload(code))) {
                returndatacopy(0, 0, returndatasize())
                revert(0, returndatasize())
            }
        }
    }

    /* PROPOSALS */

    function test_proposal_changesAParameter() public {
        Proposal memory p = _propose(address(staking), _setUnbonding(10 days), "wait ten days");
        assertEq(_state(p.id), uint8(IGovernor.ProposalState.Pending));
        skip(2 days + 1);
        assertEq(_state(p.id), uint8(IGovernor.ProposalState.Active));
        vm.prank(big);
        assertEq(governor.castVote(p.id, 1), 4_500_000 ether);
        vm.prank(small);
        assertEq(governor.castVote(p.id, 0), 500_000 ether);
        skip(5 days);
        assertEq(_state(p.id), uint8(IGovernor.ProposalState.Succeeded));
        vm.expectRevert();
        _execute(p);
        _queue(p);
        assertEq(_state(p.id), uint8(IGovernor.ProposalState.Queued));
        skip(2 days - 1);
        vm.expectRevert();
        this.execute(p);
        skip(1);
        _execute(p);
        assertEq(_state(p.id), uint8(IGovernor.ProposalState.Executed));
        assertEq(staking.unbonding(), 10 days);
    }

    function execute(Proposal memory p) external {
        _execute(p);
    }

    function test_proposal_upgradesAContract() public {
        address implementation = _implementation("StakingManager");
        _decide(address(staking), abi.encodeCall(IBase.announceUpgrade, (implementation)), "announce");
        bytes memory upgrade = abi.encodeCall(UUPSUpgradeable.upgradeToAndCall, (implementation, ""));
        // Voting and waiting take longer than the announcement.
        _decide(address(staking), upgrade, "upgrade");
        bytes32 slot = 0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc;
        assertEq(vm.load(address(staking), slot), bytes32(uint256(uint160(implementation))));
        (uint128 self,,) = staking.totalStake(coordinators[0].id);
        assertEq(self, 4_500_000 ether);
    }

    function test_proposal_isVetoed() public {
        Proposal memory p = _propose(address(staking), _setUnbonding(7 days), "wait less");
        _pass(p);
        vm.expectRevert(abi.encodeWithSelector(IGovernor.GovernorUnableToCancel.selector, p.id, address(this)));
        governor.cancel(p.targets, p.values, p.calldatas, keccak256(bytes(p.description)));
        bytes memory cancel = abi.encodeWithSignature(
            "cancel(address[],uint256[],bytes[],bytes32)",
            p.targets,
            p.values,
            p.calldatas,
            keccak256(bytes(p.description))
        );
        guardian.run(address(governor), cancel);
        assertEq(_state(p.id), uint8(IGovernor.ProposalState.Canceled));
        vm.expectRevert();
        this.execute(p);
        assertEq(staking.unbonding(), 14 days);
    }

    /// @dev The guardian's time runs out, and a vote gives it two years more.
    function test_guardian_expires() public {
        uint40 until = governor.guardianUntil();
        assertEq(until, block.timestamp - 1 + 730 days);
        bytes memory renew = abi.encodeCall(governor.setProposalGuardian, (address(guardian)));
        _decide(address(governor), renew, "renew");
        uint40 later = governor.guardianUntil();
        assertEq(later, block.timestamp + 730 days);
        vm.warp(later - 1);
        assertEq(governor.proposalGuardian(), address(guardian));
        skip(1);
        assertEq(governor.proposalGuardian(), address(0));
        Proposal memory p = _propose(address(staking), _setUnbonding(7 days), "wait less");
        _pass(p);
        bytes memory cancel = abi.encodeWithSignature(
            "cancel(address[],uint256[],bytes[],bytes32)",
            p.targets,
            p.values,
            p.calldatas,
            keccak256(bytes(p.description))
        );
        vm.expectRevert(abi.encodeWithSelector(IGovernor.GovernorUnableToCancel.selector, p.id, address(guardian)));
        guardian.run(address(governor), cancel);
        _execute(p);
    }

    function test_proposal_isDefeated() public {
        Proposal memory p = _propose(address(staking), _setUnbonding(7 days), "wait less");
        skip(2 days + 1);
        vm.prank(small);
        governor.castVote(p.id, 1);
        skip(5 days);
        // More for than against, but below the quorum.
        assertEq(_state(p.id), uint8(IGovernor.ProposalState.Defeated));
        vm.expectRevert();
        _queue(p);
    }

    function test_proposal_isExtendedByALateQuorum() public {
        Proposal memory p = _propose(address(staking), _setUnbonding(7 days), "wait less");
        skip(2 days + 1);
        uint256 deadline = governor.proposalDeadline(p.id);
        vm.warp(deadline - 1 hours);
        vm.prank(big);
        governor.castVote(p.id, 1);
        assertEq(governor.proposalDeadline(p.id), deadline - 1 hours + 1 days);
        vm.warp(deadline + 1);
        assertEq(_state(p.id), uint8(IGovernor.ProposalState.Active));
        vm.prank(small);
        governor.castVote(p.id, 0);
    }

    function test_proposal_needsVotes() public {
        Proposal memory p = _proposal(address(staking), _setUnbonding(7 days), "wait less");
        vm.expectRevert(
            abi.encodeWithSelector(
                IGovernor.GovernorInsufficientProposerVotes.selector, address(this), 0, 100_000 ether
            )
        );
        governor.propose(p.targets, p.values, p.calldatas, p.description);
    }

    /// @dev GV-4: who leaves after the snapshot keeps the votes of the snapshot, and who comes after it has none.
    function test_votes_areThoseOfTheSnapshot() public {
        Proposal memory p = _propose(address(staking), _setUnbonding(7 days), "wait less");
        skip(2 days + 1);
        vm.prank(big);
        staking.requestUnstake(coordinators[0].id, 4_000_000 ether);
        assertEq(staking.getVotes(big), 500_000 ether);
        _stake(coordinators[1], 9_000_000 ether);
        skip(1);
        vm.prank(big);
        assertEq(governor.castVote(p.id, 1), 4_500_000 ether);
        vm.prank(small);
        assertEq(governor.castVote(p.id, 0), 500_000 ether);
    }

    /* BOUNDS */

    function _refuses(bytes memory data, uint256 value, uint256 low, uint256 high) private {
        Proposal memory p = _propose(address(governor), data, "beyond the bounds");
        uint256 state = vm.snapshotState();
        _pass(p);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, value, low, high));
        this.execute(p);
        vm.revertToState(state);
    }

    function test_bounds_areCompiledIn() public {
        uint256 state = vm.snapshotState();
        _refuses(abi.encodeCall(governor.setVotingDelay, (1 hours - 1)), 1 hours - 1, 1 hours, 7 days);
        _refuses(abi.encodeCall(governor.setVotingDelay, (7 days + 1)), 7 days + 1, 1 hours, 7 days);
        _refuses(abi.encodeCall(governor.setVotingPeriod, (2 days - 1)), 2 days - 1, 2 days, 14 days);
        _refuses(abi.encodeCall(governor.setVotingPeriod, (14 days + 1)), 14 days + 1, 2 days, 14 days);
        _refuses(
            abi.encodeCall(governor.setProposalThreshold, (1_000 ether - 1)),
            1_000 ether - 1,
            1_000 ether,
            5_000_000 ether
        );
        _refuses(
            abi.encodeCall(governor.setProposalThreshold, (5_000_000 ether + 1)),
            5_000_000 ether + 1,
            1_000 ether,
            5_000_000 ether
        );
        _refuses(abi.encodeCall(governor.updateQuorumNumerator, (0)), 0, 1, 33);
        _refuses(abi.encodeCall(governor.updateQuorumNumerator, (34)), 34, 1, 33);
        _refuses(abi.encodeCall(governor.setLateQuorumVoteExtension, (3 days + 1)), 3 days + 1, 0, 3 days);
        vm.revertToState(state);
        _decide(address(governor), abi.encodeCall(governor.setVotingDelay, (1 hours)), "delay");
        _decide(address(governor), abi.encodeCall(governor.setVotingPeriod, (2 days)), "period");
        _decide(address(governor), abi.encodeCall(governor.setProposalThreshold, (1_000 ether)), "threshold");
        _decide(address(governor), abi.encodeCall(governor.updateQuorumNumerator, (33)), "quorum");
        _decide(address(governor), abi.encodeCall(governor.setLateQuorumVoteExtension, (0)), "extension");
        assertEq(governor.votingDelay(), 1 hours);
        assertEq(governor.votingPeriod(), 2 days);
        assertEq(governor.proposalThreshold(), 1_000 ether);
        assertEq(governor.quorumNumerator(), 33);
        assertEq(governor.lateQuorumVoteExtension(), 0);
    }

    /* UPGRADES OF THE GOVERNOR */

    function _upgrade(address implementation) private pure returns (bytes memory) {
        return abi.encodeCall(UUPSUpgradeable.upgradeToAndCall, (implementation, ""));
    }

    function test_upgrade_needsAProposalAndTheAnnouncement() public {
        address implementation = _create(_code("AlephGovernor"));
        vm.expectRevert(abi.encodeWithSelector(IGovernor.GovernorOnlyExecutor.selector, address(this)));
        governor.upgradeToAndCall(implementation, "");
        vm.expectRevert(abi.encodeWithSelector(IGovernor.GovernorOnlyExecutor.selector, address(this)));
        governor.announceUpgrade(implementation);

        Proposal memory p = _propose(address(governor), _upgrade(implementation), "unannounced");
        _pass(p);
        vm.expectRevert(
            abi.encodeWithSelector(IAlephGovernor.UpgradeNotAnnounced.selector, implementation, implementation.codehash)
        );
        this.execute(p);

        p = _propose(address(governor), abi.encodeCall(governor.announceUpgrade, (small)), "no code");
        _pass(p);
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        this.execute(p);
    }

    function test_upgrade_afterTheAnnouncement() public {
        address implementation = _create(_code("AlephGovernor"));
        // Both proposals run at once, so that the announcement is what takes longest.
        Proposal memory first =
            _propose(address(governor), abi.encodeCall(governor.announceUpgrade, (implementation)), "announce");
        Proposal memory second = _propose(address(governor), _upgrade(implementation), "upgrade");
        skip(2 days + 1);
        vm.startPrank(big);
        governor.castVote(first.id, 1);
        governor.castVote(second.id, 1);
        vm.stopPrank();
        skip(5 days);
        _queue(first);
        _queue(second);
        skip(2 days);
        uint40 eta = uint40(block.timestamp) + 7 days;
        vm.expectEmit(address(governor));
        emit IAlephGovernor.UpgradeAnnounced(implementation, implementation.codehash, eta);
        _execute(first);
        (address announced, bytes32 codehash, uint40 when) = governor.announcedUpgrade();
        assertEq(announced, implementation);
        assertEq(codehash, implementation.codehash);
        assertEq(when, eta);
        vm.warp(eta - 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.TooSoon.selector, eta));
        this.execute(second);
        skip(1);
        _execute(second);
        (announced,,) = governor.announcedUpgrade();
        assertEq(announced, address(0));
        assertEq(governor.votingPeriod(), 5 days);
    }

    function test_upgrade_isCalledOffByTheGuardian() public {
        address implementation = _create(_code("AlephGovernor"));
        _decide(address(governor), abi.encodeCall(governor.announceUpgrade, (implementation)), "announce");
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        governor.cancelUpgrade();
        vm.expectEmit(address(governor));
        emit IAlephGovernor.UpgradeCancelled(implementation);
        guardian.run(address(governor), abi.encodeCall(governor.cancelUpgrade, ()));
        Proposal memory p = _propose(address(governor), _upgrade(implementation), "upgrade");
        _pass(p);
        vm.expectRevert(
            abi.encodeWithSelector(IAlephGovernor.UpgradeNotAnnounced.selector, implementation, implementation.codehash)
        );
        this.execute(p);
    }
}
