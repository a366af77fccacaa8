// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {AlephErrors} from "./AlephErrors.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

/// @title TokenCalls
/// @notice Calls to a token that may fail in any way (revert, burn gas, return nothing or too much) without failing the
/// caller.
library TokenCalls {
    /// @dev The gas one call to a token may use; a transfer of a token behind a proxy takes below 80,000.
    uint256 private constant _GAS = 200_000;

    /// @dev What must be left before a call so that 63/64 of it is at least _GAS: nobody makes a call fail by giving it
    /// too little.
    uint256 private constant _GAS_NEEDED = _GAS + _GAS / 32 + 10_000;

    /// @notice What could be taken from `owner` now; 0 when the token does not say.
    function available(address token, address owner) internal view returns (uint256) {
        uint256 allowed = _read(token, abi.encodeCall(IERC20.allowance, (owner, address(this))));
        if (allowed == 0) return 0;
        uint256 balance = balanceOf(token, owner);
        return allowed < balance ? allowed : balance;
    }

    /// @notice The balance of `owner`; 0 when the token does not say.
    function balanceOf(address token, address owner) internal view returns (uint256) {
        return _read(token, abi.encodeCall(IERC20.balanceOf, (owner)));
    }

    /// @notice Tries to take `amount` from `owner`.
    /// @return got By how much the balance of this contract grew, at most `amount`.
    function tryTake(address token, address owner, uint256 amount) internal returns (uint256 got) {
        uint256 before = balanceOf(token, address(this));
        bytes memory data = abi.encodeCall(IERC20.transferFrom, (owner, address(this), amount));
        _checkGas();
        assembly ("memory-safe") {
            pop(call(_GAS, token, 0, add(data, 0x20), mload(data), 0x00, 0x00))
        }
        uint256 now_ = balanceOf(token, address(this));
        got = now_ > before ? now_ - before : 0;
        if (got > amount) got = amount;
    }

    /// @notice Tries to send `amount` to `to`. False when the token refuses; then nothing has moved.
    function trySend(address token, address to, uint256 amount) internal returns (bool ok) {
        bytes memory data = abi.encodeCall(IERC20.transfer, (to, amount));
        _checkGas();
        assembly ("memory-safe") {
            mstore(0x00, 1)
            ok := call(_GAS, token, 0, add(data, 0x20), mload(data), 0x00, 0x20)
            // No answer counts as yes: some tokens give none.
            ok := and(ok, eq(mload(0x00), 1))
        }
    }

    function _read(address token, bytes memory data) private view returns (uint256 value) {
        _checkGas();
        assembly ("memory-safe") {
            let ok := staticcall(_GAS, token, add(data, 0x20), mload(data), 0x00, 0x20)
            if and(ok, gt(returndatasize(), 0x1f)) { value := mload(0x00) }
        }
    }

    function _checkGas() private view {
        if (gasleft() < _GAS_NEEDED) revert AlephErrors.Insufficient(gasleft(), _GAS_NEEDED);
    }
}
