// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IStorageExtension} from "../../../src/interfaces/IStorageExtension.sol";
import {IStorageRegistry} from "../../../src/interfaces/IStorageRegistry.sol";
import {IStorageWords} from "../../../src/interfaces/IStorageWords.sol";
import {Asp1} from "../../utils/Asp1.sol";
import {ScaleWorld} from "./ScaleWorld.sol";

/// @title ScaleStorage
/// @notice The StorageRegistry and its extension, at the node that keeps all objects, for the payer of all. The randomness is
/// the test's own: the contract that verifies it has no state.
abstract contract ScaleStorage is ScaleWorld {
    struct Kept {
        uint128 id;
        IStorageWords.Terms terms;
    }

    bytes[] private _bundled;
    IStorageWords.StorageReceipt private _receipt_;
    bytes private _receiptSig;
    Kept[5] private _kept;
    uint24 private _day;

    function test_scale_storage() public {
        _scale("StorageRegistry", address(storages), _storage_);
    }

    function _storage_() private {
        vm.startPrank(payer);
        token.approve(address(storages), type(uint256).max);
        vm.stopPrank();
        payments.pull(payer, ALEPH);
        _day = _today();
        for (uint256 i; i < 5; ++i) {
            Kept storage k = _kept[i];
            (k.id, k.terms) = _keep(i);
        }
        _bundles();
        _proofs();
        _storageChallenges();
        _objects_();
        _misses();
        _storageEnds();
        _upkeep("StorageRegistry", address(storages));
    }

    function _data(uint256 i) private pure returns (bytes memory) {
        return _object(100 + i, 1_000);
    }

    function _keep(uint256 i) private returns (uint128 id, IStorageWords.Terms memory t) {
        IStorageWords.Request memory r = _request(_data(i), busyStore.id, i < 3 ? 0 : RENT);
        t = _termsOf(r, payer);
        bytes memory data = abi.encodeCall(IStorageRegistry.commit, (r, _requestSig(r, payer, busyStore.key)));
        string memory name = string.concat(i < 3 ? "commit " : "commit with rent ", vm.toString(i));
        id = abi.decode(_do(name, payer, data), (uint128));
    }

    function _bundles() private {
        (uint32 id, address who) = (busyStore.id, busyStore.signer);
        _do("enlist", address(this), abi.encodeCall(IStorageRegistry.enlist, (accused.id)));
        for (uint256 i; i < 5; ++i) {
            _bundled.push(_object(1 + i, 300 + 100 * i));
        }
        (bytes32 root, uint64 total) = Asp1.bundle(_bundled);
        _do("commitBundle", who, abi.encodeCall(IStorageExtension.commitBundle, (id, "first", 1, 1 << 20)));
        _do("resizeBundle", who, abi.encodeCall(IStorageExtension.resizeBundle, (id, 1 << 21)));
        _do("updateBundle", who, abi.encodeCall(IStorageRegistry.updateBundle, (id, root, total)));
        _receipt_ = _receipt(id, _bundled[2]);
        _receiptSig = _sign(busyStore.key, storages.receiptDigest(_receipt_));
    }

    function _begin(string memory name) private returns (bytes32 seed) {
        seed = _seed(_today());
        _mockBeacon(_today(), seed);
        bytes memory data = abi.encodeCall(IStorageRegistry.publishBeacon, (_today(), [uint256(1), 2]));
        if (bytes(name).length != 0) _do(name, address(this), data);
        else storages.publishBeacon(_today(), [uint256(1), 2]);
    }

    function _proofs() private {
        _warpDay(++_day);
        bytes32 seed = _begin("publishBeacon");
        (uint128 id, IStorageWords.Terms memory t) = (_kept[0].id, _kept[0].terms);
        bytes memory proof = Asp1.prove(_data(0), seed, id, t.k);
        _do("prove", address(this), abi.encodeCall(IStorageRegistry.prove, (id, t, _day, proof)));
        (uint128[] memory ids, IStorageWords.Terms[] memory terms) = (new uint128[](2), new IStorageWords.Terms[](2));
        bytes[] memory proofs = new bytes[](2);
        for (uint256 i; i < 2; ++i) {
            (ids[i], terms[i]) = (_kept[i + 1].id, _kept[i + 1].terms);
            proofs[i] = Asp1.prove(_data(i + 1), seed, ids[i], terms[i].k);
        }
        bytes memory out =
            _do("proveMany, 2", address(this), abi.encodeCall(IStorageRegistry.proveMany, (ids, terms, _day, proofs)));
        assertEq(abi.decode(out, (uint256)), 3);
        (, uint64 total) = Asp1.bundle(_bundled);
        proof = Asp1.proveBundle(_bundled, seed, _bundleId(busyStore.id), 5);
        bytes memory data = abi.encodeCall(IStorageRegistry.proveBundle, (busyStore.id, total, _day, proof));
        _do("proveBundle", address(this), data);
    }

    /* CHALLENGES */

    function _arm(string memory name, bytes32 cid) private returns (bytes32 seed) {
        seed = _seed(_today());
        _do(name, address(this), abi.encodeCall(IStorageExtension.armChallenge, (cid, [uint256(1), 2])));
    }

    function _storageChallenges() private {
        (uint128 id, IStorageWords.Terms memory t) = (_kept[0].id, _kept[0].terms);
        bytes32 cid =
            abi.decode(_do("challenge", payer, abi.encodeCall(IStorageExtension.challenge, (id, t))), (bytes32));
        bytes memory proofs = Asp1.prove(_data(0), _arm("armChallenge", cid), id, 10);
        _do("respond", address(this), abi.encodeCall(IStorageExtension.respond, (cid, t, proofs)));
        id = _bundleId(busyStore.id);
        bytes memory data = abi.encodeCall(IStorageExtension.challengeBundle, (busyStore.id));
        cid = abi.decode(_do("challengeBundle", payer, data), (bytes32));
        (, uint64 total) = Asp1.bundle(_bundled);
        proofs = Asp1.proveBundle(_bundled, _arm("armChallenge, of a bundle", cid), id, 10);
        _do("respondBundle", address(this), abi.encodeCall(IStorageExtension.respondBundle, (cid, total, proofs)));
    }

    function _objects_() private {
        (IStorageWords.StorageReceipt memory r, bytes memory sig) = (_receipt_, _receiptSig);
        bytes memory data = abi.encodeCall(IStorageExtension.challengeObject, (r, sig));
        bytes32 cid = abi.decode(_do("challengeObject", payer, data), (bytes32));
        bytes32 seed = _arm("armChallenge, of a receipt", cid);
        (, uint64 total) = Asp1.bundle(_bundled);
        bytes memory path = Asp1.path(_bundled, 2);
        bytes memory proofs = Asp1.prove(_bundled[2], seed, _bundleId(busyStore.id), 10);
        data = abi.encodeCall(IStorageExtension.respondObject, (cid, r, total, path, proofs));
        _do("respondObject", address(this), data);
        data = abi.encodeCall(IStorageExtension.demandInclusion, (r, sig));
        cid = abi.decode(_do("demandInclusion", payer, data), (bytes32));
        data = abi.encodeCall(IStorageExtension.answerInclusion, (cid, r, total, path));
        _do("answerInclusion", address(this), data);
        skip(1);
        vm.prank(payer);
        cid = storages.demandInclusion(r, sig);
        uint256 now_ = block.timestamp;
        skip(24 hours + 1);
        _do("expireChallenge", address(this), abi.encodeCall(IStorageExtension.expireChallenge, (cid)));
        vm.warp(now_);
        address who = busyStore.signer;
        _do("closeBundle", who, abi.encodeCall(IStorageExtension.closeBundle, (busyStore.id)));
        _do("holdBundle", address(this), abi.encodeCall(IStorageExtension.holdBundle, (r, sig)));
    }

    /* MISSES */

    function _missed(string memory name, uint24 day) private {
        (uint128 id, IStorageWords.Terms memory t) = (_kept[4].id, _kept[4].terms);
        bytes memory data = abi.encodeCall(IStorageRegistry.reportMissed, (id, t, day, _noBits()));
        _do(name, address(this), data);
    }

    function _misses() private {
        _warpPast(_day);
        nodes.snapshotCoordinators();
        _missed("reportMissed, first", _day);
        _begin("");
        // The longest bitmap: 262,144 nodes.
        bytes memory bitmap = new bytes(128 * 256);
        for (uint256 i; i < bitmap.length; ++i) {
            bitmap[i] = 0xff;
        }
        uint24 today = _today();
        bytes memory sigs = _quorumSigs(storages.attestationDigest(today, storages.bitmapRoot(bitmap)), 8);
        bytes memory data = abi.encodeCall(IStorageRegistry.attestDay, (today, bitmap, sigs));
        _do("attestDay, 262,144 nodes, 8 signatures", address(this), data);
        _day += 2;
        _warpDay(_day);
        _begin("");
        _warpPast(_day);
        _missed("reportMissed", _day);
        data = abi.encodeCall(IStorageRegistry.reportMissedBundle, (busyStore.id, _day, _noBits()));
        _do("reportMissedBundle", address(this), data);
        ++_day;
        _begin("");
        _warpPast(_day);
        _missed("reportMissed, Faulty", _day);
    }

    function _storageEnds() private {
        (uint128 id, IStorageWords.Terms memory t) = (_kept[4].id, _kept[4].terms);
        bytes32 digest = storages.repairDigest(id, pool.id);
        bytes memory nodeSig = _sign(pool.key, digest);
        bytes memory data = abi.encodeCall(IStorageExtension.repair, (id, t, pool.id, nodeSig, _quorumSigs(digest, 8)));
        _do("repair", address(this), data);
        (id, t) = (_kept[3].id, _kept[3].terms);
        uint24 until = t.untilDay + 9;
        data = abi.encodeCall(
            IStorageExtension.extend, (id, t, until, _sign(busyStore.key, storages.extendDigest(id, until)))
        );
        _do("extend", payer, data);
        t.untilDay = until;
        _do("release with rent", payer, abi.encodeCall(IStorageRegistry.release, (id, t)));
        (id, t) = (_kept[0].id, _kept[0].terms);
        _do("release", payer, abi.encodeCall(IStorageRegistry.release, (id, t)));
        data = abi.encodeCall(IStorageRegistry.setParameters, (16, 50, 100, 24));
        _do("setParameters", address(timelock), data);
        _warpDay(_receipt_.untilDay);
        _do("endBundle", address(this), abi.encodeCall(IStorageExtension.endBundle, (busyStore.id)));
    }
}
