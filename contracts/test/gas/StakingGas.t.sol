// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakingManager} from "../../src/interfaces/IStakingManager.sol";
import {GasBench} from "./GasBench.sol";

/// @title StakingGas
/// @notice The gas of delegating, of slashing and of votes.
contract StakingGasTest is GasBench {
    address internal first = makeAddr("first delegator");
    address internal second = makeAddr("second delegator");

    function _bench() internal pure override returns (string memory) {
        return "staking";
    }

    function _measure() internal override {
        _start();
        _delegating();
        _rewards();
        _votes();
        _slashing();
    }

    /// @dev Everybody who is paid holds some tokens already, as on a live network.
    function _start() private {
        gateway.mint(token, first, 20_000 ether);
        gateway.mint(token, second, 20_000 ether);
        gateway.mint(token, slaAt, 1 ether);
        _stake(workers[0], 10_000 ether);
    }

    function _approve(address who, uint256 amount) private {
        vm.prank(who);
        token.approve(address(staking), amount);
    }

    function _delegate(address who, uint128 amount) private {
        _approve(who, amount);
        vm.prank(who);
        staking.delegate(workers[0].id, amount, 0);
    }

    function _delegating() private {
        _delegate(first, 1_000 ether);
        _record("delegate, first of a node", 0);
        address third = makeAddr("third delegator");
        gateway.mint(token, third, 1_000 ether);
        _delegate(third, 1_000 ether);
        _record("delegate, new, all of a wallet", 78_000);
        _delegate(second, 1_000 ether);
        _record("delegate, new, part of a wallet", 78_000);
        _delegate(second, 1_000 ether);
        _record("delegate, more", 0);
        vm.prank(first);
        staking.undelegate(workers[0].id, 1e23, 0);
        _record("undelegate, first of a node", 0);
        vm.prank(second);
        staking.undelegate(workers[0].id, 1e23, 0);
        _record("undelegate", 90_000);
        vm.prank(second);
        staking.undelegate(workers[0].id, 1e23, 0);
        _record("undelegate, same week", 90_000);
        vm.prank(second);
        staking.cancelUndelegate(workers[0].id, uint8(block.timestamp / 1 weeks % 8));
        _record("cancelUndelegate", 0);
        vm.prank(second);
        staking.undelegate(workers[0].id, 1e23, 0);
        uint8[] memory tranches = new uint8[](1);
        tranches[0] = uint8(block.timestamp / 1 weeks % 8);
        skip(14 days);
        vm.prank(second);
        staking.withdraw(workers[0].id, tranches);
        _record("withdraw", 48_000);
    }

    function _rewards() private {
        gateway.mint(token, address(this), 10 ether);
        token.approve(address(staking), 10 ether);
        staking.addRewards(workers[0].id, 5 ether);
        _record("addRewards, first", 0);
        skip(1 days);
        staking.addRewards(workers[0].id, 5 ether);
        _record("addRewards", 70_000);
        skip(1 days);
    }

    function _votes() private {
        uint32[] memory ids = new uint32[](1);
        ids[0] = workers[0].id;
        staking.syncVotes(second, ids);
        _record("syncVotes, a delegator and an owner, first", 0);
        skip(1);
        _delegate(second, 1_000 ether);
        _record("delegate, more, with votes", 0);
        skip(1);
        vm.prank(second);
        staking.undelegate(workers[0].id, 1e23, 0);
        _record("undelegate, with votes", 0);
        skip(1);
        vm.prank(second);
        staking.delegate(first);
        _record("delegate votes", 0);
    }

    function _slashing() private {
        uint32 id = workers[0].id;
        vm.prank(slaAt);
        staking.slash(id, 100 ether, IStakingManager.SlashMode.Operational, "case");
        _record("slash, operational", 75_000);
        vm.prank(slaAt);
        staking.slash(id, 100 ether, IStakingManager.SlashMode.Fatal, "case 2");
        _record("slash, fatal, while rewards drip", 75_000);
        skip(7 days);
        vm.prank(slaAt);
        staking.slash(id, 100 ether, IStakingManager.SlashMode.Fatal, "case 3");
        vm.prank(slaAt);
        staking.slash(id, 100 ether, IStakingManager.SlashMode.Fatal, "case 4");
        _record("slash, fatal", 75_000);
    }
}
