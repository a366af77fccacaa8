// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Liveness} from "../src/libraries/Liveness.sol";
import {TypeHashes} from "../src/libraries/TypeHashes.sol";
import {Test} from "forge-std/Test.sol";

/// @dev The library as a contract.
contract LivenessHarness {
    function hash(bytes calldata bitmap) external pure returns (bytes32) {
        return Liveness.hash(bitmap);
    }

    function commitment(bytes32 statsRoot, bytes32 bitmapHash) external pure returns (bytes32) {
        return Liveness.commitment(statsRoot, bitmapHash);
    }

    function isSet(bytes calldata bitmap, uint32 nodeId) external pure returns (bool) {
        return Liveness.isSet(bitmap, nodeId);
    }

    function isClear(bytes calldata bitmap, uint32 nodeId) external pure returns (bool) {
        return Liveness.isClear(bitmap, nodeId);
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
        assertEq(epochs, 4);
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
            assertEq(liveness.isClear(bitmap, uint32(index)), missed, q);
            assertEq(liveness.isSet(bitmap, uint32(index)), !missed, q);
        }
    }

    function testFuzz_bitmap_isSetOrClearOrSilent(bytes calldata bitmap, uint32 nodeId) public view {
        uint256 reach = bitmap.length * 8;
        nodeId = uint32(bound(nodeId, 0, nodeId % 3 == 0 ? type(uint32).max : reach));
        bool covered = nodeId < reach;
        bool set = covered && uint8(bitmap[nodeId / 8]) >> (nodeId % 8) & 1 == 1;
        assertEq(liveness.isSet(bitmap, nodeId), set);
        assertEq(liveness.isClear(bitmap, nodeId), covered && !set);
        assertEq(liveness.hash(bitmap), keccak256(bitmap));
    }
}
