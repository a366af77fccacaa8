// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {StakeVotes} from "./StakeVotes.sol";
import {TypedData} from "./TypedData.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {StakeMath} from "./libraries/StakeMath.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title StakingManager
/// @notice See {IStakingManager}.
/// @dev Amounts have 96 bits: 2^96 wei is a hundred times the supply. No loop runs over delegators.
contract StakingManager is IStakingManager, Base, StakeVotes, ReentrancyGuardTransient {
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

    /// @dev A pool of which delegators hold shares, or one delegator's part of it. The tokens of a part are those counted as
    /// votes; 0 when it is not counted. The mark spares reading a slot that says nothing most of the time: of what is
    /// bonded, that rewards drip; of what is leaving, that the node has been frozen.
    struct Fund {
        uint96 tokens;
        uint128 shares;
        uint24 gen;
        bool marked;
    }

    /// @dev A fund in memory, as words. {_load} and {_save} move it with one access to storage.
    struct Pot {
        uint256 tokens;
        uint256 shares;
        uint256 gen;
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

    /// @dev What a slash takes of each purse, and what it takes besides because too little would be left.
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
        mapping(uint32 nodeId => mapping(address delegator => Fund)) positions;
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

    uint16 private constant _BPS = 10_000;

    /// @dev When a slash leaves fewer tokens than _DUST, or more than _RESET_RATIO shares for one, a pool starts anew. Else
    /// shares would outgrow 128 bits by and by: as it is they stay below 2^96 * 1e9. A pool with more than _ENTRY_RATIO
    /// shares for a token lets nobody in, so that who comes in is never reset unless 99.9 % are lost. Pools start at 1000.
    uint256 private constant _DUST = 1e15;
    uint256 private constant _RESET_RATIO = 1e9;
    uint256 private constant _ENTRY_RATIO = 1e6;

    /// @dev How long one case, and cases one after the other, may hold a node's stake, and the pause between.
    uint256 private constant _FREEZE_MAX = 7 days;
    uint256 private constant _FREEZE_RUN_MAX = 21 days;
    uint256 private constant _FREEZE_GAP = 1 days;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.StakingManager.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xdd0cf7ced5ea83c2fe98d6b41b2ac235a15755f65f402111515c3c357ddaed00;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) TypedData(p.staking) {}

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
    function stake(uint32 nodeId, uint128 amount) external nonReentrant unpaused(Pausing.ENTRY) {
        _stake(nodeId, amount);
    }

    /// @inheritdoc IStakingManager
    function stakeWithPermit(uint32 nodeId, uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
        unpaused(Pausing.ENTRY)
    {
        _permit(amount, deadline, v, r, s);
        _stake(nodeId, amount);
    }

    /// @inheritdoc IStakingManager
    function requestUnstake(uint32 nodeId, uint128 amount) external nonReentrant {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        StakingManagerStorage storage $ = _storage();
        INodeRegistry.Status status = _checkOwner(nodeId);
        Pool storage p = $.pools[nodeId];
        Own storage own = p.own;
        uint256 staked = own.staked;
        if (staked < amount) revert AlephErrors.Insufficient(staked, amount);
        staked -= amount;
        uint96 waiting = uint96(own.waiting + amount);
        uint40 unlock = uint40(block.timestamp) + $.unbondingTime;
        (own.staked, own.waiting, own.unlock) = (uint96(staked), waiting, unlock);
        // A node that works, or may work again, keeps its requirement. What waits answers for what the node did.
        if (
            status != INodeRegistry.Status.Pending && status != INodeRegistry.Status.Exited
                && status != INodeRegistry.Status.Banned
        ) {
            (uint256 have, uint256 need) = _unmet($, p, own.kind);
            if (have < need) revert RequirementHeld(have, need);
        }
        if ($.ownVotes[nodeId].units != 0) _countOwn($, nodeId, msg.sender, staked);
        emit SelfUnbonding(nodeId, amount, uint128(staked), waiting, unlock);
        _checkStake($, nodeId, p);
    }

    /// @inheritdoc IStakingManager
    function withdrawSelf(uint32 nodeId) external nonReentrant unpaused(Pausing.EXIT) {
        Pool storage p = _storage().pools[nodeId];
        _checkOwner(nodeId);
        Own storage own = p.own;
        (uint96 amount, uint40 unlock) = (own.waiting, own.unlock);
        if (amount == 0) revert AlephErrors.ZeroAmount();
        if (block.timestamp < unlock) revert NotUnlocked(unlock);
        _checkNotFrozen(p);
        (own.waiting, own.unlock) = (0, 0);
        emit SelfWithdrawn(nodeId, msg.sender, amount);
        IERC20(TOKEN).safeTransfer(msg.sender, amount);
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
        Pot memory f = _accrue(p);
        uint256 tokens = _leave($.positions[nodeId][msg.sender], f, shares);
        if (tokens < minTokens) revert Slippage(tokens, minTokens);
        if (f.shares == 0) _leaveToOwner(nodeId, p, f);
        _save(p.bonded, f);
        tranche_ = uint8(block.timestamp / 1 weeks % _TRANCHES);
        (uint40 unlock, uint256 leavingShares) = _wait($, nodeId, p, tranche_, tokens);
        emit Undelegated(
            nodeId,
            msg.sender,
            tranche_,
            unlock,
            shares,
            uint128(tokens),
            uint128(leavingShares),
            uint128(f.tokens),
            uint128(f.shares)
        );
        // Only of coordinators do delegations count for the requirement.
        if (p.own.kind == INodeRegistry.Kind.Coordinator) _checkStake($, nodeId, p);
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
        Pot memory l = _load(p.leaving);
        Tranche memory t = _takeTranche($, nodeId, tranche_);
        if (t.gen != l.gen) revert StaleGeneration(uint24(l.gen), t.gen);
        uint256 tokens = _redeem(l, t.shares);
        _save(p.leaving, l);
        Pot memory f = _accrue(p);
        shares = _enter($.positions[nodeId][msg.sender], nodeId, p, f, tokens);
        emit UndelegationCancelled(
            nodeId, msg.sender, tranche_, uint128(tokens), shares, uint128(f.tokens), uint128(f.shares)
        );
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
        Pot memory l = _load(p.leaving);
        if (l.marked) _checkNotFrozen(p);
        uint256 shares;
        uint256 taken;
        // Ends after eight rounds: a tranche that was taken is empty.
        for (uint256 i; i < tranches.length; ++i) {
            Tranche memory t = _takeTranche($, nodeId, tranches[i]);
            if (block.timestamp < t.unlock) revert NotUnlocked(t.unlock);
            if (t.gen == l.gen) shares += t.shares;
            taken |= 1 << tranches[i];
        }
        tokens = uint128(_redeem(l, shares));
        _save(p.leaving, l);
        emit Withdrawn(nodeId, msg.sender, uint8(taken), tokens, uint128(l.tokens), uint128(l.shares));
        IERC20(TOKEN).safeTransfer(msg.sender, tokens);
    }

    /* REWARDS */

    /// @inheritdoc IStakingManager
    function addRewards(uint32 nodeId, uint128 amount) external nonReentrant unpaused(Pausing.ENTRY) {
        _checkMin(amount);
        Pool storage p = _storage().pools[nodeId];
        if (p.own.kind == INodeRegistry.Kind.None) revert INodeRegistry.UnknownNode(nodeId);
        Pot memory f = _accrue(p);
        Drip storage d = p.drip;
        uint256 commission = amount;
        if (f.shares != 0) {
            commission = commission * _commission(d) / _BPS;
            _drip(d, f.marked, amount - commission);
            f.marked = true;
            _save(p.bonded, f);
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
            Fund storage part = $.positions[nodeId][who];
            uint256 units = _valueOf(_accrued(p), _load(part));
            _count(who, part.tokens, units);
            part.tokens = uint96(units);
            (address owner,,) = INodeRegistry(NODES).standing(nodeId);
            _countOwn($, nodeId, owner, p.own.staked);
        }
    }

    /* PENALTIES */

    /// @inheritdoc IStakingManager
    function slash(uint32 nodeId, uint128 amount, SlashMode mode, bytes32 caseId)
        external
        nonReentrant
        returns (uint128 slashed, uint128 dust)
    {
        _onlyPeer(SLA);
        StakingManagerStorage storage $ = _storage();
        Pool storage p = $.pools[nodeId];
        Cut memory cut = _cut(nodeId, p, amount, mode);
        slashed = uint128(cut.staked + cut.waiting + cut.bonded + cut.leaving);
        dust = uint128(cut.dust);
        emit Slashed(
            nodeId, caseId, uint128(cut.staked), uint128(cut.waiting), uint128(cut.bonded), uint128(cut.leaving)
        );
        // Then there is no dust either: only what a slash takes of can be left with too little.
        if (slashed == 0) return (0, 0);
        _checkStake($, nodeId, p);
        IERC20(TOKEN).safeTransfer(SLA, slashed + dust);
    }

    /// @inheritdoc IStakingManager
    function freeze(uint32 nodeId, uint40 until) external {
        _onlyPeer(SLA);
        Pool storage p = _storage().pools[nodeId];
        uint256 time = block.timestamp;
        uint256 before = p.side.frozenUntil;
        if (time >= before + _FREEZE_GAP) p.side.frozenSince = uint40(time);
        uint256 most = Math.min(time + _FREEZE_MAX, p.side.frozenSince + _FREEZE_RUN_MAX);
        until = uint40(Math.max(before, Math.min(until, most)));
        p.side.frozenUntil = until;
        p.leaving.marked = true;
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
    function pool(uint32 nodeId) external view returns (uint128, uint128, uint24, uint128, uint128, uint24) {
        Pool storage p = _storage().pools[nodeId];
        Pot memory f = _accrued(p);
        Pot memory l = _load(p.leaving);
        return
            (uint128(f.tokens), uint128(f.shares), uint24(f.gen), uint128(l.tokens), uint128(l.shares), uint24(l.gen));
    }

    /// @inheritdoc IStakingManager
    function rewards(uint32 nodeId) external view returns (uint128, uint40, uint16, uint16, uint40, uint128) {
        Pool storage p = _storage().pools[nodeId];
        Drip storage d = p.drip;
        uint256 rest = uint256(d.rest) + p.bonded.tokens - _accrued(p).tokens;
        return (uint128(rest), d.end, _commission(d), d.nextBps, d.nextFrom, p.side.credit);
    }

    /// @inheritdoc IStakingManager
    function frozenUntil(uint32 nodeId) external view returns (uint40) {
        return _storage().pools[nodeId].side.frozenUntil;
    }

    /// @inheritdoc IStakingManager
    function positionValue(uint32 nodeId, address who) external view returns (uint128, uint128) {
        StakingManagerStorage storage $ = _storage();
        Pot memory f = _accrued($.pools[nodeId]);
        Pot memory part = _load($.positions[nodeId][who]);
        return (uint128(_valueOf(f, part)), part.gen == f.gen ? uint128(part.shares) : 0);
    }

    /// @inheritdoc IStakingManager
    function tranche(uint32 nodeId, address who, uint8 index) external view returns (uint128, uint128, uint40) {
        if (index >= _TRANCHES) revert AlephErrors.OutOfBounds(index, 0, _TRANCHES - 1);
        StakingManagerStorage storage $ = _storage();
        Tranche memory t = $.tranches[nodeId][who][index];
        Pot memory l = _load($.pools[nodeId].leaving);
        if (t.gen != l.gen || t.shares == 0) return (0, 0, 0);
        return (uint128(StakeMath.leaving(t.shares, l.tokens, l.shares)), t.shares, t.unlock);
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
        (uint256 have, uint256 need) = _unmet($, $.pools[nodeId], kind);
        return have >= need;
    }

    /// @inheritdoc IStakingManager
    function weight(uint32 nodeId) external view returns (uint96) {
        (uint256 own, uint256 delegated,) = totalStake(nodeId);
        return uint96(Math.min(own * _WEIGHT_CAP, own + delegated));
    }

    /// @inheritdoc IStakingManager
    function slashable(uint32 nodeId) external view returns (uint128) {
        (uint128 own, uint128 delegated, uint128 waiting) = totalStake(nodeId);
        return own + delegated + waiting;
    }

    /// @inheritdoc IStakingManager
    function totalStake(uint32 nodeId) public view returns (uint128, uint128, uint128) {
        Pool storage p = _storage().pools[nodeId];
        return (p.own.staked, uint128(_accrued(p).tokens), uint128(p.own.waiting) + p.leaving.tokens);
    }

    /* THE OWNER'S STAKE */

    function _stake(uint32 nodeId, uint128 amount) private {
        if (amount == 0) revert AlephErrors.ZeroAmount();
        (address owner, INodeRegistry.Kind kind, INodeRegistry.Status status) = INodeRegistry(NODES).standing(nodeId);
        if (owner != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        if (status == INodeRegistry.Status.Exited) revert INodeRegistry.NodeNotActive(nodeId, status);
        StakingManagerStorage storage $ = _storage();
        Pool storage p = $.pools[nodeId];
        uint96 staked = (uint256(p.own.staked) + amount).toUint96();
        (p.own.staked, p.own.kind) = (staked, kind);
        if ($.ownVotes[nodeId].units != 0) _countOwn($, nodeId, owner, staked);
        emit Staked(nodeId, msg.sender, amount, staked);
        // Too little when the requirement was raised since.
        _checkStake($, nodeId, p);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    function _checkOwner(uint32 nodeId) private view returns (INodeRegistry.Status status) {
        address owner;
        (owner,, status) = INodeRegistry(NODES).standing(nodeId);
        if (owner != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
    }

    /// @dev The first requirement of a kind that the pool does not meet, or any that it does.
    function _unmet(StakingManagerStorage storage $, Pool storage p, INodeRegistry.Kind kind)
        private
        view
        returns (uint256 have, uint256 need)
    {
        (have, need) = (p.own.staked, $.requirements[kind]);
        if (have < need || kind != INodeRegistry.Kind.Coordinator) return (have, need);
        return (have + _accrued(p).tokens, $.totalRequirement);
    }

    /// @dev Tells the NodeRegistry of a change of stake when it matters.
    function _checkStake(StakingManagerStorage storage $, uint32 nodeId, Pool storage p) private {
        (uint256 have, uint256 need) = _unmet($, p, p.own.kind);
        if (have < need) INodeRegistry(NODES).onStakeChanged(nodeId);
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
        Pot memory f = _accrue(p);
        shares = _enter($.positions[nodeId][msg.sender], nodeId, p, f, amount);
        if (shares < minShares) revert Slippage(shares, minShares);
        emit Delegated(nodeId, msg.sender, amount, shares, uint128(f.tokens), uint128(f.shares));
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @dev Adds tokens to the caller's part. Writes the pool, too.
    function _enter(Fund storage stored, uint32 nodeId, Pool storage p, Pot memory f, uint256 tokens)
        private
        returns (uint128)
    {
        if (f.shares > f.tokens * _ENTRY_RATIO) revert PoolSpent(nodeId);
        uint256 most = p.own.staked * _CAP;
        if (f.tokens + tokens > most) revert PoolCap(most);
        Pot memory part = _load(stored);
        uint256 counted = part.tokens;
        // What a slash has made void is gone, its votes too.
        if (part.gen != f.gen) (part.tokens, part.shares, part.gen) = (0, 0, f.gen);
        if (tokens < _MIN) _checkMin(tokens + _valueOf(f, part));
        uint256 shares = StakeMath.bond(tokens, f.tokens, f.shares);
        f.tokens += tokens;
        f.shares += shares;
        _save(p.bonded, f);
        part.shares += shares;
        if (counted != 0) {
            part.tokens += tokens;
            _count(msg.sender, counted, part.tokens);
        }
        _save(stored, part);
        return uint128(shares);
    }

    /// @dev Takes shares out of the caller's part and of the pool, which the caller of this writes.
    function _leave(Fund storage stored, Pot memory f, uint256 shares) private returns (uint256 tokens) {
        Pot memory part = _load(stored);
        if (part.shares < shares) revert AlephErrors.Insufficient(part.shares, shares);
        if (part.gen != f.gen) revert StaleGeneration(uint24(f.gen), uint24(part.gen));
        tokens = StakeMath.bonded(shares, f.tokens, f.shares);
        f.tokens -= tokens;
        f.shares -= shares;
        uint256 rest = part.shares - shares;
        if (part.tokens != 0) {
            uint256 units = part.tokens * rest / part.shares;
            _count(msg.sender, part.tokens, units);
            part.tokens = units;
        }
        part.shares = rest;
        if (rest != 0) _checkMin(_valueOf(f, part));
        _save(stored, part);
    }

    /// @dev Puts tokens into the caller's tranche of this week.
    function _wait(StakingManagerStorage storage $, uint32 nodeId, Pool storage p, uint8 index, uint256 tokens)
        private
        returns (uint40 unlock, uint256 shares)
    {
        Pot memory l = _load(p.leaving);
        shares = StakeMath.leave(tokens, l.tokens, l.shares);
        l.tokens += tokens;
        l.shares += shares;
        _save(p.leaving, l);
        Tranche storage stored = $.tranches[nodeId][msg.sender][index];
        Tranche memory t = stored;
        uint32 week = uint32(block.timestamp / 1 weeks);
        if (t.shares == 0 || t.gen != l.gen) (t.shares, t.unlock) = (0, 0);
        else if (t.week != week) revert TrancheFull(index);
        // The unbonding time may have been cut within the week.
        unlock = uint40(Math.max(t.unlock, block.timestamp + $.unbondingTime));
        (stored.shares, stored.gen, stored.unlock, stored.week) =
        (uint128(t.shares + shares), uint24(l.gen), unlock, week);
    }

    /// @dev Empties a tranche of the caller.
    function _takeTranche(StakingManagerStorage storage $, uint32 nodeId, uint8 index)
        private
        returns (Tranche memory t)
    {
        if (index >= _TRANCHES) revert AlephErrors.OutOfBounds(index, 0, _TRANCHES - 1);
        Tranche storage stored = $.tranches[nodeId][msg.sender][index];
        t = stored;
        if (t.shares == 0) revert AlephErrors.ZeroAmount();
        assembly ("memory-safe") {
            sstore(stored.slot, 0)
        }
    }

    /// @dev Takes shares out of what waits.
    function _redeem(Pot memory l, uint256 shares) private pure returns (uint256 tokens) {
        tokens = StakeMath.leaving(shares, l.tokens, l.shares);
        l.tokens -= tokens;
        l.shares -= shares;
    }

    /// @dev Gives the owner what is left when nobody delegates, so that the next delegation finds a pool like new.
    function _leaveToOwner(uint32 nodeId, Pool storage p, Pot memory f) private {
        uint256 left = f.tokens + _stopDrip(p, f);
        f.tokens = 0;
        if (left == 0) return;
        p.side.credit = (p.side.credit + left).toUint96();
        emit LeftToOwner(nodeId, uint128(left));
    }

    /// @dev Adds rewards to the drip.
    function _drip(Drip storage d, bool running, uint256 more) private {
        uint256 rest = d.rest;
        uint256 time = StakeMath.dripTime(rest, running ? d.end - block.timestamp : 0, more, _DRIP);
        (d.rest, d.last, d.end) = ((rest + more).toUint96(), uint40(block.timestamp), uint40(block.timestamp + time));
    }

    /// @dev Takes the rewards that have not dripped.
    function _stopDrip(Pool storage p, Pot memory f) private returns (uint256 rest) {
        if (!f.marked) return 0;
        f.marked = false;
        rest = p.drip.rest;
        p.drip.rest = 0;
    }

    /// @dev The delegations with what has dripped until now; the drip is written, the caller writes the rest.
    function _accrue(Pool storage p) private returns (Pot memory f) {
        f = _load(p.bonded);
        if (!f.marked) return f;
        Drip storage d = p.drip;
        uint256 more = StakeMath.dripped(d.rest, d.last, d.end, block.timestamp);
        f.tokens += more;
        uint256 rest = d.rest - more;
        (d.rest, d.last) = (uint96(rest), uint40(block.timestamp));
        f.marked = rest != 0;
    }

    /// @dev The delegations with what has dripped until now.
    function _accrued(Pool storage p) private view returns (Pot memory f) {
        f = _load(p.bonded);
        if (!f.marked) return f;
        Drip storage d = p.drip;
        f.tokens += StakeMath.dripped(d.rest, d.last, d.end, block.timestamp);
    }

    function _valueOf(Pot memory f, Pot memory part) private pure returns (uint256) {
        return part.gen == f.gen ? StakeMath.bonded(part.shares, f.tokens, f.shares) : 0;
    }

    function _checkMin(uint256 value) private pure {
        if (value < _MIN) revert BelowMinimum(value, _MIN);
    }

    function _load(Fund storage fund) private view returns (Pot memory pot) {
        uint256 word;
        assembly ("memory-safe") {
            word := sload(fund.slot)
        }
        (pot.tokens, pot.shares) = (uint96(word), uint128(word >> 96));
        (pot.gen, pot.marked) = (uint24(word >> 224), word >> 248 != 0);
    }

    function _save(Fund storage fund, Pot memory pot) private {
        (uint256 tokens, uint256 shares, uint256 gen, bool marked) = (pot.tokens, pot.shares, pot.gen, pot.marked);
        // The generation counts slashes that left next to nothing: there are no 2^24 of those.
        if (tokens >> 96 != 0 || shares >> 128 != 0) revert AlephErrors.OutOfBounds(tokens, 0, type(uint96).max);
        assembly ("memory-safe") {
            sstore(fund.slot, or(or(tokens, shl(96, shares)), or(shl(224, gen), shl(248, marked))))
        }
    }

    function _commission(Drip storage d) private view returns (uint16) {
        return d.nextFrom != 0 && block.timestamp >= d.nextFrom ? d.nextBps : d.bps;
    }

    function _checkNotFrozen(Pool storage p) private view {
        uint40 until = p.side.frozenUntil;
        if (block.timestamp < until) revert FrozenUntil(until);
    }

    /// @dev Counts an owner's stake as votes of `owner`, who may not be the one it was counted for.
    function _countOwn(StakingManagerStorage storage $, uint32 nodeId, address owner, uint256 units) private {
        OwnVotes storage v = $.ownVotes[nodeId];
        uint96 before = v.units;
        if (v.voter != owner) {
            _count(v.voter, before, 0);
            before = 0;
        }
        _count(owner, before, units);
        (v.voter, v.units) = (owner, uint96(units));
    }

    /* SLASHING */

    /// @dev Takes up to `amount` out of the purses.
    function _cut(uint32 nodeId, Pool storage p, uint256 amount, SlashMode mode) private returns (Cut memory cut) {
        (uint256 staked, uint256 waiting) = (p.own.staked, p.own.waiting);
        uint256 ours = staked + waiting;
        bool inOrder = mode == SlashMode.Operational;
        if (inOrder && amount <= ours) {
            cut.staked = Math.min(amount, staked);
            cut.waiting = amount - cut.staked;
        } else {
            Pot memory f = _accrue(p);
            Pot memory l = _load(p.leaving);
            uint256 theirs = f.tokens + l.tokens;
            amount = Math.min(amount, ours + theirs);
            if (inOrder) {
                (cut.staked, cut.waiting) = (staked, waiting);
                amount -= ours;
                cut.bonded = StakeMath.portion(amount, f.tokens, theirs);
            } else {
                // Differences of portions from the front, so that the roundings do not add up.
                uint256 total = ours + theirs;
                uint256 sum = StakeMath.portion(amount, ours, total);
                cut.staked = StakeMath.portion(amount, staked, total);
                cut.waiting = sum - cut.staked;
                cut.bonded = StakeMath.portion(amount, ours + f.tokens, total) - sum;
                amount -= sum;
            }
            cut.leaving = amount - cut.bonded;
            _cutFunds(nodeId, p, f, l, cut);
        }
        (p.own.staked, p.own.waiting) = (uint96(staked - cut.staked), uint96(waiting - cut.waiting));
    }

    function _cutFunds(uint32 nodeId, Pool storage p, Pot memory f, Pot memory l, Cut memory cut) private {
        f.tokens -= cut.bonded;
        if (cut.bonded != 0 && _isSpent(f)) {
            cut.dust = f.tokens + _stopDrip(p, f);
            (f.tokens, f.shares, f.gen) = (0, 0, f.gen + 1);
            emit PoolReset(nodeId, uint24(f.gen), uint128(cut.dust));
        }
        _save(p.bonded, f);
        if (cut.leaving == 0) return;
        l.tokens -= cut.leaving;
        if (_isSpent(l)) {
            emit UnbondingReset(nodeId, uint24(l.gen + 1), uint128(l.tokens));
            cut.dust += l.tokens;
            (l.tokens, l.shares, l.gen) = (0, 0, l.gen + 1);
        }
        _save(p.leaving, l);
    }

    function _isSpent(Pot memory f) private pure returns (bool) {
        return f.tokens < _DUST || f.shares > f.tokens * _RESET_RATIO;
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
