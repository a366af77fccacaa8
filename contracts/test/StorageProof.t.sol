// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bitmap} from "../src/libraries/Bitmap.sol";
import {StorageProof} from "../src/libraries/StorageProof.sol";
import {Asp1} from "./utils/Asp1.sol";
import {Test} from "forge-std/Test.sol";

/// @dev The libraries take calldata.
contract ProofHarness {
    function object(bytes calldata proofs, bytes32 root, uint256 leaves, bytes32 seed, uint128 id, uint256 k)
        external
        view
    {
        StorageProof.checkObject(proofs, root, leaves, seed, id, k);
    }

    function bundle(bytes calldata proofs, bytes30 binding, uint256 total, bytes32 seed, uint128 id, uint256 k)
        external
        view
    {
        StorageProof.checkBundle(proofs, binding, total, seed, id, k);
    }

    function inclusion(bytes calldata path, uint256 total, bytes32 root, uint256 leaves)
        external
        pure
        returns (bytes30)
    {
        return StorageProof.inclusion(path, total, root, leaves);
    }

    function bitmapRoot(bytes calldata bitmap) external pure returns (bytes32) {
        return Bitmap.root(bitmap);
    }

    function climb(bytes32[8] calldata part, uint256 index, bytes32[] calldata path) external pure returns (bytes32) {
        return Bitmap.climb(part, index, path);
    }
}

