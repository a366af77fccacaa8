// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TypedData} from "./TypedData.sol";
import {Wiring} from "./Wiring.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title SLAStore
/// @notice What the SLAManager and its extension share: cases, records, classes, credits, and how a case is filed and
/// decided.
abstract contract SLAStore is Wiring, TypedData, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    /* TYPES */

    /// @dev Three slots; the last two are written only when there is a reporter or a tenant.
    struct Case {
        uint32 nodeId;
        ISLAManager.Kind kind;
        ISLAManager.State state;
        uint8 severity;
        uint8 flags;
        uint16 bps;
        uint16 tenantBps;
        uint40 filedAt;
        uint40 since;
        uint40 deadline;
        address reporter;
        uint96 bond;
        address tenant;
        uint96 appealBond;
    }

    /// @dev What the tenant gets of the node's earnings, at most.
    struct ServiceCredit {
        uint128 most;
        uint8 token;
    }

    /// @dev Sums over periods of ten days, the newest in the lowest 16 bits of each, four periods in all: what they hold
    /// together covers 30 days at least, whenever it is asked.
    struct Record {
        uint24 period;
        uint64 executed;
        uint64 filed;
        uint64 points;
    }

    struct Outage {
        uint40 from;
        uint40 to;
    }

    /// @custom:storage-location erc7201:aleph.storage.SLAManager.v1
    struct SLAManagerStorage {
        mapping(bytes32 caseId => Case) cases;
        mapping(bytes32 caseId => ServiceCredit) serviceCredits;
        mapping(uint32 nodeId => Record) records;
        mapping(address who => uint128) credits;
        mapping(bytes32 id => uint96) bonds;
        mapping(uint32 slaClass => ISLAManager.SlaClass) classes;
        mapping(uint32 nodeId => mapping(uint32 slaClass => bool)) optedIn;
        mapping(ISLAManager.Kind kind => ISLAManager.Penalty) penalties;
        mapping(uint80 roundId => bool) recorded;
        uint96 bondAmount;
        uint32 lastClass;
        // The ring of outages: where the next one goes, and when the latest ended.
        uint8 nextOutage;
        uint40 lastOutageEnd;
        Outage[32] outages;
        uint128 toBurn;
    }

    /* CONSTANTS */

    uint256 internal constant _BPS = 10_000;

    /// @dev The time the guardian has to veto a penalty that matters.
    uint40 internal constant _VETO_TIME = 48 hours;

    /// @dev Penalties that make less than this together in 30 days are carried out at once.
    uint256 internal constant _SMALL_BPS = 100;

    /// @dev The parts of a penalty. At least a quarter is burned, so that nobody gains by having a friend slashed: the
    /// tenant gets at most what the others leave.
    uint16 internal constant _BURNED_BPS = 2_500;
    uint16 internal constant _REPORTER_BPS = 2_250;
    uint16 internal constant _CALLER_BPS = 250;
    uint16 internal constant _TENANT_BPS = 10_000 - _BURNED_BPS - _REPORTER_BPS - _CALLER_BPS;

    /// @dev How long a node is kept from taking out its stake, from each step of a case.
    uint40 internal constant _FREEZE = 7 days;

    /// @dev The length of the periods in {Record}.
    uint256 internal constant _PERIOD = 10 days;

    /// @dev The most of outages that extends a deadline.
    uint256 internal constant _OUTAGE_MAX = 48 hours;

    uint256 internal constant _RING = 32;

    /// @dev The payments that a service credit is a part of.
    uint256 internal constant _CREDIT_TIME = 30 days;

    // Flags of a case.
    uint8 internal constant _GUILTY = 1;
    uint8 internal constant _VETOED = 2;
    uint8 internal constant _APPEAL_BY_NODE = 4;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.SLAManager.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0x3f4541a70c3661a8acff8a7ada5db7dce595ed41f70ac074f01c11ac42f26a00;

    /* INTERNAL: FILING */

    /// @dev Fills in a new case, with the price of today.
    function _file(
        Case memory c,
        ISLAManager.Kind kind,
        uint32 nodeId,
        bytes32 ref,
        uint32 occurrence,
        uint256 severity
    ) internal view returns (bytes32 caseId) {
        _checkBounds(severity, 0, 3);
        caseId = keccak256(abi.encode(kind, nodeId, ref, occurrence));
        if (_storage().cases[caseId].state != ISLAManager.State.None) revert AlephErrors.Duplicate(caseId);
        (c.nodeId, c.kind, c.severity) = (nodeId, kind, uint8(severity));
        c.bps = _storage().penalties[kind].slashBps[severity];
        c.tenantBps = _TENANT_BPS;
        c.filedAt = c.since = uint40(block.timestamp);
    }

    /// @dev When `ref` is a job of this node: its payer is who was harmed, and the terms of its class hold.
    function _applyClass(Case memory c, bytes32 caseId, bytes32 ref) internal returns (ServiceCredit memory credit) {
        IJobManager.JobView memory job = IJobManager(JOBS).job(ref);
        if (job.payer == address(0) || job.nodeId != c.nodeId) return credit;
        c.tenant = job.payer;
        if (job.slaClass == 0) return credit;
        ISLAManager.SlaClass storage class = _storage().classes[job.slaClass];
        uint16 classBps = class.slashBps[c.severity];
        if (classBps > c.bps) c.bps = classBps;
        c.tenantBps = class.tenantBps;
        if (job.startedAt == 0) return credit;
        uint256 time = Math.min(block.timestamp - job.startedAt, _CREDIT_TIME);
        uint256 paid = (uint256(job.rateQ32) * time) >> 32;
        uint256 most = paid * class.creditBpsPerPoint * (uint256(c.severity) + 1) / _BPS;
        if (most == 0) return credit;
        credit = ServiceCredit(most.toUint128(), job.token);
        _storage().serviceCredits[caseId] = credit;
    }

    function _vetoTime(uint32 nodeId, uint16 bps) internal returns (uint40) {
        Record memory r = _record(nodeId);
        r.filed = _add(r.filed, bps);
        _storage().records[nodeId] = r;
        return _total(r.filed) < _SMALL_BPS ? 0 : _VETO_TIME;
    }

    function _emitFiled(bytes32 caseId, Case memory c, bytes32 ref, uint32 occurrence, ServiceCredit memory credit)
        internal
    {
        emit ISLAManager.CaseFiled(
            caseId,
            c.nodeId,
            c.kind,
            c.severity,
            c.bps,
            c.deadline,
            c.reporter,
            c.tenant,
            ref,
            occurrence,
            c.tenantBps,
            credit.token,
            credit.most
        );
    }

    /// @dev Kinds that coordinators may accuse of.
    function _isAttested(ISLAManager.Kind kind) internal pure returns (bool) {
        return kind == ISLAManager.Kind.EarlyStop || kind == ISLAManager.Kind.BadAttestation
            || kind == ISLAManager.Kind.ResourceShortfall || kind == ISLAManager.Kind.AttestationForged
            || kind == ISLAManager.Kind.CertMisuse;
    }

    /* INTERNAL: DECIDING */

    function _inState(bytes32 caseId, ISLAManager.State want) internal view returns (Case storage c) {
        c = _storage().cases[caseId];
        if (c.state != want) revert ISLAManager.WrongState(c.state);
    }

    /// @dev When the state of a case ends, with the outages since it began.
    function _end(Case storage c) internal view returns (uint256) {
        return uint256(c.deadline) + _outage(c.since, uint40(block.timestamp));
    }

    function _enter(Case storage c, ISLAManager.State state, uint40 time) internal {
        uint40 now_ = uint40(block.timestamp);
        (c.state, c.since, c.deadline) = (state, now_, now_ + time);
    }

    /// @dev The end of an accusation: the bonds go to the side that is right.
    function _decide(bytes32 caseId, Case storage c, bool guilty) internal {
        uint128 bonds = uint128(c.bond) + c.appealBond;
        (c.bond, c.appealBond) = (0, 0);
        if (guilty) {
            _credit(c.reporter, bonds);
            _resolve(caseId, c, ISLAManager.State.Proven, _vetoTime(c.nodeId, c.bps));
        } else {
            _credit(INodeRegistry(NODES).payoutOf(c.nodeId), bonds);
            _resolve(caseId, c, ISLAManager.State.Dismissed, 0);
        }
    }

    function _resolve(bytes32 caseId, Case storage c, ISLAManager.State outcome, uint40 time) internal {
        _enter(c, outcome, time);
        emit ISLAManager.CaseResolved(caseId, outcome, c.deadline);
    }

    /// @dev How long the sequencer was down between the two times, at most 48 hours.
    function _outage(uint40 from, uint40 to) internal view returns (uint32) {
        SLAManagerStorage storage $ = _storage();
        // Nearly always the answer, after one read.
        if ($.lastOutageEnd <= from) return 0;
        uint256 sum;
        for (uint256 i; i < _RING; ++i) {
            Outage memory o = $.outages[i];
            uint256 a = Math.max(o.from, from);
            uint256 b = Math.min(o.to, to);
            if (b > a) sum += b - a;
        }
        return uint32(Math.min(sum, _OUTAGE_MAX));
    }

    /* INTERNAL: RECORDS */

    /// @dev A node's record with the periods moved to now.
    function _record(uint32 nodeId) internal view returns (Record memory r) {
        r = _storage().records[nodeId];
        uint24 period = uint24(block.timestamp / _PERIOD);
        uint256 shift = uint256(period - r.period) * 16;
        if (shift != 0) {
            (r.executed, r.filed) = (_shifted(r.executed, shift), _shifted(r.filed, shift));
            (r.points, r.period) = (_shifted(r.points, shift), period);
        }
    }

    function _shifted(uint64 sums, uint256 shift) internal pure returns (uint64) {
        return shift >= 64 ? 0 : sums << uint64(shift);
    }

    /// @dev Adds to the newest period, which stays at its greatest when full.
    function _add(uint64 sums, uint256 value) internal pure returns (uint64) {
        uint256 sum = Math.min((sums & 0xffff) + value, type(uint16).max);
        return sums & ~uint64(0xffff) | uint64(sum);
    }

    function _total(uint64 sums) internal pure returns (uint16) {
        uint256 sum = (sums & 0xffff) + ((sums >> 16) & 0xffff) + ((sums >> 32) & 0xffff) + (sums >> 48);
        return uint16(Math.min(sum, type(uint16).max));
    }

    /* INTERNAL */

    function _credit(address who, uint128 amount) internal {
        if (amount == 0) return;
        mapping(address => uint128) storage credits = _storage().credits;
        uint128 credit = credits[who] + amount;
        credits[who] = credit;
        emit ISLAManager.Credited(who, amount, credit);
    }

    function _takeBond(bytes32 id, address from, uint96 amount) internal {
        emit ISLAManager.BondPosted(id, from, amount);
        IERC20(TOKEN).safeTransferFrom(from, address(this), amount);
    }

    function _class(uint32 slaClass) internal view returns (ISLAManager.SlaClass storage class) {
        if (slaClass == 0 || slaClass > _storage().lastClass) revert ISLAManager.UnknownClass(slaClass);
        return _storage().classes[slaClass];
    }

    function _setPenalty(ISLAManager.Kind kind, ISLAManager.Penalty memory penalty) internal {
        _storage().penalties[kind] = penalty;
        emit ISLAManager.PenaltySet(kind, penalty);
    }

    function _setBond(uint96 amount) internal {
        _storage().bondAmount = amount;
        emit ISLAManager.BondSet(amount);
    }

    function _freeze(uint32 nodeId) internal {
        IStakingManager(STAKING).freeze(nodeId, uint40(block.timestamp) + _FREEZE);
    }

    function _domainName() internal pure override returns (string memory) {
        return "AlephSLA";
    }

    function _checkBounds(uint256 value, uint256 low, uint256 high) internal pure {
        if (value < low || value > high) revert AlephErrors.OutOfBounds(value, low, high);
    }

    function _storage() internal pure returns (SLAManagerStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
