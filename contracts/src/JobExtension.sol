// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {JobStore} from "./JobStore.sol";
import {Peers} from "./Peers.sol";
import {Wiring} from "./Wiring.sol";
import {IImageMarketplace} from "./interfaces/IImageMarketplace.sol";
import {IJobManager} from "./interfaces/IJobManager.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {IStorageRegistry} from "./interfaces/IStorageRegistry.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {AssignmentRules} from "./libraries/AssignmentRules.sol";
import {EndReason} from "./libraries/EndReason.sol";
import {JobTypes} from "./libraries/JobTypes.sol";
import {Payees} from "./libraries/Payees.sol";
import {Recover} from "./libraries/Recover.sol";
import {Stats} from "./libraries/Stats.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title JobExtension
/// @notice The calls of the JobManager that are rare: it has no room for them. The JobManager runs them as its own code
/// (delegatecall), so whoever calls this contract itself changes nothing but a record that nobody reads.
contract JobExtension is JobStore {
    /* CONSTANTS */

    /// @dev The largest batch of openings.
    uint256 private constant _MAX_OPENINGS = 32;

    /// @dev How long each coordinator may propose alone before the next one may, too.
    uint256 private constant _DUTY_TIME = 10 minutes;

    /// @dev How long a job waits for another node.
    uint40 private constant _WAIT = 1 days;

    /// @dev How long after the hour of its numbers an assignment can be challenged: it may be 26 hours younger.
    uint256 private constant _CHALLENGE_TIME = 50 hours;

    uint40 private constant _ANSWER_TIME = 24 hours;

    /// @dev The reason in {ChallengeAnswered} of a node that did not answer.
    uint8 private constant _SILENT = type(uint8).max;

    bytes32 private constant _DOMAIN =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) Wiring(p) {}

    /* OPENING */

    /// @notice See {IJobManager}.
    function createJob(IJobManager.JobOffer calldata offer) external nonReentrant {
        if (msg.sender != offer.payer) revert AlephErrors.NotAuthorized(msg.sender);
        JobManagerStorage storage $ = _storage();
        if ($.lives[offer.spec] != 0) revert AlephErrors.Duplicate(offer.spec);
        _checkOffer($, offer);
        _checkDeadline(offer);
        if (offer.maxRateQ32 == 0) revert AlephErrors.ZeroAmount();
        bytes32 hash = JobTypes.hash(offer);
        $.offers[offer.spec] = hash;
        $.terms[offer.spec].payer = offer.payer;
        Life memory l;
        (l.status, l.changedAt, l.token) = (IJobManager.Status.Offered, uint40(block.timestamp), offer.token);
        (l.slaClass, l.maxUntil, l.extra) = (uint24(offer.slaClass), offer.maxUntil, true);
        _save(offer.spec, l);
        $.extras[offer.spec] =
            Extra({imageSeq: offer.imageSeq, imageRateQ32: 0, imageOnce: 0, deadline: uint32(offer.deadline)});
        emit IJobManager.JobOffered(offer.spec, offer.payer, offer, hash);
    }

    /// @notice What the JobManager asks before it assigns a job that is offered or waits for another node.
    /// @return extra Whether the job has a record of what few jobs have.
    function assign(
        IJobManager.JobOffer calldata offer,
        bytes calldata payerSig,
        IJobManager.Assignment calldata assignment,
        bytes calldata,
        bytes calldata
    ) external view returns (bool extra) {
        JobManagerStorage storage $ = _storage();
        Life memory l = _load(offer.spec);
        if (l.status != IJobManager.Status.Offered && l.status != IJobManager.Status.Reassign) {
            revert AlephErrors.BadState(uint8(l.status), uint8(IJobManager.Status.Reassign));
        }
        _checkOffer($, offer);
        if (l.status == IJobManager.Status.Offered) _checkDeadline(offer);
        _checkSame($, offer, l);
        _checkFit(offer, assignment, l.attempt);
        _checkRate(assignment, _ceiling($, offer));
        if ($.offers[offer.spec] != JobTypes.hash(offer)) _checkPayer(offer, payerSig);
        if (_asks(offer, assignment)) _checkDuty(l, assignment);
        return l.extra;
    }

    /// @notice See {IJobManager}. Every call is one of its own, which undoes all of an item that fails and nothing else.
    function openBatch(bytes[] calldata calls) external returns (uint256 okBitmap) {
        if (calls.length == 0 || calls.length > _MAX_OPENINGS) {
            revert AlephErrors.OutOfBounds(calls.length, 1, _MAX_OPENINGS);
        }
        for (uint256 i; i < calls.length; ++i) {
            bytes calldata item = calls[i];
            if (item.length < 36) revert AlephErrors.OutOfBounds(item.length, 36, type(uint256).max);
            bytes4 selector = bytes4(item);
            if (
                selector != IJobManager.open.selector && selector != IJobManager.openSelf.selector
                    && selector != IJobManager.assign.selector
            ) revert IJobManager.NoOpening(selector);
            (bool ok, bytes memory err) = address(this).call(item);
            if (ok) okBitmap |= 1 << i;
            // All three begin with the offer, and it with the spec.
            else emit IJobManager.OpenRefused(bytes32(item[4:36]), bytes4(err));
        }
    }

    /// @notice What the JobManager does when a job has a class, an image or needs.
    function agree(IJobManager.JobOffer calldata o, IJobManager.Assignment calldata a) external {
        JobManagerStorage storage $ = _storage();
        if (o.slaClass != 0 && !ISLAManager(SLA).optedIn(a.nodeId, o.slaClass)) {
            revert IJobManager.NotOptedIn(a.nodeId, o.slaClass);
        }
        Extra memory e;
        if (o.imageSeq != 0) e = _reserveImage($, o, a);
        uint32 epoch;
        if (o.reqHash != 0 && o.nodeHint == 0) {
            epoch = a.statsEpoch;
            // Without the numbers of that hour nobody could challenge the assignment.
            if (INodeRegistry(NODES).heartbeatOf(epoch) == 0) {
                revert IJobManager.WrongEpoch(epoch, uint32(block.timestamp / _EPOCH));
            }
            $.placements[_placementId(o.spec, a.attempt)] = JobTypes.hash(JobTypes.ASSIGNMENT, a);
        }
        emit IJobManager.JobTerms(
            o.spec, a.attempt, o.slaClass, o.imageSeq, e.imageRateQ32, e.imageOnce, epoch, o.reqHash, a.deadline
        );
    }

    /* RUNNING */

    /// @notice See {IJobManager}.
    function resize(
        IJobManager.JobOffer calldata offer,
        bytes calldata payerSig,
        uint128 rateQ32,
        bytes calldata nodeSig
    ) external nonReentrant {
        JobManagerStorage storage $ = _storage();
        Life memory l = _load(offer.spec);
        if (l.status != IJobManager.Status.Running) {
            revert AlephErrors.BadState(uint8(l.status), uint8(IJobManager.Status.Running));
        }
        _checkOffer($, offer);
        _checkDeadline(offer);
        _checkSame($, offer, l);
        if (offer.nodeHint != 0 && offer.nodeHint != l.nodeId) revert IJobManager.WrongNode(l.nodeId, offer.nodeHint);
        if (rateQ32 == 0) revert AlephErrors.ZeroAmount();
        if (rateQ32 > offer.maxRateQ32) revert IJobManager.RateTooHigh(rateQ32, offer.maxRateQ32);
        _checkPayer(offer, payerSig);
        bytes32 digest = _digest(JobTypes.hashResize(JobTypes.hash(offer), l.nodeId, rateQ32));
        if (!Recover.isBy(INodeRegistry(NODES).signerOf(l.nodeId), digest, nodeSig)) {
            revert AlephErrors.BadSignature(1);
        }
        _useNonce($, offer.payer, offer.nonce);
        l.maxUntil = offer.maxUntil;
        _save(offer.spec, l);
        (uint96 imageRate,) = _quote(offer, rateQ32, true);
        emit IJobManager.JobResized(offer.spec, l.nodeId, rateQ32, imageRate, offer.maxUntil);
        _changeRates($, offer.spec, l, rateQ32, imageRate);
    }

    /// @notice What the JobManager does when a job with an image is confirmed: starts the flows, or frees the reserves.
    function activate(bytes32 spec) external returns (bool ok) {
        Terms memory t = _terms(spec);
        Life memory l = _load(spec);
        Extra memory e = _storage().extras[spec];
        uint64 image = Payees.ofImage(e.imageSeq);
        if (e.imageOnce != 0) {
            try IPaymentManager(PAYMENTS).chargeOnce(t.payer, l.token, image, e.imageOnce, spec) {
                _storage().extras[spec].imageOnce = 0;
            } catch {
                _endFlows(spec, t, l, false);
                return false;
            }
        }
        ok = IPaymentManager(PAYMENTS).activate(t.payer, l.token, l.nodeId, t.rateQ32, l.reservedMinutes);
        if (e.imageRateQ32 == 0) return ok;
        if (!ok) {
            _endFlow(t.payer, l, image, e.imageRateQ32, false);
            return false;
        }
        ok = IPaymentManager(PAYMENTS).activate(t.payer, l.token, image, e.imageRateQ32, l.reservedMinutes);
        if (!ok) _endFlow(t.payer, l, l.nodeId, t.rateQ32, true);
    }

    /* ENDING */

    /// @notice See {IJobManager}.
    function closeForArrears(bytes32[] calldata specs) external nonReentrant returns (uint256) {
        return _each(specs, _closeOverdue);
    }

    /// @notice See {IJobManager}.
    function expire(bytes32[] calldata specs) external nonReentrant returns (uint256) {
        return _each(specs, _expire);
    }

    /// @notice See {IJobManager}.
    function endRoyalties(bytes32[] calldata specs) external nonReentrant returns (uint256) {
        return _each(specs, _endRoyalty);
    }

    /* CHALLENGES */

    /// @notice See {IJobManager}.
    function challengeAssignment(IJobManager.Assignment calldata assignment, IJobManager.StatProof calldata proof)
        external
        nonReentrant
    {
        JobManagerStorage storage $ = _storage();
        bytes32 spec = assignment.spec;
        if ($.placements[_placementId(spec, assignment.attempt)] != JobTypes.hash(JobTypes.ASSIGNMENT, assignment)) {
            revert IJobManager.WrongAssignment(spec);
        }
        uint256 until = (uint256(assignment.statsEpoch) + 1) * _EPOCH + _CHALLENGE_TIME;
        if (block.timestamp > until) revert AlephErrors.TooLate(until);
        uint32 better = _checkBetter(assignment, proof);
        bytes32 id = _challengeId(spec, assignment.attempt, better);
        if ($.challenges[id].state != IJobManager.ChallengeState.None) revert AlephErrors.Duplicate(id);
        $.challenges[id] =
            Challenge(msg.sender, uint40(block.timestamp), assignment.coordId, IJobManager.ChallengeState.Open);
        emit IJobManager.AssignmentChallenged(
            spec, assignment.attempt, assignment.coordId, better, msg.sender, uint40(block.timestamp) + _ANSWER_TIME
        );
        ISLAManager(SLA).postBond(id, msg.sender);
    }

    /// @notice See {IJobManager}.
    function answerDecline(bytes32 spec, uint8 attempt, uint32 better, uint8 reason, bytes calldata sig)
        external
        nonReentrant
    {
        bytes32 digest = _digest(JobTypes.hashDecline(spec, better, attempt, reason));
        if (!Recover.isBy(INodeRegistry(NODES).signerOf(better), digest, sig)) revert AlephErrors.BadSignature(0);
        _answer(spec, attempt, better, reason);
    }

    /// @notice See {IJobManager}.
    function answerSilence(bytes32 spec, uint8 attempt, uint32 better, bytes calldata sigs) external nonReentrant {
        INodeRegistry.Quorum memory q =
            INodeRegistry(NODES).quorum(_digest(JobTypes.hashSilence(spec, better, attempt)), sigs);
        if (uint256(q.weight) * 2 <= q.total) revert INodeRegistry.QuorumLow(q.weight, uint256(q.total) / 2 + 1);
        _answer(spec, attempt, better, _SILENT);
    }

    /// @notice See {IJobManager}.
    function settleChallenge(bytes32 spec, uint8 attempt, uint32 better) external nonReentrant {
        Challenge storage c = _openChallenge(spec, attempt, better);
        uint256 until = uint256(c.since) + _ANSWER_TIME + ISLAManager(SLA).outage(c.since, uint40(block.timestamp));
        if (block.timestamp <= until) revert AlephErrors.TooSoon(until + 1);
        c.state = IJobManager.ChallengeState.Upheld;
        (uint32 coordId, address challenger) = (c.coordId, c.challenger);
        bytes32 caseId = ISLAManager(SLA).caseIdOf(ISLAManager.Kind.WrongAssignment, coordId, spec, attempt);
        emit IJobManager.ChallengeUpheld(spec, attempt, better, caseId);
        // One wrong assignment is one violation, however many nodes were better.
        if (ISLAManager(SLA).stateOf(caseId) == ISLAManager.State.None) {
            _violate(ISLAManager.Kind.WrongAssignment, spec, coordId, attempt, 0, challenger);
        }
        ISLAManager(SLA).settleBond(_challengeId(spec, attempt, better), challenger);
    }

    /* VIEWS */

    /// @notice See {IJobManager}.
    function dutyCoordinator(bytes32 spec, uint24 day, uint8 attempt) external view returns (uint32) {
        bytes32 seed = _seedOf(day);
        if (seed == 0) return 0;
        (, uint32[] memory ids, uint96[] memory weights) = INodeRegistry(NODES).coordinatorSet();
        return AssignmentRules.duty(seed, spec, attempt, ids, weights);
    }

    /* INTERNAL */

    /// @dev Does the same to each job of a batch: what is refused leaves a reason, and the others go on.
    function _each(bytes32[] calldata specs, function(bytes32) internal returns (IJobManager.Refusal) act)
        private
        returns (uint256 okBitmap)
    {
        _checkBatch(specs.length);
        for (uint256 i; i < specs.length; ++i) {
            IJobManager.Refusal refusal = act(specs[i]);
            if (refusal == IJobManager.Refusal.None) okBitmap |= 1 << i;
            else emit IJobManager.ItemRefused(specs[i], msg.sig, refusal);
        }
    }

    /// @dev Ends a running job whose payer is overdue.
    function _closeOverdue(bytes32 spec) private returns (IJobManager.Refusal) {
        JobManagerStorage storage $ = _storage();
        Life memory l = _load(spec);
        if (!_runs(l)) return IJobManager.Refusal.WrongStatus;
        Terms memory t = _terms(spec);
        if (!IPaymentManager(PAYMENTS).closeOverdue(t.payer, l.token, l.nodeId, t.rateQ32)) {
            return IJobManager.Refusal.NotOverdue;
        }
        (l.status, l.changedAt) = (IJobManager.Status.Expired, uint40(block.timestamp));
        _save(spec, l);
        --$.activeJobs[l.nodeId];
        emit IJobManager.JobStopped(
            spec,
            l.nodeId,
            msg.sender,
            IJobManager.Status.Expired,
            EndReason.ARREARS,
            l.startedAt,
            l.changedAt,
            t.rateQ32
        );
        if (l.extra) {
            Extra memory e = $.extras[spec];
            if (e.imageRateQ32 != 0) _endFlow(t.payer, l, Payees.ofImage(e.imageSeq), e.imageRateQ32, true);
        }
        return IJobManager.Refusal.None;
    }

    /// @dev Ends what a running job pays for an image that was taken down.
    function _endRoyalty(bytes32 spec) private returns (IJobManager.Refusal) {
        Life memory l = _load(spec);
        Extra storage e = _storage().extras[spec];
        uint96 rateQ32 = e.imageRateQ32;
        if (!_runs(l) || !l.extra || rateQ32 == 0) return IJobManager.Refusal.WrongStatus;
        if (IImageMarketplace(IMAGES).isPaying(e.imageSeq)) return IJobManager.Refusal.ImagePays;
        Terms memory t = _terms(spec);
        e.imageRateQ32 = 0;
        emit IJobManager.JobResized(spec, l.nodeId, t.rateQ32, 0, l.maxUntil);
        _endFlow(t.payer, l, Payees.ofImage(e.imageSeq), rateQ32, true);
        return IJobManager.Refusal.None;
    }

    /// @dev Ends a job that is over by itself: its time is up, or nobody placed it.
    function _expire(bytes32 spec) private returns (IJobManager.Refusal) {
        Life memory l = _load(spec);
        if (l.status == IJobManager.Status.None || _isFinal(l.status)) return IJobManager.Refusal.WrongStatus;
        bool over = l.maxUntil != 0 && block.timestamp > l.maxUntil;
        uint8 reason = EndReason.MAX_UNTIL;
        if (l.status == IJobManager.Status.Offered || l.status == IJobManager.Status.Reassign) {
            uint256 until =
                l.status == IJobManager.Status.Offered ? _storage().extras[spec].deadline : l.changedAt + _WAIT;
            (over, reason) = (over || block.timestamp > until, EndReason.NOT_PLACED);
        }
        if (!over) return IJobManager.Refusal.NotExpired;
        _end(spec, l, IJobManager.Status.Expired, reason, msg.sender);
        return IJobManager.Refusal.None;
    }

    function _runs(Life memory l) private pure returns (bool) {
        return l.status == IJobManager.Status.Running || l.status == IJobManager.Status.Stopping;
    }

    /// @dev What a job may cost that is assigned. An offer that has run out allows no more than the job has cost before.
    function _ceiling(JobManagerStorage storage $, IJobManager.JobOffer calldata o)
        private
        view
        returns (uint256 most)
    {
        most = o.maxRateQ32;
        uint256 before = $.terms[o.spec].rateQ32;
        if (block.timestamp > o.deadline && before < most) most = before;
    }

    /// @dev The coordinator is the first in the race for the duty, or as many 10 minutes have passed as there are before it.
    /// Without a seed there is no race, and any will do.
    function _checkDuty(Life memory l, IJobManager.Assignment calldata a) private view {
        bytes32 seed = _seedOf(uint24(l.changedAt / 1 days));
        if (seed == 0) return;
        (, uint32[] memory ids, uint96[] memory weights) = INodeRegistry(NODES).coordinatorSet();
        uint256 ahead = AssignmentRules.rank(seed, a.spec, a.attempt, a.coordId, ids, weights);
        if (ahead > (block.timestamp - l.changedAt) / _DUTY_TIME) revert IJobManager.WrongDuty(a.coordId, ahead);
    }

    /// @dev The price of a job is charged once, when it runs for the first time.
    function _reserveImage(
        JobManagerStorage storage $,
        IJobManager.JobOffer calldata o,
        IJobManager.Assignment calldata a
    ) private returns (Extra memory e) {
        e = $.extras[o.spec];
        (uint96 rate, uint96 once) = _quote(o, a.rateQ32, a.attempt != 0);
        if (a.attempt == 0) e.imageOnce = once;
        (e.imageSeq, e.imageRateQ32) = (o.imageSeq, rate);
        $.extras[o.spec] = e;
        if (rate != 0) IPaymentManager(PAYMENTS).reserve(o.payer, o.token, Payees.ofImage(o.imageSeq), rate);
    }

    /// @dev Made anew each time: under delegatecall this address is the proxy's.
    function _digest(bytes32 structHash) internal view override returns (bytes32) {
        bytes32 separator =
            keccak256(abi.encode(_DOMAIN, keccak256("AlephJobs"), keccak256("1"), block.chainid, address(this)));
        return MessageHashUtils.toTypedDataHash(separator, structHash);
    }

    /// @dev The offer is used up, or it could be played again after the next change.
    function _useNonce(JobManagerStorage storage $, address payer, uint256 nonce) private {
        (uint256 word, uint256 mask) = (nonce >> 8, 1 << (nonce & 0xff));
        $.nonces[payer][word] |= mask;
        emit IJobManager.NoncesInvalidated(payer, word, mask);
    }

    /// @dev Moves the flows of a running job to new rates.
    function _changeRates(JobManagerStorage storage $, bytes32 spec, Life memory l, uint128 rateQ32, uint96 imageQ32)
        private
    {
        Terms memory t = _terms(spec);
        IPaymentManager payments = IPaymentManager(PAYMENTS);
        // The PaymentManager takes no rate that is greater.
        $.terms[spec].rateQ32 = uint96(rateQ32);
        if (rateQ32 != t.rateQ32) {
            payments.setFlow(t.payer, l.token, l.nodeId, int256(uint256(rateQ32)) - int256(uint256(t.rateQ32)));
        }
        if (!l.extra) return;
        Extra storage e = $.extras[spec];
        int256 change = int256(uint256(imageQ32)) - int256(uint256(e.imageRateQ32));
        e.imageRateQ32 = imageQ32;
        if (change != 0) payments.setFlow(t.payer, l.token, Payees.ofImage(e.imageSeq), change);
    }

    /// @dev The node in the proof that should have got the job.
    function _checkBetter(IJobManager.Assignment calldata a, IJobManager.StatProof calldata p)
        private
        view
        returns (uint32 better)
    {
        bytes32 hash = keccak256(abi.encode(p.needs));
        if (hash != a.reqHash) revert IJobManager.WrongNeeds(hash, a.reqHash);
        if (Stats.nodeOf(p.given) != a.nodeId) revert IJobManager.BadProof(p.given);
        _checkLeaf(a.statsEpoch, p.given, p.givenIndex, p.givenProof);
        _checkLeaf(a.statsEpoch, p.better, p.betterIndex, p.betterProof);
        better = Stats.nodeOf(p.better);
        INodeRegistry.NodeView memory n = INodeRegistry(NODES).node(better);
        bool could = n.kind == INodeRegistry.Kind.Compute && n.status == INodeRegistry.Status.Active
            && n.statusSince <= a.statsEpoch * _EPOCH;
        bytes32 seed = _seedOf(uint24(a.statsEpoch / 24));
        if (seed == 0) revert IJobManager.NoSeed(uint24(a.statsEpoch / 24));
        if (!could || !AssignmentRules.better(seed, a.spec, a.attempt, p.needs, p.given, p.better)) {
            revert IJobManager.NotBetter(better);
        }
    }

    function _checkLeaf(uint32 epoch, bytes32 leaf, uint256 index, bytes32[] calldata proof) private view {
        if (!INodeRegistry(NODES).verifyStat(epoch, leaf, index, proof)) revert IJobManager.BadProof(leaf);
    }

    function _answer(bytes32 spec, uint8 attempt, uint32 better, uint8 reason) private {
        Challenge storage c = _openChallenge(spec, attempt, better);
        c.state = IJobManager.ChallengeState.Answered;
        emit IJobManager.ChallengeAnswered(spec, attempt, better, reason);
        ISLAManager(SLA).settleBond(_challengeId(spec, attempt, better), INodeRegistry(NODES).payoutOf(c.coordId));
    }

    function _openChallenge(bytes32 spec, uint8 attempt, uint32 better) private view returns (Challenge storage c) {
        c = _storage().challenges[_challengeId(spec, attempt, better)];
        if (c.state != IJobManager.ChallengeState.Open) revert IJobManager.NoChallenge(spec, attempt, better);
    }

    /// @dev The seed of a day; zero when nobody has published it.
    function _seedOf(uint24 day) private view returns (bytes32) {
        (bool ok, bytes memory answer) = STORAGES.staticcall(abi.encodeCall(IStorageRegistry.seedOf, (day)));
        return ok && answer.length == 32 ? bytes32(answer) : bytes32(0);
    }
}
