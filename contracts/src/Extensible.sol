// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Extended
/// @notice A contract with more code than fits into one: the rest is in an extension, which is run with the storage of this
/// one. The implementation makes its extension itself, so that both are always of one version.
abstract contract Extended {
    /// @dev Runs this call with the code of the extension and ends.
    function _extend(address extension_) internal {
        assembly ("memory-safe") {
            let data := mload(0x40)
            calldatacopy(data, 0, calldatasize())
            let ok := delegatecall(gas(), extension_, data, calldatasize(), 0, 0)
            returndatacopy(data, 0, returndatasize())
            if iszero(ok) { revert(data, returndatasize()) }
            return(data, returndatasize())
        }
    }

    /// @dev Runs a call with the code of the extension and goes on.
    function _run(address extension_, bytes memory data) internal returns (bytes memory answer) {
        bool ok;
        (ok, answer) = extension_.delegatecall(data);
        if (ok) return answer;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }
}
