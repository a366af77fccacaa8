// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPermit2} from "../../src/interfaces/IPermit2.sol";
import {Suite} from "./Suite.sol";

/// @title Permit2Suite
/// @notice The suite with Uniswap's Permit2 at its address: the published creation code, run there.
abstract contract Permit2Suite is Suite {
    IPermit2 internal constant PERMIT2 = IPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    /// @dev The only published package with the code is a library for another purpose, in which it is a constant.
    string private constant _FILE =
        "node_modules/@uniswap/uniswapx-sdk/dist/cjs/src/contracts/factories/Permit2__factory.js";

    function _deployPermit2() internal {
        string[] memory parts = vm.split(vm.readFile(_FILE), "\"0x");
        bytes memory code;
        for (uint256 i = 1; i < parts.length; ++i) {
            string memory hex_ = vm.split(parts[i], "\"")[0];
            if (bytes(hex_).length > 10_000) code = vm.parseBytes(string.concat("0x", hex_));
        }
        require(code.length != 0, "no creation code of Permit2");
        vm.etch(address(PERMIT2), code);
        (bool ok, bytes memory runtime) = address(PERMIT2).call("");
        require(ok, "Permit2 does not deploy");
        vm.etch(address(PERMIT2), runtime);
    }

    function _permit2Digest(IPermit2.PermitSingle memory p) internal view returns (bytes32) {
        bytes32 details = keccak256(
            abi.encode(
                keccak256("PermitDetails(address token,uint160 amount,uint48 expiration,uint48 nonce)"), p.details
            )
        );
        bytes32 single = keccak256(
            abi.encode(
                keccak256(
                    "PermitSingle(PermitDetails details,address spender,uint256 sigDeadline)PermitDetails(address token,uint160 amount,uint48 expiration,uint48 nonce)"
                ),
                details,
                p.spender,
                p.sigDeadline
            )
        );
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)"),
                keccak256("Permit2"),
                block.chainid,
                address(PERMIT2)
            )
        );
        return keccak256(abi.encodePacked("\x19\x01", domain, single));
    }
}