/// @title StorageProofTest
/// @notice The cases of protocol/testdata/vectors/asp1.json, which Go gives, and trees that the test builds itself.
contract StorageProofTest is Test {
    ProofHarness internal proof;
    string internal json;

    struct Case {
        bytes32 root;
        uint256 total;
        bytes32 seed;
        uint128 id;
        uint256 k;
        bytes proofs;
        bool valid;
    }

    function setUp() public {
        proof = new ProofHarness();
        json = vm.readFile("../protocol/testdata/vectors/asp1.json");
    }

    function _path(string memory list, uint256 i) private pure returns (string memory) {
        return string.concat(".", list, "[", vm.toString(i), "]");
    }

    function _read(string memory p) private view returns (Case memory c) {
        c.root = vm.parseJsonBytes32(json, string.concat(p, ".root"));
        c.total = vm.parseJsonUint(json, string.concat(p, ".total"));
        c.seed = vm.parseJsonBytes32(json, string.concat(p, ".seed"));
        c.id = uint128(bytes16(vm.parseJsonBytes(json, string.concat(p, ".id"))));
        c.k = vm.parseJsonUint(json, string.concat(p, ".k"));
        c.proofs = vm.parseJsonBytes(json, string.concat(p, ".proof"));
        c.valid = vm.parseJsonBool(json, string.concat(p, ".valid"));
    }

    /// @dev The judgement, and that a refusal is one of the two that are meant.
    function _judge(bytes memory call, Case memory c, string memory p) private view {
        (bool ok, bytes memory err) = address(proof).staticcall(call);
        assertEq(ok, c.valid, p);
        if (ok) return;
        bytes4 s = bytes4(err);
        assertTrue(s == StorageProof.BadProof.selector || s == StorageProof.BadLength.selector, p);
    }

    function test_vectors_objectsAreJudgedAsInGo() public view {
        uint256 n;
        for (string memory p; vm.keyExistsJson(json, p = _path("objects", n)); ++n) {
            Case memory c = _read(p);
            _judge(abi.encodeCall(proof.object, (c.proofs, c.root, c.total, c.seed, c.id, c.k)), c, p);
        }
        assertEq(n, 25);
    }

    function test_vectors_bundlesAreJudgedAsInGo() public view {
        uint256 n;
        for (string memory p; vm.keyExistsJson(json, p = _path("bundles", n)); ++n) {
            Case memory c = _read(p);
            bytes30 binding = StorageProof.bind(c.root, c.total);
            _judge(abi.encodeCall(proof.bundle, (c.proofs, binding, c.total, c.seed, c.id, c.k)), c, p);
        }
        assertEq(n, 37);
    }

    function test_vectors_inclusionsAreJudgedAsInGo() public view {
        uint256 n;
        for (string memory p; vm.keyExistsJson(json, p = _path("inclusions", n)); ++n) {
            Case memory c = _read(p);
            bytes32 object = vm.parseJsonBytes32(json, string.concat(p, ".object"));
            uint256 leaves = vm.parseJsonUint(json, string.concat(p, ".leaves"));
            // The caller compares what the path leads to.
            try proof.inclusion(c.proofs, c.total, object, leaves) returns (bytes30 binding) {
                assertEq(binding == StorageProof.bind(c.root, c.total), c.valid, p);
            } catch {
                assertFalse(c.valid, p);
            }
        }
        assertEq(n, 13);
    }

    function test_vectors_indicesAreGos() public view {
        uint256 n;
        for (string memory p; vm.keyExistsJson(json, p = _path("indices", n)); ++n) {
            bytes32 seed = vm.parseJsonBytes32(json, string.concat(p, ".seed"));
            uint128 id = uint128(bytes16(vm.parseJsonBytes(json, string.concat(p, ".id"))));
            uint256 range = vm.parseJsonUint(json, string.concat(p, ".count"));
            uint256[] memory want = vm.parseJsonUintArray(json, string.concat(p, ".index"));
            for (uint256 j; j < want.length; ++j) {
                assertEq(StorageProof.indexOf(seed, id, j, range), want[j], p);
                assertEq(Asp1.indexOf(seed, id, j, range), want[j], p);
            }
        }
        assertEq(n, 8);
    }

    function test_vectors_bitmapsAreGos() public view {
        uint256 n;
        for (string memory p; vm.keyExistsJson(json, p = _path("bitmaps", n)); ++n) {
            bytes memory bitmap = vm.parseJsonBytes(json, string.concat(p, ".bitmap"));
            bytes32 root = vm.parseJsonBytes32(json, string.concat(p, ".root"));
            assertEq(proof.bitmapRoot(bitmap), root, p);
            uint256 node = vm.parseJsonUint(json, string.concat(p, ".node"));
            if (node / 2048 >= bitmap.length / 256) continue;
            bytes32[8] memory part = abi.decode(vm.parseJsonBytes(json, string.concat(p, ".part")), (bytes32[8]));
            bytes32[] memory path = vm.parseJsonBytes32Array(json, string.concat(p, ".path"));
            assertEq(proof.climb(part, node / 2048, path), root, p);
            bool set = vm.parseJsonBool(json, string.concat(p, ".set"));
            assertEq((uint256(part[(node / 256) % 8]) >> (node % 256)) & 1 == 1, set, p);
        }
        assertEq(n, 20);
    }

    function testFuzz_depthOf_isTheLogarithm(uint40 leaves) public pure {
        vm.assume(leaves != 0);
        assertEq(StorageProof.depthOf(leaves), Asp1.depthOf(leaves));
    }

    function test_depthOf_atPowers() public pure {
        for (uint256 d; d < 41; ++d) {
            assertEq(StorageProof.depthOf(1 << d), d);
            assertEq(StorageProof.depthOf((1 << d) + 1), d + 1);
        }
    }

    /// @dev SR-8: no byte of a proof is free.
    function testFuzz_SR8_noByteIsFree(bytes memory object, bytes32 seed, uint128 id, uint256 place, uint8 bit) public {
        vm.assume(object.length != 0);
        if (object.length > 2500) assembly ("memory-safe") { mstore(object, 2500) }
        uint256 leaves = Asp1.leavesOf(object);
        bytes memory proofs = Asp1.prove(object, seed, id, 2);
        bytes32 root = Asp1.root(object);
        proof.object(proofs, root, leaves, seed, id, 2);
        place = bound(place, 0, proofs.length - 1);
        proofs[place] ^= bytes1(uint8(1 << (bit % 8)));
        uint256 j = place / (proofs.length / 2);
        vm.expectRevert(abi.encodeWithSelector(StorageProof.BadProof.selector, j));
        proof.object(proofs, root, leaves, seed, id, 2);
    }

    function testFuzz_SR8_noByteOfABundleIsFree(uint256 sizes, bytes32 seed, uint256 place, uint8 bit) public {
        bytes[] memory objects = _objects(sizes);
        (bytes32 root, uint64 total) = Asp1.bundle(objects);
        bytes30 binding = StorageProof.bind(root, total);
        bytes memory proofs = Asp1.proveBundle(objects, seed, 7, 2);
        proof.bundle(proofs, binding, total, seed, 7, 2);
        place = bound(place, 0, proofs.length - 1);
        proofs[place] ^= bytes1(uint8(1 << (bit % 8)));
        vm.expectRevert();
        proof.bundle(proofs, binding, total, seed, 7, 2);
    }

    /// @dev SR-10: of all leaves of all objects exactly one opens the leaf that is asked for.
    function testFuzz_SR10_oneOpening(uint256 sizes, bytes32 seed) public view {
        bytes[] memory objects = _objects(sizes);
        (bytes32 root, uint64 total) = Asp1.bundle(objects);
        bytes30 binding = StorageProof.bind(root, total);
        uint256 openings;
        for (uint256 i; i < objects.length; ++i) {
            bytes memory path = Asp1.path(objects, i);
            for (uint256 leaf; leaf < Asp1.leavesOf(objects[i]); ++leaf) {
                bytes memory one = bytes.concat(path, Asp1.proveLeaf(objects[i], leaf));
                try proof.bundle(one, binding, total, seed, 7, 1) {
                    ++openings;
                } catch {}
            }
        }
        assertEq(openings, 1);
    }

    /// @dev SR-10 for roots that no honest node makes: an inner node says any sums of its two objects. A leaf has an opening
    /// in at most one of them, and none where the sums lie.
    function testFuzz_SR10_forgedSums(uint64 left, uint64 right, uint64 total, bytes32 seed, bool near) public view {
        if (near) (left, right) = (left % 4, type(uint64).max - right % 4);
        unchecked {
            if (total % 2 == 0) total = left + right;
        }
        vm.assume(total != 0);
        uint256 openings;
        for (uint64 side; side < 2; ++side) {
            (bytes memory one, bytes30 binding) = _forge(left, right, total, side);
            try proof.bundle(one, binding, total, seed, 7, 1) {
                ++openings;
                // The sums that an accepted path uses are the true ones.
                assertEq(side == 0 ? left : right, 1);
                assertEq(uint256(left) + right, total);
            } catch {}
        }
        assertLe(openings, 1);
    }

    function _forge(uint64 left, uint64 right, uint64 total, uint64 side)
        private
        pure
        returns (bytes memory one, bytes30 binding)
    {
        bytes memory object = "forged";
        bytes32 leaf = keccak256(abi.encodePacked(uint8(2), Asp1.root(object), uint64(1)));
        binding = StorageProof.bind(keccak256(abi.encodePacked(leaf, left, leaf, right)), total);
        one = abi.encodePacked(uint8(1), uint8(0), uint64(1), side, leaf, side == 0 ? right : left);
        one = bytes.concat(one, Asp1.proveLeaf(object, 0));
    }

    function test_bundle_lengthsAreExact() public {
        bytes[] memory objects = _objects(77);
        (bytes32 root, uint64 total) = Asp1.bundle(objects);
        bytes30 binding = StorageProof.bind(root, total);
        bytes memory proofs = Asp1.proveBundle(objects, "seed", 7, 2);
        bytes memory longer = bytes.concat(proofs, hex"00");
        vm.expectRevert(abi.encodeWithSelector(StorageProof.BadLength.selector, longer.length, proofs.length));
        proof.bundle(longer, binding, total, "seed", 7, 2);
        vm.expectRevert(abi.encodeWithSelector(StorageProof.BadLength.selector, 0, 18));
        proof.inclusion("", total, root, 1);
        bytes memory path = Asp1.path(objects, 0);
        vm.expectRevert(abi.encodeWithSelector(StorageProof.BadLength.selector, path.length + 1, path.length));
        proof.inclusion(bytes.concat(path, hex"00"), total, root, 1);
        bytes memory object = "short";
        bytes memory one = Asp1.prove(object, "seed", 7, 1);
        root = Asp1.root(object);
        vm.expectRevert(abi.encodeWithSelector(StorageProof.BadLength.selector, 256, 512));
        proof.object(one, root, 1, "seed", 7, 2);
    }

    function test_inclusion_ofTheOnlyObject() public {
        bytes[] memory objects = new bytes[](1);
        objects[0] = new bytes(700);
        bytes32 object = Asp1.root(objects[0]);
        (bytes32 root, uint64 total) = Asp1.bundle(objects);
        bytes memory path = Asp1.path(objects, 0);
        assertEq(path.length, 18);
        assertEq(proof.inclusion(path, total, object, 3), StorageProof.bind(root, total));
        vm.expectRevert(abi.encodeWithSelector(StorageProof.BadProof.selector, 0));
        proof.inclusion(path, total, object, 2);
        vm.expectRevert(abi.encodeWithSelector(StorageProof.BadProof.selector, 0));
        proof.inclusion(path, total + 1, object, 3);
    }

    function test_inclusion_atTheLimits() public {
        uint64 most = 1 << 40;
        bytes memory path = abi.encodePacked(uint8(0), uint8(40), most, uint64(0));
        bytes32 leaf = keccak256(abi.encodePacked(uint8(2), bytes32("root"), most));
        assertEq(proof.inclusion(path, most, "root", most), StorageProof.bind(leaf, most));
        path = abi.encodePacked(uint8(0), uint8(41), most + 1, uint64(0));
        vm.expectRevert(abi.encodeWithSelector(StorageProof.BadProof.selector, 0));
        proof.inclusion(path, most + 1, "root", most + 1);

        leaf = keccak256(abi.encodePacked(uint8(2), bytes32("root"), uint64(1)));
        bytes memory siblings = new bytes(32 * 40);
        for (uint256 i; i < 32; ++i) {
            leaf = keccak256(abi.encodePacked(leaf, uint64(1), bytes32(0), uint64(0)));
        }
        path = abi.encodePacked(uint8(32), uint8(0), uint64(1), uint64(0), siblings);
        assertEq(proof.inclusion(path, 1, "root", 1), StorageProof.bind(leaf, 1));
        path = abi.encodePacked(uint8(33), uint8(0), uint64(1), uint64(0), siblings, new bytes(40));
        vm.expectRevert(abi.encodeWithSelector(StorageProof.BadProof.selector, 0));
        proof.inclusion(path, 1, "root", 1);
    }

    function _objects(uint256 sizes) private pure returns (bytes[] memory objects) {
        objects = new bytes[](1 + sizes % 6);
        for (uint256 i; i < objects.length; ++i) {
            sizes = uint256(keccak256(abi.encode(sizes)));
            objects[i] = new bytes(1 + sizes % 1100);
            // No two leaves are alike.
            for (uint256 j; j < objects[i].length; j += 256) {
                objects[i][j] = bytes1(uint8(8 * i + j / 256 + 1));
            }
        }
    }
}
