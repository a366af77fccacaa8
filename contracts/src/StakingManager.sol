// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {StakeVotes} from "./StakeVotes.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {StakeMath} from "./libraries/StakeMath.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ERC20Burnable} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Burnable.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title StakingManager
/// @notice See {IStakingManager}.
/// @dev Amounts have 96 bits: 2^96 wei is a hundred times the supply. No loop runs over delegators.
contract StakingManager is IStakingManager, Base, StakeVotes, ReentrancyGuardTransient, Multicall {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /* TYPES */

    /// @dev What is the owner's. The kind is the node's; it is noted here because every change asks for it.
    struct Own {
        uint96 staked;
        uint96 waiting;
        uint40 unlock;
        INodeRegistry.Kind kind;
    }

    /// @dev A pool of which delegators hold shares. The mark spares reading a slot that says nothing most of the time: of
    /// what is bonded, that rewards drip; of what is leaving, that the node has been frozen.
    struct Fund {
        uint96 tokens;
        uint128 shares;
        uint24 gen;
        bool marked;
    }

    struct Drip {
        uint96 rest;
        uint40 last;
        uint40 end;
        uint16 bps;
        uint16 nextBps;
        uint40 nextFrom;
    }

    struct Side {
        uint96 credit;
        uint40 frozenSince;
        uint40 frozenUntil;
    }

    struct Pool {
        Own own;
        Fund bonded;
        Fund leaving;
        Drip drip;
        Side side;
    }

    /// @dev `units` are the tokens counted as votes of the delegator; 0 when they are not counted.
    struct Position {
        uint128 shares;
        uint24 gen;
        uint96 units;
    }

    struct Tranche {
        uint128 shares;
        uint24 gen;
        uint40 unlock;
        uint32 week;
    }

    /// @dev For whom an owner's stake is counted. Not always the owner: a node may change hands.
    struct OwnVotes {
        address voter;
        uint96 units;
    }

    /// @dev What a slash takes of each purse, and what is burned because too little would be left.
    struct Cut {
        uint256 staked;
        uint256 waiting;
        uint256 bonded;
        uint256 leaving;
        uint256 dust;
    }

    /// @custom:storage-location erc7201:aleph.storage.StakingManager.v1
    struct StakingManagerStorage {
        uint32 unbondingTime;
        uint96 totalRequirement;
        mapping(INodeRegistry.Kind kind => uint128) requirements;
        mapping(uint32 nodeId => Pool) pools;
        mapping(uint32 nodeId => mapping(address delegator => Position)) positions;
        mapping(uint32 nodeId => mapping(address delegator => Tranche[8])) tranches;
        mapping(uint32 nodeId => OwnVotes) ownVotes;
    }

    /* CONSTANTS */

    /// @dev Coordinators decide where jobs go, so they hold most.
    uint128 private constant _COORDINATOR_REQUIREMENT = 200_000 ether;
    uint128 private constant _WORKER_REQUIREMENT = 10_000 ether;
    uint128 private constant _REQUIREMENT_MAX = 1_000_000 ether;
    uint128 private constant _TOTAL_REQUIREMENT = 500_000 ether;
    uint128 private constant _TOTAL_REQUIREMENT_MAX = 5_000_000 ether;

    /// @dev Longer than the time in which evidence against a node can be brought.
    uint32 private constant _UNBONDING = 14 days;
    uint32 private constant _UNBONDING_MIN = 7 days;
    uint32 private constant _UNBONDING_MAX = 28 days;

    /// @dev Nobody opens positions that are not worth their storage, and no pool gets shares that are all rounding.
    uint128 private constant _MIN = 1 ether;

    /// @dev The owner keeps a part of the risk that can be seen.
    uint256 private constant _CAP = 16;

    /// @dev A coordinator's voice counts delegations up to this many times its own stake.
    uint256 private constant _WEIGHT_CAP = 5;

    uint256 private constant _TRANCHES = 8;

    uint40 private constant _DRIP = 7 days;
    uint16 private constant _COMMISSION_MAX = 3_000;

    /// @dev Long enough for a delegator to leave before.
    uint40 private constant _COMMISSION_NOTICE = 14 days;

    /// @dev What a slash may give away; the rest is burned, so that nobody gains by having a friend slashed.
    uint16 private constant _BENEFICIARY_MAX_BPS = 7_500;
    uint16 private constant _BPS = 10_000;

    /// @dev When a slash leaves fewer tokens than _DUST, or more than _RESET_RATIO shares for one, a pool starts anew. Else
    /// shares would outgrow 128 bits by and by: as it is they stay below 2^96 * 1e9. A pool with more than _ENTRY_RATIO
    /// shares for a token lets nobody in, so that who comes in is never reset unless 99.9 % are lost. Pools start at 1000.
    uint256 private constant _DUST = 1e15;
    uint256 private constant _RESET_RATIO = 1e9;
    uint256 private constant _ENTRY_RATIO = 1e6;

    /// @dev How long one case, and cases one after the other, may hold a node's stake, and the pause between.
    uint40 private constant _FREEZE_MAX = 7 days;
    uint40 private constant _FREEZE_RUN_MAX = 21 days;
    uint40 private constant _FREEZE_GAP = 1 days;

    /// @dev Where tokens go that cannot be burned, because the token has no function for it.
    address private constant _GRAVE = 0x000000000000000000000000000000000000dEaD;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.StakingManager.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xdd0cf7ced5ea83c2fe98d6b41b2ac235a15755f65f402111515c3c357ddaed00;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) EIP712("AlephStaking", "1") {}

    /// @notice Sets up a new proxy.
    function initialize() external initializer {
        _initBase();
        _setUnbonding(_UNBONDING);
        _setRequirement(INodeRegistry.Kind.Coordinator, _COORDINATOR_REQUIREMENT);
        _setRequirement(INodeRegistry.Kind.Compute, _WORKER_REQUIREMENT);
        _setRequirement(INodeRegistry.Kind.Storage, _WORKER_REQUIREMENT);
        _setTotalRequirement(_TOTAL_REQUIREMENT);
    }

    /* STAKING */

    /// @inheritdoc IStakingManager
    function stake(uint32 nodeId, uint128 amount) external {
        _stake(nodeId, amount);
    }

    /// @inheritdoc IStakingManager
    function stakeWithPermit(uint32 nodeId, uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external {
        _permit(amount, deadline, v, r, s);
        _stake(nodeId, amount);
    }

    /// @inheritdoc IStakingManager
    function requestUnstake(uint32 nodeId, uint128 amount) external nonReentrant {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        StakingManagerStorage storage $ = _storage();
        INodeRegistry.Status status = _checkOwner(nodeId);
        Pool storage p = $.pools[nodeId];
        Own memory own = p.own;
        if (own.staked < amount) revert AlephErrors.Insufficient(own.staked, amount);
        own.staked -= uint96(amount);
        own.waiting += uint96(amount);
        own.unlock = uint40(block.timestamp) + $.unbondingTime;
        p.own = own;
        _checkHeld($, p, own, status);
        if ($.ownVotes[nodeId].units != 0) _countOwn($, nodeId, msg.sender, own.staked);
        emit SelfUnbonding(nodeId, amount, own.staked, own.waiting, own.unlock);
        _lowered($, nodeId, p);
    }

    /// @inheritdoc IStakingManager
    function withdrawSelf(uint32 nodeId) external nonReentrant unpaused(Pausing.EXIT) {
        Pool storage p = _storage().pools[nodeId];
        _checkOwner(nodeId);
        Own memory own = p.own;
        if (own.waiting == 0) revert AlephErrors.ZeroAmount();
        if (block.timestamp < own.unlock) revert NotUnlocked(own.unlock);
        _checkNotFrozen(p);
        (p.own.waiting, p.own.unlock) = (0, 0);
        emit SelfWithdrawn(nodeId, msg.sender, own.waiting);
        IERC20(TOKEN).safeTransfer(msg.sender, own.waiting);
    }

    /* DELEGATING */

    /// @inheritdoc IStakingManager
    function delegate(uint32 nodeId, uint128 amount, uint128 minShares) external returns (uint128) {
        return _delegate(nodeId, amount, minShares);
    }

    /// @inheritdoc IStakingManager
    function delegateWithPermit(
        uint32 nodeId,
        uint128 amount,
        uint128 minShares,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external returns (uint128) {
        _permit(amount, deadline, v, r, s);
        return _delegate(nodeId, amount, minShares);
    }

    /// @inheritdoc IStakingManager
    function undelegate(uint32 nodeId, uint128 shares, uint128 minTokens)
        external
        nonReentrant
        returns (uint8 tranche_)
    {
        if (shares == 0) revert AlephErrors.ZeroAmount();
        StakingManagerStorage storage $ = _storage();
        Pool storage p = $.pools[nodeId];
        Fund memory f = _accrue(p);
        uint256 tokens = _leave($, nodeId, f, shares);
        if (tokens < minTokens) revert Slippage(tokens, minTokens);
        if (f.shares == 0) _leaveToOwner(nodeId, p, f);
        p.bonded = f;
        tranche_ = uint8(block.timestamp / 1 weeks % _TRANCHES);
        (uint40 unlock, uint128 leavingShares) = _wait($, nodeId, p, tranche_, tokens);
        emit Undelegated(
            nodeId, msg.sender, tranche_, unlock, shares, uint128(tokens), leavingShares, f.tokens, f.shares
        );
        // Only of coordinators do delegations count for the requirement.
        if (p.own.kind == INodeRegistry.Kind.Coordinator) _lowered($, nodeId, p);
    }

    /// @inheritdoc IStakingManager
    function cancelUndelegate(uint32 nodeId, uint8 tranche_)
        external
        nonReentrant
        unpaused(Pausing.ENTRY)
        returns (uint128 shares)
    {
        StakingManagerStorage storage $ = _storage();
        Pool storage p = $.pools[nodeId];
        Fund memory l = p.leaving;
        Tranche memory t = _takeTranche($, nodeId, tranche_);
        if (t.gen != l.gen) revert StaleGeneration(l.gen, t.gen);
        uint256 tokens = _redeem(l, t.shares);
        p.leaving = l;
        Fund memory f = _accrue(p);
        shares = _enter($, nodeId, p, f, tokens);
        emit UndelegationCancelled(nodeId, msg.sender, tranche_, uint128(tokens), shares, f.tokens, f.shares);
    }

    /// @inheritdoc IStakingManager
    function withdraw(uint32 nodeId, uint8[] calldata tranches)
        external
        nonReentrant
        unpaused(Pausing.EXIT)
        returns (uint128 tokens)
    {
        StakingManagerStorage storage $ = _storage();
        Pool storage p = $.pools[nodeId];
        Fund memory l = p.leaving;
        if (l.marked) _checkNotFrozen(p);
        uint256 shares;
        // Ends after eight rounds: a tranche that was taken is empty.
        for (uint256 i; i < tranches.length; ++i) {
            Tranche memory t = _takeTranche($, nodeId, tranches[i]);
            if (block.timestamp < t.unlock) revert NotUnlocked(t.unlock);
            if (t.gen == l.gen) shares += t.shares;
        }
        tokens = uint128(_redeem(l, shares));
        p.leaving = l;
        emit Withdrawn(nodeId, msg.sender, tranches, tokens, l.tokens, l.shares);
        if (tokens != 0) IERC20(TOKEN).safeTransfer(msg.sender, tokens);
    }

    /* REWARDS */

    /// @inheritdoc IStakingManager
    function addRewards(uint32 nodeId, uint128 amount) external nonReentrant unpaused(Pausing.ENTRY) {
        if (amount < _MIN) revert BelowMinimum(amount, _MIN);
        Pool storage p = _storage().pools[nodeId];
        if (p.own.kind == INodeRegistry.Kind.None) revert INodeRegistry.UnknownNode(nodeId);
        Fund memory f = _accrue(p);
        Drip memory d = p.drip;
        uint256 commission = amount;
        if (f.shares != 0) {
            commission = uint256(amount) * _commission(d) / _BPS;
            uint256 more = amount - commission;
            uint256 left = f.marked ? d.end - uint40(block.timestamp) : 0;
            d.end = uint40(block.timestamp + StakeMath.dripTime(d.rest, left, more, _DRIP));
            (d.rest, d.last) = ((d.rest + more).toUint96(), uint40(block.timestamp));
            p.drip = d;
            f.marked = true;
            p.bonded = f;
        }
        if (commission != 0) p.side.credit = (p.side.credit + commission).toUint96();
        emit RewardsAdded(nodeId, msg.sender, amount, uint128(commission), d.rest, d.end);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @inheritdoc IStakingManager
    function setCommission(uint32 nodeId, uint16 bps) external {
        if (bps > _COMMISSION_MAX) revert AlephErrors.OutOfBounds(bps, 0, _COMMISSION_MAX);
        _checkOwner(nodeId);
        Drip storage d = _storage().pools[nodeId].drip;
        uint16 have = _commission(d);
        uint40 time = uint40(block.timestamp);
        if (bps > have) {
            time += _COMMISSION_NOTICE;
            (d.bps, d.nextBps, d.nextFrom) = (have, bps, time);
        } else {
            (d.bps, d.nextBps, d.nextFrom) = (bps, 0, 0);
        }
        emit CommissionSet(nodeId, bps, time);
    }

    /// @inheritdoc IStakingManager
    function claimOwner(uint32 nodeId) external nonReentrant unpaused(Pausing.EXIT) {
        Side storage side = _storage().pools[nodeId].side;
        uint96 amount = side.credit;
        if (amount == 0) revert AlephErrors.ZeroAmount();
        side.credit = 0;
        address to = INodeRegistry(NODES).payoutOf(nodeId);
        emit OwnerPaid(nodeId, to, amount);
        IERC20(TOKEN).safeTransfer(to, amount);
    }

    /* VOTES */

    /// @inheritdoc IStakingManager
    function syncVotes(address who, uint32[] calldata nodeIds) external {
        StakingManagerStorage storage $ = _storage();
        for (uint256 i; i < nodeIds.length; ++i) {
            uint32 nodeId = nodeIds[i];
            Pool storage p = $.pools[nodeId];
            Position storage position = $.positions[nodeId][who];
            uint96 units = uint96(_valueOf(_accrued(p), position));
            _count(who, position.units, units);
            position.units = units;
            (address owner,,) = INodeRegistry(NODES).standing(nodeId);
            _countOwn($, nodeId, owner, p.own.staked);
        }
    }

    /* PENALTIES */

    /// @inheritdoc IStakingManager
    function slash(
        uint32 nodeId,
        uint128 amount,
        SlashMode mode,
        address beneficiary,
        uint16 beneficiaryBps,
        bytes32 caseId
    ) external nonReentrant unpaused(Pausing.PENALTY) returns (uint128 slashed, uint128 paid) {
        _onlyPeer(SLA);
        _checkBeneficiary(nodeId, beneficiary, beneficiaryBps);
        StakingManagerStorage storage $ = _storage();
        Pool storage p = $.pools[nodeId];
        Cut memory cut = _cut(nodeId, p, amount, mode);
        slashed = uint128(cut.staked + cut.waiting + cut.bonded + cut.leaving);
        paid = uint128(uint256(slashed) * beneficiaryBps / _BPS);
        emit Slashed(
            nodeId,
            caseId,
            uint128(cut.staked),
            uint128(cut.waiting),
            uint128(cut.bonded),
            uint128(cut.leaving),
            beneficiary,
            paid
        );
        if (slashed == 0) return (0, 0);
        _lowered($, nodeId, p);
        if (paid != 0) IERC20(TOKEN).safeTransfer(beneficiary, paid);
        _burn(slashed - paid + cut.dust);
    }

    /// @inheritdoc IStakingManager
    function freeze(uint32 nodeId, uint40 until) external {
        _onlyPeer(SLA);
        uint40 time = uint40(block.timestamp);
        if (until <= time || until > time + _FREEZE_MAX) {
            revert AlephErrors.OutOfBounds(until, time + 1, time + _FREEZE_MAX);
        }
        Pool storage p = _storage().pools[nodeId];
        Side memory side = p.side;
        if (time >= side.frozenUntil + _FREEZE_GAP) side.frozenSince = time;
        uint256 most = Math.min(until, side.frozenSince + _FREEZE_RUN_MAX);
        side.frozenUntil = uint40(Math.max(side.frozenUntil, most));
        p.side = side;
        p.leaving.marked = true;
        emit Frozen(nodeId, side.frozenUntil);
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
    function setTotalRequirement(uint128 amount) external restricted {
        if (amount > _TOTAL_REQUIREMENT_MAX) revert AlephErrors.OutOfBounds(amount, 0, _TOTAL_REQUIREMENT_MAX);
        _setTotalRequirement(amount);
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
        Own storage own = _storage().pools[nodeId].own;
        return (own.staked, own.waiting, own.unlock);
    }

    /// @inheritdoc IStakingManager
    function pool(uint32 nodeId) external view returns (PoolView memory v) {
        Pool storage p = _storage().pools[nodeId];
        (v.selfStake, v.selfUnbonding, v.selfUnlock) = (p.own.staked, p.own.waiting, p.own.unlock);
        Fund memory f = _accrued(p);
        (v.tokens, v.shares, v.gen) = (f.tokens, f.shares, f.gen);
        v.dripRest = p.drip.rest - (f.tokens - p.bonded.tokens);
        (v.leavingTokens, v.leavingShares, v.leavingGen) = (p.leaving.tokens, p.leaving.shares, p.leaving.gen);
        (v.dripEnd, v.commissionBps) = (p.drip.end, _commission(p.drip));
        if (block.timestamp < p.drip.nextFrom) {
            (v.nextCommissionBps, v.commissionAt) = (p.drip.nextBps, p.drip.nextFrom);
        }
        (v.credit, v.frozenUntil) = (p.side.credit, p.side.frozenUntil);
    }

    /// @inheritdoc IStakingManager
    function positionValue(uint32 nodeId, address who) external view returns (uint128, uint128) {
        StakingManagerStorage storage $ = _storage();
        Fund memory f = _accrued($.pools[nodeId]);
        Position memory position = $.positions[nodeId][who];
        return (uint128(_valueOf(f, position)), position.gen == f.gen ? position.shares : 0);
    }

    /// @inheritdoc IStakingManager
    function tranche(uint32 nodeId, address who, uint8 index) external view returns (uint128, uint128, uint40) {
        if (index >= _TRANCHES) revert AlephErrors.OutOfBounds(index, 0, _TRANCHES - 1);
        StakingManagerStorage storage $ = _storage();
        Tranche memory t = $.tranches[nodeId][who][index];
        Fund memory l = $.pools[nodeId].leaving;
        if (t.gen != l.gen || t.shares == 0) return (0, 0, 0);
        return (uint128(StakeMath.leaving(t.shares, l.tokens, l.shares)), t.shares, t.unlock);
    }

    /// @inheritdoc IStakingManager
    function withdrawable(uint32 nodeId, address who)
        external
        view
        returns (uint128 present, uint128 later, uint40 next)
    {
        StakingManagerStorage storage $ = _storage();
        Pool storage p = $.pools[nodeId];
        Fund memory l = p.leaving;
        uint40 frozen = p.side.frozenUntil;
        for (uint256 i; i < _TRANCHES; ++i) {
            Tranche memory t = $.tranches[nodeId][who][i];
            if (t.gen != l.gen || t.shares == 0) continue;
            uint128 tokens = uint128(StakeMath.leaving(t.shares, l.tokens, l.shares));
            uint40 unlock = t.unlock < frozen ? frozen : t.unlock;
            if (block.timestamp >= unlock) {
                present += tokens;
            } else {
                later += tokens;
                if (next == 0 || unlock < next) next = unlock;
            }
        }
    }

    /// @inheritdoc IStakingManager
    function requirement(INodeRegistry.Kind kind) external view returns (uint128) {
        return _storage().requirements[kind];
    }

    /// @inheritdoc IStakingManager
    function totalRequirement() external view returns (uint128) {
        return _storage().totalRequirement;
    }

    /// @inheritdoc IStakingManager
    function unbonding() external view returns (uint32) {
        return _storage().unbondingTime;
    }

    /// @inheritdoc IStakingManager
    function meetsRequirement(uint32 nodeId, INodeRegistry.Kind kind) external view returns (bool) {
        StakingManagerStorage storage $ = _storage();
        return _meets($, $.pools[nodeId], kind);
    }

    /// @inheritdoc IStakingManager
    function weight(uint32 nodeId) external view returns (uint96) {
        Pool storage p = _storage().pools[nodeId];
        uint256 own = p.own.staked;
        return uint96(Math.min(own * _WEIGHT_CAP, own + _accrued(p).tokens));
    }

    /// @inheritdoc IStakingManager
    function slashable(uint32 nodeId) external view returns (uint128) {
        Pool storage p = _storage().pools[nodeId];
        return uint128(p.own.staked) + p.own.waiting + _accrued(p).tokens + p.leaving.tokens;
    }

    /// @inheritdoc IStakingManager
    function totalStake(uint32 nodeId) external view returns (uint128, uint128, uint128) {
        Pool storage p = _storage().pools[nodeId];
        return (p.own.staked, _accrued(p).tokens, uint128(p.own.waiting) + p.leaving.tokens);
    }

    /* THE OWNER'S STAKE */

    function _stake(uint32 nodeId, uint128 amount) private nonReentrant unpaused(Pausing.ENTRY) {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        (address owner, INodeRegistry.Kind kind, INodeRegistry.Status status) = INodeRegistry(NODES).standing(nodeId);
        if (owner != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        if (status == INodeRegistry.Status.Exited) revert INodeRegistry.NodeNotActive(nodeId, status);
        StakingManagerStorage storage $ = _storage();
        Own storage own = $.pools[nodeId].own;
        uint96 staked = (uint256(own.staked) + amount).toUint96();
        (own.staked, own.kind) = (staked, kind);
        if ($.ownVotes[nodeId].units != 0) _countOwn($, nodeId, owner, staked);
        emit Staked(nodeId, msg.sender, amount, staked);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    function _checkOwner(uint32 nodeId) private view returns (INodeRegistry.Status status) {
        address owner;
        (owner,, status) = INodeRegistry(NODES).standing(nodeId);
        if (owner != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
    }

    /// @dev A node that works, or may be held to what it did, keeps its requirement.
    function _checkHeld(StakingManagerStorage storage $, Pool storage p, Own memory own, INodeRegistry.Status status)
        private
        view
    {
        if (status == INodeRegistry.Status.Pending || status == INodeRegistry.Status.Exited) return;
        uint256 need = $.requirements[own.kind];
        if (own.staked < need) revert RequirementHeld(own.staked, need);
        if (own.kind != INodeRegistry.Kind.Coordinator) return;
        uint256 total = uint256(own.staked) + _accrued(p).tokens;
        if (total < $.totalRequirement) revert RequirementHeld(total, $.totalRequirement);
    }

    function _meets(StakingManagerStorage storage $, Pool storage p, INodeRegistry.Kind kind)
        private
        view
        returns (bool)
    {
        uint256 own = p.own.staked;
        if (own < $.requirements[kind]) return false;
        return kind != INodeRegistry.Kind.Coordinator || own + _accrued(p).tokens >= $.totalRequirement;
    }

    /// @dev Tells the NodeRegistry of less stake when it matters.
    function _lowered(StakingManagerStorage storage $, uint32 nodeId, Pool storage p) private {
        if (!_meets($, p, p.own.kind)) INodeRegistry(NODES).onStakeChanged(nodeId);
    }

    /* POOLS */

    function _delegate(uint32 nodeId, uint128 amount, uint128 minShares)
        private
        nonReentrant
        unpaused(Pausing.ENTRY)
        returns (uint128 shares)
    {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        StakingManagerStorage storage $ = _storage();
        Pool storage p = $.pools[nodeId];
        Fund memory f = _accrue(p);
        shares = _enter($, nodeId, p, f, amount);
        if (shares < minShares) revert Slippage(shares, minShares);
        emit Delegated(nodeId, msg.sender, amount, shares, f.tokens, f.shares);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @dev Adds tokens to the caller's position. Writes `f`.
    function _enter(StakingManagerStorage storage $, uint32 nodeId, Pool storage p, Fund memory f, uint256 tokens)
        private
        returns (uint128 shares)
    {
        if (f.shares > f.tokens * _ENTRY_RATIO) revert PoolSpent(nodeId);
        uint256 most = p.own.staked * _CAP;
        if (f.tokens + tokens > most) revert PoolCap(most);
        Position memory position = $.positions[nodeId][msg.sender];
        uint96 counted = position.units;
        // What a slash has made void is gone, its votes too.
        if (position.gen != f.gen) position = Position(0, f.gen, 0);
        if (tokens < _MIN) {
            uint256 value = tokens + _valueOf(f, position);
            if (value < _MIN) revert BelowMinimum(value, _MIN);
        }
        shares = StakeMath.bond(tokens, f.tokens, f.shares).toUint128();
        f.tokens = (f.tokens + tokens).toUint96();
        f.shares = (uint256(f.shares) + shares).toUint128();
        p.bonded = f;
        position.shares += shares;
        if (counted != 0) {
            position.units = (position.units + tokens).toUint96();
            _count(msg.sender, counted, position.units);
        }
        $.positions[nodeId][msg.sender] = position;
    }

    /// @dev Takes shares of the caller's position out of `f`, which the caller writes.
    function _leave(StakingManagerStorage storage $, uint32 nodeId, Fund memory f, uint128 shares)
        private
        returns (uint256 tokens)
    {
        Position memory position = $.positions[nodeId][msg.sender];
        if (position.shares < shares) revert AlephErrors.Insufficient(position.shares, shares);
        if (position.gen != f.gen) revert StaleGeneration(f.gen, position.gen);
        tokens = StakeMath.bonded(shares, f.tokens, f.shares);
        if (position.units != 0) {
            uint96 units = uint96(uint256(position.units) * (position.shares - shares) / position.shares);
            _count(msg.sender, position.units, units);
            position.units = units;
        }
        position.shares -= shares;
        f.tokens -= uint96(tokens);
        f.shares -= shares;
        if (position.shares != 0) {
            uint256 value = _valueOf(f, position);
            if (value < _MIN) revert BelowMinimum(value, _MIN);
        }
        $.positions[nodeId][msg.sender] = position;
    }

    /// @dev Puts tokens into the caller's tranche of this week.
    function _wait(StakingManagerStorage storage $, uint32 nodeId, Pool storage p, uint8 index, uint256 tokens)
        private
        returns (uint40 unlock, uint128 shares)
    {
        Fund memory l = p.leaving;
        shares = StakeMath.leave(tokens, l.tokens, l.shares).toUint128();
        l.tokens = (l.tokens + tokens).toUint96();
        l.shares = (uint256(l.shares) + shares).toUint128();
        p.leaving = l;
        Tranche memory t = $.tranches[nodeId][msg.sender][index];
        uint32 week = uint32(block.timestamp / 1 weeks);
        if (t.shares != 0 && t.gen == l.gen) {
            if (t.week != week) revert TrancheFull(index);
        } else {
            t = Tranche(0, l.gen, 0, week);
        }
        // The unbonding time may have been cut within the week.
        unlock = uint40(Math.max(t.unlock, block.timestamp + $.unbondingTime));
        (t.shares, t.unlock) = (t.shares + shares, unlock);
        $.tranches[nodeId][msg.sender][index] = t;
    }

    /// @dev Empties a tranche of the caller.
    function _takeTranche(StakingManagerStorage storage $, uint32 nodeId, uint8 index)
        private
        returns (Tranche memory t)
    {
        if (index >= _TRANCHES) revert AlephErrors.OutOfBounds(index, 0, _TRANCHES - 1);
        t = $.tranches[nodeId][msg.sender][index];
        if (t.shares == 0) revert AlephErrors.ZeroAmount();
        delete $.tranches[nodeId][msg.sender][index];
    }

    /// @dev Takes shares out of what waits.
    function _redeem(Fund memory l, uint256 shares) private pure returns (uint256 tokens) {
        tokens = StakeMath.leaving(shares, l.tokens, l.shares);
        l.tokens -= uint96(tokens);
        l.shares -= uint128(shares);
    }

    /// @dev Gives the owner what is left when nobody delegates, so that the next delegation finds a pool like new.
    function _leaveToOwner(uint32 nodeId, Pool storage p, Fund memory f) private {
        uint256 left = f.tokens;
        f.tokens = 0;
        if (f.marked) {
            left += p.drip.rest;
            p.drip.rest = 0;
            f.marked = false;
        }
        if (left == 0) return;
        p.side.credit = (p.side.credit + left).toUint96();
        emit LeftToOwner(nodeId, uint128(left));
    }

    /// @dev The delegations with what has dripped until now, which is written except for the delegations themselves.
    function _accrue(Pool storage p) private returns (Fund memory f) {
        uint96 before = p.bonded.tokens;
        f = _accrued(p);
        if (!f.marked) return f;
        Drip memory d = p.drip;
        d.rest -= f.tokens - before;
        d.last = uint40(block.timestamp);
        f.marked = d.rest != 0;
        p.drip = d;
    }

    /// @dev The delegations with what has dripped until now.
    function _accrued(Pool storage p) private view returns (Fund memory f) {
        f = p.bonded;
        if (!f.marked) return f;
        Drip memory d = p.drip;
        f.tokens = (f.tokens + StakeMath.dripped(d.rest, d.last, d.end, block.timestamp)).toUint96();
    }

    function _valueOf(Fund memory f, Position memory position) private pure returns (uint256) {
        return position.gen == f.gen ? StakeMath.bonded(position.shares, f.tokens, f.shares) : 0;
    }

    function _commission(Drip memory d) private view returns (uint16) {
        return d.nextFrom != 0 && block.timestamp >= d.nextFrom ? d.nextBps : d.bps;
    }

    function _checkNotFrozen(Pool storage p) private view {
        uint40 until = p.side.frozenUntil;
        if (block.timestamp < until) revert FrozenUntil(until);
    }

    /// @dev Counts an owner's stake as votes of `owner`, who may not be the one it was counted for.
    function _countOwn(StakingManagerStorage storage $, uint32 nodeId, address owner, uint96 units) private {
        OwnVotes memory v = $.ownVotes[nodeId];
        if (v.voter == owner) {
            _count(owner, v.units, units);
        } else {
            _count(v.voter, v.units, 0);
            _count(owner, 0, units);
        }
        $.ownVotes[nodeId] = OwnVotes(owner, units);
    }

    /* SLASHING */

    function _checkBeneficiary(uint32 nodeId, address beneficiary, uint16 bps) private view {
        if (bps > _BENEFICIARY_MAX_BPS) revert AlephErrors.OutOfBounds(bps, 0, _BENEFICIARY_MAX_BPS);
        if (beneficiary == SLA || bps == 0) return;
        if (beneficiary == address(0)) revert AlephErrors.ZeroAddress();
        (address owner,,) = INodeRegistry(NODES).standing(nodeId);
        if (beneficiary == owner) revert AlephErrors.NotAuthorized(beneficiary);
    }

    /// @dev Takes up to `amount` out of the purses.
    function _cut(uint32 nodeId, Pool storage p, uint256 amount, SlashMode mode) private returns (Cut memory cut) {
        Own memory own = p.own;
        uint256 ours = uint256(own.staked) + own.waiting;
        if (mode == SlashMode.Operational && amount <= ours) {
            (cut.staked, cut.waiting) = _inOrder(amount, own.staked);
        } else {
            Fund memory f = _accrue(p);
            Fund memory l = p.leaving;
            uint256 theirs = uint256(f.tokens) + l.tokens;
            if (amount > ours + theirs) amount = ours + theirs;
            uint256 rest = amount;
            if (mode == SlashMode.Operational) {
                (cut.staked, cut.waiting) = (own.staked, own.waiting);
                rest -= ours;
                cut.bonded = StakeMath.portion(rest, f.tokens, theirs);
            } else {
                // Sums from the front, so that the roundings do not add up.
                uint256 total = ours + theirs;
                cut.staked = StakeMath.portion(amount, own.staked, total);
                uint256 sum = StakeMath.portion(amount, ours, total);
                cut.waiting = sum - cut.staked;
                cut.bonded = StakeMath.portion(amount, ours + f.tokens, total) - sum;
                rest -= sum;
            }
            cut.leaving = rest - cut.bonded;
            _cutFunds(nodeId, p, f, l, cut);
        }
        own.staked -= uint96(cut.staked);
        own.waiting -= uint96(cut.waiting);
        p.own = own;
    }

    function _inOrder(uint256 amount, uint256 first) private pure returns (uint256, uint256) {
        return amount <= first ? (amount, uint256(0)) : (first, amount - first);
    }

    function _cutFunds(uint32 nodeId, Pool storage p, Fund memory f, Fund memory l, Cut memory cut) private {
        f.tokens -= uint96(cut.bonded);
        if (cut.bonded != 0 && _isSpent(f)) {
            uint256 burned = f.tokens;
            if (f.marked) {
                burned += p.drip.rest;
                p.drip.rest = 0;
            }
            cut.dust += burned;
            (f.tokens, f.shares, f.gen, f.marked) = (0, 0, f.gen + 1, false);
            emit PoolReset(nodeId, f.gen, uint128(burned));
        }
        p.bonded = f;
        if (cut.leaving == 0) return;
        l.tokens -= uint96(cut.leaving);
        if (_isSpent(l)) {
            cut.dust += l.tokens;
            emit UnbondingReset(nodeId, l.gen + 1, l.tokens);
            (l.tokens, l.shares, l.gen) = (0, 0, l.gen + 1);
        }
        p.leaving = l;
    }

    function _isSpent(Fund memory f) private pure returns (bool) {
        return f.tokens < _DUST || f.shares > f.tokens * _RESET_RATIO;
    }

    function _burn(uint256 amount) private {
        if (amount == 0) return;
        try ERC20Burnable(TOKEN).burn(amount) {}
        catch {
            IERC20(TOKEN).safeTransfer(_GRAVE, amount);
        }
    }

    /* OTHER */

    /// @dev Somebody may have sent the permit already; then the allowance is there and the call goes through.
    function _permit(uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) private {
        try IERC20Permit(TOKEN).permit(msg.sender, address(this), amount, deadline, v, r, s) {}
        catch {
            uint256 have = IERC20(TOKEN).allowance(msg.sender, address(this));
            if (have < amount) revert AlephErrors.Insufficient(have, amount);
        }
    }

    function _setRequirement(INodeRegistry.Kind kind, uint128 amount) private {
        _storage().requirements[kind] = amount;
        emit RequirementSet(kind, amount);
    }

    function _setTotalRequirement(uint128 amount) private {
        _storage().totalRequirement = uint96(amount);
        emit TotalRequirementSet(amount);
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
