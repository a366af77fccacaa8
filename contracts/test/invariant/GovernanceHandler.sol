// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakingManager} from "../../src/interfaces/IStakingManager.sol";
import {GovernanceSuite} from "../utils/GovernanceSuite.sol";
import {Suite} from "../utils/Suite.sol";
import {IGovernor} from "@openzeppelin/contracts/governance/IGovernor.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @title GovernanceHandler
/// @notice Stakers who propose, vote and move their stakes, guardians and bystanders, in any order, with books of their own.
contract GovernanceHandler is GovernanceSuite {
    struct Life {
        uint256 id;
        uint256 snapshot;
        uint256 queuedAt;
        uint256 executedAt;
        bool cancelled;
        uint32 value;
    }

    mapping(string property => uint256) public broken;
    Life[] public lives;
    Proposal[] internal proposals;
    address[] public voters;
    mapping(uint256 id => mapping(address who => uint256)) public firstSeen;
    mapping(uint256 id => mapping(address who => bool)) public wasSeen;
    uint32 public unbonding;
    uint256 public steps;

    /// @dev Not a test: the invariant test deploys this and calls {start}.
    function setUp() public override {}

    function start() external {
        vm.recordLogs();
        Suite.setUp();
        _govern();
        _noteGrants(vm.getRecordedLogs());
        unbonding = staking.unbonding();
        for (uint256 i; i < 3; ++i) {
            voters.push(coordinators[i].owner);
        }
        _stake(coordinators[1], 2_000_000 ether);
        _stake(coordinators[2], 1_000_000 ether);
        skip(1);
    }

    modifier step() {
        ++steps;
        _;
        _lookAtSnapshots();
    }

    function contracts() external view returns (address, address, address, address, address) {
        return (address(authority), address(timelock), address(governor), address(staking), address(guardian));
    }

    function counts() external view returns (uint256, uint256, uint256) {
        return (lives.length, voters.length, grantees.length);
    }

    function grant(uint256 i) external view returns (address who, bytes32 role, bool onTimelock, bool holds) {
        return (grantees[i], granted[i], ofTimelock[i], _holds(i));
    }

    /* PROPOSALS */

    function propose(uint256 who, uint256 value) external step {
        if (lives.length >= 16) return;
        uint32 time = uint32(bound(value, 7 days, 28 days));
        Proposal memory p = _proposal(
            address(staking), abi.encodeCall(IStakingManager.setUnbonding, (time)), vm.toString(lives.length)
        );
        vm.prank(voters[who % 3]);
        try governor.propose(p.targets, p.values, p.calldatas, p.description) returns (uint256 id) {
            p.id = id;
            proposals.push(p);
            lives.push(Life(id, governor.proposalSnapshot(id), 0, 0, false, time));
        } catch (bytes memory err) {
            _allow(err, IGovernor.GovernorInsufficientProposerVotes.selector);
        }
    }

    function vote(uint256 which, uint256 who, uint256 support) external step {
        if (lives.length == 0) return;
        Life storage life = lives[which % lives.length];
        address voter = voters[who % 3];
        vm.prank(voter);
        try governor.castVote(life.id, uint8(support % 3)) returns (uint256 weight) {
            _check("GV-4", weight == staking.getPastVotes(voter, life.snapshot));
            _check("GV-4", !wasSeen[life.id][voter] || weight == firstSeen[life.id][voter]);
        } catch (bytes memory err) {
            if (bytes4(err) != IGovernor.GovernorAlreadyCastVote.selector) {
                _allow(err, IGovernor.GovernorUnexpectedProposalState.selector);
            }
        }
    }

    function queue(uint256 which) external step {
        if (lives.length == 0) return;
        uint256 i = which % 2 == 0 ? lives.length - 1 : which % lives.length;
        (Life storage life, Proposal memory p) = (lives[i], proposals[i]);
        try governor.queue(p.targets, p.values, p.calldatas, keccak256(bytes(p.description))) {
            life.queuedAt = block.timestamp;
            (uint256 against, uint256 for_, uint256 abstain) = governor.proposalVotes(life.id);
            bool reached = for_ + abstain >= governor.quorum(life.snapshot) && for_ > against;
            _check("GV-3", reached && for_ + abstain >= 2_000_000 ether);
        } catch (bytes memory err) {
            _allow(err, IGovernor.GovernorUnexpectedProposalState.selector);
        }
    }

    function execute(uint256 which) external step {
        if (lives.length == 0) return;
        uint256 i = which % 2 == 0 ? lives.length - 1 : which % lives.length;
        (Life storage life, Proposal memory p) = (lives[i], proposals[i]);
        try governor.execute(p.targets, p.values, p.calldatas, keccak256(bytes(p.description))) {
            life.executedAt = block.timestamp;
            unbonding = life.value;
        } catch (bytes memory err) {
            if (bytes4(err) != TimelockController.TimelockUnexpectedOperationState.selector) {
                _allow(err, IGovernor.GovernorUnexpectedProposalState.selector);
            }
        }
    }

    function cancel(uint256 which, uint256 luck) external step {
        if (lives.length == 0 || luck % 4 != 0) return;
        Proposal memory p = proposals[which % lives.length];
        bytes memory data = abi.encodeWithSignature(
            "cancel(address[],uint256[],bytes[],bytes32)",
            p.targets,
            p.values,
            p.calldatas,
            keccak256(bytes(p.description))
        );
        try guardian.run(address(governor), data) {
            lives[which % lives.length].cancelled = true;
        } catch (bytes memory err) {
            _allow(err, IGovernor.GovernorUnexpectedProposalState.selector);
        }
    }

    /// @dev A step on the way that a proposal takes when everybody wants it.
    function further(uint256 which) external step {
        if (lives.length == 0) return;
        uint256 i = which % 2 == 0 ? lives.length - 1 : which % lives.length;
        IGovernor.ProposalState state = governor.state(lives[i].id);
        if (state == IGovernor.ProposalState.Pending) _reach(lives[i].snapshot + 1);
        if (state == IGovernor.ProposalState.Queued) _reach(lives[i].queuedAt + 2 days - which % 3 / 2);
        if (state != IGovernor.ProposalState.Active) return;
        for (uint256 j; j < 3; ++j) {
            vm.prank(voters[j]);
            try governor.castVote(lives[i].id, which % 5 == 4 ? 0 : 1) {} catch {}
        }
        _reach(governor.proposalDeadline(lives[i].id) + 1);
    }

    function _reach(uint256 time) private {
        if (time > block.timestamp) vm.warp(time);
    }

    /// @dev The guardians try what they may not.
    function usurp(uint256 which, uint32 value) external step {
        bytes memory data = abi.encodeCall(IStakingManager.setUnbonding, (value));
        bytes memory schedule =
            abi.encodeCall(timelock.schedule, (address(staking), 0, data, 0, bytes32(which), 2 days));
        bytes memory execute_ = abi.encodeCall(timelock.execute, (address(staking), 0, data, 0, bytes32(which)));
        _check("GV-5", !_succeeds(address(timelock), schedule));
        _check("GV-5", !_succeeds(address(timelock), execute_));
        _check("GV-5", !_succeeds(address(staking), data));
    }

    function _succeeds(address target, bytes memory data) private returns (bool) {
        try guardian.run(target, data) {
            return true;
        } catch {
            return false;
        }
    }

    /* STAKES */

    function stake(uint256 who, uint256 amount) external step {
        _stake(coordinators[who % 3], uint128(bound(amount, 1, 1_000_000 ether)));
    }

    function requestUnstake(uint256 who, uint256 amount) external step {
        Party memory p = coordinators[who % 3];
        (uint128 self,,) = staking.stakeOf(p.id);
        vm.prank(p.owner);
        try staking.requestUnstake(p.id, uint128(bound(amount, 1, self))) {}
        catch (bytes memory err) {
            _allow(err, IStakingManager.RequirementHeld.selector);
        }
    }

    function sync() external step {
        staking.syncVotes(address(0), _coordinatorIds());
    }

    /// @dev To the edges of the lives of proposals, and a second around them.
    function warp(uint256 time, uint256 which) external step {
        uint256 target = block.timestamp + bound(time, 1, 2 days);
        if (lives.length != 0 && time % 4 != 0) {
            Life memory life = lives[which % lives.length];
            if (time % 4 == 1) target = life.snapshot;
            if (time % 4 == 2) target = governor.proposalDeadline(life.id);
            if (time % 4 == 3 && life.queuedAt != 0) target = life.queuedAt + 2 days;
        }
        target = target + time % 3 - 1;
        vm.warp(target > block.timestamp ? target : block.timestamp + 1);
    }

    /* BOOKS */

    /// @dev What somebody's votes at a snapshot were when they could first be asked for.
    function _lookAtSnapshots() private {
        for (uint256 i; i < lives.length; ++i) {
            uint256 snapshot = lives[i].snapshot;
            if (snapshot >= block.timestamp) continue;
            for (uint256 j; j < 3; ++j) {
                if (wasSeen[lives[i].id][voters[j]]) continue;
                wasSeen[lives[i].id][voters[j]] = true;
                firstSeen[lives[i].id][voters[j]] = staking.getPastVotes(voters[j], snapshot);
            }
        }
    }

    function _check(string memory property, bool holds) private {
        if (!holds) ++broken[property];
    }

    function _allow(bytes memory err, bytes4 a) private pure {
        require(bytes4(err) == a, string.concat("unexpected revert: ", vm.toString(err)));
    }
}
