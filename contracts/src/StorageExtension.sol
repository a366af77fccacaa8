// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Peers} from "./Peers.sol";
import {StorageBase} from "./StorageBase.sol";
import {IDrandVerifier} from "./interfaces/IDrandVerifier.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {IStakingManager} from "./interfaces/IStakingManager.sol";
import {IStorageExtension} from "./interfaces/IStorageExtension.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {StorageProof} from "./libraries/StorageProof.sol";
import {StorageTypes} from "./libraries/StorageTypes.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @title StorageExtension
/// @notice See {IStorageExtension}. This is the part of the {StorageRegistry} for which there is no room in one contract,
/// and which it runs on its own storage. Called directly it has nothing to work on, so there is nothing to initialize.
/// @custom:oz-upgrades-unsafe-allow missing-initializer
contract StorageExtension is IStorageExtension, StorageBase {
    using SafeERC20 for IERC20;

    /* SETUP */

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p) StorageBase(p) {}

    /* OBJECTS */

    /// @inheritdoc IStorageExtension
    function extend(uint128 id, Terms calldata terms, uint24 untilDay, bytes calldata nodeSig)
        external
        unpaused(Pausing.ENTRY)
    {
        StorageRegistryStorage storage $ = _storage();
        _checkTerms($, id, terms);
        if (msg.sender != terms.payer) revert AlephErrors.NotAuthorized(msg.sender);
        _checkActive($.histories[id].status);
        uint24 today = _today();
        if (today >= terms.untilDay) revert NotDue(id, today);
        if (untilDay <= terms.untilDay || untilDay > today + _MAX_DAYS) {
            revert AlephErrors.OutOfBounds(untilDay, terms.untilDay + 1, today + _MAX_DAYS);
        }
        _checkNodeSig($.stores[terms.nodeId].signer, StorageTypes.hashExtend(id, untilDay), nodeSig);
        Terms memory t = terms;
        t.untilDay = untilDay;
        $.terms[id] = keccak256(abi.encode(t));
        emit Extended(id, untilDay);
    }

    /// @inheritdoc IStorageExtension
    function repair(
        uint128 id,
        Terms calldata terms,
        uint32 newNodeId,
        bytes calldata nodeSig,
        bytes calldata coordSigs
    ) external nonReentrant unpaused(Pausing.ENTRY) returns (uint128 newId) {
        _checkTerms(_storage(), id, terms);
        if (_today() + 1 >= terms.untilDay) revert NotDue(id, _today());
        bytes32 structHash = StorageTypes.hashRepair(id, newNodeId);
        newId = _idOf(newNodeId, structHash);
        _checkNodeSig(_join(newId), structHash, nodeSig);
        _setRepaired(id, newId, terms, _checkQuorum(structHash, coordSigs));
        Terms memory t = terms;
        (t.nodeId, t.sinceDay) = (newNodeId, _today() + 1);
        _put(newId, t, bytes32(0));
    }

    /* BUNDLES */

    /// @inheritdoc IStorageExtension
    function commitBundle(uint32 nodeId, bytes32 root, uint64 leaves, uint40 capacity)
        external
        unpaused(Pausing.ENTRY)
    {
        StorageRegistryStorage storage $ = _storage();
        uint128 id = _bundleId(nodeId);
        if (msg.sender != _join(id)) revert AlephErrors.NotAuthorized(msg.sender);
        History storage h = $.histories[id];
        if (h.status == Status.Active) revert AlephErrors.Duplicate(bytes32(uint256(id)));
        (h.status, h.sinceDay, h.endDay) = (Status.Active, _today() + 1, 0);
        emit StatusChanged(id, Status.Active, 0);
        _setCapacity($.stores[nodeId], nodeId, capacity);
        _setRoot($, nodeId, root, leaves, capacity);
    }

    /// @inheritdoc IStorageExtension
    function resizeBundle(uint32 nodeId, uint40 capacity) external {
        Store storage s = _ownBundle(nodeId);
        _setCapacity(s, nodeId, capacity);
    }

    /// @inheritdoc IStorageExtension
    function closeBundle(uint32 nodeId) external {
        _ownBundle(nodeId);
        History storage h = _storage().histories[_bundleId(nodeId)];
        if (h.endDay != 0) revert AlephErrors.Duplicate(bytes32(uint256(_bundleId(nodeId))));
        _setEnd(h, nodeId, _today() + 1 + _NOTICE_DAYS);
    }

    /// @inheritdoc IStorageExtension
    function holdBundle(StorageReceipt calldata receipt, bytes calldata nodeSig) external {
        _checkReceipt(receipt, nodeSig);
        History storage h = _openBundle(receipt.nodeId);
        if (h.endDay == 0 || receipt.untilDay <= h.endDay) {
            revert AlephErrors.OutOfBounds(receipt.untilDay, uint256(h.endDay) + 1, type(uint24).max);
        }
        _setEnd(h, receipt.nodeId, receipt.untilDay);
    }

    /// @inheritdoc IStorageExtension
    function endBundle(uint32 nodeId) external {
        StorageRegistryStorage storage $ = _storage();
        uint128 id = _bundleId(nodeId);
        History storage h = $.histories[id];
        _checkActive(h.status);
        uint24 endDay = h.endDay;
        if (endDay == 0 || _today() < endDay) revert AlephErrors.TooSoon(uint256(endDay) * _DAY);
        $.stores[nodeId].capacity = 0;
        _end($, id, Status.Closed, endDay);
    }

    /* CHALLENGES */

    /// @inheritdoc IStorageExtension
    function challenge(uint128 id, Terms calldata terms) external nonReentrant returns (bytes32) {
        StorageRegistryStorage storage $ = _storage();
        _checkTerms($, id, terms);
        _checkActive($.histories[id].status);
        _checkStored(id, terms.sinceDay, terms.untilDay);
        return _challenge(id, ChallengeKind.Object, $.terms[id], terms.payer);
    }

    /// @inheritdoc IStorageExtension
    function challengeBundle(uint32 nodeId) external nonReentrant returns (bytes32) {
        return _challenge(_bundleId(nodeId), ChallengeKind.Bundle, _bundleNow(nodeId), address(0));
    }

    /// @inheritdoc IStorageExtension
    function challengeObject(StorageReceipt calldata receipt, bytes calldata nodeSig)
        external
        nonReentrant
        returns (bytes32)
    {
        return _challengeReceipt(receipt, nodeSig, ChallengeKind.Receipt);
    }

    /// @inheritdoc IStorageExtension
    function demandInclusion(StorageReceipt calldata receipt, bytes calldata nodeSig)
        external
        nonReentrant
        returns (bytes32)
    {
        return _challengeReceipt(receipt, nodeSig, ChallengeKind.Inclusion);
    }

    /// @inheritdoc IStorageExtension
    function armChallenge(bytes32 challengeId, uint256[2] calldata signature) external {
        Challenge storage c = _storage().challenges[challengeId];
        if (c.state != ChallengeState.Open) {
            revert AlephErrors.BadState(uint8(c.state), uint8(ChallengeState.Open));
        }
        uint40 openedAt = c.openedAt;
        if (block.timestamp > openedAt + _ARM_TIME) revert AlephErrors.TooLate(openedAt + _ARM_TIME);
        (uint64 round, bytes32 seed) = IDrandVerifier(BEACON).verifyAt(uint256(openedAt) + 1, signature);
        uint40 deadline = _responseDeadline();
        (c.state, c.round, c.seed, c.deadline) = (ChallengeState.Armed, round, seed, deadline);
        emit ChallengeArmed(challengeId, round, seed, deadline);
    }

    /// @inheritdoc IStorageExtension
    function respond(bytes32 challengeId, Terms calldata terms, bytes calldata proofs) external nonReentrant {
        Challenge storage c = _armed(challengeId, ChallengeKind.Object);
        if (_hash(terms) != c.target) revert WrongTarget(challengeId);
        StorageProof.checkObject(proofs, terms.root, StorageProof.leavesOf(terms.size), c.seed, c.id, _CHALLENGE_K);
        _answer(challengeId, c);
    }

    /// @inheritdoc IStorageExtension
    function respondBundle(bytes32 challengeId, uint64 total, bytes calldata proofs) external nonReentrant {
        Challenge storage c = _armed(challengeId, ChallengeKind.Bundle);
        if (total == 0) revert AlephErrors.ZeroAmount();
        StorageProof.checkBundle(proofs, bytes30(c.target), total, c.seed, c.id, _CHALLENGE_K);
        _answer(challengeId, c);
    }

    /// @inheritdoc IStorageExtension
    function respondObject(
        bytes32 challengeId,
        StorageReceipt calldata receipt,
        uint64 total,
        bytes calldata sumPath,
        bytes calldata proofs
    ) external nonReentrant {
        Challenge storage c = _armed(challengeId, ChallengeKind.Receipt);
        _checkInclusion(challengeId, c, receipt, total, sumPath);
        StorageProof.checkObject(proofs, receipt.root, receipt.leaves, c.seed, c.id, _CHALLENGE_K);
        _answer(challengeId, c);
    }

    /// @inheritdoc IStorageExtension
    function answerInclusion(bytes32 challengeId, StorageReceipt calldata receipt, uint64 total, bytes calldata sumPath)
        external
        nonReentrant
    {
        Challenge storage c = _armed(challengeId, ChallengeKind.Inclusion);
        _checkInclusion(challengeId, c, receipt, total, sumPath);
        _answer(challengeId, c);
    }

    /// @inheritdoc IStorageExtension
    function expireChallenge(bytes32 challengeId) external nonReentrant unpaused(Pausing.PENALTY) {
        Challenge storage c = _storage().challenges[challengeId];
        bool lost = _checkExpired(c);
        ChallengeState state = lost ? ChallengeState.Lost : ChallengeState.Void;
        c.state = state;
        emit ChallengeExpired(challengeId, state);
        if (lost) _lose(challengeId, c);
        IERC20(TOKEN).safeTransfer(c.challenger, uint256(c.bond) * 1 ether);
    }

    /* INTERNAL */

    function _setRepaired(uint128 id, uint128 newId, Terms calldata terms, uint64 signers) private {
        History storage h = _storage().histories[id];
        if (h.status != Status.Faulty) revert AlephErrors.BadState(uint8(h.status), uint8(Status.Faulty));
        h.status = Status.Repaired;
        emit StatusChanged(id, Status.Repaired, h.endDay);
        emit RepairedBy(id, newId, signers);
        _stopRent(h, terms);
    }

    /// @dev The open bundle of a node, whose signer calls.
    function _ownBundle(uint32 nodeId) private view returns (Store storage s) {
        s = _storage().stores[nodeId];
        if (msg.sender != s.signer) revert AlephErrors.NotAuthorized(msg.sender);
        if (s.capacity == 0) revert NoBundle(nodeId);
    }

    function _setEnd(History storage h, uint32 nodeId, uint24 endDay) private {
        h.endDay = endDay;
        emit BundleClosing(nodeId, endDay);
    }

    /// @dev A larger bundle needs more of the owner's own stake, so that filling it up with nothing is not free.
    function _setCapacity(Store storage s, uint32 nodeId, uint40 capacity) private {
        if (capacity == 0) revert AlephErrors.ZeroAmount();
        if (capacity > s.capacity) {
            (, uint16 stakePerTiB,,) = _parameters();
            uint256 need = (uint256(capacity) * stakePerTiB * 1 ether) >> _TIB_SHIFT;
            (uint128 self,,) = IStakingManager(STAKING).totalStake(nodeId);
            if (self < need) revert StakeTooLow(self, need);
        }
        s.capacity = capacity;
        emit CapacitySet(nodeId, capacity);
    }

    function _openBundle(uint32 nodeId) private view returns (History storage h) {
        h = _storage().histories[_bundleId(nodeId)];
        if (h.status != Status.Active) revert NoBundle(nodeId);
        if (h.endDay != 0 && _today() >= h.endDay) revert NotDue(_bundleId(nodeId), _today());
    }

    /// @dev What binds the bundle that a node must have today.
    function _bundleNow(uint32 nodeId) private view returns (bytes30 binding) {
        History storage h = _openBundle(nodeId);
        if (_today() < h.sinceDay) revert NotDue(_bundleId(nodeId), _today());
        binding = _bundleOn(_storage(), nodeId, _today());
    }

    function _checkReceipt(StorageReceipt calldata receipt, bytes calldata nodeSig) private view {
        (address by,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(StorageTypes.hash(receipt)), nodeSig);
        if (by == address(0) || !_storage().signers[receipt.nodeId][by]) revert AlephErrors.BadSignature(0);
        _checkStored(_bundleId(receipt.nodeId), receipt.sinceDay, receipt.untilDay);
        _checkBounds(receipt.leaves, 1, StorageProof.MAX_LEAVES);
    }

    /// @dev An object must be there from the first day that can be proven to the last.
    function _checkStored(uint128 id, uint24 sinceDay, uint24 untilDay) private view {
        uint24 today = _today();
        if (today < sinceDay || today >= untilDay) revert NotDue(id, today);
    }

    function _challengeReceipt(StorageReceipt calldata receipt, bytes calldata nodeSig, ChallengeKind kind)
        private
        returns (bytes32)
    {
        _checkReceipt(receipt, nodeSig);
        uint128 id = _bundleId(receipt.nodeId);
        bytes32 target = _receiptTarget(receipt, _bundleNow(receipt.nodeId));
        return _challenge(id, kind, target, receipt.holder);
    }

    function _receiptTarget(StorageReceipt calldata receipt, bytes30 binding) private pure returns (bytes32) {
        return keccak256(abi.encode(StorageTypes.hash(receipt), binding));
    }

    /// @dev Opens a challenge and takes its bond. A demand of inclusion needs no randomness, so it is armed at once.
    function _challenge(uint128 id, ChallengeKind kind, bytes32 target, address tenant)
        private
        returns (bytes32 challengeId)
    {
        challengeId = keccak256(abi.encode(id, kind, target, msg.sender, block.timestamp));
        Challenge storage c = _storage().challenges[challengeId];
        if (c.state != ChallengeState.None) revert AlephErrors.Duplicate(challengeId);
        (,, uint16 bond,) = _parameters();
        (c.challenger, c.kind, c.bond) = (msg.sender, kind, bond);
        (c.tenant, c.openedAt, c.target, c.id) = (tenant, uint40(block.timestamp), target, id);
        (c.state, c.deadline) = kind == ChallengeKind.Inclusion
            ? (ChallengeState.Armed, _responseDeadline())
            : (ChallengeState.Open, uint40(block.timestamp) + _ARM_TIME);
        _emitChallenged(challengeId, c);
        IERC20(TOKEN).safeTransferFrom(msg.sender, address(this), uint256(bond) * 1 ether);
    }

    function _emitChallenged(bytes32 challengeId, Challenge storage c) private {
        uint96 bond = uint96(c.bond) * 1 ether;
        emit Challenged(challengeId, c.id, c.kind, c.challenger, c.tenant, c.target, bond, c.deadline);
    }

    /// @dev Whether a challenge whose time is over is lost; else nobody has brought its randomness.
    function _checkExpired(Challenge storage c) private view returns (bool lost) {
        lost = c.state == ChallengeState.Armed;
        if (!lost && c.state != ChallengeState.Open) {
            revert AlephErrors.BadState(uint8(c.state), uint8(ChallengeState.Armed));
        }
        uint256 until = c.deadline;
        if (block.timestamp <= until) revert AlephErrors.TooSoon(until);
        if (!lost) return false;
        until += ISLAManager(SLA).outage(c.openedAt, uint40(block.timestamp));
        if (block.timestamp <= until) revert AlephErrors.TooSoon(until);
    }

    /// @dev What is lost cannot be proven any more, so the commitment of an object ends; `release` stops its rent.
    function _lose(bytes32 challengeId, Challenge storage c) private {
        uint128 id = c.id;
        if (c.kind == ChallengeKind.Object && _isActive(_storage().histories[id].status)) {
            _end(_storage(), id, Status.Faulty, _today());
        }
        ISLAManager.Kind kind = c.kind == ChallengeKind.Inclusion
            ? ISLAManager.Kind.InclusionDenied
            : ISLAManager.Kind.StorageChallengeLost;
        ISLAManager(SLA)
            .recordViolation(kind, _nodeOf(id), challengeId, _today(), _SEVERITY_LOST, c.challenger, c.tenant);
    }

    function _armed(bytes32 challengeId, ChallengeKind kind) private view returns (Challenge storage c) {
        c = _storage().challenges[challengeId];
        if (c.state != ChallengeState.Armed) {
            revert AlephErrors.BadState(uint8(c.state), uint8(ChallengeState.Armed));
        }
        if (c.kind != kind) revert WrongKind(c.kind, kind);
    }

    function _checkInclusion(
        bytes32 challengeId,
        Challenge storage c,
        StorageReceipt calldata receipt,
        uint64 total,
        bytes calldata sumPath
    ) private view {
        // The bundle is known by what the path leads to; that it is the one challenged, by the target.
        bytes30 binding = StorageProof.inclusion(sumPath, total, receipt.root, receipt.leaves);
        if (_receiptTarget(receipt, binding) != c.target) revert WrongTarget(challengeId);
    }

    /// @dev The answer was right: the bond is the node's.
    function _answer(bytes32 challengeId, Challenge storage c) private {
        c.state = ChallengeState.Answered;
        address to = INodeRegistry(NODES).payoutOf(_nodeOf(c.id));
        emit ChallengeAnswered(challengeId, to);
        IERC20(TOKEN).safeTransfer(to, uint256(c.bond) * 1 ether);
    }

    function _responseDeadline() private view returns (uint40) {
        (,,, uint16 responseHours) = _parameters();
        return uint40(block.timestamp + uint256(responseHours) * 1 hours);
    }
}
