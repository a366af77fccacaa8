// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {StakeVotes} from "../src/StakeVotes.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {DelegationSuite} from "./Delegation.t.sol";
import {IVotes} from "@openzeppelin/contracts/governance/utils/IVotes.sol";

/// @title StakeVotes
/// @notice Votes by stake.
contract StakeVotesTest is DelegationSuite {
    function _sync(address who) private {
        staking.syncVotes(who, _ids());
    }

    function _total() private returns (uint256) {
        skip(1);
        return staking.getPastTotalSupply(block.timestamp - 1);
    }

    function test_clock_isSeconds() public view {
        assertEq(staking.clock(), block.timestamp);
        assertEq(staking.CLOCK_MODE(), "mode=timestamp");
    }

    function test_syncVotes_countsOwnersAndDelegators() public {
        _delegate(alice, 10 ether);
        assertEq(staking.getVotes(alice), 0);
        assertEq(staking.delegates(alice), alice);
        vm.expectEmit(address(staking));
        emit IVotes.DelegateVotesChanged(alice, 0, 10 ether);
        vm.expectEmit(address(staking));
        emit IVotes.DelegateVotesChanged(owner, 0, 100_000 ether);
        _sync(alice);
        assertEq(staking.getVotes(alice), 10 ether);
        assertEq(staking.getVotes(owner), 100_000 ether);
        _sync(alice);
        assertEq(_total(), 100_010 ether);
    }

    /// @dev From then on votes move with the stake.
    function test_votes_followWhatMoves() public {
        _delegate(alice, 10 ether);
        _sync(alice);
        _delegate(alice, 5 ether);
        assertEq(staking.getVotes(alice), 15 ether);
        uint8 week = _undelegate(alice, 5_000 ether);
        assertEq(staking.getVotes(alice), 10 ether);
        vm.prank(alice);
        staking.cancelUndelegate(id, week);
        assertEq(staking.getVotes(alice), 15 ether);
        _leaveAll(alice);
        assertEq(staking.getVotes(alice), 0);
        // Gone is gone: what comes later is counted when it is asked for.
        _delegate(alice, 5 ether);
        assertEq(staking.getVotes(alice), 0);

        _stake(workers[0], 1 ether);
        assertEq(staking.getVotes(owner), 100_001 ether);
        vm.prank(owner);
        staking.requestUnstake(id, 2 ether);
        assertEq(staking.getVotes(owner), 99_999 ether);
        assertEq(_total(), 99_999 ether);
    }

    function test_syncVotes_afterASlashAndRewards() public {
        _delegate(alice, 100_000 ether);
        _sync(alice);
        _fatal(100_000 ether);
        assertEq(staking.getVotes(alice), 100_000 ether);
        _sync(alice);
        assertEq(staking.getVotes(alice), 50_000 ether);
        assertEq(staking.getVotes(owner), 50_000 ether);
        _reward(1_000 ether);
        skip(7 days);
        _sync(alice);
        assertApproxEqAbs(staking.getVotes(alice), 51_000 ether, 2);
        _fatal(type(uint128).max);
        _sync(alice);
        assertEq(staking.getVotes(alice), 0);
        assertEq(_total(), 0);
    }

    /// @dev Votes of shares that a slash has made void go when the delegator comes back, too.
    function test_delegate_afterAReset() public {
        _delegate(alice, 100 ether);
        _sync(alice);
        _fatal(type(uint128).max);
        _stake(workers[0], 10_000 ether);
        _delegate(alice, 3 ether);
        assertEq(staking.getVotes(alice), 3 ether);
    }

    function test_pastVotes_stayAsTheyWere() public {
        _delegate(alice, 10 ether);
        _sync(alice);
        uint256 time = block.timestamp;
        skip(1);
        _leaveAll(alice);
        assertEq(staking.getPastVotes(alice, time), 10 ether);
        assertEq(staking.getPastVotes(alice, time - 1), 0);
        assertEq(staking.getPastTotalSupply(time), 100_010 ether);
        vm.expectRevert(
            abi.encodeWithSelector(StakeVotes.ERC5805FutureLookup.selector, block.timestamp, block.timestamp)
        );
        staking.getPastVotes(alice, block.timestamp);
        vm.expectRevert(
            abi.encodeWithSelector(StakeVotes.ERC5805FutureLookup.selector, type(uint256).max, block.timestamp)
        );
        staking.getPastTotalSupply(type(uint256).max);
    }

    /// @dev Within one second only what is there at its end counts: votes cannot be borrowed.
    function test_pastVotes_cannotBeBorrowed() public {
        _delegate(alice, 10 ether);
        _sync(alice);
        _leaveAll(alice);
        uint256 time = block.timestamp;
        skip(1);
        assertEq(staking.getPastVotes(alice, time), 0);
    }

    function test_delegateVotes_movesThem() public {
        _delegate(alice, 10 ether);
        _sync(alice);
        vm.startPrank(alice);
        vm.expectEmit(address(staking));
        emit IVotes.DelegateChanged(alice, alice, bob);
        vm.expectEmit(address(staking));
        emit IVotes.DelegateVotesChanged(alice, 10 ether, 0);
        vm.expectEmit(address(staking));
        emit IVotes.DelegateVotesChanged(bob, 0, 10 ether);
        staking.delegate(bob);
        assertEq(staking.delegates(alice), bob);
        vm.stopPrank();
        _delegate(alice, 1 ether);
        assertEq(staking.getVotes(bob), 11 ether);
        vm.startPrank(alice);
        staking.delegate(carol);
        assertEq(staking.getVotes(bob), 0);
        assertEq(staking.getVotes(carol), 11 ether);
        staking.delegate(address(0));
        assertEq(staking.getVotes(alice), 11 ether);
        assertEq(staking.delegates(alice), alice);
        staking.delegate(alice);
        assertEq(staking.getVotes(alice), 11 ether);
    }

    function test_delegateVotes_beforeAnythingIsCounted() public {
        vm.prank(alice);
        staking.delegate(bob);
        _delegate(alice, 10 ether);
        _sync(alice);
        assertEq(staking.getVotes(bob), 10 ether);
        assertEq(staking.getVotes(alice), 0);
    }

    /// @dev A node that changes hands takes its votes along when somebody counts anew.
    function test_syncVotes_followsTheOwner() public {
        _sync(alice);
        assertEq(staking.getVotes(owner), 100_000 ether);
        vm.mockCall(address(nodes), abi.encodeCall(nodes.standing, (id)), abi.encode(bob, 2, 2));
        _sync(alice);
        assertEq(staking.getVotes(owner), 0);
        assertEq(staking.getVotes(bob), 100_000 ether);
        assertEq(_total(), 100_000 ether);
    }

    function test_delegateBySig() public {
        (address who, uint256 key) = makeAddrAndKey("signs");
        _delegate(who, 10 ether);
        _sync(who);
        uint256 expiry = block.timestamp;
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, _delegation(bob, 0, expiry));
        staking.delegateBySig(bob, 0, expiry, v, r, s);
        assertEq(staking.getVotes(bob), 10 ether);
        assertEq(staking.nonces(who), 1);
        vm.expectRevert(abi.encodeWithSelector(StakeVotes.InvalidAccountNonce.selector, who, 1));
        staking.delegateBySig(bob, 0, expiry, v, r, s);
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.BadSignature.selector, 0));
        staking.delegateBySig(bob, 1, expiry, 3, r, s);
        skip(1);
        vm.expectRevert(abi.encodeWithSelector(IVotes.VotesExpiredSignature.selector, expiry));
        staking.delegateBySig(bob, 0, expiry, v, r, s);
    }

    function _delegation(address delegatee, uint256 nonce, uint256 expiry) private view returns (bytes32) {
        bytes32 typeHash = keccak256("Delegation(address delegatee,uint256 nonce,uint256 expiry)");
        return _digest("AlephStaking", address(staking), keccak256(abi.encode(typeHash, delegatee, nonce, expiry)));
    }
}
