// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStakingManager} from "../src/interfaces/IStakingManager.sol";
import {DelegationSuite} from "./Delegation.t.sol";

/// @title StakingVectors
/// @notice The StakingManager takes the steps that the Go model took, and has the same in every purse after each, to the
/// last wei. The vectors are written by protocol/staking.
contract StakingVectorsTest is DelegationSuite {
    string internal json;
    address[] internal people;

    /// @dev A column of the vectors.
    function _column(string memory name) private view returns (uint256[] memory) {
        return vm.parseJsonUintArray(json, string.concat(".", name));
    }

    function setUp() public override {
        super.setUp();
        json = vm.readFile("../protocol/testdata/vectors/staking.json");
        for (uint256 i; i < 4; ++i) {
            people.push(makeAddr(string.concat("person", vm.toString(i))));
        }
        vm.startPrank(owner);
        staking.setCommission(id, uint16(vm.parseJsonUint(json, ".commissionBps")));
        staking.requestUnstake(id, uint128(vm.parseJsonUint(json, ".waiting")));
        vm.stopPrank();
        (uint128 self,,) = staking.stakeOf(id);
        assertEq(self, vm.parseJsonUint(json, ".staked"));
        skip(14 days);
        assertEq(block.timestamp, vm.parseJsonUint(json, ".start"));
    }

    function test_vectors_everyStep() public {
        uint256[] memory op = _column("op");
        uint256[] memory time = _column("time");
        uint256[] memory who = _column("who");
        uint256[] memory amount = _column("amount");
        uint256[] memory ok = _column("ok");
        uint256[] memory result = _column("result");
        assertGe(op.length, 500);
        for (uint256 i; i < op.length; ++i) {
            vm.warp(time[i]);
            (bool did, uint256 got) = _step(op[i], people[who[i]], amount[i]);
            assertEq(did, ok[i] == 1, string.concat("step ", vm.toString(i)));
            if (did) assertEq(got, result[i], string.concat("result of step ", vm.toString(i)));
            _note(people[who[i]]);
        }
        _compare("selfStake", seen[0]);
        _compare("selfUnbonding", seen[1]);
        _compare("tokens", seen[2]);
        _compare("shares", seen[3]);
        _compare("gen", seen[4]);
        _compare("leavingTokens", seen[5]);
        _compare("leavingShares", seen[6]);
        _compare("leavingGen", seen[7]);
        _compare("dripRest", seen[8]);
        _compare("credit", seen[9]);
        _compare("value", seen[10]);
        _assertHeld();
    }

    uint256[][11] private seen;

    function _note(address who) private {
        (uint256 self, uint256 waiting,) = staking.stakeOf(id);
        seen[0].push(self);
        seen[1].push(waiting);
        (uint256 a, uint256 b, uint256 c, uint256 d, uint256 e, uint256 f) = staking.pool(id);
        seen[2].push(a);
        seen[3].push(b);
        seen[4].push(c);
        seen[5].push(d);
        seen[6].push(e);
        seen[7].push(f);
        (uint256 rest,,,,, uint256 credit) = staking.rewards(id);
        seen[8].push(rest);
        seen[9].push(credit);
        seen[10].push(_valueOf(who));
    }

    function _compare(string memory name, uint256[] memory got) private view {
        uint256[] memory want = _column(name);
        assertEq(got.length, want.length, name);
        for (uint256 i; i < want.length; ++i) {
            if (got[i] != want[i]) assertEq(got[i], want[i], string.concat(name, " after step ", vm.toString(i)));
        }
    }

    function _step(uint256 op, address who, uint256 amount) private returns (bool ok, uint256 result) {
        if (op == 0 || op == 6) {
            address from = op == 0 ? who : address(this);
            gateway.mint(token, from, amount);
            vm.prank(from);
            token.approve(address(staking), amount);
        }
        bytes memory call;
        if (op == 0) call = abi.encodeWithSignature("delegate(uint32,uint128,uint128)", id, amount, 0);
        if (op == 1) call = abi.encodeCall(staking.undelegate, (id, uint128(amount), 0));
        if (op == 2) call = abi.encodeCall(staking.cancelUndelegate, (id, uint8(amount)));
        if (op == 3) call = abi.encodeCall(staking.withdraw, (id, _tranches(uint8(amount))));
        if (op == 6) (who, call) = (address(this), abi.encodeCall(staking.addRewards, (id, uint128(amount))));
        if (op == 4) return (true, _operational(amount));
        if (op == 5) return (true, _fatal(amount));
        if (op == 7) {
            _stake(workers[0], uint128(amount));
            return (true, 0);
        }
        (,,, uint256 before,,) = staking.pool(id);
        bytes memory data;
        vm.prank(who);
        (ok, data) = address(staking).call(call);
        if (!ok) {
            bool known =
                bytes4(data) == IStakingManager.PoolCap.selector || bytes4(data) == IStakingManager.PoolSpent.selector;
            assertTrue(known, vm.toString(data));
            return (false, 0);
        }
        if (op == 1) {
            (,,, uint256 present,,) = staking.pool(id);
            return (true, present - before);
        }
        if (op != 6) result = abi.decode(data, (uint256));
    }
}
