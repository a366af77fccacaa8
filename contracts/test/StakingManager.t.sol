// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {IStakingManager} from "../src/interfaces/IStakingManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {Suite} from "./utils/Suite.sol";

contract StakingManagerTest is Suite {
    function _permit(address owner, uint256 key, uint256 value, uint256 deadline)
        private
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 structHash =
            keccak256(abi.encode(typeHash, owner, address(staking), value, token.nonces(owner), deadline));
        return vm.sign(key, _digest("Aleph", address(token), structHash));
    }

    function test_stake_emits() public {
        Party memory p = workers[0];
        gateway.mint(token, p.owner, 5);
        vm.startPrank(p.owner);
        token.approve(address(staking), 5);
        vm.expectEmit(address(staking));
        emit IStakingManager.Staked(p.id, p.owner, 5, 10_000 ether + 5);
        staking.stake(p.id, 5);
        (uint128 self,,) = staking.stakeOf(p.id);
        assertEq(self, 10_000 ether + 5);
    }

    function test_stake_belowARaisedRequirementSuspends() public {
        staking.setRequirement(INodeRegistry.Kind.Compute, 10_002 ether);
        assertTrue(nodes.isActive(workers[0].id) && nodes.isActive(workers[1].id));
        _stake(workers[0], 1 ether);
        assertFalse(nodes.isActive(workers[0].id));
        _stake(workers[1], 2 ether);
        assertTrue(nodes.isActive(workers[1].id));
    }

    function test_stake_refuses() public {
        Party memory p = workers[0];
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        staking.stake(p.id, 1);
        vm.startPrank(p.owner);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.stake(p.id, 0);
        nodes.drain(p.id);
        nodes.exit(p.id);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.NodeNotActive.selector, p.id, INodeRegistry.Status.Exited));
        staking.stake(p.id, 1);
        vm.stopPrank();
        staking.pause(Pausing.ENTRY, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        staking.stake(p.id, 1);
    }

    function test_stakeWithPermit_worksOnceAndWhenFrontRun() public {
        Party memory p = _register(INodeRegistry.Kind.Compute, "new");
        (address owner, uint256 key) = makeAddrAndKey("new owner");
        assertEq(owner, p.owner);
        gateway.mint(token, owner, 30);
        uint256 deadline = block.timestamp + 1;
        (uint8 v, bytes32 r, bytes32 s) = _permit(owner, key, 10, deadline);
        vm.prank(owner);
        staking.stakeWithPermit(p.id, 10, deadline, v, r, s);

        (v, r, s) = _permit(owner, key, 20, deadline);
        token.permit(owner, address(staking), 20, deadline, v, r, s);
        vm.startPrank(owner);
        staking.stakeWithPermit(p.id, 20, deadline, v, r, s);
        (uint128 self,,) = staking.stakeOf(p.id);
        assertEq(self, 30);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 0, 20));
        staking.stakeWithPermit(p.id, 20, deadline, v, r, s);
    }

    function test_requestUnstake_keepsTheRequirement() public {
        Party memory p = workers[0];
        vm.startPrank(p.owner);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.requestUnstake(p.id, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 10_000 ether, 10_001 ether));
        staking.requestUnstake(p.id, 10_001 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IStakingManager.RequirementHeld.selector, 10_000 ether - 1, 10_000 ether)
        );
        staking.requestUnstake(p.id, 1);
        nodes.drain(p.id);
        vm.expectRevert(
            abi.encodeWithSelector(IStakingManager.RequirementHeld.selector, 10_000 ether - 1, 10_000 ether)
        );
        staking.requestUnstake(p.id, 1);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        staking.requestUnstake(p.id, 1);
    }

    function test_withdrawSelf_afterUnbonding() public {
        Party memory p = workers[0];
        vm.startPrank(p.owner);
        nodes.drain(p.id);
        nodes.exit(p.id);
        uint40 unlock = uint40(block.timestamp) + 14 days;
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.withdrawSelf(p.id);
        vm.expectEmit(address(staking));
        emit IStakingManager.SelfUnbonding(p.id, 4_000 ether, 6_000 ether, 4_000 ether, unlock);
        staking.requestUnstake(p.id, 4_000 ether);
        skip(1 days);
        staking.requestUnstake(p.id, 6_000 ether);
        vm.warp(unlock);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.NotUnlocked.selector, unlock + 1 days));
        staking.withdrawSelf(p.id);
        vm.warp(unlock + 1 days);
        vm.expectEmit(address(staking));
        emit IStakingManager.SelfWithdrawn(p.id, p.owner, 10_000 ether);
        staking.withdrawSelf(p.id);
        assertEq(token.balanceOf(p.owner), 10_000 ether);
        (uint128 self, uint128 waiting, uint40 at) = staking.stakeOf(p.id);
        assertEq(uint256(self) + waiting + at, 0);
    }

    function test_withdrawSelf_refuses() public {
        Party memory p = workers[0];
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        staking.withdrawSelf(p.id);
        staking.pause(Pausing.EXIT, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.EXIT));
        staking.withdrawSelf(p.id);
    }

    function test_parameters_keepTheirBounds() public {
        vm.expectEmit(address(staking));
        emit IStakingManager.RequirementSet(INodeRegistry.Kind.Storage, 7);
        staking.setRequirement(INodeRegistry.Kind.Storage, 7);
        assertEq(staking.requirement(INodeRegistry.Kind.Storage), 7);
        vm.expectEmit(address(staking));
        emit IStakingManager.UnbondingSet(7 days);
        staking.setUnbonding(7 days);
        assertEq(staking.unbonding(), 7 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 0, 1, 3));
        staking.setRequirement(INodeRegistry.Kind.None, 1);
        uint128 most = 1_000_000 ether;
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, most + 1, 0, most));
        staking.setRequirement(INodeRegistry.Kind.Storage, most + 1);
        staking.setRequirement(INodeRegistry.Kind.Storage, most);
        assertEq(staking.requirement(INodeRegistry.Kind.Storage), most);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 7 days - 1, 7 days, 28 days));
        staking.setUnbonding(7 days - 1);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 28 days + 1, 7 days, 28 days));
        staking.setUnbonding(28 days + 1);
        staking.setUnbonding(28 days);
        assertEq(staking.unbonding(), 28 days);
    }

    function testFuzz_stake_roundTrip(uint96 amount) public {
        amount = uint96(bound(amount, 1, 1e27));
        Party memory p = _register(INodeRegistry.Kind.Compute, "new");
        _stake(p, amount);
        vm.startPrank(p.owner);
        staking.requestUnstake(p.id, amount);
        skip(14 days);
        staking.withdrawSelf(p.id);
        assertEq(token.balanceOf(p.owner), amount);
    }
}
