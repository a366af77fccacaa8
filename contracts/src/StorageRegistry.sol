// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Extensible} from "./Extensible.sol";
import {Peers} from "./Peers.sol";
import {StorageBase} from "./StorageBase.sol";
import {IDrandVerifier} from "./interfaces/IDrandVerifier.sol";
import {IPaymentManager} from "./interfaces/IPaymentManager.sol";
import {ISLAManager} from "./interfaces/ISLAManager.sol";
import {IStorageExtension} from "./interfaces/IStorageExtension.sol";
import {IStorageRegistry} from "./interfaces/IStorageRegistry.sol";
import {AlephErrors} from "./libraries/AlephErrors.sol";
import {Bitmap} from "./libraries/Bitmap.sol";
import {Pausing} from "./libraries/Pausing.sol";
import {Payees} from "./libraries/Payees.sol";
import {Q32} from "./libraries/Q32.sol";
import {StorageProof} from "./libraries/StorageProof.sol";
import {StorageTypes} from "./libraries/StorageTypes.sol";

/// @title StorageRegistry
/// @notice See {IStorageRegistry}.
contract StorageRegistry is IStorageRegistry, StorageBase, Extensible {
    /* CONSTANTS */

    /* SETUP */

    /// @param extension_ The StorageExtension for the same peers; the code of both together is above what a contract may have.
    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(Peers memory p, address extension_) StorageBase(p) Extensible(extension_) {}

    /// @notice Sets up a new proxy: the default parameters.
    function initialize() external initializer {
        _initBase();
        _setParameters(_AUDIT, _STAKE_PER_TIB, _BOND, _RESPONSE);
    }

    /* NODES */

    /// @inheritdoc IStorageRegistry
    function enlist(uint32 nodeId) external {
        _enlist(nodeId);
    }

    /* OBJECTS */

    /// @inheritdoc IStorageRegistry
    function commit(Request calldata request, bytes calldata nodeSig)
        external
        nonReentrant
        unpaused(Pausing.ENTRY)
        returns (uint128 id)
    {
        if (block.timestamp > request.deadline) revert AlephErrors.Expired(request.deadline);
        _checkRequest(request);
        bytes32 structHash = StorageTypes.hash(msg.sender, request);
        id = _idOf(request.nodeId, structHash);
        _checkNodeSig(_join(id), structHash, nodeSig);
        Terms memory t;
        (t.nodeId, t.root, t.size) = (request.nodeId, request.root, request.size);
        (t.sinceDay, t.untilDay, t.k) = (_today() + 1, request.untilDay, request.k);
        (t.payer, t.token, t.rateQ32) = (msg.sender, request.token, request.rateQ32);
        _put(id, t, request.itemHash);
    }

    /// @inheritdoc IStorageRegistry
    function release(uint128 id, Terms calldata terms) external nonReentrant {
        StorageRegistryStorage storage $ = _storage();
        _checkTerms($, id, terms);
        uint24 today = _today();
        if (msg.sender != terms.payer && today < terms.untilDay) revert AlephErrors.NotAuthorized(msg.sender);
        History storage h = $.histories[id];
        Status status = h.status;
        if (status == Status.Faulty) {
            // It has ended already; what may be left is the rent, when a lost challenge has ended it.
            if (h.rentStopped) revert AlephErrors.BadState(uint8(status), uint8(Status.Active));
        } else {
            _checkActive(status);
            _end($, id, Status.Closed, today < terms.untilDay ? today : terms.untilDay);
        }
        _stopRent(h, terms);
    }

    /// @inheritdoc IStorageExtension
    function extend(uint128, Terms calldata, uint24, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function repair(uint128, Terms calldata, uint32, bytes calldata, bytes calldata) external returns (uint128 id) {
        _extend();
    }

    /* BUNDLES */

    /// @inheritdoc IStorageExtension
    function commitBundle(uint32, bytes32, uint64, uint40) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function resizeBundle(uint32, uint40) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function closeBundle(uint32) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function holdBundle(StorageReceipt calldata, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function endBundle(uint32) external {
        _extend();
    }

    /// @inheritdoc IStorageRegistry
    function updateBundle(uint32 nodeId, bytes32 root, uint64 leaves) external {
        StorageRegistryStorage storage $ = _storage();
        Store storage s = $.stores[nodeId];
        if (msg.sender != s.signer) revert AlephErrors.NotAuthorized(msg.sender);
        uint40 capacity = s.capacity;
        if (capacity == 0) revert NoBundle(nodeId);
        _setRoot($, nodeId, root, leaves, capacity);
    }

    /* PROOFS */

    /// @inheritdoc IStorageRegistry
    function publishBeacon(uint24 day, uint256[2] calldata signature) external {
        StorageRegistryStorage storage $ = _storage();
        uint24 today = _today();
        // Randomness that comes later would leave no time to prove: whoever has it could keep it until then.
        if (day < today) revert DayClosed(day);
        if (day > today) revert AlephErrors.TooSoon(uint256(day) * _DAY);
        if ($.seeds[day] != 0) revert AlephErrors.Duplicate(bytes32(uint256(day)));
        (uint64 round, bytes32 seed) = IDrandVerifier(BEACON).verifyAt(uint256(day) * _DAY + _BEACON_DELAY, signature);
        $.seeds[day] = seed;
        emit BeaconPublished(day, round, seed);
    }

    /// @inheritdoc IStorageRegistry
    function prove(uint128 id, Terms calldata terms, uint24 day, bytes calldata proofs) external {
        StorageRegistryStorage storage $ = _storage();
        _checkTerms($, id, terms);
        History memory h = $.histories[id];
        bytes32 seed = _checkProvable($, h, id, terms.sinceDay, terms.untilDay, day);
        StorageProof.checkObject(proofs, terms.root, StorageProof.leavesOf(terms.size), seed, id, terms.k);
        _setProven($, h, id, day);
    }

    /// @inheritdoc IStorageRegistry
    function proveMany(uint128[] calldata ids, Terms[] calldata terms, uint24 day, bytes[] calldata proofs)
        external
        returns (uint256 okBitmap)
    {
        uint256 n = ids.length;
        if (n == 0 || n > _MAX_BATCH) revert AlephErrors.OutOfBounds(n, 1, _MAX_BATCH);
        if (terms.length != n) revert AlephErrors.OutOfBounds(terms.length, n, n);
        if (proofs.length != n) revert AlephErrors.OutOfBounds(proofs.length, n, n);
        for (uint256 i; i < n; ++i) {
            // Who calls `prove` does not matter to it.
            try this.prove(ids[i], terms[i], day, proofs[i]) {
                okBitmap |= 1 << i;
            } catch (bytes memory reason) {
                emit ProofRefused(ids[i], day, bytes4(reason));
            }
        }
    }

    /// @inheritdoc IStorageRegistry
    function proveBundle(uint32 nodeId, uint64 total, uint24 day, bytes calldata proofs) external {
        uint128 id = _bundleId(nodeId);
        History memory h = _storage().histories[id];
        bytes32 seed = _checkProvable(_storage(), h, id, h.sinceDay, type(uint24).max, day);
        _checkBundle(_bundleOn(_storage(), nodeId, day), total, seed, id, proofs);
        _setProven(_storage(), h, id, day);
    }

    /// @inheritdoc IStorageRegistry
    function attestDay(uint24 day, bytes calldata bitmap, bytes calldata coordSigs) external {
        StorageRegistryStorage storage $ = _storage();
        uint256 parts = _checkBitmap(bitmap);
        bytes32 seed = $.seeds[day];
        if (seed == 0) revert BeaconMissing(day);
        if (_lateAt(day) == 0) revert DayClosed(day);
        if ($.attested[day] != 0) revert AlephErrors.Duplicate(bytes32(uint256(day)));
        bytes32 root = Bitmap.root(bitmap);
        uint64 signers = _checkQuorum(StorageTypes.hashAttestation(day, seed, root), coordSigs);
        $.attested[day] = bytes32(bytes30(root)) | bytes32(parts);
        emit DayAttested(day, root, bitmap, signers);
    }

    /* MISSED DAYS */

    /// @inheritdoc IStorageRegistry
    function reportMissed(uint128 id, Terms calldata terms, uint24 day, BitmapPart calldata bits)
        external
        nonReentrant
        unpaused(Pausing.PENALTY)
    {
        _checkTerms(_storage(), id, terms);
        uint256 count = _setMissed(id, terms.sinceDay, terms.untilDay, day, bits);
        History storage h = _storage().histories[id];
        uint16 severity = _SEVERITY_MISS;
        if (count >= _FAULTY_MISSES && _isActive(h.status)) {
            severity = _SEVERITY_FAULTY;
            _end(_storage(), id, Status.Faulty, _today());
            _stopRent(h, terms);
        }
        emit Missed(id, day, count, _compensate(id, terms), msg.sender);
        _reportMiss(id, day, severity, terms.payer);
    }

    /// @inheritdoc IStorageRegistry
    function reportMissedBundle(uint32 nodeId, uint24 day, BitmapPart calldata bits)
        external
        nonReentrant
        unpaused(Pausing.PENALTY)
    {
        uint128 id = _bundleId(nodeId);
        uint256 count = _setMissed(id, _storage().histories[id].sinceDay, type(uint24).max, day, bits);
        emit Missed(id, day, count, 0, msg.sender);
        _reportMiss(id, day, count >= _FAULTY_MISSES ? _SEVERITY_FAULTY : _SEVERITY_MISS, address(0));
    }

    /* CHALLENGES */

    /// @inheritdoc IStorageExtension
    function challenge(uint128, Terms calldata) external returns (bytes32 challengeId) {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function challengeBundle(uint32) external returns (bytes32 challengeId) {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function challengeObject(StorageReceipt calldata, bytes calldata) external returns (bytes32 challengeId) {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function demandInclusion(StorageReceipt calldata, bytes calldata) external returns (bytes32 challengeId) {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function armChallenge(bytes32, uint256[2] calldata) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function respond(bytes32, Terms calldata, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function respondBundle(bytes32, uint64, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function respondObject(bytes32, StorageReceipt calldata, uint64, bytes calldata, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function answerInclusion(bytes32, StorageReceipt calldata, uint64, bytes calldata) external {
        _extend();
    }

    /// @inheritdoc IStorageExtension
    function expireChallenge(bytes32) external {
        _extend();
    }

    /* PARAMETERS */

    /// @inheritdoc IStorageRegistry
    function setParameters(uint16 auditDenominator, uint16 stakePerTiB, uint16 bond, uint16 responseHours)
        external
        restricted
    {
        _checkBounds(auditDenominator, 1, _AUDIT_MAX);
        _checkBounds(stakePerTiB, 0, _STAKE_PER_TIB_MAX);
        _checkBounds(bond, 1, _BOND_MAX);
        _checkBounds(responseHours, _RESPONSE_MIN, _RESPONSE_MAX);
        _setParameters(auditDenominator, stakePerTiB, bond, responseHours);
    }

    /* VIEWS */

    /// @inheritdoc IStorageRegistry
    function bundleChallenges(uint64 total) external pure returns (uint256) {
        return _bundleChallenges(total);
    }

    /// @inheritdoc IStorageRegistry
    function parameters() external view returns (uint16, uint16, uint16, uint16) {
        return _parameters();
    }

    /// @inheritdoc IStorageRegistry
    function activeCommitments(uint32 nodeId) external view returns (uint32) {
        return _storage().stores[nodeId].active;
    }

    /// @inheritdoc IStorageRegistry
    function commitment(uint128 id) external view returns (CommitmentView memory) {
        StorageRegistryStorage storage $ = _storage();
        History storage h = $.histories[id];
        bytes32 termsHash = $.terms[id];
        return CommitmentView({
            status: h.status == Status.None && termsHash != 0 ? Status.Active : h.status,
            termsHash: termsHash,
            newestDay: h.newestDay,
            proven: h.proven,
            missed: h.missed,
            sinceDay: h.sinceDay,
            endDay: h.endDay
        });
    }

    /// @inheritdoc IStorageRegistry
    function store(uint32 nodeId) external view returns (StoreView memory) {
        Store storage s = _storage().stores[nodeId];
        return StoreView(s.signer, s.active, s.capacity);
    }

    /// @inheritdoc IStorageRegistry
    function challengeOf(bytes32 challengeId) external view returns (ChallengeView memory) {
        Challenge storage c = _storage().challenges[challengeId];
        return ChallengeView({
            id: c.id,
            challenger: c.challenger,
            kind: c.kind,
            state: c.state,
            round: c.round,
            bond: uint96(c.bond) * 1 ether,
            openedAt: c.openedAt,
            deadline: c.deadline,
            seed: c.seed
        });
    }

    /// @inheritdoc IStorageRegistry
    function seedOf(uint24 day) external view returns (bytes32) {
        return _storage().seeds[day];
    }

    /// @inheritdoc IStorageRegistry
    function attestedRoot(uint24 day) external view returns (bytes32) {
        return bytes30(_storage().attested[day]);
    }

    /// @inheritdoc IStorageRegistry
    function bundleOn(uint32 nodeId, uint24 day) external view returns (bytes30) {
        return _bundleOn(_storage(), nodeId, day);
    }

    /// @inheritdoc IStorageRegistry
    function challengesOf(uint128 id, uint24 day, uint64 leaves, uint256 k)
        external
        view
        returns (uint256[] memory indices)
    {
        bytes32 seed = _storage().seeds[day];
        if (seed == 0) revert BeaconMissing(day);
        if (leaves == 0) revert AlephErrors.ZeroAmount();
        indices = new uint256[](k);
        for (uint256 j; j < k; ++j) {
            indices[j] = StorageProof.indexOf(seed, id, j, leaves);
        }
    }

    /// @inheritdoc IStorageRegistry
    function isSampled(uint32 nodeId, uint24 day) external view returns (bool) {
        bytes32 seed = _storage().seeds[day];
        return seed != 0 && _isSampled(seed, nodeId);
    }

    /// @inheritdoc IStorageRegistry
    function isSignerOf(uint32 nodeId, address signer) external view returns (bool) {
        return _storage().signers[nodeId][signer];
    }

    /// @inheritdoc IStorageRegistry
    function bitmapRoot(bytes calldata bitmap) external pure returns (bytes32) {
        _checkBitmap(bitmap);
        return Bitmap.root(bitmap);
    }

    /// @inheritdoc IStorageRegistry
    function commitDigest(address payer, Request calldata request) external view returns (bytes32) {
        return _hashTypedDataV4(StorageTypes.hash(payer, request));
    }

    /// @inheritdoc IStorageRegistry
    function extendDigest(uint128 id, uint24 untilDay) external view returns (bytes32) {
        return _hashTypedDataV4(StorageTypes.hashExtend(id, untilDay));
    }

    /// @inheritdoc IStorageRegistry
    function repairDigest(uint128 id, uint32 nodeId) external view returns (bytes32) {
        return _hashTypedDataV4(StorageTypes.hashRepair(id, nodeId));
    }

    /// @inheritdoc IStorageRegistry
    function receiptDigest(StorageReceipt calldata receipt) external view returns (bytes32) {
        return _hashTypedDataV4(StorageTypes.hash(receipt));
    }

    /// @inheritdoc IStorageRegistry
    function attestationDigest(uint24 day, bytes32 bitmapRoot_) external view returns (bytes32) {
        return _hashTypedDataV4(StorageTypes.hashAttestation(day, _storage().seeds[day], bitmapRoot_));
    }

    /* INTERNAL: COMMITMENTS */

    function _checkRequest(Request calldata request) private view {
        if (request.root == 0) revert ZeroRoot();
        if (request.itemHash == 0) revert AlephErrors.ZeroHash();
        uint256 today = _today();
        _checkBounds(request.size, 1, StorageProof.MAX_LEAVES * StorageProof.LEAF);
        _checkBounds(request.untilDay, today + 2, today + _MAX_DAYS);
        _checkBounds(request.k, 1, _MAX_K);
    }

    /* INTERNAL: DAYS */

    /// @dev A day can be proven when it is due, has its randomness, is not too long ago and nothing is known of it.
    function _checkProvable(
        StorageRegistryStorage storage $,
        History memory h,
        uint128 id,
        uint24 sinceDay,
        uint24 untilDay,
        uint24 day
    ) private view returns (bytes32 seed) {
        _checkDue(h, id, sinceDay, untilDay, day);
        seed = $.seeds[day];
        if (seed == 0) revert BeaconMissing(day);
        _checkUnknown(h, id, day);
    }

    function _checkDue(History memory h, uint128 id, uint24 sinceDay, uint24 untilDay, uint24 day) private view {
        uint24 end = h.endDay != 0 && h.endDay < untilDay ? h.endDay : untilDay;
        if (day < sinceDay || day >= end || sinceDay == 0) revert NotDue(id, day);
        if (uint256(day) + _OPEN_DAYS < _today()) revert DayClosed(day);
    }

    function _checkUnknown(History memory h, uint128 id, uint24 day) private pure {
        if (day > h.newestDay) return;
        uint256 age = h.newestDay - day;
        if ((h.proven >> age) & 1 != 0) revert AlreadyProven(id, day);
        if ((h.missed >> age) & 1 != 0) revert AlreadyMissed(id, day);
    }

    function _setProven(StorageRegistryStorage storage $, History memory h, uint128 id, uint24 day) private {
        h.proven |= uint32(1 << _age(h, day));
        $.histories[id] = h;
        emit Proven(id, day);
    }

    /// @dev Makes room for a day and returns its bit's number.
    function _age(History memory h, uint24 day) private pure returns (uint256) {
        if (day <= h.newestDay) return h.newestDay - day;
        uint256 shift = day - h.newestDay;
        h.proven = uint32(uint256(h.proven) << shift);
        h.missed = uint32(uint256(h.missed) << shift);
        h.newestDay = day;
        return 0;
    }

    function _setMissed(uint128 id, uint24 sinceDay, uint24 untilDay, uint24 day, BitmapPart calldata bits)
        private
        returns (uint256 count)
    {
        StorageRegistryStorage storage $ = _storage();
        History memory h = $.histories[id];
        bytes32 seed = _checkProvable($, h, id, sinceDay, untilDay, day);
        uint256 late = _lateAt(day);
        if (late != 0) revert AlephErrors.TooSoon(late);
        _checkNotAttested(seed, _nodeOf(id), day, bits);
        uint256 age = _age(h, day);
        h.missed |= uint32(1 << age);
        $.histories[id] = h;
        return _worstWeek(h.missed, age);
    }

    /// @dev The most misses in any seven days that include the one of this age.
    function _worstWeek(uint256 missed, uint256 age) private pure returns (uint256 worst) {
        for (uint256 from = age < 6 ? 0 : age - 6; from <= age; ++from) {
            uint256 count;
            for (uint256 week = (missed >> from) & 0x7f; week != 0; week &= week - 1) {
                ++count;
            }
            if (count > worst) worst = count;
        }
    }

    /// @dev From when on a day can be reported, when that is in the future; else zero. The sequencer's outages since the
    /// day has begun move it.
    function _lateAt(uint24 day) private view returns (uint256 late) {
        uint256 start = uint256(day) * _DAY;
        late = start + _DAY + _PROOF_GRACE;
        if (block.timestamp <= late) return late;
        late += ISLAManager(SLA).outage(uint40(start), uint40(block.timestamp));
        if (block.timestamp > late) late = 0;
    }

    function _checkNotAttested(bytes32 seed, uint32 nodeId, uint24 day, BitmapPart calldata bits) private view {
        bytes32 attested = _storage().attested[day];
        uint256 index = nodeId / Bitmap.BITS;
        // Bits beyond the bitmap are not set.
        if (index >= uint16(uint256(attested)) || _isSampled(seed, nodeId)) return;
        if (bytes30(Bitmap.climb(bits.part, index, bits.path)) != bytes30(attested)) revert WrongBitmap(day);
        uint256 word = uint256(bits.part[(nodeId >> 8) & 7]);
        if ((word >> (nodeId & 0xff)) & 1 != 0) revert Attested(nodeId, day);
    }

    /// @dev A bitmap is 1 to _MAX_PARTS whole parts.
    function _checkBitmap(bytes calldata bitmap) private pure returns (uint256 parts) {
        parts = bitmap.length / Bitmap.PART;
        if (parts == 0 || parts > _MAX_PARTS || bitmap.length % Bitmap.PART != 0) {
            revert AlephErrors.OutOfBounds(bitmap.length, Bitmap.PART, _MAX_PARTS * Bitmap.PART);
        }
    }

    /// @dev Whether a node must prove on the chain that day, whatever the coordinators have seen.
    function _isSampled(bytes32 seed, uint32 nodeId) private view returns (bool) {
        (uint16 denominator,,,) = _parameters();
        return uint256(keccak256(abi.encode(seed, nodeId))) % denominator == 0;
    }

    /* INTERNAL */

    function _reportMiss(uint128 id, uint24 day, uint16 severity, address tenant) private {
        ISLAManager(SLA)
            .recordViolation(
                ISLAManager.Kind.StorageMiss, _nodeOf(id), bytes32(uint256(id)), day, severity, msg.sender, tenant
            );
    }

    /// @dev The rent of a day that was not proven goes back, as far as the node has not been paid out.
    function _compensate(uint128 id, Terms calldata terms) private returns (uint128) {
        if (terms.rateQ32 == 0) return 0;
        uint128 most = uint128(Q32.floorWei(terms.rateQ32, _DAY));
        return IPaymentManager(PAYMENTS)
            .compensate(Payees.ofStorage(terms.nodeId), terms.token, terms.payer, most, bytes32(uint256(id)));
    }

    function _setParameters(uint16 auditDenominator, uint16 stakePerTiB, uint16 bond, uint16 responseHours) private {
        _base().params =
            uint96(auditDenominator) | uint96(stakePerTiB) << 16 | uint96(bond) << 32 | uint96(responseHours) << 48;
        emit ParametersSet(auditDenominator, stakePerTiB, bond, responseHours);
    }
}
