// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title Recover
/// @notice Who made a signature of 65 bytes (r, s, v). One of the two forms that every signature has is refused, as by
/// OpenZeppelin's ECDSA; this one takes less code and gas.
library Recover {
    /// @dev Half the order of secp256k1.
    uint256 private constant _HALF = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// @notice Whether `who` signed `digest`; nobody signs for the zero address.
    function isBy(address who, bytes32 digest, bytes calldata sig) internal view returns (bool) {
        return who != address(0) && signer(digest, sig) == who;
    }

    /// @notice The account that signed `digest`; zero when nobody did.
    function signer(bytes32 digest, bytes calldata sig) internal view returns (address by) {
        if (sig.length != 65) return address(0);
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore(input, digest)
            mstore(add(input, 0x20), byte(0, calldataload(add(sig.offset, 0x40))))
            calldatacopy(add(input, 0x40), sig.offset, 0x40)
            if iszero(gt(mload(add(input, 0x60)), _HALF)) {
                // The precompile gives nothing back when there is no such account.
                pop(staticcall(gas(), 1, input, 0x80, 0x00, 0x20))
                by := mul(mload(0x00), gt(returndatasize(), 0x1f))
            }
        }
    }
}
