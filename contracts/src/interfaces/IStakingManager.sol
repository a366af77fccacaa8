// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {INodeRegistry} from "./INodeRegistry.sol";

/// @title IStakingManager
/// @notice The stake of node owners.
interface IStakingManager {
    /// @notice Who bears a slash. Operational: the owner first, then the delegators. Fatal: everybody in proportion.
    enum SlashMode {
        Operational,
        Fatal
    }

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

    /// @notice Stake was taken from a node as a penalty: of the owner, of the delegators and of delegators who wait.
    /// @param paid What the beneficiary got; the rest was burned.
    event Slashed(
        uint32 indexed nodeId,
        bytes32 indexed caseId,
        uint128 selfPart,
        uint128 poolPart,
        uint128 unbondingPart,
        address beneficiary,
        uint128 paid
    );

    /// @notice Nothing can be taken out of the node until then.
    event Frozen(uint32 indexed nodeId, uint40 until);

    /// @dev A case is open against the node: nothing can be taken out before.
    error FrozenUntil(uint40 until);

    /// @dev The node must keep this stake while it is not Pending or Exited.
    error RequirementHeld(uint256 have, uint256 need);

    /// @dev It can be withdrawn from `time` on.
    error NotUnlocked(uint40 time);

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

    /// @notice Takes stake of a node as the penalty of a case. Takes what there is when it is less than `amount`. Only the
    /// SLAManager.
    /// @param beneficiaryBps The share of the beneficiary, at most 7,500; the rest is burned.
    /// @param caseId The case; a case slashes once.
    /// @return slashed What was taken.
    /// @return paid What of it the beneficiary got.
    function slash(
        uint32 nodeId,
        uint128 amount,
        SlashMode mode,
        address beneficiary,
        uint16 beneficiaryBps,
        bytes32 caseId
    ) external returns (uint128 slashed, uint128 paid);

    /// @notice Keeps everything in a node until then: at most 7 days ahead, at most 21 days without a break. Only the
    /// SLAManager.
    function freeze(uint32 nodeId, uint40 until) external;

    /// @notice Sets the stake a kind of node needs, at most 1,000,000 ALEPH.
    function setRequirement(INodeRegistry.Kind kind, uint128 amount) external;

    /// @notice Sets the unbonding time, 7 to 28 days.
    function setUnbonding(uint32 duration) external;

    /// @notice The stake of a node, what waits, and until when.
    function stakeOf(uint32 nodeId) external view returns (uint128 selfStake, uint128 selfUnbonding, uint40 unlock);

    /// @notice The weight of a coordinator's voice: its stake with delegations, at most five times its owner's.
    function weight(uint32 nodeId) external view returns (uint96);

    /// @notice All that a slash could take from a node.
    function slashable(uint32 nodeId) external view returns (uint128);

    /// @notice What a node's owner has staked, what is delegated to it, and what of both waits.
    function totalStake(uint32 nodeId) external view returns (uint128 self, uint128 delegated, uint128 unbonding);

    /// @notice The stake a kind of node needs.
    function requirement(INodeRegistry.Kind kind) external view returns (uint128);

    /// @notice The unbonding time in seconds.
    function unbonding() external view returns (uint32);

    /// @notice Whether a node's stake suffices for a kind.
    function meetsRequirement(uint32 nodeId, INodeRegistry.Kind kind) external view returns (bool);
}
