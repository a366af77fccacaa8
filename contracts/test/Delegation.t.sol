// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {IStakingManager} from "../src/interfaces/IStakingManager.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Pausing} from "../src/libraries/Pausing.sol";
import {StakeMath} from "../src/libraries/StakeMath.sol";
import {Suite} from "./utils/Suite.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

/// @title DelegationSuite
/// @notice What the tests of delegations share.
abstract contract DelegationSuite is Suite {
    address internal alice = makeAddr("alice");
    address internal bob = makeAddr("bob");
    address internal carol = makeAddr("carol");
    uint256 internal cases;

    uint32 internal id;
    address internal owner;

    function setUp() public virtual override {
        super.setUp();
        (id, owner) = (workers[0].id, workers[0].owner);
        _stake(workers[0], 90_000 ether);
    }

    function _delegate(address who, uint256 amount) internal returns (uint128 shares) {
        gateway.mint(token, who, amount);
        vm.startPrank(who);
        token.approve(address(staking), amount);
        shares = staking.delegate(id, uint128(amount), 0);
        vm.stopPrank();
    }

    function _undelegate(address who, uint256 shares) internal returns (uint8 tranche) {
        vm.prank(who);
        return staking.undelegate(id, uint128(shares), 0);
    }

    function _leaveAll(address who) internal returns (uint8 tranche) {
        return _undelegate(who, _sharesOf(who));
    }

    function _withdraw(address who, uint8 tranche) internal returns (uint128) {
        vm.prank(who);
        return staking.withdraw(id, _tranches(tranche));
    }

    function _tranches(uint8 tranche) internal pure returns (uint8[] memory list) {
        list = new uint8[](1);
        list[0] = tranche;
    }

    function _ids() internal view returns (uint32[] memory list) {
        list = new uint32[](1);
        list[0] = id;
    }

    function _reward(uint256 amount) internal {
        gateway.mint(token, address(this), amount);
        token.approve(address(staking), amount);
        staking.addRewards(id, uint128(amount));
    }

    function _slash(uint256 amount, IStakingManager.SlashMode mode) internal returns (uint128 slashed, uint128 dust) {
        vm.prank(slaAt);
        return staking.slash(id, uint128(amount), mode, bytes32(++cases));
    }

    function _operational(uint256 amount) internal returns (uint128 slashed) {
        (slashed,) = _slash(amount, IStakingManager.SlashMode.Operational);
    }

    function _fatal(uint256 amount) internal returns (uint128 slashed) {
        (slashed,) = _slash(amount, IStakingManager.SlashMode.Fatal);
    }

    function _valueOf(address who) internal view returns (uint256 value) {
        (value,) = staking.positionValue(id, who);
    }

    function _sharesOf(address who) internal view returns (uint256 shares) {
        (, shares) = staking.positionValue(id, who);
    }

    function _waitingOf(address who) internal view returns (uint256 value) {
        for (uint8 i; i < 8; ++i) {
            (uint128 tokens,,) = staking.tranche(id, who, i);
            value += tokens;
        }
    }

    function _pool() internal view returns (uint256 tokens, uint256 shares, uint256 gen) {
        (tokens, shares, gen,,,) = staking.pool(id);
    }

    function _leaving() internal view returns (uint256 tokens, uint256 shares, uint256 gen) {
        (,,, tokens, shares, gen) = staking.pool(id);
    }

    function _credit() internal view returns (uint256 credit) {
        (,,,,, credit) = staking.rewards(id);
    }

    function _week() internal view returns (uint8) {
        return uint8(block.timestamp / 1 weeks % 8);
    }

    /// @dev Every token that the contract owes for the node is there.
    function _assertHeld() internal view {
        (uint128 self, uint128 delegated, uint128 waiting) = staking.totalStake(id);
        (uint128 rest,,,,, uint128 credit) = staking.rewards(id);
        uint256 others;
        for (uint32 i = 1; i <= nodes.lastNodeId(); ++i) {
            if (i == id) continue;
            (uint128 s, uint128 d, uint128 w) = staking.totalStake(i);
            others += uint256(s) + d + w;
        }
        assertEq(token.balanceOf(address(staking)), others + self + delegated + waiting + rest + credit, "held");
    }
}

