// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Suite} from "./utils/Suite.sol";
import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";

contract TypedDataTest is Suite {
    function test_domain_isTheProxys() public view {
        (bytes1 fields, string memory name, string memory version, uint256 chainId, address at_, bytes32 salt,) =
            IERC5267(address(jobs)).eip712Domain();
        assertEq(fields, hex"0f");
        assertEq(name, "AlephJobs");
        assertEq(version, "1");
        assertEq(chainId, block.chainid);
        assertEq(at_, address(jobs));
        assertEq(salt, bytes32(0));
    }

    /// @dev A signature of one chain is none on another, even when the other is a copy of the first.
    function testFuzz_domain_followsTheChain(uint64 chainId) public {
        vm.assume(chainId != block.chainid);
        bytes32 here = jobs.stopDigest("spec", 1);
        bytes32 structHash = keccak256(abi.encode(keccak256("Stop(bytes32 spec,uint40 deadline)"), bytes32("spec"), 1));
        assertEq(here, _digest("AlephJobs", address(jobs), structHash));
        vm.chainId(chainId);
        assertNotEq(jobs.stopDigest("spec", 1), here);
        assertEq(jobs.stopDigest("spec", 1), _digest("AlephJobs", address(jobs), structHash));
    }
}
