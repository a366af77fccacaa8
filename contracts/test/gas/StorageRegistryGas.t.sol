// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {IStorageWords} from "../../src/interfaces/IStorageWords.sol";
import {StorageProof} from "../../src/libraries/StorageProof.sol";
import {Asp1} from "../utils/Asp1.sol";
import {StorageSuite} from "../utils/StorageSuite.sol";
import {Suite} from "../utils/Suite.sol";
import {GasBench} from "./GasBench.sol";

/// @title StorageRegistryGas
/// @notice Commitments, proofs of whole sizes, and what is said of nodes that do not prove.
contract StorageRegistryGasTest is GasBench, StorageSuite {
    uint24 internal constant FIRST = DAY0 + 1;

    /// @dev Slots of the namespace: the hashes of terms, the histories, the bundles.
    uint256 private constant _SLOT = 0xb13561f1ddccb4eb070ac728a89e2dd33f131ade2c4327595936ce49dac63a00;

    uint256[] internal asked;
    uint128 internal kept;
    IStorageWords.Terms internal keptTerms;

    function _bench() internal pure override returns (string memory) {
        return "storage";
    }

    function _code(string memory name) internal view override(GasBench, Suite) returns (bytes memory) {
        return GasBench._code(name);
    }

    function _measure() internal override {
        _commits();
        _updates();
        _objectsOfSize(32, 5, "prove, 5 challenges of 1 TiB", 169_000);
        _objectsOfSize(32, 1, "prove, 1 challenge of 1 TiB", 67_000);
        _objectsOfSize(27, 5, "prove, 5 challenges of 32 GiB", 155_000);
        _bundles(20, 12, "proveBundle, 5 challenges of 2^20 objects of 1 MiB", 202_000);
        _bundles(10, 12, "proveBundle, 5 challenges of 2^10 objects of 1 MiB", 157_000);
        _days();
        _missed();
        _challenges();
    }

    /// @dev The signatures of the network's key for its first rounds, one a day.
    function _signature(uint24 day) private view returns (uint256[2] memory) {
        string memory json = vm.readFile("../protocol/testdata/vectors/drand.json");
        string memory key = string.concat(".cases[", vm.toString(day - FIRST + 1), "].signature");
        return abi.decode(vm.parseJsonBytes(json, key), (uint256[2]));
    }

    function _begin(uint24 day) private {
        _warpDay(day);
        if (storages.seedOf(day) == 0) storages.publishBeacon(day, _signature(day));
    }

    function _commits() private {
        IStorageWords.Request memory r = _request(_object(1, 1000), workers[0].id, 0);
        bytes memory sig = _requestSig(r, payer, workers[0].key);
        vm.prank(payer);
        storages.commit(r, sig);
        _record("commit, first of a node", 0);
        r = _request(_object(2, 1000), workers[0].id, 0);
        sig = _requestSig(r, payer, workers[0].key);
        vm.prank(payer);
        storages.commit(r, sig);
        _record("commit", 76_000);
        r = _request(_object(3, 1000), workers[0].id, RENT);
        sig = _requestSig(r, payer, workers[0].key);
        vm.prank(payer);
        storages.commit(r, sig);
        _record("commit with rent, first of a pair", 0);
        IStorageWords.Terms memory t = _termsOf(r, payer);
        uint128 id = uint128(r.nodeId) << 96 | uint96(uint256(keccak256(abi.encode(_typeHash(), payer, r)))) | 1;
        sig = _sign(workers[0].key, storages.extendDigest(id, t.untilDay + 9));
        vm.prank(payer);
        storages.extend(id, t, t.untilDay + 9, sig);
        _record("extend", 0);
        t.untilDay += 9;
        vm.prank(payer);
        storages.release(id, t);
        _record("release with rent", 0);
    }

    function _typeHash() private pure returns (bytes32) {
        return keccak256(
            "StoreRequest(address payer,uint32 nodeId,bytes32 root,uint64 size,bytes32 itemHash,uint24 untilDay,uint8 k,uint8 token,uint96 rateQ32,uint40 deadline)"
        );
    }

    function _updates() private {
        Party memory w = workers[0];
        vm.prank(w.signer);
        storages.commitBundle(w.id, keccak256("0"), 1 << 32, 1 << 33);
        _record("commitBundle", 0);
        for (uint24 i; i < 3; ++i) {
            _warpDay(FIRST + i);
            bytes32 root = keccak256(abi.encode(i));
            vm.prank(w.signer);
            storages.updateBundle(w.id, root, (1 << 32) + 123456789);
            if (i == 2) _record("updateBundle", 40_000);
        }
        vm.warp(START);
    }

    /// @dev The leaves that days ask a commitment for.
    function _ask(uint128 id, uint24 from, uint24 to, uint256 k, uint256 leaves) private {
        delete asked;
        for (uint24 day = from; day <= to; ++day) {
            for (uint256 j; j < k; ++j) {
                asked.push(Asp1.indexOf(storages.seedOf(day), id, j, leaves));
            }
        }
    }

    /// @dev An object too large to be there: its tree has the leaves that are asked for, and hashes of nothing beside.
    function _objectsOfSize(uint256 depth, uint8 k, string memory name, uint256 target) private {
        uint128 id = uint128(workers[1].id) << 96 | uint96(uint256(keccak256(abi.encode(depth, k))));
        _begin(FIRST);
        _begin(FIRST + 1);
        _ask(id, FIRST, FIRST + 1, k, 1 << depth);
        IStorageWords.Terms memory t = IStorageWords.Terms({
            nodeId: workers[1].id,
            root: Asp1.sparseNode(asked, depth, 0),
            size: uint64(256 << depth),
            sinceDay: FIRST,
            untilDay: FIRST + 1000,
            k: k,
            payer: payer,
            token: ALEPH,
            rateQ32: RENT
        });
        vm.store(address(storages), keccak256(abi.encode(id, _SLOT + 1)), keccak256(abi.encode(t)));
        for (uint24 day = FIRST; day <= FIRST + 1; ++day) {
            bytes memory proofs;
            for (uint256 j; j < k; ++j) {
                proofs = bytes.concat(proofs, Asp1.sparseProof(asked, depth, asked[(day - FIRST) * k + j]));
            }
            storages.prove(id, t, day, proofs);
            if (day == FIRST) _record(string.concat(name, ", first"), 0);
            else _record(name, target);
        }
    }

    function _bundles(uint256 depth, uint256 inner, string memory name, uint256 target) private {
        Party memory w = depth == 20 ? workers[2] : workers[3];
        uint64 total = uint64(1 << (depth + inner));
        vm.warp(START);
        vm.prank(w.signer);
        storages.commitBundle(w.id, "later", total, uint40(total));
        _begin(FIRST);
        _begin(FIRST + 1);
        _ask(_bundleId(w.id), FIRST, FIRST + 1, 5, total);
        bytes30 binding = StorageProof.bind(Asp1.sparseBundle(asked, inner, depth, 0), total);
        vm.store(address(storages), keccak256(abi.encode(w.id, _SLOT + 3)), bytes32(binding) | bytes32(uint256(FIRST)));
        for (uint24 day = FIRST; day <= FIRST + 1; ++day) {
            bytes memory proofs;
            for (uint256 j; j < 5; ++j) {
                proofs = bytes.concat(proofs, Asp1.sparseBundleProof(asked, inner, depth, asked[(day - FIRST) * 5 + j]));
            }
            storages.proveBundle(w.id, total, day, proofs);
            if (day != FIRST) _record(name, target);
        }
    }

    function _days() private {
        uint24 day = FIRST + 2;
        _warpDay(day);
        storages.publishBeacon(day, _signature(day));
        _record("publishBeacon", 202_419);
        (kept, keptTerms) = _commit(_object(11, 5000), workers[2], 0);
        // 21 coordinators, 15 of which sign for 10,000 nodes.
        for (uint256 i = 3; i < 21; ++i) {
            coordinators.push(_join(INodeRegistry.Kind.Coordinator, string.concat("coordinator", vm.toString(i))));
        }
        nodes.snapshotCoordinators();
        bytes memory bitmap = new bytes(256 * 5);
        for (uint256 i; i < 10_000 / 8; ++i) {
            bitmap[i] = i % 20 == 0 ? bytes1(0xfe) : bytes1(0xff);
        }
        bytes memory sigs = _quorumSigs(storages.attestationDigest(day, storages.bitmapRoot(bitmap)), 15);
        storages.attestDay(day, bitmap, sigs);
        _record("attestDay, 10,000 nodes, 15 of 21 coordinators", 200_000);
    }

    function _missed() private {
        uint24 day = FIRST + 3;
        (uint128 id, IStorageWords.Terms memory t) = _commit(_object(9, 1000), workers[1], 0);
        for (uint24 i; i < 2; ++i) {
            _begin(day + i);
            _warpPast(day + i);
            storages.reportMissed(id, t, day + i, _noBits());
            _record(i == 0 ? "reportMissed with the case, first" : "reportMissed with the case", i == 0 ? 0 : 170_000);
        }
        _begin(day + 2);
        Party memory w = workers[1];
        if (storages.isSampled(w.id, day + 2)) return;
        nodes.snapshotCoordinators();
        bytes memory bitmap = new bytes(256 * 5);
        bytes memory sigs = _quorumSigs(storages.attestationDigest(day + 2, storages.bitmapRoot(bitmap)), 21);
        storages.attestDay(day + 2, bitmap, sigs);
        _warpPast(day + 2);
        IStorageWords.BitmapPart memory bits;
        bits.path = _zeroPath();
        storages.reportMissed(id, t, day + 2, bits);
        _record("reportMissed with the case, Faulty, attested bitmap of 10,000", 0);
    }

    /// @dev The path of part 0 in a bitmap of five parts without a bit.
    function _zeroPath() private pure returns (bytes32[] memory path) {
        path = new bytes32[](3);
        bytes32[5] memory leaf;
        for (uint256 i; i < 5; ++i) {
            leaf[i] = keccak256(abi.encodePacked(i, new bytes(256)));
        }
        path[0] = leaf[1];
        path[1] = keccak256(abi.encode(leaf[2], leaf[3]));
        path[2] = keccak256(abi.encode(keccak256(abi.encode(leaf[4], bytes32(0))), bytes32(0)));
    }

    function _challenges() private {
        (uint128 id, IStorageWords.Terms memory t) = (kept, keptTerms);
        gateway.mint(token, payer, 1000 ether);
        vm.prank(payer);
        token.approve(address(storages), type(uint256).max);
        _begin(FIRST + 6);
        vm.prank(payer);
        bytes32 cid = storages.challenge(id, t);
        _record("challenge", 0);
        // The first round after it: the next day's.
        storages.armChallenge(cid, _signature(FIRST + 7));
        _record("armChallenge", 0);
        bytes memory proofs = Asp1.prove(_object(11, 5000), storages.challengeOf(cid).seed, id, 10);
        storages.respond(cid, t, proofs);
        _record("respond, 10 challenges of 5 kB", 0);
    }
}
