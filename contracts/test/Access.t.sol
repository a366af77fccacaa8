// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Peers} from "../src/Peers.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Suite} from "./utils/Suite.sol";

/// @title Access
/// @notice Every function that changes state is in access.json with who may call it, and those that need a role or
/// are for a peer refuse everybody else.
contract AccessTest is Suite {
    function test_access_everyFunctionIsListed() public view {
        string[] memory names = _proxies();
        string memory access = vm.readFile("access.json");
        for (uint256 i; i < names.length; ++i) {
            string memory artifact = vm.readFile(_artifact(names[i]));
            string[] memory functions = vm.parseJsonKeys(artifact, ".methodIdentifiers");
            uint256 changing = _countChanging(artifact);
            uint256 listed;
            for (uint256 j; j < functions.length; ++j) {
                if (_listed(access, "Base", functions[j]) || _listed(access, names[i], functions[j])) ++listed;
            }
            assertEq(listed, changing, string.concat(names[i], ": functions that change state and are in access.json"));
            assertEq(
                listed,
                vm.parseJsonKeys(access, ".Base").length
                    + vm.parseJsonKeys(access, string.concat(".", names[i])).length,
                string.concat(names[i], ": entries of access.json without a function")
            );
        }
    }

    function test_access_everyFunctionOfTheExtensionIsListed() public view {
        string memory access = vm.readFile("access.json");
        string memory artifact = vm.readFile(_artifact("PaymentExtension"));
        string[] memory functions = vm.parseJsonKeys(artifact, ".methodIdentifiers");
        uint256 listed;
        uint256 extended;
        for (uint256 i; i < functions.length; ++i) {
            if (_listed(access, "PaymentExtension", functions[i])) ++extended;
            else if (_listed(access, "PaymentManager", functions[i])) ++listed;
        }
        assertEq(listed + extended, _countChanging(artifact), "functions that change state and are in access.json");
        assertEq(extended, vm.parseJsonKeys(access, ".PaymentExtension").length, "entries without a function");
    }

    function testFuzz_access_rolesRefuseEverybodyElse(address caller) public {
        vm.assume(caller != address(this) && caller != address(authority) && !_isPeer(caller));
        string memory access = vm.readFile("access.json");
        string[] memory names = _proxies();
        for (uint256 i; i < names.length; ++i) {
            _refusesAll(access, "Base", _at(names[i]), caller);
            _refusesAll(access, names[i], _at(names[i]), caller);
        }
        _refusesAll(access, "PaymentExtension", address(payments), caller);
    }

    function _refusesAll(string memory access, string memory section, address target, address caller) private {
        string[] memory functions = vm.parseJsonKeys(access, string.concat(".", section));
        for (uint256 i; i < functions.length; ++i) {
            string memory who = _who(access, section, functions[i]);
            (bool isRole,) = _roleOf(who);
            if (!isRole && keccak256(bytes(who)) != keccak256("peer")) continue;
            // Arguments of zeros decode for every function here; upgradeToAndCall's offset is the only dynamic one.
            bytes memory zeros = new bytes(32 * 16);
            if (bytes4(keccak256(bytes(functions[i]))) == bytes4(keccak256("upgradeToAndCall(address,bytes)"))) {
                zeros = abi.encode(address(0), "");
            }
            vm.prank(caller);
            (bool ok, bytes memory err) = target.call(abi.encodePacked(bytes4(keccak256(bytes(functions[i]))), zeros));
            assertFalse(ok, functions[i]);
            assertEq(err, abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, caller), functions[i]);
        }
    }

    function _isPeer(address who) private view returns (bool) {
        Peers memory p = _peers();
        return who == p.nodes || who == p.staking || who == p.jobs || who == p.payments || who == p.storages
            || who == p.domains || who == p.sla || who == p.images;
    }

    function _who(string memory access, string memory section, string memory f) private pure returns (string memory) {
        return vm.parseJsonString(access, string.concat(".", section, "['", f, "']"));
    }

    function _listed(string memory access, string memory section, string memory f) private view returns (bool) {
        return vm.keyExistsJson(access, string.concat(".", section, "['", f, "']"));
    }

    /// @dev How many functions of the ABI are neither view nor pure.
    function _countChanging(string memory artifact) private view returns (uint256 n) {
        for (uint256 i;; ++i) {
            string memory at = string.concat(".abi[", vm.toString(i), "]");
            if (!vm.keyExistsJson(artifact, at)) return n;
            if (keccak256(bytes(vm.parseJsonString(artifact, string.concat(at, ".type")))) != keccak256("function")) {
                continue;
            }
            bytes32 kind = keccak256(bytes(vm.parseJsonString(artifact, string.concat(at, ".stateMutability"))));
            if (kind != keccak256("view") && kind != keccak256("pure")) ++n;
        }
    }
}
