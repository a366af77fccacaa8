// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CodeStore} from "../src/libraries/CodeStore.sol";
import {Test} from "forge-std/Test.sol";

contract CodeStoreTest is Test {
    function write(bytes memory data) external returns (address) {
        return CodeStore.write(data);
    }

    function testFuzz_read_isWhatWasWritten(bytes memory data) public {
        address at_ = CodeStore.write(data);
        assertEq(CodeStore.read(at_), data);
        // Memory behind it is free for others.
        bytes memory other = abi.encode(data.length);
        assertEq(CodeStore.read(at_), data);
        assertEq(abi.decode(other, (uint256)), data.length);
    }

    function test_read_nothing() public view {
        assertEq(CodeStore.read(address(0xdead)), "");
    }

    function test_write_data_cannotRun() public {
        address at_ = CodeStore.write(hex"ff");
        (bool ok, bytes memory out) = at_.call("");
        assertTrue(ok);
        assertEq(out, "");
        assertEq(at_.code, hex"00ff");
    }

    function test_write_revertsWhenItCannot() public {
        bytes memory data = new bytes(24_575);
        assertEq(CodeStore.read(CodeStore.write(data)).length, 24_575);
        vm.expectRevert(CodeStore.StoreFailed.selector);
        this.write{gas: 1_000_000}(data);
    }
}
