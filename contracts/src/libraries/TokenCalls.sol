// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

import {IPermit2} from "../interfaces/IPermit2.sol";
import {AlephErrors} from "./AlephErrors.sol";

/// @title TokenCalls
/// @notice Calls to a token that may fail in any way (revert, burn gas, return nothing or too much) without failing the
/// caller. A wallet is asked through its allowance to this contract, or through Permit2.
library TokenCalls {
    /// @dev Permit2, at the same address on every chain.
    address internal constant PERMIT2 = 0x000000000022D473030F116dDEE9F6B43aC78BA3;

    /// @dev The gas one call to a token may use; a transfer of a token behind a proxy takes below 80,000.
    uint256 private constant _GAS = 200_000;

    /// @dev What must be left before a call so that 63/64 of it is at least _GAS: nobody makes a call fail by giving it
    /// too little.
    uint256 private constant _GAS_NEEDED = _GAS + _GAS / 32 + 10_000;

    /// @dev The selectors of ERC-20.
    uint256 private constant _ALLOWANCE = 0xdd62ed3e;
    uint256 private constant _BALANCE_OF = 0x70a08231;
    uint256 private constant _TRANSFER = 0xa9059cbb;
    uint256 private constant _TRANSFER_FROM = 0x23b872dd;

    /// @dev The selector of Permit2's transferFrom(address,address,uint160,address).
    uint256 private constant _PERMIT2_TRANSFER_FROM = 0x36c78516;

    /// @notice What could be taken from `owner` now; 0 when the token does not say.
    function available(address token, address owner, bool permit2) internal view returns (uint256 most) {
        most = _read(token, _ALLOWANCE, owner, permit2 ? PERMIT2 : address(this));
        if (most == 0) return 0;
        if (permit2) {
            (uint160 amount, uint48 expiration,) = IPermit2(PERMIT2).allowance(owner, token, address(this));
            if (block.timestamp > expiration) return 0;
            if (amount < most) most = amount;
        }
        uint256 balance = balanceOf(token, owner);
        if (balance < most) most = balance;
    }

    /// @notice The balance of `owner`; 0 when the token does not say.
    function balanceOf(address token, address owner) internal view returns (uint256) {
        return _read(token, _BALANCE_OF, owner, address(0));
    }

    /// @notice Tries to move `amount` from `owner` to `to`.
    /// @param exact Whether the token is known to move what it says that it moves; then its word is taken.
    /// @return got By how much the balance of `to` grew, at most `amount`.
    function tryMove(address token, address owner, address to, uint256 amount, bool permit2, bool exact)
        internal
        returns (uint256 got)
    {
        // Permit2 knows amounts below 2^160 only.
        if (permit2 && amount > type(uint160).max) return 0;
        uint256 before = exact ? 0 : balanceOf(token, to);
        address target = permit2 ? PERMIT2 : token;
        uint256 selector = permit2 ? _PERMIT2_TRANSFER_FROM : _TRANSFER_FROM;
        _checkGas();
        bool ok;
        // The fourth argument, the token, is Permit2's; an ERC-20 ignores it.
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, shl(224, selector))
            mstore(add(data, 4), owner)
            mstore(add(data, 36), to)
            mstore(add(data, 68), amount)
            mstore(add(data, 100), token)
            // No answer counts as yes: Permit2 and some tokens give none.
            mstore(0x00, 1)
            ok := call(_GAS, target, 0, data, 132, 0x00, 0x20)
            ok := and(ok, eq(mload(0x00), 1))
        }
        if (exact) return ok ? amount : 0;
        uint256 now_ = balanceOf(token, to);
        unchecked {
            got = now_ > before ? now_ - before : 0;
        }
        if (got > amount) got = amount;
    }

    /// @notice Tries to send `amount` to `to`. False when the token refuses; then nothing has moved.
    function trySend(address token, address to, uint256 amount) internal returns (bool ok) {
        _checkGas();
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, shl(224, _TRANSFER))
            mstore(add(data, 4), to)
            mstore(add(data, 36), amount)
            mstore(0x00, 1)
            ok := call(_GAS, token, 0, data, 68, 0x00, 0x20)
            // No answer counts as yes: some tokens give none.
            ok := and(ok, eq(mload(0x00), 1))
        }
    }

    /// @dev A view of the token with one address, or two when the second is not zero.
    function _read(address token, uint256 selector, address a, address b) private view returns (uint256 value) {
        _checkGas();
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, shl(224, selector))
            mstore(add(data, 4), a)
            mstore(add(data, 36), b)
            let ok := staticcall(_GAS, token, data, add(36, mul(32, gt(b, 0))), 0x00, 0x20)
            if and(ok, gt(returndatasize(), 0x1f)) { value := mload(0x00) }
        }
    }

    function _checkGas() private view {
        if (gasleft() < _GAS_NEEDED) revert AlephErrors.Insufficient(gasleft(), _GAS_NEEDED);
    }
}
