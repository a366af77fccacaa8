// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Wiring} from "./Wiring.sol";
import {IImageMarketplace} from "./interfaces/IImageMarketplace.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {JobTypes} from "./libraries/JobTypes.sol";
import {Payees} from "./libraries/Payees.sol";
import {PayerSignature} from "./libraries/PayerSignature.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title JobStore
/// @notice What the JobManager and its extension share: the record of the jobs, and how a job leaves its node.
abstract contract JobStore is Wiring, ReentrancyGuardTransient {
    using SafeCast for uint256;

    /* TYPES */

    /// @dev Who pays and how much, one slot. It changes only when a job is placed or resized.
    struct Terms {
        address payer;
        uint96 rateQ32;
    }

    /// @dev What changes with the status. In storage it is one word, packed by hand in this order from the lowest bits on:
    /// the compiler would write that slot once for each member. The reserve is what `reservedMinutes` cost at the rate,
    /// rounded up to whole wei.
    struct Life {
        uint32 nodeId;
        uint32 coordId;
        uint40 changedAt;
        uint40 startedAt;
        uint40 maxUntil;
        IJobManager.Status status;
        uint8 token;
        uint8 attempt;
        uint16 reservedMinutes;
        uint24 slaClass;
        bool extra;
    }

    /// @dev What few jobs have, one slot, written when it is needed: the image, and the deadline of an offer on the chain.
    struct Extra {
        uint32 imageSeq;
        uint96 imageRateQ32;
        uint96 imageOnce;
        uint32 deadline;
    }

    struct Challenge {
        address challenger;
        uint40 since;
        uint32 coordId;
        IJobManager.ChallengeState state;
    }

    /// @custom:storage-location erc7201:aleph.storage.JobManager.v1
    struct JobManagerStorage {
        mapping(bytes32 spec => Terms) terms;
        mapping(bytes32 spec => uint256) lives;
        mapping(bytes32 spec => Extra) extras;
        mapping(bytes32 spec => bytes32) offers;
        mapping(bytes32 placementId => bytes32) placements;
        mapping(bytes32 challengeId => Challenge) challenges;
        mapping(address payer => mapping(uint256 word => uint256)) nonces;
        mapping(uint32 nodeId => uint32) activeJobs;
    }

    /* CONSTANTS */

    /// @dev The tries to place a job, besides the first.
    uint8 internal constant _MAX_ATTEMPT = 16;

    /// @dev The largest batch, so that one always fits into a block and into a bitmap.
    uint256 internal constant _MAX_BATCH = 200;

    /// @dev The time a node has to boot a virtual machine and confirm it, without a class.
    uint40 internal constant _START_WINDOW = 15 minutes;

    /// @dev A day's seed is known early in the day, so that numbers of the last hours of yesterday may be needed.
    uint256 internal constant _EPOCHS = 26;

    uint256 internal constant _EPOCH = 1 hours;

    // keccak256(abi.encode(uint256(keccak256("aleph.storage.JobManager.v1")) - 1)) & ~bytes32(uint256(0xff))
    bytes32 private constant _STORAGE = 0xff6e7bbf3911cb4fa6973688f63ff39a83c3192ed61c928e5f1efa0494e7e700;

    /* INTERNAL: OPENING */

    /// @dev The offer is one by itself, and not called off.
    function _checkOffer(JobManagerStorage storage $, IJobManager.JobOffer calldata o) internal view {
        if (o.spec == 0) revert AlephErrors.ZeroHash();
        if (o.payer == address(0)) revert AlephErrors.ZeroAddress();
        if (o.maxUntil != 0 && block.timestamp >= o.maxUntil) revert AlephErrors.TooLate(o.maxUntil);
        if (o.slaClass > type(uint24).max) revert IJobManager.NotOptedIn(o.nodeHint, o.slaClass);
        if ($.nonces[o.payer][o.nonce >> 8] & (1 << (o.nonce & 0xff)) != 0) revert IJobManager.NonceUsed(o.nonce);
    }

    /// @dev A spec opens one job. But what somebody else offered and no node ever had is in nobody's way: whoever reads a
    /// spec could else keep it from its owner for good.
    function _checkReplaces(JobManagerStorage storage $, IJobManager.JobOffer calldata o) internal view {
        if (_load(o.spec).nodeId != 0 || $.terms[o.spec].payer == o.payer) revert AlephErrors.Duplicate(o.spec);
    }

    function _checkDeadline(IJobManager.JobOffer calldata o) internal view {
        if (block.timestamp > o.deadline) revert IJobManager.OfferExpired(o.deadline);
    }

    /// @dev What cannot change in the life of a job, besides its node and its rate.
    function _checkSame(JobManagerStorage storage $, IJobManager.JobOffer calldata o, Life memory l) internal view {
        if (
            o.payer != $.terms[o.spec].payer || o.token != l.token || o.slaClass != l.slaClass
                || o.imageSeq != (l.extra ? $.extras[o.spec].imageSeq : 0)
        ) revert IJobManager.OfferMismatch(o.spec);
    }

    function _checkPayer(IJobManager.JobOffer calldata o, bytes calldata payerSig) internal view {
        if (!PayerSignature.isValid(o.payer, _digest(JobTypes.hash(o)), payerSig)) {
            revert AlephErrors.BadSignature(0);
        }
    }

    /// @dev What an image costs on top. With the machine it is at most what the payer signed.
    /// @param kept Whether the job has the image already.
    function _quote(IJobManager.JobOffer calldata o, uint128 rateQ32, bool kept)
        internal
        view
        returns (uint96 rate, uint96 once)
    {
        if (o.imageSeq == 0) return (0, 0);
        IImageMarketplace images = IImageMarketplace(IMAGES);
        (, uint128 extraQ32, uint128 price) =
            kept ? images.quoteKept(o.imageSeq, o.token, rateQ32) : images.quote(o.imageSeq, o.token, rateQ32);
        uint256 sum = uint256(rateQ32) + extraQ32;
        if (sum > o.maxRateQ32) revert IJobManager.RateTooHigh(sum.toUint128(), o.maxRateQ32);
        return (uint256(extraQ32).toUint96(), uint256(price).toUint96());
    }

    /// @dev What the payer and the coordinators signed fits together and is in time.
    function _checkFit(IJobManager.JobOffer calldata o, IJobManager.Assignment calldata a, uint8 attempt)
        internal
        view
    {
        if (a.spec != o.spec) revert IJobManager.SpecMismatch(o.spec, a.spec);
        if (a.attempt != attempt) revert IJobManager.WrongAttempt(a.attempt, attempt);
        if (block.timestamp > a.deadline) revert IJobManager.OfferExpired(a.deadline);
        if (o.nodeHint != 0 && o.nodeHint != a.nodeId) revert IJobManager.WrongNode(a.nodeId, o.nodeHint);
        if (a.reqHash != o.reqHash) revert IJobManager.WrongNeeds(a.reqHash, o.reqHash);
        if (o.reqHash != 0 && o.nodeHint == 0) {
            uint32 newest = uint32(block.timestamp / _EPOCH);
            if (a.statsEpoch > newest || a.statsEpoch + _EPOCHS < newest) {
                revert IJobManager.WrongEpoch(a.statsEpoch, newest);
            }
        }
    }

    function _checkRate(IJobManager.Assignment calldata a, uint256 most) internal pure {
        if (a.rateQ32 == 0) revert AlephErrors.ZeroAmount();
        if (a.rateQ32 > most) revert IJobManager.RateTooHigh(a.rateQ32, uint128(most));
    }

    /// @dev Whether coordinators must agree. A payer that has chosen the node needs none.
    function _asks(IJobManager.JobOffer calldata o, IJobManager.Assignment calldata a) internal pure returns (bool) {
        return o.nodeHint == 0 || a.coordId != 0;
    }

    /// @dev Until when the node may confirm a job, with the outages since it was assigned.
    function _startEnd(Life memory l) internal view returns (uint256 time) {
        time = l.changedAt + (l.slaClass == 0 ? _START_WINDOW : ISLAManager(SLA).startTimeoutOf(l.slaClass));
        if (block.timestamp > time) time += ISLAManager(SLA).outage(l.changedAt, uint40(block.timestamp));
    }

    /* INTERNAL: ENDING */

    /// @dev Ends a job that has not ended, and its flows or reserves.
    function _end(bytes32 spec, Life memory l, IJobManager.Status to, uint8 reason, address by) internal {
        JobManagerStorage storage $ = _storage();
        Terms memory t = _terms(spec);
        IJobManager.Status from = l.status;
        (l.status, l.changedAt) = (to, uint40(block.timestamp));
        _save(spec, l);
        emit IJobManager.JobStopped(spec, l.nodeId, by, to, reason, l.startedAt, l.changedAt, t.rateQ32);
        if (from == IJobManager.Status.Offered || from == IJobManager.Status.Reassign) return;
        --$.activeJobs[l.nodeId];
        _endFlows(spec, t, l, from != IJobManager.Status.Assigned);
    }

    /// @dev Takes a job from its node, so that it waits for another; after the last try it has failed.
    function _unplace(bytes32 spec, Life memory l, uint8 reason, address by) internal {
        if (l.attempt == _MAX_ATTEMPT) {
            _end(spec, l, IJobManager.Status.Failed, reason, by);
            return;
        }
        JobManagerStorage storage $ = _storage();
        Terms memory t = _terms(spec);
        bool ran = l.status != IJobManager.Status.Assigned;
        uint40 startedAt = l.startedAt;
        (l.status, l.changedAt, l.startedAt) = (IJobManager.Status.Reassign, uint40(block.timestamp), 0);
        ++l.attempt;
        _save(spec, l);
        --$.activeJobs[l.nodeId];
        emit IJobManager.JobUnplaced(spec, l.nodeId, by, reason, l.attempt, startedAt, l.changedAt, t.rateQ32);
        _endFlows(spec, t, l, ran);
    }

    function _endFlows(bytes32 spec, Terms memory t, Life memory l, bool ran) internal {
        _endFlow(t.payer, l, l.nodeId, t.rateQ32, ran);
        if (!l.extra) return;
        Extra memory e = _storage().extras[spec];
        if (e.imageRateQ32 != 0) _endFlow(t.payer, l, Payees.ofImage(e.imageSeq), e.imageRateQ32, ran);
    }

    function _endFlow(address payer, Life memory l, uint64 payee, uint96 rateQ32, bool ran) internal {
        if (ran) IPaymentManager(PAYMENTS).setFlow(payer, l.token, payee, -int256(uint256(rateQ32)));
        else IPaymentManager(PAYMENTS).release(payer, l.token, payee, rateQ32, l.reservedMinutes);
    }

    /// @dev The job, when it has not ended.
    function _live(bytes32 spec) internal view returns (Life memory l) {
        l = _load(spec);
        if (l.status == IJobManager.Status.None) {
            revert AlephErrors.BadState(uint8(l.status), uint8(IJobManager.Status.Assigned));
        }
        if (_isFinal(l.status)) revert IJobManager.AlreadyTerminal(l.status);
    }

    /// @dev The job, when a node has it.
    function _placed(bytes32 spec) internal view returns (Life memory l) {
        l = _live(spec);
        if (l.status == IJobManager.Status.Offered || l.status == IJobManager.Status.Reassign) {
            revert AlephErrors.BadState(uint8(l.status), uint8(IJobManager.Status.Assigned));
        }
    }

    function _isFinal(IJobManager.Status status) internal pure returns (bool) {
        return status >= IJobManager.Status.Stopped && status <= IJobManager.Status.Expired;
    }

    function _checkBatch(uint256 length) internal pure {
        if (length == 0 || length > _MAX_BATCH) revert AlephErrors.OutOfBounds(length, 1, _MAX_BATCH);
    }

    function _onlySigner(uint32 nodeId) internal view {
        if (INodeRegistry(NODES).signerOf(nodeId) != msg.sender) revert AlephErrors.NotAuthorized(msg.sender);
    }

    /// @dev A job's attempt tells apart what happens to it on the same node.
    function _violate(
        ISLAManager.Kind kind,
        bytes32 spec,
        uint32 nodeId,
        uint8 attempt,
        uint16 severity,
        address reporter
    ) internal {
        address tenant = _storage().terms[spec].payer;
        ISLAManager(SLA).recordViolation(kind, nodeId, spec, attempt, severity, reporter, tenant);
    }

    /* INTERNAL */

    /// @dev What is signed for a struct with this hash.
    function _digest(bytes32 structHash) internal view virtual returns (bytes32);

    /// @dev Each attempt has its own, or a wrong assignment would be forgotten with the next.
    function _placementId(bytes32 spec, uint8 attempt) internal pure returns (bytes32) {
        return keccak256(abi.encode(spec, attempt));
    }

    function _challengeId(bytes32 spec, uint8 attempt, uint32 better) internal pure returns (bytes32) {
        return keccak256(abi.encode(spec, attempt, better));
    }

    function _load(bytes32 spec) internal view returns (Life memory l) {
        uint256 word = _storage().lives[spec];
        l.nodeId = uint32(word);
        l.coordId = uint32(word >> 32);
        l.changedAt = uint40(word >> 64);
        l.startedAt = uint40(word >> 104);
        l.maxUntil = uint40(word >> 144);
        l.status = IJobManager.Status(uint8(word >> 184));
        l.token = uint8(word >> 192);
        l.attempt = uint8(word >> 200);
        l.reservedMinutes = uint16(word >> 208);
        l.slaClass = uint24(word >> 224);
        l.extra = word >> 248 != 0;
    }

    /// @dev Writes the life of a job that a node has just been given, without a {Life} in memory.
    function _begin(IJobManager.JobOffer calldata o, IJobManager.Assignment calldata a, uint16 minutes_, bool extra)
        internal
    {
        uint256 word = uint256(a.nodeId) | uint256(a.coordId) << 32 | block.timestamp << 64;
        word |= uint256(o.maxUntil) << 144 | uint256(IJobManager.Status.Assigned) << 184 | uint256(o.token) << 192;
        word |= uint256(a.attempt) << 200 | uint256(minutes_) << 208 | uint256(o.slaClass) << 224;
        if (extra) word |= 1 << 248;
        _storage().lives[o.spec] = word;
    }

    function _save(bytes32 spec, Life memory l) internal {
        uint256 word = uint256(l.nodeId) | uint256(l.coordId) << 32 | uint256(l.changedAt) << 64;
        word |= uint256(l.startedAt) << 104 | uint256(l.maxUntil) << 144 | uint256(l.status) << 184;
        word |= uint256(l.token) << 192 | uint256(l.attempt) << 200 | uint256(l.reservedMinutes) << 208;
        word |= uint256(l.slaClass) << 224;
        if (l.extra) word |= 1 << 248;
        _storage().lives[spec] = word;
    }

    function _terms(bytes32 spec) internal view returns (Terms memory) {
        return _storage().terms[spec];
    }

    function _storage() internal pure returns (JobManagerStorage storage $) {
        assembly ("memory-safe") {
            $.slot := _STORAGE
        }
    }
}
