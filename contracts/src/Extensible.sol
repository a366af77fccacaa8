// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephErrors} from "./libraries/AlephErrors.sol";

/// @title Extensible
/// @notice A contract with more code than fits into one: the rest is in an extension, made for the same peers, which is run
/// with the storage of this one. Its address is part of the code, so an upgrade is announced with both.
abstract contract Extensible {
    /// @custom:oz-upgrades-unsafe-allow state-variable-immutable
    address internal immutable EXTENSION;

    /// @custom:oz-upgrades-unsafe-allow constructor
    constructor(address extension_) {
        if (extension_ == address(0)) revert AlephErrors.ZeroAddress();
        EXTENSION = extension_;
    }

    /// @notice Where the rest of the code is.
    function extension() external view returns (address) {
        return EXTENSION;
    }

    /// @dev Runs this very call with the code of the extension, answers the caller and ends.
    /// @custom:oz-upgrades-unsafe-allow-reachable delegatecall
    function _extend() internal {
        address extension_ = EXTENSION;
        assembly ("memory-safe") {
            let data := mload(0x40)
            calldatacopy(data, 0, calldatasize())
            let ok := delegatecall(gas(), extension_, data, calldatasize(), 0, 0)
            returndatacopy(data, 0, returndatasize())
            if iszero(ok) { revert(data, returndatasize()) }
            return(data, returndatasize())
        }
    }

    /// @dev The same for views. Those of the extension only read; the compiler cannot see that of a delegatecall.
    function _extendView() internal view {
        function() internal view ask;
        function() internal extend = _extend;
        assembly ("memory-safe") {
            ask := extend
        }
        ask();
    }

    /// @dev Runs a call with the code of the extension and goes on.
    /// @custom:oz-upgrades-unsafe-allow-reachable delegatecall
    function _run(bytes memory data) internal returns (bytes memory answer) {
        bool ok;
        (ok, answer) = EXTENSION.delegatecall(data);
        if (ok) return answer;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }
}
