// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Peers} from "./Peers.sol";
import {SLAStore} from "./SLAStore.sol";
import {TypedData} from "./TypedData.sol";
import {Wiring} from "./Wiring.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {L2Guard} from "./libraries/L2Guard.sol";
import {TypeHashes} from "./libraries/TypeHashes.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title SLAExtension
/// @notice The calls of the SLAManager that are rare: it has no room for them. The SLAManager runs them as its own code
/// (delegatecall) and checks who may; whoever calls this contract itself changes nothing but a record that nobody reads.
contract SLAExtension is SLAStore {
    /* CONSTANTS */

    /// @dev The time a node has to answer an accusation, and for the next step of a dispute.
    uint40 private constant _ANSWER_TIME = 72 hours;

    /// @dev The time the coordinators have to judge.
    uint40 private constant _JUDGE_TIME = 48 hours;

    /// @dev The time governance has to decide an appeal; then the verdict stands.
    uint40 private constant _APPEAL_TIME = 30 days;

    /// @dev What can be taken from a node in 30 days, without fatal penalties.
    uint256 private constant _CAP_BPS = 3_000;

    /// @dev No deadline looks further back.
    uint256 private constant _OUTAGE_AGE = 30 days;

    uint256 private constant _APPEAL_BONDS = 5;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Wiring(p) TypedData(p.sla) {}

    /* CASES */

    /// @notice See {ISLAManager}.
    function accuse(
        ISLAManager.Kind kind,
        uint32 nodeId,
        bytes32 ref,
        uint32 occurrence,
        uint8 severity,
        bytes32 evidence,
        bytes calldata sigs
    ) external nonReentrant returns (bytes32 caseId) {
        if (!_isAttested(kind)) revert ISLAManager.WrongKind(kind);
        if (evidence == 0) revert AlephErrors.ZeroHash();
        (address owner,,) = INodeRegistry(NODES).standing(nodeId);
        if (owner == address(0)) revert INodeRegistry.UnknownNode(nodeId);
        INodeRegistry.Quorum memory q = INodeRegistry(NODES)
            .quorum(
                _hashTypedDataV4(
                    keccak256(abi.encode(TypeHashes.ACCUSATION, kind, nodeId, ref, occurrence, severity, evidence))
                ),
                sigs
            );
        // One of more than a third of the stake is honest, or the assumption of the network does not hold.
        if (uint256(q.weight) * 3 <= q.total) revert ISLAManager.QuorumLow(q.weight, uint256(q.total) / 3 + 1);
        Case memory c;
        caseId = _file(c, kind, nodeId, ref, occurrence, severity);
        (c.reporter, c.bond) = (msg.sender, _storage().bondAmount);
        ServiceCredit memory credit = _applyClass(c, caseId, ref);
        (c.state, c.deadline) = (ISLAManager.State.Open, uint40(block.timestamp) + _ANSWER_TIME);
        _storage().cases[caseId] = c;
        _emitFiled(caseId, c, ref, occurrence, credit);
        emit ISLAManager.CaseAccused(caseId, evidence, c.bond, q.signers);
        _freeze(nodeId);
        _takeBond(caseId, msg.sender, c.bond);
    }

    /// @notice See {ISLAManager}.
    function defend(bytes32 caseId, bytes32 evidence) external nonReentrant {
        Case storage c = _inState(caseId, ISLAManager.State.Open);
        _checkInTime(c);
        if (evidence == 0) revert AlephErrors.ZeroHash();
        (address owner,,) = INodeRegistry(NODES).standing(c.nodeId);
        if (msg.sender != owner && msg.sender != INodeRegistry(NODES).signerOf(c.nodeId)) {
            revert AlephErrors.NotAuthorized(msg.sender);
        }
        _enter(c, ISLAManager.State.Defended, _ANSWER_TIME);
        emit ISLAManager.CaseDefended(caseId, evidence, c.deadline);
    }

    /// @notice See {ISLAManager}.
    function escalate(bytes32 caseId) external nonReentrant {
        Case storage c = _inState(caseId, ISLAManager.State.Defended);
        _checkInTime(c);
        _enter(c, ISLAManager.State.Escalated, _JUDGE_TIME);
        emit ISLAManager.CaseEscalated(caseId, c.deadline);
        _freeze(c.nodeId);
    }

    /// @notice See {ISLAManager}.
    function committeeResolve(bytes32 caseId, bool guilty, bytes calldata sigs) external nonReentrant {
        Case storage c = _inState(caseId, ISLAManager.State.Escalated);
        _checkInTime(c);
        (uint256 weight, uint256 total, uint64 signers) = _weigh(
            c.nodeId,
            INodeRegistry(NODES)
                .quorum(_hashTypedDataV4(keccak256(abi.encode(TypeHashes.VERDICT, caseId, guilty))), sigs)
        );
        if (weight * 3 <= total * 2) revert ISLAManager.QuorumLow(weight, total * 2 / 3 + 1);
        if (guilty) c.flags |= _GUILTY;
        _enter(c, ISLAManager.State.Judged, _ANSWER_TIME);
        emit ISLAManager.CaseJudged(caseId, guilty, signers, c.deadline);
        if (guilty) _freeze(c.nodeId);
    }

    /// @notice See {ISLAManager}.
    function appeal(bytes32 caseId) external nonReentrant {
        Case storage c = _inState(caseId, ISLAManager.State.Judged);
        _checkInTime(c);
        bool byNode = c.flags & _GUILTY != 0;
        (address owner,,) = INodeRegistry(NODES).standing(c.nodeId);
        if (msg.sender != (byNode ? owner : c.reporter)) revert AlephErrors.NotAuthorized(msg.sender);
        if (byNode) c.flags |= _APPEAL_BY_NODE;
        uint96 amount = uint96(_APPEAL_BONDS * c.bond);
        c.appealBond = amount;
        _enter(c, ISLAManager.State.Appealed, _APPEAL_TIME);
        emit ISLAManager.CaseAppealed(caseId, byNode, amount, c.deadline);
        _freeze(c.nodeId);
        _takeBond(caseId, msg.sender, amount);
    }

    /// @notice See {ISLAManager}.
    function governanceResolve(bytes32 caseId, bool guilty) external nonReentrant {
        Case storage c = _storage().cases[caseId];
        if (c.state == ISLAManager.State.Vetoed) {
            if (guilty) _resolve(caseId, c, ISLAManager.State.Proven, 0);
            else _resolve(caseId, c, ISLAManager.State.Dismissed, 0);
            return;
        }
        if (c.state != ISLAManager.State.Appealed) revert ISLAManager.WrongState(c.state);
        _decide(caseId, c, guilty);
    }

    /// @notice See {ISLAManager}.
    function veto(bytes32 caseId) external nonReentrant {
        Case storage c = _inState(caseId, ISLAManager.State.Proven);
        if (c.flags & _VETOED != 0) revert ISLAManager.WrongState(ISLAManager.State.Vetoed);
        if (block.timestamp >= c.deadline) revert AlephErrors.TooLate(c.deadline);
        (c.state, c.since) = (ISLAManager.State.Vetoed, uint40(block.timestamp));
        c.flags |= _VETOED;
        emit ISLAManager.CaseVetoed(caseId);
    }

    /* OUTAGES */

    /// @notice See {ISLAManager}.
    function recordOutage(uint80 roundId) external nonReentrant {
        SLAManagerStorage storage $ = _storage();
        if ($.recorded[roundId]) revert AlephErrors.Duplicate(bytes32(uint256(roundId)));
        (uint40 from, uint40 to) = L2Guard.outageOf(UPTIME_FEED, roundId);
        if (to == 0) revert ISLAManager.NoOutage(roundId);
        // An old one would push a newer one out of the ring.
        if (block.timestamp > to + _OUTAGE_AGE) revert AlephErrors.TooLate(to + _OUTAGE_AGE);
        $.recorded[roundId] = true;
        uint8 next = $.nextOutage;
        $.outages[next] = Outage(from, to);
        $.nextOutage = uint8((next + 1) % _RING);
        if (to > $.lastOutageEnd) $.lastOutageEnd = to;
        emit ISLAManager.OutageRecorded(roundId, from, to);
    }

    /* CLASSES */

    /// @notice See {ISLAManager}.
    function defineClass(ISLAManager.SlaClass calldata terms) external returns (uint32 slaClass) {
        _checkBounds(terms.uptimeBps, 0, _BPS);
        _checkBounds(terms.startTimeout, 1 minutes, 1 days);
        _checkBounds(terms.notice, 0, 30 days);
        _checkBounds(terms.maxGap, 0, 30 days);
        _checkBounds(terms.creditBpsPerPoint, 0, 2_500);
        _checkBounds(terms.tenantBps, 0, _TENANT_BPS);
        for (uint256 i; i < 4; ++i) {
            _checkBounds(terms.slashBps[i], 0, _CAP_BPS);
        }
        SLAManagerStorage storage $ = _storage();
        slaClass = ++$.lastClass;
        $.classes[slaClass] = terms;
        emit ISLAManager.ClassDefined(slaClass, terms);
    }

    /// @notice See {ISLAManager}.
    function nodeOptIn(uint32 nodeId, uint32 slaClass) external {
        _optIn(nodeId, slaClass, true);
    }

    /// @notice See {ISLAManager}.
    function nodeOptOut(uint32 nodeId, uint32 slaClass) external {
        _optIn(nodeId, slaClass, false);
    }

    /// @notice See {ISLAManager}.
    function setPenalty(ISLAManager.Kind kind, ISLAManager.Penalty calldata penalty) external {
        if (kind == ISLAManager.Kind.None) revert ISLAManager.WrongKind(kind);
        for (uint256 i; i < 4; ++i) {
            _checkBounds(penalty.slashBps[i], 0, penalty.fatal ? _BPS : _CAP_BPS);
        }
        _checkBounds(penalty.jail, 0, 365 days);
        _checkBounds(penalty.jailSeverity, 0, 3);
        // Only what is proven by signatures, or judged, may end a node.
        bool mayEnd = kind == ISLAManager.Kind.Equivocation || _isAttested(kind);
        if (!mayEnd && (penalty.fatal || penalty.ban)) revert ISLAManager.WrongKind(kind);
        _setPenalty(kind, penalty);
    }

    /// @notice See {ISLAManager}.
    function setBond(uint96 amount) external {
        _checkBounds(amount, 1 ether, 10_000 ether);
        _setBond(amount);
    }

    /* INTERNAL */

    function _checkInTime(Case storage c) private view {
        if (block.timestamp <= c.deadline) return;
        uint256 end = _end(c);
        if (block.timestamp > end) revert AlephErrors.TooLate(end);
    }

    /// @dev The stake that signed and that could, without the accused.
    function _weigh(uint32 accused, INodeRegistry.Quorum memory q) private view returns (uint256, uint256, uint64) {
        (, INodeRegistry.Kind kind, INodeRegistry.Status status) = INodeRegistry(NODES).standing(accused);
        if (kind != INodeRegistry.Kind.Coordinator || status != INodeRegistry.Status.Active) {
            return (q.weight, q.total, q.signers);
        }
        (, uint32[] memory ids, uint96[] memory weights) = INodeRegistry(NODES).coordinatorSet();
        (uint256 weight, uint256 total) = (q.weight, q.total);
        for (uint256 i; i < ids.length; ++i) {
            if (ids[i] != accused) continue;
            if ((q.signers >> i) & 1 != 0) weight -= weights[i];
            total -= Math.min(total, weights[i]);
        }
        return (weight, total, q.signers);
    }

    function _optIn(uint32 nodeId, uint32 slaClass, bool taken) private {
        _class(slaClass);
        (address owner,,) = INodeRegistry(NODES).standing(nodeId);
        if (msg.sender != owner) revert AlephErrors.NotAuthorized(msg.sender);
        _storage().optedIn[nodeId][slaClass] = taken;
        emit ISLAManager.NodeOptedIn(nodeId, slaClass, taken);
    }
}
