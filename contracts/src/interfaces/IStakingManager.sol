// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {INodeRegistry} from "./INodeRegistry.sol";

/// @title IStakingManager
/// @notice The stake of node owners and of those who delegate to nodes. What is staked answers for the node: a slash takes
/// it, also while it waits to be withdrawn. Votes by stake are ERC-5805, see {StakeVotes}.
///
/// A node has four purses: the owner's stake, the owner's stake that waits, the delegations, and the delegations that wait.
/// The owner's are plain amounts. Those of the delegators are pools of which each holds shares, so that rewards and slashes
/// reach any number of delegators in one step.
///
/// Rounding is against who acts. In a conversion a delegator loses below the worth of one share, which starts as 1e-3 wei;
/// of a slash each purse bears its part rounded to at most one wei.
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

    /// @notice Tokens were delegated; `poolTokens` and `poolShares` are the new pool.
    event Delegated(
        uint32 indexed nodeId,
        address indexed delegator,
        uint128 tokens,
        uint128 shares,
        uint128 poolTokens,
        uint128 poolShares
    );

    /// @notice Delegated tokens were taken out and wait in a tranche until `unlock`.
    /// @param shares The shares of the pool that were given up.
    /// @param tokens What they were worth.
    /// @param leavingShares The shares of what waits that were got.
    /// @param poolTokens The new pool of delegations, and its shares.
    event Undelegated(
        uint32 indexed nodeId,
        address indexed delegator,
        uint8 tranche,
        uint40 unlock,
        uint128 shares,
        uint128 tokens,
        uint128 leavingShares,
        uint128 poolTokens,
        uint128 poolShares
    );

    /// @notice A tranche that waited is delegated again.
    event UndelegationCancelled(
        uint32 indexed nodeId,
        address indexed delegator,
        uint8 tranche,
        uint128 tokens,
        uint128 shares,
        uint128 poolTokens,
        uint128 poolShares
    );

    /// @notice Tranches were paid out; what still waits is `leavingTokens`, of which there are `leavingShares`.
    /// @param tranches Bit i is tranche i.
    event Withdrawn(
        uint32 indexed nodeId,
        address indexed delegator,
        uint8 tranches,
        uint128 tokens,
        uint128 leavingTokens,
        uint128 leavingShares
    );

    /// @notice Rewards came in: `commission` for the owner, the rest drips into the pool.
    /// @param dripRest All that has not dripped, with this.
    event RewardsAdded(
        uint32 indexed nodeId,
        address indexed from,
        uint128 amount,
        uint128 commission,
        uint128 dripRest,
        uint40 dripEnd
    );

    /// @notice The last delegator left; what rounding left behind and what had not dripped is the owner's.
    event LeftToOwner(uint32 indexed nodeId, uint128 amount);

    /// @notice The owner's share of rewards is `bps` from `time` on.
    event CommissionSet(uint32 indexed nodeId, uint16 bps, uint40 time);

    /// @notice The owner's credit was paid.
    event OwnerPaid(uint32 indexed nodeId, address indexed to, uint128 amount);

    /// @notice Stake was taken from a node as a penalty, from each purse, and handed to the SLAManager together with what
    /// {PoolReset} and {UnbondingReset} of the same slash tell.
    event Slashed(
        uint32 indexed nodeId,
        bytes32 indexed caseId,
        uint128 selfPart,
        uint128 selfUnbondingPart,
        uint128 poolPart,
        uint128 unbondingPart
    );

    /// @notice A slash left so little of the delegations that they start anew: the shares are void and `dust`, the rest
    /// with what had not dripped, was taken, too.
    event PoolReset(uint32 indexed nodeId, uint24 gen, uint128 dust);

    /// @notice Like {PoolReset}, of the delegations that wait.
    event UnbondingReset(uint32 indexed nodeId, uint24 gen, uint128 dust);

    /// @notice Nothing can be withdrawn from the node until then.
    event Frozen(uint32 indexed nodeId, uint40 until);

    /// @notice A kind of node needs this much stake to be Active.
    event RequirementSet(INodeRegistry.Kind indexed kind, uint128 amount);

    /// @notice A coordinator needs this much, with delegations, to be Active.
    event TotalRequirementSet(uint128 amount);

    /// @notice Stake taken out from now on waits this many seconds.
    event UnbondingSet(uint32 duration);

    /// @dev The node must keep this stake while it is not Pending, Exited or Banned.
    error RequirementHeld(uint256 have, uint256 need);

    /// @dev It can be withdrawn from `time` on.
    error NotUnlocked(uint40 time);

    /// @dev A case is open against the node: nothing can be withdrawn before.
    error FrozenUntil(uint40 until);

    /// @dev A delegation, or what would be left of it, is smaller than `least`.
    error BelowMinimum(uint256 value, uint256 least);

    /// @dev The node may have at most `most` delegated, 16 times its owner's stake.
    error PoolCap(uint256 most);

    /// @dev Slashes have left so little for each share that the pool takes no more. It does again when all have left.
    error PoolSpent(uint32 nodeId);

    /// @dev The shares are of generation `position`, which a slash has made void; the pool is at `have`.
    error StaleGeneration(uint24 have, uint24 position);

    /// @dev The caller would get less than it wants at least.
    error Slippage(uint256 got, uint256 least);

    /// @dev The tranche holds something older, to be withdrawn first.
    error TrancheFull(uint8 tranche);

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

    /// @notice Delegates ALEPH of the caller to a node: at least 1 ALEPH, and at most until the node has 16 times its
    /// owner's stake. Whether the node is Active does not matter: it may be waiting for this.
    /// @param minShares Reverts when fewer shares would be got.
    /// @return shares The shares of the pool got.
    function delegate(uint32 nodeId, uint128 amount, uint128 minShares) external returns (uint128 shares);

    /// @notice Like {delegate}, with the allowance given by an ERC-2612 signature of the caller.
    function delegateWithPermit(
        uint32 nodeId,
        uint128 amount,
        uint128 minShares,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (uint128 shares);

    /// @notice Takes delegated tokens out: they wait in a tranche, answer for the node until the unbonding time is over, and
    /// earn nothing. There are eight tranches, one for each week modulo eight; what is taken out in the same week waits
    /// together, until the last of it may go. Leaves nothing or at least 1 ALEPH.
    /// @param minTokens Reverts when the shares are worth less.
    /// @return tranche The number of the tranche, 0 to 7.
    function undelegate(uint32 nodeId, uint128 shares, uint128 minTokens) external returns (uint8 tranche);

    /// @notice Delegates a tranche again that waits or could be withdrawn, at the present price and under the same limits as
    /// {delegate}.
    /// @return shares The shares of the pool got.
    function cancelUndelegate(uint32 nodeId, uint8 tranche) external returns (uint128 shares);

    /// @notice Pays tranches that have waited to the caller. A tranche that a slash has made void pays nothing.
    /// @return tokens What was paid.
    function withdraw(uint32 nodeId, uint8[] calldata tranches) external returns (uint128 tokens);

    /// @notice Gives ALEPH of the caller, at least 1, to a node's delegators and its owner. The owner's commission can be
    /// claimed at once; the rest drips evenly, over 7 days when nothing else drips, so that nobody gains by delegating for
    /// the moment of a payment. What still drips is paced anew together with it, by the weighted mean of the times to go.
    /// All is the owner's when nothing is delegated.
    function addRewards(uint32 nodeId, uint128 amount) external;

    /// @notice Sets the owner's share of rewards, at most 3,000 bps. A raise counts in 14 days, a cut at once; either
    /// replaces a raise on its way. Only the node's owner.
    function setCommission(uint32 nodeId, uint16 bps) external;

    /// @notice Pays the owner's credit to where the node's earnings go. Anyone may call.
    function claimOwner(uint32 nodeId) external;

    /// @notice Counts the votes of `who` for what it has delegated to the nodes, and the votes of the nodes' owners for their
    /// stakes, as they are worth now. Delegations and stakes have no votes until this is called for them once. From then on
    /// they are counted when they move, but a slash does not count again, nor do rewards: this does. Anyone may call.
    function syncVotes(address who, uint32[] calldata nodeIds) external;

    /// @notice Takes stake of a node as a penalty and hands all of it to the SLAManager, in one transfer. Takes what there
    /// is when it is less than `amount`. Only the SLAManager, which slashes once for each case, shares out what it gets and
    /// burns the rest: an owner's own account is not paid what its delegators lose.
    /// @param mode Operational: first from the owner's stake, then from what waits of it, then from the delegators in
    /// proportion. Fatal: from all four purses in proportion.
    /// @return slashed What was taken, at most `amount`.
    /// @return dust What was taken besides, of pools that were left with next to nothing and start anew.
    function slash(uint32 nodeId, uint128 amount, SlashMode mode, bytes32 caseId)
        external
        returns (uint128 slashed, uint128 dust);

    /// @notice Lets nothing be withdrawn from a node until then: at most 7 days ahead, and at most 21 days in a row. Days
    /// are in a row unless a whole day without lies between them; what would be more is cut off, and nothing ends sooner than
    /// it would have. Only the SLAManager.
    function freeze(uint32 nodeId, uint40 until) external;

    /// @notice Sets the stake a kind of node needs, at most 1,000,000 ALEPH.
    function setRequirement(INodeRegistry.Kind kind, uint128 amount) external;

    /// @notice Sets what a coordinator needs together with delegations, at most 5,000,000 ALEPH.
    function setTotalRequirement(uint128 amount) external;

    /// @notice Sets the unbonding time, 7 to 28 days.
    function setUnbonding(uint32 duration) external;

    /// @notice The stake of a node, what waits, and until when.
    function stakeOf(uint32 nodeId) external view returns (uint128 selfStake, uint128 selfUnbonding, uint40 unlock);

    /// @notice The pools of a node. A slash that leaves next to nothing in one makes its shares void and counts its
    /// generation up.
    /// @return tokens What is delegated, with the rewards that have dripped.
    /// @return shares The shares of it.
    /// @return gen The generation of these.
    /// @return leavingTokens What was delegated and waits.
    /// @return leavingShares The shares of it.
    /// @return leavingGen The generation of these.
    function pool(uint32 nodeId)
        external
        view
        returns (
            uint128 tokens,
            uint128 shares,
            uint24 gen,
            uint128 leavingTokens,
            uint128 leavingShares,
            uint24 leavingGen
        );

    /// @notice What a node's delegators and its owner earn.
    /// @return dripRest Rewards that have not dripped.
    /// @return dripEnd When all will have.
    /// @return commissionBps The owner's share of rewards.
    /// @return nextCommissionBps The owner's share from `commissionAt` on; no raise was made when that is 0.
    /// @return commissionAt When the raise counts, or since when it has.
    /// @return credit What the owner can claim.
    function rewards(uint32 nodeId)
        external
        view
        returns (
            uint128 dripRest,
            uint40 dripEnd,
            uint16 commissionBps,
            uint16 nextCommissionBps,
            uint40 commissionAt,
            uint128 credit
        );

    /// @notice Until when nothing can be withdrawn from a node; in the past when something can.
    function frozenUntil(uint32 nodeId) external view returns (uint40);

    /// @notice What an account has delegated to a node: its worth now, and its shares.
    function positionValue(uint32 nodeId, address who) external view returns (uint128 tokens, uint128 shares);

    /// @notice A tranche: its worth now, its shares and when it can be withdrawn; zeros when it is empty or void.
    function tranche(uint32 nodeId, address who, uint8 index)
        external
        view
        returns (uint128 tokens, uint128 shares, uint40 unlock);

    /// @notice The weight of a coordinator's voice: its stake with delegations, at most five times its owner's.
    function weight(uint32 nodeId) external view returns (uint96);

    /// @notice All that a slash could take from a node.
    function slashable(uint32 nodeId) external view returns (uint128);

    /// @notice What a node's owner has staked, what is delegated to it, and what of both waits.
    function totalStake(uint32 nodeId) external view returns (uint128 self, uint128 delegated, uint128 unbonding);

    /// @notice The stake a kind of node needs of its owner.
    function requirement(INodeRegistry.Kind kind) external view returns (uint128);

    /// @notice What a coordinator needs together with delegations.
    function totalRequirement() external view returns (uint128);

    /// @notice The unbonding time in seconds.
    function unbonding() external view returns (uint32);

    /// @notice Whether a node's stake suffices for a kind.
    function meetsRequirement(uint32 nodeId, INodeRegistry.Kind kind) external view returns (bool);
}
