// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.37;

/// @title AlephErrors
/// @notice The failures that several contracts share. A contract's own failures live in its interface.
library AlephErrors {
    /// @dev An address that must be set is zero.
    error ZeroAddress();

    /// @dev A hash that must be set is zero.
    error ZeroHash();

    /// @dev An amount or rate that must be positive is zero.
    error ZeroAmount();

    /// @dev The caller may not do this.
    error NotAuthorized(address who);

    /// @dev The guardian has paused this kind of call; `bit` is one of the bits in {Pausing}.
    error Paused(uint8 bit);

    /// @dev The signed deadline has passed.
    error Expired(uint256 deadline);

    /// @dev The signature number `index` of the call is not by the account it must be by.
    error BadSignature(uint8 index);

    /// @dev The record is in state `have`; the call needs `want`.
    error BadState(uint8 have, uint8 want);

    /// @dev The value is outside its bounds, which are inclusive.
    error OutOfBounds(uint256 value, uint256 low, uint256 high);

    /// @dev The call is possible from the time given (unix seconds).
    error TooSoon(uint256 from);

    /// @dev The call was possible until the time given (unix seconds).
    error TooLate(uint256 until);

    /// @dev A record with this key exists already.
    error Duplicate(bytes32 key);

    /// @dev There is less than needed.
    error Insufficient(uint256 have, uint256 need);
}
