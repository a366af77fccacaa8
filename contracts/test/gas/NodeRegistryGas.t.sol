// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {Bitmaps} from "../utils/Bitmaps.sol";
import {HeartbeatSuite} from "../utils/HeartbeatSuite.sol";
import {Suite} from "../utils/Suite.sol";
import {GasBench} from "./GasBench.sol";

/// @title NodeRegistryGas
/// @notice The gas of what nodes and coordinators do in the {NodeRegistry}, with 21 coordinators.
contract NodeRegistryGasTest is HeartbeatSuite, GasBench {
    function _bench() internal pure override returns (string memory) {
        return "nodes";
    }

    function _code(string memory name) internal view override(Suite, GasBench) returns (bytes memory) {
        return GasBench._code(name);
    }

    function _measure() internal override {
        for (uint256 i; i < 18; ++i) {
            coordinators.push(_join(INodeRegistry.Kind.Coordinator, string.concat("more", vm.toString(i))));
        }
        nodes.snapshotCoordinators();
        _record("snapshotCoordinators, first of 21", 0);
        skip(1 days);
        nodes.snapshotCoordinators();
        _record("snapshotCoordinators, 21 as before", 0);
        _heartbeats();
        _self();
        _missed();
        _leaves();
        _links();
        _jobs();
        _penalties();
    }

    /// @dev As of an epoch with most nodes alive.
    function _random(uint256 size, bytes32 seed) private pure returns (bytes memory bitmap) {
        bitmap = new bytes(size);
        for (uint256 i; i < size; ++i) {
            bitmap[i] = bytes1(uint8(uint256(keccak256(abi.encode(seed, i)))) | 1);
        }
    }

    function _submit(uint32 epoch, uint256 size, uint256 first) private {
        bytes memory bitmap = _random(size, bytes32(uint256(epoch)));
        bytes memory sigs = _heartbeatSigs(epoch, ROOT, bitmap, first, 15);
        nodes.submitHeartbeats(epoch, ROOT, bitmap, sigs);
    }

    function _heartbeats() private {
        uint32 epoch = _now();
        _toEpoch(epoch + 3);
        _submit(epoch, 1250, 6);
        _record("submitHeartbeats, 10,000 nodes, 15 of 21 signatures", 197_000);
        _submit(epoch + 1, 83, 6);
        _record("submitHeartbeats, 664 nodes, 15 of 21 signatures", 0);
        skip(1 days);
        _submit(_now() - 1, 1250, 6);
        _record("submitHeartbeats, first of a day, 21 as before", 350_000);
        skip(1 days);
        _stake(coordinators[0], 1 ether);
        _submit(_now() - 1, 1250, 6);
        _record("submitHeartbeats, first of a day, 21 changed", 350_000);
    }

    function _self() private {
        uint32 id = workers[1].id;
        vm.prank(workers[1].signer);
        nodes.selfHeartbeat(id, _now());
        _record("selfHeartbeat, first of a node", 0);
        skip(1 hours);
        vm.prank(workers[1].signer);
        nodes.selfHeartbeat(id, _now());
        _record("selfHeartbeat", 36_000);
    }

    function _missed() private {
        uint32[] memory epochs = new uint32[](24);
        bytes32[] memory roots = new bytes32[](24);
        bytes[] memory bitmaps = new bytes[](24);
        uint32 id = workers[0].id;
        skip(1 hours);
        for (uint256 i; i < 24; ++i) {
            epochs[i] = _now();
            skip(1 hours);
            roots[i] = ROOT;
            bitmaps[i] = _random(83, bytes32(i));
            bitmaps[i][id / 8] &= ~bytes1(uint8(1 << (id % 8)));
            _post(epochs[i], ROOT, bitmaps[i]);
        }
        nodes.reportMissed(id, epochs, roots, Bitmaps.pagesOf(bitmaps, id));
        _record("reportMissed, 24 epochs of 664 nodes", 150_000);
        bytes32[3] memory three = [ROOT, ROOT, ROOT];
        bytes[3] memory maps;
        uint32 first = _now() + 1;
        for (uint256 i; i < 3; ++i) {
            _toEpoch(first + uint32(i) + 1);
            maps[i] = _with(_random(83, bytes32(i)), id);
            _post(first + uint32(i), ROOT, maps[i]);
        }
        vm.prank(workers[0].signer);
        nodes.reactivate(id, first, three, Bitmaps.threeOf(maps, id));
        _record("reactivate, 664 nodes", 0);
    }

    function _leaves() private {
        uint32 id = workers[0].id;
        uint32 epoch = _now();
        skip(1 hours);
        bytes memory bitmap = _with(_random(1250, "leaf"), id);
        (bytes32 root, bytes32[] memory proof) = _deep(id, bitmap);
        _post(epoch, root, bitmap);
        nodes.demandLeaf{value: 0.0002 ether}(epoch, id, root, Bitmaps.pageOf(bitmap, id));
        _record("demandLeaf, 10,000 nodes", 0);
        vm.prank(coordinators[0].owner);
        nodes.answerLeaf(epoch, id, _leaf(id), proof);
        _record("answerLeaf, depth 14", 0);
    }

    /// @dev The root of a tree of 2^14 leaves of which all siblings of one are known.
    function _deep(uint32 id, bytes memory bitmap) private pure returns (bytes32 h, bytes32[] memory proof) {
        proof = new bytes32[](15);
        h = keccak256(bytes.concat(_leaf(id)));
        for (uint256 i; i < 14; ++i) {
            proof[i] = keccak256(abi.encode(i));
            h = (id >> i) & 1 == 0 ? _inner(h, proof[i]) : _inner(proof[i], h);
        }
        proof[14] = Bitmaps.hashOf(bitmap);
    }

    function _links() private {
        vm.prank(coordinators[0].owner);
        nodes.link(coordinators[0].id, workers[0].id);
        _record("link, first of a coordinator", 0);
        vm.prank(coordinators[0].owner);
        nodes.link(coordinators[0].id, workers[1].id);
        _record("link", 0);
        vm.prank(workers[0].owner);
        nodes.unlink(coordinators[0].id, workers[0].id);
        _record("unlink", 0);
    }

    function _jobs() private {
        _open("first", uint128(1e12 * Q), workers[0]);
        _open("second", uint128(1e12 * Q), workers[0]);
        _record("open, 3 signatures, with a snapshot of 21", 165_000);
    }

    function _penalties() private {
        bytes memory sigA = _heartbeatSigs(_now(), "a", "", 20, 1);
        bytes memory sigB = _heartbeatSigs(_now(), "b", "", 20, 1);
        uint32 id = coordinators[20].id;
        nodes.equivocation(id, _now(), "a", keccak256(""), sigA, "b", keccak256(""), sigB);
        _record("equivocation", 0);
        vm.prank(_at("SLAManager"));
        nodes.jail(id, 1 hours);
        _record("jail, of a coordinator", 0);
        skip(1 hours);
        nodes.unjail(id);
        _record("unjail, of a coordinator", 0);
        vm.prank(_at("SLAManager"));
        nodes.ban(id);
        _record("ban, of a coordinator", 0);
    }
}
