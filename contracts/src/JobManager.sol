// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Extensible} from "./Extensible.sol";
import {JobExtension} from "./JobExtension.sol";
import {JobStore} from "./JobStore.sol";
import {Peers} from "./Peers.sol";
import {TypedData} from "./TypedData.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {EndReason} from "./libraries/EndReason.sol";
import {JobTypes} from "./libraries/JobTypes.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Payees} from "./libraries/Payees.sol";
import {PayerSignature} from "./libraries/PayerSignature.sol";

/// @title JobManager
/// @notice See {IJobManager}. Money is moved by the PaymentManager only; this contract is its flow controller. Bonds are
/// held by the SLAManager. The rare calls are in {JobExtension}.
contract JobManager is IJobManager, Base, TypedData, JobStore, Extensible {
    /* CONSTANTS */

    /// @dev Coordinators that must sign, when there are as many.
    uint256 private constant _QUORUM = 3;

    /* SETUP */

    /// @param extension_ The JobExtension for the same peers; the code of both together is above what a contract may have.
    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p, address extension_) Base(p) TypedData(p.jobs) Extensible(extension_) {}

    /// @notice Sets up a new proxy.
    function initialize() external initializer {
        _initBase();
    }

    /* OPENING */

    /// @inheritdoc IJobManager
    function open(
        JobOffer calldata offer,
        bytes calldata payerSig,
        Assignment calldata assignment,
        bytes calldata nodeSig,
        bytes calldata coordSigs
    ) external nonReentrant unpaused(Pausing.ENTRY) {
        _open(offer, payerSig, assignment, nodeSig, coordSigs);
    }

    /// @inheritdoc IJobManager
    function openSelf(
        JobOffer calldata offer,
        bytes calldata payerSig,
        Assignment calldata assignment,
        bytes calldata nodeSig
    ) external nonReentrant unpaused(Pausing.ENTRY) {
        if (offer.nodeHint == 0) revert NoNodeHint();
        if (assignment.coordId != 0) revert INodeRegistry.CoordinatorMissing(assignment.coordId);
        _open(offer, payerSig, assignment, nodeSig, nodeSig[:0]);
    }

    /// @inheritdoc IJobManager
    function openBatch(bytes[] calldata) external returns (uint256) {
        _extend();
    }

    /// @inheritdoc IJobManager
    function createJob(JobOffer calldata) external unpaused(Pausing.ENTRY) {
        _extend();
    }

    /// @inheritdoc IJobManager
    function assign(
        JobOffer calldata offer,
        bytes calldata,
        Assignment calldata assignment,
        bytes calldata nodeSig,
        bytes calldata coordSigs
    ) external nonReentrant unpaused(Pausing.ENTRY) {
        bool extra = abi.decode(_run(msg.data), (bool));
        _checkSigners(assignment, _asks(offer, assignment), nodeSig, coordSigs);
        _place(_storage(), offer, assignment, extra);
    }

    /// @inheritdoc IJobManager
    function invalidateNonces(uint256 word, uint256 mask) external {
        _storage().nonces[msg.sender][word] |= mask;
        emit NoncesInvalidated(msg.sender, word, mask);
    }

    /* RUNNING */

    /// @inheritdoc IJobManager
    function confirmRunning(bytes32[] calldata specs) external nonReentrant returns (uint256 okBitmap) {
        _checkBatch(specs.length);
        JobManagerStorage storage $ = _storage();
        uint32 nodeId;
        for (uint256 i; i < specs.length; ++i) {
            Life memory l = _load(specs[i]);
            // One look-up serves all the jobs of a node.
            if (nodeId == 0 || l.nodeId != nodeId) {
                nodeId = l.nodeId;
                if (INodeRegistry(NODES).signerOf(nodeId) != msg.sender) nodeId = 0;
            }
            Refusal refusal = _confirmRefusal(l, nodeId);
            if (refusal != Refusal.None) emit ItemRefused(specs[i], msg.sig, refusal);
            else if (_confirm($, specs[i], l)) okBitmap |= 1 << i;
        }
    }

    /// @inheritdoc IJobManager
    function resize(JobOffer calldata, bytes calldata, uint128, bytes calldata) external unpaused(Pausing.ENTRY) {
        _extend();
    }

    /* ENDING */

    /// @inheritdoc IJobManager
    function stop(bytes32 spec) external nonReentrant {
        Life memory l = _live(spec);
        if (msg.sender != _storage().terms[spec].payer) revert AlephErrors.NotAuthorized(msg.sender);
        _end(spec, l, Status.Stopped, EndReason.PAYER, msg.sender);
    }

    /// @inheritdoc IJobManager
    function stopBySig(bytes32 spec, uint40 deadline, bytes calldata sig) external nonReentrant {
        Life memory l = _live(spec);
        if (block.timestamp > deadline) revert AlephErrors.Expired(deadline);
        address payer = _storage().terms[spec].payer;
        if (!PayerSignature.isValid(payer, stopDigest(spec, deadline), sig)) revert AlephErrors.BadSignature(0);
        _end(spec, l, Status.Stopped, EndReason.PAYER, payer);
    }

    /// @inheritdoc IJobManager
    function nodeStop(bytes32 spec, uint8 reason) external nonReentrant {
        Life memory l = _placed(spec);
        _onlySigner(l.nodeId);
        if (reason < EndReason.NODE_MIN) {
            revert AlephErrors.OutOfBounds(reason, EndReason.NODE_MIN, type(uint8).max);
        }
        if (l.slaClass == 0) {
            _end(spec, l, Status.Failed, reason, msg.sender);
            return;
        }
        uint32 notice = l.status == Status.Assigned ? 0 : ISLAManager(SLA).noticeOf(l.slaClass);
        uint40 now_ = uint40(block.timestamp);
        if (notice != 0 && l.status == Status.Running) {
            (l.status, l.changedAt) = (Status.Stopping, now_);
            _save(spec, l);
            emit JobStopping(spec, l.nodeId, reason, now_ + notice);
        } else if (notice != 0 && now_ < l.changedAt + notice) {
            uint256 left = l.changedAt + notice - now_;
            // Before the state changes: the SLAManager looks at what the job has cost.
            _violate(ISLAManager.Kind.EarlyStop, spec, l.nodeId, l.attempt, uint16(3 * left / notice), address(0));
            _unplace(spec, l, reason, msg.sender);
        } else if (notice != 0) {
            _end(spec, l, Status.Stopped, EndReason.NOTICE, msg.sender);
        } else {
            _unplace(spec, l, reason, msg.sender);
        }
    }

    /// @inheritdoc IJobManager
    function failStart(bytes32 spec) external nonReentrant {
        Life memory l = _live(spec);
        if (l.status != Status.Assigned) revert AlephErrors.BadState(uint8(l.status), uint8(Status.Assigned));
        uint256 time = _startEnd(l);
        if (block.timestamp <= time) revert AlephErrors.TooSoon(time + 1);
        (uint32 nodeId, uint8 attempt) = (l.nodeId, l.attempt);
        if (l.slaClass == 0) _end(spec, l, Status.Failed, EndReason.START_TIMEOUT, msg.sender);
        else _unplace(spec, l, EndReason.START_TIMEOUT, msg.sender);
        _violate(ISLAManager.Kind.StartTimeout, spec, nodeId, attempt, 0, msg.sender);
    }

    /// @inheritdoc IJobManager
    function finalize(bytes32 spec) external nonReentrant {
        Life memory l = _live(spec);
        if (l.status != Status.Stopping) revert AlephErrors.BadState(uint8(l.status), uint8(Status.Stopping));
        uint256 time = l.changedAt + ISLAManager(SLA).noticeOf(l.slaClass);
        if (block.timestamp < time) revert AlephErrors.TooSoon(time);
        _end(spec, l, Status.Stopped, EndReason.NOTICE, msg.sender);
    }

    /// @inheritdoc IJobManager
    function complete(bytes32 spec, bytes32 resultHash) external nonReentrant {
        Life memory l = _live(spec);
        if (l.status != Status.Running) revert AlephErrors.BadState(uint8(l.status), uint8(Status.Running));
        _onlySigner(l.nodeId);
        if (l.slaClass != 0) {
            // Or a node would call done what it does not want to run any longer.
            uint32 notice = ISLAManager(SLA).noticeOf(l.slaClass);
            if (notice != 0) revert NoticeNeeded(notice);
        }
        emit JobCompleted(spec, l.nodeId, resultHash);
        _end(spec, l, Status.Completed, EndReason.COMPLETED, msg.sender);
    }

    /// @inheritdoc IJobManager
    function reassign(bytes32 spec) external nonReentrant {
        Life memory l = _placed(spec);
        bool byPayer = msg.sender == _storage().terms[spec].payer;
        if (!byPayer) {
            (,, INodeRegistry.Status status) = INodeRegistry(NODES).standing(l.nodeId);
            if (status == INodeRegistry.Status.Active || status == INodeRegistry.Status.Draining) {
                revert NodeAvailable(l.nodeId);
            }
        }
        _unplace(spec, l, byPayer ? EndReason.MOVED : EndReason.NODE_GONE, msg.sender);
    }

    /// @inheritdoc IJobManager
    function closeForArrears(bytes32[] calldata) external returns (uint256) {
        _extend();
    }

    /// @inheritdoc IJobManager
    function expire(bytes32[] calldata) external returns (uint256) {
        _extend();
    }

    /// @inheritdoc IJobManager
    function endRoyalties(bytes32[] calldata) external returns (uint256) {
        _extend();
    }

    /* CHALLENGES */

    /// @inheritdoc IJobManager
    function challengeAssignment(Assignment calldata, StatProof calldata) external unpaused(Pausing.ENTRY) {
        _extend();
    }

    /// @inheritdoc IJobManager
    function answerDecline(bytes32, uint8, uint32, uint8, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc IJobManager
    function answerSilence(bytes32, uint8, uint32, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc IJobManager
    function settleChallenge(bytes32, uint8, uint32) external {
        _extend();
    }

    /* VIEWS */

    /// @inheritdoc IJobManager
    function job(bytes32 spec) external view returns (JobView memory) {
        Terms storage t = _storage().terms[spec];
        Life memory l = _load(spec);
        // What somebody else offered may still be there; it is not this job's.
        Extra memory e;
        if (l.extra) e = _storage().extras[spec];
        return JobView({
            payer: t.payer,
            changedAt: l.changedAt,
            nodeId: l.nodeId,
            status: l.status,
            token: l.token,
            attempt: l.attempt,
            rateQ32: t.rateQ32,
            maxUntil: l.maxUntil,
            startedAt: l.startedAt,
            coordId: l.coordId,
            reservedMinutes: l.reservedMinutes,
            slaClass: l.slaClass,
            imageSeq: e.imageSeq,
            imageRateQ32: e.imageRateQ32
        });
    }

    /// @inheritdoc IJobManager
    function activeJobs(uint32 nodeId) external view returns (uint32) {
        return _storage().activeJobs[nodeId];
    }

    /// @inheritdoc IJobManager
    function nonceBitmap(address payer, uint256 word) external view returns (uint256) {
        return _storage().nonces[payer][word];
    }

    /// @inheritdoc IJobManager
    function offerHash(bytes32 spec) external view returns (bytes32) {
        return _storage().offers[spec];
    }

    /// @inheritdoc IJobManager
    function placement(bytes32 spec, uint8 attempt) external view returns (bytes32) {
        return _storage().placements[_placementId(spec, attempt)];
    }

    /// @inheritdoc IJobManager
    function challenge(bytes32 spec, uint8 attempt, uint32 better) external view returns (ChallengeView memory) {
        Challenge storage c = _storage().challenges[_challengeId(spec, attempt, better)];
        return ChallengeView(c.challenger, c.since, c.coordId, c.state);
    }

    /// @inheritdoc IJobManager
    function dutyCoordinator(bytes32 spec, uint24 day, uint8 attempt) external view returns (uint32) {
        return JobExtension(EXTENSION).dutyCoordinator(spec, day, attempt);
    }

    /// @inheritdoc IJobManager
    function offerDigest(JobOffer calldata offer) external view returns (bytes32) {
        return _hashTypedDataV4(JobTypes.hash(offer));
    }

    /// @inheritdoc IJobManager
    function acceptDigest(Assignment calldata assignment) external view returns (bytes32) {
        return _hashTypedDataV4(JobTypes.hash(JobTypes.ACCEPT, assignment));
    }

    /// @inheritdoc IJobManager
    function assignmentDigest(Assignment calldata assignment) external view returns (bytes32) {
        return _hashTypedDataV4(JobTypes.hash(JobTypes.ASSIGNMENT, assignment));
    }

    /// @inheritdoc IJobManager
    function stopDigest(bytes32 spec, uint40 deadline) public view returns (bytes32) {
        return _hashTypedDataV4(JobTypes.hashStop(spec, deadline));
    }

    /* INTERNAL: OPENING */

    function _open(
        JobOffer calldata o,
        bytes calldata payerSig,
        Assignment calldata a,
        bytes calldata nodeSig,
        bytes calldata coordSigs
    ) private {
        JobManagerStorage storage $ = _storage();
        if ($.lives[o.spec] != 0) _checkReplaces($, o);
        _checkOffer($, o);
        _checkDeadline(o);
        _checkFit(o, a, 0);
        _checkRate(a, o.maxRateQ32);
        _checkPayer(o, payerSig);
        _checkSigners(a, _asks(o, a), nodeSig, coordSigs);
        _place($, o, a, false);
    }

    /// @dev The node accepts and enough coordinators agree, unless none was asked.
    function _checkSigners(Assignment calldata a, bool asked, bytes calldata nodeSig, bytes calldata coordSigs)
        private
        view
    {
        bytes32[2] memory digests;
        digests[0] = _hashTypedDataV4(JobTypes.hash(JobTypes.ACCEPT, a));
        digests[1] = _hashTypedDataV4(JobTypes.hash(JobTypes.ASSIGNMENT, a));
        INodeRegistry(NODES).checkAssignment(a.nodeId, a.coordId, asked ? _QUORUM : 0, digests, nodeSig, coordSigs);
    }

    /// @dev Reserves the first window and writes the job.
    function _place(JobManagerStorage storage $, JobOffer calldata o, Assignment calldata a, bool extra) private {
        if (o.slaClass | o.imageSeq != 0 || o.reqHash != 0) {
            _run(abi.encodeCall(JobExtension.agree, (o, a)));
            extra = extra || o.imageSeq != 0;
        }
        uint16 minutes_ = IPaymentManager(PAYMENTS).reserve(o.payer, o.token, a.nodeId, a.rateQ32);
        // The PaymentManager takes no rate that is greater.
        $.terms[o.spec] = Terms({payer: o.payer, rateQ32: uint96(a.rateQ32)});
        _begin(o, a, minutes_, extra);
        ++$.activeJobs[a.nodeId];
        emit JobAssigned(
            o.spec, a.nodeId, o.payer, a.rateQ32, o.token, a.attempt, a.coordId, o.maxUntil, uint32(minutes_) * 60
        );
    }

    /* INTERNAL: RUNNING */

    /// @dev `nodeId` is 0 when the caller does not sign for the node of the job.
    function _confirmRefusal(Life memory l, uint32 nodeId) private view returns (Refusal) {
        if (l.status != Status.Assigned) return Refusal.WrongStatus;
        if (nodeId == 0) return Refusal.NotSigner;
        if (block.timestamp > _startEnd(l)) return Refusal.StartTooLate;
        return Refusal.None;
    }

    /// @dev Starts billing. False: the payer cannot pay and the job has failed.
    function _confirm(JobManagerStorage storage $, bytes32 spec, Life memory l) private returns (bool) {
        Terms memory t = _terms(spec);
        uint40 now_ = uint40(block.timestamp);
        if (!_activate(spec, t, l)) {
            (l.status, l.changedAt) = (Status.Failed, now_);
            _save(spec, l);
            --$.activeJobs[l.nodeId];
            emit JobStopped(spec, l.nodeId, msg.sender, Status.Failed, EndReason.ARREARS_AT_START, 0, now_, t.rateQ32);
            return false;
        }
        (l.status, l.changedAt, l.startedAt) = (Status.Running, now_, now_);
        _save(spec, l);
        emit JobRunning(spec, l.nodeId, now_);
        return true;
    }

    /// @dev Starts the flows, or frees the reserves.
    function _activate(bytes32 spec, Terms memory t, Life memory l) private returns (bool) {
        if (l.extra) return abi.decode(_run(abi.encodeCall(JobExtension.activate, (spec))), (bool));
        return IPaymentManager(PAYMENTS).activate(t.payer, l.token, l.nodeId, t.rateQ32, l.reservedMinutes);
    }

    /* INTERNAL */

    function _domainName() internal pure override returns (string memory) {
        return "AlephJobs";
    }

    function _digest(bytes32 structHash) internal view override returns (bytes32) {
        return _hashTypedDataV4(structHash);
    }
}
