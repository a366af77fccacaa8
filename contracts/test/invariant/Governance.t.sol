// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephGovernor} from "../../src/AlephGovernor.sol";
import {StakingManager} from "../../src/StakingManager.sol";
import {GovernanceHandler} from "./GovernanceHandler.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Test} from "forge-std/Test.sol";

/// @title GovernanceInvariants
/// @notice What holds of proposals and roles whatever happens in whatever order.
contract GovernanceInvariantTest is Test {
    GovernanceHandler internal handler;
    TimelockController internal timelock;
    AlephGovernor internal governor;
    StakingManager internal staking;
    address internal guardian;

    function setUp() public {
        handler = new GovernanceHandler();
        handler.start();
        (, address t, address g, address s, address m) = handler.contracts();
        (timelock, governor) = (TimelockController(payable(t)), AlephGovernor(payable(g)));
        (staking, guardian) = (StakingManager(s), m);
        targetContract(address(handler));
        bytes4[] memory selectors = new bytes4[](16);
        selectors[0] = GovernanceHandler.propose.selector;
        selectors[1] = GovernanceHandler.vote.selector;
        selectors[2] = GovernanceHandler.queue.selector;
        selectors[3] = GovernanceHandler.execute.selector;
        selectors[4] = GovernanceHandler.cancel.selector;
        selectors[5] = GovernanceHandler.usurp.selector;
        selectors[6] = GovernanceHandler.stake.selector;
        selectors[7] = GovernanceHandler.requestUnstake.selector;
        selectors[8] = GovernanceHandler.sync.selector;
        selectors[9] = GovernanceHandler.warp.selector;
        // Votes and time pass more often than the rest.
        selectors[10] = GovernanceHandler.vote.selector;
        selectors[11] = GovernanceHandler.vote.selector;
        selectors[12] = GovernanceHandler.warp.selector;
        selectors[13] = GovernanceHandler.further.selector;
        selectors[14] = GovernanceHandler.further.selector;
        selectors[15] = GovernanceHandler.further.selector;
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function invariant_GV1_onlyTheTimelockIsAdmin() public view {
        (,, uint256 grants) = handler.counts();
        for (uint256 i; i < grants; ++i) {
            (address who, bytes32 role, bool onTimelock, bool holds) = handler.grant(i);
            if (role == 0) assertEq(holds, who == address(timelock), onTimelock ? "GV-1: timelock" : "GV-1: access");
            if (holds) assertGt(who.code.length, 0, "GV-1: an account without code");
        }
    }

    function invariant_GV2_executedWasQueuedLongEnough() public view {
        (uint256 n,,) = handler.counts();
        for (uint256 i; i < n; ++i) {
            (,, uint256 queuedAt, uint256 executedAt, bool cancelled,) = handler.lives(i);
            if (executedAt == 0) continue;
            assertTrue(queuedAt != 0 && executedAt >= queuedAt + timelock.getMinDelay(), "GV-2");
            assertFalse(cancelled, "GV-2: cancelled, and executed");
        }
        assertEq(staking.unbonding(), handler.unbonding(), "GV-2: changed by an executed proposal only");
    }

    function invariant_GV3_votesAreAtMostAllVotes() public view {
        (uint256 n,,) = handler.counts();
        for (uint256 i; i < n; ++i) {
            (uint256 id, uint256 snapshot,,,,) = handler.lives(i);
            if (snapshot >= block.timestamp) continue;
            (uint256 against, uint256 for_, uint256 abstain) = governor.proposalVotes(id);
            assertLe(against + for_ + abstain, staking.getPastTotalSupply(snapshot), "GV-3");
        }
        assertEq(handler.broken("GV-3"), 0, "GV-3: quorum");
    }

    function invariant_GV4_votesAreThoseOfTheSnapshot() public view {
        assertEq(handler.broken("GV-4"), 0);
        (uint256 n, uint256 voters,) = handler.counts();
        for (uint256 i; i < n; ++i) {
            (uint256 id, uint256 snapshot,,,,) = handler.lives(i);
            if (snapshot >= block.timestamp) continue;
            for (uint256 j; j < voters; ++j) {
                address who = handler.voters(j);
                assertEq(staking.getPastVotes(who, snapshot), handler.firstSeen(id, who), "GV-4");
            }
        }
    }

    function invariant_GV5_theGuardianOnlyCancels() public view {
        assertEq(handler.broken("GV-5"), 0);
        assertFalse(timelock.hasRole(timelock.PROPOSER_ROLE(), guardian));
        assertFalse(timelock.hasRole(timelock.EXECUTOR_ROLE(), guardian));
    }
}
