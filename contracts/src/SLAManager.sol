// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Extensible} from "./Extensible.sol";
import {Peers} from "./Peers.sol";
import {SLAStore} from "./SLAStore.sol";
import {TypedData} from "./TypedData.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Burning} from "./libraries/Burning.sol";
import {L2Guard} from "./libraries/L2Guard.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title SLAManager
/// @notice See {ISLAManager}. Stake is taken by the StakingManager only; of it this contract holds the parts of reporters
/// and tenants until they are withdrawn, and the rest until it is burned. It also holds the bonds of accusers. The rare
/// calls are in {SLAExtension}.
contract SLAManager is ISLAManager, Base, SLAStore, Extensible {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    /* TYPES */

    /// @dev How a penalty is shared out.
    struct Shares {
        uint128 taken;
        uint128 toReporter;
        uint128 toTenant;
        uint128 toCaller;
        uint128 burned;
    }

    /* CONSTANTS */

    uint32 private constant _START_TIMEOUT = 15 minutes;

    /// @dev What can be taken from a node in 30 days, without fatal penalties.
    uint256 private constant _CAP_BPS = 3_000;

    /* SETUP */

    /// @param extension_ The SLAExtension for the same peers; the code of both together is above what a contract may have.
    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p, address extension_) Base(p) TypedData(p.sla) Extensible(extension_) {}

    /// @notice Sets up a new proxy with the usual penalties.
    function initialize() external initializer {
        _initBase();
        _setBond(100 ether);
        _setPenalty(Kind.Offline, Penalty([uint16(0), 10, 20, 30], 1 days, 2, false, false, false));
        _setPenalty(Kind.StartTimeout, Penalty([uint16(2), 4, 8, 16], 0, 0, false, false, false));
        _setPenalty(Kind.EarlyStop, Penalty([uint16(10), 20, 50, 100], 0, 0, false, false, false));
        _setPenalty(Kind.StorageMiss, Penalty([uint16(5), 10, 20, 50], 0, 0, false, false, false));
        _setPenalty(Kind.StorageChallengeLost, Penalty([uint16(100), 200, 400, 800], 0, 0, false, false, false));
        _setPenalty(Kind.InclusionDenied, Penalty([uint16(100), 200, 400, 800], 0, 0, false, false, false));
        _setPenalty(Kind.WrongAssignment, Penalty([uint16(100), 200, 400, 800], 0, 0, false, false, false));
        _setPenalty(Kind.BadAttestation, Penalty([uint16(100), 200, 400, 800], 1 days, 0, false, false, false));
        _setPenalty(Kind.ResourceShortfall, Penalty([uint16(20), 50, 100, 200], 0, 0, false, false, false));
        _setPenalty(Kind.CertMisuse, Penalty([uint16(100), 200, 400, 800], 1 days, 0, false, false, false));
        _setPenalty(Kind.Equivocation, Penalty([uint16(1_000), 1_000, 1_000, 1_000], 0, 0, true, false, true));
        _setPenalty(Kind.AttestationForged, Penalty([uint16(10_000), 10_000, 10_000, 10_000], 0, 0, true, true, true));
    }

    /* CASES */

    /// @inheritdoc ISLAManager
    function recordViolation(
        Kind kind,
        uint32 nodeId,
        bytes32 ref,
        uint32 occurrence,
        uint16 severity,
        address reporter,
        address tenant
    ) external nonReentrant returns (bytes32 caseId) {
        if (msg.sender != JOBS && msg.sender != STORAGES && msg.sender != NODES) _onlyPeer(DOMAINS);
        if (kind == Kind.None) revert WrongKind(kind);
        // Whoever was late may have been kept from answering, and gets the time to tell of the outage.
        if (_isLateness(kind)) _checkSequencer();
        Case memory c;
        caseId = _file(c, kind, nodeId, ref, occurrence, severity);
        (c.reporter, c.tenant) = (reporter, tenant);
        ServiceCredit memory credit;
        if (msg.sender == JOBS) credit = _applyClass(c, caseId, ref);
        _enterProven(c);
        _storage().cases[caseId] = c;
        _emitFiled(caseId, c, ref, occurrence, credit);
        if (c.deadline > block.timestamp) _freeze(nodeId);
    }

    /// @inheritdoc ISLAManager
    function accuse(Kind, uint32, bytes32, uint32, uint8, bytes32, bytes calldata)
        external
        unpaused(Pausing.ENTRY)
        returns (bytes32)
    {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function defend(bytes32, bytes32) external {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function escalate(bytes32) external {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function committeeResolve(bytes32, bool, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function appeal(bytes32) external {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function governanceResolve(bytes32, bool) external restricted {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function veto(bytes32) external restricted {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function finalize(bytes32 caseId) external nonReentrant unpaused(Pausing.PENALTY) {
        Case storage c = _storage().cases[caseId];
        State state = c.state;
        if (state == State.None || state >= State.Dismissed) revert WrongState(state);
        _checkSequencer();
        if (state != State.Proven) {
            uint256 end = _end(c);
            if (block.timestamp <= end) revert AlephErrors.TooSoon(end + 1);
            if (state == State.Open) _decide(caseId, c, true);
            else if (state == State.Defended || state == State.Escalated) _dropUndecided(caseId, c);
            else _decide(caseId, c, c.flags & _GUILTY != 0);
            if (c.state != State.Proven || c.deadline > block.timestamp) return;
        }
        if (block.timestamp < c.deadline) revert VetoWindow(c.deadline);
        _execute(caseId, c);
    }

    /* MONEY */

    /// @inheritdoc ISLAManager
    function withdraw(address who) external nonReentrant unpaused(Pausing.EXIT) returns (uint128 amount) {
        SLAManagerStorage storage $ = _storage();
        amount = $.credits[who];
        if (amount == 0) revert NoCredit(who);
        $.credits[who] = 0;
        emit CreditWithdrawn(who, amount);
        IERC20(TOKEN).safeTransfer(who, amount);
    }

    /// @inheritdoc ISLAManager
    function burn() external nonReentrant returns (uint128 amount) {
        SLAManagerStorage storage $ = _storage();
        amount = $.toBurn;
        if (amount == 0) revert AlephErrors.ZeroAmount();
        $.toBurn = 0;
        emit PenaltiesBurned(amount);
        Burning.burn(TOKEN, amount);
    }

    /// @inheritdoc ISLAManager
    function postBond(bytes32 id, address from) external nonReentrant {
        _onlyPeer(JOBS);
        SLAManagerStorage storage $ = _storage();
        if ($.bonds[id] != 0) revert AlephErrors.Duplicate(id);
        uint96 amount = _storage().bondAmount;
        $.bonds[id] = amount;
        _takeBond(id, from, amount);
    }

    /// @inheritdoc ISLAManager
    function settleBond(bytes32 id, address to) external nonReentrant {
        _onlyPeer(JOBS);
        SLAManagerStorage storage $ = _storage();
        uint96 amount = $.bonds[id];
        $.bonds[id] = 0;
        _credit(to, amount);
    }

    /* OUTAGES */

    /// @inheritdoc ISLAManager
    function recordOutage(uint80) external {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function outage(uint40 from, uint40 to) external view returns (uint32 seconds_) {
        return _outage(from, to);
    }

    /* CLASSES */

    /// @inheritdoc ISLAManager
    function defineClass(SlaClass calldata) external restricted returns (uint32) {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function nodeOptIn(uint32, uint32) external {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function nodeOptOut(uint32, uint32) external {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function setPenalty(Kind, Penalty calldata) external restricted {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function setBond(uint96) external restricted {
        _extend();
    }

    /// @inheritdoc ISLAManager
    function noticeOf(uint32 slaClass) external view returns (uint32 seconds_) {
        if (slaClass != 0) return _class(slaClass).notice;
    }

    /// @inheritdoc ISLAManager
    function startTimeoutOf(uint32 slaClass) external view returns (uint32 seconds_) {
        return slaClass == 0 ? _START_TIMEOUT : _class(slaClass).startTimeout;
    }

    /// @inheritdoc ISLAManager
    function classOf(uint32 slaClass) external view returns (SlaClass memory) {
        return _class(slaClass);
    }

    /// @inheritdoc ISLAManager
    function lastClass() external view returns (uint32) {
        return _storage().lastClass;
    }

    /// @inheritdoc ISLAManager
    function optedIn(uint32 nodeId, uint32 slaClass) external view returns (bool) {
        return slaClass == 0 || _storage().optedIn[nodeId][slaClass];
    }

    /* VIEWS */

    /// @inheritdoc ISLAManager
    function caseOf(bytes32 caseId) external view returns (CaseView memory v) {
        Case storage c = _storage().cases[caseId];
        ServiceCredit storage s = _storage().serviceCredits[caseId];
        (v.nodeId, v.kind, v.state, v.severity, v.bps) = (c.nodeId, c.kind, c.state, c.severity, c.bps);
        (v.filedAt, v.since, v.deadline, v.tenantBps) = (c.filedAt, c.since, c.deadline, c.tenantBps);
        v.guilty = c.flags & _GUILTY != 0;
        v.vetoed = c.flags & _VETOED != 0;
        v.appealByNode = c.flags & _APPEAL_BY_NODE != 0;
        (v.reporter, v.bond, v.tenant, v.appealBond) = (c.reporter, c.bond, c.tenant, c.appealBond);
        (v.token, v.credit) = (s.token, s.most);
    }

    /// @inheritdoc ISLAManager
    function stateOf(bytes32 caseId) external view returns (State) {
        return _storage().cases[caseId].state;
    }

    /// @inheritdoc ISLAManager
    function caseIdOf(Kind kind, uint32 nodeId, bytes32 ref, uint32 occurrence) public pure returns (bytes32) {
        return keccak256(abi.encode(kind, nodeId, ref, occurrence));
    }

    /// @inheritdoc ISLAManager
    function points(uint32 nodeId) external view returns (uint16 points_, uint16 executedBps, uint16 filedBps) {
        Record memory r = _record(nodeId);
        return (_total(r.points), _total(r.executed), _total(r.filed));
    }

    /// @inheritdoc ISLAManager
    function penaltyOf(Kind kind) external view returns (Penalty memory) {
        return _storage().penalties[kind];
    }

    /// @inheritdoc ISLAManager
    function bondOf() external view returns (uint96) {
        return _storage().bondAmount;
    }

    /// @inheritdoc ISLAManager
    function bond(bytes32 id) external view returns (uint96) {
        return _storage().bonds[id];
    }

    /// @inheritdoc ISLAManager
    function creditOf(address who) external view returns (uint128) {
        return _storage().credits[who];
    }

    /// @inheritdoc ISLAManager
    function toBurn() external view returns (uint128) {
        return _storage().toBurn;
    }

    /* INTERNAL: FILING */

    /// @dev Counts what is filed, and gives the guardian time when it makes 1 % of the stake together.
    function _enterProven(Case memory c) private {
        (c.state, c.since) = (State.Proven, uint40(block.timestamp));
        c.deadline = uint40(block.timestamp) + _vetoTime(c.nodeId, c.bps);
    }

    /// @dev Kinds that mean that something was not done in time.
    function _isLateness(Kind kind) private pure returns (bool) {
        return kind == Kind.Offline || kind == Kind.StartTimeout || kind == Kind.StorageMiss
            || kind == Kind.StorageChallengeLost || kind == Kind.InclusionDenied;
    }

    /* INTERNAL: DECIDING */

    /// @dev Nobody decided: disagreement is not guilt, and not a false accusation either.
    function _dropUndecided(bytes32 caseId, Case storage c) private {
        uint128 back = c.bond;
        c.bond = 0;
        _credit(c.reporter, back);
        _resolve(caseId, c, State.Dismissed, 0);
    }

    /* INTERNAL: PENALTIES */

    /// @dev Takes the stake and shares it out, in one go.
    function _execute(bytes32 caseId, Case storage c) private {
        uint32 nodeId = c.nodeId;
        Penalty memory p = _storage().penalties[c.kind];
        uint16 bps = _note(c, p.fatal);
        (c.state, c.since) = (State.Executed, uint40(block.timestamp));
        _slash(caseId, c, p, bps);
        if (p.ban) INodeRegistry(NODES).ban(nodeId);
        else if (p.jail != 0 && c.severity >= p.jailSeverity) INodeRegistry(NODES).jail(nodeId, p.jail);
        _compensate(caseId, c);
    }

    /// @dev What of the penalty the cap leaves, and counts it.
    function _note(Case storage c, bool fatal) private returns (uint16 bps) {
        uint32 nodeId = c.nodeId;
        Record memory r = _record(nodeId);
        bps = c.bps;
        if (!fatal) {
            uint256 done = _total(r.executed);
            if (done + bps > _CAP_BPS) bps = uint16(_CAP_BPS - done);
            if (bps == 0 && c.bps != 0) revert CapReached(nodeId, c.bps);
            r.executed = _add(r.executed, bps);
        }
        r.points = _add(r.points, uint256(c.severity) + 1);
        _storage().records[nodeId] = r;
    }

    function _slash(bytes32 caseId, Case storage c, Penalty memory p, uint16 bps) private {
        (uint16 reporterBps, uint16 tenantBps, uint16 callerBps) = _sharesOf(c);
        (uint128 slashed, uint128 dust) = _take(caseId, c.nodeId, p, bps);
        Shares memory s;
        s.taken = slashed + dust;
        s.toReporter = _portion(slashed, reporterBps);
        s.toTenant = _portion(slashed, tenantBps);
        s.toCaller = _portion(slashed, callerBps);
        s.burned = s.taken - s.toReporter - s.toTenant - s.toCaller;
        _credit(c.reporter, s.toReporter);
        _credit(c.tenant, s.toTenant);
        _credit(msg.sender, s.toCaller);
        // Burned by a call of its own, once for many penalties.
        if (s.burned != 0) _storage().toBurn += s.burned;
        emit PenaltyExecuted(caseId, c.nodeId, s.taken, s.toReporter, s.toTenant, s.toCaller, s.burned, bps);
    }

    function _portion(uint128 amount, uint16 bps) private pure returns (uint128) {
        return uint128(uint256(amount) * bps / _BPS);
    }

    /// @dev The account that owns a node earns nothing from its penalty.
    function _sharesOf(Case storage c) private view returns (uint16 reporterBps, uint16 tenantBps, uint16 callerBps) {
        (address owner,,) = INodeRegistry(NODES).standing(c.nodeId);
        (address reporter, address tenant) = (c.reporter, c.tenant);
        if (reporter != address(0) && reporter != owner) reporterBps = _REPORTER_BPS;
        if (tenant != address(0) && tenant != owner) tenantBps = c.tenantBps;
        if (msg.sender != owner) callerBps = _CALLER_BPS;
    }

    function _take(bytes32 caseId, uint32 nodeId, Penalty memory p, uint16 bps) private returns (uint128, uint128) {
        uint256 amount = Math.ceilDiv(_stakeAtRisk(nodeId, p.ownerOnly) * bps, _BPS);
        if (amount == 0) return (0, 0);
        IStakingManager.SlashMode mode =
            p.fatal && !p.ownerOnly ? IStakingManager.SlashMode.Fatal : IStakingManager.SlashMode.Operational;
        return IStakingManager(STAKING).slash(nodeId, amount.toUint128(), mode, caseId);
    }

    function _stakeAtRisk(uint32 nodeId, bool ownerOnly) private view returns (uint256) {
        if (!ownerOnly) return IStakingManager(STAKING).slashable(nodeId);
        (uint128 self,,) = IStakingManager(STAKING).totalStake(nodeId);
        return self;
    }

    /// @dev Part of what the tenant paid, from what the node has earned and not taken out.
    function _compensate(bytes32 caseId, Case storage c) private {
        ServiceCredit memory s = _storage().serviceCredits[caseId];
        if (s.most == 0) return;
        uint128 paid = IPaymentManager(PAYMENTS).compensate(c.nodeId, s.token, c.tenant, s.most, caseId);
        if (paid != 0) emit ServiceCredited(caseId, c.tenant, s.token, paid);
    }

    function _checkSequencer() private view {
        uint256 until = L2Guard.graceUntil(UPTIME_FEED);
        if (until != 0) revert SequencerGrace(until);
    }
}
