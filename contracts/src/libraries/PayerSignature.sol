// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {Recover} from "./Recover.sol";
import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";

/// @title PayerSignature
/// @notice Checks a payer's signature: by key first, then by asking the payer's contract (ERC-1271). Whether the payer has
/// code decides nothing, because ERC-7702 lets a key have code and lose it again.
library PayerSignature {
    /// @dev The gas a payer's contract may use, so that it cannot make a relayer pay without bound.
    uint256 private constant _GAS = 100_000;

    /// @notice Whether `sig` is the payer's signature of `digest`.
    function isValid(address payer, bytes32 digest, bytes calldata sig) internal view returns (bool) {
        // A payer is never the zero address, which stands for nobody.
        if (Recover.signer(digest, sig) == payer) return true;

        bytes memory data = abi.encodeCall(IERC1271.isValidSignature, (digest, sig));
        bytes32 answer;
        bool ok;
        // Only 32 bytes of the answer are copied, however many the contract returns.
        assembly ("memory-safe") {
            ok := staticcall(_GAS, payer, add(data, 0x20), mload(data), 0x00, 0x20)
            ok := and(ok, gt(returndatasize(), 0x1f))
            answer := mload(0x00)
        }
        return ok && answer == bytes32(IERC1271.isValidSignature.selector);
    }
}
