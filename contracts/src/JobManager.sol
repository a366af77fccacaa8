// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "./Base.sol";
import {Peers} from "./Peers.sol";
import {TypedData} from "./TypedData.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {EndReason} from "./libraries/EndReason.sol";
import {JobTypes} from "./libraries/JobTypes.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {PayerSignature} from "./libraries/PayerSignature.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title JobManager
/// @notice See {IJobManager}. Money is moved by the PaymentManager only; this contract is its flow controller.
contract JobManager is IJobManager, Base, TypedData, ReentrancyGuardTransient {
    /* TYPES */

    /// @dev What changes with the status, one slot.
    struct JobA {
        address payer;
        uint40 changedAt;
        uint32 nodeId;
        Status status;
        uint8 token;
        uint8 attempt;
    }

    /// @dev The terms, one slot. The reserve is what `reservedMinutes` cost at `rateQ32`, rounded up to whole wei.
    struct JobB {
        uint128 rateQ32;
        uint40 maxUntil;
        uint40 startedAt;
        uint32 coordId;
        uint16 reservedMinutes;
    }

    /// @custom:storage-location erc7201:aleph.storage.JobManager.v1
    struct JobManagerStorage {
        mapping(bytes32 spec => JobA) a;
        mapping(bytes32 spec => JobB) b;
        mapping(address payer => mapping(uint256 word => uint256)) nonces;
        mapping(uint32 nodeId => uint32) activeJobs;
    }

    /* CONSTANTS */

    /// @dev The time a node has to boot a virtual machine and confirm it.
    uint40 private constant _START_WINDOW = 15 minutes;

    /// @dev Coordinators that must sign, when there are as many.
    uint256 private constant _QUORUM = 3;

    /// @dev Coordinators whose signatures one call may carry: the largest set of coordinators.
    uint256 private constant _MAX_SIGNATURES = 64;

    /// @dev The length of an entry of coordinator signatures: a node id and a signature.
    uint256 private constant _ENTRY = 4 + 65;

    /// @dev The largest batch, so that one always fits into a block and into a bitmap.
    uint256 private constant _MAX_BATCH = 200;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.JobManager.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xff6e7bbf3911cb4fa6973688f63ff39a83c3192ed61c928e5f1efa0494e7e700;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Base(p) TypedData(p.jobs) {}

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
        JobManagerStorage storage $ = _storage();
        _checkTerms($, offer, assignment);
        _useNonce($, offer.payer, offer.nonce);
        if (!PayerSignature.isValid(offer.payer, _hashTypedDataV4(JobTypes.hash(offer)), payerSig)) {
            revert AlephErrors.BadSignature(0);
        }
        _checkSigners(assignment, nodeSig, coordSigs);

        $.a[offer.spec] = JobA({
            payer: offer.payer,
            changedAt: uint40(block.timestamp),
            nodeId: assignment.nodeId,
            status: Status.Assigned,
            token: offer.token,
            attempt: assignment.attempt
        });
        ++$.activeJobs[assignment.nodeId];
        _reserve($, offer, assignment);
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
            JobA storage a = $.a[specs[i]];
            // One look-up serves all the jobs of a node.
            if (nodeId == 0 || a.nodeId != nodeId) {
                nodeId = a.nodeId;
                if (INodeRegistry(NODES).signerOf(nodeId) != msg.sender) nodeId = 0;
            }
            Refusal refusal = _confirmRefusal(a, nodeId);
            if (refusal != Refusal.None) emit ItemRefused(specs[i], msg.sig, refusal);
            else if (_confirm($, specs[i], a)) okBitmap |= 1 << i;
        }
    }

    /* ENDING */

    /// @inheritdoc IJobManager
    function stop(bytes32 spec) external nonReentrant {
        JobA storage a = _live(spec);
        if (msg.sender != a.payer) revert AlephErrors.NotAuthorized(msg.sender);
        _end(spec, a, Status.Stopped, EndReason.PAYER, msg.sender);
    }

    /// @inheritdoc IJobManager
    function stopBySig(bytes32 spec, uint40 deadline, bytes calldata sig) external nonReentrant {
        JobA storage a = _live(spec);
        if (block.timestamp > deadline) revert AlephErrors.Expired(deadline);
        address payer = a.payer;
        if (!PayerSignature.isValid(payer, stopDigest(spec, deadline), sig)) revert AlephErrors.BadSignature(0);
        _end(spec, a, Status.Stopped, EndReason.PAYER, payer);
    }

    /// @inheritdoc IJobManager
    function nodeStop(bytes32 spec, uint8 reason) external nonReentrant {
        JobA storage a = _live(spec);
        if (INodeRegistry(NODES).signerOf(a.nodeId) != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
        if (reason < EndReason.NODE_MIN) {
            revert AlephErrors.OutOfBounds(reason, EndReason.NODE_MIN, type(uint8).max);
        }
        _end(spec, a, Status.Failed, reason, msg.sender);
    }

    /// @inheritdoc IJobManager
    function failStart(bytes32 spec) external nonReentrant {
        JobA storage a = _live(spec);
        if (a.status != Status.Assigned) revert AlephErrors.BadState(uint8(a.status), uint8(Status.Assigned));
        uint40 at = a.changedAt + _START_WINDOW;
        if (block.timestamp <= at) revert AlephErrors.TooSoon(at + 1);
        _end(spec, a, Status.Failed, EndReason.START_TIMEOUT, msg.sender);
    }

    /// @inheritdoc IJobManager
    function closeForArrears(bytes32[] calldata specs) external nonReentrant returns (uint256 okBitmap) {
        _checkBatch(specs.length);
        for (uint256 i; i < specs.length; ++i) {
            Refusal refusal = _closeOverdue(specs[i]);
            if (refusal == Refusal.None) okBitmap |= 1 << i;
            else emit ItemRefused(specs[i], msg.sig, refusal);
        }
    }

    /// @inheritdoc IJobManager
    function expire(bytes32[] calldata specs) external nonReentrant returns (uint256 okBitmap) {
        _checkBatch(specs.length);
        JobManagerStorage storage $ = _storage();
        for (uint256 i; i < specs.length; ++i) {
            JobA storage a = $.a[specs[i]];
            Refusal refusal = _expireRefusal(a.status, $.b[specs[i]].maxUntil);
            if (refusal == Refusal.None) {
                _end(specs[i], a, Status.Expired, EndReason.MAX_UNTIL, msg.sender);
                okBitmap |= 1 << i;
            } else {
                emit ItemRefused(specs[i], msg.sig, refusal);
            }
        }
    }

    /* VIEWS */

    /// @inheritdoc IJobManager
    function job(bytes32 spec) external view returns (JobView memory) {
        JobA storage a = _storage().a[spec];
        JobB storage b = _storage().b[spec];
        return JobView({
            payer: a.payer,
            changedAt: a.changedAt,
            nodeId: a.nodeId,
            status: a.status,
            token: a.token,
            attempt: a.attempt,
            rateQ32: b.rateQ32,
            maxUntil: b.maxUntil,
            startedAt: b.startedAt,
            coordId: b.coordId,
            reservedMinutes: b.reservedMinutes
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

    /// @dev What the payer and the coordinators signed fits together and is in time.
    function _checkTerms(JobManagerStorage storage $, JobOffer calldata o, Assignment calldata a) private view {
        if (o.spec == 0) revert AlephErrors.ZeroHash();
        if (o.payer == address(0)) revert AlephErrors.ZeroAddress();
        if (a.spec != o.spec) revert SpecMismatch(o.spec, a.spec);
        if ($.a[o.spec].status != Status.None) revert AlephErrors.Duplicate(o.spec);
        if (a.attempt != 0) revert WrongAttempt(a.attempt, 0);
        if (block.timestamp > o.deadline) revert OfferExpired(o.deadline);
        if (block.timestamp > a.deadline) revert OfferExpired(a.deadline);
        if (o.maxUntil != 0 && block.timestamp >= o.maxUntil) revert AlephErrors.TooLate(o.maxUntil);
        if (o.nodeHint != 0 && o.nodeHint != a.nodeId) revert WrongNode(a.nodeId, o.nodeHint);
        if (a.rateQ32 == 0) revert AlephErrors.ZeroAmount();
        if (a.rateQ32 > o.maxRateQ32) revert RateTooHigh(a.rateQ32, o.maxRateQ32);
    }

    function _useNonce(JobManagerStorage storage $, address payer, uint256 nonce) private {
        uint256 bit = 1 << (nonce & 0xff);
        uint256 word = $.nonces[payer][nonce >> 8];
        if (word & bit != 0) revert NonceUsed(nonce);
        $.nonces[payer][nonce >> 8] = word | bit;
    }

    /// @dev The node accepts and enough coordinators agree. The index in BadSignature is 1 for the node and 2 and up for
    /// the coordinators.
    function _checkSigners(Assignment calldata a, bytes calldata nodeSig, bytes calldata coordSigs) private view {
        uint32[] memory ids = _coordinators(a.coordId, coordSigs);
        (address nodeSigner, address[] memory signers, uint32 active) =
            INodeRegistry(NODES).assignmentSigners(a.nodeId, ids);
        uint256 need = active < _QUORUM ? active : _QUORUM;
        if (ids.length < need) revert QuorumLow(ids.length, need);

        bytes32 digest = _hashTypedDataV4(JobTypes.hash(JobTypes.ACCEPT, a));
        (address by,,) = ECDSA.tryRecoverCalldata(digest, nodeSig);
        if (by != nodeSigner) revert AlephErrors.BadSignature(1);

        digest = _hashTypedDataV4(JobTypes.hash(JobTypes.ASSIGNMENT, a));
        for (uint256 i; i < signers.length; ++i) {
            (by,,) = ECDSA.tryRecoverCalldata(digest, coordSigs[i * _ENTRY + 4:(i + 1) * _ENTRY]);
            if (by != signers[i]) revert AlephErrors.BadSignature(uint8(i + 2));
        }
    }

    /// @dev The ids in the entries, which ascend strictly and include `coordId`.
    function _coordinators(uint32 coordId, bytes calldata coordSigs) private pure returns (uint32[] memory ids) {
        uint256 n = coordSigs.length / _ENTRY;
        if (coordSigs.length != n * _ENTRY || n > _MAX_SIGNATURES) revert SignaturesLength(coordSigs.length);
        ids = new uint32[](n);
        uint32 previous;
        bool found;
        for (uint256 i; i < n; ++i) {
            uint32 id = uint32(bytes4(coordSigs[i * _ENTRY:i * _ENTRY + 4]));
            if (id <= previous) revert CoordinatorOrder(previous, id);
            if (id == coordId) found = true;
            ids[i] = previous = id;
        }
        if (!found) revert CoordinatorMissing(coordId);
    }

    /// @dev Reserves the first window and writes the terms with it.
    function _reserve(JobManagerStorage storage $, JobOffer calldata o, Assignment calldata a) private {
        uint16 minutes_ = IPaymentManager(PAYMENTS).reserve(o.payer, o.token, a.nodeId, a.rateQ32);
        $.b[o.spec] = JobB({
            rateQ32: a.rateQ32, maxUntil: o.maxUntil, startedAt: 0, coordId: a.coordId, reservedMinutes: minutes_
        });
        emit JobAssigned(
            o.spec, a.nodeId, o.payer, a.rateQ32, o.token, a.attempt, a.coordId, o.maxUntil, uint32(minutes_) * 60
        );
    }

    /* INTERNAL: RUNNING */

    /// @dev `nodeId` is 0 when the caller does not sign for the node of the job.
    function _confirmRefusal(JobA storage a, uint32 nodeId) private view returns (Refusal) {
        if (a.status != Status.Assigned) return Refusal.WrongStatus;
        if (nodeId == 0) return Refusal.NotSigner;
        if (block.timestamp > a.changedAt + _START_WINDOW) return Refusal.StartTooLate;
        return Refusal.None;
    }

    /// @dev Starts billing. False: the payer is in arrears and the job has failed.
    function _confirm(JobManagerStorage storage $, bytes32 spec, JobA storage a) private returns (bool) {
        JobB storage b = $.b[spec];
        uint40 now_ = uint40(block.timestamp);
        uint32 nodeId = a.nodeId;
        uint128 rate = b.rateQ32;
        if (!IPaymentManager(PAYMENTS).activate(a.payer, a.token, nodeId, rate, b.reservedMinutes)) {
            _finish(a, Status.Failed);
            emit JobStopped(spec, nodeId, msg.sender, Status.Failed, EndReason.ARREARS_AT_START, 0, now_, rate);
            return false;
        }
        (a.status, a.changedAt) = (Status.Running, now_);
        b.startedAt = now_;
        emit JobRunning(spec, nodeId, now_);
        return true;
    }

    /* INTERNAL: ENDING */

    /// @dev Ends a live job and its flow or reserve.
    function _end(bytes32 spec, JobA storage a, Status to, uint8 reason, address by) private {
        JobB storage b = _storage().b[spec];
        bool ran = a.status == Status.Running;
        _finish(a, to);
        emit JobStopped(spec, a.nodeId, by, to, reason, b.startedAt, uint40(block.timestamp), b.rateQ32);
        if (ran) {
            IPaymentManager(PAYMENTS).setFlow(a.payer, a.token, a.nodeId, -int256(uint256(b.rateQ32)));
        } else {
            IPaymentManager(PAYMENTS).release(a.payer, a.token, a.nodeId, b.rateQ32, b.reservedMinutes);
        }
    }

    /// @dev Ends a running job whose payer is overdue.
    function _closeOverdue(bytes32 spec) private returns (Refusal) {
        JobA storage a = _storage().a[spec];
        if (a.status != Status.Running) return Refusal.WrongStatus;
        JobB storage b = _storage().b[spec];
        uint128 rate = b.rateQ32;
        if (!IPaymentManager(PAYMENTS).closeOverdue(a.payer, a.token, a.nodeId, rate)) return Refusal.NotOverdue;
        _finish(a, Status.Expired);
        emit JobStopped(
            spec, a.nodeId, msg.sender, Status.Expired, EndReason.ARREARS, b.startedAt, uint40(block.timestamp), rate
        );
        return Refusal.None;
    }

    function _expireRefusal(Status status, uint40 maxUntil) private view returns (Refusal) {
        if (status != Status.Assigned && status != Status.Running) return Refusal.WrongStatus;
        if (maxUntil == 0 || block.timestamp <= maxUntil) return Refusal.NotExpired;
        return Refusal.None;
    }

    /// @dev Moves a live job to a final status, the only place that does.
    function _finish(JobA storage a, Status to) private {
        (a.status, a.changedAt) = (to, uint40(block.timestamp));
        --_storage().activeJobs[a.nodeId];
    }

    /// @dev The job, when it has not ended.
    function _live(bytes32 spec) private view returns (JobA storage a) {
        a = _storage().a[spec];
        Status status = a.status;
        if (status == Status.None) revert AlephErrors.BadState(uint8(status), uint8(Status.Assigned));
        if (status != Status.Assigned && status != Status.Running) revert AlreadyTerminal(status);
    }

    function _checkBatch(uint256 length) private pure {
        if (length == 0 || length > _MAX_BATCH) revert AlephErrors.OutOfBounds(length, 1, _MAX_BATCH);
    }

    function _domainName() internal pure override returns (string memory) {
        return "AlephJobs";
    }

    function _storage() private pure returns (JobManagerStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
