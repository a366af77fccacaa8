// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../../src/interfaces/INodeRegistry.sol";
import {IStakingManager} from "../../../src/interfaces/IStakingManager.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleStaking
/// @notice The StakingManager, in the pool that everybody delegates to.
abstract contract ScaleStaking is ScaleWorld {
    address private _who;
    uint256 private _key;

    function test_scale_staking() public {
        _scale("StakingManager", address(staking), _staking);
    }

    function _staking() private {
        (_who, _key) = makeAddrAndKey("scale delegator");
        gateway.mint(token, _who, 10_000 ether);
        vm.prank(_who);
        token.approve(address(staking), 2_000 ether);
        _delegating();
        _voting();
        _owning();
        _stakingPenalties();
        _stakingParameters();
        _upkeep("StakingManager", address(staking));
    }

    function _permitOf(address owner, uint256 key, uint256 value) private view returns (uint8, bytes32, bytes32) {
        bytes32 typeHash =
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 h =
            keccak256(abi.encode(typeHash, owner, address(staking), value, token.nonces(owner), type(uint256).max));
        return vm.sign(key, _digest("Aleph", address(token), h));
    }

    function _delegating() private {
        (uint32 id, address at) = (pool.id, address(staking));
        bytes memory data = abi.encodeWithSignature("delegate(uint32,uint128,uint128)", id, 1_000 ether, 0);
        _call("delegate, new", _who, at, data);
        _call("delegate, more", _who, at, data);
        (uint8 v, bytes32 r, bytes32 s) = _permitOf(_who, _key, 1_000 ether);
        uint256 end = type(uint256).max;
        data = abi.encodeCall(IStakingManager.delegateWithPermit, (id, 1_000 ether, 0, end, v, r, s));
        _call("delegateWithPermit", _who, at, data);
        data = abi.encodeCall(IStakingManager.undelegate, (id, 1e23, 0));
        _call("undelegate", _who, at, data);
        uint8 tranche = uint8(block.timestamp / 1 weeks % 8);
        _call("cancelUndelegate", _who, at, abi.encodeCall(IStakingManager.cancelUndelegate, (id, tranche)));
        _call("undelegate, again", _who, at, data);
        skip(14 days);
        uint8[] memory tranches = new uint8[](1);
        tranches[0] = tranche;
        _call("withdraw", _who, at, abi.encodeCall(IStakingManager.withdraw, (id, tranches)));
    }

    function _voting() private {
        address at = address(staking);
        uint32[] memory ids = new uint32[](1);
        ids[0] = pool.id;
        bytes memory data = abi.encodeCall(IStakingManager.syncVotes, (_who, ids));
        _call("syncVotes, new", address(this), at, data);
        skip(1);
        vm.prank(_who);
        staking.undelegate(pool.id, 1e23, 0);
        _call("syncVotes", address(this), at, data);
        skip(1);
        _call("delegate votes", _who, at, abi.encodeWithSignature("delegate(address)", big));
        bytes32 typeHash = keccak256("Delegation(address delegatee,uint256 nonce,uint256 expiry)");
        uint256 end = type(uint256).max;
        bytes32 h = keccak256(abi.encode(typeHash, landlord, 0, end));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_key, _digest("AlephStaking", at, h));
        skip(1);
        data = abi.encodeWithSignature(
            "delegateBySig(address,uint256,uint256,uint8,bytes32,bytes32)", landlord, 0, end, v, r, s
        );
        _call("delegateBySig", address(this), at, data);
        skip(1);
        vm.prank(_who);
        token.approve(at, 1_000 ether);
        data = abi.encodeWithSignature("delegate(uint32,uint128,uint128)", pool.id, 1_000 ether, 0);
        _call("delegate, with votes", _who, at, data);
    }

    function _owning() private {
        (address owner, uint256 key) = makeAddrAndKey("worker0 owner");
        assertEq(owner, pool.owner);
        (uint32 id, address at) = (pool.id, address(staking));
        gateway.mint(token, owner, 1_000 ether);
        vm.prank(owner);
        token.approve(at, 100 ether);
        _call("stake", owner, at, abi.encodeCall(IStakingManager.stake, (id, 100 ether)));
        (uint8 v, bytes32 r, bytes32 s) = _permitOf(owner, key, 100 ether);
        bytes memory data = abi.encodeCall(IStakingManager.stakeWithPermit, (id, 100 ether, type(uint256).max, v, r, s));
        _call("stakeWithPermit", owner, at, data);
        _call("setCommission", owner, at, abi.encodeCall(IStakingManager.setCommission, (id, 500)));
        gateway.mint(token, address(this), 20 ether);
        token.approve(at, 20 ether);
        staking.addRewards(id, 5 ether);
        skip(15 days);
        _call("addRewards", address(this), at, abi.encodeCall(IStakingManager.addRewards, (id, 5 ether)));
        _call("claimOwner", address(this), at, abi.encodeCall(IStakingManager.claimOwner, (id)));
        _call("requestUnstake", owner, at, abi.encodeCall(IStakingManager.requestUnstake, (id, 10 ether)));
        skip(14 days);
        _call("withdrawSelf", owner, at, abi.encodeCall(IStakingManager.withdrawSelf, (id)));
        token.approve(at, 20 ether);
        staking.addRewards(id, 5 ether);
        skip(1 days);
    }

    function _stakingPenalties() private {
        (uint32 id, address at) = (pool.id, address(staking));
        IStakingManager.SlashMode light = IStakingManager.SlashMode.Operational;
        bytes memory data = abi.encodeCall(IStakingManager.slash, (id, 100 ether, light, "1"));
        _call("slash, operational", slaAt, at, data);
        IStakingManager.SlashMode all = IStakingManager.SlashMode.Fatal;
        data = abi.encodeCall(IStakingManager.slash, (id, 20_000 ether, all, "2"));
        _call("slash, fatal", slaAt, at, data);
        uint40 until = uint40(block.timestamp) + 7 days;
        _call("freeze", slaAt, at, abi.encodeCall(IStakingManager.freeze, (id, until)));
        data = abi.encodeCall(IStakingManager.slash, (id, type(uint96).max, all, "3"));
        _call("slash, everything", slaAt, at, data);
    }

    function _stakingParameters() private {
        (address who, address at) = (address(timelock), address(staking));
        INodeRegistry.Kind kind = INodeRegistry.Kind.Storage;
        _call("setRequirement", who, at, abi.encodeCall(IStakingManager.setRequirement, (kind, 9_000 ether)));
        _call("setTotalRequirement", who, at, abi.encodeCall(IStakingManager.setTotalRequirement, (400_000 ether)));
        _call("setUnbonding", who, at, abi.encodeCall(IStakingManager.setUnbonding, (8 days)));
    }
}