contract DelegationTest is DelegationSuite {
    /* DELEGATING */

    function test_delegate_buysShares() public {
        gateway.mint(token, alice, 5 ether);
        vm.startPrank(alice);
        token.approve(address(staking), 5 ether);
        vm.expectEmit(address(staking));
        emit IStakingManager.Delegated(id, alice, 5 ether, 5_000 ether, 5 ether, 5_000 ether);
        uint128 shares = staking.delegate(id, 5 ether, 5_000 ether);
        assertEq(shares, 5_000 ether);
        (uint128 value, uint128 held) = staking.positionValue(id, alice);
        assertEq(value, 5 ether);
        assertEq(held, 5_000 ether);
        assertEq(token.balanceOf(alice), 0);
        (uint128 self, uint128 delegated, uint128 waiting) = staking.totalStake(id);
        assertEq(self, 100_000 ether);
        assertEq(delegated, 5 ether);
        assertEq(waiting, 0);
        _assertHeld();
    }

    function test_delegate_refuses() public {
        gateway.mint(token, alice, 10_000_000 ether);
        vm.startPrank(alice);
        token.approve(address(staking), type(uint256).max);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.delegate(id, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.BelowMinimum.selector, 1 ether - 1, 1 ether));
        staking.delegate(id, 1 ether - 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.Slippage.selector, 1_000 ether, 1_000 ether + 1));
        staking.delegate(id, 1 ether, 1_000 ether + 1);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.PoolCap.selector, 1_600_000 ether));
        staking.delegate(id, 1_600_000 ether + 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.PoolCap.selector, 0));
        staking.delegate(99, 1 ether, 0);
        staking.delegate(id, 1_600_000 ether, 0);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.PoolCap.selector, 1_600_000 ether));
        staking.delegate(id, 1 ether, 0);
        vm.stopPrank();
        vm.prank(bob);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(staking), 0, 1 ether)
        );
        staking.delegate(workers[1].id, 1 ether, 0);
        staking.pause(Pausing.ENTRY, 1 days);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        staking.delegate(id, 1 ether, 0);
    }

    /// @dev 2^96 wei is a hundred times the supply; nobody has it, and nothing overflows.
    function test_delegate_refusesMoreThanFits() public {
        _stake(workers[0], type(uint96).max / 2);
        uint256 amount = uint256(type(uint96).max) + 1;
        gateway.mint(token, alice, amount);
        vm.startPrank(alice);
        token.approve(address(staking), amount);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, amount, 0, type(uint96).max));
        staking.delegate(id, uint128(amount), 0);
    }

    /// @dev More may be added to a position in smaller pieces.
    function test_delegate_smallPiecesAddToALargePosition() public {
        _delegate(alice, 5 ether);
        _delegate(alice, 1);
        assertEq(_valueOf(alice), 5 ether + 1);
    }

    function test_delegateWithPermit_worksOnceAndWhenFrontRun() public {
        (address who, uint256 key) = makeAddrAndKey("signs");
        gateway.mint(token, who, 30 ether);
        uint256 deadline = block.timestamp + 1;
        (uint8 v, bytes32 r, bytes32 s) = _permit(who, key, 10 ether, deadline);
        vm.prank(who);
        assertEq(staking.delegateWithPermit(id, 10 ether, 0, deadline, v, r, s), 10_000 ether);
        (v, r, s) = _permit(who, key, 20 ether, deadline);
        token.permit(who, address(staking), 20 ether, deadline, v, r, s);
        vm.startPrank(who);
        staking.delegateWithPermit(id, 20 ether, 0, deadline, v, r, s);
        assertEq(_valueOf(who), 30 ether);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 0, 20 ether));
        staking.delegateWithPermit(id, 20 ether, 0, deadline, v, r, s);
    }

    function _permit(address who, uint256 key, uint256 value, uint256 deadline)
        private
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 structHash = keccak256(abi.encode(typeHash, who, address(staking), value, token.nonces(who), deadline));
        return vm.sign(key, _digest("Aleph", address(token), structHash));
    }

    /* UNDELEGATING */

    function test_undelegate_waitsInTheTrancheOfTheWeek() public {
        _delegate(alice, 10 ether);
        uint8 week = _week();
        uint40 unlock = uint40(block.timestamp) + 14 days;
        vm.prank(alice);
        vm.expectEmit(address(staking));
        emit IStakingManager.Undelegated(id, alice, week, unlock, 4_000 ether, 4 ether, 4 ether, 6 ether, 6_000 ether);
        assertEq(staking.undelegate(id, 4_000 ether, 4 ether), week);
        (uint128 tokens, uint128 shares, uint40 until) = staking.tranche(id, alice, week);
        assertEq(tokens, 4 ether);
        assertEq(shares, 4 ether);
        assertEq(until, unlock);
        assertEq(_valueOf(alice), 6 ether);
        (,, uint128 waiting) = staking.totalStake(id);
        assertEq(waiting, 4 ether);
        assertEq(staking.slashable(id), 100_010 ether);
    }

    function test_undelegate_refuses() public {
        _delegate(alice, 10 ether);
        vm.startPrank(alice);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.undelegate(id, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Insufficient.selector, 10_000 ether, 10_000 ether + 1));
        staking.undelegate(id, 10_000 ether + 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.Slippage.selector, 4 ether, 4 ether + 1));
        staking.undelegate(id, 4_000 ether, 4 ether + 1);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.BelowMinimum.selector, 0.5 ether, 1 ether));
        staking.undelegate(id, 9_500 ether, 0);
    }

    function test_undelegate_theSameWeekWaitsTogether() public {
        _delegate(alice, 10 ether);
        vm.warp((block.timestamp / 1 weeks + 1) * 1 weeks);
        uint8 week = _undelegate(alice, 1_000 ether);
        skip(1 weeks - 1);
        assertEq(_undelegate(alice, 2_000 ether), week);
        (uint128 tokens,, uint40 until) = staking.tranche(id, alice, week);
        assertEq(tokens, 3 ether);
        assertEq(until, block.timestamp + 14 days);
        skip(1);
        assertEq(_undelegate(alice, 1_000 ether), (week + 1) % 8);
    }

    /// @dev A shorter unbonding time is not one for what waits.
    function test_undelegate_keepsTheLaterUnlockOfTheWeek() public {
        _delegate(alice, 10 ether);
        vm.warp((block.timestamp / 1 weeks + 1) * 1 weeks);
        staking.setUnbonding(28 days);
        uint40 unlock = uint40(block.timestamp) + 28 days;
        uint8 week = _undelegate(alice, 1_000 ether);
        staking.setUnbonding(7 days);
        _undelegate(alice, 1_000 ether);
        (,, uint40 until) = staking.tranche(id, alice, week);
        assertEq(until, unlock);
    }

    /// @dev TRST H-2, H-3: nobody can fill somebody's tranches, and there are never more than eight.
    function test_tranches_arePerOwnerAndBounded() public {
        _delegate(alice, 100 ether);
        _delegate(bob, 100 ether);
        for (uint256 i; i < 8; ++i) {
            _undelegate(alice, 1_000 ether);
            _undelegate(bob, 2_000 ether);
            skip(1 weeks);
        }
        uint8 week = _week();
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.TrancheFull.selector, week));
        staking.undelegate(id, 1_000 ether, 0);
        assertEq(_withdraw(alice, week), 1 ether);
        assertEq(_undelegate(alice, 1_000 ether), week);
        assertEq(_waitingOf(bob), 16 ether);
    }

    function test_cancelUndelegate_delegatesAgain() public {
        _delegate(alice, 10 ether);
        _delegate(bob, 10 ether);
        uint8 week = _undelegate(alice, 4_000 ether);
        skip(20 days);
        vm.prank(alice);
        vm.expectEmit(address(staking));
        emit IStakingManager.UndelegationCancelled(id, alice, week, 4 ether, 4_000 ether, 20 ether, 20_000 ether);
        assertEq(staking.cancelUndelegate(id, week), 4_000 ether);
        assertEq(_valueOf(alice), 10 ether);
        assertEq(_waitingOf(alice), 0);
        (uint256 tokens, uint256 shares,) = _leaving();
        assertEq(tokens + shares, 0);
    }

    function test_cancelUndelegate_refuses() public {
        _delegate(alice, 2 ether);
        _delegate(bob, 100 ether);
        uint8 week = _undelegate(alice, 500 ether);
        _leaveAll(alice);
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 8, 0, 7));
        staking.cancelUndelegate(id, 8);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.cancelUndelegate(id, (week + 1) % 8);
        vm.stopPrank();
        staking.pause(Pausing.ENTRY, 1 days);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        staking.cancelUndelegate(id, week);
        staking.unpause();
        _fatal(60_000 ether);
        vm.startPrank(alice);
        vm.expectPartialRevert(IStakingManager.BelowMinimum.selector);
        staking.cancelUndelegate(id, week);
        vm.stopPrank();
        _fatal(type(uint128).max);
        vm.startPrank(alice);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.StaleGeneration.selector, 1, 0));
        staking.cancelUndelegate(id, week);
    }

    function test_withdraw_afterTheUnlock() public {
        _delegate(alice, 10 ether);
        uint8 week = _undelegate(alice, 4_000 ether);
        (,, uint40 unlock) = staking.tranche(id, alice, week);
        vm.warp(unlock - 1);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.NotUnlocked.selector, unlock));
        staking.withdraw(id, _tranches(week));
        skip(1);
        vm.prank(alice);
        vm.expectEmit(address(staking));
        emit IStakingManager.Withdrawn(id, alice, uint8(1 << week), 4 ether, 0, 0);
        assertEq(staking.withdraw(id, _tranches(week)), 4 ether);
        assertEq(token.balanceOf(alice), 4 ether);
        vm.startPrank(alice);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.withdraw(id, _tranches(week));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 8, 0, 7));
        staking.withdraw(id, _tranches(8));
        vm.stopPrank();
        staking.pause(Pausing.EXIT, 1 days);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.EXIT));
        staking.withdraw(id, _tranches(week));
        _assertHeld();
    }

    function test_withdraw_severalTranches() public {
        _delegate(alice, 10 ether);
        uint8[] memory tranches = new uint8[](2);
        tranches[0] = _undelegate(alice, 4_000 ether);
        skip(7 days);
        tranches[1] = _undelegate(alice, 3_000 ether);
        skip(14 days);
        vm.prank(alice);
        vm.expectEmit(address(staking));
        emit IStakingManager.Withdrawn(id, alice, uint8((1 << tranches[0]) | (1 << tranches[1])), 7 ether, 0, 0);
        staking.withdraw(id, tranches);
        assertEq(token.balanceOf(alice), 7 ether);
    }

    function test_withdraw_paysNothingForAVoidTranche() public {
        _delegate(alice, 10 ether);
        uint8 week = _leaveAll(alice);
        _fatal(type(uint128).max);
        (uint128 tokens, uint128 shares, uint40 until) = staking.tranche(id, alice, week);
        assertEq(uint256(tokens) + shares + until, 0);
        skip(14 days);
        assertEq(_withdraw(alice, week), 0);
        vm.prank(alice);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.withdraw(id, _tranches(week));
    }

    function test_tranche_refusesAnUnknownOne() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 8, 0, 7));
        staking.tranche(id, alice, 8);
    }

    /// @dev OZ'24 H-06.
    function test_delegate_whenAllUnbonding() public {
        _delegate(alice, 10 ether);
        _leaveAll(alice);
        (uint256 tokens, uint256 shares,) = _pool();
        assertEq(tokens + shares, 0);
        assertEq(_delegate(bob, 3 ether), 3_000 ether);
        assertEq(_valueOf(bob), 3 ether);
    }

    /// @dev Livepeer: what somebody else does leaves a position as it is.
    function test_thirdParty_cannotTouchAPosition() public {
        _delegate(alice, 10 ether);
        uint8 week = _undelegate(alice, 2_000 ether);
        _delegate(bob, 7 ether);
        _undelegate(bob, 1_000 ether);
        staking.syncVotes(alice, _ids());
        assertEq(_sharesOf(alice), 8_000 ether);
        assertEq(_waitingOf(alice), 2 ether);
        (,, uint40 until) = staking.tranche(id, alice, week);
        assertEq(until, block.timestamp + 14 days);
        skip(14 days);
        vm.prank(bob);
        assertEq(staking.withdraw(id, _tranches(week)), 1 ether);
        assertEq(_waitingOf(alice), 2 ether);
    }

    /* REWARDS */

    function test_addRewards_dripsOverSevenDays() public {
        _delegate(alice, 10 ether);
        vm.prank(owner);
        staking.setCommission(id, 1_000);
        skip(14 days);
        gateway.mint(token, address(this), 10 ether);
        token.approve(address(staking), 10 ether);
        uint40 end = uint40(block.timestamp) + 7 days;
        vm.expectEmit(address(staking));
        emit IStakingManager.RewardsAdded(id, address(this), 10 ether, 1 ether, 9 ether, end);
        staking.addRewards(id, 10 ether);
        assertEq(_credit(), 1 ether);
        assertEq(_valueOf(alice), 10 ether);
        skip(3.5 days);
        assertApproxEqAbs(_valueOf(alice), 14.5 ether, 2);
        (uint128 rest, uint40 dripEnd,,,,) = staking.rewards(id);
        assertEq(rest, 4.5 ether);
        assertEq(dripEnd, end);
        _assertHeld();
        skip(10 days);
        assertApproxEqAbs(_valueOf(alice), 19 ether, 2);
        _leaveAll(alice);
        assertApproxEqAbs(_waitingOf(alice), 19 ether, 2);
        _assertHeld();
    }

    /// @dev A little more does not hold up what was nearly through.
    function test_addRewards_meanOfTheTimes() public {
        _delegate(alice, 10 ether);
        _reward(100 ether);
        skip(6 days);
        _reward(1 ether);
        (uint128 rest, uint40 end,,,,) = staking.rewards(id);
        uint256 left = 100 ether - uint256(100 ether) * 6 / 7;
        assertEq(rest, left + 1 ether);
        assertEq(end, block.timestamp + StakeMath.dripTime(left, 1 days, 1 ether, 7 days));
        assertLt(end, block.timestamp + 1.5 days);
    }

    function test_addRewards_isTheOwnersWhenNothingIsDelegated() public {
        _reward(3 ether);
        assertEq(_credit(), 3 ether);
        vm.expectEmit(address(staking));
        emit IStakingManager.OwnerPaid(id, owner, 3 ether);
        staking.claimOwner(id);
        assertEq(token.balanceOf(owner), 3 ether);
        vm.expectRevert(AlephErrors.ZeroAmount.selector);
        staking.claimOwner(id);
    }

    function test_addRewards_refuses() public {
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.BelowMinimum.selector, 1 ether - 1, 1 ether));
        staking.addRewards(id, 1 ether - 1);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.UnknownNode.selector, 99));
        staking.addRewards(99, 1 ether);
        staking.pause(Pausing.ENTRY | Pausing.EXIT, 1 days);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.ENTRY));
        staking.addRewards(id, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.Paused.selector, Pausing.EXIT));
        staking.claimOwner(id);
    }

    function test_claimOwner_paysWhereTheNodeEarns() public {
        vm.prank(owner);
        nodes.setPayout(id, carol);
        skip(1 days);
        nodes.applyPayout(id);
        _reward(2 ether);
        staking.claimOwner(id);
        assertEq(token.balanceOf(carol), 2 ether);
    }

    /// @dev Who leaves forfeits what has not dripped; the last one to the owner.
    function test_undelegate_theLastLeavesTheDripToTheOwner() public {
        _delegate(alice, 10 ether);
        _reward(7 ether);
        skip(1 days);
        vm.recordLogs();
        _leaveAll(alice);
        assertApproxEqAbs(_credit(), 6 ether, 2);
        assertApproxEqAbs(_waitingOf(alice), 11 ether, 2);
        (uint128 rest,,,,,) = staking.rewards(id);
        assertEq(rest, 0);
        _assertHeld();
        assertEq(_delegate(bob, 1 ether), 1_000 ether);
    }

    function test_undelegate_saysWhatIsLeftToTheOwner() public {
        _delegate(alice, 10 ether);
        _reward(7 ether);
        uint256 shares = _sharesOf(alice);
        vm.expectEmit(address(staking));
        emit IStakingManager.LeftToOwner(id, 7 ether);
        _undelegate(alice, shares);
    }

    /// @dev Nobody gains by being there for the moment of a payment.
    function test_addRewards_cannotBeSniped() public {
        _delegate(alice, 100 ether);
        _delegate(bob, 100_000 ether);
        _reward(100 ether);
        _leaveAll(bob);
        assertLe(_waitingOf(bob), 100_000 ether);
    }

    function test_setCommission_raisesWithNoticeAndCutsAtOnce() public {
        uint40 from = uint40(block.timestamp) + 14 days;
        vm.startPrank(owner);
        vm.expectEmit(address(staking));
        emit IStakingManager.CommissionSet(id, 3_000, from);
        staking.setCommission(id, 3_000);
        (,, uint16 bps, uint16 next, uint40 time,) = staking.rewards(id);
        assertEq(bps, 0);
        assertEq(next, 3_000);
        assertEq(time, from);
        vm.warp(from - 1);
        (,, bps,,,) = staking.rewards(id);
        assertEq(bps, 0);
        skip(1);
        (,, bps,,,) = staking.rewards(id);
        assertEq(bps, 3_000);
        vm.expectEmit(address(staking));
        emit IStakingManager.CommissionSet(id, 500, uint40(block.timestamp));
        staking.setCommission(id, 500);
        (,, bps, next, time,) = staking.rewards(id);
        assertEq(bps, 500);
        assertEq(uint256(next) + time, 0);
        // A second raise starts from what counts now, and a cut calls it off.
        staking.setCommission(id, 600);
        staking.setCommission(id, 500);
        skip(14 days);
        (,, bps,,,) = staking.rewards(id);
        assertEq(bps, 500);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, 3_001, 0, 3_000));
        staking.setCommission(id, 3_001);
        vm.stopPrank();
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        staking.setCommission(id, 1);
    }

    /// @dev OZ'24 C-01: what somebody gives to a pool takes at most a share's worth from who delegates later.
    function testFuzz_donation_cannotSteal(uint96 donation, uint96 victim) public {
        donation = uint96(bound(donation, 1 ether, 400_000_000 ether));
        victim = uint96(bound(victim, 1 ether, 500_000 ether));
        _delegate(bob, 1 ether);
        _reward(donation);
        skip(7 days);
        (uint256 tokens,,) = _pool();
        if (tokens + victim > 1_600_000 ether) {
            // The owner has to stake before anybody can delegate more: the cap counts the gift, too.
            _stake(workers[0], uint128((tokens + victim) / 16 + 1));
        }
        _delegate(alice, victim);
        // A share's worth is a 1e-21st of what was given.
        assertGe(_valueOf(alice) + donation / 1e21 + 2, victim);
    }

    /* SLASHING */

    function test_slash_operational_takesTheOwnersFirst() public {
        _delegate(alice, 100_000 ether);
        _leaveHalf(alice);
        vm.startPrank(owner);
        staking.requestUnstake(id, 40_000 ether);
        vm.stopPrank();
        vm.prank(slaAt);
        vm.expectEmit(address(staking));
        emit IStakingManager.Slashed(id, "case", 60_000 ether, 10_000 ether, 0, 0);
        (uint128 slashed, uint128 dust) = staking.slash(id, 70_000 ether, IStakingManager.SlashMode.Operational, "case");
        assertEq(slashed, 70_000 ether);
        assertEq(dust, 0);
        assertEq(token.balanceOf(slaAt), 70_000 ether, "all of it is the SLAManager's to share out");
        // Then the delegators, those that wait like those that stay.
        vm.prank(slaAt);
        vm.expectEmit(address(staking));
        emit IStakingManager.Slashed(id, "case 2", 0, 30_000 ether, 25_000 ether, 25_000 ether);
        staking.slash(id, 80_000 ether, IStakingManager.SlashMode.Operational, "case 2");
        assertEq(token.balanceOf(slaAt), 150_000 ether);
        assertEq(_valueOf(alice), 25_000 ether);
        assertEq(_waitingOf(alice), 25_000 ether);
        assertEq(uint8(nodes.node(id).status), uint8(INodeRegistry.Status.Suspended));
        _assertHeld();
    }

    function _leaveHalf(address who) private {
        _undelegate(who, _sharesOf(who) / 2);
    }

    function test_slash_fatal_takesInProportion() public {
        _delegate(alice, 200_000 ether);
        _leaveHalf(alice);
        vm.prank(owner);
        staking.requestUnstake(id, 50_000 ether);
        uint256 supply = token.totalSupply();
        vm.prank(slaAt);
        vm.expectEmit(address(staking));
        emit IStakingManager.Slashed(id, "case", 5_000 ether, 5_000 ether, 10_000 ether, 10_000 ether);
        staking.slash(id, 30_000 ether, IStakingManager.SlashMode.Fatal, "case");
        assertEq(token.balanceOf(slaAt), 30_000 ether);
        assertEq(token.totalSupply(), supply, "nothing is burned here");
        assertEq(_valueOf(alice), 90_000 ether);
        assertEq(_waitingOf(alice), 90_000 ether);
        _assertHeld();
    }

    /// @dev OZ'25 H-02.
    function test_fatal_slash_proRataSelfZero() public {
        _delegate(alice, 100 ether);
        vm.startPrank(owner);
        nodes.drain(id);
        nodes.exit(id);
        staking.requestUnstake(id, 100_000 ether);
        skip(14 days);
        staking.withdrawSelf(id);
        vm.stopPrank();
        assertEq(_fatal(40 ether), 40 ether);
        assertEq(_valueOf(alice), 60 ether);
        assertEq(_operational(10 ether), 10 ether);
        assertEq(_valueOf(alice), 50 ether);
    }

    function test_slash_refuses() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        staking.slash(id, 1, IStakingManager.SlashMode.Fatal, "case");
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, owner));
        staking.slash(id, 1, IStakingManager.SlashMode.Fatal, "case");
    }

    function test_slash_ofNothing() public {
        vm.prank(slaAt);
        (uint128 slashed, uint128 dust) = staking.slash(99, 1 ether, IStakingManager.SlashMode.Fatal, "case");
        assertEq(slashed + dust, 0);
        assertEq(_operational(0), 0);
        assertEq(_fatal(0), 0);
    }

    /// @dev A pool that a slash leaves next to nothing starts anew.
    function test_slash_resetsThePools() public {
        _delegate(alice, 100 ether);
        _delegate(bob, 100 ether);
        _leaveAll(bob);
        _reward(70 ether);
        skip(1 days);
        uint256 dust = 60 ether;
        vm.prank(slaAt);
        vm.expectEmit(address(staking));
        emit IStakingManager.PoolReset(id, 1, uint128(dust));
        vm.expectEmit(address(staking));
        emit IStakingManager.UnbondingReset(id, 1, 0);
        (, uint128 taken) = staking.slash(id, type(uint128).max, IStakingManager.SlashMode.Fatal, "case");
        assertEq(taken, dust, "what had not dripped goes, too");
        (uint256 tokens, uint256 shares, uint256 gen) = _pool();
        assertEq(tokens + shares, 0);
        assertEq(gen, 1);
        (tokens, shares, gen) = _leaving();
        assertEq(tokens + shares, 0);
        assertEq(gen, 1);
        assertEq(_valueOf(alice) + _sharesOf(alice), 0);
        _assertHeld();
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.StaleGeneration.selector, 1, 0));
        staking.undelegate(id, 1, 0);
        // Life goes on.
        _stake(workers[0], 10_000 ether);
        assertEq(_delegate(alice, 2 ether), 2_000 ether);
        assertEq(_valueOf(alice), 2 ether);
        _leaveAll(alice);
        assertEq(_waitingOf(alice), 2 ether);
    }

    function test_slash_handsTheDustOver() public {
        _delegate(alice, 100 ether);
        vm.startPrank(owner);
        nodes.drain(id);
        nodes.exit(id);
        staking.requestUnstake(id, 100_000 ether);
        skip(14 days);
        staking.withdrawSelf(id);
        vm.stopPrank();
        vm.expectEmit(address(staking));
        emit IStakingManager.PoolReset(id, 1, 1e15 - 1);
        (uint128 slashed, uint128 dust) = _slash(100 ether - 1e15 + 1, IStakingManager.SlashMode.Operational);
        assertEq(slashed, 100 ether - 1e15 + 1);
        assertEq(dust, 1e15 - 1);
        assertEq(token.balanceOf(slaAt), 100 ether);
        _assertHeld();
    }

    function test_delegate_refusesASpentPool() public {
        _delegate(alice, 1_000_000 ether);
        _fatal(1_099_900 ether);
        _stake(workers[0], 100_000 ether);
        gateway.mint(token, bob, 1 ether);
        vm.startPrank(bob);
        token.approve(address(staking), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.PoolSpent.selector, id));
        staking.delegate(id, 1 ether, 0);
        vm.stopPrank();
        _leaveAll(alice);
        assertEq(_delegate(bob, 1 ether), 1_000 ether);
    }

    /// @dev OZ'24 H-11, M-02, M-05: a slash takes what there is.
    function testFuzz_slash_neverRevertsAndClamps(
        uint96 delegated,
        uint96 left,
        uint96 unstaked,
        uint128 amount,
        bool fatal
    ) public {
        _delegate(alice, bound(delegated, 2 ether, 1_600_000 ether));
        left = uint96(bound(left, 0, _sharesOf(alice) - 1_000 ether));
        if (left != 0) _undelegate(alice, left);
        unstaked = uint96(bound(unstaked, 0, 90_000 ether));
        if (unstaked != 0) {
            vm.prank(owner);
            staking.requestUnstake(id, unstaked);
        }
        uint256 all = staking.slashable(id);
        uint256 held = token.balanceOf(address(staking));
        (uint128 slashed, uint128 dust) = _slash(amount, IStakingManager.SlashMode(fatal ? 1 : 0));
        assertEq(slashed, amount < all ? amount : all);
        uint256 gone = held - token.balanceOf(address(staking));
        // Exactly what was slashed, and the dust of two pools at most.
        assertEq(gone, uint256(slashed) + dust);
        assertLt(dust, 2e15);
        assertEq(token.balanceOf(slaAt), gone);
        assertEq(staking.slashable(id), all - gone);
        _assertHeld();
    }

    /// @dev TRST H-4: after a slash the last one to withdraw finds its tokens.
    function testFuzz_slash_thenLastWithdraw(uint96 a, uint96 b, uint96 amount) public {
        _delegate(alice, bound(a, 1 ether, 700_000 ether));
        _delegate(bob, bound(b, 1 ether, 700_000 ether));
        uint8 week = _leaveAll(alice);
        _leaveAll(bob);
        _fatal(bound(amount, 1, staking.slashable(id)));
        skip(14 days);
        uint256 first = _waitingOf(alice);
        uint256 second = _waitingOf(bob);
        assertEq(_withdraw(alice, week), first);
        uint256 last = _withdraw(bob, week);
        assertGe(last, second);
        assertLe(last, second + 1);
        (uint256 tokens, uint256 shares,) = _leaving();
        assertEq(tokens + shares, 0);
        _assertHeld();
    }

    /// @dev OZ'25 L-03, TRST M-2: shares do not outgrow their bits, whatever is slashed and delegated again.
    function testFuzz_100SlashCycles_noOverflow(uint256 seed) public {
        for (uint256 i; i < 100; ++i) {
            seed = uint256(keccak256(abi.encode(seed)));
            (uint128 self,,) = staking.totalStake(id);
            if (self < 10_000 ether) _stake(workers[0], 100_000 ether);
            try this.delegateFor(alice, 1 ether + seed % 100_000 ether) {}
            catch (bytes memory err) {
                bool capped = bytes4(err) == IStakingManager.PoolCap.selector;
                assertTrue(capped || bytes4(err) == IStakingManager.PoolSpent.selector, vm.toString(err));
                if (_sharesOf(alice) != 0) _leaveAll(alice);
            }
            _fatal(staking.slashable(id) * (seed >> 128) / 2 ** 128 + 1);
            if (seed % 7 == 0) _fatal(staking.slashable(id) - seed % 1 ether);
            (uint256 tokens, uint256 shares,) = _pool();
            assertLe(shares, tokens * 1e9);
            (tokens, shares,) = _leaving();
            assertLe(shares, tokens * 1e9);
            skip(1 hours);
        }
        _assertHeld();
    }

    /// @dev Without startPrank, which a revert would leave behind.
    function delegateFor(address who, uint256 amount) external {
        gateway.mint(token, who, amount);
        vm.prank(who);
        token.approve(address(staking), amount);
        vm.prank(who);
        staking.delegate(id, uint128(amount), 0);
    }

    /// @dev ST-7: everybody in a pool loses the same fraction.
    function testFuzz_slash_fractionIsEqual(uint96 a, uint96 b, uint96 amount) public {
        uint256 first = bound(a, 1 ether, 700_000 ether);
        uint256 second = bound(b, 1 ether, 700_000 ether);
        _delegate(alice, first);
        _delegate(bob, second);
        _fatal(bound(amount, 1, staking.slashable(id) * 99 / 100));
        uint256 mine = _valueOf(alice);
        uint256 theirs = _valueOf(bob);
        // mine / first = theirs / second, within a wei of each.
        assertApproxEqAbs(mine * second, theirs * first, first + second);
    }

    /* FREEZING */

    function _freeze(uint256 until) private {
        vm.prank(slaAt);
        staking.freeze(id, uint40(until));
    }

    function test_freeze_holdsWithdrawals() public {
        _delegate(alice, 10 ether);
        uint8 week = _undelegate(alice, 4_000 ether);
        vm.prank(owner);
        staking.requestUnstake(id, 50_000 ether);
        skip(14 days);
        uint40 until = uint40(block.timestamp) + 7 days;
        vm.expectEmit(address(staking));
        emit IStakingManager.Frozen(id, until);
        _freeze(until);
        assertEq(staking.frozenUntil(id), until);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.FrozenUntil.selector, until));
        staking.withdraw(id, _tranches(week));
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IStakingManager.FrozenUntil.selector, until));
        staking.withdrawSelf(id);
        // Leaving, and coming back, go on.
        _undelegate(alice, 1_000 ether);
        vm.prank(alice);
        staking.cancelUndelegate(id, _week());
        vm.warp(until);
        assertEq(_withdraw(alice, week), 4 ether);
        vm.prank(owner);
        staking.withdrawSelf(id);
    }

    function test_freeze_refusesOthers() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        staking.freeze(id, 1);
    }

    /// @dev OZ'25 M-01, EGSL-09: no time is long enough to overflow, and every one is cut.
    function test_freeze_durationCaps() public {
        uint256 start = block.timestamp;
        _freeze(type(uint40).max);
        assertEq(staking.frozenUntil(id), start + 7 days);
        _freeze(start + 1);
        assertEq(staking.frozenUntil(id), start + 7 days, "nothing ends sooner");
        skip(7 days);
        _freeze(block.timestamp + 7 days);
        skip(7 days);
        _freeze(block.timestamp + 7 days);
        skip(6 days);
        _freeze(block.timestamp + 7 days);
        assertEq(staking.frozenUntil(id), start + 21 days, "21 days in a row");
        vm.warp(start + 22 days - 1);
        _freeze(block.timestamp + 7 days);
        assertEq(staking.frozenUntil(id), start + 21 days, "less than a day without");
        skip(1);
        _freeze(block.timestamp + 7 days);
        assertEq(staking.frozenUntil(id), start + 29 days);
    }

    /* REQUIREMENTS */

    function test_requirement_ofCoordinatorsCountsDelegations() public {
        Party memory p = _register(INodeRegistry.Kind.Coordinator, "new coordinator");
        _stake(p, 200_000 ether);
        vm.expectRevert(abi.encodeWithSelector(INodeRegistry.StakeTooLow.selector, p.id));
        nodes.activate(p.id);
        id = p.id;
        _delegate(alice, 300_000 ether);
        assertTrue(staking.meetsRequirement(p.id, INodeRegistry.Kind.Coordinator));
        nodes.activate(p.id);
        assertEq(staking.weight(p.id), 500_000 ether);
        _delegate(bob, 600_000 ether);
        assertEq(staking.weight(p.id), 1_000_000 ether, "five times its own");

        // The owner keeps both requirements.
        vm.startPrank(p.owner);
        vm.expectRevert(
            abi.encodeWithSelector(IStakingManager.RequirementHeld.selector, 200_000 ether - 1, 200_000 ether)
        );
        staking.requestUnstake(p.id, 1);
        vm.stopPrank();
        _leaveAll(bob);
        assertTrue(nodes.isActive(p.id));
        _stake(p, 100_000 ether);
        _undelegate(alice, 100_000_000 ether);
        vm.prank(p.owner);
        vm.expectRevert(
            abi.encodeWithSelector(IStakingManager.RequirementHeld.selector, 500_000 ether - 1, 500_000 ether)
        );
        staking.requestUnstake(p.id, 1);

        // Delegators may always leave; then it is suspended.
        _undelegate(alice, 1_000_000);
        assertEq(uint8(nodes.node(p.id).status), uint8(INodeRegistry.Status.Suspended));
    }

    function test_setTotalRequirement_keepsItsBounds() public {
        vm.expectEmit(address(staking));
        emit IStakingManager.TotalRequirementSet(5_000_000 ether);
        staking.setTotalRequirement(5_000_000 ether);
        assertEq(staking.totalRequirement(), 5_000_000 ether);
        assertFalse(staking.meetsRequirement(coordinators[0].id, INodeRegistry.Kind.Coordinator));
        uint128 most = 5_000_000 ether;
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.OutOfBounds.selector, most + 1, 0, most));
        staking.setTotalRequirement(most + 1);
    }
}
