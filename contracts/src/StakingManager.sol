// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title StakingManager
/// @notice See {IStakingManager}.
contract StakingManager is IStakingManager, Base, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /* TYPES */

    /// @dev One slot. 2^96 wei is a hundred times the supply.
    struct Stake {
        uint96 self;
        uint96 unbonding;
        uint40 unlock;
    }

    /// @dev Until when nothing can be taken out of a node, and since when that has been so without a break.
    struct Freeze {
        uint40 since;
        uint40 until;
    }

    /// @custom:storage-location erc7201:aleph.storage.StakingManager.v1
    struct StakingManagerStorage {
        uint32 unbondingTime;
        mapping(uint32 nodeId => Stake) stakes;
        mapping(INodeRegistry.Kind kind => uint128) requirements;
        mapping(uint32 nodeId => Freeze) freezes;
        mapping(bytes32 caseId => bool) slashedCases;
    }

    /* CONSTANTS */

    /// @dev Coordinators decide where jobs go, so they hold most.
    uint128 private constant _COORDINATOR_REQUIREMENT = 200_000 ether;
    uint128 private constant _WORKER_REQUIREMENT = 10_000 ether;
    uint128 private constant _REQUIREMENT_MAX = 1_000_000 ether;

    /// @dev Longer than the time in which evidence against a node can be brought.
    uint32 private constant _UNBONDING = 14 days;
    uint32 private constant _UNBONDING_MIN = 7 days;
    uint32 private constant _UNBONDING_MAX = 28 days;

    /// @dev What a slash may give away; the rest is burned, so that nobody gains by having a friend slashed.
    uint16 private constant _BENEFICIARY_MAX_BPS = 7_500;
    uint16 private constant _BPS = 10_000;

    /// @dev How long one case, and cases one after the other, may hold a node's stake.
    uint40 private constant _FREEZE_MAX = 7 days;
    uint40 private constant _FREEZE_RUN_MAX = 21 days;

    /// @dev Where tokens go that cannot be burned, because the token has no function for it.
    address private constant _GRAVE = 0x000000000000000000000000000000000000dEaD;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.StakingManager.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xdd0cf7ced5ea83c2fe98d6b41b2ac235a15755f65f402111515c3c357ddaed00;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) {}

    /// @notice Sets up a new proxy.
    function initialize() external initializer {
        _initBase();
        _setUnbonding(_UNBONDING);
        _setRequirement(INodeRegistry.Kind.Coordinator, _COORDINATOR_REQUIREMENT);
        _setRequirement(INodeRegistry.Kind.Compute, _WORKER_REQUIREMENT);
        _setRequirement(INodeRegistry.Kind.Storage, _WORKER_REQUIREMENT);
    }

    /* STAKING */

    /// @inheritdoc IStakingManager
    function stake(uint32 nodeId, uint128 amount) external {
        _stake(nodeId, amount);
    }

    /// @inheritdoc IStakingManager
    function stakeWithPermit(uint32 nodeId, uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        // Somebody may have sent the permit already; then the allowance is there and the stake goes through.
        try IERC20Permit(TOKEN).permit(msg.sender, address(this), amount, deadline, v, r, s) {}
        catch {
            uint256 have = IERC20(TOKEN).allowance(msg.sender, address(this));
            if (have < amount) revert AlephErrors.Insufficient(have, amount);
        }
        _stake(nodeId, amount);
    }

    /* UNSTAKING */

    /// @inheritdoc IStakingManager
    function requestUnstake(uint32 nodeId, uint128 amount) external nonReentrant {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        StakingManagerStorage storage $ = _storage();
        INodeRegistry.Status status = _checkOwner(nodeId);
        Stake memory s = $.stakes[nodeId];
        if (s.self < amount) revert AlephErrors.Insufficient(s.self, amount);
        s.self -= uint96(amount);
        _checkRequirement($, nodeId, status, s.self);
        s.unbonding += uint96(amount);
        s.unlock = uint40(block.timestamp) + $.unbondingTime;
        $.stakes[nodeId] = s;
        emit SelfUnbonding(nodeId, amount, s.self, s.unbonding, s.unlock);
        INodeRegistry(NODES).onStakeChanged(nodeId);
    }

    /// @inheritdoc IStakingManager
    function withdrawSelf(uint32 nodeId) external nonReentrant unpaused(Pausing.EXIT) {
        StakingManagerStorage storage $ = _storage();
        _checkOwner(nodeId);
        Stake storage s = $.stakes[nodeId];
        uint96 amount = s.unbonding;
        if (amount == 0) revert AlephErrors.ZeroAmount();
        if (block.timestamp < s.unlock) revert NotUnlocked(s.unlock);
        uint40 frozen = $.freezes[nodeId].until;
        if (block.timestamp < frozen) revert FrozenUntil(frozen);
        (s.unbonding, s.unlock) = (0, 0);
        emit SelfWithdrawn(nodeId, msg.sender, amount);
        IERC20(TOKEN).safeTransfer(msg.sender, amount);
    }

    /* PENALTIES */

    /// @inheritdoc IStakingManager
    function slash(uint32 nodeId, uint128 amount, SlashMode, address beneficiary, uint16 beneficiaryBps, bytes32 caseId)
        external
        nonReentrant
        unpaused(Pausing.PENALTY)
        returns (uint128 slashed, uint128 paid)
    {
        _onlyPeer(SLA);
        if (beneficiaryBps > _BENEFICIARY_MAX_BPS) {
            revert AlephErrors.OutOfBounds(beneficiaryBps, 0, _BENEFICIARY_MAX_BPS);
        }
        StakingManagerStorage storage $ = _storage();
        if ($.slashedCases[caseId]) revert AlephErrors.Duplicate(caseId);
        $.slashedCases[caseId] = true;
        Stake storage s = $.stakes[nodeId];
        uint128 self = uint128(Math.min(amount, s.self));
        s.self -= uint96(self);
        uint128 waiting = uint128(Math.min(amount - self, s.unbonding));
        s.unbonding -= uint96(waiting);
        slashed = self + waiting;
        paid = slashed * beneficiaryBps / _BPS;
        emit Slashed(nodeId, caseId, slashed, 0, 0, beneficiary, paid);
        if (slashed == 0) return (0, 0);
        INodeRegistry(NODES).onStakeChanged(nodeId);
        if (paid != 0) IERC20(TOKEN).safeTransfer(beneficiary, paid);
        _burn(slashed - paid);
    }

    /// @inheritdoc IStakingManager
    function freeze(uint32 nodeId, uint40 until) external {
        _onlyPeer(SLA);
        uint40 time = uint40(block.timestamp);
        if (until <= time || until > time + _FREEZE_MAX) {
            revert AlephErrors.OutOfBounds(until, time + 1, time + _FREEZE_MAX);
        }
        Freeze storage f = _storage().freezes[nodeId];
        uint40 since = time < f.until ? f.since : time;
        until = uint40(Math.min(Math.max(until, f.until), since + _FREEZE_RUN_MAX));
        (f.since, f.until) = (since, until);
        emit Frozen(nodeId, until);
    }

    /* PARAMETERS */

    /// @inheritdoc IStakingManager
    function setRequirement(INodeRegistry.Kind kind, uint128 amount) external restricted {
        if (kind == INodeRegistry.Kind.None) {
            revert AlephErrors.OutOfBounds(0, 1, uint256(type(INodeRegistry.Kind).max));
        }
        if (amount > _REQUIREMENT_MAX) revert AlephErrors.OutOfBounds(amount, 0, _REQUIREMENT_MAX);
        _setRequirement(kind, amount);
    }

    /// @inheritdoc IStakingManager
    function setUnbonding(uint32 duration) external restricted {
        if (duration < _UNBONDING_MIN || duration > _UNBONDING_MAX) {
            revert AlephErrors.OutOfBounds(duration, _UNBONDING_MIN, _UNBONDING_MAX);
        }
        _setUnbonding(duration);
    }

    /* VIEWS */

    /// @inheritdoc IStakingManager
    function stakeOf(uint32 nodeId) external view returns (uint128, uint128, uint40) {
        Stake storage s = _storage().stakes[nodeId];
        return (s.self, s.unbonding, s.unlock);
    }

    /// @inheritdoc IStakingManager
    function requirement(INodeRegistry.Kind kind) external view returns (uint128) {
        return _storage().requirements[kind];
    }

    /// @inheritdoc IStakingManager
    function unbonding() external view returns (uint32) {
        return _storage().unbondingTime;
    }

    /// @inheritdoc IStakingManager
    function meetsRequirement(uint32 nodeId, INodeRegistry.Kind kind) external view returns (bool) {
        StakingManagerStorage storage $ = _storage();
        return $.stakes[nodeId].self >= $.requirements[kind];
    }

    /// @inheritdoc IStakingManager
    function weight(uint32 nodeId) external view returns (uint96) {
        return _storage().stakes[nodeId].self;
    }

    /// @inheritdoc IStakingManager
    function slashable(uint32 nodeId) external view returns (uint128) {
        Stake storage s = _storage().stakes[nodeId];
        return uint128(s.self) + s.unbonding;
    }

    /// @inheritdoc IStakingManager
    function totalStake(uint32 nodeId) external view returns (uint128, uint128, uint128) {
        Stake storage s = _storage().stakes[nodeId];
        return (s.self, 0, s.unbonding);
    }

    /* INTERNAL */

    function _burn(uint256 amount) private {
        if (amount == 0) return;
        try ERC20Burnable(TOKEN).burn(amount) {}
        catch {
            IERC20(TOKEN).safeTransfer(_GRAVE, amount);
        }
    }

    function _stake(uint32 nodeId, uint128 amount) private nonReentrant unpaused(Pausing.ENTRY) {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        INodeRegistry.Status status = _checkOwner(nodeId);
        if (status == INodeRegistry.Status.Exited) revert INodeRegistry.NodeNotActive(nodeId, status);
        StakingManagerStorage storage $ = _storage();
        Stake storage s = $.stakes[nodeId];
        uint96 self = (uint256(s.self) + amount).toUint96();
        s.self = self;
        emit Staked(nodeId, msg.sender, amount, self);
        INodeRegistry(NODES).onStakeChanged(nodeId);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @dev A node that works, or may be held to what it did, keeps its requirement.
    function _checkRequirement(
        StakingManagerStorage storage $,
        uint32 nodeId,
        INodeRegistry.Status status,
        uint256 left
    ) private view {
        if (status == INodeRegistry.Status.Pending || status == INodeRegistry.Status.Exited) return;
        (, INodeRegistry.Kind kind,) = INodeRegistry(NODES).standing(nodeId);
        uint256 need = $.requirements[kind];
        if (left < need) revert RequirementHeld(left, need);
    }

    function _checkOwner(uint32 nodeId) private view returns (INodeRegistry.Status status) {
        address owner;
        (owner,, status) = INodeRegistry(NODES).standing(nodeId);
        if (owner != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
    }

    function _setRequirement(INodeRegistry.Kind kind, uint128 amount) private {
        _storage().requirements[kind] = amount;
        emit RequirementSet(kind, amount);
    }

    function _setUnbonding(uint32 duration) private {
        _storage().unbondingTime = duration;
        emit UnbondingSet(duration);
    }

    function _storage() private pure returns (StakingManagerStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
