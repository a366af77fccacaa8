// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Suite} from "./utils/Suite.sol";

/// @title Reentrancy
/// @notice While a contract that calls others is in the middle of a call, every function of it that could be used against
/// that call refuses. Those that do not refuse are named here.
contract ReentrancyTest is Suite {
    bytes4 private constant _REENTRANT = bytes4(keccak256("ReentrancyGuardReentrantCall()"));

    /// @dev As in the middle of a call: a one in the transient storage of a contract at the slot of OpenZeppelin's guard.
    function _enter(address at_) private {
        bytes memory code = at_.code;
        vm.etch(at_, hex"60017f9b779b17422d0df92223018b32b4d1fa46e071723d6817e2486d003becc55f005d00");
        (bool ok,) = at_.call("");
        assertTrue(ok);
        vm.etch(at_, code);
    }

    function test_reentrancy_jobs() public {
        _guarded("JobManager", address(jobs), "openBatch,invalidateNonces", 20);
    }

    function test_reentrancy_payments() public {
        string memory parameters = "listToken,delistToken,relistToken,setSplit,setPrepay,setGrace,setPoolPayout";
        _guarded("PaymentManager", address(payments), parameters, 15);
        _guarded("PaymentExtension", address(payments), "multicall,setTokenTerms,setRoute", 10);
        vm.expectRevert(_REENTRANT);
        payments.account(payer, ALEPH);
        vm.expectRevert(_REENTRANT);
        payments.pair(payer, ALEPH, 1);
    }

    function test_reentrancy_staking() public {
        string memory parameters = "setRequirement,setTotalRequirement,setUnbonding";
        string memory free = "setCommission,syncVotes,delegate(address),delegateBySig,freeze";
        _guarded("StakingManager", address(staking), string.concat(free, ",", parameters), 12);
    }

    function test_reentrancy_storages() public {
        string memory bundles = "commitBundle,updateBundle,resizeBundle,closeBundle,holdBundle,endBundle";
        string memory proofs = "publishBeacon,prove,proveMany,proveBundle,attestDay,armChallenge";
        string memory free = string.concat("enlist,extend,setParameters,", bundles, ",", proofs);
        _guarded("StorageRegistry", storagesAt, free, 14);
    }

    function test_reentrancy_images() public {
        string memory listings = "newVersion,setStatus,unpublish,takedown,restore,rate";
        _guarded("ImageMarketplace", imagesAt, string.concat("setUsdUnit,setBond,", listings), 4);
    }

    function test_reentrancy_sla() public {
        _guarded("SLAManager", slaAt, "defineClass,nodeOptIn,nodeOptOut,setPenalty,setBond", 14);
    }

    /// @dev Calls every function in a section of access.json with empty arguments. `free` are the names, or signatures, of
    /// those that are not guarded.
    function _guarded(string memory section, address at_, string memory free, uint256 count) private {
        _enter(at_);
        string memory access = vm.readFile("access.json");
        string[] memory signatures = vm.parseJsonKeys(access, string.concat(".", section));
        string memory names = string.concat(",initialize,", free, ",");
        uint256 guarded;
        for (uint256 i; i < signatures.length; ++i) {
            if (_isIn(names, signatures[i])) continue;
            ++guarded;
            bytes memory data = abi.encodePacked(bytes4(keccak256(bytes(signatures[i]))), new bytes(3200));
            if (at_ == address(payments)) {
                // Only a controller, for a payee of its kind.
                data[4 + 3 * 32 - 1] = 0x01;
                vm.prank(address(jobs));
            }
            (bool ok, bytes memory err) = at_.call(data);
            assertFalse(ok, signatures[i]);
            assertEq(err, abi.encodePacked(_REENTRANT), signatures[i]);
        }
        assertEq(guarded, count, string.concat(section, ": guarded functions"));
    }

    function _isIn(string memory names, string memory signature) private returns (bool) {
        string memory name = vm.split(signature, "(")[0];
        return
            vm.contains(names, string.concat(",", name, ",")) || vm.contains(names, string.concat(",", signature, ","));
    }
}
