// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../src/interfaces/INodeRegistry.sol";
import {Liveness} from "../src/libraries/Liveness.sol";
import {TypeHashes} from "../src/libraries/TypeHashes.sol";
import {Bitmaps} from "./utils/Bitmaps.sol";
import {Test} from "forge-std/Test.sol";

/// @dev The library as a contract.
contract LivenessHarness {
    function hash(bytes calldata bitmap) external pure returns (bytes32) {
        return Liveness.hash(bitmap);
    }

    function commitment(bytes32 statsRoot, bytes32 bitmapHash) external pure returns (bytes32) {
        return Liveness.commitment(statsRoot, bitmapHash);
    }

    function look(INodeRegistry.BitmapPage calldata page, uint32 nodeId)
        external
        pure
        returns (bytes32 hash_, bool told, bool alive)
    {
        return Liveness.look(page, nodeId);
    }

    function verify(bytes32 said, bytes32 leaf, uint256 index, bytes32[] calldata proof) external pure returns (bool) {
        return Liveness.verify(said, leaf, index, proof);
    }
}

/// @title HeartbeatVectors
/// @notice The cases of protocol/testdata/vectors/heartbeat.json, which Go gives.
contract HeartbeatVectorsTest is Test {
    LivenessHarness internal liveness;
    string internal json;

    function setUp() public {
        liveness = new LivenessHarness();
        json = vm.readFile("../protocol/testdata/vectors/heartbeat.json");
    }

    function test_vectors_epochs() public view {
        uint256 epochs;
        for (;; ++epochs) {
            string memory p = string.concat(".epochs[", vm.toString(epochs), "]");
            if (!vm.keyExistsJson(json, p)) break;
            bytes32 statsRoot = vm.parseJsonBytes32(json, string.concat(p, ".statsRoot"));
            bytes memory bitmap = vm.parseJsonBytes(json, string.concat(p, ".bitmap"));
            bytes32 bitmapHash = vm.parseJsonBytes32(json, string.concat(p, ".bitmapHash"));
            assertEq(liveness.hash(bitmap), bitmapHash);
            bytes32 said = liveness.commitment(statsRoot, bitmapHash);
            assertEq(said, vm.parseJsonBytes32(json, string.concat(p, ".commitment")));
            assertEq(_digest(p, statsRoot, bitmapHash), vm.parseJsonBytes32(json, string.concat(p, ".digest")));
            assertGt(_leaves(p, said, bitmap), 0);
        }
        assertEq(epochs, 5);
    }

    function _digest(string memory p, bytes32 statsRoot, bytes32 bitmapHash) private view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("AlephNodes"),
                keccak256("1"),
                vm.parseJsonUint(json, string.concat(p, ".chainId")),
                vm.parseJsonAddress(json, string.concat(p, ".contract"))
            )
        );
        uint256 epoch = vm.parseJsonUint(json, string.concat(p, ".epoch"));
        bytes32 structHash = keccak256(abi.encode(TypeHashes.HEARTBEAT, epoch, statsRoot, bitmapHash));
        return keccak256(abi.encodePacked("\x19\x01", domain, structHash));
    }

    function _leaves(string memory p, bytes32 said, bytes memory bitmap) private view returns (uint256 n) {
        for (;; ++n) {
            string memory q = string.concat(p, ".leaves[", vm.toString(n), "]");
            if (!vm.keyExistsJson(json, q)) break;
            uint256 index = vm.parseJsonUint(json, string.concat(q, ".index"));
            bool valid = vm.parseJsonBool(json, string.concat(q, ".valid"));
            bytes32 leaf = vm.parseJsonBytes32(json, string.concat(q, ".leaf"));
            bytes32[] memory proof = vm.parseJsonBytes32Array(json, string.concat(q, ".proof"));
            assertEq(liveness.verify(said, leaf, index, proof), valid, q);
            if (!valid) continue;
            bool missed = vm.parseJsonBool(json, string.concat(q, ".missed"));
            INodeRegistry.BitmapPage memory page;
            page.bits = vm.parseJsonBytes(json, string.concat(q, ".page.bits"));
            page.hashes = vm.parseJsonBytes32Array(json, string.concat(q, ".page.hashes"));
            (bytes32 h, bool told, bool alive) = liveness.look(page, uint32(index));
            assertEq(h, liveness.hash(bitmap), q);
            assertTrue(told, q);
            assertEq(alive, !missed, q);
        }
    }

    function testFuzz_bitmap_tellsOrIsSilent(bytes memory bitmap, uint16 size, uint32 nodeId) public view {
        if (size % 4 != 0) {
            bitmap = abi.encodePacked(new bytes(size % 2200), bitmap);
        }
        uint256 reach = bitmap.length * 8;
        nodeId = uint32(bound(nodeId, 0, nodeId % 3 == 0 ? type(uint32).max : reach));
        bool covered = nodeId < reach;
        (bytes32 h, bool told, bool alive) = liveness.look(Bitmaps.pageOf(bitmap, nodeId), nodeId);
        assertEq(h, Bitmaps.hashOf(bitmap));
        assertEq(liveness.hash(bitmap), h);
        assertEq(told, covered);
        assertEq(alive, covered && uint8(bitmap[nodeId / 8]) >> (nodeId % 8) & 1 == 1);
    }

    function test_page_ofOtherBitsHasNoHash() public view {
        INodeRegistry.BitmapPage memory page = Bitmaps.pageOf(new bytes(1000), 4100);
        page.bits[3] = 0x01;
        (bytes32 h, bool told, bool alive) = liveness.look(page, 4100);
        assertEq(h, 0);
        assertFalse(told);
        assertFalse(alive);
    }

    function test_page_withAnotherHashIsOfAnotherBitmap() public view {
        INodeRegistry.BitmapPage memory page = Bitmaps.pageOf(new bytes(1000), 4100);
        page.hashes[0] = ~page.hashes[0];
        (bytes32 h, bool told,) = liveness.look(page, 4100);
        assertNotEq(h, liveness.hash(new bytes(1000)));
        assertTrue(told);
    }
}
