// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDrandVerifier} from "../../src/interfaces/IDrandVerifier.sol";
import {ISLAManager} from "../../src/interfaces/ISLAManager.sol";
import {IStorageWords} from "../../src/interfaces/IStorageWords.sol";
import {Asp1} from "./Asp1.sol";
import {Suite} from "./Suite.sol";

/// @title StorageSuite
/// @notice The suite with what storage needs: objects, signatures of nodes and coordinators, and randomness that a test
/// chooses.
abstract contract StorageSuite is Suite {
    /// @dev The day of START.
    uint24 internal constant DAY0 = 20_254;
    uint96 internal constant RENT = uint96(1e12 * Q);

    /* TIME AND RANDOMNESS */

    function _warpDay(uint256 day) internal {
        vm.warp(day * 1 days + 3_600);
    }

    function _seed(uint256 n) internal pure returns (bytes32) {
        return keccak256(abi.encode("seed", n));
    }

    /// @dev Randomness for the next calls of the verifier.
    function _mockBeacon(uint64 round, bytes32 seed) internal {
        vm.mockCall(
            _at("DrandVerifier"), abi.encodeWithSelector(IDrandVerifier.verifyAt.selector), abi.encode(round, seed)
        );
    }

    /// @dev Publishes randomness for today and returns it.
    function _publish() internal returns (bytes32 seed) {
        uint24 today = _today();
        seed = _seed(today);
        _mockBeacon(today, seed);
        storages.publishBeacon(today, [uint256(1), 2]);
    }

    function _today() internal view returns (uint24) {
        return uint24(block.timestamp / 1 days);
    }

    /// @dev Past the time in which a day can be proven without being reported.
    function _warpPast(uint256 day) internal {
        vm.warp(day * 1 days + 30 hours + 1);
    }

    function _mockOutage(uint32 time) internal {
        vm.mockCall(slaAt, abi.encodeWithSelector(ISLAManager.outage.selector), abi.encode(time));
    }

    /* OBJECTS */

    function _object(uint256 salt, uint256 size) internal pure returns (bytes memory object) {
        object = new bytes(size);
        for (uint256 i; i < size; i += 97) {
            object[i] = bytes1(uint8(uint256(keccak256(abi.encode(salt, i)))));
        }
        object[0] = bytes1(uint8(salt) | 1);
    }

    function _request(bytes memory object, uint32 nodeId, uint96 rate)
        internal
        view
        returns (IStorageWords.Request memory)
    {
        return IStorageWords.Request({
            nodeId: nodeId,
            root: Asp1.root(object),
            size: uint64(object.length),
            itemHash: sha256(object),
            untilDay: _today() + 100,
            k: 2,
            token: ALEPH,
            rateQ32: rate,
            deadline: uint40(block.timestamp) + 600
        });
    }

    function _termsOf(IStorageWords.Request memory r, address by) internal view returns (IStorageWords.Terms memory) {
        return IStorageWords.Terms({
            nodeId: r.nodeId,
            root: r.root,
            size: r.size,
            sinceDay: _today() + 1,
            untilDay: r.untilDay,
            k: r.k,
            payer: by,
            token: r.token,
            rateQ32: r.rateQ32
        });
    }

    function _requestSig(IStorageWords.Request memory r, address by, uint256 key) internal view returns (bytes memory) {
        return _sign(key, storages.commitDigest(by, r));
    }

    /// @dev The payer commits a worker to an object.
    function _commit(bytes memory object, Party memory worker, uint96 rate)
        internal
        returns (uint128 id, IStorageWords.Terms memory terms)
    {
        IStorageWords.Request memory r = _request(object, worker.id, rate);
        terms = _termsOf(r, payer);
        bytes memory sig = _requestSig(r, payer, worker.key);
        vm.prank(payer);
        id = storages.commit(r, sig);
    }

    function _prove(uint128 id, IStorageWords.Terms memory terms, bytes memory object, uint24 day) internal {
        storages.prove(id, terms, day, Asp1.prove(object, storages.seedOf(day), id, terms.k));
    }

    function _bundleId(uint32 nodeId) internal pure returns (uint128) {
        return uint128(nodeId) << 96;
    }

    function _noBits() internal pure returns (IStorageWords.BitmapPart memory bits) {}

    /* BUNDLES */

    function _objects(uint256 salt, uint256 n) internal pure returns (bytes[] memory objects) {
        objects = new bytes[](n);
        for (uint256 i; i < n; ++i) {
            objects[i] = _object(salt + i, 1 + (salt * 131 + i * 333) % 900);
        }
    }

    function _openBundle(Party memory worker, bytes[] memory objects) internal {
        (bytes32 root, uint64 total) = Asp1.bundle(objects);
        vm.prank(worker.signer);
        storages.commitBundle(worker.id, root, total, 1 << 20);
    }

    function _proveBundle(uint32 nodeId, bytes[] memory objects, uint24 day) internal {
        (, uint64 total) = Asp1.bundle(objects);
        bytes memory proofs = Asp1.proveBundle(objects, storages.seedOf(day), _bundleId(nodeId), 5);
        storages.proveBundle(nodeId, total, day, proofs);
    }

    function _receipt(uint32 nodeId, bytes memory object) internal view returns (IStorageWords.StorageReceipt memory) {
        return IStorageWords.StorageReceipt({
            nodeId: nodeId,
            root: Asp1.root(object),
            leaves: uint64(Asp1.leavesOf(object)),
            sinceDay: _today() + 1,
            untilDay: _today() + 60,
            holder: payer
        });
    }

    /* COORDINATORS */

    /// @dev The first `n` coordinators' signatures of a digest, in the order of the snapshot.
    function _quorumSigs(bytes32 digest, uint256 n) internal view returns (bytes memory sigs) {
        for (uint256 i; i < n; ++i) {
            sigs = bytes.concat(sigs, _sign(coordinators[i].key, digest));
        }
    }

    /// @dev A bitmap with these nodes' bits.
    function _bitmap(uint256 parts, uint32[] memory ids) internal pure returns (bytes memory bitmap) {
        bitmap = new bytes(256 * parts);
        for (uint256 i; i < ids.length; ++i) {
            uint256 place = (ids[i] / 256) * 32 + 31 - (ids[i] % 256) / 8;
            bitmap[place] |= bytes1(uint8(1 << (ids[i] % 8)));
        }
    }

    function _attest(uint24 day, bytes memory bitmap) internal {
        bytes32 digest = storages.attestationDigest(day, storages.bitmapRoot(bitmap));
        storages.attestDay(day, bitmap, _quorumSigs(digest, 3));
    }
}
