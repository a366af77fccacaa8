// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {WorldHandler} from "./WorldHandler.sol";
import {Test} from "forge-std/Test.sol";

/// @title World
/// @notice What holds of all contracts together, whatever happens in whatever order.
/// forge-config: default.invariant.shrink-run-limit = 60
contract WorldInvariantTest is Test {
    WorldHandler internal handler;

    function setUp() public {
        handler = new WorldHandler();
        handler.start();
        targetContract(address(handler));
        bytes4[40] memory list = [
            WorldHandler.open.selector,
            WorldHandler.open.selector,
            WorldHandler.open.selector,
            WorldHandler.assign.selector,
            WorldHandler.confirm.selector,
            WorldHandler.confirm.selector,
            WorldHandler.stop.selector,
            WorldHandler.nodeStop.selector,
            WorldHandler.finish.selector,
            WorldHandler.failStart.selector,
            WorldHandler.tidy.selector,
            WorldHandler.resize.selector,
            WorldHandler.approve.selector,
            WorldHandler.pull.selector,
            WorldHandler.claim.selector,
            WorldHandler.withdraw.selector,
            WorldHandler.refund.selector,
            WorldHandler.purse.selector,
            WorldHandler.sponsor.selector,
            WorldHandler.revokeAll.selector,
            WorldHandler.payDebt.selector,
            WorldHandler.evilMode.selector,
            WorldHandler.delegate.selector,
            WorldHandler.undelegate.selector,
            WorldHandler.withdrawStake.selector,
            WorldHandler.stake.selector,
            WorldHandler.rewards.selector,
            WorldHandler.epochs.selector,
            WorldHandler.reportMissed.selector,
            WorldHandler.comeBack.selector,
            WorldHandler.equivocate.selector,
            WorldHandler.frame.selector,
            WorldHandler.store.selector,
            WorldHandler.release.selector,
            WorldHandler.reportStorage.selector,
            WorldHandler.accuse.selector,
            WorldHandler.dispute.selector,
            WorldHandler.finalize.selector,
            WorldHandler.bonds.selector,
            WorldHandler.publish.selector
        ];
        bytes4[9] memory more = [
            WorldHandler.image.selector,
            WorldHandler.domain.selector,
            WorldHandler.outage.selector,
            WorldHandler.pause.selector,
            WorldHandler.upgrade.selector,
            WorldHandler.exits.selector,
            WorldHandler.exits.selector,
            WorldHandler.warp.selector,
            WorldHandler.warp.selector
        ];
        bytes4[] memory selectors = new bytes4[](49);
        for (uint256 i; i < 40; ++i) {
            selectors[i] = list[i];
        }
        for (uint256 i; i < 9; ++i) {
            selectors[40 + i] = more[i];
        }
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function invariant_G1_moneyIsConserved() public view {
        handler.checkMoney();
    }

    function invariant_G2_noServiceIsFree() public view {
        handler.checkService();
    }

    /// @dev In one campaign, because what may not be is noted by the actions that see it.
    function invariant_G3_G4_G5_G6_G7_G8_nothingWasSeenThatMayNotBe() public view {
        handler.checkSlashes();
        string[6] memory properties = ["handler", "G-3", "G-5", "G-6", "G-7", "G-8"];
        for (uint256 i; i < 6; ++i) {
            assertEq(handler.broken(properties[i]), "", properties[i]);
        }
    }

    function invariant_G9_eventsTellAll() public view {
        handler.checkReplay();
    }

    /// @dev G-3: everybody can take what is theirs. And the run was not one in which nothing happened.
    function afterInvariant() public {
        uint256 steps = handler.steps();
        // It is about a half.
        if (steps >= 60) assertGe(handler.successes() * 6, steps, "most of what is tried does nothing");
        handler.unwind();
        handler.checkUnwound();
    }
}
