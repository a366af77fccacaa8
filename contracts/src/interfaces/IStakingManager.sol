// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {INodeRegistry} from "./INodeRegistry.sol";

/// @title IStakingManager
/// @notice The stake of node owners.
interface IStakingManager {
    /// @notice Stake was added by `from`; `selfStake` is the new stake.
    event Staked(uint32 indexed nodeId, address indexed from, uint128 amount, uint128 selfStake);

    /// @notice Stake was taken out and waits until `unlock`.
    event SelfUnbonding(uint32 indexed nodeId, uint128 amount, uint128 selfStake, uint128 selfUnbonding, uint40 unlock);

    /// @notice The stake that waited was paid to the owner.
    event SelfWithdrawn(uint32 indexed nodeId, address indexed to, uint128 amount);

    /// @notice A kind of node needs this much stake to be Active.
    event RequirementSet(INodeRegistry.Kind indexed kind, uint128 amount);

    /// @notice Stake taken out from now on waits this many seconds.
    event UnbondingSet(uint32 duration);

    /// @dev The node must keep this stake while it is not Pending or Exited.
    error RequirementHeld(uint256 have, uint256 need);

    /// @dev The stake can be withdrawn at `at`.
    error NotUnlocked(uint40 at);

    /// @notice Stakes ALEPH of the caller for a node. Only the node's owner.
    function stake(uint32 nodeId, uint128 amount) external;

    /// @notice Like {stake}, with the allowance given by an ERC-2612 signature of the caller. A permit that fails, for
    /// instance because somebody sent it already, is ignored when the allowance suffices.
    function stakeWithPermit(uint32 nodeId, uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Takes stake out; it can be withdrawn after the unbonding time. More taken out while some waits makes all of
    /// it wait anew. Only the node's owner.
    function requestUnstake(uint32 nodeId, uint128 amount) external;

    /// @notice Pays the stake that has waited to the node's owner. Only the node's owner.
    function withdrawSelf(uint32 nodeId) external;

    /// @notice Sets the stake a kind of node needs, at most 1,000,000 ALEPH.
    function setRequirement(INodeRegistry.Kind kind, uint128 amount) external;

    /// @notice Sets the unbonding time, 7 to 28 days.
    function setUnbonding(uint32 duration) external;

    /// @notice The stake of a node, what waits, and until when.
    function stakeOf(uint32 nodeId) external view returns (uint128 selfStake, uint128 selfUnbonding, uint40 unlock);

    /// @notice The stake a kind of node needs.
    function requirement(INodeRegistry.Kind kind) external view returns (uint128);

    /// @notice The unbonding time in seconds.
    function unbonding() external view returns (uint32);

    /// @notice Whether a node's stake suffices for a kind.
    function meetsRequirement(uint32 nodeId, INodeRegistry.Kind kind) external view returns (bool);
}
