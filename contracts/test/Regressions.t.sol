// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {HeartbeatSuite} from "./utils/HeartbeatSuite.sol";

/// @title Regressions
/// @notice What the world of test/invariant/World.t.sol found, as short as it can be told.
contract RegressionsTest is HeartbeatSuite {
    /// @dev G-3: the requirement of a banned node was kept for good: it cannot exit any more, so that its owner could never
    /// take the rest of the stake.
    function test_G3_theRestOfABannedNodesStakeIsItsOwners() public {
        Party memory c = coordinators[0];
        uint32 epoch = _now();
        bytes memory a = _sign(c.key, nodes.heartbeatDigest(epoch, "a", "m"));
        bytes memory b = _sign(c.key, nodes.heartbeatDigest(epoch, "b", "m"));
        nodes.equivocation(c.id, epoch, "a", "m", a, "b", "m", b);
        bytes32 id = keccak256(abi.encode(uint8(8), c.id, bytes32(uint256(epoch)), epoch));
        skip(2 days);
        sla.finalize(id);
        assertEq(uint8(_status(c.id)), uint8(INodeRegistry.Status.Banned));

        (uint128 self,,) = staking.stakeOf(c.id);
        assertEq(self, 450_000 ether, "a tenth is gone");
        vm.startPrank(c.owner);
        staking.requestUnstake(c.id, self);
        skip(14 days);
        staking.withdrawSelf(c.id);
        vm.stopPrank();
        assertEq(token.balanceOf(c.owner), self);
    }

    /// @dev What waits still answers for what the node did.
    function test_G3_theStakeOfABannedNodeAnswersWhileItWaits() public {
        Party memory c = coordinators[0];
        vm.prank(slaAt);
        nodes.ban(c.id);
        (uint128 self,,) = staking.stakeOf(c.id);
        vm.prank(c.owner);
        staking.requestUnstake(c.id, self);
        assertEq(staking.slashable(c.id), self);
    }
}
